/* SPDX-License-Identifier: MIT */
/*
 * Work conservation inside the policy: a task that runs long delays no other that an idle worker
 * may run, also when that one slept; and what may not be stolen waits.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/clock.h"
#include "support/runtimes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <uv.h>

#define TASKS 40

enum kind { UNBOUND, NEVER_STOLEN, EACH_NODE };

/* Where the long task is when the others come, and who else is there. */
struct scene {
    uint32_t workers_per_node;
    uint32_t policy;
    uint32_t backend;
    bool asleep; /* the idle workers have slept for a while */
    int how;     /* 0: it runs already; 1: just spawned; 2: it spawns the others itself;
                    3: a libuv callback runs as long */
};

static int spawn_kind(numaperf_rt_t *rt, enum kind kind, atomic_int *ran)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    if (kind == NEVER_STOLEN)
        options.flags |= NUMAPERF_SPAWN_NEVER_STEAL;
    if (kind == EACH_NODE)
        return numaperf_rt_each_node(rt, runtime_count_task, ran) < 0;
    return numaperf_rt_spawn_with(rt, &options, runtime_count_task, ran);
}

struct holder {
    struct runtime_gate gate;
    atomic_int *ran;
    enum kind kind;
    uv_timer_t timer;
};

static void spawn_then_hold(numaperf_worker_t *worker, void *arg)
{
    struct holder *holder = arg;
    int failed = 0;
    for (int i = 0; i < TASKS; i++)
        failed += spawn_kind(numaperf_worker_rt(worker), holder->kind, holder->ran) != 0;
    if (failed == 0)
        runtime_gate_task(worker, &holder->gate);
}

static void timer_holds(uv_timer_t *timer)
{
    struct holder *holder = timer->data;
    runtime_gate_task(NULL, &holder->gate);
    uv_close((uv_handle_t *)timer, NULL);
}

static void start_timer(numaperf_worker_t *worker, void *arg)
{
    struct holder *holder = arg;
    holder->timer.data = holder;
    (void)uv_timer_init(numaperf_worker_loop(worker), &holder->timer);
    (void)uv_timer_start(&holder->timer, timer_holds, 1, 0);
}

static void begin_holding(numaperf_rt_t *rt, const struct scene *scene, struct holder *holder)
{
    static const numaperf_task_fn fns[] = {runtime_gate_task, runtime_gate_task, spawn_then_hold,
                                           start_timer};
    void *arg = scene->how < 2 ? (void *)&holder->gate : (void *)holder;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = scene->how == 1 ? NUMAPERF_SPAWN_HAS_NODE : NUMAPERF_SPAWN_HAS_WORKER;
    assert_int_equal(numaperf_rt_spawn_with(rt, &options, fns[scene->how], arg), 0);
    if (scene->how != 1)
        assert_true(runtime_reaches(&holder->gate.entered, 1));
}

static void check_scene(const struct scene *scene, enum kind kind)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = scene->workers_per_node;
    box.config.steal_policy = scene->policy;
    box.config.io_backend = scene->backend;
    box.config.spin_ns_max = scene->asleep ? UINT64_MAX : 0;
    assert_int_equal(
        runtime_box_open(&box, scene->workers_per_node == 1 ? "numa:2 pu:1" : "numa:2 pu:2"), 0);
    if (scene->asleep)
        test_sleep_ms(20);
    atomic_int ran = 0;
    int tasks = kind == EACH_NODE ? 2 * TASKS : TASKS;
    struct holder holder = {.ran = &ran, .kind = kind};
    begin_holding(box.rt, scene, &holder);
    for (int i = 0; i < TASKS && scene->how != 2; i++) {
        assert_int_equal(spawn_kind(box.rt, kind, &ran), 0);
        if (scene->asleep && i % 8 == 0)
            test_sleep_ms(2);
    }
    /* All of them, while the long one still runs. */
    bool all_ran = runtime_reaches(&ran, tasks);
    assert_int_equal(atomic_load(&holder.gate.left), 0);
    atomic_store(&holder.gate.open, true);
    if (!all_ran)
        printf("policy %u, backend %u, asleep %d, how %d, kind %d\n", scene->policy, scene->backend,
               scene->asleep, scene->how, (int)kind);
    assert_true(all_ran);
    assert_true(runtime_reaches(&holder.gate.left, 1));
    runtime_box_close(&box);
}

