/* SPDX-License-Identifier: MIT */
/*
 * Arena: blocks in size classes, carved from spans, which come from chunks; large blocks have a
 * region of their own. arena_chunk.c grows it, span.c carves, this file is the object's life and
 * the two ways of freeing.
 *
 * The thread that allocates first becomes the owner and is the only one that moves spans, lists
 * and counters. Any other thread frees by pushing the block on one stack, linked through the
 * blocks themselves:
 *
 *   in use --push by any thread--> on the stack --exchange by the owner--> drained --> free
 *
 * Pushers only ever replace the head by their own block, and the owner only ever takes the whole
 * stack, so no thread reads a link that another may change: there is no ABA, and no link is torn.
 * The push releases what the pusher wrote to the block; the owner's exchange acquires it, and so
 * the block's next user sees it ordered. The owner drains when a class has no room, before the
 * arena grows, when it asks for statistics, and now and then: an owner whose blocks of one class
 * come and go would otherwise never give back the regions of large blocks.
 *
 * Threads: alloc on the owner, free on any thread; a thread is known by its pthread_self(), which
 * a later thread may inherit only after the owner has ended.
 */
#include "place/arena.h"

#include "base/config.h"
#include "base/error.h"
#include "place/arena_chunk.h"
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
#define DRAIN_BATCH 256  /* remote frees taken in at one allocation, before memory is short */
#define DRAIN_EVERY 1024 /* allocations; a power of two */
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

/* Set the arena up inside its first chunk, which is still zero. */
static numaperf_arena_t *arena_init(const struct arena_plan *plan,
                                    struct numaperf__arena_chunk *chunk)
{
    numaperf_arena_t *arena = (numaperf_arena_t *)(chunk->base + ARENA_OFFSET);
    int rc = pthread_mutex_init(&arena->mutex, NULL);
    NUMAPERF_ASSERT(rc == 0); /* default attributes need nothing that could be short */
    for (uint32_t i = 0; i < NUMAPERF__SIZE_CLASS_COUNT; i++)
        numaperf__list_init(&arena->partial[i]);
    numaperf__list_init(&arena->free_spans);
    numaperf__list_init(&arena->chunks);
    numaperf__enforce_set(&arena->enforcement, NUMAPERF_ENFORCE_STRICT, "%s", "");
    arena->region_config = plan->region_config;
    arena->unplaced_reason = plan->unplaced_reason;
    arena->limit_bytes = plan->limit_bytes;
    arena->chunk_bytes = plan->chunk_bytes;
    arena->granule_bytes = plan->granule_bytes;
    arena->node = plan->node;

    size_t length = chunk->length < NUMAPERF__SPAN_BYTES ? chunk->length : NUMAPERF__SPAN_BYTES;
    struct numaperf__span *span = (struct numaperf__span *)chunk->base;
    numaperf__span_init(span, arena, chunk, length, ARENA_OFFSET + sizeof(*arena));
    chunk->carved_bytes = length;
    if (chunk->carved_bytes < chunk->length)
        arena->fresh = chunk;
    numaperf__list_push_back(&arena->free_spans, &span->link);
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
                             &chunk);
    if (rc < 0)
        return rc;
    *out = arena_init(&plan, chunk);
    return 0;
}

/* ---- free ---- */

static void arena_count_free(numaperf_arena_t *arena, uint64_t bytes)
{
    struct numaperf__arena_counters *counters = &arena->counters;
    uint64_t used = numaperf__counter_get(&counters->used_bytes);
    NUMAPERF_ASSERT(used >= bytes);
    numaperf__counter_set(&counters->used_bytes, used - bytes);
    numaperf__counter_set(&counters->free_count, numaperf__counter_get(&counters->free_count) + 1);
}

static void arena_free_large(numaperf_arena_t *arena, struct numaperf__span *span, void *block)
{
    NUMAPERF_ASSERT((char *)block == (char *)span + span->first);
    struct numaperf__arena_chunk *chunk = span->chunk;
    arena_count_free(arena, span->block_bytes);
    numaperf__arena_remove_chunk(arena, chunk);
    numaperf__chunk_unmap(chunk);
}

/* The span got room, or became empty: where it belongs now. */
static void arena_settle_span(numaperf_arena_t *arena, struct numaperf__span *span)
{
    if (span->state == NUMAPERF__SPAN_CURRENT)
        return;
    if (span->state == NUMAPERF__SPAN_FULL) {
        numaperf__span_set_state(span, NUMAPERF__SPAN_FULL, NUMAPERF__SPAN_PARTIAL);
        numaperf__list_push_back(&arena->partial[span->size_class], &span->link);
    }
    if (span->used_count > 0)
        return;
    numaperf__list_remove(&span->link);
    numaperf__span_set_state(span, NUMAPERF__SPAN_PARTIAL, NUMAPERF__SPAN_FREE);
    numaperf__list_push_back(&arena->free_spans, &span->link);
}

