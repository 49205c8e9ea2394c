/* SPDX-License-Identifier: MIT */
/*
 * Regions on the machine the test runs on: every claim of a level is compared with the test's own
 * query of the kernel. What several nodes are needed for is done on every node there is, and
 * skipped with a reason where there is one.
 */
#include "place/region.h"

#include "support/region_case.h"

#include <signal.h>
#include <sys/wait.h>

/* ---- arguments ---- */

static void region_bad_arguments_are_refused_by_name(void **state)
{
    (void)state;
    numaperf_region_t *region = NULL;
    numaperf_region_config_t config = config_of(NUMAPERF_MEM_LOCAL, 0, 4096);
    assert_int_equal(numaperf_region_create(NULL, &region), -EINVAL);
    assert_int_equal(numaperf_region_create(&config, NULL), -EINVAL);
    config.size = 4;
    expect_refused(&config, -EINVAL, "size");
    config.size = sizeof(config);
    config.flags = 1u << 30;
    expect_refused(&config, -EINVAL, "flags");
    config.flags = NUMAPERF_REGION_PRIVATE;
    expect_refused(&config, -EINVAL, "HAS_FD");
    config.flags = 0;
    config.length = 0;
    expect_refused(&config, -EINVAL, "length");
    config.length = UINT64_MAX;
    expect_refused(&config, -EINVAL, "length");
    config.length = UINT64_MAX - 4095;
    expect_refused(&config, -EINVAL, "length");
    config.length = 4096;
    config.policy = 4;
    expect_refused(&config, -EINVAL, "policy");
    config.policy = NUMAPERF_MEM_BIND;
    expect_refused(&config, -EINVAL, "nodes");
    config.policy = NUMAPERF_MEM_LOCAL;
    config.nodes = numaperf_nodemask_single(0);
    expect_refused(&config, -EINVAL, "nodes");
    config.policy = NUMAPERF_MEM_PREFERRED;
    assert_int_equal(numaperf_nodemask_add(&config.nodes, 1), 0);
    expect_refused(&config, -EINVAL, "nodes");
    config = config_of(NUMAPERF_MEM_LOCAL, 2, 4096);
    expect_refused(&config, -EINVAL, "mode");
    config = config_of(NUMAPERF_MEM_LOCAL, 0, 4096);
    config.huge_pages = 5;
    expect_refused(&config, -EINVAL, "huge_pages");
    config.huge_pages = 0;
    config.prefault = 3;
    expect_refused(&config, -EINVAL, "prefault");
    config.prefault = 0;
    config.prefault_threads = 65;
    expect_refused(&config, -EINVAL, "prefault_threads");
    config.prefault_threads = 0;
    config.offset = 4096;
    expect_refused(&config, -EINVAL, "offset");
}

static void region_config_of_another_release_is_understood(void **state)
{
    (void)state;
    struct {
        numaperf_region_config_t config;
        uint64_t later_field;
    } newer = {.config = NUMAPERF_REGION_CONFIG_INIT};
    newer.config.size = sizeof(newer);
    newer.config.length = 4096;
    numaperf_region_destroy(make(&newer.config));
    newer.later_field = 1;
    expect_refused(&newer.config, -E2BIG, "field");
}

static void region_length_is_rounded_up_to_whole_pages(void **state)
{
    (void)state;
    for (uint64_t length = 1; length <= 2 * page_size() + 1; length += page_size()) {
        numaperf_region_config_t config = config_of(NUMAPERF_MEM_LOCAL, 0, length);
        numaperf_region_t *region = make(&config);
        size_t got = numaperf_region_length(region);
        assert_int_equal(got, (length + page_size() - 1) / page_size() * page_size());
        assert_int_equal(numaperf_region_page_size(region), page_size());
        memset(numaperf_region_data(region), 0xa5, got);
        numaperf_region_destroy(region);
    }
    numaperf_region_destroy(NULL);
    assert_null(numaperf_region_data(NULL));
    assert_null(numaperf_region_enforcement(NULL));
    assert_int_equal(numaperf_region_length(NULL), 0);
    assert_int_equal(numaperf_region_page_size(NULL), 0);
    assert_int_equal(numaperf_region_audit(NULL, NULL), -EINVAL);
}

