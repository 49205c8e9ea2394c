/* SPDX-License-Identifier: MIT */
/*
 * Arenas: sizes, alignment, limits, reuse and failures. Placement itself is tested with regions;
 * here it is only asked of the kernel once more, on every node with memory that this machine has.
 */
#include "place/arena.h"

#include "place/size_class.h"
#include "place/span.h"

#include "support/memory_view.h"

#include <numaperf/error.h>

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/arena_case.h"

#define MIB ((uint64_t)1 << 20)

void *__real_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

/* Calls left before one fails; -1: never. */
static int mmap_countdown = -1;
static int calloc_countdown = -1;

static bool countdown_hits(int *countdown)
{
    if (*countdown < 0)
        return false;
    return (*countdown)-- == 0;
}

void *__wrap_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    if (countdown_hits(&mmap_countdown)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return __real_mmap(addr, length, prot, flags, fd, offset);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return countdown_hits(&calloc_countdown) ? NULL : __real_calloc(count, size);
}

static void size_classes_hold_their_sizes_and_waste_a_fifth_at_most(void **state)
{
    (void)state;
    for (size_t size = 1; size <= NUMAPERF__SIZE_CLASS_MAX_BYTES; size++) {
        uint32_t size_class = numaperf__size_class(size);
        assert_true(size_class < NUMAPERF__SIZE_CLASS_COUNT);
        size_t bytes = numaperf__size_class_bytes(size_class);
        assert_true(bytes >= size);
        assert_true(size_class == 0 || numaperf__size_class_bytes(size_class - 1) < size);
        assert_true(bytes - size < 16 || (bytes - size) * 5 <= bytes);
    }
    assert_int_equal(numaperf__size_class(NUMAPERF__SIZE_CLASS_MAX_BYTES),
                     NUMAPERF__SIZE_CLASS_COUNT - 1);
}

static void arena_blocks_of_every_size_and_alignment_keep_their_contents(void **state)
{
    (void)state;
    enum { COUNT = 4000 };
    numaperf_arena_t *arena = arena_make(0, 0);
    unsigned char *blocks[COUNT];
    size_t sizes[COUNT];
    unsigned seed = 7;
    for (int i = 0; i < COUNT; i++) {
        size_t align = (size_t)1 << (rand_r(&seed) % 13);
        sizes[i] = 1 + (size_t)rand_r(&seed) % (i % 50 == 0 ? 60000 : 3000);
        blocks[i] = numaperf_arena_alloc(arena, sizes[i], align);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % align, 0);
        memset(blocks[i], i & 255, sizes[i]);
    }
    numaperf__arena_validate(arena);
    for (int i = 0; i < COUNT; i++) {
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(blocks[i][j], i & 255);
    }
    for (int i = 0; i < COUNT; i += 2)
        numaperf_arena_free(arena, blocks[i]);
    numaperf__arena_validate(arena);
    for (int i = 1; i < COUNT; i += 2)
        numaperf_arena_free(arena, blocks[i]);
    numaperf__arena_validate(arena);
    numaperf_arena_stats_t stats = arena_look(arena);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.alloc_count, COUNT);
    assert_int_equal(stats.free_count, COUNT);
    assert_int_equal(stats.remote_free_count, 0);
    numaperf_arena_destroy(arena);
}

static void arena_alignment_holds_for_every_size_and_power_of_two(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(0, 0);
    for (size_t align = 1; align <= 4096; align *= 2) {
        for (size_t size = 1; size < 40000; size += 61) {
            char *block = numaperf_arena_alloc(arena, size, align);
            assert_non_null(block);
            assert_int_equal((uintptr_t)block % align, 0);
            block[0] = 1;
            block[size - 1] = 1;
            numaperf_arena_free(arena, block);
        }
    }
    char *block = numaperf_arena_alloc(arena, 24, 0);
    assert_int_equal((uintptr_t)block % 16, 0);
    numaperf__arena_validate(arena);
    numaperf_arena_destroy(arena);
}

