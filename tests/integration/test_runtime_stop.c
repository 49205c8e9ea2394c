/* SPDX-License-Identifier: MIT */
/* Every way to stop: drained, out of time, stuck, twice, from the wrong thread, raced by spawns. */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

struct stopper {
    numaperf_rt_t *rt;
    uint64_t timeout_ns;
    pthread_t thread;
    int rc;
    uint64_t took_ns;
    atomic_bool done;
};

static void *stopper_main(void *arg)
{
    struct stopper *stopper = arg;
    uint64_t start_ns = test_now_ns();
    stopper->rc = numaperf_rt_stop(stopper->rt, stopper->timeout_ns);
    stopper->took_ns = test_now_ns() - start_ns;
    atomic_store(&stopper->done, true);
    return NULL;
}

static void stopper_start(struct stopper *stopper, numaperf_rt_t *rt, uint64_t timeout_ns)
{
    stopper->rt = rt;
    stopper->timeout_ns = timeout_ns;
    atomic_store(&stopper->done, false);
    assert_int_equal(pthread_create(&stopper->thread, NULL, stopper_main, stopper), 0);
}

static int stopper_join(struct stopper *stopper)
{
    assert_int_equal(pthread_join(stopper->thread, NULL), 0);
    return stopper->rc;
}

static struct runtime_box simple_box(uint32_t workers_per_node)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = workers_per_node;
    box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    box.config.on_task_cancel = runtime_count_cancel;
    return box;
}

/* Spawn from outside until it is refused; the code of the refusal. */
static int refusal_of_spawns(numaperf_rt_t *rt, atomic_int *ran, int *out_accepted)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    int rc = 0;
    *out_accepted = 0;
    while (rc == 0 && test_now_ns() < limit_ns) {
        rc = numaperf_rt_spawn(rt, NUMAPERF_NODE_ANY, runtime_count_task, ran);
        *out_accepted += rc == 0;
        test_sleep_ms(1);
    }
    return rc;
}

struct spawning_gate {
    struct runtime_gate gate;
    atomic_int ran;
    atomic_int spawned; /* what the spawn from inside returned, plus one */
};

static void spawning_gate_task(numaperf_worker_t *worker, void *arg)
{
    struct spawning_gate *own = arg;
    runtime_gate_task(worker, &own->gate);
    int rc = numaperf_rt_spawn(numaperf_worker_rt(worker), NUMAPERF_NODE_LOCAL, runtime_count_task,
                               &own->ran);
    atomic_store(&own->spawned, rc + 1);
}

static void draining_refuses_outsiders_and_accepts_workers(void **state)
{
    (void)state;
    struct runtime_box box = simple_box(2);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:2"), 0);
    struct spawning_gate own = {.ran = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, spawning_gate_task, &own), 0);
    assert_true(runtime_reaches(&own.gate.entered, 1));

    struct stopper stopper;
    stopper_start(&stopper, box.rt, UINT64_MAX);
    int accepted = 0;
    assert_int_equal(refusal_of_spawns(box.rt, &own.ran, &accepted), NUMAPERF_E_STOPPING);
    assert_int_equal(numaperf_last_error()->code, NUMAPERF_E_STOPPING);
    assert_int_equal(numaperf_rt_each_node(box.rt, runtime_count_task, &own.ran),
                     NUMAPERF_E_STOPPING);
    assert_false(atomic_load(&stopper.done));
    atomic_store(&own.gate.open, true);
    assert_int_equal(stopper_join(&stopper), 0);
    assert_int_equal(atomic_load(&own.spawned), 1);
    assert_int_equal(atomic_load(&own.ran), accepted + 1);
    runtime_box_close(&box);
}

/* Who tries again for room would try until the end of the tasks before it. */
static void full_node_says_that_the_runtime_stops(void **state)
{
    (void)state;
    struct runtime_box box = simple_box(1);
    box.config.task_limit_per_node = 1;
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    struct runtime_gate gate = {.entered = 0};
    atomic_int ran = 0;
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_count_task, &ran), 0);
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_count_task, &ran), -EAGAIN);

    struct stopper stopper;
    stopper_start(&stopper, box.rt, UINT64_MAX);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(5);
    int rc = -EAGAIN;
    while (rc == -EAGAIN && test_now_ns() < limit_ns)
        rc = numaperf_rt_spawn(box.rt, 0, runtime_count_task, &ran);
    int each_rc = numaperf_rt_each_node(box.rt, runtime_count_task, &ran);
    atomic_store(&gate.open, true);
    assert_int_equal(stopper_join(&stopper), 0);
    assert_int_equal(rc, NUMAPERF_E_STOPPING);
    assert_int_equal(each_rc, NUMAPERF_E_STOPPING);
    assert_int_equal(atomic_load(&ran), 1);
    runtime_box_close(&box);
}

