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

enum numaperf__span_state {
    NUMAPERF__SPAN_FREE,    /* no class; in the arena's list of free spans */
    NUMAPERF__SPAN_CURRENT, /* its class allocates from it; in no list */
    NUMAPERF__SPAN_PARTIAL, /* has room; in the list of its class */
    NUMAPERF__SPAN_FULL,    /* no room; in no list until a block comes back */
    NUMAPERF__SPAN_LARGE    /* one block with a region of its own */
};

struct numaperf__arena_chunk;

/* At the start of every span, on a multiple of NUMAPERF__SPAN_BYTES. */
struct numaperf__span {
    /* Written when the span is carved from its chunk, then read by any thread that frees. */
    alignas(NUMAPERF_CACHE_LINE) struct numaperf_arena *arena;
    uint32_t magic;
    uint32_t length; /* bytes with this header; the last span of a chunk may be short */
    struct numaperf__arena_chunk *chunk;

    /* The rest belongs to the arena's owner. */
    alignas(NUMAPERF_CACHE_LINE) void *free_block; /* chain of returned blocks */
    struct numaperf__list link;
    size_t block_bytes;
    uint32_t state;        /* enum numaperf__span_state */
    uint32_t size_class;   /* of a span that is not FREE or LARGE */
    uint32_t reserved;     /* bytes at the start that never become blocks */
    uint32_t first;        /* offset of the first block, from the start of the span */
    uint32_t reciprocal;   /* of block_bytes: offset * reciprocal >> 32 is the block's index */
    uint32_t block_count;  /* that fit */
    uint32_t carved_count; /* blocks below this index were handed out at least once */
    uint32_t used_count;   /* blocks handed out now */
    uint64_t used_bits[NUMAPERF__SPAN_BYTES / 16 / 64]; /* by block index */
};

static inline struct numaperf__span *numaperf__span_of(const void *block)
{
    return (struct numaperf__span *)((uintptr_t)block & ~(uintptr_t)(NUMAPERF__SPAN_BYTES - 1));
}

/* Make a FREE span out of raw memory; `reserved` bytes at its start are kept, header included. */
void numaperf__span_init(struct numaperf__span *span, struct numaperf_arena *arena,
                         struct numaperf__arena_chunk *chunk, size_t length, size_t reserved);

/* Whether at least one block of the class fits. */
bool numaperf__span_fits(const struct numaperf__span *span, uint32_t size_class);

/* Give a FREE span, in no list any more, to a class: it becomes CURRENT. */
void numaperf__span_assign(struct numaperf__span *span, uint32_t size_class);

void numaperf__span_set_state(struct numaperf__span *span, enum numaperf__span_state from,
                              enum numaperf__span_state to);

/* Take a block back that is in use; asserts that it is. */
void numaperf__span_put(struct numaperf__span *span, void *block);

/* Check the whole span against itself. */
void numaperf__span_validate(const struct numaperf__span *span);

static inline bool numaperf__span_has_room(const struct numaperf__span *span)
{
    return span->free_block != NULL || span->carved_count < span->block_count;
}

/* Index of the block, exact for the start of one. */
static inline uint32_t numaperf__span_index(const struct numaperf__span *span, uint32_t offset)
{
    return (uint32_t)(((uint64_t)offset * span->reciprocal) >> 32);
}

/* A block, or NULL when there is no room. Returned blocks go first: they are in the cache. */
static inline void *numaperf__span_take(struct numaperf__span *span)
{
    uint32_t index = span->carved_count;
    char *block = span->free_block;
    if (block != NULL) {
        span->free_block = numaperf__link_get(block);
        index = numaperf__span_index(span, (uint32_t)(block - (char *)span) - span->first);
    } else {
        if (index == span->block_count)
            return NULL;
        span->carved_count++;
        block = (char *)span + span->first + index * span->block_bytes;
    }
    NUMAPERF_ASSERT_HOT((span->used_bits[index / 64] >> (index % 64) & 1) == 0);
    span->used_bits[index / 64] |= (uint64_t)1 << (index % 64);
    span->used_count++;
    return block;
}

#endif
