/* SPDX-License-Identifier: MIT */
/* A barrier that can be aborted: when one party fails, nobody waits for it. */
#ifndef NUMAPERF_SCHED_LATCH_H
#define NUMAPERF_SCHED_LATCH_H

#include <numaperf/error.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct numaperf__latch {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    uint32_t party_count;   /* threads that must arrive for a phase to be over */
    uint32_t arrived;       /* in this phase, under mutex */
    uint64_t phase;         /* phases over, under mutex */
    bool aborted;           /* under mutex */
    numaperf_error_t error; /* of who aborted first, under mutex */
};

int numaperf__latch_init(struct numaperf__latch *latch, uint32_t party_count);
void numaperf__latch_fini(struct numaperf__latch *latch);
/* Fewer threads than planned will arrive, `party_count` in each phase; 0 when none will. */
void numaperf__latch_set_parties(struct numaperf__latch *latch, uint32_t party_count);
/* Arrive and wait for the others; false when the latch was aborted before all had arrived. */
bool numaperf__latch_arrive(struct numaperf__latch *latch);
/* Abort with the calling thread's last error; the first one is kept. */
void numaperf__latch_abort(struct numaperf__latch *latch);
/* Whether it was aborted, and by which error. */
bool numaperf__latch_aborted(struct numaperf__latch *latch, numaperf_error_t *out_error);

#endif
