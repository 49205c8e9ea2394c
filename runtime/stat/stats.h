/* SPDX-License-Identifier: MIT */
/* Counters of a worker, and their snapshot. */
#ifndef NUMAPERF_STAT_STATS_H
#define NUMAPERF_STAT_STATS_H

#include "base/atomic.h"

#include <numaperf/stats.h>

#include <stdint.h>

/* Written by the worker alone, read by anybody, all relaxed: a snapshot is a recent picture, and
 * exact once the worker has ended (its join orders everything). */
struct numaperf__worker_counters {
    _Atomic uint64_t ran;
    _Atomic uint64_t ran_remote;
    _Atomic uint64_t cancelled;
    _Atomic uint64_t parks;
    _Atomic uint64_t wakes;
    _Atomic uint64_t spins;
    _Atomic uint64_t ring_enters;
    _Atomic uint64_t ring_completions;
    _Atomic uint64_t ring_overflows;
};

/* Add to a counter that only the calling thread writes. */
static inline void numaperf__counter_add_owner(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static inline void numaperf__counter_set_owner(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* Fill the counters of `out`; its size and its place fields are the caller's. */
void numaperf__stats_snapshot(const struct numaperf__worker_counters *counters,
                              numaperf_worker_stats_t *out);

#endif
