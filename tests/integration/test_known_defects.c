/* SPDX-License-Identifier: MIT */
/*
 * One case for each defect that was known of an earlier runtime of this kind, so that none of them
 * comes back: each fails when its defect is put in.
 */
#include "place/mempolicy.h"
#include "place/range_policy.h"

#include "support/cgroup.h"
#include "support/clock.h"
#include "support/fake_syscall.h"
#include "support/memory_view.h"
#include "support/refusal.h"
#include "support/runtimes.h"
#include "support/sandbox.h"
#include "support/worker_filter.h"

#include <numaperf.h>

#include <errno.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define EXECUTED "NUMAPERF_TEST_ONLY_PU" /* set for the program that a case executes */

static int first_memory_node(void)
{
    numaperf_nodemask_t all;
    numaperf_nodemask_t usable;
    view_nodes(&all, &usable);
    return numaperf_nodemask_next(&usable, -1);
}

static void open_box(struct runtime_box *box, const char *machine)
{
    assert_int_equal(runtime_box_open(box, machine), 0);
}

/* ---- soft mode hands out unmapped memory when mbind fails ---- */

static void memory_is_usable_when_mbind_is_refused(void **state)
{
    (void)state;
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = MIB;
    config.policy = NUMAPERF_MEM_BIND;
    config.nodes = numaperf_nodemask_single(first_memory_node());
    size_t counts[VIEW_NODES + 1];
    const int errors[] = {EPERM, EINVAL, ENOSYS, ENOMEM, EIO};
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        numaperf_region_t *region = NULL;
        fake_set(SYS_mbind, FAKE_REFUSE, errors[i]);
        assert_int_equal(numaperf_region_create(&config, &region), 0);
        fake_clear();
        memset(numaperf_region_data(region), 0x5a, MIB); /* unmapped, this would be the end */
        assert_true(view_pages(numaperf_region_data(region), MIB, counts));
        assert_int_equal(counts[VIEW_NODES], 0); /* every page is somewhere */
        assert_false(numaperf_is_strict(numaperf_region_enforcement(region)));
        assert_non_null(numaperf_enforcement_reason(numaperf_region_enforcement(region)));
        numaperf_region_destroy(region);
    }
}

/* ---- queues indexed by node id: breaks on nodes {0,2} ---- */

static void note_node(numaperf_worker_t *worker, void *arg)
{
    atomic_store((atomic_int *)arg, numaperf_worker_node(worker)); /* where it ran */
}

static atomic_int lost; /* of a task that must not run */

#define NOTES 64

/* Tasks for each of the nodes run there and nowhere else. */
static void check_nodes_run_their_own(numaperf_rt_t *rt, const int *nodes, size_t count)
{
    static atomic_int notes[8][NOTES];
    assert_true(count <= 8);
    for (size_t n = 0; n < count; n++) {
        for (size_t i = 0; i < NOTES; i++) {
            atomic_store(&notes[n][i], -1);
            assert_int_equal(numaperf_rt_spawn(rt, nodes[n], note_node, &notes[n][i]), 0);
        }
    }
    assert_int_equal(numaperf_rt_stop(rt, UINT64_MAX), 0);
    for (size_t n = 0; n < count; n++) {
        for (size_t i = 0; i < NOTES; i++)
            assert_int_equal(atomic_load(&notes[n][i]), nodes[n]);
    }
}

static void nodes_0_and_2_have_queues_of_their_own(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    const int nodes[] = {0, 2};
    open_box(&box, "sparse_ids.xml");
    assert_int_equal(numaperf_rt_worker_count(box.rt, NUMAPERF_NODE_ANY), 2);
    assert_int_equal(numaperf_rt_spawn(box.rt, 1, note_node, &lost), NUMAPERF_E_NO_NODE);
    check_nodes_run_their_own(box.rt, nodes, 2);
    runtime_box_close(&box);
}

/* ---- pin checked on the caller, not in the worker ---- */

