/* SPDX-License-Identifier: MIT */
/* The sampling of spawn.c, for workloads that compare settings by it. */
#ifndef NUMAPERF_BENCH_SPAWN_H
#define NUMAPERF_BENCH_SPAWN_H

#include "harness.h"

/* Bits of a case's `parameter`. */
enum {
    BENCH_SPAWN_OUTSIDE = 0,
    BENCH_SPAWN_INSIDE = 1u << 0,
    BENCH_SPAWN_LONG = 1u << 1 /* more tasks, for differences of a percent */
};

/* Values: tasks a second, CPU time (ns) a task. */
int bench_spawn_sample(const struct bench_run *run, double *out_values);

#endif
