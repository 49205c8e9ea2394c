/* SPDX-License-Identifier: MIT */
/*
 * Everything at once: spawns from outside and inside, bound ones, batches, priorities, groups that
 * are cancelled and waited for, tasks for later, timers of workers, steal rules, and a stop at any
 * moment. What was accepted runs or is cancelled, exactly once; where it may; not before its time;
 * bound tasks of one submitter and priority in order. NUMAPERF_STRESS_SEED replays the choices.
 */
#include <numaperf/error.h>
#include <numaperf/group.h>
#include <numaperf/runtime.h>
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define JOBS_MAX (TEST_SANITIZED != 0 ? 6000u : 60000u) /* of a round */
#define SPAWNERS 3
#define WORKERS_MAX 8
#define NODES_MAX 4
#define GROUPS 4
#define PRIORITIES 2
#define BATCH_MAX 16
#define HANDLES 8
#define LATE_NS_MAX 3000000u
#define ANYWHERE (-1)

enum kind { KIND_PLAIN, KIND_LATER, KIND_WHEN_DONE };

/* One task. What is not atomic is written before its spawn, `accepted` after it. */
struct job {
    atomic_uchar ran;
    atomic_uchar cancelled;
    bool accepted;
    bool may_be_cancelled; /* whatever time the stop has */
    uint8_t kind;
    uint8_t priority;
    int8_t home;       /* node it was spawned to; ANYWHERE: not known */
    bool stays;        /* its home's workers alone may run it */
    int8_t worker;     /* it may run on no other; ANYWHERE */
    int8_t spawner;    /* with `worker`, an outside one: its tasks are in order; -1 */
    uint32_t sequence; /* of this spawner for this worker and priority */
    uint64_t due_ns;   /* not before */
};

static struct {
    struct job *jobs;
    atomic_uint next_job;
    numaperf_rt_t *rt;
    uint32_t worker_count;
    uint32_t node_count;
    int node_ids[NODES_MAX];
    bool may_steal[NODES_MAX][NODES_MAX]; /* by node id: thief, home */
    numaperf_group_t *groups[GROUPS];
    numaperf_timer_t timers[WORKERS_MAX];                 /* [i] worker i's */
    uint32_t last_run[SPAWNERS][WORKERS_MAX][PRIORITIES]; /* [][i] written by worker i */
    uint64_t worker_random[WORKERS_MAX];                  /* [i] worker i's */
    uint32_t children_of;                                 /* one in so many tasks has a child */
    uint32_t slow_of;                                     /* one in so many takes its time */
    uint32_t cancel_of;   /* one in so many choices cancels a group */
    atomic_bool ready;    /* all of the above is there */
    atomic_bool quiet;    /* nothing is spawned any more */
    atomic_uint expired;  /* timers of workers */
    atomic_uint notices;  /* of room */
    atomic_uint wrong[6]; /* by enum fault */
} field;

enum fault { WRONG_PLACE, WRONG_ORDER, TOO_EARLY, WRONG_ANSWER, NOT_DRAINED, WRONG_SUM };
static const char *const fault_names[] = {"ran where it may not",
                                          "ran out of order",
                                          "ran before its time",
                                          "a call answered wrongly",
                                          "cancelled though the stop had time",
                                          "sums differ"};

/* In a callback that no task is: it may come when the last task has run, in the midst of a stop. */
static _Thread_local bool beside_tasks;

struct spawner {
    pthread_t thread;
    uint64_t random;
    int index;
    uint32_t sequences[WORKERS_MAX][PRIORITIES];
    numaperf_timer_t *handles[HANDLES]; /* NULL: none */
    struct job *promised[HANDLES];      /* of the handles */
};

static void job_task(numaperf_worker_t *worker, void *arg);

static void wrong(enum fault fault)
{
    (void)atomic_fetch_add(&field.wrong[fault], 1);
}

static void job_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    struct job *job = arg;
    if (fn != job_task || data != &field)
        wrong(WRONG_ANSWER);
    (void)atomic_fetch_add(&job->cancelled, 1);
}

/* ---- spawn ---- */

static struct job *job_new(enum kind kind)
{
    uint32_t i = atomic_fetch_add(&field.next_job, 1);
    if (i >= JOBS_MAX)
        return NULL;
    struct job *job = &field.jobs[i];
    job->kind = (uint8_t)kind;
    job->may_be_cancelled = beside_tasks;
    job->home = ANYWHERE;
    job->worker = ANYWHERE;
    job->spawner = -1;
    return job;
}

static int job_settle(struct job *job, int rc)
{
    if (rc == 0)
        job->accepted = true;
    return rc;
}

