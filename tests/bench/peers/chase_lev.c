/* SPDX-License-Identifier: MIT */
/*
 * The textbook's work-stealing deque, of fixed size: the owner pushes and pops at the bottom,
 * thieves take one at a time from the top. `top` only grows; whoever moves it from t to t + 1 has
 * item t. The owner moves `bottom` down before it looks at `top`, a thief looks at `top` before it
 * looks at `bottom`; the two fences between order that for everybody, so that of the last item
 * both see that the other may want it, and let the exchange of `top` decide.
 *
 * In two sizes: of tasks of four words, as the runtime's queue has them (function, argument, what
 * to do when it is cancelled, home), and of one word, which is a pointer to something allocated.
 *
 * Source: Chase and Lev, Dynamic circular work-stealing deque, 2005; Le, Pop, Cohen and Zappa
 * Nardelli, Correct and efficient work-stealing for weak memory models, 2013.
 */
#include "peers/peer.h"
#include "steal.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define CHASE_LEV_WORDS 4u

struct chase_lev {
    _Alignas(128) _Atomic int64_t top;    /* thieves, and the owner for the last item */
    _Alignas(128) _Atomic int64_t bottom; /* the owner */
    _Alignas(128) _Atomic uint64_t items[BENCH_STEAL_ROOM * CHASE_LEV_WORDS];
};

static void *chase_lev_create(void)
{
    struct chase_lev *deque = aligned_alloc(_Alignof(struct chase_lev), sizeof(*deque));
    if (deque != NULL)
        memset(deque, 0, sizeof(*deque));
    return deque;
}

/* The other words are carried along: they are read, and what is read is not looked at. */
static uint64_t chase_lev_read(struct chase_lev *deque, int64_t at, uint32_t words)
{
    _Atomic uint64_t *slot = &deque->items[(uint64_t)at % BENCH_STEAL_ROOM * words];
    for (uint32_t i = 1; i < words; i++)
        (void)atomic_load_explicit(&slot[i], memory_order_relaxed);
    return atomic_load_explicit(&slot[0], memory_order_relaxed);
}

static void chase_lev_push(struct chase_lev *deque, uint64_t item, uint32_t words)
{
    int64_t bottom = atomic_load_explicit(&deque->bottom, memory_order_relaxed);
    _Atomic uint64_t *slot = &deque->items[(uint64_t)bottom % BENCH_STEAL_ROOM * words];
    atomic_store_explicit(&slot[0], item, memory_order_relaxed);
    for (uint32_t i = 1; i < words; i++)
        atomic_store_explicit(&slot[i], item, memory_order_relaxed);
    /* Release pairs with the acquire of `bottom` by a thief: it sees the item. */
    atomic_store_explicit(&deque->bottom, bottom + 1, memory_order_release);
}

static uint64_t chase_lev_pop(struct chase_lev *deque, uint32_t words)
{
    int64_t bottom = atomic_load_explicit(&deque->bottom, memory_order_relaxed) - 1;
    atomic_store_explicit(&deque->bottom, bottom, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* with the thief's */
    int64_t top = atomic_load_explicit(&deque->top, memory_order_relaxed);
    uint64_t item = 0;
    if (top <= bottom)
        item = chase_lev_read(deque, bottom, words);
    if (top < bottom)
        return item;
    if (top == bottom &&
        !atomic_compare_exchange_strong_explicit(&deque->top, &top, top + 1, memory_order_seq_cst,
                                                 memory_order_relaxed))
        item = 0;
    atomic_store_explicit(&deque->bottom, bottom + 1, memory_order_relaxed);
    return item;
}

static size_t chase_lev_steal(struct chase_lev *deque, uint64_t *out_items, uint32_t words)
{
    int64_t top = atomic_load_explicit(&deque->top, memory_order_acquire);
    atomic_thread_fence(memory_order_seq_cst); /* with the owner's */
    if (top >= atomic_load_explicit(&deque->bottom, memory_order_acquire))
        return 0;
    uint64_t item = chase_lev_read(deque, top, words);
    if (!atomic_compare_exchange_strong_explicit(&deque->top, &top, top + 1, memory_order_seq_cst,
                                                 memory_order_relaxed))
        return 0;
    out_items[0] = item;
    return 1;
}

#define CHASE_LEV_PEER(variable, title, words)                                   \
    static void variable##_push_owner(void *deque, uint64_t first, size_t count) \
    {                                                                            \
        for (size_t i = 0; i < count; i++)                                       \
            chase_lev_push(deque, first + i, words);                             \
    }                                                                            \
    static uint64_t variable##_pop_owner(void *deque)                            \
    {                                                                            \
        return chase_lev_pop(deque, words);                                      \
    }                                                                            \
    static size_t variable##_steal_thief(void *deque, uint64_t *out_items)       \
    {                                                                            \
        return chase_lev_steal(deque, out_items, words);                         \
    }                                                                            \
    static const struct bench_steal_ops variable##_ops = {                       \
        .create = chase_lev_create,                                              \
        .destroy = free,                                                         \
        .push_owner = variable##_push_owner,                                     \
        .pop_owner = variable##_pop_owner,                                       \
        .steal_thief = variable##_steal_thief,                                   \
    };                                                                           \
    const struct bench_peer variable = {.name = title, .ops = &variable##_ops}

CHASE_LEV_PEER(bench_chase_lev, "chase-lev", CHASE_LEV_WORDS);
CHASE_LEV_PEER(bench_chase_lev_word, "chase-lev-word", 1);
