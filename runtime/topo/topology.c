/* SPDX-License-Identifier: MIT */
/*
 * The immutable picture of a machine: its life and its readers.
 *
 * Where the facts come from is elsewhere (topology_sysfs.c,
 * picture.c). Invariants once it
 * is sealed: nodes ascend by OS id and there is at least one; every usable PU belongs to exactly
 * one node; cores are a subset of the node's PUs; no reader writes, so any number of threads may
 * read. OS ids are never used as indexes except into `pus`, which is as long as the highest id
 * needs.
 */
#include "topo/topology.h"

#include "base/assert.h"
#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#define DISTANCE_LOCAL 10
#define PACKAGE_UNKNOWN (-1)
#define PACKAGE_SEVERAL (-2)

/* ---- life ---- */

static int topology_highest(const numaperf_cpuset_t *cpus)
{
    int highest = -1;
    for (int cpu = numaperf_cpuset_next(cpus, -1); cpu >= 0; cpu = numaperf_cpuset_next(cpus, cpu))
        highest = cpu;
    return highest;
}

int numaperf__topology_alloc(const char *name, const numaperf_nodemask_t *nodes,
                             const numaperf_cpuset_t *cpus, numaperf_topology_t **out)
{
    int node_count = numaperf_nodemask_count(nodes);
    int pu_limit = topology_highest(cpus) + 1;
    if (node_count == 0 || pu_limit == 0)
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology", "\"%.120s\" has %s", name,
                              node_count == 0 ? "no nodes" : "no PUs");

    struct numaperf_topology *topology = calloc(1, sizeof(*topology));
    if (topology == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", "handle");
    topology->node_count = (size_t)node_count;
    topology->pu_limit = pu_limit;
    topology->nodes = calloc((size_t)node_count, sizeof(*topology->nodes));
    topology->distances =
        calloc((size_t)node_count * (size_t)node_count, sizeof(*topology->distances));
    topology->pus = calloc((size_t)pu_limit, sizeof(*topology->pus));
    if (topology->nodes == NULL || topology->distances == NULL || topology->pus == NULL) {
        numaperf_topology_destroy(topology);
        return numaperf__fail(-ENOMEM, ENOMEM, "topology", "%d nodes and %d PUs", node_count,
                              pu_limit);
    }

    int id = -1;
    for (int i = 0; i < node_count; i++) {
        id = numaperf_nodemask_next(nodes, id);
        topology->nodes[i].id = id;
        topology->nodes[i].package = PACKAGE_UNKNOWN;
    }
    for (int cpu = 0; cpu < pu_limit; cpu++) {
        topology->pus[cpu].node = -1;
        topology->pus[cpu].core = cpu;
        topology->pus[cpu].package = PACKAGE_UNKNOWN;
    }
    *out = topology;
    return 0;
}

int numaperf__topology_node_index(const numaperf_topology_t *topology, int node)
{
    size_t low = 0;
    size_t high = topology->node_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (topology->nodes[middle].id < node)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == topology->node_count || topology->nodes[low].id != node)
        return -1;
    return (int)low;
}

/* The lowest usable PU of each core of a node. A core across two nodes counts on both. */
static void topology_seal_cores(const numaperf_topology_t *topology,
                                struct numaperf__topology_node *node)
{
    numaperf_cpuset_t seen = {{0}};
    for (int cpu = numaperf_cpuset_next(&node->cpus, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&node->cpus, cpu)) {
        int core = topology->pus[cpu].core;
        NUMAPERF_ASSERT(core >= 0 && core < NUMAPERF_CPU_MAX);
        if (numaperf_cpuset_contains(&seen, core))
            continue;
        (void)numaperf_cpuset_add(&seen, core);
        (void)numaperf_cpuset_add(&node->cores, cpu);
    }
}

/* A node is on the package of its PUs, usable or not; without PUs, where its source put it. */
static void topology_seal_packages(numaperf_topology_t *topology)
{
    for (int cpu = 0; cpu < topology->pu_limit; cpu++) {
        const struct numaperf__topology_pu *pu = &topology->pus[cpu];
        if (pu->node < 0 || pu->package < 0)
            continue;
        struct numaperf__topology_node *node = &topology->nodes[pu->node];
        if (node->package == PACKAGE_UNKNOWN)
            node->package = pu->package;
        else if (node->package != pu->package)
            node->package = PACKAGE_SEVERAL;
    }
}

