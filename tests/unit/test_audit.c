/* SPDX-License-Identifier: MIT */
/*
 * Re-verification of mappings: which pages a look asks about, what it counts, and putting back,
 * with a witness of its own for where pages are. On several nodes pages really move.
 */
#include "place/audit.h"

#include "place/arena.h"
#include "support/memory_view.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <numaperf/arena.h>
#include <numaperf/region.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGE 4096ul

/* The first node this process may use, and another one; -1. */
static void two_nodes(int *out_one, int *out_other)
{
    numaperf_nodemask_t memory;
    numaperf_nodemask_t usable;
    view_nodes(&memory, &usable);
    *out_one = numaperf_nodemask_next(&usable, -1);
    *out_other = *out_one >= 0 ? numaperf_nodemask_next(&usable, *out_one) : -1;
}

static numaperf_region_t *make_region(size_t pages, int node)
{
    numaperf_region_t *region = NULL;
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = pages * PAGE;
    config.policy = NUMAPERF_MEM_BIND;
    config.huge_pages = NUMAPERF_HUGE_NONE;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    config.nodes = numaperf_nodemask_single(node);
    assert_int_equal(numaperf_region_create(&config, &region), 0);
    if (!numaperf_is_strict(numaperf_region_enforcement(region))) {
        print_message("skipped: %s\n",
                      numaperf_enforcement_reason(numaperf_region_enforcement(region)));
        numaperf_region_destroy(region);
        skip();
    }
    return region;
}

static struct numaperf__audit_range range_of(const numaperf_region_t *region)
{
    struct numaperf__audit_range range = {
        .range = {.base = numaperf_region_data(region),
                  .length = numaperf_region_length(region),
                  .page_bytes = PAGE},
        .is_bound = true,
    };
    return range;
}

static void look_at_everything_counts_every_page_and_policy(void **state)
{
    (void)state;
    int node = -1;
    int other = -1;
    two_nodes(&node, &other);
    numaperf_region_t *regions[2] = {make_region(700, node), make_region(3, node)};
    struct numaperf__audit_range ranges[2] = {range_of(regions[0]), range_of(regions[1])};
    struct numaperf__audit_counts counts = {.pages = 0};
    assert_int_equal(numaperf__audit_page_count(ranges, 2), 703);
    assert_int_equal(numaperf__audit_look(ranges, 2, node, NULL, &counts), 0);
    assert_int_equal(counts.pages, 703);
    assert_int_equal(counts.home, 703);
    assert_int_equal(counts.absent, 0);
    assert_int_equal(counts.policies, 2);
    assert_int_equal(counts.other, 0);
    /* Given back, a page is nowhere; that is not elsewhere. */
    assert_int_equal(madvise(ranges[0].range.base, 5 * PAGE, MADV_DONTNEED), 0);
    counts = (struct numaperf__audit_counts){.pages = 0};
    assert_int_equal(numaperf__audit_look(ranges, 2, node, NULL, &counts), 0);
    assert_int_equal(counts.home, 698);
    assert_int_equal(counts.absent, 5);
    numaperf_region_destroy(regions[0]);
    numaperf_region_destroy(regions[1]);
}

