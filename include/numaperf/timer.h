/* SPDX-License-Identifier: MIT */
/*
 * Timers of the workers, and tasks for later.
 *
 * A timer lives in the caller's memory and belongs to one worker: for timeouts of connections,
 * which are started again with every request and hardly ever expire. A task for later is spawned
 * from any thread, and belongs to the runtime until it is due.
 *
 * Both never come early by CLOCK_MONOTONIC. They come late by at most 1024 ns, and by what the
 * worker was doing, or the time it took to wake.
 */
#ifndef NUMAPERF_TIMER_H
#define NUMAPERF_TIMER_H

#include <numaperf/runtime.h>
#include <numaperf/version.h>

#include <stdint.h>

NUMAPERF_BEGIN_DECLS

typedef struct numaperf_timer numaperf_timer_t;

typedef struct numaperf_timer_link {
    struct numaperf_timer_link *next;
    struct numaperf_timer_link *prev;
} numaperf_timer_link_t;

/* Every field is the library's. The memory must stay while the timer is active. */
struct numaperf_timer {
    numaperf_timer_link_t link;
    uint64_t deadline_ns;
    uint64_t delay_ns;
    numaperf_task_fn fn;
    void *arg;
    numaperf_worker_t *worker;
    uint32_t kind;
    uint16_t position;
    uint16_t touched;
};

/**
 * Prepare a timer of `worker` that calls fn(worker, arg) whenever it expires. It is not active yet.
 * An active timer must be stopped first.
 *
 * Returns:  0; -EINVAL.
 * Owner:    `timer` is the caller's memory, to be released when the timer is not active.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_timer_init(numaperf_worker_t *worker, numaperf_timer_t *timer,
                                     numaperf_task_fn fn, void *arg);

/**
 * Have the timer expire once, `delay_ns` from now, whether it is active or not. What expires runs
 * on the worker between its tasks, not counted as one; it may start the timer again, stop it or
 * release its memory. A delay that ends beyond the clock's 584 years never expires.
 *
 * A worker whose runtime stops runs its timers until the last task has run or was cancelled; those
 * that are still active then never expire, and are not active any more in the stop callbacks.
 *
 * Units:    nanoseconds.
 * Returns:  0; -EINVAL not prepared, or called elsewhere than on its worker; NUMAPERF_E_STOPPING
 *           the worker ends.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_timer_start(numaperf_timer_t *timer, uint64_t delay_ns);

/**
 * The same with the delay of the last numaperf_timer_start(), for a small part of its price: the
 * time it counts from is that of the end of the callback or task that calls, or a moment later.
 *
 * Returns:  as numaperf_timer_start(); -EINVAL also for one that was never started.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_timer_restart(numaperf_timer_t *timer);

/**
 * Have it not expire; nothing happens when it is not active.
 *
 * Returns:  1 it was active; 0 it was not; -EINVAL as numaperf_timer_start().
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_timer_stop(numaperf_timer_t *timer);

/**
 * Have fn(worker, arg) spawned in `delay_ns`, as numaperf_rt_spawn_with() with these options would.
 *
 * It runs, or is cancelled, exactly once; a group of the options has it as a member from now on.
 * When the node's task limit is reached at the time it is due, it waits for room. A stop does not
 * wait for the time: what is not due when everything else is done, or the stop's own time is over,
 * is cancelled, on the worker that was to watch the time.
 *
 * `out_timer` may be NULL. Else it is set to a handle for numaperf_timer_cancel(), which has to
 * be called once for every handle, unless the runtime is destroyed first.
 *
 * Units:    nanoseconds.
 * Returns:  as numaperf_rt_spawn_with(); -EAGAIN also when as many wait on the node as the task
 *           limit allows tasks.
 * Owner:    the runtime.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_rt_spawn_after(numaperf_rt_t *rt, const numaperf_spawn_options_t *options,
                                         uint64_t delay_ns, numaperf_task_fn fn, void *arg,
                                         numaperf_timer_t **out_timer);

/**
 * Cancel what numaperf_rt_spawn_after() promised, unless its function has begun, and give the
 * handle back in any case. Its on_cancel, or the runtime's on_task_cancel, runs before this
 * returns, on this thread.
 *
 * Returns:  1 it will not run; 0 it has run, runs, or was cancelled before; -EINVAL not a handle of
 *           numaperf_rt_spawn_after().
 * Threads:  any; once for every handle, and before the runtime is destroyed.
 */
NUMAPERF_API int numaperf_timer_cancel(numaperf_timer_t *timer);

NUMAPERF_END_DECLS
#endif