int numaperf__topology_seal(const char *name, numaperf_topology_t *topology,
                            const numaperf_cpuset_t *usable)
{
    for (int cpu = 0; cpu < topology->pu_limit; cpu++) {
        int node = topology->pus[cpu].node;
        if (node < 0 || !numaperf_cpuset_contains(usable, cpu))
            continue;
        NUMAPERF_ASSERT((size_t)node < topology->node_count);
        /* These cannot fail: alloc took the limit from a set. */
        (void)numaperf_cpuset_add(&topology->cpus, cpu);
        (void)numaperf_cpuset_add(&topology->nodes[node].cpus, cpu);
    }
    if (numaperf_cpuset_count(&topology->cpus) == 0)
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "topology",
                              "\"%.120s\": none of its %zu nodes has a usable PU", name,
                              topology->node_count);

    for (size_t i = 0; i < topology->node_count; i++)
        topology_seal_cores(topology, &topology->nodes[i]);
    topology_seal_packages(topology);
    return 0;
}

void numaperf_topology_destroy(numaperf_topology_t *topology)
{
    if (topology == NULL)
        return;
    free(topology->pus);
    free(topology->distances);
    free(topology->nodes);
    free(topology);
}

/* ---- readers ---- */

static int topology_null(void)
{
    return numaperf__fail(-EINVAL, 0, "topology", "topology and out must not be NULL");
}

/* The node, or NULL and NUMAPERF_E_NO_NODE recorded. */
static const struct numaperf__topology_node *topology_node(const numaperf_topology_t *topology,
                                                           int node)
{
    int index = numaperf__topology_node_index(topology, node);
    if (index >= 0)
        return &topology->nodes[index];
    (void)numaperf__fail(NUMAPERF_E_NO_NODE, 0, "topology", "node %d is not in it", node);
    return NULL;
}

/* The usable PU, or NULL and -EINVAL recorded. */
static const struct numaperf__topology_pu *topology_pu(const numaperf_topology_t *topology, int cpu)
{
    if (numaperf_cpuset_contains(&topology->cpus, cpu))
        return &topology->pus[cpu];
    (void)numaperf__fail(-EINVAL, 0, "topology", "PU %d is not a usable PU of it", cpu);
    return NULL;
}

bool numaperf_topology_is_this_machine(const numaperf_topology_t *topology)
{
    return topology != NULL && topology->is_this_machine;
}

bool numaperf_topology_is_single_node(const numaperf_topology_t *topology)
{
    return topology != NULL && topology->node_count == 1;
}

size_t numaperf_topology_node_count(const numaperf_topology_t *topology)
{
    return topology == NULL ? 0 : topology->node_count;
}

int numaperf_topology_node_id(const numaperf_topology_t *topology, size_t index)
{
    if (topology == NULL)
        return topology_null();
    if (index >= topology->node_count)
        return numaperf__fail(-EINVAL, 0, "topology", "index %zu is not below its %zu nodes", index,
                              topology->node_count);
    return topology->nodes[index].id;
}

int numaperf_topology_nodes(const numaperf_topology_t *topology, numaperf_nodemask_t *out)
{
    if (topology == NULL || out == NULL)
        return topology_null();
    numaperf_nodemask_zero(out);
    for (size_t i = 0; i < topology->node_count; i++)
        (void)numaperf_nodemask_add(out, topology->nodes[i].id); /* from a set, so in range */
    return 0;
}

int numaperf_topology_usable_nodes(const numaperf_topology_t *topology, numaperf_nodemask_t *out)
{
    if (topology == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "topology", "topology and out must not be NULL");
    numaperf_nodemask_t usable = {{0}};
    for (size_t i = 0; i < topology->node_count; i++) {
        int node = topology->nodes[i].id;
        numaperf_cpuset_t cpus;
        if (numaperf_topology_node_cpus(topology, node, &cpus) == 0 &&
            numaperf_cpuset_count(&cpus) > 0 &&
            numaperf_topology_node_memory_bytes(topology, node) > 0)
            (void)numaperf_nodemask_add(&usable, node); /* a node's id is in range */
    }
    if (numaperf_nodemask_count(&usable) == 0)
        return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "topology",
                              "no node has both usable PUs and usable memory");
    *out = usable;
    return 0;
}

