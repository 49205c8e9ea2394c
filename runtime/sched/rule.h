/* SPDX-License-Identifier: MIT */
/* When workers of one node may take tasks of another: pure functions. */
#ifndef NUMAPERF_SCHED_RULE_H
#define NUMAPERF_SCHED_RULE_H

#include <numaperf/runtime.h>

#include <stdbool.h>
#include <stdint.h>

#define NUMAPERF__RULE_COUNT_MAX 4096u
#define NUMAPERF__RULE_NEVER_NS UINT64_MAX

/* What holds between a thief node and a victim node, defaults filled in. */
struct numaperf__rule {
    bool allowed;
    uint32_t backlog_min;  /* at least 1 */
    uint32_t batch_max;    /* at least 1 */
    uint64_t wait_ns_min;  /* 0: at once */
    uint64_t budget_per_s; /* 0: no limit, and then no burst */
    uint64_t budget_burst; /* at least 1 where there is a limit */
};

/* What a thief sees of a victim. */
struct numaperf__offer {
    uint64_t backlog;   /* tasks that wait and may be taken */
    uint64_t waited_ns; /* the oldest of them, at least */
    uint64_t tokens;    /* of the pair's budget; UINT64_MAX: no limit */
    uint64_t token_ns;  /* when there is one, while there is none */
};

/*
 * To take `count` tasks; or, when that is 0, to ask again at `until_ns`, which is later than now:
 * by then the waiting time and the budget no longer bar. NUMAPERF__RULE_NEVER_NS: it is forbidden,
 * or too few tasks wait, and time alone changes nothing.
 */
struct numaperf__decision {
    uint64_t count;
    uint64_t until_ns;
};

/*
 * Whether and how many: half of what waits, rounded up, at most the batch and the tokens. The
 * thief pays for what it takes with numaperf__budget_take() before it takes it.
 */
struct numaperf__decision numaperf__rule_decide(const struct numaperf__rule *rule, uint64_t now_ns,
                                                const struct numaperf__offer *offer);

/*
 * How long a task must have waited before it pays to run it at that distance: 0 up to 12, 2 us up
 * to 19, 5 us up to 29, 20 us beyond and where the distance is unknown, that is negative.
 */
uint64_t numaperf__rule_wait_ns(int32_t distance);

/* Of a pair that no row names. `policy` is not NUMAPERF_STEAL_DEFAULT any more. */
struct numaperf__rule numaperf__rule_default(uint32_t policy, int32_t distance);

/* ---- rows of the configuration ---- */

/*
 * Load row `index` of `rows`, whose elements are as large as the first one says, and check it.
 *
 * Returns:  0; -EINVAL; -E2BIG; the row and its field are named.
 */
int numaperf__rule_load(const numaperf_steal_rule_t *rows, uint64_t index,
                        numaperf_steal_rule_t *out);
/* All of them; also whether the table as such is one. */
int numaperf__rule_check_rows(const numaperf_steal_rule_t *rows, uint64_t count);

/* Whether a loaded row is about this pair of OS node ids, which differ. */
bool numaperf__rule_names(const numaperf_steal_rule_t *row, int32_t thief, int32_t victim);
/* What a loaded row makes of the pair's defaults; what the policy forbids stays forbidden. */
struct numaperf__rule numaperf__rule_apply(const numaperf_steal_rule_t *row,
                                           const struct numaperf__rule *defaults);

#endif
