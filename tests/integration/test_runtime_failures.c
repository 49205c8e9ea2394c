/* SPDX-License-Identifier: MIT */
/*
 * Every step of a start fails once: the first call of each function it depends on, then the
 * second, and so on until a start no longer gets that far. So every worker is the one that fails,
 * at every step. Each time nothing may be left, and the error must say what failed.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

/* ---- injection ---- */

enum point {
    NOWHERE,
    PTHREAD_CREATE,
    MMAP,
    MPROTECT,
    EVENTFD,
    CALLOC,
    MALLOC,
    ALIGNED_ALLOC,
    UV_LOOP_INIT,
    UV_ASYNC_INIT,
    RING_SETUP,
    RING_REGISTER,
    RING_IOWQ_AFFINITY,
    RING_IOWQ_LIMITS,
    SET_AFFINITY,
    GET_AFFINITY,
    SET_MEMPOLICY,
    GET_MEMPOLICY,
    MOVE_PAGES,
    MBIND,
    POINT_COUNT
};

static const struct {
    const char *name;
    int error;
} points[POINT_COUNT] = {
    [PTHREAD_CREATE] = {"pthread_create", EAGAIN},
    [MMAP] = {"mmap", ENOMEM},
    [MPROTECT] = {"mprotect", ENOMEM},
    [EVENTFD] = {"eventfd", EMFILE},
    [CALLOC] = {"calloc", ENOMEM},
    [MALLOC] = {"malloc", ENOMEM},
    [ALIGNED_ALLOC] = {"aligned_alloc", ENOMEM},
    [UV_LOOP_INIT] = {"uv_loop_init", EMFILE},
    [UV_ASYNC_INIT] = {"uv_async_init", EMFILE},
    [RING_SETUP] = {"io_uring_queue_init_params", ENOMEM},
    [RING_REGISTER] = {"io_uring_register", EINVAL},
    [RING_IOWQ_AFFINITY] = {"io_uring_register_iowq_aff", EINVAL},
    [RING_IOWQ_LIMITS] = {"io_uring_register_iowq_max_workers", EINVAL},
    [SET_AFFINITY] = {"sched_setaffinity", EPERM},
    [GET_AFFINITY] = {"sched_getaffinity", EPERM},
    [SET_MEMPOLICY] = {"set_mempolicy", EPERM},
    [GET_MEMPOLICY] = {"get_mempolicy", EPERM},
    [MOVE_PAGES] = {"move_pages", EPERM},
    [MBIND] = {"mbind", EPERM},
};

static atomic_int armed_point;
static atomic_int calls_left; /* until the one that fails */
static atomic_int calls_failed;

static bool fails_now(enum point point)
{
    if (atomic_load(&armed_point) != (int)point || atomic_fetch_sub(&calls_left, 1) != 1)
        return false;
    (void)atomic_fetch_add(&calls_failed, 1);
    return true;
}

static void arm(enum point point, int call)
{
    atomic_store(&calls_left, call);
    atomic_store(&calls_failed, 0);
    atomic_store(&armed_point, point);
}

static int fail_with_errno(enum point point)
{
    errno = points[point].error;
    return -1;
}

#define WRAP(type, name, parameters) \
    type __real_##name parameters;   \
    type __wrap_##name parameters;   \
    type __wrap_##name parameters

/* The build finds these by name: __wrap_pthread_create( __wrap_mmap( __wrap_mprotect(
 * __wrap_eventfd(
 * __wrap_calloc( __wrap_malloc( __wrap_aligned_alloc( __wrap_uv_loop_init( __wrap_uv_async_init(
 * __wrap_io_uring_queue_init_params( __wrap_io_uring_register( __wrap_io_uring_register_iowq_aff(
 * __wrap_io_uring_register_iowq_max_workers( __wrap_syscall( */

WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg))
{
    return fails_now(PTHREAD_CREATE) ? EAGAIN : __real_pthread_create(thread, attr, fn, arg);
}

WRAP(void *, mmap, (void *base, size_t length, int prot, int flags, int fd, off_t offset))
{
    if (!fails_now(MMAP))
        return __real_mmap(base, length, prot, flags, fd, offset);
    errno = ENOMEM;
    return MAP_FAILED;
}

