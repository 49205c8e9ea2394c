/* SPDX-License-Identifier: MIT */
/*
 * An immutable picture of a machine: nodes, their PUs, memory, distances. Every id is an OS id,
 * never a logical index. A topology never changes after it was made, so all readers may run on
 * any thread at once.
 */
#ifndef NUMAPERF_TOPOLOGY_H
#define NUMAPERF_TOPOLOGY_H

#include <numaperf/cpuset.h>
#include <numaperf/version.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

NUMAPERF_BEGIN_DECLS

typedef struct numaperf_topology numaperf_topology_t;

/**
 * Look at this machine, within what this process may use: PUs outside the cpuset or outside the
 * affinity the process was started with, offline PUs, and nodes whose memory the cpuset excludes
 * do not count as usable. HWLOC_* environment variables are ignored.
 *
 * Returns:  0; -EINVAL; -ENOMEM; NUMAPERF_E_TOPOLOGY.
 * Owner:    caller, until numaperf_topology_destroy().
 * Threads:  any.
 * Source:   kernel ABI, "sysfs-devices-node", "sysfs-devices-system-cpu"; cpuset(7).
 */
NUMAPERF_API int numaperf_topology_discover(numaperf_topology_t **out);

/**
 * Read a topology from an XML file of hwloc 2 or newer (`lstopo file.xml`). It is never taken for
 * this machine.
 *
 * Returns:  0; -EINVAL; -ENOENT and other errnos of open(2); -ENOMEM; NUMAPERF_E_TOPOLOGY.
 * Owner:    caller, until numaperf_topology_destroy().
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_from_xml(const char *path, numaperf_topology_t **out);

/**
 * Make a topology from an hwloc synthetic description: "numa:2 pu:1" is two nodes of one PU each.
 *
 * Returns:  0; -EINVAL; -ENOMEM; NUMAPERF_E_TOPOLOGY when the description is not one.
 * Owner:    caller, until numaperf_topology_destroy().
 * Threads:  any.
 * Source:   hwloc, "Synthetic topologies".
 */
NUMAPERF_API int numaperf_topology_from_synthetic(const char *hwloc_description,
                                                  numaperf_topology_t **out);

/**
 * Free a topology; NULL is allowed. Nothing may still borrow it.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_topology_destroy(numaperf_topology_t *topology);

/**
 * Whether this is a discovered picture of the machine we run on, so that its node and PU ids
 * mean something to the kernel. False for XML and synthetic topologies.
 *
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_topology_is_this_machine(const numaperf_topology_t *topology);

/**
 * Whether there is only one node.
 *
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_topology_is_single_node(const numaperf_topology_t *topology);

/**
 * How many nodes there are, with those that have only PUs or only memory. At least 1.
 *
 * Threads:  any.
 */
NUMAPERF_API size_t numaperf_topology_node_count(const numaperf_topology_t *topology);

/**
 * OS id of a node, by its index in ascending order of OS ids.
 *
 * Returns:  the id; -EINVAL when `index` is not below numaperf_topology_node_count().
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_node_id(const numaperf_topology_t *topology, size_t index);

/**
 * All node ids.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_nodes(const numaperf_topology_t *topology,
                                         numaperf_nodemask_t *out);

/**
 * The nodes that have both usable PUs and usable memory: those of a runtime that is not told which.
 *
 * Returns:  0; -EINVAL; NUMAPERF_E_NO_NODE when there is none.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_usable_nodes(const numaperf_topology_t *topology,
                                                numaperf_nodemask_t *out);

/**
 * The usable PUs that belong to a node itself. Empty for a memory-only node.
 *
 * Returns:  0; -EINVAL; NUMAPERF_E_NO_NODE.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_node_cpus(const numaperf_topology_t *topology, int node,
                                             numaperf_cpuset_t *out);

/**
 * One usable PU of each usable core of a node: its lowest.
 *
 * Returns:  0; -EINVAL; NUMAPERF_E_NO_NODE.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_node_cores(const numaperf_topology_t *topology, int node,
                                              numaperf_cpuset_t *out);

/**
 * All usable PUs of all nodes.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_cpus(const numaperf_topology_t *topology,
                                        numaperf_cpuset_t *out);

/**
 * The usable PUs of the core that a PU belongs to, itself included.
 *
 * Returns:  0; -EINVAL when `cpu` is not a usable PU.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_core_cpus(const numaperf_topology_t *topology, int cpu,
                                             numaperf_cpuset_t *out);

/**
 * Node that a PU belongs to.
 *
 * Returns:  the OS node id; -EINVAL when `cpu` is not a usable PU of this topology.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_node_of_cpu(const numaperf_topology_t *topology, int cpu);

/**
 * Distance between two nodes, as the firmware states it: 10 is local, no unit. It may differ by
 * direction.
 *
 * Returns:  the distance; NUMAPERF_E_NO_NODE; NUMAPERF_E_UNSUPPORTED when it is not known.
 * Threads:  any.
 * Source:   ACPI, "System Locality Information Table".
 */
NUMAPERF_API int numaperf_topology_distance(const numaperf_topology_t *topology, int from, int to);

/**
 * Memory of a node that this process may use.
 *
 * Units:    bytes.
 * Returns:  the size; 0 when the node has none, is excluded by the cpuset or is absent.
 * Threads:  any.
 */
NUMAPERF_API uint64_t numaperf_topology_node_memory_bytes(const numaperf_topology_t *topology,
                                                          int node);

/**
 * Package (the physical one) that a node belongs to.
 *
 * Returns:  its OS id; NUMAPERF_E_NO_NODE; NUMAPERF_E_UNSUPPORTED when it spans packages or the
 *           machine does not say.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_node_package(const numaperf_topology_t *topology, int node);

/**
 * Size of the data or unified cache of a PU.
 *
 * `level` is 1, 2, 3 or above.
 *
 * Units:    bytes.
 * Returns:  the size; 0 when there is no such cache or it is not known.
 * Threads:  any.
 */
NUMAPERF_API uint64_t numaperf_topology_cache_bytes(const numaperf_topology_t *topology, int cpu,
                                                    unsigned level);

/**
 * The whole of it as text for people: a line a node, then the distances; as snprintf does.
 *
 * Units:    bytes.
 * Returns:  the length of the whole text, also when it did not fit; -EINVAL; -ENOMEM.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_topology_summary(const numaperf_topology_t *topology, char *buf,
                                           size_t size);

NUMAPERF_END_DECLS
#endif
