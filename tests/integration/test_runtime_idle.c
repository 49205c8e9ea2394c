/* SPDX-License-Identifier: MIT */
/*
 * Idle costs nothing: two workers get at most 1 ms of CPU in 3 s, whatever they have open. And what
 * spins sees what a sleeper would, and what is busy tells what an idle one would.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/clock.h"
#include "support/runtimes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>
#include <uv.h>

#define IDLE_MS 3000
#define IDLE_CPU_NS_MAX 1000000u

static uint64_t process_cpu_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uv_tcp_t listeners[2];
static uv_async_t asyncs[2];

static void connection_came(uv_stream_t *listener, int status)
{
    (void)listener;
    (void)status;
}

static int listen_on(numaperf_worker_t *worker, void *data)
{
    (void)data;
    uv_loop_t *loop = numaperf_worker_loop(worker);
    uv_tcp_t *listener = &listeners[numaperf_worker_index(worker)];
    struct sockaddr_in address;
    int rc = uv_ip4_addr("127.0.0.1", 0, &address);
    rc = rc != 0 ? rc : uv_tcp_init(loop, listener);
    rc = rc != 0 ? rc : uv_tcp_bind(listener, (const struct sockaddr *)&address, 0);
    rc = rc != 0 ? rc : uv_listen((uv_stream_t *)listener, 8, connection_came);
    return rc != 0 ? rc : uv_async_init(loop, &asyncs[numaperf_worker_index(worker)], NULL);
}

static void check_idle(uint32_t backend, bool busy_before)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    box.config.io_backend = backend;
    box.config.on_worker_start = busy_before ? listen_on : NULL;
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    atomic_int ran = 0;
    for (int i = 0; busy_before && i < 20000; i++)
        assert_int_equal(numaperf_rt_spawn(box.rt, i % 2, runtime_count_task, &ran), 0);
    assert_true(runtime_reaches(&ran, busy_before ? 20000 : 0));
    test_sleep_ms(100);

    uint64_t before_ns = process_cpu_ns();
    test_sleep_ms(IDLE_MS);
    uint64_t used_ns = process_cpu_ns() - before_ns;
    print_message("%s%s: %.3f ms of CPU in %d ms\n",
                  numaperf_worker_backend(numaperf_rt_worker(box.rt, 0)) == NUMAPERF_IO_URING
                      ? "io_uring"
                      : "epoll",
                  busy_before ? ", listening, after a burst" : "", (double)used_ns / 1e6, IDLE_MS);
    runtime_box_close(&box);
    if (!test_is_slow()) /* there it is reported only */
        assert_true(used_ns <= IDLE_CPU_NS_MAX);
}

static void idle_workers_on_the_ring_cost_nothing(void **state)
{
    (void)state;
    check_idle(NUMAPERF_IO_AUTO, false);
    check_idle(NUMAPERF_IO_AUTO, true);
}

static void idle_workers_on_epoll_cost_nothing(void **state)
{
    (void)state;
    check_idle(NUMAPERF_IO_EPOLL, false);
    check_idle(NUMAPERF_IO_EPOLL, true);
}

#define AUDIT_INTERVAL_MS 5000 /* the default */
#define AUDIT_TRIES 3          /* what else the machine does only makes a look cost more */

/* CPU time around the auditor's next look; the last one, or the start, was half a window ago. */
static uint64_t look_cpu_ns(void)
{
    test_sleep_ms(AUDIT_INTERVAL_MS - IDLE_MS);
    uint64_t before_ns = process_cpu_ns();
    test_sleep_ms(IDLE_MS);
    uint64_t used_ns = process_cpu_ns() - before_ns;
    print_message("hard mode, one look of the auditor: %.3f ms of CPU in %d ms\n",
                  (double)used_ns / 1e6, IDLE_MS);
    return used_ns;
}

