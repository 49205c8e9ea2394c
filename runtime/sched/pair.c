/* SPDX-License-Identifier: MIT */
/*
 * The table of pairs: made once at start, from the policy, the distances and the user's rows, by
 * the pure functions of steal.c and rule.c. Then each node's victims and thieves in their order,
 * without those that a row forbids. Only pairs with a budget have a bucket: a word that several
 * workers write, on a cache line of its own.
 */
#include "sched/pair.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "sched/steal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- rows ---- */

/* A row about a node that is not there would silently not hold. */
static int pair_check_node(const numaperf_rt_t *rt, uint64_t index, const char *field, int32_t node)
{
    if (node == NUMAPERF_NODE_ANY || (node < NUMAPERF_NODE_MAX && rt->node_index[node] >= 0))
        return 0;
    return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "start",
                          "steal_rules[%llu].%s is node %d, where the runtime has no workers",
                          (unsigned long long)index, field, node);
}

/* The user's rows, checked; NULL and the error in `out_rc` when they are not in order. */
static int pair_load_rows(const numaperf_rt_t *rt, numaperf_steal_rule_t **out_rows)
{
    uint64_t count = rt->config.steal_rule_count;
    int rc = numaperf__rule_check_rows(rt->config.steal_rules, count);
    if (rc < 0)
        return rc;
    numaperf_steal_rule_t *rows = calloc((size_t)count + 1, sizeof(*rows)); /* + 1: never empty */
    if (rows == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for %llu steal rules",
                              (unsigned long long)count);
    for (uint64_t i = 0; i < count && rc == 0; i++) {
        rc = numaperf__rule_load(rt->config.steal_rules, i, &rows[i]);
        if (rc == 0)
            rc = pair_check_node(rt, i, "thief", rows[i].thief);
        if (rc == 0)
            rc = pair_check_node(rt, i, "victim", rows[i].victim);
    }
    if (rc < 0) {
        free(rows);
        return rc;
    }
    *out_rows = rows;
    return 0;
}

/* ---- pairs ---- */

static struct numaperf__rule pair_rule(const numaperf_rt_t *rt, const numaperf_steal_rule_t *rows,
                                       const struct numaperf__node *thief,
                                       const struct numaperf__node *victim)
{
    const struct numaperf__rule defaults = numaperf__rule_default(
        rt->config.steal_policy, numaperf_topology_distance(rt->topology, thief->id, victim->id));
    for (uint64_t i = 0; i < rt->config.steal_rule_count; i++) {
        if (numaperf__rule_names(&rows[i], thief->id, victim->id))
            return numaperf__rule_apply(&rows[i], &defaults);
    }
    return defaults;
}

static void pair_fill_rules(numaperf_rt_t *rt, const numaperf_steal_rule_t *rows)
{
    uint32_t n = rt->node_count;
    for (uint32_t thief = 0; thief < n; thief++) {
        for (uint32_t victim = 0; victim < n; victim++) {
            if (thief != victim) /* nobody steals from itself: that one stays forbidden */
                rt->pairs[(size_t)thief * n + victim].rule =
                    pair_rule(rt, rows, &rt->nodes[thief], &rt->nodes[victim]);
        }
    }
}

static int pair_create_budgets(numaperf_rt_t *rt)
{
    size_t pair_count = (size_t)rt->node_count * rt->node_count;
    size_t count = 0;
    for (size_t i = 0; i < pair_count; i++)
        count += rt->pairs[i].rule.budget_per_s > 0;
    if (count == 0)
        return 0;
    rt->budgets = aligned_alloc(NUMAPERF_CACHE_LINE, count * sizeof(*rt->budgets));
    if (rt->budgets == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for %zu steal budgets", count);
    uint64_t now_ns = numaperf__clock_now_ns();
    struct numaperf__budget *next = rt->budgets;
    for (size_t i = 0; i < pair_count; i++) {
        struct numaperf__pair *pair = &rt->pairs[i];
        if (pair->rule.budget_per_s == 0)
            continue;
        numaperf__budget_init(next, pair->rule.budget_per_s, pair->rule.budget_burst, now_ns);
        pair->budget = next++;
    }
    return 0;
}

/* ---- order ---- */

/* Those of `order` that may come first, on the node's side that `as_thieves` says; how many. */
static uint32_t pair_allowed_first(const struct numaperf__node *node, uint32_t *order,
                                   uint32_t count, bool as_thieves)
{
    const struct numaperf__node *nodes = node - node->index;
    uint32_t allowed = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t index = order[i];
        const struct numaperf__pair *pair = as_thieves ? numaperf__pair_of(&nodes[index], node)
                                                       : numaperf__pair_of(node, &nodes[index]);
        if (!pair->rule.allowed)
            continue;
        memmove(&order[allowed + 1], &order[allowed], (i - allowed) * sizeof(*order));
        order[allowed++] = index;
    }
    return allowed;
}

