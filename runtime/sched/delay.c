/* SPDX-License-Identifier: MIT */
/*
 * Tasks for later. One worker watches the time of each, its timing worker: the one that is to run
 * it, or one of its node. To that worker the record is sent as a task for it alone; the worker puts
 * it into its wheel, and when it is due submits it as a spawn would. A node without room then has
 * it wait a little longer: it was accepted.
 *
 *   PENDING --its function begins----------------------------------------> STARTED
 *      +-----by handle, with its group, or when the runtime stops -------> CANCELLED
 *
 * Both moves are one compare-and-swap: whoever makes it runs the function, or tells that it is
 * cancelled. That may be while the record is on its way to the wheel, in it, or in a queue.
 *
 * References: one of where it is (queue or wheel), one of the handle. Who has the last one gives
 * the record back. A cancel by another thread than the timing worker's hands the handle's on to
 * that worker, by a post, to have the record taken out of the wheel. Posts are a list that anybody
 * pushes to and the worker takes as a whole, so there is no ABA; CLOSED ends it. An idle worker is
 * not woken for each of them: what they leave in the wheel is of no harm, only memory.
 *
 * The membership of a group ends on the timing worker as long as the record may be in its wheel,
 * since there the group is asked whether it is cancelled: it must exist.
 *
 * A stop does not wait for what is not due: that is no accepted task yet, in the terms of drain.c.
 * The timing worker cancels it when it ends.
 */
#include "sched/delay.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "sched/group.h"
#include "sched/record_task.h"
#include "sched/timer.h"

#include <errno.h>

#define DELAY_RETRY_NS 100000u /* between two tries for room */
#define DELAY_POSTS_MAX 256u   /* that an idle worker is left with */

/* Stands for a list that nothing is added to: an address that is no record's. */
static struct numaperf__record *delay_closed(struct numaperf__timers *timers)
{
    return (struct numaperf__record *)(void *)timers;
}

static struct numaperf__record *delay_record_of(numaperf_timer_t *timer)
{
    NUMAPERF_ASSERT(timer->kind == NUMAPERF__TIMER_DELAYED);
    return (struct numaperf__record *)timer; /* its first member */
}
_Static_assert(offsetof(struct numaperf__record, timer) == 0, "see delay_record_of()");

/* ---- posts ---- */

static bool delay_post(struct numaperf__record *record, bool urgent)
{
    struct numaperf_worker *worker = record->timer.worker;
    struct numaperf__timers *timers = worker->timers;
    struct numaperf__record *first = atomic_load_explicit(&timers->posts, memory_order_relaxed);
    do {
        if (first == delay_closed(timers))
            return false;
        record->chain = first;
        /* Release pairs with the acquire in delay_take_posts(). */
    } while (!atomic_compare_exchange_weak_explicit(&timers->posts, &first, record,
                                                    memory_order_release, memory_order_relaxed));
    uint32_t count = atomic_fetch_add_explicit(&timers->post_count, 1, memory_order_relaxed) + 1;
    /* A signal after the push: who has reaped it looks at the posts after that. */
    if (urgent || count % DELAY_POSTS_MAX == 0)
        numaperf__wake_signal(&worker->wake);
    return true;
}

static bool delay_group_is_cancelled(const struct numaperf__record *record)
{
    return record->group != NULL && numaperf__group_is_cancelled(record->group);
}

static void delay_insert(struct numaperf_worker *worker, struct numaperf__record *record)
{
    struct numaperf__timers *timers = worker->timers;
    if (delay_group_is_cancelled(record))
        record->timer.deadline_ns = 0; /* the look for such may have been before */
    if (timers->wheel.count == 0)      /* nobody has looked at the time for it since the last one */
        numaperf__wheel_advance(&timers->wheel, numaperf__clock_now_ns());
    numaperf__wheel_insert(&timers->wheel, &record->timer);
}

