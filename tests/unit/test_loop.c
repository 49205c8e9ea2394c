/* SPDX-License-Identifier: MIT */
/*
 * The hosted loop on this thread, without a runtime, in both backends: what ends a wait, what a
 * turn runs, what libuv does not tell, and closing whatever is left. Where io_uring is refused its
 * cases are skipped with the reason.
 */
#include "io/loop.h"

#include "io/loop_state.h"
#include "support/clock.h"

#include <numaperf/error.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define NO_LIMIT UINT64_MAX

struct fixture {
    uint32_t backend;
    struct numaperf__wake wake;
    numaperf_loop_t *loop;
    uv_loop_t *uv;
};

static struct fixture fixture_uring = {.backend = NUMAPERF_IO_URING};
static struct fixture fixture_epoll = {.backend = NUMAPERF_IO_EPOLL};

static void fixture_open(struct fixture *fixture)
{
    assert_int_equal(numaperf__wake_init(&fixture->wake), 0);
    const struct numaperf__loop_setup setup = {.backend = fixture->backend, .wake = &fixture->wake};
    int rc = numaperf__loop_create_hosted(&setup, &fixture->loop);
    if (rc < 0) {
        numaperf__wake_fini(&fixture->wake);
        assert_int_equal(fixture->backend, NUMAPERF_IO_URING);
        print_message("skipped: %s\n", numaperf_last_error()->reason);
        skip();
    }
    fixture->uv = numaperf_loop_uv(fixture->loop);
    numaperf__loop_turn(fixture->loop); /* what libuv itself has to register */
}

static void fixture_close(struct fixture *fixture)
{
    numaperf__loop_close_hosted(fixture->loop);
    numaperf__wake_fini(&fixture->wake);
}

/* Turn and wait, as a worker does, until it is done. */
static void host(struct fixture *fixture, const int *done)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (*done == 0) {
        assert_true(test_now_ns() < limit_ns);
        numaperf__loop_turn(fixture->loop);
        uint64_t timeout_ns = numaperf__loop_timeout_ns(fixture->loop);
        if (*done == 0 && timeout_ns > 0)
            numaperf__loop_wait(fixture->loop, timeout_ns);
    }
}

/* ---- wait ---- */

static void loop_wake_before_a_wait_ends_it(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    for (int i = 0; i < 100; i++) {
        numaperf__wake_signal(&fixture->wake);
        if (i % 3 == 0)
            numaperf__wake_signal(&fixture->wake);
        numaperf__loop_wait(fixture->loop, NO_LIMIT);
        numaperf__loop_turn(fixture->loop);
    }
    /* None is left over. */
    uint64_t start_ns = test_now_ns();
    numaperf__loop_wait(fixture->loop, 20000000);
    assert_true(test_now_ns() - start_ns >= 20000000);
    fixture_close(fixture);
}

static void *wake_later(void *wake)
{
    test_sleep_ms(20);
    numaperf__wake_signal(wake);
    return NULL;
}

static void loop_wake_during_a_wait_ends_it(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_later, &fixture->wake), 0);
    numaperf__loop_wait(fixture->loop, NO_LIMIT);
    assert_int_equal(pthread_join(thread, NULL), 0);
    fixture_close(fixture);
}

static void loop_without_handles_wants_to_sleep_for_ever(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    assert_true(numaperf__loop_timeout_ns(fixture->loop) == NO_LIMIT);
    assert_int_equal(numaperf_loop_backend(fixture->loop), (int)fixture->backend);
    assert_true((numaperf_loop_backend_reason(fixture->loop) == NULL) ==
                (fixture->backend == NUMAPERF_IO_URING));
    fixture_close(fixture);
}

/* ---- turn ---- */

static void timer_fired(uv_timer_t *timer)
{
    *(int *)timer->data = 1;
}

