/* SPDX-License-Identifier: MIT */
/*
 * The rules beneath the steal policy. A task that runs on another node finds its data in the
 * caches of its home and its pages behind the interconnect; the farther, the longer it must have
 * waited for that to be the lesser evil. The defaults are steps of the firmware's distance, which
 * has no unit: up to 12 are nodes of one package that share its memory controllers, 20 to 29 the
 * usual neighbour package, 30 and more the one behind it.
 *
 * No state, no threads, no clock: tested as a table.
 */
#include "sched/rule.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "sched/budget.h"

#include <errno.h>
#include <stdalign.h>
#include <stddef.h>

#define RULE_BATCH_DEFAULT 64u
#define RULE_BACKLOG_DEFAULT 1u
#define RULE_BURST_SHARE 10u /* of a second's budget */
#define RULE_ROW_MIN_SIZE sizeof(numaperf_steal_rule_t)

_Static_assert(offsetof(numaperf_steal_rule_t, backlog_min) == 16, "public struct: append only");
_Static_assert(offsetof(numaperf_steal_rule_t, budget_burst) == 40, "public struct: append only");

/* ---- decision ---- */

static uint64_t rule_later(uint64_t now_ns, uint64_t by_ns)
{
    return by_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + by_ns;
}

static uint64_t rule_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* When waiting time and budget no longer bar; `now_ns` when they do not. */
static uint64_t rule_barred_until(const struct numaperf__rule *rule, uint64_t now_ns,
                                  const struct numaperf__offer *offer)
{
    uint64_t until_ns = now_ns;
    if (offer->waited_ns < rule->wait_ns_min)
        until_ns = rule_later(now_ns, rule->wait_ns_min - offer->waited_ns);
    if (offer->tokens > 0)
        return until_ns;
    /* A token that is due by now was taken by another thief in between: a moment later, then. */
    uint64_t token_ns = offer->token_ns > now_ns ? offer->token_ns : rule_later(now_ns, 1);
    return token_ns > until_ns ? token_ns : until_ns;
}

struct numaperf__decision numaperf__rule_decide(const struct numaperf__rule *rule, uint64_t now_ns,
                                                const struct numaperf__offer *offer)
{
    NUMAPERF_ASSERT_HOT(rule->backlog_min > 0);
    NUMAPERF_ASSERT_HOT(rule->batch_max > 0);

    struct numaperf__decision decision = {.count = 0, .until_ns = NUMAPERF__RULE_NEVER_NS};
    if (!rule->allowed || offer->backlog < rule->backlog_min)
        return decision;
    decision.until_ns = rule_barred_until(rule, now_ns, offer);
    if (decision.until_ns > now_ns)
        return decision;
    uint64_t half = offer->backlog - offer->backlog / 2;
    decision.count = rule_min(rule_min(half, rule->batch_max), offer->tokens);
    NUMAPERF_ASSERT_HOT(decision.count > 0);
    return decision;
}

/* ---- defaults ---- */

uint64_t numaperf__rule_wait_ns(int32_t distance)
{
    static const struct {
        int32_t distance_max;
        uint64_t wait_ns;
    } steps[] = {{12, 0}, {19, 2000}, {29, 5000}};
    for (size_t i = 0; distance >= 0 && i < sizeof(steps) / sizeof(steps[0]); i++) {
        if (distance <= steps[i].distance_max)
            return steps[i].wait_ns;
    }
    return 20000;
}

struct numaperf__rule numaperf__rule_default(uint32_t policy, int32_t distance)
{
    NUMAPERF_ASSERT(policy != NUMAPERF_STEAL_DEFAULT);
    NUMAPERF_ASSERT(policy <= NUMAPERF_STEAL_ANY);

    const struct numaperf__rule rule = {
        .allowed = policy != NUMAPERF_STEAL_LOCAL_ONLY,
        .backlog_min = RULE_BACKLOG_DEFAULT,
        .batch_max = RULE_BATCH_DEFAULT,
        .wait_ns_min = policy == NUMAPERF_STEAL_ANY ? 0 : numaperf__rule_wait_ns(distance),
    };
    return rule;
}

/* ---- rows ---- */

static int rule_check_end(uint64_t index, const char *field, int32_t node)
{
    if (node >= 0 || node == NUMAPERF_NODE_ANY)
        return 0;
    return numaperf__fail(-EINVAL, 0, "start",
                          "steal_rules[%llu].%s is %d: neither a node id nor NUMAPERF_NODE_ANY",
                          (unsigned long long)index, field, node);
}

