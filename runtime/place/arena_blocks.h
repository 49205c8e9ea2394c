/* SPDX-License-Identifier: MIT */
/* How blocks leave an arena and come back: small ones, big ones, and from other threads. */
#ifndef NUMAPERF_PLACE_ARENA_BLOCKS_H
#define NUMAPERF_PLACE_ARENA_BLOCKS_H

#include "place/arena_chunk.h"

/* Who calls, in one instruction. A later thread may inherit it after this one has ended. */
static inline uintptr_t numaperf__arena_self(void)
{
#if defined(__clang__) ? __clang_major__ >= 14 : __GNUC__ >= 11
    return (uintptr_t)__builtin_thread_pointer();
#else
    return (uintptr_t)pthread_self(); /* older compilers do not know it on every machine */
#endif
}

static inline bool numaperf__arena_is_owner(const numaperf_arena_t *arena)
{
    /* Relaxed: only the owner itself can find its own id here. */
    return atomic_load_explicit(&arena->owner, memory_order_relaxed) == numaperf__arena_self();
}

/*
 * The arena and its owner in one word: a span that has it is the arena's, and its blocks may be
 * put into magazines by that thread. One comparison instead of two, on the shortest way.
 */
static inline uintptr_t numaperf__arena_key(const numaperf_arena_t *arena, uintptr_t owner)
{
    return (uintptr_t)arena ^ owner;
}

/* ---- arena_small.c: up to NUMAPERF__SIZE_CLASS_MAX_BYTES; owner ---- */

/* NULL: recorded why. */
void *numaperf__arena_alloc_small(numaperf_arena_t *arena, uint32_t size_class);
/* The magazine of the span has no place for it, or there is none. */
void numaperf__arena_free_small(numaperf_arena_t *arena, struct numaperf__span *span, void *block);

/* Blocks came back to the span: it may be of use, or have become free. */
void numaperf__arena_settle_span(numaperf_arena_t *arena, struct numaperf__span *span);

/* Give up what is kept at hand, before more memory is mapped. */
void numaperf__arena_give_up_stock(numaperf_arena_t *arena);

/* Bytes in use now, and remember the most. */
uint64_t numaperf__arena_used_bytes(const numaperf_arena_t *arena);
void numaperf__arena_note_peak(numaperf_arena_t *arena);
/* The same, where more blocks were taken from spans than ever. */
void numaperf__arena_note_taken(numaperf_arena_t *arena);

/* Whether the block is out and nobody has freed it: for assertions, slow. Owner. */
bool numaperf__arena_is_in_use(const struct numaperf__span *span, const void *block);

/* ---- arena_big.c: blocks of whole units, and blocks with a region; owner ---- */

void *numaperf__arena_alloc_big(numaperf_arena_t *arena, size_t size, size_t align);
void numaperf__arena_free_big(numaperf_arena_t *arena, void *block);

/* Whether it is a run of units: these start where a span would have its header. */
static inline bool numaperf__arena_is_run(const void *block)
{
    return (uintptr_t)block % NUMAPERF__SPAN_BYTES == 0;
}

/* ---- arena_remote.c ---- */

/* Any thread but the owner. */
void numaperf__arena_push_span(numaperf_arena_t *arena, struct numaperf__span *span, void *block);
void numaperf__arena_push_big(numaperf_arena_t *arena, void *block);

/* Take in what others freed: of at most so many spans, at most so many big blocks. Owner. */
void numaperf__arena_collect_spans(numaperf_arena_t *arena, uint64_t count_max);
void numaperf__arena_collect_big(numaperf_arena_t *arena, uint64_t count_max);

#endif
