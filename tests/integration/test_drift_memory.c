/* SPDX-License-Identifier: MIT */
/*
 * Drifts of memory: pages that another process moves, a node that a cpuset loses, a policy, and
 * NUMA balancing. What the kernels were found to do, 6.1 and 6.12 alike:
 *
 * - When cpuset.mems loses a node, pages there are migrated by a kernel thread, so some time after
 *   the write has returned, and what was bound to it is now bound to what is left; a thread's own
 *   policy still reads as it was set. Growing it back restores no page and no binding.
 * - migrate_pages() of another process moves pages against their binding, which reads as before.
 * - A ring's pages are the kernel's: neither moves them.
 */
#include "drift_cases.h"

#include "support/clock.h"
#include "support/drift_scene.h"
#include "support/sandbox.h"

#include <linux/mempolicy.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include <cmocka.h>

#define FEW_PAGES 3

static void skipped(const char *why)
{
    print_message("skipped: %s\n", why);
}

/* Nodes that have memory, by /sys. */
static void memory_nodes(numaperf_nodemask_t *out)
{
    drift_view_nodes("/sys/devices/system/node/has_memory", out);
}

static bool one_node(void)
{
    numaperf_nodemask_t nodes;
    memory_nodes(&nodes);
    if (numaperf_nodemask_count(&nodes) > 1 && geteuid() == 0)
        return false;
    skipped("no second node with memory, or not root: pages cannot be moved");
    return true;
}

/* A node with memory that is not the last worker's. */
static int other_node(struct drift_scene *scene)
{
    numaperf_nodemask_t nodes;
    memory_nodes(&nodes);
    CHECK(numaperf_nodemask_remove(&nodes, drift_last(scene)->node) == 0);
    return numaperf_nodemask_next(&nodes, -1);
}

/* ---- policy of a thread ---- */

static void default_policy_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    CHECK(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0ul) == 0);
}

static void scene_policy(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const struct drift_plot *plot = drift_last(scene);
    const bool repairs = scene->setup.policy == NUMAPERF_AUDIT_REPAIR;
    char wanted[16];
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)plot->index;
    scene->outsider.done_ns = test_now_ns(); /* nobody but the thread itself can do it */
    CHECK(numaperf_rt_spawn_with(scene->rt, &options, default_policy_task, NULL) == 0);
    const numaperf_violation_t *violation =
        drift_await(scene, NUMAPERF_VIOLATION_MEMPOLICY, (int)plot->index, 0);
    (void)snprintf(wanted, sizeof(wanted), "prefer:%d", plot->node);
    CHECK(strstr(violation->text, wanted) != NULL && strstr(violation->text, "default") != NULL);
    if (repairs) {
        CHECK(violation->outcome == NUMAPERF_OUTCOME_REPAIRED);
        drift_await_home(scene);
    }
    drift_quiet(scene, 3);
    CHECK(atomic_load(&scene->report_count) == 1);
    drift_answers(scene);
    drift_close(scene);
}

void a_memory_policy_that_was_changed_is_put_back(void **state)
{
    (void)state;
    const struct drift_setup report = {.mode = NUMAPERF_MODE_HARD};
    assert_true(sandbox_run(scene_policy, &report));
    const struct drift_setup repair = {.mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR};
    assert_true(sandbox_run(scene_policy, &repair));
}

/* ---- pages ---- */

/* Every worker on the last node is reported, by the test's own reading, and nobody else. */
static void scene_migrate(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    uint32_t wanted[DRIFT_WORKERS_MAX] = {0};
    uint32_t allowed[DRIFT_WORKERS_MAX] = {0};
    const struct drift_plot *plot = drift_last(scene);
    CHECK(outsider_migrate_pages(&scene->outsider, plot->node, other_node(scene)) == 0);
    drift_read_pages(scene, wanted);
    for (uint32_t i = 0; i < scene->worker_count; i++)
        CHECK((wanted[i] != 0) == (scene->plots[i].node == plot->node));
    drift_check_reports(scene, 0, wanted, allowed);
    drift_answers(scene);
    drift_close(scene);
}

void pages_migrated_by_another_process_are_reported_once_a_worker(void **state)
{
    (void)state;
    if (one_node())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_HARD};
    assert_true(sandbox_run(scene_migrate, &setup));
}

