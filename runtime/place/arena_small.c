/* SPDX-License-Identifier: MIT */
/*
 * Blocks of a size class, as their arena's owner takes them and gives them back.
 *
 * The first classes have a magazine each, filled from the class's current span and emptied into
 * the spans the blocks belong to; blocks of the other classes pass straight. To its span a block
 * in a magazine is out, to statistics it is free: nothing is counted while blocks move between the
 * user and a magazine, and what is in there now is added or taken off by who asks.
 *
 * Memory goes from one class to another by whole spans. Before the arena grows, what other threads
 * freed is taken in, magazines are emptied, and empty current spans are given up.
 *
 * Threads: owner; numaperf__arena_used_bytes() any.
 */
#include "place/arena_blocks.h"

#define COLLECT_BATCH 4     /* spans with remote frees taken in when a class needs a span */
#define COLLECT_EVERY 8     /* slow allocations between two looks at what others freed */
#define COLLECT_BIG_MAX 256 /* big blocks taken in at one allocation, before memory is short */

/* ---- statistics ---- */

uint64_t numaperf__arena_used_bytes(const numaperf_arena_t *arena)
{
    uint64_t out = numaperf__counter_get(&arena->counters.out_bytes);
    uint64_t idle = 0;
    for (uint32_t i = 0; arena->magazines != NULL && i < NUMAPERF__MAGAZINE_COUNT; i++) {
        const struct numaperf__magazine *magazine = &arena->magazines[i];
        idle += ((uint64_t)numaperf__magazine_take_count(magazine) +
                 numaperf__magazine_put_count(magazine)) *
                numaperf__size_class_bytes(i);
    }
    /* The counters change meanwhile, when another thread than the owner looks. */
    return out > idle ? out - idle : 0;
}

void numaperf__arena_note_peak(numaperf_arena_t *arena)
{
    uint64_t used = numaperf__arena_used_bytes(arena);
    if (used > numaperf__counter_get(&arena->counters.used_bytes_peak))
        numaperf__counter_set(&arena->counters.used_bytes_peak, used);
}

void numaperf__arena_note_taken(numaperf_arena_t *arena)
{
    uint64_t out = numaperf__counter_get(&arena->counters.out_bytes);
    if (out <= numaperf__counter_get(&arena->counters.out_bytes_peak))
        return;
    numaperf__counter_set(&arena->counters.out_bytes_peak, out);
    numaperf__arena_note_peak(arena);
}

static bool stack_has(void *const *base, void *const *top, const void *block)
{
    for (void *const *at = base; at != top; at++) {
        if (*at == block)
            return true;
    }
    return false;
}

static bool magazine_has(const struct numaperf__magazine *magazine, const void *block)
{
    return stack_has(numaperf__magazine_get(&magazine->take_base),
                     numaperf__magazine_get(&magazine->take_top), block) ||
           stack_has(numaperf__magazine_get(&magazine->put_base),
                     numaperf__magazine_get(&magazine->put_top), block);
}

bool numaperf__arena_is_in_use(const struct numaperf__span *span, const void *block)
{
    uint32_t index = numaperf__span_index_of(span, block);
    uint64_t bit = (uint64_t)1 << (index % 64);
    uint64_t remote = atomic_load_explicit(&span->remote_bits[index / 64], memory_order_relaxed);
    return ((span->free_bits[index / 64] | remote) & bit) == 0 &&
           !magazine_has(span->magazine, block);
}

/* ---- spans ---- */

void numaperf__arena_settle_span(numaperf_arena_t *arena, struct numaperf__span *span)
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
    numaperf__arena_put_unit(arena, span);
}

/* Back to their spans; out of the books of those who are out. */
static void arena_return(numaperf_arena_t *arena, void *const *blocks, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct numaperf__span *span = numaperf__span_of(blocks[i]);
        numaperf__counter_sub(&arena->counters.out_bytes, span->block_bytes);
        numaperf__span_put(span, blocks[i]);
        numaperf__arena_settle_span(arena, span);
    }
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

