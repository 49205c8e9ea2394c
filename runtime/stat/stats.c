/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of counters that go on counting. Each field is read once, relaxed; fields read one
 * after the other may be of slightly different moments, which a running worker's always are.
 */
#include "stat/stats.h"

#include <stddef.h>

_Static_assert(sizeof(numaperf_worker_stats_t) == 96, "public struct: append only");
_Static_assert(offsetof(numaperf_worker_stats_t, ran) == 16, "public struct: append only");
_Static_assert(offsetof(numaperf_worker_stats_t, ring_overflows) == 88, "public: append only");

static uint64_t stats_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void numaperf__stats_snapshot(const struct numaperf__worker_counters *counters,
                              numaperf_worker_stats_t *out)
{
    out->ran = stats_read(&counters->ran);
    out->ran_remote = stats_read(&counters->ran_remote);
    out->cancelled = stats_read(&counters->cancelled);
    out->parks = stats_read(&counters->parks);
    out->wakes = stats_read(&counters->wakes);
    out->spins = stats_read(&counters->spins);
    out->ring_enters = stats_read(&counters->ring_enters);
    out->ring_completions = stats_read(&counters->ring_completions);
    out->ring_overflows = stats_read(&counters->ring_overflows);
}
