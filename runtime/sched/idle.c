/* SPDX-License-Identifier: MIT */
/*
 * Who sleeps, and who is woken.
 *
 *   RUNNING --own inboxes empty--> SEARCHING --nothing anywhere--> SLEEPING
 *      ^                             |   ^                             |
 *      +--- a task, or I/O ----------+   +--- a wake, I/O, a deadline -+
 *
 * The worker makes every move itself, but for SLEEPING -> SEARCHING, which is made by whoever
 * comes first: a waker (compare-and-swap, then the counters, then the eventfd), or the worker
 * after its wait.
 *
 * The rule: after a push, when no worker that may run the task is SEARCHING, wake one that is
 * SLEEPING; and a worker that stops searching while work is left and nobody else searches wakes
 * the next. A burst thus costs one wake, and grows by one worker as long as there is work.
 *
 * The argument that no task is left behind. Announcements (inbox.c), worker states and the two
 * counters of a node are accessed with sequential consistency, so there is one order of them.
 * A submitter announces, then looks. (1) It sees searching > 0: then some worker has counted
 * itself in and not yet out; when it counts itself out, it looks at all inboxes it may take from,
 * after that, and so sees the announcement: it takes the task, or finds work left and wakes.
 * (2) It sees a worker SLEEPING: it wakes it. (3) It sees neither: then every permitted worker is
 * RUNNING, or on its way to sleep but not counted: that one looks at the inboxes after it has
 * stored SLEEPING. A running worker looks before it searches, and searches before it sleeps.
 *
 * The counters (a node's two, and the runtime's of sleepers) are changed just after the state, by
 * two different threads when a waker is involved: `searching` may be too low for a moment (an extra
 * wake), `sleeping` too high (a vain look), never the other way round.
 *
 * Idle spin: the worker keeps a moving average of how long it waits for work; when that is below
 * spin_ns_max it looks around that long before it sleeps, else not at all.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "io/loop.h"
#include "sched/pair.h"
#include "sched/room.h"
#include "sched/sched.h"
#include "sched/stall.h"
#include "sched/timer.h"

#include <sched.h>
#include <time.h>

#define IDLE_BARREN_MAX 32u /* fruitless rounds before the PU is offered to others */
#define IDLE_BARREN_NAP_NS 20000u
#define IDLE_PEEK_PAUSES_MAX 32u /* pauses between two looks of a spin */
#define IDLE_PENALTY_MAX 6u      /* after spins in vain, one in 64 idle times has one */
#define IDLE_NAP_STEP_NS 5000u   /* what naps grow by, doubled each time */
#define IDLE_NAP_SHIFT_MAX 6u
#define IDLE_NAP_MEMORY_NS 1000000u /* after that long without a nap they are short again */
#define IDLE_GAP_CAP_NS 1000000u    /* longer waits are as good as this one to the average */

/* ---- states ---- */

static void idle_set_state(struct numaperf_worker *worker, enum numaperf__worker_state state)
{
    atomic_store_explicit(&worker->state, (uint32_t)state, memory_order_seq_cst);
}

static void idle_count(_Atomic int32_t *counter, int32_t n)
{
    (void)atomic_fetch_add_explicit(counter, n, memory_order_seq_cst);
}

static void idle_count_sleeping(struct numaperf_worker *worker, int32_t n)
{
    idle_count(&worker->node->sleeping, n);
    idle_count(&worker->rt->sleeping, n);
}

/* SLEEPING -> SEARCHING; false when somebody else made that move. */
static bool idle_rouse(struct numaperf_worker *worker)
{
    uint32_t expected = NUMAPERF__WORKER_SLEEPING;
    if (!atomic_compare_exchange_strong_explicit(&worker->state, &expected,
                                                 NUMAPERF__WORKER_SEARCHING, memory_order_seq_cst,
                                                 memory_order_seq_cst))
        return false;
    idle_count(&worker->node->searching, 1);
    idle_count_sleeping(worker, -1);
    return true;
}

/* ---- wake ---- */

