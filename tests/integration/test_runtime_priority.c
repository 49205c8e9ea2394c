/* SPDX-License-Identifier: MIT */
/*
 * Who comes first, and that nobody is left out: the two priorities of tasks, and tasks beside I/O
 * while either has no end. All of it by counts, not by time, on both backends.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/clock.h"
#include "support/runtimes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

/* Far more turns than anything here needs: who has not had his by then is starved. */
#define TURNS_MAX 400000

static const uint32_t backends[] = {NUMAPERF_IO_AUTO, NUMAPERF_IO_EPOLL};

static int spawn_as(numaperf_rt_t *rt, uint32_t priority, uint32_t flags, numaperf_task_fn fn,
                    void *arg)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE | flags;
    options.priority = priority;
    return numaperf_rt_spawn_with(rt, &options, fn, arg);
}

static struct runtime_box open_one_worker(uint32_t backend)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    box.config.io_backend = backend;
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    return box;
}

/* ---- order ---- */

struct record {
    atomic_int count;
    int priorities[256];
    int numbers[256];
};

struct entry {
    struct record *record;
    int priority;
    int number;
};

static void record_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    const struct entry *entry = arg;
    int at = atomic_load(&entry->record->count);
    entry->record->priorities[at] = entry->priority;
    entry->record->numbers[at] = entry->number;
    atomic_store(&entry->record->count, at + 1); /* one worker */
}

/* From outside, then from inside: other queues, the same order. */
struct scene {
    struct record record;
    struct entry entries[200];
    struct runtime_gate gate;
    uint32_t flags;
};

static void spawn_entries(numaperf_rt_t *rt, struct scene *scene)
{
    for (int i = 0; i < 200; i++) {
        int priority = i < 100 ? NUMAPERF_PRIORITY_THROUGHPUT : NUMAPERF_PRIORITY_LATENCY;
        scene->entries[i] = (struct entry){&scene->record, priority, i};
        assert_int_equal(
            spawn_as(rt, (uint32_t)priority, scene->flags, record_task, &scene->entries[i]), 0);
    }
}

static void spawn_inside(numaperf_worker_t *worker, void *arg)
{
    spawn_entries(numaperf_worker_rt(worker), arg);
}

static void check_order(const struct record *record)
{
    int last[2] = {-1, -1};
    int first_half[2] = {0, 0};
    for (int i = 0; i < 200; i++) {
        int priority = record->priorities[i];
        assert_true(record->numbers[i] > last[priority]); /* a FIFO each */
        last[priority] = record->numbers[i];
        first_half[priority] += i < 100;
    }
    /* Though they came last: all but what the others have to themselves. */
    assert_true(first_half[NUMAPERF_PRIORITY_LATENCY] > 70);
    assert_true(first_half[NUMAPERF_PRIORITY_THROUGHPUT] > 0);
}

static void latency_goes_before_throughput_and_each_is_in_order(void **state)
{
    (void)state;
    const uint32_t kinds[] = {0, NUMAPERF_SPAWN_NEVER_STEAL, NUMAPERF_SPAWN_HAS_WORKER};
    for (int inside = 0; inside < 2; inside++) {
        for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
            struct runtime_box box = open_one_worker(NUMAPERF_IO_AUTO);
            static struct scene scene;
            memset(&scene, 0, sizeof(scene));
            scene.flags = kinds[k];
            assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &scene.gate), 0);
            assert_true(runtime_reaches(&scene.gate.entered, 1));
            if (inside)
                assert_int_equal(numaperf_rt_spawn(box.rt, 0, spawn_inside, &scene), 0);
            else
                spawn_entries(box.rt, &scene);
            atomic_store(&scene.gate.open, true);
            assert_true(runtime_reaches(&scene.record.count, 200));
            check_order(&scene.record);
            runtime_box_close(&box);
        }
    }
}

/* ---- share ---- */

struct chains {
    _Atomic uint64_t ran[2];
    atomic_bool stop;
    atomic_int ended;
};

struct chain {
    struct chains *all;
    uint32_t priority;
};

/* Spawns itself again, so that its priority never runs out. */
static void chain_task(numaperf_worker_t *worker, void *arg)
{
    struct chain *chain = arg;
    (void)atomic_fetch_add(&chain->all->ran[chain->priority], 1);
    if (atomic_load(&chain->all->stop) ||
        spawn_as(numaperf_worker_rt(worker), chain->priority, 0, chain_task, chain) != 0)
        (void)atomic_fetch_add(&chain->all->ended, 1);
}

