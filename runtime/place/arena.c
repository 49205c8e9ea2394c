/* SPDX-License-Identifier: MIT */
/*
 * Arena: blocks in size classes, carved from spans, which are units of chunks; big blocks are
 * several units, or have a region of their own. This file is the object's life and the short way
 * of a small block out and back; arena_small.c and arena_big.c are the long ways, arena_remote.c
 * the way back from other threads, arena_chunk.c the growth.
 *
 * The thread that allocates first becomes the owner and is the only one that moves spans, lists,
 * magazines and counters. On it a small block is a load and a store away in its class's magazine.
 * Any other thread leaves a mark, which the owner finds when a class has no room, before the
 * arena grows, when it asks for statistics, and now and then: an owner whose blocks of one class
 * come and go would otherwise never give back the regions of large blocks.
 *
 * In release builds the short way back checks that the block is of this arena and not the one
 * freed last; a block that is freed twice otherwise, or a pointer that is none, is told when it
 * reaches its span. Debug builds tell at once.
 *
 * Threads: alloc on the owner, free on any thread; a thread is known by its thread pointer, which
 * a later thread may inherit only after the owner has ended.
 */
#include "place/arena.h"

#include "base/config.h"
#include "base/error.h"
#include "place/arena_blocks.h"
#include "place/enforce.h"
#include "place/range.h"
#include "place/region.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#define CHUNK_BYTES_DEFAULT ((uint64_t)2 << 20)
#define CHUNK_BYTES_MIN ((uint64_t)8192) /* the arena itself and a few blocks */
#define ALIGN_DEFAULT 16
#define ALIGN_MAX 4096
/* From here on an arena has magazines, which take some of its first unit. */
#define MAGAZINES_CHUNK_BYTES_MIN ((uint64_t)256 << 10)
#define ARENA_FLAGS (NUMAPERF_ARENA_HAS_NODE | NUMAPERF_ARENA_LOCK)

_Static_assert(sizeof(numaperf_arena_config_t) == 48, "public layout");
_Static_assert(offsetof(numaperf_arena_config_t, node) == 8, "public layout");
_Static_assert(offsetof(numaperf_arena_config_t, mode) == 12, "public layout");
_Static_assert(offsetof(numaperf_arena_config_t, huge_pages) == 16, "public layout");
_Static_assert(offsetof(numaperf_arena_config_t, prefault) == 20, "public layout");
_Static_assert(offsetof(numaperf_arena_config_t, chunk_bytes) == 24, "public layout");
_Static_assert(offsetof(numaperf_arena_config_t, limit_bytes) == 32, "public layout");
_Static_assert(offsetof(numaperf_arena_config_t, topology) == 40, "public layout");
_Static_assert(sizeof(numaperf_arena_stats_t) == 72, "public layout");
_Static_assert(offsetof(numaperf_arena_stats_t, mapped_bytes) == 8, "public layout");
#define ARENA_CONFIG_MIN_SIZE 48
#define ARENA_STATS_MIN_SIZE 72

/* The first span starts with its header and, behind it, the arena. */
#define ARENA_OFFSET                                                                   \
    ((sizeof(struct numaperf__span) + NUMAPERF_CACHE_LINE - 1) / NUMAPERF_CACHE_LINE * \
     NUMAPERF_CACHE_LINE)
_Static_assert(ARENA_OFFSET + sizeof(struct numaperf_arena) + 1024 < CHUNK_BYTES_MIN,
               "the smallest arena has room for blocks");

/* What create knows before there is memory to put an arena in. */
struct arena_plan {
    numaperf_region_config_t region_config;
    const char *unplaced_reason;
    uint64_t chunk_bytes;
    uint64_t limit_bytes;
    uint64_t granule_bytes;
    int node;
};

/* ---- create ---- */

