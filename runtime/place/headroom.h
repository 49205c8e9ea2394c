/* SPDX-License-Identifier: MIT */
/* Which nodes exist, which PUs they have, and how much memory may still be populated. */
#ifndef NUMAPERF_PLACE_HEADROOM_H
#define NUMAPERF_PLACE_HEADROOM_H

#include <numaperf/cpuset.h>

#include <stddef.h>
#include <stdint.h>

/* Nodes of this machine that have memory, cpuset or not. 0, or -errno when nothing tells. */
int numaperf__nodes_with_memory(numaperf_nodemask_t *out);

/* Online PUs of a node, cpuset or not; empty when it has none or nothing tells. */
void numaperf__node_cpus_online(int node, numaperf_cpuset_t *out);

/* Those of them that this process was started with. */
void numaperf__node_cpus(int node, numaperf_cpuset_t *out);

/* Bytes a node can still give: free and cleanly reclaimable. UINT64_MAX when nothing tells. */
uint64_t numaperf__headroom_node(int node);

/* The sum over a set of nodes, UINT64_MAX when one of them does not tell. */
uint64_t numaperf__headroom_nodes(const numaperf_nodemask_t *nodes);

/* Bytes that the kernel keeps for itself: allocations near that make it kill. 0 when unknown. */
uint64_t numaperf__headroom_reserve(void);

/*
 * Bytes of a cgroup that are left alone: the process needs more than what it asks for here, and is
 * killed, not refused, when its own heap, stacks or kernel objects find nothing.
 */
#define NUMAPERF__HEADROOM_CGROUP_RESERVE ((uint64_t)1 << 20)

/*
 * Bytes that every memory cgroup above this process still allows, v1 and v2. UINT64_MAX when there
 * is no limit, or nothing tells. `out_file` gets the file of the narrowest limit, cut when it does
 * not fit, or "".
 */
uint64_t numaperf__headroom_cgroup(char *out_file, size_t size);

#endif
