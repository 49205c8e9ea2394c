/* SPDX-License-Identifier: MIT */
/*
 * Members and tasks for later, of several groups, spawned inside and outside, singly, in batches
 * and with delays; groups cancelled, handles cancelled by other threads, waits and tasks for the
 * end; and a stop at any moment. Each accepted task runs or is cancelled once; a cancel by handle
 * and the run of its task exclude each other; a group is done when it should be.
 */
#include <numaperf/error.h>
#include <numaperf/group.h>
#include <numaperf/timer.h>

#include "support/runtimes.h"
#include "support/stress.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define JOBS_MAX 60000u
#define THREADS 3
#define GROUPS 4
#define HANDLES 32
#define BATCH_MAX 100

struct job {
    atomic_uchar ran;
    atomic_uchar cancelled;
    uint8_t accepted;  /* written by its spawner */
    uint8_t by_handle; /* its handle's cancel said that it will not run */
    int8_t worker;     /* it may run on no other; -1 */
};

static struct {
    struct job *jobs;
    atomic_uint next_job;
    numaperf_rt_t *rt;
    uint32_t worker_count;
    numaperf_group_t *groups[GROUPS];
    atomic_uint faults;
    atomic_uint delayed; /* tasks that were cancelled by their handle */
    uint64_t worker_random[8];
} field;

struct outsider {
    pthread_t thread;
    uint64_t random;
    struct {
        numaperf_timer_t *timer;
        struct job *job;
    } handles[HANDLES];
};

static void job_task(numaperf_worker_t *worker, void *arg);

static void job_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    struct job *job = arg;
    if (fn != job_task || data != &field)
        (void)atomic_fetch_add(&field.faults, 1);
    (void)atomic_fetch_add(&job->cancelled, 1);
}

static struct job *job_new(void)
{
    uint32_t i = atomic_fetch_add(&field.next_job, 1);
    return i < JOBS_MAX ? &field.jobs[i] : NULL;
}

/* Anywhere, or on a worker; in a group, mostly; of either priority. */
static void choose(uint64_t *random, numaperf_spawn_options_t *options)
{
    *options = (numaperf_spawn_options_t)NUMAPERF_SPAWN_OPTIONS_INIT;
    uint64_t choice = stress_below(random, 16);
    options->priority = choice % 2 == 0 ? NUMAPERF_PRIORITY_LATENCY : NUMAPERF_PRIORITY_THROUGHPUT;
    if (choice < 12)
        options->group = field.groups[choice % GROUPS];
    if (choice % 3 == 0) {
        options->flags = NUMAPERF_SPAWN_HAS_WORKER;
        options->worker = (int32_t)stress_below(random, field.worker_count);
    } else if (choice % 3 == 1) {
        options->flags = NUMAPERF_SPAWN_HAS_NODE;
        options->node = NUMAPERF_NODE_ANY;
    }
}

static void job_aim(struct job *job, const numaperf_spawn_options_t *options)
{
    bool bound = (options->flags & NUMAPERF_SPAWN_HAS_WORKER) != 0;
    job->worker = bound ? (int8_t)options->worker : -1;
}

static int spawn_batch(uint64_t *random, const numaperf_spawn_options_t *options)
{
    void *args[BATCH_MAX];
    size_t count = 1 + stress_below(random, BATCH_MAX);
    for (size_t i = 0; i < count; i++) {
        struct job *job = job_new();
        if (job == NULL)
            return -ENOSPC;
        job_aim(job, options);
        args[i] = job;
    }
    int rc = numaperf_rt_spawn_batch(field.rt, options, job_task, args, count);
    for (size_t i = 0; i < count; i++)
        ((struct job *)args[i])->accepted = rc == 0;
    return rc;
}

static int spawn_later(uint64_t *random, const numaperf_spawn_options_t *options,
                       struct outsider *outsider)
{
    struct job *job = job_new();
    if (job == NULL)
        return -ENOSPC;
    job_aim(job, options);
    /* Mostly so short that a cancel meets its start; at times so long that it never comes. */
    uint64_t delay_ns =
        stress_below(random, 16) == 0 ? UINT64_C(1) << 50 : stress_below(random, 60000);
    numaperf_timer_t *timer = NULL;
    bool has_handle = outsider != NULL && stress_below(random, 4) != 0;
    int rc = numaperf_rt_spawn_after(field.rt, options, delay_ns, job_task, job,
                                     has_handle ? &timer : NULL);
    job->accepted = rc == 0;
    if (rc < 0 || !has_handle)
        return rc;
    uint64_t at = stress_below(random, HANDLES);
    numaperf_timer_t *old = outsider->handles[at].timer;
    if (old != NULL && numaperf_timer_cancel(old) == 1) {
        outsider->handles[at].job->by_handle = 1;
        (void)atomic_fetch_add(&field.delayed, 1);
    }
    outsider->handles[at].timer = timer;
    outsider->handles[at].job = job;
    return 0;
}

