/* SPDX-License-Identifier: MIT */
/*
 * What it costs to be watched: null tasks with the stall detector on, and somebody who takes a
 * snapshot of the counters a hundred times a second, against a library whose workers neither count
 * nor sample their tasks (uncounted.h). In between stands the runtime as it is without the
 * detector.
 * All is spawned from inside: a thread outside would add more noise than there is to measure.
 */
#include "spawn.h"

#define OVERHEAD_CASE(suffix, text, nodes)                                                        \
    {                                                                                             \
        .name = "overhead." suffix, .about = text,                                                \
        .peers = {&bench_numaperf_uncounted, &bench_numaperf_unwatched, &bench_numaperf_watched}, \
        .metrics = {{.name = "tasks/s", .unit = "1/s"},                                           \
                    {.name = "CPU a task", .unit = "ns", .lower_is_better = true}},               \
        .goals = {{.peer = &bench_numaperf_watched,                                               \
                   .against = &bench_numaperf_uncounted,                                          \
                   .must = 0.98,                                                                  \
                   .aim = 0.995}},                                                                \
        .node_count = (nodes), .workers_per_node = 1,                                             \
        .parameter = BENCH_SPAWN_INSIDE | BENCH_SPAWN_LONG, .sample = bench_spawn_sample          \
    }

static const struct bench_case overhead_cases[] = {
    OVERHEAD_CASE("one_worker", "null tasks from tasks of one worker, watched or not", 1),
    OVERHEAD_CASE("two_nodes", "null tasks from tasks on two nodes, watched or not", 2),
};

const struct bench_workload bench_overhead = {
    .name = "overhead",
    .cases = overhead_cases,
    .case_count = sizeof(overhead_cases) / sizeof(overhead_cases[0]),
};
