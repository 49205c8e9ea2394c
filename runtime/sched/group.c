/* SPDX-License-Identifier: MIT */
/*
 * Groups. A count of members; who makes it zero says so.
 *
 * Entering is one addition. Leaving is one subtraction as long as others are left: only what may be
 * the last member goes on under the mutex. So the count becomes zero under the mutex, and who waits
 * looks at it under the mutex: when it has seen zero the last member is through with the group, but
 * for the unlocking, and the group may be freed.
 *
 * A cancelled group says so to every member that begins, until the count is zero. Members that wait
 * for their time are in the wheels of workers; these look for them when rt->group_cancels has
 * changed. One that arrives in a wheel later sees the flag, which was set before.
 *
 * What is to run when it is done is submitted after the mutex was unlocked, from records that were
 * made before: there is nothing left that could fail for good, see group_fire().
 *
 * Any thread. The members' threads use `count`, `cancelled` and `cancelling`, the rest is under the
 * mutex.
 */
#include "sched/group.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "sched/delay.h"
#include "sched/record_task.h"
#include "sched/room.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GROUP_BATCH_MAX 64u /* members of one submission without memory for their list */

struct numaperf_group {
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t count; /* by everybody who enters or leaves */
    _Atomic uint64_t cancelled; /* since the last wait that told; by those that leave */

    alignas(NUMAPERF_CACHE_LINE) numaperf_rt_t *rt; /* constant */
    atomic_bool cancelling;                         /* under the mutex; read by members */
    atomic_bool has_delayed;                        /* had, ever; by who enters one */

    alignas(NUMAPERF_CACHE_LINE) pthread_mutex_t mutex;
    pthread_cond_t done;
    uint64_t rounds;                  /* how often the count became zero */
    uint32_t waiter_count;            /* threads in numaperf_group_wait() */
    struct numaperf__record *on_done; /* by their `chain`, in the order they came */
    struct numaperf__record *on_done_last;
};

/* ---- create ---- */

static void group_lock(numaperf_group_t *group)
{
    (void)pthread_mutex_lock(&group->mutex); /* a plain mutex: cannot fail */
}

static void group_unlock(numaperf_group_t *group)
{
    (void)pthread_mutex_unlock(&group->mutex); /* is locked */
}

static int group_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);
    if (rc != 0)
        return -rc;
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* every Linux has it */
    rc = pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
    return -rc;
}

int numaperf_group_create(numaperf_rt_t *rt, numaperf_group_t **out)
{
    if (rt == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "group", "rt and out must not be NULL");
    numaperf_group_t *group = aligned_alloc(NUMAPERF_CACHE_LINE, sizeof(*group));
    if (group == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "group", "no memory for the group");
    memset(group, 0, sizeof(*group));
    group->rt = rt;
    int rc = group_cond_init(&group->done);
    if (rc < 0) {
        free(group);
        return numaperf__fail(rc, -rc, "group", "no condition variable");
    }
    (void)pthread_mutex_init(&group->mutex, NULL); /* cannot fail on Linux */
    *out = group;
    return 0;
}

int numaperf_group_destroy(numaperf_group_t *group)
{
    if (group == NULL)
        return 0;
    group_lock(group);
    uint64_t count = atomic_load_explicit(&group->count, memory_order_relaxed);
    uint32_t waiters = group->waiter_count;
    group_unlock(group);
    if (count > 0 || waiters > 0)
        return numaperf__fail(-EBUSY, 0, "group", "it has %llu members, and %u threads wait",
                              (unsigned long long)count, waiters);
    NUMAPERF_ASSERT(group->on_done == NULL);
    (void)pthread_cond_destroy(&group->done); /* nobody waits */
    (void)pthread_mutex_destroy(&group->mutex);
    free(group);
    return 0;
}

/* ---- members ---- */

numaperf_rt_t *numaperf__group_rt(const numaperf_group_t *group)
{
    return group->rt;
}

int numaperf__group_check(const numaperf_group_t *group, const numaperf_rt_t *rt)
{
    if (group == NULL || group->rt == rt)
        return 0;
    return numaperf__fail(-EINVAL, 0, "spawn", "the group is another runtime's");
}

void numaperf__group_enter(numaperf_group_t *group, uint64_t count)
{
    /* Relaxed: members are handed over by their submission. */
    (void)atomic_fetch_add_explicit(&group->count, count, memory_order_relaxed);
}

