/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of counters that go on counting, and their sums. Each counter is read once, relaxed;
 * those read one after the other may be of slightly different moments, which a running worker's
 * always are.
 *
 * Thread rule: the counters are the workers'; snapshots belong to who takes them.
 */
#include "stat/stats.h"

#include "base/assert.h"

#include <stddef.h>

_Static_assert(offsetof(numaperf_worker_stats_t, ran) == 16, "public struct: append only");
_Static_assert(offsetof(numaperf_worker_stats_t, ring_overflows) == 88, "public: append only");
_Static_assert(offsetof(numaperf_worker_stats_t, stalls) == 96, "public struct: append only");
_Static_assert(offsetof(numaperf_worker_stats_t, wait) == 128, "public struct: append only");
_Static_assert(sizeof(numaperf_worker_stats_t) == 5040, "public struct: append only");
_Static_assert(offsetof(numaperf_rt_stats_t, accepted) == 16, "public struct: append only");
_Static_assert(offsetof(numaperf_rt_stats_t, parks) == 80, "public struct: append only");
_Static_assert(offsetof(numaperf_rt_stats_t, locality) == 152, "public struct: append only");
_Static_assert(sizeof(numaperf_rt_stats_t) == 5072, "public struct: append only");

void numaperf__stats_snapshot(const struct numaperf__worker_counters *counters,
                              numaperf_worker_stats_t *out)
{
    out->parks = numaperf__counter_read(&counters->parks);
    out->wakes = numaperf__counter_read(&counters->wakes);
    out->spins = numaperf__counter_read(&counters->spins);
    out->ring_enters = numaperf__counter_read(&counters->ring_enters);
    out->ring_completions = numaperf__counter_read(&counters->ring_completions);
    out->ring_overflows = numaperf__counter_read(&counters->ring_overflows);
}

void numaperf__stats_add_worker(numaperf_rt_stats_t *into, const numaperf_worker_stats_t *worker)
{
    into->worker_count++;
    into->ran += worker->ran;
    into->ran_remote += worker->ran_remote;
    into->waiting_bound += worker->waiting;
    into->parks += worker->parks;
    into->wakes += worker->wakes;
    into->spins += worker->spins;
    into->ring_enters += worker->ring_enters;
    into->ring_completions += worker->ring_completions;
    into->ring_overflows += worker->ring_overflows;
    into->stalls += worker->stalls;
    into->arena_mapped_bytes += worker->arena_mapped_bytes;
    into->arena_used_bytes += worker->arena_used_bytes;
    (void)numaperf_histogram_merge(&into->wait, &worker->wait); /* neither is NULL */
    (void)numaperf_histogram_merge(&into->run, &worker->run);   /* as above */
}

void numaperf__stats_add_node(numaperf_rt_stats_t *into, const numaperf_rt_stats_t *node)
{
    into->node_count += node->node_count;
    into->worker_count += node->worker_count;
    into->accepted += node->accepted;
    into->ran += node->ran;
    into->ran_remote += node->ran_remote;
    into->stolen_from += node->stolen_from;
    into->cancelled += node->cancelled;
    into->waiting_unbound += node->waiting_unbound;
    into->waiting_fixed += node->waiting_fixed;
    into->waiting_bound += node->waiting_bound;
    into->parks += node->parks;
    into->wakes += node->wakes;
    into->spins += node->spins;
    into->ring_enters += node->ring_enters;
    into->ring_completions += node->ring_completions;
    into->ring_overflows += node->ring_overflows;
    into->stalls += node->stalls;
    into->arena_mapped_bytes += node->arena_mapped_bytes;
    into->arena_used_bytes += node->arena_used_bytes;
    (void)numaperf_histogram_merge(&into->wait, &node->wait); /* neither is NULL */
    (void)numaperf_histogram_merge(&into->run, &node->run);   /* as above */
}

double numaperf__stats_locality(uint64_t at_home, uint64_t homed)
{
    NUMAPERF_ASSERT(at_home <= homed);

    if (homed == 0)
        return 0.0;
    double share = (double)at_home / (double)homed;
    /* Of very many, all but one round to 1. */
    return at_home < homed && share >= 1.0 ? 1.0 - 1e-9 : share;
}
