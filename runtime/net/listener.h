/* SPDX-License-Identifier: MIT */
/*
 * A listener over one or several loops: what they have in common. What one loop does is accept.h's.
 */
#ifndef NUMAPERF_NET_LISTENER_H
#define NUMAPERF_NET_LISTENER_H

#include "base/list.h"
#include "net/accept.h"
#include "net/listen_sockets.h"
#include "net/steer.h"

#include <numaperf/net.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * Life of a listener:
 *
 *   STARTING -> OPEN -> CLOSING (by the user)      -> freed with its last acceptor
 *      |          +---> STOPPING (its loops end)   -> ENDED, freed by who runs the loops
 *      +-> FAILED -> freed with its last acceptor
 */
enum numaperf__listener_phase {
    NUMAPERF__LISTENER_STARTING = 0,
    NUMAPERF__LISTENER_OPEN,
    NUMAPERF__LISTENER_CLOSING,
    NUMAPERF__LISTENER_STOPPING,
    NUMAPERF__LISTENER_FAILED,
    NUMAPERF__LISTENER_ENDED
};

/* Who runs the loops of a listener over several. Its object outlives the listener. */
struct numaperf__listener_host {
    /* Have numaperf__acceptors_follow() called on the thread of acceptor `index`. Any thread. */
    void (*poke)(struct numaperf_listener *listener, uint32_t index);
    /* Have numaperf__acceptor_arrive() called on the other one's thread, or _dropped() on any.
     * < 0: it will not be. On the thread of an acceptor. */
    int (*hand_over)(struct numaperf__acceptor *to, const struct numaperf__handoff *handoff);
    /* The listener is going to be freed: forget it. On any of the threads. */
    void (*forget)(struct numaperf_listener *listener);
    /* An acceptor is gone, and everything about it was told; the listener may be gone, too. */
    void (*left)(void *host_data);
};

struct numaperf_listener {
    numaperf_listen_config_t config; /* defaults filled in; its pointers are void but `conn` */
    numaperf_conn_config_t conn;
    struct numaperf__acceptor *acceptors;
    uint32_t acceptor_count;
    uint32_t steering; /* NUMAPERF_STEER_*; final before it is OPEN, like the next two */
    char steering_reason[224];
    char address[136];
    const struct numaperf__listener_host *host; /* NULL: one loop of a user */
    void *host_data;
    struct numaperf__list host_link; /* the host's */
    _Atomic uint32_t *failed_done;   /* set to 1, and woken, when it FAILED and is gone */

    pthread_mutex_t mutex; /* guards what follows */
    enum numaperf__listener_phase phase;
    struct numaperf__listen_sockets sockets;
    numaperf_listener_closed_fn closed;
    void *closed_data;
    uint64_t grace_end_ns; /* of the clock; UINT64_MAX never */
    uint32_t accepting;    /* acceptors that have not let go of their sockets */

    _Atomic uint32_t answered; /* acceptors that were prepared, or failed to be */
    _Atomic uint32_t present;  /* acceptors that are not gone */
    _Atomic uint64_t reset_count;
};

/* A listener in STARTING, its sockets bound; the acceptors are to be prepared. 0 or -errno,
 * recorded. */
int numaperf__listener_make(const numaperf_listen_config_t *config, uint32_t acceptor_count,
                            struct numaperf_listener **out);
/* Checks a config and copies it with its defaults; `out->conn` points to `out_conn`. */
int numaperf__listen_config(const numaperf_listen_config_t *config, numaperf_listen_config_t *out,
                            numaperf_conn_config_t *out_conn);
/* The sockets listen, and steer: `seats` of the acceptors, or NULL. 0 or -errno, recorded. */
int numaperf__listener_begin(struct numaperf_listener *listener, const struct numaperf__seat *seats,
                             const numaperf_topology_t *topology);
/* Now its acceptors accept; they are poked. */
void numaperf__listener_open(struct numaperf_listener *listener);
/* Nobody will: those that were prepared leave when they are poked; the others have left. */
void numaperf__listener_fail(struct numaperf_listener *listener, _Atomic uint32_t *done);
/* Free it; all acceptors are gone. */
void numaperf__listener_free(struct numaperf_listener *listener);

/* ---- for acceptors ---- */

enum numaperf__listener_phase numaperf__listener_phase(struct numaperf_listener *listener,
                                                       uint64_t *out_grace_end_ns);
/* The loops end: STOPPING, unless it is closing for another reason. */
void numaperf__listener_stopping(struct numaperf_listener *listener);
/* An acceptor lets go of its sockets: what is no other's is closed. */
void numaperf__listener_release(struct numaperf_listener *listener, uint32_t index);
/* An acceptor is gone: the last one ends the listener. */
void numaperf__listener_left(struct numaperf_listener *listener);

#endif
