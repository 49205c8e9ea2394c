/* SPDX-License-Identifier: MIT */
/*
 * The latch, used phase after phase by the same parties. A pthread_barrier would deadlock when a
 * party fails before it arrives. Everything is under one mutex; it is a start-up path.
 */
#include "sched/latch.h"

#include "base/assert.h"

#include <string.h>

int numaperf__latch_init(struct numaperf__latch *latch, uint32_t party_count)
{
    NUMAPERF_ASSERT(party_count > 0);
    memset(latch, 0, sizeof(*latch));
    latch->party_count = party_count;
    int rc = pthread_mutex_init(&latch->mutex, NULL);
    if (rc != 0)
        return -rc;
    rc = pthread_cond_init(&latch->cond, NULL);
    if (rc != 0)
        (void)pthread_mutex_destroy(&latch->mutex); /* nobody has it */
    return -rc;
}

void numaperf__latch_fini(struct numaperf__latch *latch)
{
    (void)pthread_cond_destroy(&latch->cond); /* nobody waits any more */
    (void)pthread_mutex_destroy(&latch->mutex);
}

/* All are there: the next phase begins. Under the mutex. */
static void latch_open(struct numaperf__latch *latch)
{
    latch->arrived = 0;
    latch->phase++;
    (void)pthread_cond_broadcast(&latch->cond);
}

void numaperf__latch_set_parties(struct numaperf__latch *latch, uint32_t party_count)
{
    (void)pthread_mutex_lock(&latch->mutex);
    latch->party_count = party_count;
    if (latch->arrived > 0 && latch->arrived == party_count)
        latch_open(latch);
    (void)pthread_mutex_unlock(&latch->mutex);
}

bool numaperf__latch_arrive(struct numaperf__latch *latch)
{
    (void)pthread_mutex_lock(&latch->mutex);
    uint64_t phase = latch->phase;
    if (!latch->aborted && ++latch->arrived == latch->party_count)
        latch_open(latch);
    while (!latch->aborted && latch->phase == phase)
        (void)pthread_cond_wait(&latch->cond, &latch->mutex);
    bool over = latch->phase != phase;
    (void)pthread_mutex_unlock(&latch->mutex);
    return over;
}

void numaperf__latch_abort(struct numaperf__latch *latch)
{
    (void)pthread_mutex_lock(&latch->mutex);
    if (!latch->aborted) {
        latch->aborted = true;
        latch->error = *numaperf_last_error();
        (void)pthread_cond_broadcast(&latch->cond);
    }
    (void)pthread_mutex_unlock(&latch->mutex);
}

bool numaperf__latch_aborted(struct numaperf__latch *latch, numaperf_error_t *out_error)
{
    (void)pthread_mutex_lock(&latch->mutex);
    bool aborted = latch->aborted;
    if (aborted && out_error != NULL)
        *out_error = latch->error;
    (void)pthread_mutex_unlock(&latch->mutex);
    return aborted;
}
