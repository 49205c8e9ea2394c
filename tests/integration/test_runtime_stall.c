/* SPDX-License-Identifier: MIT */
/*
 * Stalls: what holds a worker for too long is counted and told once, with what it was
 * and for how long; what sleeps, gets no PU, or is only many short tasks, is none.
 */
#include <numaperf.h>

#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"
#include "support/stall_scene.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <uv.h>

static uint64_t stalls_of(const numaperf_rt_t *rt, uint32_t worker)
{
    numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
    assert_int_equal(numaperf_rt_worker_stats(rt, worker, &stats), 0);
    return stats.stalls;
}

/* ---- what stalls ---- */

static void task_that_stalls_is_told_once_with_its_function(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    stall_open(&box, &witness, 2);
    stall_once(&box, &witness, 1, stall_spin_task, 1);
    numaperf_stall_t stall = stall_last(&witness);
    assert_int_equal(stall.size, sizeof(stall));
    assert_int_equal(stall.worker, 1);
    assert_int_equal(stall.node, 1);
    assert_int_equal(stall.cpu, numaperf_worker_cpu(numaperf_rt_worker(box.rt, 1)));
    assert_true(stall.fn == stall_spin_task);
    assert_true(stall.held_ns >= STALL_MS * 1000000u);
    assert_int_equal(stall.frame_count, 0);
    assert_int_equal(stalls_of(box.rt, 0), 0);
    assert_int_equal(stalls_of(box.rt, 1), 1);
    /* A second one of the same worker, and one that waits instead of running. */
    stall_once(&box, &witness, 1, stall_spin_task, 2);
    stall_once(&box, &witness, 1, stall_wait_task, 3);
    assert_int_equal(stalls_of(box.rt, 1), 3);
    stall_once(&box, &witness, 0, stall_wait_task, 4);
    assert_int_equal(stall_last(&witness).worker, 0);
    assert_int_equal(stalls_of(box.rt, 0), 1);
    assert_int_equal(atomic_load(&witness.strangers), 0);
    runtime_box_close(&box);
}

static uv_timer_t timer;
static struct stall_hold timer_hold;

static void timer_fired(uv_timer_t *handle)
{
    stall_wait_task(NULL, handle->data);
}

static void start_timer(numaperf_worker_t *worker, void *data)
{
    uv_loop_t *loop = numaperf_worker_loop(worker);
    timer.data = &timer_hold;
    int rc = uv_timer_init(loop, &timer);
    rc = rc == 0 ? uv_timer_start(&timer, timer_fired, 5, 0) : rc;
    atomic_store((atomic_int *)data, rc == 0 ? 1 : rc);
}

static void callback_of_the_loop_that_stalls_is_told_without_a_function(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    stall_open(&box, &witness, 1);
    atomic_int started = 0;
    atomic_store(&timer_hold.let_go, false);
    atomic_store(&timer_hold.held, 0);
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, start_timer, &started), 0);
    assert_true(runtime_reaches(&started, 1));
    assert_true(runtime_reaches(&witness.count, 1));
    assert_true(stall_last(&witness).fn == NULL);
    assert_int_equal(stalls_of(box.rt, 0), 1);
    atomic_store(&timer_hold.let_go, true);
    assert_true(runtime_reaches(&timer_hold.held, 1));
    assert_int_equal(atomic_load(&witness.strangers), 0);
    runtime_box_close(&box);
}

/* The detector is asleep by then: the worker must rouse it. */
static void stall_after_a_long_sleep_is_told(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    stall_open(&box, &witness, 2);
    for (int i = 1; i <= 3; i++) {
        test_sleep_ms(10 * STALL_MS);
        stall_once(&box, &witness, i % 2, i == 2 ? stall_spin_task : stall_wait_task, i);
    }
    runtime_box_close(&box);
}

