/* SPDX-License-Identifier: MIT */
/*
 * The queue of the runtime's workers by itself, by its internal header: a task of four words is
 * what goes through it, of which one is the item.
 */
#include "peers/peer.h"
#include "sched/deque.h"
#include "steal.h"

#include <stdio.h>
#include <stdlib.h>

struct queue {
    struct numaperf__deque deque;
    _Alignas(128) struct numaperf__deque_slot slots[BENCH_STEAL_ROOM];
};

/* The library's own is not for programs that use it; the queue's file is a part of this one. */
_Noreturn void numaperf__assert_failed(const char *expression, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: %s does not hold\n", file, line, expression);
    abort();
}

static void *queue_create(void)
{
    struct queue *queue = aligned_alloc(_Alignof(struct queue), sizeof(*queue));
    if (queue != NULL)
        numaperf__deque_init(&queue->deque, queue->slots, BENCH_STEAL_ROOM);
    return queue;
}

static void queue_push_owner(void *arg, uint64_t first, size_t count)
{
    struct queue *queue = arg;
    struct numaperf__task tasks[BENCH_STEAL_BATCH];
    for (size_t i = 0; i < count; i++)
        tasks[i] = (struct numaperf__task){.arg = (void *)(uintptr_t)(first + i)};
    /* As the runtime does; there is always room, but the queue has to look how much. */
    if (numaperf__deque_room_owner(&queue->deque) < count)
        abort();
    numaperf__deque_push_owner(&queue->deque, tasks, count);
}

static uint64_t queue_pop_owner(void *arg)
{
    struct queue *queue = arg;
    struct numaperf__task task;
    return numaperf__deque_pop_owner(&queue->deque, &task) ? (uint64_t)(uintptr_t)task.arg : 0;
}

static size_t queue_steal_thief(void *arg, uint64_t *out_items)
{
    struct queue *queue = arg;
    struct numaperf__task tasks[BENCH_STEAL_BATCH];
    size_t count = numaperf__deque_steal_thief(&queue->deque, tasks, BENCH_STEAL_BATCH);
    for (size_t i = 0; i < count; i++)
        out_items[i] = (uint64_t)(uintptr_t)tasks[i].arg;
    return count;
}

static const struct bench_steal_ops queue_ops = {
    .create = queue_create,
    .destroy = free,
    .push_owner = queue_push_owner,
    .pop_owner = queue_pop_owner,
    .steal_thief = queue_steal_thief,
};

const struct bench_peer bench_numaperf_queue = {.name = "numaperf-queue", .ops = &queue_ops};
