/* SPDX-License-Identifier: MIT */
/*
 * Requests of the user's own, on a loop that is run and on a hosted one: done as often as the
 * kernel completes them, never inside the call, cancelled at the end, and none that could not be
 * accounted for.
 */
#include <numaperf/loop.h>

#include "io/loop.h"
#include "io/loop_state.h"
#include "support/clock.h"

#include <numaperf/error.h>

#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define MANY 3000

static int ring_refusal;

#define SKIP_WITHOUT_RING()                                          \
    do {                                                             \
        if (ring_refusal < 0) {                                      \
            print_message("skipped: io_uring is refused here: %s\n", \
                          numaperf_strerror(ring_refusal));          \
            skip();                                                  \
        }                                                            \
    } while (0)

/* A request, and what came of it. */
struct asked {
    uint8_t opcode;
    uint8_t flags;
    int fd;
    uint32_t poll_events;
    uint32_t length; /* of IORING_OP_POLL_ADD: IORING_POLL_ADD_MULTI */
    uint64_t address;
    numaperf_loop_t *again_loop; /* another one of these is asked for by `fill`, or by `done` */
    struct asked *again;
    int again_rc;
    bool again_in_fill;
    unsigned filled;
    unsigned done;
    unsigned last; /* completions without IORING_CQE_F_MORE */
    int32_t result;
};

static void asked_done(int32_t result, uint32_t flags, void *data);

static void asked_fill(struct io_uring_sqe *sqe, void *data)
{
    struct asked *asked = data;
    asked->filled++;
    assert_int_equal(sqe->opcode, 0); /* a clean one */
    assert_true(sqe->user_data == 0 && sqe->flags == 0);
    sqe->opcode = asked->opcode;
    sqe->flags = asked->flags;
    sqe->fd = asked->fd;
    sqe->addr = asked->address;
    sqe->len = asked->length;
    sqe->poll32_events = asked->poll_events;
    sqe->user_data = 0x1234; /* not the user's: is written over */
    if (asked->again != NULL && asked->again_in_fill)
        asked->again_rc =
            numaperf_loop_sqe(asked->again_loop, asked_fill, asked_done, asked->again);
}

static void asked_done(int32_t result, uint32_t flags, void *data)
{
    struct asked *asked = data;
    asked->done++;
    asked->result = result;
    if ((flags & IORING_CQE_F_MORE) == 0)
        asked->last++;
    if (asked->again != NULL && !asked->again_in_fill)
        asked->again_rc =
            numaperf_loop_sqe(asked->again_loop, asked_fill, asked_done, asked->again);
}

static numaperf_loop_t *loop_open(uint32_t backend)
{
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = backend;
    numaperf_loop_t *loop = NULL;
    assert_int_equal(numaperf_loop_create(&config, &loop), 0);
    return loop;
}

static int ask(numaperf_loop_t *loop, struct asked *asked)
{
    return numaperf_loop_sqe(loop, asked_fill, asked_done, asked);
}

static struct asked poll_of(int fd)
{
    return (struct asked){.opcode = IORING_OP_POLL_ADD, .fd = fd, .poll_events = POLLIN};
}

/* ---- refusals ---- */

