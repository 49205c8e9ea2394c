/* SPDX-License-Identifier: MIT */
/*
 * What tests of regions share: making them, expecting refusals, and comparing what a region says
 * of itself with the tests' own look at memory. For cmocka tests; included once in a program.
 */
#ifndef NUMAPERF_TESTS_REGION_CASE_H
#define NUMAPERF_TESTS_REGION_CASE_H

#include "support/memory_view.h"

#include <numaperf/error.h>
#include <numaperf/region.h>

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

static numaperf_nodemask_t with_memory; /* nodes */
static numaperf_nodemask_t usable;      /* of these, allowed by our cpuset */

static inline size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static inline numaperf_region_config_t config_of(uint32_t policy, uint32_t mode, uint64_t length)
{
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.policy = policy;
    config.mode = mode;
    config.length = length;
    return config;
}

static inline numaperf_region_config_t bind_to(int node, uint32_t mode, uint64_t length)
{
    numaperf_region_config_t config = config_of(NUMAPERF_MEM_BIND, mode, length);
    config.nodes = numaperf_nodemask_single(node);
    return config;
}

static inline numaperf_region_t *make(const numaperf_region_config_t *config)
{
    numaperf_region_t *region = NULL;
    int rc = numaperf_region_create(config, &region);
    if (rc != 0)
        print_error("create: %s: %s\n", numaperf_err_name(rc), numaperf_last_error()->reason);
    assert_int_equal(rc, 0);
    return region;
}

static inline void expect_refused(const numaperf_region_config_t *config, int code,
                                  const char *word)
{
    numaperf_region_t *const mark = (numaperf_region_t *)&usable;
    numaperf_region_t *region = mark;
    size_t before = view_maps_count();
    int rc = numaperf_region_create(config, &region);
    if (rc != code)
        print_error("%s instead of %s\n", numaperf_err_name(rc), numaperf_err_name(code));
    assert_int_equal(rc, code);
    assert_ptr_equal(region, mark);
    assert_int_equal(numaperf_last_error()->code, code);
    if (strstr(numaperf_last_error()->reason, word) == NULL)
        print_error("\"%s\" not in \"%s\"\n", word, numaperf_last_error()->reason);
    assert_non_null(strstr(numaperf_last_error()->reason, word));
    assert_true(view_maps_unchanged(before));
}

static inline void assert_level(const numaperf_region_t *region, numaperf_enforcement_level_t level)
{
    const numaperf_enforcement_t *enforcement = numaperf_region_enforcement(region);
    if (enforcement->level != level)
        print_error("level %s (%s)\n", numaperf_enforcement_level_name(enforcement->level),
                    enforcement->reason);
    assert_int_equal(enforcement->level, level);
    assert_true((level == NUMAPERF_ENFORCE_STRICT) == (enforcement->reason[0] == '\0'));
}

/* Every page of the region is on the node, by our own query, and the audit agrees. */
static inline void assert_all_on(const numaperf_region_t *region, int node)
{
    size_t counts[VIEW_NODES + 1];
    size_t pages = numaperf_region_length(region) / page_size();
    assert_true(view_pages(numaperf_region_data(region), numaperf_region_length(region), counts));
    assert_int_equal(counts[node], pages);

    static numaperf_placement_t placement;
    placement.size = sizeof(placement);
    assert_int_equal(numaperf_region_audit(region, &placement), 0);
    assert_int_equal(placement.pages, pages);
    assert_int_equal(placement.on_node[node], pages);
    assert_int_equal(placement.absent, 0);
    assert_int_equal(placement.node_count, 1);
}

static inline void assert_policy(const numaperf_region_t *region, const char *policy)
{
    char line[512];
    if (!view_policy(numaperf_region_data(region), line, sizeof(line)))
        return; /* this kernel has no numa_maps */
    if (strstr(line, policy) == NULL)
        print_error("\"%s\" not in %s", policy, line);
    assert_non_null(strstr(line, policy));
}

#endif