static void pair_fill_orders(numaperf_rt_t *rt, const struct numaperf__steal_map *map)
{
    uint32_t n = rt->node_count;
    uint32_t policy = rt->config.steal_policy;
    for (uint32_t i = 0; i < n; i++) {
        struct numaperf__node *node = &rt->nodes[i];
        node->victims = rt->victim_table + (size_t)i * 2 * n;
        node->thieves = node->victims + n;
        uint32_t victims = numaperf__steal_order(policy, map, i, node->victims);
        uint32_t thieves = numaperf__steal_thieves(policy, map, i, node->thieves);
        node->other_count = victims;
        node->victim_count = pair_allowed_first(node, node->victims, victims, false);
        node->thief_count = pair_allowed_first(node, node->thieves, thieves, true);
    }
}

static int pair_create_orders(numaperf_rt_t *rt)
{
    uint32_t n = rt->node_count;
    int32_t *numbers = calloc((size_t)n * n + n, sizeof(*numbers));
    rt->victim_table = calloc((size_t)n * n * 2, sizeof(*rt->victim_table));
    if (numbers == NULL || rt->victim_table == NULL) {
        free(numbers);
        return numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for the distances");
    }
    int32_t *packages = numbers + (size_t)n * n;
    for (uint32_t from = 0; from < n; from++) {
        packages[from] = numaperf_topology_node_package(rt->topology, rt->nodes[from].id);
        for (uint32_t to = 0; to < n; to++)
            numbers[(size_t)from * n + to] =
                numaperf_topology_distance(rt->topology, rt->nodes[from].id, rt->nodes[to].id);
    }
    const struct numaperf__steal_map map = {
        .node_count = n, .distances = numbers, .packages = packages};
    pair_fill_orders(rt, &map);
    free(numbers);
    return 0;
}

/* ---- whole ---- */

int numaperf__pairs_create(numaperf_rt_t *rt)
{
    NUMAPERF_ASSERT(rt->node_count > 0);

    numaperf_steal_rule_t *rows = NULL;
    int rc = pair_load_rows(rt, &rows);
    if (rc < 0)
        return rc;
    rt->pairs = calloc((size_t)rt->node_count * rt->node_count, sizeof(*rt->pairs));
    if (rt->pairs == NULL) {
        rc = numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for %u pairs of nodes",
                            rt->node_count);
        goto free_rows;
    }
    pair_fill_rules(rt, rows);
    rc = pair_create_budgets(rt);
    if (rc == 0)
        rc = pair_create_orders(rt);
    rt->config.steal_rules = NULL; /* the caller's, during start only */
free_rows:
    free(rows);
    return rc;
}

void numaperf__pairs_destroy(numaperf_rt_t *rt)
{
    free(rt->victim_table);
    free(rt->budgets);
    free(rt->pairs);
    rt->victim_table = NULL;
    rt->budgets = NULL;
    rt->pairs = NULL;
}

/* ---- use ---- */

struct numaperf__decision numaperf__pair_decide(const struct numaperf__pair *pair, uint64_t now_ns,
                                                uint64_t backlog, uint64_t waited_ns)
{
    struct numaperf__offer offer = {
        .backlog = backlog, .waited_ns = waited_ns, .tokens = UINT64_MAX};
    if (pair->budget == NULL)
        return numaperf__rule_decide(&pair->rule, now_ns, &offer);
    for (;;) {
        offer.tokens = numaperf__budget_look(pair->budget, now_ns, &offer.token_ns);
        struct numaperf__decision decision = numaperf__rule_decide(&pair->rule, now_ns, &offer);
        if (decision.count == 0)
            return decision;
        decision.count = numaperf__budget_take(pair->budget, now_ns, decision.count);
        if (decision.count > 0)
            return decision;
        /* Another thief drew them between the two: there are none now, or given back ones. */
    }
}

void numaperf__pair_give_back(const struct numaperf__pair *pair, uint64_t count)
{
    if (pair->budget != NULL && count > 0)
        numaperf__budget_give_back(pair->budget, count);
}
