/* SPDX-License-Identifier: MIT */
/*
 * Steal rules at work: what a rule forbids is not taken, by no way round; what it delays or limits
 * is taken then and so much; and who may not take sleeps. On this machine's nodes when there are
 * enough of them, else on nodes that only the runtime believes in.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/clock.h"
#include "support/runtimes.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define NODES_MAX 4
#define RULES_MAX 8
#define TASKS 40
#define SECOND_NS UINT64_C(1000000000)

/* A runtime of one worker a node, whose nodes are called 0, 1, ... here, whatever their ids. */
static struct {
    struct runtime_box box;
    int ids[NODES_MAX];
    numaperf_steal_rule_t rules[RULES_MAX];
    struct runtime_gate gates[2];
    atomic_int ran;
    atomic_int ran_on[NODES_MAX];
    atomic_ullong first_ns; /* when the first task ran; 0 */
} field;

static void field_reset(void)
{
    memset(&field, 0, sizeof(field));
    field.box.config = (numaperf_rt_config_t)NUMAPERF_RT_CONFIG_INIT;
    field.box.config.workers_per_node = 1;
    field.box.config.steal_policy = NUMAPERF_STEAL_ANY;
}

/* The first nodes of this machine that runtimes use; how many. */
static int field_own_nodes(int *out_ids)
{
    numaperf_topology_t *topology = NULL;
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_topology_discover(&topology), 0);
    assert_int_equal(numaperf_topology_usable_nodes(topology, &nodes), 0);
    numaperf_topology_destroy(topology);
    int count = 0;
    for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0 && count < NODES_MAX;
         node = numaperf_nodemask_next(&nodes, node))
        out_ids[count++] = node;
    return count;
}

/* Choose a machine of `count` nodes. */
static const char *field_machine(int count)
{
    static const char *const made_up[] = {NULL, NULL, "numa:2 pu:1", "numa:3 pu:1"};
    if (field_own_nodes(field.ids) < count) {
        for (int i = 0; i < NODES_MAX; i++)
            field.ids[i] = i;
        return made_up[count];
    }
    for (int i = 0; i < count; i++)
        assert_int_equal(numaperf_nodemask_add(&field.box.config.nodes, field.ids[i]), 0);
    return NULL;
}

/* Add a rule about two nodes of the machine that was chosen. */
static numaperf_steal_rule_t *field_rule(int thief, int victim)
{
    numaperf_steal_rule_t *rule = &field.rules[field.box.config.steal_rule_count++];
    *rule = (numaperf_steal_rule_t)NUMAPERF_STEAL_RULE_INIT;
    rule->thief = thief >= 0 ? field.ids[thief] : NUMAPERF_NODE_ANY;
    rule->victim = victim >= 0 ? field.ids[victim] : NUMAPERF_NODE_ANY;
    field.box.config.steal_rules = field.rules;
    return rule;
}

static void field_open(const char *machine)
{
    assert_int_equal(runtime_box_open(&field.box, machine), 0);
    memset(field.rules, 0xff, sizeof(field.rules)); /* the runtime must not look again */
}

static void field_close(void)
{
    atomic_store(&field.gates[0].open, true);
    atomic_store(&field.gates[1].open, true);
    runtime_box_close(&field.box);
}

static void noting_task(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    unsigned long long none = 0;
    (void)atomic_compare_exchange_strong(&field.first_ns, &none, test_now_ns());
    for (int i = 0; i < NODES_MAX; i++) {
        if (field.ids[i] == numaperf_worker_node(worker)) {
            (void)atomic_fetch_add(&field.ran_on[i], 1);
            break;
        }
    }
    (void)atomic_fetch_add(&field.ran, 1);
}

/* Have the worker of a node do nothing until the gate opens. */
static void hold_node(int node, struct runtime_gate *gate)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE | NUMAPERF_SPAWN_NEVER_STEAL;
    options.node = field.ids[node];
    assert_int_equal(numaperf_rt_spawn_with(field.box.rt, &options, runtime_gate_task, gate), 0);
    assert_true(runtime_reaches(&gate->entered, 1));
}

static void spawn_notes(int node, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(numaperf_rt_spawn(field.box.rt, field.ids[node], noting_task, NULL), 0);
}

static uint64_t cpu_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* For a while nothing more runs, and who may not run it does not burn the PU over it. */
static void assert_nothing_happens(int ran)
{
    test_sleep_ms(test_is_slow() ? 300 : 30);
    uint64_t cpu_ns = cpu_now_ns();
    test_sleep_ms(300);
    cpu_ns = cpu_now_ns() - cpu_ns;
    assert_int_equal(atomic_load(&field.ran), ran);
    if (!test_is_slow())
        assert_true(cpu_ns < 60000000);
}

/* ---- refusals ---- */