/* Of pages that are given back one by one: which phase asks about which. */
static void phases_of_a_sample_ask_about_every_page_once(void **state)
{
    (void)state;
    int node = -1;
    int other = -1;
    two_nodes(&node, &other);
    numaperf_region_t *regions[3] = {make_region(10, node), make_region(1, node),
                                     make_region(20, node)};
    struct numaperf__audit_range ranges[3];
    for (size_t i = 0; i < 3; i++)
        ranges[i] = range_of(regions[i]);
    uint64_t pages = 0;
    uint64_t policies = 0;
    for (uint64_t phase = 0; phase < 5; phase++) {
        const struct numaperf__audit_sample sample = {.pages_max = 7, .phase = phase};
        struct numaperf__audit_counts counts = {.pages = 0};
        assert_int_equal(numaperf__audit_look(ranges, 3, node, &sample, &counts), 0);
        assert_in_range(counts.pages, 1, 7);
        pages += counts.pages;
        policies += counts.policies;
    }
    assert_int_equal(pages, 31);
    assert_int_equal(policies, 3);

    /* A single page that is elsewhere is found by exactly one phase of a round. */
    assert_int_equal(madvise(ranges[2].range.base + 13 * PAGE, PAGE, MADV_DONTNEED), 0);
    int found = 0;
    for (uint64_t phase = 100; phase < 105; phase++) {
        const struct numaperf__audit_sample sample = {.pages_max = 7, .phase = phase};
        struct numaperf__audit_counts counts = {.pages = 0};
        assert_int_equal(numaperf__audit_look(ranges, 3, node, &sample, &counts), 0);
        found += (int)counts.absent;
    }
    assert_int_equal(found, 1);
    for (size_t i = 0; i < 3; i++)
        numaperf_region_destroy(regions[i]);
}

static void long_look_that_is_given_up_says_so(void **state)
{
    (void)state;
    int node = -1;
    int other = -1;
    two_nodes(&node, &other);
    numaperf_region_t *region = make_region(2000, node);
    struct numaperf__audit_range range = range_of(region);
    atomic_bool give_up = true;
    const struct numaperf__audit_sample sample = {.pages_max = UINT64_MAX, .give_up = &give_up};
    struct numaperf__audit_counts counts = {.pages = 0};
    assert_int_equal(numaperf__audit_look(&range, 1, node, &sample, &counts), -ECANCELED);
    assert_int_equal(counts.pages, 0);
    numaperf_region_destroy(region);
}

static int policy_at(const void *address)
{
    int policy = -1;
    uint64_t nodes[17] = {0};
    assert_int_equal(syscall(SYS_get_mempolicy, &policy, nodes, 1025ul, address, (long)MPOL_F_ADDR),
                     0);
    return policy;
}

static void policy_that_was_taken_away_is_found_and_bound_again(void **state)
{
    (void)state;
    int node = -1;
    int other = -1;
    two_nodes(&node, &other);
    numaperf_region_t *region = make_region(16, node);
    struct numaperf__audit_range range = range_of(region);
    assert_int_equal(
        syscall(SYS_mbind, range.range.base, range.range.length, MPOL_DEFAULT, NULL, 0ul, 0ul), 0);
    struct numaperf__audit_counts counts = {.pages = 0};
    assert_int_equal(numaperf__audit_look(&range, 1, node, NULL, &counts), 0);
    assert_int_equal(counts.other, 1);
    assert_int_equal(counts.policy, MPOL_DEFAULT);
    char name[32];
    numaperf__audit_policy_name(counts.policy, &counts.nodes, name, sizeof(name));
    assert_string_equal(name, "default");

    assert_int_equal(numaperf__audit_put_back(&range, node), 0);
    assert_int_equal(policy_at(range.range.base), MPOL_BIND);
    assert_int_equal(policy_at(range.range.base + range.range.length - PAGE), MPOL_BIND);
    counts = (struct numaperf__audit_counts){.pages = 0};
    assert_int_equal(numaperf__audit_look(&range, 1, node, NULL, &counts), 0);
    assert_int_equal(counts.other, 0);
    numaperf_region_destroy(region);
}

static void move_page(void *page, int node)
{
    int status = -1;
    assert_int_equal(syscall(SYS_move_pages, 0, 1ul, &page, &node, &status, MPOL_MF_MOVE), 0);
    assert_int_equal(status, node);
}

