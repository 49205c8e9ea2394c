/* SPDX-License-Identifier: MIT */
/* What the echo workload asks of a peer: a server on one PU that sends back what it gets. */
#ifndef NUMAPERF_BENCH_ECHO_H
#define NUMAPERF_BENCH_ECHO_H

#include "harness.h"

#include <stdint.h>

#define BENCH_ECHO_BACKLOG 1024
#define BENCH_ECHO_BUFFER 65536u
/* How long a peer that spins looks for the next request before it sleeps: numaperf's default. */
#define BENCH_ECHO_SPIN_NS 50000u

struct bench_echo_site {
    const struct bench_setup *setup; /* the server's PU is its first */
    const char *path;                /* AF_UNIX; NULL: TCP on 127.0.0.1, a port of its choice */
    uint32_t connection_count;       /* that will come, at most ECHO_CONNECTIONS_MAX */
    uint32_t message_bytes;          /* of each request */
};

struct bench_echo_ops {
    const struct bench_peer *host; /* whose loop the server runs on; NULL: its own thread */
    uint32_t variant;              /* means something to the peer alone */
    int (*start)(const struct bench_peer *peer, const struct bench_echo_site *site,
                 void **out_state, uint16_t *out_port);
    /* The client is gone. */
    void (*stop)(void *state);
};

/* A socket that listens, not blocking; accepted ones have TCP_NODELAY, as on Linux they inherit it.
 * -errno. */
int bench_echo_listen(const struct bench_echo_site *site, uint16_t *out_port);

/* Why a ring cannot be made here; NULL: it can. */
const char *bench_ring_missing(void);

/* libuv's streams on its own loop, and on the loop of a worker. */
extern const struct bench_peer bench_echo_libuv;
extern const struct bench_peer bench_echo_uv_on_ours;
/* As little as possible above epoll; the same with a spin before it sleeps. */
extern const struct bench_peer bench_echo_epoll;
extern const struct bench_peer bench_echo_epoll_spin;
/* As little as possible above io_uring; the same with a spin. */
extern const struct bench_peer bench_echo_ring;
extern const struct bench_peer bench_echo_ring_spin;
/* <numaperf/net.h>, as a user writes it: the bytes are held and sent back; without a spin; on
 * epoll; written. */
extern const struct bench_peer bench_echo_numaperf;
extern const struct bench_peer bench_echo_numaperf_calm;
extern const struct bench_peer bench_echo_numaperf_epoll;
extern const struct bench_peer bench_echo_numaperf_write;

#endif