static void scene_worker_without_its_pin(const void *arg)
{
    (void)arg;
    static const struct sandbox_rule rule = {.call = SYS_sched_setaffinity, .error = EPERM};
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    numaperf_rt_t *rt = NULL;
    numaperf_cpuset_t cpus;
    CHECK(numaperf_get_affinity(&cpus) == 0);
    worker_filter_set(&rule, 1, 0);
    /* The caller can pin, and is where its first worker is going to be; that proves nothing. */
    CHECK(numaperf_pin_to_cpu(numaperf_cpuset_next(&cpus, -1), NUMAPERF_MODE_HARD, &pin) == 0);
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    CHECK(worker_filter_hits() > 0);
    for (uint32_t i = 0; i < numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY); i++)
        CHECK(!numaperf_is_strict(numaperf_worker_enforcement(numaperf_rt_worker(rt, i))));
    numaperf_rt_destroy(rt);
    config = refusal_hard_config();
    rt = NULL;
    CHECK(numaperf_rt_start(&config, &rt) == NUMAPERF_E_HARD_MODE && rt == NULL);
    CHECK(refusal_balancing_is_on() || numaperf_last_error()->sys_errno == EPERM);
}

static void pin_is_checked_in_the_worker(void **state)
{
    (void)state;
    assert_true(sandbox_run(scene_worker_without_its_pin, NULL));
}

/* ---- `strict` reported without looking ---- */

/* System calls that return 0 and do nothing. */
static void strict_is_not_said_without_a_look(void **state)
{
    (void)state;
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    numaperf_region_t *region = NULL;
    config.length = MIB;
    config.policy = NUMAPERF_MEM_BIND;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    config.nodes = numaperf_nodemask_single(first_memory_node());
    fake_set(SYS_mbind, FAKE_NOTHING, 0);
    int rc = numaperf_region_create(&config, &region);
    fake_clear();
    assert_int_equal(rc, 0);
    assert_false(numaperf_is_strict(numaperf_region_enforcement(region)));
    numaperf_region_destroy(region);
    const long calls[] = {SYS_set_mempolicy, SYS_sched_setaffinity};
    numaperf_cpuset_t cpus;
    assert_int_equal(numaperf_get_affinity(&cpus), 0);
    /* With a single PU, a thread that was not pinned is where it should be all the same. */
    size_t count = numaperf_cpuset_count(&cpus) > 1 ? 2 : 1;
    for (size_t i = 0; i < count; i++) {
        numaperf_rt_t *rt = NULL;
        fake_set(calls[i], FAKE_NOTHING, 0);
        rc = numaperf_rt_start(NULL, &rt);
        fake_clear();
        assert_int_equal(rc, 0);
        for (uint32_t k = 0; k < numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY); k++)
            assert_false(
                numaperf_is_strict(numaperf_worker_enforcement(numaperf_rt_worker(rt, k))));
        numaperf_rt_destroy(rt);
    }
}

/* ---- a timed shutdown that ignores its timeout ---- */

static void timed_stop_keeps_its_time(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct runtime_gate gate = {.open = false};
    atomic_int cancelled = 0;
    box.config.workers_per_node = 1;
    box.config.on_task_cancel = runtime_count_cancel;
    open_box(&box, "numa:1 pu:1");
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_count_task, &cancelled), 0);
    uint64_t begin_ns = test_now_ns();
    assert_int_equal(numaperf_rt_stop(box.rt, 50000000), -ETIMEDOUT);
    uint64_t took_ns = test_now_ns() - begin_ns;
    assert_true(took_ns >= 50000000 && took_ns < test_limit_ns(5));
    assert_int_equal(atomic_load(&gate.left), 0); /* it returned while the task still runs */
    assert_true(runtime_reaches(&cancelled, 1));  /* and what waited is told */
    atomic_store(&gate.open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    runtime_box_close(&box);
}

/* ---- tasks lost when spawned across nodes during shutdown ---- */

struct family {
    numaperf_rt_t *rt;
    atomic_int accepted;
    atomic_int ran;
    atomic_int cancelled;
};
static struct family family;

static const int generations[8] = {0, 1, 2, 3, 4, 5, 6, 7}; /* still to come */

