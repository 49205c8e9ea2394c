/* SPDX-License-Identifier: MIT */
/* Arenas for tests: made, asked, filled to their limit, emptied. After cmocka.h. */
#ifndef TESTS_SUPPORT_ARENA_CASE_H
#define TESTS_SUPPORT_ARENA_CASE_H

#include <numaperf/arena.h>

#include <stddef.h>
#include <stdint.h>

static inline numaperf_arena_t *arena_make(uint64_t chunk_bytes, uint64_t limit_bytes)
{
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.chunk_bytes = chunk_bytes;
    config.limit_bytes = limit_bytes;
    numaperf_arena_t *arena = NULL;
    assert_int_equal(numaperf_arena_create(&config, &arena), 0);
    assert_non_null(arena);
    return arena;
}

static inline numaperf_arena_stats_t arena_look(const numaperf_arena_t *arena)
{
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf_arena_stats(arena, &stats), 0);
    return stats;
}

/* Fill with one size until NULL; the blocks are chained through their first bytes. */
static inline size_t arena_fill(numaperf_arena_t *arena, size_t size, void **out_chain)
{
    size_t count = 0;
    void *chain = NULL;
    for (void *block = numaperf_arena_alloc(arena, size, 0); block != NULL;
         block = numaperf_arena_alloc(arena, size, 0)) {
        *(void **)block = chain;
        chain = block;
        count++;
    }
    *out_chain = chain;
    return count;
}

static inline void arena_empty(numaperf_arena_t *arena, void *chain)
{
    while (chain != NULL) {
        void *next = *(void **)chain;
        numaperf_arena_free(arena, chain);
        chain = next;
    }
}

#endif
