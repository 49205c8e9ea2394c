/* SPDX-License-Identifier: MIT */
/* The order of victims, as a table: policy, distances, packages and thief in, indexes out. */
#include "sched/steal.h"

#include <numaperf/runtime.h>
#include <numaperf/topology.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NODES 4
#define FIXTURE_NODES_MAX 16
#define UNTOUCHED 77u

/* Two packages of two nodes. */
static const int32_t packages[NODES * NODES] = {
    10, 12, 21, 32, /* */
    12, 10, 32, 21, /* */
    21, 32, 10, 12, /* */
    32, 21, 12, 10,
};
static const int32_t nowhere[NODES] = {-1, -1, -1, -1};

static void assert_order(uint32_t policy, const int32_t *distances, uint32_t thief,
                         const uint32_t *wanted, uint32_t wanted_count)
{
    uint32_t order[NODES] = {UNTOUCHED, UNTOUCHED, UNTOUCHED, UNTOUCHED};
    const struct numaperf__steal_map map = {NODES, distances, nowhere};
    assert_int_equal(numaperf__steal_order(policy, &map, thief, order), wanted_count);
    for (uint32_t i = 0; i < wanted_count; i++)
        assert_int_equal(order[i], wanted[i]);
    for (uint32_t i = wanted_count; i < NODES; i++)
        assert_int_equal(order[i], UNTOUCHED);
}

static void local_only_has_no_victims(void **state)
{
    (void)state;
    for (uint32_t thief = 0; thief < NODES; thief++)
        assert_order(NUMAPERF_STEAL_LOCAL_ONLY, packages, thief, NULL, 0);
}

static void nearest_victim_comes_first(void **state)
{
    (void)state;
    static const uint32_t wanted[NODES][NODES - 1] = {{1, 2, 3}, {0, 3, 2}, {3, 0, 1}, {2, 1, 0}};
    for (uint32_t thief = 0; thief < NODES; thief++)
        assert_order(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, packages, thief, wanted[thief],
                     3);
}

static void any_goes_round_from_the_thief(void **state)
{
    (void)state;
    static const uint32_t wanted[NODES][NODES - 1] = {{1, 2, 3}, {2, 3, 0}, {3, 0, 1}, {0, 1, 2}};
    for (uint32_t thief = 0; thief < NODES; thief++)
        assert_order(NUMAPERF_STEAL_ANY, packages, thief, wanted[thief], 3);
}

static void equal_distances_go_round_from_the_thief(void **state)
{
    (void)state;
    static const int32_t flat[NODES * NODES] = {10, 20, 20, 20, 20, 10, 20, 20,
                                                20, 20, 10, 20, 20, 20, 20, 10};
    static const uint32_t wanted[NODES][NODES - 1] = {{1, 2, 3}, {2, 3, 0}, {3, 0, 1}, {0, 1, 2}};
    for (uint32_t thief = 0; thief < NODES; thief++)
        assert_order(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, flat, thief, wanted[thief], 3);
}

/* Distances may differ by direction: the thief's row counts, not the victims' column. */
static void asymmetric_distances_are_read_from_the_thief(void **state)
{
    (void)state;
    static const int32_t one_way[NODES * NODES] = {10, 40, 30, 20, 11, 10, 11, 11,
                                                   12, 11, 10, 11, 90, 11, 11, 10};
    static const uint32_t wanted[] = {3, 2, 1};
    assert_order(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, one_way, 0, wanted, 3);
    static const uint32_t wanted_back[] = {1, 2, 0};
    assert_order(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, one_way, 3, wanted_back, 3);
}

static void unknown_distances_count_as_farthest(void **state)
{
    (void)state;
    static const int32_t holes[NODES * NODES] = {10, -10005, 255, 254, -1, 10, -1, -1,
                                                 -1, -1,     10,  -1,  -1, -1, -1, 10};
    static const uint32_t wanted[] = {3, 2, 1};
    assert_order(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, holes, 0, wanted, 3);
    static const uint32_t round_about[] = {2, 3, 0};
    assert_order(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, holes, 1, round_about, 3);
}