static void cancelling_refuses_workers_too(void **state)
{
    (void)state;
    struct runtime_box box = simple_box(1);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    struct spawning_gate own = {.ran = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, spawning_gate_task, &own), 0);
    assert_true(runtime_reaches(&own.gate.entered, 1));
    assert_int_equal(numaperf_rt_stop(box.rt, 0), -ETIMEDOUT);
    atomic_store(&own.gate.open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&own.spawned), NUMAPERF_E_STOPPING + 1);
    assert_int_equal(atomic_load(&own.ran), 0);
    runtime_box_close(&box);
}

static void must_not_run(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    (void)fprintf(stderr, "a task ran that had to be cancelled\n");
    abort();
}

/* 10 unbound, 10 bound to the stuck worker, 10 never stolen: all behind a task that stays. */
static void queue_behind(numaperf_rt_t *rt, atomic_int *counter)
{
    for (int i = 0; i < 30; i++) {
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.on_cancel = i % 2 == 0 ? runtime_count_cancel : NULL;
        options.flags = NUMAPERF_SPAWN_HAS_NODE;
        if (i % 3 == 1)
            options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        if (i % 3 == 2)
            options.flags |= NUMAPERF_SPAWN_NEVER_STEAL;
        assert_int_equal(numaperf_rt_spawn_with(rt, &options, must_not_run, counter), 0);
    }
}

static void stop_with_a_stuck_task_times_out_and_cancels_once(void **state)
{
    (void)state;
    const uint64_t timeouts[] = {0, 300000000u};
    for (int i = 0; i < 2; i++) {
        struct census before = census_take();
        struct runtime_box box = simple_box(1);
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
        struct runtime_gate gate = {.entered = 0};
        atomic_int cancelled = 0;
        assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
        assert_true(runtime_reaches(&gate.entered, 1));
        queue_behind(box.rt, &cancelled);

        uint64_t start_ns = test_now_ns();
        assert_int_equal(numaperf_rt_stop(box.rt, timeouts[i]), -ETIMEDOUT);
        uint64_t took_ns = test_now_ns() - start_ns;
        assert_true(took_ns >= timeouts[i]);
        assert_true(took_ns < timeouts[i] + test_limit_ns(5));
        assert_int_equal(atomic_load(&cancelled), 30);
        assert_int_equal(atomic_load(&gate.left), 0);
        assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate),
                         NUMAPERF_E_STOPPING);

        atomic_store(&gate.open, true);
        if (i == 0)
            assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
        runtime_box_close(&box);
        assert_int_equal(atomic_load(&gate.left), 1);
        assert_int_equal(atomic_load(&cancelled), 30);
        assert_true(census_returns_to(&before));
    }
}

static void count_stop(numaperf_worker_t *worker, void *data)
{
    (void)worker;
    (void)atomic_fetch_add((atomic_int *)data, 1);
}

struct family {
    atomic_int accepted;
    atomic_int ran;
    atomic_int cancelled;
    int limit;  /* of generations; 0: none */
    bool stays; /* on its node */
};

static void family_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    (void)fn;
    (void)data;
    struct family *family = arg;
    (void)atomic_fetch_add(&family->cancelled, 1);
}

static void short_task(numaperf_worker_t *worker, void *arg)
{
    struct family *family = arg;
    runtime_count_task(worker, &family->ran);
    test_sleep_ms(2);
}

