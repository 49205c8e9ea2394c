/* SPDX-License-Identifier: MIT */
/*
 * The order of victims. Distance decides (a smaller one first), which puts the other nodes of a
 * package before those of another one on every machine whose firmware says so. Where it says the
 * same of all, or nothing, the packages decide. ANY ignores both. No state, no threads: tested as a
 * table.
 */
#include "sched/steal.h"

#include "base/assert.h"

#include <numaperf/runtime.h>

#include <stdbool.h>

#define STEAL_FARTHEST (INT64_C(1) << 32) /* above every distance */

/* Low ranks first. */
static int64_t steal_rank(uint32_t policy, const struct numaperf__steal_map *map, uint32_t thief,
                          uint32_t victim)
{
    if (policy == NUMAPERF_STEAL_ANY)
        return 0;
    int32_t distance = map->distances[(uint64_t)thief * map->node_count + victim];
    bool shares_package =
        map->packages[thief] >= 0 && map->packages[thief] == map->packages[victim];
    return (distance < 0 ? STEAL_FARTHEST : distance) * 2 + (shares_package ? 0 : 1);
}

/* The nodes other than `self`, sorted by their ranks as its victims, or its thieves. */
static uint32_t steal_sort(uint32_t policy, const struct numaperf__steal_map *map, uint32_t self,
                           bool as_thieves, uint32_t *out_order)
{
    NUMAPERF_ASSERT(self < map->node_count);
    NUMAPERF_ASSERT(policy <= NUMAPERF_STEAL_ANY);

    if (policy == NUMAPERF_STEAL_LOCAL_ONLY)
        return 0;
    uint32_t count = 0;
    /* Insertion sort, stable, over the nodes from the next one on. */
    for (uint32_t step = 1; step < map->node_count; step++) {
        uint32_t other = (self + step) % map->node_count;
        int64_t rank = as_thieves ? steal_rank(policy, map, other, self)
                                  : steal_rank(policy, map, self, other);
        uint32_t at = count;
        for (; at > 0; at--) {
            uint32_t before = out_order[at - 1];
            if ((as_thieves ? steal_rank(policy, map, before, self)
                            : steal_rank(policy, map, self, before)) <= rank)
                break;
            out_order[at] = before;
        }
        out_order[at] = other;
        count++;
    }
    NUMAPERF_ASSERT(count == map->node_count - 1);
    return count;
}

uint32_t numaperf__steal_order(uint32_t policy, const struct numaperf__steal_map *map,
                               uint32_t thief, uint32_t *out_order)
{
    return steal_sort(policy, map, thief, false, out_order);
}

uint32_t numaperf__steal_thieves(uint32_t policy, const struct numaperf__steal_map *map,
                                 uint32_t victim, uint32_t *out_order)
{
    return steal_sort(policy, map, victim, true, out_order);
}