static int spawn_on_done(const numaperf_spawn_options_t *options)
{
    struct job *job = job_new();
    if (job == NULL)
        return -ENOSPC;
    if (options->group == NULL)
        return 0;
    numaperf_spawn_options_t own = *options;
    own.group = NULL;
    job_aim(job, options);
    int rc = numaperf_group_on_done(options->group, &own, job_task, job);
    job->accepted = rc == 0;
    return rc;
}

/* Any kind; `outsider` is NULL on a worker. */
static int spawn_any(uint64_t *random, struct outsider *outsider)
{
    numaperf_spawn_options_t options;
    choose(random, &options);
    uint64_t kind = stress_below(random, 16);
    if (kind < 5)
        return spawn_later(random, &options, outsider);
    if (kind == 5)
        return spawn_batch(random, &options);
    if (kind == 6)
        return spawn_on_done(&options);
    struct job *job = job_new();
    if (job == NULL)
        return -ENOSPC;
    job_aim(job, &options);
    int rc = numaperf_rt_spawn_with(field.rt, &options, job_task, job);
    job->accepted = rc == 0;
    return rc;
}

static void job_task(numaperf_worker_t *worker, void *arg)
{
    struct job *job = arg;
    uint32_t index = numaperf_worker_index(worker);
    uint64_t *random = &field.worker_random[index];
    if (job->worker >= 0 && job->worker != (int)index)
        (void)atomic_fetch_add(&field.faults, 1);
    (void)atomic_fetch_add(&job->ran, 1);
    if (stress_below(random, 4) == 0)
        (void)spawn_any(random, NULL); /* a refusal is in its job */
}

/* What an outsider does besides spawning. */
static void outsider_act(struct outsider *outsider)
{
    numaperf_group_t *group = field.groups[stress_below(&outsider->random, GROUPS)];
    uint64_t kind = stress_below(&outsider->random, 64);
    if (kind == 0 && numaperf_group_cancel(group) < 0)
        (void)atomic_fetch_add(&field.faults, 1);
    if (kind == 1) {
        int rc = numaperf_group_wait(group, stress_below(&outsider->random, 200000));
        if (rc < 0 && rc != -ETIMEDOUT)
            (void)atomic_fetch_add(&field.faults, 1);
    }
}

static void *outsider_main(void *arg)
{
    struct outsider *outsider = arg;
    for (;;) {
        int rc = spawn_any(&outsider->random, outsider);
        if (rc == -EAGAIN)
            (void)sched_yield();
        else if (rc < 0 && (rc == NUMAPERF_E_STOPPING || rc == -ENOSPC))
            break;
        else if (rc < 0)
            (void)atomic_fetch_add(&field.faults, 1);
        outsider_act(outsider);
    }
    for (int i = 0; i < HANDLES; i++) {
        if (outsider->handles[i].timer != NULL &&
            numaperf_timer_cancel(outsider->handles[i].timer) == 1)
            outsider->handles[i].job->by_handle = 1;
    }
    return NULL;
}

static void round_open(uint64_t *random, struct runtime_box *box)
{
    static const char *const machines[] = {NULL, "numa:2 pu:1", "numa:2 pu:2", "numa:1 pu:3"};
    *box = (struct runtime_box){.config = NUMAPERF_RT_CONFIG_INIT};
    box->config.io_backend = stress_below(random, 4) == 0 ? NUMAPERF_IO_EPOLL : NUMAPERF_IO_AUTO;
    box->config.task_limit_per_node = stress_below(random, 2) == 0 ? 0 : 200;
    box->config.on_task_cancel = job_cancel;
    box->config.data = &field;
    memset(field.jobs, 0, JOBS_MAX * sizeof(*field.jobs));
    atomic_store(&field.next_job, 0);
    for (int i = 0; i < 8; i++)
        field.worker_random[i] = stress_random(random);
    assert_int_equal(runtime_box_open(box, machines[stress_below(random, 4)]), 0);
    field.rt = box->rt;
    field.worker_count = (uint32_t)numaperf_rt_worker_count(box->rt, NUMAPERF_NODE_ANY);
    if (field.worker_count > 8)
        field.worker_count = 8;
    for (int i = 0; i < GROUPS; i++)
        assert_int_equal(numaperf_group_create(box->rt, &field.groups[i]), 0);
}

