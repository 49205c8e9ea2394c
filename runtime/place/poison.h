/* SPDX-License-Identifier: MIT */
/*
 * Telling address sanitizer which bytes of an arena are nobody's, so that it sees a use after
 * free and an overflow there as it does in the heap. Without the sanitizer nothing is left of it.
 *
 * A free block is poisoned whole; the link inside it is read and written by the two functions
 * below alone, which the sanitizer does not watch.
 */
#ifndef NUMAPERF_PLACE_POISON_H
#define NUMAPERF_PLACE_POISON_H

#include <stddef.h>

#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define NUMAPERF__HAS_POISON 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#define NUMAPERF__HAS_POISON 1
#endif

#ifdef NUMAPERF__HAS_POISON
#include <sanitizer/asan_interface.h>
#define NUMAPERF__UNWATCHED __attribute__((no_sanitize_address))
#else
#define NUMAPERF__UNWATCHED
#endif

static inline void numaperf__poison(const void *base, size_t bytes)
{
#ifdef NUMAPERF__HAS_POISON
    __asan_poison_memory_region(base, bytes);
#else
    (void)base;
    (void)bytes;
#endif
}

static inline void numaperf__unpoison(const void *base, size_t bytes)
{
#ifdef NUMAPERF__HAS_POISON
    __asan_unpoison_memory_region(base, bytes);
#else
    (void)base;
    (void)bytes;
#endif
}

/* The link that a free block holds in its first bytes. */
NUMAPERF__UNWATCHED static inline void *numaperf__link_get(const void *block)
{
    return *(void *const *)block;
}

NUMAPERF__UNWATCHED static inline void numaperf__link_set(void *block, void *next)
{
    *(void **)block = next;
}

#endif
