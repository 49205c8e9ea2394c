/* SPDX-License-Identifier: MIT */
/*
 * Tasks for later: where they should run and not early; run or cancelled, exactly once; limits; and
 * what a stop makes of them.
 */
#include <numaperf/error.h>
#include <numaperf/timer.h>

#include "support/timer_scene.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* ---- tasks for later ---- */

struct later {
    uint64_t due_ns;
    int node;   /* -1: any */
    int worker; /* -1: any */
};

static void later_task(numaperf_worker_t *worker, void *arg)
{
    const struct later *later = arg;
    fault_unless(test_now_ns() >= later->due_ns, "not early");
    fault_unless(later->node < 0 || numaperf_worker_node(worker) == later->node, "node");
    fault_unless(later->worker < 0 || (int)numaperf_worker_index(worker) == later->worker,
                 "worker");
    (void)atomic_fetch_add(&scene.expired, 1);
}

/* The i-th of a mix of targets and delays. */
static void spawn_later(struct later *later, int i, numaperf_timer_t **out_timer)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    uint64_t delay_ns = (uint64_t)(i * 7919 % 1000) * 20000;
    later->node = -1;
    later->worker = -1;
    if (i % 3 == 0) {
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = later->worker = i % 2;
    } else if (i % 3 == 1) {
        options.flags = NUMAPERF_SPAWN_HAS_NODE | NUMAPERF_SPAWN_NEVER_STEAL;
        options.node = later->node = i % 2;
    }
    later->due_ns = test_now_ns() + delay_ns;
    int rc =
        numaperf_rt_spawn_after(scene.box.rt, &options, delay_ns, later_task, later, out_timer);
    fault_unless(rc == 0, "spawn_after");
}

#define LATERS 600

static void spawn_many_later(numaperf_worker_t *worker, void *arg)
{
    struct later *laters = arg;
    (void)worker;
    for (int i = 0; i < LATERS; i++)
        spawn_later(&laters[i], i, NULL);
    (void)atomic_fetch_add(&scene.done, 1);
}

static void tasks_for_later_run_where_they_should_and_not_early(void **state)
{
    (void)state;
    static struct later outside[LATERS];
    static struct later inside[LATERS];
    scene_open("numa:2 pu:1", NUMAPERF_IO_AUTO);
    for (int i = 0; i < LATERS; i++)
        spawn_later(&outside[i], i, NULL);
    run_on(1, spawn_many_later, inside);
    assert_true(runtime_reaches(&scene.expired, 2 * LATERS));
    scene_close();
    assert_int_equal(atomic_load(&scene.cancelled), 0);
}

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    numaperf_timer_t *timer = NULL;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    scene_open("numa:1 pu:1", NUMAPERF_IO_AUTO);
    assert_int_equal(numaperf_rt_spawn_after(NULL, NULL, 1, later_task, NULL, &timer), -EINVAL);
    assert_int_equal(numaperf_rt_spawn_after(scene.box.rt, NULL, 1, NULL, NULL, &timer), -EINVAL);
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = 1;
    assert_int_equal(numaperf_rt_spawn_after(scene.box.rt, &options, 1, later_task, NULL, &timer),
                     -EINVAL);
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    options.worker = 0;
    options.node = 77;
    assert_int_equal(numaperf_rt_spawn_after(scene.box.rt, &options, 1, later_task, NULL, &timer),
                     NUMAPERF_E_NO_NODE);
    assert_null(timer);
    scene_close();
}

static void as_many_may_wait_as_the_limit_allows_tasks(void **state)
{
    (void)state;
    scene_reset(NUMAPERF_IO_AUTO);
    scene.box.config.task_limit_per_node = 500;
    assert_int_equal(runtime_box_open(&scene.box, "numa:1 pu:1"), 0);
    int accepted = 0;
    int rc = 0;
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (accepted < 10000 && test_now_ns() < limit_ns) {
        rc = numaperf_rt_spawn_after(scene.box.rt, NULL, HOUR_NS, never_expires, NULL, NULL);
        accepted += rc == 0;
        if (rc == -EAGAIN && accepted >= 500)
            break;
    }
    assert_int_equal(rc, -EAGAIN);
    assert_in_range(accepted, 500, 1000);
    scene_close();
    assert_int_equal(atomic_load(&scene.cancelled), accepted);
}

