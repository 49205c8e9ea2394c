/* SPDX-License-Identifier: MIT */
/*
 * Magazines: blocks of one size class at the owner's hand, so that taking one and giving one back
 * is a load, a store and a step of a counter, and the block itself is not touched.
 *
 * There are two stacks. Blocks are taken from one and put onto the other, so that the two counters
 * do not wait for each other; when the first runs out the second takes its place.
 */
#ifndef NUMAPERF_PLACE_MAGAZINE_H
#define NUMAPERF_PLACE_MAGAZINE_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    NUMAPERF__MAGAZINE_SLOTS = 31,
    NUMAPERF__MAGAZINE_BYTES_MAX = 1024, /* larger blocks go straight to their span */
    NUMAPERF__MAGAZINE_COUNT = 20        /* size classes up to that */
};

/* Written by the owner; the counters are read by anyone who looks at statistics. */
struct numaperf__magazine {
    _Atomic uint32_t take_count;
    _Atomic uint32_t put_count;
    uint32_t slot_count; /* constant: NUMAPERF__MAGAZINE_SLOTS, or 0 */
    uint32_t size_class; /* constant */
    void *take[NUMAPERF__MAGAZINE_SLOTS];
    void *put[NUMAPERF__MAGAZINE_SLOTS];
};
_Static_assert(sizeof(struct numaperf__magazine) == 512, "whole cache lines");

static inline uint32_t numaperf__magazine_take_count(const struct numaperf__magazine *magazine)
{
    return atomic_load_explicit(&magazine->take_count, memory_order_relaxed);
}

static inline uint32_t numaperf__magazine_put_count(const struct numaperf__magazine *magazine)
{
    return atomic_load_explicit(&magazine->put_count, memory_order_relaxed);
}

static inline void numaperf__magazine_set_take_count(struct numaperf__magazine *magazine,
                                                     uint32_t count)
{
    atomic_store_explicit(&magazine->take_count, count, memory_order_relaxed);
}

static inline void numaperf__magazine_set_put_count(struct numaperf__magazine *magazine,
                                                    uint32_t count)
{
    atomic_store_explicit(&magazine->put_count, count, memory_order_relaxed);
}

/* A block at hand, or NULL. */
static inline void *numaperf__magazine_take(struct numaperf__magazine *magazine)
{
    uint32_t count = numaperf__magazine_take_count(magazine);
    if (count == 0)
        return NULL;
    numaperf__magazine_set_take_count(magazine, count - 1);
    return magazine->take[count - 1];
}

#endif
