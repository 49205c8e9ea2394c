/* SPDX-License-Identifier: MIT */
/*
 * How many null tasks a second, and at what cost. Outside: one thread that is no worker hands
 * tasks to both workers in turn, with at most a window of them waiting. Inside: each worker runs
 * a task that spawns a burst of null tasks to its own node and then itself again.
 *
 * The null task counts itself, so that a lost one or one that ran twice is noticed. The CPU time is
 * that of the whole process, so a producer's waiting and a worker's spinning are in it.
 */
#include "spawn.h"

#include <errno.h>

#define SPAWN_TASKS 600000u
#define SPAWN_LONG_TIMES 5u
#define SPAWN_TASKS_SMOKE 3000u
#define SPAWN_WARM_UP_PARTS 10u /* a tenth of that many before the clock runs */
#define SPAWN_WINDOW 16384u
#define SPAWN_WINDOW_CHECK 256u /* tasks between two looks at how many wait */
#define SPAWN_WINDOW_NAP_NS 50000u
#define SPAWN_BURST 64u

static struct bench_tally tally;

static void spawn_null_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    bench_tally_add(&tally);
}

/* ---- outside ---- */

static int spawn_one(const struct bench_peer *peer, void *state, uint32_t lane)
{
    for (;;) {
        int rc = peer->spawn(state, lane, spawn_null_task, NULL);
        if (rc != -EAGAIN)
            return rc;
        bench_sleep_ns(SPAWN_WINDOW_NAP_NS);
    }
}

/* Naps rather than spins, or the producer's waiting would be most of the CPU time. */
static void spawn_wait_for_window(uint64_t spawned)
{
    if (spawned - bench_tally_sum(&tally) < SPAWN_WINDOW)
        return;
    while (spawned - bench_tally_sum(&tally) > SPAWN_WINDOW / 2)
        bench_sleep_ns(SPAWN_WINDOW_NAP_NS);
}

static int spawn_outside(const struct bench_peer *peer, void *state, uint64_t count)
{
    uint64_t before = bench_tally_sum(&tally);
    for (uint64_t i = 0; i < count; i++) {
        if (i % SPAWN_WINDOW_CHECK == 0)
            spawn_wait_for_window(before + i);
        int rc = spawn_one(peer, state, (uint32_t)(i % 2));
        if (rc < 0)
            return rc;
    }
    return bench_tally_wait(&tally, before + count);
}

/* ---- inside ---- */

struct spawn_chain {
    const struct bench_peer *peer;
    uint64_t left; /* null tasks; touched by one task at a time, and handed on with the spawn */
};

static void spawn_burst_task(numaperf_worker_t *worker, void *arg)
{
    struct spawn_chain *chain = arg;
    uint64_t burst = chain->left < SPAWN_BURST ? chain->left : SPAWN_BURST;
    chain->left -= burst;
    /* A spawn that fails leaves the sum short, which the wait reports. */
    for (uint64_t i = 0; i < burst; i++)
        (void)chain->peer->spawn_inside(worker, spawn_null_task, NULL);
    if (chain->left > 0)
        (void)chain->peer->spawn_inside(worker, spawn_burst_task, chain);
    else
        bench_tally_add(&tally); /* the chain is not touched any more */
}

static int spawn_inside(const struct bench_peer *peer, void *state, uint64_t count)
{
    struct spawn_chain chains[2] = {{.peer = peer, .left = count / 2},
                                    {.peer = peer, .left = count - count / 2}};
    uint64_t before = bench_tally_sum(&tally);
    for (uint32_t i = 0; i < 2; i++) {
        int rc = peer->spawn(state, i, spawn_burst_task, &chains[i]);
        if (rc < 0)
            return rc;
    }
    return bench_tally_wait(&tally, before + count + 2);
}

/* ---- sample ---- */