static void what_is_due_on_a_full_node_waits_for_room(void **state)
{
    (void)state;
    struct runtime_gate gate = {.entered = 0};
    atomic_int ran = 0;
    scene_reset(NUMAPERF_IO_AUTO);
    scene.box.config.task_limit_per_node = 3;
    scene.box.config.workers_per_node = 2;
    assert_int_equal(runtime_box_open(&scene.box, "numa:1 pu:2"), 0);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &options, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    for (int i = 0; i < 3; i++)
        assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &options, runtime_count_task, &ran),
                         0);
    options.worker = 1;
    struct later later = {.node = 0, .worker = -1};
    struct timespec pause = {.tv_nsec = 1000000};
    int rc = -EAGAIN; /* it is sent to worker 1 as a task, so there has to be room for that */
    for (int i = 0; i < 10 && rc == -EAGAIN; i++) {
        rc = numaperf_rt_spawn_after(scene.box.rt, &options, 10 * MS_NS, later_task, &later, NULL);
        (void)nanosleep(&pause, NULL);
    }
    assert_int_equal(rc, -EAGAIN);
    atomic_store(&gate.open, true);
    assert_true(runtime_reaches(&ran, 3));

    /* And when it is full after that. */
    assert_int_equal(
        numaperf_rt_spawn_after(scene.box.rt, &options, 30 * MS_NS, later_task, &later, NULL), 0);
    test_sleep_ms(5);
    options.worker = 0;
    atomic_store(&gate.open, false);
    assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &options, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 2));
    for (int i = 0; i < 3; i++)
        assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &options, runtime_count_task, &ran),
                         0);
    test_sleep_ms(50);
    int early = atomic_load(&scene.expired);
    atomic_store(&gate.open, true);
    assert_true(runtime_reaches(&scene.expired, 1));
    if (!test_is_slow()) /* else it may have been due before the node was full */
        assert_int_equal(early, 0);
    scene_close();
}

/* ---- cancel ---- */

static void cancelled_task_for_later_does_not_run(void **state)
{
    (void)state;
    static struct later laters[LATERS];
    static numaperf_timer_t *timers[LATERS];
    scene_open("numa:2 pu:1", NUMAPERF_IO_AUTO);
    for (int i = 0; i < LATERS; i++) {
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = i % 2;
        assert_int_equal(numaperf_rt_spawn_after(scene.box.rt, &options, HOUR_NS, later_task,
                                                 &laters[i], &timers[i]),
                         0);
    }
    for (int i = 0; i < LATERS; i++) {
        assert_int_equal(numaperf_timer_cancel(timers[i]), 1);
        assert_int_equal(atomic_load(&scene.cancelled), i + 1); /* before the call returns */
    }
    scene_close();
    assert_int_equal(atomic_load(&scene.expired), 0);
    assert_int_equal(atomic_load(&scene.cancelled), LATERS);
}

static void nothing_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    (void)atomic_fetch_add(&scene.done, 1);
}

/* Many more than the limit, while their worker does not look at the time: what was cancelled has
 * to be taken back. Those of even rounds have arrived in its wheel before. */
static void memory_of_cancelled_tasks_is_used_again(void **state)
{
    (void)state;
    enum { ROUNDS = 40, EACH = 500 };
    static numaperf_timer_t *timers[EACH];
    scene_reset(NUMAPERF_IO_AUTO);
    scene.box.config.task_limit_per_node = 1000;
    assert_int_equal(runtime_box_open(&scene.box, "numa:1 pu:1"), 0);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t limit_ns = test_now_ns() + test_limit_ns(5);
        for (int i = 0; i < EACH; i++) {
            int rc = -EAGAIN;
            while (rc == -EAGAIN && test_now_ns() < limit_ns)
                rc = numaperf_rt_spawn_after(scene.box.rt, NULL, HOUR_NS, never_expires, NULL,
                                             &timers[i]);
            assert_int_equal(rc, 0);
        }
        if (round % 2 == 0)
            run_on(0, nothing_task, NULL);
        for (int i = 0; i < EACH; i++)
            assert_int_equal(numaperf_timer_cancel(timers[i]), 1);
    }
    scene_close();
    assert_int_equal(atomic_load(&scene.cancelled), ROUNDS * EACH);
}

struct own_handle {
    numaperf_timer_t *timer;
    atomic_bool is_set;
};

static void cancel_own(numaperf_worker_t *worker, void *arg)
{
    struct own_handle *own = arg;
    (void)worker;
    while (!atomic_load(&own->is_set))
        ;
    fault_unless(numaperf_timer_cancel(own->timer) == 0, "it runs already");
    (void)atomic_fetch_add(&scene.expired, 1);
}

static void cancel_inside(numaperf_worker_t *worker, void *arg)
{
    numaperf_timer_t *timer = NULL;
    (void)arg;
    for (int i = 1; i <= 100; i++) {
        fault_unless(numaperf_rt_spawn_after(numaperf_worker_rt(worker), NULL, HOUR_NS, later_task,
                                             NULL, &timer) == 0,
                     "spawn_after");
        fault_unless(numaperf_timer_cancel(timer) == 1, "cancel");
        fault_unless(atomic_load(&scene.cancelled) == i, "told");
    }
    (void)atomic_fetch_add(&scene.done, 1);
}

