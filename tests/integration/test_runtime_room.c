/* SPDX-License-Identifier: MIT */
/*
 * on_room: who was refused is told, once, when there really is room; nobody else is told anything;
 * and no notice is lost, whoever sleeps.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>
#include <numaperf/timer.h>

#include "support/clock.h"
#include "support/runtimes.h"
#include "support/stress.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define LIMIT 1000 /* many times what a worker runs between two looks at I/O */
#define ONE_WORKER "numa:1 pu:1"
#define PRODUCERS_MAX 4

/* A runtime with a limit, a gate and what on_room found. */
static struct {
    struct runtime_box box;
    struct runtime_gate gate;
    atomic_int ran;
    atomic_int cancelled;
    atomic_int notices;
    atomic_int ran_at_notice; /* tasks that had run when the last notice came */
    atomic_int faults;        /* notices that came to the wrong place */
    int32_t node;             /* where notices are due */
    int refills;              /* how often on_room fills the node again */
    uint64_t delay_ns_max;    /* between what makes a spawn be refused and the note of it */
} field;

struct numaperf__node;
int __real_numaperf__room_refuse(struct numaperf__node *node, uint64_t count);
int __wrap_numaperf__room_refuse(struct numaperf__node *node, uint64_t count);

/* Refusals come late, so that they meet workers at every step of their way to sleep. */
int __wrap_numaperf__room_refuse(struct numaperf__node *node, uint64_t count)
{
    if (field.delay_ns_max > 0) {
        uint64_t now_ns = test_now_ns();
        uint64_t random = now_ns;
        uint64_t until_ns = now_ns + stress_below(&random, field.delay_ns_max);
        while (test_now_ns() < until_ns)
            ;
    }
    return __real_numaperf__room_refuse(node, count);
}

static int spawn_one(void)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    options.node = field.node;
    return numaperf_rt_spawn_with(field.box.rt, &options, runtime_count_task, &field.ran);
}

/* Spawn until it is refused; how many were accepted. */
static int fill_node(void)
{
    int count = 0;
    int rc = 0;
    while ((rc = spawn_one()) == 0)
        count++;
    if (rc != -EAGAIN)
        (void)atomic_fetch_add(&field.faults, 1);
    return count;
}

static void on_room(numaperf_worker_t *worker, int node, void *data)
{
    bool right = node == field.node && numaperf_worker_node(worker) == node &&
                 numaperf_worker_current() == worker && data == &field;
    if (!right)
        (void)atomic_fetch_add(&field.faults, 1);
    atomic_store(&field.ran_at_notice, atomic_load(&field.ran));
    if (field.refills > 0) {
        field.refills--;
        if (fill_node() == 0) /* it was told that there is room */
            (void)atomic_fetch_add(&field.faults, 1);
    }
    (void)atomic_fetch_add(&field.notices, 1);
}

static void field_open_with(const char *machine, uint64_t limit, int32_t node, uint64_t spin_ns_max)
{
    atomic_store(&field.gate.entered, 0);
    atomic_store(&field.gate.open, false);
    atomic_store(&field.gate.left, 0);
    atomic_store(&field.ran, 0);
    atomic_store(&field.cancelled, 0);
    atomic_store(&field.notices, 0);
    atomic_store(&field.ran_at_notice, 0);
    atomic_store(&field.faults, 0);
    field.node = node;
    field.refills = 0;
    field.delay_ns_max = 0;
    field.box.config = (numaperf_rt_config_t)NUMAPERF_RT_CONFIG_INIT;
    /* In a flood thieves take part. */
    field.box.config.steal_policy =
        spin_ns_max != 0 ? NUMAPERF_STEAL_ANY : NUMAPERF_STEAL_LOCAL_ONLY;
    field.box.config.spin_ns_max = spin_ns_max;
    field.box.config.task_limit_per_node = limit;
    field.box.config.on_room = on_room;
    field.box.config.on_task_cancel = runtime_count_cancel;
    field.box.config.data = &field;
    assert_int_equal(runtime_box_open(&field.box, machine), 0);
}

static void field_open(const char *machine, uint64_t limit, int32_t node)
{
    field_open_with(machine, limit, node, 0);
}

static void field_close(void)
{
    runtime_box_close(&field.box);
    assert_int_equal(atomic_load(&field.faults), 0);
}

/* Have worker `index` do nothing until the gate opens. */
static void hold_worker(int32_t index)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = index;
    assert_int_equal(numaperf_rt_spawn_with(field.box.rt, &options, runtime_gate_task, &field.gate),
                     0);
    assert_true(runtime_reaches(&field.gate.entered, 1));
}

