/* SPDX-License-Identifier: MIT */
/*
 * What inherits from a thread: children of numaperf_uv_spawn() and libuv's pool threads have the
 * affinity and the memory policy that the process was started with, and the worker has its own
 * back. Scenes that need a fresh process run in children of their own.
 */
#include "place/mempolicy.h"
#include "place/pin.h"
#include "support/clock.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define TEXT_SIZE 256
#define POOL_THREADS 4 /* libuv's default */

/* ---- placement of the calling thread, as text ---- */

static void placement_text(char *text)
{
    struct numaperf__thread_state state;
    char cpus[96];
    char nodes[96];
    (void)numaperf__thread_state_get(&state); /* unknown compares equal to unknown */
    (void)numaperf_cpuset_format(&state.cpus, cpus, sizeof(cpus));
    (void)numaperf_nodemask_format(&state.nodes, nodes, sizeof(nodes));
    (void)snprintf(text, TEXT_SIZE, "cpus %s policy %d nodes %s", cpus, state.policy, nodes);
}

static char at_start[TEXT_SIZE]; /* written by main() first of all */

/* ---- a child that tells its placement ---- */

struct child {
    bool by_library;
    uv_process_t process;
    int ends[2];
    int rc;
    char before[TEXT_SIZE];
    char after[TEXT_SIZE];
    atomic_int exited;
    int64_t status;
};

static void child_closed(uv_handle_t *handle)
{
    struct child *child = handle->data;
    atomic_store(&child->exited, 1);
}

static void child_exited(uv_process_t *process, int64_t status, int number)
{
    struct child *child = process->data;
    child->status = number != 0 ? -number : status;
    uv_close((uv_handle_t *)process, child_closed);
}

static void child_spawn(numaperf_worker_t *worker, void *arg)
{
    struct child *child = arg;
    char *args[] = {"/proc/self/exe", "--placement-child", NULL};
    uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE},
                                     {.flags = UV_INHERIT_FD, .data.fd = child->ends[1]},
                                     {.flags = UV_INHERIT_FD, .data.fd = STDERR_FILENO}};
    uv_process_options_t options = {
        .exit_cb = child_exited, .file = args[0], .args = args, .stdio = stdio, .stdio_count = 3};
    uv_loop_t *loop = numaperf_worker_loop(worker);
    child->process.data = child;
    placement_text(child->before);
    child->rc = child->by_library ? numaperf_uv_spawn(loop, &child->process, &options)
                                  : uv_spawn(loop, &child->process, &options);
    placement_text(child->after);
    if (child->rc != 0)
        uv_close((uv_handle_t *)&child->process, child_closed);
}

/* What the child of a worker says; CHECK()s instead of asserts, for children have no cmocka. */
static void child_ask(numaperf_rt_t *rt, uint32_t worker, bool by_library, struct child *child,
                      char *out_text)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)worker;
    memset(child, 0, sizeof(*child));
    child->by_library = by_library;
    CHECK(pipe2(child->ends, O_CLOEXEC) == 0);
    CHECK(numaperf_rt_spawn_with(rt, &options, child_spawn, child) == 0);
    CHECK(runtime_reaches(&child->exited, 1));
    CHECK(child->rc == 0 && child->status == 0);
    (void)close(child->ends[1]);
    ssize_t n = read(child->ends[0], out_text, TEXT_SIZE - 1);
    CHECK(n > 0);
    out_text[n] = '\0';
    (void)close(child->ends[0]);
    /* The worker has its own again. */
    CHECK(strcmp(child->before, child->after) == 0);
}

static void children_are_checked(numaperf_rt_t *rt)
{
    size_t count = numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    for (uint32_t i = 0; i < count; i++) {
        struct child child;
        char text[TEXT_SIZE];
        child_ask(rt, i, true, &child, text);
        if (strcmp(text, at_start) != 0)
            (void)fprintf(stderr, "child: %s, process: %s\n", text, at_start);
        CHECK(strcmp(text, at_start) == 0);
        /* That the worker's own is another is what makes this a test. */
        child_ask(rt, i, false, &child, text);
        CHECK(strcmp(text, child.before) == 0);
    }
}

