/* SPDX-License-Identifier: MIT */
/* Call stacks of workers, taken by the workers themselves on a signal. */
#ifndef NUMAPERF_SCHED_CALLSTACK_H
#define NUMAPERF_SCHED_CALLSTACK_H

#include <numaperf/runtime.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum numaperf__callstack_state {
    NUMAPERF__CALLSTACK_IDLE = 0,
    NUMAPERF__CALLSTACK_WANTED,  /* by who asks */
    NUMAPERF__CALLSTACK_WRITING, /* the worker is at it */
    NUMAPERF__CALLSTACK_DONE     /* there it is */
};

/* One of each worker; the edges are in callstack.c. */
struct numaperf__callstack {
    _Atomic uint32_t state; /* enum numaperf__callstack_state */
    uint32_t frame_count;   /* this and the rest: the worker's while WRITING, who asks when DONE */
    uint64_t progress;      /* of the worker when it was taken */
    void *frames[NUMAPERF_STALL_FRAMES_MAX];
};

/* The signal that workers are asked by: theirs alone has to be unblocked for it. */
int numaperf__callstack_signal(void);

/* Take the signal for this process, or share it with other runtimes. 0; -EBUSY, or
   NUMAPERF_E_UNSUPPORTED where no stack can be walked, recorded. */
int numaperf__callstack_acquire(void);
/* After the last thread that could be signalled is gone. */
void numaperf__callstack_release(void);

/* Ask a worker's thread, which is not joined yet; false when it cannot be asked now. */
bool numaperf__callstack_ask(struct numaperf__callstack *callstack, pthread_t thread);
/* Wait up to `timeout_ns`; whether it is there. */
bool numaperf__callstack_await(struct numaperf__callstack *callstack, uint64_t timeout_ns);
/* Done with it, or given up: a signal that is late finds nothing asked. */
void numaperf__callstack_drop(struct numaperf__callstack *callstack);

#endif