/* Where to, how urgent, in which group; at random, and the job knows. */
static void choose_options(uint64_t *random, struct job *job, numaperf_spawn_options_t *out)
{
    *out = (numaperf_spawn_options_t)NUMAPERF_SPAWN_OPTIONS_INIT;
    out->on_cancel = stress_below(random, 2) == 0 ? job_cancel : NULL;
    job->priority = (uint8_t)stress_below(random, PRIORITIES);
    out->priority = job->priority;
    if (job->kind != KIND_WHEN_DONE && stress_below(random, 3) == 0) {
        out->group = field.groups[stress_below(random, GROUPS)];
        job->may_be_cancelled = true;
    }
    uint64_t where = stress_below(random, field.node_count + 4);
    if (where < field.node_count) {
        out->flags = NUMAPERF_SPAWN_HAS_NODE;
        out->node = field.node_ids[where];
        job->home = (int8_t)out->node;
        job->stays = stress_below(random, 4) == 0;
        if (job->stays)
            out->flags |= NUMAPERF_SPAWN_NEVER_STEAL;
    } else if (where == field.node_count) {
        out->flags = NUMAPERF_SPAWN_HAS_NODE;
        out->node = NUMAPERF_NODE_ANY;
    } else if (where < field.node_count + 3) {
        out->flags = NUMAPERF_SPAWN_HAS_WORKER;
        out->worker = (int32_t)stress_below(random, field.worker_count);
        job->worker = (int8_t)out->worker;
    }
}

static int spawn_plain(uint64_t *random, struct spawner *spawner)
{
    struct job *job = job_new(KIND_PLAIN);
    if (job == NULL)
        return -ENOSPC;
    numaperf_spawn_options_t options;
    choose_options(random, job, &options);
    uint32_t *sequence = NULL;
    if (spawner != NULL && job->worker != ANYWHERE) {
        sequence = &spawner->sequences[job->worker][job->priority];
        job->spawner = (int8_t)spawner->index;
        job->sequence = *sequence + 1;
    }
    int rc = job_settle(job, numaperf_rt_spawn_with(field.rt, &options, job_task, job));
    if (rc == 0 && sequence != NULL)
        (*sequence)++;
    return rc;
}

