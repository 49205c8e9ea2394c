/* SPDX-License-Identifier: MIT */
/*
 * Waiting in the ring against the kernel it runs on: polls, reads, cancelling, time limits,
 * signals, the registered eventfd, io-wq. Where io_uring is refused, cases are skipped with the
 * reason.
 */
#include "io/ring.h"

#include "io/wake.h"
#include "place/pin.h"
#include "support/clock.h"
#include "support/ring_ops.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- poll, read, cancel ---- */

static void ring_poll_and_read_complete(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    int ends[2];
    char buffer[8] = "";
    assert_int_equal(pipe(ends), 0);
    struct counted polled;
    poll_init(&polled, ends[0]);
    struct counted read_op;
    counted_init(&read_op, NUMAPERF__OP_READ);
    read_op.op.fd = ends[0];
    read_op.op.buffer = buffer;
    read_op.op.length = sizeof(buffer);
    assert_int_equal(numaperf__ring_submit(ring, &polled.op), 0);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    assert_int_equal(numaperf__ring_reap(ring, 10), 0);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    assert_int_equal(drain(ring), 1);
    assert_true((polled.op.result & POLLIN) != 0);
    assert_int_equal(numaperf__ring_submit(ring, &read_op.op), 0);
    assert_int_equal(numaperf__ring_wait(ring, NO_LIMIT), 0);
    assert_int_equal(drain(ring), 1);
    assert_int_equal(read_op.op.result, 3);
    assert_memory_equal(buffer, "abc", 3);
    (void)close(ends[0]);
    (void)close(ends[1]);
    numaperf__ring_destroy(ring);
}

static void ring_cancel_ends_a_poll(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    struct counted flushed;
    struct counted queued;
    poll_init(&flushed, wake.fd);
    poll_init(&queued, wake.fd);
    assert_int_equal(numaperf__ring_submit(ring, &flushed.op), 0);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    assert_int_equal(numaperf__ring_submit(ring, &queued.op), 0); /* not yet the kernel's */
    assert_int_equal(numaperf__ring_cancel(ring, &flushed.op), 0);
    assert_int_equal(numaperf__ring_cancel(ring, &queued.op), 0);
    drain(ring);
    assert_int_equal(flushed.op.result, -ECANCELED);
    assert_int_equal(queued.op.result, -ECANCELED);
    assert_int_equal(flushed.done_count, 1);
    assert_int_equal(queued.done_count, 1);
    numaperf__wake_fini(&wake);
    numaperf__ring_destroy(ring);
}

static void ring_cancel_all_ends_everything(void **state)
{
    SKIP_WITHOUT_RING(state);
    enum { COUNT = 40 };
    struct numaperf__ring *ring = ring_open(8);
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    struct counted polls[COUNT];
    for (int i = 0; i < COUNT; i++) {
        poll_init(&polls[i], wake.fd);
        assert_int_equal(numaperf__ring_submit(ring, &polls[i].op), 0);
    }
    assert_int_equal(numaperf__ring_cancel_all(ring), 0);
    drain(ring);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(polls[i].done_count, 1);
        assert_int_equal(polls[i].op.result, -ECANCELED);
    }
    numaperf__wake_fini(&wake);
    numaperf__ring_destroy(ring);
}

/* ---- wait ---- */

static void ring_wait_ends_in_time_and_not_before(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf__ring_wait(ring, 30000000), 0);
    assert_true(test_now_ns() - start_ns >= 30000000);
    assert_true(test_now_ns() - start_ns < test_limit_ns(10));
    assert_int_equal(numaperf__ring_reap(ring, 10), 0); /* the time limit is no completion */
    numaperf__ring_destroy(ring);
}

static void ring_wait_returns_when_a_completion_waits_already(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    struct counted nop;
    counted_init(&nop, NUMAPERF__OP_NOP);
    assert_int_equal(numaperf__ring_submit(ring, &nop.op), 0);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    assert_int_equal(numaperf__ring_wait(ring, NO_LIMIT), 0);
    assert_int_equal(numaperf__ring_wait(ring, 60000000000u), 0);
    assert_int_equal(numaperf__ring_reap(ring, 10), 1);
    numaperf__ring_destroy(ring);
}

static atomic_int signals_seen;

static void on_signal(int number)
{
    (void)number;
    signals_seen++;
}

struct interrupter {
    pthread_t target;
    atomic_bool stop;
};

/* Again and again: the first may come before the wait begins. */
static void *interrupt(void *arg)
{
    struct interrupter *interrupter = arg;
    while (!interrupter->stop) {
        test_sleep_ms(20);
        (void)pthread_kill(interrupter->target, SIGUSR1);
    }
    return NULL;
}

