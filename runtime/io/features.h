/* SPDX-License-Identifier: MIT */
/*
 * What of io_uring works here, found by doing it: once a process for what a ring can do with
 * sockets, at every ring for how it was made.
 */
#ifndef NUMAPERF_IO_FEATURES_H
#define NUMAPERF_IO_FEATURES_H

#include <numaperf/loop.h>

#include <stdbool.h>
#include <stdint.h>

enum numaperf__feature {
    /* How a ring is made. */
    NUMAPERF__FEATURE_RING = 0, /* hidden: the loop is one on epoll */
    NUMAPERF__FEATURE_DEFER_TASKRUN,
    NUMAPERF__FEATURE_OWN_MEMORY,
    /* What it can do. */
    NUMAPERF__FEATURE_BUFFER_RING,
    NUMAPERF__FEATURE_BUFFER_INCREMENTAL,
    NUMAPERF__FEATURE_ACCEPT_MULTISHOT,
    NUMAPERF__FEATURE_RECEIVE_MULTISHOT,
    NUMAPERF__FEATURE_SEND_ZERO_COPY,
    NUMAPERF__FEATURE_ZERO_COPY_REPORT, /* IORING_SEND_ZC_REPORT_USAGE, 6.2 */
    NUMAPERF__FEATURE_DIRECT_DESCRIPTORS,
    NUMAPERF__FEATURE_MESSAGE_RING,
    NUMAPERF__FEATURES
};

struct numaperf__features {
    numaperf_loop_features_t known;
    uint32_t zero_copy_report; /* NUMAPERF_PROBE_* */
};

/* What `loop` has. The first call of the process makes a ring on the calling thread, tries what is
 * to be tried, and closes it. Any thread. */
void numaperf__loop_features_get(const numaperf_loop_t *loop, struct numaperf__features *out);
/* Whether it has this one. */
bool numaperf__loop_has(const numaperf_loop_t *loop, enum numaperf__feature feature);

/*
 * For tests: rings and loops made from now on seem to lack the features of `mask`, bits 1u << enum
 * numaperf__feature; 0 is none. Any thread, and the whole process.
 */
void numaperf__features_disable(uint32_t mask);
uint32_t numaperf__features_disabled(void);

#endif