WRAP(int, mprotect, (void *base, size_t length, int prot))
{
    return fails_now(MPROTECT) ? fail_with_errno(MPROTECT) : __real_mprotect(base, length, prot);
}

WRAP(int, eventfd, (unsigned count, int flags))
{
    return fails_now(EVENTFD) ? fail_with_errno(EVENTFD) : __real_eventfd(count, flags);
}

WRAP(void *, calloc, (size_t count, size_t size))
{
    return fails_now(CALLOC) ? NULL : __real_calloc(count, size);
}

WRAP(void *, malloc, (size_t size))
{
    return fails_now(MALLOC) ? NULL : __real_malloc(size);
}

WRAP(void *, aligned_alloc, (size_t align, size_t size))
{
    return fails_now(ALIGNED_ALLOC) ? NULL : __real_aligned_alloc(align, size);
}

WRAP(int, uv_loop_init, (uv_loop_t * loop))
{
    return fails_now(UV_LOOP_INIT) ? -EMFILE : __real_uv_loop_init(loop);
}

WRAP(int, uv_async_init, (uv_loop_t * loop, uv_async_t *async, uv_async_cb fn))
{
    return fails_now(UV_ASYNC_INIT) ? -EMFILE : __real_uv_async_init(loop, async, fn);
}

WRAP(int, io_uring_queue_init_params,
     (unsigned entries, struct io_uring *ring, struct io_uring_params *params))
{
    return fails_now(RING_SETUP) ? -ENOMEM
                                 : __real_io_uring_queue_init_params(entries, ring, params);
}

WRAP(int, io_uring_register, (unsigned fd, unsigned opcode, const void *arg, unsigned count))
{
    return fails_now(RING_REGISTER) ? -EINVAL : __real_io_uring_register(fd, opcode, arg, count);
}

WRAP(int, io_uring_register_iowq_aff, (struct io_uring * ring, size_t size, const cpu_set_t *mask))
{
    return fails_now(RING_IOWQ_AFFINITY) ? -EINVAL
                                         : __real_io_uring_register_iowq_aff(ring, size, mask);
}

WRAP(int, io_uring_register_iowq_max_workers, (struct io_uring * ring, unsigned *limits))
{
    return fails_now(RING_IOWQ_LIMITS) ? -EINVAL
                                       : __real_io_uring_register_iowq_max_workers(ring, limits);
}

static enum point point_of_syscall(long number)
{
    switch (number) {
    case SYS_sched_setaffinity:
        return SET_AFFINITY;
    case SYS_sched_getaffinity:
        return GET_AFFINITY;
    case SYS_set_mempolicy:
        return SET_MEMPOLICY;
    case SYS_get_mempolicy:
        return GET_MEMPOLICY;
    case SYS_move_pages:
        return MOVE_PAGES;
    case SYS_mbind:
        return MBIND;
    default:
        return NOWHERE;
    }
}

/* Variadic arguments of a system call are words, passed as such. */
WRAP(long, syscall, (long number, long a, long b, long c, long d, long e, long f))
{
    enum point point = point_of_syscall(number);
    if (point != NOWHERE && fails_now(point))
        return fail_with_errno(point);
    return __real_syscall(number, a, b, c, d, e, f);
}

/* ---- the machine under test ---- */

static atomic_int worker_starts;
static atomic_int worker_stops;

static int count_start(numaperf_worker_t *worker, void *data)
{
    (void)worker;
    (void)data;
    (void)atomic_fetch_add(&worker_starts, 1);
    return 0;
}

static void count_stop(numaperf_worker_t *worker, void *data)
{
    (void)worker;
    (void)data;
    (void)atomic_fetch_add(&worker_stops, 1);
}

struct variant {
    const char *machine;
    uint32_t mode;
    uint32_t backend;
    uint32_t workers;
};

static int start_variant(const struct variant *variant, struct runtime_box *box)
{
    *box = (struct runtime_box){.config = NUMAPERF_RT_CONFIG_INIT};
    box->config.mode = variant->mode;
    box->config.flags = variant->mode == NUMAPERF_MODE_HARD ? NUMAPERF_RT_WAIVE_PRIVILEGES : 0;
    box->config.workers_per_node = variant->workers;
    box->config.io_backend = variant->backend;
    box->config.on_worker_start = count_start;
    box->config.on_worker_stop = count_stop;
    box->config.audit_interval_ms = 60000; /* in soft mode, too: its start may fail as well */
    atomic_store(&worker_starts, 0);
    atomic_store(&worker_stops, 0);
    return runtime_box_open(box, variant->machine);
}

