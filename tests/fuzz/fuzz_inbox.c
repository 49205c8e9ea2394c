/* SPDX-License-Identifier: MIT */
/*
 * Any sequence of pushes, pops and places that are taken back, on one thread and a ring of a few
 * places, with the spill's mutex held now and then, against an array that is a FIFO in the obvious
 * way. Places taken back in the ring are tasks without a function in the model, too.
 */
#include "sched/inbox.h"

#include "fuzz.h"

#include <string.h>

#define PLACES 8
#define TASKS 4096

struct model {
    struct numaperf__inbox inbox;
    struct numaperf__slot slots[PLACES];
    void *fifo[TASKS]; /* NULL: one that was taken back */
    size_t first;
    size_t count;
    uint64_t accepted;
    uintptr_t next; /* argument of the next task */
    bool mutex_held;
};

static void run(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
}

static void model_append(struct model *model, void *arg)
{
    check(model->count < TASKS);
    model->fifo[(model->first + model->count++) % TASKS] = arg;
}

static void model_push(struct model *model, size_t count)
{
    static const struct numaperf__task like = {.fn = run};
    struct numaperf__ticket ticket;
    void *args[64];
    /* One that would spill needs the mutex. */
    if (count == 0 || model->mutex_held || model->count + count > TASKS)
        return;
    for (size_t i = 0; i < count; i++) {
        args[i] = (void *)++model->next;
        model_append(model, args[i]);
    }
    check(numaperf__inbox_reserve(&model->inbox, count, &ticket) == 0);
    numaperf__inbox_publish(&model->inbox, &ticket, &like, args);
    model->accepted += count;
}

static void model_take_back(struct model *model, size_t count)
{
    struct numaperf__ticket ticket;
    if (count == 0 || model->count + count > TASKS)
        return;
    check(numaperf__inbox_reserve(&model->inbox, count, &ticket) == 0);
    check(numaperf__inbox_depth(&model->inbox) == model->count + count);
    if (ticket.spill == NULL) {
        for (size_t i = 0; i < count; i++)
            model_append(model, NULL);
        model->accepted += count;
    }
    numaperf__inbox_retract(&model->inbox, &ticket);
}

static void model_pop(struct model *model)
{
    struct numaperf__task task;
    bool is_spilled = atomic_load(&model->inbox.spilled) == model->count;
    bool taken = numaperf__inbox_pop(&model->inbox, &task);
    /* One thread: a task is out of reach only where the mutex is in the way. */
    check(taken == (model->count > 0 && !(model->mutex_held && is_spilled)));
    if (!taken)
        return;
    void *arg = model->fifo[model->first];
    model->first = (model->first + 1) % TASKS;
    model->count--;
    check(arg == NULL ? task.fn == NULL : task.fn == run && task.arg == arg);
}

static void model_hold(struct model *model)
{
    if (model->mutex_held)
        check(pthread_mutex_unlock(&model->inbox.mutex) == 0);
    else
        check(pthread_mutex_lock(&model->inbox.mutex) == 0);
    model->mutex_held = !model->mutex_held;
}

static void model_step(struct model *model, uint8_t op)
{
    switch (op & 3) {
    case 0:
        model_push(model, op >> 2);
        break;
    case 1:
        for (int i = 0; i <= op >> 2; i++)
            model_pop(model);
        break;
    case 2:
        model_take_back(model, op >> 4);
        break;
    default:
        model_hold(model);
        break;
    }
    check(numaperf__inbox_depth(&model->inbox) == model->count);
    check(numaperf__inbox_has_work(&model->inbox) == (model->count > 0));
    check(numaperf__inbox_accepted(&model->inbox) == model->accepted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    memset(&model, 0, sizeof(model));
    numaperf__inbox_init(&model.inbox, model.slots, PLACES, 0);
    for (size_t i = 0; i < size; i++)
        model_step(&model, data[i]);
    if (model.mutex_held)
        model_hold(&model);
    while (model.count > 0)
        model_pop(&model);
    struct numaperf__task task;
    check(!numaperf__inbox_pop(&model.inbox, &task));
    numaperf__inbox_fini(&model.inbox);
    return 0;
}