static int plan_node(const numaperf_arena_config_t *cfg, struct arena_plan *plan)
{
    plan->node = NUMAPERF_E_NO_NODE;
    if (cfg->topology != NULL && !numaperf_topology_is_this_machine(cfg->topology))
        plan->unplaced_reason = "the topology is not this machine's, so no memory is placed by it";
    if ((cfg->flags & NUMAPERF_ARENA_HAS_NODE) == 0)
        return 0;
    if (cfg->node < 0 || cfg->node >= NUMAPERF_NODE_MAX)
        return numaperf__fail(-EINVAL, 0, "arena", "node: %d is not 0 .. %d", cfg->node,
                              NUMAPERF_NODE_MAX - 1);
    plan->node = cfg->node;
    plan->region_config.policy = NUMAPERF_MEM_BIND;
    plan->region_config.nodes = numaperf_nodemask_single(cfg->node);
    if (cfg->topology == NULL)
        return 0;
    numaperf_nodemask_t nodes;
    int rc = numaperf_topology_nodes(cfg->topology, &nodes);
    if (rc < 0)
        return rc;
    if (!numaperf_nodemask_contains(&nodes, cfg->node))
        return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "arena", "node %d is not in the topology",
                              cfg->node);
    return 0;
}

static uint64_t round_up(uint64_t bytes, uint64_t unit)
{
    return (bytes + unit - 1) / unit * unit;
}

static int plan_sizes(const numaperf_arena_config_t *cfg, struct arena_plan *plan)
{
    plan->granule_bytes = numaperf__page_bytes();
    if (cfg->huge_pages == NUMAPERF_HUGE_2MB)
        plan->granule_bytes = (uint64_t)2 << 20;
    if (cfg->huge_pages == NUMAPERF_HUGE_1GB)
        plan->granule_bytes = (uint64_t)1 << 30;
    uint64_t unit =
        plan->granule_bytes > NUMAPERF__SPAN_BYTES ? plan->granule_bytes : NUMAPERF__SPAN_BYTES;
    uint64_t chunk = cfg->chunk_bytes != 0 ? cfg->chunk_bytes : CHUNK_BYTES_DEFAULT;
    if (chunk > SIZE_MAX / 4)
        return numaperf__fail(-EINVAL, 0, "arena", "chunk_bytes: %" PRIu64 " is no address space",
                              chunk);
    plan->chunk_bytes = round_up(chunk, unit);
    plan->limit_bytes = cfg->limit_bytes;
    if (cfg->limit_bytes == 0 || plan->chunk_bytes <= cfg->limit_bytes)
        return 0;
    plan->chunk_bytes = cfg->limit_bytes / plan->granule_bytes * plan->granule_bytes;
    if (plan->chunk_bytes < CHUNK_BYTES_MIN)
        return numaperf__fail(-EINVAL, 0, "arena",
                              "limit_bytes: %" PRIu64 " is too little for an arena of pages of "
                              "%" PRIu64 " bytes",
                              cfg->limit_bytes, plan->granule_bytes);
    return 0;
}

static int plan_load(const numaperf_arena_config_t *config, struct arena_plan *plan)
{
    numaperf_arena_config_t cfg;
    int rc = numaperf__config_load(&cfg, sizeof(cfg), ARENA_CONFIG_MIN_SIZE, config, "arena");
    if (rc < 0)
        return rc;
    if ((cfg.flags & ~(uint32_t)ARENA_FLAGS) != 0)
        return numaperf__fail(-EINVAL, 0, "arena", "flags: unknown bits 0x%x",
                              cfg.flags & ~(uint32_t)ARENA_FLAGS);
    plan->region_config.size = sizeof(plan->region_config);
    plan->region_config.flags = (cfg.flags & NUMAPERF_ARENA_LOCK) != 0 ? NUMAPERF_REGION_LOCK : 0;
    plan->region_config.mode = cfg.mode;
    plan->region_config.huge_pages = cfg.huge_pages;
    plan->region_config.prefault = cfg.prefault;
    /* The region would find these too, but only after an absent node was. */
    rc = numaperf__region_check_choices(&plan->region_config);
    if (rc == 0)
        rc = plan_sizes(&cfg, plan);
    if (rc < 0)
        return rc;
    return plan_node(&cfg, plan);
}

