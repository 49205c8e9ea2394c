/* SPDX-License-Identifier: MIT */
/*
 * Growth of an arena: chunks are regions, mapped under the same enforcement as the first one.
 *
 * A chunk is cut at multiples of 2 MiB into segments, and these into units of 64 KiB. A unit is
 * free, a span, or part of a run, which is a block too big for a span. A run starts where a span
 * would have its header, and that is how its address is told from a block's; its length stands in
 * the chunk's record, which is found through the header at the start of the segment. So the first
 * unit of a segment is never part of a run. Spans take the lowest free unit and runs the highest
 * that do, so that runs find neighbours and pages are not touched before they have a use. Chunks
 * stay until the arena is destroyed; the region of a large block goes with it.
 *
 * Invariants: chunks of one arena never map more than its limit; a unit is free, or belongs to
 * exactly one span or run; a chunk is in the roomy list while it has a free unit.
 *
 * Threads: owner, apart from numaperf_arena_audit(), which walks the chunks under the mutex, and
 * the length of a run, which whoever frees it may ask.
 */
#include "place/arena_chunk.h"

#include "base/config.h"
#include "base/error.h"
#include "place/enforce.h"
#include "place/pages.h"
#include "place/range.h"
#include "place/region.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

_Static_assert(NUMAPERF__SEGMENT_BYTES / NUMAPERF__SPAN_BYTES == NUMAPERF__SEGMENT_UNITS,
               "units of a segment");

/* ---- mapping ---- */

static uint32_t chunk_unit_count(size_t length)
{
    return (uint32_t)((length + NUMAPERF__SPAN_BYTES - 1) / NUMAPERF__SPAN_BYTES);
}

/* All units are free; those that are whole, and have no segment's header, may become runs. */
static void chunk_free_units(struct numaperf__arena_chunk *chunk)
{
    uint32_t unit_count = chunk_unit_count(chunk->length);
    uint32_t whole_count = (uint32_t)(chunk->length / NUMAPERF__SPAN_BYTES);
    for (uint32_t unit = 0; unit < unit_count; unit++) {
        struct numaperf__segment *segment = &chunk->segments[unit / NUMAPERF__SEGMENT_UNITS];
        uint32_t bit = (uint32_t)1 << (unit % NUMAPERF__SEGMENT_UNITS);
        segment->free_units |= bit;
        if (bit != 1 && unit < whole_count)
            segment->run_mask |= bit;
    }
    chunk->free_unit_count = unit_count;
}

int numaperf__chunk_map(const numaperf_region_config_t *config, const char *unplaced_reason,
                        size_t length, bool is_large, struct numaperf__arena_chunk **out_chunk)
{
    size_t segments = (length + NUMAPERF__SEGMENT_BYTES - 1) / NUMAPERF__SEGMENT_BYTES;
    struct numaperf__arena_chunk *chunk =
        calloc(1, sizeof(*chunk) + (is_large ? 0 : segments * sizeof(chunk->segments[0])));
    if (chunk == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "arena", "chunk record");
    numaperf_region_config_t cfg = *config;
    cfg.length = length;
    /* Without two units there is no run, and nobody looks for the start of a segment. */
    bool has_runs = !is_large && length >= 2 * NUMAPERF__SPAN_BYTES;
    const struct numaperf__region_extra extra = {.align_bytes = has_runs ? NUMAPERF__SEGMENT_BYTES
                                                                         : NUMAPERF__SPAN_BYTES,
                                                 .unplaced_reason = unplaced_reason};
    int rc = numaperf__region_create(&cfg, &extra, &chunk->region);
    if (rc < 0) {
        free(chunk);
        return rc;
    }
    numaperf__list_init(&chunk->link);
    numaperf__list_init(&chunk->roomy);
    chunk->base = numaperf_region_data(chunk->region);
    chunk->length = numaperf_region_length(chunk->region);
    /* A region that was made of huge pages is not longer than asked: the length is of granules. */
    NUMAPERF_ASSERT(chunk->length == length);
    NUMAPERF_ASSERT((uintptr_t)chunk->base % extra.align_bytes == 0);
    chunk->segment_count = is_large ? 0 : (uint32_t)segments;
    if (!is_large)
        chunk_free_units(chunk);
    *out_chunk = chunk;
    return 0;
}

void numaperf__chunk_unmap(struct numaperf__arena_chunk *chunk)
{
    numaperf__unpoison(chunk->base, chunk->length); /* who maps there next knows of no arena */
    numaperf_region_destroy(chunk->region);
    free(chunk);
}