static void throughput_keeps_its_share_when_latency_never_ends(void **state)
{
    (void)state;
    for (size_t b = 0; b < 2; b++) {
        struct runtime_box box = open_one_worker(backends[b]);
        struct chains all = {.stop = false};
        struct chain chains[200];
        for (int i = 0; i < 200; i++) { /* more of each than a turn takes */
            chains[i] = (struct chain){&all, i % 2 == 0 ? NUMAPERF_PRIORITY_LATENCY
                                                        : NUMAPERF_PRIORITY_THROUGHPUT};
            assert_int_equal(spawn_as(box.rt, chains[i].priority, 0, chain_task, &chains[i]), 0);
        }
        while (atomic_load(&all.ran[NUMAPERF_PRIORITY_LATENCY]) < 50000)
            test_sleep_ms(1);
        uint64_t low = atomic_load(&all.ran[NUMAPERF_PRIORITY_THROUGHPUT]);
        uint64_t high = atomic_load(&all.ran[NUMAPERF_PRIORITY_LATENCY]);
        atomic_store(&all.stop, true);
        assert_true(runtime_reaches(&all.ended, 200));
        /* 8 of 64: between a twelfth and a fourth. */
        assert_in_range(low * 100 / (low + high), 8, 25);
        runtime_box_close(&box);
    }
}

/* ---- tasks and I/O ---- */

struct both {
    uv_async_t async;
    atomic_int fired;     /* I/O */
    atomic_int fired_max; /* it goes on up to that */
    atomic_int ran;       /* tasks */
    atomic_int ran_max;
    atomic_bool tasks_done;
};

static void both_fired(uv_async_t *async)
{
    struct both *both = async->data;
    if (atomic_fetch_add(&both->fired, 1) + 1 < atomic_load(&both->fired_max))
        (void)uv_async_send(async);
}

static int both_open(numaperf_worker_t *worker, void *data)
{
    struct both *both = data;
    both->async.data = both;
    return uv_async_init(numaperf_worker_loop(worker), &both->async, both_fired);
}

static void both_close(numaperf_worker_t *worker, void *data)
{
    (void)worker;
    struct both *both = data;
    uv_close((uv_handle_t *)&both->async, NULL);
}

/* Up to its end, or until the I/O has had as much as it needs. */
static void both_task(numaperf_worker_t *worker, void *arg)
{
    struct both *both = arg;
    int ran = atomic_fetch_add(&both->ran, 1) + 1;
    bool goes_on = ran < atomic_load(&both->ran_max) &&
                   atomic_load(&both->fired) < atomic_load(&both->fired_max);
    if (!goes_on ||
        numaperf_rt_spawn(numaperf_worker_rt(worker), NUMAPERF_NODE_LOCAL, both_task, both) != 0)
        atomic_store(&both->tasks_done, true);
}

static struct runtime_box both_box(uint32_t backend, struct both *both)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    box.config.io_backend = backend;
    box.config.on_worker_start = both_open;
    box.config.on_worker_stop = both_close;
    box.config.data = both;
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    return box;
}

static void both_wait(const struct both *both)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(60);
    while (!atomic_load(&both->tasks_done) && test_now_ns() < limit_ns)
        test_sleep_ms(1);
    assert_true(atomic_load(&both->tasks_done));
}

static void io_goes_on_while_tasks_never_end(void **state)
{
    (void)state;
    for (size_t b = 0; b < 2; b++) {
        struct both both = {.fired_max = 20, .ran_max = TURNS_MAX * 50};
        struct runtime_box box = both_box(backends[b], &both);
        for (int i = 0; i < 100; i++) /* more than a turn takes */
            assert_int_equal(numaperf_rt_spawn(box.rt, 0, both_task, &both), 0);
        assert_int_equal(uv_async_send(&both.async), 0);
        both_wait(&both);
        assert_int_equal(atomic_load(&both.fired), 20);
        assert_true(atomic_load(&both.ran) < TURNS_MAX * 50);
        runtime_box_close(&box);
    }
}

static void tasks_go_on_while_io_never_ends(void **state)
{
    (void)state;
    for (size_t b = 0; b < 2; b++) {
        struct both both = {.fired_max = TURNS_MAX, .ran_max = 200};
        struct runtime_box box = both_box(backends[b], &both);
        assert_int_equal(uv_async_send(&both.async), 0);
        assert_int_equal(numaperf_rt_spawn(box.rt, 0, both_task, &both), 0);
        both_wait(&both);
        assert_int_equal(atomic_load(&both.ran), 200);
        assert_true(atomic_load(&both.fired) < TURNS_MAX);
        atomic_store(&both.fired_max, 0);
        runtime_box_close(&box);
    }
}

static void unknown_priority_is_refused_by_name(void **state)
{
    (void)state;
    struct runtime_box box = open_one_worker(NUMAPERF_IO_AUTO);
    atomic_int ran = 0;
    assert_int_equal(spawn_as(box.rt, 2, 0, runtime_count_task, &ran), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "priority 2"));
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&ran), 0);
    runtime_box_close(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(latency_goes_before_throughput_and_each_is_in_order),
        cmocka_unit_test(throughput_keeps_its_share_when_latency_never_ends),
        cmocka_unit_test(io_goes_on_while_tasks_never_end),
        cmocka_unit_test(tasks_go_on_while_io_never_ends),
        cmocka_unit_test(unknown_priority_is_refused_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
