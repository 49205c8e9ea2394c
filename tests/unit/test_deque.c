/* SPDX-License-Identifier: MIT */
/* The deque on one thread: order, halves, growth and the way back, in every state of its ring. */
#include "sched/deque.h"

#include <numaperf/arena.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define PLACES 8

static struct numaperf__deque deque;
static struct numaperf__deque_slot slots[PLACES];
static numaperf_arena_t *arena;

static int box_init(void **state)
{
    (void)state;
    const numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    memset(slots, 0, sizeof(slots));
    numaperf__deque_init(&deque, slots, PLACES);
    return numaperf_arena_create(&config, &arena);
}

static int box_fini(void **state)
{
    (void)state;
    numaperf_arena_destroy(arena);
    return 0;
}

static void run(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
}

static void cancel(numaperf_task_fn fn, void *arg, void *data)
{
    (void)fn;
    (void)arg;
    (void)data;
}

/* Everything of a task is told by its number. */
static struct numaperf__task task_of(uintptr_t number)
{
    return (struct numaperf__task){.fn = run,
                                   .arg = (void *)number,
                                   .on_cancel = number % 2 == 0 ? cancel : NULL,
                                   .home = (uint32_t)number + 1,
                                   .stamp = (uint32_t)number + 2};
}

static void assert_task(const struct numaperf__task *task, uintptr_t number)
{
    const struct numaperf__task wanted = task_of(number);
    assert_ptr_equal(task->arg, wanted.arg);
    assert_true(task->fn == wanted.fn && task->on_cancel == wanted.on_cancel);
    assert_int_equal(task->home, wanted.home);
    assert_int_equal(task->stamp, wanted.stamp);
}

static void push(uintptr_t from, uintptr_t to)
{
    for (uintptr_t i = from; i < to; i++) {
        const struct numaperf__task task = task_of(i);
        assert_true(numaperf__deque_room_owner(&deque) >= 1);
        numaperf__deque_push_owner(&deque, &task, 1);
    }
}

static void pop(uintptr_t from, uintptr_t to)
{
    for (uintptr_t i = from; i < to; i++) {
        struct numaperf__task task;
        assert_true(numaperf__deque_pop_owner(&deque, &task));
        assert_task(&task, i);
    }
}

static void assert_empty(void)
{
    struct numaperf__task task;
    assert_false(numaperf__deque_has_work(&deque));
    assert_int_equal(numaperf__deque_depth(&deque), 0);
    assert_false(numaperf__deque_pop_owner(&deque, &task));
    assert_int_equal(numaperf__deque_steal_thief(&deque, &task, 1), 0);
}

static void owner_takes_the_oldest_first(void **state)
{
    (void)state;
    assert_empty();
    uintptr_t next = 0;
    for (uintptr_t depth = 1; depth <= PLACES; depth++) { /* every depth, at every place */
        for (int lap = 0; lap < PLACES; lap++) {
            push(next, next + depth);
            assert_true(numaperf__deque_has_work(&deque));
            assert_int_equal(numaperf__deque_depth(&deque), depth);
            pop(next, next + depth);
            next += depth;
            assert_empty();
        }
    }
}

static void thief_takes_the_older_half_rounded_up(void **state)
{
    (void)state;
    uintptr_t next = 0;
    for (uintptr_t depth = 1; depth <= PLACES; depth++) {
        for (size_t max = 1; max <= PLACES; max++) {
            push(next, next + depth);
            struct numaperf__task stolen[PLACES];
            size_t wanted = (depth + 1) / 2 < max ? (depth + 1) / 2 : max;
            assert_int_equal(numaperf__deque_steal_thief(&deque, stolen, max), wanted);
            for (size_t i = 0; i < wanted; i++)
                assert_task(&stolen[i], next + i);
            pop(next + wanted, next + depth);
            next += depth;
        }
    }
    assert_empty();
}

