/* SPDX-License-Identifier: MIT */
/*
 * What it gains that others may help: a task spawns very many tasks of a microsecond to its own
 * node, and the time counts from its spawn until all have run. With a second node that may steal
 * against one that may not; with a sibling worker against a worker alone.
 *
 * The tasks are spawned from inside, as there is no PU to spare for a thread outside.
 */
#include "harness.h"

#include <errno.h>

#define GAIN_TASKS 200000u
#define GAIN_TASKS_SMOKE 2000u
#define GAIN_TASK_NS 1000u
#define GAIN_WARM_UP_PARTS 20u

struct gain_seed {
    const struct bench_peer *peer;
    uint32_t count;
    int rc; /* of the spawn that failed; written before the tally is */
};

static struct bench_tally tally;

static void gain_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    uint64_t end_ns = bench_now_ns() + GAIN_TASK_NS;
    while (bench_now_ns() < end_ns)
        continue;
    bench_tally_add(&tally);
}

static void gain_seed_task(numaperf_worker_t *worker, void *arg)
{
    struct gain_seed *seed = arg;
    for (uint32_t i = 0; seed->rc == 0 && i < seed->count; i++)
        seed->rc = seed->peer->spawn_inside(worker, gain_task, NULL);
    bench_tally_add(&tally);
}

static int gain_drive(const struct bench_run *run, void *state, uint32_t count)
{
    struct gain_seed seed = {.peer = run->peer, .count = count};
    uint64_t before = bench_tally_sum(&tally);
    int rc = run->peer->spawn(state, 0, gain_seed_task, &seed);
    if (rc == 0)
        rc = bench_tally_wait(&tally, before + count + 1);
    return seed.rc < 0 ? seed.rc : rc;
}

static int gain_measure(const struct bench_run *run, void *state, double *out_values)
{
    uint32_t count = run->smoke ? GAIN_TASKS_SMOKE : GAIN_TASKS;
    int rc = gain_drive(run, state, count / GAIN_WARM_UP_PARTS);
    if (rc < 0)
        return rc;
    uint64_t start_ns = bench_now_ns();
    rc = gain_drive(run, state, count);
    out_values[0] = (double)(bench_now_ns() - start_ns);
    return rc;
}

static int gain_sample(const struct bench_run *run, double *out_values)
{
    void *state = NULL;
    int rc = run->peer->start(run->peer, run->setup, &state);
    if (rc < 0)
        return rc;
    rc = gain_measure(run, state, out_values);
    run->peer->stop(state);
    return rc;
}

#define GAIN_CASE(suffix, text, without, nodes, workers)                                       \
    {                                                                                          \
        .name = "gain." suffix, .about = text, .peers = {&(without), &bench_numaperf},         \
        .metrics = {{.name = "time", .unit = "ns", .lower_is_better = true}},                  \
        .goals = {{.peer = &bench_numaperf, .against = &(without), .must = 0.6, .aim = 0.52}}, \
        .node_count = (nodes), .workers_per_node = (workers), .sample = gain_sample            \
    }

static const struct bench_case gain_cases[] = {
    GAIN_CASE("two_nodes", "200 000 tasks of 1 us all to one of two nodes of one worker",
              bench_numaperf_local, 2, 1),
    GAIN_CASE("sibling", "200 000 tasks of 1 us to one node, of two workers or of one",
              bench_numaperf_alone, 1, 2),
};

const struct bench_workload bench_gain = {
    .name = "gain",
    .cases = gain_cases,
    .case_count = sizeof(gain_cases) / sizeof(gain_cases[0]),
};