/* ---- pool threads ---- */

struct pool {
    uv_work_t works[POOL_THREADS];
    uv_barrier_t barrier;
    char texts[POOL_THREADS][TEXT_SIZE];
    atomic_int done;
};

static void pool_work(uv_work_t *work)
{
    struct pool *pool = work->data;
    (void)uv_barrier_wait(&pool->barrier); /* one for each thread */
    placement_text(pool->texts[work - pool->works]);
}

static void pool_done(uv_work_t *work, int status)
{
    struct pool *pool = work->data;
    CHECK(status == 0);
    (void)atomic_fetch_add(&pool->done, 1);
}

static void pool_queue(numaperf_worker_t *worker, void *arg)
{
    struct pool *pool = arg;
    for (int i = 0; i < POOL_THREADS; i++) {
        pool->works[i].data = pool;
        CHECK(uv_queue_work(numaperf_worker_loop(worker), &pool->works[i], pool_work, pool_done) ==
              0);
    }
}

static void pool_is_checked(numaperf_rt_t *rt)
{
    struct pool pool;
    memset(&pool, 0, sizeof(pool));
    CHECK(uv_barrier_init(&pool.barrier, POOL_THREADS) == 0);
    CHECK(numaperf_rt_spawn(rt, NUMAPERF_NODE_ANY, pool_queue, &pool) == 0);
    CHECK(runtime_reaches(&pool.done, POOL_THREADS));
    for (int i = 0; i < POOL_THREADS; i++) {
        if (strcmp(pool.texts[i], at_start) != 0)
            (void)fprintf(stderr, "pool thread: %s, process: %s\n", pool.texts[i], at_start);
        CHECK(strcmp(pool.texts[i], at_start) == 0);
    }
    uv_barrier_destroy(&pool.barrier);
}

static void all_is_checked(void)
{
    char before[TEXT_SIZE];
    char after[TEXT_SIZE];
    numaperf_rt_t *rt = NULL;
    placement_text(before);
    CHECK(numaperf_rt_start(NULL, &rt) == 0);
    placement_text(after);
    CHECK(strcmp(before, after) == 0); /* the starter's */
    pool_is_checked(rt);
    children_are_checked(rt);
    numaperf_rt_destroy(rt);
}

/* ---- scenes ---- */

static void scene_plain(const void *arg)
{
    (void)arg;
    all_is_checked();
}

/* The starter is pinned and has a policy of its own; that is not what the process began with. */
static void scene_pinned_starter(const void *arg)
{
    (void)arg;
    numaperf_cpuset_t cpus;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    numaperf_nodemask_t node = numaperf_nodemask_single(0);
    CHECK(numaperf__affinity_get(0, &cpus) == 0);
    CHECK(numaperf_pin_to_cpu(numaperf_cpuset_next(&cpus, -1), NUMAPERF_MODE_SOFT, &pin) == 0);
    (void)numaperf__mempolicy_set(MPOL_INTERLEAVE, &node); /* refused without NUMA */
    all_is_checked();
}

/* Neither policy nor binding may be asked for, as under a container's filter. */
static void scene_no_mempolicy(const void *arg)
{
    (void)arg;
    const long calls[] = {SYS_get_mempolicy, SYS_set_mempolicy, SYS_mbind, SYS_move_pages};
    sandbox_deny(EPERM, calls, sizeof(calls) / sizeof(calls[0]));
    numaperf_rt_t *rt = NULL;
    CHECK(numaperf_rt_start(NULL, &rt) == 0);
    struct child child;
    char text[TEXT_SIZE];
    char cpus[TEXT_SIZE];
    child_ask(rt, 0, true, &child, text);
    (void)snprintf(cpus, sizeof(cpus), "%.*s", (int)(strstr(at_start, " policy") - at_start),
                   at_start);
    CHECK(strncmp(text, cpus, strlen(cpus)) == 0);
    numaperf_rt_destroy(rt);
}

