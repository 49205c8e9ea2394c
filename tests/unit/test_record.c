/* SPDX-License-Identifier: MIT */
/* Records: all different, limited, given back to where they came from, by caches and without. */
#include "sched/record.h"

#include "place/region.h"

#include <numaperf/topology.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Nodes that this machine has, with PUs and memory. */
static numaperf_nodemask_t usable_nodes(void)
{
    numaperf_topology_t *topology = NULL;
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_topology_discover(&topology), 0);
    assert_int_equal(numaperf_topology_usable_nodes(topology, &nodes), 0);
    numaperf_topology_destroy(topology);
    return nodes;
}

static int some_node(void)
{
    static int node = -1;
    if (node < 0) {
        numaperf_nodemask_t nodes = usable_nodes();
        node = numaperf_nodemask_next(&nodes, -1);
    }
    return node;
}

static struct numaperf__records *make(uint64_t limit)
{
    const struct numaperf__records_config config = {.node = some_node(), .limit = limit};
    struct numaperf__records *records = NULL;
    assert_int_equal(numaperf__records_create(&config, &records), 0);
    return records;
}

static struct numaperf__record **get_many(struct numaperf__records *records,
                                          struct numaperf__record_cache *cache, uint32_t count)
{
    struct numaperf__record **all = calloc(count, sizeof(struct numaperf__record *));
    assert_non_null(all);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(numaperf__record_get(records, cache, &all[i]), 0);
    return all;
}

static void put_many(struct numaperf__records *records, struct numaperf__record_cache *cache,
                     struct numaperf__record **all, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        numaperf__record_put(records, cache, all[i]);
    free(all);
}

/* Every index below `count` once, each at memory of its own. */
static void assert_all_different(struct numaperf__record **all, uint32_t count)
{
    struct numaperf__record **seen = calloc(count, sizeof(struct numaperf__record *));
    assert_non_null(seen);
    for (uint32_t i = 0; i < count; i++) {
        assert_in_range(all[i]->index, 0, count - 1);
        assert_null(seen[all[i]->index]);
        seen[all[i]->index] = all[i];
        assert_int_equal((uintptr_t)all[i] % sizeof(struct numaperf__record), 0);
        memset(&all[i]->timer, 0xab, sizeof(all[i]->timer)); /* a page that is not there faults */
        all[i]->fn = NULL;
    }
    for (uint32_t i = 1; i < count; i++)
        assert_true(seen[i - 1] + 1 == seen[i] || seen[i - 1] + 1 < seen[i] ||
                    seen[i] + 1 <= seen[i - 1]); /* they do not overlap */
    free(seen);
}

static void nothing_is_made_before_the_first_is_asked_for(void **state)
{
    (void)state;
    struct numaperf__records *records = make(1000);
    assert_int_equal(numaperf__records_made(records), 0);
    struct numaperf__record *record = NULL;
    assert_int_equal(numaperf__record_get(records, NULL, &record), 0);
    assert_int_equal(numaperf__records_made(records), 1000);
    assert_int_equal(numaperf__records_count_free(records), 999);
    numaperf__record_put(records, NULL, record);
    assert_int_equal(numaperf__records_count_free(records), 1000);
    numaperf__records_destroy(records);
}

static void records_of_all_chunks_are_different(void **state)
{
    (void)state;
    enum { COUNT = 3 * 65536 + 7 }; /* all small chunks, two whole large ones, and a part */
    struct numaperf__records *records = make(COUNT);
    struct numaperf__record **all = get_many(records, NULL, COUNT);
    assert_all_different(all, COUNT);
    assert_int_equal(numaperf__records_made(records), COUNT);
    put_many(records, NULL, all, COUNT);
    assert_int_equal(numaperf__records_count_free(records), COUNT);
    all = get_many(records, NULL, COUNT);
    assert_all_different(all, COUNT);
    assert_int_equal(numaperf__records_made(records), COUNT);
    put_many(records, NULL, all, COUNT);
    numaperf__records_destroy(records);
}

static void limit_is_kept_and_room_is_found_again(void **state)
{
    (void)state;
    static const uint32_t limits[] = {1, 2, 1023, 1024, 1025, 2048, 5000};
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct numaperf__records *records = make(limits[i]);
        struct numaperf__record **all = get_many(records, NULL, limits[i]);
        struct numaperf__record *more = NULL;
        assert_int_equal(numaperf__record_get(records, NULL, &more), -EAGAIN);
        assert_null(more);
        struct numaperf__record *any = all[limits[i] / 2];
        numaperf__record_put(records, NULL, any);
        assert_int_equal(numaperf__record_get(records, NULL, &more), 0);
        assert_ptr_equal(more, any);
        assert_int_equal(numaperf__record_get(records, NULL, &more), -EAGAIN);
        put_many(records, NULL, all, limits[i]);
        numaperf__records_destroy(records);
    }
}

