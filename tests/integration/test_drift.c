/* SPDX-License-Identifier: MIT */
/*
 * Drifts of a running server, made from outside: each is reported within two intervals, once an
 * episode, repaired or answered by a stop where that is asked for, and the server goes on answering
 * meanwhile. Where everything is comes from the test's own reading of /proc. Here the affinity of
 * single threads; cpusets, PUs, memory and balancing are in files of their own. Each scene is a
 * child, since it changes what a process cannot change back: its cgroup.
 */
#include "drift_cases.h"

#include "support/clock.h"
#include "support/drift_scene.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <numaperf.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define QUEUED 100 /* tasks behind a worker that is busy */

/* ---- nothing drifts ---- */

/* One child at a time, and some time for the server in between. */
struct parent {
    uv_timer_t timer;
    uv_process_t process;
};

static struct parent parents[DRIFT_WORKERS_MAX];
static atomic_uint child_count;
static atomic_bool children_end;

static void parent_spawns(uv_timer_t *timer);

static void child_closed(uv_handle_t *process)
{
    struct parent *parent = process->data;
    (void)atomic_fetch_add(&child_count, 1);
    if (!atomic_load(&children_end))
        CHECK(uv_timer_start(&parent->timer, parent_spawns, test_is_slow() ? 50 : 2, 0) == 0);
}

static void child_ended(uv_process_t *process, int64_t status, int signal)
{
    CHECK(status == 0 && signal == 0);
    uv_close((uv_handle_t *)process, child_closed);
}

static void parent_spawns(uv_timer_t *timer)
{
    static char name[] = "/bin/true";
    char *args[] = {name, NULL};
    struct parent *parent = timer->data;
    const uv_process_options_t options = {.exit_cb = child_ended, .file = name, .args = args};
    CHECK(numaperf_uv_spawn(timer->loop, &parent->process, &options) == 0);
    parent->process.data = parent;
}

static void parent_task(numaperf_worker_t *worker, void *arg)
{
    struct parent *parent = arg;
    CHECK(uv_timer_init(numaperf_worker_loop(worker), &parent->timer) == 0);
    parent->timer.data = parent;
    parent_spawns(&parent->timer);
}

static void scene_without_drift(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        options.worker = (int32_t)i;
        CHECK(numaperf_rt_spawn_with(scene->rt, &options, parent_task, &parents[i]) == 0);
    }
    drift_quiet(scene, 20);
    while (atomic_load(&child_count) < 2 * scene->worker_count)
        test_sleep_ms(1);
    atomic_store(&children_end, true);
    drift_answers(scene);
    CHECK(numaperf_rt_violation_count(scene->rt) == 0);
    drift_await_home(scene);
    drift_close(scene);
}

/* While a child is made its parent is not pinned: that is no drift, however often it is looked. */
static void nothing_is_reported_where_nothing_drifts_and_children_are_made(void **state)
{
    (void)state;
    const struct drift_setup hard = {.mode = NUMAPERF_MODE_HARD};
    assert_true(sandbox_run(scene_without_drift, &hard));
    const struct drift_setup soft = {.policy = NUMAPERF_AUDIT_REPAIR,
                                     .interval_ms = test_is_slow() ? 60 : 20};
    assert_true(sandbox_run(scene_without_drift, &soft));
}

/* ---- affinity of workers ---- */

static bool one_pu_alone(void)
{
    if (sysconf(_SC_NPROCESSORS_ONLN) > 1)
        return false;
    print_message("skipped: one PU alone: no affinity is wider\n");
    return true;
}

/* The worker may now run anywhere; `out_found` is what the kernel says of that. */
static void loosen(struct drift_scene *scene, const struct drift_plot *plot, char *out_found,
                   size_t size)
{
    char all[128];
    drift_view_affinity_text((int)getpid(), all, sizeof(all)); /* of a thread never pinned */
    CHECK(outsider_set_affinity(&scene->outsider, plot->thread_id, all) == 0);
    (void)snprintf(out_found, size, "%s", all);
}

static void pin(struct drift_scene *scene, const struct drift_plot *plot)
{
    char own[16];
    (void)snprintf(own, sizeof(own), "%d", plot->cpu);
    CHECK(outsider_set_affinity(&scene->outsider, plot->thread_id, own) == 0);
}

