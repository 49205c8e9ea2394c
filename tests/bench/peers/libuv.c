/* SPDX-License-Identifier: MIT */
/*
 * What a libuv user writes today: a loop a thread, each with a queue under a mutex, which the loop
 * swaps out whole under one lock. In two forms. The usual one allocates a task, appends it to a
 * list and calls uv_async_send(). The best one that is still simple appends to an array, calls
 * uv_async_send() only when that was empty, and allocates nothing once its two arrays have grown.
 *
 * `mutex` guards `in`, `first`, `last` and `stop`; the rest of a loop is its own thread's.
 */
#include "peers/peer.h"

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdbool.h>
#include <stdlib.h>
#include <uv.h>

#define LIBUV_QUEUE_FIRST 1024u /* tasks an array has room for at first */

struct libuv_task {
    numaperf_task_fn fn;
    void *arg;
};

struct libuv_node {
    struct libuv_task task;
    struct libuv_node *next;
};

struct libuv_queue {
    struct libuv_task *tasks;
    size_t count;
    size_t room;
};

struct libuv_worker {
    alignas(64) pthread_mutex_t mutex;
    struct libuv_queue in;
    struct libuv_node *first;
    struct libuv_node *last;
    bool stop;
    alignas(64) struct libuv_queue out;
    uv_loop_t loop;
    uv_async_t wake;
    pthread_t thread;
    int32_t cpu;
};

struct libuv_state {
    struct libuv_worker *workers;
    uint32_t worker_count;
};

/* Under the mutex. */
static int libuv_append(struct libuv_queue *queue, numaperf_task_fn fn, void *arg)
{
    if (queue->count == queue->room) {
        size_t room = queue->room == 0 ? LIBUV_QUEUE_FIRST : queue->room * 2;
        struct libuv_task *tasks = realloc(queue->tasks, room * sizeof(*tasks));
        if (tasks == NULL)
            return -ENOMEM;
        queue->tasks = tasks;
        queue->room = room;
    }
    queue->tasks[queue->count++] = (struct libuv_task){.fn = fn, .arg = arg};
    return 0;
}

static int libuv_post_array(struct libuv_worker *worker, numaperf_task_fn fn, void *arg)
{
    pthread_mutex_lock(&worker->mutex);
    bool was_empty = worker->in.count == 0;
    int rc = libuv_append(&worker->in, fn, arg);
    pthread_mutex_unlock(&worker->mutex);
    return rc == 0 && was_empty ? uv_async_send(&worker->wake) : rc;
}

static int libuv_post_list(struct libuv_worker *worker, numaperf_task_fn fn, void *arg)
{
    struct libuv_node *node = malloc(sizeof(*node));
    if (node == NULL)
        return -ENOMEM;
    *node = (struct libuv_node){.task = {.fn = fn, .arg = arg}};
    pthread_mutex_lock(&worker->mutex);
    if (worker->first == NULL)
        worker->first = node;
    else
        worker->last->next = node;
    worker->last = node;
    pthread_mutex_unlock(&worker->mutex);
    return uv_async_send(&worker->wake);
}

static void libuv_close_handle(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* One of the two queues is always empty. */
static void libuv_drain(uv_async_t *wake)
{
    struct libuv_worker *worker = wake->data;
    pthread_mutex_lock(&worker->mutex);
    struct libuv_queue full = worker->in;
    worker->in = worker->out;
    struct libuv_node *node = worker->first;
    worker->first = NULL;
    bool stop = worker->stop;
    pthread_mutex_unlock(&worker->mutex);
    for (size_t i = 0; i < full.count; i++)
        full.tasks[i].fn((numaperf_worker_t *)worker, full.tasks[i].arg);
    full.count = 0;
    worker->out = full;
    while (node != NULL) {
        struct libuv_node *next = node->next;
        node->task.fn((numaperf_worker_t *)worker, node->task.arg);
        free(node);
        node = next;
    }
    if (stop)
        uv_walk(&worker->loop, libuv_close_handle, NULL);
}

static void *libuv_main(void *arg)
{
    struct libuv_worker *worker = arg;
    numaperf_cpuset_t cpus;
    numaperf_cpuset_zero(&cpus);
    if (numaperf_cpuset_add(&cpus, worker->cpu) < 0 || numaperf_set_affinity(&cpus) < 0)
        abort(); /* numaperf was here before: the PU exists */
    (void)uv_run(&worker->loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&worker->loop) < 0)
        abort(); /* a handle was opened while all were being closed */
    return NULL;
}