static void loop_timer_decides_the_wait(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    int fired = 0;
    uv_timer_t timer;
    assert_int_equal(uv_timer_init(fixture->uv, &timer), 0);
    timer.data = &fired;
    uv_unref((uv_handle_t *)&timer); /* a worker's loop is alive all the same */
    uv_update_time(fixture->uv);
    uint64_t start_ns = uv_hrtime();
    assert_int_equal(uv_timer_start(&timer, timer_fired, 30, 0), 0);
    uint64_t timeout_ns = numaperf__loop_timeout_ns(fixture->loop);
    assert_true(timeout_ns > 0 && timeout_ns <= 30000000);
    host(fixture, &fired);
    assert_true(uv_hrtime() - start_ns + 1000000 >= 30000000);
    fixture_close(fixture);
}

static void loop_refreshed_time_follows_the_clock(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    uint64_t before_ms = uv_now(fixture->uv);
    test_sleep_ms(60);
    numaperf__loop_refresh_time(fixture->loop);
    assert_true(uv_now(fixture->uv) - before_ms >= 60 - 1);
    fixture_close(fixture);
}

static void poll_readable(uv_poll_t *poll, int status, int events)
{
    char byte = 0;
    assert_int_equal(status, 0);
    assert_true((events & UV_READABLE) != 0);
    uv_os_fd_t fd = -1;
    assert_int_equal(uv_fileno((uv_handle_t *)poll, &fd), 0);
    *(ssize_t *)poll->data = read(fd, &byte, 1);
}

