/* SPDX-License-Identifier: MIT */
/*
 * One loop's accepting for a listener: an acceptor. Its thread is the loop's, but for what others
 * have to do with it: its load, and connections on their way to it.
 */
#ifndef NUMAPERF_NET_ACCEPT_H
#define NUMAPERF_NET_ACCEPT_H

#include "base/atomic.h"
#include "base/list.h"
#include "net/net.h"

#include <numaperf/error.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct numaperf_listener;

/* How a socket is accepted from, the best first. */
enum numaperf__accept_way {
    NUMAPERF__ACCEPT_DIRECT = 0, /* one request for all, to direct descriptors */
    NUMAPERF__ACCEPT_MULTI,      /* one request for all */
    NUMAPERF__ACCEPT_SINGLE,     /* one request each */
    NUMAPERF__ACCEPT_POLL        /* libuv says when, accept4(2) */
};

/* The edges are in accept.c. */
enum numaperf__acceptor_state {
    NUMAPERF__ACCEPTOR_NEW = 0,
    NUMAPERF__ACCEPTOR_READY,
    NUMAPERF__ACCEPTOR_ACCEPTING,
    NUMAPERF__ACCEPTOR_PAUSED,
    NUMAPERF__ACCEPTOR_DRAINING,
    NUMAPERF__ACCEPTOR_ENDING,
    NUMAPERF__ACCEPTOR_CLOSED
};

/* One listening socket of an acceptor. */
struct numaperf__accept_source {
    struct numaperf__acceptor *acceptor;
    struct numaperf__op op;
    uv_poll_t poll;
    int32_t fd;
    uint32_t failures; /* of single connections, in a row */
    uint8_t way;       /* enum numaperf__accept_way */
    bool has_accepted;
    bool is_tcp;
    bool poll_exists; /* from init to its close callback */
    bool is_polling;
};

struct numaperf__acceptor {
    struct numaperf__net_member member; /* in the net from prepare on */
    struct numaperf_listener *listener;
    struct numaperf__net *net; /* NULL: not prepared */
    struct numaperf__accept_source *sources;
    uint32_t source_count;
    uint32_t index;         /* of the listener's */
    uint32_t host_index;    /* the host's: which of its loops */
    uint32_t first_sibling; /* those that it may hand over to: of its node, itself included */
    uint32_t sibling_count;
    struct numaperf__list conns; /* its connections, by origin_link */
    uv_timer_t timer;            /* ends a pause, or a grace */
    uint32_t handle_count;       /* its libuv handles that are not closed yet */
    uint8_t state;               /* enum numaperf__acceptor_state */
    bool is_resetting;           /* the grace is over */

    struct numaperf__acceptor *next_request; /* the host's: to be prepared */
    numaperf_error_t start_error;            /* code 0: prepared */

    /* Read by siblings. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint32_t connections; /* written by the owner */
    _Atomic uint32_t incoming; /* on their way to it; NUMAPERF__INCOMING_CLOSED: none any more */
};

#define NUMAPERF__INCOMING_CLOSED UINT32_MAX

/* A connection on its way to another worker. */
struct numaperf__handoff {
    int fd;
    bool is_tcp;
};

/*
 * Get ready on its loop, the calling thread's; nothing is accepted yet. 0 or -errno, recorded: when
 * `net` is NULL then, it never was there, else it leaves like any other.
 */
int numaperf__acceptor_prepare(struct numaperf__acceptor *acceptor, numaperf_loop_t *loop);

/* What the acceptors of a loop are to follow. */
enum numaperf__follow {
    NUMAPERF__FOLLOW_LISTENER = 0, /* the phase of their listeners */
    NUMAPERF__FOLLOW_DRAIN,        /* and accept no more, with no limit for what there is */
    NUMAPERF__FOLLOW_RESET         /* and reset what there is */
};
/* On the loop's thread. */
void numaperf__acceptors_follow(numaperf_loop_t *loop, enum numaperf__follow how);
/* One that was prepared never accepts; its listener has FAILED. */
void numaperf__acceptor_abandon(struct numaperf__acceptor *acceptor);
/* Have it look at its listener's phase in a turn of the loop; owner. */
void numaperf__acceptor_look_soon(struct numaperf__acceptor *acceptor);

/* A connection was accepted from one of its sockets. */
void numaperf__acceptor_take(struct numaperf__acceptor *acceptor, int fd,
                             const struct numaperf__accept_source *source, bool is_direct);
/* One of its connections is gone, or has arrived: what waited for that may go on. */
void numaperf__acceptor_got_room(struct numaperf__acceptor *acceptor);

/* ---- from one worker to another ---- */

/* A place for a connection on its way to it; false: it has too many, or is gone. Any thread. */
bool numaperf__acceptor_reserve(struct numaperf__acceptor *acceptor, uint32_t max);
/* The connection has arrived; owner. */
void numaperf__acceptor_arrive(struct numaperf__acceptor *acceptor,
                               const struct numaperf__handoff *handoff);
/* It never will: reset and counted. Any thread. */
void numaperf__acceptor_dropped(struct numaperf__acceptor *acceptor,
                                const struct numaperf__handoff *handoff);
/* The place is not needed. Any thread. */
void numaperf__acceptor_unreserve(struct numaperf__acceptor *acceptor);

#endif