static void no_limit_gives_nothing(void **state)
{
    (void)state;
    struct numaperf__records *records = make(0);
    struct numaperf__record *record = NULL;
    assert_int_equal(numaperf__record_get(records, NULL, &record), -EAGAIN);
    numaperf__records_destroy(records);
}

/* What is put comes back first, so that it is still in the processor's cache. */
static void cache_gives_the_last_one_put(void **state)
{
    (void)state;
    struct numaperf__records *records = make(5000);
    struct numaperf__record_cache cache = {.at_hand = {.count = 0}};
    struct numaperf__record *first = NULL;
    struct numaperf__record *second = NULL;
    assert_int_equal(numaperf__record_get(records, &cache, &first), 0);
    numaperf__record_put(records, &cache, first);
    assert_int_equal(numaperf__record_get(records, &cache, &second), 0);
    assert_ptr_equal(first, second);
    numaperf__records_destroy(records);
}

static void cache_keeps_no_more_than_its_limit(void **state)
{
    (void)state;
    enum { COUNT = 4000 };
    struct numaperf__records *records = make(COUNT);
    struct numaperf__record_cache cache = {.at_hand = {.count = 0}};
    struct numaperf__record **all = get_many(records, NULL, COUNT);
    put_many(records, &cache, all, COUNT);
    uint32_t kept = cache.at_hand.count + cache.spare.count;
    assert_in_range(kept, 1, NUMAPERF__RECORD_CACHE_MAX);
    assert_int_equal(numaperf__records_count_free(records), COUNT - kept);
    all = get_many(records, &cache, COUNT); /* from the cache and from the stack */
    assert_all_different(all, COUNT);
    put_many(records, &cache, all, COUNT);
    numaperf__records_destroy(records);
}

static void a_node_without_memory_is_refused(void **state)
{
    (void)state;
    const struct numaperf__records_config config = {
        .node = NUMAPERF_NODE_MAX - 1, .mode = NUMAPERF_MODE_HARD, .limit = 10};
    struct numaperf__records *records = NULL;
    struct numaperf__record *record = NULL;
    assert_int_equal(numaperf__records_create(&config, &records), 0);
    assert_int_equal(numaperf__record_get(records, NULL, &record), -ENOMEM);
    assert_null(record);
    assert_int_equal(numaperf__record_get(records, NULL, &record), -ENOMEM);
    numaperf__records_destroy(records);
    numaperf__records_destroy(NULL);
}

/* On every node of the machine, whichever this thread runs on, and whoever uses them first. */
static void records_lie_on_their_node(void **state)
{
    (void)state;
    enum { COUNT = 2500 }; /* three chunks */
    numaperf_nodemask_t nodes = usable_nodes();
    for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0;
         node = numaperf_nodemask_next(&nodes, node)) {
        const struct numaperf__records_config config = {
            .node = node, .mode = NUMAPERF_MODE_HARD, .limit = COUNT};
        struct numaperf__records *records = NULL;
        struct numaperf__record *record = NULL;
        numaperf_placement_t placement = NUMAPERF_PLACEMENT_INIT;
        assert_int_equal(numaperf__records_create(&config, &records), 0);
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(numaperf__record_get(records, NULL, &record), 0);
            if (numaperf__pages_query(record, sizeof(*record), &placement) < 0) {
                print_message("skipped: the kernel does not tell where pages are\n");
                skip();
            }
        }
        assert_int_equal(placement.pages, COUNT);
        assert_int_equal(placement.on_node[node], COUNT);
        numaperf__records_destroy(records);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_made_before_the_first_is_asked_for),
        cmocka_unit_test(records_of_all_chunks_are_different),
        cmocka_unit_test(limit_is_kept_and_room_is_found_again),
        cmocka_unit_test(no_limit_gives_nothing),
        cmocka_unit_test(cache_gives_the_last_one_put),
        cmocka_unit_test(cache_keeps_no_more_than_its_limit),
        cmocka_unit_test(a_node_without_memory_is_refused),
        cmocka_unit_test(records_lie_on_their_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