/* Workers that are busy, but not stuck, cancel by themselves instead of running what is queued. */
static void stop_at_once_does_not_run_what_is_queued(void **state)
{
    (void)state;
    struct runtime_box box = simple_box(1);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    struct family family = {.limit = 0};
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    options.on_cancel = family_cancel;
    for (int i = 0; i < 5000; i++) {
        options.node = i % 2;
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, short_task, &family), 0);
    }
    int rc = numaperf_rt_stop(box.rt, 0);
    assert_true(rc == 0 || (test_is_slow() && rc == -ETIMEDOUT));
    runtime_box_close(&box);
    assert_int_equal(atomic_load(&family.ran) + atomic_load(&family.cancelled), 5000);
    assert_true(atomic_load(&family.ran) < 2500); /* the whole would take seconds */
}

static void workers_end_by_themselves_after_a_timed_out_stop(void **state)
{
    (void)state;
    atomic_int stopped = 0;
    struct runtime_box box = simple_box(1);
    box.config.on_worker_stop = count_stop;
    box.config.data = &stopped;
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    struct runtime_gate gate = {.entered = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    assert_int_equal(numaperf_rt_stop(box.rt, 0), -ETIMEDOUT);
    atomic_store(&gate.open, true);
    /* No further stop: both get their stop callbacks all the same. */
    assert_true(runtime_reaches(&stopped, 2));
    runtime_box_close(&box);
}

static void stop_in_time_loses_nothing(void **state)
{
    (void)state;
    struct runtime_box box = simple_box(1);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    atomic_int ran = 0;
    for (int i = 0; i < 10000; i++)
        assert_int_equal(numaperf_rt_spawn(box.rt, i % 2, runtime_count_task, &ran), 0);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&ran), 10000);
    assert_int_equal(numaperf_rt_stop(box.rt, 0), 0);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_count_task, &ran), NUMAPERF_E_STOPPING);
    runtime_box_close(&box);
}

static void family_task(numaperf_worker_t *worker, void *arg)
{
    struct family *family = arg;
    int ran = atomic_fetch_add(&family->ran, 1) + 1;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    options.node = family->stays ? numaperf_worker_node(worker) : 1 - numaperf_worker_node(worker);
    options.on_cancel = family_cancel;
    if ((family->limit == 0 || ran < family->limit) &&
        numaperf_rt_spawn_with(numaperf_worker_rt(worker), &options, family_task, family) == 0)
        (void)atomic_fetch_add(&family->accepted, 1);
}

static int family_begin(numaperf_rt_t *rt, struct family *family)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    options.on_cancel = family_cancel;
    return numaperf_rt_spawn_with(rt, &options, family_task, family);
}

/* There is one task at a time, with a child: between the two is when it seems to be the last. */
static void draining_waits_for_the_children_of_tasks(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct runtime_box box = simple_box(1);
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
        struct family family = {.stays = i == 1, .limit = i == 0 ? 2000 : 300000};
        family.limit = test_is_slow() ? family.limit / 10 : family.limit;
        assert_int_equal(family_begin(box.rt, &family), 0);
        struct stopper stoppers[16]; /* the more of them look, the more is seen */
        for (int k = 0; k < 16; k++)
            stopper_start(&stoppers[k], box.rt, UINT64_MAX);
        for (int k = 0; k < 16; k++)
            assert_int_equal(stopper_join(&stoppers[k]), 0);
        assert_int_equal(atomic_load(&family.ran), family.limit);
        assert_int_equal(atomic_load(&family.cancelled), 0);
        runtime_box_close(&box);
    }
}

static void endless_tasks_end_with_the_time(void **state)
{
    (void)state;
    struct runtime_box box = simple_box(1);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    struct family family = {.accepted = 1};
    assert_int_equal(family_begin(box.rt, &family), 0);
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf_rt_stop(box.rt, 50000000), 0);
    assert_true(test_now_ns() - start_ns < test_limit_ns(5));
    runtime_box_close(&box);
    assert_int_equal(atomic_load(&family.accepted),
                     atomic_load(&family.ran) + atomic_load(&family.cancelled));
}

static void endless_bound_task(numaperf_worker_t *worker, void *arg)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    (void)numaperf_rt_spawn_with(numaperf_worker_rt(worker), &options, endless_bound_task, arg);
}

/* The others have slept in one turn all along, and end while the time is over. */
static void worker_that_ends_is_no_callback_that_still_runs(void **state)
{
    (void)state;
    for (int round = 0; round < 8; round++) {
        struct runtime_box box = simple_box(4);
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
        atomic_int cancelled = 0;
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, endless_bound_task, &cancelled),
                         0);
        assert_int_equal(numaperf_rt_stop(box.rt, 150000000), 0);
        runtime_box_close(&box);
    }
}

