/* SPDX-License-Identifier: MIT */
/*
 * Spans, as seen by the owner of their arena.
 *
 * A block's span is found by masking its address, and its index by one multiplication, so giving
 * a block back is O(1) however many chunks there are. One bit a block says whether it is free, and
 * nothing is ever written into a free block: the owner learns of blocks that come back from other
 * threads without fetching them into its cache. A block that comes back twice, or a pointer into
 * the middle of one, fails an assertion here.
 *
 *   FREE -> CURRENT (a class takes it)       CURRENT -> FULL (no room when blocks were wanted)
 *   FULL -> PARTIAL (a block came back)      PARTIAL -> CURRENT (its class needs room again)
 *   PARTIAL -> FREE (its last block came back)   CURRENT -> FREE (empty, and memory is short)
 *
 * Threads: owner, except the fields that struct numaperf__span says any thread may read or write.
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

void numaperf__span_found(struct numaperf__span *span, struct numaperf_arena *arena,
                          struct numaperf__arena_chunk *chunk)
{
    NUMAPERF_ASSERT((uintptr_t)span % NUMAPERF__SPAN_BYTES == 0);
    numaperf__unpoison(span, sizeof(*span));
    span->arena = arena;
    span->chunk = chunk;
    span->magic = NUMAPERF__SPAN_MAGIC;
}

/* Blocks start at the alignment that every block of the class then has. */
static uint32_t span_first(size_t reserved, uint32_t block_bytes)
{
    uint32_t align = block_bytes & (~block_bytes + 1);
    if (align > BLOCK_ALIGN_MAX)
        align = BLOCK_ALIGN_MAX;
    return ((uint32_t)reserved + align - 1) / align * align;
}

bool numaperf__span_fits(size_t length, size_t reserved, uint32_t size_class)
{
    uint32_t block_bytes = numaperf__size_class_bytes(size_class);
    return span_first(reserved, block_bytes) + block_bytes <= length;
}

static void span_free_all_blocks(struct numaperf__span *span)
{
    uint32_t full_words = span->block_count / 64;
    uint32_t rest = span->block_count % 64;
    span->word_count = (span->block_count + 63) / 64;
    memset(span->free_bits, 0xff, full_words * sizeof(span->free_bits[0]));
    if (rest > 0)
        span->free_bits[full_words] = ((uint64_t)1 << rest) - 1;
    for (uint32_t i = 0; i < span->word_count; i++)
        atomic_init(&span->remote_bits[i], 0);
    atomic_init(&span->remote_words, 0);
}

void numaperf__span_assign(struct numaperf__span *span, size_t length, size_t reserved,
                           uint32_t size_class, struct numaperf__magazine *magazine)
{
    NUMAPERF_ASSERT(span->magic == NUMAPERF__SPAN_MAGIC);
    NUMAPERF_ASSERT(length <= NUMAPERF__SPAN_BYTES);
    NUMAPERF_ASSERT(reserved >= sizeof(*span) && reserved < length);
    NUMAPERF_ASSERT(numaperf__span_fits(length, reserved, size_class));

    uint32_t block_bytes = numaperf__size_class_bytes(size_class);
    span->length = (uint32_t)length;
    span->size_class = size_class;
    span->block_bytes = block_bytes;
    span->magazine = magazine;
    span->key = 0;
    span->first = span_first(reserved, block_bytes);
    span->reciprocal = (uint32_t)(((uint64_t)1 << 32) / block_bytes) + 1;
    span->block_count = ((uint32_t)length - span->first) / block_bytes;
    span->used_count = 0;
    span->word = 0;
    span->remote_next = NULL;
    numaperf__list_init(&span->link);
    span_free_all_blocks(span);
    span->state = NUMAPERF__SPAN_FREE;
    numaperf__span_set_state(span, NUMAPERF__SPAN_FREE, NUMAPERF__SPAN_CURRENT);
    numaperf__poison((char *)span + reserved, length - reserved);
}

uint32_t numaperf__span_take(struct numaperf__span *span, void **out_blocks, uint32_t count_max)
{
    uint32_t count = 0;
    uint32_t word = span->word;
    while (word < span->word_count && count < count_max) {
        char *base = (char *)span + span->first + (size_t)word * 64 * span->block_bytes;
        uint64_t bits = span->free_bits[word];
        while (bits != 0 && count < count_max) {
            out_blocks[count++] = base + (uint32_t)__builtin_ctzll(bits) * span->block_bytes;
            bits &= bits - 1;
        }
        span->free_bits[word] = bits;
        if (bits == 0)
            word++;
    }
    span->word = word;
    span->used_count += count;
    NUMAPERF_ASSERT_HOT(span->used_count <= span->block_count);
    return count;
}

uint32_t numaperf__span_put_word(struct numaperf__span *span, uint32_t word, uint64_t bits)
{
    uint32_t count = (uint32_t)__builtin_popcountll(bits);
    NUMAPERF_ASSERT((span->free_bits[word] & bits) == 0); /* none was free already */
    NUMAPERF_ASSERT(span->used_count >= count);
    span->free_bits[word] |= bits;
    span->used_count -= count;
    if (word < span->word)
        span->word = word;
    return count;
}

void numaperf__span_put(struct numaperf__span *span, void *block)
{
    uint32_t index = numaperf__span_index_of(span, block);
    (void)numaperf__span_put_word(span, index / 64, (uint64_t)1 << (index % 64)); /* it is one */
}

void numaperf__span_validate(const struct numaperf__span *span)
{
    NUMAPERF_ASSERT(span->magic == NUMAPERF__SPAN_MAGIC);
    NUMAPERF_ASSERT(span->state != NUMAPERF__SPAN_FREE);
    NUMAPERF_ASSERT(span->state < NUMAPERF__SPAN_LARGE);
    uint32_t free_count = 0;
    for (uint32_t i = 0; i < span->word_count; i++) {
        uint64_t bits = span->free_bits[i];
        free_count += (uint32_t)__builtin_popcountll(bits);
        NUMAPERF_ASSERT(bits == 0 || i >= span->word);
        /* Relaxed: a bit that is there now was set by who had the block. */
        NUMAPERF_ASSERT(
            (bits & atomic_load_explicit(&span->remote_bits[i], memory_order_relaxed)) == 0);
    }
    NUMAPERF_ASSERT(free_count + span->used_count == span->block_count);
    NUMAPERF_ASSERT(span->state != NUMAPERF__SPAN_FULL || free_count == 0);
    NUMAPERF_ASSERT(span->state != NUMAPERF__SPAN_PARTIAL ||
                    (free_count > 0 && span->used_count > 0));
}
