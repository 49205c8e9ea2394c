/* SPDX-License-Identifier: MIT */
/*
 * Where a worker's next task comes from.
 *
 *   own node:  the worker's bound inbox, its deque with the node's unbound inbox behind it, the
 *              node's fixed inbox, asked in turn
 *   siblings:  half of what is in the deque of another worker of the node
 *   elsewhere: a batch from another node's unbound inbox or its workers' deques, as the policy
 *              allows
 *
 * Unbound tasks go from the inbox into the deque in batches, behind what is there: the deque stays
 * a FIFO, and a worker that keeps pushing to itself does not starve the inbox. In the deque they
 * are in reach of siblings and thieves as before. Whoever has put more than one task there looks
 * for a sleeper, as a submitter does: in the moment between inbox and deque a task was nowhere.
 *
 * Thread rule: the worker itself, for its own queues.
 */
#include "base/assert.h"
#include "sched/sched.h"

#define TAKE_FEW 16u /* tasks at once that are too few, and enough */
#define TAKE_MANY 48u
#define TAKE_PAUSES_MAX 64u /* a microsecond or two */

static struct numaperf_worker *take_worker(const struct numaperf__node *node, uint32_t i)
{
    NUMAPERF_ASSERT_HOT(i < node->worker_count);
    return &node->rt->workers[node->first_worker + i];
}

/* Run the first of a batch; the others wait in the worker's deque, in reach of everybody. */
static bool take_batch(struct numaperf_worker *worker, uint32_t priority,
                       const struct numaperf__task *tasks, size_t count, struct numaperf__task *out)
{
    if (count == 0)
        return false;
    *out = tasks[0];
    if (count > 1) {
        numaperf__deque_push_owner(&worker->local[priority], &tasks[1], count - 1);
        numaperf__wake_for_node(worker->node, true);
    }
    return true;
}

static size_t take_room(struct numaperf_worker *worker, uint32_t priority)
{
    uint64_t room = numaperf__deque_room_owner(&worker->local[priority]);
    return room < NUMAPERF__TASK_BATCH_MAX ? (size_t)room : NUMAPERF__TASK_BATCH_MAX;
}

/* ---- own node ---- */

/*
 * A worker that keeps up with a submitter finds one task at a time, and both wait for the cache
 * lines that each takes from the other. So one that found few waits before it looks again, longer
 * each time, until a batch is worth it; who found nothing does not wait.
 */
static void take_gather(struct numaperf_worker *worker)
{
    for (uint32_t i = 0; i < worker->gather_pauses; i++)
        numaperf__cpu_relax();
}

static void take_learn(struct numaperf_worker *worker, size_t count)
{
    if (count == 0)
        worker->gather_pauses = 0;
    else if (count < TAKE_FEW)
        worker->gather_pauses = worker->gather_pauses * 2 + 1;
    else if (count >= TAKE_MANY)
        worker->gather_pauses /= 2;
    if (worker->gather_pauses > TAKE_PAUSES_MAX)
        worker->gather_pauses = TAKE_PAUSES_MAX;
}

static size_t take_inbox(struct numaperf_worker *worker, uint32_t priority,
                         struct numaperf__task *tasks)
{
    take_gather(worker);
    size_t count =
        numaperf__inbox_take(&worker->node->unbound[priority], tasks, take_room(worker, priority));
    take_learn(worker, count);
    return count;
}

void numaperf__take_in(struct numaperf_worker *worker, uint32_t priority)
{
    if (!numaperf__deque_has_work(&worker->local[priority]))
        return; /* it looks into the inbox anyway, with nothing of its own */
    struct numaperf__task tasks[NUMAPERF__TASK_BATCH_MAX];
    size_t count =
        numaperf__inbox_take(&worker->node->unbound[priority], tasks, take_room(worker, priority));
    if (count == 0)
        return;
    numaperf__deque_push_owner(&worker->local[priority], tasks, count);
    numaperf__wake_for_node(worker->node, true);
}

static bool take_unbound(struct numaperf_worker *worker, uint32_t priority,
                         struct numaperf__task *out)
{
    if (numaperf__deque_pop_owner(&worker->local[priority], out))
        return true;
    struct numaperf__task tasks[NUMAPERF__TASK_BATCH_MAX];
    size_t count = take_inbox(worker, priority, tasks);
    return take_batch(worker, priority, tasks, count, out);
}

