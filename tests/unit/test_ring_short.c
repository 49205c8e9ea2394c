/* SPDX-License-Identifier: MIT */
/*
 * A kernel that is short of memory, or busy: entering the ring fails for a while. This program's
 * functions stand before liburing's. Where io_uring is refused, cases are skipped with the reason.
 */
#include "io/loop.h"
#include "io/ring.h"
#include "support/ring_ops.h"

#include <dlfcn.h>
#include <errno.h>
#include <liburing.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* ---- liburing ---- */

static int enter_error; /* what entering says; 0: it works */

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    assert_non_null(found);
    return found;
}

int io_uring_submit_and_get_events(struct io_uring *ring)
{
    int (*fn)(struct io_uring *) = NULL;
    *(void **)&fn = real("io_uring_submit_and_get_events");
    return enter_error != 0 ? enter_error : fn(ring);
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
    int (*fn)(struct io_uring *, unsigned) = NULL;
    *(void **)&fn = real("io_uring_submit_and_wait");
    return enter_error != 0 ? enter_error : fn(ring, wait_nr);
}

int io_uring_submit_and_wait_timeout(struct io_uring *ring, struct io_uring_cqe **cqe_ptr,
                                     unsigned wait_nr, struct __kernel_timespec *ts,
                                     sigset_t *sigmask)
{
    int (*fn)(struct io_uring *, struct io_uring_cqe **, unsigned, struct __kernel_timespec *,
              sigset_t *) = NULL;
    *(void **)&fn = real("io_uring_submit_and_wait_timeout");
    return enter_error != 0 ? enter_error : fn(ring, cqe_ptr, wait_nr, ts, sigmask);
}

/* ---- cases ---- */

static const int passing_errors[] = {-EAGAIN, -EBUSY, -EINTR, -ENOMEM, -EBADR};

static void ring_keeps_what_a_short_kernel_did_not_take(void **state)
{
    SKIP_WITHOUT_RING(state);
    for (size_t i = 0; i < sizeof(passing_errors) / sizeof(passing_errors[0]); i++) {
        struct numaperf__ring *ring = ring_open(8);
        struct counted nop;
        counted_init(&nop, NUMAPERF__OP_NOP);
        assert_int_equal(numaperf__ring_submit(ring, &nop.op), 0);
        enter_error = passing_errors[i];
        assert_int_equal(numaperf__ring_flush(ring), 0);
        assert_int_equal(numaperf__ring_wait(ring, 1000000), 0);
        assert_int_equal(numaperf__ring_wait(ring, NO_LIMIT), 0);
        assert_true(numaperf__ring_pending(ring));
        assert_int_equal(nop.done_count, 0);
        enter_error = 0;
        assert_int_equal(drain(ring), 1);
        assert_int_equal(nop.done_count, 1);
        numaperf__ring_destroy(ring);
    }
}

static void ring_tells_what_does_not_pass(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    struct counted nop;
    counted_init(&nop, NUMAPERF__OP_NOP);
    assert_int_equal(numaperf__ring_submit(ring, &nop.op), 0);
    enter_error = -EBADF;
    assert_int_equal(numaperf__ring_flush(ring), -EBADF);
    assert_int_equal(numaperf__ring_wait(ring, NO_LIMIT), -EBADF);
    enter_error = 0;
    assert_int_equal(drain(ring), 1);
    numaperf__ring_destroy(ring);
}

#define NOPS_MAX 1000

static struct counted nops[NOPS_MAX];

/* The SQ is full of somebody's operations: no room for the loop's own. */
static void loop_goes_on_when_its_ring_is_full_and_the_kernel_short(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__wake wake;
    numaperf_loop_t *loop = NULL;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    const struct numaperf__loop_setup setup = {.backend = NUMAPERF_IO_URING, .wake = &wake};
    assert_int_equal(numaperf__loop_create_hosted(&setup, &loop), 0);
    enter_error = -ENOMEM;
    int count = 0;
    int rc = 0;
    while (count < NOPS_MAX && rc == 0) {
        counted_init(&nops[count], NUMAPERF__OP_NOP);
        rc = numaperf__loop_submit(loop, &nops[count].op);
        count += rc == 0;
    }
    assert_int_equal(rc, -EBUSY);
    for (int i = 0; i < 3; i++) {
        numaperf__loop_turn(loop);
        assert_int_equal(numaperf__loop_timeout_ns(loop), 0); /* libuv is not watched */
        numaperf__loop_wait(loop, NO_LIMIT);
    }
    enter_error = 0;
    while (numaperf__ring_in_flight(numaperf__loop_ring(loop)) > 1) /* the poll */
        numaperf__loop_turn(loop);
    for (int i = 0; i < count; i++)
        assert_int_equal(nops[i].done_count, 1);
    assert_true(numaperf__loop_timeout_ns(loop) > 0);
    numaperf__wake_signal(&wake);
    numaperf__loop_wait(loop, NO_LIMIT);
    numaperf__loop_close_hosted(loop);
    numaperf__wake_fini(&wake);
}

int main(void)
{
    struct numaperf__ring *ring = NULL;
    ring_refusal = numaperf__ring_create(8, &ring);
    if (ring_refusal == 0)
        numaperf__ring_destroy(ring);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_keeps_what_a_short_kernel_did_not_take),
        cmocka_unit_test(ring_tells_what_does_not_pass),
        cmocka_unit_test(loop_goes_on_when_its_ring_is_full_and_the_kernel_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
