/* SPDX-License-Identifier: MIT */
/* Which nodes a worker may take tasks from, and in which order: a pure function. */
#ifndef NUMAPERF_SCHED_STEAL_H
#define NUMAPERF_SCHED_STEAL_H

#include <stdint.h>

/*
 * Fill `out_order` with the indexes of the nodes that workers of node `thief` may steal from, in
 * the order to try them; its own node is not among them. `distances` is `node_count` x
 * `node_count`, row thief, column victim; a negative one is unknown and counts as farthest. Nodes
 * at the same distance are tried from the thief's next one on, round about, so that thieves
 * spread. Returns how many.
 */
uint32_t numaperf__steal_order(uint32_t policy, const int32_t *distances, uint32_t node_count,
                               uint32_t thief, uint32_t *out_order);

#endif