static void single_node_has_no_victims(void **state)
{
    (void)state;
    const int32_t distance = 10;
    const int32_t package = 0;
    const struct numaperf__steal_map map = {1, &distance, &package};
    uint32_t order = UNTOUCHED;
    assert_int_equal(numaperf__steal_order(NUMAPERF_STEAL_ANY, &map, 0, &order), 0);
    assert_int_equal(numaperf__steal_thieves(NUMAPERF_STEAL_ANY, &map, 0, &order), 0);
    assert_int_equal(order, UNTOUCHED);
}

/* Where the firmware tells nothing, or the same of all, the package is the socket of the policy. */
static void package_decides_between_equal_distances(void **state)
{
    (void)state;
    static const int32_t flat[NODES * NODES] = {10, 20, 20, 20, 20, 10, 20, 20,
                                                20, 20, 10, 20, 20, 20, 20, 10};
    static const int32_t unknown[NODES * NODES] = {10, -1, -1, -1, -1, 10, -1, -1,
                                                   -1, -1, 10, -1, -1, -1, -1, 10};
    static const int32_t sockets[NODES] = {0, 1, 0, 1};
    static const uint32_t wanted[NODES][NODES - 1] = {{2, 1, 3}, {3, 2, 0}, {0, 3, 1}, {1, 0, 2}};
    const int32_t *const tables[] = {flat, unknown};
    for (size_t table = 0; table < 2; table++) {
        const struct numaperf__steal_map map = {NODES, tables[table], sockets};
        for (uint32_t thief = 0; thief < NODES; thief++) {
            uint32_t order[NODES];
            assert_int_equal(numaperf__steal_order(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE,
                                                   &map, thief, order),
                             NODES - 1);
            assert_memory_equal(order, wanted[thief], sizeof(wanted[thief]));
        }
    }
}

/* The firmware's word counts for more than the package's. */
static void distance_counts_before_the_package(void **state)
{
    (void)state;
    static const int32_t crossed[NODES] = {0, 1, 0, 1};
    static const uint32_t wanted[] = {1, 2, 3};
    const struct numaperf__steal_map map = {NODES, packages, crossed};
    uint32_t order[NODES];
    assert_int_equal(
        numaperf__steal_order(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, &map, 0, order), 3);
    assert_memory_equal(order, wanted, sizeof(wanted));
}

/* ---- every fixture ---- */

struct fixture_map {
    numaperf_topology_t *topology;
    int32_t distances[FIXTURE_NODES_MAX * FIXTURE_NODES_MAX];
    int32_t packages[FIXTURE_NODES_MAX];
    struct numaperf__steal_map map;
};

static void fixture_open(struct fixture_map *fixture, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), NUMAPERF_TESTS_DIR "/fixtures/topology/%s.xml", name);
    assert_int_equal(numaperf_topology_from_xml(path, &fixture->topology), 0);
    uint32_t n = (uint32_t)numaperf_topology_node_count(fixture->topology);
    assert_in_range(n, 1, FIXTURE_NODES_MAX);
    for (uint32_t from = 0; from < n; from++) {
        int id = numaperf_topology_node_id(fixture->topology, from);
        fixture->packages[from] = numaperf_topology_node_package(fixture->topology, id);
        for (uint32_t to = 0; to < n; to++)
            fixture->distances[from * n + to] = numaperf_topology_distance(
                fixture->topology, id, numaperf_topology_node_id(fixture->topology, to));
    }
    fixture->map = (struct numaperf__steal_map){n, fixture->distances, fixture->packages};
}

typedef uint32_t (*order_fn)(uint32_t policy, const struct numaperf__steal_map *map, uint32_t node,
                             uint32_t *out_order);

