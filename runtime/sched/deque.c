/* SPDX-License-Identifier: MIT */
/*
 * The stealable queue of a worker: a bounded FIFO ring that one thread pushes to, and any thread
 * takes from, the oldest first. Thieves take half at once.
 *
 * The owner fills places at `tail` and publishes them by storing `tail`. Who takes reads the places
 * from `head` on and then moves `head` by a compare-and-swap: only when that succeeds is what was
 * read theirs. No read is torn: the owner fills a place again only after it has seen `head` beyond
 * it (acquire), and whoever moved `head` there had read the place before (release); one whose swap
 * fails throws away what it read. The numbers are 64 bits and never come round, so a swap cannot
 * succeed by accident.
 *
 * No lost wake. The owner publishes by a sequentially consistent exchange of `tail` and then looks
 * for a sleeper; a worker that goes to sleep stores its state and then loads `tail`, both
 * sequentially consistent. Either it sees the task, or the owner sees it asleep.
 */
#include "sched/deque.h"

#include "base/assert.h"

#include <string.h>

void numaperf__deque_init(struct numaperf__deque *deque, struct numaperf__deque_slot *slots,
                          uint32_t capacity)
{
    NUMAPERF_ASSERT(slots != NULL);
    NUMAPERF_ASSERT(capacity >= 2 && (capacity & (capacity - 1)) == 0);

    memset(deque, 0, sizeof(*deque));
    deque->slots = slots;
    deque->mask = capacity - 1;
}

/* ---- push ---- */

uint64_t numaperf__deque_room_owner(struct numaperf__deque *deque)
{
    uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_relaxed);
    uint64_t capacity = deque->mask + 1;
    if (tail - deque->seen_head > capacity / 2) {
        /* Pairs with the release of the swaps that move it; see the file comment. */
        deque->seen_head = atomic_load_explicit(&deque->head, memory_order_acquire);
    }
    return capacity - (tail - deque->seen_head);
}

void numaperf__deque_push_owner(struct numaperf__deque *deque, const struct numaperf__task *tasks,
                                size_t count)
{
    uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_relaxed);
    NUMAPERF_ASSERT_HOT(tail + count - deque->seen_head <= deque->mask + 1);

    for (size_t i = 0; i < count; i++) {
        const struct numaperf__task *task = &tasks[i];
        struct numaperf__deque_slot *slot = &deque->slots[(tail + i) & deque->mask];
        atomic_store_explicit(&slot->fn, task->fn, memory_order_relaxed);
        atomic_store_explicit(&slot->arg, task->arg, memory_order_relaxed);
        atomic_store_explicit(&slot->on_cancel, task->on_cancel, memory_order_relaxed);
        atomic_store_explicit(&slot->origin, (uint64_t)task->home << 32 | task->stamp,
                              memory_order_relaxed);
    }
    /* seq_cst: pairs with the load in numaperf__deque_has_work(), and its release with the acquire
     * of who takes; see the file comment. */
    (void)atomic_exchange_explicit(&deque->tail, tail + count, memory_order_seq_cst);
}

/* ---- take ---- */

static void deque_read(const struct numaperf__deque *deque, uint64_t at, struct numaperf__task *out)
{
    const struct numaperf__deque_slot *slot = &deque->slots[at & deque->mask];
    out->fn = atomic_load_explicit(&slot->fn, memory_order_relaxed);
    out->arg = atomic_load_explicit(&slot->arg, memory_order_relaxed);
    out->on_cancel = atomic_load_explicit(&slot->on_cancel, memory_order_relaxed);
    uint64_t origin = atomic_load_explicit(&slot->origin, memory_order_relaxed);
    out->home = (uint32_t)(origin >> 32);
    out->stamp = (uint32_t)origin;
}

bool numaperf__deque_pop_owner(struct numaperf__deque *deque, struct numaperf__task *out)
{
    uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_relaxed); /* our own */
    uint64_t head = atomic_load_explicit(&deque->head, memory_order_relaxed);
    do {
        if (head == tail)
            return false;
        deque_read(deque, head, out);
        /* Release: nobody else writes places, so this is for the order alone; acquire is not needed
         * for what the owner wrote itself. */
    } while (!atomic_compare_exchange_weak_explicit(&deque->head, &head, head + 1,
                                                    memory_order_release, memory_order_relaxed));
    return true;
}

size_t numaperf__deque_steal_thief(struct numaperf__deque *deque, struct numaperf__task *out,
                                   size_t max)
{
    /* Acquire: `tail` is read after it, and so is never behind it. */
    uint64_t head = atomic_load_explicit(&deque->head, memory_order_acquire);
    for (;;) {
        /* Pairs with the exchange of the owner: the places below it are filled. */
        uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_acquire);
        uint64_t waiting = tail - head;
        /* Others took more meanwhile than there were places: `head` is long gone. */
        if (waiting > deque->mask + 1) {
            head = atomic_load_explicit(&deque->head, memory_order_acquire);
            continue;
        }
        size_t count = waiting - waiting / 2;
        if (count > max)
            count = max;
        if (count == 0)
            return 0;
        for (size_t i = 0; i < count; i++)
            deque_read(deque, head + i, &out[i]);
        /* Release pairs with the acquire in numaperf__deque_room_owner(). */
        if (atomic_compare_exchange_weak_explicit(&deque->head, &head, head + count,
                                                  memory_order_acq_rel, memory_order_acquire))
            return count;
    }
}

/* ---- look ---- */

bool numaperf__deque_has_work(const struct numaperf__deque *deque)
{
    /* Head first: it never runs ahead of `tail`, so a stale one says yes once too often. */
    uint64_t head = atomic_load_explicit(&deque->head, memory_order_acquire);
    return atomic_load_explicit(&deque->tail, memory_order_seq_cst) != head;
}

void numaperf__deque_span(const struct numaperf__deque *deque, uint64_t *out_head,
                          uint64_t *out_tail)
{
    *out_head = atomic_load_explicit(&deque->head, memory_order_acquire);
    *out_tail = atomic_load_explicit(&deque->tail, memory_order_seq_cst);
}

uint64_t numaperf__deque_depth(const struct numaperf__deque *deque)
{
    uint64_t head = atomic_load_explicit(&deque->head, memory_order_acquire);
    uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_relaxed);
    return tail > head ? tail - head : 0;
}
