/* SPDX-License-Identifier: MIT */
/*
 * Every accepted task runs or is cancelled, exactly once, where it may, in order where that is
 * promised; whatever the policy, the backend, and the moment and patience of the stop.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/runtimes.h"
#include "support/stress.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define JOBS_MAX 400000u
#define SPAWNERS 4
#define WORKERS_MAX 8
#define BATCH_MAX 16
#define ANYWHERE (-1)

/* One task, or one each_node. */
struct job {
    atomic_uchar done; /* runs and cancellations */
    uint8_t expected;  /* written by the spawner after the call, read after all has ended */
    int8_t node;       /* it may run nowhere else; ANYWHERE */
    int8_t worker;     /* it may run on no other; ANYWHERE */
    int8_t spawner;    /* with `worker`, an outside one: its tasks are in order; -1 */
    uint32_t sequence; /* of this spawner for this worker */
};

static struct {
    struct job *jobs;
    atomic_uint next_job;
    numaperf_rt_t *rt;
    uint32_t worker_count;
    bool local_only;
    atomic_uint accepted;                     /* tasks */
    atomic_uint faults;                       /* ran where it may not, or out of order */
    uint32_t last_run[SPAWNERS][WORKERS_MAX]; /* [][i] written by worker i */
    uint64_t worker_random[WORKERS_MAX];      /* [i] written by worker i */
    uint32_t children_of;                     /* one in so many tasks has a child */
    uint32_t slow_of;                         /* one in so many takes its time */
    int node_ids[WORKERS_MAX];
    uint32_t node_count;
} field;

struct spawner {
    pthread_t thread;
    uint64_t random;
    int index;
    uint32_t sequences[WORKERS_MAX];
};

static void job_task(numaperf_worker_t *worker, void *arg);

static void job_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    struct job *job = arg;
    if (fn != job_task || data != &field)
        (void)atomic_fetch_add(&field.faults, 1);
    (void)atomic_fetch_add(&job->done, 1);
}

/* ---- spawn ---- */

static struct job *job_new(void)
{
    uint32_t i = atomic_fetch_add(&field.next_job, 1);
    if (i >= JOBS_MAX)
        return NULL;
    struct job *job = &field.jobs[i];
    job->node = ANYWHERE;
    job->worker = ANYWHERE;
    job->spawner = -1;
    return job;
}

/* NODE_ANY, NODE_LOCAL or a node; where it may run at most goes to the job. */
static int choose_node(uint64_t *random, struct job *job, bool never_steal)
{
    uint64_t choice = stress_below(random, field.node_count + 2);
    if (choice >= field.node_count)
        return choice == field.node_count ? NUMAPERF_NODE_ANY : NUMAPERF_NODE_LOCAL;
    if (field.local_only || never_steal)
        job->node = (int8_t)field.node_ids[choice];
    return field.node_ids[choice];
}

static int spawn_settled(struct job *job, int rc, uint32_t tasks)
{
    if (rc >= 0) {
        job->expected = (uint8_t)tasks;
        (void)atomic_fetch_add(&field.accepted, tasks);
    }
    return rc < 0 ? rc : 0;
}

static int spawn_options(uint64_t *random, struct spawner *spawner)
{
    struct job *job = job_new();
    if (job == NULL)
        return -ENOSPC;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.on_cancel = stress_below(random, 2) == 0 ? job_cancel : NULL;
    uint32_t worker = (uint32_t)stress_below(random, field.worker_count);
    if (stress_below(random, 2) == 0) {
        options.flags = NUMAPERF_SPAWN_HAS_NODE | NUMAPERF_SPAWN_NEVER_STEAL;
        options.node = choose_node(random, job, true);
    } else {
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)worker;
        job->worker = (int8_t)worker;
        if (spawner != NULL) {
            job->spawner = (int8_t)spawner->index;
            job->sequence = spawner->sequences[worker] + 1;
        }
    }
    int rc = spawn_settled(job, numaperf_rt_spawn_with(field.rt, &options, job_task, job), 1);
    if (rc == 0 && job->spawner >= 0)
        spawner->sequences[worker]++;
    return rc;
}

static int spawn_batch(uint64_t *random, struct spawner *spawner)
{
    void *args[BATCH_MAX];
    uint32_t worker = (uint32_t)stress_below(random, field.worker_count);
    size_t count = 1 + stress_below(random, BATCH_MAX);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)worker;
    for (size_t i = 0; i < count; i++) {
        struct job *job = job_new();
        if (job == NULL)
            return -ENOSPC;
        job->worker = (int8_t)worker;
        job->spawner = (int8_t)spawner->index;
        job->sequence = spawner->sequences[worker] + 1 + (uint32_t)i;
        args[i] = job;
    }
    int rc = numaperf_rt_spawn_batch(field.rt, &options, job_task, args, count);
    if (rc < 0)
        return rc;
    spawner->sequences[worker] += (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        (void)spawn_settled(args[i], 0, 1);
    return 0;
}

/* Any kind; `spawner` is NULL on a worker. */
static int spawn_any(uint64_t *random, struct spawner *spawner)
{
    uint64_t kind = stress_below(random, 16);
    if (kind < 4)
        return spawn_options(random, spawner);
    if (kind < 6 && spawner != NULL)
        return spawn_batch(random, spawner);
    struct job *job = job_new();
    if (job == NULL)
        return -ENOSPC;
    if (kind == 7)
        return spawn_settled(job, numaperf_rt_each_node(field.rt, job_task, job), field.node_count);
    int node = choose_node(random, job, false);
    return spawn_settled(job, numaperf_rt_spawn(field.rt, node, job_task, job), 1);
}