/* What the loop relies on uv_backend_timeout() for: otherwise this would say "sleep". */
static void loop_sees_a_handle_libuv_has_not_registered(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_true(numaperf__loop_timeout_ns(fixture->loop) == NO_LIMIT);
    uv_poll_t poll;
    ssize_t seen = 0;
    assert_int_equal(uv_poll_init(fixture->uv, &poll, ends[0]), 0);
    poll.data = &seen;
    assert_int_equal(uv_poll_start(&poll, UV_READABLE, poll_readable), 0);
    assert_true(numaperf__loop_timeout_ns(fixture->loop) == 0);
    numaperf__loop_turn(fixture->loop);
    assert_true(numaperf__loop_timeout_ns(fixture->loop) == NO_LIMIT);
    assert_int_equal(write(ends[1], "x", 1), 1);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (seen == 0) {
        assert_true(test_now_ns() < limit_ns);
        numaperf__loop_wait(fixture->loop, NO_LIMIT);
        numaperf__loop_turn(fixture->loop);
    }
    assert_int_equal(seen, 1);
    fixture_close(fixture);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void prepare_ran(uv_prepare_t *prepare)
{
    (*(int *)prepare->data)++;
}

static void loop_runs_prepare_handles_once_before_a_wait(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    int count = 0;
    uv_prepare_t prepare;
    assert_int_equal(uv_prepare_init(fixture->uv, &prepare), 0);
    prepare.data = &count;
    assert_int_equal(uv_prepare_start(&prepare, prepare_ran), 0);
    assert_true(numaperf__loop_timeout_ns(fixture->loop) == 0);
    numaperf__loop_turn(fixture->loop);
    assert_int_equal(count, 1);
    /* Then it may sleep: a prepare handle must not make it spin. */
    assert_true(numaperf__loop_timeout_ns(fixture->loop) == NO_LIMIT);
    numaperf__wake_signal(&fixture->wake);
    numaperf__loop_wait(fixture->loop, NO_LIMIT);
    numaperf__loop_turn(fixture->loop);
    assert_int_equal(count, 2);
    /* Stopped and started again by the same task: it is new. */
    assert_int_equal(uv_prepare_stop(&prepare), 0);
    numaperf__loop_turn(fixture->loop);
    assert_int_equal(uv_prepare_start(&prepare, prepare_ran), 0);
    numaperf__wake_signal(&fixture->wake);
    numaperf__loop_wait(fixture->loop, NO_LIMIT);
    numaperf__loop_turn(fixture->loop);
    assert_int_equal(count, 3);
    fixture_close(fixture);
}

static void loop_uv_stop_does_no_harm(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    int fired = 0;
    uv_timer_t timer;
    assert_int_equal(uv_timer_init(fixture->uv, &timer), 0);
    timer.data = &fired;
    assert_int_equal(uv_timer_start(&timer, timer_fired, 1, 0), 0);
    uv_stop(fixture->uv);
    host(fixture, &fired);
    uv_stop(fixture->uv);
    fixture_close(fixture);
}

static void count_owned(uv_handle_t *handle, void *data)
{
    int *counts = data;
    counts[numaperf_loop_owns(handle) ? 1 : 0]++;
}

static void loop_walk_tells_own_handles(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    int counts[2] = {0, 0};
    uv_timer_t timer;
    assert_int_equal(uv_timer_init(fixture->uv, &timer), 0);
    timer.data = NULL;
    uv_walk(fixture->uv, count_owned, counts);
    assert_int_equal(counts[0], 1);
    assert_int_equal(counts[1], 1);
    assert_false(numaperf_loop_owns(NULL));
    assert_false(numaperf_loop_owns((uv_handle_t *)&timer));
    fixture_close(fixture);
}

/* ---- operations ---- */

struct counted {
    struct numaperf__op op;
    numaperf_loop_t *loop;
    int done;
    int submitted; /* what submitting it again gave */
};

static void count_done(struct numaperf__op *op)
{
    NUMAPERF_CONTAINER_OF(op, struct counted, op)->done++;
}

static void again_done(struct numaperf__op *op)
{
    struct counted *counted = NUMAPERF_CONTAINER_OF(op, struct counted, op);
    counted->done++;
    counted->submitted = numaperf__loop_submit(counted->loop, op);
}

static void loop_operation_ends_a_wait(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct counted nop = {.op = {.kind = NUMAPERF__OP_NOP, .done = count_done}};
    int rc = numaperf__loop_submit(fixture->loop, &nop.op);
    if (fixture->backend == NUMAPERF_IO_EPOLL) {
        assert_int_equal(rc, NUMAPERF_E_UNSUPPORTED);
        assert_null(numaperf__loop_ring(fixture->loop));
    } else {
        assert_int_equal(rc, 0);
        assert_true(numaperf__loop_ready(fixture->loop));
        host(fixture, &nop.done);
        assert_int_equal(nop.done, 1);
    }
    fixture_close(fixture);
}

struct starter {
    struct numaperf__op op;
    uv_timer_t timer;
    int fired;
    uint64_t start_ns;
};

static void starter_done(struct numaperf__op *op)
{
    struct starter *starter = NUMAPERF_CONTAINER_OF(op, struct starter, op);
    starter->start_ns = uv_hrtime();
    assert_int_equal(uv_timer_start(&starter->timer, timer_fired, 30, 0), 0);
}

/* libuv's time stood still for longer than the timer lasts. */
static void loop_operation_starts_a_timer_from_the_present(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    struct starter starter = {.op = {.kind = NUMAPERF__OP_NOP, .done = starter_done}};
    assert_int_equal(uv_timer_init(fixture->uv, &starter.timer), 0);
    starter.timer.data = &starter.fired;
    assert_int_equal(numaperf__loop_submit(fixture->loop, &starter.op), 0);
    test_sleep_ms(60);
    host(fixture, &starter.fired);
    assert_true(uv_hrtime() - starter.start_ns + 2000000 >= 30000000);
    fixture_close(fixture);
}

static void loop_close_cancels_what_is_in_flight(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct counted poll = {
        .op = {.kind = NUMAPERF__OP_POLL, .fd = ends[0], .poll_events = POLLIN, .done = again_done},
        .loop = fixture->loop};
    struct counted nop = {.op = {.kind = NUMAPERF__OP_NOP, .done = again_done},
                          .loop = fixture->loop};
    assert_int_equal(numaperf__loop_submit(fixture->loop, &poll.op), 0);
    assert_int_equal(numaperf__ring_flush(numaperf__loop_ring(fixture->loop)), 0);
    assert_int_equal(numaperf__loop_submit(fixture->loop, &nop.op), 0);
    fixture_close(fixture);
    assert_int_equal(poll.done, 1);
    assert_int_equal(poll.op.result, -ECANCELED);
    assert_int_equal(poll.submitted, NUMAPERF_E_STOPPING);
    assert_int_equal(nop.done, 1);
    assert_int_equal(nop.submitted, NUMAPERF_E_STOPPING);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* ---- close ---- */

static struct {
    uv_timer_t timer;
    uv_async_t async;
    uv_idle_t idle;
    int reopened;
    int work_done;
    int work_status;
} left;

static void left_closed(uv_handle_t *handle)
{
    /* Opened on the way out, active and referenced: a whole uv_run() would never end. */
    left.reopened++;
    assert_int_equal(uv_async_init(handle->loop, &left.async, NULL), 0);
    assert_int_equal(uv_idle_init(handle->loop, &left.idle), 0);
}

static void loop_close_goes_on_when_close_callbacks_open_handles(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    memset(&left, 0, sizeof(left));
    assert_int_equal(uv_timer_init(fixture->uv, &left.timer), 0);
    assert_int_equal(uv_timer_start(&left.timer, timer_fired, 100000, 0), 0);
    uv_close((uv_handle_t *)&left.timer, left_closed);
    fixture_close(fixture);
    assert_int_equal(left.reopened, 1);
}

static void left_work(uv_work_t *work)
{
    (void)work;
    test_sleep_ms(100);
}

static void left_work_done(uv_work_t *work, int status)
{
    (void)work;
    left.work_done++;
    left.work_status = status;
}

static void loop_close_waits_for_the_thread_pool(void **state)
{
    struct fixture *fixture = *state;
    fixture_open(fixture);
    memset(&left, 0, sizeof(left));
    uv_work_t work;
    assert_int_equal(uv_queue_work(fixture->uv, &work, left_work, left_work_done), 0);
    fixture_close(fixture);
    assert_int_equal(left.work_done, 1);
    assert_int_equal(left.work_status, 0);
}

static void loop_close_takes_null(void **state)
{
    (void)state;
    numaperf__loop_close_hosted(NULL);
}

int main(void)
{
#define BOTH(test)                                            \
    {#test "_in_io_uring", test, NULL, NULL, &fixture_uring}, \
    {                                                         \
#test "_in_epoll", test, NULL, NULL, &fixture_epoll   \
    }
    const struct CMUnitTest tests[] = {
        BOTH(loop_wake_before_a_wait_ends_it),
        BOTH(loop_wake_during_a_wait_ends_it),
        BOTH(loop_without_handles_wants_to_sleep_for_ever),
        BOTH(loop_timer_decides_the_wait),
        BOTH(loop_refreshed_time_follows_the_clock),
        BOTH(loop_sees_a_handle_libuv_has_not_registered),
        BOTH(loop_runs_prepare_handles_once_before_a_wait),
        BOTH(loop_uv_stop_does_no_harm),
        BOTH(loop_walk_tells_own_handles),
        BOTH(loop_operation_ends_a_wait),
        {"loop_operation_starts_a_timer_from_the_present_in_io_uring",
         loop_operation_starts_a_timer_from_the_present, NULL, NULL, &fixture_uring},
        {"loop_close_cancels_what_is_in_flight_in_io_uring", loop_close_cancels_what_is_in_flight,
         NULL, NULL, &fixture_uring},
        BOTH(loop_close_goes_on_when_close_callbacks_open_handles),
        BOTH(loop_close_waits_for_the_thread_pool),
        cmocka_unit_test(loop_close_takes_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
