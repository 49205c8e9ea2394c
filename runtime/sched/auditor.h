/* SPDX-License-Identifier: MIT */
/* The auditor from inside: auditor.c, drift.c and repair.c alone include this. */
#ifndef NUMAPERF_SCHED_AUDITOR_H
#define NUMAPERF_SCHED_AUDITOR_H

#include "place/confine.h"
#include "sched/episode.h"
#include "sched/look.h"
#include "sched/notify.h"
#include "sched/sched.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define NUMAPERF__VIOLATION_KINDS 8u /* one more than the last */

/* When all pages are asked about, and when a part of them is; the auditor's thread's own. */
struct numaperf__audit_pace {
    uint64_t phase;     /* of the samples: one more each look */
    uint64_t migrated;  /* pages that the kernel had moved before the last look at all pages */
    uint64_t rested_ns; /* before that time a look at all pages would cost too much */
    uint32_t fruitless; /* looks at all pages in a row that found nothing new */
    numaperf_nodemask_t nodes; /* that the cpuset allowed at the last look */
    bool is_full;              /* this look is one at all pages */
    bool is_fruitful;          /* and found something new */
};

struct numaperf__auditor {
    numaperf_rt_t *rt;
    uint32_t interval_ms;
    pthread_t thread;
    pthread_mutex_t mutex;     /* held while something is set by a thread's number */
    atomic_bool stopping;      /* written under mutex; from then on nothing is reported or set */
    atomic_bool exited;        /* written by the auditor, last */
    bool joined;               /* under the runtime's stop_mutex */
    _Atomic int32_t thread_id; /* written by the auditor, and 0 again by who joins it */

    /* The auditor's thread's own. */
    struct numaperf__notify notify;
    enum numaperf__episode *episodes; /* by worker, last the machine, and kind */
    struct numaperf__confine confine;
    struct numaperf__iowq_census iowq;
    int iowq_rc; /* of its last refresh */
    struct numaperf__audit_pace pace;
    bool stops; /* the runtime was told to stop for a drift */
};

/* What one look came to. */
struct numaperf__finding {
    uint32_t kind;
    int32_t worker; /* index; -1 the machine */
    enum numaperf__sight sight;
    char text[256]; /* what, where, wanted, found: with DRIFTED */
};

bool numaperf__auditor_stopping(const struct numaperf__auditor *auditor);
enum numaperf__episode *numaperf__auditor_episode(const struct numaperf__auditor *auditor,
                                                  uint32_t kind, int32_t worker);

/* ---- drift.c: looks, and what they mean ---- */

/* Read what concerns all workers, and choose how much of their pages is looked at. */
void numaperf__drift_prepare(struct numaperf__auditor *auditor);
/* Look at one kind, of the machine (BALANCING) or of a worker. */
void numaperf__drift_look(struct numaperf__auditor *auditor, uint32_t kind, int32_t worker,
                          struct numaperf__finding *out);
/* The same at every page, whatever was chosen. */
void numaperf__drift_look_whole(struct numaperf__auditor *auditor, uint32_t kind, int32_t worker,
                                struct numaperf__finding *out);
/* All have been looked at. */
void numaperf__drift_finish(struct numaperf__auditor *auditor);

/* ---- repair.c: putting back ---- */

/*
 * Put back what a finding says has drifted, as far as this process can, and look again: 0 when that
 * found it in order. Else -errno, and `out_why` says what keeps it.
 */
int numaperf__repair(struct numaperf__auditor *auditor, const struct numaperf__finding *finding,
                     char *out_why, size_t size);

#endif
