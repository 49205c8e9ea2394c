/* SPDX-License-Identifier: MIT */
/* The clock that waits and spins are measured by. */
#ifndef NUMAPERF_BASE_CLOCK_H
#define NUMAPERF_BASE_CLOCK_H

#include "base/assert.h"

#include <stdint.h>
#include <time.h>

/* Nanoseconds of CLOCK_MONOTONIC. */
static inline uint64_t numaperf__clock_now_ns(void)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_MONOTONIC, &now);
    NUMAPERF_ASSERT(rc == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