void numaperf__group_enter_delayed(numaperf_group_t *group)
{
    numaperf__group_enter(group, 1);
    if (!atomic_load_explicit(&group->has_delayed, memory_order_relaxed))
        atomic_store_explicit(&group->has_delayed, true, memory_order_relaxed);
}

bool numaperf__group_is_cancelled(const numaperf_group_t *group)
{
    /* Acquire: a member that is cancelled comes after what the canceller did before. */
    return atomic_load_explicit(&group->cancelling, memory_order_acquire);
}

/* Leave, unless that would leave none. */
static bool group_leave_others(numaperf_group_t *group, uint64_t members)
{
    uint64_t count = atomic_load_explicit(&group->count, memory_order_relaxed);
    while (count > members) {
        /* Release pairs with the acquire of who makes it zero, and so with who waits. */
        if (atomic_compare_exchange_weak_explicit(&group->count, &count, count - members,
                                                  memory_order_release, memory_order_relaxed))
            return true;
    }
    return false;
}

/*
 * Submit what was to run at the end. Where the node has no room for it, a worker tries again until
 * it has; where the runtime stops, it is cancelled.
 */
static void group_fire(struct numaperf__record *record)
{
    if (numaperf__record_submit(record) == 0 || numaperf__delay_hand_over(record))
        return;
    numaperf__record_tell_cancelled(record); /* nobody else has it: it needs no claim */
    numaperf__record_release(record);
}

void numaperf__group_leave(numaperf_group_t *group, uint64_t count, bool cancelled)
{
    if (cancelled) /* before the count, which publishes it */
        (void)atomic_fetch_add_explicit(&group->cancelled, count, memory_order_relaxed);
    if (group_leave_others(group, count))
        return;
    struct numaperf__record *fired = NULL;
    group_lock(group);
    uint64_t before = atomic_fetch_sub_explicit(&group->count, count, memory_order_acq_rel);
    NUMAPERF_ASSERT(before >= count);
    if (before == count) {
        atomic_store_explicit(&group->cancelling, false, memory_order_relaxed);
        group->rounds++;
        fired = group->on_done;
        group->on_done = NULL;
        (void)pthread_cond_broadcast(&group->done); /* under the mutex: it is freed after that */
    }
    group_unlock(group);
    /* From here on the group may be gone. */
    while (fired != NULL) {
        struct numaperf__record *next = fired->chain;
        group_fire(fired);
        fired = next;
    }
}

uint64_t numaperf_group_count(const numaperf_group_t *group)
{
    return group != NULL ? atomic_load_explicit(&group->count, memory_order_relaxed) : 0;
}

static int group_make_records(const struct numaperf__submission *to, numaperf_group_t *group,
                              numaperf_task_fn fn, struct numaperf__record **records, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int rc = numaperf__record_make(to, group, fn, NULL, &records[i]);
        if (rc == 0)
            continue;
        while (i > 0)
            numaperf__record_release(records[--i]);
        return rc;
    }
    return 0;
}

/* Submit members that have their records; all or none. */
static int group_submit_records(const struct numaperf__submission *to, numaperf_group_t *group,
                                struct numaperf__record **records, size_t count)
{
    struct numaperf__submission wrapped = *to;
    wrapped.on_cancel = numaperf__record_cancel;
    numaperf__group_enter(group, count);
    int rc = numaperf__submit(to->node->rt, &wrapped, numaperf__record_run, (void *const *)records,
                              count);
    if (rc == 0)
        return 0;
    for (size_t i = 0; i < count; i++)
        numaperf__record_release(records[i]);
    numaperf__group_leave(group, count, false);
    return rc;
}

int numaperf__group_submit(const struct numaperf__submission *to, numaperf_group_t *group,
                           numaperf_task_fn fn, void *const *args, size_t count)
{
    if (count == 0)
        return 0;
    struct numaperf__record *few[GROUP_BATCH_MAX];
    struct numaperf__record **records = few;
    if (count > GROUP_BATCH_MAX)
        records = calloc(count, sizeof(struct numaperf__record *));
    if (records == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "spawn", "no memory for %zu tasks", count);
    int rc = group_make_records(to, group, fn, records, count);
    for (size_t i = 0; i < count && rc == 0; i++)
        records[i]->arg = args[i];
    if (rc == 0)
        rc = group_submit_records(to, group, records, count);
    if (records != few)
        free(records);
    return rc;
}

