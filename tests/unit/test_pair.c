/* SPDX-License-Identifier: MIT */
/* The table of pairs: policy, distances and rules put together for the nodes of a runtime. */
#include "sched/pair.h"

#include <numaperf/error.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NOW_NS UINT64_C(1000000)

/* A runtime that has a layout and no more. */
struct frame {
    numaperf_rt_t *rt;
    numaperf_topology_t *topology;
};

static int frame_open(struct frame *frame, const char *fixture, uint32_t policy,
                      const numaperf_steal_rule_t *rules, uint64_t rule_count)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), NUMAPERF_TESTS_DIR "/fixtures/topology/%s.xml", fixture);
    assert_int_equal(numaperf_topology_from_xml(path, &frame->topology), 0);
    frame->rt = aligned_alloc(NUMAPERF_CACHE_LINE, sizeof(*frame->rt));
    assert_non_null(frame->rt);
    memset(frame->rt, 0, sizeof(*frame->rt));
    frame->rt->topology = frame->topology;
    frame->rt->config.steal_policy = policy;
    frame->rt->config.steal_rules = rules;
    frame->rt->config.steal_rule_count = rule_count;
    return numaperf__layout_create(frame->rt);
}

static void frame_close(struct frame *frame)
{
    numaperf__layout_destroy(frame->rt);
    free(frame->rt);
    numaperf_topology_destroy(frame->topology);
}

static const struct numaperf__pair *pair_at(const struct frame *frame, int thief, int victim)
{
    const numaperf_rt_t *rt = frame->rt;
    return numaperf__pair_of(&rt->nodes[rt->node_index[thief]], &rt->nodes[rt->node_index[victim]]);
}

static numaperf_steal_rule_t rule_for(int32_t thief, int32_t victim)
{
    numaperf_steal_rule_t rule = NUMAPERF_STEAL_RULE_INIT;
    rule.thief = thief;
    rule.victim = victim;
    return rule;
}

static void defaults_follow_the_distance_of_each_direction(void **state)
{
    (void)state;
    static const uint64_t wanted[4][4] = {
        {0, 0, 5000, 20000}, {2000, 0, 5000, 20000}, {5000, 5000, 0, 0}, {20000, 20000, 2000, 0}};
    struct frame frame;
    assert_int_equal(frame_open(&frame, "asymmetric_four",
                                NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, NULL, 0),
                     0);
    for (int thief = 0; thief < 4; thief++) {
        for (int victim = 0; victim < 4; victim++) {
            const struct numaperf__pair *pair = pair_at(&frame, thief, victim);
            assert_int_equal(pair->rule.allowed, thief != victim);
            assert_int_equal(pair->rule.wait_ns_min, wanted[thief][victim]);
            assert_null(pair->budget);
        }
    }
    frame_close(&frame);
}

static void first_row_that_names_the_pair_decides(void **state)
{
    (void)state;
    numaperf_steal_rule_t rules[3] = {rule_for(0, 1), rule_for(0, NUMAPERF_NODE_ANY),
                                      rule_for(NUMAPERF_NODE_ANY, NUMAPERF_NODE_ANY)};
    rules[0].batch_max = 1;
    rules[1].batch_max = 2;
    rules[2].batch_max = 3;
    struct frame frame;
    assert_int_equal(frame_open(&frame, "asymmetric_four", NUMAPERF_STEAL_ANY, rules, 3), 0);
    assert_int_equal(pair_at(&frame, 0, 1)->rule.batch_max, 1);
    assert_int_equal(pair_at(&frame, 0, 2)->rule.batch_max, 2);
    assert_int_equal(pair_at(&frame, 1, 0)->rule.batch_max, 3);
    assert_int_equal(pair_at(&frame, 3, 2)->rule.batch_max, 3);
    assert_int_equal(pair_at(&frame, 3, 2)->rule.wait_ns_min, 0);
    frame_close(&frame);
}

static void assert_list(const uint32_t *list, uint32_t count, const char *wanted)
{
    char text[64] = "";
    size_t length = 0;
    for (uint32_t i = 0; i < count; i++)
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%u ", list[i]);
    assert_string_equal(text, wanted);
}

static void forbidden_pairs_are_neither_victims_nor_thieves(void **state)
{
    (void)state;
    numaperf_steal_rule_t rules[2] = {rule_for(0, 2), rule_for(3, NUMAPERF_NODE_ANY)};
    rules[0].flags = NUMAPERF_STEAL_RULE_FORBID;
    rules[1].flags = NUMAPERF_STEAL_RULE_FORBID;
    struct frame frame;
    assert_int_equal(frame_open(&frame, "asymmetric_four",
                                NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, rules, 2),
                     0);
    const struct numaperf__node *nodes = frame.rt->nodes;
    assert_list(nodes[0].victims, nodes[0].victim_count, "1 3 ");
    assert_list(nodes[0].thieves, nodes[0].thief_count, "1 2 ");
    assert_list(nodes[2].victims, nodes[2].victim_count, "3 0 1 ");
    assert_list(nodes[2].thieves, nodes[2].thief_count, "1 ");
    assert_list(nodes[3].victims, nodes[3].victim_count, "");
    assert_list(nodes[3].thieves, nodes[3].thief_count, "2 1 0 ");
    frame_close(&frame);
}