static void family_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    (void)fn;
    (void)arg;
    (void)data;
    (void)atomic_fetch_add(&family.cancelled, 1);
}

/* Each has two children, on the other nodes. */
static void family_task(numaperf_worker_t *worker, void *arg)
{
    int left = *(const int *)arg;
    int node = numaperf_worker_node(worker);
    for (int i = 1; left > 0 && i <= 2; i++) {
        (void)atomic_fetch_add(&family.accepted, 1); /* before it can have run */
        if (numaperf_rt_spawn(family.rt, (node + i) % 3, family_task,
                              (void *)&generations[left - 1]) != 0)
            (void)atomic_fetch_sub(&family.accepted, 1);
    }
    (void)atomic_fetch_add(&family.ran, 1);
}

static void check_family(uint64_t timeout_ns, bool runs_all)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    memset(&family, 0, sizeof(family));
    box.config.workers_per_node = 1;
    box.config.on_task_cancel = family_cancel;
    open_box(&box, "numa:3 pu:1");
    family.rt = box.rt;
    for (int node = 0; node < 3; node++) {
        (void)atomic_fetch_add(&family.accepted, 1);
        assert_int_equal(numaperf_rt_spawn(box.rt, node, family_task, (void *)&generations[7]), 0);
    }
    int rc = numaperf_rt_stop(box.rt, timeout_ns); /* on a busy machine a task may outlive it */
    assert_true(rc == 0 || (rc == -ETIMEDOUT && !runs_all));
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&family.ran) + atomic_load(&family.cancelled),
                     atomic_load(&family.accepted));
    if (runs_all) {
        assert_int_equal(atomic_load(&family.ran), 3 * 255); /* a tree of eight generations each */
        assert_int_equal(atomic_load(&family.cancelled), 0);
    }
    runtime_box_close(&box);
}

static void tasks_spawned_across_nodes_during_a_stop_are_not_lost(void **state)
{
    (void)state;
    for (int round = 0; round < (test_is_slow() ? 3 : 20); round++) {
        check_family(UINT64_MAX, true);
        check_family((uint64_t)round * 20000, false);
    }
}

/* ---- workers_per_node 0 loses tasks ---- */

static void workers_per_node_0_runs_every_task(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    atomic_int ran = 0;
    box.config.workers_per_node = 0;
    open_box(&box, "numa:2 core:2 pu:1");
    assert_int_equal(numaperf_rt_worker_count(box.rt, NUMAPERF_NODE_ANY), 4);
    const int nodes[] = {0, 1, NUMAPERF_NODE_ANY, NUMAPERF_NODE_LOCAL};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(numaperf_rt_spawn(box.rt, nodes[i % 4], runtime_count_task, &ran), 0);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&ran), 1000);
    runtime_box_close(&box);
}

/* ---- an absent node silently becomes node 0 ---- */

static void absent_node_is_never_node_0(void **state)
{
    (void)state;
    const int absent = NUMAPERF_NODE_MAX - 1;
    atomic_int ran = 0;
    numaperf_rt_t *rt = NULL;
    assert_int_equal(numaperf_rt_start(NULL, &rt), 0);
    assert_int_equal(numaperf_rt_spawn(rt, absent, runtime_count_task, &ran), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_rt_worker_count(rt, absent), 0);
    assert_int_equal(numaperf_rt_stop(rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&ran), 0);
    numaperf_rt_destroy(rt);
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.nodes = numaperf_nodemask_single(absent);
    rt = NULL;
    assert_int_equal(numaperf_rt_start(&config, &rt), NUMAPERF_E_NO_NODE);
    assert_null(rt);
    numaperf_region_config_t region_config = NUMAPERF_REGION_CONFIG_INIT;
    numaperf_region_t *region = NULL;
    region_config.length = MIB;
    region_config.policy = NUMAPERF_MEM_BIND;
    region_config.nodes = config.nodes;
    assert_int_equal(numaperf_region_create(&region_config, &region), NUMAPERF_E_NO_NODE);
    assert_null(region);
    numaperf_arena_config_t arena_config = NUMAPERF_ARENA_CONFIG_INIT;
    numaperf_arena_t *arena = NULL;
    arena_config.flags = NUMAPERF_ARENA_HAS_NODE;
    arena_config.node = absent;
    assert_int_equal(numaperf_arena_create(&arena_config, &arena), NUMAPERF_E_NO_NODE);
    assert_null(arena);
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_to_node(NULL, absent, NUMAPERF_MODE_SOFT, &pin),
                     NUMAPERF_E_NO_NODE);
    assert_int_equal(pin.thread_id, 0);
}