/* A block is back, on the owner. */
static void arena_put(numaperf_arena_t *arena, struct numaperf__span *span, void *block)
{
    if (span->state == NUMAPERF__SPAN_LARGE) {
        arena_free_large(arena, span, block);
        return;
    }
    NUMAPERF_ASSERT(span->state != NUMAPERF__SPAN_FREE);
    numaperf__span_put(span, block);
    arena_count_free(arena, span->block_bytes);
    if (span->state != NUMAPERF__SPAN_CURRENT)
        arena_settle_span(arena, span);
}

/* Take in at most `count_max` blocks that other threads freed. */
static void arena_drain(numaperf_arena_t *arena, uint64_t count_max)
{
    struct numaperf__arena_counters *counters = &arena->counters;
    uint64_t count = 0;
    while (count < count_max) {
        if (arena->drained == NULL) {
            if (atomic_load_explicit(&arena->remote, memory_order_relaxed) == NULL)
                break;
            /* Acquire: pairs with the release in arena_push_remote(). */
            arena->drained = atomic_exchange_explicit(&arena->remote, NULL, memory_order_acquire);
        }
        void *block = arena->drained;
        arena->drained = numaperf__link_get(block);
        arena_put(arena, numaperf__span_of(block), block);
        count++;
    }
    numaperf__counter_set(&counters->remote_free_count,
                          numaperf__counter_get(&counters->remote_free_count) + count);
}

static void arena_push_remote(numaperf_arena_t *arena, void *block)
{
    void *head = atomic_load_explicit(&arena->remote, memory_order_relaxed);
    do {
        numaperf__link_set(block, head);
        /* Release: pairs with the acquire in arena_drain(), for the link and the block's bytes. */
    } while (!atomic_compare_exchange_weak_explicit(&arena->remote, &head, block,
                                                    memory_order_release, memory_order_relaxed));
}

static bool arena_is_owner(const numaperf_arena_t *arena)
{
    /* Relaxed: only the owner itself can find its own id here. */
    return atomic_load_explicit(&arena->owner, memory_order_relaxed) == (uintptr_t)pthread_self();
}

void numaperf_arena_free(numaperf_arena_t *arena, void *block)
{
    if (block == NULL)
        return;
    NUMAPERF_ASSERT(arena != NULL);
    struct numaperf__span *span = numaperf__span_of(block);
    NUMAPERF_ASSERT((void *)span != block); /* no block starts where a header does */
    NUMAPERF_ASSERT(span->magic == NUMAPERF__SPAN_MAGIC);
    NUMAPERF_ASSERT(span->arena == arena); /* the block is of this arena */
    /* Of the span's class, which stays while the block is out; a second free is not yet told. */
    numaperf__poison(block, span->block_bytes);
    if (arena_is_owner(arena))
        arena_put(arena, span, block);
    else
        arena_push_remote(arena, block);
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
    if (atomic_compare_exchange_strong_explicit(&arena->owner, &nobody, (uintptr_t)pthread_self(),
                                                memory_order_relaxed, memory_order_relaxed))
        return true;
    (void)numaperf__fail(-EBUSY, 0, "arena", "another thread owns the arena: only it allocates");
    return false;
}

static void arena_count_alloc(numaperf_arena_t *arena, uint64_t bytes)
{
    struct numaperf__arena_counters *counters = &arena->counters;
    uint64_t used = numaperf__counter_get(&counters->used_bytes) + bytes;
    numaperf__counter_set(&counters->used_bytes, used);
    if (used > numaperf__counter_get(&counters->used_bytes_peak))
        numaperf__counter_set(&counters->used_bytes_peak, used);
    numaperf__counter_set(&counters->alloc_count,
                          numaperf__counter_get(&counters->alloc_count) + 1);
}

/* Room for so many bytes in small pages, or in huge ones where at least half of them is used. */
static uint64_t large_granule(const numaperf_arena_t *arena, uint64_t bytes)
{
    uint64_t small = numaperf__page_bytes();
    return round_up(bytes, arena->granule_bytes) / 2 <= bytes ? arena->granule_bytes : small;
}

