/* SPDX-License-Identifier: MIT */
/*
 * Arenas: blocks too big for a size class, which are units of a chunk or have a region, and how
 * they share memory with the small ones.
 */
#include "place/arena.h"

#include "support/memory_view.h"

#include <numaperf/error.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/arena_case.h"

#define KIB ((size_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

static void arena_buffers_of_64_kib_fill_a_chunk_and_are_used_again(void **state)
{
    (void)state;
    enum { COUNT = 31 }; /* units of a chunk of 2 MiB, less the first, which is for small blocks */
    numaperf_arena_t *arena = arena_make(0, 0);
    void *blocks[COUNT];
    size_t maps = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++) {
            blocks[i] = numaperf_arena_alloc(arena, 65536, 4096);
            assert_non_null(blocks[i]);
            memset(blocks[i], i, 65536);
        }
        if (round == 0)
            maps = view_maps_count();
        numaperf_arena_stats_t stats = arena_look(arena);
        assert_int_equal(stats.used_bytes, COUNT * 65536);
        assert_int_equal(stats.mapped_bytes, 2 * MIB);
        assert_true(view_maps_unchanged(maps));
        void *small = numaperf_arena_alloc(arena, 64, 0); /* the first unit is left */
        numaperf__arena_validate(arena);
        numaperf_arena_free(arena, small);
        for (int i = 0; i < COUNT; i++) {
            int k = i * 7 % COUNT;
            assert_int_equal(*((unsigned char *)blocks[k] + 65535), k);
            numaperf_arena_free(arena, blocks[k]);
        }
        /* They were freed in another order, and are one piece again. */
        void *big = numaperf_arena_alloc(arena, MIB, 0);
        assert_int_equal(arena_look(arena).used_bytes, MIB);
        numaperf_arena_free(arena, big);
        numaperf__arena_validate(arena);
    }
    assert_int_equal(arena_look(arena).mapped_bytes, 2 * MIB);
    numaperf_arena_destroy(arena);
}

static void arena_memory_goes_from_small_blocks_to_buffers_and_back(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(0, 2 * MIB);
    for (int round = 0; round < 3; round++) {
        void *chain = NULL;
        assert_true(arena_fill(arena, 200, &chain) > 2 * MIB / 224 * 9 / 10);
        assert_null(numaperf_arena_alloc(arena, 40000, 0));
        arena_empty(arena, chain);
        assert_true(arena_fill(arena, 200000, &chain) >= 7); /* of four units each */
        assert_int_equal(arena_look(arena).mapped_bytes, 2 * MIB);
        numaperf__arena_validate(arena);
        arena_empty(arena, chain);
    }
    numaperf_arena_destroy(arena);
}

static void arena_buffer_gets_a_region_when_the_limit_leaves_no_chunk_for_it(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(256 * 1024, 256 * 1024 + 140 * 1024);
    void *first = numaperf_arena_alloc(arena, 131072, 0); /* in the chunk */
    assert_int_equal(arena_look(arena).chunk_count, 1);
    void *second = numaperf_arena_alloc(arena, 131072, 0); /* 140 KiB are no three units */
    assert_non_null(second);
    assert_int_equal(arena_look(arena).chunk_count, 2);
    assert_null(numaperf_arena_alloc(arena, 131072, 0));
    numaperf__arena_validate(arena);
    numaperf_arena_free(arena, second);
    numaperf_arena_free(arena, first);
    assert_int_equal(arena_look(arena).chunk_count, 1);
    numaperf__arena_validate(arena);
    numaperf_arena_destroy(arena);
}