static void region_absent_node_is_no_node_in_both_modes(void **state)
{
    (void)state;
    int absent = 0;
    while (numaperf_nodemask_contains(&with_memory, absent))
        absent++; /* also a node with PUs and no memory */
    char name[32];
    (void)snprintf(name, sizeof(name), "node %d", absent);
    for (uint32_t mode = 0; mode < 2; mode++) {
        for (uint32_t policy = NUMAPERF_MEM_BIND; policy <= NUMAPERF_MEM_INTERLEAVE; policy++) {
            numaperf_region_config_t config = bind_to(absent, mode, 4096);
            config.policy = policy;
            expect_refused(&config, NUMAPERF_E_NO_NODE, name);
            config.nodes = numaperf_nodemask_single(NUMAPERF_NODE_MAX - 1);
            expect_refused(&config, NUMAPERF_E_NO_NODE, "node 1023");
        }
        numaperf_region_config_t config = bind_to(absent, mode, 4096);
        assert_int_equal(numaperf_nodemask_add(&config.nodes, numaperf_nodemask_next(&usable, -1)),
                         0);
        expect_refused(&config, NUMAPERF_E_NO_NODE, name);
    }
}

/* ---- placement ---- */

static void bind_on(int node, uint32_t mode, uint32_t prefault)
{
    numaperf_region_config_t config = bind_to(node, mode, 3 * MIB + 5);
    config.prefault = prefault;
    numaperf_region_t *region = make(&config);
    assert_level(region, NUMAPERF_ENFORCE_STRICT);
    char policy[32];
    (void)snprintf(policy, sizeof(policy), "bind:%d", node);
    assert_policy(region, policy);
    if (mode == NUMAPERF_MODE_SOFT && prefault == NUMAPERF_PREFAULT_NONE) {
        size_t counts[VIEW_NODES + 1];
        assert_true(
            view_pages(numaperf_region_data(region), numaperf_region_length(region), counts));
        assert_int_equal(counts[VIEW_NODES], numaperf_region_length(region) / page_size());
        memset(numaperf_region_data(region), 1, numaperf_region_length(region));
    }
    assert_all_on(region, node);
    numaperf_region_destroy(region);
}

static void region_bound_pages_are_on_their_node_in_every_mode(void **state)
{
    (void)state;
    for (int node = numaperf_nodemask_next(&usable, -1); node >= 0;
         node = numaperf_nodemask_next(&usable, node)) {
        for (uint32_t prefault = 0; prefault <= NUMAPERF_PREFAULT_PARALLEL; prefault++) {
            bind_on(node, NUMAPERF_MODE_SOFT, prefault);
            bind_on(node, NUMAPERF_MODE_HARD, prefault);
        }
    }
}

static void region_preferred_and_local_are_strict_only_when_populated(void **state)
{
    (void)state;
    for (int node = numaperf_nodemask_next(&usable, -1); node >= 0;
         node = numaperf_nodemask_next(&usable, node)) {
        numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_SOFT, MIB);
        config.policy = NUMAPERF_MEM_PREFERRED;
        numaperf_region_t *region = make(&config);
        assert_level(region, NUMAPERF_ENFORCE_BEST_EFFORT);
        assert_policy(region, "prefer:");
        numaperf_region_destroy(region);
        config.mode = NUMAPERF_MODE_HARD;
        region = make(&config);
        assert_level(region, NUMAPERF_ENFORCE_STRICT);
        assert_all_on(region, node);
        assert_policy(region, "prefer:");
        numaperf_region_destroy(region);
    }
    numaperf_region_config_t config = config_of(NUMAPERF_MEM_LOCAL, NUMAPERF_MODE_SOFT, MIB);
    numaperf_region_t *region = make(&config);
    assert_level(region, NUMAPERF_ENFORCE_BEST_EFFORT);
    assert_policy(region, "local");
    numaperf_region_destroy(region);
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    region = make(&config);
    size_t counts[VIEW_NODES + 1];
    assert_true(view_pages(numaperf_region_data(region), MIB, counts));
    assert_int_equal(counts[VIEW_NODES], 0);
    numaperf_region_destroy(region);
}

