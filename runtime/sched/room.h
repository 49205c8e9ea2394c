/* SPDX-License-Identifier: MIT */
/* Telling that a node has room for tasks again. */
#ifndef NUMAPERF_SCHED_ROOM_H
#define NUMAPERF_SCHED_ROOM_H

#include "sched/sched.h"

#include <stdbool.h>
#include <stdint.h>

/* A spawn of `count` tasks finds no room: note it, for on_room. Returns -EAGAIN. Any thread. */
int numaperf__room_refuse(struct numaperf__node *node, uint64_t count);

/* Whether somebody is to be told now: a worker of the node must not sleep then. */
bool numaperf__room_pending(const struct numaperf__node *node);

/* The slow part of the next one. */
void numaperf__room_tell_now(struct numaperf_worker *worker);

/* On a worker, between two callbacks: call on_room if it is due. */
static inline void numaperf__room_tell(struct numaperf_worker *worker)
{
    /* Relaxed: the look before a sleep is the one that must not miss it; see room.c. */
    if (atomic_load_explicit(&worker->node->room_wanted, memory_order_relaxed) != 0)
        numaperf__room_tell_now(worker);
}

#endif