/* Any mix of sizes at a limit: what is free must be found whatever was there before. */
static void arena_of_mixed_sizes_holds_its_contents_at_the_limit(void **state)
{
    (void)state;
    enum { SLOTS = 400 };
    numaperf_arena_t *arena = arena_make(0, 8 * MIB);
    unsigned char *blocks[SLOTS] = {NULL};
    size_t sizes[SLOTS] = {0};
    unsigned seed = 11;
    unsigned refused = 0;
    for (int i = 0; i < 20000; i++) {
        int k = rand_r(&seed) % SLOTS;
        if (blocks[k] != NULL) {
            assert_int_equal(blocks[k][0], k & 255);
            assert_int_equal(blocks[k][sizes[k] - 1], k & 255);
            numaperf_arena_free(arena, blocks[k]);
            blocks[k] = NULL;
            continue;
        }
        size_t size = 1 + (size_t)rand_r(&seed) % ((size_t)64 << rand_r(&seed) % 15);
        blocks[k] = numaperf_arena_alloc(arena, size, 0);
        sizes[k] = size;
        if (blocks[k] == NULL) {
            refused++;
            continue;
        }
        blocks[k][0] = (unsigned char)k;
        blocks[k][size - 1] = (unsigned char)k;
        if (i % 500 == 0)
            numaperf__arena_validate(arena);
    }
    assert_true(refused > 100); /* it was at its limit, and not only there */
    assert_true(refused < 8000);
    for (int k = 0; k < SLOTS; k++)
        numaperf_arena_free(arena, blocks[k]);
    numaperf__arena_validate(arena);
    assert_int_equal(arena_look(arena).used_bytes, 0);
    /* All of it is one piece again, less the first unit of each chunk. */
    for (int i = 0; i < 4; i++)
        assert_non_null(numaperf_arena_alloc(arena, MIB, 0));
    assert_true(arena_look(arena).mapped_bytes <= 8 * MIB);
    numaperf_arena_destroy(arena);
}

/* A chunk of several segments: a buffer never crosses the first unit of one. */
static void arena_of_large_chunks_finds_buffers_in_each_part_of_one(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(16 * MIB, 16 * MIB);
    void *chain = NULL;
    assert_int_equal(arena_fill(arena, MIB, &chain), 8); /* one to each 2 MiB, as it is 16 of 31 */
    void *rest = NULL;
    assert_true(arena_fill(arena, 960 * KIB, &rest) >= 8);
    void *small = NULL;
    assert_true(arena_fill(arena, 1024, &small) > 7 * 60);
    assert_int_equal(arena_look(arena).chunk_count, 1);
    numaperf__arena_validate(arena);
    arena_empty(arena, rest);
    arena_empty(arena, chain);
    numaperf__arena_validate(arena);
    arena_empty(arena, small);
    numaperf__arena_validate(arena);
    assert_int_equal(arena_look(arena).used_bytes, 0);
    numaperf_arena_destroy(arena);
}

static void arena_of_huge_pages_spends_none_on_blocks_that_fill_a_part_of_one(void **state)
{
    (void)state;
    for (uint64_t limit = 0; limit <= 4 * MIB; limit += 4 * MIB) {
        numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
        config.huge_pages = NUMAPERF_HUGE_2MB; /* small ones instead, where the pool is empty */
        config.limit_bytes = limit;
        numaperf_arena_t *arena = NULL;
        assert_int_equal(numaperf_arena_create(&config, &arena), 0);
        for (int i = 0; i < 10; i++)
            assert_non_null(numaperf_arena_alloc(arena, 30000, 0));
        assert_true(arena_look(arena).mapped_bytes <= 2 * MIB + 10 * 36864);
        assert_null(numaperf_arena_alloc(arena, SIZE_MAX, 4096));
        assert_null(numaperf_arena_alloc(arena, SIZE_MAX / 2, 4096));
        void *block = numaperf_arena_alloc(arena, 3 * MIB, 0);
        assert_true((block != NULL) == (limit == 0));
        numaperf__arena_validate(arena);
        numaperf_arena_destroy(arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arena_buffers_of_64_kib_fill_a_chunk_and_are_used_again),
        cmocka_unit_test(arena_memory_goes_from_small_blocks_to_buffers_and_back),
        cmocka_unit_test(arena_buffer_gets_a_region_when_the_limit_leaves_no_chunk_for_it),
        cmocka_unit_test(arena_of_mixed_sizes_holds_its_contents_at_the_limit),
        cmocka_unit_test(arena_of_large_chunks_finds_buffers_in_each_part_of_one),
        cmocka_unit_test(arena_of_huge_pages_spends_none_on_blocks_that_fill_a_part_of_one),
    };
    cmocka_set_test_filter(getenv("NUMAPERF_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