static void children_and_pool_have_the_initial_placement(void **state)
{
    (void)state;
    assert_true(sandbox_run(scene_plain, NULL));
}

static void pinned_starter_does_not_pass_its_pin_on(void **state)
{
    (void)state;
    assert_true(sandbox_run(scene_pinned_starter, NULL));
}

static void spawn_works_where_memory_policy_is_refused(void **state)
{
    (void)state;
    assert_true(sandbox_run(scene_no_mempolicy, NULL));
}

/* A process that was itself started with less: one PU, and a policy. */
static void initial_placement_may_be_a_restricted_one(void **state)
{
    (void)state;
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        numaperf_cpuset_t cpus;
        numaperf_cpuset_t one;
        numaperf_nodemask_t node = numaperf_nodemask_single(0);
        CHECK(numaperf__affinity_get(0, &cpus) == 0);
        numaperf_cpuset_zero(&one);
        (void)numaperf_cpuset_add(&one, numaperf_cpuset_next(&cpus, -1));
        CHECK(numaperf__affinity_set(0, &one) == 0);
        (void)numaperf__mempolicy_set(MPOL_INTERLEAVE, &node);
        (void)execl("/proc/self/exe", "test_uv_spawn", "--inner", (char *)NULL);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

struct bad_spawn {
    uv_process_t process;
    int null_rc[3];
    int absent_rc;
    char before[TEXT_SIZE];
    char after[TEXT_SIZE];
    atomic_int closed;
};

static void bad_closed(uv_handle_t *handle)
{
    struct bad_spawn *bad = handle->data;
    atomic_store(&bad->closed, 1);
}

static void bad_task(numaperf_worker_t *worker, void *arg)
{
    struct bad_spawn *bad = arg;
    char *args[] = {"/nowhere/nothing", NULL};
    uv_process_options_t options = {.file = args[0], .args = args};
    uv_loop_t *loop = numaperf_worker_loop(worker);
    bad->null_rc[0] = numaperf_uv_spawn(NULL, &bad->process, &options);
    bad->null_rc[1] = numaperf_uv_spawn(loop, NULL, &options);
    bad->null_rc[2] = numaperf_uv_spawn(loop, &bad->process, NULL);
    placement_text(bad->before);
    bad->absent_rc = numaperf_uv_spawn(loop, &bad->process, &options);
    placement_text(bad->after);
    bad->process.data = bad;
    uv_close((uv_handle_t *)&bad->process, bad_closed);
}

static void failed_spawn_is_reported_and_the_worker_stays_placed(void **state)
{
    (void)state;
    numaperf_rt_t *rt = NULL;
    struct bad_spawn bad;
    memset(&bad, 0, sizeof(bad));
    assert_int_equal(numaperf_rt_start(NULL, &rt), 0);
    assert_int_equal(numaperf_rt_spawn(rt, NUMAPERF_NODE_ANY, bad_task, &bad), 0);
    assert_true(runtime_reaches(&bad.closed, 1));
    numaperf_rt_destroy(rt);
    for (int i = 0; i < 3; i++)
        assert_int_equal(bad.null_rc[i], -EINVAL);
    assert_int_equal(bad.absent_rc, UV_ENOENT);
    assert_string_equal(bad.before, bad.after);
}

int main(int argc, char **argv)
{
    placement_text(at_start);
    if (argc == 2 && strcmp(argv[1], "--placement-child") == 0)
        return write(STDOUT_FILENO, at_start, strlen(at_start)) > 0 ? 0 : 1;
    if (argc == 2 && strcmp(argv[1], "--inner") == 0) {
        all_is_checked();
        return 0;
    }
    const struct CMUnitTest tests[] = {
        /* Those that fork come before there are threads. */
        cmocka_unit_test(children_and_pool_have_the_initial_placement),
        cmocka_unit_test(pinned_starter_does_not_pass_its_pin_on),
        cmocka_unit_test(spawn_works_where_memory_policy_is_refused),
        cmocka_unit_test(initial_placement_may_be_a_restricted_one),
        cmocka_unit_test(failed_spawn_is_reported_and_the_worker_stays_placed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
