/* SPDX-License-Identifier: MIT */
/*
 * What is not a worker's: libuv's pool threads and the children of numaperf_uv_spawn() have the
 * affinity and the memory policy that the process began with, read from outside, in the /proc of
 * the thread and of the child. The starter is pinned to the last node meanwhile, and its own
 * placement is as it was after a start, a stop and a refused start.
 */
#include <numaperf/error.h>
#include <numaperf/pin.h>
#include <numaperf/runtime.h>

#include "support/clock.h"
#include "support/runtimes.h"
#include "support/witness.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <uv.h>

#include <cmocka.h>

#define POOL_THREADS 4 /* libuv's default */

static char policy_at_start[64];

/* ---- what the kernel says of a thread ---- */

static void assert_initial_placement(int process, int task, const char *what)
{
    numaperf_cpuset_t mask;
    char policy[64];
    assert_true(witness_task_cpus(process, task, &mask));
    assert_true(witness_task_policy(process, task, policy));
    bool is_initial =
        numaperf_cpuset_equal(&mask, &witness_allowed) && strcmp(policy, policy_at_start) == 0;
    if (!is_initial)
        print_error("%s: %d PUs instead of %d, policy %s instead of %s\n", what,
                    numaperf_cpuset_count(&mask), numaperf_cpuset_count(&witness_allowed), policy,
                    policy_at_start);
    assert_true(is_initial);
}

static int last_placeable(void)
{
    int last = -1;
    for (int node = numaperf_nodemask_next(&witness_placeable, -1); node >= 0;
         node = numaperf_nodemask_next(&witness_placeable, node))
        last = node;
    return last;
}

/* ---- the caller ---- */

struct own {
    numaperf_cpuset_t cpus;
    char policy[64];
};

static struct own own_placement(void)
{
    struct own own;
    assert_true(witness_task_cpus(0, (int)syscall(SYS_gettid), &own.cpus));
    assert_true(witness_task_policy(0, (int)syscall(SYS_gettid), own.policy));
    return own;
}

static void assert_own_unchanged(const struct own *before)
{
    struct own now = own_placement();
    assert_true(numaperf_cpuset_equal(&now.cpus, &before->cpus));
    assert_string_equal(now.policy, before->policy);
}

/* ---- pool threads ---- */

struct pool {
    uv_work_t works[POOL_THREADS];
    uv_barrier_t barrier;
    atomic_int tasks[POOL_THREADS];
    atomic_int told;
    atomic_bool may_end;
    atomic_int done;
};

static void pool_work(uv_work_t *work)
{
    struct pool *pool = work->data;
    (void)uv_barrier_wait(&pool->barrier); /* one for each thread */
    atomic_store(&pool->tasks[work - pool->works], (int)syscall(SYS_gettid));
    (void)atomic_fetch_add(&pool->told, 1);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(1); /* or a failed case would hang */
    while (!atomic_load(&pool->may_end) && test_now_ns() < limit_ns)
        test_sleep_ms(1);
}

static void pool_done(uv_work_t *work, int status)
{
    struct pool *pool = work->data;
    (void)atomic_fetch_add(&pool->done, status == 0 ? 1 : 100);
}

static void pool_queue(numaperf_worker_t *worker, void *arg)
{
    struct pool *pool = arg;
    for (int i = 0; i < POOL_THREADS; i++) {
        pool->works[i].data = pool;
        if (uv_queue_work(numaperf_worker_loop(worker), &pool->works[i], pool_work, pool_done) != 0)
            (void)atomic_fetch_add(&pool->done, 100);
    }
}

static void check_pool(numaperf_rt_t *rt)
{
    static struct pool pool;
    memset(&pool, 0, sizeof(pool));
    assert_int_equal(uv_barrier_init(&pool.barrier, POOL_THREADS), 0);
    assert_int_equal(numaperf_rt_spawn(rt, NUMAPERF_NODE_ANY, pool_queue, &pool), 0);
    assert_true(runtime_reaches(&pool.told, POOL_THREADS));
    for (int i = 0; i < POOL_THREADS; i++)
        assert_initial_placement(0, atomic_load(&pool.tasks[i]), "pool thread");
    atomic_store(&pool.may_end, true);
    assert_true(runtime_reaches(&pool.done, POOL_THREADS));
    uv_barrier_destroy(&pool.barrier);
}

/* ---- children ---- */

/* A child that reads from a pipe until it is closed: it is there to be looked at. */
struct child {
    uv_process_t process;
    int ends[2];
    atomic_int pid;
    atomic_int spawned;
    atomic_int closed;
};

static void child_closed(uv_handle_t *handle)
{
    (void)atomic_fetch_add(&((struct child *)handle->data)->closed, 1);
}

