/* SPDX-License-Identifier: MIT */
/* An attestation in the making: what was seen, and the document about it. */
#ifndef NUMAPERF_SCHED_ATTEST_H
#define NUMAPERF_SCHED_ATTEST_H

#include "sched/attest_json.h"
#include "sched/look.h"
#include "sched/sched.h"

struct numaperf__attest {
    numaperf_rt_t *rt;
    int64_t began_ns;               /* CLOCK_REALTIME */
    struct numaperf__look *looks;   /* by worker and part */
    numaperf_enforcement_t verdict; /* the lowest level of all, with its first reason */
    struct numaperf__json json;
};

static inline struct numaperf__look *numaperf__attest_look(const struct numaperf__attest *attest,
                                                           uint32_t worker, uint32_t part)
{
    return &attest->looks[(size_t)worker * NUMAPERF__PART_COUNT + part];
}

/* Nanoseconds of CLOCK_REALTIME. */
int64_t numaperf__attest_now_ns(void);

/* The whole document; where attest->json.failed, what could be made of it. */
json_t *numaperf__attest_document(struct numaperf__attest *attest);

#endif