static int spawn_batch(uint64_t *random, struct spawner *spawner)
{
    struct job *jobs[BATCH_MAX];
    void *args[BATCH_MAX];
    size_t count = 1 + stress_below(random, BATCH_MAX);
    numaperf_spawn_options_t options;
    for (size_t i = 0; i < count; i++) {
        jobs[i] = job_new(KIND_PLAIN);
        if (jobs[i] == NULL)
            return -ENOSPC;
        args[i] = jobs[i];
    }
    choose_options(random, jobs[0], &options);
    uint32_t *sequence = NULL;
    if (jobs[0]->worker != ANYWHERE)
        sequence = &spawner->sequences[jobs[0]->worker][jobs[0]->priority];
    for (size_t i = 0; i < count; i++) {
        *jobs[i] = (struct job){.may_be_cancelled = jobs[0]->may_be_cancelled,
                                .priority = jobs[0]->priority,
                                .home = jobs[0]->home,
                                .stays = jobs[0]->stays,
                                .worker = jobs[0]->worker,
                                .spawner = sequence != NULL ? (int8_t)spawner->index : -1,
                                .sequence = sequence != NULL ? *sequence + 1 + (uint32_t)i : 0};
    }
    int rc = numaperf_rt_spawn_batch(field.rt, &options, job_task, args, count);
    if (rc == 0 && sequence != NULL)
        *sequence += (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        (void)job_settle(jobs[i], rc);
    return rc;
}

/* Give a handle back, whatever became of its task. */
static void handle_cancel(numaperf_timer_t **handle, const struct job *job)
{
    if (*handle == NULL)
        return;
    int rc = numaperf_timer_cancel(*handle);
    if (rc < 0 || rc > 1)
        wrong(WRONG_ANSWER);
    if (rc == 1 && (atomic_load(&job->ran) != 0 || atomic_load(&job->cancelled) != 1))
        wrong(WRONG_ANSWER);
    *handle = NULL;
}

/* For later; outside spawners keep some handles, and change their minds about others' tasks. */
static int spawn_later(uint64_t *random, struct spawner *spawner)
{
    struct job *job = job_new(KIND_LATER);
    if (job == NULL)
        return -ENOSPC;
    numaperf_spawn_options_t options;
    choose_options(random, job, &options);
    uint64_t delay_ns = stress_below(random, LATE_NS_MAX);
    if (stress_below(random, 16) == 0)
        delay_ns = UINT64_MAX >> stress_below(random, 24); /* the stop comes first */
    uint64_t now_ns = test_now_ns();
    job->due_ns = delay_ns < UINT64_MAX - now_ns ? now_ns + delay_ns : UINT64_MAX;
    uint64_t at = stress_below(random, HANDLES);
    bool kept = spawner != NULL && stress_below(random, 2) == 0;
    if (kept) {
        handle_cancel(&spawner->handles[at], spawner->promised[at]);
        spawner->promised[at] = job;
    }
    return job_settle(job, numaperf_rt_spawn_after(field.rt, &options, delay_ns, job_task, job,
                                                   kept ? &spawner->handles[at] : NULL));
}

static int spawn_when_done(uint64_t *random)
{
    struct job *job = job_new(KIND_WHEN_DONE);
    if (job == NULL)
        return -ENOSPC;
    numaperf_spawn_options_t options;
    choose_options(random, job, &options);
    uint64_t at = stress_below(random, GROUPS);
    return job_settle(job, numaperf_group_on_done(field.groups[at], &options, job_task, job));
}

/* Any kind; `spawner` is NULL on a worker. */
static int spawn_any(uint64_t *random, struct spawner *spawner)
{
    if (stress_below(random, field.cancel_of) == 0 &&
        numaperf_group_cancel(field.groups[stress_below(random, GROUPS)]) != 0)
        wrong(WRONG_ANSWER);
    uint64_t kind = stress_below(random, 16);
    if (kind < 3 && spawner != NULL)
        return spawn_batch(random, spawner);
    if (kind < 6)
        return spawn_later(random, spawner);
    if (kind == 6)
        return spawn_when_done(random);
    return spawn_plain(random, spawner);
}

/* ---- run ---- */

static void check_place(const struct job *job, numaperf_worker_t *worker)
{
    int node = numaperf_worker_node(worker);
    uint32_t index = numaperf_worker_index(worker);
    if (job->worker != ANYWHERE && (uint32_t)job->worker != index)
        wrong(WRONG_PLACE);
    if (job->home != ANYWHERE && job->home != node &&
        (job->stays || !field.may_steal[node][job->home]))
        wrong(WRONG_PLACE);
    if (job->spawner >= 0) {
        uint32_t *last = &field.last_run[job->spawner][index][job->priority];
        if (job->sequence <= *last)
            wrong(WRONG_ORDER);
        *last = job->sequence;
    }
}

static void job_task(numaperf_worker_t *worker, void *arg)
{
    struct job *job = arg;
    uint64_t *random = &field.worker_random[numaperf_worker_index(worker)];
    if (job->due_ns != 0 && test_now_ns() < job->due_ns)
        wrong(TOO_EARLY);
    check_place(job, worker);
    if (stress_below(random, field.children_of) == 0)
        (void)spawn_any(random, NULL);
    if (stress_below(random, field.slow_of) == 0)
        test_sleep_ms(stress_below(random, 4));
    (void)atomic_fetch_add(&job->ran, 1);
}

static void spawn_beside_tasks(uint64_t *random)
{
    beside_tasks = true;
    (void)spawn_any(random, NULL);
    beside_tasks = false;
}

static void worker_timer(numaperf_worker_t *worker, void *arg)
{
    numaperf_timer_t *timer = arg;
    uint64_t *random = &field.worker_random[numaperf_worker_index(worker)];
    (void)atomic_fetch_add(&field.expired, 1);
    if (atomic_load(&field.ready))
        spawn_beside_tasks(random);
    int rc = stress_below(random, 2) == 0
                 ? numaperf_timer_restart(timer)
                 : numaperf_timer_start(timer, stress_below(random, 500000));
    if (rc != 0)
        wrong(WRONG_ANSWER);
}

static int worker_start(numaperf_worker_t *worker, void *data)
{
    (void)data;
    numaperf_timer_t *timer = &field.timers[numaperf_worker_index(worker)];
    int rc = numaperf_timer_init(worker, timer, worker_timer, timer);
    return rc == 0 ? numaperf_timer_start(timer, 100000) : rc;
}

static void on_room(numaperf_worker_t *worker, int node, void *data)
{
    (void)node;
    (void)data;
    (void)atomic_fetch_add(&field.notices, 1);
    spawn_beside_tasks(&field.worker_random[numaperf_worker_index(worker)]);
}

/* ---- threads outside ---- */

static void *spawner_main(void *arg)
{
    struct spawner *spawner = arg;
    for (;;) {
        int rc = spawn_any(&spawner->random, spawner);
        if (rc == -EAGAIN)
            (void)sched_yield();
        else if (rc < 0)
            break;
    }
    for (int i = 0; i < HANDLES; i++)
        handle_cancel(&spawner->handles[i], spawner->promised[i]);
    return NULL;
}

static void *waiter_main(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    while (!atomic_load(&field.quiet)) {
        numaperf_group_t *group = field.groups[stress_below(&random, GROUPS)];
        int rc = numaperf_group_wait(group, stress_below(&random, 2000000));
        if (rc < 0 && rc != -ETIMEDOUT)
            wrong(WRONG_ANSWER);
    }
    return NULL;
}

/* ---- a round ---- */

/* Nodes of a machine, NULL this one; false when there are more than the tables hold. */
static bool round_nodes(const char *machine)
{
    numaperf_topology_t *topology = NULL;
    int rc = machine != NULL ? numaperf_topology_from_synthetic(machine, &topology)
                             : numaperf_topology_discover(&topology);
    assert_int_equal(rc, 0);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_topology_usable_nodes(topology, &nodes), 0);
    numaperf_topology_destroy(topology);
    field.node_count = 0;
    for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0;
         node = numaperf_nodemask_next(&nodes, node)) {
        if (node >= NODES_MAX)
            return false;
        field.node_ids[field.node_count++] = node;
    }
    return true;
}

