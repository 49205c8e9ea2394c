/* SPDX-License-Identifier: MIT */
/*
 * A kernel that says yes and does nothing: a seccomp filter answers one system call with success.
 * Only a read-back can tell. Hard mode must refuse, with nothing left behind, and soft mode must
 * not claim more than best effort. Filters last, so every scene is a child of its own.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"
#include "support/sandbox.h"
#include "support/witness.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

struct lie {
    const char *what;
    struct sandbox_rule rules[2];
    size_t count;
    int nodes; /* usable nodes and PUs it takes, for the lie to matter */
    int cpus;
    const char *word; /* in the refusal's operation or reason */
};

static const struct lie lies[] = {
    {"affinity is not set",
     {{.call = SYS_sched_setaffinity}},
     .count = 1,
     .nodes = 1,
     .cpus = 2,
     .word = "PU"},
    {"the thread's memory policy is not set",
     {{.call = SYS_set_mempolicy}},
     .count = 1,
     .nodes = 1,
     .cpus = 1,
     .word = "set_mempolicy"},
    {"no range is bound", {{.call = SYS_mbind}}, .count = 1, .nodes = 1, .cpus = 1, .word = "node"},
    {"pages are placed, but not bound",
     {{.call = SYS_mbind, .when = SANDBOX_EQUAL, .argument = 2, .value = MPOL_BIND}},
     .count = 1,
     .nodes = 1,
     .cpus = 1,
     .word = "node"},
    {"pages are neither placed nor moved",
     {{.call = SYS_mbind, .when = SANDBOX_BELOW, .argument = 2, .value = MPOL_BIND},
      {.call = SYS_move_pages, .when = SANDBOX_ABOVE, .argument = 3, .value = 0}},
     .count = 2,
     .nodes = 2,
     .cpus = 2,
     .word = "node"},
    {"pages are not looked for",
     {{.call = SYS_move_pages}},
     .count = 1,
     .nodes = 1,
     .cpus = 1,
     .word = "node"},
    {"the thread's memory policy is not told",
     {{.call = SYS_get_mempolicy, .when = SANDBOX_EQUAL, .argument = 4, .value = 0}},
     .count = 1,
     .nodes = 1,
     .cpus = 1,
     .word = "policy"},
    {"a range's memory policy is not told",
     {{.call = SYS_get_mempolicy, .when = SANDBOX_EQUAL, .argument = 4, .value = MPOL_F_ADDR}},
     .count = 1,
     .nodes = 1,
     .cpus = 1,
     .word = "policy"},
};

/* What is local to the starter must not be what is asked for by accident: not the node, or, where
 * there is one, not the PU that its first worker gets. */
static int stand_on_first_and_ask_for_last(numaperf_rt_config_t *config)
{
    int first = numaperf_nodemask_next(&witness_placeable, -1);
    int last = first;
    for (int node = first; node >= 0; node = numaperf_nodemask_next(&witness_placeable, node))
        last = node;
    numaperf_cpuset_t cpus;
    cpu_set_t one;
    witness_node_cpus(first, &cpus);
    CPU_ZERO(&one);
    for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0 && cpu < CPU_SETSIZE;
         cpu = numaperf_cpuset_next(&cpus, cpu)) {
        CPU_ZERO(&one);
        CPU_SET((size_t)cpu, &one);
    }
    config->nodes = numaperf_nodemask_single(last);
    return sched_setaffinity(0, sizeof(one), &one);
}

static void warm_up(numaperf_rt_config_t config)
{
    numaperf_rt_t *rt = NULL;
    config.mode = NUMAPERF_MODE_SOFT;
    config.audit_interval_ms = 60000;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    numaperf_rt_destroy(rt);
}

static void scene_of_a_lie(const void *arg)
{
    const struct lie *lie = arg;
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = NUMAPERF_MODE_HARD;
    config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    config.workers_per_node = 1;
    CHECK(stand_on_first_and_ask_for_last(&config) == 0);
    census_prepare();
    warm_up(config);
    sandbox_deny_rules(lie->rules, lie->count); /* "with error 0": that is success */
    numaperf_rt_t *rt = NULL;
    struct census before = census_take();
    int rc = numaperf_rt_start(&config, &rt);
    const numaperf_error_t *error = numaperf_last_error();
    if (rc != NUMAPERF_E_HARD_MODE ||
        (strstr(error->reason, lie->word) == NULL && strstr(error->operation, lie->word) == NULL))
        (void)fprintf(stderr, "%s, and hard mode says %s: %s: %s\n", lie->what,
                      numaperf_err_name(rc), error->operation, error->reason);
    CHECK(rc == NUMAPERF_E_HARD_MODE);
    CHECK(strstr(error->reason, lie->word) != NULL || strstr(error->operation, lie->word) != NULL);
    CHECK(census_returns_to(&before));

    numaperf_enforcement_t level;
    config.mode = NUMAPERF_MODE_SOFT;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    CHECK(numaperf_rt_enforcement(rt, &level) == 0);
    if (numaperf_is_strict(&level))
        (void)fprintf(stderr, "%s, and soft mode says strict\n", lie->what);
    CHECK(!numaperf_is_strict(&level) && level.reason[0] != '\0');
    atomic_int ran = 0;
    CHECK(numaperf_rt_spawn(rt, NUMAPERF_NODE_ANY, runtime_count_task, &ran) == 0);
    CHECK(runtime_reaches(&ran, 1));
    numaperf_rt_destroy(rt);
}

static void no_answer_is_believed_that_was_not_read_back(void **state)
{
    (void)state;
    size_t told = 0;
    size_t believed = 0;
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        const struct lie *lie = &lies[i];
        if (numaperf_nodemask_count(&witness_placeable) < lie->nodes ||
            numaperf_cpuset_count(&witness_allowed) < lie->cpus) {
            print_message("left out, for it makes no difference here: %s\n", lie->what);
            continue;
        }
        told++;
        if (!sandbox_run(scene_of_a_lie, lie)) {
            print_error("believed, or not refused cleanly: %s\n", lie->what);
            believed++;
        }
    }
    assert_true(told > 0);
    assert_int_equal(believed, 0);
}

int main(void)
{
    witness_look();
    if (!witness_can_place())
        return 77;
    if (witness_balancing() != 0) {
        printf("SKIP: NUMA balancing is on, so hard mode is refused whatever the kernel says\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_answer_is_believed_that_was_not_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