static void scene_two_episodes(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const struct drift_plot *plot = drift_last(scene);
    for (unsigned episode = 0; episode < 2; episode++) {
        char found[128];
        char wanted[16];
        loosen(scene, plot, found, sizeof(found));
        const numaperf_violation_t *violation =
            drift_await(scene, NUMAPERF_VIOLATION_AFFINITY, (int)plot->index, episode);
        (void)snprintf(wanted, sizeof(wanted), "PU %d", plot->cpu);
        CHECK(strstr(violation->text, wanted) != NULL);
        CHECK(strstr(violation->text, found) != NULL);
        drift_answers(scene);
        drift_quiet(scene, 3); /* the same episode */
        pin(scene, plot);
        drift_quiet(scene, 3);
        CHECK(atomic_load(&scene->report_count) == episode + 1);
    }
    drift_await_home(scene);
    drift_close(scene);
}

static void affinity_changed_by_another_process_is_reported_once_an_episode(void **state)
{
    (void)state;
    if (one_pu_alone())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_HARD};
    assert_true(sandbox_run(scene_two_episodes, &setup));
}

static void scene_two_workers(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    uint32_t wanted[DRIFT_WORKERS_MAX] = {0};
    uint32_t allowed[DRIFT_WORKERS_MAX] = {0};
    char found[128];
    CHECK(scene->worker_count >= 2);
    loosen(scene, &scene->plots[0], found, sizeof(found));
    loosen(scene, &scene->plots[1], found, sizeof(found));
    wanted[0] = wanted[1] = DRIFT_BIT(NUMAPERF_VIOLATION_AFFINITY);
    drift_check_reports(scene, 0, wanted, allowed);
    drift_answers(scene);
    /* One comes back and drifts again, the other one has stayed away. */
    pin(scene, &scene->plots[0]);
    drift_quiet(scene, 3);
    loosen(scene, &scene->plots[0], found, sizeof(found));
    wanted[1] = 0;
    drift_check_reports(scene, 2, wanted, allowed);
    drift_close(scene);
}

static void two_workers_that_drift_at_once_are_reported_each(void **state)
{
    (void)state;
    if (one_pu_alone())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_SOFT};
    assert_true(sandbox_run(scene_two_workers, &setup));
}

static void scene_repair_affinity(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    for (unsigned episode = 0; episode < 3; episode++) {
        const struct drift_plot *plot = &scene->plots[episode % scene->worker_count];
        char found[128];
        loosen(scene, plot, found, sizeof(found));
        const numaperf_violation_t *violation =
            drift_await(scene, NUMAPERF_VIOLATION_AFFINITY, (int)plot->index, episode);
        CHECK(violation->outcome == NUMAPERF_OUTCOME_REPAIRED);
        drift_await_home(scene);
        drift_answers(scene);
    }
    drift_quiet(scene, 3);
    CHECK(atomic_load(&scene->report_count) == 3);
    drift_close(scene);
}

static void affinity_is_put_back_where_asked(void **state)
{
    (void)state;
    if (one_pu_alone())
        skip();
    const struct drift_setup setup = {.mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR};
    assert_true(sandbox_run(scene_repair_affinity, &setup));
}

/* ---- io-wq threads ---- */

static void scene_iowq(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const struct drift_plot *plot = drift_last(scene);
    char others[256] = "";
    int threads[VIEW_IOWQ_MAX];
    numaperf_cpuset_t all;
    drift_view_affinity((int)getpid(), &all);
    for (int cpu = numaperf_cpuset_next(&plot->node_cpus, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&plot->node_cpus, cpu))
        CHECK(numaperf_cpuset_remove(&all, cpu) == 0);
    CHECK(numaperf_cpuset_format(&all, others, sizeof(others)) > 0);
    CHECK(drift_view_iowq(plot->thread_id, threads) >= 1);
    CHECK(outsider_set_affinity(&scene->outsider, threads[0], others) == 0);
    const numaperf_violation_t *violation =
        drift_await(scene, NUMAPERF_VIOLATION_IOWQ, (int)plot->index, 0);
    CHECK(strstr(violation->text, others) != NULL);
    if (scene->setup.policy == NUMAPERF_AUDIT_REPAIR) {
        CHECK(violation->outcome == NUMAPERF_OUTCOME_REPAIRED);
        drift_await_home(scene);
    }
    drift_quiet(scene, 3);
    CHECK(atomic_load(&scene->report_count) == 1);
    drift_answers(scene);
    drift_close(scene);
}

