/* SPDX-License-Identifier: MIT */
/* Groups: waited for, told at the end, cancelled, used again; and what a stop makes of them. */
#include <numaperf/error.h>
#include <numaperf/group.h>
#include <numaperf/timer.h>

#include "support/clock.h"
#include "support/runtimes.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define HOUR_NS (UINT64_C(3600) * 1000000000)

struct scene {
    struct runtime_box box;
    numaperf_group_t *group;
    struct runtime_gate gate;
    numaperf_spawn_options_t options; /* a member on worker 0 */
    atomic_int ran;
    atomic_int cancelled;
    atomic_int faults;
    atomic_int done;
};

static struct scene scene;

static void scene_prepare(uint64_t limit)
{
    scene = (struct scene){.box = {.config = NUMAPERF_RT_CONFIG_INIT},
                           .options = NUMAPERF_SPAWN_OPTIONS_INIT};
    scene.box.config.workers_per_node = 1;
    scene.box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    scene.box.config.task_limit_per_node = limit;
    scene.box.config.data = &scene;
}

/* With the runtime started. */
static void scene_begin(void)
{
    assert_int_equal(numaperf_group_create(scene.box.rt, &scene.group), 0);
    scene.options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    scene.options.group = scene.group;
}

static void scene_open(const char *machine, uint64_t limit)
{
    scene_prepare(limit);
    assert_int_equal(runtime_box_open(&scene.box, machine), 0);
    scene_begin();
}

static void scene_close(void)
{
    runtime_box_close(&scene.box);
    assert_int_equal(numaperf_group_destroy(scene.group), 0);
    assert_int_equal(atomic_load(&scene.faults), 0);
}

static void member(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)atomic_fetch_add((atomic_int *)arg, 1);
}

/* A cancelled member is told with what its spawner gave, not with what the library made of it. */
static void member_cancelled(numaperf_task_fn fn, void *arg, void *data)
{
    if (fn != member || arg != &scene.ran || data != &scene)
        (void)atomic_fetch_add(&scene.faults, 1);
    (void)atomic_fetch_add(&scene.cancelled, 1);
}

/* Hold worker 0 with a task of no group. */
static void hold(void)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    int entered = atomic_load(&scene.gate.entered);
    atomic_store(&scene.gate.open, false);
    assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &options, runtime_gate_task, &scene.gate),
                     0);
    assert_true(runtime_reaches(&scene.gate.entered, entered + 1));
}

static void let_go(void)
{
    atomic_store(&scene.gate.open, true);
}

static int spawn_members(int count)
{
    int rc = 0;
    for (int i = 0; i < count && rc == 0; i++)
        rc = numaperf_rt_spawn_with(scene.box.rt, &scene.options, member, &scene.ran);
    return rc;
}

/* On worker 0, and wait for it. */
static void run_nothing(void)
{
    hold();
    let_go();
    assert_true(runtime_reaches(&scene.gate.left, atomic_load(&scene.gate.entered)));
}

/* ---- wait ---- */

static void wait_returns_when_all_members_have_run(void **state)
{
    (void)state;
    scene_open("numa:2 pu:1", 0);
    assert_int_equal(numaperf_group_wait(scene.group, 0), 0); /* nothing to wait for */
    for (int round = 1; round <= 50; round++) {
        for (int i = 0; i < 2; i++) {
            scene.options.worker = i;
            assert_int_equal(spawn_members(50), 0);
        }
        assert_int_equal(numaperf_group_wait(scene.group, UINT64_MAX), 0);
        assert_int_equal(atomic_load(&scene.ran), round * 100);
        assert_int_equal(numaperf_group_count(scene.group), 0);
    }
    scene_close();
}

static void wait_gives_up_in_time_and_can_be_repeated(void **state)
{
    (void)state;
    scene_open("numa:1 pu:1", 0);
    hold();
    assert_int_equal(spawn_members(3), 0);
    assert_int_equal(numaperf_group_count(scene.group), 3);
    assert_int_equal(numaperf_group_wait(scene.group, 0), -ETIMEDOUT);
    uint64_t before_ns = test_now_ns();
    assert_int_equal(numaperf_group_wait(scene.group, 20000000), -ETIMEDOUT);
    assert_int_equal(numaperf_last_error()->code, -ETIMEDOUT);
    assert_true(test_now_ns() - before_ns >= 20000000);
    assert_int_equal(numaperf_group_destroy(scene.group), -EBUSY);
    let_go();
    assert_int_equal(numaperf_group_wait(scene.group, test_limit_ns(10)), 0);
    assert_int_equal(atomic_load(&scene.ran), 3);
    scene_close();
}