static int rule_check_budget(uint64_t index, const numaperf_steal_rule_t *row)
{
    unsigned long long at = index;
    if (row->budget_per_s > NUMAPERF__BUDGET_MAX)
        return numaperf__fail(
            -EINVAL, 0, "start", "steal_rules[%llu].budget_per_s %llu is above %llu", at,
            (unsigned long long)row->budget_per_s, (unsigned long long)NUMAPERF__BUDGET_MAX);
    if (row->budget_burst > NUMAPERF__BUDGET_MAX)
        return numaperf__fail(
            -EINVAL, 0, "start", "steal_rules[%llu].budget_burst %llu is above %llu", at,
            (unsigned long long)row->budget_burst, (unsigned long long)NUMAPERF__BUDGET_MAX);
    if (row->budget_burst > 0 && row->budget_per_s == 0)
        return numaperf__fail(
            -EINVAL, 0, "start",
            "steal_rules[%llu].budget_burst %llu without budget_per_s limits nothing", at,
            (unsigned long long)row->budget_burst);
    return 0;
}

static int rule_check(uint64_t index, const numaperf_steal_rule_t *row)
{
    if ((row->flags & ~(uint32_t)NUMAPERF_STEAL_RULE_FORBID) != 0)
        return numaperf__fail(-EINVAL, 0, "start", "steal_rules[%llu].flags %#x has an unknown bit",
                              (unsigned long long)index, row->flags);
    int rc = rule_check_end(index, "thief", row->thief);
    if (rc == 0)
        rc = rule_check_end(index, "victim", row->victim);
    if (rc < 0)
        return rc;
    if (row->thief >= 0 && row->thief == row->victim)
        return numaperf__fail(-EINVAL, 0, "start",
                              "steal_rules[%llu].thief and .victim are both node %d, whose workers "
                              "always run its tasks",
                              (unsigned long long)index, row->thief);
    return rule_check_budget(index, row);
}

int numaperf__rule_load(const numaperf_steal_rule_t *rows, uint64_t index,
                        numaperf_steal_rule_t *out)
{
    uint32_t stride = rows->size;
    const char *row = (const char *)rows + index * stride;
    uint32_t size = ((const numaperf_steal_rule_t *)(const void *)row)->size;
    if (size != stride || size < RULE_ROW_MIN_SIZE || size % alignof(numaperf_steal_rule_t) != 0)
        return numaperf__fail(-EINVAL, 0, "start",
                              "steal_rules[%llu].size is %u, that of the first %u, the least %zu: "
                              "start each from NUMAPERF_STEAL_RULE_INIT",
                              (unsigned long long)index, size, stride, RULE_ROW_MIN_SIZE);
    if (numaperf__config_load(out, sizeof(*out), RULE_ROW_MIN_SIZE, row, "start") < 0)
        return numaperf__fail(-E2BIG, 0, "start",
                              "steal_rules[%llu] uses a field beyond byte %zu that this library "
                              "does not know",
                              (unsigned long long)index, sizeof(*out));
    return rule_check(index, out);
}

int numaperf__rule_check_rows(const numaperf_steal_rule_t *rows, uint64_t count)
{
    if (count > NUMAPERF__RULE_COUNT_MAX)
        return numaperf__fail(-EINVAL, 0, "start", "steal_rule_count %llu is above %u",
                              (unsigned long long)count, NUMAPERF__RULE_COUNT_MAX);
    if ((rows == NULL) != (count == 0))
        return numaperf__fail(-EINVAL, 0, "start", "steal_rules is %s, steal_rule_count is %llu",
                              rows == NULL ? "NULL" : "not NULL", (unsigned long long)count);
    numaperf_steal_rule_t row;
    int rc = 0;
    for (uint64_t i = 0; i < count && rc == 0; i++)
        rc = numaperf__rule_load(rows, i, &row);
    return rc;
}

bool numaperf__rule_names(const numaperf_steal_rule_t *row, int32_t thief, int32_t victim)
{
    NUMAPERF_ASSERT(thief != victim);

    return (row->thief == NUMAPERF_NODE_ANY || row->thief == thief) &&
           (row->victim == NUMAPERF_NODE_ANY || row->victim == victim);
}

struct numaperf__rule numaperf__rule_apply(const numaperf_steal_rule_t *row,
                                           const struct numaperf__rule *defaults)
{
    struct numaperf__rule rule = *defaults;
    if ((row->flags & NUMAPERF_STEAL_RULE_FORBID) != 0)
        rule.allowed = false;
    if (row->backlog_min > 0)
        rule.backlog_min = row->backlog_min;
    if (row->batch_max > 0)
        rule.batch_max = row->batch_max;
    if (row->wait_ns_min > 0)
        rule.wait_ns_min = row->wait_ns_min == UINT64_MAX ? 0 : row->wait_ns_min;
    rule.budget_per_s = row->budget_per_s;
    rule.budget_burst = row->budget_burst;
    if (rule.budget_per_s > 0 && rule.budget_burst == 0)
        rule.budget_burst = (rule.budget_per_s + RULE_BURST_SHARE - 1) / RULE_BURST_SHARE;
    return rule;
}
