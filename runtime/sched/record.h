/* SPDX-License-Identifier: MIT */
/* Records: memory on a node for tasks that carry more than a function and its argument. */
#ifndef NUMAPERF_SCHED_RECORD_H
#define NUMAPERF_SCHED_RECORD_H

#include "base/atomic.h"
#include "place/audit.h"

#include <numaperf/timer.h>

#include <stdbool.h>
#include <stdint.h>

struct numaperf__node;

/* Bits of numaperf__record.flags. */
enum {
    NUMAPERF__RECORD_DELAYED = 1u << 0,  /* has `state` and `refs`, and is in a wheel at times */
    NUMAPERF__RECORD_STEALABLE = 1u << 1 /* of the submission, when it is due */
};

struct numaperf__record {
    /* Only of those that are delayed: the wheel's, and so the timing worker's alone. */
    alignas(NUMAPERF_CACHE_LINE) numaperf_timer_t timer;
    /* Written by who got it, before anybody else knows of it. */
    alignas(64) numaperf_task_fn fn;
    void *arg;
    numaperf_cancel_fn on_cancel;
    numaperf_group_t *group;        /* NULL: none */
    struct numaperf__node *home;    /* where it is to run, and where its memory is */
    struct numaperf__record *chain; /* of who has it listed: posts of a worker, or a group */
    _Atomic uint32_t next;          /* index, while it is free: of who has it listed */
    uint32_t index;                 /* constant */
    int32_t worker;                 /* index of the one that is to run it; -1 */
    _Atomic uint8_t state;          /* see delay.c */
    _Atomic uint8_t refs;
    uint8_t flags; /* NUMAPERF__RECORD_* */
    uint8_t priority;
};

/* A list of free records, by index. */
struct numaperf__record_chain {
    uint32_t first;
    uint32_t last;
    uint32_t count;
};

/* What one thread keeps of a node's free records. Zeroed is empty. */
struct numaperf__record_cache {
    struct numaperf__record_chain at_hand;
    struct numaperf__record_chain spare; /* empty or full */
};

struct numaperf__records;

struct numaperf__records_config {
    int32_t node;                /* OS id */
    uint32_t mode;               /* NUMAPERF_MODE_* */
    const char *unplaced_reason; /* as numaperf__region_extra's */
    uint64_t limit;              /* records; at most NUMAPERF__RECORDS_MAX of them are made */
};

#define NUMAPERF__RECORDS_MAX ((1u << 26) - 1)
#define NUMAPERF__RECORD_CACHE_MAX 128u /* most that a cache keeps */

/* Nothing is mapped before the first record is asked for. 0 or -ENOMEM. */
int numaperf__records_create(const struct numaperf__records_config *config,
                             struct numaperf__records **out);
/* Records in use included; NULL is allowed. */
void numaperf__records_destroy(struct numaperf__records *records);

/*
 * `cache` is the calling thread's own, for these records, or NULL. 0; -EAGAIN the limit is reached;
 * -ENOMEM, recorded.
 */
int numaperf__record_get(struct numaperf__records *records, struct numaperf__record_cache *cache,
                         struct numaperf__record **out);
void numaperf__record_put(struct numaperf__records *records, struct numaperf__record_cache *cache,
                          struct numaperf__record *record);

/* The mappings of the first chunks, at most `max`; how many. Any thread. */
size_t numaperf__records_ranges(const struct numaperf__records *records,
                                struct numaperf__audit_range *out, size_t max);
/* How many exist, free or not. Any thread. */
uint32_t numaperf__records_made(const struct numaperf__records *records);
/* Records that are free and in no cache; while nobody gets or puts. */
uint32_t numaperf__records_count_free(const struct numaperf__records *records);

#endif
