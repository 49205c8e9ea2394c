/* SPDX-License-Identifier: MIT */
/* Wakes: one signal or many end one wait, before it or during it. */
#include "io/wake.h"

#include "support/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static int is_readable(const struct numaperf__wake *wake, int timeout_ms)
{
    struct pollfd fd = {.fd = wake->fd, .events = POLLIN};
    return poll(&fd, 1, timeout_ms);
}

static void wake_is_silent_until_signalled(void **state)
{
    (void)state;
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    assert_int_equal(is_readable(&wake, 0), 0);
    numaperf__wake_signal(&wake);
    assert_int_equal(is_readable(&wake, 0), 1);
    numaperf__wake_fini(&wake);
}

static void wake_signals_add_up_to_one(void **state)
{
    (void)state;
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    for (int i = 0; i < 1000; i++)
        numaperf__wake_signal(&wake);
    numaperf__wake_drain(&wake);
    assert_int_equal(is_readable(&wake, 0), 0);
    numaperf__wake_fini(&wake);
}

/* io_uring answers a read of a non-blocking eventfd at once instead of waiting for it. */
static void wake_descriptor_blocks_and_is_not_inherited(void **state)
{
    (void)state;
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    assert_int_equal(fcntl(wake.fd, F_GETFL) & O_NONBLOCK, 0);
    assert_int_equal(fcntl(wake.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    numaperf__wake_fini(&wake);
}

static void *signal_later(void *wake)
{
    test_sleep_ms(20);
    numaperf__wake_signal(wake);
    return NULL;
}

static void wake_of_another_thread_ends_a_wait(void **state)
{
    (void)state;
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, signal_later, &wake), 0);
    assert_int_equal(is_readable(&wake, 60000), 1);
    numaperf__wake_drain(&wake);
    assert_int_equal(pthread_join(thread, NULL), 0);
    numaperf__wake_fini(&wake);
}

static void wake_fini_closes_once(void **state)
{
    (void)state;
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    int fd = wake.fd;
    numaperf__wake_fini(&wake);
    assert_int_equal(wake.fd, -1);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    int reused = dup(STDERR_FILENO); /* takes the number that has become free */
    assert_true(reused >= 0);
    numaperf__wake_fini(&wake);
    assert_true(fcntl(reused, F_GETFD) >= 0);
    (void)close(reused);
}

static void wake_without_descriptors_fails(void **state)
{
    (void)state;
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct numaperf__wake wake;
    int rc = numaperf__wake_init(&wake);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, -EMFILE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wake_is_silent_until_signalled),
        cmocka_unit_test(wake_signals_add_up_to_one),
        cmocka_unit_test(wake_descriptor_blocks_and_is_not_inherited),
        cmocka_unit_test(wake_of_another_thread_ends_a_wait),
        cmocka_unit_test(wake_fini_closes_once),
        cmocka_unit_test(wake_without_descriptors_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