/* A rule for some pairs; whether it lets the thief take anything. */
static bool round_rule(uint64_t *random, numaperf_steal_rule_t *out)
{
    static const uint64_t waits[] = {0, 1000, 100000, UINT64_MAX};
    static const uint64_t budgets[] = {0, 0, 1000, 1000000};
    out->wait_ns_min = waits[stress_below(random, 4)];
    out->batch_max = (uint32_t)stress_below(random, 8);
    out->backlog_min = (uint32_t)stress_below(random, 4);
    out->budget_per_s = budgets[stress_below(random, 4)];
    if (stress_below(random, 2) == 0)
        out->flags = NUMAPERF_STEAL_RULE_FORBID;
    return out->flags == 0;
}

static void round_rules(uint64_t *random, numaperf_steal_rule_t *rules,
                        numaperf_rt_config_t *config)
{
    uint32_t count = 0;
    memset(field.may_steal, 0, sizeof(field.may_steal));
    for (uint32_t pair = 0; pair < field.node_count * field.node_count; pair++) {
        int thief = field.node_ids[pair / field.node_count];
        int home = field.node_ids[pair % field.node_count];
        field.may_steal[thief][home] = config->steal_policy != NUMAPERF_STEAL_LOCAL_ONLY;
        if (thief == home || stress_below(random, 2) == 0)
            continue;
        numaperf_steal_rule_t *rule = &rules[count++];
        *rule = (numaperf_steal_rule_t)NUMAPERF_STEAL_RULE_INIT;
        rule->thief = thief;
        rule->victim = home;
        if (!round_rule(random, rule))
            field.may_steal[thief][home] = false;
    }
    config->steal_rules = count > 0 ? rules : NULL;
    config->steal_rule_count = count;
}

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
    config->on_worker_start = worker_start;
    config->on_room = on_room;
    config->data = &field;
    field.children_of = 2 + (uint32_t)stress_below(random, 20);
    field.slow_of = 200 + (uint32_t)stress_below(random, 20000);
    field.cancel_of = 20 + (uint32_t)stress_below(random, 5000);
}

/* Before the start: its callbacks use some of this. */
static void round_reset(uint64_t *random)
{
    for (int i = 0; i < WORKERS_MAX; i++)
        field.worker_random[i] = stress_random(random);
    memset(field.last_run, 0, sizeof(field.last_run));
    memset(field.jobs, 0, JOBS_MAX * sizeof(*field.jobs));
    atomic_store(&field.next_job, 0);
    atomic_store(&field.ready, false);
    atomic_store(&field.quiet, false);
}

static void round_prepare(numaperf_rt_t *rt)
{
    field.rt = rt;
    field.worker_count = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    assert_in_range(field.worker_count, 1, WORKERS_MAX);
    for (int i = 0; i < GROUPS; i++)
        assert_int_equal(numaperf_group_create(rt, &field.groups[i]), 0);
    atomic_store(&field.ready, true);
}

/* Stop, maybe impatiently and more than once; whether the first one had all the time it wanted. */
static bool round_stop(uint64_t *random, numaperf_rt_t *rt)
{
    static const uint64_t timeouts[] = {0, 1000, 1000000, 50000000, UINT64_MAX};
    uint64_t timeout_ns = timeouts[stress_below(random, 5)];
    int rc = numaperf_rt_stop(rt, timeout_ns);
    assert_true(rc == 0 || (rc == -ETIMEDOUT && timeout_ns != UINT64_MAX));
    if (rc < 0)
        assert_int_equal(numaperf_rt_stop(rt, UINT64_MAX), 0);
    return timeout_ns == UINT64_MAX;
}

