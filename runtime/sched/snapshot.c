/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: what workers and queues have counted, summed up for a worker, a node, the runtime.
 * Nothing is stopped for them, and nobody is kept waiting: every number is read once, relaxed.
 *
 * A place of a queue that was announced and taken back again counts as accepted and, once it came
 * out, as finished inside (inbox.c); who asks is told of neither. After the workers have ended some
 * may be left in the queues, where they wait for nothing. So, when nothing moves any more,
 *
 *   accepted (told) = announced - retracted = ran + cancelled
 *
 * in sum, and for every node of those homed there.
 *
 * Thread rule: any thread. Workers' tallies exist before the first callback does, and last until
 * destroy; what is read of an arena is for any thread, too.
 */
#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "net/net.h"
#include "sched/sched.h"
#include "sched/stall.h"
#include "stat/report.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

#define SNAPSHOT_WORKER_MIN_SIZE offsetof(numaperf_worker_stats_t, stalls)
#define SNAPSHOT_MIN_SIZE sizeof(numaperf_rt_stats_t)

static const numaperf_rt_stats_t snapshot_empty = NUMAPERF_RT_STATS_INIT;

/* ---- tallies ---- */

int numaperf__tallies_create(numaperf_rt_t *rt)
{
    rt->outside = numaperf__tally_create(rt->node_count);
    return rt->outside != NULL
               ? 0
               : numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for the counters");
}

void numaperf__tallies_destroy(numaperf_rt_t *rt)
{
    for (uint32_t i = 0; i < rt->worker_count; i++)
        numaperf__tally_destroy(rt->workers[i].tally);
    numaperf__tally_destroy(rt->outside);
}

void numaperf__tally_outside(numaperf_rt_t *rt, const struct numaperf__task *task)
{
    if (task->fn != NULL)
        (void)atomic_fetch_add_explicit(&rt->outside->homes[task->home].cancelled, 1,
                                        memory_order_relaxed);
}

void numaperf__tally_retracted(numaperf_rt_t *rt, uint32_t home,
                               const struct numaperf__ticket *ticket)
{
    if (ticket->spill == NULL) /* what was to be spilled is announced no more */
        (void)atomic_fetch_add_explicit(&rt->outside->homes[home].retracted, ticket->count,
                                        memory_order_relaxed);
}

/* ---- worker ---- */

static uint64_t snapshot_waiting(const numaperf_rt_t *rt, uint64_t depth)
{
    return numaperf__rt_state(rt) < NUMAPERF__RT_CLOSING ? depth : 0;
}

static void snapshot_worker(const struct numaperf_worker *worker, numaperf_worker_stats_t *out)
{
    const numaperf_worker_stats_t empty = NUMAPERF_WORKER_STATS_INIT;
    *out = empty;
    out->node = worker->node->id;
    out->cpu = worker->cpu;
    out->index = worker->index;
    numaperf__tally_snapshot(worker->tally, worker->node->index, out);
    numaperf__stats_snapshot(&worker->counters, out);
    out->stalls = numaperf__stall_count(worker);
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++)
        out->waiting += snapshot_waiting(worker->rt, numaperf__inbox_depth(&worker->bound[p]));
    numaperf_arena_stats_t arena = NUMAPERF_ARENA_STATS_INIT;
    int rc = numaperf_arena_stats(worker->arena, &arena);
    NUMAPERF_ASSERT(rc == 0); /* a worker has an arena before it has a callback */
    out->arena_mapped_bytes = arena.mapped_bytes;
    out->arena_used_bytes = arena.used_bytes;
}

/* ---- matrix ---- */

/* Tasks homed on `home` that ran on `node`; both are indexes. */
static uint64_t snapshot_ran(const numaperf_rt_t *rt, uint32_t home, uint32_t node)
{
    const struct numaperf__node *place = &rt->nodes[node];
    uint64_t ran = 0;
    for (uint32_t i = 0; i < place->worker_count; i++) {
        const struct numaperf__tally *tally = rt->workers[place->first_worker + i].tally;
        ran += numaperf__counter_read(&tally->homes[home].ran);
    }
    return ran;
}

static uint64_t snapshot_stolen_from(const numaperf_rt_t *rt, uint32_t home)
{
    uint64_t ran = 0;
    for (uint32_t i = 0; i < rt->node_count; i++)
        ran += i != home ? snapshot_ran(rt, home, i) : 0;
    return ran;
}

/* ---- node ---- */

