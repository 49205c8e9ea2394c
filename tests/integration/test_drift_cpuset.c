/* SPDX-License-Identifier: MIT */
/*
 * Cpusets that shrink and grow under a running server, and PUs that go offline and come back. What
 * the kernels were found to do:
 *
 * - When a cpuset loses any PU, Linux 6.1 gives every thread in it the whole new set, those too
 *   whose PU has stayed; 6.12 only those that lost theirs. io-wq threads are treated alike.
 * - When it grows back, 6.12 restores what was set before; 6.1 gives every thread the whole set.
 * - A PU that goes offline is the same to a cpuset as one taken away. In the root group alone a
 *   thread that sleeps keeps its affinity: it loses it when it is woken without that PU.
 * - Moving a process to another cgroup is the same as shrinking its cpuset.
 *
 * So what must be reported of threads is read from /proc, not written down here by kernel.
 */
#include "drift_cases.h"

#include "support/clock.h"
#include "support/drift_scene.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <numaperf/error.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* Says why there is no cpuset to shrink; false when there is one. */
static bool no_cpuset(void)
{
    const char *why = cgroup_unavailable();
    if (why == NULL && sysconf(_SC_NPROCESSORS_ONLN) < 2)
        why = "one PU alone cannot be taken away";
    if (why != NULL)
        print_message("skipped: %s\n", why);
    return why != NULL;
}

static void squeeze(struct drift_scene *scene, const char *cpus)
{
    CHECK(outsider_write(&scene->outsider, scene->cgroup.cpus_path, cpus) == 0);
}

/* What 6.12 restores and 6.1 does not: every thread where it belongs, by the outsider's hand. */
static void put_back(struct drift_scene *scene)
{
    struct outsider *outsider = &scene->outsider;
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        const struct drift_plot *plot = &scene->plots[i];
        char list[128];
        int threads[VIEW_IOWQ_MAX];
        (void)snprintf(list, sizeof(list), "%d", plot->cpu);
        CHECK(outsider_set_affinity(outsider, plot->thread_id, list) == 0);
        CHECK(numaperf_cpuset_format(&plot->node_cpus, list, sizeof(list)) < (int)sizeof(list));
        unsigned count = drift_view_iowq(plot->thread_id, threads);
        for (unsigned k = 0; k < count; k++)
            CHECK(outsider_set_affinity(outsider, threads[k], list) == 0);
    }
}

/*
 * The reports from the `from`th on are those of threads that /proc now says are elsewhere, and
 * `kind` of the last worker, which names its PU.
 */
static void check_lost_pu(struct drift_scene *scene, uint32_t kind, unsigned from)
{
    const struct drift_plot *plot = drift_last(scene);
    uint32_t wanted[DRIFT_WORKERS_MAX] = {0};
    uint32_t allowed[DRIFT_WORKERS_MAX] = {0};
    char pu[16];
    drift_read_threads(scene, wanted);
    if (scene->setup.in_cgroup)
        CHECK((wanted[plot->index] & DRIFT_BIT(NUMAPERF_VIOLATION_AFFINITY)) != 0);
    wanted[plot->index] |= DRIFT_BIT(kind);
    if (kind == NUMAPERF_VIOLATION_OFFLINE) /* what is offline is in no cpuset either */
        allowed[plot->index] = DRIFT_BIT(NUMAPERF_VIOLATION_CPUSET) |
                               DRIFT_BIT(NUMAPERF_VIOLATION_AFFINITY) |
                               DRIFT_BIT(NUMAPERF_VIOLATION_IOWQ);
    drift_check_reports(scene, from, wanted, allowed);
    (void)snprintf(pu, sizeof(pu), "PU %d", plot->cpu);
    CHECK(strstr(drift_await(scene, kind, (int)plot->index, from)->text, pu) != NULL);
}

/* ---- shrunk and grown ---- */