/* ---- LIFO starvation ---- */

struct chain {
    numaperf_rt_t *rt;
    numaperf_spawn_options_t options;
    atomic_int links;
    atomic_bool old_ran;
};

/* Each link spawns a newer one, as long as the old task has not run. */
static void chain_task(numaperf_worker_t *worker, void *arg)
{
    struct chain *chain = arg;
    (void)worker;
    int links = atomic_fetch_add(&chain->links, 1);
    if (!atomic_load(&chain->old_ran) && links < 100000)
        (void)numaperf_rt_spawn_with(chain->rt, &chain->options, chain_task, chain);
}

static void old_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    atomic_store(&((struct chain *)arg)->old_ran, true);
}

/* How many links came before a task that had been waiting when the first of them began. */
static int links_before_old(uint32_t chain_flags, uint32_t old_flags)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    struct runtime_gate gate = {.open = false};
    static struct chain chain;
    memset(&chain, 0, sizeof(chain));
    box.config.workers_per_node = 1;
    open_box(&box, "numa:1 pu:1");
    chain.rt = box.rt;
    chain.options = (numaperf_spawn_options_t)NUMAPERF_SPAWN_OPTIONS_INIT;
    numaperf_spawn_options_t old = chain.options;
    chain.options.flags = chain_flags;
    old.flags = old_flags;
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &chain.options, chain_task, &chain), 0);
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &old, old_task, &chain), 0);
    atomic_store(&gate.open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_true(atomic_load(&chain.old_ran));
    runtime_box_close(&box);
    return atomic_load(&chain.links);
}

static void newer_tasks_do_not_starve_an_old_one(void **state)
{
    (void)state;
    const uint32_t bound = NUMAPERF_SPAWN_HAS_WORKER;
    const uint32_t fixed = NUMAPERF_SPAWN_NEVER_STEAL;
    assert_in_range(links_before_old(0, 0), 1, 2); /* a FIFO of their own: in order */
    assert_in_range(links_before_old(bound, bound), 1, 2);
    assert_in_range(links_before_old(fixed, fixed), 1, 2);
    /* No queue of a worker has to wait for another to be empty. */
    assert_in_range(links_before_old(bound, 0), 1, 100);
    assert_in_range(links_before_old(0, bound), 1, 100);
    assert_in_range(links_before_old(bound, fixed), 1, 100);
}

/* ---- statistics never recorded ---- */

static numaperf_rt_stats_t stats_of(const numaperf_rt_t *rt)
{
    numaperf_rt_stats_t stats = NUMAPERF_RT_STATS_INIT;
    assert_int_equal(numaperf_rt_stats(rt, &stats), 0);
    return stats;
}

static void statistics_are_recorded(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    atomic_int ran = 0;
    box.config.workers_per_node = 2;
    open_box(&box, "numa:2 core:2 pu:1");
    int spawned = 0;
    /* One that sleeps is woken; on a busy machine it may take a while to fall asleep. */
    while (spawned < 300 || (spawned < 400 && stats_of(box.rt).wakes == 0)) {
        assert_int_equal(numaperf_rt_spawn(box.rt, spawned++ % 2, runtime_count_task, &ran), 0);
        if (spawned >= 300 && runtime_reaches(&ran, spawned))
            test_sleep_ms(20);
    }
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    const numaperf_rt_stats_t sum = stats_of(box.rt);
    assert_int_equal(sum.ran, spawned);
    assert_int_equal(sum.ran_remote, sum.stolen_from);
    assert_int_equal(sum.cancelled, 0);
    assert_true(sum.parks > 0 && sum.wakes > 0);
    runtime_box_close(&box);
}