/* ---- a worker that gets no PU ---- */

#define HOG_NS 400000000u

struct hog {
    int cpu;
    atomic_bool runs;
    atomic_int rc; /* of becoming a thread that none of the ordinary ones gets ahead of */
};

static void *hog_main(void *arg)
{
    struct hog *hog = arg;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)hog->cpu, &cpus);
    const struct sched_param first = {.sched_priority = 1};
    int rc = sched_setaffinity(0, sizeof(cpus), &cpus);
    if (rc == 0)
        rc = pthread_setschedparam(pthread_self(), SCHED_FIFO, &first);
    atomic_store(&hog->rc, rc);
    atomic_store(&hog->runs, true);
    uint64_t start_ns = test_now_ns();
    while (rc == 0 && test_now_ns() - start_ns < HOG_NS)
        continue;
    return NULL;
}

/* It is in no callback, so a stop waits for it, whatever its time. */
static void worker_without_a_pu_is_no_callback_that_still_runs(void **state)
{
    (void)state;
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    struct runtime_box box = simple_box(1);
    assert_int_equal(runtime_box_open(&box, NULL), 0);
    struct hog hog = {.cpu = numaperf_worker_cpu(numaperf_rt_worker(box.rt, 0))};
    cpu_set_t others = before;
    CPU_CLR((size_t)hog.cpu, &others);
    bool can = CPU_COUNT(&others) > 0;
    pthread_t thread;
    if (can) {
        assert_int_equal(sched_setaffinity(0, sizeof(others), &others), 0);
        assert_int_equal(pthread_create(&thread, NULL, hog_main, &hog), 0);
        while (!atomic_load(&hog.runs))
            (void)sched_yield();
        int rc = numaperf_rt_stop(box.rt, 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
        assert_int_equal(rc, 0);
    }
    runtime_box_close(&box);
    if (!can || atomic_load(&hog.rc) != 0) {
        print_message("skipped: no second PU, or no real-time priority to be had\n");
        skip();
    }
}

static void concurrent_stops_all_return(void **state)
{
    (void)state;
    const uint64_t timeouts[4] = {0, UINT64_MAX, 1000000, UINT64_MAX};
    for (int round = 0; round < 20; round++) {
        struct runtime_box box = simple_box(1);
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
        struct family family = {.accepted = 1};
        assert_int_equal(family_begin(box.rt, &family), 0);
        struct stopper stoppers[4];
        for (int i = 0; i < 4; i++)
            stopper_start(&stoppers[i], box.rt, timeouts[i]);
        for (int i = 0; i < 4; i++) {
            int rc = stopper_join(&stoppers[i]);
            assert_true(rc == 0 || (rc == -ETIMEDOUT && timeouts[i] != UINT64_MAX));
        }
        runtime_box_close(&box);
        assert_int_equal(atomic_load(&family.accepted),
                         atomic_load(&family.ran) + atomic_load(&family.cancelled));
    }
}

/* A patient stop under way must not hold up one that is in a hurry. */
static void second_stop_keeps_its_own_time(void **state)
{
    (void)state;
    struct runtime_box box = simple_box(1);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    struct runtime_gate gate = {.entered = 0};
    atomic_int cancelled = 0;
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    queue_behind(box.rt, &cancelled);
    struct stopper patient;
    struct stopper hurried;
    atomic_int ignored = 0;
    int accepted = 0;
    stopper_start(&patient, box.rt, UINT64_MAX);
    assert_int_equal(refusal_of_spawns(box.rt, &ignored, &accepted), NUMAPERF_E_STOPPING);
    stopper_start(&hurried, box.rt, 0);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(5);
    while (!atomic_load(&hurried.done) && test_now_ns() < limit_ns)
        test_sleep_ms(1);
    bool in_time = atomic_load(&hurried.done);
    int cancelled_in_time = atomic_load(&cancelled);
    atomic_store(&gate.open, true);
    int rc = stopper_join(&hurried);
    assert_int_equal(stopper_join(&patient), 0);
    runtime_box_close(&box);
    assert_true(in_time);
    assert_int_equal(rc, -ETIMEDOUT);
    assert_int_equal(cancelled_in_time, 30);
}

struct racer {
    numaperf_rt_t *rt;
    atomic_int accepted;
    atomic_int finished;
};

static void *racer_main(void *arg)
{
    struct racer *racer = arg;
    for (int i = 0;; i++) {
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = i % 2 == 0 ? NUMAPERF_SPAWN_HAS_NODE : NUMAPERF_SPAWN_HAS_WORKER;
        options.node = i % 2 == 0 ? i / 2 % 2 : 0;
        options.worker = i % 2 == 0 ? 0 : i / 2 % 2;
        int rc = numaperf_rt_spawn_with(racer->rt, &options, runtime_count_task, &racer->finished);
        if (rc == NUMAPERF_E_STOPPING)
            return NULL;
        if (rc == 0)
            (void)atomic_fetch_add(&racer->accepted, 1);
    }
}

static void spawns_that_race_with_a_stop_run_or_are_cancelled(void **state)
{
    (void)state;
    int rounds = test_is_slow() ? 20 : 200;
    for (int round = 0; round < rounds; round++) {
        struct runtime_box box = simple_box(1);
        box.config.task_limit_per_node = 1000;
        box.config.io_backend = round % 2 == 0 ? NUMAPERF_IO_AUTO : NUMAPERF_IO_EPOLL;
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
        struct racer racer = {.rt = box.rt};
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, racer_main, &racer), 0);
        if (round % 4 >= 2)
            test_sleep_ms((uint64_t)round % 3);
        (void)numaperf_rt_stop(box.rt, round % 3 == 0 ? UINT64_MAX : 0);
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_join(threads[i], NULL), 0);
        runtime_box_close(&box);
        assert_int_equal(atomic_load(&racer.accepted), atomic_load(&racer.finished));
    }
}

