/* SPDX-License-Identifier: MIT */
/*
 * The sockets of one loop: what hangs on it, its connections, its counters. Only the loop's thread
 * touches it, but for the counters, which others read.
 */
#ifndef NUMAPERF_NET_NET_H
#define NUMAPERF_NET_NET_H

#include "base/list.h"
#include "base/wheel.h"
#include "io/buffers.h"
#include "io/loop.h"

#include <numaperf/net.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* Counters, in the order of numaperf_net_stats_t from `accepted` on. */
enum numaperf__net_counter {
    NUMAPERF__NET_ACCEPTED = 0,
    NUMAPERF__NET_CONNECTED,
    NUMAPERF__NET_HANDED_OVER,
    NUMAPERF__NET_REFUSED_LIMIT,
    NUMAPERF__NET_REFUSED_MEMORY,
    NUMAPERF__NET_ACCEPT_PAUSES,
    NUMAPERF__NET_CLOSED,
    NUMAPERF__NET_FAILED,
    NUMAPERF__NET_IDLE_TIMEOUTS,
    NUMAPERF__NET_READ_TIMEOUTS,
    NUMAPERF__NET_WRITE_TIMEOUTS,
    NUMAPERF__NET_BYTES_RECEIVED,
    NUMAPERF__NET_BYTES_SENT,
    NUMAPERF__NET_RECEIVES,
    NUMAPERF__NET_SENDS,
    NUMAPERF__NET_PARTIAL_SENDS,
    NUMAPERF__NET_ZERO_COPY_SENDS,
    NUMAPERF__NET_ZERO_COPY_COPIED,
    NUMAPERF__NET_BUFFERS_EXHAUSTED,
    NUMAPERF__NET_DATAGRAMS_RECEIVED,
    NUMAPERF__NET_DATAGRAMS_SENT,
    NUMAPERF__NET_COUNTERS,
    NUMAPERF__NET_CONNECTIONS = NUMAPERF__NET_COUNTERS /* open now: goes down as well */
};

_Static_assert(NUMAPERF__NET_CONNECTIONS < NUMAPERF__LOOP_CELLS, "a cell for each of them");

/* Timeouts of connections, see deadline.h. */
struct numaperf__deadlines {
    struct numaperf__wheel wheel;
    uv_timer_t timer;  /* one for all, unreferenced, started while there are connections */
    uint64_t armed_ms; /* when it fires, by the loop's clock; UINT64_MAX: it is not started */
    bool is_open;      /* the handle: from init until its close callback */
};

/* What is open on the loop beside connections: listeners, connects, UDP sockets. */
struct numaperf__net_member {
    struct numaperf__list link;                         /* in `members` */
    void (*close)(struct numaperf__net_member *member); /* the loop ends: close, if not yet */
};

struct numaperf__net {
    struct numaperf__loop_tenant tenant; /* first */
    numaperf_loop_t *loop;
    struct numaperf__ring *ring; /* NULL: connections go by libuv */
    struct numaperf__buffers *buffers;
    numaperf_arena_t *arena;
    const struct numaperf__conn_driver *driver; /* of new connections */
    bool receives_once;                         /* the kernel has no multishot receive */
    uint32_t zero_copy_flags; /* of IORING_OP_SEND_ZC; UINT32_MAX: there is none */
    struct numaperf__list conns;
    struct numaperf__list members;
    struct numaperf__list todo;    /* connections with something to start or to tell */
    struct numaperf__list starved; /* connections that wait for a buffer */
    /* conn_epoll.c's: what ended inside a call of its own, to be told by driver->turn(). NULL. */
    struct numaperf__conn_watch *ended_first, *ended_last;
    struct numaperf__deadlines deadlines;
    struct numaperf__udp_buffers *udp_buffers; /* udp_buffers.c's; NULL: it has no UDP sockets */
    uint32_t handle_count;                     /* libuv handles that are not closed yet */
    bool closing;
    bool is_turning;         /* the driver's turn is still to come in this turn */
    _Atomic uint64_t *cells; /* of the loop: counters, written by its thread alone */
};

/* The loop's, made at first use. -errno, recorded. */
int numaperf__net_of(numaperf_loop_t *loop, struct numaperf__net **out);

static inline void numaperf__net_count(struct numaperf__net *net,
                                       enum numaperf__net_counter counter, uint64_t n)
{
    /* One writer: no locked instruction. */
    _Atomic uint64_t *cell = &net->cells[counter];
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Milliseconds of the loop's clock, as of this turn. */
uint64_t numaperf__net_now_ms(const struct numaperf__net *net);

/* Add what one loop's sockets have done, as its cells say, to `total`: for sums over workers. */
void numaperf__net_add_stats(const struct numaperf__loop_cells *cells, numaperf_net_stats_t *total);
/* Write the sum to the caller's struct: 0; -EINVAL, recorded. */
int numaperf__net_store_stats(const numaperf_net_stats_t *total, numaperf_net_stats_t *out);

#endif
