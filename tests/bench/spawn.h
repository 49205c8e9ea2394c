/* SPDX-License-Identifier: MIT */
/* The sampling of spawn.c, for workloads that compare settings by it. */
#ifndef NUMAPERF_BENCH_SPAWN_H
#define NUMAPERF_BENCH_SPAWN_H

#include "harness.h"

/* What a case's `parameter` says. */
enum bench_spawn_from { BENCH_SPAWN_OUTSIDE = 0, BENCH_SPAWN_INSIDE };

/* Values: tasks a second, CPU time (ns) a task. */
int bench_spawn_sample(const struct bench_run *run, double *out_values);

#endif