static int spawn_measure(const struct bench_run *run, void *state, double *out_values)
{
    uint64_t count = run->smoke ? SPAWN_TASKS_SMOKE : SPAWN_TASKS;
    int (*const drive)(const struct bench_peer *, void *, uint64_t) =
        (run->bench->parameter & BENCH_SPAWN_INSIDE) != 0 ? spawn_inside : spawn_outside;
    if (!run->smoke && (run->bench->parameter & BENCH_SPAWN_LONG) != 0)
        count *= SPAWN_LONG_TIMES;
    int rc = drive(run->peer, state, count / SPAWN_WARM_UP_PARTS);
    if (rc < 0)
        return rc;
    uint64_t start_ns = bench_now_ns();
    uint64_t start_cpu_ns = bench_cpu_ns();
    rc = drive(run->peer, state, count);
    uint64_t cpu_ns = bench_cpu_ns() - start_cpu_ns;
    uint64_t took_ns = bench_now_ns() - start_ns;
    out_values[0] = (double)count * 1e9 / (double)took_ns;
    out_values[1] = (double)cpu_ns / (double)count;
    return rc;
}

int bench_spawn_sample(const struct bench_run *run, double *out_values)
{
    void *state = NULL;
    int rc = run->peer->start(run->peer, run->setup, &state);
    if (rc < 0)
        return rc;
    rc = spawn_measure(run, state, out_values);
    run->peer->stop(state);
    return rc;
}

#define SPAWN_METRICS                                                      \
    {                                                                      \
        {.name = "tasks/s", .unit = "1/s"},                                \
            {.name = "CPU a task", .unit = "ns", .lower_is_better = true}, \
    }
/* Of both forms of libuv's loops: the best simple one, and what its users write. */
#define SPAWN_GOAL(index, least, wanted)                                                           \
    {.peer = &bench_numaperf,                                                                      \
     .against = &bench_libuv,                                                                      \
     .metric = (index),                                                                            \
     .must = (least),                                                                              \
     .aim = (wanted)},                                                                             \
    {                                                                                              \
        .peer = &bench_numaperf, .against = &bench_libuv_list, .metric = (index), .must = (least), \
        .aim = (wanted)                                                                            \
    }
#define SPAWN_CASE(suffix, text, nodes, workers)                                             \
    .name = "spawn." suffix, .about = text, .metrics = SPAWN_METRICS, .node_count = (nodes), \
    .workers_per_node = (workers), .sample = bench_spawn_sample

static const struct bench_case spawn_cases[] = {
    {
        SPAWN_CASE("one_node", "null tasks from one outside thread to two workers of a node", 1, 2),
        .peers = {&bench_libuv, &bench_libuv_list, &bench_libuv_pool, &bench_glib,
                  &bench_tbb_enqueue, &bench_numaperf, &bench_numaperf_epoll},
        .goals = {SPAWN_GOAL(0, 1.4, 1.7), SPAWN_GOAL(1, 0.7, 0.5)},
        .parameter = BENCH_SPAWN_OUTSIDE,
    },
    {
        SPAWN_CASE("two_nodes", "null tasks from one outside thread to two nodes of one worker", 2,
                   1),
        .peers = {&bench_libuv, &bench_libuv_list, &bench_glib, &bench_tbb_enqueue, &bench_numaperf,
                  &bench_numaperf_epoll},
        .goals = {SPAWN_GOAL(0, 1.4, 1.7), SPAWN_GOAL(1, 0.7, 0.5)},
        .parameter = BENCH_SPAWN_OUTSIDE,
    },
    {
        SPAWN_CASE("inside_one_node", "null tasks from tasks of two workers of a node", 1, 2),
        .peers = {&bench_libuv, &bench_libuv_list, &bench_glib, &bench_tbb_enqueue,
                  &bench_tbb_group, &bench_numaperf, &bench_numaperf_epoll},
        .goals = {SPAWN_GOAL(0, 2, 3)},
        .parameter = BENCH_SPAWN_INSIDE,
    },
    {
        SPAWN_CASE("inside_two_nodes", "null tasks from tasks on two nodes of one worker", 2, 1),
        .peers = {&bench_libuv, &bench_libuv_list, &bench_glib, &bench_tbb_enqueue,
                  &bench_tbb_group, &bench_numaperf, &bench_numaperf_epoll},
        .goals = {SPAWN_GOAL(0, 2, 3)},
        .parameter = BENCH_SPAWN_INSIDE,
    },
};

const struct bench_workload bench_spawn = {
    .name = "spawn",
    .cases = spawn_cases,
    .case_count = sizeof(spawn_cases) / sizeof(spawn_cases[0]),
};
