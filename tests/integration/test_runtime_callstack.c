/* SPDX-License-Identifier: MIT */
/*
 * Call stacks of stalls: they lead to what stalls, the signal they are taken by is shared and given
 * back, and nothing is left of starts that fail.
 */
#include <numaperf.h>

#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"
#include "support/stall_scene.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*entry)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*entry)(void *),
                          void *arg);

int __real_backtrace(void **frames, int size);
int __wrap_backtrace(void **frames, int size);

static atomic_bool walks_nothing;

int __wrap_backtrace(void **frames, int size)
{
    return atomic_load(&walks_nothing) ? 0 : __real_backtrace(frames, size);
}

static int threads_left = -1; /* until one cannot be made; -1: all can */

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*entry)(void *),
                          void *arg)
{
    if (threads_left == 0)
        return EAGAIN;
    threads_left -= threads_left > 0 ? 1 : 0;
    return __real_pthread_create(thread, attr, entry, arg);
}

static void open_with_frames(struct runtime_box *box, struct stall_witness *witness)
{
    box->config.flags = NUMAPERF_RT_STALL_BACKTRACE;
    stall_open(box, witness, 2);
}

/* Whether a frame lies in the function at `fn`, of a few hundred bytes at most. */
static bool has_frame_in(const numaperf_stall_t *stall, numaperf_task_fn fn)
{
    uintptr_t start = 0;
    memcpy(&start, &fn, sizeof(start));
    for (uint32_t i = 0; i < stall->frame_count; i++) {
        uintptr_t frame = (uintptr_t)stall->frames[i];
        if (frame >= start && frame < start + 1000)
            return true;
    }
    return false;
}

static void call_stack_of_a_stall_leads_to_its_task(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    open_with_frames(&box, &witness);
    for (int i = 1; i <= 3; i++) {
        stall_once(&box, &witness, i % 2, stall_wait_task, i);
        numaperf_stall_t stall = stall_last(&witness);
        assert_true(stall.frame_count >= 3);
        assert_true(has_frame_in(&stall, stall_wait_task));
        /* The worker's own calls lie between it and the thread's start. */
        assert_false(has_frame_in(
            &(numaperf_stall_t){.frame_count = 1, .frames = {stall.frames[stall.frame_count - 1]}},
            stall_wait_task));
    }
    runtime_box_close(&box);
}

/* A thread sanitizer delivers signals between calls it knows, and a loop has none. */
static void first_frame_of_a_task_that_spins_is_in_it(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    open_with_frames(&box, &witness);
    stall_once(&box, &witness, 0, stall_spin_task, 1);
    numaperf_stall_t stall = stall_last(&witness);
    runtime_box_close(&box);
    if (stall.frame_count == 0 && TEST_SANITIZED) {
        print_message("skipped: the sanitizer keeps signals from a thread that spins\n");
        skip();
    }
    assert_true(stall.frame_count >= 2);
    stall.frame_count = TEST_SANITIZED ? stall.frame_count : 1;
    assert_true(has_frame_in(&stall, stall_spin_task));
}

static void own_handler(int number)
{
    (void)number;
}

static int start_code(const numaperf_rt_config_t *config)
{
    numaperf_rt_t *rt = NULL;
    int rc = numaperf_rt_start(config, &rt);
    numaperf_rt_destroy(rt);
    return rc;
}

static void signal_of_the_program_is_refused_and_left_alone(void **state)
{
    (void)state;
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.flags = NUMAPERF_RT_STALL_BACKTRACE;
    config.on_stall = stall_told;
    void (*const handlers[])(int) = {own_handler, SIG_IGN};
    for (size_t i = 0; i < 2; i++) {
        struct sigaction own = {.sa_handler = handlers[i]};
        struct sigaction now;
        assert_int_equal(sigaction(STALL_SIGNAL, &own, NULL), 0);
        assert_int_equal(start_code(&config), -EBUSY);
        assert_non_null(strstr(numaperf_last_error()->reason, "SIGRTMAX - 2"));
        assert_int_equal(sigaction(STALL_SIGNAL, NULL, &now), 0);
        assert_true(now.sa_handler == handlers[i]);
    }
    struct sigaction none = {.sa_handler = SIG_DFL};
    assert_int_equal(sigaction(STALL_SIGNAL, &none, NULL), 0);
    assert_int_equal(start_code(&config), 0);
}

static void runtimes_share_the_signal_and_the_last_one_restores_it(void **state)
{
    (void)state;
    struct runtime_box boxes[2] = {{.config = NUMAPERF_RT_CONFIG_INIT},
                                   {.config = NUMAPERF_RT_CONFIG_INIT}};
    struct stall_witness witnesses[2] = {STALL_WITNESS_INIT, STALL_WITNESS_INIT};
    struct sigaction now;
    for (int i = 0; i < 2; i++)
        open_with_frames(&boxes[i], &witnesses[i]);
    runtime_box_close(&boxes[0]);
    assert_int_equal(sigaction(STALL_SIGNAL, NULL, &now), 0);
    assert_true(now.sa_handler != SIG_DFL);
    stall_once(&boxes[1], &witnesses[1], 0, stall_wait_task, 1);
    numaperf_stall_t stall = stall_last(&witnesses[1]);
    assert_true(has_frame_in(&stall, stall_wait_task));
    /* A signal from somebody else is harmless, wherever it goes. */
    assert_int_equal(kill(getpid(), STALL_SIGNAL), 0);
    test_sleep_ms(20);
    runtime_box_close(&boxes[1]);
    assert_int_equal(sigaction(STALL_SIGNAL, NULL, &now), 0);
    assert_true(now.sa_handler == SIG_DFL);
}

