/* SPDX-License-Identifier: MIT */
/*
 * Every libuv handle and request type on a worker's loop, in both backends: alone on a worker that
 * otherwise sleeps, so that what its loop fails to notice hangs, and under load of ring
 * completions and tasks. Each is started from a task, from libuv callbacks and from a ring
 * operation's: what happens after libuv has last looked must be seen all the same.
 */
#include "sched/sched.h"

#include "io/loop.h"
#include "support/clock.h"
#include "support/runtimes.h"
#include "support/uv_scenes.h"

#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

#define LOAD_OPS 16
#define LOAD_TASKS 4
#define CASES_MAX 64

/* ---- load: ring completions and tasks without end ---- */

struct load;

struct load_op {
    struct numaperf__op op;
    struct load *load;
};

struct load {
    numaperf_rt_t *rt;
    numaperf_loop_t *loop;
    struct load_op ops[LOAD_OPS];
    atomic_bool stop;
    atomic_int alive;
    atomic_ulong completions;
    atomic_ulong tasks;
};

static void load_op_done(struct numaperf__op *op)
{
    struct load_op *own = NUMAPERF_CONTAINER_OF(op, struct load_op, op);
    struct load *load = own->load;
    (void)atomic_fetch_add(&load->completions, 1);
    if (atomic_load(&load->stop) || numaperf__loop_submit(load->loop, op) < 0)
        (void)atomic_fetch_sub(&load->alive, 1);
}

static void load_task(numaperf_worker_t *worker, void *arg)
{
    struct load *load = arg;
    (void)worker;
    (void)atomic_fetch_add(&load->tasks, 1);
    if (atomic_load(&load->stop) ||
        numaperf_rt_spawn(load->rt, NUMAPERF_NODE_LOCAL, load_task, load) < 0)
        (void)atomic_fetch_sub(&load->alive, 1);
}

static void load_start(numaperf_worker_t *worker, void *arg)
{
    struct load *load = arg;
    load->loop = worker->loop;
    for (int i = 0; i < LOAD_TASKS; i++)
        load_task(worker, load);
    for (int i = 0; i < LOAD_OPS; i++) {
        load->ops[i].load = load;
        load->ops[i].op.kind = NUMAPERF__OP_NOP;
        load->ops[i].op.done = load_op_done;
        if (numaperf_worker_backend(worker) != NUMAPERF_IO_URING ||
            numaperf__loop_submit(worker->loop, &load->ops[i].op) < 0)
            (void)atomic_fetch_sub(&load->alive, 1);
    }
}

static bool load_stop(struct load *load)
{
    atomic_store(&load->stop, true);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (atomic_load(&load->alive) > 0 && test_now_ns() < limit_ns)
        test_sleep_ms(1);
    return atomic_load(&load->alive) == 0;
}

/* Whether both go on from where they are now. */
static bool load_goes_on(struct load *load, bool has_ring)
{
    unsigned long tasks = atomic_load(&load->tasks);
    unsigned long completions = atomic_load(&load->completions);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (test_now_ns() < limit_ns) {
        if (atomic_load(&load->tasks) > tasks + LOAD_TASKS &&
            (!has_ring || atomic_load(&load->completions) > completions + LOAD_OPS))
            return true;
        test_sleep_ms(1);
    }
    return false;
}

/* ---- ways to start a scene ---- */

enum launch { BY_TASK, BY_TIMER, BY_CLOSE, BY_ASYNC, BY_IDLE_WORKER, BY_RING, LAUNCH_COUNT };

static const char *const launch_names[] = {"a task",           "a timer's callback",
                                           "a close callback", "an async's callback",
                                           "a woken worker",   "a ring operation's done"};

struct launched {
    struct scene_run run;
    enum launch launch;
    struct numaperf__op op;
};

static void launch_scene(struct scene_run *run)
{
    run->scene->start(run);
    scene_request_ends(run); /* of the launch */
}

