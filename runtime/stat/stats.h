/* SPDX-License-Identifier: MIT */
/* Counters of a worker beside its tasks, and their snapshot. */
#ifndef NUMAPERF_STAT_STATS_H
#define NUMAPERF_STAT_STATS_H

#include "base/atomic.h"

#include <numaperf/stats.h>

#include <stdint.h>

/* Written by the worker alone, read by anybody, all relaxed: a snapshot is a recent picture, and
 * exact once the worker has ended (its join orders everything). */
struct numaperf__worker_counters {
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

static inline uint64_t numaperf__counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Fill these counters of `out`; the rest is the caller's. */
void numaperf__stats_snapshot(const struct numaperf__worker_counters *counters,
                              numaperf_worker_stats_t *out);

/* Add what a worker told to the figures of its node or its runtime: all but those of tasks by their
 * home, which no worker knows. */
void numaperf__stats_add_worker(numaperf_rt_stats_t *into, const numaperf_worker_stats_t *worker);
/* Add the figures of a node to those of the runtime. */
void numaperf__stats_add_node(numaperf_rt_stats_t *into, const numaperf_rt_stats_t *node);
/* Of `homed` tasks that ran, those that did so at home: 0.0 of none; 1.0 is all, never rounded. */
double numaperf__stats_locality(uint64_t at_home, uint64_t homed);

#endif