/*
 * Moving everything takes the kernel a while: what is put back meanwhile may be moved away once
 * more. So the first outcome may be either, and there may be more than one episode; in the end all
 * is at home. A deed that is done at once is below.
 */
static void scene_migrate_repair(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const struct drift_plot *plot = drift_last(scene);
    unsigned from = 0;
    for (int episode = 0; episode < 2; episode++) {
        CHECK(outsider_migrate_pages(&scene->outsider, plot->node, other_node(scene)) == 0);
        for (uint32_t i = 0; i < scene->worker_count; i++) {
            if (scene->plots[i].node == plot->node)
                (void)drift_await(scene, NUMAPERF_VIOLATION_PAGES, (int)i, from);
        }
        drift_await_home(scene);
        drift_settle(scene);
        drift_answers(scene);
        from = atomic_load(&scene->report_count);
    }
    drift_await_home(scene);
    drift_close(scene);
}

void pages_migrated_by_another_process_are_moved_home(void **state)
{
    (void)state;
    if (one_node())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR};
    assert_true(sandbox_run(scene_migrate_repair, &setup));
}

/* Pages of the stack that are not in use: a page that another thread holds does not move. */
static void move_stack(struct drift_scene *scene, int node)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t address = (atomic_load(&drift_last(scene)->stack) & ~(page - 1)) - 64 * page;
    CHECK(outsider_move_pages(&scene->outsider, address, FEW_PAGES, node) == FEW_PAGES);
}

static void scene_few_pages(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const struct drift_plot *plot = drift_last(scene);
    const bool repairs = scene->setup.policy == NUMAPERF_AUDIT_REPAIR;
    for (unsigned episode = 0; episode < 2; episode++) {
        move_stack(scene, other_node(scene));
        const numaperf_violation_t *violation =
            drift_await(scene, NUMAPERF_VIOLATION_PAGES, (int)plot->index, episode);
        CHECK(!repairs || violation->outcome == NUMAPERF_OUTCOME_REPAIRED);
        drift_quiet(scene, 3);
        if (!repairs)
            move_stack(scene, plot->node);
        drift_await_home(scene);
        drift_quiet(scene, 3);
        drift_answers(scene);
    }
    CHECK(atomic_load(&scene->report_count) == 2);
    drift_close(scene);
}

void a_few_pages_of_a_stack_moved_away_are_moved_home(void **state)
{
    (void)state;
    if (one_node())
        skip();
    const struct drift_setup report = {.mode = NUMAPERF_MODE_HARD};
    assert_true(sandbox_run(scene_few_pages, &report));
    const struct drift_setup repair = {.mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR};
    assert_true(sandbox_run(scene_few_pages, &repair));
}

/* ---- memory nodes ---- */

static bool no_cpuset(void)
{
    const char *why = cgroup_unavailable();
    if (why != NULL)
        skipped(why);
    return why != NULL || one_node();
}

static void squeeze(struct drift_scene *scene, const char *mems)
{
    CHECK(outsider_write(&scene->outsider, scene->cgroup.mems_path, mems) == 0);
}

/* CPUSET and PAGES of every worker on the node that is gone, and nothing of the others. */
static void scene_mems_report(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const struct drift_plot *plot = drift_last(scene);
    uint32_t wanted[DRIFT_WORKERS_MAX] = {0};
    uint32_t allowed[DRIFT_WORKERS_MAX] = {0};
    char fewer[128];
    char node[16];
    drift_list_without(scene->cgroup.all_mems, plot->node, fewer, sizeof(fewer));
    (void)snprintf(node, sizeof(node), "node %d", plot->node);
    squeeze(scene, fewer);
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        if (scene->plots[i].node == plot->node)
            wanted[i] = DRIFT_BIT(NUMAPERF_VIOLATION_CPUSET) | DRIFT_BIT(NUMAPERF_VIOLATION_PAGES);
    }
    drift_check_reports(scene, 0, wanted, allowed);
    CHECK(strstr(drift_await(scene, NUMAPERF_VIOLATION_CPUSET, (int)plot->index, 0)->text, node) !=
          NULL);
    drift_answers(scene);
    /* Grown back it is a cpuset in order again, while the pages stay away: the same episode. */
    unsigned count = atomic_load(&scene->report_count);
    squeeze(scene, scene->cgroup.all_mems);
    drift_quiet(scene, 3);
    memset(wanted, 0, sizeof(wanted));
    drift_read_pages(scene, wanted);
    CHECK(wanted[plot->index] == DRIFT_BIT(NUMAPERF_VIOLATION_PAGES));
    squeeze(scene, fewer);
    (void)drift_await(scene, NUMAPERF_VIOLATION_CPUSET, (int)plot->index, count);
    drift_quiet(scene, 3);
    CHECK(drift_count(scene, NUMAPERF_VIOLATION_PAGES, (int)plot->index, 0) == 1);
    drift_answers(scene);
    drift_close(scene);
}