void numaperf__arena_add_chunk(numaperf_arena_t *arena, struct numaperf__arena_chunk *chunk)
{
    struct numaperf__arena_counters *counters = &arena->counters;
    for (uint32_t i = 0; i < chunk->segment_count; i++)
        numaperf__span_found((struct numaperf__span *)(chunk->base + i * NUMAPERF__SEGMENT_BYTES),
                             arena, chunk);
    if (chunk->segment_count > 0)
        numaperf__list_push_back(&arena->roomy, &chunk->roomy);
    (void)pthread_mutex_lock(&arena->mutex); /* a default mutex, never locked twice: cannot fail */
    numaperf__list_push_back(&arena->chunks, &chunk->link);
    (void)pthread_mutex_unlock(&arena->mutex);
    numaperf__counter_add(&counters->chunk_count, 1);
    numaperf__counter_add(&counters->mapped_bytes, chunk->length);
    numaperf__enforce_lower(&arena->enforcement, numaperf_region_enforcement(chunk->region));
}

void numaperf__arena_remove_chunk(numaperf_arena_t *arena, struct numaperf__arena_chunk *chunk)
{
    struct numaperf__arena_counters *counters = &arena->counters;
    NUMAPERF_ASSERT(chunk->segment_count == 0);
    (void)pthread_mutex_lock(&arena->mutex); /* as above */
    numaperf__list_remove(&chunk->link);
    (void)pthread_mutex_unlock(&arena->mutex);
    numaperf__counter_sub(&counters->mapped_bytes, chunk->length);
    numaperf__counter_sub(&counters->chunk_count, 1);
}

size_t numaperf__arena_room(const numaperf_arena_t *arena, uint64_t granule_bytes)
{
    if (arena->limit_bytes == 0)
        return SIZE_MAX / granule_bytes * granule_bytes;
    uint64_t mapped = numaperf__counter_get(&arena->counters.mapped_bytes);
    uint64_t room = arena->limit_bytes > mapped ? arena->limit_bytes - mapped : 0;
    return (size_t)(room / granule_bytes * granule_bytes);
}

/* A last chunk may be smaller than the others: what the limit leaves, if it is `length_min`. */
static int arena_grow(numaperf_arena_t *arena, size_t length_min)
{
    size_t room = numaperf__arena_room(arena, arena->granule_bytes);
    size_t length = arena->chunk_bytes < room ? (size_t)arena->chunk_bytes : room;
    if (length < length_min)
        return numaperf__fail(
            -ENOMEM, 0, "arena", "limit_bytes: %" PRIu64 " bytes are mapped of %" PRIu64 " allowed",
            numaperf__counter_get(&arena->counters.mapped_bytes), arena->limit_bytes);
    struct numaperf__arena_chunk *chunk = NULL;
    int rc =
        numaperf__chunk_map(&arena->region_config, arena->unplaced_reason, length, false, &chunk);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(chunk != NULL);
    numaperf__arena_add_chunk(arena, chunk);
    return 0;
}

int numaperf__arena_grow_for_class(numaperf_arena_t *arena, uint32_t size_class)
{
    size_t length_min =
        sizeof(struct numaperf__span) + 2 * (size_t)numaperf__size_class_bytes(size_class);
    return arena_grow(arena, length_min < NUMAPERF__SPAN_BYTES ? length_min : NUMAPERF__SPAN_BYTES);
}

int numaperf__arena_grow_for_run(numaperf_arena_t *arena, uint32_t unit_count)
{
    NUMAPERF_ASSERT(unit_count < NUMAPERF__SEGMENT_UNITS);
    return arena_grow(arena, ((size_t)unit_count + 1) * NUMAPERF__SPAN_BYTES);
}

/* ---- units ---- */

static uint32_t chunk_unit_of(const struct numaperf__arena_chunk *chunk, const void *at)
{
    size_t offset = (size_t)((const char *)at - chunk->base);
    NUMAPERF_ASSERT(offset < chunk->length);
    return (uint32_t)(offset / NUMAPERF__SPAN_BYTES);
}

static size_t chunk_unit_bytes(const struct numaperf__arena_chunk *chunk, uint32_t unit)
{
    size_t left = chunk->length - unit * NUMAPERF__SPAN_BYTES;
    return left < NUMAPERF__SPAN_BYTES ? left : NUMAPERF__SPAN_BYTES;
}

static size_t arena_unit_reserved(const numaperf_arena_t *arena,
                                  const struct numaperf__arena_chunk *chunk, uint32_t unit)
{
    return chunk == arena->first_chunk && unit == 0 ? arena->reserved_bytes
                                                    : sizeof(struct numaperf__span);
}