static void waiting_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    if (numaperf_group_wait(scene.group, UINT64_MAX) != -EDEADLK)
        (void)atomic_fetch_add(&scene.faults, 1);
    (void)atomic_fetch_add(&scene.done, 1);
}

static void wait_on_a_worker_is_refused(void **state)
{
    (void)state;
    scene_open("numa:1 pu:1", 0);
    assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &scene.options, waiting_task, NULL), 0);
    assert_int_equal(numaperf_group_wait(scene.group, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&scene.done), 1);
    scene_close();
}

static void *waiter_main(void *arg)
{
    (void)arg;
    if (numaperf_group_wait(scene.group, UINT64_MAX) < 0)
        (void)atomic_fetch_add(&scene.faults, 1);
    if (atomic_load(&scene.ran) != 100)
        (void)atomic_fetch_add(&scene.faults, 1);
    return NULL;
}

static void several_threads_wait_for_one_group(void **state)
{
    (void)state;
    pthread_t threads[4];
    scene_open("numa:1 pu:1", 0);
    hold();
    assert_int_equal(spawn_members(100), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, waiter_main, NULL), 0);
    test_sleep_ms(5);
    let_go();
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    scene_close();
}

#define TREE_DEPTH 10

/* A node of a binary tree, as many levels above the leaves as `arg` says. */
static void tree_task(numaperf_worker_t *worker, void *arg)
{
    uintptr_t level = (uintptr_t)arg;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.group = scene.group;
    (void)atomic_fetch_add(&scene.ran, 1);
    for (int i = 0; level > 0 && i < 2; i++) {
        if (numaperf_rt_spawn_with(numaperf_worker_rt(worker), &options, tree_task,
                                   (void *)(level - 1)) < 0)
            (void)atomic_fetch_add(&scene.faults, 1);
    }
}

static void members_spawned_by_members_are_waited_for(void **state)
{
    (void)state;
    scene_open("numa:2 pu:2", 0);
    for (int round = 1; round <= 5; round++) {
        assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &scene.options, tree_task,
                                                (void *)(uintptr_t)TREE_DEPTH),
                         0);
        assert_int_equal(numaperf_group_wait(scene.group, UINT64_MAX), 0);
        assert_int_equal(atomic_load(&scene.ran), round * ((2 << TREE_DEPTH) - 1));
    }
    scene_close();
}

/* ---- members ---- */

static void node_task(numaperf_worker_t *worker, void *arg)
{
    if (numaperf_worker_node(worker) != *(const int *)arg)
        (void)atomic_fetch_add(&scene.faults, 1);
    (void)atomic_fetch_add(&scene.ran, 1);
}

/* On every node of the machine, spawned by this thread and delayed. */
static void check_members_on_nodes(void)
{
    static int nodes[NUMAPERF_NODE_MAX];
    numaperf_nodemask_t mask;
    int spawned = 0;
    assert_int_equal(numaperf_rt_nodes(scene.box.rt, &mask), 0);
    scene.options.flags = NUMAPERF_SPAWN_HAS_NODE;
    for (int node = numaperf_nodemask_next(&mask, -1); node >= 0;
         node = numaperf_nodemask_next(&mask, node)) {
        nodes[node] = node;
        scene.options.node = node;
        for (uint64_t i = 0; i < 100; i++, spawned += 2) {
            assert_int_equal(
                numaperf_rt_spawn_with(scene.box.rt, &scene.options, node_task, &nodes[node]), 0);
            assert_int_equal(numaperf_rt_spawn_after(scene.box.rt, &scene.options, i * 10000,
                                                     node_task, &nodes[node], NULL),
                             0);
        }
    }
    assert_int_equal(numaperf_group_wait(scene.group, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&scene.ran), spawned);
}

static void members_run_on_the_node_they_name(void **state)
{
    (void)state;
    scene_open("numa:3 pu:1", 0);
    check_members_on_nodes();
    scene_close();
    scene_open(NULL, 0);
    check_members_on_nodes();
    scene_close();
}

static void members_run_on_the_node_they_name_in_hard_mode(void **state)
{
    (void)state;
    scene_prepare(0);
    scene.box.config.mode = NUMAPERF_MODE_HARD;
    scene.box.config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    if (runtime_box_open(&scene.box, NULL) < 0) {
        print_message("skipped: hard mode is not to be had here: %s\n",
                      numaperf_last_error()->reason);
        skip();
    }
    scene_begin();
    check_members_on_nodes();
    scene_close();
}