static void stop_task(numaperf_worker_t *worker, void *arg)
{
    atomic_int *result = arg;
    numaperf_rt_t *rt = numaperf_worker_rt(worker);
    bool refused =
        numaperf_rt_stop(rt, 0) == -EDEADLK && numaperf_rt_stop(rt, UINT64_MAX) == -EDEADLK;
    numaperf_rt_destroy(rt);
    refused = refused && numaperf_last_error()->code == -EDEADLK;
    atomic_store(result, refused ? 1 : 2);
}

static void stop_on_a_worker_is_refused(void **state)
{
    (void)state;
    struct runtime_box box = simple_box(1);
    assert_int_equal(runtime_box_open(&box, NULL), 0);
    atomic_int result = 0;
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, stop_task, &result), 0);
    assert_true(runtime_reaches(&result, 1));
    /* Nothing has stopped. */
    atomic_int ran = 0;
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, runtime_count_task, &ran), 0);
    assert_true(runtime_reaches(&ran, 1));
    runtime_box_close(&box);
    assert_int_equal(numaperf_rt_stop(NULL, 0), -EINVAL);
    numaperf_rt_destroy(NULL);
}

int main(void)
{
    census_prepare();
    struct runtime_box box = simple_box(2);
    if (runtime_box_open(&box, "numa:2 pu:2") == 0) /* what a first start leaves is not counted */
        runtime_box_close(&box);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draining_refuses_outsiders_and_accepts_workers),
        cmocka_unit_test(full_node_says_that_the_runtime_stops),
        cmocka_unit_test(cancelling_refuses_workers_too),
        cmocka_unit_test(stop_with_a_stuck_task_times_out_and_cancels_once),
        cmocka_unit_test(stop_at_once_does_not_run_what_is_queued),
        cmocka_unit_test(workers_end_by_themselves_after_a_timed_out_stop),
        cmocka_unit_test(stop_in_time_loses_nothing),
        cmocka_unit_test(draining_waits_for_the_children_of_tasks),
        cmocka_unit_test(endless_tasks_end_with_the_time),
        cmocka_unit_test(worker_that_ends_is_no_callback_that_still_runs),
        cmocka_unit_test(worker_without_a_pu_is_no_callback_that_still_runs),
        cmocka_unit_test(concurrent_stops_all_return),
        cmocka_unit_test(second_stop_keeps_its_own_time),
        cmocka_unit_test(spawns_that_race_with_a_stop_run_or_are_cancelled),
        cmocka_unit_test(stop_on_a_worker_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
