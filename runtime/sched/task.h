/* SPDX-License-Identifier: MIT */
/* One task: what runs, with what, and where it belongs. */
#ifndef NUMAPERF_SCHED_TASK_H
#define NUMAPERF_SCHED_TASK_H

#include "base/atomic.h"

#include <numaperf/runtime.h>

#include <stddef.h>
#include <stdint.h>

struct numaperf__task {
    _Atomic(struct numaperf__task *) next; /* of the inbox it is in */
    numaperf_task_fn fn;
    void *arg;
    numaperf_cancel_fn on_cancel; /* NULL: the runtime's */
    uint32_t home;                /* index of its home node within the runtime */
};

/* A chain of `count` tasks fn(args[i]), linked by `next`; NULL when memory is short. */
struct numaperf__task *numaperf__task_chain(numaperf_task_fn fn, void *const *args, size_t count,
                                            numaperf_cancel_fn on_cancel,
                                            struct numaperf__task **out_last);
void numaperf__task_free(struct numaperf__task *task);
void numaperf__task_free_chain(struct numaperf__task *first);

#endif
