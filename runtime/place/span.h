/* SPDX-License-Identifier: MIT */
/* Spans: the 64 KiB pieces of an arena's chunks, each carved into blocks of one size class. */
#ifndef NUMAPERF_PLACE_SPAN_H
#define NUMAPERF_PLACE_SPAN_H

#include "base/assert.h"
#include "base/atomic.h"
#include "base/list.h"
#include "place/poison.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMAPERF__SPAN_BYTES ((size_t)64 * 1024)
#define NUMAPERF__SPAN_MAGIC 0x4e505350u /* tells a span from memory that is none */
#define NUMAPERF__SPAN_WORDS (NUMAPERF__SPAN_BYTES / 16 / 64) /* of 64 blocks each */

enum numaperf__span_state {
    NUMAPERF__SPAN_FREE,    /* no class; its unit is the chunk's */
    NUMAPERF__SPAN_CURRENT, /* its class allocates from it; in no list */
    NUMAPERF__SPAN_PARTIAL, /* has room; in the list of its class */
    NUMAPERF__SPAN_FULL,    /* no room; in no list until a block comes back */
    NUMAPERF__SPAN_LARGE    /* one block with a region of its own */
};

struct numaperf__arena_chunk;
struct numaperf__magazine;

/* At the start of every span, on a multiple of NUMAPERF__SPAN_BYTES. */
struct numaperf__span {
    /* Read by any thread that frees. These three stay for as long as the unit is a span, in the
       first unit of a segment for as long as the chunk; */
    alignas(NUMAPERF_CACHE_LINE) struct numaperf_arena *arena;
    struct numaperf__arena_chunk *chunk;
    uint32_t magic;
    /* and these while a block of it is out. */
    uint32_t first;       /* offset of the first block, from the start of the span */
    uint32_t reciprocal;  /* of block_bytes: offset * reciprocal >> 32 is the block's index */
    uint32_t block_count; /* that fit */
    size_t block_bytes;
    struct numaperf__magazine *magazine; /* of its class */
    uintptr_t key;                       /* of the arena and its owner; 0: ask them */
    uint32_t size_class;
    uint32_t length; /* bytes with this header; the last span of a chunk may be short */

    /* The owner's. */
    alignas(NUMAPERF_CACHE_LINE) struct numaperf__list link;
    uint32_t state;      /* enum numaperf__span_state */
    uint32_t used_count; /* blocks that are not in free_bits */
    uint32_t word;       /* no word of free_bits below it has a bit */
    uint32_t word_count;

    /* Which words of remote_bits are not empty: freers set, the owner takes all. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t remote_words;
    struct numaperf__span
        *remote_next; /* in the arena's stack; by who made remote_words non-zero */

    /* Blocks that may be handed out, by index; the owner's. */
    alignas(NUMAPERF_CACHE_LINE) uint64_t free_bits[NUMAPERF__SPAN_WORDS];
    /* Blocks that other threads gave back: they set bits, the owner takes whole words. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t remote_bits[NUMAPERF__SPAN_WORDS];
};

_Static_assert(NUMAPERF__SPAN_WORDS == 64, "remote_words has a bit for each word");

static inline struct numaperf__span *numaperf__span_of(const void *block)
{
    return (struct numaperf__span *)((uintptr_t)block & ~(uintptr_t)(NUMAPERF__SPAN_BYTES - 1));
}

/* Write the part of a header that stays, on raw memory. */
void numaperf__span_found(struct numaperf__span *span, struct numaperf_arena *arena,
                          struct numaperf__arena_chunk *chunk);

/* Whether at least one block of the class fits behind `reserved` bytes of a span so long. */
bool numaperf__span_fits(size_t length, size_t reserved, uint32_t size_class);

/*
 * Make a founded span one of this class, in state CURRENT. `reserved` bytes at its start, header
 * included, never become blocks.
 */
void numaperf__span_assign(struct numaperf__span *span, size_t length, size_t reserved,
                           uint32_t size_class, struct numaperf__magazine *magazine);

void numaperf__span_set_state(struct numaperf__span *span, enum numaperf__span_state from,
                              enum numaperf__span_state to);

/* Take up to `count_max` blocks, lowest first; how many. */
uint32_t numaperf__span_take(struct numaperf__span *span, void **out_blocks, uint32_t count_max);

/* Take a block back; asserts that it is one, and was out. */
void numaperf__span_put(struct numaperf__span *span, void *block);

/* The same for all of a word of remote_bits; how many blocks. */
uint32_t numaperf__span_put_word(struct numaperf__span *span, uint32_t word, uint64_t bits);

/* Check the whole span against itself. */
void numaperf__span_validate(const struct numaperf__span *span);

static inline bool numaperf__span_has_room(const struct numaperf__span *span)
{
    return span->used_count < span->block_count;
}

/* Index of the block, exact for the start of one. */
static inline uint32_t numaperf__span_index(const struct numaperf__span *span, uint32_t offset)
{
    return (uint32_t)(((uint64_t)offset * span->reciprocal) >> 32);
}

/* The index of a block, which is asserted to be one. Any thread that may free it. */
static inline uint32_t numaperf__span_index_of(const struct numaperf__span *span, const void *block)
{
    uint32_t offset = (uint32_t)((const char *)block - (const char *)span) - span->first;
    uint32_t index = numaperf__span_index(span, offset);
    NUMAPERF_ASSERT(index < span->block_count);           /* a block of this span */
    NUMAPERF_ASSERT(index * span->block_bytes == offset); /* its start */
    return index;
}

#endif