static void sqe_bad_arguments_are_refused(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    struct asked nop = {.opcode = IORING_OP_NOP};
    assert_int_equal(numaperf_loop_sqe(NULL, asked_fill, asked_done, &nop), -EINVAL);
    assert_int_equal(numaperf_loop_sqe(loop, NULL, asked_done, &nop), -EINVAL);
    assert_int_equal(numaperf_loop_sqe(loop, asked_fill, NULL, &nop), -EINVAL);
    assert_int_equal(nop.filled, 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void sqe_without_a_ring_is_unsupported_with_the_cause(void **state)
{
    (void)state;
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_EPOLL);
    struct asked nop = {.opcode = IORING_OP_NOP};
    assert_int_equal(ask(loop, &nop), NUMAPERF_E_UNSUPPORTED);
    assert_non_null(strstr(numaperf_last_error()->reason, "epoll was asked for"));
    assert_int_equal(nop.filled, 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void sqe_forbidden_flag_submits_nothing(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    const uint8_t forbidden[] = {IOSQE_CQE_SKIP_SUCCESS, IOSQE_IO_LINK, IOSQE_IO_HARDLINK,
                                 IOSQE_IO_DRAIN, IOSQE_IO_DRAIN | IOSQE_ASYNC};
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    struct numaperf__ring_counters counters;
    for (size_t i = 0; i < sizeof(forbidden); i++) {
        struct asked bad = {.opcode = IORING_OP_NOP, .flags = forbidden[i]};
        assert_int_equal(ask(loop, &bad), -EINVAL);
        assert_non_null(strstr(numaperf_last_error()->reason, "not allowed"));
        assert_int_equal(bad.filled, 1);
        assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
        assert_int_equal(bad.done, 0);
    }
    numaperf__ring_get_counters(numaperf__loop_ring(loop), &counters);
    assert_int_equal(counters.completions, 0); /* not even of a NOP */
    struct asked good = {.opcode = IORING_OP_NOP, .flags = IOSQE_ASYNC};
    assert_int_equal(ask(loop, &good), 0);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_true(good.done == 1 && good.result == 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void *ask_elsewhere(void *loop)
{
    struct asked nop = {.opcode = IORING_OP_NOP};
    int rc = ask(loop, &nop);
    return (void *)(intptr_t)(nop.filled == 0 ? rc : 1);
}

static void sqe_of_another_thread_is_refused(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_NOWAIT), 0); /* it is ours now */
    pthread_t thread;
    void *rc = NULL;
    assert_int_equal(pthread_create(&thread, NULL, ask_elsewhere, loop), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal((intptr_t)rc, -EBUSY);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

/* ---- completions ---- */

static void sqe_is_done_once_and_not_inside_the_call(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    struct asked nop = {.opcode = IORING_OP_NOP};
    assert_int_equal(ask(loop, &nop), 0);
    assert_true(nop.filled == 1 && nop.done == 0);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_true(nop.filled == 1 && nop.done == 1 && nop.last == 1 && nop.result == 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void sqe_that_the_kernel_turns_down_is_done_with_its_error(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    struct asked unknown = {.opcode = 250};
    assert_int_equal(ask(loop, &unknown), 0);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_true(unknown.done == 1 && unknown.result == -EINVAL);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static struct asked many[MANY];

/* More than the SQ has room for, and more than the CQ. */
static void sqe_many_are_each_done_once(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    for (int round = 1; round <= 2; round++) {
        for (size_t i = 0; i < MANY; i++) {
            many[i] = (struct asked){.opcode = IORING_OP_NOP};
            assert_int_equal(ask(loop, &many[i]), 0);
        }
        assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
        for (size_t i = 0; i < MANY; i++)
            assert_true(many[i].done == 1 && many[i].result == 0);
    }
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void sqe_asked_for_by_fill_is_one_of_its_own(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    for (size_t i = 0; i < MANY; i++) /* the SQ is full in between: what is half filled stays */
        many[i] = (struct asked){.opcode = IORING_OP_NOP,
                                 .again_loop = loop,
                                 .again = i % 2 == 0 ? &many[i + 1] : NULL,
                                 .again_in_fill = true};
    for (size_t i = 0; i < MANY; i += 2)
        assert_int_equal(ask(loop, &many[i]), 0);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    for (size_t i = 0; i < MANY; i++)
        assert_true(many[i].filled == 1 && many[i].done == 1 && many[i].result == 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void sqe_asked_for_by_done_is_done(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    for (size_t i = 0; i < MANY; i++)
        many[i] = (struct asked){.opcode = IORING_OP_NOP,
                                 .again_loop = loop,
                                 .again = i + 1 < MANY ? &many[i + 1] : NULL};
    assert_int_equal(ask(loop, &many[0]), 0);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(many[i].done, 1);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

/* ---- life of a loop that is run ---- */

static void sqe_in_flight_keeps_the_loop_alive_and_there(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_t *loop = loop_open(NUMAPERF_IO_URING);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct asked poll = poll_of(fds[0]);
    assert_int_equal(ask(loop, &poll), 0);
    assert_int_not_equal(numaperf_loop_run(loop, UV_RUN_NOWAIT), 0);
    assert_int_equal(poll.done, 0);
    assert_int_equal(numaperf_loop_destroy(loop), -EBUSY);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_true(poll.done == 1 && poll.result == POLLIN);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* ---- hosted ---- */

struct host {
    struct numaperf__wake wake;
    numaperf_loop_t *loop;
};

static void host_open(struct host *host)
{
    const struct numaperf__loop_setup setup = {.backend = NUMAPERF_IO_URING, .wake = &host->wake};
    assert_int_equal(numaperf__wake_init(&host->wake), 0);
    assert_int_equal(numaperf__loop_create_hosted(&setup, &host->loop), 0);
}

static void host_until(struct host *host, const unsigned *done, unsigned count)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(20);
    while (*done < count) {
        assert_true(test_now_ns() < limit_ns);
        numaperf__loop_turn(host->loop);
        if (*done < count && !numaperf__loop_ready(host->loop))
            numaperf__loop_wait(host->loop, 1000000);
    }
}

static void host_close(struct host *host)
{
    numaperf__loop_close_hosted(host->loop);
    numaperf__wake_fini(&host->wake);
}

static void sqe_multishot_is_done_as_often_and_ends_once(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    struct host host;
    host_open(&host);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    struct asked poll = poll_of(fds[0]);
    poll.length = IORING_POLL_ADD_MULTI;
    assert_int_equal(ask(host.loop, &poll), 0);
    char byte = 0;
    for (unsigned i = 1; i <= 5; i++) {
        assert_int_equal(write(fds[1], "x", 1), 1);
        host_until(&host, &poll.done, i);
        assert_true(poll.done == i && poll.last == 0 && poll.result == POLLIN);
        assert_int_equal(read(fds[0], &byte, 1), 1);
    }
    host_close(&host);
    assert_true(poll.last == 1 && poll.result == -ECANCELED);
    assert_int_equal(poll.done, 6);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

#define NEVER_READY 700 /* more than the SQ takes at once */

static void sqe_in_flight_is_cancelled_when_the_loop_closes(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    struct host host;
    host_open(&host);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    for (size_t i = 0; i < NEVER_READY; i++) {
        many[i] = poll_of(fds[0]);
        many[i].again_loop = host.loop;
        many[i].again = &many[NEVER_READY]; /* asked for in the midst of the close */
        assert_int_equal(ask(host.loop, &many[i]), 0);
    }
    many[NEVER_READY] = (struct asked){.opcode = IORING_OP_NOP};
    numaperf__loop_turn(host.loop);
    host_close(&host);
    for (size_t i = 0; i < NEVER_READY; i++) {
        assert_true(many[i].done == 1 && many[i].result == -ECANCELED);
        assert_int_equal(many[i].again_rc, NUMAPERF_E_STOPPING);
    }
    assert_int_equal(many[NEVER_READY].filled, 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sqe_bad_arguments_are_refused),
        cmocka_unit_test(sqe_without_a_ring_is_unsupported_with_the_cause),
        cmocka_unit_test(sqe_forbidden_flag_submits_nothing),
        cmocka_unit_test(sqe_of_another_thread_is_refused),
        cmocka_unit_test(sqe_is_done_once_and_not_inside_the_call),
        cmocka_unit_test(sqe_that_the_kernel_turns_down_is_done_with_its_error),
        cmocka_unit_test(sqe_many_are_each_done_once),
        cmocka_unit_test(sqe_asked_for_by_fill_is_one_of_its_own),
        cmocka_unit_test(sqe_asked_for_by_done_is_done),
        cmocka_unit_test(sqe_in_flight_keeps_the_loop_alive_and_there),
        cmocka_unit_test(sqe_multishot_is_done_as_often_and_ends_once),
        cmocka_unit_test(sqe_in_flight_is_cancelled_when_the_loop_closes),
    };
    struct numaperf__ring *ring = NULL;
    ring_refusal = numaperf__ring_create(4, &ring);
    numaperf__ring_destroy(ring);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