static int libuv_worker_start(struct libuv_worker *worker, int32_t cpu)
{
    worker->cpu = cpu;
    int rc = uv_loop_init(&worker->loop);
    if (rc < 0)
        return rc;
    rc = uv_async_init(&worker->loop, &worker->wake, libuv_drain);
    if (rc < 0) {
        (void)uv_loop_close(&worker->loop); /* has no handle */
        return rc;
    }
    worker->wake.data = worker;
    pthread_mutex_init(&worker->mutex, NULL);
    rc = -pthread_create(&worker->thread, NULL, libuv_main, worker);
    if (rc < 0) {
        uv_close((uv_handle_t *)&worker->wake, NULL);
        (void)uv_run(&worker->loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&worker->loop); /* has no handle any more */
        pthread_mutex_destroy(&worker->mutex);
    }
    return rc;
}

static void libuv_peer_stop(void *arg)
{
    struct libuv_state *state = arg;
    for (uint32_t i = 0; i < state->worker_count; i++) {
        struct libuv_worker *worker = &state->workers[i];
        pthread_mutex_lock(&worker->mutex);
        worker->stop = true;
        pthread_mutex_unlock(&worker->mutex);
        (void)uv_async_send(&worker->wake); /* fails for no handle but a wrong one */
    }
    for (uint32_t i = 0; i < state->worker_count; i++) {
        struct libuv_worker *worker = &state->workers[i];
        pthread_join(worker->thread, NULL);
        pthread_mutex_destroy(&worker->mutex);
        free(worker->in.tasks);
        free(worker->out.tasks);
    }
    free(state->workers);
    free(state);
}

static int libuv_peer_start(const struct bench_peer *peer, const struct bench_setup *setup,
                            void **out_state)
{
    (void)peer;
    uint32_t count = setup->node_count * setup->workers_per_node;
    struct libuv_state *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return -ENOMEM;
    size_t bytes = count * sizeof(*state->workers);
    state->workers = aligned_alloc(alignof(struct libuv_worker), bytes);
    int rc = state->workers != NULL ? 0 : -ENOMEM;
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        state->workers[i] = (struct libuv_worker){.cpu = -1};
        rc = libuv_worker_start(&state->workers[i], setup->cpus[i]);
        state->worker_count += rc == 0;
    }
    if (rc < 0) {
        libuv_peer_stop(state);
        return rc;
    }
    *out_state = state;
    return 0;
}

static int libuv_array_spawn(void *arg, uint32_t lane, numaperf_task_fn fn, void *task_arg)
{
    struct libuv_state *state = arg;
    return libuv_post_array(&state->workers[lane % state->worker_count], fn, task_arg);
}

static int libuv_array_spawn_inside(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg)
{
    return libuv_post_array((struct libuv_worker *)worker, fn, arg);
}

static int libuv_list_spawn(void *arg, uint32_t lane, numaperf_task_fn fn, void *task_arg)
{
    struct libuv_state *state = arg;
    return libuv_post_list(&state->workers[lane % state->worker_count], fn, task_arg);
}

static int libuv_list_spawn_inside(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg)
{
    return libuv_post_list((struct libuv_worker *)worker, fn, arg);
}

static struct uv_loop_s *libuv_peer_loop(numaperf_worker_t *worker)
{
    return &((struct libuv_worker *)worker)->loop;
}

const struct bench_peer bench_libuv = {
    .name = "libuv",
    .start = libuv_peer_start,
    .spawn = libuv_array_spawn,
    .spawn_inside = libuv_array_spawn_inside,
    .loop = libuv_peer_loop,
    .stop = libuv_peer_stop,
};

const struct bench_peer bench_libuv_list = {
    .name = "libuv-list",
    .start = libuv_peer_start,
    .spawn = libuv_list_spawn,
    .spawn_inside = libuv_list_spawn_inside,
    .loop = libuv_peer_loop,
    .stop = libuv_peer_stop,
};