static void child_exited(uv_process_t *process, int64_t status, int number)
{
    (void)status;
    (void)number;
    uv_close((uv_handle_t *)process, child_closed);
}

static void child_spawn(numaperf_worker_t *worker, void *arg)
{
    struct child *child = arg;
    char *args[] = {"/proc/self/exe", "--child", NULL};
    uv_stdio_container_t stdio[1] = {{.flags = UV_INHERIT_FD, .data.fd = child->ends[0]}};
    uv_process_options_t options = {
        .exit_cb = child_exited, .file = args[0], .args = args, .stdio = stdio, .stdio_count = 1};
    child->process.data = child;
    int rc = numaperf_uv_spawn(numaperf_worker_loop(worker), &child->process, &options);
    if (rc == 0)
        atomic_store(&child->pid, (int)uv_process_get_pid(&child->process));
    else
        uv_close((uv_handle_t *)&child->process, child_closed);
    (void)atomic_fetch_add(&child->spawned, 1);
}

/* By every worker, one after another; then the worker is where it was. */
static void check_children(numaperf_rt_t *rt)
{
    size_t count = numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    for (uint32_t i = 0; i < count; i++) {
        static struct child child;
        memset(&child, 0, sizeof(child));
        numaperf_cpuset_t before;
        numaperf_cpuset_t after;
        char policy[2][64];
        int task = numaperf_worker_thread_id(numaperf_rt_worker(rt, i));
        assert_true(witness_task_cpus(0, task, &before) && witness_task_policy(0, task, policy[0]));
        assert_int_equal(numaperf_cpuset_count(&before), 1);
        assert_int_equal(pipe2(child.ends, O_CLOEXEC), 0);
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)i;
        assert_int_equal(numaperf_rt_spawn_with(rt, &options, child_spawn, &child), 0);
        assert_true(runtime_reaches(&child.spawned, 1));
        int pid = atomic_load(&child.pid);
        assert_true(pid > 0);
        assert_initial_placement(pid, pid, "child");
        assert_true(witness_task_cpus(0, task, &after) && witness_task_policy(0, task, policy[1]));
        assert_true(numaperf_cpuset_equal(&before, &after));
        assert_string_equal(policy[0], policy[1]);
        (void)close(child.ends[1]);
        assert_true(runtime_reaches(&child.closed, 1));
        (void)close(child.ends[0]);
    }
}

/* ---- cases ---- */

static void pool_threads_and_children_have_what_the_process_began_with(void **state)
{
    (void)state;
    numaperf_rt_t *rt = NULL;
    struct own before = own_placement();
    assert_int_equal(numaperf_rt_start(NULL, &rt), 0);
    check_pool(rt);
    check_children(rt);
    assert_own_unchanged(&before);
    numaperf_rt_destroy(rt);
    assert_own_unchanged(&before);
}

static void starter_that_is_pinned_keeps_its_pin_and_passes_it_to_nobody(void **state)
{
    (void)state;
    int node = last_placeable();
    assert_in_range(node, 0, VIEW_NODES - 1);
    unsigned long mask[2] = {1ul << node, 0};
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_to_node(NULL, node, NUMAPERF_MODE_HARD, &pin), 0);
    assert_int_equal(syscall(SYS_set_mempolicy, MPOL_BIND, mask, 65ul), 0);
    struct own before = own_placement();
    numaperf_rt_t *rt = NULL;
    assert_int_equal(numaperf_rt_start(NULL, &rt), 0);
    assert_own_unchanged(&before);
    check_pool(rt);
    check_children(rt);
    numaperf_rt_destroy(rt);

    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = NUMAPERF_MODE_HARD;
    config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    config.workers_per_node = 1000; /* no node has as many PUs */
    rt = NULL;
    assert_int_equal(numaperf_rt_start(&config, &rt), NUMAPERF_E_HARD_MODE);
    assert_own_unchanged(&before);
    assert_int_equal(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0ul), 0);
    assert_int_equal(numaperf_pin_restore(&pin), 0);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--child") == 0) {
        char byte = 0;
        return read(STDIN_FILENO, &byte, 1) == 0 ? 0 : 1;
    }
    witness_look();
    if (!witness_can_place() || !witness_task_policy(0, (int)getpid(), policy_at_start))
        return 77;
    const struct CMUnitTest tests[] = {
        /* The first start makes libuv's pool: here from a pinned starter. */
        cmocka_unit_test(starter_that_is_pinned_keeps_its_pin_and_passes_it_to_nobody),
        cmocka_unit_test(pool_threads_and_children_have_what_the_process_began_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
