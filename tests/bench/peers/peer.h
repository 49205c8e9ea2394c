/* SPDX-License-Identifier: MIT */
/*
 * What a workload asks of a peer: worker threads on given PUs, each with an event loop, and a way
 * to hand them tasks. What a peer cannot do it leaves NULL, and is not in the cases that need it.
 * One whose package was not there when this was built has its definition in peers/absent.c.
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
    const char *absent; /* why this program is without it; NULL: it is there */
    /* Why it cannot be here, though the program has it; NULL: it can. May be NULL itself. */
    const char *(*missing)(void);
    uint32_t variant; /* means something to the peer alone */
    /* Of a workload that starts its threads itself: its own struct; the functions below are NULL
     * then. Else what the peer likes. */
    const void *ops;

    /* Threads ready to run tasks; < 0 and the cause in numaperf_last_error(). */
    int (*start)(const struct bench_peer *peer, const struct bench_setup *setup, void **out_state);
    /* From a thread of the workload. With several nodes `lane` picks the node, else the worker
     * where the peer has no queue for the whole node. -EAGAIN: full, try later. */
    int (*spawn)(void *state, uint32_t lane, numaperf_task_fn fn, void *arg);
    /* From a task, to the worker's own node or loop. */
    int (*spawn_inside)(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg);
    /* The tree of fib.h in the peer's own fork and join. NULL: by spawn_inside, see fib.c. */
    int (*fork_join)(void *state, uint32_t n, uint32_t cutoff, uint64_t *out_value);
    struct uv_loop_s *(*loop)(numaperf_worker_t *worker);
    /* What was spawned has run. Closes the handles that are left on the loops. */
    void (*stop)(void *state);
};

#ifdef __cplusplus
extern "C" {
#endif

/* Workers on io_uring, and the same on epoll. */
extern const struct bench_peer bench_numaperf;
extern const struct bench_peer bench_numaperf_epoll;
/* On io_uring, without a spin before it sleeps. */
extern const struct bench_peer bench_numaperf_calm;
/* Without stealing; with one worker a node, whatever the case says. */
extern const struct bench_peer bench_numaperf_local;
extern const struct bench_peer bench_numaperf_alone;
/* Without the stall detector; with it, and somebody who takes snapshots of the counters. */
extern const struct bench_peer bench_numaperf_unwatched;
/* A library that does not even count what it runs. */
extern const struct bench_peer bench_numaperf_uncounted;
extern const struct bench_peer bench_numaperf_watched;
/* A loop a thread, each with a queue under a mutex and uv_async_send(): the best simple form of
 * that, and the usual one. */
extern const struct bench_peer bench_libuv;
extern const struct bench_peer bench_libuv_list;
/* uv_queue_work(): one pool for all nodes, and only one thread of the workload may spawn. */
extern const struct bench_peer bench_libuv_pool;
/* A pool a node. */
extern const struct bench_peer bench_glib;
/* An arena a node: task_arena::enqueue(), and task_group. */
extern const struct bench_peer bench_tbb_enqueue;
extern const struct bench_peer bench_tbb_group;
/* Fork and join alone. */
extern const struct bench_peer bench_openmp;
/* Queues alone, see steal.h: the textbook's in two sizes, and the one that the runtime has. */
extern const struct bench_peer bench_chase_lev;
extern const struct bench_peer bench_chase_lev_word;
extern const struct bench_peer bench_numaperf_queue;
/* Allocators alone, see arena.h. */
extern const struct bench_peer bench_numaperf_arena;
extern const struct bench_peer bench_malloc;
extern const struct bench_peer bench_jemalloc;
extern const struct bench_peer bench_mimalloc;

/* Fill in setup->cpus by starting numaperf once and asking it. */
int bench_numaperf_layout(struct bench_setup *setup);

/* The runtime of a peer that is one, and has been started. */
numaperf_rt_t *bench_numaperf_rt(void *state);

/* Have the calling thread run on this PU alone. */
int bench_pin(int cpu);

#ifdef __cplusplus
}
#endif

#endif