static bool idle_wake(struct numaperf_worker *worker)
{
    if (atomic_load_explicit(&worker->state, memory_order_seq_cst) != NUMAPERF__WORKER_SLEEPING)
        return false;
    if (!idle_rouse(worker))
        return false;
    numaperf__wake_signal(&worker->wake);
    return true;
}

static bool idle_wake_one_of(struct numaperf__node *node, struct numaperf_worker *workers)
{
    if (atomic_load_explicit(&node->sleeping, memory_order_seq_cst) <= 0)
        return false;
    for (uint32_t i = 0; i < node->worker_count; i++) {
        if (idle_wake(&workers[node->first_worker + i]))
            return true;
    }
    return false;
}

static bool idle_has_searching(const struct numaperf__node *node)
{
    return atomic_load_explicit(&node->searching, memory_order_seq_cst) > 0;
}

/* Whether a rule bars a thief for a while: until more tasks have come, or its budget has grown. */
static bool idle_is_barred(const struct numaperf__node *thief, const struct numaperf__node *victim)
{
    const struct numaperf__pair *pair = numaperf__pair_of(thief, victim);
    if (pair->rule.backlog_min > 1 && numaperf__submit_waiting(victim) < pair->rule.backlog_min)
        return true;
    if (pair->budget == NULL)
        return false;
    uint64_t next_ns = 0;
    return numaperf__budget_look(pair->budget, numaperf__clock_now_ns(), &next_ns) == 0;
}

static void idle_wake_thief(struct numaperf__node *node)
{
    if (atomic_load_explicit(&node->watched, memory_order_seq_cst) > 0)
        return;
    struct numaperf__node *nodes = node - node->index;
    for (uint32_t i = 0; i < node->thief_count; i++) {
        const struct numaperf__node *thief = &nodes[node->thieves[i]];
        if (idle_has_searching(thief) && !idle_is_barred(thief, node))
            return;
    }
    for (uint32_t i = 0; i < node->thief_count; i++) {
        struct numaperf__node *thief = &nodes[node->thieves[i]];
        if (!idle_is_barred(thief, node) && idle_wake_one_of(thief, node->rt->workers))
            return;
    }
}

void numaperf__wake_for_node_now(struct numaperf__node *node, bool stealable)
{
    if (!idle_wake_one_of(node, node->rt->workers) && stealable)
        idle_wake_thief(node);
}

void numaperf__wake_worker(struct numaperf_worker *worker)
{
    (void)idle_wake(worker); /* one that does not sleep looks into its inbox before it does */
}

void numaperf__wake_all(numaperf_rt_t *rt)
{
    for (uint32_t i = 0; i < rt->worker_count; i++)
        numaperf__wake_signal(&rt->workers[i].wake);
}

/* ---- search, sleep ---- */

/* The last act of a search: whoever relied on it must not be left waiting. */
static void idle_leave(struct numaperf_worker *worker)
{
    struct numaperf__node *home = worker->node;
    struct numaperf__node *nodes = home - home->index;
    idle_set_state(worker, NUMAPERF__WORKER_RUNNING);
    idle_count(&home->searching, -1);
    if (numaperf__node_has_unbound(home))
        numaperf__wake_for_node(home, true);
    else if (numaperf__node_has_fixed(home))
        numaperf__wake_for_node(home, false);
    for (uint32_t i = 0; i < home->victim_count; i++) {
        struct numaperf__node *victim = &nodes[home->victims[i]];
        if (numaperf__node_has_unbound(victim))
            numaperf__wake_for_node(victim, true);
    }
}

enum idle_found { IDLE_NOTHING = 0, IDLE_IO, IDLE_TASK };