/* Magazines are behind the arena, in the same unit, and their slots behind them. */
static void arena_init_magazines(numaperf_arena_t *arena)
{
    numaperf__magazine_init(&arena->no_magazine, 0, 0, arena->no_slots);
    for (uint32_t i = 0; i < NUMAPERF__MAGAZINE_BYTES_MAX / 16; i++)
        arena->by_size[i] = &arena->no_magazine;
    if (arena->chunk_bytes < MAGAZINES_CHUNK_BYTES_MIN)
        return;
    arena->magazines = (struct numaperf__magazine *)((char *)arena + sizeof(*arena));
    void **room = (void **)(arena->magazines + NUMAPERF__MAGAZINE_COUNT);
    for (uint32_t i = 0; i < NUMAPERF__MAGAZINE_COUNT; i++) {
        uint32_t slot_count = numaperf__magazine_slots(numaperf__size_class_bytes(i));
        numaperf__magazine_init(&arena->magazines[i], i, slot_count, room);
        room += numaperf__magazine_room(slot_count);
    }
    arena->reserved_bytes = ARENA_OFFSET + (size_t)((char *)room - (char *)arena);
    NUMAPERF_ASSERT(arena->reserved_bytes < NUMAPERF__SPAN_BYTES / 2);
    for (uint32_t i = 0; i < NUMAPERF__MAGAZINE_BYTES_MAX / 16; i++)
        arena->by_size[i] = &arena->magazines[numaperf__size_class(((size_t)i + 1) * 16)];
}

/* Half a chunk, of those that have more than one unit and so can have runs. */
static size_t arena_run_bytes_max(uint64_t chunk_bytes)
{
    uint64_t units = chunk_bytes / 2 / NUMAPERF__SPAN_BYTES;
    return (size_t)(units < NUMAPERF__RUN_UNITS_MAX ? units : NUMAPERF__RUN_UNITS_MAX) *
           NUMAPERF__SPAN_BYTES;
}

/* Set the arena up inside its first chunk, which is still zero. */
static numaperf_arena_t *arena_init(const struct arena_plan *plan,
                                    struct numaperf__arena_chunk *chunk)
{
    numaperf_arena_t *arena = (numaperf_arena_t *)(chunk->base + ARENA_OFFSET);
    int rc = pthread_mutex_init(&arena->mutex, NULL);
    NUMAPERF_ASSERT(rc == 0); /* default attributes need nothing that could be short */
    for (uint32_t i = 0; i < NUMAPERF__SIZE_CLASS_COUNT; i++)
        numaperf__list_init(&arena->partial[i]);
    numaperf__list_init(&arena->roomy);
    numaperf__list_init(&arena->chunks);
    numaperf__enforce_set(&arena->enforcement, NUMAPERF_ENFORCE_STRICT, "%s", "");
    arena->region_config = plan->region_config;
    arena->unplaced_reason = plan->unplaced_reason;
    arena->limit_bytes = plan->limit_bytes;
    arena->chunk_bytes = plan->chunk_bytes;
    arena->granule_bytes = plan->granule_bytes;
    arena->node = plan->node;
    arena->first_chunk = chunk;
    arena->reserved_bytes = ARENA_OFFSET + sizeof(*arena);
    arena->run_bytes_max = arena_run_bytes_max(plan->chunk_bytes);
    arena_init_magazines(arena);
    numaperf__arena_add_chunk(arena, chunk);
    return arena;
}

int numaperf_arena_create(const numaperf_arena_config_t *config, numaperf_arena_t **out)
{
    if (config == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "arena", "config and out must not be NULL");
    struct arena_plan plan;
    memset(&plan, 0, sizeof(plan));
    int rc = plan_load(config, &plan);
    if (rc < 0)
        return rc;
    struct numaperf__arena_chunk *chunk = NULL;
    rc = numaperf__chunk_map(&plan.region_config, plan.unplaced_reason, (size_t)plan.chunk_bytes,
                             false, &chunk);
    if (rc < 0)
        return rc;
    *out = arena_init(&plan, chunk);
    return 0;
}

/* ---- free ---- */

static void arena_free_run(numaperf_arena_t *arena, void *block)
{
    if (numaperf__arena_is_owner(arena)) {
        numaperf__arena_free_big(arena, block);
        return;
    }
    numaperf__poison(block, numaperf__arena_run_units(arena, block) * NUMAPERF__SPAN_BYTES);
    numaperf__arena_push_big(arena, block);
}