static void cancel_works_on_the_worker_and_in_the_task_itself(void **state)
{
    (void)state;
    static struct own_handle owns[100];
    scene_open("numa:1 pu:1", NUMAPERF_IO_AUTO);
    run_on(0, cancel_inside, NULL);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(
            numaperf_rt_spawn_after(scene.box.rt, NULL, 1000, cancel_own, &owns[i], &owns[i].timer),
            0);
        atomic_store(&owns[i].is_set, true);
    }
    assert_true(runtime_reaches(&scene.expired, 100));
    scene_close();
    assert_int_equal(atomic_load(&scene.cancelled), 100);
}

/* ---- stop ---- */

static void stop_does_not_wait_for_what_is_not_due(void **state)
{
    (void)state;
    static const uint64_t timeouts_ns[] = {0, UINT64_MAX};
    for (size_t t = 0; t < 2; t++) {
        numaperf_timer_t *timers[3];
        scene_open("numa:2 pu:1", NUMAPERF_IO_AUTO);
        for (int i = 0; i < 300; i++)
            assert_int_equal(
                numaperf_rt_spawn_after(scene.box.rt, NULL, i % 2 == 0 ? HOUR_NS : UINT64_MAX,
                                        never_expires, NULL, i < 3 ? &timers[i] : NULL),
                0);
        assert_int_equal(numaperf_timer_cancel(timers[0]), 1);
        assert_int_equal(numaperf_rt_stop(scene.box.rt, timeouts_ns[t]), 0);
        assert_int_equal(atomic_load(&scene.cancelled), 300);
        assert_int_equal(numaperf_timer_cancel(timers[1]), 0);
        assert_int_equal(
            numaperf_rt_spawn_after(scene.box.rt, NULL, 1, never_expires, NULL, &timers[0]),
            NUMAPERF_E_STOPPING);
        scene_close(); /* with a handle that nobody gave back */
        assert_int_equal(atomic_load(&scene.cancelled), 300);
    }
}

static int worker_begins_in_vain(numaperf_worker_t *worker, void *data)
{
    (void)data;
    int rc =
        numaperf_rt_spawn_after(numaperf_worker_rt(worker), NULL, 0, never_expires, NULL, NULL);
    return rc == 0 && numaperf_worker_index(worker) == 1 ? -ECANCELED : rc;
}

static void start_that_fails_cancels_tasks_for_later(void **state)
{
    (void)state;
    scene_reset(NUMAPERF_IO_AUTO);
    scene.box.config.on_worker_start = worker_begins_in_vain;
    assert_int_equal(runtime_box_open(&scene.box, "numa:2 pu:1"), -ECANCELED);
    assert_int_equal(atomic_load(&scene.cancelled), 2);
    assert_int_equal(atomic_load(&scene.faults), 0);
}

static void stuck_worker_cancels_its_tasks_for_later_when_it_is_free(void **state)
{
    (void)state;
    struct runtime_gate gate = {.entered = 0};
    scene_open("numa:1 pu:1", NUMAPERF_IO_AUTO);
    assert_int_equal(
        numaperf_rt_spawn_after(scene.box.rt, NULL, HOUR_NS, never_expires, NULL, NULL), 0);
    test_sleep_ms(5); /* it is in the wheel by then, mostly */
    assert_int_equal(numaperf_rt_spawn(scene.box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    assert_int_equal(
        numaperf_rt_spawn_after(scene.box.rt, NULL, HOUR_NS, never_expires, NULL, NULL), 0);
    assert_int_equal(numaperf_rt_stop(scene.box.rt, 1000000), -ETIMEDOUT);
    atomic_store(&gate.open, true);
    assert_int_equal(numaperf_rt_stop(scene.box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&scene.cancelled), 2);
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_for_later_run_where_they_should_and_not_early),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(as_many_may_wait_as_the_limit_allows_tasks),
        cmocka_unit_test(what_is_due_on_a_full_node_waits_for_room),
        cmocka_unit_test(cancelled_task_for_later_does_not_run),
        cmocka_unit_test(memory_of_cancelled_tasks_is_used_again),
        cmocka_unit_test(cancel_works_on_the_worker_and_in_the_task_itself),
        cmocka_unit_test(stop_does_not_wait_for_what_is_not_due),
        cmocka_unit_test(start_that_fails_cancels_tasks_for_later),
        cmocka_unit_test(stuck_worker_cancels_its_tasks_for_later_when_it_is_free),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
