/* SPDX-License-Identifier: MIT */
/*
 * Memory policy of threads, and thread states that are given back, against the kernel we run on
 * and against answers it does not give here, which are played.
 */
#include "place/mempolicy.h"

#include "place/pin.h"

#include "support/fake_syscall.h"
#include "support/thread_case.h"

#include <linux/mempolicy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

/* Nodes the kernel lets this thread take memory from; empty when it has no NUMA at all. */
static numaperf_nodemask_t memory_nodes(void)
{
    numaperf_nodemask_t nodes;
    numaperf_nodemask_zero(&nodes);
    if (syscall(SYS_get_mempolicy, NULL, nodes.bits, 1025UL, NULL,
                (unsigned long)MPOL_F_MEMS_ALLOWED) < 0)
        numaperf_nodemask_zero(&nodes);
    return nodes;
}

static void skip_without_numa(void)
{
    numaperf_nodemask_t nodes = memory_nodes();
    if (numaperf_nodemask_count(&nodes) == 0) {
        print_message("this kernel has no memory policies\n");
        skip();
    }
}

static void prefer_of_each_memory_node_is_strict_and_read_back(void **state)
{
    (void)state;
    skip_without_numa();
    numaperf_nodemask_t nodes = memory_nodes();
    for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0;
         node = numaperf_nodemask_next(&nodes, node)) {
        numaperf_enforcement_t level;
        int sys_errno = -1;
        numaperf__mempolicy_prefer(node, &level, &sys_errno);
        assert_true(numaperf_is_strict(&level));
        assert_int_equal(sys_errno, 0);

        int policy = -1;
        numaperf_nodemask_t got;
        numaperf_nodemask_t wanted = numaperf_nodemask_single(node);
        assert_int_equal(numaperf__mempolicy_get(&policy, &got), 0);
        assert_int_equal(policy, MPOL_PREFERRED);
        assert_true(numaperf_nodemask_equal(&got, &wanted));
    }
}

/* A mask passed one bit short would drop node 1023, and an empty PREFERRED succeeds. */
static void prefer_of_the_last_possible_node_reaches_the_kernel(void **state)
{
    (void)state;
    skip_without_numa();
    numaperf_enforcement_t level;
    int sys_errno = 0;
    numaperf__mempolicy_prefer(NUMAPERF_NODE_MAX - 1, &level, &sys_errno);
    assert_true(numaperf_is_none(&level));
    assert_int_equal(sys_errno, EINVAL);
    assert_non_null(strstr(level.reason, "node 1023"));
}

static void prefer_that_has_no_effect_is_never_strict(void **state)
{
    (void)state;
    skip_without_numa();
    numaperf_nodemask_t nodes = memory_nodes();
    numaperf_enforcement_t level;
    int sys_errno = 0;
    fake_set(SYS_set_mempolicy, FAKE_NOTHING, 0);
    numaperf__mempolicy_prefer(numaperf_nodemask_next(&nodes, -1), &level, &sys_errno);
    assert_true(numaperf_is_best_effort(&level));

    fake_set(SYS_get_mempolicy, FAKE_REFUSE, EPERM);
    numaperf__mempolicy_prefer(numaperf_nodemask_next(&nodes, -1), &level, &sys_errno);
    assert_true(numaperf_is_best_effort(&level));
    assert_int_equal(sys_errno, EPERM);
}

