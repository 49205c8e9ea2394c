/* SPDX-License-Identifier: MIT */
/*
 * What it costs to be watched: null tasks with the stall detector on against the same without it.
 * The counters cannot be switched off, so they are on both sides; with the detector goes a thread
 * that takes a snapshot of them a hundred times a second. What counting and sampling themselves
 * cost is in the figures of every other case.
 */
#include "spawn.h"

#define OVERHEAD_CASE(suffix, text, nodes, workers, from)                           \
    {                                                                               \
        .name = "overhead." suffix, .about = text,                                  \
        .peers = {&bench_numaperf_unwatched, &bench_numaperf_watched},              \
        .metrics = {{.name = "tasks/s", .unit = "1/s"},                             \
                    {.name = "CPU a task", .unit = "ns", .lower_is_better = true}}, \
        .goals = {{.peer = &bench_numaperf_watched,                                 \
                   .against = &bench_numaperf_unwatched,                            \
                   .must = 0.98,                                                    \
                   .aim = 0.995}},                                                  \
        .node_count = (nodes), .workers_per_node = (workers), .parameter = (from),  \
        .sample = bench_spawn_sample                                                \
    }

static const struct bench_case overhead_cases[] = {
    OVERHEAD_CASE("outside", "null tasks from outside, stall detector and snapshots or not", 1, 2,
                  BENCH_SPAWN_OUTSIDE),
    OVERHEAD_CASE("inside", "null tasks from inside, stall detector and snapshots or not", 2, 1,
                  BENCH_SPAWN_INSIDE),
};

const struct bench_workload bench_overhead = {
    .name = "overhead",
    .cases = overhead_cases,
    .case_count = sizeof(overhead_cases) / sizeof(overhead_cases[0]),
};
