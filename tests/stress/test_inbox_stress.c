/* SPDX-License-Identifier: MIT */
/*
 * One inbox, several pushers and several poppers: every task comes out once, and each popper sees
 * the tasks of each pusher in the order they went in, through ring and spill. And a sleeper that
 * relies on the count of announcements alone is never left asleep with a task.
 */
#include "sched/inbox.h"

#include "support/sleeper.h"
#include "support/stress.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PUSHERS 3
#define POPPERS 3
#define CHAIN_MAX 7
#define PLACES 16      /* few, so that the ring laps and spills all the time */
#define NUMBER_BITS 24 /* of an arg: the pusher above, its task's number below */

static struct numaperf__inbox inbox;
static struct numaperf__slot slots[PLACES];
static atomic_uint taken_back;
static uint32_t items_each;
static atomic_uint popped;
static atomic_uint faults;
static atomic_uchar *seen[PUSHERS]; /* by number: how often it came out */

struct pusher {
    pthread_t thread;
    uint32_t index;
    uint64_t random;
};

static void run(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
}

static void push(uint32_t pusher, uint32_t from, uint32_t count)
{
    static const struct numaperf__task like = {.fn = run};
    struct numaperf__ticket ticket;
    void *args[CHAIN_MAX];
    for (uint32_t i = 0; i < count; i++)
        args[i] = (void *)((uintptr_t)pusher << NUMBER_BITS | (from + i));
    if (numaperf__inbox_reserve(&inbox, count, &ticket) != 0)
        abort();
    numaperf__inbox_publish(&inbox, &ticket, &like, args);
}

static void push_and_take_back(void)
{
    struct numaperf__ticket ticket;
    if (numaperf__inbox_reserve(&inbox, 2, &ticket) != 0)
        abort();
    if (ticket.spill == NULL)
        (void)atomic_fetch_add(&taken_back, 2); /* they come out as tasks without a function */
    numaperf__inbox_retract(&inbox, &ticket);
}

static void *pusher_main(void *arg)
{
    struct pusher *pusher = arg;
    uint32_t at = 0;
    while (at < items_each) {
        uint32_t count = 1 + (uint32_t)stress_below(&pusher->random, CHAIN_MAX);
        count = count < items_each - at ? count : items_each - at;
        push(pusher->index, at, count);
        at += count;
        if (stress_below(&pusher->random, 64) == 0)
            (void)sched_yield(); /* so that it runs empty now and then */
        if (stress_below(&pusher->random, 128) == 0)
            push_and_take_back();
    }
    return NULL;
}

static void *popper_main(void *arg)
{
    (void)arg;
    int64_t last[PUSHERS];
    uint32_t idle = 0;
    struct numaperf__task task;
    for (int i = 0; i < PUSHERS; i++)
        last[i] = -1;
    while (atomic_load_explicit(&popped, memory_order_relaxed) < PUSHERS * items_each) {
        if (!numaperf__inbox_pop(&inbox, &task)) {
            if (++idle % 64 == 0)
                (void)sched_yield();
            continue; /* at once, mostly: they should meet */
        }
        if (task.fn == NULL) {
            (void)atomic_fetch_sub(&taken_back, 1);
            continue;
        }
        uint32_t pusher = (uint32_t)((uintptr_t)task.arg >> NUMBER_BITS);
        uint32_t number = (uint32_t)((uintptr_t)task.arg & ((1u << NUMBER_BITS) - 1));
        if (pusher >= PUSHERS || (int64_t)number <= last[pusher])
            (void)atomic_fetch_add(&faults, 1);
        else
            last[pusher] = number;
        /* Seen twice is a fault, whoever sees it. */
        if (pusher < PUSHERS && atomic_fetch_add(&seen[pusher][number], 1) != 0)
            (void)atomic_fetch_add(&faults, 1);
        (void)atomic_fetch_add(&popped, 1);
    }
    return NULL;
}

static void every_task_comes_out_once_and_in_order(void **state)
{
    (void)state;
    uint64_t seed = stress_seed();
    items_each = TEST_SANITIZED ? 100000 : (uint32_t)stress_count(1000000);
    atomic_store(&popped, 0);
    atomic_store(&taken_back, 0);
    memset(slots, 0, sizeof(slots));
    numaperf__inbox_init(&inbox, slots, PLACES, 0);
    for (int i = 0; i < PUSHERS; i++) {
        seen[i] = calloc(items_each, sizeof(*seen[i]));
        assert_non_null(seen[i]);
    }
    struct pusher pushers[PUSHERS];
    pthread_t poppers[POPPERS];
    for (int i = 0; i < POPPERS; i++)
        assert_int_equal(pthread_create(&poppers[i], NULL, popper_main, NULL), 0);
    for (uint32_t i = 0; i < PUSHERS; i++) {
        pushers[i].index = i;
        pushers[i].random = stress_random(&seed);
        assert_int_equal(pthread_create(&pushers[i].thread, NULL, pusher_main, &pushers[i]), 0);
    }
    for (int i = 0; i < PUSHERS; i++)
        assert_int_equal(pthread_join(pushers[i].thread, NULL), 0);
    for (int i = 0; i < POPPERS; i++)
        assert_int_equal(pthread_join(poppers[i], NULL), 0);
    assert_int_equal(atomic_load(&faults), 0);
    assert_int_equal(atomic_load(&popped), PUSHERS * items_each);
    struct numaperf__task task;
    while (numaperf__inbox_pop(&inbox, &task)) {
        assert_null(task.fn);
        (void)atomic_fetch_sub(&taken_back, 1);
    }
    assert_int_equal(atomic_load(&taken_back), 0);
    assert_false(numaperf__inbox_has_work(&inbox));
    numaperf__inbox_fini(&inbox);
    for (int i = 0; i < PUSHERS; i++)
        free(seen[i]);
}

/* ---- a sleeper ---- */

static void sleeper_push(uint32_t number)
{
    push(0, number, 1);
}

static bool sleeper_take(void)
{
    struct numaperf__task task;
    return numaperf__inbox_pop(&inbox, &task);
}

static bool sleeper_has_work(void)
{
    return numaperf__inbox_has_work(&inbox);
}

static void sleeper_is_never_left_with_a_task(void **state)
{
    (void)state;
    static const struct sleeper_queue queue = {sleeper_push, sleeper_take, sleeper_has_work};
    memset(slots, 0, sizeof(slots));
    numaperf__inbox_init(&inbox, slots, PLACES, 0);
    assert_true(sleeper_survives(&queue, (uint32_t)stress_count(300000), stress_seed()));
    numaperf__inbox_fini(&inbox);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_comes_out_once_and_in_order),
        cmocka_unit_test(sleeper_is_never_left_with_a_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
