/* SPDX-License-Identifier: MIT */
/*
 * One owner allocates, several threads free, all at once. Every block carries its size and a
 * pattern, checked by whoever frees it: a block handed out twice, freed into the wrong size, or
 * written after its free shows there. At the end everything is back and the arena is consistent.
 *
 * NUMAPERF_TEST_SEED replays a run; NUMAPERF_TEST_COUNT sets how many blocks are passed.
 */
#include "base/atomic.h"
#include "place/arena.h"

#include <numaperf/error.h>

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FREERS = 3, SLOTS = 256 };
#define MAPPED_MAX ((uint64_t)8 << 20)

#if defined(__SANITIZE_THREAD__)
#define COUNT_DEFAULT 100000
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COUNT_DEFAULT 100000
#endif
#endif
#ifndef COUNT_DEFAULT
#define COUNT_DEFAULT 1000000
#endif

struct block {
    uint32_t size; /* of the whole block */
    uint32_t pattern;
    unsigned char bytes[];
};

/* A mailbox of blocks: the owner fills slots, one freer empties them. */
struct lane {
    _Atomic(struct block *) slots[SLOTS];
    numaperf_arena_t *arena;
    uint64_t freed_count;
    uint64_t damaged_count;
    unsigned seed;
};

static atomic_bool is_over;

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static uint32_t random_size(unsigned *seed)
{
    unsigned kind = (unsigned)rand_r(seed) % 1000;
    if (kind == 0)
        return 30000 + (uint32_t)rand_r(seed) % 150000; /* units of a chunk, or a region */
    if (kind < 50)
        return 1000 + (uint32_t)rand_r(seed) % 20000;
    return (uint32_t)sizeof(struct block) + (uint32_t)rand_r(seed) % 500;
}

static void block_fill(struct block *block, uint32_t size, uint32_t pattern)
{
    block->size = size;
    block->pattern = pattern;
    memset(block->bytes, (int)(pattern & 255), size - sizeof(*block));
}

static bool block_is_whole(const struct block *block)
{
    size_t length = block->size - sizeof(*block);
    for (size_t i = 0; i<length; i += length> 600 ? 97 : 1) {
        if (block->bytes[i] != (block->pattern & 255))
            return false;
    }
    return true;
}

static void block_give_back(struct lane *lane, struct block *block)
{
    if (!block_is_whole(block))
        lane->damaged_count++;
    lane->freed_count++;
    numaperf_arena_free(lane->arena, block);
}

static void *freer_run(void *arg)
{
    struct lane *lane = arg;
    for (;;) {
        /* Read before the slots: what was in them when it was over is seen below. */
        bool last_round = atomic_load_explicit(&is_over, memory_order_acquire);
        uint64_t before = lane->freed_count;
        for (int i = 0; i < SLOTS; i++) {
            struct block *block =
                atomic_exchange_explicit(&lane->slots[i], NULL, memory_order_acquire);
            if (block != NULL)
                block_give_back(lane, block);
        }
        if (last_round)
            return NULL;
        if (lane->freed_count == before)
            (void)sched_yield();
    }
}

/* Blocks the owner keeps a while and frees itself, and blocks it hands to a lane. */
static uint64_t owner_run(numaperf_arena_t *arena, struct lane *lanes, uint64_t count,
                          unsigned seed)
{
    struct block *kept[64] = {NULL};
    struct lane self = {.arena = arena};
    uint64_t refused = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t size = random_size(&seed);
        struct block *block = numaperf_arena_alloc(arena, size, 0);
        if (block == NULL) { /* at the limit, until the freers catch up */
            refused++;
            i--;
            (void)sched_yield();
            continue;
        }
        block_fill(block, size, (uint32_t)i);
        unsigned place = (unsigned)rand_r(&seed);
        if (place % 4 == FREERS) {
            struct block *old = kept[place / 4 % 64];
            kept[place / 4 % 64] = block;
            if (old != NULL)
                block_give_back(&self, old);
            continue;
        }
        struct lane *lane = &lanes[place % 4];
        block =
            atomic_exchange_explicit(&lane->slots[place / 4 % SLOTS], block, memory_order_acq_rel);
        if (block != NULL) /* not taken yet: then the owner frees it */
            block_give_back(&self, block);
        if (i % 50000 == 0)
            numaperf__arena_validate(arena);
    }
    for (size_t i = 0; i < 64; i++) {
        if (kept[i] != NULL)
            block_give_back(&self, kept[i]);
    }
    assert_int_equal(self.damaged_count, 0);
    return refused;
}

