/* SPDX-License-Identifier: MIT */
/*
 * Any sequence of allocations and frees on one arena: blocks are aligned, do not overlap, keep
 * what was written to them, and everything that was used is given back at the end.
 */
#include <numaperf/arena.h>
#include <numaperf/region.h>

#include "fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define BLOCKS 64
#define LIMIT_BYTES (UINT64_C(16) << 20)
#define OP_BYTES 4
#define SAMPLE_BYTES 4096

struct block {
    uint8_t *at; /* NULL: none */
    size_t size;
    uint8_t mark;
};

static void block_check(const struct block *block)
{
    /* Of a large one a part and its end: all its pages, in a fraction of the time. */
    size_t step = block->size > SAMPLE_BYTES ? 251 : 1;
    for (size_t i = 0; i < block->size; i += step)
        check(block->at[i] == block->mark);
    check(block->size == 0 || block->at[block->size - 1] == block->mark);
}

/* A write into another block's memory would be seen there as well; this tells it at once. */
static void block_check_apart(const struct block *blocks, const struct block *fresh)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks[i].at == NULL || &blocks[i] == fresh)
            continue;
        check(fresh->at + fresh->size <= blocks[i].at ||
              blocks[i].at + blocks[i].size <= fresh->at);
    }
}

static void block_alloc(numaperf_arena_t *arena, struct block *blocks, struct block *block,
                        const uint8_t *op)
{
    /* Small sizes mostly, some up to two megabytes; any alignment up to 8 KiB. */
    size_t size = ((size_t)op[1] | (size_t)op[2] << 8) << (op[3] >> 4 == 15 ? 5 : 0);
    size_t align = (size_t)1 << ((op[3] & 15) % 14);
    uint8_t *at = numaperf_arena_alloc(arena, size, align);
    if (at == NULL)
        return; /* the limit, or nothing asked for */
    check((uintptr_t)at % align == 0);
    *block = (struct block){.at = at, .size = size, .mark = (uint8_t)(op[1] ^ 0x5a)};
    block_check_apart(blocks, block);
    memset(at, block->mark, size);
}

static void block_free(numaperf_arena_t *arena, struct block *block)
{
    block_check(block);
    numaperf_arena_free(arena, block->at);
    block->at = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.limit_bytes = LIMIT_BYTES;
    numaperf_arena_t *arena = NULL;
    check(numaperf_arena_create(&config, &arena) == 0);
    struct block blocks[BLOCKS];
    memset(blocks, 0, sizeof(blocks));
    for (size_t i = 0; i + OP_BYTES <= size; i += OP_BYTES) {
        struct block *block = &blocks[data[i] % BLOCKS];
        if (block->at != NULL)
            block_free(arena, block);
        else
            block_alloc(arena, blocks, block, data + i);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks[i].at != NULL)
            block_free(arena, &blocks[i]);
    }
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    check(numaperf_arena_stats(arena, &stats) == 0);
    check(stats.used_bytes == 0);
    check(stats.alloc_count == stats.free_count);
    numaperf_arena_destroy(arena);
    return 0;
}