static void chunk_take_units(struct numaperf__arena_chunk *chunk, uint32_t unit, uint32_t count)
{
    struct numaperf__segment *segment = &chunk->segments[unit / NUMAPERF__SEGMENT_UNITS];
    uint32_t bits = (((uint32_t)1 << count) - 1) << (unit % NUMAPERF__SEGMENT_UNITS);
    NUMAPERF_ASSERT((segment->free_units & bits) == bits);
    NUMAPERF_ASSERT(chunk->free_unit_count >= count);
    segment->free_units &= ~bits;
    chunk->free_unit_count -= count;
    if (chunk->free_unit_count == 0)
        numaperf__list_remove(&chunk->roomy);
}

static void chunk_put_units(numaperf_arena_t *arena, struct numaperf__arena_chunk *chunk,
                            uint32_t unit, uint32_t count)
{
    struct numaperf__segment *segment = &chunk->segments[unit / NUMAPERF__SEGMENT_UNITS];
    uint32_t bits = (((uint32_t)1 << count) - 1) << (unit % NUMAPERF__SEGMENT_UNITS);
    NUMAPERF_ASSERT((segment->free_units & bits) == 0);
    if (chunk->free_unit_count == 0)
        numaperf__list_push_back(&arena->roomy, &chunk->roomy);
    segment->free_units |= bits;
    chunk->free_unit_count += count;
}

/* The lowest free unit of the segment that the class fits into; none: UINT32_MAX. Only the first
 * unit of an arena and the last of a chunk can be too short for a class. */
static uint32_t segment_find_unit(const numaperf_arena_t *arena,
                                  const struct numaperf__arena_chunk *chunk, uint32_t segment_index,
                                  uint32_t size_class)
{
    uint32_t bits = chunk->segments[segment_index].free_units;
    for (; bits != 0; bits &= bits - 1) {
        uint32_t unit = segment_index * NUMAPERF__SEGMENT_UNITS + (uint32_t)__builtin_ctz(bits);
        if (numaperf__span_fits(chunk_unit_bytes(chunk, unit),
                                arena_unit_reserved(arena, chunk, unit), size_class))
            return unit;
    }
    return UINT32_MAX;
}

static uint32_t chunk_find_unit(const numaperf_arena_t *arena,
                                const struct numaperf__arena_chunk *chunk, uint32_t size_class)
{
    for (uint32_t i = 0; i < chunk->segment_count; i++) {
        uint32_t unit = segment_find_unit(arena, chunk, i, size_class);
        if (unit != UINT32_MAX)
            return unit;
    }
    return UINT32_MAX;
}

struct numaperf__span *numaperf__arena_take_unit(numaperf_arena_t *arena, uint32_t size_class,
                                                 struct numaperf__magazine *magazine)
{
    struct numaperf__arena_chunk *chunk = NULL;
    uint32_t unit = UINT32_MAX;
    const struct numaperf__list *head = &arena->roomy;
    for (const struct numaperf__list *at = head->next; at != head && unit == UINT32_MAX;
         at = at->next) {
        chunk = NUMAPERF_CONTAINER_OF(at, struct numaperf__arena_chunk, roomy);
        unit = chunk_find_unit(arena, chunk, size_class);
    }
    if (unit == UINT32_MAX)
        return NULL;

    struct numaperf__span *span =
        (struct numaperf__span *)(chunk->base + unit * NUMAPERF__SPAN_BYTES);
    /* The header of a segment is being read by who frees a run of it. */
    if (unit % NUMAPERF__SEGMENT_UNITS != 0)
        numaperf__span_found(span, arena, chunk);
    numaperf__span_assign(span, chunk_unit_bytes(chunk, unit),
                          arena_unit_reserved(arena, chunk, unit), size_class, magazine);
    chunk_take_units(chunk, unit, 1);
    return span;
}

void numaperf__arena_put_unit(numaperf_arena_t *arena, struct numaperf__span *span)
{
    NUMAPERF_ASSERT(span->state == NUMAPERF__SPAN_FREE);
    NUMAPERF_ASSERT(span->used_count == 0);
    chunk_put_units(arena, span->chunk, chunk_unit_of(span->chunk, span), 1);
}

/* ---- runs ---- */

/* The highest place in the segment for so many units; none: UINT32_MAX. */
static uint32_t segment_find_run(const struct numaperf__segment *segment, uint32_t unit_count)
{
    uint32_t bits = segment->free_units & segment->run_mask;
    uint32_t starts = bits;
    for (uint32_t i = 1; i < unit_count; i++)
        starts &= bits >> i;
    return starts != 0 ? 31 - (uint32_t)__builtin_clz(starts) : UINT32_MAX;
}

static uint32_t chunk_find_run(const struct numaperf__arena_chunk *chunk, uint32_t unit_count)
{
    for (uint32_t i = 0; i < chunk->segment_count; i++) {
        uint32_t unit = segment_find_run(&chunk->segments[i], unit_count);
        if (unit != UINT32_MAX)
            return i * NUMAPERF__SEGMENT_UNITS + unit;
    }
    return UINT32_MAX;
}

