/* SPDX-License-Identifier: MIT */
/*
 * Walks a whole arena and asserts that it is consistent: every unit is free or belongs to one
 * span or run, blocks in magazines are out of their spans, and the sums are the counters. For
 * tests: slow.
 *
 * Threads: owner, while others may free.
 */
#include "place/arena_blocks.h"

/* What the walk adds up. */
struct validate_sum {
    uint64_t out_bytes;
    uint64_t mapped_bytes;
    uint64_t chunk_count;
};

static void validate_span(const numaperf_arena_t *arena, const struct numaperf__arena_chunk *chunk,
                          const struct numaperf__span *span, struct validate_sum *io_sum)
{
    NUMAPERF_ASSERT(span->arena == arena);
    NUMAPERF_ASSERT(span->chunk == chunk);
    numaperf__span_validate(span);
    NUMAPERF_ASSERT((span->state == NUMAPERF__SPAN_CURRENT) ==
                    (arena->current[span->size_class] == span));
    io_sum->out_bytes += span->used_count * span->block_bytes;
}

/* How many units from this one on belong together. */
static uint32_t validate_unit(const numaperf_arena_t *arena,
                              const struct numaperf__arena_chunk *chunk, uint32_t unit,
                              struct validate_sum *io_sum)
{
    const struct numaperf__segment *segment = &chunk->segments[unit / NUMAPERF__SEGMENT_UNITS];
    uint32_t place = unit % NUMAPERF__SEGMENT_UNITS;
    uint32_t run_units = segment->run_units[place];
    if ((segment->free_units >> place & 1) != 0) {
        NUMAPERF_ASSERT(run_units == 0);
        return 1;
    }
    if (run_units > 0) {
        uint32_t bits = (((uint32_t)1 << run_units) - 1) << place;
        NUMAPERF_ASSERT((segment->free_units & bits) == 0);
        NUMAPERF_ASSERT((segment->run_mask & bits) == bits);
        io_sum->out_bytes += run_units * NUMAPERF__SPAN_BYTES;
        return run_units;
    }
    const char *at = chunk->base + unit * NUMAPERF__SPAN_BYTES;
    validate_span(arena, chunk, (const struct numaperf__span *)at, io_sum);
    return 1;
}

static void validate_chunk(const numaperf_arena_t *arena, const struct numaperf__arena_chunk *chunk,
                           struct validate_sum *io_sum)
{
    io_sum->mapped_bytes += chunk->length;
    io_sum->chunk_count++;
    if (chunk->segment_count == 0) {
        const struct numaperf__span *span = (const struct numaperf__span *)chunk->base;
        NUMAPERF_ASSERT(span->state == NUMAPERF__SPAN_LARGE);
        io_sum->out_bytes += span->block_bytes;
        return;
    }
    uint32_t unit_count =
        (uint32_t)((chunk->length + NUMAPERF__SPAN_BYTES - 1) / NUMAPERF__SPAN_BYTES);
    uint32_t free_count = 0;
    for (uint32_t i = 0; i < chunk->segment_count; i++)
        free_count += (uint32_t)__builtin_popcount(chunk->segments[i].free_units);
    NUMAPERF_ASSERT(free_count == chunk->free_unit_count);
    NUMAPERF_ASSERT((free_count > 0) == !numaperf__list_empty(&chunk->roomy));
    for (uint32_t unit = 0; unit < unit_count;)
        unit += validate_unit(arena, chunk, unit, io_sum);
}

static void validate_blocks(const struct numaperf__magazine *magazine, void *const *blocks,
                            uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct numaperf__span *span = numaperf__span_of(blocks[i]);
        uint32_t index = numaperf__span_index_of(span, blocks[i]);
        NUMAPERF_ASSERT(span->magazine == magazine);
        NUMAPERF_ASSERT((span->free_bits[index / 64] >> (index % 64) & 1) == 0);
    }
}

void numaperf__arena_validate(numaperf_arena_t *arena)
{
    struct validate_sum sum = {0};
    (void)pthread_mutex_lock(&arena->mutex); /* a default mutex, never locked twice: cannot fail */
    const struct numaperf__list *head = &arena->chunks;
    for (const struct numaperf__list *at = head->next; at != head; at = at->next)
        validate_chunk(arena, NUMAPERF_CONTAINER_OF(at, struct numaperf__arena_chunk, link), &sum);
    (void)pthread_mutex_unlock(&arena->mutex); /* as above */
    for (uint32_t i = 0; arena->magazines != NULL && i < NUMAPERF__MAGAZINE_COUNT; i++) {
        const struct numaperf__magazine *magazine = &arena->magazines[i];
        validate_blocks(magazine, numaperf__magazine_get(&magazine->take_base),
                        numaperf__magazine_take_count(magazine));
        validate_blocks(magazine, numaperf__magazine_get(&magazine->put_base),
                        numaperf__magazine_put_count(magazine));
    }
    NUMAPERF_ASSERT(numaperf__magazine_take_count(&arena->no_magazine) == 0);
    NUMAPERF_ASSERT(numaperf__magazine_put_count(&arena->no_magazine) == 0);
    NUMAPERF_ASSERT(sum.out_bytes == numaperf__counter_get(&arena->counters.out_bytes));
    NUMAPERF_ASSERT(sum.mapped_bytes == numaperf__counter_get(&arena->counters.mapped_bytes));
    NUMAPERF_ASSERT(sum.chunk_count == numaperf__counter_get(&arena->counters.chunk_count));
    NUMAPERF_ASSERT(arena->limit_bytes == 0 || sum.mapped_bytes <= arena->limit_bytes);
}
