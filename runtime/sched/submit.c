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
#include "sched/room.h"
#include "sched/sched.h"

#include <errno.h>
#include <stdlib.h>

#define SUBMIT_ALLOWANCE 64u   /* tasks between two looks at the limit */
#define SUBMIT_KEEP_MAX 65536u /* of one batch, in a deque */

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

/* Tasks of a node that wait, in all its queues. */
uint64_t numaperf__submit_waiting(const struct numaperf__node *node)
{
    uint64_t sum = 0;
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        sum += numaperf__inbox_depth(&node->unbound[p]) + numaperf__inbox_depth(&node->fixed[p]);
        for (uint32_t i = 0; i < node->worker_count; i++) {
            const struct numaperf_worker *worker = &node->rt->workers[node->first_worker + i];
            sum += numaperf__inbox_depth(&worker->bound[p]);
            sum += numaperf__deque_depth(&worker->local[p]);
        }
    }
    return sum;
}

static bool submit_has_room(const numaperf_rt_t *rt, const struct numaperf__node *node,
                            struct numaperf__inbox *inbox, size_t count)
{
    uint64_t limit = rt->config.task_limit_per_node;
    /* What the rings of a node hold together is below a limit that is not tight, so only who would
     * have to spill need look at them all. */
    if (limit == UINT64_MAX || (!node->limit_is_tight && numaperf__inbox_has_place(inbox, count)))
        return true;
    uint64_t waiting = numaperf__submit_waiting(node);
    return waiting <= limit && count <= limit - waiting;
}

/* After an announcement was taken back: somebody may have found the runtime not drained by it. */
static int submit_retract(numaperf_rt_t *rt, struct numaperf__inbox *inbox,
                          const struct numaperf__ticket *ticket)
{
    numaperf__tally_retracted(rt, inbox->home, ticket);
    numaperf__inbox_retract(inbox, ticket);
    numaperf__wake_all(rt); /* places that were taken back have to be counted by a worker */
    numaperf__rt_close_if_drained(rt);
    return submit_refuse_stopping();
}

/* ---- from inside: the worker's own deque ---- */

/* The worker that may keep the tasks to itself until somebody takes them; NULL. */
static struct numaperf_worker *submit_keeper(const numaperf_rt_t *rt,
                                             const struct numaperf__submission *to)
{
    if (to->worker != NULL || !to->stealable || !numaperf__worker_is_of(rt))
        return NULL;
    struct numaperf_worker *worker = numaperf__worker_self;
    return worker->node == to->node ? worker : NULL;
}

/* Whether nothing that the worker submitted before is still behind what it would push now. */
static bool submit_is_in_order(struct numaperf_worker *worker, uint32_t priority)
{
    uint64_t *at = &worker->overflow_at[priority];
    if (*at == 0)
        return true;
    const struct numaperf__inbox *inbox = &worker->node->unbound[priority];
    if (*at == UINT64_MAX)
        *at = numaperf__inbox_spill_end(inbox);
    if (!numaperf__inbox_is_past(inbox, *at))
        return false;
    *at = 0;
    return true;
}

/*
 * Whether the limit allows it. The queues of a node as they are at first are below one that is not
 * tight; once a deque has grown, who pushes to it adds up what waits, but not every time: so each
 * worker may pass the limit by as many tasks as it does not look for.
 */
static bool submit_may_keep(struct numaperf_worker *worker, size_t count)
{
    if (worker->allowance >= count) {
        worker->allowance -= count;
        return true;
    }
    uint64_t limit = worker->rt->config.task_limit_per_node;
    uint64_t waiting = numaperf__submit_waiting(worker->node);
    if (waiting > limit || count > limit - waiting)
        return false;
    uint64_t left = limit - waiting - count;
    worker->allowance = left < SUBMIT_ALLOWANCE ? 0 : SUBMIT_ALLOWANCE;
    return true;
}

/* Whether its deque can take the tasks, in order and within the limit. */
static bool submit_keeps(struct numaperf_worker *worker, uint32_t priority, size_t count)
{
    struct numaperf__deque *deque = &worker->local[priority];
    if (worker->node->limit_is_tight || !submit_is_in_order(worker, priority))
        return false;
    while (numaperf__deque_room_owner(deque) < count) {
        if (count > SUBMIT_KEEP_MAX || !numaperf__deque_grow_owner(deque, worker->arena))
            return false;
    }
    return !numaperf__deque_is_grown_owner(deque) || submit_may_keep(worker, count);
}

static void submit_push(struct numaperf_worker *worker, const struct numaperf__submission *to,
                        numaperf_task_fn fn, void *const *args, size_t count)
{
    uint64_t spawned = atomic_load_explicit(&worker->spawned, memory_order_relaxed);
    /* Before the push: what a thief finishes is accepted already. */
    atomic_store_explicit(&worker->spawned, spawned + count, memory_order_relaxed);
    struct numaperf__deque *deque = &worker->local[to->priority];
    struct numaperf__task task = {.fn = fn, .on_cancel = to->on_cancel, .home = to->node->index};
    for (size_t i = 0; i < count; i++) {
        task.arg = args[i];
        task.stamp = numaperf__stamp_for(spawned + i);
        numaperf__deque_push_owner(deque, &task, 1);
    }
}

