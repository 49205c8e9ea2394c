/* SPDX-License-Identifier: MIT */
/* A connection that came and the one that was made for it. */
#ifndef EXAMPLES_PROXY_PAIR_H
#define EXAMPLES_PROXY_PAIR_H

#include <numaperf.h>

/* What one side has not taken when the other is paused: large enough for a fast network, small
   enough for ten thousand of them. */
#define PROXY_HIGH_WATER_BYTES (256u * 1024)

/* Where connections are carried to; written before the first can come. */
struct proxy {
    char host[256]; /* without brackets */
    uint16_t port;
    const char *unix_path; /* NULL: host and port */
    uint32_t connect_ms;
    numaperf_conn_config_t upstream;
};

extern const numaperf_conn_callbacks_t proxy_client_callbacks;
extern const numaperf_conn_callbacks_t proxy_upstream_callbacks;

#endif
