/* SPDX-License-Identifier: MIT */
/*
 * What a workload asks of a peer: worker threads on given PUs, each with an event loop, and a way
 * to hand them tasks. A peer that has no loop leaves `loop` NULL and does without the workloads
 * that need one.
 *
 * A task's worker is numaperf's own type, so that numaperf needs no function in between. The other
 * peers hand in a pointer of their own, which nobody but they look behind.
 */
#ifndef NUMAPERF_BENCH_PEER_H
#define NUMAPERF_BENCH_PEER_H

#include <numaperf.h>

#include <stdint.h>

#define BENCH_WORKERS_MAX 64u

struct uv_loop_s;

/* Who works where, the same for every peer of a case. */
struct bench_setup {
    uint32_t node_count;             /* 1: a node of this machine; 2: two, synthetic if need be */
    uint32_t workers_per_node;       /* each on a PU of its own */
    int32_t cpus[BENCH_WORKERS_MAX]; /* PU of each worker, where numaperf puts it */
};

struct bench_peer {
    const char *name;
    uint32_t variant; /* means something to the peer alone */

    /* Threads ready to run tasks; < 0 and the cause in numaperf_last_error(). */
    int (*start)(const struct bench_peer *peer, const struct bench_setup *setup, void **out_state);
    /* From a thread of the workload. With several nodes `lane` picks the node, else the worker
     * where the peer has no queue for the whole node. -EAGAIN: full, try later. */
    int (*spawn)(void *state, uint32_t lane, numaperf_task_fn fn, void *arg);
    /* From a task, to the worker's own node or loop. */
    int (*spawn_inside)(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg);
    struct uv_loop_s *(*loop)(numaperf_worker_t *worker);
    /* What was spawned has run. Closes the handles that are left on the loops. */
    void (*stop)(void *state);
};

/* Workers on io_uring, and the same on epoll. */
extern const struct bench_peer bench_numaperf;
extern const struct bench_peer bench_numaperf_epoll;
/* A loop a thread, each with a queue under a mutex and uv_async_send(): the best simple form of
 * that, and the usual one. */
extern const struct bench_peer bench_libuv;
extern const struct bench_peer bench_libuv_list;

/* Fill in setup->cpus by starting numaperf once and asking it. */
int bench_numaperf_layout(struct bench_setup *setup);

#endif
