/* SPDX-License-Identifier: MIT */
/* A task as it goes through the queues. */
#ifndef NUMAPERF_SCHED_TASK_H
#define NUMAPERF_SCHED_TASK_H

#include "base/clock.h"

#include <numaperf/runtime.h>

#include <stdbool.h>
#include <stdint.h>

/* Tasks that may be taken from a queue at once. */
#define NUMAPERF__TASK_BATCH_MAX 64u

/* What runs, with what, and where it belongs. */
struct numaperf__task {
    numaperf_task_fn fn; /* NULL: a place that was taken back; it only counts as finished */
    void *arg;
    numaperf_cancel_fn on_cancel; /* NULL: the runtime's */
    uint32_t home;                /* index of the node it was spawned to, within the runtime */
    uint32_t stamp;               /* of its submission: numaperf__stamp_of(); 0: it has none */
};

/* Clock of the stamps: units of 2^10 ns, so that it comes round after 73 minutes. */
#define NUMAPERF__STAMP_SHIFT 10

static inline uint32_t numaperf__stamp_of(uint64_t now_ns)
{
    uint32_t stamp = (uint32_t)(now_ns >> NUMAPERF__STAMP_SHIFT);
    return stamp != 0 ? stamp : 1;
}

/*
 * A clock read costs as much as all the rest of a submission, so one task in 2^9 has to do: the
 * first, then those whose number times the golden ratio comes out smallest. They are spread evenly,
 * but at no distance that a program's own turns would have, so that it is not always the same kind
 * of task.
 */
#define NUMAPERF__STAMP_EVERY_BITS 9

/* Stamp of the `number`th task of a queue. */
static inline uint32_t numaperf__stamp_for(uint64_t number)
{
    bool is_sampled =
        number * UINT64_C(0x9e3779b97f4a7c15) >> (64 - NUMAPERF__STAMP_EVERY_BITS) == 0;
    return is_sampled ? numaperf__stamp_of(numaperf__clock_now_ns()) : 0;
}

/* Whether the task is timed, while it waits and while it runs. */
static inline bool numaperf__task_is_sampled(const struct numaperf__task *task)
{
    return task->stamp != 0;
}

/* Nanoseconds from a stamp until now. */
static inline uint64_t numaperf__stamp_age_ns(uint32_t stamp, uint64_t now_ns)
{
    uint32_t age = (uint32_t)(now_ns >> NUMAPERF__STAMP_SHIFT) - stamp;
    return (uint64_t)age << NUMAPERF__STAMP_SHIFT;
}

#endif