/* All that the short way leaves: runs, large blocks, other threads, magazines with no place. */
__attribute__((noinline)) static void arena_free_slow(numaperf_arena_t *arena, void *block)
{
    if (block == NULL)
        return;
    NUMAPERF_ASSERT(arena != NULL);
    if (numaperf__arena_is_run(block)) {
        arena_free_run(arena, block);
        return;
    }
    struct numaperf__span *span = numaperf__span_of(block);
    NUMAPERF_ASSERT(span->magic == NUMAPERF__SPAN_MAGIC);
    NUMAPERF_ASSERT(span->arena == arena); /* the block is of this arena */
    /* What stays while the block is out. */
    numaperf__poison(block, span->block_bytes);
    bool is_large = span->chunk->segment_count == 0;
    if (!numaperf__arena_is_owner(arena)) {
        if (is_large)
            numaperf__arena_push_big(arena, block);
        else
            numaperf__arena_push_span(arena, span, block);
        return;
    }
    if (is_large) {
        numaperf__arena_free_big(arena, block);
        return;
    }
    numaperf__arena_free_small(arena, span, block);
}

void numaperf_arena_free(numaperf_arena_t *arena, void *block)
{
    struct numaperf__span *span = numaperf__span_of(block);
    /* A run, and NULL, have no header at hand. */
    if (__builtin_expect(numaperf__arena_is_run(block) ||
                             numaperf__arena_key(arena, span->key) != numaperf__arena_self(),
                         0)) {
        arena_free_slow(arena, block);
        return;
    }
    NUMAPERF_ASSERT_HOT(numaperf__arena_is_in_use(span, block));
    numaperf__poison(block, span->block_bytes);
    if (!numaperf__magazine_put(span->magazine, block))
        arena_free_slow(arena, block);
}

/* ---- alloc ---- */

/* NULL, with the reason recorded. Any thread, so the one counter that is added to atomically. */
static void *arena_refuse(numaperf_arena_t *arena)
{
    (void)atomic_fetch_add_explicit(&arena->counters.fail_count, 1, memory_order_relaxed);
    return NULL;
}

/* The first thread to come becomes the owner. */
static bool arena_claim(numaperf_arena_t *arena)
{
    uintptr_t nobody = 0;
    /* Relaxed: whoever made the arena handed it over with its own ordering. */
    if (atomic_compare_exchange_strong_explicit(&arena->owner, &nobody, numaperf__arena_self(),
                                                memory_order_relaxed, memory_order_relaxed))
        return true;
    (void)numaperf__fail(-EBUSY, 0, "arena", "another thread owns the arena: only it allocates");
    return false;
}

static void *arena_alloc_owner(numaperf_arena_t *arena, size_t size, size_t align)
{
    if (size > NUMAPERF__SIZE_CLASS_MAX_BYTES)
        return numaperf__arena_alloc_big(arena, size, align);
    if (size == 0)
        size = 1; /* as malloc: a block of its own */
    /* At most the largest class: 28672 is a multiple of every alignment up to 4096. */
    size_t rounded = (size + align - 1) & ~(align - 1);
    void *block = numaperf__arena_alloc_small(arena, numaperf__size_class(rounded));
    if (block != NULL)
        numaperf__unpoison(block, size);
    return block;
}

/* All that the short way leaves: no block at hand, larger ones, alignment, bad arguments. */
__attribute__((noinline)) static void *arena_alloc_slow(numaperf_arena_t *arena, size_t size,
                                                        size_t align)
{
    if (arena == NULL) {
        (void)numaperf__fail(-EINVAL, 0, "arena", "arena must not be NULL");
        return NULL;
    }
    if (!numaperf__arena_is_owner(arena) && !arena_claim(arena))
        return arena_refuse(arena);
    if (align == 0)
        align = ALIGN_DEFAULT;
    if ((align & (align - 1)) != 0 || align > ALIGN_MAX) {
        (void)numaperf__fail(-EINVAL, 0, "arena", "align: %zu is no power of two up to %d", align,
                             ALIGN_MAX);
        return arena_refuse(arena);
    }
    void *block = arena_alloc_owner(arena, size, align);
    return block != NULL ? block : arena_refuse(arena);
}

