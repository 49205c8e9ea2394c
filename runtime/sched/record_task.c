/* SPDX-License-Identifier: MIT */
/*
 * Tasks that have a record. A queue holds fn and arg: for these, our wrapper and the record. The
 * wrapper claims the record, gives it back, and only then calls the user's function, which may need
 * one itself. Whatever ends a task tells its group once, after the user's function, whichever of
 * the two it was, has returned.
 *
 * Any thread; a record is of one thread at a time, but for its state and its references.
 */
#include "sched/record_task.h"

#include "base/assert.h"
#include "sched/group.h"
#include "sched/timer.h"

/* The calling thread's cache for records of a node, if it has one. */
static struct numaperf__record_cache *record_own_cache(const struct numaperf__node *home)
{
    struct numaperf_worker *worker = numaperf_worker_current();
    return worker != NULL && worker->node == home ? &worker->timers->records : NULL;
}

int numaperf__record_make(const struct numaperf__submission *to, numaperf_group_t *group,
                          numaperf_task_fn fn, void *arg, struct numaperf__record **out)
{
    struct numaperf__record *record = NULL;
    int rc = numaperf__record_get(to->node->records, record_own_cache(to->node), &record);
    if (rc < 0)
        return rc;
    record->fn = fn;
    record->arg = arg;
    record->on_cancel = to->on_cancel;
    record->group = group;
    record->home = to->node;
    record->worker = to->worker != NULL ? (int32_t)to->worker->index : -1;
    record->flags = to->stealable ? NUMAPERF__RECORD_STEALABLE : 0;
    record->priority = (uint8_t)to->priority;
    *out = record;
    return 0;
}

int numaperf__record_submit(struct numaperf__record *record)
{
    numaperf_rt_t *rt = record->home->rt;
    const struct numaperf__submission to = {
        .node = record->home,
        .worker = record->worker >= 0 ? &rt->workers[record->worker] : NULL,
        .stealable = (record->flags & NUMAPERF__RECORD_STEALABLE) != 0,
        .tries_again = true,
        .priority = record->priority,
        .on_cancel = numaperf__record_cancel,
    };
    void *arg = record;
    return numaperf__submit(rt, &to, numaperf__record_run, &arg, 1);
}

void numaperf__record_release(struct numaperf__record *record)
{
    struct numaperf__node *home = record->home;
    /* Release and acquire: the last one comes after what the others did with it. */
    if ((record->flags & NUMAPERF__RECORD_DELAYED) != 0 &&
        atomic_fetch_sub_explicit(&record->refs, 1, memory_order_acq_rel) > 1)
        return;
    numaperf__record_put(home->records, record_own_cache(home), record);
}

bool numaperf__record_claim(struct numaperf__record *record, enum numaperf__record_state to)
{
    if ((record->flags & NUMAPERF__RECORD_DELAYED) == 0)
        return true; /* there is only one who could */
    uint8_t pending = NUMAPERF__RECORD_PENDING;
    /* acq_rel: who finds it claimed may conclude that the claimer came first, nothing more. */
    return atomic_compare_exchange_strong_explicit(&record->state, &pending, (uint8_t)to,
                                                   memory_order_acq_rel, memory_order_acquire);
}

void numaperf__record_tell_cancelled(const struct numaperf__record *record)
{
    const struct numaperf__task task = {
        .fn = record->fn, .arg = record->arg, .on_cancel = record->on_cancel};
    numaperf__task_cancel(record->home->rt, &task);
}

void numaperf__record_cancel_claimed(struct numaperf__record *record)
{
    numaperf_group_t *group = record->group;
    numaperf__record_tell_cancelled(record);
    numaperf__record_release(record);
    if (group != NULL)
        numaperf__group_leave(group, 1, true);
}

void numaperf__record_run(numaperf_worker_t *worker, void *arg)
{
    struct numaperf__record *record = arg;
    if (!numaperf__record_claim(record, NUMAPERF__RECORD_STARTED)) {
        numaperf__record_release(record); /* was cancelled while it waited */
        worker->task_cancelled = true;
        return;
    }
    numaperf_group_t *group = record->group;
    if (group != NULL && numaperf__group_is_cancelled(group)) {
        numaperf__record_cancel_claimed(record);
        worker->task_cancelled = true;
        return;
    }
    numaperf_task_fn fn = record->fn;
    void *own_arg = record->arg;
    atomic_store_explicit(&worker->running, fn, memory_order_relaxed); /* instead of this one */
    numaperf__record_release(record);
    fn(worker, own_arg);
    if (group != NULL)
        numaperf__group_leave(group, 1, false);
}

void numaperf__record_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    (void)fn;
    (void)data; /* the runtime's, which the user's function is given as well */
    struct numaperf__record *record = arg;
    if (numaperf__record_claim(record, NUMAPERF__RECORD_CANCELLED))
        numaperf__record_cancel_claimed(record);
    else
        numaperf__record_release(record);
}
