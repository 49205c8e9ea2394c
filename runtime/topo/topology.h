/* SPDX-License-Identifier: MIT */
/*
 * What a topology is made of, for the modules that make one. A source (sysfs, a picture) calls
 * numaperf__topology_alloc(), fills in what it knows of nodes and PUs, and seals it; from then on
 * it is immutable. Rooms below use <numaperf/topology.h>.
 */
#ifndef NUMAPERF_TOPO_TOPOLOGY_H
#define NUMAPERF_TOPO_TOPOLOGY_H

#include <numaperf/topology.h>

#define NUMAPERF_CACHE_LEVELS 5

struct numaperf__topology_node {
    int id;                  /* OS id; set by alloc */
    int package;             /* OS id; -1 not known, -2 several; seal derives it from PUs, if any */
    uint64_t memory_bytes;   /* usable by this process */
    numaperf_cpuset_t cpus;  /* usable PUs; set by seal */
    numaperf_cpuset_t cores; /* the lowest of them of each core; set by seal */
};

struct numaperf__topology_pu {
    int node;    /* index into nodes; -1 when the PU belongs to none */
    int core;    /* lowest PU id of its core, usable or not; alloc sets the PU itself */
    int package; /* OS id; -1 when not known */
    uint64_t cache_bytes[NUMAPERF_CACHE_LEVELS]; /* of level i + 1; 0 none or not known */
};

struct numaperf_topology {
    bool is_this_machine;
    size_t node_count;
    struct numaperf__topology_node *nodes; /* ascending by id */
    uint32_t *distances;                   /* [from * node_count + to]; 0 is not known */
    int pu_limit;                          /* PU ids are below */
    struct numaperf__topology_pu *pus;     /* by OS id */
    numaperf_cpuset_t cpus;                /* all usable PUs; set by seal */
};

/*
 * An empty picture with these nodes and room for these PUs; -ENOMEM or NUMAPERF_E_TOPOLOGY. `name`
 * says in errors where it came from.
 */
int numaperf__topology_alloc(const char *name, const numaperf_nodemask_t *nodes,
                             const numaperf_cpuset_t *cpus, numaperf_topology_t **out);

/* Index of a node by OS id; -1 when there is none. */
int numaperf__topology_node_index(const numaperf_topology_t *topology, int node);

/*
 * Derive everything else, with `usable` as the PUs this process may use. Returns 0, or
 * NUMAPERF_E_TOPOLOGY when no PU of any node is usable.
 */
int numaperf__topology_seal(const char *name, numaperf_topology_t *topology,
                            const numaperf_cpuset_t *usable);

/*
 * Read the tree of /sys/devices/system, or a copy of it, at `root`. `usable` and `mems` are what
 * this process may use; PUs that are not online do not count, whatever `usable` says.
 */
int numaperf__topology_from_sysfs(const char *root, const numaperf_cpuset_t *usable,
                                  const numaperf_nodemask_t *mems, numaperf_topology_t **out);

#endif