static void io_wq_threads_sent_to_another_node_are_reported_and_put_back(void **state)
{
    (void)state;
    numaperf_nodemask_t nodes;
    drift_view_nodes("/sys/devices/system/node/has_cpu", &nodes);
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    assert_int_equal(numaperf_capabilities_detect(&caps), 0);
    if (numaperf_nodemask_count(&nodes) < 2 || caps.probe_io_uring != NUMAPERF_PROBE_OK) {
        print_message("skipped: no second node with PUs, or no io_uring\n");
        skip();
    }
    const struct drift_setup report = {.mode = NUMAPERF_MODE_HARD};
    assert_true(sandbox_run(scene_iowq, &report));
    const struct drift_setup repair = {.mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_REPAIR};
    assert_true(sandbox_run(scene_iowq, &repair));
}

/* ---- stop ---- */

static void queued_task(numaperf_worker_t *worker, void *ended)
{
    (void)worker;
    (void)atomic_fetch_add((atomic_int *)ended, 16);
}

/* Tasks wait behind one that holds the worker: the drift cancels them, each exactly once. */
static void scene_stop(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    const struct drift_plot *plot = drift_last(scene);
    struct runtime_gate gate = {.entered = 0};
    atomic_int ran = 0;
    atomic_int cancelled[QUEUED] = {0};
    char found[128];
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)plot->index;
    CHECK(numaperf_rt_spawn_with(scene->rt, &options, runtime_gate_task, &gate) == 0);
    CHECK(runtime_reaches(&gate.entered, 1));
    options.on_cancel = runtime_count_cancel;
    for (int i = 0; i < QUEUED; i++)
        CHECK(numaperf_rt_spawn_with(scene->rt, &options, queued_task, &cancelled[i]) == 0);
    atomic_store(&scene->may_stop, true);
    loosen(scene, plot, found, sizeof(found));
    const numaperf_violation_t *violation =
        drift_await(scene, NUMAPERF_VIOLATION_AFFINITY, (int)plot->index, 0);
    CHECK(violation->outcome == NUMAPERF_OUTCOME_STOPPING);
    CHECK(numaperf_rt_spawn(scene->rt, NUMAPERF_NODE_ANY, runtime_count_task, &ran) ==
          NUMAPERF_E_STOPPING);
    atomic_store(&gate.open, true);
    CHECK(numaperf_rt_stop(scene->rt, test_limit_ns(10)) == 0);
    for (int i = 0; i < QUEUED; i++)
        CHECK(atomic_load(&cancelled[i]) == 1); /* none was run */
    CHECK(atomic_load(&gate.left) == 1 && atomic_load(&ran) == 0);
    CHECK(atomic_load(&scene->report_count) == 1);
    drift_close(scene);
}

static void a_drift_stops_the_runtime_where_asked(void **state)
{
    (void)state;
    if (one_pu_alone())
        skip();
    const struct drift_setup hard = {.mode = NUMAPERF_MODE_HARD, .policy = NUMAPERF_AUDIT_STOP};
    assert_true(sandbox_run(scene_stop, &hard));
}

struct drifter {
    struct drift_scene *scene;
    atomic_bool ends;
    atomic_uint count;
};

static void *drifter_main(void *arg)
{
    struct drifter *drifter = arg;
    struct drift_scene *scene = drifter->scene;
    char all[128];
    drift_view_affinity_text((int)getpid(), all, sizeof(all));
    for (uint32_t i = 0; !atomic_load(&drifter->ends); i = (i + 1) % scene->worker_count) {
        int rc = outsider_set_affinity(&scene->outsider, scene->plots[i].thread_id, all);
        CHECK(rc == 0 || rc == -ESRCH); /* it has ended */
        (void)atomic_fetch_add(&drifter->count, 1);
        test_sleep_ms(1);
    }
    return NULL;
}

