/* SPDX-License-Identifier: MIT */
/* Discovery from trees of /sys made by hand: machines that no test machine is. */
#include "topo/topology.h"

#include <numaperf/error.h>

#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch[] = "/tmp/numaperf-topology-XXXXXX";

/* ---- helpers ---- */

static numaperf_cpuset_t cpus_of(const char *list)
{
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_cpuset_parse(list, &set), 0);
    return set;
}

static void assert_cpus(const numaperf_cpuset_t *set, const char *list)
{
    char text[1024];
    assert_true(numaperf_cpuset_format(set, text, sizeof(text)) < (int)sizeof(text));
    assert_string_equal(text, list);
}

static void assert_node_cpus(const numaperf_topology_t *topology, int node, const char *list)
{
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_topology_node_cpus(topology, node, &set), 0);
    assert_cpus(&set, list);
}

static void assert_node_cores(const numaperf_topology_t *topology, int node, const char *list)
{
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_topology_node_cores(topology, node, &set), 0);
    assert_cpus(&set, list);
}

/* Write a file below the scratch directory, with the directories it needs; its path is static. */
static const char *scratch_write(const char *name, const void *data, size_t size)
{
    static char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", scratch, name);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void tree_write(const char *name, const char *text)
{
    (void)scratch_write(name, text, strlen(text));
}

static int tree_load(const char *tree, const char *usable, const char *mems,
                     numaperf_topology_t **out)
{
    char root[PATH_MAX];
    (void)snprintf(root, sizeof(root), "%s/%s", scratch, tree);
    numaperf_cpuset_t cpus = cpus_of(usable);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_nodemask_parse(mems, &nodes), 0);
    return numaperf__topology_from_sysfs(root, &cpus, &nodes, out);
}

/* ---- trees of /sys ---- */