static void signal_ends_wait(uint64_t timeout_ns)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction before;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    struct numaperf__ring *ring = ring_open(8);
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    struct counted polled;
    poll_init(&polled, wake.fd);
    assert_int_equal(numaperf__ring_submit(ring, &polled.op), 0);
    struct interrupter interrupter = {.target = pthread_self()};
    pthread_t thread;
    signals_seen = 0;
    assert_int_equal(pthread_create(&thread, NULL, interrupt, &interrupter), 0);
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf__ring_wait(ring, timeout_ns), 0);
    assert_true(signals_seen > 0);
    assert_true(test_now_ns() - start_ns < test_limit_ns(20));
    assert_int_equal(polled.done_count, 0);
    interrupter.stop = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    /* What was queued was submitted all the same. */
    numaperf__wake_signal(&wake);
    drain(ring);
    assert_int_equal(polled.done_count, 1);
    numaperf__wake_fini(&wake);
    numaperf__ring_destroy(ring);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

static void ring_signal_ends_a_wait(void **state)
{
    SKIP_WITHOUT_RING(state);
    signal_ends_wait(NO_LIMIT);
    signal_ends_wait(3600000000000u);
}

static void ring_eventfd_is_signalled(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = NULL;
    struct numaperf__wake event;
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&event), 0);
    assert_int_equal(numaperf__wake_init(&wake), 0);
    assert_int_equal(ring_make(8, &ring), 0);
    assert_int_equal(numaperf__ring_register_eventfd(ring, event.fd), 0);
    assert_int_equal(numaperf__ring_enable(ring), 0);
    struct counted polled;
    poll_init(&polled, wake.fd);
    assert_int_equal(numaperf__ring_submit(ring, &polled.op), 0);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    struct pollfd fd = {.fd = event.fd, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 0), 0);
    numaperf__wake_signal(&wake);
    assert_int_equal(poll(&fd, 1, 60000), 1);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    assert_int_equal(numaperf__ring_reap(ring, 10), 1);
    numaperf__ring_destroy(ring);
    numaperf__wake_fini(&event);
    numaperf__wake_fini(&wake);
}

/* ---- io-wq ---- */

struct confined {
    int cpu;
    int rc;
    int thread_id;
    int affinity_rc;
    numaperf_cpuset_t actual;
    unsigned in_flight;
};

/* On a thread of its own, which takes its io-wq threads with it. */
static void *confine(void *arg)
{
    struct confined *confined = arg;
    numaperf_cpuset_t one;
    numaperf_cpuset_zero(&one);
    (void)numaperf_cpuset_add(&one, confined->cpu);
    struct numaperf__ring *ring = NULL;
    confined->rc = ring_make(8, &ring);
    if (confined->rc == 0)
        confined->rc = numaperf__ring_enable(ring);
    if (confined->rc == 0)
        confined->rc = numaperf__ring_iowq_confine(ring, &one, 2, &confined->thread_id);
    if (confined->thread_id > 0)
        confined->affinity_rc = numaperf__affinity_get(confined->thread_id, &confined->actual);
    if (ring != NULL)
        confined->in_flight = numaperf__ring_in_flight(ring);
    numaperf__ring_destroy(ring);
    return NULL;
}

static void ring_iowq_is_confined_as_read_back(void **state)
{
    SKIP_WITHOUT_RING(state);
    numaperf_cpuset_t allowed;
    assert_int_equal(numaperf__affinity_get(0, &allowed), 0);
    /* Every PU in turn: the default affinity would pass with one of them at most. */
    for (int cpu = numaperf_cpuset_next(&allowed, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&allowed, cpu)) {
        struct confined confined = {.cpu = cpu};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, confine, &confined), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(confined.rc, 0);
        assert_int_equal(confined.in_flight, 0);
        if (confined.thread_id == 0) {
            print_message("skipped: io-wq threads cannot be told apart here (pid namespace)\n");
            skip();
        }
        assert_int_equal(confined.affinity_rc, 0);
        assert_int_equal(numaperf_cpuset_count(&confined.actual), 1);
        assert_true(numaperf_cpuset_contains(&confined.actual, cpu));
    }
}

int main(void)
{
    struct numaperf__ring *ring = NULL;
    ring_refusal = numaperf__ring_create(8, &ring);
    if (ring_refusal == 0)
        numaperf__ring_destroy(ring);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_poll_and_read_complete),
        cmocka_unit_test(ring_cancel_ends_a_poll),
        cmocka_unit_test(ring_cancel_all_ends_everything),
        cmocka_unit_test(ring_wait_ends_in_time_and_not_before),
        cmocka_unit_test(ring_wait_returns_when_a_completion_waits_already),
        cmocka_unit_test(ring_signal_ends_a_wait),
        cmocka_unit_test(ring_eventfd_is_signalled),
        cmocka_unit_test(ring_iowq_is_confined_as_read_back),
    };
    int failed = 0;
    RING_RUN_GROUPS(tests, &failed);
    return failed;
}
