/* SPDX-License-Identifier: MIT */
/*
 * Pairs of an allocation and a free, a second. Local: the thread that allocates also frees, the
 * same block at once, or one of a window of blocks in an order it cannot guess. Remote: it hands
 * every block to a second thread, over a ring in batches, which frees them.
 *
 * Who allocates writes into the block; who frees it elsewhere reads that, and a wrong word fails
 * the sample. The loops are compiled once for arenas and once for the others, and all call through
 * pointers, so that no peer pays for the choice.
 */
#include "arena.h"

#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define ARENA_PAIRS 4000000u
#define ARENA_PAIRS_SMOKE 4096u
#define ARENA_BUFFER_PAIRS 200000u
#define ARENA_WARM_UP_PARTS 10u
#define ARENA_WINDOW 1000u
#define ARENA_BUFFER_WINDOW 16u /* of 64 KiB: a MiB in all */
#define ARENA_BUFFER_BYTES 65536u
#define ARENA_ORDER 65536u /* a power of two */
#define ARENA_RING 1024u   /* a power of two */
#define ARENA_BATCH 32u

enum arena_how { ARENA_AT_ONCE, ARENA_IN_WINDOW, ARENA_REMOTE };

struct arena_work {
    struct bench_heap heap;
    size_t size;
    uint64_t count;
    uint32_t window;
    int32_t freer_cpu;
    bool freer_failed;           /* written by the freer before it ends */
    uint16_t order[ARENA_ORDER]; /* places in the window */
    void *blocks[ARENA_WINDOW];  /* the window */
    /* The ring: blocks below `pushed` are the freer's, it has freed those below `popped`. */
    _Alignas(128) _Atomic uint64_t pushed;
    _Alignas(128) _Atomic uint64_t popped;
    _Alignas(128) uint64_t *ring[ARENA_RING];
};

#define ARENA_INLINE static inline __attribute__((always_inline))

ARENA_INLINE uint64_t *arena_get(const struct bench_heap *heap, bool is_arena, size_t size)
{
    void *block = is_arena ? heap->arena_alloc(heap->arena, size, 0) : heap->alloc(size);
    if (block == NULL)
        abort(); /* a few MiB */
    return block;
}

ARENA_INLINE void arena_put(const struct bench_heap *heap, bool is_arena, void *block)
{
    if (is_arena)
        heap->arena_free(heap->arena, block);
    else
        heap->free(block);
}

/* Volatile, or the compiler would see that nobody reads it. */
ARENA_INLINE void arena_write(uint64_t *block, uint64_t value)
{
    *(volatile uint64_t *)block = value;
}

/* ---- local ---- */

ARENA_INLINE void arena_at_once(struct arena_work *work, bool is_arena)
{
    const struct bench_heap heap = work->heap;
    const size_t size = work->size;
    for (uint64_t i = work->count; i > 0; i--) {
        uint64_t *block = arena_get(&heap, is_arena, size);
        arena_write(block, i);
        arena_put(&heap, is_arena, block);
    }
}

ARENA_INLINE void arena_in_window(struct arena_work *work, bool is_arena)
{
    const struct bench_heap heap = work->heap;
    const size_t size = work->size;
    void **const blocks = work->blocks;
    const uint16_t *const order = work->order;
    for (uint32_t i = 0; i < work->window; i++)
        blocks[i] = arena_get(&heap, is_arena, size);
    for (uint64_t i = work->count; i > 0; i--) {
        void **place = &blocks[order[i % ARENA_ORDER]];
        arena_put(&heap, is_arena, *place);
        uint64_t *block = arena_get(&heap, is_arena, size);
        arena_write(block, i);
        *place = block;
    }
    for (uint32_t i = 0; i < work->window; i++)
        arena_put(&heap, is_arena, blocks[i]);
}

/* ---- remote ---- */

ARENA_INLINE void arena_free_remotely(struct arena_work *work, bool is_arena)
{
    const struct bench_heap heap = work->heap;
    uint64_t popped = 0;
    while (popped < work->count) {
        uint64_t pushed = atomic_load_explicit(&work->pushed, memory_order_acquire);
        for (; popped < pushed; popped++) {
            uint64_t *block = work->ring[popped % ARENA_RING];
            work->freer_failed |= *block != popped;
            arena_put(&heap, is_arena, block);
            if (popped % ARENA_BATCH == 0)
                atomic_store_explicit(&work->popped, popped, memory_order_release);
        }
        atomic_store_explicit(&work->popped, popped, memory_order_release);
    }
}

static void *arena_freer(void *arg)
{
    struct arena_work *work = arg;
    if (bench_pin(work->freer_cpu) < 0)
        abort(); /* numaperf was here before: the PU exists */
    if (work->heap.arena != NULL)
        arena_free_remotely(work, true);
    else
        arena_free_remotely(work, false);
    return NULL;
}