static void *arena_alloc_large(numaperf_arena_t *arena, size_t size, size_t align)
{
    arena_drain(arena, UINT64_MAX); /* large blocks freed elsewhere are still mapped until now */
    size_t first = (size_t)round_up(sizeof(struct numaperf__span), align);
    uint64_t granule = size < SIZE_MAX / 2 ? large_granule(arena, first + size) : 1;
    size_t room = numaperf__arena_room(arena, granule);
    if (size > room || first > room - size || round_up(first + size, granule) > room) {
        (void)numaperf__fail(
            -ENOMEM, 0, "arena",
            "%zu bytes asked, limit_bytes: %" PRIu64 " bytes are mapped of %" PRIu64 " allowed",
            size, numaperf__counter_get(&arena->counters.mapped_bytes), arena->limit_bytes);
        return arena_refuse(arena);
    }
    struct numaperf__arena_chunk *chunk = NULL;
    size_t length = (size_t)round_up(first + size, granule);
    numaperf_region_config_t config = arena->region_config;
    if (granule < arena->granule_bytes)
        config.huge_pages = NUMAPERF_HUGE_DEFAULT;
    if (numaperf__chunk_map(&config, arena->unplaced_reason, length, &chunk) < 0)
        return arena_refuse(arena);
    numaperf__arena_add_chunk(arena, chunk);

    struct numaperf__span *span = (struct numaperf__span *)chunk->base;
    size_t head = chunk->length < NUMAPERF__SPAN_BYTES ? chunk->length : NUMAPERF__SPAN_BYTES;
    numaperf__span_init(span, arena, chunk, head, sizeof(*span));
    span->state = NUMAPERF__SPAN_LARGE;
    span->first = (uint32_t)first;
    span->block_bytes = chunk->length - first;
    chunk->carved_bytes = chunk->length;
    arena_count_alloc(arena, span->block_bytes);
    numaperf__poison(chunk->base + sizeof(*span), chunk->length - sizeof(*span));
    numaperf__unpoison(chunk->base + first, size);
    return chunk->base + first;
}

/* Make a span with room current, from what the class has: its current one or a partial one. */
static struct numaperf__span *arena_reuse_span(numaperf_arena_t *arena, uint32_t size_class)
{
    struct numaperf__span *span = arena->current[size_class];
    if (span != NULL && numaperf__span_has_room(span))
        return span;
    struct numaperf__list *head = &arena->partial[size_class];
    if (numaperf__list_empty(head))
        return NULL;
    if (span != NULL)
        numaperf__span_set_state(span, NUMAPERF__SPAN_CURRENT, NUMAPERF__SPAN_FULL);
    span = NUMAPERF_CONTAINER_OF(head->next, struct numaperf__span, link);
    numaperf__list_remove(&span->link);
    numaperf__span_set_state(span, NUMAPERF__SPAN_PARTIAL, NUMAPERF__SPAN_CURRENT);
    arena->current[size_class] = span;
    return span;
}

/* Classes keep an empty current span, to be quick; give those up before mapping more memory. */
static void arena_reclaim_current(numaperf_arena_t *arena)
{
    for (uint32_t i = 0; i < NUMAPERF__SIZE_CLASS_COUNT; i++) {
        struct numaperf__span *span = arena->current[i];
        if (span == NULL || span->used_count > 0)
            continue;
        numaperf__span_set_state(span, NUMAPERF__SPAN_CURRENT, NUMAPERF__SPAN_FREE);
        numaperf__list_push_back(&arena->free_spans, &span->link);
        arena->current[i] = NULL;
    }
}

/* The class has no room: in order of cost, find it some. NULL: recorded why. */
static struct numaperf__span *arena_refill(numaperf_arena_t *arena, uint32_t size_class)
{
    arena_drain(arena, DRAIN_BATCH);
    struct numaperf__span *span = arena_reuse_span(arena, size_class);
    if (span != NULL)
        return span;
    span = numaperf__arena_find_span(arena, size_class);
    if (span == NULL) {
        arena_drain(arena, UINT64_MAX);
        span = arena_reuse_span(arena, size_class);
        if (span != NULL)
            return span;
        arena_reclaim_current(arena);
        span = numaperf__arena_get_span(arena, size_class);
    }
    if (span == NULL)
        return NULL;
    if (arena->current[size_class] != NULL)
        numaperf__span_set_state(arena->current[size_class], NUMAPERF__SPAN_CURRENT,
                                 NUMAPERF__SPAN_FULL);
    numaperf__span_assign(span, size_class);
    arena->current[size_class] = span;
    return span;
}

static void *arena_alloc_slow(numaperf_arena_t *arena, uint32_t size_class)
{
    struct numaperf__span *span = arena_refill(arena, size_class);
    if (span == NULL)
        return arena_refuse(arena);
    void *block = numaperf__span_take(span);
    NUMAPERF_ASSERT(block != NULL);
    arena_count_alloc(arena, span->block_bytes);
    return block;
}

