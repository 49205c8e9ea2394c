/* SPDX-License-Identifier: MIT */
/*
 * What two workers cost that have nothing to do. They have run a task each, so that nothing of
 * their start is left to do, and a quarter of a second later their CPU time is taken over three.
 * It is that of the whole process: also the one sleep of the thread that measures.
 */
#include "harness.h"

#define IDLE_SETTLE_NS 250000000u
#define IDLE_NS 3000000000u
#define IDLE_SMOKE_NS 50000000u
#define IDLE_LIMIT_MS 1.0
#define IDLE_AIM_MS 0.1

static struct bench_tally tally;

static void idle_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    bench_tally_add(&tally);
}

static int idle_measure(const struct bench_run *run, void *state, double *out_values)
{
    for (uint32_t lane = 0; lane < 2; lane++) {
        int rc = run->peer->spawn(state, lane, idle_task, NULL);
        if (rc < 0)
            return rc;
    }
    int rc = bench_tally_wait(&tally, 2);
    bench_sleep_ns(run->smoke ? IDLE_SMOKE_NS : IDLE_SETTLE_NS);
    uint64_t start_ns = bench_cpu_ns();
    bench_sleep_ns(run->smoke ? IDLE_SMOKE_NS : IDLE_NS);
    out_values[0] = (double)(bench_cpu_ns() - start_ns) / 1e6;
    return rc;
}

static int idle_sample(const struct bench_run *run, double *out_values)
{
    void *state = NULL;
    int rc = run->peer->start(run->peer, run->setup, &state);
    if (rc < 0)
        return rc;
    rc = idle_measure(run, state, out_values);
    run->peer->stop(state);
    return rc;
}

static const struct bench_case idle_cases[] = {
    {
        .name = "idle.one_node",
        .about = "two workers with nothing to do, 3 s",
        .peers = {&bench_libuv, &bench_glib, &bench_tbb_enqueue, &bench_numaperf,
                  &bench_numaperf_epoll},
        .metrics = {{.name = "CPU", .unit = "ms", .lower_is_better = true, .limit = IDLE_LIMIT_MS}},
        .goals = {{.peer = &bench_numaperf, .must = IDLE_LIMIT_MS, .aim = IDLE_AIM_MS}},
        .node_count = 1,
        .workers_per_node = 2,
        .sample = idle_sample,
    },
};

const struct bench_workload bench_idle = {
    .name = "idle",
    .cases = idle_cases,
    .case_count = sizeof(idle_cases) / sizeof(idle_cases[0]),
};
