/* SPDX-License-Identifier: MIT */
/* Timers of a worker; see <numaperf/timer.h> for the public side. */
#ifndef NUMAPERF_SCHED_TIMER_H
#define NUMAPERF_SCHED_TIMER_H

#include "base/atomic.h"
#include "base/wheel.h"
#include "sched/record.h"

#include <numaperf/runtime.h>

#include <stdbool.h>
#include <stdint.h>

#define NUMAPERF__TIMERS_TOUCHED_MAX 256u

/* What numaperf_timer.kind says; anything else is no timer of ours. */
enum { NUMAPERF__TIMER_OWNED = 0x4e54494d, NUMAPERF__TIMER_DELAYED = 0x4e444c59 };

/* In memory on the worker's node; but for `posts` and `post_count`, of the worker alone. */
struct numaperf__timers {
    struct numaperf__wheel wheel;
    uint32_t touched_count;
    bool closed;           /* the worker ends: nothing is started any more */
    uint64_t seen_cancels; /* rt->group_cancels that were looked for */
    struct numaperf__record_cache records;
    numaperf_timer_t *touched[NUMAPERF__TIMERS_TOUCHED_MAX]; /* restarted; NULL: stopped since */
    /* By any thread: records that the worker is to look at, see delay.c. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic(struct numaperf__record *) posts;
    _Atomic uint32_t post_count;
};

/* Memory for the timers and the records of all nodes; before threads. On failure, what is there
   is left to fini. */
int numaperf__timers_init(numaperf_rt_t *rt);
void numaperf__timers_fini(numaperf_rt_t *rt);
/* How much that is for one worker, at the start. */
uint64_t numaperf__timers_bytes(void);

/* On the worker. */

/* Once a turn: what is due, up to a budget. */
void numaperf__timers_run(struct numaperf_worker *worker);
/* Time until numaperf__timers_run() has something to do; 0 is now, UINT64_MAX never. */
uint64_t numaperf__timers_timeout_ns(struct numaperf_worker *worker);
/* Before the stop callbacks: nothing expires any more, and tasks for later are cancelled. */
void numaperf__timers_end(struct numaperf_worker *worker);

#endif