/* ---- a memory-only (CXL) node breaks the start ---- */

static void memory_only_node_does_not_break_the_start(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    const int nodes[] = {0, 1};
    box.config.workers_per_node = 1;
    box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    open_box(&box, "memory_only_node.xml");
    assert_int_equal(numaperf_rt_worker_count(box.rt, NUMAPERF_NODE_ANY), 2);
    assert_int_equal(numaperf_rt_spawn(box.rt, 2, note_node, &lost), NUMAPERF_E_NO_NODE);
    check_nodes_run_their_own(box.rt, nodes, 2);
    runtime_box_close(&box);

    /* And this machine's, whatever they have: workers are where there are PUs and memory. */
    struct refusal_machine machine;
    numaperf_rt_t *rt = NULL;
    refusal_machine_open(&machine);
    assert_int_equal(numaperf_rt_start(NULL, &rt), 0);
    numaperf_nodemask_t found;
    assert_true(numaperf_rt_nodes(rt, &found) == 0 &&
                numaperf_nodemask_equal(&found, &machine.usable));
    numaperf_rt_destroy(rt);
    refusal_machine_close(&machine);
}

/* ---- discovery ignores the allowed cpuset ---- */

/* In a program that was started with one PU: 0 when that is all it finds and uses. */
static int executed_with_one_pu(int only_cpu)
{
    numaperf_topology_t *topology = NULL;
    numaperf_rt_t *rt = NULL;
    numaperf_cpuset_t cpus;
    if (numaperf_topology_discover(&topology) != 0 || numaperf_topology_cpus(topology, &cpus) != 0)
        return 2;
    if (numaperf_cpuset_count(&cpus) != 1 || !numaperf_cpuset_contains(&cpus, only_cpu))
        return 3;
    numaperf_topology_destroy(topology);
    if (numaperf_rt_start(NULL, &rt) != 0)
        return 4;
    int cpu = numaperf_worker_cpu(numaperf_rt_worker(rt, 0));
    numaperf_rt_destroy(rt);
    return cpu == only_cpu ? 0 : 5;
}

static void scene_execute_with_one_pu(const void *arg)
{
    char text[16];
    cpu_set_t cpus = {{0}};
    CPU_SET((size_t) * (const int *)arg, &cpus);
    CHECK(sched_setaffinity(0, sizeof(cpus), &cpus) == 0);
    (void)snprintf(text, sizeof(text), "%d", *(const int *)arg);
    CHECK(setenv(EXECUTED, text, 1) == 0);
    (void)execl("/proc/self/exe", "test_known_defects", (char *)NULL);
    CHECK(false);
}

static void discovery_keeps_to_the_affinity_of_the_start(void **state)
{
    (void)state;
    struct refusal_machine machine;
    numaperf_cpuset_t cpus;
    refusal_machine_open(&machine);
    assert_int_equal(numaperf_topology_cpus(machine.topology, &cpus), 0);
    int cpu = -1;
    while (numaperf_topology_node_of_cpu(machine.topology, cpu) != refusal_last_node(&machine))
        cpu = numaperf_cpuset_next(&cpus, cpu);
    refusal_machine_close(&machine);
    if (numaperf_cpuset_count(&cpus) < 2 || cpu >= CPU_SETSIZE) {
        print_message("skipped: there is only one PU\n");
        skip();
    }
    assert_true(sandbox_run(scene_execute_with_one_pu, &cpu));
}