/* Look around for up to `limit_ns`. */
static enum idle_found idle_spin(struct numaperf_worker *worker, uint64_t start_ns,
                                 uint64_t limit_ns, struct numaperf__task *out)
{
    uint32_t pauses = 1;
    for (;;) {
        for (uint32_t i = 0; i < pauses; i++)
            numaperf__cpu_relax();
        if (numaperf__take_any(worker, out))
            return IDLE_TASK;
        /* A spin may be asked to last for ever, a stop and a notice not. */
        if (numaperf__loop_ready(worker->loop) || numaperf__room_pending(worker->node) ||
            numaperf__rt_state(worker->rt) >= NUMAPERF__RT_CLOSING)
            return IDLE_IO;
        if (numaperf__clock_now_ns() - start_ns >= limit_ns)
            return IDLE_NOTHING;
        /* Peeks fetch lines that pushers write: fewer of them cost the pushers less. */
        if (pauses < IDLE_PEEK_PAUSES_MAX)
            pauses *= 2;
    }
}

static void idle_learn_spin(struct numaperf_worker *worker, bool vain)
{
    if (!vain)
        worker->spin_penalty = 0;
    else if (worker->spin_penalty < IDLE_PENALTY_MAX)
        worker->spin_penalty++;
    worker->spin_skip = (1u << worker->spin_penalty) - 1;
}

/*
 * Spins are for waits that are short, mostly. They are in vain where whom it waits for needs this
 * very PU: then it is offered to him, once, and a spin is tried ever more rarely. While that lasts
 * the worker counts as searching, so nobody has to wake it.
 */
static enum idle_found idle_look_around(struct numaperf_worker *worker, uint64_t start_ns,
                                        uint64_t timeout_ns, struct numaperf__task *out)
{
    uint64_t spin_ns = worker->rt->config.spin_ns_max;
    if (spin_ns == 0 || worker->idle_gap_ns > spin_ns)
        return IDLE_NOTHING;
    if (worker->spin_skip > 0) {
        worker->spin_skip--;
        (void)sched_yield(); /* cannot fail on Linux */
        return numaperf__take_any(worker, out) ? IDLE_TASK : IDLE_NOTHING;
    }
    numaperf__counter_add_owner(&worker->counters.spins, 1);
    enum idle_found found =
        idle_spin(worker, start_ns, spin_ns < timeout_ns ? spin_ns : timeout_ns, out);
    idle_learn_spin(worker, found == IDLE_NOTHING && spin_ns < timeout_ns);
    return found;
}

/* How long to nap over tasks that may be taken at `deadline_ns`: longer and longer as long as those
 * that have them get on with them, which every nap before has found. */
static uint64_t idle_nap_ns(struct numaperf_worker *worker, uint64_t deadline_ns)
{
    uint64_t now_ns = numaperf__clock_now_ns();
    if (now_ns - worker->nap_end_ns > IDLE_NAP_MEMORY_NS)
        worker->nap_shift = 0;
    uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    uint64_t extra_ns = ((uint64_t)IDLE_NAP_STEP_NS << worker->nap_shift) - IDLE_NAP_STEP_NS;
    if (worker->nap_shift < IDLE_NAP_SHIFT_MAX)
        worker->nap_shift++;
    return left_ns + extra_ns;
}

/* Add `n` to what the watched nodes know of it. */
static void idle_watch(struct numaperf_worker *worker, const struct numaperf__watched *watched,
                       int32_t n)
{
    struct numaperf__node *nodes = worker->node - worker->node->index;
    for (uint32_t i = 0; i < worker->rt->node_count; i++) {
        if ((watched->nodes[i / 64] >> i % 64 & 1) != 0)
            idle_count(&nodes[i] == worker->node ? &nodes[i].napping : &nodes[i].watched, n);
    }
}

/* Wait for a wake, I/O, `timeout_ns`, or until what it may not take yet may be taken. */
static void idle_wait(struct numaperf_worker *worker, uint64_t timeout_ns, uint64_t deadline_ns,
                      const struct numaperf__watched *watched)
{
    uint64_t nap_ns = deadline_ns != UINT64_MAX ? idle_nap_ns(worker, deadline_ns) : UINT64_MAX;
    /* Whom a budget bars for long is no comfort to who waits for a thief. */
    bool naps = nap_ns <= IDLE_NAP_MEMORY_NS;
    if (naps)
        idle_watch(worker, watched, 1);
    numaperf__counter_add_owner(&worker->counters.parks, 1);
    numaperf__loop_wait(worker->loop, nap_ns < timeout_ns ? nap_ns : timeout_ns);
    if (!idle_rouse(worker))
        numaperf__counter_add_owner(&worker->counters.wakes, 1);
    if (!naps)
        return;
    /* After it counts as searching: there is no moment in which nobody looks. */
    idle_watch(worker, watched, -1);
    worker->nap_end_ns = numaperf__clock_now_ns();
}

