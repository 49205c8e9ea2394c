/* SPDX-License-Identifier: MIT */
/* Tasks for later, for the other files; see <numaperf/timer.h> for the public side. */
#ifndef NUMAPERF_SCHED_DELAY_H
#define NUMAPERF_SCHED_DELAY_H

#include "sched/record.h"
#include "sched/sched.h"

#include <numaperf/timer.h>

/* Make a filled record one that is delayed. With a handle it has a reference more. */
void numaperf__delay_prepare(struct numaperf__record *record, uint64_t delay_ns, bool with_handle);
/* Have it wait for its time: accepted from now on. On failure it is given back. */
int numaperf__delay_arm(struct numaperf__record *record, uint64_t delay_ns,
                        numaperf_timer_t **out_timer);
/* Have a worker submit it until that works; false when that worker ends, and it is the caller's. */
bool numaperf__delay_hand_over(struct numaperf__record *record);
/* Have all workers look for members of groups that were cancelled. Any thread. */
void numaperf__delay_look_for_cancelled(numaperf_rt_t *rt);

/* On the worker whose wheel it is. */

/* Take in what others posted, and the cancelled members of groups. */
void numaperf__delay_look_at_posts(struct numaperf_worker *worker);
/* The last time: from now on nobody can post. */
void numaperf__delay_close_posts(struct numaperf_worker *worker);
/* It was in the wheel, and its time has come. */
void numaperf__delay_due(struct numaperf_worker *worker, numaperf_timer_t *timer);
/* It was in the wheel, and the worker ends. */
void numaperf__delay_end(numaperf_timer_t *timer);

#endif
