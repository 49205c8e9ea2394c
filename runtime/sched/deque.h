/* SPDX-License-Identifier: MIT */
/* A worker's own tasks, oldest first: the owner pushes, it and thieves take. */
#ifndef NUMAPERF_SCHED_DEQUE_H
#define NUMAPERF_SCHED_DEQUE_H

#include "base/atomic.h"
#include "sched/task.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One place; see deque.c for who may touch it. */
struct numaperf__deque_slot {
    _Atomic(numaperf_task_fn) fn;
    _Atomic(void *) arg;
    _Atomic(numaperf_cancel_fn) on_cancel;
    _Atomic uint64_t origin; /* home node and stamp */
};

/* Its sizes, each twice the one before: from a thousand places to a million. */
#define NUMAPERF__DEQUE_LEVELS 11u

/* Constant once it was the deque's ring. */
struct numaperf__deque_ring {
    struct numaperf__deque_slot *slots;
    uint64_t mask; /* places - 1 */
};

struct numaperf__deque {
    /* Written by the owner. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t tail; /* tasks pushed so far */
    _Atomic(struct numaperf__deque_ring *) ring;        /* the one in use */
    uint64_t seen_head;                                 /* the owner's: `head`, some time ago */
    struct numaperf__deque_ring rings[NUMAPERF__DEQUE_LEVELS];
    /* Written by whoever takes. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t head; /* tasks taken so far */
};

/* `slots` are `capacity` places, a power of two, and the caller's. */
void numaperf__deque_init(struct numaperf__deque *deque, struct numaperf__deque_slot *slots,
                          uint32_t capacity);
/* Twice the places, from the owner's arena; false when it has as many as it may, or no memory. It
 * goes back to the first ones by itself, when it is empty. */
bool numaperf__deque_grow_owner(struct numaperf__deque *deque, numaperf_arena_t *arena);
/* Whether it has. */
bool numaperf__deque_is_grown_owner(const struct numaperf__deque *deque);

static inline void numaperf__deque_write(const struct numaperf__deque_ring *ring, uint64_t at,
                                         const struct numaperf__task *task)
{
    struct numaperf__deque_slot *slot = &ring->slots[at & ring->mask];
    atomic_store_explicit(&slot->fn, task->fn, memory_order_relaxed);
    atomic_store_explicit(&slot->arg, task->arg, memory_order_relaxed);
    atomic_store_explicit(&slot->on_cancel, task->on_cancel, memory_order_relaxed);
    atomic_store_explicit(&slot->origin, (uint64_t)task->home << 32 | task->stamp,
                          memory_order_relaxed);
}

static inline void numaperf__deque_read(const struct numaperf__deque_ring *ring, uint64_t at,
                                        struct numaperf__task *out)
{
    const struct numaperf__deque_slot *slot = &ring->slots[at & ring->mask];
    out->fn = atomic_load_explicit(&slot->fn, memory_order_relaxed);
    out->arg = atomic_load_explicit(&slot->arg, memory_order_relaxed);
    out->on_cancel = atomic_load_explicit(&slot->on_cancel, memory_order_relaxed);
    uint64_t origin = atomic_load_explicit(&slot->origin, memory_order_relaxed);
    out->home = (uint32_t)(origin >> 32);
    out->stamp = (uint32_t)origin;
}

/* How many tasks the next push may bring, at least. */
uint64_t numaperf__deque_room_owner(struct numaperf__deque *deque);
/* Push tasks for which there is room, in order; after it there may be less than is left. */
void numaperf__deque_push_owner(struct numaperf__deque *deque, const struct numaperf__task *tasks,
                                size_t count);
/* One task, where that takes no more than a store; false, and nothing was done, elsewhere. */
static inline bool numaperf__deque_push_fast_owner(struct numaperf__deque *deque,
                                                   const struct numaperf__task *task)
{
    uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_relaxed);
    const struct numaperf__deque_ring *ring =
        atomic_load_explicit(&deque->ring, memory_order_relaxed);
    if (ring != &deque->rings[0] || tail - deque->seen_head > ring->mask)
        return false;
    numaperf__deque_write(ring, tail, task);
    /* As in numaperf__deque_push_owner(). */
    (void)atomic_exchange_explicit(&deque->tail, tail + 1, memory_order_seq_cst);
    return true;
}
/* The oldest task; false when there is none. Inline, as the push: once for every task. */
static inline bool numaperf__deque_pop_owner(struct numaperf__deque *deque,
                                             struct numaperf__task *out)
{
    uint64_t tail = atomic_load_explicit(&deque->tail, memory_order_relaxed); /* our own */
    uint64_t head = atomic_load_explicit(&deque->head, memory_order_relaxed);
    const struct numaperf__deque_ring *ring =
        atomic_load_explicit(&deque->ring, memory_order_relaxed); /* our own */
    do {
        if (head == tail)
            return false;
        numaperf__deque_read(ring, head, out);
        /* Release: nobody else writes places, so this is for the order alone; acquire is not needed
         * for what the owner wrote itself. */
    } while (!atomic_compare_exchange_weak_explicit(&deque->head, &head, head + 1,
                                                    memory_order_release, memory_order_relaxed));
    return true;
}
/* The older half of the tasks, rounded up, at most `max`; how many. Any thread. */
size_t numaperf__deque_steal_thief(struct numaperf__deque *deque, struct numaperf__task *out,
                                   size_t max);
/* The same of those before the first one that has another home. */
size_t numaperf__deque_steal_home_thief(struct numaperf__deque *deque, uint32_t home,
                                        struct numaperf__task *out, size_t max);
/* Home of the task at `head`, if it is still there; else any number. */
uint32_t numaperf__deque_home_at(const struct numaperf__deque *deque, uint64_t head);

/* Whether there is a task; sequentially consistent, see deque.c. */
bool numaperf__deque_has_work(const struct numaperf__deque *deque);
/* Tasks taken and pushed so far, in this order: tasks between them wait, or did a moment ago.
 * Sequentially consistent, as has_work. */
void numaperf__deque_span(const struct numaperf__deque *deque, uint64_t *out_head,
                          uint64_t *out_tail);
/* How many; a recent picture. */
uint64_t numaperf__deque_depth(const struct numaperf__deque *deque);

#endif