static uint64_t snapshot_cancelled(const numaperf_rt_t *rt, uint32_t home)
{
    uint64_t sum = numaperf__counter_read(&rt->outside->homes[home].cancelled);
    for (uint32_t i = 0; i < rt->worker_count; i++)
        sum += numaperf__counter_read(&rt->workers[i].tally->homes[home].cancelled);
    return sum;
}

/* Unbound tasks that wait in the queue of a node and in the deques of its workers. */
static uint64_t snapshot_unbound(const numaperf_rt_t *rt, const struct numaperf__node *node)
{
    uint64_t depth = 0;
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        depth += numaperf__inbox_depth(&node->unbound[p]);
        for (uint32_t i = 0; i < node->worker_count; i++)
            depth += numaperf__deque_depth(&rt->workers[node->first_worker + i].local[p]);
    }
    return depth;
}

/* `workers` are snapshots of the node's. */
static void snapshot_node(const numaperf_rt_t *rt, uint32_t index,
                          const numaperf_worker_stats_t *workers, numaperf_rt_stats_t *out)
{
    const struct numaperf__node *node = &rt->nodes[index];
    *out = snapshot_empty;
    out->node = node->id;
    out->node_count = 1;
    for (uint32_t i = 0; i < node->worker_count; i++)
        numaperf__stats_add_worker(out, &workers[i]);
    out->stolen_from = snapshot_stolen_from(rt, index);
    out->cancelled = snapshot_cancelled(rt, index);
    /* Last, so that it is not below what became of tasks; and never below what is subtracted. */
    uint64_t retracted = numaperf__counter_read(&rt->outside->homes[index].retracted);
    out->accepted = numaperf__node_accepted(node) - retracted;
    out->waiting_unbound = snapshot_waiting(rt, snapshot_unbound(rt, node));
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++)
        out->waiting_fixed += snapshot_waiting(rt, numaperf__inbox_depth(&node->fixed[p]));
    uint64_t at_home = out->ran - out->ran_remote;
    out->locality = numaperf__stats_locality(at_home, at_home + out->stolen_from);
}

/* ---- everything ---- */

/* Of every node and worker; the first of the nodes is that of the whole runtime. */
struct snapshot {
    numaperf_rt_stats_t *nodes;
    numaperf_worker_stats_t *workers;
};

static void snapshot_free(struct snapshot *snapshot)
{
    free(snapshot->workers);
    free(snapshot->nodes);
}

/* Into arrays of as many as there are. */
static void snapshot_fill(const numaperf_rt_t *rt, numaperf_rt_stats_t *out_total,
                          numaperf_rt_stats_t *nodes, numaperf_worker_stats_t *workers)
{
    for (uint32_t i = 0; i < rt->worker_count; i++)
        snapshot_worker(&rt->workers[i], &workers[i]);
    *out_total = snapshot_empty;
    out_total->node = NUMAPERF_NODE_ANY;
    for (uint32_t i = 0; i < rt->node_count; i++) {
        numaperf_worker_stats_t *first = &workers[rt->nodes[i].first_worker];
        snapshot_node(rt, i, first, &nodes[i]);
        first->stolen_from = nodes[i].stolen_from;
        numaperf__stats_add_node(out_total, &nodes[i]);
    }
    uint64_t at_home = out_total->ran - out_total->ran_remote;
    out_total->locality = numaperf__stats_locality(at_home, out_total->ran);
}

static int snapshot_take(const numaperf_rt_t *rt, struct snapshot *out)
{
    out->nodes = calloc((size_t)rt->node_count + 1, sizeof(*out->nodes));
    out->workers = calloc(rt->worker_count, sizeof(*out->workers));
    if (out->nodes == NULL || out->workers == NULL) {
        snapshot_free(out);
        (void)numaperf__fail(-ENOMEM, ENOMEM, "stats", "no memory for the figures of %u workers",
                             rt->worker_count);
        return -ENOMEM;
    }
    snapshot_fill(rt, out->nodes, out->nodes + 1, out->workers);
    return 0;
}

/* ---- what a runtime tells ---- */

int numaperf_rt_worker_stats(const numaperf_rt_t *rt, uint32_t index, numaperf_worker_stats_t *out)
{
    if (rt == NULL || index >= rt->worker_count)
        return numaperf__fail(-EINVAL, 0, "stats", "there is no worker %u", index);
    const numaperf_worker_t *worker = &rt->workers[index];
    numaperf_worker_stats_t stats;
    snapshot_worker(worker, &stats);
    if (index == worker->node->first_worker)
        stats.stolen_from = snapshot_stolen_from(rt, worker->node->index);
    return numaperf__result_store(out, SNAPSHOT_WORKER_MIN_SIZE, &stats, sizeof(stats), "stats");
}

