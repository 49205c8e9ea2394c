/* SPDX-License-Identifier: MIT */
/*
 * Runtimes where the kernel refuses: io_uring by a filter or a setting, placement by a filter.
 * Soft mode goes on and says why; a ring that was asked for by name fails with the cause. Hard mode
 * is in test_hard_refusals.c.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#define IO_URING_DISABLED "/proc/sys/kernel/io_uring_disabled"

struct denial {
    long call; /* 0: nothing is filtered */
    int error;
    bool ring_made; /* the ring is refused after it was set up */
};

static void deny(const struct denial *denial)
{
    if (denial->call != 0)
        sandbox_deny(denial->error, &denial->call, 1);
}

static void timer_fired(uv_timer_t *timer)
{
    (void)atomic_fetch_add((atomic_int *)timer->data, 1);
    uv_close((uv_handle_t *)timer, NULL);
}

static uv_timer_t timers[64];

static void start_timer(numaperf_worker_t *worker, void *arg)
{
    uv_timer_t *timer = &timers[numaperf_worker_index(worker) % 64];
    timer->data = arg;
    (void)uv_timer_init(numaperf_worker_loop(worker), timer);
    (void)uv_timer_start(timer, timer_fired, 2, 0);
}

/* Tasks and libuv's own events, on every node. */
static void check_works(numaperf_rt_t *rt)
{
    atomic_int ran = 0;
    int count = numaperf_rt_each_node(rt, runtime_count_task, &ran);
    CHECK(count > 0 && runtime_reaches(&ran, count));
    test_sleep_ms(5); /* asleep when the next ones come */
    CHECK(numaperf_rt_each_node(rt, start_timer, &ran) == count);
    CHECK(runtime_reaches(&ran, 2 * count));
}

static void warm_up(void)
{
    census_prepare();
    numaperf_rt_t *rt = NULL;
    CHECK(numaperf_rt_start(NULL, &rt) == 0);
    numaperf_rt_destroy(rt);
}

static void scene_without_ring(const void *arg)
{
    const struct denial *denial = arg;
    deny(denial);
    warm_up();
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    uint32_t count = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    for (uint32_t i = 0; i < count; i++) {
        const numaperf_worker_t *worker = numaperf_rt_worker(rt, i);
        const char *reason = numaperf_worker_backend_reason(worker);
        CHECK(numaperf_worker_backend(worker) == NUMAPERF_IO_EPOLL);
        CHECK(reason != NULL);
        if (strstr(reason, numaperf_strerror(-denial->error)) == NULL)
            (void)fprintf(stderr, "%s\n", reason);
        CHECK(strstr(reason, numaperf_strerror(-denial->error)) != NULL);
        numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
        CHECK(numaperf_rt_worker_stats(rt, i, &stats) == 0 && stats.ring_enters == 0);
    }
    check_works(rt);
    numaperf_rt_destroy(rt);

    struct census before = census_take();
    config.io_backend = NUMAPERF_IO_URING;
    rt = NULL;
    CHECK(numaperf_rt_start(&config, &rt) == -denial->error);
    CHECK(rt == NULL);
    const numaperf_error_t *error = numaperf_last_error();
    CHECK(error->code == -denial->error && error->sys_errno == denial->error);
    CHECK(strncmp(error->operation, "io_uring", strlen("io_uring")) == 0);
    CHECK(error->reason[0] != '\0');
    CHECK(census_returns_to(&before));
}

/* Each refusal leaves its own record, also after another with the same code. */
static void check_query_refused(numaperf_rt_t *rt, int error)
{
    numaperf_worker_t *worker = numaperf_rt_worker(rt, 0);
    numaperf_placement_t placement = NUMAPERF_PLACEMENT_INIT;
    CHECK(numaperf_arena_audit(numaperf_worker_arena(worker), &placement) == -error);
    CHECK(strcmp(numaperf_last_error()->operation, "placement") != 0);
    CHECK(numaperf_worker_placement(worker, NUMAPERF_WORKER_STACK, &placement) == -error);
    CHECK(strcmp(numaperf_last_error()->operation, "placement") == 0);
    CHECK(numaperf_last_error()->code == -error && numaperf_last_error()->sys_errno == error);
}

static void scene_without_placement(const void *arg)
{
    const struct denial *denial = arg;
    deny(denial);
    warm_up();
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    numaperf_enforcement_t level;
    CHECK(numaperf_rt_enforcement(rt, &level) == 0);
    CHECK(!numaperf_is_strict(&level));
    CHECK(numaperf_enforcement_reason(&level) != NULL && level.reason[0] != '\0');
    check_works(rt);
    if (denial->call == SYS_move_pages)
        check_query_refused(rt, denial->error);
    numaperf_rt_destroy(rt);
}

/* ---- cases ---- */

static void refused_ring_means_epoll_with_the_cause(void **state)
{
    (void)state;
    const long calls[] = {SYS_io_uring_setup, SYS_io_uring_register, SYS_io_uring_enter};
    const int errors[] = {EPERM, ENOSYS};
    for (int i = 0; i < 6; i++) {
        const struct denial denial = {.call = calls[i % 3], .error = errors[i / 3]};
        print_message("system call %ld, error %d\n", denial.call, denial.error);
        assert_true(sandbox_run(scene_without_ring, &denial));
    }
}

static bool write_disabled(const char *value)
{
    FILE *file = fopen(IO_URING_DISABLED, "we");
    if (file == NULL)
        return false;
    bool is_written = fputs(value, file) >= 0;
    return fclose(file) == 0 && is_written;
}

static void disabled_ring_means_epoll_with_the_cause(void **state)
{
    (void)state;
    const struct denial denial = {.error = EPERM};
    char value = '0';
    FILE *file = fopen(IO_URING_DISABLED, "re");
    if (file != NULL) {
        value = (char)fgetc(file);
        (void)fclose(file);
    }
    if (value == '2') {
        assert_true(sandbox_run(scene_without_ring, &denial));
        return;
    }
    if (!test_is_guest() || geteuid() != 0 || !write_disabled("2")) {
        print_message("skipped: kernel.io_uring_disabled is not 2, and only a guest's root sets "
                      "it, where the kernel has it\n");
        skip();
    }
    bool is_right = sandbox_run(scene_without_ring, &denial);
    assert_true(write_disabled("0"));
    assert_true(is_right);
}

static void refused_placement_is_reported(void **state)
{
    (void)state;
    const long calls[] = {SYS_mbind, SYS_set_mempolicy, SYS_get_mempolicy, SYS_move_pages,
                          SYS_sched_setaffinity};
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        const struct denial denial = {.call = calls[i], .error = EPERM};
        print_message("system call %ld\n", denial.call);
        assert_true(sandbox_run(scene_without_placement, &denial));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_ring_means_epoll_with_the_cause),
        cmocka_unit_test(disabled_ring_means_epoll_with_the_cause),
        cmocka_unit_test(refused_placement_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