void *numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align)
{
    /* The usual alignments, 0 and 16, and a size with a magazine: 0 is not one. */
    if (__builtin_expect(arena == NULL || !numaperf__arena_is_owner(arena) ||
                             (align & ~(size_t)ALIGN_DEFAULT) != 0 ||
                             size - 1 >= NUMAPERF__MAGAZINE_BYTES_MAX,
                         0))
        return arena_alloc_slow(arena, size, align);
    void *block = numaperf__magazine_take(arena->by_size[(size - 1) / 16]);
    if (__builtin_expect(block == NULL, 0))
        return arena_alloc_slow(arena, size, align);
    numaperf__unpoison(block, size);
    return block;
}

/* ---- looking at it ---- */

int numaperf_arena_node(const numaperf_arena_t *arena)
{
    if (arena == NULL)
        return numaperf__fail(-EINVAL, 0, "arena", "arena must not be NULL");
    return arena->node;
}

const numaperf_enforcement_t *numaperf_arena_enforcement(const numaperf_arena_t *arena)
{
    return arena != NULL ? &arena->enforcement : NULL;
}

static void arena_take_in_all(numaperf_arena_t *arena)
{
    numaperf__arena_collect_spans(arena, UINT64_MAX);
    numaperf__arena_collect_big(arena, UINT64_MAX);
    numaperf__arena_note_peak(arena);
}

int numaperf_arena_stats(const numaperf_arena_t *arena, numaperf_arena_stats_t *out)
{
    if (arena == NULL)
        return numaperf__fail(-EINVAL, 0, "arena stats", "arena must not be NULL");
    /* On the owner the numbers are exact, so what others freed is taken in first; to the caller,
       who sees blocks and no bookkeeping, the arena stays const. */
    if (numaperf__arena_is_owner(arena))
        arena_take_in_all((numaperf_arena_t *)arena);

    const struct numaperf__arena_counters *counters = &arena->counters;
    uint64_t to_take = 0;
    uint64_t put = 0;
    for (uint32_t i = 0; arena->magazines != NULL && i < NUMAPERF__MAGAZINE_COUNT; i++) {
        to_take += numaperf__magazine_take_count(&arena->magazines[i]);
        put += numaperf__magazine_put_count(&arena->magazines[i]);
    }
    uint64_t alloc_count = numaperf__counter_get(&counters->alloc_count);
    uint64_t used_bytes = numaperf__arena_used_bytes(arena);
    uint64_t peak = numaperf__counter_get(&counters->used_bytes_peak);
    numaperf_arena_stats_t stats = {
        .size = sizeof(stats),
        .chunk_count = (uint32_t)numaperf__counter_get(&counters->chunk_count),
        .mapped_bytes = numaperf__counter_get(&counters->mapped_bytes),
        .used_bytes = used_bytes,
        .used_bytes_peak = used_bytes > peak ? used_bytes : peak,
        .limit_bytes = arena->limit_bytes,
        .alloc_count = alloc_count > to_take ? alloc_count - to_take : 0,
        .free_count = numaperf__counter_get(&counters->free_count) + put,
        .remote_free_count = numaperf__counter_get(&counters->remote_free_count),
        .fail_count = numaperf__counter_get(&counters->fail_count),
    };
    return numaperf__result_store(out, ARENA_STATS_MIN_SIZE, &stats, sizeof(stats), "arena stats");
}

/* ---- destroy ---- */

void numaperf_arena_destroy(numaperf_arena_t *arena)
{
    if (arena == NULL)
        return;
    int rc = pthread_mutex_destroy(&arena->mutex);
    NUMAPERF_ASSERT(rc == 0); /* else a call on the arena is still under way */
    /* The first chunk holds the arena itself, so it goes last and the list is not read again. */
    struct numaperf__list *first = arena->chunks.next;
    while (arena->chunks.prev != first) {
        struct numaperf__list *last = arena->chunks.prev;
        numaperf__list_remove(last);
        numaperf__chunk_unmap(NUMAPERF_CONTAINER_OF(last, struct numaperf__arena_chunk, link));
    }
    numaperf__chunk_unmap(NUMAPERF_CONTAINER_OF(first, struct numaperf__arena_chunk, link));
}
