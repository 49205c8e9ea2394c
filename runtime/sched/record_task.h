/* SPDX-License-Identifier: MIT */
/* Tasks that have a record: what a queue sees of them, and who gives the record back. */
#ifndef NUMAPERF_SCHED_RECORD_TASK_H
#define NUMAPERF_SCHED_RECORD_TASK_H

#include "sched/record.h"
#include "sched/sched.h"

/* Of one that is delayed. PENDING is left once, by who claims it. */
enum numaperf__record_state {
    NUMAPERF__RECORD_PENDING = 0,
    NUMAPERF__RECORD_STARTED,
    NUMAPERF__RECORD_CANCELLED
};

/* A record on the node of `to`, filled in. Any thread. 0; -EAGAIN; -ENOMEM. */
int numaperf__record_make(const struct numaperf__submission *to, numaperf_group_t *group,
                          numaperf_task_fn fn, void *arg, struct numaperf__record **out);
/* Submit it where it is to run. As numaperf__submit(); on failure it stays the caller's. */
int numaperf__record_submit(struct numaperf__record *record);
/* Drop a reference: of one that is not delayed, the only one. */
void numaperf__record_release(struct numaperf__record *record);
/* Whether it is the caller's now to run or to cancel. */
bool numaperf__record_claim(struct numaperf__record *record, enum numaperf__record_state to);
/* Have the user's function for cancelled tasks run. */
void numaperf__record_tell_cancelled(const struct numaperf__record *record);
/* After a claim: tell, drop the reference, and let its group know. */
void numaperf__record_cancel_claimed(struct numaperf__record *record);
/* Of records as tasks; `arg` is the record. */
void numaperf__record_run(numaperf_worker_t *worker, void *arg);
void numaperf__record_cancel(numaperf_task_fn fn, void *arg, void *data);

/* Of one on its way to the worker that watches its time, see delay.c. */
void numaperf__delay_arrival(numaperf_worker_t *worker, void *arg);

#endif
