/* SPDX-License-Identifier: MIT */
/* What one thread did with tasks, by the nodes they were homed on. */
#ifndef NUMAPERF_STAT_TALLY_H
#define NUMAPERF_STAT_TALLY_H

#include "base/atomic.h"
#include "stat/histogram.h"
#include "stat/stats.h"

#include <stdint.h>

struct numaperf__tally_home {
    _Atomic uint64_t ran;
    _Atomic uint64_t cancelled;
    _Atomic uint64_t retracted; /* places that their submitter took back: of a worker, those that
                                   came out there; outside, all of them */
};

/*
 * A worker's own, or the one of all threads that are no workers: there `retracted` and `cancelled`
 * are added to by read-modify-write, and nothing else is used.
 */
struct numaperf__tally {
    struct numaperf__histogram wait;
    struct numaperf__histogram run;
    /* Hot. */
    alignas(NUMAPERF_CACHE_LINE) uint32_t home_count;
    struct numaperf__tally_home homes[]; /* by index of the node within the runtime */
};

/* Zeroed, in the calling thread's memory: who makes its own has it near. NULL without memory. */
struct numaperf__tally *numaperf__tally_create(uint32_t home_count);
void numaperf__tally_destroy(struct numaperf__tally *tally);

/*
 * Count a task that is over in a cell of the calling worker's own tally: this is also how the
 * runtime knows what is left to do.
 */
static inline void numaperf__tally_finish_owner(_Atomic uint64_t *cell)
{
    /* Release pairs with the acquire in numaperf__tally_finished(): the task came before. */
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + 1,
                          memory_order_release);
}
/* How many of a worker are over: that ran, were cancelled, or taken back. Any thread. */
uint64_t numaperf__tally_finished(const struct numaperf__tally *tally);

/* Add what the tally of a worker says to its stats: what it ran and cancelled, and the times. */
void numaperf__tally_snapshot(const struct numaperf__tally *tally, uint32_t own_home,
                              numaperf_worker_stats_t *out);

#endif