/* "0: 1 2; 1: 2 0; ": OS ids, in the order of each node. */
static void fixture_print(const struct fixture_map *fixture, uint32_t policy, order_fn order_of,
                          char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (uint32_t node = 0; node < fixture->map.node_count; node++) {
        uint32_t order[FIXTURE_NODES_MAX];
        uint32_t count = order_of(policy, &fixture->map, node, order);
        length += (size_t)snprintf(text + length, size - length,
                                   "%d:", numaperf_topology_node_id(fixture->topology, node));
        for (uint32_t i = 0; i < count; i++)
            length += (size_t)snprintf(text + length, size - length, " %d",
                                       numaperf_topology_node_id(fixture->topology, order[i]));
        length += (size_t)snprintf(text + length, size - length, "; ");
        assert_true(length < size);
    }
}

static void orders_of_every_fixture_are_as_written(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *near_first; /* victims */
        const char *thieves;
        const char *any;
        const char *local_only;
    } table[] = {
        {"asymmetric_four", "0: 1 2 3; 1: 0 2 3; 2: 3 0 1; 3: 2 0 1; ",
         "0: 1 2 3; 1: 0 2 3; 2: 3 0 1; 3: 2 1 0; ", "0: 1 2 3; 1: 2 3 0; 2: 3 0 1; 3: 0 1 2; ",
         "0:; 1:; 2:; 3:; "},
        {"cpus_outside_cpuset", "0: 1 2; 1: 2 0; 2: 0 1; ", "0: 1 2; 1: 2 0; 2: 0 1; ",
         "0: 1 2; 1: 2 0; 2: 0 1; ", "0:; 1:; 2:; "},
        {"memory_only_node", "0: 1 2; 1: 0 2; 2: 0 1; ", "0: 1 2; 1: 0 2; 2: 0 1; ",
         "0: 1 2; 1: 2 0; 2: 0 1; ", "0:; 1:; 2:; "},
        {"memoryless_node", "0: 1 2; 1: 2 0; 2: 1 0; ", "0: 1 2; 1: 2 0; 2: 1 0; ",
         "0: 1 2; 1: 2 0; 2: 0 1; ", "0:; 1:; 2:; "},
        {"memoryless_node_omitted", "0: 2 1; 1: 2 0; 2: 0 1; ", "0: 2 1; 1: 2 0; 2: 0 1; ",
         "0: 1 2; 1: 2 0; 2: 0 1; ", "0:; 1:; 2:; "},
        {"one_node", "0:; ", "0:; ", "0:; ", "0:; "},
        {"sparse_ids", "0: 2; 2: 0; ", "0: 2; 2: 0; ", "0: 2; 2: 0; ", "0:; 2:; "},
        {"two_nodes", "0: 1; 1: 0; ", "0: 1; 1: 0; ", "0: 1; 1: 0; ", "0:; 1:; "},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct fixture_map fixture;
        fixture_open(&fixture, table[i].name);
        char text[512];
        const uint32_t near_first = NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE;
        fixture_print(&fixture, near_first, numaperf__steal_order, text, sizeof(text));
        assert_string_equal(text, table[i].near_first);
        fixture_print(&fixture, near_first, numaperf__steal_thieves, text, sizeof(text));
        assert_string_equal(text, table[i].thieves);
        fixture_print(&fixture, NUMAPERF_STEAL_ANY, numaperf__steal_order, text, sizeof(text));
        assert_string_equal(text, table[i].any);
        fixture_print(&fixture, NUMAPERF_STEAL_LOCAL_ONLY, numaperf__steal_order, text,
                      sizeof(text));
        assert_string_equal(text, table[i].local_only);
        numaperf_topology_destroy(fixture.topology);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(local_only_has_no_victims),
        cmocka_unit_test(nearest_victim_comes_first),
        cmocka_unit_test(any_goes_round_from_the_thief),
        cmocka_unit_test(equal_distances_go_round_from_the_thief),
        cmocka_unit_test(asymmetric_distances_are_read_from_the_thief),
        cmocka_unit_test(unknown_distances_count_as_farthest),
        cmocka_unit_test(single_node_has_no_victims),
        cmocka_unit_test(package_decides_between_equal_distances),
        cmocka_unit_test(distance_counts_before_the_package),
        cmocka_unit_test(orders_of_every_fixture_are_as_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