static void arena_used_bytes_are_exact_and_the_peak_stays(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(0, 0);
    numaperf_arena_stats_t stats = arena_look(arena);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.mapped_bytes, 2 * MIB);
    assert_int_equal(stats.chunk_count, 1);

    void *a = numaperf_arena_alloc(arena, 64, 0);
    void *b = numaperf_arena_alloc(arena, 65, 0); /* class 80 */
    assert_int_equal(arena_look(arena).used_bytes, 144);
    void *c = numaperf_arena_alloc(arena, 100000, 0); /* two units of 64 KiB of the chunk */
    stats = arena_look(arena);
    assert_int_equal(stats.chunk_count, 1);
    assert_int_equal(stats.used_bytes, 144 + 131072);
    void *d = numaperf_arena_alloc(arena, 1500000, 0);
    stats = arena_look(arena);
    assert_int_equal(stats.chunk_count, 2);
    assert_true(stats.used_bytes >= 144 + 131072 + 1500000);
    assert_true(stats.used_bytes <= 144 + 131072 + 1500000 + 2 * 4096);
    assert_true(stats.mapped_bytes >= 2 * MIB + 1500000);
    uint64_t peak = stats.used_bytes;
    numaperf_arena_free(arena, d);
    numaperf_arena_free(arena, c);
    stats = arena_look(arena);
    assert_int_equal(stats.used_bytes, 144);
    assert_int_equal(stats.mapped_bytes, 2 * MIB); /* a large block's region goes with it */
    assert_int_equal(stats.chunk_count, 1);
    assert_int_equal(stats.used_bytes_peak, peak);
    numaperf_arena_free(arena, a);
    numaperf_arena_free(arena, b);
    numaperf_arena_free(arena, NULL);
    stats = arena_look(arena);
    assert_int_equal(stats.used_bytes, 0);
    assert_int_equal(stats.alloc_count, 4);
    assert_int_equal(stats.free_count, 4);
    numaperf_arena_destroy(arena);
}

static void arena_counts_are_exact_after_every_call(void **state)
{
    (void)state;
    enum { COUNT = 300 }; /* blocks wait in magazines, which statistics must see through */
    numaperf_arena_t *arena = arena_make(0, 0);
    void *blocks[COUNT];
    for (uint64_t i = 0; i < COUNT; i++) {
        blocks[i] = numaperf_arena_alloc(arena, 256, 0);
        numaperf_arena_stats_t stats = arena_look(arena);
        assert_int_equal(stats.alloc_count, i + 1);
        assert_int_equal(stats.used_bytes, (i + 1) * 256);
        assert_int_equal(stats.used_bytes_peak, (i + 1) * 256);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        numaperf_arena_free(arena, blocks[i]);
        numaperf_arena_stats_t stats = arena_look(arena);
        assert_int_equal(stats.free_count, i + 1);
        assert_int_equal(stats.used_bytes, (COUNT - i - 1) * 256);
        assert_int_equal(stats.used_bytes_peak, COUNT * 256);
    }
    numaperf__arena_validate(arena);
    numaperf_arena_destroy(arena);
}

static void arena_at_its_limit_says_so_and_memory_is_reusable_by_other_sizes(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(256 * 1024, 1 * MIB);
    static const size_t sizes[] = {64, 16, 1000, 28672, 128, 5000, 64};
    size_t first_count = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *chain = NULL;
        size_t count = arena_fill(arena, sizes[i], &chain);
        assert_int_equal(numaperf_last_error()->code, -ENOMEM);
        assert_non_null(strstr(numaperf_last_error()->reason, "limit_bytes"));
        numaperf_arena_stats_t stats = arena_look(arena);
        assert_int_equal(stats.mapped_bytes, MIB);
        assert_int_equal(stats.chunk_count, 4);
        assert_int_equal(stats.fail_count, i + 1);
        /* At most a fifth of the chunks is lost (the largest class fills 56 of 64 KiB). */
        assert_true(count * sizes[i] > MIB * 4 / 5);
        if (i == 0)
            first_count = count;
        if (i == 6)
            assert_int_equal(count, first_count); /* nothing leaked in between */
        numaperf__arena_validate(arena);
        arena_empty(arena, chain);
        numaperf__arena_validate(arena);
        assert_int_equal(arena_look(arena).used_bytes, 0);
    }
    assert_null(numaperf_arena_alloc(arena, MIB, 0));
    assert_null(numaperf_arena_alloc(arena, SIZE_MAX, 0));
    assert_null(numaperf_arena_alloc(arena, SIZE_MAX - 4096, 4096));
    assert_int_equal(numaperf_last_error()->code, -ENOMEM);
    numaperf_arena_destroy(arena);
}

