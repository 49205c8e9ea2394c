/* SPDX-License-Identifier: MIT */
/*
 * Growth of an arena: chunks are regions, mapped under the same enforcement as the first one, and
 * carved into spans from their start as spans are needed, so that a page is not touched before it
 * has a use. Chunks stay until the arena is destroyed; the region of a large block goes with it.
 *
 * Invariants: chunks of one arena never map more than its limit; every byte below carved_bytes of
 * a chunk of spans belongs to exactly one span.
 *
 * Threads: owner, apart from numaperf_arena_audit(), which walks the chunks under the mutex.
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

int numaperf__chunk_map(const numaperf_region_config_t *config, const char *unplaced_reason,
                        size_t length, struct numaperf__arena_chunk **out_chunk)
{
    struct numaperf__arena_chunk *chunk = calloc(1, sizeof(*chunk));
    if (chunk == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "arena", "chunk record");
    numaperf_region_config_t cfg = *config;
    cfg.length = length;
    const struct numaperf__region_extra extra = {.align_bytes = NUMAPERF__SPAN_BYTES,
                                                 .unplaced_reason = unplaced_reason};
    int rc = numaperf__region_create(&cfg, &extra, &chunk->region);
    if (rc < 0) {
        free(chunk);
        return rc;
    }
    numaperf__list_init(&chunk->link);
    chunk->base = numaperf_region_data(chunk->region);
    chunk->length = numaperf_region_length(chunk->region);
    NUMAPERF_ASSERT(chunk->length >= length);
    NUMAPERF_ASSERT((uintptr_t)chunk->base % NUMAPERF__SPAN_BYTES == 0);
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
    (void)pthread_mutex_lock(&arena->mutex); /* a default mutex, never locked twice: cannot fail */
    numaperf__list_push_back(&arena->chunks, &chunk->link);
    (void)pthread_mutex_unlock(&arena->mutex);
    numaperf__counter_set(&counters->chunk_count,
                          numaperf__counter_get(&counters->chunk_count) + 1);
    numaperf__counter_set(&counters->mapped_bytes,
                          numaperf__counter_get(&counters->mapped_bytes) + chunk->length);
    numaperf__enforce_lower(&arena->enforcement, numaperf_region_enforcement(chunk->region));
}

void numaperf__arena_remove_chunk(numaperf_arena_t *arena, struct numaperf__arena_chunk *chunk)
{
    struct numaperf__arena_counters *counters = &arena->counters;
    uint64_t mapped = numaperf__counter_get(&counters->mapped_bytes);
    NUMAPERF_ASSERT(mapped >= chunk->length);
    (void)pthread_mutex_lock(&arena->mutex); /* as above */
    numaperf__list_remove(&chunk->link);
    (void)pthread_mutex_unlock(&arena->mutex);
    numaperf__counter_set(&counters->mapped_bytes, mapped - chunk->length);
    numaperf__counter_set(&counters->chunk_count,
                          numaperf__counter_get(&counters->chunk_count) - 1);
}

size_t numaperf__arena_room(const numaperf_arena_t *arena, uint64_t granule_bytes)
{
    if (arena->limit_bytes == 0)
        return SIZE_MAX / granule_bytes * granule_bytes;
    uint64_t mapped = numaperf__counter_get(&arena->counters.mapped_bytes);
    uint64_t room = arena->limit_bytes > mapped ? arena->limit_bytes - mapped : 0;
    return (size_t)(room / granule_bytes * granule_bytes);
}

/* The next span of the chunk with uncarved memory; NULL when there is none. */
static struct numaperf__span *chunk_carve(numaperf_arena_t *arena)
{
    struct numaperf__arena_chunk *chunk = arena->fresh;
    if (chunk == NULL)
        return NULL;
    size_t left = chunk->length - chunk->carved_bytes;
    size_t length = left < NUMAPERF__SPAN_BYTES ? left : NUMAPERF__SPAN_BYTES;
    NUMAPERF_ASSERT(length > sizeof(struct numaperf__span));
    struct numaperf__span *span = (struct numaperf__span *)(chunk->base + chunk->carved_bytes);
    numaperf__span_init(span, arena, chunk, length, sizeof(*span));
    chunk->carved_bytes += length;
    if (chunk->carved_bytes == chunk->length)
        arena->fresh = NULL;
    return span;
}

struct numaperf__span *numaperf__arena_find_span(numaperf_arena_t *arena, uint32_t size_class)
{
    /* Only the short end of a chunk at the limit can fail to fit, so this walk is short. */
    struct numaperf__list *head = &arena->free_spans;
    for (struct numaperf__list *at = head->next; at != head; at = at->next) {
        struct numaperf__span *span = NUMAPERF_CONTAINER_OF(at, struct numaperf__span, link);
        if (!numaperf__span_fits(span, size_class))
            continue;
        numaperf__list_remove(at);
        return span;
    }
    struct numaperf__span *span = chunk_carve(arena);
    if (span == NULL || numaperf__span_fits(span, size_class))
        return span;
    numaperf__list_push_back(head, &span->link);
    return NULL;
}

/* One more chunk of spans. A last one may be smaller than the others: what the limit leaves. */
static int arena_grow(numaperf_arena_t *arena, uint32_t size_class)
{
    size_t room = numaperf__arena_room(arena, arena->granule_bytes);
    size_t length = arena->chunk_bytes < room ? (size_t)arena->chunk_bytes : room;
    if (length <
            sizeof(struct numaperf__span) + 2 * (size_t)numaperf__size_class_bytes(size_class) &&
        length < NUMAPERF__SPAN_BYTES)
        return numaperf__fail(
            -ENOMEM, 0, "arena", "limit_bytes: %" PRIu64 " bytes are mapped of %" PRIu64 " allowed",
            numaperf__counter_get(&arena->counters.mapped_bytes), arena->limit_bytes);
    struct numaperf__arena_chunk *chunk = NULL;
    int rc = numaperf__chunk_map(&arena->region_config, arena->unplaced_reason, length, &chunk);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(chunk != NULL);
    NUMAPERF_ASSERT(arena->fresh == NULL);
    numaperf__arena_add_chunk(arena, chunk);
    arena->fresh = chunk;
    return 0;
}

struct numaperf__span *numaperf__arena_get_span(numaperf_arena_t *arena, uint32_t size_class)
{
    struct numaperf__span *span = numaperf__arena_find_span(arena, size_class);
    if (span != NULL)
        return span;
    if (arena_grow(arena, size_class) < 0)
        return NULL;
    span = numaperf__arena_find_span(arena, size_class);
    NUMAPERF_ASSERT(span != NULL);
    return span;
}

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
