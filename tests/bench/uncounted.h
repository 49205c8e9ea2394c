/* SPDX-License-Identifier: MIT */
/*
 * Put in front of runtime/sched/worker.c for the library that the overhead workload compares with:
 * its workers count what is over, by which a runtime knows when it is done, and nothing else: they
 * time no task. Where all of that happens for each task is that file alone.
 */
#ifndef NUMAPERF_BENCH_UNCOUNTED_H
#define NUMAPERF_BENCH_UNCOUNTED_H

#include "sched/sched.h"
#include "stat/tally.h"

#define numaperf__counter_add_owner(counter, n) ((void)(counter))
#define numaperf__task_is_sampled(task) ((void)(task), false)

#endif
