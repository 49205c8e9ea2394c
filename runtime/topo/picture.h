/* SPDX-License-Identifier: MIT */
/* What hwloc says of a machine, before it becomes a topology; for XML and synthetic ones. */
#ifndef NUMAPERF_TOPO_PICTURE_H
#define NUMAPERF_TOPO_PICTURE_H

#include "topo/topology.h"

struct numaperf__picture_node {
    bool is_there;
    bool is_device; /* its memory is a device's: no PU's own node */
    int package;    /* of the object that holds it; -1 */
    uint64_t memory_bytes;
    numaperf_cpuset_t cpus; /* as hwloc says: those of the nearest nodes when it has none itself */
};

struct numaperf__picture_pu {
    bool is_there;
    int core; /* lowest PU of its core */
    int package;
    int complete_node; /* the one node of its complete nodeset; -1 */
    uint64_t cache_bytes[NUMAPERF_CACHE_LEVELS];
};

struct numaperf__picture_distances {
    size_t count;
    int ids[NUMAPERF_NODE_MAX];
    uint32_t *values; /* [i * count + j] from ids[i] to ids[j]; NULL without a table */
};

/* Large: always on the heap. */
struct numaperf__picture {
    const char *name; /* of the source, for errors; borrowed */
    numaperf_cpuset_t allowed_cpus;
    numaperf_nodemask_t allowed_nodes;
    struct numaperf__picture_distances distances;
    struct numaperf__picture_node nodes[NUMAPERF_NODE_MAX]; /* by OS id */
    struct numaperf__picture_pu pus[NUMAPERF_CPU_MAX];      /* by OS id */
};

/* Nothing there, everything allowed; NULL without memory. */
struct numaperf__picture *numaperf__picture_new(const char *name);
void numaperf__picture_free(struct numaperf__picture *picture);
void numaperf__picture_drop_distances(struct numaperf__picture *picture);

/* Returns 0; -ENOMEM; NUMAPERF_E_TOPOLOGY. */
int numaperf__picture_convert(const struct numaperf__picture *picture, numaperf_topology_t **out);

#endif