ARENA_INLINE void arena_hand_over(struct arena_work *work, bool is_arena)
{
    const struct bench_heap heap = work->heap;
    uint64_t popped = 0;
    for (uint64_t i = 0; i < work->count; i++) {
        uint64_t *block = arena_get(&heap, is_arena, work->size);
        arena_write(block, i);
        while (i - popped == ARENA_RING)
            popped = atomic_load_explicit(&work->popped, memory_order_acquire);
        work->ring[i % ARENA_RING] = block;
        if (i % ARENA_BATCH == ARENA_BATCH - 1 || i + 1 == work->count)
            atomic_store_explicit(&work->pushed, i + 1, memory_order_release);
    }
}

static int arena_remote(struct arena_work *work)
{
    atomic_store_explicit(&work->pushed, 0, memory_order_relaxed);
    atomic_store_explicit(&work->popped, 0, memory_order_relaxed);
    pthread_t freer;
    int rc = -pthread_create(&freer, NULL, arena_freer, work);
    if (rc < 0)
        return rc;
    if (work->heap.arena != NULL)
        arena_hand_over(work, true);
    else
        arena_hand_over(work, false);
    (void)pthread_join(freer, NULL); /* it is ours and not joined yet */
    return work->freer_failed ? -EPROTO : 0;
}

/* ---- sample ---- */

static int arena_drive(struct arena_work *work, enum arena_how how, uint64_t count)
{
    bool is_arena = work->heap.arena != NULL;
    work->count = count;
    if (how == ARENA_REMOTE)
        return arena_remote(work);
    if (how == ARENA_AT_ONCE && is_arena)
        arena_at_once(work, true);
    else if (how == ARENA_AT_ONCE)
        arena_at_once(work, false);
    else if (is_arena)
        arena_in_window(work, true);
    else
        arena_in_window(work, false);
    return 0;
}

static void arena_plan(struct arena_work *work, const struct bench_run *run)
{
    uint32_t random = 12345;
    work->size = run->bench->parameter >> 8;
    work->window = work->size < ARENA_BUFFER_BYTES ? ARENA_WINDOW : ARENA_BUFFER_WINDOW;
    work->freer_cpu = run->setup->cpus[1];
    for (uint32_t i = 0; i < ARENA_ORDER; i++) {
        random = random * 1664525u + 1013904223u;
        work->order[i] = (uint16_t)((random >> 8) % work->window);
    }
}

static int arena_sample(const struct bench_run *run, double *out_values)
{
    static struct arena_work work; /* its process takes one sample */
    const struct bench_heap_ops *ops = run->peer->ops;
    enum arena_how how = run->bench->parameter & 255;
    arena_plan(&work, run);
    uint64_t count = work.size < ARENA_BUFFER_BYTES ? ARENA_PAIRS : ARENA_BUFFER_PAIRS;
    if (run->smoke)
        count = ARENA_PAIRS_SMOKE;
    int rc = bench_pin(run->setup->cpus[0]);
    if (rc == 0)
        rc = ops->open(&work.heap);
    if (rc < 0)
        return rc;
    rc = arena_drive(&work, how, count / ARENA_WARM_UP_PARTS);
    uint64_t start_ns = bench_now_ns();
    if (rc == 0)
        rc = arena_drive(&work, how, count);
    out_values[0] = (double)count * 1e9 / (double)(bench_now_ns() - start_ns);
    int closed = ops->close(&work.heap);
    return rc < 0 ? rc : closed;
}

#define ARENA_CASE(suffix, text, bytes, how, must_be, aim_is)                                \
    {                                                                                        \
        .name = "arena." suffix, .about = (text),                                            \
        .peers = {&bench_mimalloc, &bench_jemalloc, &bench_malloc, &bench_numaperf_arena},   \
        .metrics = {{.name = "pairs/s", .unit = "1/s"}},                                     \
        .goals = {{.peer = &bench_numaperf_arena,                                            \
                   .against = &bench_mimalloc,                                               \
                   .must = (must_be),                                                        \
                   .aim = (aim_is)}},                                                        \
        .node_count = 1, .workers_per_node = 2, .parameter = (bytes) << 8 | (unsigned)(how), \
        .sample = arena_sample                                                               \
    }

static const struct bench_case arena_cases[] = {
    ARENA_CASE("local_64", "a block of 64 bytes, freed at once", 64u, ARENA_AT_ONCE, 1, 1.25),
    ARENA_CASE("local_256", "the same with 256 bytes", 256u, ARENA_AT_ONCE, 1, 1.25),
    ARENA_CASE("window_64", "one of 1000 blocks of 64 bytes is freed and allocated again", 64u,
               ARENA_IN_WINDOW, 1, 1.25),
    ARENA_CASE("window_256", "the same with 256 bytes", 256u, ARENA_IN_WINDOW, 1, 1.25),
    ARENA_CASE("remote_64", "a block of 64 bytes, freed by a thread on another PU", 64u,
               ARENA_REMOTE, 1.3, 2),
    ARENA_CASE("remote_256", "the same with 256 bytes", 256u, ARENA_REMOTE, 1.3, 2),
    ARENA_CASE("buffer_64k", "one of 16 buffers of 64 KiB is freed and allocated again",
               ARENA_BUFFER_BYTES, ARENA_IN_WINDOW, 0, 0),
};

const struct bench_workload bench_arena = {
    .name = "arena",
    .cases = arena_cases,
    .case_count = sizeof(arena_cases) / sizeof(arena_cases[0]),
};
