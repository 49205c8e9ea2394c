/* SPDX-License-Identifier: MIT */
/* Placing the pages of a fresh mapping: the middle of a region's creation. */
#ifndef NUMAPERF_PLACE_REGION_PLACE_H
#define NUMAPERF_PLACE_REGION_PLACE_H

#include "place/range.h"
#include "place/region.h"
#include "place/region_file.h"

/* Everything one creation knows. Too big for a small stack, so it lives on the heap. */
struct numaperf__region_job {
    numaperf_region_config_t cfg;
    struct numaperf__region_extra extra;
    struct numaperf__file_facts file;   /* with NUMAPERF_REGION_HAS_FD */
    struct numaperf__range range;       /* what is placed */
    numaperf_nodemask_t goal;           /* nodes where pages shall be */
    numaperf_nodemask_t allowed;        /* nodes that have memory we may use; empty: unknown */
    numaperf_enforcement_t enforcement; /* the lowest level so far */
    numaperf_placement_t placement;     /* of the last query */
    bool is_hugetlb;                    /* pages come from a reserved pool */
    bool is_refused;                    /* the kernel refuses memory policies */
    bool is_spilled;                    /* the nodes are too full to be bound to */
    char goal_name[64];                 /* "node 1", "nodes 0,2" */
};

/* The pool lacks huge pages and small ones may replace them: unmap and try again. */
enum { NUMAPERF__REGION_LACKS_HUGE = 1 };

/* Fill goal, goal_name and allowed. Returns 0 or a recorded NUMAPERF_E_NO_NODE. */
int numaperf__region_goal(struct numaperf__region_job *job);

/*
 * Before anything is mapped: refuse what hard mode cannot have, and what would end in the
 * out-of-memory killer. Returns 0 or a recorded failure.
 */
int numaperf__region_admit(struct numaperf__region_job *job);

/* Populate, move, bind, read back, lock. Returns 0, LACKS_HUGE, or a recorded failure. */
int numaperf__region_place(struct numaperf__region_job *job);

/* The pool has too few huge pages. As numaperf__region_place(). */
int numaperf__region_lacks_huge(struct numaperf__region_job *job, int sys_errno);

/*
 * Note a level below strict and its reason: lowers job->enforcement in soft mode, returns a
 * recorded NUMAPERF_E_HARD_MODE in hard mode.
 */
int numaperf__region_note(struct numaperf__region_job *job, numaperf_enforcement_level_t level,
                          int sys_errno, const char *operation, const char *reason, ...)
    __attribute__((format(printf, 5, 6)));

#endif