static void launch_by_timer(uv_timer_t *timer)
{
    struct scene_run *run = timer->data;
    scene_close((uv_handle_t *)timer);
    launch_scene(run);
}

static void launch_by_close(uv_handle_t *handle)
{
    launch_scene(handle->data);
}

static void launch_by_async(uv_async_t *async)
{
    struct scene_run *run = async->data;
    scene_close((uv_handle_t *)async);
    launch_scene(run);
}

static void launch_by_ring(struct numaperf__op *op)
{
    struct launched *launched = NUMAPERF_CONTAINER_OF(op, struct launched, op);
    launch_scene(&launched->run);
}

static void launch_task(numaperf_worker_t *worker, void *arg)
{
    struct launched *launched = arg;
    struct scene_run *run = &launched->run;
    run->loop = numaperf_worker_loop(worker);
    scene_request_begins(run);
    switch (launched->launch) {
    case BY_TIMER:
        SCENE_SEE(run, uv_timer_init(run->loop, &run->hint) == 0);
        scene_track(run, (uv_handle_t *)&run->hint);
        SCENE_SEE(run, uv_timer_start(&run->hint, launch_by_timer, 3, 0) == 0);
        return;
    case BY_CLOSE:
        SCENE_SEE(run, uv_timer_init(run->loop, &run->hint) == 0);
        run->hint.data = run;
        uv_close((uv_handle_t *)&run->hint, launch_by_close);
        return;
    case BY_ASYNC:
        SCENE_SEE(run, uv_async_init(run->loop, &run->async, launch_by_async) == 0);
        scene_track(run, (uv_handle_t *)&run->async);
        SCENE_SEE(run, uv_async_send(&run->async) == 0);
        return;
    case BY_RING:
        launched->op.kind = NUMAPERF__OP_NOP;
        launched->op.done = launch_by_ring;
        SCENE_SEE(run, numaperf__loop_submit(worker->loop, &launched->op) == 0);
        return;
    case BY_TASK:
    case BY_IDLE_WORKER:
    case LAUNCH_COUNT:
    default:
        launch_scene(run);
    }
}

static int spawn_first(numaperf_rt_t *rt, numaperf_task_fn fn, void *arg)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    return numaperf_rt_spawn_with(rt, &options, fn, arg);
}

static bool is_uring(const struct runtime_box *box)
{
    return numaperf_worker_backend(numaperf_rt_worker(box->rt, 0)) == NUMAPERF_IO_URING;
}

/* Play a scene once; a text when it went wrong. */
static const char *play(struct runtime_box *box, const struct scene *scene, enum launch launch,
                        bool *out_hung)
{
    /* Left behind when it hangs: the loop still knows it. */
    struct launched *launched = calloc(1, sizeof(*launched));
    if (launched == NULL || !scene_run_init(&launched->run, scene))
        return "no memory";
    launched->launch = launch;
    if (launch == BY_IDLE_WORKER)
        test_sleep_ms(60); /* beyond every spin */
    if (spawn_first(box->rt, launch_task, launched) < 0)
        return numaperf_last_error()->reason;
    *out_hung = !scene_run_watch(&launched->run);
    const char *failure = atomic_load(&launched->run.failure);
    if (*out_hung)
        return failure != NULL ? failure : "it does not end";
    const char *skipped = atomic_load(&launched->run.skipped);
    if (skipped != NULL && launch == BY_TASK)
        print_message("skipped: %s: %s\n", scene->name, skipped);
    scene_run_fini(&launched->run);
    free(launched);
    return failure;
}

struct case_config {
    const struct scene *scene;
    uint32_t backend;
    bool loaded;
};

static int box_open(struct runtime_box *box, uint32_t backend)
{
    memset(box, 0, sizeof(*box));
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.workers_per_node = 1;
    config.io_backend = backend;
    config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    box->config = config;
    return runtime_box_open(box, NULL);
}