int numaperf_rt_stats(const numaperf_rt_t *rt, numaperf_rt_stats_t *out)
{
    if (rt == NULL)
        return numaperf__fail(-EINVAL, 0, "stats", "rt must not be NULL");
    struct snapshot snapshot;
    int rc = snapshot_take(rt, &snapshot);
    if (rc < 0)
        return rc;
    rc = numaperf__result_store(out, SNAPSHOT_MIN_SIZE, snapshot.nodes, sizeof(*snapshot.nodes),
                                "stats");
    snapshot_free(&snapshot);
    return rc;
}

/* The index of an OS node id; NUMAPERF_E_NO_NODE. */
static int snapshot_node_index(const numaperf_rt_t *rt, int node)
{
    if (node >= 0 && node < NUMAPERF_NODE_MAX && rt->node_index[node] >= 0)
        return rt->node_index[node];
    return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "stats", "the runtime has no workers on node %d",
                          node);
}

int numaperf_rt_node_stats(const numaperf_rt_t *rt, int node, numaperf_rt_stats_t *out)
{
    if (rt == NULL)
        return numaperf__fail(-EINVAL, 0, "stats", "rt must not be NULL");
    int index = snapshot_node_index(rt, node);
    if (index < 0)
        return index;
    struct snapshot snapshot;
    int rc = snapshot_take(rt, &snapshot);
    if (rc < 0)
        return rc;
    rc = numaperf__result_store(out, SNAPSHOT_MIN_SIZE, &snapshot.nodes[1 + index],
                                sizeof(*snapshot.nodes), "stats");
    snapshot_free(&snapshot);
    return rc;
}

int numaperf_rt_net_stats(const numaperf_rt_t *rt, numaperf_net_stats_t *out)
{
    if (rt == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "stats", "rt and out must not be NULL");
    numaperf_net_stats_t total = NUMAPERF_NET_STATS_INIT;
    for (uint32_t i = 0; i < rt->worker_count; i++)
        numaperf__net_add_stats(&rt->workers[i].net_cells, &total);
    return numaperf__net_store_stats(&total, out);
}

int numaperf_rt_matrix(const numaperf_rt_t *rt, int home, int node, uint64_t *out)
{
    if (rt == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "stats", "rt and out must not be NULL");
    int from = snapshot_node_index(rt, home);
    int to = from < 0 ? from : snapshot_node_index(rt, node);
    if (to < 0)
        return to;
    *out = snapshot_ran(rt, (uint32_t)from, (uint32_t)to);
    return 0;
}

/* ---- reports ---- */

static int snapshot_report(const numaperf_rt_t *rt, char **out_text,
                           int (*write)(const struct numaperf__report *, char **))
{
    if (rt == NULL || out_text == NULL)
        return numaperf__fail(-EINVAL, 0, "stats", "rt and the output must not be NULL");
    struct snapshot snapshot;
    int rc = snapshot_take(rt, &snapshot);
    if (rc < 0)
        return rc;
    uint32_t n = rt->node_count;
    uint64_t *matrix = calloc((size_t)n * n, sizeof(*matrix));
    for (uint32_t i = 0; matrix != NULL && i < n * n; i++)
        matrix[i] = snapshot_ran(rt, i / n, i % n);
    const struct numaperf__report report = {.total = snapshot.nodes,
                                            .nodes = snapshot.nodes + 1,
                                            .workers = snapshot.workers,
                                            .matrix = matrix,
                                            .node_count = n,
                                            .worker_count = rt->worker_count};
    rc = matrix != NULL ? write(&report, out_text)
                        : numaperf__fail(-ENOMEM, ENOMEM, "stats", "no memory for %u nodes", n);
    free(matrix);
    snapshot_free(&snapshot);
    return rc;
}

int numaperf_rt_stats_text(const numaperf_rt_t *rt, char **out_text)
{
    return snapshot_report(rt, out_text, numaperf__report_text);
}

int numaperf_rt_stats_json(const numaperf_rt_t *rt, char **out_json)
{
    return snapshot_report(rt, out_json, numaperf__report_json);
}

int numaperf_rt_stats_prometheus(const numaperf_rt_t *rt, char **out_text)
{
    return snapshot_report(rt, out_text, numaperf__report_prometheus);
}
