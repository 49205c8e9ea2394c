/* SPDX-License-Identifier: MIT */
/* Counters of a runtime's workers. */
#ifndef NUMAPERF_STATS_H
#define NUMAPERF_STATS_H

#include <numaperf/version.h>

#include <stdint.h>

NUMAPERF_BEGIN_DECLS

typedef struct numaperf_worker_stats {
    uint32_t size;             /* bytes of this struct the caller knows; set by _INIT */
    int32_t node;              /* OS node id */
    int32_t cpu;               /* OS PU id it is meant to run on */
    uint32_t index;            /* within the runtime */
    uint64_t ran;              /* tasks run here, stolen ones included */
    uint64_t ran_remote;       /* of these, homed on another node: stolen to here */
    uint64_t stolen_from;      /* tasks homed on this worker's node that another node took; the
                                  node's number, told by its first worker, 0 on the others */
    uint64_t cancelled;        /* tasks cancelled here */
    uint64_t parks;            /* times it went to sleep */
    uint64_t wakes;            /* times another thread woke it */
    uint64_t spins;            /* times it searched before sleeping */
    uint64_t ring_enters;      /* io_uring_enter calls; 0 on epoll */
    uint64_t ring_completions; /* CQEs reaped */
    uint64_t ring_overflows;   /* times the CQ had overflowed */
} numaperf_worker_stats_t;

#define NUMAPERF_WORKER_STATS_INIT                                             \
    {                                                                          \
        sizeof(numaperf_worker_stats_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 \
    }

NUMAPERF_END_DECLS
#endif
