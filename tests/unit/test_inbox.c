/* SPDX-License-Identifier: MIT */
/* The inbox on one thread: every state that a push or a pop can leave it in. */
#include "sched/inbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TASKS 64

struct box {
    struct numaperf__inbox inbox;
    struct numaperf__task tasks[TASKS];
};

static struct box box;

static int box_init(void **state)
{
    memset(&box, 0, sizeof(box));
    numaperf__inbox_init(&box.inbox);
    *state = &box;
    return 0;
}

static int box_fini(void **state)
{
    (void)state;
    numaperf__inbox_fini(&box.inbox); /* asserts that it is empty */
    return 0;
}

/* Tasks `from` up to, not including, `to` as one chain. */
static void push(int from, int to)
{
    for (int i = from; i < to; i++)
        atomic_store(&box.tasks[i].next, i + 1 < to ? &box.tasks[i + 1] : NULL);
    numaperf__inbox_announce(&box.inbox, (uint64_t)(to - from));
    numaperf__inbox_push_mpsc(&box.inbox, &box.tasks[from], &box.tasks[to - 1]);
}

static void assert_pops(int from, int to)
{
    for (int i = from; i < to; i++)
        assert_ptr_equal(numaperf__inbox_pop(&box.inbox), &box.tasks[i]);
}

static void empty_inbox_has_nothing(void **state)
{
    (void)state;
    assert_null(numaperf__inbox_pop(&box.inbox));
    assert_false(numaperf__inbox_has_work(&box.inbox));
    assert_int_equal(numaperf__inbox_depth(&box.inbox), 0);
    assert_int_equal(numaperf__inbox_accepted(&box.inbox), 0);
    push(0, 1);
    assert_pops(0, 1);
    assert_null(numaperf__inbox_pop(&box.inbox));
    assert_false(numaperf__inbox_has_work(&box.inbox));
}

static void tasks_come_out_in_the_order_they_went_in(void **state)
{
    (void)state;
    for (int i = 0; i < TASKS; i++)
        push(i, i + 1);
    assert_int_equal(numaperf__inbox_depth(&box.inbox), TASKS);
    assert_pops(0, TASKS);
    assert_int_equal(numaperf__inbox_accepted(&box.inbox), TASKS);
}

static void chains_and_single_tasks_mix(void **state)
{
    (void)state;
    push(0, 5);
    push(5, 6);
    assert_pops(0, 3);
    push(6, 20);
    assert_pops(3, 20);
    /* The last task leaves behind the stub: again and again. */
    for (int i = 20; i < TASKS; i++) {
        push(i, i + 1);
        assert_pops(i, i + 1);
        assert_null(numaperf__inbox_pop(&box.inbox));
    }
}

static void announced_task_counts_as_work_before_it_is_there(void **state)
{
    (void)state;
    numaperf__inbox_announce(&box.inbox, 1);
    assert_true(numaperf__inbox_has_work(&box.inbox));
    assert_int_equal(numaperf__inbox_depth(&box.inbox), 1);
    assert_null(numaperf__inbox_pop(&box.inbox));
    assert_true(numaperf__inbox_has_work(&box.inbox));
    numaperf__inbox_retract(&box.inbox, 1);
    assert_false(numaperf__inbox_has_work(&box.inbox));
    assert_int_equal(numaperf__inbox_depth(&box.inbox), 0);
    assert_int_equal(numaperf__inbox_accepted(&box.inbox), 0);
}

/* A pusher stopped between its two steps: pops must wait for the link, and lose nothing. */
static void cut_chain_hides_later_tasks_until_it_is_linked(void **state)
{
    (void)state;
    push(0, 2);
    numaperf__inbox_announce(&box.inbox, 1);
    struct numaperf__task *previous = atomic_exchange(&box.inbox.head, &box.tasks[2]);
    assert_ptr_equal(previous, &box.tasks[1]);
    push(3, 4); /* behind the one that is not linked */

    assert_pops(0, 1);
    assert_null(numaperf__inbox_pop(&box.inbox)); /* task 1 is the last that is linked */
    assert_null(numaperf__inbox_pop(&box.inbox));
    assert_true(numaperf__inbox_has_work(&box.inbox));
    atomic_store(&previous->next, &box.tasks[2]);
    assert_pops(1, 4);
    assert_null(numaperf__inbox_pop(&box.inbox));
}

/* The same in an empty inbox: the stub is what is not linked. */
static void cut_behind_the_stub_is_waited_for(void **state)
{
    (void)state;
    numaperf__inbox_announce(&box.inbox, 1);
    struct numaperf__task *previous = atomic_exchange(&box.inbox.head, &box.tasks[0]);
    assert_null(numaperf__inbox_pop(&box.inbox));
    atomic_store(&previous->next, &box.tasks[0]);
    assert_pops(0, 1);
}

static void held_token_keeps_others_out(void **state)
{
    (void)state;
    push(0, 1);
    atomic_store(&box.inbox.token, true);
    assert_null(numaperf__inbox_pop(&box.inbox));
    assert_true(atomic_load(&box.inbox.token)); /* still the holder's */
    assert_true(numaperf__inbox_has_work(&box.inbox));
    atomic_store(&box.inbox.token, false);
    assert_pops(0, 1);
    assert_false(atomic_load(&box.inbox.token));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, box_init, box_fini)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(empty_inbox_has_nothing),
        CASE(tasks_come_out_in_the_order_they_went_in),
        CASE(chains_and_single_tasks_mix),
        CASE(announced_task_counts_as_work_before_it_is_there),
        CASE(cut_chain_hides_later_tasks_until_it_is_linked),
        CASE(cut_behind_the_stub_is_waited_for),
        CASE(held_token_keeps_others_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
