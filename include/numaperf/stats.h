/* SPDX-License-Identifier: MIT */
/*
 * What a runtime's workers did: counters, and how long tasks waited and ran. The functions that
 * fill these are in runtime.h.
 */
#ifndef NUMAPERF_STATS_H
#define NUMAPERF_STATS_H

#include <numaperf/version.h>

#include <stdint.h>

NUMAPERF_BEGIN_DECLS

#define NUMAPERF_HISTOGRAM_BUCKETS 304

/*
 * How often values occurred. Up to 16 every value has a bucket of its own; above, eight equal
 * buckets share what lies between a power of two and the next, so that a value told from its bucket
 * is off by 1/16 of it at most. The last bucket holds 2^40 (of nanoseconds: 18 minutes) and more,
 * too. Plain numbers: copy, add and compare them as you like.
 */
typedef struct numaperf_histogram {
    uint64_t count; /* values */
    uint64_t sum;   /* of all of them */
    uint64_t max;   /* the largest of them */
    uint64_t buckets[NUMAPERF_HISTOGRAM_BUCKETS];
} numaperf_histogram_t;

typedef struct numaperf_worker_stats {
    uint32_t size;             /* bytes of this struct the caller knows; set by _INIT */
    int32_t node;              /* OS node id */
    int32_t cpu;               /* OS PU id it is meant to run on */
    uint32_t index;            /* within the runtime */
    uint64_t ran;              /* tasks run here, stolen ones included */
    uint64_t ran_remote;       /* of these, homed on another node: stolen to here */
    uint64_t stolen_from;      /* tasks homed on this worker's node that another node ran; the
                                  node's number, told by its first worker, 0 on the others */
    uint64_t cancelled;        /* tasks cancelled here */
    uint64_t parks;            /* times it went to sleep */
    uint64_t wakes;            /* times another thread woke it */
    uint64_t spins;            /* times it searched before sleeping */
    uint64_t ring_enters;      /* io_uring_enter calls; 0 on epoll */
    uint64_t ring_completions; /* CQEs reaped */
    uint64_t ring_overflows;   /* times the CQ had overflowed */
    uint64_t stalls;           /* callbacks that held it for too long; 0 while none are looked for:
                                  stall_ms */
    uint64_t waiting;          /* tasks that wait for this worker alone, now */
    uint64_t arena_mapped_bytes; /* of its arena, now */
    uint64_t arena_used_bytes;   /* of these, in blocks handed out */
    numaperf_histogram_t wait;   /* ns between spawn and run, in steps of 1024, of a sample of the
                                    tasks run: one in 512, evenly spread over each queue, and its
                                    first */
    numaperf_histogram_t run; /* ns that the same tasks ran; a clock read, some 20 ns, is in it */
} numaperf_worker_stats_t;

#define NUMAPERF_WORKER_STATS_INIT                                                          \
    {                                                                                       \
        sizeof(numaperf_worker_stats_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            {0, 0, 0, {0}},                                                                 \
        {                                                                                   \
            0, 0, 0,                                                                        \
            {                                                                               \
                0                                                                           \
            }                                                                               \
        }                                                                                   \
    }

/*
 * The same of a node, or of the whole runtime. Once the runtime has stopped,
 *
 *   accepted == ran - ran_remote + stolen_from + cancelled
 *
 * The tag is not _stats: C++ would see the function of that name shadowed.
 */
typedef struct numaperf_rt_statistics {
    uint32_t size;            /* bytes of this struct the caller knows; set by _INIT */
    int32_t node;             /* OS node id; NUMAPERF_NODE_ANY: the whole runtime */
    uint32_t node_count;      /* nodes in these figures */
    uint32_t worker_count;    /* workers in these figures */
    uint64_t accepted;        /* tasks homed there, by all spawns */
    uint64_t ran;             /* tasks run by its workers, stolen ones included */
    uint64_t ran_remote;      /* of these, homed on another node: stolen to there */
    uint64_t stolen_from;     /* tasks homed there that another node ran */
    uint64_t cancelled;       /* tasks homed there that were cancelled, wherever */
    uint64_t waiting_unbound; /* tasks that wait now for any worker that the policy allows */
    uint64_t waiting_fixed;   /* for any worker of the node, and no other */
    uint64_t waiting_bound;   /* for one given worker */
    uint64_t parks;           /* this and what follows: its workers' together */
    uint64_t wakes;
    uint64_t spins;
    uint64_t ring_enters;
    uint64_t ring_completions;
    uint64_t ring_overflows;
    uint64_t stalls;
    uint64_t arena_mapped_bytes;
    uint64_t arena_used_bytes;
    double locality; /* share of the tasks homed there that ran there: 1.0 only when some
                        did, and all of them at home; 0.0 when none has run yet */
    numaperf_histogram_t wait;
    numaperf_histogram_t run;
} numaperf_rt_stats_t;

#define NUMAPERF_RT_STATS_INIT                                                                   \
    {                                                                                            \
        sizeof(numaperf_rt_stats_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, {0, 0, 0, {0}},                                                                   \
        {                                                                                        \
            0, 0, 0,                                                                             \
            {                                                                                    \
                0                                                                                \
            }                                                                                    \
        }                                                                                        \
    }

/**
 * The value below which a share `q`, 0 to 1, of the values lies: 0.5 is the median, 1 the largest.
 * Off by 1/16 of itself at most, in the last bucket by more.
 *
 * Returns:  the value; 0 without values.
 * Threads:  any.
 */
NUMAPERF_API uint64_t numaperf_histogram_quantile(const numaperf_histogram_t *histogram, double q);

/**
 * The smallest value of a bucket; that of NUMAPERF_HISTOGRAM_BUCKETS is the end of the last one.
 *
 * Returns:  the value; UINT64_MAX for a bucket beyond.
 * Threads:  any.
 */
NUMAPERF_API uint64_t numaperf_histogram_bucket_min(uint32_t bucket);

/**
 * Add the values of another one.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any, with no other call on `into` under way.
 */
NUMAPERF_API int numaperf_histogram_merge(numaperf_histogram_t *into,
                                          const numaperf_histogram_t *from);

/**
 * Take away what an earlier snapshot of the same histogram had: what came since is left. `max` is
 * then told from the last bucket that is left.
 *
 * Returns:  0; -EINVAL also for one that is not earlier.
 * Threads:  any, with no other call on `into` under way.
 */
NUMAPERF_API int numaperf_histogram_subtract(numaperf_histogram_t *into,
                                             const numaperf_histogram_t *earlier);

NUMAPERF_END_DECLS
#endif
