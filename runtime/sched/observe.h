/* SPDX-License-Identifier: MIT */
/*
 * How long the oldest task of a FIFO has waited, without its pusher reading a clock for it: a
 * thief remembers how far the tail was when it looked. While the head is below that, what is at
 * the head was there at that time. The answer is a lower bound: it starts again from 0 when all
 * that was seen then is gone.
 *
 * A pure function of one thread's own struct; zeroed, nothing was seen.
 */
#ifndef NUMAPERF_SCHED_OBSERVE_H
#define NUMAPERF_SCHED_OBSERVE_H

#include "base/assert.h"

#include <stdint.h>

struct numaperf__observation {
    uint64_t tail;    /* tasks pushed by then */
    uint64_t seen_ns; /* the clock then */
};

/*
 * `head` and `tail` count the tasks taken and pushed so far, the head loaded first. `now_ns` is the
 * clock of about that time, and never goes back. How long the task at the head has waited, at
 * least; 0 when there is none.
 */
static inline uint64_t numaperf__observe(struct numaperf__observation *observation, uint64_t head,
                                         uint64_t tail, uint64_t now_ns)
{
    NUMAPERF_ASSERT_HOT(head <= tail);
    NUMAPERF_ASSERT_HOT(now_ns >= observation->seen_ns);

    if (head < observation->tail)
        return now_ns - observation->seen_ns;
    observation->tail = tail;
    observation->seen_ns = now_ns;
    return 0;
}

#endif