static void pages_that_were_moved_away_are_counted_and_moved_back(void **state)
{
    (void)state;
    int node = -1;
    int other = -1;
    two_nodes(&node, &other);
    if (other < 0) {
        print_message("skipped: no second node to move pages to\n");
        skip();
    }
    numaperf_region_t *region = make_region(64, node);
    struct numaperf__audit_range range = range_of(region);
    for (size_t i = 0; i < 10; i++)
        move_page(range.range.base + (20 + i) * PAGE, other);
    struct numaperf__audit_counts counts = {.pages = 0};
    assert_int_equal(numaperf__audit_look(&range, 1, node, NULL, &counts), 0);
    assert_int_equal(counts.home, 54);
    assert_int_equal(counts.absent, 0);
    assert_int_equal(numaperf__audit_put_back(&range, node), 0);
    size_t on_node[VIEW_NODES + 1];
    assert_true(view_pages(range.range.base, range.range.length, on_node));
    assert_int_equal(on_node[node], 64);

    /* Memory without a policy of ours: its pages alone. */
    move_page(range.range.base, other);
    assert_int_equal(numaperf__audit_move_back(&range.range, node), 0);
    assert_true(view_pages(range.range.base, range.range.length, on_node));
    assert_int_equal(on_node[node], 64);
    numaperf_region_destroy(region);
}

static numaperf_arena_t *make_arena(int node)
{
    numaperf_arena_t *arena = NULL;
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.flags = NUMAPERF_ARENA_HAS_NODE;
    config.node = node;
    config.huge_pages = NUMAPERF_HUGE_NONE;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    assert_int_equal(numaperf_arena_create(&config, &arena), 0);
    if (!numaperf_is_strict(numaperf_arena_enforcement(arena))) {
        numaperf_arena_destroy(arena);
        print_message("skipped: memory cannot be bound here\n");
        skip();
    }
    return arena;
}

#define BLOCK_BYTES ((size_t)2 << 20)

static void every_mapping_of_an_arena_is_looked_at_and_put_back(void **state)
{
    (void)state;
    int node = -1;
    int other = -1;
    two_nodes(&node, &other);
    numaperf_arena_t *arena = make_arena(node);
    char *blocks[3]; /* too large for a chunk */
    for (size_t i = 0; i < 3; i++) {
        blocks[i] = numaperf_arena_alloc(arena, BLOCK_BYTES, PAGE);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, BLOCK_BYTES);
    }
    struct numaperf__audit_counts counts;
    assert_int_equal(numaperf__arena_look(arena, NULL, &counts), 0);
    assert_int_equal(counts.pages, numaperf__arena_page_count(arena));
    assert_int_equal(counts.policies, 4); /* the first chunk, and one for each block */
    assert_int_equal(counts.other, 0);

    /* A large block is in a mapping of its own, a page after its start. */
    for (size_t i = 0; i < 3; i += 2)
        assert_int_equal(
            syscall(SYS_mbind, blocks[i] - PAGE, 2 * PAGE, MPOL_DEFAULT, NULL, 0ul, 0ul), 0);
    assert_int_equal(numaperf__arena_look(arena, NULL, &counts), 0);
    assert_int_equal(counts.other, 2);
    assert_int_equal(numaperf__arena_put_back(arena, NULL), 0);
    assert_int_equal(numaperf__arena_look(arena, NULL, &counts), 0);
    assert_int_equal(counts.other, 0);
    assert_int_equal(policy_at(blocks[0]), MPOL_BIND);
    numaperf_arena_free(arena, blocks[1]);
    assert_int_equal(numaperf__arena_look(arena, NULL, &counts), 0);
    assert_int_equal(counts.policies, 3);
    numaperf__arena_validate(arena);
    numaperf_arena_destroy(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(look_at_everything_counts_every_page_and_policy),
        cmocka_unit_test(phases_of_a_sample_ask_about_every_page_once),
        cmocka_unit_test(long_look_that_is_given_up_says_so),
        cmocka_unit_test(policy_that_was_taken_away_is_found_and_bound_again),
        cmocka_unit_test(pages_that_were_moved_away_are_counted_and_moved_back),
        cmocka_unit_test(every_mapping_of_an_arena_is_looked_at_and_put_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