static void delay_arrive(struct numaperf_worker *worker, struct numaperf__record *record)
{
    /* Relaxed: a cancel that this misses is posted to this thread. */
    if (atomic_load_explicit(&record->state, memory_order_relaxed) != NUMAPERF__RECORD_PENDING) {
        numaperf__record_release(record);
        return;
    }
    delay_insert(worker, record);
}

/* Of a cancelled one the handle's reference came with it; another one is to wait here. */
static void delay_take_post(struct numaperf_worker *worker, struct numaperf__record *record)
{
    /* Acquire pairs with the claim of who cancelled it. */
    if (atomic_load_explicit(&record->state, memory_order_acquire) == NUMAPERF__RECORD_PENDING) {
        delay_arrive(worker, record);
        return;
    }
    numaperf_group_t *group = record->group;
    if (record->timer.position != NUMAPERF__WHEEL_NOWHERE) {
        numaperf__wheel_remove(&worker->timers->wheel, &record->timer);
        numaperf__record_release(record);
    }
    numaperf__record_release(record);
    if (group != NULL)
        numaperf__group_leave(group, 1, true);
}

static void delay_take_posts(struct numaperf_worker *worker, struct numaperf__record *leave)
{
    struct numaperf__timers *timers = worker->timers;
    /* Acquire pairs with the release in delay_post(). */
    struct numaperf__record *record =
        atomic_exchange_explicit(&timers->posts, leave, memory_order_acquire);
    NUMAPERF_ASSERT(record != delay_closed(timers));
    while (record != NULL) {
        struct numaperf__record *next = record->chain;
        delay_take_post(worker, record);
        record = next;
    }
}

/* ---- groups ---- */

void numaperf__delay_look_for_cancelled(numaperf_rt_t *rt)
{
    /* Release pairs with the acquire in numaperf__delay_look_at_posts(): the group's flag is set.
     */
    (void)atomic_fetch_add_explicit(&rt->group_cancels, 1, memory_order_release);
    numaperf__wake_all(rt);
}

static bool delay_is_of_cancelled_group(const numaperf_timer_t *timer)
{
    return timer->kind == NUMAPERF__TIMER_DELAYED &&
           delay_group_is_cancelled((const struct numaperf__record *)timer);
}

void numaperf__delay_look_at_posts(struct numaperf_worker *worker)
{
    struct numaperf__timers *timers = worker->timers;
    if (atomic_load_explicit(&timers->posts, memory_order_relaxed) != NULL)
        delay_take_posts(worker, NULL);
    uint64_t cancels = atomic_load_explicit(&worker->rt->group_cancels, memory_order_acquire);
    if (cancels == timers->seen_cancels)
        return;
    timers->seen_cancels = cancels;
    numaperf__wheel_make_due(&timers->wheel, delay_is_of_cancelled_group);
}

void numaperf__delay_close_posts(struct numaperf_worker *worker)
{
    delay_take_posts(worker, delay_closed(worker->timers));
}

/* ---- arm ---- */

/* The worker that is to watch its time. */
static struct numaperf_worker *delay_timing_worker(const struct numaperf__record *record)
{
    const struct numaperf__node *home = record->home;
    struct numaperf_worker *workers = home->rt->workers;
    struct numaperf_worker *own = numaperf_worker_current();
    if (record->worker >= 0)
        return &workers[record->worker];
    if (own != NULL && own->node == home)
        return own;
    return &workers[home->first_worker + record->index % home->worker_count]; /* all in turn */
}

void numaperf__delay_prepare(struct numaperf__record *record, uint64_t delay_ns, bool with_handle)
{
    uint64_t now_ns = numaperf__clock_now_ns();
    record->timer = (numaperf_timer_t){
        .deadline_ns = delay_ns < UINT64_MAX - now_ns ? now_ns + delay_ns : UINT64_MAX,
        .worker = delay_timing_worker(record),
        .kind = NUMAPERF__TIMER_DELAYED,
    };
    record->flags |= NUMAPERF__RECORD_DELAYED;
    atomic_store_explicit(&record->state, NUMAPERF__RECORD_PENDING, memory_order_relaxed);
    atomic_store_explicit(&record->refs, with_handle ? 2 : 1, memory_order_relaxed);
}

