/* SPDX-License-Identifier: MIT */
/* What the files of the load generator share: its connections, and the two ways it moves bytes. */
#ifndef NUMAPERF_BENCH_ECHO_LOAD_H
#define NUMAPERF_BENCH_ECHO_LOAD_H

#include "echo_client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct echo_load_conn {
    int fd;
    bool blocked;        /* it waits for room; with a ring: a send of it is in flight */
    uint64_t asked;      /* requests that are to be sent, all in all */
    uint64_t answered;   /* requests */
    uint64_t sent;       /* bytes */
    uint64_t received;   /* bytes */
    unsigned char *ring; /* of requests, a slot for each that may be in flight */
    uint64_t *due_ns;    /* of the request in each slot, with a rate */
};

struct echo_load {
    const struct echo_plan *plan;
    const struct echo_load_way *way;
    void *way_state;
    struct echo_target target;
    clockid_t server_clock;
    uint64_t answered;
    uint64_t heard_ns;      /* when there was something last */
    uint64_t rate_start_ns; /* when the first request was due */
    uint64_t rate_next;     /* number of the one that is due next */
    uint64_t out_bytes;     /* of the ring of requests */
    uint64_t in_bytes;      /* of the ring of answers */
    unsigned char *answers; /* NULL: each connection's ring is what comes back */
    double *latencies_ns;   /* NULL: not now */
    size_t latency_count;
    struct echo_load_conn conns[ECHO_CONNECTIONS_MAX];
};

/* How bytes are moved; each returns -errno when it cannot. */
struct echo_load_way {
    int (*open)(struct echo_load *load);
    int (*add)(struct echo_load *load, struct echo_load_conn *conn);
    /* Send what is to be sent, as far as there is room. */
    int (*pump)(struct echo_load *load, struct echo_load_conn *conn);
    /* One look at the sockets; how many had something. Without `spins` it waits for that. */
    int (*turn)(struct echo_load *load, bool spins);
};

/* As little as possible above io_uring, so that the server is the slower of the two; -errno of its
 * open where there is none. */
extern const struct echo_load_way echo_load_ring;
extern const struct echo_load_way echo_load_epoll;

#define ECHO_LOAD_STALL_NS 20000000000u /* an answer that takes longer is lost */

/* What is to be sent and lies in one piece; 0: nothing. */
size_t echo_load_next(const struct echo_load *load, const struct echo_load_conn *conn,
                      const unsigned char **out_bytes);
/* Count what has come, after comparing it; what is to be sent then is not yet pumped. */
int echo_load_take(struct echo_load *load, struct echo_load_conn *conn, const unsigned char *bytes,
                   size_t length);

#endif
