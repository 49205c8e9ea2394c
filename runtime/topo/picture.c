/* SPDX-License-Identifier: MIT */
/*
 * What hwloc says of a machine, as plain arrays by OS id, and how that becomes a topology.
 *
 * Files and synthetic descriptions fill the same picture, so the one hard question is answered in
 * one place: which node a PU belongs to, when hwloc shows a memory-only node with its neighbour's
 * PUs. Whoever fills a picture has checked every id. No state: any thread.
 * Source: hwloc, "Heterogeneous memory", "Distances".
 */
#include "topo/picture.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

struct numaperf__picture *numaperf__picture_new(const char *name)
{
    struct numaperf__picture *picture = calloc(1, sizeof(*picture));
    if (picture == NULL)
        return NULL;
    picture->name = name;
    memset(&picture->allowed_cpus, 0xff, sizeof(picture->allowed_cpus));
    memset(&picture->allowed_nodes, 0xff, sizeof(picture->allowed_nodes));
    return picture;
}

/* Whether `a` rather than `b` is the own node of a PU that is in the cpusets of both. */
static bool picture_node_is_nearer(const struct numaperf__picture_node *a,
                                   const struct numaperf__picture_node *b)
{
    int a_count = numaperf_cpuset_count(&a->cpus);
    int b_count = numaperf_cpuset_count(&b->cpus);
    if (a_count != b_count)
        return a_count < b_count;
    return b->is_device && !a->is_device;
}

/*
 * Give every PU its node. hwloc gives a memory-only node the cpuset of the nodes nearest to it, so
 * a PU may be in several: it belongs to the smallest, since a memory-only node covers whole nodes;
 * among equal ones, never to a device's memory, and else to the lowest id, since firmware numbers
 * nodes with PUs first. hwloc leaves out a node without memory unless asked: it still stands in the
 * complete nodeset of its PUs.
 */
static void picture_assign(const struct numaperf__picture *picture, int *out_node_of)
{
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu++)
        out_node_of[cpu] = -1;
    for (int id = 0; id < NUMAPERF_NODE_MAX; id++) {
        const struct numaperf__picture_node *node = &picture->nodes[id];
        if (!node->is_there)
            continue;
        for (int cpu = numaperf_cpuset_next(&node->cpus, -1); cpu >= 0;
             cpu = numaperf_cpuset_next(&node->cpus, cpu)) {
            int other = out_node_of[cpu];
            if (other < 0 || picture_node_is_nearer(node, &picture->nodes[other]))
                out_node_of[cpu] = id;
        }
    }
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu++) {
        if (out_node_of[cpu] < 0 && picture->pus[cpu].is_there)
            out_node_of[cpu] = picture->pus[cpu].complete_node;
    }
}

static void picture_fill_pus(const struct numaperf__picture *picture, const int *node_of,
                             numaperf_topology_t *topology)
{
    for (int cpu = 0; cpu < topology->pu_limit; cpu++) {
        const struct numaperf__picture_pu *from = &picture->pus[cpu];
        struct numaperf__topology_pu *pu = &topology->pus[cpu];
        if (!from->is_there || node_of[cpu] < 0)
            continue;
        pu->node = numaperf__topology_node_index(topology, node_of[cpu]);
        NUMAPERF_ASSERT(pu->node >= 0);
        pu->core = from->core;
        pu->package = from->package;
        memcpy(pu->cache_bytes, from->cache_bytes, sizeof(pu->cache_bytes));
    }
}

static void picture_fill_nodes(const struct numaperf__picture *picture,
                               const numaperf_nodemask_t *with_pus, numaperf_topology_t *topology)
{
    for (size_t i = 0; i < topology->node_count; i++) {
        struct numaperf__topology_node *node = &topology->nodes[i];
        const struct numaperf__picture_node *from = &picture->nodes[node->id];
        if (from->is_there && numaperf_nodemask_contains(&picture->allowed_nodes, node->id))
            node->memory_bytes = from->memory_bytes;
        /* A node with PUs is where they are, which seal derives. */
        if (from->is_there && !numaperf_nodemask_contains(with_pus, node->id))
            node->package = from->package;
    }
}

/* values[i * count + j] goes from node i to node j of the table, as the kernel's files do. */
static void picture_fill_distances(const struct numaperf__picture_distances *distances,
                                   numaperf_topology_t *topology)
{
    for (size_t i = 0; i < distances->count; i++) {
        int from = numaperf__topology_node_index(topology, distances->ids[i]);
        for (size_t j = 0; j < distances->count && from >= 0; j++) {
            int to = numaperf__topology_node_index(topology, distances->ids[j]);
            if (to >= 0)
                topology->distances[(size_t)from * topology->node_count + (size_t)to] =
                    distances->values[i * distances->count + j];
        }
    }
}

int numaperf__picture_convert(const struct numaperf__picture *picture, numaperf_topology_t **out)
{
    int node_of[NUMAPERF_CPU_MAX];
    picture_assign(picture, node_of);
    numaperf_nodemask_t nodes = {{0}};
    numaperf_nodemask_t with_pus = {{0}};
    numaperf_cpuset_t cpus = {{0}};
    for (int id = 0; id < NUMAPERF_NODE_MAX; id++) {
        if (picture->nodes[id].is_there)
            (void)numaperf_nodemask_add(&nodes, id); /* in range */
    }
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu++) {
        if (!picture->pus[cpu].is_there)
            continue;
        (void)numaperf_cpuset_add(&cpus, cpu); /* in range */
        if (node_of[cpu] >= 0)
            (void)numaperf_nodemask_add(&with_pus, node_of[cpu]); /* in range */
    }
    numaperf_nodemask_union(&nodes, &with_pus, &nodes);

    numaperf_topology_t *topology = NULL;
    int rc = numaperf__topology_alloc(picture->name, &nodes, &cpus, &topology);
    if (rc < 0)
        return rc;
    picture_fill_pus(picture, node_of, topology);
    picture_fill_nodes(picture, &with_pus, topology);
    picture_fill_distances(&picture->distances, topology);
    rc = numaperf__topology_seal(picture->name, topology, &picture->allowed_cpus);
    if (rc < 0) {
        numaperf_topology_destroy(topology);
        return rc;
    }
    *out = topology;
    return 0;
}

void numaperf__picture_drop_distances(struct numaperf__picture *picture)
{
    free(picture->distances.values);
    memset(&picture->distances, 0, sizeof(picture->distances));
}

void numaperf__picture_free(struct numaperf__picture *picture)
{
    if (picture == NULL)
        return;
    numaperf__picture_drop_distances(picture);
    free(picture);
}