static void scene_report(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    char fewer[128];
    drift_list_without(scene->cgroup.all_cpus, drift_last(scene)->cpu, fewer, sizeof(fewer));
    for (int episode = 0; episode < 2; episode++) {
        unsigned from = atomic_load(&scene->report_count);
        squeeze(scene, fewer);
        check_lost_pu(scene, NUMAPERF_VIOLATION_CPUSET, from);
        drift_answers(scene);
        squeeze(scene, scene->cgroup.all_cpus);
        put_back(scene);
        drift_quiet(scene, 3);
        drift_answers(scene);
    }
    drift_await_home(scene);
    drift_close(scene);
}

void a_cpuset_that_loses_a_pu_is_reported_and_again_when_it_does_so_again(void **state)
{
    (void)state;
    if (no_cpuset())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_HARD, .in_cgroup = true};
    assert_true(sandbox_run(scene_report, &setup));
}

/*
 * After a PU was lost with repair on: threads whose PU has stayed are back on it, reported as
 * repaired; the one whose PU is gone could not be repaired yet.
 */
static void check_repaired_but_last(struct drift_scene *scene, uint32_t kind)
{
    const struct drift_plot *last = drift_last(scene);
    const int worker = (int)last->index;
    (void)drift_await_outcome(scene, kind, worker, 0, NUMAPERF_OUTCOME_FAILED);
    drift_settle(scene);
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        const struct drift_plot *plot = &scene->plots[i];
        numaperf_cpuset_t cpus;
        drift_view_affinity(plot->thread_id, &cpus);
        bool is_pinned =
            numaperf_cpuset_count(&cpus) == 1 && numaperf_cpuset_contains(&cpus, plot->cpu);
        CHECK(is_pinned == (plot != last) || !scene->setup.in_cgroup);
        CHECK(drift_count(scene, NUMAPERF_VIOLATION_AFFINITY, (int)i, 0) <= 1);
        if (plot != last && drift_count(scene, NUMAPERF_VIOLATION_AFFINITY, (int)i, 0) > 0)
            (void)drift_await_outcome(scene, NUMAPERF_VIOLATION_AFFINITY, (int)i, 0,
                                      NUMAPERF_OUTCOME_REPAIRED);
    }
    if (drift_count(scene, NUMAPERF_VIOLATION_AFFINITY, worker, 0) > 0)
        (void)drift_await_outcome(scene, NUMAPERF_VIOLATION_AFFINITY, worker, 0,
                                  NUMAPERF_OUTCOME_FAILED);
}

static void scene_repair(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    char fewer[128];
    drift_list_without(scene->cgroup.all_cpus, drift_last(scene)->cpu, fewer, sizeof(fewer));
    squeeze(scene, fewer);
    check_repaired_but_last(scene, NUMAPERF_VIOLATION_CPUSET);
    drift_answers(scene);
    unsigned count = atomic_load(&scene->report_count);
    squeeze(scene, scene->cgroup.all_cpus);
    drift_await_home(scene);
    drift_settle(scene);
    /* On 6.1 the growth is a drift of its own, of those that had been put back: their episode was
     * over. Nothing else may be new. */
    for (unsigned i = count; i < atomic_load(&scene->report_count); i++)
        CHECK(scene->reports[i].violation.outcome == NUMAPERF_OUTCOME_REPAIRED);
    drift_answers(scene);
    drift_close(scene);
}

void a_cpuset_that_has_grown_back_is_repaired_to_the_pin(void **state)
{
    (void)state;
    if (no_cpuset())
        skip();
    const struct drift_setup setup = {
        .mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR, .in_cgroup = true};
    assert_true(sandbox_run(scene_repair, &setup));
}

/* ---- another cgroup ---- */

static void scene_moved(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const struct drift_plot *plot = drift_last(scene);
    struct cgroup smaller;
    char name[64];
    char pid[16];
    char fewer[128];
    (void)snprintf(name, sizeof(name), "numaperf-drift-%d-smaller", (int)getppid());
    CHECK(cgroup_create(&smaller, name));
    drift_list_without(smaller.all_cpus, plot->cpu, fewer, sizeof(fewer));
    CHECK(outsider_write(&scene->outsider, smaller.cpus_path, fewer) == 0);
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    CHECK(outsider_write(&scene->outsider, smaller.procs_path, pid) == 0);
    check_repaired_but_last(scene, NUMAPERF_VIOLATION_CPUSET);
    drift_answers(scene);
    CHECK(outsider_write(&scene->outsider, scene->cgroup.procs_path, pid) == 0);
    drift_await_home(scene);
    drift_answers(scene);
    CHECK(cgroup_remove(&smaller));
    drift_close(scene);
}

