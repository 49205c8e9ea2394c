/* SPDX-License-Identifier: MIT */
/*
 * The HTTP server as a whole: what is one a process, what is one a worker, and the way of a
 * request: conn.c reads it, cache.c has the file or load.c brings it, reply.c answers; stream.c
 * sends files that are too large for the cache.
 */
#ifndef EXAMPLES_HTTP_HTTP_H
#define EXAMPLES_HTTP_HTTP_H

#include "cache.h"
#include "limits.h"
#include "tls.h"

#include <numaperf.h>
#include <stdatomic.h>
#include <uv.h>

#define HTTP_WORKERS_MAX 8192u
#define HTTP_FRONT_SLOTS 256u
#define HTTP_FRONT_BYTES 112u
#define HTTP_PREFIX_BYTES 96u

struct http_conn;
struct load;

/* Written by the worker, read by anyone. */
struct http_counters {
    atomic_ullong requests;
    atomic_ullong answers[6]; /* by the first digit of the status */
    atomic_ullong front_hits; /* of the worker's own table */
    atomic_ullong cache_hits; /* of the node's cache */
    atomic_ullong loads;      /* files that were read into it */
    atomic_ullong checks;     /* files that were looked at again, and had not changed */
    atomic_ullong streams;
    atomic_ullong request_timeouts;
};

/* Connections that something must have happened to by then, those of the nearest time first. */
struct http_deadlines {
    struct http_conn *first, *last;
};

/* What a worker found lately, by the target as it came: no decoding, no lock. */
struct front_slot {
    struct entry *entry; /* one reference; NULL: empty */
    uint32_t length;
    char path[HTTP_FRONT_BYTES];
};

struct http_worker {
    struct http_server *server;
    numaperf_worker_t *worker;
    numaperf_loop_t *io;
    uv_loop_t *loop;
    numaperf_arena_t *arena;
    struct cache *cache; /* of the node */
    time_t prefix_time;
    size_t prefix_length;
    char prefix[HTTP_PREFIX_BYTES]; /* of a 200: status, server, date */
    struct http_deadlines requests; /* that have begun to come */
    uv_timer_t tick;                /* runs while there are any */
    struct load *loads;
    uint32_t load_count;
    struct http_counters counters;
    struct front_slot front[HTTP_FRONT_SLOTS];
};

/* Written before the first connection can come. */
struct http_server {
    const char *root;
    const char *tls_certificate, *tls_key;
    uint64_t cache_mib;
    uint32_t request_seconds; /* for a request to be there as a whole */
    int root_fd;
    uint64_t hash_key[2];    /* random, so that peers cannot aim paths */
    struct tls_context *tls; /* NULL: none */
    numaperf_rt_t *rt;
    struct cache *caches[NUMAPERF_NODE_MAX];
    struct http_worker *workers[HTTP_WORKERS_MAX];
};

static inline void http_count(atomic_ullong *counter, unsigned long long add)
{
    /* One writer: no read-modify-write is needed. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + add,
                          memory_order_relaxed);
}

/* The page at /metrics: its text, for free(3); NULL: no memory. */
char *metrics_text(const struct http_server *server, size_t *out_length);

#endif