/* Drifts all the time while it stops: no hang, and nothing is reported once stop has returned. */
static void scene_drift_during_stop(const void *arg)
{
    struct drift_scene *scene = drift_open(arg);
    struct drifter drifter = {.scene = scene};
    pthread_t thread;
    atomic_store(&scene->may_stop, true);
    CHECK(pthread_create(&thread, NULL, drifter_main, &drifter) == 0);
    while (atomic_load(&drifter.count) < 2 * scene->worker_count)
        test_sleep_ms(1);
    CHECK(numaperf_rt_stop(scene->rt, test_limit_ns(10)) == 0);
    unsigned count = atomic_load(&scene->report_count);
    drift_quiet(scene, 20);
    CHECK(atomic_load(&scene->report_count) == count);
    atomic_store(&drifter.ends, true);
    CHECK(pthread_join(thread, NULL) == 0);
    drift_close(scene);
}

static void drifts_while_it_stops_neither_hang_nor_are_reported_late(void **state)
{
    (void)state;
    if (one_pu_alone())
        skip();
    static const uint32_t policies[] = {NUMAPERF_AUDIT_REPORT, NUMAPERF_AUDIT_REPAIR,
                                        NUMAPERF_AUDIT_STOP};
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        const struct drift_setup setup = {.policy = policies[i], .interval_ms = 5};
        assert_true(sandbox_run(scene_drift_during_stop, &setup));
    }
}

/* ---- where ---- */

/* Why nothing can drift here in a way that is known; NULL when it can. */
static const char *machine_cannot(void)
{
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    if (numaperf_capabilities_detect(&caps) < 0)
        return "capabilities cannot be had";
    if (caps.probe_mbind != NUMAPERF_PROBE_OK || caps.probe_page_query != NUMAPERF_PROBE_OK ||
        caps.probe_affinity != NUMAPERF_PROBE_OK)
        return "placement is not enforced here";
    if (!caps.numa_balancing_disabled)
        return "kernel.numa_balancing is on, and only root in a guest may switch it off";
    return NULL;
}

/*
 * In a guest it is on at first. Switched once, not by every scene: an emulated machine does not
 * take it well to have its kernel's code patched so often.
 */
static void balancing_off(void)
{
    FILE *file = fopen("/proc/sys/kernel/numa_balancing", "we");
    if (file == NULL)
        return;
    (void)fputs("0", file);
    (void)fclose(file); /* what it then is, machine_cannot() reads */
}

int main(void)
{
    if (test_is_guest() && geteuid() == 0)
        balancing_off();
    const char *why = machine_cannot();
    if (why != NULL) {
        printf("SKIP: %s\n", why);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_reported_where_nothing_drifts_and_children_are_made),
        cmocka_unit_test(affinity_changed_by_another_process_is_reported_once_an_episode),
        cmocka_unit_test(two_workers_that_drift_at_once_are_reported_each),
        cmocka_unit_test(affinity_is_put_back_where_asked),
        cmocka_unit_test(io_wq_threads_sent_to_another_node_are_reported_and_put_back),
        cmocka_unit_test(a_drift_stops_the_runtime_where_asked),
        cmocka_unit_test(drifts_while_it_stops_neither_hang_nor_are_reported_late),
        cmocka_unit_test(a_memory_policy_that_was_changed_is_put_back),
        cmocka_unit_test(pages_migrated_by_another_process_are_reported_once_a_worker),
        cmocka_unit_test(pages_migrated_by_another_process_are_moved_home),
        cmocka_unit_test(a_few_pages_of_a_stack_moved_away_are_moved_home),
        cmocka_unit_test(balancing_switched_on_twice_is_two_episodes),
        cmocka_unit_test(balancing_cannot_be_repaired_and_the_report_says_how),
        cmocka_unit_test(a_cpuset_that_loses_a_pu_is_reported_and_again_when_it_does_so_again),
        cmocka_unit_test(a_cpuset_that_has_grown_back_is_repaired_to_the_pin),
        cmocka_unit_test(a_process_moved_to_a_smaller_cgroup_and_back_is_repaired),
        cmocka_unit_test(a_shrunk_cpuset_stops_the_runtime_where_asked),
        cmocka_unit_test(a_cpuset_that_loses_a_memory_node_is_reported),
        cmocka_unit_test(a_memory_node_that_is_back_gets_its_pages_back),
        cmocka_unit_test(a_pu_that_goes_offline_is_reported_each_time),
        cmocka_unit_test(a_pu_that_is_back_online_is_repaired_to_the_pin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
