/* SPDX-License-Identifier: MIT */
/* What the arena workload asks of an allocator. */
#ifndef NUMAPERF_BENCH_ARENA_H
#define NUMAPERF_BENCH_ARENA_H

#include "peers/peer.h"

#include <stddef.h>

/* Either an arena, which one thread allocates from, or a pair of functions for all threads. */
struct bench_heap {
    numaperf_arena_t *arena; /* NULL: it is none */
    void *(*arena_alloc)(numaperf_arena_t *arena, size_t size, size_t align);
    void (*arena_free)(numaperf_arena_t *arena, void *block);
    void *(*alloc)(size_t size);
    void (*free)(void *block);
};

struct bench_heap_ops {
    int (*open)(struct bench_heap *out);
    /* All blocks were freed, and the caller allocated them; < 0: it does not think so. */
    int (*close)(struct bench_heap *heap);
};

#endif