static void idle_runtime_in_hard_mode_with_its_auditor_costs_nothing(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.mode = NUMAPERF_MODE_HARD;
    box.config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    box.config.workers_per_node = 1;
    if (runtime_box_open(&box, NULL) < 0) {
        print_message("skipped: hard mode is not to be had here: %s\n",
                      numaperf_last_error()->reason);
        skip();
    }
    test_sleep_ms(IDLE_MS / 2);
    uint64_t used_ns = look_cpu_ns();
    for (int i = 1; i < AUDIT_TRIES && !test_is_slow() && used_ns > IDLE_CPU_NS_MAX; i++)
        used_ns = look_cpu_ns();
    assert_int_equal(numaperf_rt_violation_count(box.rt), 0);
    runtime_box_close(&box);
    if (!test_is_slow()) /* there it is reported only */
        assert_true(used_ns <= IDLE_CPU_NS_MAX);
}

/* ---- a worker that was asked to spin instead of sleeping ---- */

#define SPIN_NS_MAX 100000000000u /* longer than any time limit here */

static atomic_int async_count;

static void async_came(uv_async_t *async)
{
    (void)async;
    (void)atomic_fetch_add(&async_count, 1);
}

static int open_async(numaperf_worker_t *worker, void *data)
{
    (void)data;
    return uv_async_init(numaperf_worker_loop(worker), &asyncs[0], async_came);
}

static void check_long_spin(uint32_t backend)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    box.config.io_backend = backend;
    box.config.spin_ns_max = SPIN_NS_MAX;
    box.config.on_worker_start = open_async;
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    atomic_store(&async_count, 0);
    for (int i = 1; i <= 3; i++) {
        test_sleep_ms(20); /* it spins again */
        assert_int_equal(uv_async_send(&asyncs[0]), 0);
        assert_true(runtime_reaches(&async_count, i));
    }
    test_sleep_ms(20);
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_true(test_now_ns() - start_ns < test_limit_ns(5));
    runtime_box_close(&box);
}

static void long_spin_sees_io_and_the_stop(void **state)
{
    (void)state;
    check_long_spin(NUMAPERF_IO_AUTO);
    check_long_spin(NUMAPERF_IO_EPOLL);
}

/* ---- a worker that is never idle ---- */

static void again_task(numaperf_worker_t *worker, void *go_on)
{
    atomic_bool *flag = go_on;
    if (atomic_load(flag))
        (void)numaperf_rt_spawn(numaperf_worker_rt(worker), NUMAPERF_NODE_LOCAL, again_task, flag);
}

static void busy_worker_tells_what_its_ring_does(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    box.config.on_worker_start = open_async;
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    if (numaperf_worker_backend(numaperf_rt_worker(box.rt, 0)) != NUMAPERF_IO_URING) {
        print_message("skipped: no ring: %s\n",
                      numaperf_worker_backend_reason(numaperf_rt_worker(box.rt, 0)));
        runtime_box_close(&box);
        skip();
    }
    atomic_bool go_on = true;
    atomic_store(&async_count, 0);
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, again_task, &go_on), 0);
    test_sleep_ms(20); /* it is busy */
    numaperf_worker_stats_t before = NUMAPERF_WORKER_STATS_INIT;
    numaperf_worker_stats_t after = NUMAPERF_WORKER_STATS_INIT;
    assert_int_equal(numaperf_rt_worker_stats(box.rt, 0, &before), 0);
    for (int i = 1; i <= 20; i++) {
        assert_int_equal(uv_async_send(&asyncs[0]), 0);
        assert_true(runtime_reaches(&async_count, i));
    }
    assert_int_equal(numaperf_rt_worker_stats(box.rt, 0, &after), 0);
    atomic_store(&go_on, false);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_true(after.ring_completions >= before.ring_completions + 15);
    runtime_box_close(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_workers_on_the_ring_cost_nothing),
        cmocka_unit_test(idle_workers_on_epoll_cost_nothing),
        cmocka_unit_test(idle_runtime_in_hard_mode_with_its_auditor_costs_nothing),
        cmocka_unit_test(long_spin_sees_io_and_the_stop),
        cmocka_unit_test(busy_worker_tells_what_its_ring_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