static void check_works(struct runtime_box *box)
{
    atomic_int ran = 0;
    int count = numaperf_rt_each_node(box->rt, runtime_count_task, &ran);
    assert_true(count > 0);
    assert_true(runtime_reaches(&ran, count));
}

static void check_error(enum point point, int call, int rc, uint32_t mode)
{
    const numaperf_error_t *error = numaperf_last_error();
    bool said = error->code == rc && error->operation[0] != '\0' && error->reason[0] != '\0';
    /* A refusal of placement in hard mode is that, with its cause; all else keeps its errno. */
    bool right = rc == -points[point].error ||
                 (mode == NUMAPERF_MODE_HARD && rc == NUMAPERF_E_HARD_MODE) ||
                 (mode == NUMAPERF_MODE_SOFT && rc == NUMAPERF_E_TOPOLOGY);
    if (!said || !right)
        printf("%s, call %d: %d, \"%s\": \"%s\"\n", points[point].name, call, rc, error->operation,
               error->reason);
    assert_true(said);
    assert_true(right);
}

/* Whether the call was reached at all. */
static bool check_one(const struct variant *variant, enum point point, int call, int *out_refusals)
{
    struct census before = census_take();
    struct runtime_box box;
    arm(point, call);
    int rc = start_variant(variant, &box);
    bool reached = atomic_load(&calls_failed) > 0;
    atomic_store(&armed_point, NOWHERE);
    if (rc < 0) {
        if (!reached)
            printf("%s: %s\n", numaperf_last_error()->operation, numaperf_last_error()->reason);
        assert_true(reached);
        assert_null(box.rt);
        check_error(point, call, rc, variant->mode);
        assert_int_equal(atomic_load(&worker_starts), atomic_load(&worker_stops));
        (*out_refusals)++;
    } else {
        if (variant->mode == NUMAPERF_MODE_SOFT)
            check_works(&box);
        runtime_box_close(&box);
    }
    bool clean = census_returns_to(&before);
    if (!clean)
        printf("left by %s, call %d, start %d\n", points[point].name, call, rc);
    assert_true(clean);
    return reached;
}

static void check_variant(const struct variant *variant)
{
    struct runtime_box box;
    int rc = start_variant(variant, &box);
    if (rc < 0) {
        print_message("not here: %s\n", numaperf_last_error()->reason);
        skip();
    }
    runtime_box_close(&box);
    int stride = test_is_guest() ? 5 : 1; /* a start takes long there */
    for (int point = NOWHERE + 1; point < POINT_COUNT; point++) {
        int call = 1;
        int refusals = 0;
        while (check_one(variant, (enum point)point, call, &refusals))
            call += stride;
        print_message("%s: %d failures, %d of them refuse the start\n", points[point].name,
                      (call - 1) / stride, refusals);
        /* A soft start right after works, and so does one of the same kind. */
        struct variant soft = *variant;
        soft.mode = NUMAPERF_MODE_SOFT;
        assert_int_equal(start_variant(&soft, &box), 0);
        check_works(&box);
        runtime_box_close(&box);
    }
}

static void soft_start_on_synthetic_nodes_leaves_nothing_behind(void **state)
{
    (void)state;
    const struct variant variant = {"numa:2 pu:1", NUMAPERF_MODE_SOFT, NUMAPERF_IO_URING, 2};
    check_variant(&variant);
}

static void soft_start_on_this_machine_leaves_nothing_behind(void **state)
{
    (void)state;
    const struct variant variant = {NULL, NUMAPERF_MODE_SOFT, NUMAPERF_IO_AUTO, 3};
    check_variant(&variant);
}

static void soft_start_on_epoll_leaves_nothing_behind(void **state)
{
    (void)state;
    const struct variant variant = {"numa:3 pu:1", NUMAPERF_MODE_SOFT, NUMAPERF_IO_EPOLL, 1};
    check_variant(&variant);
}

static void hard_start_leaves_nothing_behind(void **state)
{
    (void)state;
    const struct variant variant = {NULL, NUMAPERF_MODE_HARD, NUMAPERF_IO_URING, 0};
    check_variant(&variant);
}