int numaperf__submit(numaperf_rt_t *rt, const struct numaperf__submission *to, numaperf_task_fn fn,
                     void *const *args, size_t count)
{
    if (count == 0)
        return 0;
    if (!submit_accepts(rt)) /* before the limit: who retries for room must learn of the stop */
        return submit_refuse_stopping();
    struct numaperf_worker *keeper = submit_keeper(rt, to);
    if (keeper != NULL && submit_keeps(keeper, to->priority, count)) {
        submit_push(keeper, to, fn, args, count);
        numaperf__wake_for_node(to->node, true);
        return 0;
    }
    struct numaperf__inbox *inbox = to->worker != NULL ? &to->worker->bound[to->priority]
                                    : to->stealable    ? &to->node->unbound[to->priority]
                                                       : &to->node->fixed[to->priority];
    if (!submit_has_room(rt, to->node, inbox, count))
        return to->tries_again ? -EAGAIN : numaperf__room_refuse(to->node, count);
    struct numaperf__ticket ticket;
    if (numaperf__inbox_reserve(inbox, count, &ticket) < 0)
        return numaperf__fail(-ENOMEM, ENOMEM, "spawn", "no memory for %zu tasks", count);
    if (!submit_accepts(rt))
        return submit_retract(rt, inbox, &ticket);
    if (keeper != NULL)
        keeper->overflow_at[to->priority] =
            ticket.spill != NULL ? UINT64_MAX : ticket.at + ticket.count;
    const struct numaperf__task like = {.fn = fn, .on_cancel = to->on_cancel};
    numaperf__inbox_publish(inbox, &ticket, &like, args);
    if (to->worker != NULL)
        numaperf__wake_worker(to->worker);
    else
        numaperf__wake_for_node(to->node, to->stealable);
    return 0;
}

int numaperf__submit_inside(struct numaperf_worker *worker, numaperf_task_fn fn, void *arg)
{
    struct numaperf__node *node = worker->node;
    const uint32_t priority = NUMAPERF_PRIORITY_LATENCY;
    if (!node->limit_is_tight && worker->overflow_at[priority] == 0 &&
        numaperf__rt_state(worker->rt) <= NUMAPERF__RT_DRAINING) {
        uint64_t spawned = atomic_load_explicit(&worker->spawned, memory_order_relaxed);
        const struct numaperf__task task = {
            .fn = fn, .arg = arg, .home = node->index, .stamp = numaperf__stamp_for(spawned)};
        /* Before the push, as in submit_push(); too high for a moment when there is no room. */
        atomic_store_explicit(&worker->spawned, spawned + 1, memory_order_relaxed);
        if (numaperf__deque_push_fast_owner(&worker->local[priority], &task)) {
            numaperf__wake_for_node(node, true);
            return 0;
        }
        atomic_store_explicit(&worker->spawned, spawned, memory_order_relaxed);
    }
    const struct numaperf__submission to = {.node = node, .stealable = true};
    return numaperf__submit(worker->rt, &to, fn, &arg, 1);
}

int numaperf__submit_each_node(numaperf_rt_t *rt, numaperf_task_fn fn, void *arg)
{
    if (!submit_accepts(rt))
        return submit_refuse_stopping();
    for (uint32_t i = 0; i < rt->node_count; i++) {
        if (!submit_has_room(rt, &rt->nodes[i], &rt->nodes[i].fixed[0], 1))
            return numaperf__room_refuse(&rt->nodes[i], 1);
    }
    NUMAPERF_ASSERT(rt->node_count > 0);
    struct numaperf__ticket *tickets = calloc(rt->node_count, sizeof(*tickets));
    uint32_t reserved = 0;
    while (tickets != NULL && reserved < rt->node_count &&
           numaperf__inbox_reserve(&rt->nodes[reserved].fixed[0], 1, &tickets[reserved]) == 0)
        reserved++;
    int rc = (int)rt->node_count;
    if (reserved < rt->node_count)
        rc = numaperf__fail(-ENOMEM, ENOMEM, "each_node", "no memory for %u tasks", rt->node_count);
    else if (!submit_accepts(rt))
        rc = NUMAPERF_E_STOPPING;
    const struct numaperf__task like = {.fn = fn};
    for (uint32_t i = 0; i < reserved; i++) {
        if (rc < 0) {
            (void)submit_retract(rt, &rt->nodes[i].fixed[0], &tickets[i]);
            continue;
        }
        numaperf__inbox_publish(&rt->nodes[i].fixed[0], &tickets[i], &like, &arg);
        numaperf__wake_for_node(&rt->nodes[i], false);
    }
    free(tickets);
    return rc == NUMAPERF_E_STOPPING ? submit_refuse_stopping() : rc;
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
        uint64_t waiting = numaperf__submit_waiting(node);
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
        return numaperf__worker_self->node;
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
