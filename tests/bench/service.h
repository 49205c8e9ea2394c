/* SPDX-License-Identifier: MIT */
/* What the service workloads ask of a peer: the command line of a server program. */
#ifndef NUMAPERF_BENCH_SERVICE_H
#define NUMAPERF_BENCH_SERVICE_H

#include "harness.h"
#include "program.h"

#include <stdbool.h>
#include <stdint.h>

#define BENCH_SERVICE_PAGE "page.html"
#define BENCH_SERVICE_PAGE_BYTES 512u

struct bench_service_site {
    const char *folder; /* for its files; the page to be served lies in its subfolder "root" */
    uint16_t port;      /* on 127.0.0.1 */
};

struct bench_service {
    bool is_memcached; /* it speaks memcached's text protocol, not RESP */
    /* Write the files it needs to `folder`; -errno. NULL: none. */
    int (*prepare)(const struct bench_service_site *site);
    void (*command)(const struct bench_service_site *site, struct program_line *line);
};

/* Key-value servers: the packages', and examples/kv_server with one worker, on each backend. */
extern const struct bench_peer bench_redis;
extern const struct bench_peer bench_memcached;
extern const struct bench_peer bench_kv_server;
extern const struct bench_peer bench_kv_server_epoll;
/* Web servers: nginx with one worker, as it is and with its cache of open files; and
 * examples/http_server with one worker, on each backend. */
extern const struct bench_peer bench_nginx;
extern const struct bench_peer bench_nginx_cached;
extern const struct bench_peer bench_http_server;
extern const struct bench_peer bench_http_server_epoll;

#endif
