/* SPDX-License-Identifier: MIT */
/*
 * Blocks too big for a span, as their arena's owner allocates and frees them. Up to half a chunk,
 * at most 1 MiB, they are runs of units of 64 KiB in the arena's chunks, used again when they come
 * back. Above, or when the limit leaves no chunk that they fit into, they have a region of their
 * own, which goes with them; it starts with the header of a span in state LARGE, so that freeing
 * finds the arena in the same way as for small blocks.
 *
 * Invariant: a run starts on a multiple of 64 KiB and no other block does.
 *
 * Threads: owner.
 */
#include "base/error.h"
#include "place/arena_blocks.h"
#include "place/pages.h"

#include <errno.h>
#include <inttypes.h>

/* ---- runs ---- */

/* In order of cost; NULL when even the limit must be stretched, nothing recorded that matters. */
static void *big_find_run(numaperf_arena_t *arena, uint32_t unit_count)
{
    void *block = numaperf__arena_take_run(arena, unit_count);
    if (block != NULL)
        return block;
    numaperf__arena_collect_spans(arena, UINT64_MAX);
    numaperf__arena_give_up_stock(arena);
    block = numaperf__arena_take_run(arena, unit_count);
    if (block != NULL)
        return block;
    if (numaperf__arena_grow_for_run(arena, unit_count) < 0)
        return NULL;
    block = numaperf__arena_take_run(arena, unit_count);
    NUMAPERF_ASSERT(block != NULL);
    return block;
}

static void *big_alloc_run(numaperf_arena_t *arena, size_t size)
{
    uint32_t unit_count = (uint32_t)((size + NUMAPERF__SPAN_BYTES - 1) / NUMAPERF__SPAN_BYTES);
    void *block = big_find_run(arena, unit_count);
    if (block == NULL)
        return NULL;
    numaperf__poison(block, unit_count * NUMAPERF__SPAN_BYTES);
    numaperf__unpoison(block, size);
    numaperf__counter_add(&arena->counters.out_bytes, unit_count * NUMAPERF__SPAN_BYTES);
    return block;
}

/* ---- regions ---- */

static uint64_t round_up(uint64_t bytes, uint64_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

/* Room for so many bytes in small pages, or in huge ones where at least half of them is used. */
static uint64_t large_granule(const numaperf_arena_t *arena, uint64_t bytes)
{
    uint64_t small = numaperf__page_bytes();
    return round_up(bytes, arena->granule_bytes) / 2 <= bytes ? arena->granule_bytes : small;
}

/* Map it; `first` bytes are before the block. */
static int large_map(numaperf_arena_t *arena, size_t size, size_t first,
                     struct numaperf__arena_chunk **out_chunk)
{
    uint64_t granule = size < SIZE_MAX / 2 ? large_granule(arena, first + size) : 1;
    size_t room = numaperf__arena_room(arena, granule);
    if (size > room || first > room - size || round_up(first + size, granule) > room)
        return numaperf__fail(
            -ENOMEM, 0, "arena",
            "%zu bytes asked, limit_bytes: %" PRIu64 " bytes are mapped of %" PRIu64 " allowed",
            size, numaperf__counter_get(&arena->counters.mapped_bytes), arena->limit_bytes);
    numaperf_region_config_t config = arena->region_config;
    if (granule < arena->granule_bytes)
        config.huge_pages = NUMAPERF_HUGE_DEFAULT;
    return numaperf__chunk_map(&config, arena->unplaced_reason,
                               (size_t)round_up(first + size, granule), true, out_chunk);
}

static void *big_alloc_large(numaperf_arena_t *arena, size_t size, size_t align)
{
    struct numaperf__arena_chunk *chunk = NULL;
    size_t first = (size_t)round_up(sizeof(struct numaperf__span), align);
    if (large_map(arena, size, first, &chunk) < 0)
        return NULL;
    NUMAPERF_ASSERT(chunk != NULL);
    numaperf__arena_add_chunk(arena, chunk);

    struct numaperf__span *span = (struct numaperf__span *)chunk->base;
    numaperf__span_found(span, arena, chunk);
    span->state = NUMAPERF__SPAN_LARGE;
    span->magazine = &arena->no_magazine;
    span->key = 0;
    span->first = (uint32_t)first;
    span->block_bytes = chunk->length - first;
    numaperf__counter_add(&arena->counters.out_bytes, span->block_bytes);
    numaperf__poison(chunk->base + sizeof(*span), chunk->length - sizeof(*span));
    numaperf__unpoison(chunk->base + first, size);
    NUMAPERF_ASSERT(!numaperf__arena_is_run(chunk->base + first));
    return chunk->base + first;
}

/* ---- both ---- */

void *numaperf__arena_alloc_big(numaperf_arena_t *arena, size_t size, size_t align)
{
    /* What was freed elsewhere is still mapped, or taken, until now. */
    numaperf__arena_collect_big(arena, UINT64_MAX);
    void *block = NULL;
    if (size <= arena->run_bytes_max)
        block = big_alloc_run(arena, size);
    if (block == NULL)
        block = big_alloc_large(arena, size, align);
    if (block == NULL)
        return NULL;
    numaperf__counter_add(&arena->counters.alloc_count, 1);
    numaperf__arena_note_taken(arena);
    return block;
}

void numaperf__arena_free_big(numaperf_arena_t *arena, void *block)
{
    numaperf__counter_add(&arena->counters.free_count, 1);
    if (numaperf__arena_is_run(block)) {
        size_t bytes = numaperf__arena_put_run(arena, block) * NUMAPERF__SPAN_BYTES;
        numaperf__poison(block, bytes);
        numaperf__counter_sub(&arena->counters.out_bytes, bytes);
        return;
    }
    struct numaperf__span *span = numaperf__span_of(block);
    NUMAPERF_ASSERT(span->state == NUMAPERF__SPAN_LARGE);
    NUMAPERF_ASSERT((char *)block == (char *)span + span->first);
    struct numaperf__arena_chunk *chunk = span->chunk;
    numaperf__counter_sub(&arena->counters.out_bytes, span->block_bytes);
    numaperf__arena_remove_chunk(arena, chunk);
    numaperf__chunk_unmap(chunk);
}
