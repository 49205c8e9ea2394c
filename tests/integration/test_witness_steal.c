/* SPDX-License-Identifier: MIT */
/*
 * Where tasks run, by getcpu(2) inside them and the lists of PUs in /sys: on the node they were
 * spawned to, on all of its workers, and under each steal policy on those that may take them, the
 * nearest node's first. Works on whatever nodes there are; stealing needs two.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/clock.h"
#include "support/runtimes.h"
#include "support/witness.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define TASKS_PER_NODE 6
#define MARKS_MAX ((size_t)VIEW_NODES * TASKS_PER_NODE)

/* ---- tasks that say where they ran ---- */

struct count {
    atomic_int begun;
    atomic_int ran;
};

struct mark {
    struct count *count; /* of the scene */
    int home;            /* the node it was spawned to */
    int order;           /* as how many-th of the scene it ran */
    unsigned cpu;
    bool is_done;
};

static void leave_mark(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    struct mark *mark = arg;
    (void)syscall(SYS_getcpu, &mark->cpu, NULL, NULL);
    mark->is_done = true;
    mark->order = atomic_fetch_add(&mark->count->begun, 1);
    (void)atomic_fetch_add(&mark->count->ran, 1);
}

static void assert_marks_at_home(const struct mark *marks, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        assert_true(marks[i].is_done);
        assert_int_equal(witness_node_of_cpu((int)marks[i].cpu), marks[i].home);
    }
}

static numaperf_rt_t *start(uint32_t policy)
{
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.steal_policy = policy;
    numaperf_rt_t *rt = NULL;
    assert_int_equal(numaperf_rt_start(&config, &rt), 0);
    return rt;
}

/* Some tasks to each node but `except`; how many. */
static size_t spawn_marks(numaperf_rt_t *rt, uint32_t flags, int except, struct mark *marks,
                          struct count *total)
{
    size_t count = 0;
    for (int i = 0; i < TASKS_PER_NODE; i++) {
        for (int node = numaperf_nodemask_next(&witness_placeable, -1); node >= 0;
             node = numaperf_nodemask_next(&witness_placeable, node)) {
            if (node == except)
                continue;
            numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
            options.flags = NUMAPERF_SPAWN_HAS_NODE | flags;
            options.node = node;
            marks[count] = (struct mark){.count = total, .home = node};
            assert_int_equal(numaperf_rt_spawn_with(rt, &options, leave_mark, &marks[count]), 0);
            count++;
        }
    }
    return count;
}

/* ---- gates on workers ---- */

static void hold_worker(numaperf_rt_t *rt, uint32_t index, struct runtime_gate *gate)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)index;
    assert_int_equal(numaperf_rt_spawn_with(rt, &options, runtime_gate_task, gate), 0);
}

/*
 * Every worker is held, tasks wait on all nodes but the thief's, and then one worker of that node
 * alone is let go: what it runs, it stole.
 */
struct theft {
    numaperf_rt_t *rt;
    int node; /* of the thief */
    uint32_t thief;
    struct runtime_gate others;
    struct runtime_gate own;
    struct count total;
    size_t count;
    struct mark marks[MARKS_MAX];
};

static void theft_begin(struct theft *theft, numaperf_rt_t *rt, int node, uint32_t flags)
{
    memset(theft, 0, sizeof(*theft));
    theft->rt = rt;
    theft->node = node;
    uint32_t count = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    while (numaperf_worker_node(numaperf_rt_worker(rt, theft->thief)) != node)
        theft->thief++;
    for (uint32_t i = 0; i < count; i++)
        hold_worker(rt, i, i == theft->thief ? &theft->own : &theft->others);
    assert_true(runtime_reaches(&theft->own.entered, 1));
    assert_true(runtime_reaches(&theft->others.entered, (int)count - 1));
    theft->count = spawn_marks(rt, flags, node, theft->marks, &theft->total);
    atomic_store(&theft->own.open, true);
}

static void theft_end(struct theft *theft)
{
    atomic_store(&theft->others.open, true);
    assert_true(runtime_reaches(&theft->total.ran, (int)theft->count));
    assert_true(runtime_reaches(&theft->others.left, atomic_load(&theft->others.entered)));
}

static void assert_all_stolen(struct theft *theft)
{
    assert_true(runtime_reaches(&theft->total.ran, (int)theft->count));
    unsigned cpu = (unsigned)numaperf_worker_cpu(numaperf_rt_worker(theft->rt, theft->thief));
    assert_int_equal(witness_node_of_cpu((int)cpu), theft->node);
    for (size_t i = 0; i < theft->count; i++)
        assert_int_equal(theft->marks[i].cpu, cpu);
}

/* No task of a farther node ran before one of a nearer node. */
static void assert_nearest_first(const struct theft *theft)
{
    int distance_of[MARKS_MAX];
    for (size_t i = 0; i < theft->count; i++) {
        const struct mark *mark = &theft->marks[i];
        assert_in_range(mark->order, 0, theft->count - 1);
        distance_of[mark->order] = witness_distance(theft->node, mark->home);
    }
    for (size_t i = 1; i < theft->count; i++) {
        if (distance_of[i - 1] > distance_of[i])
            print_error("node %d took from distance %d before distance %d\n", theft->node,
                        distance_of[i - 1], distance_of[i]);
        assert_true(distance_of[i - 1] <= distance_of[i]);
    }
}

