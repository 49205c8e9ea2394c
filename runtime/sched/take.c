/* SPDX-License-Identifier: MIT */
/*
 * Where a worker's next task comes from.
 *
 *   own node:  the worker's bound inbox, its deque with the node's unbound inbox behind it, the
 *              node's fixed inbox, asked in turn
 *   siblings:  half of what is in the deque of another worker of the node, when it has waited as
 *              long as it costs to move it
 *   elsewhere: from another node's unbound inbox or its workers' deques, as the pair's rule says
 *
 * A rule is about a task's home, wherever the task waits: one that was taken to another node may be
 * taken on from there by who may take from its home, and by its home's own workers at any time.
 * Who may not have the first task of a deque does not see those behind it.
 *
 * Unbound tasks go from the inbox into the deque in batches, behind what is there: the deque stays
 * a FIFO, and a worker that keeps pushing to itself does not starve the inbox. In the deque they
 * are in reach of siblings and thieves as before. Whoever has put more than one task there looks
 * for a sleeper, as a submitter does: in the moment between inbox and deque a task was nowhere.
 *
 * What a rule bars only for a time has a deadline, by which somebody has to look again.
 *
 * Thread rule: the worker itself, for its own queues.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "sched/observe.h"
#include "sched/pair.h"
#include "sched/room.h"
#include "sched/sched.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TAKE_FEW 16u /* tasks at once that are too few, and enough */
#define TAKE_MANY 48u
/* A task that came alone, though it was waited for: more than so many in a row are no stream. */
#define TAKE_ALONE_MAX 4u
#define TAKE_LOOKS_FEW 1u
#define TAKE_PAUSES_FEW 7u
#define TAKE_PAUSES_MAX 64u /* a microsecond or two */
/* Between workers of a node: what a batch costs that moves from one PU's cache to another's. */
#define TAKE_SIBLING_WAIT_NS 1000u

#define TAKE_ANY_HOME UINT32_MAX

static const struct numaperf__pair take_siblings = {.rule = {.allowed = true,
                                                             .backlog_min = 1,
                                                             .batch_max = NUMAPERF__TASK_BATCH_MAX,
                                                             .wait_ns_min = TAKE_SIBLING_WAIT_NS}};

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
 * each time, until a batch is worth it; see worker_linger(). Tasks that come alone, several times
 * in a row, are no stream of them but perhaps answers to be answered.
 */
