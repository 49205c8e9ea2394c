/* SPDX-License-Identifier: MIT */
/*
 * The token bucket. What has been earned is a function of the clock alone, computed anew each time
 * from the start, so nothing is rounded twice and nothing drifts:
 *
 *   earned(t) = per_s * (t - start) / 1 s, rounded down
 *   tokens(t) = burst + earned(t) - max(spent, earned(t))
 *
 * `spent` is the only word that changes. It counts tokens drawn and, by the maximum, those that
 * were lost because the bucket was full. A draw moves it by a compare-and-swap, so of two that see
 * the same tokens only one gets them; it never passes burst + earned(t), and never lags behind
 * what was drawn, so from the start on no more than burst + earned(t) are out. What is given back
 * after the bucket has been full again may be drawn a second time within that bound.
 *
 * Any thread, any order: tokens guard no memory, so everything is relaxed. A clock that is a
 * little behind that of another thread sees fewer tokens, not more.
 *
 * With both limits at 10^9 no product passes 10^18, and earned() holds for 500 years.
 */
#include "sched/budget.h"

#include "base/assert.h"

#define BUDGET_SECOND_NS UINT64_C(1000000000)

void numaperf__budget_init(struct numaperf__budget *budget, uint64_t per_s, uint64_t burst,
                           uint64_t now_ns)
{
    NUMAPERF_ASSERT(per_s > 0 && per_s <= NUMAPERF__BUDGET_MAX);
    NUMAPERF_ASSERT(burst > 0 && burst <= NUMAPERF__BUDGET_MAX);

    atomic_init(&budget->spent, 0);
    budget->per_s = per_s;
    budget->burst = burst;
    budget->start_ns = now_ns;
}

static uint64_t budget_earned(const struct numaperf__budget *budget, uint64_t now_ns)
{
    uint64_t since_ns = now_ns > budget->start_ns ? now_ns - budget->start_ns : 0;
    return since_ns / BUDGET_SECOND_NS * budget->per_s +
           since_ns % BUDGET_SECOND_NS * budget->per_s / BUDGET_SECOND_NS;
}

/* The first moment at which earned() is `tokens`. */
static uint64_t budget_earned_at(const struct numaperf__budget *budget, uint64_t tokens)
{
    uint64_t rest_ns = tokens % budget->per_s * BUDGET_SECOND_NS;
    return budget->start_ns + tokens / budget->per_s * BUDGET_SECOND_NS +
           (rest_ns + budget->per_s - 1) / budget->per_s;
}

uint64_t numaperf__budget_look(const struct numaperf__budget *budget, uint64_t now_ns,
                               uint64_t *out_next_ns)
{
    uint64_t earned = budget_earned(budget, now_ns);
    uint64_t spent = atomic_load_explicit(&budget->spent, memory_order_relaxed);
    *out_next_ns = now_ns;
    if (spent <= earned)
        return budget->burst;
    if (spent < budget->burst + earned)
        return budget->burst + earned - spent;
    *out_next_ns = budget_earned_at(budget, spent + 1 - budget->burst);
    return 0;
}

uint64_t numaperf__budget_take(struct numaperf__budget *budget, uint64_t now_ns, uint64_t wanted)
{
    uint64_t earned = budget_earned(budget, now_ns);
    uint64_t spent = atomic_load_explicit(&budget->spent, memory_order_relaxed);
    for (;;) {
        uint64_t base = spent > earned ? spent : earned;
        if (base >= budget->burst + earned || wanted == 0)
            return 0;
        uint64_t tokens = budget->burst + earned - base;
        uint64_t count = wanted < tokens ? wanted : tokens;
        if (atomic_compare_exchange_weak_explicit(&budget->spent, &spent, base + count,
                                                  memory_order_relaxed, memory_order_relaxed))
            return count;
    }
}

void numaperf__budget_give_back(struct numaperf__budget *budget, uint64_t count)
{
    uint64_t before = atomic_fetch_sub_explicit(&budget->spent, count, memory_order_relaxed);
    NUMAPERF_ASSERT_HOT(before >= count);
    (void)before;
}