int numaperf_topology_node_cpus(const numaperf_topology_t *topology, int node,
                                numaperf_cpuset_t *out)
{
    if (topology == NULL || out == NULL)
        return topology_null();
    const struct numaperf__topology_node *found = topology_node(topology, node);
    if (found == NULL)
        return NUMAPERF_E_NO_NODE;
    *out = found->cpus;
    return 0;
}

int numaperf_topology_node_cores(const numaperf_topology_t *topology, int node,
                                 numaperf_cpuset_t *out)
{
    if (topology == NULL || out == NULL)
        return topology_null();
    const struct numaperf__topology_node *found = topology_node(topology, node);
    if (found == NULL)
        return NUMAPERF_E_NO_NODE;
    *out = found->cores;
    return 0;
}

int numaperf_topology_cpus(const numaperf_topology_t *topology, numaperf_cpuset_t *out)
{
    if (topology == NULL || out == NULL)
        return topology_null();
    *out = topology->cpus;
    return 0;
}

int numaperf_topology_core_cpus(const numaperf_topology_t *topology, int cpu,
                                numaperf_cpuset_t *out)
{
    if (topology == NULL || out == NULL)
        return topology_null();
    const struct numaperf__topology_pu *pu = topology_pu(topology, cpu);
    if (pu == NULL)
        return -EINVAL;
    numaperf_cpuset_zero(out);
    const numaperf_cpuset_t *cpus = &topology->cpus;
    for (int id = numaperf_cpuset_next(cpus, -1); id >= 0; id = numaperf_cpuset_next(cpus, id)) {
        if (topology->pus[id].core == pu->core)
            (void)numaperf_cpuset_add(out, id); /* from a set, so in range */
    }
    return 0;
}

int numaperf_topology_node_of_cpu(const numaperf_topology_t *topology, int cpu)
{
    if (topology == NULL)
        return topology_null();
    const struct numaperf__topology_pu *pu = topology_pu(topology, cpu);
    return pu == NULL ? -EINVAL : topology->nodes[pu->node].id;
}

int numaperf_topology_distance(const numaperf_topology_t *topology, int from, int to)
{
    if (topology == NULL)
        return topology_null();
    const struct numaperf__topology_node *row = topology_node(topology, from);
    const struct numaperf__topology_node *column = topology_node(topology, to);
    if (row == NULL || column == NULL)
        return NUMAPERF_E_NO_NODE;

    size_t row_index = (size_t)(row - topology->nodes);
    size_t column_index = (size_t)(column - topology->nodes);
    uint32_t distance = topology->distances[row_index * topology->node_count + column_index];
    if (distance == 0 && from == to)
        return DISTANCE_LOCAL; /* true by definition, also where no table says so */
    if (distance == 0)
        return numaperf__fail(NUMAPERF_E_UNSUPPORTED, 0, "distance",
                              "the distance from node %d to node %d is not known", from, to);
    NUMAPERF_ASSERT(distance <= INT_MAX);
    return (int)distance;
}

uint64_t numaperf_topology_node_memory_bytes(const numaperf_topology_t *topology, int node)
{
    int index = topology == NULL ? -1 : numaperf__topology_node_index(topology, node);
    return index < 0 ? 0 : topology->nodes[index].memory_bytes;
}

int numaperf_topology_node_package(const numaperf_topology_t *topology, int node)
{
    if (topology == NULL)
        return topology_null();
    const struct numaperf__topology_node *found = topology_node(topology, node);
    if (found == NULL)
        return NUMAPERF_E_NO_NODE;
    if (found->package < 0)
        return numaperf__fail(NUMAPERF_E_UNSUPPORTED, 0, "package", "node %d %s", node,
                              found->package == PACKAGE_SEVERAL ? "spans several packages"
                                                                : "names no package");
    return found->package;
}

uint64_t numaperf_topology_cache_bytes(const numaperf_topology_t *topology, int cpu, unsigned level)
{
    if (topology == NULL || level == 0 || level > NUMAPERF_CACHE_LEVELS)
        return 0;
    if (!numaperf_cpuset_contains(&topology->cpus, cpu))
        return 0;
    return topology->pus[cpu].cache_bytes[level - 1];
}