/* ---- the end ---- */

/* An absolute time of CLOCK_MONOTONIC; UINT64_MAX when it is beyond the clock. */
static uint64_t group_limit_ns(uint64_t timeout_ns)
{
    uint64_t now_ns = numaperf__clock_now_ns();
    return timeout_ns < (uint64_t)INT64_MAX - now_ns ? now_ns + timeout_ns : UINT64_MAX;
}

/* Under the mutex; false when the time is over first. */
static bool group_await(numaperf_group_t *group, uint64_t timeout_ns)
{
    uint64_t rounds = group->rounds;
    const uint64_t limit_ns = group_limit_ns(timeout_ns);
    const struct timespec limit = {.tv_sec = (time_t)(limit_ns / 1000000000u),
                                   .tv_nsec = (long)(limit_ns % 1000000000u)};
    /* Acquire pairs with the release of members that left; the last of them had the mutex. */
    while (atomic_load_explicit(&group->count, memory_order_acquire) > 0 &&
           group->rounds == rounds) {
        int rc = limit_ns == UINT64_MAX
                     ? pthread_cond_wait(&group->done, &group->mutex)
                     : pthread_cond_timedwait(&group->done, &group->mutex, &limit);
        if (rc == ETIMEDOUT)
            return atomic_load_explicit(&group->count, memory_order_acquire) == 0 ||
                   group->rounds != rounds;
        NUMAPERF_ASSERT(rc == 0);
    }
    return true;
}

int numaperf_group_wait(numaperf_group_t *group, uint64_t timeout_ns)
{
    if (group == NULL)
        return numaperf__fail(-EINVAL, 0, "group", "group must not be NULL");
    struct numaperf_worker *worker = numaperf_worker_current();
    if (worker != NULL && worker->rt == group->rt)
        return numaperf__fail(-EDEADLK, 0, "group",
                              "called on a worker of the runtime, which its members may need");
    uint64_t cancelled = 0;
    group_lock(group);
    group->waiter_count++;
    bool is_done = group_await(group, timeout_ns);
    group->waiter_count--;
    if (is_done)
        cancelled = atomic_exchange_explicit(&group->cancelled, 0, memory_order_relaxed);
    group_unlock(group);
    if (!is_done)
        return numaperf__fail(-ETIMEDOUT, ETIMEDOUT, "group", "it is not done yet");
    return cancelled < INT_MAX ? (int)cancelled : INT_MAX;
}

/* Keep it for the end; false when that has been reached. */
static bool group_keep(numaperf_group_t *group, struct numaperf__record *record)
{
    record->chain = NULL;
    group_lock(group);
    bool keep = atomic_load_explicit(&group->count, memory_order_relaxed) > 0;
    if (keep && group->on_done == NULL)
        group->on_done = record;
    else if (keep)
        group->on_done_last->chain = record;
    if (keep)
        group->on_done_last = record;
    group_unlock(group);
    return keep;
}

int numaperf__group_on_done(numaperf_group_t *group, const struct numaperf__submission *to,
                            numaperf_task_fn fn, void *arg)
{
    struct numaperf__record *record = NULL;
    int rc = numaperf__record_make(to, NULL, fn, arg, &record);
    if (rc < 0)
        return rc;
    numaperf__delay_prepare(record, 0, false);
    if (group_keep(group, record))
        return 0;
    rc = numaperf__record_submit(record);
    if (rc < 0)
        numaperf__record_release(record);
    return rc == -EAGAIN ? numaperf__room_refuse(to->node, 1) : rc;
}

int numaperf_group_cancel(numaperf_group_t *group)
{
    if (group == NULL)
        return numaperf__fail(-EINVAL, 0, "group", "group must not be NULL");
    group_lock(group);
    bool has_members = atomic_load_explicit(&group->count, memory_order_relaxed) > 0;
    /* Release pairs with the acquire of members. */
    if (has_members)
        atomic_store_explicit(&group->cancelling, true, memory_order_release);
    /* Its members keep the runtime from ending, for as long as the mutex is held. */
    if (has_members && atomic_load_explicit(&group->has_delayed, memory_order_relaxed))
        numaperf__delay_look_for_cancelled(group->rt);
    group_unlock(group);
    return 0;
}