void *numaperf__arena_take_run(numaperf_arena_t *arena, uint32_t unit_count)
{
    NUMAPERF_ASSERT(unit_count > 0 && unit_count <= NUMAPERF__RUN_UNITS_MAX);
    const struct numaperf__list *head = &arena->roomy;
    for (const struct numaperf__list *at = head->next; at != head; at = at->next) {
        struct numaperf__arena_chunk *chunk =
            NUMAPERF_CONTAINER_OF(at, struct numaperf__arena_chunk, roomy);
        uint32_t unit = chunk_find_run(chunk, unit_count);
        if (unit == UINT32_MAX)
            continue;
        chunk_take_units(chunk, unit, unit_count);
        chunk->segments[unit / NUMAPERF__SEGMENT_UNITS].run_units[unit % NUMAPERF__SEGMENT_UNITS] =
            (uint8_t)unit_count;
        return chunk->base + unit * NUMAPERF__SPAN_BYTES;
    }
    return NULL;
}

/* Where the length of the run stands; the address is asserted to be this arena's. */
static uint8_t *run_units_of(const numaperf_arena_t *arena, const void *block,
                             struct numaperf__arena_chunk **out_chunk, uint32_t *out_unit)
{
    NUMAPERF_ASSERT(arena->run_bytes_max > 0);
    const struct numaperf__span *head =
        (const struct numaperf__span *)((uintptr_t)block &
                                        ~(uintptr_t)(NUMAPERF__SEGMENT_BYTES - 1));
    NUMAPERF_ASSERT((const void *)head != block); /* the first unit is in no run */
    NUMAPERF_ASSERT(head->magic == NUMAPERF__SPAN_MAGIC);
    NUMAPERF_ASSERT(head->arena == arena);
    struct numaperf__arena_chunk *chunk = head->chunk;
    uint32_t unit = chunk_unit_of(chunk, block);
    NUMAPERF_ASSERT(unit / NUMAPERF__SEGMENT_UNITS < chunk->segment_count);
    *out_chunk = chunk;
    *out_unit = unit;
    return &chunk->segments[unit / NUMAPERF__SEGMENT_UNITS]
                .run_units[unit % NUMAPERF__SEGMENT_UNITS];
}

uint32_t numaperf__arena_run_units(const numaperf_arena_t *arena, const void *block)
{
    struct numaperf__arena_chunk *chunk = NULL;
    uint32_t unit = 0;
    uint32_t unit_count = *run_units_of(arena, block, &chunk, &unit);
    NUMAPERF_ASSERT(unit_count > 0); /* a run that is in use */
    return unit_count;
}

uint32_t numaperf__arena_put_run(numaperf_arena_t *arena, void *block)
{
    struct numaperf__arena_chunk *chunk = NULL;
    uint32_t unit = 0;
    uint8_t *place = run_units_of(arena, block, &chunk, &unit);
    uint32_t unit_count = *place;
    NUMAPERF_ASSERT(unit_count > 0); /* not freed already */
    chunk_put_units(arena, chunk, unit, unit_count);
    *place = 0;
    return unit_count;
}

/* ---- audit ---- */

static int audit_chunk(const struct numaperf__arena_chunk *chunk, numaperf_placement_t *placement)
{
    struct numaperf__range range = {.base = chunk->base,
                                    .length = chunk->length,
                                    .page_bytes = numaperf_region_page_size(chunk->region)};
    return numaperf__range_query(&range, placement);
}

int numaperf_arena_audit(const numaperf_arena_t *arena, numaperf_placement_t *out)
{
    if (arena == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "arena audit", "arena and out must not be NULL");
    numaperf_placement_t *placement = calloc(1, sizeof(*placement)); /* too big for small stacks */
    if (placement == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "arena audit", "working memory");

    /* Locking changes nothing that a caller sees, so the arena stays const to it. */
    pthread_mutex_t *mutex = (pthread_mutex_t *)&arena->mutex;
    int rc = 0;
    (void)pthread_mutex_lock(mutex); /* as above */
    const struct numaperf__list *head = &arena->chunks;
    for (const struct numaperf__list *at = head->next; at != head && rc == 0; at = at->next)
        rc = audit_chunk(NUMAPERF_CONTAINER_OF(at, struct numaperf__arena_chunk, link), placement);
    (void)pthread_mutex_unlock(mutex);

    if (rc < 0)
        rc = numaperf__fail(rc, -rc, "move_pages", "the kernel does not tell where pages are");
    else
        rc = numaperf__result_store(out, sizeof(*placement), placement, sizeof(*placement),
                                    "arena audit");
    free(placement);
    return rc;
}
