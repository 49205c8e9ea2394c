/* SPDX-License-Identifier: MIT */
/*
 * GLib's thread pool, one of exclusive threads for every node. A pool hands on one pointer, so a
 * task of two words is allocated, as its users do.
 */
#include "peers/gather.h"
#include "peers/peer.h"

#include <errno.h>
#include <glib.h>
#include <stdlib.h>

struct glib_task {
    numaperf_task_fn fn;
    void *arg;
};

struct glib_state {
    GThreadPool *pools[2]; /* constant once started */
    uint32_t pool_count;
};

/* The worker of a task is its pool. */
static void glib_run(gpointer data, gpointer user_data)
{
    struct glib_task task = *(struct glib_task *)data;
    g_free(data);
    GThreadPool **pool = user_data;
    task.fn((numaperf_worker_t *)pool, task.arg);
}

static int glib_push(GThreadPool *pool, numaperf_task_fn fn, void *arg)
{
    struct glib_task *task = g_malloc(sizeof(*task));
    *task = (struct glib_task){.fn = fn, .arg = arg};
    return g_thread_pool_push(pool, task, NULL) ? 0 : -EAGAIN;
}

static int glib_peer_spawn(void *arg, uint32_t lane, numaperf_task_fn fn, void *task_arg)
{
    struct glib_state *state = arg;
    return glib_push(state->pools[lane % state->pool_count], fn, task_arg);
}

static int glib_peer_spawn_inside(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg)
{
    return glib_push(*(GThreadPool **)worker, fn, arg);
}

static void glib_pin_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    bench_gather_join(arg);
}

static void glib_pin(GThreadPool *pool, const int32_t *cpus, uint32_t count)
{
    struct bench_gather gather;
    bench_gather_init(&gather, cpus, count);
    for (uint32_t i = 0; i < count; i++) {
        if (glib_push(pool, glib_pin_task, &gather) < 0)
            abort(); /* those that are there wait for the others */
    }
    bench_gather_fini(&gather);
}

static void glib_peer_stop(void *arg)
{
    struct glib_state *state = arg;
    for (uint32_t i = 0; i < state->pool_count; i++)
        g_thread_pool_free(state->pools[i], FALSE, TRUE);
    free(state);
}

static int glib_peer_start(const struct bench_peer *peer, const struct bench_setup *setup,
                           void **out_state)
{
    (void)peer;
    struct glib_state *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < setup->node_count; i++) {
        GThreadPool **pool = &state->pools[i];
        *pool = g_thread_pool_new(glib_run, pool, (gint)setup->workers_per_node, TRUE, NULL);
        if (*pool == NULL) {
            glib_peer_stop(state);
            return -EAGAIN;
        }
        state->pool_count++;
        glib_pin(*pool, setup->cpus + i * setup->workers_per_node, setup->workers_per_node);
    }
    *out_state = state;
    return 0;
}

const struct bench_peer bench_glib = {
    .name = "glib",
    .start = glib_peer_start,
    .spawn = glib_peer_spawn,
    .spawn_inside = glib_peer_spawn_inside,
    .stop = glib_peer_stop,
};