static void stalls_are_counted_without_a_callback_when_asked_for(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    stall_open(&box, NULL, 1);
    struct stall_hold hold = {.entered = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, stall_wait_task, &hold), 0);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (stalls_of(box.rt, 0) == 0 && test_now_ns() < limit_ns)
        test_sleep_ms(1);
    assert_int_equal(stalls_of(box.rt, 0), 1);
    numaperf_rt_stats_t stats = NUMAPERF_RT_STATS_INIT;
    assert_int_equal(numaperf_rt_stats(box.rt, &stats), 0);
    assert_int_equal(stats.stalls, 1);
    atomic_store(&hold.let_go, true);
    runtime_box_close(&box);
}

/* ---- what does not ---- */

static void short_task(numaperf_worker_t *worker, void *counter)
{
    test_sleep_ms(2);
    runtime_count_task(worker, counter);
}

static void many_short_tasks_and_sleep_are_no_stall(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    box.config.stall_ms = test_is_slow() ? 2000 : 100;
    stall_open(&box, &witness, 2);
    /* One turn of these takes longer than a stall. */
    atomic_int ran = 0;
    int count = test_is_slow() ? 60 : 300;
    for (int i = 0; i < count; i++)
        assert_int_equal(numaperf_rt_spawn(box.rt, 0, short_task, &ran), 0);
    assert_true(runtime_reaches(&ran, count));
    test_sleep_ms(300);
    assert_int_equal(atomic_load(&witness.count), 0);
    assert_int_equal(stalls_of(box.rt, 0), 0);
    assert_int_equal(stalls_of(box.rt, 1), 0);
    runtime_box_close(&box);
}

static void detector_that_is_off_sees_nothing(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    struct census before = census_take();
    box.config.stall_ms = UINT32_MAX;
    box.config.flags = NUMAPERF_RT_STALL_BACKTRACE;
    stall_open(&box, &witness, 1);
    assert_int_equal(census_take().threads, before.threads + 1); /* the worker alone */
    struct sigaction now;
    assert_int_equal(sigaction(STALL_SIGNAL, NULL, &now), 0);
    assert_true(now.sa_handler == SIG_DFL);
    struct stall_hold hold = {.entered = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, stall_wait_task, &hold), 0);
    test_sleep_ms(5 * STALL_MS);
    atomic_store(&hold.let_go, true);
    assert_int_equal(atomic_load(&witness.count), 0);
    assert_int_equal(stalls_of(box.rt, 0), 0);
    runtime_box_close(&box);
}

/* ---- a worker that gets no PU ---- */

static atomic_bool hog_ends;

static void *hog_main(void *arg)
{
    (void)arg;
    while (!atomic_load(&hog_ends))
        ;
    return NULL;
}

static int be_idle_class(numaperf_worker_t *worker, void *data)
{
    (void)worker;
    (void)data;
    const struct sched_param none = {.sched_priority = 0};
    return sched_setscheduler(0, SCHED_IDLE, &none) == 0 ? 0 : -errno;
}

#define LITTLE_CPU_NS 4000000u /* a tenth of what counts as too long */

static void little_task(numaperf_worker_t *worker, void *counter)
{
    struct timespec cpu;
    uint64_t start_ns = 0;
    uint64_t now_ns = 0;
    do {
        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
        now_ns = (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
        start_ns = start_ns == 0 ? now_ns : start_ns;
    } while (now_ns - start_ns < LITTLE_CPU_NS);
    runtime_count_task(worker, counter);
}

static void worker_that_gets_no_pu_is_no_stall(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    box.config.on_worker_start = be_idle_class;
    stall_open(&box, &witness, 1);
    pthread_t hog;
    atomic_store(&hog_ends, false);
    assert_int_equal(pthread_create(&hog, NULL, hog_main, NULL), 0);
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((unsigned)numaperf_worker_cpu(numaperf_rt_worker(box.rt, 0)), &cpus);
    int rc = pthread_setaffinity_np(hog, sizeof(cpus), &cpus);
    uint64_t start_ns = test_now_ns();
    atomic_int ran = 0;
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, little_task, &ran), 0);
    /* Until it has run, or for long enough. */
    while (atomic_load(&ran) == 0 && test_now_ns() - start_ns < 30u * STALL_MS * 1000000u)
        test_sleep_ms(1);
    uint64_t took_ns = test_now_ns() - start_ns;
    int told = atomic_load(&witness.count);
    atomic_store(&hog_ends, true);
    assert_int_equal(pthread_join(hog, NULL), 0);
    assert_true(runtime_reaches(&ran, 1));
    runtime_box_close(&box);
    if (rc != 0 || took_ns < 3u * STALL_MS * 1000000u) {
        print_message("skipped: the worker got the PU: %.0f ms\n", (double)took_ns / 1e6);
        skip();
    }
    assert_int_equal(told, 0);
}