#define OPEN_OR_SKIP(box, backend)                                                       \
    do {                                                                                 \
        if (box_open((box), (backend)) < 0) {                                            \
            print_message("skipped: no runtime: %s\n", numaperf_last_error()->reason);   \
            assert_int_equal((backend), NUMAPERF_IO_URING); /* epoll works everywhere */ \
            skip();                                                                      \
        }                                                                                \
    } while (0)

static void scene_works(void **state)
{
    const struct case_config *config = *state;
    struct runtime_box box;
    OPEN_OR_SKIP(&box, config->backend);
    struct load load = {.rt = box.rt};
    if (config->loaded) {
        load.alive = LOAD_OPS + LOAD_TASKS;
        assert_int_equal(spawn_first(box.rt, load_start, &load), 0);
    }
    const char *failure = NULL;
    bool hung = false;
    int launch = 0;
    for (; launch < LAUNCH_COUNT && failure == NULL; launch++) {
        if (launch == BY_RING && !is_uring(&box))
            continue;
        failure = play(&box, config->scene, (enum launch)launch, &hung);
        if (failure == NULL && config->loaded && !load_goes_on(&load, is_uring(&box)))
            failure = "the load starves";
    }
    if (failure != NULL)
        print_message("%s started by %s: %s\n", config->scene->name, launch_names[launch - 1],
                      failure);
    bool stopped = load_stop(&load);
    runtime_box_close(&box);
    assert_null(failure);
    assert_true(stopped);
}

/* ---- tasks under load of handles ---- */

struct storm {
    uv_idle_t idle;
    uv_timer_t timers[8];
    atomic_ulong idle_count;
    atomic_ulong timer_count;
    atomic_int tasks;
};

static void storm_idle(uv_idle_t *idle)
{
    struct storm *storm = idle->data;
    (void)atomic_fetch_add(&storm->idle_count, 1);
}

static void storm_timer(uv_timer_t *timer)
{
    struct storm *storm = timer->data;
    (void)atomic_fetch_add(&storm->timer_count, 1);
}

static void storm_start(numaperf_worker_t *worker, void *arg)
{
    struct storm *storm = arg;
    uv_loop_t *loop = numaperf_worker_loop(worker);
    (void)uv_idle_init(loop, &storm->idle);
    storm->idle.data = storm;
    (void)uv_idle_start(&storm->idle, storm_idle);
    for (int i = 0; i < 8; i++) {
        (void)uv_timer_init(loop, &storm->timers[i]);
        storm->timers[i].data = storm;
        (void)uv_timer_start(&storm->timers[i], storm_timer, 0, 1);
    }
}

static void tasks_and_handles_share_a_worker(void **state)
{
    const struct case_config *config = *state;
    enum { TASKS = 20000 };
    static struct storm storm; /* closed by the stop, which is after this frame's asserts */
    memset(&storm, 0, sizeof(storm));
    struct runtime_box box;
    OPEN_OR_SKIP(&box, config->backend);
    assert_int_equal(spawn_first(box.rt, storm_start, &storm), 0);
    for (int i = 0; i < TASKS; i++)
        assert_int_equal(spawn_first(box.rt, runtime_count_task, &storm.tasks), 0);
    bool reached = runtime_reaches(&storm.tasks, TASKS);
    unsigned long idle = atomic_load(&storm.idle_count);
    unsigned long timer = atomic_load(&storm.timer_count);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (test_now_ns() < limit_ns &&
           (atomic_load(&storm.idle_count) <= idle || atomic_load(&storm.timer_count) <= timer))
        test_sleep_ms(1);
    bool moved = atomic_load(&storm.idle_count) > idle && atomic_load(&storm.timer_count) > timer;
    runtime_box_close(&box);
    assert_true(reached);
    assert_true(moved);
}

/* ---- time ---- */

struct timing {
    uv_timer_t timer;
    uint64_t start_ns;
    atomic_ulong took_ns;
    atomic_int fired;
};

