/* SPDX-License-Identifier: MIT */
/* The stall detector: callbacks and tasks that hold their worker for too long. */
#ifndef NUMAPERF_SCHED_STALL_H
#define NUMAPERF_SCHED_STALL_H

#include "sched/sched.h"

#include <stdbool.h>
#include <stdint.h>

/* What its thread waits by; see stall.c. */
enum numaperf__stall_word {
    NUMAPERF__STALL_ACTIVE = 0, /* it looks at intervals */
    NUMAPERF__STALL_PARKED,     /* all workers sleep: one that wakes up rouses it */
    NUMAPERF__STALL_END         /* it was asked to end */
};

struct numaperf__stall_watch;

/* Memory and signal, before any thread of the runtime exists; 0 also when it is off. -EINVAL for
   call stacks that nobody would be told of. */
int numaperf__stall_prepare(numaperf_rt_t *rt);
/* Its thread, after those of the workers; it looks from RUNNING on. */
int numaperf__stall_start(numaperf_rt_t *rt);
/* Ask its thread to end, once it is out of on_stall. Any thread; again is allowed. */
void numaperf__stall_end(numaperf_rt_t *rt);
/* Whether it has, or there is none. */
bool numaperf__stall_exited(const numaperf_rt_t *rt);
/* Whether it was asked, long ago, and has not: on_stall does not return. */
bool numaperf__stall_is_stuck(const numaperf_rt_t *rt, uint64_t now_ns);
/* Whether the calling thread is this runtime's detector. */
bool numaperf__stall_is_current(const numaperf_rt_t *rt);
/* Join it, before the workers are; under stop_mutex, or where no other call is under way. */
void numaperf__stall_join(numaperf_rt_t *rt);
/* Both, for a start that failed. */
void numaperf__stall_stop(numaperf_rt_t *rt);
/* After the workers were joined: a signal to one of them may have been on its way. */
void numaperf__stall_destroy(numaperf_rt_t *rt);

/* Stalls of a worker so far; any thread. */
uint64_t numaperf__stall_count(const struct numaperf_worker *worker);

/* Slow part of the next. */
void numaperf__stall_rouse(struct numaperf__stall_watch *watch);
/*
 * On a worker that has slept, as soon as it does not count as SLEEPING any more, before it runs
 * anything.
 */
void numaperf__stall_notice(const struct numaperf_worker *worker);

#endif
