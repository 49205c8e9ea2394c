/* SPDX-License-Identifier: MIT */
/* The inbox on one thread: ring and spill, in every state that a push or a pop can leave them. */
#include "sched/inbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define PLACES 8
#define HOME 3

static struct numaperf__inbox inbox;
static struct numaperf__slot slots[PLACES];
static char args[1024]; /* a task's arg is the address of its number */

static int box_init(void **state)
{
    *state = &inbox;
    memset(slots, 0, sizeof(slots));
    numaperf__inbox_init(&inbox, slots, PLACES, HOME);
    return 0;
}

static int box_fini(void **state)
{
    (void)state;
    numaperf__inbox_fini(&inbox); /* asserts that it is empty */
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

static const struct numaperf__task like = {.fn = run, .on_cancel = cancel};

static void publish(const struct numaperf__ticket *ticket, int from)
{
    void *list[sizeof(args)];
    for (size_t i = 0; i < ticket->count; i++)
        list[i] = &args[(size_t)from + i];
    numaperf__inbox_publish(&inbox, ticket, &like, list);
}

/* Tasks `from` up to, not including, `to` in one submission. */
static void push(int from, int to)
{
    struct numaperf__ticket ticket;
    assert_int_equal(numaperf__inbox_reserve(&inbox, (size_t)(to - from), &ticket), 0);
    publish(&ticket, from);
}

static void assert_pops(int from, int to)
{
    struct numaperf__task task;
    for (int i = from; i < to; i++) {
        assert_true(numaperf__inbox_pop(&inbox, &task));
        assert_ptr_equal(task.fn, run);
        assert_ptr_equal(task.on_cancel, cancel);
        assert_int_equal(task.home, HOME);
        assert_int_equal((char *)task.arg - args, i);
    }
}

static void assert_empty(void)
{
    struct numaperf__task task;
    assert_false(numaperf__inbox_pop(&inbox, &task));
}

static void empty_inbox_has_nothing(void **state)
{
    (void)state;
    assert_empty();
    assert_false(numaperf__inbox_has_work(&inbox));
    assert_int_equal(numaperf__inbox_depth(&inbox), 0);
    assert_int_equal(numaperf__inbox_accepted(&inbox), 0);
    push(0, 1);
    assert_pops(0, 1);
    assert_empty();
    assert_false(numaperf__inbox_has_work(&inbox));
}

static void tasks_come_out_in_the_order_they_went_in_round_and_round(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i += PLACES - 1) {
        for (int k = 0; k < PLACES - 1; k++)
            push(i + k, i + k + 1);
        assert_int_equal(numaperf__inbox_depth(&inbox), PLACES - 1);
        assert_pops(i, i + PLACES - 1);
        assert_empty();
    }
}

static void a_full_ring_spills_and_keeps_the_order(void **state)
{
    (void)state;
    push(0, 3);
    push(3, 3 + PLACES); /* does not fit whole: waits whole */
    assert_false(numaperf__inbox_has_place(&inbox, 1));
    push(3 + PLACES, 4 + PLACES); /* would fit, but must not pass them */
    assert_int_equal(numaperf__inbox_depth(&inbox), 4 + PLACES);
    assert_int_equal(numaperf__inbox_accepted(&inbox), 4 + PLACES);
    assert_pops(0, 4);
    push(4 + PLACES, 5 + PLACES);
    assert_pops(4, 5 + PLACES);
    assert_empty();
    assert_int_equal(numaperf__inbox_accepted(&inbox), 5 + PLACES);
    assert_true(numaperf__inbox_has_place(&inbox, 1)); /* the ring is in use again */
    push(100, 101);
    assert_pops(100, 101);
}

static void a_submission_larger_than_the_ring_goes_through(void **state)
{
    (void)state;
    push(0, 1000);
    assert_int_equal(numaperf__inbox_depth(&inbox), 1000);
    assert_pops(0, 999);
    push(1000, 1001);
    assert_pops(999, 1001);
    assert_empty();
    assert_false(numaperf__inbox_has_work(&inbox));
}

