/* SPDX-License-Identifier: MIT */
/*
 * uv_queue_work() on libuv's own pool, with as many threads as there are workers. The pool knows no
 * nodes. Only the thread of a loop may queue work for it, so the one thread of the workload that
 * spawns runs the loop, too: now and then while it spawns, to get requests back, and at the end.
 */
#include "peers/gather.h"
#include "peers/peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define POOL_HARVEST 256u /* spawns between two looks for finished requests */

struct pool_request {
    uv_work_t work;
    struct pool_state *state;
    numaperf_task_fn fn;
    void *arg;
    struct pool_request *next; /* in the free list */
};

/* The spawning thread's alone. */
struct pool_state {
    uv_loop_t loop;
    struct pool_request *free_requests;
    uint32_t spawned;
};

static void pool_run(uv_work_t *work)
{
    struct pool_request *request = work->data;
    request->fn((numaperf_worker_t *)request->state, request->arg);
}

static void pool_done(uv_work_t *work, int status)
{
    (void)status; /* nothing is cancelled */
    struct pool_request *request = work->data;
    request->next = request->state->free_requests;
    request->state->free_requests = request;
}

static int pool_peer_spawn(void *arg, uint32_t lane, numaperf_task_fn fn, void *task_arg)
{
    (void)lane;
    struct pool_state *state = arg;
    if (++state->spawned % POOL_HARVEST == 0)
        (void)uv_run(&state->loop, UV_RUN_NOWAIT); /* says only whether anything is left */
    struct pool_request *request = state->free_requests;
    if (request != NULL)
        state->free_requests = request->next;
    else
        request = malloc(sizeof(*request));
    if (request == NULL)
        return -ENOMEM;
    request->state = state;
    request->fn = fn;
    request->arg = task_arg;
    request->work.data = request;
    return uv_queue_work(&state->loop, &request->work, pool_run, pool_done);
}

static void pool_pin_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    bench_gather_join(arg);
}

static void pool_peer_stop(void *arg)
{
    struct pool_state *state = arg;
    (void)uv_run(&state->loop, UV_RUN_DEFAULT); /* until every request is back */
    while (state->free_requests != NULL) {
        struct pool_request *next = state->free_requests->next;
        free(state->free_requests);
        state->free_requests = next;
    }
    if (uv_loop_close(&state->loop) < 0)
        abort(); /* it has no handle, and no request any more */
    free(state);
}

static int pool_pin(struct pool_state *state, const struct bench_setup *setup)
{
    struct bench_gather gather;
    uint32_t count = setup->node_count * setup->workers_per_node;
    bench_gather_init(&gather, setup->cpus, count);
    for (uint32_t i = 0; i < count; i++) {
        if (pool_peer_spawn(state, 0, pool_pin_task, &gather) < 0)
            abort(); /* those that are there wait for the others */
    }
    bench_gather_fini(&gather);
    return 0;
}

static int pool_peer_start(const struct bench_peer *peer, const struct bench_setup *setup,
                           void **out_state)
{
    (void)peer;
    char text[16];
    (void)snprintf(text, sizeof(text), "%u", setup->node_count * setup->workers_per_node);
    if (setenv("UV_THREADPOOL_SIZE", text, 1) < 0)
        return -errno;
    struct pool_state *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return -ENOMEM;
    int rc = uv_loop_init(&state->loop);
    if (rc < 0) {
        free(state);
        return rc;
    }
    rc = pool_pin(state, setup);
    *out_state = state;
    return rc;
}

const struct bench_peer bench_libuv_pool = {
    .name = "uv_queue_work",
    .start = pool_peer_start,
    .spawn = pool_peer_spawn,
    .stop = pool_peer_stop,
};
