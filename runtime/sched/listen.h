/* SPDX-License-Identifier: MIT */
/* Listeners of a runtime: an acceptor on each of its workers, or on those of some nodes. */
#ifndef NUMAPERF_SCHED_LISTEN_H
#define NUMAPERF_SCHED_LISTEN_H

#include "sched/sched.h"

void numaperf__listen_init(numaperf_rt_t *rt);
/* Frees the listeners that the runtime's stop has ended; all threads are joined. */
void numaperf__listen_fini(numaperf_rt_t *rt);

/* Whether no listener of the runtime is left, and so no connection of one. */
static inline bool numaperf__listen_drained(const numaperf_rt_t *rt)
{
    /* Acquire pairs with the release of who left: what its connections have spawned was announced
     * before. */
    return atomic_load_explicit(&rt->acceptor_count, memory_order_acquire) == 0;
}

/* On the worker, between two callbacks: what it was asked for, and what the runtime's state asks
 * of its acceptors. */
void numaperf__listen_follow(struct numaperf_worker *worker, enum numaperf__rt_state state);
static inline void numaperf__listen_look(struct numaperf_worker *worker)
{
    enum numaperf__rt_state state = numaperf__rt_state(worker->rt);
    /* Relaxed: the wake that follows it ends the wait, or the next turn sees it. */
    if (state >= NUMAPERF__RT_DRAINING ||
        atomic_load_explicit(&worker->listen_poked, memory_order_relaxed))
        numaperf__listen_follow(worker, state);
}

#endif