/* ---- stop ---- */

static void stop_in_on_stall_is_refused(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    atomic_store(&witness.calls_stop, true);
    stall_open(&box, &witness, 1);
    stall_once(&box, &witness, 0, stall_wait_task, 1);
    assert_int_equal(atomic_load(&witness.stop_result), -EDEADLK);
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, stall_no_task, NULL), 0); /* it goes on */
    runtime_box_close(&box);
}

static void stall_that_keeps_a_stop_waiting_is_told(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    stall_open(&box, &witness, 1);
    struct stall_hold hold = {.entered = 0};
    atomic_store(&witness.wanted, stall_wait_task);
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, stall_wait_task, &hold), 0);
    assert_true(runtime_reaches(&hold.entered, 1));
    assert_int_equal(numaperf_rt_stop(box.rt, 0), -ETIMEDOUT);
    assert_true(runtime_reaches(&witness.count, 1));
    assert_int_equal(atomic_load(&witness.strangers), 0);
    atomic_store(&hold.let_go, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(stalls_of(box.rt, 0), 1);
    runtime_box_close(&box);
}

static void on_stall_that_does_not_return_keeps_no_stop_beyond_its_time(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    atomic_store(&witness.hold, true);
    stall_open(&box, &witness, 1);
    struct stall_hold hold = {.entered = 0};
    atomic_store(&witness.wanted, stall_wait_task);
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, stall_wait_task, &hold), 0);
    assert_true(runtime_reaches(&witness.count, 1));
    atomic_store(&hold.let_go, true);
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf_rt_stop(box.rt, 50 * 1000000u), -ETIMEDOUT);
    assert_true(test_now_ns() - start_ns < test_limit_ns(5));
    atomic_store(&witness.hold, false);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    runtime_box_close(&box);
}

/* ---- cost ---- */

#define IDLE_MS 3000
#define IDLE_CPU_NS_MAX 1000000u

static void detector_costs_nothing_while_workers_sleep(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    box.config.stall_ms = 5; /* were it to look, it would do so 800 times a second */
    stall_open(&box, &witness, 2);
    test_sleep_ms(200);
    struct timespec before;
    struct timespec after;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before), 0);
    test_sleep_ms(IDLE_MS);
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after), 0);
    int64_t used_ns =
        (int64_t)(after.tv_sec - before.tv_sec) * 1000000000 + (after.tv_nsec - before.tv_nsec);
    print_message("idle, with the detector: %.3f ms of CPU in %d ms\n", (double)used_ns / 1e6,
                  IDLE_MS);
    runtime_box_close(&box);
    if (!test_is_slow()) /* there it is reported only */
        assert_true(used_ns <= IDLE_CPU_NS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(task_that_stalls_is_told_once_with_its_function),
        cmocka_unit_test(callback_of_the_loop_that_stalls_is_told_without_a_function),
        cmocka_unit_test(stall_after_a_long_sleep_is_told),
        cmocka_unit_test(stalls_are_counted_without_a_callback_when_asked_for),
        cmocka_unit_test(many_short_tasks_and_sleep_are_no_stall),
        cmocka_unit_test(detector_that_is_off_sees_nothing),
        cmocka_unit_test(worker_that_gets_no_pu_is_no_stall),
        cmocka_unit_test(stop_in_on_stall_is_refused),
        cmocka_unit_test(stall_that_keeps_a_stop_waiting_is_told),
        cmocka_unit_test(on_stall_that_does_not_return_keeps_no_stop_beyond_its_time),
        cmocka_unit_test(detector_costs_nothing_while_workers_sleep),
    };
    census_prepare();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
