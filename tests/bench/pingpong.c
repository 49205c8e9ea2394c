/* SPDX-License-Identifier: MIT */
/*
 * A task on one node spawns one on the other, which spawns one on the first, and so on: one task in
 * all, so that every hop is a wake, or finds a worker that still searches. A hop that was run on
 * another PU than that of the node it went to, because the worker that sent it took it back, was no
 * hop: it costs time and does not count. How many did count is the second figure.
 */
#include "harness.h"

#include <errno.h>
#include <sched.h>

#define PINGPONG_HOPS 20000u
#define PINGPONG_HOPS_SMOKE 100u
#define PINGPONG_WARM_UP_PARTS 4u

/* Touched by one task at a time, and handed on with the spawn. */
struct pingpong_ball {
    const struct bench_peer *peer;
    void *state;
    const int32_t *cpus;
    uint32_t left;    /* hops */
    uint32_t arrived; /* of those that were made */
    int rc;           /* of the spawn that failed */
};

static struct bench_tally tally;

static void pingpong_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    struct pingpong_ball *ball = arg;
    ball->arrived += sched_getcpu() == ball->cpus[ball->left % 2];
    if (ball->left == 0) {
        bench_tally_add(&tally);
        return;
    }
    ball->left--;
    int rc = ball->peer->spawn(ball->state, ball->left % 2, pingpong_task, ball);
    if (rc < 0) {
        ball->rc = rc;
        bench_tally_add(&tally);
    }
}

static int pingpong_drive(const struct bench_run *run, void *state, uint32_t hops,
                          uint32_t *out_arrived)
{
    struct pingpong_ball ball = {
        .peer = run->peer, .state = state, .cpus = run->setup->cpus, .left = hops};
    uint64_t before = bench_tally_sum(&tally);
    int rc = run->peer->spawn(state, hops % 2, pingpong_task, &ball);
    if (rc == 0)
        rc = bench_tally_wait(&tally, before + 1);
    *out_arrived = ball.arrived;
    return rc < 0 ? rc : ball.rc;
}

static int pingpong_measure(const struct bench_run *run, void *state, double *out_values)
{
    uint32_t hops = run->smoke ? PINGPONG_HOPS_SMOKE : PINGPONG_HOPS;
    uint32_t arrived = 0;
    int rc = pingpong_drive(run, state, hops / PINGPONG_WARM_UP_PARTS, &arrived);
    if (rc < 0)
        return rc;
    uint64_t start_ns = bench_now_ns();
    uint64_t start_cpu_ns = bench_cpu_ns();
    rc = pingpong_drive(run, state, hops, &arrived);
    uint64_t cpu_ns = bench_cpu_ns() - start_cpu_ns;
    uint64_t took_ns = bench_now_ns() - start_ns;
    if (arrived == 0)
        arrived = 1; /* the harness takes no ratios with 0 */
    out_values[0] = (double)arrived * 1e9 / (double)took_ns;
    out_values[1] = (double)arrived / (hops + 1);
    out_values[2] = (double)cpu_ns / arrived;
    return rc;
}

static int pingpong_sample(const struct bench_run *run, double *out_values)
{
    void *state = NULL;
    int rc = run->peer->start(run->peer, run->setup, &state);
    if (rc < 0)
        return rc;
    rc = pingpong_measure(run, state, out_values);
    run->peer->stop(state);
    return rc;
}

static const struct bench_case pingpong_cases[] = {
    {
        .name = "pingpong.two_nodes",
        .about = "one task to and fro between two nodes of one worker",
        .peers = {&bench_tbb_enqueue, &bench_libuv, &bench_glib, &bench_numaperf,
                  &bench_numaperf_epoll},
        .metrics = {{.name = "hops/s", .unit = "1/s"},
                    {.name = "arrived", .unit = "of 1"},
                    {.name = "CPU a hop", .unit = "ns", .lower_is_better = true}},
        .goals = {{.peer = &bench_numaperf, .against = &bench_tbb_enqueue, .must = 1.0, .aim = 2}},
        .node_count = 2,
        .workers_per_node = 1,
        .sample = pingpong_sample,
    },
};

const struct bench_workload bench_pingpong = {
    .name = "pingpong",
    .cases = pingpong_cases,
    .case_count = sizeof(pingpong_cases) / sizeof(pingpong_cases[0]),
};
