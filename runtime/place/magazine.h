/* SPDX-License-Identifier: MIT */
/*
 * Magazines: blocks of one size class at the owner's hand, so that taking one and giving one back
 * is a load, a store and a step of a pointer, and the block itself is not touched.
 *
 * There are two stacks. Blocks are taken from one and put onto the other, so that the two tops do
 * not wait for each other; when the first runs out they change places. Below each stack is a slot
 * with NULL, which is what an empty one gives.
 */
#ifndef NUMAPERF_PLACE_MAGAZINE_H
#define NUMAPERF_PLACE_MAGAZINE_H

#include "base/assert.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NUMAPERF__MAGAZINE_SLOTS_MAX = 124,
    NUMAPERF__MAGAZINE_STACK_BYTES = 8192, /* of blocks in a stack: it should stay in the cache */
    NUMAPERF__MAGAZINE_BYTES_MAX = 1024,   /* larger blocks go straight to their span */
    NUMAPERF__MAGAZINE_COUNT = 20          /* size classes up to that */
};

/* The owner's; the pointers are read by anyone who looks at statistics. */
struct numaperf__magazine {
    alignas(64) _Atomic(void **) take_top; /* above the next block to take */
    _Atomic(void **) take_base;
    _Atomic(void **) put_top; /* where the next block is put */
    _Atomic(void **) put_base;
    void **put_end;
    uint32_t slot_count; /* of each stack; constant; 0: nothing is ever put */
    uint32_t size_class; /* constant */
};
_Static_assert(sizeof(struct numaperf__magazine) == 64,
               "a cache line, of which the owner is alone");

/* Of each stack of a class. */
static inline uint32_t numaperf__magazine_slots(uint32_t block_bytes)
{
    uint32_t slots = NUMAPERF__MAGAZINE_STACK_BYTES / block_bytes;
    return slots < NUMAPERF__MAGAZINE_SLOTS_MAX ? slots : NUMAPERF__MAGAZINE_SLOTS_MAX;
}

/* Pointers that a magazine with so many slots needs room for. */
static inline size_t numaperf__magazine_room(uint32_t slot_count)
{
    return 2 * ((size_t)slot_count + 1);
}

static inline void **numaperf__magazine_get(const _Atomic(void **) *pointer)
{
    return atomic_load_explicit(pointer, memory_order_relaxed);
}

/* Only the owner writes. */
static inline void numaperf__magazine_set(_Atomic(void **) *pointer, void **value)
{
    atomic_store_explicit(pointer, value, memory_order_relaxed);
}

/* Make it empty; `room` is zero. With no slot it stays so. */
static inline void numaperf__magazine_init(struct numaperf__magazine *magazine, uint32_t size_class,
                                           uint32_t slot_count, void **room)
{
    void **take = room + 1;
    void **put = take + slot_count + 1;
    magazine->size_class = size_class;
    magazine->slot_count = slot_count;
    numaperf__magazine_set(&magazine->take_base, take);
    numaperf__magazine_set(&magazine->take_top, take);
    numaperf__magazine_set(&magazine->put_base, put);
    numaperf__magazine_set(&magazine->put_top, put);
    magazine->put_end = put + slot_count;
}

/* Exact on the owner; elsewhere they may be caught while they change places. */
static inline uint32_t numaperf__magazine_count(const struct numaperf__magazine *magazine,
                                                void *const *base, void *const *top)
{
    ptrdiff_t count = top - base;
    return count < 0 || count > magazine->slot_count ? 0 : (uint32_t)count;
}

static inline uint32_t numaperf__magazine_take_count(const struct numaperf__magazine *magazine)
{
    return numaperf__magazine_count(magazine, numaperf__magazine_get(&magazine->take_base),
                                    numaperf__magazine_get(&magazine->take_top));
}

static inline uint32_t numaperf__magazine_put_count(const struct numaperf__magazine *magazine)
{
    return numaperf__magazine_count(magazine, numaperf__magazine_get(&magazine->put_base),
                                    numaperf__magazine_get(&magazine->put_top));
}

/* A block, or NULL: that stands below an empty stack. */
static inline void *numaperf__magazine_take(struct numaperf__magazine *magazine)
{
    void **top = numaperf__magazine_get(&magazine->take_top) - 1;
    void *block = *top;
    if (__builtin_expect(block == NULL, 0))
        return NULL;
    numaperf__magazine_set(&magazine->take_top, top);
    return block;
}

/* Whether there was a place for it. */
static inline bool numaperf__magazine_put(struct numaperf__magazine *magazine, void *block)
{
    void **top = numaperf__magazine_get(&magazine->put_top);
    if (__builtin_expect(top == magazine->put_end, 0))
        return false;
    NUMAPERF_ASSERT(top[-1] != block); /* not freed just now */
    *top = block;
    numaperf__magazine_set(&magazine->put_top, top + 1);
    return true;
}

#endif