static void batches_are_members_all_or_none(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static void *args[COUNT];
    scene_open("numa:1 pu:1", COUNT);
    for (int i = 0; i < COUNT; i++)
        args[i] = &scene.ran;
    hold();
    assert_int_equal(
        numaperf_rt_spawn_batch(scene.box.rt, &scene.options, member, args, COUNT - 10), 0);
    assert_int_equal(numaperf_group_count(scene.group), COUNT - 10);
    assert_int_equal(numaperf_rt_spawn_batch(scene.box.rt, &scene.options, member, args, 11),
                     -EAGAIN);
    assert_int_equal(numaperf_group_count(scene.group), COUNT - 10);
    assert_int_equal(numaperf_rt_spawn_batch(scene.box.rt, &scene.options, member, args, 10), 0);
    let_go();
    assert_int_equal(numaperf_group_wait(scene.group, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&scene.ran), COUNT);
    scene_close();
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    numaperf_group_t *other = NULL;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    scene_open("numa:1 pu:1", 0);
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    assert_int_equal(numaperf_group_create(box.rt, &other), 0);
    numaperf_group_t *own = scene.options.group;
    scene.options.group = other;
    assert_int_equal(spawn_members(1), -EINVAL);
    assert_int_equal(numaperf_group_count(other), 0);
    scene.options.group = own;
    assert_int_equal(numaperf_group_on_done(own, &scene.options, member, &scene.ran), -EINVAL);
    assert_int_equal(numaperf_group_on_done(own, NULL, NULL, &scene.ran), -EINVAL);
    assert_int_equal(numaperf_group_on_done(NULL, NULL, member, &scene.ran), -EINVAL);
    assert_int_equal(numaperf_group_create(NULL, &other), -EINVAL);
    assert_int_equal(numaperf_group_create(box.rt, NULL), -EINVAL);
    assert_int_equal(numaperf_group_wait(NULL, 0), -EINVAL);
    assert_int_equal(numaperf_group_cancel(NULL), -EINVAL);
    assert_int_equal(numaperf_group_destroy(NULL), 0);
    assert_int_equal(numaperf_group_destroy(other), 0);
    runtime_box_close(&box);
    scene_close();
}

/* ---- cancel ---- */

static void cancel_spares_what_runs_and_cancels_the_rest_once(void **state)
{
    (void)state;
    scene_open("numa:1 pu:1", 0);
    assert_int_equal(
        numaperf_rt_spawn_with(scene.box.rt, &scene.options, runtime_gate_task, &scene.gate), 0);
    assert_true(runtime_reaches(&scene.gate.entered, 1));
    scene.options.on_cancel = member_cancelled;
    assert_int_equal(spawn_members(100), 0);
    assert_int_equal(numaperf_group_cancel(scene.group), 0);
    assert_int_equal(numaperf_group_cancel(scene.group), 0);
    assert_int_equal(spawn_members(1), 0); /* cancelled until it is done */
    let_go();
    assert_int_equal(numaperf_group_wait(scene.group, UINT64_MAX), 101);
    assert_int_equal(atomic_load(&scene.cancelled), 101);
    assert_int_equal(atomic_load(&scene.ran), 0);
    assert_int_equal(atomic_load(&scene.gate.left), 1);
    run_nothing(); /* what was counted after the last member left is to be seen */
    numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
    assert_int_equal(numaperf_rt_worker_stats(scene.box.rt, 0, &stats), 0);
    assert_int_equal(stats.cancelled, 101);

    assert_int_equal(spawn_members(10), 0); /* and as new after that */
    assert_int_equal(numaperf_group_wait(scene.group, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&scene.ran), 10);
    assert_int_equal(numaperf_group_cancel(scene.group), 0); /* of none: nothing is left of it */
    assert_int_equal(spawn_members(10), 0);
    assert_int_equal(numaperf_group_wait(scene.group, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&scene.ran), 20);
    scene_close();
}

static void cancel_ends_a_tree_that_would_grow_for_ever(void **state)
{
    (void)state;
    scene_open("numa:2 pu:2", 0);
    assert_int_equal(
        numaperf_rt_spawn_with(scene.box.rt, &scene.options, tree_task, (void *)(uintptr_t)60), 0);
    while (atomic_load(&scene.ran) < 100)
        test_sleep_ms(1);
    assert_int_equal(numaperf_group_cancel(scene.group), 0);
    assert_true(numaperf_group_wait(scene.group, test_limit_ns(60)) > 0);
    atomic_store(&scene.faults, 0); /* spawns beyond the node's limit are refused: as it should */
    scene_close();
}