static void job_task(numaperf_worker_t *worker, void *arg)
{
    struct job *job = arg;
    uint32_t index = numaperf_worker_index(worker);
    uint64_t *random = &field.worker_random[index];
    if (job->node != ANYWHERE && job->node != numaperf_worker_node(worker))
        (void)atomic_fetch_add(&field.faults, 1);
    if (job->worker != ANYWHERE && (uint32_t)job->worker != index)
        (void)atomic_fetch_add(&field.faults, 1);
    if (job->spawner >= 0) {
        uint32_t *last = &field.last_run[job->spawner][index];
        if (job->sequence <= *last)
            (void)atomic_fetch_add(&field.faults, 1);
        *last = job->sequence;
    }
    if (stress_below(random, field.children_of) == 0)
        (void)spawn_any(random, NULL);
    if (stress_below(random, field.slow_of) == 0)
        test_sleep_ms(stress_below(random, 4));
    (void)atomic_fetch_add(&job->done, 1);
}

static void *spawner_main(void *arg)
{
    struct spawner *spawner = arg;
    for (;;) {
        int rc = spawn_any(&spawner->random, spawner);
        if (rc == -EAGAIN)
            (void)sched_yield();
        else if (rc < 0)
            return NULL;
    }
}

/* ---- a round ---- */

static void round_configure(uint64_t *random, numaperf_rt_config_t *config)
{
    static const uint64_t limits[] = {50, 1000, 20000, UINT64_MAX};
    static const uint64_t spins[] = {0, 2000, UINT64_MAX};
    config->workers_per_node = 1 + (uint32_t)stress_below(random, 2);
    config->steal_policy = (uint32_t)stress_below(random, NUMAPERF_STEAL_ANY + 1);
    config->io_backend = stress_below(random, 2) == 0 ? NUMAPERF_IO_AUTO : NUMAPERF_IO_EPOLL;
    config->task_limit_per_node = limits[stress_below(random, 4)];
    config->spin_ns_max = spins[stress_below(random, 3)];
    config->on_task_cancel = job_cancel;
    config->data = &field;
    field.local_only = config->steal_policy == NUMAPERF_STEAL_LOCAL_ONLY;
    field.children_of = 2 + (uint32_t)stress_below(random, 20);
    field.slow_of = 200 + (uint32_t)stress_below(random, 20000);
}

static void round_prepare(uint64_t *random, numaperf_rt_t *rt)
{
    field.rt = rt;
    field.worker_count = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    assert_true(field.worker_count <= WORKERS_MAX);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(rt, &nodes), 0);
    field.node_count = 0;
    for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0;
         node = numaperf_nodemask_next(&nodes, node))
        field.node_ids[field.node_count++] = node;
    for (int i = 0; i < WORKERS_MAX; i++)
        field.worker_random[i] = stress_random(random);
    memset(field.last_run, 0, sizeof(field.last_run));
    memset(field.jobs, 0, JOBS_MAX * sizeof(*field.jobs));
    atomic_store(&field.next_job, 0);
    atomic_store(&field.accepted, 0);
}

/* Stop, maybe impatiently and more than once. */
static void round_stop(uint64_t *random, numaperf_rt_t *rt)
{
    static const uint64_t timeouts[] = {0, 1000, 1000000, 50000000, UINT64_MAX};
    uint64_t timeout_ns = timeouts[stress_below(random, 5)];
    int rc = numaperf_rt_stop(rt, timeout_ns);
    assert_true(rc == 0 || (rc == -ETIMEDOUT && timeout_ns != UINT64_MAX));
    if (rc < 0 && stress_below(random, 2) == 0)
        assert_int_equal(numaperf_rt_stop(rt, UINT64_MAX), 0);
}

static uint64_t round_run(uint64_t *random)
{
    static const char *const machines[] = {NULL, "numa:2 pu:1", "numa:2 pu:2", "numa:4 pu:1"};
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    const char *machine = machines[stress_below(random, 4)];
    round_configure(random, &box.config);
    assert_int_equal(runtime_box_open(&box, machine), 0);
    round_prepare(random, box.rt);
    uint32_t stop_at = (uint32_t)stress_below(random, JOBS_MAX * 5 / 4); /* some run to the end */

    struct spawner spawners[SPAWNERS];
    memset(spawners, 0, sizeof(spawners));
    for (int i = 0; i < SPAWNERS; i++) {
        spawners[i].index = i;
        spawners[i].random = stress_random(random);
        assert_int_equal(pthread_create(&spawners[i].thread, NULL, spawner_main, &spawners[i]), 0);
    }
    while (atomic_load(&field.next_job) < (stop_at < JOBS_MAX ? stop_at : JOBS_MAX))
        (void)sched_yield();
    round_stop(random, box.rt);
    for (int i = 0; i < SPAWNERS; i++)
        assert_int_equal(pthread_join(spawners[i].thread, NULL), 0);
    runtime_box_close(&box);

    uint32_t wrong = 0;
    uint64_t finished = 0;
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        wrong += atomic_load(&field.jobs[i].done) != field.jobs[i].expected;
        finished += field.jobs[i].expected;
    }
    assert_int_equal(wrong, 0);
    assert_int_equal(finished, atomic_load(&field.accepted));
    assert_int_equal(atomic_load(&field.faults), 0);
    return finished;
}

static void accepted_tasks_run_or_are_cancelled_exactly_once(void **state)
{
    (void)state;
    uint64_t random = stress_seed();
    uint64_t wanted = stress_count(10000000);
    uint64_t total = 0;
    field.jobs = calloc(JOBS_MAX, sizeof(*field.jobs));
    assert_non_null(field.jobs);
    int rounds = 0;
    for (; total < wanted; rounds++)
        total += round_run(&random);
    printf("%llu tasks in %d rounds\n", (unsigned long long)total, rounds);
    free(field.jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted_tasks_run_or_are_cancelled_exactly_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