static struct numaperf__magazine *arena_magazine(numaperf_arena_t *arena, uint32_t size_class)
{
    bool has_one = arena->magazines != NULL && size_class < NUMAPERF__MAGAZINE_COUNT;
    return has_one ? &arena->magazines[size_class] : &arena->no_magazine;
}

/* A new current span, from a free unit; the old one is full. */
static struct numaperf__span *arena_new_span(numaperf_arena_t *arena, uint32_t size_class)
{
    struct numaperf__span *span =
        numaperf__arena_take_unit(arena, size_class, arena_magazine(arena, size_class));
    if (span == NULL)
        return NULL;
    span->key = numaperf__arena_key(arena, numaperf__arena_self());
    if (arena->current[size_class] != NULL)
        numaperf__span_set_state(arena->current[size_class], NUMAPERF__SPAN_CURRENT,
                                 NUMAPERF__SPAN_FULL);
    arena->current[size_class] = span;
    return span;
}

/* A span of the class with room: in order of cost. NULL: recorded why. */
static struct numaperf__span *arena_refill(numaperf_arena_t *arena, uint32_t size_class)
{
    struct numaperf__span *span = arena->current[size_class];
    if (span != NULL && numaperf__span_has_room(span))
        return span;
    numaperf__arena_collect_spans(arena, COLLECT_BATCH);
    span = arena_reuse_span(arena, size_class);
    if (span == NULL)
        span = arena_new_span(arena, size_class);
    if (span != NULL)
        return span;

    numaperf__arena_collect_spans(arena, UINT64_MAX);
    numaperf__arena_collect_big(arena, UINT64_MAX);
    numaperf__arena_give_up_stock(arena);
    span = arena_reuse_span(arena, size_class);
    if (span == NULL)
        span = arena_new_span(arena, size_class);
    if (span != NULL)
        return span;
    if (numaperf__arena_grow_for_class(arena, size_class) < 0)
        return NULL;
    span = arena_new_span(arena, size_class);
    NUMAPERF_ASSERT(span != NULL);
    return span;
}

/* ---- magazines ---- */

/* All that was put goes to the spans. */
static void magazine_return_put(numaperf_arena_t *arena, struct numaperf__magazine *magazine)
{
    uint32_t count = numaperf__magazine_put_count(magazine);
    void **base = numaperf__magazine_get(&magazine->put_base);
    arena_return(arena, base, count);
    numaperf__magazine_set(&magazine->put_top, base);
    numaperf__counter_add(&arena->counters.free_count, count);
}

static void magazine_return_taken(numaperf_arena_t *arena, struct numaperf__magazine *magazine)
{
    uint32_t count = numaperf__magazine_take_count(magazine);
    void **base = numaperf__magazine_get(&magazine->take_base);
    arena_return(arena, base, count);
    numaperf__magazine_set(&magazine->take_top, base);
    numaperf__counter_sub(&arena->counters.alloc_count, count); /* they were not, after all */
}

void numaperf__arena_give_up_stock(numaperf_arena_t *arena)
{
    for (uint32_t i = 0; arena->magazines != NULL && i < NUMAPERF__MAGAZINE_COUNT; i++) {
        magazine_return_put(arena, &arena->magazines[i]);
        magazine_return_taken(arena, &arena->magazines[i]);
    }
    for (uint32_t i = 0; i < NUMAPERF__SIZE_CLASS_COUNT; i++) {
        struct numaperf__span *span = arena->current[i];
        if (span == NULL || span->used_count > 0)
            continue;
        numaperf__span_set_state(span, NUMAPERF__SPAN_CURRENT, NUMAPERF__SPAN_FREE);
        numaperf__arena_put_unit(arena, span);
        arena->current[i] = NULL;
    }
}