static void start_refuses_a_bad_rule_by_row_and_field(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    (void)field_rule(0, 1);
    numaperf_steal_rule_t *rule = field_rule(1, 0);
    rule->flags = 4;
    assert_int_equal(runtime_box_open(&field.box, machine), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "steal_rules[1].flags"));
    rule->flags = 0;
    rule->budget_burst = 5;
    assert_int_equal(runtime_box_open(&field.box, machine), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "steal_rules[1].budget_burst"));
    rule->budget_burst = 0;
    rule->size++;
    assert_int_equal(runtime_box_open(&field.box, machine), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "steal_rules[1].size"));
    rule->size--;
    field.box.config.steal_rule_count = 4097;
    assert_int_equal(runtime_box_open(&field.box, machine), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "steal_rule_count"));
    field.box.config.steal_rule_count = 2;
    field_open(machine); /* and nothing else was wrong */
    field_close();
}

static void start_refuses_a_rule_for_a_node_without_workers(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    (void)field_rule(0, 1);
    field_rule(1, 0)->victim = 1023;
    assert_int_equal(runtime_box_open(&field.box, machine), NUMAPERF_E_NO_NODE);
    assert_non_null(strstr(numaperf_last_error()->reason, "steal_rules[1].victim is node 1023"));
    assert_null(field.box.rt);
}

/* ---- forbidden ---- */

static void forbidden_direction_is_never_stolen_the_other_is(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    field_rule(1, 0)->flags = NUMAPERF_STEAL_RULE_FORBID;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    spawn_notes(0, TASKS);
    assert_nothing_happens(0);
    atomic_store(&field.gates[0].open, true);
    assert_true(runtime_reaches(&field.ran, TASKS));
    assert_int_equal(atomic_load(&field.ran_on[0]), TASKS);

    hold_node(1, &field.gates[1]);
    spawn_notes(1, TASKS);
    assert_true(runtime_reaches(&field.ran, 2 * TASKS));
    assert_int_equal(atomic_load(&field.ran_on[0]), 2 * TASKS);
    field_close();
}

static void no_rule_allows_what_local_only_forbids(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    field.box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    field_rule(-1, -1)->wait_ns_min = UINT64_MAX;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    spawn_notes(0, TASKS);
    assert_nothing_happens(0);
    field_close();
}

/* Node 1 has taken tasks of node 0 and cannot get on with them; node 2 may take from node 1, but
 * nothing that belongs to node 0. */
static void forbidden_tasks_do_not_come_by_way_of_a_third_node(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(3);
    field_rule(2, 0)->flags = NUMAPERF_STEAL_RULE_FORBID;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    assert_int_equal(
        numaperf_rt_spawn(field.box.rt, field.ids[0], runtime_gate_task, &field.gates[1]), 0);
    assert_true(runtime_reaches(&field.gates[1].entered, 1)); /* on node 1: nobody else may */
    spawn_notes(0, TASKS);
    assert_nothing_happens(0);
    atomic_store(&field.gates[1].open, true);
    assert_true(runtime_reaches(&field.ran, TASKS));
    assert_int_equal(atomic_load(&field.ran_on[1]), TASKS);
    field_close();
}

/* A batch of which the first task blocks who has taken it. */
static void spawn_gate_then_notes(int node, struct runtime_gate *gate, int notes)
{
    /* Both kinds in one go, so that one theft finds them together. */
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    options.node = field.ids[node];
    void *args[TASKS] = {NULL};
    assert_true(notes <= TASKS);
    assert_int_equal(numaperf_rt_spawn(field.box.rt, field.ids[node], runtime_gate_task, gate), 0);
    assert_int_equal(
        numaperf_rt_spawn_batch(field.box.rt, &options, noting_task, args, (size_t)notes), 0);
}

static void stolen_batch_is_not_stolen_on_by_whom_its_home_forbids(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(3);
    field_rule(2, 0)->flags = NUMAPERF_STEAL_RULE_FORBID;
    field_rule(1, 0)->backlog_min = TASKS + 1; /* all of them are there before one is taken */
    field_open(machine);
    hold_node(0, &field.gates[0]);
    spawn_gate_then_notes(0, &field.gates[1], TASKS);
    assert_true(runtime_reaches(&field.gates[1].entered, 1));
    assert_nothing_happens(0); /* half of them are on node 1, whose worker is held */
    atomic_store(&field.gates[0].open, true);
    atomic_store(&field.gates[1].open, true);
    assert_true(runtime_reaches(&field.ran, TASKS));
    assert_int_equal(atomic_load(&field.ran_on[2]), 0);
    field_close();
}

