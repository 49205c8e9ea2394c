/* SPDX-License-Identifier: MIT */
/*
 * Blocks freed by other threads than the owner.
 *
 * Each span has a bit for each of its blocks in remote_bits, a bit for each word of these in
 * remote_words, and a place in the arena's stack of spans that have something:
 *
 *   freer: sets the bit of its block; found the word empty: sets the bit of the word; found
 *          remote_words empty: pushes the span
 *   owner: takes the whole stack; of each span: reads its link, takes remote_words, takes each
 *          word named there; what it took are free blocks
 *
 * A word that is not empty was made so by one freer, who names it, and only a word that was named
 * is taken: so each word is named once for every time it is taken, and a block's bit is lost only
 * if its namer never comes, which sets two bits and pushes without waiting for anyone. In the same
 * way a span is on the stack, or about to be pushed by one freer, exactly while remote_words is not
 * empty; so its link has one writer at a time. Until its bit was taken a block counts as used, so
 * the span cannot lose its class while a freer is at work on it. A bit that is set already belongs
 * to a block that is freed twice.
 *
 * The blocks themselves are not touched: neither thread fetches them into its cache for this, one
 * atomic instruction a block is all that a freer pays, and freers of different spans do not meet.
 *
 * Blocks too big for a span are few: they are linked through their first bytes, on one stack.
 * Pushers only ever replace the head by their own block, and the owner only ever takes the whole
 * stack, so no thread reads a link that another may change: no ABA, and no link is torn.
 *
 * Threads: any pushes, the owner collects.
 */
#include "place/arena_blocks.h"

/* ---- any thread ---- */

static void arena_push_on_stack(numaperf_arena_t *arena, struct numaperf__span *span)
{
    struct numaperf__span *head = atomic_load_explicit(&arena->remote_spans, memory_order_relaxed);
    do {
        span->remote_next = head;
        /* Release: pairs with the acquire in numaperf__arena_collect_spans(), for the link. */
    } while (!atomic_compare_exchange_weak_explicit(&arena->remote_spans, &head, span,
                                                    memory_order_release, memory_order_relaxed));
}

void numaperf__arena_push_span(numaperf_arena_t *arena, struct numaperf__span *span, void *block)
{
    uint32_t index = numaperf__span_index_of(span, block);
    uint64_t bit = (uint64_t)1 << (index % 64);
    /* An addition sets the bit, as it is not set: one instruction that also tells what was there.
       Release: pairs with the acquire in arena_collect_span(), for the block's bytes. */
    uint64_t before =
        atomic_fetch_add_explicit(&span->remote_bits[index / 64], bit, memory_order_release);
    NUMAPERF_ASSERT((before & bit) == 0); /* not freed already */
    if (before != 0)
        return;
    /* Release: pairs with the acquire on remote_words in arena_collect_span(), so that the word
       named is found with its bit. Acquire: pairs with the release there, so that the owner has
       read our link before it is written again. */
    before = atomic_fetch_or_explicit(&span->remote_words, (uint64_t)1 << (index / 64),
                                      memory_order_acq_rel);
    if (before == 0)
        arena_push_on_stack(arena, span);
}

void numaperf__arena_push_big(numaperf_arena_t *arena, void *block)
{
    void *head = atomic_load_explicit(&arena->remote_big, memory_order_relaxed);
    do {
        numaperf__link_set(block, head);
        /* Release: pairs with the acquire in numaperf__arena_collect_big(), for the link and the
           block's bytes. */
    } while (!atomic_compare_exchange_weak_explicit(&arena->remote_big, &head, block,
                                                    memory_order_release, memory_order_relaxed));
}

/* ---- owner ---- */

/* Our blocks of the span; how many. Its link was read. */
static uint32_t arena_collect_span(struct numaperf__span *span)
{
    uint32_t count = 0;
    /* Acquire and release: as in numaperf__arena_push_span(). */
    uint64_t words = atomic_exchange_explicit(&span->remote_words, 0, memory_order_acq_rel);
    NUMAPERF_ASSERT(words != 0);
    for (; words != 0; words &= words - 1) {
        uint32_t word = (uint32_t)__builtin_ctzll(words);
        /* Acquire: pairs with the release in numaperf__arena_push_span(). */
        uint64_t bits = atomic_exchange_explicit(&span->remote_bits[word], 0, memory_order_acquire);
        NUMAPERF_ASSERT(bits != 0); /* named, and not taken since */
        count += numaperf__span_put_word(span, word, bits);
    }
    return count;
}

void numaperf__arena_collect_spans(numaperf_arena_t *arena, uint64_t count_max)
{
    struct numaperf__arena_counters *counters = &arena->counters;
    for (uint64_t i = 0; i < count_max; i++) {
        if (arena->collected == NULL) {
            if (atomic_load_explicit(&arena->remote_spans, memory_order_relaxed) == NULL)
                return;
            /* Acquire: pairs with the release in arena_push_on_stack(). */
            arena->collected =
                atomic_exchange_explicit(&arena->remote_spans, NULL, memory_order_acquire);
        }
        struct numaperf__span *span = arena->collected;
        arena->collected = span->remote_next; /* before remote_words is taken: then others write */
        uint32_t count = arena_collect_span(span);
        numaperf__counter_sub(&counters->out_bytes, count * span->block_bytes);
        numaperf__counter_add(&counters->free_count, count);
        numaperf__counter_add(&counters->remote_free_count, count);
        numaperf__arena_settle_span(arena, span);
    }
}

void numaperf__arena_collect_big(numaperf_arena_t *arena, uint64_t count_max)
{
    uint64_t count = 0;
    while (count < count_max) {
        if (arena->drained == NULL) {
            if (atomic_load_explicit(&arena->remote_big, memory_order_relaxed) == NULL)
                break;
            /* Acquire: pairs with the release in numaperf__arena_push_big(). */
            arena->drained =
                atomic_exchange_explicit(&arena->remote_big, NULL, memory_order_acquire);
        }
        void *block = arena->drained;
        arena->drained = numaperf__link_get(block);
        numaperf__arena_free_big(arena, block);
        count++;
    }
    numaperf__counter_add(&arena->counters.remote_free_count, count);
}