static void take_learn(struct numaperf_worker *worker, size_t count)
{
    if (count == 0)
        return;
    bool awaited = worker->lingered > TAKE_LOOKS_FEW || worker->gather_pauses >= TAKE_PAUSES_FEW;
    worker->alone = count == 1 && awaited ? worker->alone + 1 : 0;
    if (worker->alone >= TAKE_ALONE_MAX)
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

int numaperf__take_init(struct numaperf_worker *worker)
{
    size_t queues = (size_t)worker->rt->node_count + worker->rt->worker_count;
    worker->views = calloc(queues * NUMAPERF__PRIORITIES, sizeof(*worker->views));
    return worker->views != NULL ? 0 : -ENOMEM;
}

void numaperf__take_fini(struct numaperf_worker *worker)
{
    free(worker->views);
    worker->views = NULL;
}

/* A pass over what others have. */
struct take_pass {
    struct numaperf_worker *worker;
    struct numaperf__task *out; /* NULL: only look */
    uint64_t now_ns;
    uint64_t until_ns; /* when something that is barred now is not any more */
    const struct numaperf__pair *pair;
    uint64_t backlog;                  /* unbound tasks of the victim node */
    struct numaperf__watched *watched; /* NULL, or takes note of nodes with such things */
};

/* A queue that others may take from: one of the two. */
struct take_queue {
    struct numaperf__inbox *inbox;
    struct numaperf__deque *deque;
    uint32_t number; /* of all queues of the runtime */
    uint32_t priority;
    uint32_t home; /* of the tasks that are wanted; TAKE_ANY_HOME */
};

static size_t take_from_queue(const struct take_queue *queue, struct numaperf__task *tasks,
                              size_t max)
{
    if (queue->inbox != NULL)
        return numaperf__inbox_take(queue->inbox, tasks, max);
    if (queue->home == TAKE_ANY_HOME)
        return numaperf__deque_steal_thief(queue->deque, tasks, max);
    return numaperf__deque_steal_home_thief(queue->deque, queue->home, tasks, max);
}

static bool take_draw(const struct take_pass *pass, const struct take_queue *queue, uint64_t count)
{
    size_t room = take_room(pass->worker, queue->priority);
    size_t max = count < room ? (size_t)count : room;
    struct numaperf__task tasks[NUMAPERF__TASK_BATCH_MAX];
    size_t taken = take_from_queue(queue, tasks, max);
    numaperf__pair_give_back(pass->pair, count - taken);
    return take_batch(pass->worker, queue->priority, tasks, taken, pass->out);
}

/* Whether there is something to be had, which a pass with `out` takes. */
static bool take_visit(struct take_pass *pass, const struct take_queue *queue)
{
    uint64_t head = 0;
    uint64_t tail = 0;
    if (queue->inbox != NULL)
        numaperf__inbox_span(queue->inbox, &head, &tail);
    else
        numaperf__deque_span(queue->deque, &head, &tail);
    if (head >= tail)
        return false;
    if (pass->now_ns == 0)
        pass->now_ns = numaperf__clock_now_ns();
    struct numaperf__observation *view =
        &pass->worker->views[queue->number * NUMAPERF__PRIORITIES + queue->priority];
    uint64_t waited_ns = numaperf__observe(view, head, tail, pass->now_ns);
    uint64_t backlog = pass->backlog > tail - head ? pass->backlog : tail - head;
    struct numaperf__decision decision =
        numaperf__pair_decide(pass->pair, pass->now_ns, backlog, waited_ns);
    if (decision.count == 0) {
        if (decision.until_ns < pass->until_ns)
            pass->until_ns = decision.until_ns;
        return false;
    }
    if (pass->out != NULL)
        return take_draw(pass, queue, decision.count);
    numaperf__pair_give_back(pass->pair, decision.count);
    pass->until_ns = pass->now_ns;
    return true;
}

/* Unbound tasks of a node; only counted where a rule asks for more than one. */
static uint64_t take_backlog(const struct numaperf__node *node, const struct numaperf__pair *pair)
{
    uint64_t sum = 0;
    if (pair->rule.backlog_min <= 1)
        return 0; /* what the queue itself has is enough */
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        sum += numaperf__inbox_depth(&node->unbound[p]);
        for (uint32_t i = 0; i < node->worker_count; i++)
            sum += numaperf__deque_depth(&take_worker(node, i)->local[p]);
    }
    return sum;
}

/* In a deque of another node: whose tasks are next, and by which rule; false when by none. */
static bool take_choose(struct take_pass *pass, struct take_queue *queue)
{
    uint64_t head = 0;
    uint64_t tail = 0;
    numaperf__deque_span(queue->deque, &head, &tail);
    if (head >= tail)
        return false;
    struct numaperf__node *own = pass->worker->node;
    struct numaperf__node *nodes = own - own->index;
    queue->home = numaperf__deque_home_at(queue->deque, head);
    if (queue->home >= own->rt->node_count)
        return false; /* it was taken meanwhile */
    pass->pair =
        queue->home == own->index ? &take_siblings : numaperf__pair_of(own, &nodes[queue->home]);
    pass->backlog = queue->home == own->index ? 0 : take_backlog(&nodes[queue->home], pass->pair);
    return pass->pair->rule.allowed;
}

static bool take_visit_deques(struct take_pass *pass, const struct numaperf__node *victim,
                              uint32_t priority)
{
    for (uint32_t i = 0; i < victim->worker_count; i++) {
        /* From the next one on, so that thieves spread. */
        struct numaperf_worker *other =
            take_worker(victim, (pass->worker->index + 1 + i) % victim->worker_count);
        struct take_queue queue = {.deque = &other->local[priority],
                                   .number = victim->rt->node_count + other->index,
                                   .priority = priority,
                                   .home = TAKE_ANY_HOME};
        if (other != pass->worker && (victim == pass->worker->node || take_choose(pass, &queue)) &&
            take_visit(pass, &queue))
            return true;
    }
    return false;
}

static bool take_visit_siblings(struct take_pass *pass)
{
    const struct numaperf__node *home = pass->worker->node;
    if (home->worker_count < 2)
        return false;
    pass->pair = &take_siblings;
    pass->backlog = 0;
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        if (take_visit_deques(pass, home, p))
            return true;
    }
    return false;
}

