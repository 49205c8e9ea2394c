/* SPDX-License-Identifier: MIT */
/* The order of victims, as a table: policy, distances and thief in, indexes out. */
#include "sched/steal.h"

#include <numaperf/runtime.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NODES 4
#define UNTOUCHED 77u

/* Two packages of two nodes. */
static const int32_t packages[NODES * NODES] = {
    10, 12, 21, 32, /* */
    12, 10, 32, 21, /* */
    21, 32, 10, 12, /* */
    32, 21, 12, 10,
};

static void assert_order(uint32_t policy, const int32_t *distances, uint32_t thief,
                         const uint32_t *wanted, uint32_t wanted_count)
{
    uint32_t order[NODES] = {UNTOUCHED, UNTOUCHED, UNTOUCHED, UNTOUCHED};
    assert_int_equal(numaperf__steal_order(policy, distances, NODES, thief, order), wanted_count);
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
    uint32_t order = UNTOUCHED;
    assert_int_equal(numaperf__steal_order(NUMAPERF_STEAL_ANY, &distance, 1, 0, &order), 0);
    assert_int_equal(order, UNTOUCHED);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