static void cancel_reaches_members_that_wait_for_their_time(void **state)
{
    (void)state;
    scene_open("numa:2 pu:1", 0);
    scene.options.on_cancel = member_cancelled;
    numaperf_timer_t *timer = NULL;
    for (int i = 0; i < 10; i++) {
        scene.options.worker = i % 2;
        assert_int_equal(numaperf_rt_spawn_after(scene.box.rt, &scene.options, HOUR_NS, member,
                                                 &scene.ran, i == 0 ? &timer : NULL),
                         0);
    }
    assert_int_equal(numaperf_group_wait(scene.group, 1000000), -ETIMEDOUT);
    assert_int_equal(numaperf_group_cancel(scene.group), 0);
    assert_int_equal(numaperf_group_wait(scene.group, test_limit_ns(10)), 10);
    assert_int_equal(atomic_load(&scene.cancelled), 10);
    assert_int_equal(numaperf_timer_cancel(timer), 0);
    scene_close();
}

/* Its worker has looked for such long before. */
static void cancelled_group_has_nothing_wait_for_its_time(void **state)
{
    (void)state;
    scene_open("numa:2 pu:1", 0);
    scene.options.on_cancel = member_cancelled;
    assert_int_equal(
        numaperf_rt_spawn_with(scene.box.rt, &scene.options, runtime_gate_task, &scene.gate), 0);
    scene.options.worker = 1;
    assert_int_equal(
        numaperf_rt_spawn_after(scene.box.rt, &scene.options, HOUR_NS, member, &scene.ran, NULL),
        0);
    assert_true(runtime_reaches(&scene.gate.entered, 1));
    assert_int_equal(numaperf_group_cancel(scene.group), 0);
    assert_true(runtime_reaches(&scene.cancelled, 1));
    assert_int_equal(
        numaperf_rt_spawn_after(scene.box.rt, &scene.options, HOUR_NS, member, &scene.ran, NULL),
        0);
    assert_true(runtime_reaches(&scene.cancelled, 2));
    let_go();
    assert_int_equal(numaperf_group_wait(scene.group, test_limit_ns(10)), 2);
    scene_close();
}

static void member_cancelled_by_its_handle_leaves_its_group(void **state)
{
    (void)state;
    scene_open("numa:1 pu:1", 0);
    scene.options.on_cancel = member_cancelled;
    numaperf_timer_t *timer = NULL;
    for (int i = 1; i <= 20; i++) {
        assert_int_equal(numaperf_rt_spawn_after(scene.box.rt, &scene.options, HOUR_NS, member,
                                                 &scene.ran, &timer),
                         0);
        if (i % 2 == 0)
            test_sleep_ms(1); /* it is in the wheel by then, mostly */
        assert_int_equal(numaperf_timer_cancel(timer), 1);
        assert_int_equal(atomic_load(&scene.cancelled), i);
        assert_int_equal(numaperf_group_wait(scene.group, test_limit_ns(10)), 1);
    }
    scene_close();
}

/* ---- the end ---- */

static void done_task(numaperf_worker_t *worker, void *arg)
{
    if (numaperf_worker_index(worker) != *(const uint32_t *)arg)
        (void)atomic_fetch_add(&scene.faults, 1);
    if (atomic_load(&scene.ran) != 50)
        (void)atomic_fetch_add(&scene.faults, 1);
    (void)atomic_fetch_add(&scene.done, 1);
}

static void on_done_runs_once_where_it_was_asked_for(void **state)
{
    (void)state;
    static const uint32_t first = 0;
    static const uint32_t second = 1;
    scene_open("numa:2 pu:1", 0);
    hold();
    assert_int_equal(spawn_members(50), 0);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    assert_int_equal(numaperf_group_on_done(scene.group, &options, done_task, (void *)&first), 0);
    options.worker = 1;
    assert_int_equal(numaperf_group_on_done(scene.group, &options, done_task, (void *)&second), 0);
    test_sleep_ms(5);
    assert_int_equal(atomic_load(&scene.done), 0);
    let_go();
    assert_true(runtime_reaches(&scene.done, 2));
    assert_int_equal(numaperf_group_on_done(scene.group, &options, done_task, (void *)&second), 0);
    assert_true(runtime_reaches(&scene.done, 3)); /* at once, for it is done */
    scene_close();
}

/* A group may be freed by who is told that it is done. */
static void freeing_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    if (numaperf_group_destroy(arg) < 0)
        (void)atomic_fetch_add(&scene.faults, 1);
    (void)atomic_fetch_add(&scene.done, 1);
}