static void thread_state_with_mode_flags_is_given_back_exactly(void **state)
{
    (void)state;
    skip_without_numa();
    const int policies[] = {MPOL_DEFAULT,
                            MPOL_LOCAL,
                            MPOL_PREFERRED,
                            MPOL_PREFERRED | MPOL_F_STATIC_NODES,
                            MPOL_BIND | MPOL_F_RELATIVE_NODES,
                            MPOL_INTERLEAVE | MPOL_F_STATIC_NODES,
                            MPOL_BIND | MPOL_F_NUMA_BALANCING};
    numaperf_nodemask_t nodes = memory_nodes();
    numaperf_nodemask_t one = numaperf_nodemask_single(numaperf_nodemask_next(&nodes, -1));
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        bool takes_none = policies[i] == MPOL_DEFAULT || policies[i] == MPOL_LOCAL;
        assert_int_equal(numaperf__mempolicy_set(policies[i], takes_none ? NULL : &one), 0);
        struct numaperf__thread_state kept;
        assert_int_equal(numaperf__thread_state_get(&kept), 0);
        assert_int_equal(kept.policy, policies[i]);

        assert_int_equal(numaperf__mempolicy_set(MPOL_INTERLEAVE, &nodes), 0);
        assert_int_equal(numaperf__thread_state_set(&kept), 0);
        struct numaperf__thread_state again;
        assert_int_equal(numaperf__thread_state_get(&again), 0);
        assert_int_equal(again.policy, policies[i]);
        assert_true(numaperf_nodemask_equal(&again.nodes, &kept.nodes));
        assert_true(numaperf_cpuset_equal(&again.cpus, &kept.cpus));
    }
}

static void thread_state_gives_affinity_back_where_policies_are_refused(void **state)
{
    (void)state;
    struct numaperf__thread_state kept;
    fake_set(SYS_get_mempolicy, FAKE_REFUSE, EPERM);
    assert_int_equal(numaperf__thread_state_get(&kept), -EPERM);
    assert_int_equal(kept.policy, NUMAPERF__POLICY_UNKNOWN);
    assert_true(numaperf_cpuset_equal(&kept.cpus, &at_start.cpus));

    numaperf_cpuset_t one = set_of(first_cpu(), first_cpu());
    assert_int_equal(numaperf_set_affinity(&one), 0);
    fake_set(SYS_set_mempolicy, FAKE_REFUSE, EPERM);
    assert_int_equal(numaperf__thread_state_set(&kept), 0);
    assert_affinity_is(&at_start.cpus);
    /* A known policy is tried, its refusal reported, and the affinity still given back. */
    assert_int_equal(numaperf_set_affinity(&one), 0);
    kept.policy = MPOL_DEFAULT;
    assert_int_equal(numaperf__thread_state_set(&kept), -EPERM);
    assert_affinity_is(&at_start.cpus);
}

/* In the new program: what was captured at load must be what exec passed on, whatever we do now. */
static int check_state_at_load(void)
{
    struct numaperf__thread_state now;
    struct numaperf__thread_state at_load;
    if (numaperf__thread_state_get(&now) < 0)
        return 2;
    if (numaperf__mempolicy_set(MPOL_DEFAULT, NULL) < 0)
        return 3;
    numaperf__thread_state_at_load(&at_load);
    if (at_load.policy != MPOL_INTERLEAVE || now.policy != MPOL_INTERLEAVE)
        return 4;
    if (!numaperf_nodemask_equal(&at_load.nodes, &now.nodes))
        return 5;
    if (numaperf_cpuset_count(&at_load.cpus) != 1)
        return 6;
    return numaperf_cpuset_equal(&at_load.cpus, &now.cpus) ? 0 : 7;
}

static void thread_state_at_load_is_what_the_process_was_started_with(void **state)
{
    (void)state;
    skip_without_numa();
    numaperf_nodemask_t nodes = memory_nodes();
    numaperf_cpuset_t one = set_of(first_cpu(), first_cpu());
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (numaperf__mempolicy_set(MPOL_INTERLEAVE, &nodes) == 0 &&
            numaperf__affinity_set(0, &one) == 0)
            (void)execl("/proc/self/exe", "test_mempolicy", "state-at-load", (char *)NULL);
        _exit(100);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, case_setup, case_teardown)

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "state-at-load") == 0)
        return check_state_at_load();

    (void)numaperf__thread_state_get(&at_start);
    const struct CMUnitTest tests[] = {
        CASE(prefer_of_each_memory_node_is_strict_and_read_back),
        CASE(prefer_of_the_last_possible_node_reaches_the_kernel),
        CASE(prefer_that_has_no_effect_is_never_strict),
        CASE(thread_state_with_mode_flags_is_given_back_exactly),
        CASE(thread_state_gives_affinity_back_where_policies_are_refused),
        CASE(thread_state_at_load_is_what_the_process_was_started_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