static void scene_discover_in_group(const void *arg)
{
    const struct cgroup *group = arg;
    numaperf_topology_t *topology = NULL;
    numaperf_cpuset_t all;
    numaperf_cpuset_t found;
    char list[16];
    CHECK(numaperf_cpuset_parse(group->all_cpus, &all) == 0);
    (void)snprintf(list, sizeof(list), "%d", numaperf_cpuset_next(&all, -1));
    FILE *file = fopen(group->cpus_path, "we");
    CHECK(file != NULL && fputs(list, file) >= 0 && fclose(file) == 0);
    CHECK(cgroup_enter(group) && numaperf_topology_discover(&topology) == 0);
    CHECK(numaperf_topology_cpus(topology, &found) == 0);
    CHECK(numaperf_cpuset_count(&found) == 1 &&
          numaperf_cpuset_contains(&found, numaperf_cpuset_next(&all, -1)));
    numaperf_topology_destroy(topology);
}

static void discovery_keeps_to_the_cpuset(void **state)
{
    (void)state;
    struct cgroup group;
    char name[32];
    const char *why_not = cgroup_unavailable();
    (void)snprintf(name, sizeof(name), "defects-%d", getpid());
    if (why_not != NULL || !cgroup_create(&group, name)) {
        print_message("skipped: %s\n", why_not != NULL ? why_not : "no cgroup can be made");
        skip();
    }
    bool is_right = sandbox_run(scene_discover_in_group, &group);
    assert_true(cgroup_remove(&group));
    assert_true(is_right);
}

/* ---- node 63 and up ---- */

/* The kernel reads one bit less than it is told: node 63 is the first that this cuts off. */
static void masks_for_the_kernel_hold_node_63_and_up(void **state)
{
    (void)state;
    const int nodes[] = {0, 62, 63, 64, 127, NUMAPERF_NODE_MAX - 1};
    char page[1];
    const struct numaperf__range range = {.base = page, .length = 4096, .page_bytes = 4096};
    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        numaperf_nodemask_t one = numaperf_nodemask_single(nodes[i]);
        fake_set(SYS_mbind, FAKE_MASK, 0);
        assert_int_equal(numaperf__range_policy_set(&range, MPOL_BIND, &one, 0), 0);
        assert_int_equal(fake_mask_only_bit(), nodes[i]);
        fake_set(SYS_set_mempolicy, FAKE_MASK, 0);
        assert_int_equal(numaperf__mempolicy_set(MPOL_PREFERRED, &one), 0);
        assert_int_equal(fake_mask_only_bit(), nodes[i]);
        fake_clear();
    }
}

static void nodes_63_and_up_have_workers_and_tasks(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    const int nodes[] = {62, 63, 64, 69};
    box.config.workers_per_node = 1;
    box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(numaperf_nodemask_add(&box.config.nodes, nodes[i]), 0);
    open_box(&box, "numa:70 pu:1");
    assert_int_equal(numaperf_rt_worker_count(box.rt, NUMAPERF_NODE_ANY), 4);
    check_nodes_run_their_own(box.rt, nodes, 4);
    runtime_box_close(&box);
}

int main(void)
{
    const char *only_cpu = getenv(EXECUTED);
    if (only_cpu != NULL)
        return executed_with_one_pu(atoi(only_cpu));
    const struct CMUnitTest tests[] = {
        /* First what runs in children, as long as this program has made no thread. */
        cmocka_unit_test(pin_is_checked_in_the_worker),
        cmocka_unit_test(discovery_keeps_to_the_affinity_of_the_start),
        cmocka_unit_test(discovery_keeps_to_the_cpuset),
        cmocka_unit_test(memory_is_usable_when_mbind_is_refused),
        cmocka_unit_test(nodes_0_and_2_have_queues_of_their_own),
        cmocka_unit_test(strict_is_not_said_without_a_look),
        cmocka_unit_test(timed_stop_keeps_its_time),
        cmocka_unit_test(tasks_spawned_across_nodes_during_a_stop_are_not_lost),
        cmocka_unit_test(workers_per_node_0_runs_every_task),
        cmocka_unit_test(absent_node_is_never_node_0),
        cmocka_unit_test(newer_tasks_do_not_starve_an_old_one),
        cmocka_unit_test(statistics_are_recorded),
        cmocka_unit_test(memory_only_node_does_not_break_the_start),
        cmocka_unit_test(masks_for_the_kernel_hold_node_63_and_up),
        cmocka_unit_test(nodes_63_and_up_have_workers_and_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