void numaperf__delay_arrival(numaperf_worker_t *worker, void *arg)
{
    atomic_store_explicit(&worker->running, NULL, memory_order_relaxed); /* no task of the user's */
    delay_arrive(worker, arg);
}

static int delay_arm_here(struct numaperf_worker *worker, struct numaperf__record *record)
{
    if (worker->timers->closed || numaperf__rt_state(worker->rt) >= NUMAPERF__RT_CANCELLING)
        return numaperf__fail(NUMAPERF_E_STOPPING, 0, "spawn", "the runtime is stopping");
    delay_insert(worker, record);
    return 0;
}

/* As a task of our own for the timing worker. */
static int delay_send(struct numaperf__record *record)
{
    struct numaperf_worker *worker = record->timer.worker;
    const struct numaperf__submission to = {
        .node = worker->node, .worker = worker, .on_cancel = numaperf__record_cancel};
    void *arg = record;
    return numaperf__submit(worker->rt, &to, numaperf__delay_arrival, &arg, 1);
}

int numaperf__delay_arm(struct numaperf__record *record, uint64_t delay_ns,
                        numaperf_timer_t **out_timer)
{
    numaperf_group_t *group = record->group;
    numaperf__delay_prepare(record, delay_ns, out_timer != NULL);
    if (group != NULL)
        numaperf__group_enter_delayed(group);
    struct numaperf_worker *worker = record->timer.worker;
    int rc =
        worker == numaperf_worker_current() ? delay_arm_here(worker, record) : delay_send(record);
    if (rc == 0) {
        /* Without a handle the record may be gone by now. */
        if (out_timer != NULL)
            *out_timer = &record->timer;
        return 0;
    }
    if (out_timer != NULL)
        numaperf__record_release(record);
    numaperf__record_release(record);
    if (group != NULL)
        numaperf__group_leave(group, 1, false);
    return rc;
}

bool numaperf__delay_hand_over(struct numaperf__record *record)
{
    NUMAPERF_ASSERT((record->flags & NUMAPERF__RECORD_DELAYED) != 0);
    return delay_post(record, true);
}

/* ---- end ---- */

void numaperf__delay_due(struct numaperf_worker *worker, numaperf_timer_t *timer)
{
    struct numaperf__record *record = delay_record_of(timer);
    if (delay_group_is_cancelled(record)) {
        numaperf__record_cancel(NULL, record, NULL);
        return;
    }
    int rc = numaperf__record_submit(record);
    if (rc == 0)
        return;
    /* Accepted is accepted: until there is room, or else until the worker ends. */
    record->timer.deadline_ns =
        rc == NUMAPERF_E_STOPPING ? UINT64_MAX : numaperf__clock_now_ns() + DELAY_RETRY_NS;
    delay_insert(worker, record);
}

void numaperf__delay_end(numaperf_timer_t *timer)
{
    numaperf__record_cancel(NULL, delay_record_of(timer), NULL);
}

/* ---- public ---- */

int numaperf_timer_cancel(numaperf_timer_t *timer)
{
    if (timer == NULL || timer->kind != NUMAPERF__TIMER_DELAYED)
        return numaperf__fail(-EINVAL, 0, "timer", "it is not of numaperf_rt_spawn_after()");
    struct numaperf__record *record = delay_record_of(timer);
    if (!numaperf__record_claim(record, NUMAPERF__RECORD_CANCELLED)) {
        numaperf__record_release(record);
        return 0;
    }
    numaperf__record_tell_cancelled(record);
    if (timer->worker == numaperf_worker_current()) {
        delay_take_post(timer->worker, record);
        return 1;
    }
    numaperf_group_t *group = record->group;
    if (!delay_post(record, group != NULL)) {
        numaperf__record_release(record); /* the worker has ended, and with it its wheel */
        if (group != NULL)
            numaperf__group_leave(group, 1, true);
    }
    return 1;
}