/* Node 0 may not steal from node 1; but what is its own it may run, wherever it is. */
static void home_takes_its_own_tasks_back(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    field_rule(0, 1)->flags = NUMAPERF_STEAL_RULE_FORBID;
    field_rule(1, 0)->backlog_min = TASKS + 1;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    spawn_gate_then_notes(0, &field.gates[1], TASKS);
    assert_true(runtime_reaches(&field.gates[1].entered, 1));
    atomic_store(&field.gates[0].open, true);
    assert_true(runtime_reaches(&field.ran, TASKS));
    assert_int_equal(atomic_load(&field.ran_on[0]), TASKS);
    field_close();
}

/* ---- limits ---- */

static void thief_waits_for_the_backlog(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    field_rule(1, 0)->backlog_min = 10;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    spawn_notes(0, 9);
    assert_nothing_happens(0);
    spawn_notes(0, 1);
    assert_true(runtime_reaches(&field.ran, 5)); /* half of them; then there are too few */
    assert_nothing_happens(5);
    atomic_store(&field.gates[0].open, true);
    assert_true(runtime_reaches(&field.ran, 10));
    field_close();
}

static void thief_takes_no_more_than_a_batch(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    numaperf_steal_rule_t *rule = field_rule(1, 0);
    rule->backlog_min = 10;
    rule->batch_max = 3;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    spawn_notes(0, 9);
    spawn_notes(0, 1);
    assert_true(runtime_reaches(&field.ran, 3));
    assert_nothing_happens(3);
    field_close();
}

static void nothing_is_taken_before_it_has_waited(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    const uint64_t wait_ns = 50000000;
    field_rule(1, 0)->wait_ns_min = wait_ns;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    for (int round = 1; round <= 3; round++) {
        atomic_store(&field.first_ns, 0);
        uint64_t spawn_ns = test_now_ns();
        spawn_notes(0, TASKS);
        assert_true(runtime_reaches(&field.ran, round * TASKS));
        assert_true(atomic_load(&field.first_ns) - spawn_ns >= wait_ns);
    }
    assert_int_equal(atomic_load(&field.ran_on[1]), 3 * TASKS);
    field_close();
}

static void wait_without_end_is_never_over(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    field_rule(1, 0)->wait_ns_min = UINT64_MAX - 1;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    spawn_notes(0, TASKS);
    assert_nothing_happens(0);
    field_close();
}

static void thief_keeps_to_its_budget(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    numaperf_steal_rule_t *rule = field_rule(1, 0);
    const uint64_t per_s = 100;
    const uint64_t burst = 10;
    rule->budget_per_s = per_s;
    rule->budget_burst = burst;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    uint64_t start_ns = test_now_ns();
    spawn_notes(0, TASKS);
    uint64_t limit_ns = start_ns + test_limit_ns(10);
    for (int ran = 0; ran < TASKS && test_now_ns() < limit_ns;) {
        ran = atomic_load(&field.ran);
        uint64_t since_ns = test_now_ns() - start_ns;
        assert_true((uint64_t)ran <= burst + since_ns * per_s / SECOND_NS + 1);
        test_sleep_ms(1);
    }
    assert_int_equal(atomic_load(&field.ran_on[1]), TASKS);
    field_close();
}

static void thief_without_budget_sleeps(void **state)
{
    (void)state;
    field_reset();
    const char *machine = field_machine(2);
    numaperf_steal_rule_t *rule = field_rule(1, 0);
    rule->budget_per_s = 1;
    rule->budget_burst = 3;
    field_open(machine);
    hold_node(0, &field.gates[0]);
    spawn_notes(0, TASKS);
    assert_true(runtime_reaches(&field.ran, 3) || atomic_load(&field.ran) == 4);
    uint64_t cpu_ns = cpu_now_ns();
    test_sleep_ms(500);
    cpu_ns = cpu_now_ns() - cpu_ns;
    assert_in_range(atomic_load(&field.ran), 3, test_is_slow() ? TASKS : 5);
    if (!test_is_slow())
        assert_true(cpu_ns < 100000000);
    field_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(start_refuses_a_bad_rule_by_row_and_field),
        cmocka_unit_test(start_refuses_a_rule_for_a_node_without_workers),
        cmocka_unit_test(forbidden_direction_is_never_stolen_the_other_is),
        cmocka_unit_test(no_rule_allows_what_local_only_forbids),
        cmocka_unit_test(forbidden_tasks_do_not_come_by_way_of_a_third_node),
        cmocka_unit_test(stolen_batch_is_not_stolen_on_by_whom_its_home_forbids),
        cmocka_unit_test(home_takes_its_own_tasks_back),
        cmocka_unit_test(thief_waits_for_the_backlog),
        cmocka_unit_test(thief_takes_no_more_than_a_batch),
        cmocka_unit_test(nothing_is_taken_before_it_has_waited),
        cmocka_unit_test(wait_without_end_is_never_over),
        cmocka_unit_test(thief_keeps_to_its_budget),
        cmocka_unit_test(thief_without_budget_sleeps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
