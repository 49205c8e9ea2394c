/* SPDX-License-Identifier: MIT */
/*
 * Any text as a topology file. It must be refused with a recorded error, or give a topology in
 * which all readers agree with each other.
 */
#include <numaperf/error.h>
#include <numaperf/topology.h>

#include "fuzz.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void check_node(const numaperf_topology_t *topology, int node, numaperf_cpuset_t *io_seen)
{
    numaperf_cpuset_t cpus, cores, both;
    check(numaperf_topology_node_cpus(topology, node, &cpus) == 0);
    check(numaperf_topology_node_cores(topology, node, &cores) == 0);
    numaperf_cpuset_intersect(&cores, &cpus, &both);
    check(numaperf_cpuset_equal(&both, &cores));
    check((numaperf_cpuset_count(&cpus) == 0) == (numaperf_cpuset_count(&cores) == 0));
    numaperf_cpuset_intersect(io_seen, &cpus, &both);
    check(numaperf_cpuset_count(&both) == 0);
    numaperf_cpuset_union(io_seen, &cpus, io_seen);

    for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&cpus, cpu)) {
        check(numaperf_topology_node_of_cpu(topology, cpu) == node);
        check(numaperf_topology_core_cpus(topology, cpu, &both) == 0);
        check(numaperf_cpuset_contains(&both, cpu));
        (void)numaperf_topology_cache_bytes(topology, cpu, 1);
    }
    check(numaperf_topology_distance(topology, node, node) > 0);
    int package = numaperf_topology_node_package(topology, node);
    check(package >= 0 || package == NUMAPERF_E_UNSUPPORTED);
}

static void check_topology(const numaperf_topology_t *topology)
{
    size_t node_count = numaperf_topology_node_count(topology);
    check(node_count >= 1);
    check(!numaperf_topology_is_this_machine(topology));
    numaperf_cpuset_t seen = {{0}};
    int previous = -1;
    for (size_t i = 0; i < node_count; i++) {
        int node = numaperf_topology_node_id(topology, i);
        check(node > previous);
        previous = node;
        check_node(topology, node, &seen);
    }
    numaperf_cpuset_t cpus;
    check(numaperf_topology_cpus(topology, &cpus) == 0);
    check(numaperf_cpuset_equal(&cpus, &seen));
    check(numaperf_cpuset_count(&cpus) > 0);
    check(numaperf_topology_summary(topology, NULL, 0) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int fd = memfd_create("topology", MFD_CLOEXEC);
    check(fd >= 0);
    check(write(fd, data, size) == (ssize_t)size);
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

    numaperf_topology_t *topology = NULL;
    int rc = numaperf_topology_from_xml(path, &topology);
    if (rc == 0) {
        check_topology(topology);
        numaperf_topology_destroy(topology);
    } else {
        check(topology == NULL);
        check(rc == NUMAPERF_E_TOPOLOGY);
        check(numaperf_last_error()->code == rc);
        check(numaperf_last_error()->reason[0] != '\0');
    }
    (void)close(fd);
    return 0;
}
