/* SPDX-License-Identifier: MIT */
/* What holds between each two nodes of a runtime. */
#ifndef NUMAPERF_SCHED_PAIR_H
#define NUMAPERF_SCHED_PAIR_H

#include "sched/budget.h"
#include "sched/rule.h"
#include "sched/sched.h"

/* Workers of one node as thieves of another. Constant, but for the budget's content. */
struct numaperf__pair {
    struct numaperf__rule rule;
    struct numaperf__budget *budget; /* NULL: no limit */
};

static inline const struct numaperf__pair *numaperf__pair_of(const struct numaperf__node *thief,
                                                             const struct numaperf__node *victim)
{
    return &thief->rt->pairs[(uint64_t)thief->index * thief->rt->node_count + victim->index];
}

/*
 * What workers of `thief` may take from `victim` now. `backlog` and `waited_ns` are what they see
 * of its unbound tasks; with a count above 0 the tokens for it are drawn, and what is not taken
 * after all is to be given back. Any thread.
 */
struct numaperf__decision numaperf__pair_decide(const struct numaperf__pair *pair, uint64_t now_ns,
                                                uint64_t backlog, uint64_t waited_ns);
void numaperf__pair_give_back(const struct numaperf__pair *pair, uint64_t count);

#endif
