/* SPDX-License-Identifier: MIT */
/* A runtime with timers, and what came of them; one at a time in a program. */
#ifndef TESTS_SUPPORT_TIMER_SCENE_H
#define TESTS_SUPPORT_TIMER_SCENE_H

#include <numaperf/timer.h>

#include "support/clock.h"
#include "support/runtimes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS_NS UINT64_C(1000000)
#define HOUR_NS (UINT64_C(3600) * 1000 * MS_NS)

struct scene {
    struct runtime_box box;
    atomic_int expired;
    atomic_int cancelled;
    atomic_int faults;
    atomic_int done;
    atomic_bool quit;
};

static struct scene scene;

static inline void fault_unless(bool holds, const char *what)
{
    if (holds)
        return;
    printf("fault: %s\n", what);
    (void)atomic_fetch_add(&scene.faults, 1);
}

static inline void count_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    (void)fn;
    (void)arg;
    if (data != &scene)
        (void)atomic_fetch_add(&scene.faults, 1);
    (void)atomic_fetch_add(&scene.cancelled, 1);
}

static inline void scene_reset(uint32_t backend)
{
    memset(&scene, 0, sizeof(scene));
    scene.box.config = (numaperf_rt_config_t)NUMAPERF_RT_CONFIG_INIT;
    scene.box.config.workers_per_node = 1;
    scene.box.config.io_backend = backend;
    scene.box.config.on_task_cancel = count_cancel;
    scene.box.config.data = &scene;
}

static inline void scene_open(const char *machine, uint32_t backend)
{
    scene_reset(backend);
    assert_int_equal(runtime_box_open(&scene.box, machine), 0);
}

static inline void scene_close(void)
{
    runtime_box_close(&scene.box);
    assert_int_equal(atomic_load(&scene.faults), 0);
}

/* Run a function on a worker and wait until it has returned. */
static inline void run_on(int32_t worker, numaperf_task_fn fn, void *arg)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = worker;
    int before = atomic_load(&scene.done);
    assert_int_equal(numaperf_rt_spawn_with(scene.box.rt, &options, fn, arg), 0);
    assert_true(runtime_reaches(&scene.done, before + 1));
}

static inline void never_expires(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    fault_unless(false, "expired after it was stopped");
}

#endif
