/* SPDX-License-Identifier: MIT */
/*
 * The way in: choose the home node, respect its limit, push, wake.
 *
 * The order is the argument of inbox.c and drain.c: announce, look at the state, push, look for a
 * sleeper. The limit is looked at before the announcement: submitters that race may pass it by as
 * many tasks as there are of them at that moment.
 *
 * Any thread.
 */
#include "base/assert.h"
#include "base/error.h"
#include "place/pin.h"
#include "sched/sched.h"

#include <errno.h>

static int submit_refuse_stopping(void)
{
    return numaperf__fail(NUMAPERF_E_STOPPING, 0, "spawn", "the runtime is stopping");
}

static bool submit_accepts(const numaperf_rt_t *rt)
{
    enum numaperf__rt_state state = numaperf__rt_state(rt);
    return state <= NUMAPERF__RT_RUNNING ||
           (state == NUMAPERF__RT_DRAINING && numaperf__worker_is_of(rt));
}

/* Tasks of a node that wait, in all its inboxes. */
static uint64_t submit_waiting(const numaperf_rt_t *rt, const struct numaperf__node *node)
{
    uint64_t sum = numaperf__inbox_depth(&node->unbound) + numaperf__inbox_depth(&node->fixed);
    for (uint32_t i = 0; i < node->worker_count; i++)
        sum += numaperf__inbox_depth(&rt->workers[node->first_worker + i].bound);
    return sum;
}

static bool submit_has_room(const numaperf_rt_t *rt, const struct numaperf__node *node,
                            size_t count)
{
    uint64_t limit = rt->config.task_limit_per_node;
    if (limit == UINT64_MAX)
        return true;
    uint64_t waiting = submit_waiting(rt, node);
    return waiting <= limit && count <= limit - waiting;
}

/* After an announcement was taken back: somebody may have found the runtime not drained by it. */
static int submit_retract(numaperf_rt_t *rt, struct numaperf__inbox *inbox, uint64_t count)
{
    numaperf__inbox_retract(inbox, count);
    numaperf__rt_close_if_drained(rt);
    return submit_refuse_stopping();
}

static void submit_push(struct numaperf__inbox *inbox, struct numaperf__task *first,
                        struct numaperf__task *last, const struct numaperf__node *node)
{
    for (struct numaperf__task *task = first; task != NULL;
         task = atomic_load_explicit(&task->next, memory_order_relaxed))
        task->home = node->index;
    numaperf__inbox_push_mpsc(inbox, first, last);
}

int numaperf__submit(numaperf_rt_t *rt, const struct numaperf__submission *to, numaperf_task_fn fn,
                     void *const *args, size_t count)
{
    if (count == 0)
        return 0;
    if (!submit_accepts(rt)) /* before the limit: who retries for room must learn of the stop */
        return submit_refuse_stopping();
    if (!submit_has_room(rt, to->node, count))
        return -EAGAIN;
    struct numaperf__task *last = NULL;
    struct numaperf__task *first = numaperf__task_chain(fn, args, count, to->on_cancel, &last);
    if (first == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "spawn", "no memory for %zu tasks", count);

    struct numaperf__inbox *inbox = to->worker != NULL ? &to->worker->bound
                                    : to->stealable    ? &to->node->unbound
                                                       : &to->node->fixed;
    numaperf__inbox_announce(inbox, count);
    if (!submit_accepts(rt)) {
        numaperf__task_free_chain(first);
        return submit_retract(rt, inbox, count);
    }
    submit_push(inbox, first, last, to->node);
    if (to->worker != NULL)
        numaperf__wake_worker(to->worker);
    else
        numaperf__wake_for_node(to->node, to->stealable);
    return 0;
}

