/* SPDX-License-Identifier: MIT */
/*
 * Task memory. A task belongs to its submitter until it is pushed, to its queue until it is
 * popped, and to the worker that popped it until it is freed there.
 */
#include "sched/task.h"

#include <stdlib.h>

static struct numaperf__task *task_alloc(numaperf_task_fn fn, void *arg,
                                         numaperf_cancel_fn on_cancel)
{
    struct numaperf__task *task = malloc(sizeof(*task));
    if (task == NULL)
        return NULL;
    atomic_init(&task->next, NULL);
    task->fn = fn;
    task->arg = arg;
    task->on_cancel = on_cancel;
    task->home = 0;
    return task;
}

struct numaperf__task *numaperf__task_chain(numaperf_task_fn fn, void *const *args, size_t count,
                                            numaperf_cancel_fn on_cancel,
                                            struct numaperf__task **out_last)
{
    struct numaperf__task *first = NULL;
    struct numaperf__task *last = NULL;
    for (size_t i = 0; i < count; i++) {
        struct numaperf__task *task = task_alloc(fn, args[i], on_cancel);
        if (task == NULL) {
            numaperf__task_free_chain(first);
            return NULL;
        }
        if (last == NULL)
            first = task;
        else
            atomic_store_explicit(&last->next, task, memory_order_relaxed);
        last = task;
    }
    *out_last = last;
    return first;
}

void numaperf__task_free(struct numaperf__task *task)
{
    free(task);
}

void numaperf__task_free_chain(struct numaperf__task *first)
{
    while (first != NULL) {
        struct numaperf__task *next = atomic_load_explicit(&first->next, memory_order_relaxed);
        numaperf__task_free(first);
        first = next;
    }
}