static void a_kernel_without_numa_is_one_node_with_everything(void **state)
{
    (void)state;
    tree_write("plain/cpu/online", "0-3\n");
    numaperf_topology_t *topology = NULL;
    assert_int_equal(tree_load("plain", "0-8191", "0", &topology), 0);
    assert_int_equal(numaperf_topology_node_count(topology), 1);
    assert_int_equal(numaperf_topology_node_id(topology, 0), 0);
    assert_node_cpus(topology, 0, "0-3");
    assert_node_cores(topology, 0, "0-3");
    assert_int_equal(numaperf_topology_node_memory_bytes(topology, 0),
                     (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
    assert_int_equal(numaperf_topology_distance(topology, 0, 0), 10);
    assert_int_equal(numaperf_topology_node_package(topology, 0), NUMAPERF_E_UNSUPPORTED);
    numaperf_topology_destroy(topology);
}

/* Nodes 0, 2 (no memory), 1023 (memory only); PU 3 offline; PUs 0+4 and 1+8191 share cores. */
static void tree_odd(void)
{
    tree_write("odd/cpu/online", "0-2,4,8191\n");
    tree_write("odd/node/online", "0,2,1023\n");
    tree_write("odd/node/node0/cpulist", "0-1,4\n");
    tree_write("odd/node/node2/cpulist", "2-3,8191\n");
    tree_write("odd/node/node1023/cpulist", "\n");
    tree_write("odd/node/node0/meminfo",
               "\nNode 0 MemTotal:       1000 kB\nNode 0 MemFree: 1 kB\n");
    tree_write("odd/node/node2/meminfo", "Node 2 MemTotal:       0 kB\n");
    tree_write("odd/node/node1023/meminfo", "Node 1023 MemTotal:   2000 kB\n");
    tree_write("odd/node/node0/distance", "10 21 32\n");
    tree_write("odd/node/node2/distance", "12 10 33\n");
    tree_write("odd/node/node1023/distance", "13 23\n");
    tree_write("odd/cpu/cpu0/topology/core_cpus_list", "0,4\n");
    tree_write("odd/cpu/cpu4/topology/core_cpus_list", "0,4\n");
    tree_write("odd/cpu/cpu1/topology/thread_siblings_list", "1,8191\n");
    tree_write("odd/cpu/cpu8191/topology/thread_siblings_list", "1,8191\n");
    tree_write("odd/cpu/cpu0/topology/physical_package_id", "5\n");
    tree_write("odd/cpu/cpu1/topology/physical_package_id", "5\n");
    tree_write("odd/cpu/cpu2/topology/physical_package_id", "5\n");
    tree_write("odd/cpu/cpu8191/topology/physical_package_id", "6\n");
    tree_write("odd/cpu/cpu0/cache/index0/type", "Instruction\n");
    tree_write("odd/cpu/cpu0/cache/index0/level", "1\n");
    tree_write("odd/cpu/cpu0/cache/index0/size", "64K\n");
    tree_write("odd/cpu/cpu0/cache/index1/type", "Data\n");
    tree_write("odd/cpu/cpu0/cache/index1/level", "1\n");
    tree_write("odd/cpu/cpu0/cache/index1/size", "48K\n");
    tree_write("odd/cpu/cpu0/cache/index2/type", "Unified\n");
    tree_write("odd/cpu/cpu0/cache/index2/level", "3\n");
    tree_write("odd/cpu/cpu0/cache/index2/size", "2M\n");
}

static void odd_machines_are_read_as_they_are(void **state)
{
    (void)state;
    tree_odd();
    numaperf_topology_t *topology = NULL;
    assert_int_equal(tree_load("odd", "0-8191", "0-1023", &topology), 0);
    assert_int_equal(numaperf_topology_node_count(topology), 3);
    assert_node_cpus(topology, 0, "0-1,4");
    assert_node_cores(topology, 0, "0-1");
    assert_node_cpus(topology, 2, "2,8191");
    /* A core across two nodes counts on both. */
    assert_node_cores(topology, 2, "2,8191");
    assert_node_cpus(topology, 1023, "");
    assert_int_equal(numaperf_topology_node_of_cpu(topology, 3), -EINVAL);
    assert_int_equal(numaperf_topology_node_of_cpu(topology, 8191), 2);
    assert_int_equal(numaperf_topology_node_memory_bytes(topology, 0), 1000 * 1024);
    assert_int_equal(numaperf_topology_node_memory_bytes(topology, 2), 0);
    assert_int_equal(numaperf_topology_node_memory_bytes(topology, 1023), 2000 * 1024);
    assert_int_equal(numaperf_topology_distance(topology, 0, 1023), 32);
    assert_int_equal(numaperf_topology_distance(topology, 2, 0), 12);
    /* A line that is too short tells nothing. */
    assert_int_equal(numaperf_topology_distance(topology, 1023, 0), NUMAPERF_E_UNSUPPORTED);
    assert_int_equal(numaperf_topology_node_package(topology, 0), 5);
    assert_int_equal(numaperf_topology_node_package(topology, 2), NUMAPERF_E_UNSUPPORTED);
    assert_int_equal(numaperf_topology_cache_bytes(topology, 0, 1), 48 * 1024);
    assert_int_equal(numaperf_topology_cache_bytes(topology, 0, 3), 2048 * 1024);
    assert_int_equal(numaperf_topology_cache_bytes(topology, 1, 1), 0);
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_topology_core_cpus(topology, 8191, &set), 0);
    assert_cpus(&set, "1,8191");
    numaperf_topology_destroy(topology);
}

static void what_may_not_be_used_does_not_count(void **state)
{
    (void)state;
    tree_odd();
    numaperf_topology_t *topology = NULL;
    assert_int_equal(tree_load("odd", "1,3-4", "1023", &topology), 0);
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_topology_cpus(topology, &set), 0);
    assert_cpus(&set, "1,4");
    assert_node_cores(topology, 0, "1,4");
    assert_node_cpus(topology, 2, "");
    assert_int_equal(numaperf_topology_node_count(topology), 3);
    assert_int_equal(numaperf_topology_node_memory_bytes(topology, 0), 0);
    assert_int_equal(numaperf_topology_node_memory_bytes(topology, 1023), 2000 * 1024);
    numaperf_topology_destroy(topology);

    topology = NULL;
    assert_int_equal(tree_load("odd", "3", "0", &topology), NUMAPERF_E_TOPOLOGY);
    assert_null(topology);
}

static void ids_beyond_the_limits_are_refused_not_truncated(void **state)
{
    (void)state;
    numaperf_topology_t *topology = NULL;
    tree_write("wide/cpu/online", "0-8192\n");
    assert_int_equal(tree_load("wide", "0", "0", &topology), NUMAPERF_E_TOPOLOGY);
    assert_non_null(strstr(numaperf_last_error()->reason, "0-8192"));
    tree_write("wide/cpu/online", "0\n");
    tree_write("wide/node/online", "0,1024\n");
    assert_int_equal(tree_load("wide", "0", "0", &topology), NUMAPERF_E_TOPOLOGY);
    assert_non_null(strstr(numaperf_last_error()->reason, "0,1024"));
    assert_null(topology);
    assert_int_equal(tree_load("absent", "0-8191", "0", &topology), NUMAPERF_E_TOPOLOGY);
    assert_null(topology);
}
/* ---- program ---- */

static int scratch_remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

static int scratch_make(void **state)
{
    (void)state;
    return mkdtemp(scratch) == NULL ? -1 : 0;
}

static int scratch_remove(void **state)
{
    (void)state;
    return nftw(scratch, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kernel_without_numa_is_one_node_with_everything),
        cmocka_unit_test(odd_machines_are_read_as_they_are),
        cmocka_unit_test(what_may_not_be_used_does_not_count),
        cmocka_unit_test(ids_beyond_the_limits_are_refused_not_truncated),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
