/* SPDX-License-Identifier: MIT */
/*
 * Any sequence of announce, push, retract and pop on one thread, with the token taken away now and
 * then, against an array that is a FIFO in the obvious way.
 */
#include "sched/inbox.h"

#include "fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TASKS 256

struct model {
    struct numaperf__inbox inbox;
    struct numaperf__task tasks[TASKS];
    struct numaperf__task *fifo[TASKS];
    struct numaperf__task *unused[TASKS];
    size_t first;
    size_t count; /* in the FIFO */
    size_t unused_count;
    uint64_t accepted;
    bool token_held;
};

static void model_push(struct model *model, size_t count)
{
    if (count == 0 || count > model->unused_count)
        return;
    struct numaperf__task *chain[TASKS];
    for (size_t i = 0; i < count; i++) {
        chain[i] = model->unused[--model->unused_count];
        model->fifo[(model->first + model->count++) % TASKS] = chain[i];
    }
    for (size_t i = 0; i < count; i++)
        atomic_store(&chain[i]->next, i + 1 < count ? chain[i + 1] : NULL);
    numaperf__inbox_announce(&model->inbox, count);
    numaperf__inbox_push_mpsc(&model->inbox, chain[0], chain[count - 1]);
    model->accepted += count;
}

static void model_pop(struct model *model)
{
    struct numaperf__task *task = numaperf__inbox_pop(&model->inbox);
    if (model->token_held || model->count == 0) {
        check(task == NULL);
        return;
    }
    check(task == model->fifo[model->first]); /* one thread: nothing is ever not linked yet */
    model->first = (model->first + 1) % TASKS;
    model->count--;
    model->unused[model->unused_count++] = task;
    memset(task, 0x5a, sizeof(*task)); /* who popped it may do with it what it likes */
}

static void model_step(struct model *model, uint8_t op)
{
    switch (op & 3) {
    case 0:
        model_push(model, op >> 2);
        break;
    case 1:
        model_pop(model);
        break;
    case 2:
        numaperf__inbox_announce(&model->inbox, op >> 2);
        check(numaperf__inbox_depth(&model->inbox) == model->count + (op >> 2));
        numaperf__inbox_retract(&model->inbox, op >> 2);
        break;
    default:
        model->token_held = !model->token_held;
        atomic_store(&model->inbox.token, model->token_held);
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
    numaperf__inbox_init(&model.inbox);
    for (size_t i = 0; i < TASKS; i++)
        model.unused[model.unused_count++] = &model.tasks[i];
    for (size_t i = 0; i < size; i++)
        model_step(&model, data[i]);
    if (model.token_held)
        model_step(&model, 3);
    while (model.count > 0)
        model_pop(&model);
    check(numaperf__inbox_pop(&model.inbox) == NULL);
    numaperf__inbox_fini(&model.inbox);
    return 0;
}
