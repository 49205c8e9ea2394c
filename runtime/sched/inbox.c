/* SPDX-License-Identifier: MIT */
/*
 * The inbox: a bounded ring that any thread pushes to and pops from, and a list behind it for what
 * does not fit, so that it is bounded by the runtime's limit alone.
 *
 * The ring. A pusher takes places by a compare-and-swap on `tail`, fills them, and publishes each
 * by storing its number plus one into the slot's sequence. A popper reads the slots from `head` on
 * that are published, and then takes them by one compare-and-swap on `head`: only when that
 * succeeds is what it read its own. Poppers write nothing but `head`, so a slot's line moves one
 * way. No read is torn: a slot is filled again only by a pusher that has seen `head` beyond it
 * (acquire), and whoever moved `head` there had read the slot before (release); a popper whose
 * swap fails throws away what it read. The numbers are 64 bits and never come round; of the one in
 * the slot half is enough, since one that is a whole round of it away is long behind `head`, where
 * the swap fails.
 * A thief pops as the owner does: a task is in reach of everybody until somebody has it.
 *
 * The spill. When the ring is full, or while anything waits in the spill, tasks go there, under
 * the mutex; a popper that finds the ring empty moves a part of it over. A submitter's own earlier
 * task in the spill is announced in `spilled` until it is in the ring, so its next one goes behind
 * it: FIFO for each submitter.
 *
 * No lost wake. A place is given out by a sequentially consistent swap of `tail` (or addition to
 * `spilled`) before it is filled; a worker that goes to sleep first stores its state, then loads
 * both, all sequentially consistent; a submitter announces, publishes, then loads the worker's
 * state. Either the worker sees the task announced and stays, or the submitter sees it asleep and
 * wakes it. A task that is announced but not filled in counts as work: the worker goes round again.
 *
 * Drained means accepted == finished: finished is summed up first. Accepted is `spilled` read
 * before `tail`: a task on its way from one to the other is counted in both rather than in none.
 */
#include "sched/inbox.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INBOX_AHEAD 8u      /* places that a push prepares for, beyond its own */
#define INBOX_MOVE_MAX 256u /* tasks moved from the spill under one lock */

void numaperf__inbox_init(struct numaperf__inbox *inbox, struct numaperf__slot *slots,
                          uint32_t capacity, uint32_t home)
{
    NUMAPERF_ASSERT(slots != NULL);
    NUMAPERF_ASSERT(capacity >= 2 && (capacity & (capacity - 1)) == 0);

    memset(inbox, 0, sizeof(*inbox));
    inbox->slots = slots;
    inbox->mask = capacity - 1;
    inbox->home = home;
    (void)pthread_mutex_init(&inbox->mutex, NULL); /* cannot fail on Linux */
}

void numaperf__inbox_fini(struct numaperf__inbox *inbox)
{
    if (inbox->slots == NULL)
        return;
    struct numaperf__task task;
    while (numaperf__inbox_pop(inbox, &task))
        NUMAPERF_ASSERT(task.fn == NULL); /* one taken back after the last worker had ended */
    NUMAPERF_ASSERT(!numaperf__inbox_has_work(inbox));
    (void)pthread_mutex_destroy(&inbox->mutex); /* nobody has it */
    inbox->slots = NULL;
}

/* ---- push ---- */

/* Whether places up to `end` are free; looks at `head` only when an older look does not do. */
static bool inbox_ring_has(struct numaperf__inbox *inbox, uint64_t end)
{
    /* Acquire, both: who fills a slot again must come after its reader; see the file comment. */
    uint64_t head = atomic_load_explicit(&inbox->seen_head, memory_order_acquire);
    if (end - head <= inbox->mask + 1)
        return true;
    head = atomic_load_explicit(&inbox->head, memory_order_acquire);
    atomic_store_explicit(&inbox->seen_head, head, memory_order_release);
    return end - head <= inbox->mask + 1;
}

bool numaperf__inbox_has_place(struct numaperf__inbox *inbox, size_t count)
{
    if (atomic_load_explicit(&inbox->spilled, memory_order_relaxed) != 0)
        return false;
    uint64_t tail = atomic_load_explicit(&inbox->tail, memory_order_relaxed);
    return count <= inbox->mask && inbox_ring_has(inbox, tail + count);
}

static bool inbox_reserve_ring(struct numaperf__inbox *inbox, size_t count, uint64_t *out_at)
{
    uint64_t tail = atomic_load_explicit(&inbox->tail, memory_order_relaxed);
    do {
        if (count > inbox->mask || !inbox_ring_has(inbox, tail + count))
            return false;
        /* seq_cst: pairs with the load in numaperf__inbox_has_work(); see the file comment. */
    } while (!atomic_compare_exchange_weak_explicit(&inbox->tail, &tail, tail + count,
                                                    memory_order_seq_cst, memory_order_relaxed));
    *out_at = tail;
    return true;
}