/* Homes 7 7 9 7 ...: who wants one home gets what lies before the first task of another. */
static void thief_of_one_home_takes_what_comes_first_of_it(void **state)
{
    (void)state;
    static const uint32_t homes[PLACES] = {7, 7, 9, 7, 7, 7, 7, 7};
    struct numaperf__task stolen[PLACES];
    for (uintptr_t i = 0; i < PLACES; i++) {
        struct numaperf__task task = task_of(i);
        task.home = homes[i];
        assert_true(numaperf__deque_room_owner(&deque) >= 1);
        numaperf__deque_push_owner(&deque, &task, 1);
    }
    uint64_t head = 0;
    uint64_t tail = 0;
    numaperf__deque_span(&deque, &head, &tail);
    assert_int_equal(numaperf__deque_home_at(&deque, head), 7);
    assert_int_equal(numaperf__deque_home_at(&deque, head + 2), 9);
    assert_int_equal(numaperf__deque_steal_home_thief(&deque, 9, stolen, PLACES), 0);
    assert_int_equal(numaperf__deque_steal_home_thief(&deque, 7, stolen, PLACES), 2);
    assert_int_equal((uintptr_t)stolen[1].arg, 1);
    assert_int_equal(numaperf__deque_steal_home_thief(&deque, 7, stolen, PLACES), 0);
    assert_int_equal(numaperf__deque_steal_home_thief(&deque, 9, stolen, PLACES), 1);
    /* Half of the five that are left, as without a wish. */
    assert_int_equal(numaperf__deque_steal_home_thief(&deque, 7, stolen, PLACES), 3);
    assert_int_equal((uintptr_t)stolen[2].arg, 5);
    assert_int_equal(numaperf__deque_steal_home_thief(&deque, 7, stolen, 0), 0);
    assert_int_equal(numaperf__deque_steal_home_thief(&deque, 7, stolen, 1), 1);
    struct numaperf__task last;
    assert_true(numaperf__deque_pop_owner(&deque, &last));
    assert_int_equal((uintptr_t)last.arg, PLACES - 1);
    assert_empty();
}

static void room_is_what_is_not_taken(void **state)
{
    (void)state;
    assert_int_equal(numaperf__deque_room_owner(&deque), PLACES);
    push(0, PLACES);
    assert_int_equal(numaperf__deque_room_owner(&deque), 0);
    struct numaperf__task stolen[PLACES];
    assert_int_equal(numaperf__deque_steal_thief(&deque, stolen, 3), 3);
    assert_int_equal(numaperf__deque_room_owner(&deque), 3);
    pop(3, PLACES);
}

static void growth_keeps_what_waits_in_order(void **state)
{
    (void)state;
    push(0, PLACES);
    pop(0, 3);
    push(PLACES, PLACES + 3); /* the ring has lapped */
    assert_int_equal(numaperf__deque_room_owner(&deque), 0);
    uintptr_t next = PLACES + 3;
    for (uint64_t places = 2 * PLACES; places <= 64 * PLACES; places *= 2) {
        assert_true(numaperf__deque_grow_owner(&deque, arena));
        assert_true(numaperf__deque_is_grown_owner(&deque));
        uint64_t room = numaperf__deque_room_owner(&deque);
        assert_int_equal(room, places / 2);
        push(next, next + room);
        next += room;
    }
    assert_int_equal(numaperf__deque_depth(&deque), 64 * PLACES);
    pop(3, next);
    assert_empty();
}

static void grown_one_goes_back_when_it_is_empty_and_grows_again(void **state)
{
    (void)state;
    uintptr_t next = 0;
    for (int round = 0; round < 5; round++) {
        push(next, next + PLACES);
        assert_false(numaperf__deque_is_grown_owner(&deque));
        assert_true(numaperf__deque_grow_owner(&deque, arena));
        push(next + PLACES, next + PLACES + 3);
        pop(next, next + PLACES + 2);
        push(next + PLACES + 3, next + PLACES + 4); /* one waits: it stays */
        assert_true(numaperf__deque_is_grown_owner(&deque));
        pop(next + PLACES + 2, next + PLACES + 4);
        next += PLACES + 4;
    }
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf_arena_stats(arena, &stats), 0);
    assert_int_equal(stats.alloc_count, 1); /* the second ring is kept */
}

static void growth_ends_at_its_limit_or_without_memory(void **state)
{
    (void)state;
    for (uint32_t level = 1; level < NUMAPERF__DEQUE_LEVELS; level++)
        assert_true(numaperf__deque_grow_owner(&deque, arena));
    assert_false(numaperf__deque_grow_owner(&deque, arena));
    assert_int_equal(numaperf__deque_room_owner(&deque), PLACES << (NUMAPERF__DEQUE_LEVELS - 1));

    numaperf_arena_destroy(arena);
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.chunk_bytes = 65536;
    config.limit_bytes = 65536;
    assert_int_equal(numaperf_arena_create(&config, &arena), 0);
    memset(slots, 0, sizeof(slots));
    numaperf__deque_init(&deque, slots, PLACES);
    uint64_t room = PLACES;
    while (numaperf__deque_grow_owner(&deque, arena))
        room *= 2;
    assert_true(room >= PLACES && room < 65536 / sizeof(slots[0]));
    assert_int_equal(numaperf__deque_room_owner(&deque), room); /* as before the failure */
    push(0, PLACES);
    pop(0, PLACES);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, box_init, box_fini)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(owner_takes_the_oldest_first),
        TEST(thief_takes_the_older_half_rounded_up),
        TEST(thief_of_one_home_takes_what_comes_first_of_it),
        TEST(room_is_what_is_not_taken),
        TEST(growth_keeps_what_waits_in_order),
        TEST(grown_one_goes_back_when_it_is_empty_and_grows_again),
        TEST(growth_ends_at_its_limit_or_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