static void idle_sleep(struct numaperf_worker *worker, uint64_t timeout_ns)
{
    /* Counted first: whoever wakes it takes the count back at once. */
    idle_count_sleeping(worker, 1);
    idle_set_state(worker, NUMAPERF__WORKER_SLEEPING);
    idle_count(&worker->node->searching, -1);
    /* What this search moved may have looked unfinished to who finished the last task. */
    numaperf__rt_close_if_drained(worker->rt);
    /* The signal of a change of state may have been reaped in the turn before: look again. One that
     * comes after this look finds the wake armed. */
    struct numaperf__watched watched;
    uint64_t deadline_ns = numaperf__take_deadline_ns(worker, &watched);
    if (deadline_ns > 0 && numaperf__rt_state(worker->rt) < NUMAPERF__RT_CLOSING)
        idle_wait(worker, timeout_ns, deadline_ns, &watched);
    else if (!idle_rouse(worker))
        numaperf__counter_add_owner(&worker->counters.wakes, 1);
    numaperf__stall_notice(worker);
}

static void idle_learn_gap(struct numaperf_worker *worker, uint64_t gap_ns)
{
    if (gap_ns > IDLE_GAP_CAP_NS)
        gap_ns = IDLE_GAP_CAP_NS;
    worker->idle_gap_ns = (worker->idle_gap_ns * 7 + gap_ns) / 8;
}

/* Announced but not to be had for long: its submitter may wait for this very PU. Gives it away. */
static void idle_nap_when_barren(struct numaperf_worker *worker)
{
    if (!numaperf__take_has_own(worker)) {
        worker->barren = 0;
    } else if (++worker->barren >= IDLE_BARREN_MAX) {
        worker->barren = 0;
        /* Not sched_yield(), after which it might be this thread's turn again. */
        const struct timespec pause = {.tv_sec = 0, .tv_nsec = IDLE_BARREN_NAP_NS};
        (void)nanosleep(&pause, NULL); /* shorter when a signal comes, which is as well */
    }
}

/* Until libuv or a timer wants to run. */
static uint64_t idle_timeout_ns(struct numaperf_worker *worker)
{
    uint64_t loop_ns = numaperf__loop_timeout_ns(worker->loop);
    uint64_t timers_ns = numaperf__timers_timeout_ns(worker);
    return timers_ns < loop_ns ? timers_ns : loop_ns;
}

/* Nothing to do for `timeout_ns`: spin, then sleep. */
static bool idle_rest(struct numaperf_worker *worker, uint64_t timeout_ns,
                      struct numaperf__task *out)
{
    uint64_t start_ns = numaperf__clock_now_ns();
    enum idle_found found = idle_look_around(worker, start_ns, timeout_ns, out);
    if (found == IDLE_NOTHING) /* asked again: the spin took its time */
        idle_sleep(worker, idle_timeout_ns(worker));
    if (worker->rt->config.spin_ns_max > 0)
        idle_learn_gap(worker, numaperf__clock_now_ns() - start_ns);
    return found == IDLE_TASK || numaperf__take_any(worker, out);
}

bool numaperf__worker_idle(struct numaperf_worker *worker, struct numaperf__task *out)
{
    idle_set_state(worker, NUMAPERF__WORKER_SEARCHING);
    idle_count(&worker->node->searching, 1);
    bool taken = numaperf__take_any(worker, out);
    uint64_t timeout_ns = !taken ? idle_timeout_ns(worker) : 0;
    if (timeout_ns > 0)
        taken = idle_rest(worker, timeout_ns, out);
    if (taken)
        worker->nap_shift = 0;
    else
        idle_nap_when_barren(worker);
    idle_leave(worker);
    return taken;
}