/* Every job once or never, as its spawner was told. */
static uint64_t round_check(void)
{
    uint64_t accepted = 0;
    uint64_t wrong = 0;
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        const struct job *job = &field.jobs[i];
        unsigned ran = atomic_load(&job->ran);
        unsigned cancelled = atomic_load(&job->cancelled);
        wrong += ran + cancelled != job->accepted;
        wrong += job->by_handle != 0 && cancelled != 1;
        accepted += job->accepted;
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(atomic_load(&field.faults), 0);
    return accepted;
}

static uint64_t round_run(uint64_t *random)
{
    static struct outsider outsiders[THREADS];
    static const uint64_t timeouts[] = {0, 1000000, UINT64_MAX};
    struct runtime_box box;
    round_open(random, &box);
    uint32_t stop_at = (uint32_t)stress_below(random, JOBS_MAX);
    memset(outsiders, 0, sizeof(outsiders));
    for (int i = 0; i < THREADS; i++) {
        outsiders[i].random = stress_random(random);
        assert_int_equal(pthread_create(&outsiders[i].thread, NULL, outsider_main, &outsiders[i]),
                         0);
    }
    while (atomic_load(&field.next_job) < stop_at)
        (void)sched_yield();
    int rc = numaperf_rt_stop(box.rt, timeouts[stress_below(random, 3)]);
    assert_true(rc == 0 || rc == -ETIMEDOUT);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(outsiders[i].thread, NULL), 0);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    for (int i = 0; i < GROUPS; i++) {
        assert_true(numaperf_group_wait(field.groups[i], 0) >= 0);
        assert_int_equal(numaperf_group_count(field.groups[i]), 0);
    }
    runtime_box_close(&box);
    for (int i = 0; i < GROUPS; i++)
        assert_int_equal(numaperf_group_destroy(field.groups[i]), 0);
    return round_check();
}

static void every_task_runs_or_is_cancelled_once(void **state)
{
    (void)state;
    uint64_t random = stress_seed();
    uint64_t wanted = stress_count(1000000);
    uint64_t total = 0;
    int rounds = 0;
    field.jobs = calloc(JOBS_MAX, sizeof(*field.jobs));
    assert_non_null(field.jobs);
    for (; total < wanted; rounds++)
        total += round_run(&random);
    print_message("%llu tasks in %d rounds, %u cancelled by handle\n", (unsigned long long)total,
                  rounds, atomic_load(&field.delayed));
    free(field.jobs);
}

static void race_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)atomic_fetch_add(&((struct job *)arg)->ran, 1);
}

static void race_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    (void)fn;
    (void)data;
    (void)atomic_fetch_add(&((struct job *)arg)->cancelled, 1);
}

/* Cancel at about the moment at which it begins: the time in between follows what came of it. */
static void cancel_and_start_exclude_each_other(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    uint64_t random = stress_seed();
    uint32_t count = (uint32_t)stress_count(JOBS_MAX - 1);
    struct job *jobs = calloc(JOBS_MAX, sizeof(*jobs));
    assert_non_null(jobs);
    box.config.on_task_cancel = race_cancel;
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    uint64_t pause_ns = 5000;
    uint32_t cancelled = 0;
    for (uint32_t i = 0; i < count; i++) {
        numaperf_timer_t *timer = NULL;
        uint64_t delay_ns = stress_below(&random, 4000);
        uint64_t until_ns =
            test_now_ns() + pause_ns - pause_ns / 8 + stress_below(&random, pause_ns / 4 + 1);
        assert_int_equal(
            numaperf_rt_spawn_after(box.rt, NULL, delay_ns, race_task, &jobs[i], &timer), 0);
        while (test_now_ns() < until_ns)
            ;
        jobs[i].by_handle = numaperf_timer_cancel(timer) == 1;
        cancelled += jobs[i].by_handle;
        if (jobs[i].by_handle != 0 && pause_ns < 1000000)
            pause_ns += pause_ns / 16 + 1;
        else if (jobs[i].by_handle == 0 && pause_ns > 100)
            pause_ns -= pause_ns / 16;
    }
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    runtime_box_close(&box);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < count; i++)
        wrong += atomic_load(&jobs[i].cancelled) != jobs[i].by_handle ||
                 atomic_load(&jobs[i].ran) + jobs[i].by_handle != 1;
    print_message("%u of %u cancelled\n", cancelled, count);
    free(jobs);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_or_is_cancelled_once),
        cmocka_unit_test(cancel_and_start_exclude_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