static void check_all_scenes(struct scene scene, enum kind kind)
{
    static const uint32_t backends[] = {NUMAPERF_IO_AUTO, NUMAPERF_IO_EPOLL};
    for (int i = 0; i < 16; i++) {
        scene.backend = backends[i % 2];
        scene.asleep = i / 2 % 2 != 0;
        scene.how = i / 4;
        check_scene(&scene, kind);
    }
}

static void sibling_goes_on_under_local_only(void **state)
{
    (void)state;
    struct scene scene = {.workers_per_node = 2, .policy = NUMAPERF_STEAL_LOCAL_ONLY};
    check_all_scenes(scene, UNBOUND);
}

static void sibling_runs_what_may_not_leave_the_node(void **state)
{
    (void)state;
    struct scene scene = {.workers_per_node = 2,
                          .policy = NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE};
    check_all_scenes(scene, NEVER_STOLEN);
    check_all_scenes(scene, EACH_NODE);
}

static void remote_worker_goes_on_under_the_default_policy(void **state)
{
    (void)state;
    struct scene scene = {.workers_per_node = 1, .policy = NUMAPERF_STEAL_DEFAULT};
    check_all_scenes(scene, UNBOUND);
    scene.policy = NUMAPERF_STEAL_ANY;
    check_all_scenes(scene, UNBOUND);
}

/* Long tasks in one burst, as many as there are workers: all of them run at once. */
static void burst_of_long_tasks_uses_every_worker(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
        box.config.workers_per_node = 2;
        box.config.io_backend = i % 2 == 0 ? NUMAPERF_IO_AUTO : NUMAPERF_IO_EPOLL;
        box.config.steal_policy =
            i / 2 % 2 == 0 ? NUMAPERF_STEAL_DEFAULT : NUMAPERF_STEAL_LOCAL_ONLY;
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:2"), 0);
        if (i / 4 % 2 != 0)
            test_sleep_ms(20);
        int wanted = box.config.steal_policy == NUMAPERF_STEAL_DEFAULT ? 4 : 2;
        struct runtime_gate gate = {.entered = 0};
        void *args[4] = {&gate, &gate, &gate, &gate};
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_NODE;
        assert_int_equal(numaperf_rt_spawn_batch(box.rt, &options, runtime_gate_task, args, 4), 0);
        assert_true(runtime_reaches(&gate.entered, wanted));
        atomic_store(&gate.open, true);
        assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
        assert_int_equal(atomic_load(&gate.left), 4);
        runtime_box_close(&box);
    }
}

/* ---- fairness ---- */

struct endless {
    atomic_int ran;
    atomic_bool ends;
    numaperf_spawn_options_t options;
};

static void endless_task(numaperf_worker_t *worker, void *arg)
{
    struct endless *endless = arg;
    (void)atomic_fetch_add(&endless->ran, 1);
    if (!atomic_load(&endless->ends))
        (void)numaperf_rt_spawn_with(numaperf_worker_rt(worker), &endless->options, endless_task,
                                     endless);
}

static uv_timer_t ticker;

static void ticked(uv_timer_t *timer)
{
    (void)atomic_fetch_add((atomic_int *)timer->data, 1);
}

static void start_ticker(numaperf_worker_t *worker, void *arg)
{
    ticker.data = arg;
    (void)uv_timer_init(numaperf_worker_loop(worker), &ticker);
    (void)uv_timer_start(&ticker, ticked, 1, 1);
}