static void on_done_may_free_the_group(void **state)
{
    (void)state;
    scene_open("numa:2 pu:1", 0);
    numaperf_group_t *own = scene.group;
    for (int i = 1; i <= 200; i++) {
        numaperf_group_t *group = NULL;
        assert_int_equal(numaperf_group_create(scene.box.rt, &group), 0);
        scene.options.group = group;
        scene.options.worker = i % 2;
        assert_int_equal(spawn_members(3), 0);
        assert_int_equal(numaperf_group_on_done(group, NULL, freeing_task, group), 0);
    }
    assert_true(runtime_reaches(&scene.done, 200));
    scene.group = own;
    scene_close();
}

static void on_done_waits_for_room_on_a_full_node(void **state)
{
    (void)state;
    scene_open("numa:2 pu:1", 2);
    hold(); /* worker 0 */
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    scene.options.worker = 1;
    assert_int_equal(
        numaperf_rt_spawn_after(scene.box.rt, &scene.options, 20000000, member, &scene.ran, NULL),
        0);
    assert_int_equal(numaperf_group_on_done(scene.group, &options, member, &scene.done), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &options, member, &scene.ran), 0);
    assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &options, member, &scene.ran), -EAGAIN);
    assert_int_equal(numaperf_group_wait(scene.group, test_limit_ns(10)), 0);
    test_sleep_ms(5);
    assert_int_equal(atomic_load(&scene.done), 0);
    let_go();
    assert_true(runtime_reaches(&scene.done, 1));
    scene_close();
}

/* ---- stop ---- */

static void stop_cancels_members_and_the_wait_tells_how_many(void **state)
{
    (void)state;
    scene_open("numa:1 pu:1", 0);
    scene.options.on_cancel = member_cancelled;
    hold();
    assert_int_equal(spawn_members(30), 0);
    for (int i = 0; i < 12; i++)
        assert_int_equal(numaperf_rt_spawn_after(scene.box.rt, &scene.options, HOUR_NS, member,
                                                 &scene.ran, NULL),
                         0);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.on_cancel = member_cancelled;
    assert_int_equal(numaperf_group_on_done(scene.group, &options, member, &scene.ran), 0);
    assert_int_equal(numaperf_rt_stop(scene.box.rt, 0), -ETIMEDOUT);
    let_go();
    assert_int_equal(numaperf_rt_stop(scene.box.rt, UINT64_MAX), 0);
    assert_int_equal(numaperf_group_wait(scene.group, 0), 42);
    assert_int_equal(atomic_load(&scene.cancelled), 43);
    assert_int_equal(atomic_load(&scene.ran), 0);
    assert_int_equal(spawn_members(1), NUMAPERF_E_STOPPING);
    assert_int_equal(numaperf_group_on_done(scene.group, &options, member, &scene.ran),
                     NUMAPERF_E_STOPPING);
    assert_int_equal(numaperf_group_count(scene.group), 0);
    scene_close();
}

static void drain_runs_members_and_what_waits_for_them(void **state)
{
    (void)state;
    scene_open("numa:2 pu:1", 0);
    hold();
    assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &scene.options, tree_task,
                                            (void *)(uintptr_t)TREE_DEPTH),
                     0);
    assert_int_equal(numaperf_group_on_done(scene.group, NULL, member, &scene.done), 0);
    let_go();
    assert_int_equal(numaperf_rt_stop(scene.box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&scene.ran), (2 << TREE_DEPTH) - 1);
    assert_int_equal(atomic_load(&scene.done), 1);
    assert_int_equal(numaperf_group_wait(scene.group, 0), 0);
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wait_returns_when_all_members_have_run),
        cmocka_unit_test(wait_gives_up_in_time_and_can_be_repeated),
        cmocka_unit_test(wait_on_a_worker_is_refused),
        cmocka_unit_test(several_threads_wait_for_one_group),
        cmocka_unit_test(members_spawned_by_members_are_waited_for),
        cmocka_unit_test(members_run_on_the_node_they_name),
        cmocka_unit_test(members_run_on_the_node_they_name_in_hard_mode),
        cmocka_unit_test(batches_are_members_all_or_none),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(cancel_spares_what_runs_and_cancels_the_rest_once),
        cmocka_unit_test(cancel_ends_a_tree_that_would_grow_for_ever),
        cmocka_unit_test(cancel_reaches_members_that_wait_for_their_time),
        cmocka_unit_test(cancelled_group_has_nothing_wait_for_its_time),
        cmocka_unit_test(member_cancelled_by_its_handle_leaves_its_group),
        cmocka_unit_test(on_done_runs_once_where_it_was_asked_for),
        cmocka_unit_test(on_done_may_free_the_group),
        cmocka_unit_test(on_done_waits_for_room_on_a_full_node),
        cmocka_unit_test(stop_cancels_members_and_the_wait_tells_how_many),
        cmocka_unit_test(drain_runs_members_and_what_waits_for_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
