/* SPDX-License-Identifier: MIT */
/*
 * The way out: states of a runtime, and when it is empty.
 *
 * Drained means accepted == finished. Both only grow (a retracted announcement apart, which makes
 * accepted too high for a moment), and finished never passes accepted; so when the sum of what is
 * finished, read first, equals the sum of what was accepted, read second, then nothing was
 * unfinished at the moment between the two. A submitter announces before it looks at the state:
 * either it sees the new state and retracts, or whoever changed the state sees the announcement.
 * A worker that pushes to its own deque does not look again: what comes too late is cancelled, by
 * whoever finds it, at the latest by that worker when it has left its loop.
 *
 * Connections of listeners count as unfinished, too: see listen.c.
 *
 * Any thread may advance the state; it only ever grows.
 */
#include "base/assert.h"
#include "sched/listen.h"
#include "sched/sched.h"

enum numaperf__rt_state numaperf__rt_state(const numaperf_rt_t *rt)
{
    /* seq_cst: pairs with the exchange in numaperf__rt_advance(); after an announcement. */
    return (enum numaperf__rt_state)atomic_load_explicit(&rt->state, memory_order_seq_cst);
}

void numaperf__rt_advance(numaperf_rt_t *rt, enum numaperf__rt_state to)
{
    uint32_t state = atomic_load_explicit(&rt->state, memory_order_seq_cst);
    while (state < (uint32_t)to) {
        if (!atomic_compare_exchange_weak_explicit(&rt->state, &state, (uint32_t)to,
                                                   memory_order_seq_cst, memory_order_seq_cst))
            continue;
        if (to >= NUMAPERF__RT_DRAINING)
            numaperf__wake_all(rt);
        return;
    }
}

static uint64_t drain_finished(const numaperf_rt_t *rt)
{
    /* Acquire pairs with the release of who finished a task: its announcement came before. */
    uint64_t sum = atomic_load_explicit(&rt->finished_outside, memory_order_acquire);
    for (uint32_t i = 0; i < rt->worker_count; i++) {
        if (rt->workers[i].tally != NULL) /* of a start that failed some never got that far */
            sum += numaperf__tally_finished(rt->workers[i].tally);
    }
    return sum;
}

uint64_t numaperf__node_accepted(const struct numaperf__node *node)
{
    uint64_t sum = 0;
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        sum += numaperf__inbox_accepted(&node->unbound[p]);
        sum += numaperf__inbox_accepted(&node->fixed[p]);
    }
    for (uint32_t i = 0; i < node->worker_count; i++) {
        const struct numaperf_worker *worker = &node->rt->workers[node->first_worker + i];
        for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++)
            sum += numaperf__inbox_accepted(&worker->bound[p]);
        /* Relaxed: who finished the task that spawned them, or one of them, released it before. */
        sum += atomic_load_explicit(&worker->spawned, memory_order_relaxed);
    }
    return sum;
}

static uint64_t drain_accepted(const numaperf_rt_t *rt)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < rt->node_count; i++)
        sum += numaperf__node_accepted(&rt->nodes[i]);
    return sum;
}

bool numaperf__rt_drained(const numaperf_rt_t *rt)
{
    /* Before all others: connections of a listener may spawn until they are gone. */
    if (!numaperf__listen_drained(rt))
        return false;
    uint64_t finished = drain_finished(rt); /* first: see the file comment */
    uint64_t accepted = drain_accepted(rt);
    NUMAPERF_ASSERT(finished <= accepted);
    return finished == accepted;
}

void numaperf__rt_close_if_drained(numaperf_rt_t *rt)
{
    if (numaperf__rt_state(rt) != NUMAPERF__RT_CANCELLING)
        return;
    /* Two that finish their last tasks at once may each miss the other's, and nobody would look
     * again. Of two that change the same word one comes second: acq_rel hands it what the first had
     * finished or taken back before. */
    (void)atomic_fetch_add_explicit(&rt->finished_outside, 0, memory_order_acq_rel);
    if (numaperf__rt_drained(rt))
        numaperf__rt_advance(rt, NUMAPERF__RT_CLOSING);
}

void numaperf__task_cancel(const numaperf_rt_t *rt, const struct numaperf__task *task)
{
    numaperf_cancel_fn cancel =
        task->on_cancel != NULL ? task->on_cancel : rt->config.on_task_cancel;
    if (cancel != NULL)
        cancel(task->fn, task->arg, rt->config.data);
}

static void drain_cancel_outside(numaperf_rt_t *rt, const struct numaperf__task *task)
{
    if (task->fn != NULL)
        numaperf__task_cancel(rt, task);
    numaperf__tally_outside(rt, task);
    /* Release pairs with the acquire in drain_finished(). */
    (void)atomic_fetch_add_explicit(&rt->finished_outside, 1, memory_order_release);
}

static void drain_cancel_inbox(numaperf_rt_t *rt, struct numaperf__inbox *inbox)
{
    struct numaperf__task task;
    while (numaperf__inbox_pop(inbox, &task))
        drain_cancel_outside(rt, &task);
}

static void drain_cancel_deque(numaperf_rt_t *rt, struct numaperf__deque *deque)
{
    struct numaperf__task task;
    while (numaperf__deque_steal_thief(deque, &task, 1) > 0)
        drain_cancel_outside(rt, &task);
}

void numaperf__rt_cancel_queued(numaperf_rt_t *rt)
{
    NUMAPERF_ASSERT(numaperf__rt_state(rt) >= NUMAPERF__RT_CANCELLING);

    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        for (uint32_t i = 0; i < rt->node_count; i++) {
            drain_cancel_inbox(rt, &rt->nodes[i].unbound[p]);
            drain_cancel_inbox(rt, &rt->nodes[i].fixed[p]);
        }
        for (uint32_t i = 0; i < rt->worker_count; i++) {
            drain_cancel_inbox(rt, &rt->workers[i].bound[p]);
            drain_cancel_deque(rt, &rt->workers[i].local[p]);
        }
    }
}

void numaperf__worker_cancel_local(struct numaperf_worker *worker)
{
    numaperf_rt_t *rt = worker->rt;
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        struct numaperf__task task;
        while (numaperf__deque_pop_owner(&worker->local[p], &task))
            drain_cancel_outside(rt, &task);
    }
}
