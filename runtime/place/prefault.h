/* SPDX-License-Identifier: MIT */
/* Populating the pages of a range: touching on purpose. */
#ifndef NUMAPERF_PLACE_PREFAULT_H
#define NUMAPERF_PLACE_PREFAULT_H

#include "place/range.h"

#include <numaperf/cpuset.h>

#include <stdbool.h>
#include <stdint.h>

/* How a kernel without MADV_POPULATE_* (before 5.14) is made to populate. */
enum numaperf__touch {
    NUMAPERF__TOUCH_CLEAR,   /* fresh memory: store a zero */
    NUMAPERF__TOUCH_REWRITE, /* private contents: store what was read */
    NUMAPERF__TOUCH_READ,    /* contents that others write: read only */
    NUMAPERF__TOUCH_REFUSE   /* huge pages: a touch could raise SIGBUS, so -ENOSYS */
};

struct numaperf__prefault_plan {
    bool writable;          /* populate for writing; else for reading */
    uint32_t touch;         /* enum numaperf__touch */
    uint32_t threads;       /* 0: the calling thread alone; else at most this many helpers */
    numaperf_cpuset_t cpus; /* where helpers run; empty: anywhere */
};

enum { NUMAPERF__PREFAULT_THREADS_MAX = 64 };

/*
 * Populate every page. Helpers block all signals and are joined before this returns; when none can
 * be made, the calling thread does the work. Returns 0 or -errno: -EFAULT is a huge page that the
 * pool does not have.
 */
int numaperf__prefault(const struct numaperf__range *range,
                       const struct numaperf__prefault_plan *plan);

/* A sensible number of helpers for this length and these PUs. */
uint32_t numaperf__prefault_threads(const struct numaperf__range *range,
                                    const numaperf_cpuset_t *cpus);

#endif
