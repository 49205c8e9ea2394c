/* SPDX-License-Identifier: MIT */
/* Making a loop: bad input, and kernels that refuse the ring, wholly or in part. */
#include "support/census.h"
#include "support/sandbox.h"

#include <numaperf/error.h>
#include <numaperf/loop.h>
#include <numaperf/runtime.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <uv.h>

#include <cmocka.h>

/* ---- bad input ---- */

static void bad_config_is_refused(void **state)
{
    (void)state;
    const numaperf_loop_config_t good = NUMAPERF_LOOP_CONFIG_INIT;
    struct {
        numaperf_loop_config_t config;
        uint64_t tail;
    } bad[11];
    const size_t count = sizeof(bad) / sizeof(bad[0]);
    for (size_t i = 0; i < count; i++) {
        bad[i].config = good;
        bad[i].tail = 0;
    }
    bad[0].config.size = 0;
    bad[1].config.size = 23; /* the first release's, less a byte */
    bad[2].config.flags = 1u << 31;
    bad[3].config.backend = NUMAPERF_IO_EPOLL + 1;
    bad[4].config.ring_entries = 32769;
    bad[5].config.size = sizeof(bad[5]);
    bad[5].tail = 1;
    bad[6].config.buffer_bytes = 3000; /* no power of two */
    bad[7].config.buffer_bytes = 32u << 20;
    bad[8].config.buffer_count = 48;
    bad[9].config.buffer_count = 65536;
    bad[10].config.backend = NUMAPERF_IO_EPOLL;
    bad[10].config.flags = NUMAPERF_LOOP_SQPOLL; /* of io_uring alone */
    for (size_t i = 0; i < count; i++) {
        numaperf_loop_t *loop = (numaperf_loop_t *)&bad;
        int wanted = i == 5 ? -E2BIG : -EINVAL;
        assert_int_equal(numaperf_loop_create(&bad[i].config, &loop), wanted);
        assert_int_equal(numaperf_last_error()->code, wanted);
        assert_ptr_equal(loop, &bad); /* untouched */
    }
    bad[5].tail = 0; /* a longer struct whose unknown tail is zero */
    numaperf_loop_t *loop = NULL;
    assert_int_equal(numaperf_loop_create(&bad[5].config, &loop), 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

static void bad_calls_are_refused(void **state)
{
    (void)state;
    numaperf_loop_t *loop = NULL;
    assert_int_equal(numaperf_loop_create(NULL, NULL), -EINVAL);
    assert_int_equal(numaperf_loop_create(NULL, &loop), 0);
    assert_int_equal(numaperf_loop_run(loop, -1), -EINVAL);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_NOWAIT + 1), -EINVAL);
    assert_int_equal(numaperf_loop_run(NULL, UV_RUN_DEFAULT), -EINVAL);
    assert_int_equal(numaperf_loop_backend(NULL), -EINVAL);
    assert_null(numaperf_loop_backend_reason(NULL));
    assert_null(numaperf_loop_uv(NULL));
    assert_int_equal(numaperf_loop_destroy(NULL), 0);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

/* ---- a kernel without the ring; children, before any thread exists ---- */

static void scene_setup_refused(const void *arg)
{
    const long calls[] = {SYS_io_uring_setup};
    int error = *(const int *)arg;
    numaperf_loop_t *loop = NULL;
    CHECK(numaperf_loop_create(NULL, &loop) == 0); /* what libuv makes once for good */
    CHECK(numaperf_loop_destroy(loop) == 0);
    loop = NULL;
    sandbox_deny(error, calls, 1);
    struct census before = census_take();
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = NUMAPERF_IO_URING;
    CHECK(numaperf_loop_create(&config, &loop) == -error);
    CHECK(numaperf_last_error()->code == -error && numaperf_last_error()->sys_errno == error);
    CHECK(strstr(numaperf_last_error()->reason, "seccomp") != NULL);
    CHECK(loop == NULL);
    CHECK(census_returns_to(&before));
    config.backend = NUMAPERF_IO_AUTO;
    CHECK(numaperf_loop_create(&config, &loop) == 0);
    CHECK(numaperf_loop_backend(loop) == NUMAPERF_IO_EPOLL);
    CHECK(strstr(numaperf_loop_backend_reason(loop), "seccomp") != NULL);
    CHECK(numaperf_loop_run(loop, UV_RUN_DEFAULT) == 0);
    CHECK(numaperf_loop_destroy(loop) == 0);
    CHECK(census_returns_to(&before));
}

static void refused_ring_is_epoll_with_the_cause(void **state)
{
    (void)state;
    const int errors[] = {EPERM, ENOSYS};
    assert_true(sandbox_run(scene_setup_refused, &errors[0]));
    assert_true(sandbox_run(scene_setup_refused, &errors[1]));
}

/* The ring can be made, and then cannot be used. */
static void scene_enter_refused(const void *arg)
{
    const long call = *(const long *)arg;
    sandbox_deny(EPERM, &call, 1);
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    config.workers_per_node = 1;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    CHECK(numaperf_worker_backend(numaperf_rt_worker(rt, 0)) == NUMAPERF_IO_EPOLL);
    CHECK(strstr(numaperf_worker_backend_reason(numaperf_rt_worker(rt, 0)), "refused") != NULL);
    numaperf_rt_destroy(rt);
    config.io_backend = NUMAPERF_IO_URING;
    CHECK(numaperf_rt_start(&config, &rt) == -EPERM);
}

/* The same for a loop of the user, whose ring has to be registered with. */
static void scene_register_refused(const void *arg)
{
    const long call = SYS_io_uring_register;
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    numaperf_loop_t *loop = NULL;
    CHECK(numaperf_loop_create(NULL, &loop) == 0); /* what libuv makes once for good */
    CHECK(numaperf_loop_destroy(loop) == 0);
    loop = NULL;
    sandbox_deny(*(const int *)arg, &call, 1);
    struct census before = census_take();
    config.backend = NUMAPERF_IO_URING;
    CHECK(numaperf_loop_create(&config, &loop) == -*(const int *)arg);
    CHECK(strstr(numaperf_last_error()->reason, "io_uring_register") != NULL);
    CHECK(loop == NULL);
    CHECK(census_returns_to(&before));
    config.backend = NUMAPERF_IO_AUTO;
    CHECK(numaperf_loop_create(&config, &loop) == 0);
    CHECK(numaperf_loop_backend(loop) == NUMAPERF_IO_EPOLL);
    CHECK(strstr(numaperf_loop_backend_reason(loop), "io_uring_register") != NULL);
    CHECK(numaperf_loop_run(loop, UV_RUN_DEFAULT) == 0);
    CHECK(numaperf_loop_destroy(loop) == 0);
    CHECK(census_returns_to(&before));
}

static void ring_that_cannot_be_used_is_epoll(void **state)
{
    (void)state;
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = NUMAPERF_IO_URING;
    numaperf_loop_t *loop = NULL;
    int rc = numaperf_loop_create(&config, &loop);
    if (rc < 0) {
        print_message("skipped: io_uring is refused here: %s\n", numaperf_strerror(rc));
        skip();
    }
    assert_int_equal(numaperf_loop_destroy(loop), 0);
    const long calls[] = {SYS_io_uring_enter, SYS_io_uring_register};
    assert_true(sandbox_run(scene_enter_refused, &calls[0]));
    assert_true(sandbox_run(scene_enter_refused, &calls[1]));
    const int error = EPERM;
    assert_true(sandbox_run(scene_register_refused, &error));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* Those that fork come before there are threads. */
        cmocka_unit_test(refused_ring_is_epoll_with_the_cause),
        cmocka_unit_test(ring_that_cannot_be_used_is_epoll),
        cmocka_unit_test(bad_config_is_refused),
        cmocka_unit_test(bad_calls_are_refused),
    };
    census_prepare();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