bool numaperf__take_own(struct numaperf_worker *worker, uint32_t priority,
                        enum numaperf__source source, struct numaperf__task *out)
{
    switch (source) {
    case NUMAPERF__SOURCE_BOUND:
        return numaperf__inbox_pop(&worker->bound[priority], out);
    case NUMAPERF__SOURCE_FIXED:
        return numaperf__inbox_pop(&worker->node->fixed[priority], out);
    default:
        return take_unbound(worker, priority, out);
    }
}

/* ---- siblings and other nodes ---- */

static bool take_from_workers(struct numaperf_worker *worker, const struct numaperf__node *victim,
                              uint32_t priority, struct numaperf__task *out)
{
    struct numaperf__task tasks[NUMAPERF__TASK_BATCH_MAX];
    for (uint32_t i = 0; i < victim->worker_count; i++) {
        /* From the next one on, so that thieves spread. */
        uint32_t at = (worker->index + 1 + i) % victim->worker_count;
        struct numaperf_worker *other = take_worker(victim, at);
        if (other == worker)
            continue;
        size_t count = numaperf__deque_steal_thief(&other->local[priority], tasks,
                                                   take_room(worker, priority));
        if (take_batch(worker, priority, tasks, count, out))
            return true;
    }
    return false;
}

static bool take_from_node(struct numaperf_worker *worker, struct numaperf__node *victim,
                           uint32_t priority, struct numaperf__task *out)
{
    uint64_t waiting = numaperf__inbox_depth(&victim->unbound[priority]);
    size_t max = take_room(worker, priority);
    if (waiting - waiting / 2 < max)
        max = (size_t)(waiting - waiting / 2);
    struct numaperf__task tasks[NUMAPERF__TASK_BATCH_MAX];
    size_t count = numaperf__inbox_take(&victim->unbound[priority], tasks, max);
    if (!take_batch(worker, priority, tasks, count, out) &&
        !take_from_workers(worker, victim, priority, out))
        return false;
    (void)atomic_fetch_add_explicit(&victim->stolen_from, 1, memory_order_relaxed);
    return true;
}

bool numaperf__take_any(struct numaperf_worker *worker, struct numaperf__task *out)
{
    struct numaperf__node *home = worker->node;
    struct numaperf__node *nodes = home - home->index;
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        for (uint32_t s = 0; s < NUMAPERF__SOURCES; s++) {
            if (numaperf__take_own(worker, p, (enum numaperf__source)s, out))
                return true;
        }
        if (take_from_workers(worker, home, p, out))
            return true;
    }
    for (uint32_t i = 0; i < home->victim_count; i++) {
        for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
            if (take_from_node(worker, &nodes[home->victims[i]], p, out))
                return true;
        }
    }
    return false;
}

/* ---- look ---- */

bool numaperf__node_has_unbound(const struct numaperf__node *node)
{
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        if (numaperf__inbox_has_work(&node->unbound[p]))
            return true;
        for (uint32_t i = 0; i < node->worker_count; i++) {
            if (numaperf__deque_has_work(&take_worker(node, i)->local[p]))
                return true;
        }
    }
    return false;
}

bool numaperf__node_has_fixed(const struct numaperf__node *node)
{
    bool found = false;
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES && !found; p++)
        found = numaperf__inbox_has_work(&node->fixed[p]);
    return found;
}

bool numaperf__take_has_own(const struct numaperf_worker *worker)
{
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        if (numaperf__inbox_has_work(&worker->bound[p]) ||
            numaperf__inbox_has_work(&worker->node->unbound[p]))
            return true;
    }
    return numaperf__node_has_fixed(worker->node);
}

bool numaperf__take_has_any(const struct numaperf_worker *worker)
{
    if (numaperf__take_has_own(worker) || numaperf__node_has_unbound(worker->node))
        return true;
    const struct numaperf__node *home = worker->node;
    const struct numaperf__node *nodes = home - home->index;
    for (uint32_t i = 0; i < home->victim_count; i++) {
        if (numaperf__node_has_unbound(&nodes[home->victims[i]]))
            return true;
    }
    return false;
}
