/* SPDX-License-Identifier: MIT */
/*
 * One deque, its owner and several thieves, while it grows and goes back all the time: every task
 * comes out once, and each thief sees those it takes in the order they went in. And a sleeper that
 * relies on numaperf__deque_has_work() alone is never left asleep with a task.
 */
#include "sched/deque.h"

#include <numaperf/arena.h>

#include "support/sleeper.h"
#include "support/stress.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define THIEVES 3
#define PLACES 8 /* few, so that it grows and laps all the time */
#define BATCH_MAX 16

static struct numaperf__deque deque;
static struct numaperf__deque_slot slots[PLACES];
static uint32_t items;
static atomic_uint taken;
static atomic_uint faults;
static atomic_uchar *seen; /* by number: how often it came out */

static void run(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
}

static struct numaperf__task task_of(uint32_t number)
{
    return (struct numaperf__task){
        .fn = run, .arg = (void *)(uintptr_t)number, .home = number, .stamp = ~number};
}

/* `last` is the number that the same thread took before, plus one. */
static void note(const struct numaperf__task *task, uint32_t *last)
{
    uint32_t number = (uint32_t)(uintptr_t)task->arg;
    bool whole = task->fn == run && task->home == number && task->stamp == ~number;
    if (!whole || number >= items || number < *last || atomic_fetch_add(&seen[number], 1) != 0)
        (void)atomic_fetch_add(&faults, 1);
    *last = number + 1;
    (void)atomic_fetch_add(&taken, 1);
}

static void *thief_main(void *arg)
{
    uint64_t random = *(uint64_t *)arg;
    uint32_t last = 0;
    uint32_t idle = 0;
    while (atomic_load_explicit(&taken, memory_order_relaxed) < items) {
        struct numaperf__task tasks[BATCH_MAX];
        size_t max = 1 + (size_t)stress_below(&random, BATCH_MAX);
        size_t count = numaperf__deque_steal_thief(&deque, tasks, max);
        if (count > max)
            abort();
        for (size_t i = 0; i < count; i++)
            note(&tasks[i], &last);
        if (count == 0 && ++idle % 64 == 0)
            (void)sched_yield();
    }
    return NULL;
}

static void owner_push(uint32_t from, uint32_t count, numaperf_arena_t *arena)
{
    struct numaperf__task tasks[BATCH_MAX];
    for (uint32_t i = 0; i < count; i++)
        tasks[i] = task_of(from + i);
    while (numaperf__deque_room_owner(&deque) < count) {
        if (!numaperf__deque_grow_owner(&deque, arena))
            abort();
    }
    numaperf__deque_push_owner(&deque, tasks, count);
}

/* Bursts, then as many pops as chance has it, now and then all: so that it grows and goes back. */
static void owner_run(uint64_t *random, numaperf_arena_t *arena)
{
    uint32_t last = 0;
    uint32_t at = 0;
    struct numaperf__task task;
    while (at < items) {
        for (uint64_t burst = stress_below(random, 8); burst > 0 && at < items; burst--) {
            uint32_t count = 1 + (uint32_t)stress_below(random, BATCH_MAX);
            count = count < items - at ? count : items - at;
            owner_push(at, count, arena);
            at += count;
        }
        uint64_t pops = stress_below(random, 4) == 0 ? UINT64_MAX : stress_below(random, 64);
        while (pops-- > 0 && numaperf__deque_pop_owner(&deque, &task))
            note(&task, &last);
        if (stress_below(random, 64) == 0)
            (void)sched_yield();
    }
    while (atomic_load(&taken) < items && numaperf__deque_pop_owner(&deque, &task))
        note(&task, &last);
}

static void every_task_comes_out_once_and_in_order(void **state)
{
    (void)state;
    uint64_t seed = stress_seed();
    items = TEST_SANITIZED ? 200000 : (uint32_t)stress_count(3000000);
    atomic_store(&taken, 0);
    atomic_store(&faults, 0);
    memset(slots, 0, sizeof(slots));
    numaperf__deque_init(&deque, slots, PLACES);
    seen = calloc(items, sizeof(*seen));
    assert_non_null(seen);
    numaperf_arena_t *arena = NULL;
    const numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    assert_int_equal(numaperf_arena_create(&config, &arena), 0);
    pthread_t thieves[THIEVES];
    uint64_t seeds[THIEVES];
    for (int i = 0; i < THIEVES; i++) {
        seeds[i] = stress_random(&seed);
        assert_int_equal(pthread_create(&thieves[i], NULL, thief_main, &seeds[i]), 0);
    }
    owner_run(&seed, arena);
    for (int i = 0; i < THIEVES; i++)
        assert_int_equal(pthread_join(thieves[i], NULL), 0);
    assert_int_equal(atomic_load(&faults), 0);
    assert_int_equal(atomic_load(&taken), items);
    assert_false(numaperf__deque_has_work(&deque));
    numaperf_arena_destroy(arena);
    free(seen);
}

/* ---- a sleeper ---- */

static void sleeper_push(uint32_t number)
{
    const struct numaperf__task task = task_of(number);
    if (numaperf__deque_room_owner(&deque) == 0)
        abort();
    numaperf__deque_push_owner(&deque, &task, 1);
}

static bool sleeper_take(void)
{
    struct numaperf__task task;
    return numaperf__deque_steal_thief(&deque, &task, 1) == 1;
}

static bool sleeper_has_work(void)
{
    return numaperf__deque_has_work(&deque);
}

static void sleeper_is_never_left_with_a_task(void **state)
{
    (void)state;
    static const struct sleeper_queue queue = {sleeper_push, sleeper_take, sleeper_has_work};
    memset(slots, 0, sizeof(slots));
    numaperf__deque_init(&deque, slots, PLACES);
    assert_true(sleeper_survives(&queue, (uint32_t)stress_count(300000), stress_seed()));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_comes_out_once_and_in_order),
        cmocka_unit_test(sleeper_is_never_left_with_a_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