static bool take_visit_node(struct take_pass *pass, struct numaperf__node *victim)
{
    const struct numaperf__pair *pair = numaperf__pair_of(pass->worker->node, victim);
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        const struct take_queue queue = {
            .inbox = &victim->unbound[p], .number = victim->index, .priority = p};
        pass->pair = pair;
        pass->backlog = take_backlog(victim, pair);
        if ((pair->rule.allowed && take_visit(pass, &queue)) || take_visit_deques(pass, victim, p))
            return true;
    }
    return false;
}

static bool take_visit_nodes(struct take_pass *pass)
{
    struct numaperf__node *home = pass->worker->node;
    struct numaperf__node *nodes = home - home->index;
    /* Those it may not take from come last: they may have taken some of its own, or of others. */
    for (uint32_t i = 0; i < home->other_count; i++) {
        uint64_t before_ns = pass->until_ns;
        pass->until_ns = UINT64_MAX;
        if (take_visit_node(pass, &nodes[home->victims[i]]))
            return true;
        if (pass->watched != NULL && i < home->victim_count && pass->until_ns != UINT64_MAX)
            numaperf__watched_add(pass->watched, home->victims[i]);
        pass->until_ns = before_ns < pass->until_ns ? before_ns : pass->until_ns;
    }
    return false;
}

/*
 * What waits in the node's own inbox is at once for an idle worker when all its siblings are idle,
 * too. One that runs will get to it, mostly, before it could be moved; so it has to have waited as
 * what is in a sibling's deque.
 */
static bool take_has_running_sibling(const struct numaperf__node *node)
{
    int32_t idle = atomic_load_explicit(&node->searching, memory_order_seq_cst) +
                   atomic_load_explicit(&node->sleeping, memory_order_seq_cst);
    return idle < (int32_t)node->worker_count;
}

static bool take_visit_home(struct take_pass *pass)
{
    struct numaperf__node *home = pass->worker->node;
    pass->pair = &take_siblings;
    pass->backlog = 0;
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        const struct take_queue queue = {
            .inbox = &home->unbound[p], .number = home->index, .priority = p};
        if (take_visit(pass, &queue))
            return true;
    }
    return false;
}

bool numaperf__take_any(struct numaperf_worker *worker, struct numaperf__task *out)
{
    bool shared = take_has_running_sibling(worker->node);
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        for (uint32_t s = 0; s < NUMAPERF__SOURCES; s++) {
            if (!(shared && s == NUMAPERF__SOURCE_UNBOUND) &&
                numaperf__take_own(worker, p, (enum numaperf__source)s, out))
                return true;
        }
    }
    struct take_pass pass = {.worker = worker, .out = out, .until_ns = UINT64_MAX};
    return (shared && take_visit_home(&pass)) || take_visit_siblings(&pass) ||
           take_visit_nodes(&pass);
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

/* What no other worker, or only those of the node, may do for it; room is to be told of, too. */
static bool take_has_private(const struct numaperf_worker *worker)
{
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        if (numaperf__inbox_has_work(&worker->bound[p]))
            return true;
    }
    return numaperf__node_has_fixed(worker->node) || numaperf__room_pending(worker->node);
}

bool numaperf__take_has_own(const struct numaperf_worker *worker)
{
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        if (numaperf__inbox_has_work(&worker->node->unbound[p]))
            return true;
    }
    return take_has_private(worker);
}

uint64_t numaperf__take_deadline_ns(struct numaperf_worker *worker,
                                    struct numaperf__watched *out_watched)
{
    memset(out_watched, 0, sizeof(*out_watched));
    struct take_pass pass = {.worker = worker, .until_ns = UINT64_MAX, .watched = out_watched};
    if (take_has_running_sibling(worker->node)) {
        if (take_has_private(worker) || take_visit_home(&pass))
            return 0;
    } else if (numaperf__take_has_own(worker)) {
        return 0;
    }
    if (take_visit_siblings(&pass))
        return 0;
    if (pass.until_ns != UINT64_MAX)
        numaperf__watched_add(out_watched, worker->node->index);
    return take_visit_nodes(&pass) ? 0 : pass.until_ns;
}
