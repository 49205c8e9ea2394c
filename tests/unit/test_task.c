/* SPDX-License-Identifier: MIT */
/* Task memory: chains in order, and whole or not at all. */
#include "sched/task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static int mallocs_left = -1; /* until one fails; -1: never */
static int blocks_held;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    if (mallocs_left == 0)
        return NULL;
    if (mallocs_left > 0)
        mallocs_left--;
    blocks_held++;
    return __real_malloc(size);
}

void __real_free(void *block);
void __wrap_free(void *block);
void __wrap_free(void *block)
{
    blocks_held -= block != NULL;
    __real_free(block);
}

static void fn(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
}

static void cancel(numaperf_task_fn task, void *arg, void *data)
{
    (void)task;
    (void)arg;
    (void)data;
}

static struct numaperf__task *next_of(struct numaperf__task *task)
{
    return atomic_load_explicit(&task->next, memory_order_relaxed);
}

static void chain_is_linked_in_order_and_ends(void **state)
{
    (void)state;
    int values[5];
    void *args[5];
    for (int i = 0; i < 5; i++)
        args[i] = &values[i];
    for (size_t count = 1; count <= 5; count++) {
        struct numaperf__task *last = NULL;
        int held = blocks_held;
        struct numaperf__task *first = numaperf__task_chain(fn, args, count, cancel, &last);
        assert_non_null(first);
        struct numaperf__task *task = first;
        for (size_t i = 0; i < count; i++) {
            assert_ptr_equal(task->arg, args[i]);
            assert_true(task->fn == fn);
            assert_true(task->on_cancel == cancel);
            if (i + 1 == count)
                assert_ptr_equal(task, last);
            task = next_of(task);
        }
        assert_null(task);
        numaperf__task_free_chain(first);
        assert_int_equal(blocks_held, held);
    }
}

static void chain_without_memory_leaves_nothing(void **state)
{
    (void)state;
    void *args[5] = {NULL, NULL, NULL, NULL, NULL};
    for (int at = 0; at < 5; at++) {
        struct numaperf__task *const untouched = (struct numaperf__task *)&args;
        struct numaperf__task *last = untouched;
        int held = blocks_held;
        mallocs_left = at;
        struct numaperf__task *first = numaperf__task_chain(fn, args, 5, NULL, &last);
        mallocs_left = -1;
        assert_null(first);
        assert_ptr_equal(last, untouched);
        assert_int_equal(blocks_held, held);
    }
}

static void free_of_no_chain_is_allowed(void **state)
{
    (void)state;
    numaperf__task_free_chain(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chain_is_linked_in_order_and_ends),
        cmocka_unit_test(chain_without_memory_leaves_nothing),
        cmocka_unit_test(free_of_no_chain_is_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
