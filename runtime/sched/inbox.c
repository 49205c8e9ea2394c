/* SPDX-License-Identifier: MIT */
/*
 * The inbox: an intrusive multi-producer queue after Vyukov, whose single consumer is whoever
 * holds the token, so that a sibling or a thief can go on where a busy worker left off.
 *
 * The argument. A push exchanges `head` for its last task (one total order of pushes: FIFO for
 * each pusher), then links the task that was head before to its first one. Between the two the
 * chain is cut: a pop that gets there returns NULL, and the task is seen by a later one. `tail`,
 * `stub` and the links behind `head` are touched only under the token, whose acquire pairs with
 * the release of the holder before. The task's contents are published by the release that links
 * it and read after the acquire that follows the link. The stub makes the last task poppable: it
 * is pushed behind it, under the token.
 *
 * No lost wake. `accepted` counts up by a sequentially consistent RMW before the push; a worker
 * that goes to sleep first stores its state, then loads `accepted`, both sequentially consistent;
 * a submitter announces, pushes, then loads the worker's state. Either the worker sees the task
 * announced and stays, or the submitter sees it asleep and wakes it. A task that is announced but
 * not linked counts as work: the worker goes round once more.
 *
 * Drained means accepted == finished: finished is summed up first, so that equality proves that
 * at the moment between nothing was unfinished. An announcement that is retracted only ever makes
 * accepted too high for a moment.
 */
#include "sched/inbox.h"

#include "base/assert.h"

#include <stddef.h>

void numaperf__inbox_init(struct numaperf__inbox *inbox)
{
    atomic_init(&inbox->stub.next, NULL);
    atomic_init(&inbox->head, &inbox->stub);
    inbox->tail = &inbox->stub;
    atomic_init(&inbox->accepted, 0);
    atomic_init(&inbox->taken, 0);
    atomic_init(&inbox->token, false);
}

void numaperf__inbox_fini(struct numaperf__inbox *inbox)
{
    NUMAPERF_ASSERT(!numaperf__inbox_has_work(inbox));
    NUMAPERF_ASSERT(!atomic_load_explicit(&inbox->token, memory_order_relaxed));
}

void numaperf__inbox_announce(struct numaperf__inbox *inbox, uint64_t count)
{
    /* seq_cst: pairs with the load in numaperf__inbox_has_work(); see the file comment. */
    (void)atomic_fetch_add_explicit(&inbox->accepted, count, memory_order_seq_cst);
}

void numaperf__inbox_retract(struct numaperf__inbox *inbox, uint64_t count)
{
    uint64_t before = atomic_fetch_sub_explicit(&inbox->accepted, count, memory_order_seq_cst);
    NUMAPERF_ASSERT(before >= count);
}

void numaperf__inbox_push_mpsc(struct numaperf__inbox *inbox, struct numaperf__task *first,
                               struct numaperf__task *last)
{
    NUMAPERF_ASSERT_HOT(atomic_load_explicit(&last->next, memory_order_relaxed) == NULL);

    /* acq_rel: release hands our links to the next pusher's store and so to the consumer. */
    struct numaperf__task *previous =
        atomic_exchange_explicit(&inbox->head, last, memory_order_acq_rel);
    /* Pairs with the acquire in inbox_pop_held(). */
    atomic_store_explicit(&previous->next, first, memory_order_release);
}

/* Pairs with the release in inbox_push_mpsc(). */
static struct numaperf__task *inbox_next(struct numaperf__task *task)
{
    return atomic_load_explicit(&task->next, memory_order_acquire);
}

static struct numaperf__task *inbox_pop_held(struct numaperf__inbox *inbox)
{
    struct numaperf__task *tail = inbox->tail;
    struct numaperf__task *next = inbox_next(tail);
    if (tail == &inbox->stub) {
        if (next == NULL)
            return NULL;
        inbox->tail = next;
        tail = next;
        next = inbox_next(next);
    }
    if (next == NULL) {
        if (tail != atomic_load_explicit(&inbox->head, memory_order_acquire))
            return NULL; /* a push is between its exchange and its link */
        atomic_store_explicit(&inbox->stub.next, NULL, memory_order_relaxed);
        numaperf__inbox_push_mpsc(inbox, &inbox->stub, &inbox->stub);
        next = inbox_next(tail);
        if (next == NULL)
            return NULL; /* a push came before our stub's and is not linked yet */
    }
    inbox->tail = next;
    return tail;
}

struct numaperf__task *numaperf__inbox_pop(struct numaperf__inbox *inbox)
{
    if (atomic_load_explicit(&inbox->token, memory_order_relaxed))
        return NULL;
    /* Pairs with the release below: what the holder before did to tail and stub is seen. */
    if (atomic_exchange_explicit(&inbox->token, true, memory_order_acquire))
        return NULL;
    struct numaperf__task *task = inbox_pop_held(inbox);
    if (task != NULL) {
        /* Written under the token only. Release pairs with the acquire of who compares it with
         * `accepted`: it must not see this pop without the announcement before it. */
        uint64_t taken = atomic_load_explicit(&inbox->taken, memory_order_relaxed);
        atomic_store_explicit(&inbox->taken, taken + 1, memory_order_release);
    }
    atomic_store_explicit(&inbox->token, false, memory_order_release);
    return task;
}

bool numaperf__inbox_has_work(const struct numaperf__inbox *inbox)
{
    /* `taken` may be stale, which only makes the answer yes once too often; it never runs ahead of
     * `accepted`. The order matters for that: taken first. */
    uint64_t taken = atomic_load_explicit(&inbox->taken, memory_order_acquire);
    return atomic_load_explicit(&inbox->accepted, memory_order_seq_cst) != taken;
}

uint64_t numaperf__inbox_depth(const struct numaperf__inbox *inbox)
{
    uint64_t taken = atomic_load_explicit(&inbox->taken, memory_order_acquire);
    uint64_t accepted = atomic_load_explicit(&inbox->accepted, memory_order_relaxed);
    return accepted > taken ? accepted - taken : 0;
}

uint64_t numaperf__inbox_accepted(const struct numaperf__inbox *inbox)
{
    return atomic_load_explicit(&inbox->accepted, memory_order_seq_cst);
}
