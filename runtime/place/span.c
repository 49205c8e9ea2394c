/* SPDX-License-Identifier: MIT */
/*
 * Spans, as seen by the owner of their arena.
 *
 * A block's span is found by masking its address, and its index by one multiplication, so giving
 * a block back is O(1) however many chunks there are. One bit a block says whether it is in use:
 * a block that is freed twice, or a pointer into the middle of one, fails an assertion instead of
 * corrupting the chain of returned blocks.
 *
 *   FREE -> CURRENT (a class takes it)       CURRENT -> FULL (no room when a block was wanted)
 *   FULL -> PARTIAL (a block came back)      PARTIAL -> CURRENT (its class needs room again)
 *   PARTIAL -> FREE (its last block came back)   CURRENT -> FREE (empty, and memory is short)
 *
 * Threads: owner, except the fields that struct numaperf__span says any thread may read.
 */
#include "place/span.h"

#include "place/size_class.h"

#include <string.h>

#define BLOCK_ALIGN_MAX 4096

static const bool span_edges[4][4] = {
    [NUMAPERF__SPAN_FREE] = {[NUMAPERF__SPAN_CURRENT] = true},
    [NUMAPERF__SPAN_CURRENT] = {[NUMAPERF__SPAN_FULL] = true, [NUMAPERF__SPAN_FREE] = true},
    [NUMAPERF__SPAN_PARTIAL] = {[NUMAPERF__SPAN_CURRENT] = true, [NUMAPERF__SPAN_FREE] = true},
    [NUMAPERF__SPAN_FULL] = {[NUMAPERF__SPAN_PARTIAL] = true},
};

void numaperf__span_set_state(struct numaperf__span *span, enum numaperf__span_state from,
                              enum numaperf__span_state to)
{
    NUMAPERF_ASSERT(span->state == (uint32_t)from);
    NUMAPERF_ASSERT(from < NUMAPERF__SPAN_LARGE && to < NUMAPERF__SPAN_LARGE);
    NUMAPERF_ASSERT(span_edges[from][to]);
    span->state = (uint32_t)to;
}

void numaperf__span_init(struct numaperf__span *span, struct numaperf_arena *arena,
                         struct numaperf__arena_chunk *chunk, size_t length, size_t reserved)
{
    NUMAPERF_ASSERT((uintptr_t)span % NUMAPERF__SPAN_BYTES == 0);
    NUMAPERF_ASSERT(length <= NUMAPERF__SPAN_BYTES);
    NUMAPERF_ASSERT(reserved >= sizeof(*span) && reserved <= length);

    memset(span, 0, sizeof(*span));
    span->arena = arena;
    span->magic = NUMAPERF__SPAN_MAGIC;
    span->length = (uint32_t)length;
    span->chunk = chunk;
    span->state = NUMAPERF__SPAN_FREE;
    span->reserved = (uint32_t)reserved;
    numaperf__poison((char *)span + reserved, length - reserved);
}

/* Blocks start at the alignment that every block of the class then has. */
static uint32_t span_first(const struct numaperf__span *span, uint32_t block_bytes)
{
    uint32_t align = block_bytes & (~block_bytes + 1);
    if (align > BLOCK_ALIGN_MAX)
        align = BLOCK_ALIGN_MAX;
    return (span->reserved + align - 1) / align * align;
}

bool numaperf__span_fits(const struct numaperf__span *span, uint32_t size_class)
{
    uint32_t block_bytes = numaperf__size_class_bytes(size_class);
    return span_first(span, block_bytes) + block_bytes <= span->length;
}

void numaperf__span_assign(struct numaperf__span *span, uint32_t size_class)
{
    NUMAPERF_ASSERT(numaperf__span_fits(span, size_class));
    NUMAPERF_ASSERT(span->used_count == 0);

    uint32_t block_bytes = numaperf__size_class_bytes(size_class);
    span->size_class = size_class;
    span->block_bytes = block_bytes;
    span->first = span_first(span, block_bytes);
    span->reciprocal = (uint32_t)(((uint64_t)1 << 32) / block_bytes) + 1;
    span->block_count = (span->length - span->first) / block_bytes;
    span->carved_count = 0;
    span->free_block = NULL;
    numaperf__span_set_state(span, NUMAPERF__SPAN_FREE, NUMAPERF__SPAN_CURRENT);
}

void numaperf__span_put(struct numaperf__span *span, void *block)
{
    uint32_t offset = (uint32_t)((char *)block - (char *)span) - span->first;
    uint32_t index = numaperf__span_index(span, offset);
    uint64_t bit = (uint64_t)1 << (index % 64);
    NUMAPERF_ASSERT(index < span->carved_count);               /* a block of this span */
    NUMAPERF_ASSERT(index * span->block_bytes == offset);      /* its start */
    NUMAPERF_ASSERT((span->used_bits[index / 64] & bit) != 0); /* not freed already */
    NUMAPERF_ASSERT_HOT(span->used_count > 0);

    span->used_bits[index / 64] &= ~bit;
    span->used_count--;
    numaperf__link_set(block, span->free_block);
    span->free_block = block;
}

void numaperf__span_validate(const struct numaperf__span *span)
{
    NUMAPERF_ASSERT(span->magic == NUMAPERF__SPAN_MAGIC);
    NUMAPERF_ASSERT(span->state < NUMAPERF__SPAN_LARGE);
    uint32_t used = 0;
    for (size_t i = 0; i < sizeof(span->used_bits) / sizeof(span->used_bits[0]); i++)
        used += (uint32_t)__builtin_popcountll(span->used_bits[i]);
    NUMAPERF_ASSERT(used == span->used_count);
    if (span->state == NUMAPERF__SPAN_FREE) {
        NUMAPERF_ASSERT(used == 0);
        return;
    }
    uint32_t returned = 0;
    for (const void *block = span->free_block; block != NULL; block = numaperf__link_get(block)) {
        NUMAPERF_ASSERT(numaperf__span_of(block) == span);
        NUMAPERF_ASSERT(returned < span->carved_count); /* else the chain is a ring */
        returned++;
    }
    NUMAPERF_ASSERT(used + returned == span->carved_count);
    NUMAPERF_ASSERT(span->carved_count <= span->block_count);
    NUMAPERF_ASSERT(span->state != NUMAPERF__SPAN_FULL || used == span->block_count);
    NUMAPERF_ASSERT(span->state != NUMAPERF__SPAN_PARTIAL ||
                    (used > 0 && used < span->block_count));
}