void *numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align)
{
    if (arena == NULL) {
        (void)numaperf__fail(-EINVAL, 0, "arena", "arena must not be NULL");
        return NULL;
    }
    if (!arena_is_owner(arena) && !arena_claim(arena))
        return arena_refuse(arena);
    if (align == 0)
        align = ALIGN_DEFAULT;
    if ((align & (align - 1)) != 0 || align > ALIGN_MAX) {
        (void)numaperf__fail(-EINVAL, 0, "arena", "align: %zu is no power of two up to %d", align,
                             ALIGN_MAX);
        return arena_refuse(arena);
    }
    if (size > NUMAPERF__SIZE_CLASS_MAX_BYTES)
        return arena_alloc_large(arena, size, align);
    if (size == 0)
        size = 1; /* as malloc: a block of its own */
    /* At most the largest class: 28672 is a multiple of every alignment up to 4096. */
    if (numaperf__counter_get(&arena->counters.alloc_count) % DRAIN_EVERY == 0)
        arena_drain(arena, DRAIN_BATCH);
    uint32_t size_class = numaperf__size_class((size + align - 1) & ~(align - 1));
    struct numaperf__span *span = arena->current[size_class];
    void *block = span != NULL ? numaperf__span_take(span) : NULL;
    if (block != NULL)
        arena_count_alloc(arena, span->block_bytes);
    else
        block = arena_alloc_slow(arena, size_class);
    if (block != NULL)
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

int numaperf_arena_stats(const numaperf_arena_t *arena, numaperf_arena_stats_t *out)
{
    if (arena == NULL)
        return numaperf__fail(-EINVAL, 0, "arena stats", "arena must not be NULL");
    /* On the owner the numbers are exact, so what others freed is taken in first; to the caller,
       who sees blocks and no bookkeeping, the arena stays const. */
    if (arena_is_owner(arena))
        arena_drain((numaperf_arena_t *)arena, UINT64_MAX);

    const struct numaperf__arena_counters *counters = &arena->counters;
    numaperf_arena_stats_t stats = {
        .size = sizeof(stats),
        .chunk_count = (uint32_t)numaperf__counter_get(&counters->chunk_count),
        .mapped_bytes = numaperf__counter_get(&counters->mapped_bytes),
        .used_bytes = numaperf__counter_get(&counters->used_bytes),
        .used_bytes_peak = numaperf__counter_get(&counters->used_bytes_peak),
        .limit_bytes = arena->limit_bytes,
        .alloc_count = numaperf__counter_get(&counters->alloc_count),
        .free_count = numaperf__counter_get(&counters->free_count),
        .remote_free_count = numaperf__counter_get(&counters->remote_free_count),
        .fail_count = numaperf__counter_get(&counters->fail_count),
    };
    return numaperf__result_store(out, ARENA_STATS_MIN_SIZE, &stats, sizeof(stats), "arena stats");
}

/* Validate every span of a chunk; returns the bytes in use there. */
static uint64_t validate_chunk(const numaperf_arena_t *arena,
                               const struct numaperf__arena_chunk *chunk)
{
    uint64_t used = 0;
    size_t offset = 0;
    while (offset < chunk->carved_bytes) {
        const struct numaperf__span *span = (const struct numaperf__span *)(chunk->base + offset);
        NUMAPERF_ASSERT(span->arena == arena);
        NUMAPERF_ASSERT(span->chunk == chunk);
        if (span->state == NUMAPERF__SPAN_LARGE)
            return span->block_bytes;
        numaperf__span_validate(span);
        used += (uint64_t)span->used_count * span->block_bytes;
        NUMAPERF_ASSERT((span->state == NUMAPERF__SPAN_CURRENT) ==
                        (arena->current[span->size_class] == span));
        offset += span->length;
    }
    NUMAPERF_ASSERT(offset == chunk->carved_bytes);
    return used;
}

void numaperf__arena_validate(numaperf_arena_t *arena)
{
    uint64_t used = 0;
    uint64_t mapped = 0;
    uint64_t count = 0;
    (void)pthread_mutex_lock(&arena->mutex); /* a default mutex, never locked twice: cannot fail */
    const struct numaperf__list *head = &arena->chunks;
    for (const struct numaperf__list *at = head->next; at != head; at = at->next) {
        const struct numaperf__arena_chunk *chunk =
            NUMAPERF_CONTAINER_OF(at, struct numaperf__arena_chunk, link);
        used += validate_chunk(arena, chunk);
        mapped += chunk->length;
        count++;
    }
    (void)pthread_mutex_unlock(&arena->mutex);
    NUMAPERF_ASSERT(used == numaperf__counter_get(&arena->counters.used_bytes));
    NUMAPERF_ASSERT(mapped == numaperf__counter_get(&arena->counters.mapped_bytes));
    NUMAPERF_ASSERT(count == numaperf__counter_get(&arena->counters.chunk_count));
    NUMAPERF_ASSERT(arena->limit_bytes == 0 || mapped <= arena->limit_bytes);
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
