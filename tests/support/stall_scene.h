/* SPDX-License-Identifier: MIT */
/* Workers that are held for too long, and what on_stall was told of them. */
#ifndef TESTS_SUPPORT_STALL_SCENE_H
#define TESTS_SUPPORT_STALL_SCENE_H

#include "support/runtimes.h"

#include <pthread.h>
#include <signal.h>

#define STALL_MS 40
#define STALL_SIGNAL (SIGRTMAX - 2)

/* What on_stall was told. */
struct stall_witness {
    atomic_int count;
    atomic_int strangers; /* reports of another task than the one that was to stall */
    _Atomic(numaperf_task_fn) wanted;
    pthread_mutex_t mutex;
    numaperf_stall_t last; /* under mutex */
    atomic_bool calls_stop;
    atomic_int stop_result;
    atomic_bool hold; /* on_stall does not return while it is set */
};

#define STALL_WITNESS_INIT                 \
    {                                      \
        .mutex = PTHREAD_MUTEX_INITIALIZER \
    }

/* A numaperf_stall_cb whose data is a witness. */
void stall_told(numaperf_rt_t *rt, const numaperf_stall_t *stall, void *witness);
numaperf_stall_t stall_last(struct stall_witness *witness);

/* A runtime of `node_count` nodes, 1 or 2, of one worker each; `witness` may be NULL. */
void stall_open(struct runtime_box *box, struct stall_witness *witness, int node_count);

/* What a task below holds its worker by, until it is let go. */
struct stall_hold {
    atomic_int entered;
    atomic_bool let_go;
    atomic_int held;
};
/* Keeps the PU. */
void stall_spin_task(numaperf_worker_t *worker, void *hold);
/* Waits in the kernel, so that a signal is taken at once by any build. */
void stall_wait_task(numaperf_worker_t *worker, void *hold);
/* Does nothing. */
void stall_no_task(numaperf_worker_t *worker, void *unused);

/* Have one of them stall a worker of `node` until it is told, as number `count`, and no longer. */
void stall_once(struct runtime_box *box, struct stall_witness *witness, int node,
                numaperf_task_fn fn, int count);

#endif