void a_process_moved_to_a_smaller_cgroup_and_back_is_repaired(void **state)
{
    (void)state;
    if (no_cpuset())
        skip();
    const struct drift_setup setup = {
        .mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR, .in_cgroup = true};
    assert_true(sandbox_run(scene_moved, &setup));
}

/* ---- stop ---- */

static void scene_stop(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    atomic_int ran = 0;
    char fewer[128];
    drift_list_without(scene->cgroup.all_cpus, drift_last(scene)->cpu, fewer, sizeof(fewer));
    atomic_store(&scene->may_stop, true);
    squeeze(scene, fewer);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (atomic_load(&scene->report_count) == 0) {
        CHECK(test_now_ns() < limit_ns);
        test_sleep_ms(1);
    }
    CHECK(scene->reports[0].violation.outcome == NUMAPERF_OUTCOME_STOPPING);
    CHECK(numaperf_rt_spawn(scene->rt, NUMAPERF_NODE_ANY, runtime_count_task, &ran) ==
          NUMAPERF_E_STOPPING);
    CHECK(numaperf_rt_stop(scene->rt, test_limit_ns(10)) == 0);
    drift_close(scene);
}

void a_shrunk_cpuset_stops_the_runtime_where_asked(void **state)
{
    (void)state;
    if (no_cpuset())
        skip();
    const struct drift_setup setup = {.policy = NUMAPERF_AUDIT_STOP, .in_cgroup = true};
    assert_true(sandbox_run(scene_stop, &setup));
}

/* ---- PUs ---- */

/* PUs are switched off in guests alone: here they are everybody's. */
static bool no_hotplug(void)
{
    const char *why = NULL;
    if (!test_is_guest() || geteuid() != 0)
        why = "PUs are taken away by root in a guest alone";
    else if (access("/sys/devices/system/cpu/cpu1/online", W_OK) != 0)
        why = "no PU can be taken away here";
    if (why != NULL)
        print_message("skipped: %s\n", why);
    return why != NULL;
}

static void switch_pu(struct drift_scene *scene, const char *text)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online",
                   drift_last(scene)->cpu);
    CHECK(outsider_write(&scene->outsider, path, text) == 0);
}

static void scene_offline(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    for (int episode = 0; episode < 2; episode++) {
        unsigned from = atomic_load(&scene->report_count);
        switch_pu(scene, "0");
        check_lost_pu(scene, NUMAPERF_VIOLATION_OFFLINE, from);
        drift_answers(scene);
        switch_pu(scene, "1");
        put_back(scene);
        drift_quiet(scene, 3);
        drift_answers(scene);
    }
    drift_await_home(scene);
    drift_close(scene);
}

void a_pu_that_goes_offline_is_reported_each_time(void **state)
{
    (void)state;
    if (no_hotplug())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_HARD, .in_cgroup = true};
    assert_true(sandbox_run(scene_offline, &setup));
}

static void scene_online(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    switch_pu(scene, "0");
    check_repaired_but_last(scene, NUMAPERF_VIOLATION_OFFLINE);
    drift_answers(scene);
    switch_pu(scene, "1");
    drift_await_home(scene);
    drift_quiet(scene, 3);
    drift_answers(scene);
    drift_close(scene);
}

void a_pu_that_is_back_online_is_repaired_to_the_pin(void **state)
{
    (void)state;
    if (no_hotplug())
        skip();
    const struct drift_setup in_cgroup = {
        .mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR, .in_cgroup = true};
    assert_true(sandbox_run(scene_online, &in_cgroup));
    const struct drift_setup in_root = {.mode = NUMAPERF_MODE_HARD,
                                        .policy = NUMAPERF_AUDIT_REPAIR};
    assert_true(sandbox_run(scene_online, &in_root));
}