static void region_interleave_spreads_evenly(void **state)
{
    (void)state;
    numaperf_region_config_t config =
        config_of(NUMAPERF_MEM_INTERLEAVE, NUMAPERF_MODE_HARD, 8 * MIB);
    config.nodes = usable;
    config.huge_pages = NUMAPERF_HUGE_NONE;
    numaperf_region_t *region = make(&config);
    assert_level(region, NUMAPERF_ENFORCE_STRICT);
    assert_policy(region, "interleave");
    size_t counts[VIEW_NODES + 1];
    assert_true(view_pages(numaperf_region_data(region), 8 * MIB, counts));
    size_t share = 8 * MIB / page_size() / (size_t)numaperf_nodemask_count(&usable);
    for (int node = numaperf_nodemask_next(&usable, -1); node >= 0;
         node = numaperf_nodemask_next(&usable, node)) {
        assert_in_range(counts[node], share - 1, share + 1);
    }
    numaperf_region_destroy(region);
    config.mode = NUMAPERF_MODE_SOFT;
    region = make(&config);
    assert_level(region, NUMAPERF_ENFORCE_BEST_EFFORT);
    numaperf_region_destroy(region);
}

static void region_bound_to_several_nodes_has_no_page_elsewhere(void **state)
{
    (void)state;
    int first = numaperf_nodemask_next(&usable, -1);
    int second = numaperf_nodemask_next(&usable, first);
    if (second < 0) {
        print_message("skipped: one usable node\n");
        skip();
    }
    /* The last two nodes, so that where there are three, the first one is outside. */
    while (numaperf_nodemask_next(&usable, second) >= 0) {
        first = second;
        second = numaperf_nodemask_next(&usable, second);
    }
    numaperf_region_config_t config = bind_to(first, NUMAPERF_MODE_HARD, 4 * MIB);
    assert_int_equal(numaperf_nodemask_add(&config.nodes, second), 0);
    numaperf_region_t *region = make(&config);
    size_t counts[VIEW_NODES + 1];
    assert_true(view_pages(numaperf_region_data(region), 4 * MIB, counts));
    assert_int_equal(counts[first] + counts[second], 4 * MIB / page_size());
    assert_policy(region, "bind:");
    numaperf_region_destroy(region);
}

static void region_on_nodes_that_the_cpuset_trims_is_not_strict(void **state)
{
    (void)state;
    int inside = numaperf_nodemask_next(&usable, -1);
    int outside = numaperf_nodemask_next(&with_memory, -1);
    while (outside >= 0 && numaperf_nodemask_contains(&usable, outside))
        outside = numaperf_nodemask_next(&with_memory, outside);
    if (outside < 0) {
        print_message("skipped: the cpuset allows every node\n");
        skip();
    }
    numaperf_region_config_t config = bind_to(inside, NUMAPERF_MODE_SOFT, MIB);
    assert_int_equal(numaperf_nodemask_add(&config.nodes, outside), 0);
    for (uint32_t prefault = 0; prefault <= NUMAPERF_PREFAULT_TOUCH; prefault++) {
        config.prefault = prefault;
        numaperf_region_t *region = make(&config);
        assert_level(region, NUMAPERF_ENFORCE_BEST_EFFORT);
        assert_non_null(strstr(numaperf_region_enforcement(region)->reason, "cpuset"));
        memset(numaperf_region_data(region), 1, MIB);
        numaperf_region_destroy(region);
    }
    config.mode = NUMAPERF_MODE_HARD;
    expect_refused(&config, NUMAPERF_E_HARD_MODE, "cpuset");
    config.policy = NUMAPERF_MEM_INTERLEAVE;
    expect_refused(&config, NUMAPERF_E_HARD_MODE, "node");
    config = bind_to(outside, NUMAPERF_MODE_SOFT, MIB);
    expect_refused(&config, NUMAPERF_E_NO_NODE, "cpuset");
    config.mode = NUMAPERF_MODE_HARD;
    expect_refused(&config, NUMAPERF_E_NO_NODE, "cpuset");
}

/* ---- huge pages ---- */

