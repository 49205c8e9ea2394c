/* SPDX-License-Identifier: MIT */
/*
 * Making a child on a worker. Its thread then has, for a moment, the affinity and the memory policy
 * that the process was started with, and the child inherits them. Whoever looks at the worker, or
 * puts it back, keeps out meanwhile: else it would take that moment for a drift, or give the child
 * the worker's own PU.
 *
 * Thread rule: state_mutex is taken by the worker for the time of the call, and by the auditor or
 * an attestation for one look; no callback runs under it.
 */
#include "base/error.h"
#include "io/loop.h"
#include "sched/sched.h"

#include <numaperf/loop.h>

#include <errno.h>
#include <time.h>

#define CHILD_TRIES_MAX 500 /* of a lock: a tenth of a second of them */
#define CHILD_PAUSE_NS 200000

static pthread_mutex_t *child_mutex(const struct numaperf_worker *worker)
{
    /* Locking changes nothing that a caller sees, so the worker stays const to it. */
    return (pthread_mutex_t *)&worker->state_mutex;
}

int numaperf__worker_lock_state(const struct numaperf_worker *worker)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = CHILD_PAUSE_NS};
    for (int i = 0; i < CHILD_TRIES_MAX; i++) {
        if (pthread_mutex_trylock(child_mutex(worker)) == 0)
            return 0;
        (void)nanosleep(&pause, NULL); /* shorter when a signal comes, which is as well */
    }
    return -EBUSY;
}

void numaperf__worker_unlock_state(const struct numaperf_worker *worker)
{
    (void)pthread_mutex_unlock(child_mutex(worker)); /* is locked by this thread */
}

int numaperf_uv_spawn(struct uv_loop_s *loop, struct uv_process_s *process,
                      const struct uv_process_options_s *options)
{
    if (loop == NULL || process == NULL || options == NULL)
        return numaperf__fail(-EINVAL, 0, "uv_spawn", "loop, process, options must not be NULL");

    struct numaperf_worker *worker = numaperf_worker_current();
    if (worker != NULL)
        (void)pthread_mutex_lock(&worker->state_mutex); /* never locked twice: cannot fail */
    int rc = numaperf__uv_spawn(loop, process, options);
    if (worker != NULL)
        (void)pthread_mutex_unlock(&worker->state_mutex); /* as above */
    return rc;
}