static void nobody_steals_under_local_only(void **state)
{
    (void)state;
    const numaperf_steal_rule_t rule = rule_for(NUMAPERF_NODE_ANY, NUMAPERF_NODE_ANY);
    struct frame frame;
    assert_int_equal(frame_open(&frame, "two_nodes", NUMAPERF_STEAL_LOCAL_ONLY, &rule, 1), 0);
    assert_false(pair_at(&frame, 0, 1)->rule.allowed);
    assert_int_equal(frame.rt->nodes[0].victim_count, 0);
    assert_int_equal(frame.rt->nodes[1].thief_count, 0);
    frame_close(&frame);
}

/* A budget is the pair's: what one direction draws the other one still has. */
static void each_pair_has_a_budget_of_its_own(void **state)
{
    (void)state;
    numaperf_steal_rule_t rule = rule_for(NUMAPERF_NODE_ANY, NUMAPERF_NODE_ANY);
    rule.budget_per_s = 1;
    rule.budget_burst = 5;
    struct frame frame;
    assert_int_equal(frame_open(&frame, "two_nodes", NUMAPERF_STEAL_ANY, &rule, 1), 0);
    const struct numaperf__pair *there = pair_at(&frame, 0, 1);
    const struct numaperf__pair *back = pair_at(&frame, 1, 0);
    assert_non_null(there->budget);
    assert_ptr_not_equal(there->budget, back->budget);
    assert_null(pair_at(&frame, 0, 0)->budget);
    uint64_t now_ns = there->budget->start_ns;
    assert_int_equal(numaperf__pair_decide(there, now_ns, 6, 0).count, 3);
    assert_int_equal(numaperf__pair_decide(there, now_ns, 6, 0).count, 2);
    struct numaperf__decision barred = numaperf__pair_decide(there, now_ns, 6, 0);
    assert_int_equal(barred.count, 0);
    assert_int_equal(barred.until_ns, now_ns + UINT64_C(1000000000));
    numaperf__pair_give_back(there, 1);
    assert_int_equal(numaperf__pair_decide(there, now_ns, 6, 0).count, 1);
    assert_int_equal(numaperf__pair_decide(back, now_ns, 100, 0).count, 5);
    frame_close(&frame);
}

/* Who may not take does not pay. */
static void barred_thief_draws_no_token(void **state)
{
    (void)state;
    numaperf_steal_rule_t rule = rule_for(NUMAPERF_NODE_ANY, NUMAPERF_NODE_ANY);
    rule.budget_per_s = 1;
    rule.budget_burst = 1;
    rule.wait_ns_min = 100;
    rule.backlog_min = 2;
    struct frame frame;
    assert_int_equal(frame_open(&frame, "two_nodes", NUMAPERF_STEAL_ANY, &rule, 1), 0);
    const struct numaperf__pair *pair = pair_at(&frame, 0, 1);
    uint64_t now_ns = pair->budget->start_ns;
    assert_int_equal(numaperf__pair_decide(pair, now_ns, 2, 99).count, 0);
    assert_int_equal(numaperf__pair_decide(pair, now_ns, 1, 100).count, 0);
    assert_int_equal(numaperf__pair_decide(pair, now_ns, 2, 100).count, 1);
    frame_close(&frame);
}

static void pair_without_budget_pays_nothing(void **state)
{
    (void)state;
    struct frame frame;
    assert_int_equal(frame_open(&frame, "two_nodes", NUMAPERF_STEAL_ANY, NULL, 0), 0);
    const struct numaperf__pair *pair = pair_at(&frame, 0, 1);
    for (int i = 0; i < 100; i++)
        assert_int_equal(numaperf__pair_decide(pair, NOW_NS, 200, 0).count, 64);
    numaperf__pair_give_back(pair, 64);
    frame_close(&frame);
}

static void rule_for_an_absent_node_is_refused_by_name(void **state)
{
    (void)state;
    static const int32_t absent[] = {1, 3, 1023, 1024, INT32_MAX};
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        const numaperf_steal_rule_t rules[2] = {rule_for(0, 2), rule_for(absent[i], 0)};
        struct frame frame;
        assert_int_equal(frame_open(&frame, "sparse_ids", NUMAPERF_STEAL_ANY, rules, 2),
                         NUMAPERF_E_NO_NODE);
        char wanted[64];
        (void)snprintf(wanted, sizeof(wanted), "steal_rules[1].thief is node %d", absent[i]);
        assert_non_null(strstr(numaperf_last_error()->reason, wanted));
        frame_close(&frame);
    }
}

/* Ids with holes: rules speak of OS ids, the table of indexes. */
static void rules_speak_of_node_ids(void **state)
{
    (void)state;
    numaperf_steal_rule_t rule = rule_for(2, 0);
    rule.batch_max = 7;
    struct frame frame;
    assert_int_equal(frame_open(&frame, "sparse_ids", NUMAPERF_STEAL_ANY, &rule, 1), 0);
    assert_int_equal(frame.rt->pairs[1 * 2 + 0].rule.batch_max, 7);
    assert_int_equal(frame.rt->pairs[0 * 2 + 1].rule.batch_max, 64);
    assert_null(frame.rt->config.steal_rules); /* the caller's, and no longer looked at */
    frame_close(&frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_follow_the_distance_of_each_direction),
        cmocka_unit_test(first_row_that_names_the_pair_decides),
        cmocka_unit_test(forbidden_pairs_are_neither_victims_nor_thieves),
        cmocka_unit_test(nobody_steals_under_local_only),
        cmocka_unit_test(each_pair_has_a_budget_of_its_own),
        cmocka_unit_test(barred_thief_draws_no_token),
        cmocka_unit_test(pair_without_budget_pays_nothing),
        cmocka_unit_test(rule_for_an_absent_node_is_refused_by_name),
        cmocka_unit_test(rules_speak_of_node_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
