/* SPDX-License-Identifier: MIT */
/* What an arena is made of, and the growth of it: regions, chunks, spans. */
#ifndef NUMAPERF_PLACE_ARENA_CHUNK_H
#define NUMAPERF_PLACE_ARENA_CHUNK_H

#include "base/atomic.h"
#include "base/list.h"
#include "place/arena.h"
#include "place/size_class.h"
#include "place/span.h"

#include <pthread.h>
#include <stdint.h>

/* One region of an arena. In the ordinary heap: it is touched only when the arena grows. */
struct numaperf__arena_chunk {
    struct numaperf__list link; /* under the arena's mutex */
    numaperf_region_t *region;  /* constant */
    char *base;                 /* of the region; constant */
    size_t length;              /* of the region; constant */
    size_t carved_bytes;        /* made into spans so far; owner */
};

/* Written by the owner alone, read by anyone: relaxed, a recent picture is all it promises. */
struct numaperf__arena_counters {
    _Atomic uint64_t chunk_count;
    _Atomic uint64_t mapped_bytes;
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t used_bytes_peak;
    _Atomic uint64_t alloc_count;
    _Atomic uint64_t free_count;
    _Atomic uint64_t remote_free_count;
    _Atomic uint64_t fail_count; /* any thread adds: a refused stranger counts too */
};

/* Lives in its own first chunk, behind the header of the first span: so it is on its node. */
struct numaperf_arena {
    /* The owner's hot part. */
    alignas(NUMAPERF_CACHE_LINE) struct numaperf__span *current[NUMAPERF__SIZE_CLASS_COUNT];
    struct numaperf__arena_counters counters;
    struct numaperf__list partial[NUMAPERF__SIZE_CLASS_COUNT]; /* spans by class */
    struct numaperf__list free_spans;
    struct numaperf__arena_chunk *fresh; /* chunk with memory that is not carved yet, or NULL */
    void *drained;                       /* remote frees taken from the stack, not processed yet */
    numaperf_enforcement_t enforcement;  /* the lowest of all chunks */

    /* Constant after create. */
    alignas(NUMAPERF_CACHE_LINE) numaperf_region_config_t region_config; /* less its length */
    const char *unplaced_reason; /* for the regions; a constant string or NULL */
    uint64_t limit_bytes;        /* 0: none */
    uint64_t chunk_bytes;
    uint64_t granule_bytes; /* regions come in multiples of this */
    int node;               /* or NUMAPERF_E_NO_NODE */

    /* Thread id of the owner, 0 before the first allocation; set once. */
    _Atomic uintptr_t owner;

    /* Stack of blocks that other threads freed: they push, the owner takes it whole. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic(void *) remote;

    /* Chunks: the owner adds and removes, an audit on any thread walks. */
    alignas(NUMAPERF_CACHE_LINE) pthread_mutex_t mutex;
    struct numaperf__list chunks; /* under mutex; its first is the one we live in */
};

static inline uint64_t numaperf__counter_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* For counters that only the calling thread writes: cheaper than an atomic addition. */
static inline void numaperf__counter_set(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

/* Map a region for the arena. `length` is a multiple of the granule. Recorded failures. */
int numaperf__chunk_map(const numaperf_region_config_t *config, const char *unplaced_reason,
                        size_t length, struct numaperf__arena_chunk **out_chunk);
void numaperf__chunk_unmap(struct numaperf__arena_chunk *chunk);

/* Bring a mapped chunk into the arena, and count it; take it out again. */
void numaperf__arena_add_chunk(numaperf_arena_t *arena, struct numaperf__arena_chunk *chunk);
void numaperf__arena_remove_chunk(numaperf_arena_t *arena, struct numaperf__arena_chunk *chunk);

/* Bytes that the limit still allows, in whole granules, which need not be the arena's own. */
size_t numaperf__arena_room(const numaperf_arena_t *arena, uint64_t granule_bytes);

/* A FREE span, in no list, that fits the class; grows the arena. NULL: recorded why. */
struct numaperf__span *numaperf__arena_get_span(numaperf_arena_t *arena, uint32_t size_class);

/* The same without growing; NULL when there is none, and nothing is recorded. */
struct numaperf__span *numaperf__arena_find_span(numaperf_arena_t *arena, uint32_t size_class);

#endif
