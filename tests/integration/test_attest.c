/* SPDX-License-Identifier: MIT */
/*
 * What an attestation says against what the kernel says itself (attest_check.c), and when and where
 * it may be asked for (attest_when.c). Runs on any machine; drifts are made behind its back.
 */
#include <numaperf.h>

#include "attest_check.h"
#include "attest_when.h"
#include "support/attest_view.h"
#include "support/clock.h"
#include "support/witness.h"

#include "sched/look.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A page for each chunk to have something in it, and a block with a chunk of its own. */
static void allocate_task(numaperf_worker_t *worker, void *counter)
{
    numaperf_arena_t *arena = numaperf_worker_arena(worker);
    char *small = numaperf_arena_alloc(arena, 20000, 0);
    char *large = numaperf_arena_alloc(arena, (size_t)3 << 20, 4096);
    if (small != NULL && large != NULL) {
        memset(small, 1, 20000);
        memset(large, 1, (size_t)1 << 20); /* the rest stays absent, but in hard mode */
        (void)atomic_fetch_add((atomic_int *)counter, 1);
    }
}

static void allocate_everywhere(numaperf_rt_t *rt)
{
    atomic_int counter = 0;
    size_t count = numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    for (size_t i = 0; i < count; i++) {
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)i;
        assert_int_equal(numaperf_rt_spawn_with(rt, &options, allocate_task, &counter), 0);
    }
    assert_true(runtime_reaches(&counter, (int)count));
}

/* ---- what it says ---- */

static void the_document_says_what_the_kernel_says(void **state)
{
    (void)state;
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box_open(&box, NULL);
    check_document(box.rt);
    allocate_everywhere(box.rt);
    check_document(box.rt);
    runtime_box_close(&box);
}

static void where_all_can_be_placed_every_part_is_home_and_the_verdict_strict(void **state)
{
    (void)state;
    if (!witness_can_place() || witness_ring_errno() != 0) {
        print_message("skipped: not all can be placed here\n");
        skip();
    }
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box_open(&box, NULL);
    allocate_everywhere(box.rt);
    json_t *root = attest(box.rt);
    size_t count = json_array_size(at_path(root, "workers"));
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t part = 0; part < PARTS; part++) {
            const char *name = text_of(at_path(root, "workers/%u/parts/%u/name", i, part));
            const struct numaperf_worker *worker = numaperf_rt_worker(box.rt, i);
            /* The queues of a node are shown with its first worker. */
            bool is_there = strcmp(name, "queues") != 0 || i == worker->node->first_worker;
            const char *wanted = is_there ? "home" : "no_part";
            assert_true(verdict_is(root, i, name, "at_start", wanted));
            assert_true(verdict_is(root, i, name, "last", wanted));
        }
        uint64_t stack = number_of(at_path(root, "workers/%u/parts/stack/last/pages", i));
        assert_int_equal(number_of(at_path(root, "workers/%u/parts/stack/last/pages_home", i)),
                         stack);
        assert_true(number_of(at_path(root, "workers/%u/parts/arena/last/pages_home", i)) >= 256);
    }
    /* A level lower than strict has a cause of its own, as a worker more than there are PUs. */
    numaperf_enforcement_t level;
    assert_int_equal(numaperf_rt_enforcement(box.rt, &level), 0);
    assert_string_equal(text_of(at_path(root, "verdict/level")),
                        numaperf_enforcement_level_name(level.level));
    json_decref(root);
    runtime_box_close(&box);
}

