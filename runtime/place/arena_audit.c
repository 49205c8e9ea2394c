/* SPDX-License-Identifier: MIT */
/*
 * Re-verification of an arena, on any thread while its owner works.
 *
 * Chunks come and go under the arena's mutex, and a look at all pages takes long. So the list is
 * copied under it and asked about without it. A chunk may be unmapped meanwhile and others' memory
 * mapped in its place: what looks like a drift is therefore looked at again, chunk by chunk, each
 * under the mutex while it is in the list; and only there anything is put back.
 *
 * Chunks are added at the end of the list and none changes its place, so a walk that is resumed
 * behind the chunk it looked at last may skip one that was removed, and meets no other twice.
 */
#include "base/assert.h"
#include "place/arena.h"
#include "place/arena_chunk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AUDIT_VISIT_BYTES \
    ((size_t)2 << 20) /* looked at under the mutex at once; a chunk at least */
#define AUDIT_END 1

static void audit_range_of(const struct numaperf__arena_chunk *chunk,
                           struct numaperf__audit_range *out)
{
    out->range.base = chunk->base;
    out->range.length = chunk->length;
    out->range.page_bytes = numaperf_region_page_size(chunk->region);
    out->is_bound = numaperf_is_strict(numaperf_region_enforcement(chunk->region));
}

static pthread_mutex_t *audit_mutex(const numaperf_arena_t *arena)
{
    /* Locking changes nothing that a caller sees, so the arena stays const to it. */
    return (pthread_mutex_t *)&arena->mutex;
}

static size_t audit_list_count(const numaperf_arena_t *arena)
{
    size_t count = 0;
    for (const struct numaperf__list *at = arena->chunks.next; at != &arena->chunks; at = at->next)
        count++;
    return count;
}

/* A copy of the list, for the caller to free(). */
static int audit_copy(const numaperf_arena_t *arena, struct numaperf__audit_range **out_ranges,
                      size_t *out_count)
{
    pthread_mutex_t *mutex = audit_mutex(arena);
    (void)pthread_mutex_lock(mutex); /* a default mutex, never locked twice: cannot fail */
    size_t count = audit_list_count(arena);
    NUMAPERF_ASSERT(count > 0);
    struct numaperf__audit_range *ranges = calloc(count, sizeof(*ranges));
    const struct numaperf__list *at = arena->chunks.next;
    for (size_t i = 0; ranges != NULL && i < count; i++, at = at->next)
        audit_range_of(NUMAPERF_CONTAINER_OF(at, struct numaperf__arena_chunk, link), &ranges[i]);
    (void)pthread_mutex_unlock(mutex); /* as above */
    *out_ranges = ranges;
    *out_count = count;
    return ranges != NULL ? 0 : -ENOMEM;
}

uint64_t numaperf__arena_page_count(const numaperf_arena_t *arena)
{
    uint64_t sum = 0;
    pthread_mutex_t *mutex = audit_mutex(arena);
    (void)pthread_mutex_lock(mutex); /* as above */
    for (const struct numaperf__list *at = arena->chunks.next; at != &arena->chunks;
         at = at->next) {
        struct numaperf__audit_range range;
        audit_range_of(NUMAPERF_CONTAINER_OF(at, struct numaperf__arena_chunk, link), &range);
        sum += numaperf__audit_page_count(&range, 1);
    }
    (void)pthread_mutex_unlock(mutex); /* as above */
    return sum;
}

static bool audit_is_home(const struct numaperf__audit_counts *counts)
{
    return counts->home + counts->absent == counts->pages && counts->other == 0;
}

/* One chunk, while it cannot go: looked at, and put back where it is not home, if `repairs`. */
static int audit_visit(const struct numaperf_arena *arena,
                       const struct numaperf__arena_chunk *chunk, bool repairs,
                       struct numaperf__audit_counts *io_counts)
{
    struct numaperf__audit_range range;
    struct numaperf__audit_counts counts;
    memset(&counts, 0, sizeof(counts));
    audit_range_of(chunk, &range);
    int rc = numaperf__audit_look(&range, 1, arena->node, NULL, repairs ? &counts : io_counts);
    if (rc == 0 && repairs && !audit_is_home(&counts))
        rc = numaperf__audit_put_back(&range, arena->node);
    return rc;
}

/*
 * Visit chunks from place `*io_index` of the list on, as many as are soon done, and move it behind
 * them. 0 or the first -errno; AUDIT_END when there was none.
 */
static int audit_visit_some(const numaperf_arena_t *arena, bool repairs, size_t *io_index,
                            struct numaperf__audit_counts *io_counts)
{
    int rc = AUDIT_END;
    size_t index = 0;
    size_t bytes = 0;
    pthread_mutex_t *mutex = audit_mutex(arena);
    (void)pthread_mutex_lock(mutex); /* as above */
    for (const struct numaperf__list *at = arena->chunks.next;
         at != &arena->chunks && bytes < AUDIT_VISIT_BYTES; at = at->next) {
        if (index++ < *io_index)
            continue;
        const struct numaperf__arena_chunk *chunk =
            NUMAPERF_CONTAINER_OF(at, struct numaperf__arena_chunk, link);
        int one = audit_visit(arena, chunk, repairs, io_counts);
        rc = rc == AUDIT_END || rc == 0 ? one : rc;
        bytes += chunk->length;
    }
    (void)pthread_mutex_unlock(mutex); /* as above */
    *io_index = index;
    return rc;
}

static int audit_visit_all(const numaperf_arena_t *arena, bool repairs, const atomic_bool *give_up,
                           struct numaperf__audit_counts *io_counts)
{
    int first_error = 0;
    size_t index = 0;
    int rc = 0;
    while ((rc = audit_visit_some(arena, repairs, &index, io_counts)) != AUDIT_END) {
        first_error = first_error == 0 ? rc : first_error;
        /* Relaxed: that it comes to an end soon is all that hangs on it. */
        if (give_up != NULL && atomic_load_explicit(give_up, memory_order_relaxed))
            return -ECANCELED;
    }
    return first_error;
}

int numaperf__arena_look(const numaperf_arena_t *arena, const struct numaperf__audit_sample *sample,
                         struct numaperf__audit_counts *out)
{
    NUMAPERF_ASSERT(arena->node >= 0);
    struct numaperf__audit_range *ranges = NULL;
    size_t count = 0;
    int rc = audit_copy(arena, &ranges, &count);
    if (rc < 0)
        return rc;
    memset(out, 0, sizeof(*out));
    rc = numaperf__audit_look(ranges, count, arena->node, sample, out);
    free(ranges);
    if (rc < 0 || audit_is_home(out))
        return rc;

    memset(out, 0, sizeof(*out));
    return audit_visit_all(arena, false, sample != NULL ? sample->give_up : NULL, out);
}

int numaperf__arena_put_back(numaperf_arena_t *arena, const atomic_bool *give_up)
{
    NUMAPERF_ASSERT(arena->node >= 0);
    return audit_visit_all(arena, true, give_up, NULL);
}
