/* SPDX-License-Identifier: MIT */
/*
 * What a libuv user writes today: a loop a thread, each with a queue under a mutex. A post appends
 * to an array and, when that was empty, calls uv_async_send(); the loop swaps the whole array out
 * under one lock and runs it. No memory is allocated for a task once the two arrays have grown.
 *
 * `mutex` guards `in`; the rest of a loop is its own thread's.
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

struct libuv_queue {
    struct libuv_task *tasks;
    size_t count;
    size_t room;
};

struct libuv_worker {
    alignas(64) pthread_mutex_t mutex;
    struct libuv_queue in;
    bool stop; /* under the mutex */
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

static int libuv_post(struct libuv_worker *worker, numaperf_task_fn fn, void *arg)
{
    int rc = 0;
    pthread_mutex_lock(&worker->mutex);
    struct libuv_queue *in = &worker->in;
    bool was_empty = in->count == 0;
    if (in->count == in->room) {
        size_t room = in->room == 0 ? LIBUV_QUEUE_FIRST : in->room * 2;
        struct libuv_task *tasks = realloc(in->tasks, room * sizeof(*tasks));
        if (tasks == NULL) {
            rc = -ENOMEM;
        } else {
            in->tasks = tasks;
            in->room = room;
        }
    }
    if (rc == 0)
        in->tasks[in->count++] = (struct libuv_task){.fn = fn, .arg = arg};
    pthread_mutex_unlock(&worker->mutex);
    if (rc == 0 && was_empty)
        rc = uv_async_send(&worker->wake);
    return rc;
}

static void libuv_close_handle(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void libuv_drain(uv_async_t *wake)
{
    struct libuv_worker *worker = wake->data;
    pthread_mutex_lock(&worker->mutex);
    struct libuv_queue full = worker->in;
    worker->in = worker->out;
    bool stop = worker->stop;
    pthread_mutex_unlock(&worker->mutex);
    for (size_t i = 0; i < full.count; i++)
        full.tasks[i].fn((numaperf_worker_t *)worker, full.tasks[i].arg);
    full.count = 0;
    worker->out = full;
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

static int libuv_peer_spawn(void *arg, uint32_t lane, numaperf_task_fn fn, void *task_arg)
{
    struct libuv_state *state = arg;
    return libuv_post(&state->workers[lane % state->worker_count], fn, task_arg);
}

static int libuv_peer_spawn_inside(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg)
{
    return libuv_post((struct libuv_worker *)worker, fn, arg);
}

static struct uv_loop_s *libuv_peer_loop(numaperf_worker_t *worker)
{
    return &((struct libuv_worker *)worker)->loop;
}

const struct bench_peer bench_libuv = {
    .name = "libuv",
    .start = libuv_peer_start,
    .spawn = libuv_peer_spawn,
    .spawn_inside = libuv_peer_spawn_inside,
    .loop = libuv_peer_loop,
    .stop = libuv_peer_stop,
};