int numaperf__inbox_reserve(struct numaperf__inbox *inbox, size_t count,
                            struct numaperf__ticket *out)
{
    *out = (struct numaperf__ticket){.count = count};
    /* Acquire pairs with the release of the mover: what it moved is in the ring before ours. */
    if (atomic_load_explicit(&inbox->spilled, memory_order_acquire) == 0 &&
        inbox_reserve_ring(inbox, count, &out->at))
        return 0;
    out->spill = malloc(sizeof(*out->spill) + count * sizeof(out->spill->tasks[0]));
    if (out->spill == NULL)
        return -ENOMEM;
    (void)atomic_fetch_add_explicit(&inbox->spilled, count, memory_order_seq_cst); /* as `tail` */
    return 0;
}

static void inbox_fill(struct numaperf__inbox *inbox, uint64_t at,
                       const struct numaperf__task *like, void *arg, uint32_t stamp)
{
    struct numaperf__slot *slot = &inbox->slots[at & inbox->mask];
    /* The line of a later place, which its last reader has: the next pushes would wait for it. */
    __builtin_prefetch(&inbox->slots[(at + INBOX_AHEAD) & inbox->mask], 1);
    atomic_store_explicit(&slot->fn, like->fn, memory_order_relaxed);
    atomic_store_explicit(&slot->arg, arg, memory_order_relaxed);
    atomic_store_explicit(&slot->on_cancel, like->on_cancel, memory_order_relaxed);
    /* Pairs with the acquire in inbox_read(). */
    atomic_store_explicit(&slot->sequence, (uint64_t)stamp << 32 | (uint32_t)(at + 1),
                          memory_order_release);
}

static void inbox_append(struct numaperf__inbox *inbox, struct numaperf__spill *spill)
{
    (void)pthread_mutex_lock(&inbox->mutex); /* a plain mutex: neither call can fail */
    if (inbox->last == NULL)
        inbox->first = spill;
    else
        inbox->last->next = spill;
    inbox->last = spill;
    (void)pthread_mutex_unlock(&inbox->mutex);
}

void numaperf__inbox_publish(struct numaperf__inbox *inbox, const struct numaperf__ticket *ticket,
                             const struct numaperf__task *like, void *const *args)
{
    if (ticket->spill == NULL) {
        for (size_t i = 0; i < ticket->count; i++)
            inbox_fill(inbox, ticket->at + i, like, args[i], numaperf__stamp_for(ticket->at + i));
        return;
    }
    struct numaperf__spill *spill = ticket->spill;
    /* Where it will be in the ring, about: what is spilled is sampled as often as the rest. */
    uint64_t number = atomic_load_explicit(&inbox->tail, memory_order_relaxed) +
                      atomic_load_explicit(&inbox->spilled, memory_order_relaxed);
    spill->next = NULL;
    spill->count = ticket->count;
    spill->moved = 0;
    for (size_t i = 0; i < ticket->count; i++) {
        spill->tasks[i] = *like;
        spill->tasks[i].arg = args[i];
        spill->tasks[i].stamp = numaperf__stamp_for(number + i);
    }
    inbox_append(inbox, spill);
}

void numaperf__inbox_retract(struct numaperf__inbox *inbox, const struct numaperf__ticket *ticket)
{
    static const struct numaperf__task nothing;
    if (ticket->spill == NULL) {
        for (size_t i = 0; i < ticket->count; i++)
            inbox_fill(inbox, ticket->at + i, &nothing, NULL, 0);
        return;
    }
    uint64_t before =
        atomic_fetch_sub_explicit(&inbox->spilled, ticket->count, memory_order_seq_cst);
    NUMAPERF_ASSERT(before >= ticket->count);
    free(ticket->spill);
}

/* ---- pop ---- */

/* What is in place `at`; false when it is not published. */
static bool inbox_read(const struct numaperf__inbox *inbox, uint64_t at, struct numaperf__task *out)
{
    const struct numaperf__slot *slot = &inbox->slots[at & inbox->mask];
    /* Pairs with the release in inbox_fill(). */
    uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_acquire);
    if ((uint32_t)sequence != (uint32_t)(at + 1))
        return false;
    out->fn = atomic_load_explicit(&slot->fn, memory_order_relaxed);
    out->arg = atomic_load_explicit(&slot->arg, memory_order_relaxed);
    out->on_cancel = atomic_load_explicit(&slot->on_cancel, memory_order_relaxed);
    out->home = inbox->home;
    out->stamp = (uint32_t)(sequence >> 32);
    return true;
}