/* The free worker has looked around, time and again, and taken nothing. */
static void assert_none_stolen(struct theft *theft)
{
    atomic_int own = 0;
    for (int i = 0; i < 10; i++) {
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)theft->thief;
        assert_int_equal(numaperf_rt_spawn_with(theft->rt, &options, runtime_count_task, &own), 0);
        test_sleep_ms(2);
    }
    assert_true(runtime_reaches(&own, 10));
    assert_int_equal(atomic_load(&theft->total.ran), 0);
}

static bool has_two_nodes(void)
{
    if (numaperf_nodemask_count(&witness_placeable) >= 2)
        return true;
    print_message("skipped: one usable node: nobody to steal from\n");
    return false;
}

typedef void (*theft_check_fn)(struct theft *theft);

static void check_thefts(uint32_t policy, uint32_t flags, theft_check_fn check)
{
    static struct theft theft;
    numaperf_rt_t *rt = start(policy);
    for (int node = numaperf_nodemask_next(&witness_placeable, -1); node >= 0;
         node = numaperf_nodemask_next(&witness_placeable, node)) {
        theft_begin(&theft, rt, node, flags);
        check(&theft);
        theft_end(&theft);
        if (check == assert_none_stolen)
            assert_marks_at_home(theft.marks, theft.count);
    }
    numaperf_rt_destroy(rt);
}

static void check_nearest_first(struct theft *theft)
{
    assert_all_stolen(theft);
    assert_nearest_first(theft);
}

/* ---- cases ---- */

static void tasks_run_on_the_node_they_were_spawned_to(void **state)
{
    (void)state;
    static struct mark marks[MARKS_MAX];
    struct count total = {.ran = 0};
    numaperf_rt_t *rt = start(NUMAPERF_STEAL_LOCAL_ONLY);
    size_t count = spawn_marks(rt, 0, -1, marks, &total);
    assert_true(runtime_reaches(&total.ran, (int)count));
    assert_marks_at_home(marks, count);
    numaperf_rt_destroy(rt);
}

struct roll_call {
    atomic_int on_node[VIEW_NODES];
    atomic_int count;
};

static void call_roll(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    struct roll_call *roll = arg;
    unsigned cpu = 0;
    (void)syscall(SYS_getcpu, &cpu, NULL, NULL);
    int node = witness_node_of_cpu((int)cpu);
    if (node >= 0)
        (void)atomic_fetch_add(&roll->on_node[node], 1);
    (void)atomic_fetch_add(&roll->count, 1);
}

static void each_node_runs_once_on_every_node_by_its_pu(void **state)
{
    (void)state;
    static struct roll_call roll;
    int nodes = numaperf_nodemask_count(&witness_placeable);
    numaperf_rt_t *rt = start(NUMAPERF_STEAL_ANY);
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(numaperf_rt_each_node(rt, call_roll, &roll), nodes);
        assert_true(runtime_reaches(&roll.count, i * nodes));
        for (int node = 0; node < VIEW_NODES; node++)
            assert_int_equal(atomic_load(&roll.on_node[node]),
                             numaperf_nodemask_contains(&witness_placeable, node) ? i : 0);
    }
    numaperf_rt_destroy(rt);
}

struct crew {
    struct runtime_gate gate;
    struct roll_call roll;
};

static void join_crew(numaperf_worker_t *worker, void *arg)
{
    struct crew *crew = arg;
    call_roll(worker, &crew->roll);
    runtime_gate_task(worker, &crew->gate);
}

/* As many long tasks as a node has workers run at once, and all of them there. */
static void all_workers_of_a_node_serve_it(void **state)
{
    (void)state;
    numaperf_rt_t *rt = start(NUMAPERF_STEAL_LOCAL_ONLY);
    for (int node = numaperf_nodemask_next(&witness_placeable, -1); node >= 0;
         node = numaperf_nodemask_next(&witness_placeable, node)) {
        static struct crew crew;
        memset(&crew, 0, sizeof(crew));
        int count = (int)numaperf_rt_worker_count(rt, node);
        for (int i = 0; i < count; i++)
            assert_int_equal(numaperf_rt_spawn(rt, node, join_crew, &crew), 0);
        assert_true(runtime_reaches(&crew.gate.entered, count));
        assert_int_equal(atomic_load(&crew.roll.on_node[node]), count);
        atomic_store(&crew.gate.open, true);
        assert_true(runtime_reaches(&crew.gate.left, count));
    }
    numaperf_rt_destroy(rt);
}

static void local_only_and_never_steal_keep_tasks_at_home(void **state)
{
    (void)state;
    if (!has_two_nodes())
        skip();
    check_thefts(NUMAPERF_STEAL_LOCAL_ONLY, 0, assert_none_stolen);
    check_thefts(NUMAPERF_STEAL_ANY, NUMAPERF_SPAWN_NEVER_STEAL, assert_none_stolen);
}

static void default_policy_takes_from_the_nearest_node_first(void **state)
{
    (void)state;
    if (!has_two_nodes())
        skip();
    check_thefts(NUMAPERF_STEAL_DEFAULT, 0, check_nearest_first);
}

static void any_takes_from_every_node(void **state)
{
    (void)state;
    if (!has_two_nodes())
        skip();
    check_thefts(NUMAPERF_STEAL_ANY, 0, assert_all_stolen);
}

int main(void)
{
    witness_look();
    if (!witness_can_place())
        return 77;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_run_on_the_node_they_were_spawned_to),
        cmocka_unit_test(each_node_runs_once_on_every_node_by_its_pu),
        cmocka_unit_test(all_workers_of_a_node_serve_it),
        cmocka_unit_test(local_only_and_never_steal_keep_tasks_at_home),
        cmocka_unit_test(default_policy_takes_from_the_nearest_node_first),
        cmocka_unit_test(any_takes_from_every_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