/* A program that takes the signal later gets no stacks, and none of its workers is killed. */
static void signal_taken_later_is_not_sent(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct stall_witness witness = STALL_WITNESS_INIT;
    open_with_frames(&box, &witness);
    struct sigaction none = {.sa_handler = SIG_DFL};
    assert_int_equal(sigaction(STALL_SIGNAL, &none, NULL), 0);
    stall_once(&box, &witness, 0, stall_wait_task, 1);
    assert_int_equal(stall_last(&witness).frame_count, 0);
    struct sigaction own = {.sa_handler = own_handler};
    struct sigaction now;
    assert_int_equal(sigaction(STALL_SIGNAL, &own, NULL), 0);
    runtime_box_close(&box);
    assert_int_equal(sigaction(STALL_SIGNAL, &none, &now), 0);
    assert_true(now.sa_handler == own_handler);
}

/* ---- start and stop ---- */

static void starts_and_stops_in_quick_succession_leave_nothing(void **state)
{
    (void)state;
    struct stall_witness witness = STALL_WITNESS_INIT;
    struct census before = {.threads = 0};
    for (int i = 0; i < (test_is_slow() ? 6 : 40); i++) {
        struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
        box.config.stall_ms = i % 2 == 0 ? 1 : 1000;
        atomic_int ran = 0;
        open_with_frames(&box, &witness);
        for (int k = 0; k < i; k++)
            assert_int_equal(numaperf_rt_spawn(box.rt, k % 2, runtime_count_task, &ran), 0);
        if (i % 3 == 0)
            test_sleep_ms(20); /* parked by then, when stalls are short */
        runtime_box_close(&box);
        if (i == 1)
            before = census_take();
    }
    assert_true(census_returns_to(&before));
}

static void start_without_a_thread_for_the_detector_leaves_nothing(void **state)
{
    (void)state;
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_synthetic("numa:2 pu:1", &topology), 0);
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.topology = topology;
    config.workers_per_node = 1;
    config.flags = NUMAPERF_RT_STALL_BACKTRACE;
    config.on_stall = stall_told;
    config.audit_interval_ms = 60000;
    assert_int_equal(start_code(&config), 0);
    struct census before = census_take();
    for (int i = 0; i < 4; i++) { /* two workers, the detector, the auditor */
        threads_left = i;
        assert_int_equal(start_code(&config), -EAGAIN);
        assert_int_equal(threads_left, 0);
        threads_left = -1;
        assert_true(census_returns_to(&before));
        struct sigaction now;
        assert_int_equal(sigaction(STALL_SIGNAL, NULL, &now), 0);
        assert_true(now.sa_handler == SIG_DFL);
    }
    assert_int_equal(start_code(&config), 0);
    numaperf_topology_destroy(topology);
}

static void stack_without_anybody_to_tell_is_refused(void **state)
{
    (void)state;
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.flags = NUMAPERF_RT_STALL_BACKTRACE;
    config.stall_ms = 10;
    assert_int_equal(start_code(&config), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "on_stall"));
}

static void start_that_cannot_walk_a_stack_is_refused(void **state)
{
    (void)state;
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.flags = NUMAPERF_RT_STALL_BACKTRACE;
    config.on_stall = stall_told;
    struct sigaction now;
    atomic_store(&walks_nothing, true);
    assert_int_equal(start_code(&config), NUMAPERF_E_UNSUPPORTED);
    atomic_store(&walks_nothing, false);
    assert_int_equal(sigaction(STALL_SIGNAL, NULL, &now), 0);
    assert_true(now.sa_handler == SIG_DFL);
    assert_int_equal(start_code(&config), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(call_stack_of_a_stall_leads_to_its_task),
        cmocka_unit_test(first_frame_of_a_task_that_spins_is_in_it),
        cmocka_unit_test(signal_of_the_program_is_refused_and_left_alone),
        cmocka_unit_test(runtimes_share_the_signal_and_the_last_one_restores_it),
        cmocka_unit_test(signal_taken_later_is_not_sent),
        cmocka_unit_test(starts_and_stops_in_quick_succession_leave_nothing),
        cmocka_unit_test(start_without_a_thread_for_the_detector_leaves_nothing),
        cmocka_unit_test(stack_without_anybody_to_tell_is_refused),
        cmocka_unit_test(start_that_cannot_walk_a_stack_is_refused),
    };
    census_prepare();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