static size_t inbox_take_ring(struct numaperf__inbox *inbox, struct numaperf__task *out, size_t max)
{
    uint64_t head = atomic_load_explicit(&inbox->head, memory_order_relaxed);
    for (;;) {
        size_t count = 0;
        while (count < max && inbox_read(inbox, head + count, &out[count]))
            count++;
        if (count == 0) {
            uint64_t now = atomic_load_explicit(&inbox->head, memory_order_relaxed);
            if (now == head)
                return 0;
            head = now; /* others took it, and it was filled again meanwhile */
            continue;
        }
        /* Release pairs with the acquire of `head` in inbox_ring_has(). */
        if (atomic_compare_exchange_weak_explicit(&inbox->head, &head, head + count,
                                                  memory_order_acq_rel, memory_order_relaxed))
            return count;
    }
}

/* Move one task; false when the ring is full. Under the mutex. */
static bool inbox_move_one(struct numaperf__inbox *inbox)
{
    struct numaperf__spill *spill = inbox->first;
    uint64_t at = 0;
    if (!inbox_reserve_ring(inbox, 1, &at))
        return false;
    const struct numaperf__task *task = &spill->tasks[spill->moved++];
    inbox_fill(inbox, at, task, task->arg, task->stamp);
    if (spill->moved < spill->count)
        return true;
    inbox->first = spill->next;
    if (inbox->first == NULL)
        inbox->last = NULL;
    free(spill);
    return true;
}

/* The ring is empty: bring over what waits behind it. */
static bool inbox_move(struct numaperf__inbox *inbox)
{
    if (pthread_mutex_trylock(&inbox->mutex) != 0)
        return false; /* somebody adds or moves */
    uint64_t moved = 0;
    while (inbox->first != NULL && moved < INBOX_MOVE_MAX && inbox_move_one(inbox))
        moved++;
    (void)pthread_mutex_unlock(&inbox->mutex);
    /* Release pairs with the acquire in numaperf__inbox_reserve(); seq_cst with who counts: what
     * leaves here is in `tail` already. */
    if (moved > 0)
        (void)atomic_fetch_sub_explicit(&inbox->spilled, moved, memory_order_seq_cst);
    return moved > 0;
}

size_t numaperf__inbox_take(struct numaperf__inbox *inbox, struct numaperf__task *out, size_t max)
{
    size_t count = inbox_take_ring(inbox, out, max);
    if (count > 0 || atomic_load_explicit(&inbox->spilled, memory_order_relaxed) == 0)
        return count;
    return inbox_move(inbox) ? inbox_take_ring(inbox, out, max) : 0;
}

bool numaperf__inbox_pop(struct numaperf__inbox *inbox, struct numaperf__task *out)
{
    return numaperf__inbox_take(inbox, out, 1) == 1;
}

/* ---- look ---- */

bool numaperf__inbox_has_work(const struct numaperf__inbox *inbox)
{
    /* `head` may be stale, which only makes the answer yes once too often; it never runs ahead of
     * `tail`. The order matters for that: head first; and `spilled` before `tail`. */
    uint64_t head = atomic_load_explicit(&inbox->head, memory_order_acquire);
    return atomic_load_explicit(&inbox->spilled, memory_order_seq_cst) != 0 ||
           atomic_load_explicit(&inbox->tail, memory_order_seq_cst) != head;
}

void numaperf__inbox_span(const struct numaperf__inbox *inbox, uint64_t *out_head,
                          uint64_t *out_tail)
{
    /* What is spilled gets the next numbers: nothing goes past it into the ring. */
    *out_head = atomic_load_explicit(&inbox->head, memory_order_acquire);
    uint64_t spilled = atomic_load_explicit(&inbox->spilled, memory_order_seq_cst);
    *out_tail = atomic_load_explicit(&inbox->tail, memory_order_seq_cst) + spilled;
}

uint64_t numaperf__inbox_spill_end(const struct numaperf__inbox *inbox)
{
    /* Acquire pairs with the mover's release: what it moved is below `tail`. */
    if (atomic_load_explicit(&inbox->spilled, memory_order_acquire) != 0)
        return UINT64_MAX;
    return atomic_load_explicit(&inbox->tail, memory_order_relaxed);
}

bool numaperf__inbox_is_past(const struct numaperf__inbox *inbox, uint64_t at)
{
    return atomic_load_explicit(&inbox->head, memory_order_acquire) >= at;
}

uint64_t numaperf__inbox_depth(const struct numaperf__inbox *inbox)
{
    uint64_t head = atomic_load_explicit(&inbox->head, memory_order_acquire);
    uint64_t spilled = atomic_load_explicit(&inbox->spilled, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&inbox->tail, memory_order_relaxed);
    return (tail > head ? tail - head : 0) + spilled;
}

uint64_t numaperf__inbox_accepted(const struct numaperf__inbox *inbox)
{
    uint64_t spilled = atomic_load_explicit(&inbox->spilled, memory_order_seq_cst);
    return spilled + atomic_load_explicit(&inbox->tail, memory_order_seq_cst);
}