/* Not injected: descriptors run out at every place where any is opened, in libuv, too. */
static void start_without_descriptors_leaves_nothing_behind(void **state)
{
    (void)state;
    static const uint32_t backends[] = {NUMAPERF_IO_AUTO, NUMAPERF_IO_URING, NUMAPERF_IO_EPOLL};
    struct rlimit before_limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before_limit), 0);
    int lowest = dup(0); /* all below are taken */
    assert_true(lowest >= 0);
    (void)close(lowest);
    for (int i = 0; i < 3; i++) {
        const struct variant variant = {"numa:2 pu:1", NUMAPERF_MODE_SOFT, backends[i], 1};
        int room = 0;
        int rc = -1;
        for (; room < 60 && rc < 0; room++) {
            struct census before = census_take();
            struct runtime_box box;
            struct rlimit limit = before_limit;
            limit.rlim_cur = (rlim_t)(lowest + room);
            assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
            rc = start_variant(&variant, &box);
            assert_int_equal(setrlimit(RLIMIT_NOFILE, &before_limit), 0);
            if (rc < 0) {
                assert_true(rc == -EMFILE || rc == NUMAPERF_E_TOPOLOGY);
                assert_int_equal(numaperf_last_error()->code, rc);
                assert_int_equal(atomic_load(&worker_starts), atomic_load(&worker_stops));
            } else {
                check_works(&box);
                runtime_box_close(&box);
            }
            assert_true(census_returns_to(&before));
        }
        assert_int_equal(rc, 0);
        assert_true(room > 4);
    }
}

/* More tasks than a ring has places: these wait in ordinary memory. */
#define MANY_TASKS 10000

static atomic_bool gate_open;

static void gate_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    atomic_int *waiting = arg;
    atomic_fetch_add(waiting, 1);
    while (!atomic_load(&gate_open))
        test_sleep_ms(1);
}

static void spawns_without_memory_are_refused_whole(void **state)
{
    (void)state;
    static atomic_int ran;
    static void *args[MANY_TASKS];
    atomic_int waiting = 0;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    atomic_store(&gate_open, false);
    assert_int_equal(runtime_box_open(&box, "numa:3 pu:1"), 0);
    assert_int_equal(numaperf_rt_each_node(box.rt, gate_task, &waiting), 3);
    assert_true(runtime_reaches(&waiting, 3));
    for (int i = 0; i < MANY_TASKS; i++)
        args[i] = &ran;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE | NUMAPERF_SPAWN_NEVER_STEAL;
    options.node = 2;

    arm(MALLOC, 1);
    assert_int_equal(
        numaperf_rt_spawn_batch(box.rt, &options, runtime_count_task, args, MANY_TASKS), -ENOMEM);
    assert_int_equal(numaperf_last_error()->code, -ENOMEM);
    arm(NOWHERE, 0);
    assert_int_equal(
        numaperf_rt_spawn_batch(box.rt, &options, runtime_count_task, args, MANY_TASKS), 0);
    /* All or none: the other two nodes have room. */
    arm(MALLOC, 1);
    assert_int_equal(numaperf_rt_each_node(box.rt, runtime_count_task, &ran), -ENOMEM);
    arm(CALLOC, 1);
    assert_int_equal(numaperf_rt_each_node(box.rt, runtime_count_task, &ran), -ENOMEM);
    arm(MALLOC, 1);
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, runtime_count_task, &ran), -ENOMEM);
    arm(NOWHERE, 0);
    atomic_store(&gate_open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&ran), MANY_TASKS);
    runtime_box_close(&box);
}

int main(void)
{
    census_prepare();
    for (int i = 0; i < 2; i++) { /* what a first start leaves is not counted */
        struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
        box.config.workers_per_node = 3;
        if (runtime_box_open(&box, "numa:2 pu:1") == 0)
            runtime_box_close(&box);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(soft_start_on_synthetic_nodes_leaves_nothing_behind),
        cmocka_unit_test(soft_start_on_this_machine_leaves_nothing_behind),
        cmocka_unit_test(soft_start_on_epoll_leaves_nothing_behind),
        cmocka_unit_test(hard_start_leaves_nothing_behind),
        cmocka_unit_test(start_without_descriptors_leaves_nothing_behind),
        cmocka_unit_test(spawns_without_memory_are_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
