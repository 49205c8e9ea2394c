/* SPDX-License-Identifier: MIT */
/*
 * What the kernel says of a worker now, part by part, against what start has set: the auditor and
 * the attestation see with these eyes. Nothing is changed by a look.
 */
#ifndef NUMAPERF_SCHED_LOOK_H
#define NUMAPERF_SCHED_LOOK_H

#include "place/audit.h"
#include "sched/sched.h"

#include <stdint.h>

enum numaperf__part {
    NUMAPERF__PART_AFFINITY = 0, /* the thread's, and the PU it last ran on */
    NUMAPERF__PART_MEMPOLICY,    /* the thread's */
    NUMAPERF__PART_STACK,        /* pages */
    NUMAPERF__PART_ARENA,        /* pages */
    NUMAPERF__PART_QUEUES,       /* pages of its node's; the first worker of a node has them */
    NUMAPERF__PART_RING,         /* pages */
    NUMAPERF__PART_IOWQ,         /* affinity of the io-wq threads of its ring */
    NUMAPERF__PART_COUNT
};

enum numaperf__verdict {
    NUMAPERF__LOOK_NEVER = 0,  /* nobody has looked yet */
    NUMAPERF__LOOK_HOME,       /* as it was asked for */
    NUMAPERF__LOOK_DRIFTED,    /* `found` is not `wanted` */
    NUMAPERF__LOOK_UNREADABLE, /* the kernel does not tell: sys_errno */
    NUMAPERF__LOOK_NO_PART     /* there is none: epoll has no ring, a lent topology no policy */
};

struct numaperf__look {
    uint32_t verdict;      /* enum numaperf__verdict */
    int32_t sys_errno;     /* with UNREADABLE */
    int64_t time_ns;       /* CLOCK_REALTIME at the end of the look */
    uint64_t pages;        /* looked at: stack, arena, ring */
    uint64_t pages_home;   /* of them on the worker's node */
    uint64_t pages_absent; /* of them not backed by memory, or not readable */
    char wanted[64];
    char found[96];
};

/* Look at one part; every page of it. Any thread, while the worker's thread exists. */
void numaperf__look_at(const struct numaperf_worker *worker, enum numaperf__part part,
                       struct numaperf__look *out);

/*
 * The same, of pages and policies only a part: the sample's limit is the worker's, and shared out
 * among its parts. What is found elsewhere is looked at as a whole, so a drift is always whole.
 */
void numaperf__look_at_some(const struct numaperf_worker *worker, enum numaperf__part part,
                            const struct numaperf__audit_sample *sample,
                            struct numaperf__look *out);

/* Look at the io-wq threads that a census has already found. */
void numaperf__look_at_iowq(const struct numaperf_worker *worker,
                            const struct numaperf__iowq_census *census, struct numaperf__look *out);

const char *numaperf__part_name(enum numaperf__part part);
const char *numaperf__verdict_name(enum numaperf__verdict verdict);

/*
 * What is known of every worker: the first look, taken when start had placed everything, and the
 * last one, the auditor's or an attestation's. Under a lock of its own; any thread.
 */
struct numaperf__evidence;
int numaperf__evidence_create(uint32_t worker_count, struct numaperf__evidence **out);
void numaperf__evidence_destroy(struct numaperf__evidence *evidence);
/* Keep a look as the last, and as the first where there is none. */
void numaperf__evidence_add(struct numaperf__evidence *evidence, uint32_t worker,
                            enum numaperf__part part, const struct numaperf__look *look);
void numaperf__evidence_get(struct numaperf__evidence *evidence, uint32_t worker,
                            enum numaperf__part part, struct numaperf__look *out_first,
                            struct numaperf__look *out_last);
/* Look at every part of every worker: for a start that has placed everything. */
void numaperf__evidence_gather(struct numaperf__evidence *evidence, const numaperf_rt_t *rt);

#endif