int numaperf__submit_each_node(numaperf_rt_t *rt, numaperf_task_fn fn, void *arg)
{
    if (!submit_accepts(rt))
        return submit_refuse_stopping();
    for (uint32_t i = 0; i < rt->node_count; i++) {
        if (!submit_has_room(rt, &rt->nodes[i], 1))
            return -EAGAIN;
    }
    /* All tasks exist before the first is announced, so that it is all or none. */
    struct numaperf__task *first = NULL;
    for (uint32_t i = 0; i < rt->node_count; i++) {
        struct numaperf__task *last = NULL;
        struct numaperf__task *task = numaperf__task_chain(fn, &arg, 1, NULL, &last);
        if (task == NULL) {
            numaperf__task_free_chain(first);
            return numaperf__fail(-ENOMEM, ENOMEM, "each_node", "no memory for %u tasks",
                                  rt->node_count);
        }
        atomic_store_explicit(&task->next, first, memory_order_relaxed);
        first = task;
    }
    for (uint32_t i = 0; i < rt->node_count; i++)
        numaperf__inbox_announce(&rt->nodes[i].fixed, 1);
    if (!submit_accepts(rt)) {
        numaperf__task_free_chain(first);
        for (uint32_t i = 1; i < rt->node_count; i++)
            numaperf__inbox_retract(&rt->nodes[i].fixed, 1);
        return submit_retract(rt, &rt->nodes[0].fixed, 1);
    }
    for (uint32_t i = 0; i < rt->node_count; i++) {
        struct numaperf__task *task = first;
        first = atomic_load_explicit(&task->next, memory_order_relaxed);
        atomic_store_explicit(&task->next, NULL, memory_order_relaxed);
        submit_push(&rt->nodes[i].fixed, task, task, &rt->nodes[i]);
        numaperf__wake_for_node(&rt->nodes[i], false);
    }
    return (int)rt->node_count;
}

/* ---- home node ---- */

/* One with an idle worker, else the one with the fewest tasks waiting; the search rotates. */
static struct numaperf__node *submit_any_node(numaperf_rt_t *rt)
{
    uint32_t start = atomic_fetch_add_explicit(&rt->next_node, 1, memory_order_relaxed);
    struct numaperf__node *best = NULL;
    uint64_t best_waiting = UINT64_MAX;
    for (uint32_t i = 0; i < rt->node_count; i++) {
        struct numaperf__node *node = &rt->nodes[(start + i) % rt->node_count];
        uint64_t waiting = submit_waiting(rt, node);
        int32_t idle = atomic_load_explicit(&node->searching, memory_order_relaxed) +
                       atomic_load_explicit(&node->sleeping, memory_order_relaxed);
        if (waiting == 0 && idle > 0)
            return node;
        if (waiting < best_waiting) {
            best_waiting = waiting;
            best = node;
        }
    }
    NUMAPERF_ASSERT(best != NULL);
    return best;
}

static struct numaperf__node *submit_local_node(numaperf_rt_t *rt)
{
    if (numaperf__worker_is_of(rt))
        return numaperf_worker_current()->node;
    int cpu = -1;
    int node = -1;
    if (numaperf__current_cpu(&cpu, NULL) == 0)
        node = numaperf_topology_node_of_cpu(rt->topology, cpu);
    if (node >= 0 && node < NUMAPERF_NODE_MAX && rt->node_index[node] >= 0)
        return &rt->nodes[rt->node_index[node]];
    return submit_any_node(rt);
}

struct numaperf__node *numaperf__submit_node(numaperf_rt_t *rt, int node)
{
    if (node >= 0 && node < NUMAPERF_NODE_MAX && rt->node_index[node] >= 0)
        return &rt->nodes[rt->node_index[node]];
    if (node == NUMAPERF_NODE_LOCAL)
        return submit_local_node(rt);
    if (node == NUMAPERF_NODE_ANY)
        return submit_any_node(rt);
    (void)numaperf__fail(NUMAPERF_E_NO_NODE, 0, "spawn", "the runtime has no workers on node %d",
                         node);
    return NULL;
}