static void timing_fired(uv_timer_t *timer)
{
    struct timing *timing = timer->data;
    atomic_store(&timing->took_ns, uv_hrtime() - timing->start_ns);
    uv_close((uv_handle_t *)timer, NULL);
    atomic_store(&timing->fired, 1);
}

static void timing_init(numaperf_worker_t *worker, void *arg)
{
    struct timing *timing = arg;
    (void)uv_timer_init(numaperf_worker_loop(worker), &timing->timer);
    timing->timer.data = timing;
}

static void timing_start(numaperf_worker_t *worker, void *arg)
{
    struct timing *timing = arg;
    (void)worker;
    timing->start_ns = uv_hrtime();
    (void)uv_timer_start(&timing->timer, timing_fired, 50, 0);
}

static void timing_busy(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    uint64_t start_ns = uv_hrtime();
    while (uv_hrtime() - start_ns < 120000000)
        ;
}

static void timer_is_not_early(const struct case_config *config, bool after_long_task)
{
    struct runtime_box box;
    static struct timing timing;
    memset(&timing, 0, sizeof(timing));
    OPEN_OR_SKIP(&box, config->backend);
    assert_int_equal(spawn_first(box.rt, timing_init, &timing), 0);
    test_sleep_ms(120); /* asleep since: libuv's time stands still */
    if (after_long_task)
        assert_int_equal(spawn_first(box.rt, timing_busy, NULL), 0);
    assert_int_equal(spawn_first(box.rt, timing_start, &timing), 0);
    bool fired = runtime_reaches(&timing.fired, 1);
    runtime_box_close(&box);
    assert_true(fired);
    assert_true(timing.took_ns + scene_early_ns_max() >= 50000000);
    assert_true(timing.took_ns < test_limit_ns(5));
}

static void timer_of_a_task_that_woke_the_worker(void **state)
{
    timer_is_not_early(*state, false);
}

static void timer_of_a_task_behind_a_long_one(void **state)
{
    timer_is_not_early(*state, true);
}

/* ---- main ---- */

static struct case_config configs[CASES_MAX * 2];
static struct CMUnitTest tests[CASES_MAX * 2];
static char names[CASES_MAX * 2][96];
static size_t test_count;

static void add_case(void (*function)(void **), const char *name, const struct scene *scene,
                     uint32_t backend, bool loaded)
{
    size_t i = test_count++;
    (void)snprintf(names[i], sizeof(names[i]), "%s_%s%s", name,
                   backend == NUMAPERF_IO_URING ? "in_io_uring" : "in_epoll",
                   loaded ? "_under_load" : "");
    configs[i] = (struct case_config){.scene = scene, .backend = backend, .loaded = loaded};
    tests[i] =
        (struct CMUnitTest){.name = names[i], .test_func = function, .initial_state = &configs[i]};
}

int main(int argc, char **argv)
{
    scene_child_main(argc, argv);
    const uint32_t backends[] = {NUMAPERF_IO_URING, NUMAPERF_IO_EPOLL};
    for (size_t b = 0; b < 2; b++) {
        for (size_t i = 0; i < scene_count; i++) {
            char name[64];
            (void)snprintf(name, sizeof(name), "%s_works_on_a_worker", scenes[i].name);
            add_case(scene_works, name, &scenes[i], backends[b], false);
            add_case(scene_works, name, &scenes[i], backends[b], true);
        }
        add_case(tasks_and_handles_share_a_worker, "tasks_and_handles_share_a_worker", NULL,
                 backends[b], false);
        add_case(timer_of_a_task_that_woke_the_worker, "timer_of_a_task_that_woke_the_worker", NULL,
                 backends[b], false);
        add_case(timer_of_a_task_behind_a_long_one, "timer_of_a_task_behind_a_long_one", NULL,
                 backends[b], false);
    }
    return _cmocka_run_group_tests("uv_handles", tests, test_count, NULL, NULL);
}
