/* SPDX-License-Identifier: MIT */
/*
 * Allocators: an arena with its defaults, the C library's malloc, jemalloc and mimalloc. The last
 * two would take the place of malloc in the whole program if it were linked with them; so they are
 * loaded for themselves, when the first case asks whether they are there, and stay. jemalloc needs
 * more room for thread-locals than a library that is loaded late gets, unless the program starts
 * with GLIBC_TUNABLES=glibc.rtld.optional_static_tls=8192, as run.sh has it.
 */
#include "arena.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define MALLOC_IS_WATCHED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define MALLOC_IS_WATCHED 1
#endif
#endif
#ifndef MALLOC_IS_WATCHED
#define MALLOC_IS_WATCHED 0
#endif

/* ---- numaperf ---- */

static int arena_open(struct bench_heap *out)
{
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    out->arena_alloc = numaperf_arena_alloc;
    out->arena_free = numaperf_arena_free;
    return numaperf_arena_create(&config, &out->arena);
}

static int arena_close(struct bench_heap *heap)
{
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    int rc = numaperf_arena_stats(heap->arena, &stats);
    if (rc == 0 && (stats.used_bytes != 0 || stats.alloc_count != stats.free_count))
        rc = -EPROTO; /* a block was lost, or came back twice */
    numaperf_arena_destroy(heap->arena);
    return rc;
}

/* ---- functions ---- */

static int malloc_open(struct bench_heap *out)
{
    out->alloc = malloc;
    out->free = free;
    return 0;
}

static int malloc_close(struct bench_heap *heap)
{
    (void)heap;
    return 0;
}

/* Load them once; 0, or -ENOENT and why. */
static int malloc_load(const char *library, const char *alloc, const char *free_name,
                       struct bench_heap *out)
{
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return -ENOENT;
    void *functions[2] = {dlsym(handle, alloc), dlsym(handle, free_name)};
    if (functions[0] == NULL || functions[1] == NULL)
        return -ENOENT;
    /* C has no cast from an object's pointer to a function's. */
    memcpy(&out->alloc, &functions[0], sizeof(out->alloc));
    memcpy(&out->free, &functions[1], sizeof(out->free));
    return 0;
}

static int jemalloc_open(struct bench_heap *out)
{
    return malloc_load("libjemalloc.so.2", "malloc", "free", out);
}

static int mimalloc_open(struct bench_heap *out)
{
    return malloc_load("libmimalloc.so.2", "mi_malloc", "mi_free", out);
}

static const char *malloc_missing(int (*open)(struct bench_heap *out), char *why, size_t size)
{
    struct bench_heap heap;
    if (MALLOC_IS_WATCHED)
        return "not with this sanitizer";
    if (open(&heap) == 0)
        return NULL;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the harness has one thread. */
    const char *text = dlerror();
    (void)snprintf(why, size, "%s", text != NULL ? text : "it cannot be loaded");
    return why;
}

static const char *jemalloc_missing(void)
{
    static char why[200];
    return malloc_missing(jemalloc_open, why, sizeof(why));
}

static const char *mimalloc_missing(void)
{
    static char why[200];
    return malloc_missing(mimalloc_open, why, sizeof(why));
}

/* ---- peers ---- */

static const struct bench_heap_ops arena_ops = {arena_open, arena_close};
static const struct bench_heap_ops malloc_ops = {malloc_open, malloc_close};
static const struct bench_heap_ops jemalloc_ops = {jemalloc_open, malloc_close};
static const struct bench_heap_ops mimalloc_ops = {mimalloc_open, malloc_close};

const struct bench_peer bench_numaperf_arena = {.name = "numaperf-arena", .ops = &arena_ops};
const struct bench_peer bench_malloc = {.name = "malloc", .ops = &malloc_ops};
const struct bench_peer bench_jemalloc = {
    .name = "jemalloc", .missing = jemalloc_missing, .ops = &jemalloc_ops};
const struct bench_peer bench_mimalloc = {
    .name = "mimalloc", .missing = mimalloc_missing, .ops = &mimalloc_ops};
