/* SPDX-License-Identifier: MIT */
/* What an arena is made of, and the growth of it: regions, chunks, segments, units. */
#ifndef NUMAPERF_PLACE_ARENA_CHUNK_H
#define NUMAPERF_PLACE_ARENA_CHUNK_H

#include "base/atomic.h"
#include "base/list.h"
#include "place/arena.h"
#include "place/magazine.h"
#include "place/size_class.h"
#include "place/span.h"

#include <pthread.h>
#include <stdint.h>

#define NUMAPERF__SEGMENT_BYTES ((size_t)2 << 20)
#define NUMAPERF__SEGMENT_UNITS 32u /* of NUMAPERF__SPAN_BYTES */
#define NUMAPERF__RUN_UNITS_MAX 16u /* a block of up to 1 MiB */

/* 2 MiB of a chunk, at a multiple of that. The owner's, but for run_units of a run in use. */
struct numaperf__segment {
    uint32_t free_units;                        /* bit: neither a span nor part of a run */
    uint32_t run_mask;                          /* bit: may be part of a run; constant */
    uint8_t run_units[NUMAPERF__SEGMENT_UNITS]; /* length of the run that starts there, or 0 */
};

/* One region of an arena. In the ordinary heap: it is touched only for spans and runs. */
struct numaperf__arena_chunk {
    struct numaperf__list link;  /* under the arena's mutex */
    struct numaperf__list roomy; /* in the arena's list of chunks with free units; owner */
    numaperf_region_t *region;   /* constant */
    char *base;                  /* of the region; constant */
    size_t length;               /* of the region; constant */
    uint32_t free_unit_count;    /* owner */
    uint32_t segment_count;      /* constant; 0: a single large block */
    struct numaperf__segment segments[];
};

/* Written by the owner alone, read by anyone: relaxed, a recent picture is all it promises. */
struct numaperf__arena_counters {
    _Atomic uint64_t chunk_count;
    _Atomic uint64_t mapped_bytes;
    _Atomic uint64_t out_bytes;       /* in blocks that left their span: in use, or in a magazine */
    _Atomic uint64_t used_bytes_peak; /* that was seen */
    _Atomic uint64_t out_bytes_peak;  /* by who takes memory: a new one is worth a look */
    _Atomic uint64_t alloc_count;     /* with what is in a magazine, to be taken */
    _Atomic uint64_t free_count;      /* without what is in a magazine, put there */
    _Atomic uint64_t remote_free_count;
    _Atomic uint64_t fail_count; /* any thread adds: a refused stranger counts too */
};

/* Lives in its own first chunk, behind the header of the first span: so it is on its node. */
struct numaperf_arena {
    /* Constant after create, but for the owner: its thread id, 0 before the first allocation and
       set once. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uintptr_t owner;
    struct numaperf__arena_chunk *first_chunk; /* the one we live in */
    struct numaperf__magazine *magazines;      /* of the first classes; NULL: there are none */
    size_t reserved_bytes;                     /* of the first unit, for its header and us */
    size_t run_bytes_max;                      /* the largest block that lives in a chunk */
    const char *unplaced_reason;               /* for the regions; a constant string or NULL */
    uint64_t limit_bytes;                      /* 0: none */
    uint64_t chunk_bytes;
    uint64_t granule_bytes; /* regions come in multiples of this */
    int node;               /* or NUMAPERF_E_NO_NODE */
    /* By size, in steps of 16 bytes. */
    struct numaperf__magazine *by_size[NUMAPERF__MAGAZINE_BYTES_MAX / 16];
    struct numaperf__magazine no_magazine;  /* of the other classes: never holds anything */
    void *no_slots[2];                      /* what it has instead */
    numaperf_region_config_t region_config; /* less its length */

    /* The owner's. */
    alignas(NUMAPERF_CACHE_LINE) struct numaperf__span *current[NUMAPERF__SIZE_CLASS_COUNT];
    struct numaperf__arena_counters counters;
    struct numaperf__list partial[NUMAPERF__SIZE_CLASS_COUNT]; /* spans by class */
    struct numaperf__list roomy;                               /* chunks with free units */
    uint64_t slow_count;                /* allocations that found no block at hand */
    void *drained;                      /* taken from remote_big, not processed yet */
    struct numaperf__span *collected;   /* taken from remote_spans, not processed yet */
    numaperf_enforcement_t enforcement; /* the lowest of all chunks */

    /* Stacks of what other threads freed: they push, the owner takes each whole. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic(struct numaperf__span *) remote_spans;
    alignas(NUMAPERF_CACHE_LINE) _Atomic(void *) remote_big; /* blocks too big for a span */

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

static inline void numaperf__counter_add(_Atomic uint64_t *counter, uint64_t value)
{
    numaperf__counter_set(counter, numaperf__counter_get(counter) + value);
}

static inline void numaperf__counter_sub(_Atomic uint64_t *counter, uint64_t value)
{
    uint64_t before = numaperf__counter_get(counter);
    NUMAPERF_ASSERT(before >= value);
    numaperf__counter_set(counter, before - value);
}

/*
 * Map a region for the arena, for spans and runs or, `is_large`, for one large block. `length` is a
 * multiple of the granule. Recorded failures.
 */
int numaperf__chunk_map(const numaperf_region_config_t *config, const char *unplaced_reason,
                        size_t length, bool is_large, struct numaperf__arena_chunk **out_chunk);
void numaperf__chunk_unmap(struct numaperf__arena_chunk *chunk);

/* Bring a mapped chunk into the arena, and count it; take it out again. */
void numaperf__arena_add_chunk(numaperf_arena_t *arena, struct numaperf__arena_chunk *chunk);
void numaperf__arena_remove_chunk(numaperf_arena_t *arena, struct numaperf__arena_chunk *chunk);

/* Bytes that the limit still allows, in whole granules, which need not be the arena's own. */
size_t numaperf__arena_room(const numaperf_arena_t *arena, uint64_t granule_bytes);

/* One more chunk, with room for a block of the class, or for a run. 0, or recorded why not. */
int numaperf__arena_grow_for_class(numaperf_arena_t *arena, uint32_t size_class);
int numaperf__arena_grow_for_run(numaperf_arena_t *arena, uint32_t unit_count);

/* A CURRENT span of the class, from a free unit; NULL when there is none that fits. */
struct numaperf__span *numaperf__arena_take_unit(numaperf_arena_t *arena, uint32_t size_class,
                                                 struct numaperf__magazine *magazine);
/* Give the unit of a span in state FREE back. */
void numaperf__arena_put_unit(numaperf_arena_t *arena, struct numaperf__span *span);

/* So many units in a row; NULL when there are none. */
void *numaperf__arena_take_run(numaperf_arena_t *arena, uint32_t unit_count);
/* The length of the run that starts there, asserted to be one. Any thread that may free it. */
uint32_t numaperf__arena_run_units(const numaperf_arena_t *arena, const void *block);
/* How many units it was. */
uint32_t numaperf__arena_put_run(numaperf_arena_t *arena, void *block);

#endif
