/* SPDX-License-Identifier: MIT */
/*
 * The order of victims. Distance decides (a smaller one first), which puts the other nodes of a
 * package before those of another one on every machine whose firmware says so. ANY ignores it.
 * No state, no threads: tested as a table.
 */
#include "sched/steal.h"

#include "base/assert.h"

#include <numaperf/runtime.h>

static int64_t steal_rank(uint32_t policy, int32_t distance)
{
    if (policy == NUMAPERF_STEAL_ANY)
        return 0;
    return distance < 0 ? INT64_MAX : distance;
}

uint32_t numaperf__steal_order(uint32_t policy, const int32_t *distances, uint32_t node_count,
                               uint32_t thief, uint32_t *out_order)
{
    NUMAPERF_ASSERT(thief < node_count);
    NUMAPERF_ASSERT(policy <= NUMAPERF_STEAL_ANY);

    if (policy == NUMAPERF_STEAL_LOCAL_ONLY)
        return 0;
    const int32_t *row = distances + (uint64_t)thief * node_count;
    uint32_t count = 0;
    /* Insertion sort, stable, over the nodes from the thief's next one on. */
    for (uint32_t step = 1; step < node_count; step++) {
        uint32_t victim = (thief + step) % node_count;
        int64_t rank = steal_rank(policy, row[victim]);
        uint32_t at = count;
        while (at > 0 && steal_rank(policy, row[out_order[at - 1]]) > rank) {
            out_order[at] = out_order[at - 1];
            at--;
        }
        out_order[at] = victim;
        count++;
    }
    NUMAPERF_ASSERT(count == node_count - 1);
    return count;
}