/* Somebody looks at numbers and pages all the while. */
static void *watcher_run(void *arg)
{
    numaperf_arena_t *arena = arg;
    numaperf_placement_t *placement = calloc(1, sizeof(*placement));
    if (placement == NULL)
        return arg;
    placement->size = sizeof(*placement);
    void *failed = NULL;
    while (!atomic_load_explicit(&is_over, memory_order_acquire)) {
        numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
        if (numaperf_arena_stats(arena, &stats) != 0 ||
            numaperf_arena_audit(arena, placement) != 0 || placement->pages == 0)
            failed = arg;
        (void)sched_yield();
    }
    free(placement);
    return failed;
}

static void run_once(uint64_t limit_bytes, uint64_t count, unsigned seed)
{
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.chunk_bytes = 256 * 1024;
    config.limit_bytes = limit_bytes;
    numaperf_arena_t *arena = NULL;
    assert_int_equal(numaperf_arena_create(&config, &arena), 0);

    struct lane *lanes = calloc(FREERS, sizeof(*lanes));
    assert_non_null(lanes);
    pthread_t threads[FREERS];
    pthread_t watcher;
    atomic_store_explicit(&is_over, false, memory_order_release);
    for (int i = 0; i < FREERS; i++) {
        lanes[i].arena = arena;
        assert_int_equal(pthread_create(&threads[i], NULL, freer_run, &lanes[i]), 0);
    }
    assert_int_equal(pthread_create(&watcher, NULL, watcher_run, arena), 0);
    uint64_t refused = owner_run(arena, lanes, count, seed);
    atomic_store_explicit(&is_over, true, memory_order_release);
    uint64_t freed_remotely = 0;
    for (int i = 0; i < FREERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(lanes[i].damaged_count, 0);
        freed_remotely += lanes[i].freed_count;
    }
    void *failed = NULL;
    assert_int_equal(pthread_join(watcher, &failed), 0);
    assert_null(failed);

    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf_arena_stats(arena, &stats), 0);
    numaperf__arena_validate(arena);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.alloc_count, count);
    assert_int_equal(stats.free_count, count);
    assert_int_equal(stats.remote_free_count, freed_remotely);
    assert_int_equal(stats.fail_count, refused);
    assert_true(freed_remotely > 0);
    if (limit_bytes == 0)
        assert_int_equal(refused, 0);
    /* About a MiB is out at once: what was freed is found before more is mapped. */
    assert_true(stats.mapped_bytes <= MAPPED_MAX);
    numaperf_arena_destroy(arena);
    free(lanes);
}

static void arena_survives_frees_from_many_threads_at_once(void **state)
{
    (void)state;
    unsigned seed = (unsigned)number_of("NUMAPERF_TEST_SEED", 1);
    run_once(0, number_of("NUMAPERF_TEST_COUNT", COUNT_DEFAULT), seed);
}

static void arena_at_its_limit_survives_frees_from_many_threads_at_once(void **state)
{
    (void)state;
    unsigned seed = (unsigned)number_of("NUMAPERF_TEST_SEED", 2);
    run_once((uint64_t)2 << 20, number_of("NUMAPERF_TEST_COUNT", COUNT_DEFAULT) / 4, seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_survives_frees_from_many_threads_at_once),
        cmocka_unit_test(arena_at_its_limit_survives_frees_from_many_threads_at_once),
    };
    cmocka_set_test_filter(getenv("NUMAPERF_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