/* Tasks of every kind that follow themselves, two of each, and libuv: all get their turns. */
static void nothing_starves_beside_endless_tasks(void **state)
{
    (void)state;
    const uint32_t flags[3] = {NUMAPERF_SPAWN_HAS_NODE, NUMAPERF_SPAWN_HAS_WORKER,
                               NUMAPERF_SPAWN_HAS_NODE | NUMAPERF_SPAWN_NEVER_STEAL};
    for (int i = 0; i < 2; i++) {
        struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
        box.config.workers_per_node = 1;
        box.config.io_backend = i == 0 ? NUMAPERF_IO_AUTO : NUMAPERF_IO_EPOLL;
        assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
        struct endless kinds[3];
        atomic_int ticks = 0;
        for (int k = 0; k < 3; k++) {
            kinds[k] = (struct endless){.options = NUMAPERF_SPAWN_OPTIONS_INIT};
            kinds[k].options.flags = flags[k];
            for (int n = 0; n < 2; n++)
                assert_int_equal(
                    numaperf_rt_spawn_with(box.rt, &kinds[k].options, endless_task, &kinds[k]), 0);
        }
        assert_int_equal(numaperf_rt_spawn(box.rt, 0, start_ticker, &ticks), 0);
        uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
        bool all = false;
        while (!all && test_now_ns() < limit_ns) {
            all = atomic_load(&ticks) >= 20;
            for (int k = 0; k < 3; k++)
                all = all && atomic_load(&kinds[k].ran) >= 2000;
            test_sleep_ms(1);
        }
        for (int k = 0; k < 3; k++)
            atomic_store(&kinds[k].ends, true);
        runtime_box_close(&box);
        if (!all)
            printf("unbound %d, bound %d, never stolen %d, ticks %d\n", kinds[0].ran, kinds[1].ran,
                   kinds[2].ran, ticks);
        assert_true(all);
    }
}

/* ---- what waits ---- */

/* Spawn while the only worker of node 0 is busy and node 1 is idle; how many ran meanwhile. */
static int run_meanwhile(uint32_t policy, uint32_t flags, uint32_t backend)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    box.config.steal_policy = policy;
    box.config.io_backend = backend;
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    struct runtime_gate gate = {.entered = 0};
    atomic_int ran = 0;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    options.flags = flags;
    for (int i = 0; i < TASKS; i++)
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, runtime_count_task, &ran), 0);
    /* Keep the other one awake and looking around. */
    atomic_int elsewhere = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(numaperf_rt_spawn(box.rt, 1, runtime_count_task, &elsewhere), 0);
        test_sleep_ms(2);
    }
    int meanwhile = atomic_load(&ran);
    atomic_store(&gate.open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&ran), TASKS);
    assert_int_equal(atomic_load(&elsewhere), 20);

    uint64_t remote = 0;
    uint64_t stolen = 0;
    for (uint32_t i = 0; i < 2; i++) {
        numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
        assert_int_equal(numaperf_rt_worker_stats(box.rt, i, &stats), 0);
        remote += stats.ran_remote;
        stolen += stats.stolen_from;
    }
    assert_int_equal(remote, stolen);
    assert_true(remote >= (uint64_t)meanwhile);
    runtime_box_close(&box);
    return meanwhile;
}

static void what_may_not_be_stolen_waits(void **state)
{
    (void)state;
    static const uint32_t backends[] = {NUMAPERF_IO_AUTO, NUMAPERF_IO_EPOLL};
    const uint32_t node = NUMAPERF_SPAWN_HAS_NODE;
    for (int i = 0; i < 2; i++) {
        uint32_t backend = backends[i];
        assert_int_equal(run_meanwhile(NUMAPERF_STEAL_LOCAL_ONLY, node, backend), 0);
        assert_int_equal(
            run_meanwhile(NUMAPERF_STEAL_ANY, node | NUMAPERF_SPAWN_NEVER_STEAL, backend), 0);
        assert_int_equal(run_meanwhile(NUMAPERF_STEAL_ANY, NUMAPERF_SPAWN_HAS_WORKER, backend), 0);
        assert_int_equal(run_meanwhile(NUMAPERF_STEAL_DEFAULT, node, backend), TASKS);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sibling_goes_on_under_local_only),
        cmocka_unit_test(sibling_runs_what_may_not_leave_the_node),
        cmocka_unit_test(remote_worker_goes_on_under_the_default_policy),
        cmocka_unit_test(burst_of_long_tasks_uses_every_worker),
        cmocka_unit_test(nothing_starves_beside_endless_tasks),
        cmocka_unit_test(what_may_not_be_stolen_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