/* Let outsiders at it until `stop_at` jobs were begun, then stop beside them. */
static bool round_play(uint64_t *random, numaperf_rt_t *rt, uint32_t stop_at)
{
    static struct spawner spawners[SPAWNERS];
    memset(spawners, 0, sizeof(spawners));
    for (int i = 0; i < SPAWNERS; i++) {
        spawners[i].index = i;
        spawners[i].random = stress_random(random);
        assert_int_equal(pthread_create(&spawners[i].thread, NULL, spawner_main, &spawners[i]), 0);
    }
    pthread_t waiter;
    uint64_t waiter_random = stress_random(random);
    assert_int_equal(pthread_create(&waiter, NULL, waiter_main, &waiter_random), 0);
    while (atomic_load(&field.next_job) < stop_at)
        (void)sched_yield();
    bool patient = round_stop(random, rt);
    for (int i = 0; i < SPAWNERS; i++)
        assert_int_equal(pthread_join(spawners[i].thread, NULL), 0);
    atomic_store(&field.quiet, true);
    assert_int_equal(pthread_join(waiter, NULL), 0);
    return patient;
}

/* Every job was run or cancelled once if it was accepted, and else never; how many were. */
static uint64_t round_count(bool patient, uint64_t *out_ran)
{
    uint64_t accepted = 0;
    uint32_t not_once = 0;
    *out_ran = 0;
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        struct job *job = &field.jobs[i];
        uint32_t ran = atomic_load(&job->ran);
        uint32_t cancelled = atomic_load(&job->cancelled);
        not_once += ran + cancelled != (job->accepted ? 1 : 0);
        accepted += job->accepted;
        *out_ran += ran;
        if (patient && cancelled != 0 && job->kind == KIND_PLAIN && !job->may_be_cancelled)
            wrong(NOT_DRAINED);
    }
    assert_int_equal(not_once, 0);
    return accepted;
}

static void round_check_faults(void)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof(fault_names) / sizeof(fault_names[0]); i++) {
        uint32_t count = atomic_load(&field.wrong[i]);
        if (count > 0)
            printf("%u times: %s\n", count, fault_names[i]);
        sum += count;
    }
    assert_int_equal(sum, 0);
}

static uint64_t round_run(uint64_t *random)
{
    static const char *const machines[] = {NULL, "numa:2 pu:1", "numa:2 pu:2", "numa:4 pu:1"};
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    numaperf_steal_rule_t rules[NODES_MAX * NODES_MAX];
    const char *machine = machines[stress_below(random, 4)];
    if (!round_nodes(machine)) {
        machine = machines[1];
        assert_true(round_nodes(machine));
    }
    round_configure(random, &box.config);
    round_rules(random, rules, &box.config);
    round_reset(random);
    assert_int_equal(runtime_box_open(&box, machine), 0);
    round_prepare(box.rt);
    bool patient = round_play(random, box.rt, (uint32_t)stress_below(random, JOBS_MAX));
    uint64_t ran = 0;
    uint64_t accepted = round_count(patient, &ran);
    numaperf_rt_stats_t stats = NUMAPERF_RT_STATS_INIT;
    assert_int_equal(numaperf_rt_stats(box.rt, &stats), 0);
    if (stats.ran < ran || stats.ran + stats.cancelled != stats.accepted)
        wrong(WRONG_SUM);
    runtime_box_close(&box);
    for (int i = 0; i < GROUPS; i++) {
        assert_int_equal(numaperf_group_count(field.groups[i]), 0);
        assert_int_equal(numaperf_group_destroy(field.groups[i]), 0);
    }
    round_check_faults();
    return accepted;
}

static void whatever_was_accepted_runs_or_is_cancelled_once(void **state)
{
    (void)state;
    uint64_t random = stress_seed();
    uint64_t wanted = stress_count(2000000);
    uint64_t total = 0;
    field.jobs = calloc(JOBS_MAX, sizeof(*field.jobs));
    assert_non_null(field.jobs);
    int rounds = 0;
    for (; total < wanted; rounds++)
        total += round_run(&random);
    printf("%llu tasks in %d rounds, %u expiries, %u notices of room\n", (unsigned long long)total,
           rounds, atomic_load(&field.expired), atomic_load(&field.notices));
    assert_true(atomic_load(&field.expired) > 0);
    free(field.jobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_was_accepted_runs_or_is_cancelled_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