/* What was put becomes what is taken, the last one first: it is in the cache. */
static void magazine_turn(numaperf_arena_t *arena, struct numaperf__magazine *magazine)
{
    uint32_t count = numaperf__magazine_put_count(magazine);
    void **empty = numaperf__magazine_get(&magazine->take_base);
    void **full = numaperf__magazine_get(&magazine->put_base);
    NUMAPERF_ASSERT(numaperf__magazine_get(&magazine->take_top) == empty);
    numaperf__magazine_set(&magazine->take_base, full);
    numaperf__magazine_set(&magazine->take_top, full + count);
    numaperf__magazine_set(&magazine->put_base, empty);
    numaperf__magazine_set(&magazine->put_top, empty);
    magazine->put_end = empty + magazine->slot_count;
    numaperf__counter_add(&arena->counters.alloc_count, count);
    numaperf__counter_add(&arena->counters.free_count, count);
}

/* Fill up to `count_max` blocks from the class's spans; how many, 0: recorded why. */
static uint32_t arena_take(numaperf_arena_t *arena, uint32_t size_class, void **out_blocks,
                           uint32_t count_max)
{
    struct numaperf__span *span = arena_refill(arena, size_class);
    if (span == NULL)
        return 0;
    uint32_t count = numaperf__span_take(span, out_blocks, count_max);
    NUMAPERF_ASSERT(count > 0);
    numaperf__counter_add(&arena->counters.out_bytes, count * span->block_bytes);
    numaperf__counter_add(&arena->counters.alloc_count, count);
    return count;
}

/* An owner whose blocks of one class come and go would otherwise never learn what others freed. */
static void arena_collect_now_and_then(numaperf_arena_t *arena)
{
    if (arena->slow_count++ % COLLECT_EVERY != 0)
        return;
    numaperf__arena_collect_spans(arena, COLLECT_BATCH);
    numaperf__arena_collect_big(arena, COLLECT_BIG_MAX);
}

/*
 * A block of the magazine's class, where it had none; NULL: recorded why. Both stacks together
 * hold most of a stack afterwards, if the class has that many: else blocks that come and go
 * would change the stacks' places every few times. And at most one, so that what comes back next
 * has a place.
 */
static void *magazine_refill(numaperf_arena_t *arena, struct numaperf__magazine *magazine)
{
    uint32_t put_count = numaperf__magazine_put_count(magazine);
    const struct numaperf__span *span = arena->current[magazine->size_class];
    bool has_spare = span != NULL && numaperf__span_has_room(span);
    if (put_count >= magazine->slot_count - magazine->slot_count / 8 ||
        (put_count > 0 && !has_spare)) {
        magazine_turn(arena, magazine);
        return numaperf__magazine_take(magazine);
    }
    void **base = numaperf__magazine_get(&magazine->take_base);
    uint32_t count =
        arena_take(arena, magazine->size_class, base, magazine->slot_count - put_count);
    numaperf__magazine_set(&magazine->take_top, base + count);
    numaperf__arena_note_taken(arena);
    return numaperf__magazine_take(magazine);
}

void *numaperf__arena_alloc_small(numaperf_arena_t *arena, uint32_t size_class)
{
    struct numaperf__magazine *magazine = arena_magazine(arena, size_class);
    void *block = numaperf__magazine_take(magazine);
    if (block != NULL)
        return block;
    arena_collect_now_and_then(arena);
    if (magazine->slot_count > 0)
        return magazine_refill(arena, magazine);
    (void)arena_take(arena, size_class, &block, 1); /* leaves NULL when it fails */
    numaperf__arena_note_taken(arena);
    return block;
}

void numaperf__arena_free_small(numaperf_arena_t *arena, struct numaperf__span *span, void *block)
{
    struct numaperf__magazine *magazine = span->magazine;
    if (magazine->slot_count == 0) {
        arena_return(arena, &block, 1);
        numaperf__counter_add(&arena->counters.free_count, 1);
        return;
    }
    if (numaperf__magazine_take_count(magazine) == 0)
        magazine_turn(arena, magazine);
    else
        magazine_return_put(arena, magazine);
    bool done = numaperf__magazine_put(magazine, block);
    NUMAPERF_ASSERT(done);
}
