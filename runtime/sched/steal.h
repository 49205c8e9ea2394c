/* SPDX-License-Identifier: MIT */
/* Which nodes a worker may take tasks from, and in which order: pure functions. */
#ifndef NUMAPERF_SCHED_STEAL_H
#define NUMAPERF_SCHED_STEAL_H

#include <stdint.h>

/* The nodes of a runtime, by index. */
struct numaperf__steal_map {
    uint32_t node_count;
    const int32_t *distances; /* node_count x node_count, row thief, column victim; < 0 unknown */
    const int32_t *packages;  /* of each node; < 0 unknown, or several */
};

/*
 * Fill `out_order` with the indexes of the nodes that workers of node `thief` may steal from, in
 * the order to try them; its own node is not among them. Nearer ones come first, of equally near
 * ones those of the thief's package, and of these the thief's next one and so on, round about, so
 * that thieves spread. A distance that is unknown counts as the farthest. Returns how many.
 */
uint32_t numaperf__steal_order(uint32_t policy, const struct numaperf__steal_map *map,
                               uint32_t thief, uint32_t *out_order);

/* The other way: who may take from node `victim`, the ones that have it nearest first. */
uint32_t numaperf__steal_thieves(uint32_t policy, const struct numaperf__steal_map *map,
                                 uint32_t victim, uint32_t *out_order);

#endif
