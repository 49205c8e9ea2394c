/* SPDX-License-Identifier: MIT */
/* A task as it goes through the queues. */
#ifndef NUMAPERF_SCHED_TASK_H
#define NUMAPERF_SCHED_TASK_H

#include "base/clock.h"

#include <numaperf/runtime.h>

#include <stdint.h>

/* Tasks that may be taken from a queue at once. */
#define NUMAPERF__TASK_BATCH_MAX 64u

/* What runs, with what, and where it belongs. */
struct numaperf__task {
    numaperf_task_fn fn; /* NULL: a place that was taken back; it only counts as finished */
    void *arg;
    numaperf_cancel_fn on_cancel; /* NULL: the runtime's */
    uint32_t home;                /* index of the node it was spawned to, within the runtime */
    uint32_t stamp;               /* of its submission: numaperf__stamp_now(); 0: it has none */
};

/* Clock of the stamps: units of 2^10 ns, so that it comes round after 73 minutes. */
#define NUMAPERF__STAMP_SHIFT 10

static inline uint32_t numaperf__stamp_of(uint64_t now_ns)
{
    uint32_t stamp = (uint32_t)(now_ns >> NUMAPERF__STAMP_SHIFT);
    return stamp != 0 ? stamp : 1;
}

/* A clock read costs as much as all the rest of a submission: one task in many has to do. */
#define NUMAPERF__STAMP_EVERY 64u

/* Stamp of the `number`th task of a queue. */
static inline uint32_t numaperf__stamp_for(uint64_t number)
{
    return number % NUMAPERF__STAMP_EVERY == 0 ? numaperf__stamp_of(numaperf__clock_now_ns()) : 0;
}

/* Nanoseconds from a stamp until now. */
static inline uint64_t numaperf__stamp_age_ns(uint32_t stamp, uint64_t now_ns)
{
    uint32_t age = (uint32_t)(now_ns >> NUMAPERF__STAMP_SHIFT) - stamp;
    return (uint64_t)age << NUMAPERF__STAMP_SHIFT;
}

#endif