static void arena_with_a_small_limit_still_works(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    numaperf_arena_t *arena = arena_make(0, 4 * page > 8192 ? 4 * page : 8192);
    void *chain = NULL;
    assert_true(arena_fill(arena, 64, &chain) > 20);
    arena_empty(arena, chain);
    assert_null(numaperf_arena_alloc(arena, 28672, 0));
    chain = numaperf_arena_alloc(arena, 1024, 0);
    assert_non_null(chain);
    numaperf__arena_validate(arena);
    numaperf_arena_destroy(arena);

    arena = arena_make(128 * 1024, 128 * 1024 + 3 * page + 5); /* ends in a short chunk */
    assert_true(arena_fill(arena, 48, &chain) > 2600);
    assert_int_equal(arena_look(arena).mapped_bytes, 128 * 1024 + 3 * page);
    assert_null(numaperf_arena_alloc(arena, 28000, 0));
    arena_empty(arena, chain);
    assert_true(arena_fill(arena, 28000, &chain) >= 3);
    numaperf__arena_validate(arena);
    arena_empty(arena, chain);
    numaperf_arena_destroy(arena);
}

static void arena_bad_arguments_are_refused_by_name(void **state)
{
    (void)state;
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    numaperf_arena_t *arena = (numaperf_arena_t *)&config;
    numaperf_arena_t *untouched = arena;
    assert_int_equal(numaperf_arena_create(NULL, &arena), -EINVAL);
    assert_int_equal(numaperf_arena_create(&config, NULL), -EINVAL);
    config.size = 8;
    assert_int_equal(numaperf_arena_create(&config, &arena), -EINVAL);
    config = (numaperf_arena_config_t)NUMAPERF_ARENA_CONFIG_INIT;
    config.flags = 1u << 9;
    assert_int_equal(numaperf_arena_create(&config, &arena), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "flags"));
    config.flags = NUMAPERF_ARENA_HAS_NODE;
    config.node = -1;
    assert_int_equal(numaperf_arena_create(&config, &arena), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "node"));
    config.node = 1000; /* a valid id that no machine here has */
    assert_int_equal(numaperf_arena_create(&config, &arena), NUMAPERF_E_NO_NODE);
    assert_non_null(strstr(numaperf_last_error()->reason, "node 1000"));
    numaperf_topology_t *topology = NULL; /* knows of no such node: a bad argument goes first */
    assert_int_equal(numaperf_topology_from_synthetic("numa:1 pu:1", &topology), 0);
    config.topology = topology;
    assert_int_equal(numaperf_arena_create(&config, &arena), NUMAPERF_E_NO_NODE);
    config.huge_pages = 9;
    assert_int_equal(numaperf_arena_create(&config, &arena), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "huge_pages"));
    numaperf_topology_destroy(topology);
    config = (numaperf_arena_config_t)NUMAPERF_ARENA_CONFIG_INIT;
    config.mode = 7;
    assert_int_equal(numaperf_arena_create(&config, &arena), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "mode"));
    config.mode = 0;
    config.limit_bytes = 100;
    assert_int_equal(numaperf_arena_create(&config, &arena), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "limit_bytes"));
    config.limit_bytes = 0;
    config.chunk_bytes = UINT64_MAX;
    assert_int_equal(numaperf_arena_create(&config, &arena), -EINVAL);
    assert_ptr_equal(arena, untouched);

    arena = arena_make(0, 0);
    static const size_t bad[] = {3, 24, 8192, SIZE_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(numaperf_arena_alloc(arena, 64, bad[i]));
        assert_int_equal(numaperf_last_error()->code, -EINVAL);
    }
    assert_null(numaperf_arena_alloc(NULL, 64, 0));
    assert_int_equal(numaperf_arena_node(arena), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_arena_node(NULL), -EINVAL);
    assert_int_equal(numaperf_arena_stats(NULL, NULL), -EINVAL);
    assert_int_equal(numaperf_arena_stats(arena, NULL), -EINVAL);
    assert_int_equal(numaperf_arena_audit(arena, NULL), -EINVAL);
    assert_null(numaperf_arena_enforcement(NULL));
    numaperf_arena_destroy(arena);
    numaperf_arena_destroy(NULL);
}

