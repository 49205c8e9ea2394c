/* SPDX-License-Identifier: MIT */
/*
 * The textbook's work-stealing deque, of fixed size: the owner pushes and pops at the bottom,
 * thieves take one at a time from the top. `top` only grows; whoever moves it from t to t + 1 has
 * item t. The owner moves `bottom` down before it looks at `top`, a thief looks at `top` before it
 * looks at `bottom`; the two fences between order that for everybody, so that of the last item
 * both see that the other may want it, and let the exchange of `top` decide.
 *
 * Source: Chase and Lev, Dynamic circular work-stealing deque, 2005; Le, Pop, Cohen and Zappa
 * Nardelli, Correct and efficient work-stealing for weak memory models, 2013.
 */
#include "peers/peer.h"
#include "steal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct chase_lev {
    _Alignas(128) _Atomic int64_t top;    /* thieves, and the owner for the last item */
    _Alignas(128) _Atomic int64_t bottom; /* the owner */
    _Alignas(128) _Atomic uint64_t items[BENCH_STEAL_ROOM];
};

static _Atomic uint64_t *chase_lev_slot(struct chase_lev *deque, int64_t at)
{
    return &deque->items[(uint64_t)at % BENCH_STEAL_ROOM];
}

static void *chase_lev_create(void)
{
    struct chase_lev *deque = aligned_alloc(_Alignof(struct chase_lev), sizeof(*deque));
    if (deque != NULL)
        memset(deque, 0, sizeof(*deque));
    return deque;
}

static void chase_lev_push_owner(void *arg, uint64_t item)
{
    struct chase_lev *deque = arg;
    int64_t bottom = atomic_load_explicit(&deque->bottom, memory_order_relaxed);
    atomic_store_explicit(chase_lev_slot(deque, bottom), item, memory_order_relaxed);
    /* Release pairs with the acquire of `bottom` by a thief: it sees the item. */
    atomic_store_explicit(&deque->bottom, bottom + 1, memory_order_release);
}

static uint64_t chase_lev_pop_owner(void *arg)
{
    struct chase_lev *deque = arg;
    int64_t bottom = atomic_load_explicit(&deque->bottom, memory_order_relaxed) - 1;
    atomic_store_explicit(&deque->bottom, bottom, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* with the thief's */
    int64_t top = atomic_load_explicit(&deque->top, memory_order_relaxed);
    uint64_t item = 0;
    if (top <= bottom)
        item = atomic_load_explicit(chase_lev_slot(deque, bottom), memory_order_relaxed);
    if (top < bottom)
        return item;
    if (top == bottom &&
        !atomic_compare_exchange_strong_explicit(&deque->top, &top, top + 1, memory_order_seq_cst,
                                                 memory_order_relaxed))
        item = 0;
    atomic_store_explicit(&deque->bottom, bottom + 1, memory_order_relaxed);
    return item;
}

static size_t chase_lev_steal_thief(void *arg, uint64_t *out_items)
{
    struct chase_lev *deque = arg;
    int64_t top = atomic_load_explicit(&deque->top, memory_order_acquire);
    atomic_thread_fence(memory_order_seq_cst); /* with the owner's */
    if (top >= atomic_load_explicit(&deque->bottom, memory_order_acquire))
        return 0;
    uint64_t item = atomic_load_explicit(chase_lev_slot(deque, top), memory_order_relaxed);
    if (!atomic_compare_exchange_strong_explicit(&deque->top, &top, top + 1, memory_order_seq_cst,
                                                 memory_order_relaxed))
        return 0;
    out_items[0] = item;
    return 1;
}

static const struct bench_steal_ops chase_lev_ops = {
    .create = chase_lev_create,
    .destroy = free,
    .push_owner = chase_lev_push_owner,
    .pop_owner = chase_lev_pop_owner,
    .steal_thief = chase_lev_steal_thief,
};

const struct bench_peer bench_chase_lev = {.name = "chase-lev", .ops = &chase_lev_ops};