static void region_without_huge_pages_is_refused_in_hard_and_downgraded_in_soft_mode(void **state)
{
    (void)state;
    for (int node = numaperf_nodemask_next(&usable, -1); node >= 0;
         node = numaperf_nodemask_next(&usable, node)) {
        /* One page more than the node has: mmap may well give it, from another node's pool. */
        uint64_t length = (view_huge_free(node) + 1) * 2 * MIB;
        char name[64];
        (void)snprintf(name, sizeof(name), "node %d: too few free huge pages of 2 MiB", node);
        numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, length - 5);
        config.huge_pages = NUMAPERF_HUGE_2MB;
        expect_refused(&config, NUMAPERF_E_HARD_MODE, name);
        config.mode = NUMAPERF_MODE_SOFT;
        numaperf_region_t *region = make(&config);
        assert_level(region, NUMAPERF_ENFORCE_BEST_EFFORT);
        assert_non_null(strstr(numaperf_region_enforcement(region)->reason, name));
        assert_int_equal(numaperf_region_page_size(region), page_size());
        memset(numaperf_region_data(region), 1, numaperf_region_length(region)); /* no SIGBUS */
        assert_all_on(region, node);
        assert_policy(region, "bind:");
        numaperf_region_destroy(region);
    }
    numaperf_region_config_t config = config_of(NUMAPERF_MEM_LOCAL, NUMAPERF_MODE_SOFT, 4096);
    config.huge_pages = NUMAPERF_HUGE_1GB;
    numaperf_region_t *region = make(&config);
    memset(numaperf_region_data(region), 1, 4096);
    numaperf_region_destroy(region);
}

static void region_of_huge_pages_comes_from_the_pool_of_its_node(void **state)
{
    (void)state;
    int tried = 0;
    for (int node = numaperf_nodemask_next(&usable, -1); node >= 0;
         node = numaperf_nodemask_next(&usable, node)) {
        uint64_t before = view_huge_free(node);
        if (before < 2)
            continue;
        tried++;
        numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, 2 * MIB + 1);
        config.huge_pages = NUMAPERF_HUGE_2MB;
        numaperf_region_t *region = make(&config);
        assert_level(region, NUMAPERF_ENFORCE_STRICT);
        assert_int_equal(numaperf_region_page_size(region), 2 * MIB);
        assert_int_equal(numaperf_region_length(region), 4 * MIB);
        assert_int_equal(view_huge_free(node), before - 2);
        assert_all_on(region, node);
        memset(numaperf_region_data(region), 1, 4 * MIB);
        numaperf_region_destroy(region);
        assert_int_equal(view_huge_free(node), before);
    }
    if (tried == 0) {
        print_message("skipped: no node has two free huge pages of 2 MiB\n");
        skip();
    }
}

static void region_transparent_huge_pages_are_switched_as_asked(void **state)
{
    (void)state;
    /* VmFlags of the mapping: "hg" MADV_HUGEPAGE, "nh" MADV_NOHUGEPAGE. */
    static const uint32_t asked[] = {NUMAPERF_HUGE_NONE, NUMAPERF_HUGE_TRANSPARENT};
    static const char *const flag[] = {" nh", " hg"};
    for (size_t i = 0; i < 2; i++) {
        numaperf_region_config_t config = config_of(NUMAPERF_MEM_LOCAL, 0, 4 * MIB);
        config.huge_pages = asked[i];
        numaperf_region_t *region = make(&config);
        if (asked[i] == NUMAPERF_HUGE_TRANSPARENT)
            assert_int_equal((uintptr_t)numaperf_region_data(region) % (2 * MIB), 0);
        FILE *file = fopen("/proc/self/smaps", "re");
        assert_non_null(file);
        char line[512];
        bool inside = false;
        bool seen = false;
        while (!seen && fgets(line, sizeof(line), file) != NULL) {
            if (strchr(line, '-') != NULL && strtoull(line, NULL, 16) != 0)
                inside = strtoull(line, NULL, 16) == (uintptr_t)numaperf_region_data(region);
            seen = inside && strncmp(line, "VmFlags:", 8) == 0;
        }
        assert_int_equal(fclose(file), 0);
        assert_true(seen);
        assert_non_null(strstr(line, flag[i]));
        numaperf_region_destroy(region);
    }
}

/* ---- what rooms below ask for ---- */

