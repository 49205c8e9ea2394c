/* SPDX-License-Identifier: MIT */
/*
 * One inbox, several pushers and several poppers: every task comes out once, and each popper sees
 * the tasks of each pusher in the order they went in, through ring and spill. And a sleeper that
 * relies on the count of announcements alone is never left asleep with a task.
 */
#include "sched/inbox.h"

#include "support/stress.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static struct {
    atomic_int asleep;
    sem_t wake;
    atomic_uint taken;
    atomic_bool lost;
    uint32_t wanted;
} sleeper;

static void sleeper_sleep(void)
{
    atomic_store_explicit(&sleeper.asleep, 1, memory_order_seq_cst);
    bool stays = numaperf__inbox_has_work(&inbox);
    if (stays && atomic_exchange(&sleeper.asleep, 0) == 1)
        return;
    struct timespec limit;
    (void)clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += (time_t)(test_limit_ns(5) / 1000000000u);
    int rc = 0;
    do
        rc = sem_timedwait(&sleeper.wake, &limit);
    while (rc != 0 && errno == EINTR);
    if (rc != 0)
        atomic_store(&sleeper.lost, true);
}

static void *sleeper_main(void *arg)
{
    (void)arg;
    while (atomic_load(&sleeper.taken) < sleeper.wanted && !atomic_load(&sleeper.lost)) {
        struct numaperf__task task;
        if (numaperf__inbox_pop(&inbox, &task))
            (void)atomic_fetch_add(&sleeper.taken, 1);
        else
            sleeper_sleep();
    }
    return NULL;
}

static void sleeper_is_never_left_with_a_task(void **state)
{
    (void)state;
    uint64_t random = stress_seed();
    uint32_t count = (uint32_t)stress_count(300000);
    sleeper.wanted = count;
    atomic_store(&sleeper.taken, 0);
    atomic_store(&sleeper.asleep, 0);
    assert_int_equal(sem_init(&sleeper.wake, 0, 0), 0);
    memset(slots, 0, sizeof(slots));
    numaperf__inbox_init(&inbox, slots, PLACES, 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, sleeper_main, NULL), 0);
    for (uint32_t i = 0; i < count && !atomic_load(&sleeper.lost); i++) {
        /* One at a time, about when it falls asleep: nothing else would wake it. */
        for (uint64_t k = stress_below(&random, 400); k > 0; k--)
            numaperf__cpu_relax();
        push(0, i, 1);
        if (atomic_load_explicit(&sleeper.asleep, memory_order_seq_cst) == 1 &&
            atomic_exchange(&sleeper.asleep, 0) == 1)
            (void)sem_post(&sleeper.wake);
        while (atomic_load(&sleeper.taken) <= i && !atomic_load(&sleeper.lost))
            (void)sched_yield();
    }
    if (atomic_load(&sleeper.taken) == count && atomic_exchange(&sleeper.asleep, 0) == 1)
        (void)sem_post(&sleeper.wake);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(atomic_load(&sleeper.lost));
    numaperf__inbox_fini(&inbox);
    (void)sem_destroy(&sleeper.wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_comes_out_once_and_in_order),
        cmocka_unit_test(sleeper_is_never_left_with_a_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
