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
 * The owner may change the ring, when it is full or empty: it copies what waits, publishes the new
 * ring, and only then pushes. Who takes loads `tail` before the ring (both acquire), so every place
 * below that tail is filled in the ring it sees: in the old one because nothing was added to it
 * since, in the new one because it was copied. Rings are kept for the next time and never freed.
 *
 * No lost wake. The owner publishes by a sequentially consistent exchange of `tail` and then looks
 * for a sleeper; a worker that goes to sleep stores its state and then loads `tail`, both
 * sequentially consistent. Either it sees the task, or the owner sees it asleep.
 */
#include "sched/deque.h"

#include "base/assert.h"

#include <string.h>

#define DEQUE_ANY_HOME UINT32_MAX

void numaperf__deque_init(struct numaperf__deque *deque, struct numaperf__deque_slot *slots,
                          uint32_t capacity)
{
    NUMAPERF_ASSERT(slots != NULL);
    NUMAPERF_ASSERT(capacity >= 2 && (capacity & (capacity - 1)) == 0);

    memset(deque, 0, sizeof(*deque));
    deque->rings[0] = (struct numaperf__deque_ring){.slots = slots, .mask = capacity - 1};
    atomic_store_explicit(&deque->ring, &deque->rings[0], memory_order_relaxed);
}

static struct numaperf__deque_ring *deque_ring_owner(const struct numaperf__deque *deque)
{
    return atomic_load_explicit(&deque->ring, memory_order_relaxed); /* our own */
}

/* ---- grow ---- */

bool numaperf__deque_is_grown_owner(const struct numaperf__deque *deque)
{
    return deque_ring_owner(deque) != &deque->rings[0];
}

bool numaperf__deque_grow_owner(struct numaperf__deque *deque, numaperf_arena_t *arena)
{
    const struct numaperf__deque_ring *old = deque_ring_owner(deque);
    struct numaperf__deque_ring *next = &deque->rings[old - deque->rings + 1];
    if (next == &deque->rings[NUMAPERF__DEQUE_LEVELS])
        return false;
    uint64_t capacity = (old->mask + 1) * 2;
    if (next->slots == NULL) {
        /* Once: a thief may still look at what it has of an earlier time. */
        next->slots = numaperf_arena_alloc(arena, capacity * sizeof(*next->slots), 64);
        if (next->slots == NULL)
            return false;
        next->mask = capacity - 1;
    }
    uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_relaxed);
    /* What is taken meanwhile is copied in vain. */
    for (uint64_t at = deque->seen_head; at != tail; at++) {
        struct numaperf__task task;
        numaperf__deque_read(old, at, &task);
        numaperf__deque_write(next, at, &task);
    }
    /* Pairs with the acquire in numaperf__deque_steal_thief(). */
    atomic_store_explicit(&deque->ring, next, memory_order_release);
    return true;
}

/* ---- push ---- */

uint64_t numaperf__deque_room_owner(struct numaperf__deque *deque)
{
    uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_relaxed);
    const struct numaperf__deque_ring *ring = deque_ring_owner(deque);
    uint64_t capacity = ring->mask + 1;
    if (tail - deque->seen_head > capacity / 2) {
        /* Pairs with the release of the swaps that move it; see the file comment. */
        deque->seen_head = atomic_load_explicit(&deque->head, memory_order_acquire);
    }
    return capacity - (tail - deque->seen_head);
}

/* Back to the first ring, whose lines are near, once nothing waits. */
static void deque_shrink_owner(struct numaperf__deque *deque, uint64_t tail)
{
    if (atomic_load_explicit(&deque->head, memory_order_acquire) != tail)
        return;
    deque->seen_head = tail;
    atomic_store_explicit(&deque->ring, &deque->rings[0], memory_order_release);
}

void numaperf__deque_push_owner(struct numaperf__deque *deque, const struct numaperf__task *tasks,
                                size_t count)
{
    uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_relaxed);
    if (numaperf__deque_is_grown_owner(deque) && count <= deque->rings[0].mask)
        deque_shrink_owner(deque, tail);
    const struct numaperf__deque_ring *ring = deque_ring_owner(deque);
    NUMAPERF_ASSERT_HOT(tail + count - deque->seen_head <= ring->mask + 1);

    for (size_t i = 0; i < count; i++)
        numaperf__deque_write(ring, tail + i, &tasks[i]);
    /* seq_cst: pairs with the load in numaperf__deque_has_work(), and its release with the acquire
     * of who takes; see the file comment. */
    (void)atomic_exchange_explicit(&deque->tail, tail + count, memory_order_seq_cst);
}

/* ---- take ---- */

/* Read the places from `head` on, up to the first task that has another home; how many. */
static size_t deque_read_home(const struct numaperf__deque_ring *ring, uint64_t head, uint32_t home,
                              struct numaperf__task *out, size_t max)
{
    size_t count = 0;
    for (; count < max; count++) {
        numaperf__deque_read(ring, head + count, &out[count]);
        if (home != DEQUE_ANY_HOME && out[count].home != home)
            break;
    }
    return count;
}

size_t numaperf__deque_steal_home_thief(struct numaperf__deque *deque, uint32_t home,
                                        struct numaperf__task *out, size_t max)
{
    /* Acquire: `tail` is read after it, and so is never behind it. */
    uint64_t head = atomic_load_explicit(&deque->head, memory_order_acquire);
    for (;;) {
        /* Pairs with the exchange of the owner: the places below it are filled. */
        uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_acquire);
        /* After `tail`; see the file comment. Pairs with the release of who changes it. */
        const struct numaperf__deque_ring *ring =
            atomic_load_explicit(&deque->ring, memory_order_acquire);
        uint64_t waiting = tail - head;
        /* Others took more meanwhile than there were places: `head` is long gone. */
        if (waiting > ring->mask + 1) {
            head = atomic_load_explicit(&deque->head, memory_order_acquire);
            continue;
        }
        size_t count = waiting - waiting / 2;
        count = deque_read_home(ring, head, home, out, count < max ? count : max);
        if (count == 0)
            return 0;
        /* Release pairs with the acquire in numaperf__deque_room_owner(). */
        if (atomic_compare_exchange_weak_explicit(&deque->head, &head, head + count,
                                                  memory_order_acq_rel, memory_order_acquire))
            return count;
    }
}

size_t numaperf__deque_steal_thief(struct numaperf__deque *deque, struct numaperf__task *out,
                                   size_t max)
{
    return numaperf__deque_steal_home_thief(deque, DEQUE_ANY_HOME, out, max);
}

/* ---- look ---- */

uint32_t numaperf__deque_home_at(const struct numaperf__deque *deque, uint64_t head)
{
    /* Pairs with the release of who changes it. */
    const struct numaperf__deque_ring *ring =
        atomic_load_explicit(&deque->ring, memory_order_acquire);
    const struct numaperf__deque_slot *slot = &ring->slots[head & ring->mask];
    return (uint32_t)(atomic_load_explicit(&slot->origin, memory_order_relaxed) >> 32);
}

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