static void region_guard_is_below_the_data_and_kills_who_touches_it(void **state)
{
    (void)state;
    int node = numaperf_nodemask_next(&usable, -1);
    numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, 2 * MIB);
    const struct numaperf__region_extra extra = {.guard_bytes = 2 * page_size(),
                                                 .align_bytes = 64 * KIB};
    size_t before = view_maps_count();
    numaperf_region_t *region = NULL;
    assert_int_equal(numaperf__region_create(&config, &extra, &region), 0);
    volatile char *data = numaperf_region_data(region);
    assert_int_equal((uintptr_t)data % (64 * KIB), 0);
    assert_int_equal(numaperf_region_length(region), 2 * MIB);
    for (int i = 0; i < 2; i++) {
        (void)fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)signal(SIGSEGV, SIG_DFL);
            data[i == 0 ? -1 : -2 * (long)page_size()] = 1;
            _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    }
    data[0] = 1;
    data[2 * MIB - 1] = 1;
    numaperf_region_destroy(region);
    assert_true(view_maps_unchanged(before));

    config.huge_pages = NUMAPERF_HUGE_2MB;
    assert_int_equal(numaperf__region_create(&config, &extra, &region), -EINVAL);
}

static void region_of_another_machines_nodes_is_level_none_and_refused_in_hard_mode(void **state)
{
    (void)state;
    const struct numaperf__region_extra extra = {.unplaced_reason = "a machine of the mind"};
    numaperf_region_config_t config = bind_to(700, NUMAPERF_MODE_SOFT, MIB);
    config.prefault = NUMAPERF_PREFAULT_PARALLEL;
    numaperf_region_t *region = NULL;
    assert_int_equal(numaperf__region_create(&config, &extra, &region), 0);
    assert_level(region, NUMAPERF_ENFORCE_NONE);
    assert_string_equal(numaperf_region_enforcement(region)->reason, extra.unplaced_reason);
    assert_policy(region, "local");
    memset(numaperf_region_data(region), 1, MIB);
    numaperf_region_destroy(region);
    config.mode = NUMAPERF_MODE_HARD;
    assert_int_equal(numaperf__region_create(&config, &extra, &region), NUMAPERF_E_HARD_MODE);
    assert_string_equal(numaperf_last_error()->reason, extra.unplaced_reason);
}

static void region_created_on_success_leaves_the_last_error_alone(void **state)
{
    (void)state;
    numaperf_region_config_t config = config_of(9, 0, 4096);
    assert_int_equal(numaperf_region_create(&config, NULL), -EINVAL);
    numaperf_error_t before = *numaperf_last_error();
    config = config_of(NUMAPERF_MEM_LOCAL, 0, 4096);
    config.huge_pages = NUMAPERF_HUGE_1GB; /* downgraded: still a success */
    numaperf_region_destroy(make(&config));
    assert_memory_equal(&before, numaperf_last_error(), sizeof(before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(region_bad_arguments_are_refused_by_name),
        cmocka_unit_test(region_config_of_another_release_is_understood),
        cmocka_unit_test(region_length_is_rounded_up_to_whole_pages),
        cmocka_unit_test(region_absent_node_is_no_node_in_both_modes),
        cmocka_unit_test(region_bound_pages_are_on_their_node_in_every_mode),
        cmocka_unit_test(region_preferred_and_local_are_strict_only_when_populated),
        cmocka_unit_test(region_interleave_spreads_evenly),
        cmocka_unit_test(region_bound_to_several_nodes_has_no_page_elsewhere),
        cmocka_unit_test(region_on_nodes_that_the_cpuset_trims_is_not_strict),
        cmocka_unit_test(region_without_huge_pages_is_refused_in_hard_and_downgraded_in_soft_mode),
        cmocka_unit_test(region_of_huge_pages_comes_from_the_pool_of_its_node),
        cmocka_unit_test(region_transparent_huge_pages_are_switched_as_asked),
        cmocka_unit_test(region_guard_is_below_the_data_and_kills_who_touches_it),
        cmocka_unit_test(region_of_another_machines_nodes_is_level_none_and_refused_in_hard_mode),
        cmocka_unit_test(region_created_on_success_leaves_the_last_error_alone),
    };
    view_nodes(&with_memory, &usable);
    cmocka_set_test_filter(getenv("NUMAPERF_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