static void set_balancing(const char *value)
{
    FILE *file = fopen("/proc/sys/kernel/numa_balancing", "we");
    assert_non_null(file);
    assert_true(fputs(value, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void hard_mode_is_strict_until_balancing_is_switched_on(void **state)
{
    (void)state;
    struct runtime_box box = box_with(NUMAPERF_MODE_HARD);
    if (runtime_box_open(&box, NULL) < 0) {
        print_message("skipped: no hard mode here: %s\n", numaperf_last_error()->reason);
        skip();
    }
    allocate_everywhere(box.rt);
    check_document(box.rt);
    json_t *root = attest(box.rt);
    assert_string_equal(text_of(at_path(root, "verdict/level")), "strict");
    assert_true(json_is_null(at_path(root, "verdict/reason")));
    for (uint32_t i = 0; i < json_array_size(at_path(root, "workers")); i++) {
        json_t *arena = at_path(root, "workers/%u/parts/arena/last", i);
        assert_int_equal(number_of(at_path(arena, "pages_absent")), 0);
        assert_int_equal(number_of(at_path(arena, "pages_home")),
                         number_of(at_path(arena, "pages")));
    }
    json_decref(root);
    if (test_is_guest() && access("/proc/sys/kernel/numa_balancing", W_OK) == 0) {
        set_balancing("1"); /* a machine of our own */
        root = attest(box.rt);
        set_balancing("0");
        assert_string_equal(text_of(at_path(root, "verdict/level")), "best effort");
        assert_non_null(strstr(text_of(at_path(root, "verdict/reason")), "numa_balancing"));
        assert_int_equal(number_of(at_path(root, "kernel/numa_balancing/value")), 1);
        json_decref(root);
    }
    runtime_box_close(&box);
}

static void a_thread_that_drifted_is_told_beside_what_it_was_at_start(void **state)
{
    (void)state;
    if (has_one_pu())
        skip();
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box_open(&box, NULL);
    const numaperf_worker_t *worker = numaperf_rt_worker(box.rt, 0);
    json_t *before = attest(box.rt);
    assert_true(verdict_is(before, 0, "affinity", "last", "home"));

    set_affinity(numaperf_worker_thread_id(worker), -1);
    json_t *root = attest(box.rt);
    json_t *part = at_path(root, "workers/0/parts/affinity");
    char list[256];
    numaperf_cpuset_t cpus;
    assert_true(witness_task_cpus(0, numaperf_worker_thread_id(worker), &cpus));
    (void)numaperf_cpuset_format(&cpus, list, sizeof(list));
    assert_string_equal(text_of(at_path(part, "last/verdict")), "drifted");
    assert_non_null(strstr(text_of(at_path(part, "last/found")), list));
    assert_string_equal(text_of(at_path(part, "at_start/verdict")), "home");
    assert_true(json_equal(at_path(part, "at_start"),
                           at_path(before, "workers/0/parts/affinity/at_start")));
    struct numaperf__look first;
    struct numaperf__look last;
    numaperf__evidence_get(box.rt->evidence, 0, NUMAPERF__PART_AFFINITY, &first, &last);
    assert_int_equal(first.verdict, NUMAPERF__LOOK_HOME);
    assert_int_equal(last.verdict, NUMAPERF__LOOK_DRIFTED); /* kept as the last one known */
    assert_string_equal(last.found, text_of(at_path(part, "last/found")));
    assert_string_not_equal(text_of(at_path(root, "verdict/level")), "strict");
    if (strcmp(text_of(at_path(before, "verdict/level")), "strict") == 0)
        assert_non_null(strstr(text_of(at_path(root, "verdict/reason")), "worker 0: affinity"));
    json_decref(root);

    set_affinity(numaperf_worker_thread_id(worker), numaperf_worker_cpu(worker));
    root = attest(box.rt);
    assert_true(verdict_is(root, 0, "affinity", "last", "home"));
    assert_true(json_equal(at_path(root, "verdict"), at_path(before, "verdict")));
    json_decref(root);
    json_decref(before);
    runtime_box_close(&box);
}

static void default_policy_task(numaperf_worker_t *worker, void *done)
{
    (void)worker;
    long rc = syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0UL);
    atomic_store((atomic_int *)done, rc == 0 ? 1 : -1);
}

static void a_memory_policy_that_drifted_is_told(void **state)
{
    (void)state;
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box.config.workers_per_node = 1;
    box_open(&box, NULL);
    json_t *root = attest(box.rt);
    json_t *last = at_path(root, "workers/0/parts/memory policy/last/verdict");
    bool home = strcmp(text_of(last), "home") == 0;
    json_decref(root);
    if (!home) {
        runtime_box_close(&box);
        print_message("skipped: the memory policy is not home here\n");
        skip();
    }
    atomic_int done = 0;
    int node = numaperf_worker_node(numaperf_rt_worker(box.rt, 0));
    assert_int_equal(numaperf_rt_spawn(box.rt, node, default_policy_task, &done), 0);
    assert_true(runtime_reaches(&done, 1));
    root = attest(box.rt);
    assert_true(verdict_is(root, 0, "memory policy", "last", "drifted"));
    assert_string_equal(text_of(at_path(root, "workers/0/parts/memory policy/last/found")),
                        "default");
    assert_true(verdict_is(root, 0, "memory policy", "at_start", "home"));
    json_decref(root);
    runtime_box_close(&box);
}

/* The first page of a stack, where nobody comes, is moved to another node. */
static void pages_that_were_moved_away_are_counted(void **state)
{
    (void)state;
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box_open(&box, NULL);
    const struct numaperf_worker *worker = numaperf_rt_worker(box.rt, 0);
    int node = numaperf_nodemask_next(&witness_memory, -1);
    if (node == worker->node->id)
        node = numaperf_nodemask_next(&witness_memory, node);
    if (node < 0) {
        runtime_box_close(&box);
        print_message("skipped: no second node to move pages to\n");
        skip();
    }
    json_t *before = attest(box.rt);
    void *page = (void *)worker->stack_base;
    int status = -1;
    assert_int_equal(syscall(SYS_move_pages, 0, 1UL, &page, &node, &status, MPOL_MF_MOVE), 0);
    assert_int_equal(status, node);
    json_t *root = attest(box.rt);
    json_t *part = at_path(root, "workers/0/parts/stack");
    assert_string_equal(text_of(at_path(part, "last/verdict")), "drifted");
    assert_string_equal(text_of(at_path(part, "at_start/verdict")), "home");
    assert_int_equal(number_of(at_path(part, "last/pages_home")),
                     number_of(at_path(part, "at_start/pages_home")) - 1);
    if (strcmp(text_of(at_path(before, "verdict/level")), "strict") == 0)
        assert_non_null(strstr(text_of(at_path(root, "verdict/reason")), "worker 0: stack"));
    check_pages(root, worker, "stack");
    json_decref(root);
    json_decref(before);
    runtime_box_close(&box);
}

static void a_lent_machine_is_told_with_what_it_cannot_prove(void **state)
{
    (void)state;
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box.config.workers_per_node = 1;
    box_open(&box, "numa:2 pu:1");
    json_t *root = attest(box.rt);
    assert_true(json_is_false(at_path(root, "topology/this_machine")));
    assert_true(json_is_true(at_path(root, "settings/topology_lent")));
    assert_int_equal(json_array_size(at_path(root, "topology/nodes")), 2);
    assert_int_equal(json_array_size(at_path(root, "settings/nodes")), 2);
    assert_int_equal(number_of(at_path(root, "settings/nodes/1/node")), 1);
    assert_int_equal(number_of(at_path(root, "settings/nodes/1/workers")), 1);
    assert_string_equal(text_of(at_path(root, "verdict/level")), "none");
    assert_non_null(strstr(text_of(at_path(root, "verdict/reason")), "not this machine"));
    assert_true(verdict_is(root, 1, "stack", "last", "no_part"));
    assert_true(json_is_null(at_path(root, "workers/1/parts/stack/asked")));
    json_decref(root);
    runtime_box_close(&box);
}

static int start_nothing(numaperf_worker_t *worker, void *data)
{
    (void)worker;
    (void)data;
    return 0;
}

static void settings_are_told_by_name_and_numbers_exactly(void **state)
{
    (void)state;
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    box.config.workers_per_node = 1;
    box.config.huge_pages = NUMAPERF_HUGE_NONE;
    box.config.io_backend = NUMAPERF_IO_EPOLL;
    box.config.arena_bytes = (UINT64_C(1) << 53) + 1; /* the first that a double cannot hold */
    box.config.spin_ns_max = UINT64_MAX;
    box.config.task_limit_per_node = UINT64_MAX;
    box.config.audit_interval_ms = 3600000;
    box.config.audit_policy = NUMAPERF_AUDIT_REPAIR;
    box.config.on_worker_start = start_nothing;
    box_open(&box, NULL);
    json_t *root = attest(box.rt);
    json_t *settings = at_path(root, "settings");
    assert_string_equal(text_of(at_path(settings, "mode")), "soft");
    assert_true(json_is_true(at_path(settings, "waive_privileges")));
    assert_string_equal(text_of(at_path(settings, "steal_policy")), "local-only");
    assert_int_equal(number_of(at_path(settings, "workers_per_node")), 1);
    assert_string_equal(text_of(at_path(settings, "huge_pages")), "none");
    assert_string_equal(text_of(at_path(settings, "io_backend")), "epoll");
    assert_int_equal(number_of(at_path(settings, "arena_bytes")), box.config.arena_bytes);
    assert_int_equal(number_of(at_path(settings, "spin_ns_max")), 0);
    assert_true(json_is_null(at_path(settings, "task_limit_per_node")));
    assert_int_equal(number_of(at_path(settings, "audit_interval_ms")), 3600000);
    assert_string_equal(text_of(at_path(settings, "audit_policy")), "repair");
    assert_true(json_is_true(at_path(settings, "callbacks/on_worker_start")));
    assert_true(json_is_false(at_path(settings, "callbacks/on_violation")));
    assert_true(json_is_true(at_path(root, "audit/on")));
    assert_int_equal(number_of(at_path(root, "audit/interval_ms")), 3600000);
    assert_int_equal(number_of(at_path(root, "audit/violations")), 0);
    assert_string_equal(text_of(at_path(root, "workers/0/backend")), "epoll");
    assert_string_equal(text_of(at_path(root, "workers/0/backend_reason")),
                        numaperf_worker_backend_reason(numaperf_rt_worker(box.rt, 0)));
    assert_true(verdict_is(root, 0, "ring", "last", "no_part"));
    assert_true(json_is_null(at_path(root, "workers/0/parts/ring/asked")));
    json_decref(root);
    runtime_box_close(&box);
}

static void audit_off_is_told_and_the_arena_is_counted(void **state)
{
    (void)state;
    struct runtime_box box = box_with(NUMAPERF_MODE_SOFT);
    box.config.audit_interval_ms = UINT32_MAX;
    box.config.arena_bytes = UINT64_C(1) << 63; /* more than a number of JSON in C */
    box_open(&box, NULL);
    allocate_everywhere(box.rt);
    json_t *root = attest(box.rt);
    json_t *arena = at_path(root, "workers/0/arena");
    assert_true(json_is_false(at_path(root, "audit/on")));
    assert_true(json_is_null(at_path(root, "audit/interval_ms")));
    assert_string_equal(text_of(at_path(root, "settings/arena_bytes")), "9223372036854775808");
    assert_int_equal(number_of(at_path(arena, "alloc_count")), 2);
    assert_int_equal(number_of(at_path(arena, "free_count")), 0);
    assert_int_equal(number_of(at_path(arena, "chunk_count")), 2);
    assert_true(number_of(at_path(arena, "used_bytes")) >= 20000 + ((size_t)3 << 20));
    assert_true(number_of(at_path(arena, "mapped_bytes")) >=
                number_of(at_path(arena, "used_bytes")));
    json_decref(root);
    runtime_box_close(&box);
}

int main(void)
{
    witness_look();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_document_says_what_the_kernel_says),
        cmocka_unit_test(where_all_can_be_placed_every_part_is_home_and_the_verdict_strict),
        cmocka_unit_test(hard_mode_is_strict_until_balancing_is_switched_on),
        cmocka_unit_test(a_thread_that_drifted_is_told_beside_what_it_was_at_start),
        cmocka_unit_test(a_memory_policy_that_drifted_is_told),
        cmocka_unit_test(pages_that_were_moved_away_are_counted),
        cmocka_unit_test(a_lent_machine_is_told_with_what_it_cannot_prove),
        cmocka_unit_test(settings_are_told_by_name_and_numbers_exactly),
        cmocka_unit_test(audit_off_is_told_and_the_arena_is_counted),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(it_may_be_asked_for_on_a_worker_at_start_and_in_a_task),
        cmocka_unit_test(it_may_be_asked_for_in_on_violation),
        cmocka_unit_test(it_is_answered_until_the_workers_begin_to_end),
        cmocka_unit_test(looks_at_workers_that_ended_meanwhile_do_not_count),
        cmocka_unit_test(many_may_ask_while_it_is_audited_and_stopped),
        cmocka_unit_test(a_start_that_fails_meanwhile_is_told_or_too_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
