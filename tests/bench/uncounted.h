/* SPDX-License-Identifier: MIT */
/*
 * Put in front of runtime/sched/worker.c for the library that the overhead workload compares with:
 * its workers neither count nor sample what they run, nor note it for the stall detector. Where all
 * of that happens for each task is that file alone.
 */
#ifndef NUMAPERF_BENCH_UNCOUNTED_H
#define NUMAPERF_BENCH_UNCOUNTED_H

#include "sched/record_task.h"
#include "sched/sched.h"
#include "stat/tally.h"

#define numaperf__counter_add_owner(counter, n) ((void)(counter))
#define numaperf__task_is_sampled(task) ((void)(task), false)
#define numaperf__task_user_fn(task) ((void)(task), NULL)

#endif
