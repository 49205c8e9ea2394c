/* SPDX-License-Identifier: MIT */
/* A budget of tasks a second: a token bucket that several threads draw from. */
#ifndef NUMAPERF_SCHED_BUDGET_H
#define NUMAPERF_SCHED_BUDGET_H

#include "base/atomic.h"

#include <stdint.h>

#define NUMAPERF__BUDGET_MAX UINT64_C(1000000000) /* a second, and at once */

struct numaperf__budget {
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t spent; /* tokens; see budget.c */
    /* Constant. */
    uint64_t per_s;
    uint64_t burst;
    uint64_t start_ns;
};

/* Full. `per_s` and `burst` are 1 to NUMAPERF__BUDGET_MAX. */
void numaperf__budget_init(struct numaperf__budget *budget, uint64_t per_s, uint64_t burst,
                           uint64_t now_ns);

/* Tokens there are; `out_next_ns` is now, or when there will be one if nobody draws or gives. */
uint64_t numaperf__budget_look(const struct numaperf__budget *budget, uint64_t now_ns,
                               uint64_t *out_next_ns);

/* Draw up to `wanted` tokens; how many, perhaps none. Any thread. */
uint64_t numaperf__budget_take(struct numaperf__budget *budget, uint64_t now_ns, uint64_t wanted);

/* Put back some of what the caller drew a moment ago, and did not use. Any thread. */
void numaperf__budget_give_back(struct numaperf__budget *budget, uint64_t count);

#endif