/* ---- failures and placement ---- */

static void arena_creation_that_fails_leaves_no_mapping(void **state)
{
    (void)state;
    numaperf_arena_destroy(arena_make(0, 0)); /* warm up */
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    numaperf_arena_t *arena = NULL;
    size_t before = view_maps_count();
    mmap_countdown = 0;
    assert_int_equal(numaperf_arena_create(&config, &arena), -ENOMEM);
    for (int i = 0; i < 3; i++) { /* chunk record, region, working memory */
        calloc_countdown = i;
        assert_int_equal(numaperf_arena_create(&config, &arena), -ENOMEM);
        assert_int_equal(calloc_countdown, -1);
    }
    assert_null(arena);
    assert_true(view_maps_unchanged(before));
}

static void arena_growth_that_fails_returns_null_and_leaves_the_arena_usable(void **state)
{
    (void)state;
    numaperf_arena_t *arena = arena_make(64 * 1024, 0);
    size_t count = 0;
    void *chain = NULL;
    mmap_countdown = 0;
    for (void *block = numaperf_arena_alloc(arena, 1024, 0); block != NULL;
         block = numaperf_arena_alloc(arena, 1024, 0)) {
        *(void **)block = chain;
        chain = block;
        count++;
    }
    assert_true(count > 40);
    assert_int_equal(numaperf_last_error()->code, -ENOMEM);
    mmap_countdown = 0;
    assert_null(numaperf_arena_alloc(arena, MIB, 0));
    assert_int_equal(arena_look(arena).fail_count, 2);
    assert_int_equal(arena_look(arena).chunk_count, 1);
    calloc_countdown = 0;
    assert_null(numaperf_arena_alloc(arena, MIB, 0));
    numaperf__arena_validate(arena);
    assert_non_null(numaperf_arena_alloc(arena, 1024, 0)); /* now it grows */
    assert_int_equal(arena_look(arena).chunk_count, 2);
    arena_empty(arena, chain);
    calloc_countdown = 0;
    numaperf_placement_t *placement = malloc(sizeof(*placement));
    assert_non_null(placement);
    placement->size = sizeof(*placement);
    assert_int_equal(numaperf_arena_audit(arena, placement), -ENOMEM);
    free(placement);
    numaperf_arena_destroy(arena);
}

static void arena_of_a_foreign_topology_is_unplaced_in_soft_and_refused_in_hard_mode(void **state)
{
    (void)state;
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_synthetic("numa:2 pu:1", &topology), 0);
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.flags = NUMAPERF_ARENA_HAS_NODE;
    config.node = 1;
    config.topology = topology;
    numaperf_arena_t *arena = NULL;
    assert_int_equal(numaperf_arena_create(&config, &arena), 0);
    assert_true(numaperf_is_none(numaperf_arena_enforcement(arena)));
    assert_non_null(strstr(numaperf_arena_enforcement(arena)->reason, "topology"));
    assert_int_equal(numaperf_arena_node(arena), 1);
    void *block = numaperf_arena_alloc(arena, 100, 0);
    assert_non_null(block);
    memset(block, 1, 100);
    numaperf_arena_destroy(arena);

    config.node = 2;
    assert_int_equal(numaperf_arena_create(&config, &arena), NUMAPERF_E_NO_NODE);
    config.node = 1;
    config.mode = NUMAPERF_MODE_HARD;
    assert_int_equal(numaperf_arena_create(&config, &arena), NUMAPERF_E_HARD_MODE);
    assert_non_null(strstr(numaperf_last_error()->reason, "topology"));
    numaperf_topology_destroy(topology);
}