/* Nothing comes that is not due: wait for what would bring it. */
static void assert_notices_stay(int wanted)
{
    test_sleep_ms(50);
    assert_int_equal(atomic_load(&field.notices), wanted);
}

static void refused_spawn_is_told_once_there_is_room(void **state)
{
    (void)state;
    field_open(ONE_WORKER, LIMIT, 0);
    hold_worker(0);
    assert_int_equal(fill_node(), LIMIT);
    assert_notices_stay(0); /* there is none while the worker is held */
    atomic_store(&field.gate.open, true);
    assert_true(runtime_reaches(&field.notices, 1));
    assert_true(atomic_load(&field.ran_at_notice) > LIMIT / 4);
    assert_true(runtime_reaches(&field.ran, LIMIT));
    assert_notices_stay(1);
    field_close();
}

static void many_refusals_are_one_notice(void **state)
{
    (void)state;
    field_open(ONE_WORKER, LIMIT, 0);
    hold_worker(0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(fill_node(), i == 0 ? LIMIT : 0);
    atomic_store(&field.gate.open, true);
    assert_true(runtime_reaches(&field.ran, LIMIT));
    assert_true(runtime_reaches(&field.notices, 1));
    assert_notices_stay(1);
    field_close();
}

static void nobody_is_told_who_was_not_refused(void **state)
{
    (void)state;
    field_open(ONE_WORKER, LIMIT, 0);
    hold_worker(0);
    for (int i = 0; i < LIMIT; i++)
        assert_int_equal(spawn_one(), 0);
    atomic_store(&field.gate.open, true);
    assert_true(runtime_reaches(&field.ran, LIMIT));
    assert_notices_stay(0);
    field_close();
}

static void limit_of_one_is_told_of_every_time(void **state)
{
    (void)state;
    field_open(ONE_WORKER, 1, 0);
    for (int round = 1; round <= 20; round++) {
        atomic_store(&field.gate.entered, 0);
        atomic_store(&field.gate.open, false);
        hold_worker(0);
        assert_int_equal(fill_node(), 1);
        atomic_store(&field.gate.open, true);
        assert_true(runtime_reaches(&field.notices, round));
        assert_true(runtime_reaches(&field.ran, round));
        assert_true(runtime_reaches(&field.gate.left, round));
    }
    field_close();
}

/* A batch is told only when there is room for it; a smaller one that was refused meanwhile first.
 */
static void notice_waits_until_the_smallest_one_fits(void **state)
{
    (void)state;
    void *args[LIMIT];
    for (int i = 0; i < LIMIT; i++)
        args[i] = &field.ran;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    for (int smaller = 0; smaller < 2; smaller++) {
        field_open(ONE_WORKER, LIMIT, 0);
        hold_worker(0);
        for (int i = 0; i < LIMIT; i++)
            assert_int_equal(spawn_one(), 0);
        assert_int_equal(
            numaperf_rt_spawn_batch(field.box.rt, &options, runtime_count_task, args, LIMIT),
            -EAGAIN);
        if (smaller == 1)
            assert_int_equal(
                numaperf_rt_spawn_batch(field.box.rt, &options, runtime_count_task, args, 3),
                -EAGAIN);
        atomic_store(&field.gate.open, true);
        assert_true(runtime_reaches(&field.notices, 1));
        if (smaller == 0)
            assert_int_equal(atomic_load(&field.ran_at_notice), LIMIT);
        else
            assert_in_range(atomic_load(&field.ran_at_notice), LIMIT / 4 + 1, LIMIT - 1);
        assert_true(runtime_reaches(&field.ran, LIMIT));
        assert_notices_stay(1);
        field_close();
    }
}

static void each_node_that_is_refused_is_told(void **state)
{
    (void)state;
    field_open("numa:2 pu:1", LIMIT, 1);
    hold_worker(1);
    for (int i = 0; i < LIMIT; i++)
        assert_int_equal(spawn_one(), 0);
    assert_int_equal(numaperf_rt_each_node(field.box.rt, runtime_count_task, &field.ran), -EAGAIN);
    atomic_store(&field.gate.open, true);
    assert_true(runtime_reaches(&field.notices, 1));
    assert_notices_stay(1);
    field_close(); /* on_room checked that it was node 1 */
}

/* Refused again inside on_room: told again; and on_room may fill the node itself. */
static void refusal_inside_the_callback_brings_the_next_one(void **state)
{
    (void)state;
    field_open(ONE_WORKER, LIMIT, 0);
    hold_worker(0);
    field.refills = 10;
    assert_int_equal(fill_node(), LIMIT);
    atomic_store(&field.gate.open, true);
    assert_true(runtime_reaches(&field.notices, 11));
    assert_notices_stay(11);
    field_close();
}

struct stopper {
    pthread_t thread;
    uint64_t timeout_ns;
    int rc;
};

static void *stopper_main(void *arg)
{
    struct stopper *stopper = arg;
    stopper->rc = numaperf_rt_stop(field.box.rt, stopper->timeout_ns);
    return NULL;
}

static void nobody_is_told_after_a_stop_has_begun(void **state)
{
    (void)state;
    static const uint64_t timeouts[] = {0, UINT64_MAX};
    for (size_t i = 0; i < 2; i++) {
        field_open(ONE_WORKER, LIMIT, 0);
        hold_worker(0);
        assert_int_equal(fill_node(), LIMIT);
        struct stopper stopper = {.timeout_ns = timeouts[i]};
        assert_int_equal(pthread_create(&stopper.thread, NULL, stopper_main, &stopper), 0);
        while (spawn_one() == -EAGAIN)
            test_sleep_ms(1);
        assert_int_equal(spawn_one(), NUMAPERF_E_STOPPING);
        atomic_store(&field.gate.open, true);
        assert_int_equal(pthread_join(stopper.thread, NULL), 0);
        field_close();
        assert_int_equal(atomic_load(&field.ran) + atomic_load(&field.cancelled), LIMIT);
        assert_int_equal(atomic_load(&field.notices), 0);
    }
}

/* On worker 1, which then watches the time for it. */
static void spawn_later_task(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    uint64_t delay_ns = test_is_slow() ? 1000000000 : 50000000;
    if (numaperf_rt_spawn_after(numaperf_worker_rt(worker), &options, delay_ns, runtime_count_task,
                                &field.ran, NULL) != 0)
        (void)atomic_fetch_add(&field.faults, 1);
    (void)atomic_fetch_add(&field.cancelled, 1); /* says that it is done */
}

/* What finds no room when it is due tries again by itself: no call of the user was refused. */
static void nobody_is_told_of_room_for_what_was_accepted(void **state)
{
    (void)state;
    field_open("numa:1 pu:2", LIMIT, 0);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = 1;
    assert_int_equal(numaperf_rt_spawn_with(field.box.rt, &options, spawn_later_task, NULL), 0);
    assert_true(runtime_reaches(&field.cancelled, 1));
    hold_worker(0);
    options.worker = 0;
    for (int i = 0; i < LIMIT; i++)
        assert_int_equal(
            numaperf_rt_spawn_with(field.box.rt, &options, runtime_count_task, &field.ran), 0);
    test_sleep_ms(test_is_slow() ? 1500 : 100);
    assert_int_equal(atomic_load(&field.ran), 0); /* it is due, and waits */
    atomic_store(&field.gate.open, true);
    assert_true(runtime_reaches(&field.ran, LIMIT + 1));
    assert_notices_stay(0);
    field_close();
}

static uint64_t cpu_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The node is full of tasks for a worker that is busy: its idle sibling can do nothing, and sleeps;
 * the busy one tells when it is through with enough of them. */
static void idle_sibling_of_a_full_worker_sleeps(void **state)
{
    (void)state;
    field_open("numa:1 pu:2", LIMIT, 0);
    hold_worker(0);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    int rc = 0;
    int count = 0;
    while ((rc = numaperf_rt_spawn_with(field.box.rt, &options, runtime_count_task, &field.ran)) ==
           0)
        count++;
    assert_int_equal(rc, -EAGAIN);
    assert_int_equal(count, LIMIT);
    assert_int_equal(fill_node(), 0);
    test_sleep_ms(50);
    uint64_t cpu_ns = cpu_now_ns();
    test_sleep_ms(300);
    cpu_ns = cpu_now_ns() - cpu_ns;
    assert_true(cpu_ns < 100000000);
    assert_int_equal(atomic_load(&field.notices), 0);
    atomic_store(&field.gate.open, true);
    assert_true(runtime_reaches(&field.notices, 1));
    assert_true(runtime_reaches(&field.ran, LIMIT));
    assert_notices_stay(1);
    field_close();
}

/* ---- floods ---- */

struct producer {
    pthread_t thread;
    int tasks; /* to spawn */
    int refused;
    int lost; /* notices that did not come */
};

/* A producer that has nothing but the notice to tell it when to try again. */
static void *producer_main(void *arg)
{
    struct producer *producer = arg;
    for (int left = producer->tasks; left > 0 && producer->lost == 0;) {
        int before = atomic_load(&field.notices);
        if (spawn_one() == 0) {
            left--;
            continue;
        }
        producer->refused++;
        uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
        while (atomic_load(&field.notices) == before && producer->lost == 0) {
            if (test_now_ns() > limit_ns)
                producer->lost = 1;
            /* Without a pause it would keep a PU from whom it waits for. */
            (void)nanosleep(&(struct timespec){.tv_nsec = 2000}, NULL);
        }
    }
    return NULL;
}

struct flood {
    const char *machine;
    uint64_t limit;
    int producers;
};

static void check_flood(const struct flood *flood, uint64_t spin_ns_max, uint64_t delay_ns_max)
{
    struct producer threads[PRODUCERS_MAX] = {{0}};
    field_open_with(flood->machine, flood->limit, 0, spin_ns_max);
    field.delay_ns_max = delay_ns_max;
    int tasks = test_is_slow() ? 300 : 1500;
    for (int i = 0; i < flood->producers; i++) {
        threads[i].tasks = tasks;
        assert_int_equal(pthread_create(&threads[i].thread, NULL, producer_main, &threads[i]), 0);
    }
    int lost = 0;
    int refused = 0;
    for (int i = 0; i < flood->producers; i++) {
        assert_int_equal(pthread_join(threads[i].thread, NULL), 0);
        lost += threads[i].lost;
        refused += threads[i].refused;
    }
    assert_int_equal(lost, 0);
    assert_true(runtime_reaches(&field.ran, flood->producers * tasks));
    assert_true(atomic_load(&field.notices) <= refused); /* each has its refusal */
    field_close();
}

static void check_floods(uint64_t spin_ns_max, uint64_t delay_ns_max)
{
    static const struct flood floods[] = {
        {ONE_WORKER, 1, 1},    {ONE_WORKER, 1, PRODUCERS_MAX}, {ONE_WORKER, 64, PRODUCERS_MAX},
        {"numa:1 pu:2", 1, 1}, {"numa:1 pu:2", 5, 2},          {"numa:2 pu:1", 1, 1},
        {"numa:2 pu:1", 2, 2}, {"numa:2 pu:1", 1000, 2},
    };
    for (size_t i = 0; i < sizeof(floods) / sizeof(floods[0]); i++)
        check_flood(&floods[i], spin_ns_max, delay_ns_max);
}

static void no_notice_is_lost_when_workers_sleep_at_once(void **state)
{
    (void)state;
    check_floods(UINT64_MAX, 0);
}

static void no_notice_is_lost_when_refusals_come_late(void **state)
{
    (void)state;
    check_floods(UINT64_MAX, 40000);
}

/* Many searches end while somebody is refused. */
static void no_notice_is_lost_when_workers_spin_for_a_while(void **state)
{
    (void)state;
    check_floods(2000, 0);
    check_floods(2000, 40000);
}

/* Nobody is asleep, and nobody ever will be. */
static void no_notice_is_lost_when_workers_spin_for_ever(void **state)
{
    (void)state;
    const struct flood flood = {ONE_WORKER, 1, 1};
    check_flood(&flood, UINT64_MAX - 1, 40000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_spawn_is_told_once_there_is_room),
        cmocka_unit_test(many_refusals_are_one_notice),
        cmocka_unit_test(nobody_is_told_who_was_not_refused),
        cmocka_unit_test(limit_of_one_is_told_of_every_time),
        cmocka_unit_test(notice_waits_until_the_smallest_one_fits),
        cmocka_unit_test(each_node_that_is_refused_is_told),
        cmocka_unit_test(refusal_inside_the_callback_brings_the_next_one),
        cmocka_unit_test(nobody_is_told_after_a_stop_has_begun),
        cmocka_unit_test(nobody_is_told_of_room_for_what_was_accepted),
        cmocka_unit_test(idle_sibling_of_a_full_worker_sleeps),
        cmocka_unit_test(no_notice_is_lost_when_workers_sleep_at_once),
        cmocka_unit_test(no_notice_is_lost_when_refusals_come_late),
        cmocka_unit_test(no_notice_is_lost_when_workers_spin_for_a_while),
        cmocka_unit_test(no_notice_is_lost_when_workers_spin_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