void a_cpuset_that_loses_a_memory_node_is_reported(void **state)
{
    (void)state;
    if (no_cpuset())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_HARD, .in_cgroup = true};
    assert_true(sandbox_run(scene_mems_report, &setup));
}

static void scene_mems_repair(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const struct drift_plot *plot = drift_last(scene);
    char fewer[128];
    drift_list_without(scene->cgroup.all_mems, plot->node, fewer, sizeof(fewer));
    squeeze(scene, fewer);
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        if (scene->plots[i].node != plot->node)
            continue;
        (void)drift_await_outcome(scene, NUMAPERF_VIOLATION_CPUSET, (int)i, 0,
                                  NUMAPERF_OUTCOME_FAILED);
        (void)drift_await_outcome(scene, NUMAPERF_VIOLATION_PAGES, (int)i, 0,
                                  NUMAPERF_OUTCOME_FAILED);
    }
    drift_quiet(scene, 3);
    drift_answers(scene);
    squeeze(scene, scene->cgroup.all_mems);
    drift_await_home(scene);
    drift_quiet(scene, 3); /* what could not be repaired and now was is no new episode */
    drift_answers(scene);
    drift_close(scene);
}

void a_memory_node_that_is_back_gets_its_pages_back(void **state)
{
    (void)state;
    if (no_cpuset())
        skip();
    const struct drift_setup setup = {
        .mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR, .in_cgroup = true};
    assert_true(sandbox_run(scene_mems_repair, &setup));
}

/* ---- balancing ---- */

static bool no_switch(void)
{
    if (test_is_guest() && geteuid() == 0 && access("/proc/sys/kernel/numa_balancing", W_OK) == 0)
        return false;
    skipped("balancing is switched by root in a guest alone");
    return true;
}

static void balance(struct drift_scene *scene, const char *text)
{
    CHECK(outsider_write(&scene->outsider, "/proc/sys/kernel/numa_balancing", text) == 0);
}

static void scene_balancing(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const bool repairs = scene->setup.policy == NUMAPERF_AUDIT_REPAIR;
    const unsigned episodes = repairs ? 1 : 2;
    for (unsigned episode = 0; episode < episodes; episode++) {
        balance(scene, "1");
        const numaperf_violation_t *violation =
            drift_await(scene, NUMAPERF_VIOLATION_BALANCING, -1, episode);
        CHECK(strstr(violation->text, "kernel.numa_balancing") != NULL);
        if (repairs) {
            CHECK(violation->outcome == NUMAPERF_OUTCOME_FAILED);
            CHECK(strstr(violation->text, "sysctl kernel.numa_balancing=0") != NULL);
        }
        drift_answers(scene);
        drift_quiet(scene, 3);
        balance(scene, "0");
        drift_quiet(scene, 3);
    }
    CHECK(atomic_load(&scene->report_count) == episodes);
    drift_await_home(scene); /* balancing leaves alone what is bound */
    drift_close(scene);
}

void balancing_switched_on_twice_is_two_episodes(void **state)
{
    (void)state;
    if (no_switch())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_HARD};
    assert_true(sandbox_run(scene_balancing, &setup));
}

void balancing_cannot_be_repaired_and_the_report_says_how(void **state)
{
    (void)state;
    if (no_switch())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR};
    assert_true(sandbox_run(scene_balancing, &setup));
}