/* Node of a page by the test's own system call. */
static int page_node(void *address)
{
    uintptr_t page = (uintptr_t)address & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    void *pages[1] = {(void *)page};
    int status[1] = {-1};
    assert_int_equal(syscall(SYS_move_pages, 0, 1UL, pages, NULL, status, 0), 0);
    return status[0];
}

static void arena_on_node(int node, uint32_t mode)
{
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.flags = NUMAPERF_ARENA_HAS_NODE;
    config.node = node;
    config.mode = mode;
    config.chunk_bytes = 256 * 1024;
    numaperf_arena_t *arena = NULL;
    assert_int_equal(numaperf_arena_create(&config, &arena), 0);
    assert_int_equal(numaperf_arena_node(arena), node);
    for (int i = 0; i < 2000; i++) {
        char *block = numaperf_arena_alloc(arena, i % 100 == 0 ? 100000 : 700, 0);
        assert_non_null(block);
        *block = 1;
        assert_int_equal(page_node(block), node);
    }
    assert_int_equal(page_node(arena), node); /* its own bookkeeping too */
    assert_true(numaperf_is_strict(numaperf_arena_enforcement(arena)));
    numaperf_placement_t *placement = calloc(1, sizeof(*placement));
    assert_non_null(placement);
    placement->size = sizeof(*placement);
    assert_int_equal(numaperf_arena_audit(arena, placement), 0);
    assert_int_equal(placement->pages * (uint64_t)sysconf(_SC_PAGESIZE),
                     arena_look(arena).mapped_bytes);
    assert_int_equal(placement->node_count, 1);
    assert_int_equal(placement->on_node[node] + placement->absent, placement->pages);
    if (mode == NUMAPERF_MODE_HARD)
        assert_int_equal(placement->absent, 0);
    free(placement);
    numaperf_arena_destroy(arena);
}

static void arena_blocks_are_on_the_node_in_both_modes(void **state)
{
    (void)state;
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_discover(&topology), 0);
    for (size_t i = 0; i < numaperf_topology_node_count(topology); i++) {
        int node = numaperf_topology_node_id(topology, i);
        if (numaperf_topology_node_memory_bytes(topology, node) == 0)
            continue;
        arena_on_node(node, NUMAPERF_MODE_SOFT);
        arena_on_node(node, NUMAPERF_MODE_HARD);
    }
    numaperf_topology_destroy(topology);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_classes_hold_their_sizes_and_waste_a_fifth_at_most),
        cmocka_unit_test(arena_blocks_of_every_size_and_alignment_keep_their_contents),
        cmocka_unit_test(arena_alignment_holds_for_every_size_and_power_of_two),
        cmocka_unit_test(arena_used_bytes_are_exact_and_the_peak_stays),
        cmocka_unit_test(arena_counts_are_exact_after_every_call),
        cmocka_unit_test(arena_at_its_limit_says_so_and_memory_is_reusable_by_other_sizes),
        cmocka_unit_test(arena_with_a_small_limit_still_works),
        cmocka_unit_test(arena_bad_arguments_are_refused_by_name),
        cmocka_unit_test(arena_creation_that_fails_leaves_no_mapping),
        cmocka_unit_test(arena_growth_that_fails_returns_null_and_leaves_the_arena_usable),
        cmocka_unit_test(arena_of_a_foreign_topology_is_unplaced_in_soft_and_refused_in_hard_mode),
        cmocka_unit_test(arena_blocks_are_on_the_node_in_both_modes),
    };
    cmocka_set_test_filter(getenv("NUMAPERF_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