static void announced_task_counts_as_work_before_it_is_there(void **state)
{
    (void)state;
    for (int spilled = 0; spilled < 2; spilled++) {
        struct numaperf__ticket ticket;
        uint64_t accepted = numaperf__inbox_accepted(&inbox);
        size_t count = spilled ? PLACES + 1 : 2;
        assert_int_equal(numaperf__inbox_reserve(&inbox, count, &ticket), 0);
        assert_true(numaperf__inbox_has_work(&inbox));
        assert_int_equal(numaperf__inbox_depth(&inbox), count);
        assert_int_equal(numaperf__inbox_accepted(&inbox), accepted + count);
        assert_empty();
        assert_true(numaperf__inbox_has_work(&inbox));
        publish(&ticket, 0);
        assert_pops(0, (int)count);
        assert_false(numaperf__inbox_has_work(&inbox));
    }
}

/* A pusher stopped between its two steps: pops wait for it, and lose nothing. */
static void a_place_not_filled_hides_later_tasks(void **state)
{
    (void)state;
    struct numaperf__ticket ticket;
    push(0, 2);
    assert_int_equal(numaperf__inbox_reserve(&inbox, 1, &ticket), 0);
    push(3, 4);
    assert_pops(0, 2);
    assert_empty();
    assert_true(numaperf__inbox_has_work(&inbox));
    publish(&ticket, 2);
    assert_pops(2, 4);
    assert_empty();
}

/* The same one lap on: what the slot held before must not come out again. */
static void a_place_of_the_lap_before_is_not_taken_for_a_task(void **state)
{
    (void)state;
    struct numaperf__ticket ticket;
    push(0, PLACES - 1);
    assert_pops(0, PLACES - 1);
    push(0, 1);
    assert_pops(0, 1);
    assert_int_equal(numaperf__inbox_reserve(&inbox, 2, &ticket), 0);
    assert_empty();
    publish(&ticket, 10);
    assert_pops(10, 12);
    assert_empty();
}

static void what_is_taken_back_is_only_counted(void **state)
{
    (void)state;
    struct numaperf__ticket ring;
    struct numaperf__ticket spill;
    struct numaperf__task task;
    push(0, 1);
    assert_int_equal(numaperf__inbox_reserve(&inbox, 2, &ring), 0);
    push(1, 2);
    assert_int_equal(numaperf__inbox_reserve(&inbox, PLACES, &spill), 0);
    numaperf__inbox_retract(&inbox, &spill);
    numaperf__inbox_retract(&inbox, &ring);
    assert_pops(0, 1);
    for (int i = 0; i < 2; i++) {
        assert_true(numaperf__inbox_pop(&inbox, &task));
        assert_null(task.fn);
    }
    assert_pops(1, 2);
    assert_empty();
    assert_int_equal(numaperf__inbox_accepted(&inbox), 4);
    assert_int_equal(numaperf__inbox_reserve(&inbox, 1, &ring), 0);
    numaperf__inbox_retract(&inbox, &ring); /* left to fini */
}

static void held_mutex_keeps_the_spill_for_later(void **state)
{
    (void)state;
    push(0, PLACES + 1);
    assert_int_equal(pthread_mutex_lock(&inbox.mutex), 0);
    assert_empty();
    assert_true(numaperf__inbox_has_work(&inbox));
    assert_int_equal(pthread_mutex_unlock(&inbox.mutex), 0);
    assert_pops(0, PLACES + 1);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, box_init, box_fini)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(empty_inbox_has_nothing),
        CASE(tasks_come_out_in_the_order_they_went_in_round_and_round),
        CASE(a_full_ring_spills_and_keeps_the_order),
        CASE(a_submission_larger_than_the_ring_goes_through),
        CASE(announced_task_counts_as_work_before_it_is_there),
        CASE(a_place_not_filled_hides_later_tasks),
        CASE(a_place_of_the_lap_before_is_not_taken_for_a_task),
        CASE(what_is_taken_back_is_only_counted),
        CASE(held_mutex_keeps_the_spill_for_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
