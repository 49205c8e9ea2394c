/* SPDX-License-Identifier: MIT */
/*
 * Any sequence of pushes, pops, thefts and growth, on one thread and a ring of a few places,
 * against an array that is a FIFO in the obvious way.
 */
#include "sched/deque.h"

#include <numaperf/arena.h>

#include "fuzz.h"

#include <string.h>

#define PLACES 4
#define TASKS 4096
#define BATCH_MAX 64

struct model {
    struct numaperf__deque deque;
    struct numaperf__deque_slot slots[PLACES];
    numaperf_arena_t *arena;
    size_t first; /* numbers of the tasks that wait */
    size_t next;
};

static void run(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
}

static void model_check(const struct model *model, const struct numaperf__task *task, size_t number)
{
    (void)model;
    check(task->fn == run && task->on_cancel == NULL && task->arg == (void *)number);
    check(task->home == (uint32_t)number && task->stamp == (uint32_t)~number);
}

static void model_push(struct model *model, size_t count)
{
    struct numaperf__task tasks[BATCH_MAX];
    uint64_t room = numaperf__deque_room_owner(&model->deque);
    check(model->next - model->first + room <= (uint64_t)PLACES << (NUMAPERF__DEQUE_LEVELS - 1));
    count = count < room ? count : (size_t)room;
    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        size_t number = model->next++;
        tasks[i] = (struct numaperf__task){
            .fn = run, .arg = (void *)number, .home = (uint32_t)number, .stamp = (uint32_t)~number};
    }
    numaperf__deque_push_owner(&model->deque, tasks, count);
}

static void model_pop(struct model *model, size_t count)
{
    for (; count > 0; count--) {
        struct numaperf__task task;
        bool taken = numaperf__deque_pop_owner(&model->deque, &task);
        check(taken == (model->first < model->next));
        if (taken)
            model_check(model, &task, model->first++);
    }
}

static void model_steal(struct model *model, size_t max)
{
    struct numaperf__task tasks[BATCH_MAX];
    size_t waiting = model->next - model->first;
    size_t wanted = waiting - waiting / 2 < max ? waiting - waiting / 2 : max;
    check(numaperf__deque_steal_thief(&model->deque, tasks, max) == wanted);
    for (size_t i = 0; i < wanted; i++)
        model_check(model, &tasks[i], model->first++);
}

static void model_grow(struct model *model)
{
    uint64_t before = numaperf__deque_room_owner(&model->deque);
    if (numaperf__deque_grow_owner(&model->deque, model->arena))
        check(numaperf__deque_room_owner(&model->deque) > before);
}

static void model_step(struct model *model, uint8_t op)
{
    switch (op & 3) {
    case 0:
        model_push(model, op >> 2);
        break;
    case 1:
        model_pop(model, op >> 2);
        break;
    case 2:
        model_steal(model, (op >> 2) + 1);
        break;
    default:
        model_grow(model);
        break;
    }
    check(numaperf__deque_depth(&model->deque) == model->next - model->first);
    check(numaperf__deque_has_work(&model->deque) == (model->next > model->first));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct model model;
    memset(&model, 0, sizeof(model));
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.chunk_bytes = 65536;
    check(numaperf_arena_create(&config, &model.arena) == 0);
    numaperf__deque_init(&model.deque, model.slots, PLACES);
    for (size_t i = 0; i < size && model.next < TASKS; i++)
        model_step(&model, data[i]);
    model_pop(&model, model.next - model.first + 1);
    numaperf_arena_destroy(model.arena);
    return 0;
}
