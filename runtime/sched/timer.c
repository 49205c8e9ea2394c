/* SPDX-License-Identifier: MIT */
/*
 * Timers of a worker: its wheel, when it is looked at, and the public calls for timers in the
 * caller's memory.
 *
 * Nothing ticks: an idle worker sleeps until the wheel's next deadline, and a turn of a worker
 * without timers costs two loads.
 *
 * A restart reads no clock. It only lists the timer as touched; the worker's next look at the clock
 * is the time that all of these count from: after the restart, so never early, and before anything
 * else can happen to the timer. The new deadline is later than the old one, so the timer stays
 * where it is in the wheel.
 *
 * Thread rule: the worker alone.
 */
#include "sched/timer.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "io/loop.h"
#include "place/region.h"
#include "sched/delay.h"
#include "sched/sched.h"

#include <errno.h>
#include <string.h>

#define TIMER_BUDGET 64u /* that expire in one turn, so that tasks and I/O get their share */
#define TIMER_SLEEP_NS_MAX (UINT64_C(1) << 46) /* 20 hours: kernels add this to their clock */

/* ---- memory ---- */

uint64_t numaperf__timers_bytes(void)
{
    return sizeof(struct numaperf__timers);
}

static int timers_init_node(numaperf_rt_t *rt, struct numaperf__node *node)
{
    const char *unplaced_reason = rt->placed ? NULL : numaperf__unplaced_reason;
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = node->worker_count * numaperf__timers_bytes();
    config.policy = NUMAPERF_MEM_BIND;
    config.mode = rt->config.mode;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    config.nodes = numaperf_nodemask_single(node->id);
    const struct numaperf__region_extra extra = {.unplaced_reason = unplaced_reason};
    int rc = numaperf__region_create(&config, &extra, &node->timers);
    if (rc < 0)
        return rc;
    struct numaperf__timers *timers = numaperf_region_data(node->timers);
    for (uint32_t i = 0; i < node->worker_count; i++) {
        numaperf__wheel_init(&timers[i].wheel, numaperf__clock_now_ns());
        rt->workers[node->first_worker + i].timers = &timers[i];
    }
    /* Workers keep some to themselves, which must not count against the limit. */
    uint64_t kept = (uint64_t)node->worker_count * NUMAPERF__RECORD_CACHE_MAX;
    uint64_t limit = rt->config.task_limit_per_node;
    const struct numaperf__records_config records = {
        .node = node->id,
        .mode = rt->config.mode,
        .unplaced_reason = unplaced_reason,
        .limit = limit < UINT64_MAX - kept ? limit + kept : UINT64_MAX,
    };
    return numaperf__records_create(&records, &node->records);
}

int numaperf__timers_init(numaperf_rt_t *rt)
{
    int rc = 0;
    for (uint32_t i = 0; i < rt->node_count && rc == 0; i++)
        rc = timers_init_node(rt, &rt->nodes[i]);
    return rc;
}

void numaperf__timers_fini(numaperf_rt_t *rt)
{
    for (uint32_t i = 0; rt->nodes != NULL && i < rt->node_count; i++) {
        numaperf__records_destroy(rt->nodes[i].records);
        numaperf_region_destroy(rt->nodes[i].timers);
    }
}

/* ---- restart ---- */

static uint64_t timer_after(uint64_t now_ns, uint64_t delay_ns)
{
    return delay_ns < UINT64_MAX - now_ns ? now_ns + delay_ns : UINT64_MAX;
}

static void timers_flush_touched(struct numaperf__timers *timers, uint64_t now_ns)
{
    for (uint32_t i = 0; i < timers->touched_count; i++) {
        numaperf_timer_t *timer = timers->touched[i];
        if (timer == NULL)
            continue;
        NUMAPERF_ASSERT_HOT(timer->touched == i + 1);
        timer->touched = 0;
        timer->deadline_ns = timer_after(now_ns, timer->delay_ns);
    }
    timers->touched_count = 0;
}

static void timer_touch(struct numaperf__timers *timers, numaperf_timer_t *timer)
{
    if (timers->touched_count == NUMAPERF__TIMERS_TOUCHED_MAX)
        timers_flush_touched(timers, numaperf__clock_now_ns());
    timers->touched[timers->touched_count++] = timer;
    timer->touched = (uint16_t)timers->touched_count;
}

static void timer_untouch(struct numaperf__timers *timers, numaperf_timer_t *timer)
{
    if (timer->touched == 0)
        return;
    NUMAPERF_ASSERT_HOT(timers->touched[timer->touched - 1] == timer);
    timers->touched[timer->touched - 1] = NULL;
    timer->touched = 0;
}

/* ---- run ---- */

static void timer_expire(struct numaperf_worker *worker, numaperf_timer_t *timer)
{
    NUMAPERF_ASSERT_HOT(timer->touched == 0);
    if (timer->kind == NUMAPERF__TIMER_DELAYED) {
        numaperf__delay_due(worker, timer);
        return;
    }
    NUMAPERF_ASSERT(timer->kind == NUMAPERF__TIMER_OWNED); /* its memory is still a timer's */
    numaperf__loop_refresh_time(worker->loop);
    atomic_store_explicit(&worker->running, timer->fn, memory_order_relaxed); /* for stalls */
    timer->fn(worker, timer->arg); /* the last use of the timer: it may be gone after this */
    atomic_store_explicit(&worker->running, NULL, memory_order_relaxed);
}

void numaperf__timers_run(struct numaperf_worker *worker)
{
    struct numaperf__timers *timers = worker->timers;
    numaperf__delay_look_at_posts(worker);
    if (timers->wheel.count == 0)
        return;
    uint64_t now_ns = numaperf__clock_now_ns();
    timers_flush_touched(timers, now_ns);
    numaperf__wheel_advance(&timers->wheel, now_ns);
    for (uint32_t i = 0; i < TIMER_BUDGET; i++) {
        numaperf_timer_t *timer = numaperf__wheel_pop_due(&timers->wheel);
        if (timer == NULL)
            break;
        timer_expire(worker, timer);
    }
}

uint64_t numaperf__timers_timeout_ns(struct numaperf_worker *worker)
{
    struct numaperf__timers *timers = worker->timers;
    if (timers->wheel.count == 0)
        return UINT64_MAX;
    uint64_t now_ns = numaperf__clock_now_ns();
    timers_flush_touched(timers, now_ns);
    uint64_t next_ns = numaperf__wheel_next_ns(&timers->wheel);
    uint64_t left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    return left_ns < TIMER_SLEEP_NS_MAX ? left_ns : TIMER_SLEEP_NS_MAX;
}

static bool timer_is_any(const numaperf_timer_t *timer)
{
    (void)timer;
    return true;
}

void numaperf__timers_end(struct numaperf_worker *worker)
{
    struct numaperf__timers *timers = worker->timers;
    timers->closed = true;
    numaperf__delay_close_posts(worker);
    timers_flush_touched(timers, numaperf__clock_now_ns());
    numaperf__wheel_make_due(&timers->wheel, timer_is_any);
    for (;;) {
        numaperf_timer_t *timer = numaperf__wheel_pop_due(&timers->wheel);
        if (timer == NULL)
            break;
        if (timer->kind == NUMAPERF__TIMER_DELAYED)
            numaperf__delay_end(timer);
    }
    NUMAPERF_ASSERT(timers->wheel.count == 0); /* closed: nobody could start any */
}

/* ---- public ---- */

int numaperf_timer_init(numaperf_worker_t *worker, numaperf_timer_t *timer, numaperf_task_fn fn,
                        void *arg)
{
    if (worker == NULL || timer == NULL || fn == NULL)
        return numaperf__fail(-EINVAL, 0, "timer", "worker, timer and fn must not be NULL");
    *timer =
        (numaperf_timer_t){.fn = fn, .arg = arg, .worker = worker, .kind = NUMAPERF__TIMER_OWNED};
    return 0;
}

static bool timer_is_own(const numaperf_timer_t *timer)
{
    return timer != NULL && timer->kind == NUMAPERF__TIMER_OWNED &&
           timer->worker == numaperf_worker_current();
}

static int timer_refuse(const numaperf_timer_t *timer)
{
    if (timer == NULL || timer->kind != NUMAPERF__TIMER_OWNED)
        return numaperf__fail(-EINVAL, 0, "timer", "timer is NULL, or was not initialized");
    return numaperf__fail(-EINVAL, 0, "timer", "called on another thread than that of worker %u",
                          timer->worker->index);
}

static void timer_deactivate(numaperf_timer_t *timer)
{
    struct numaperf__timers *timers = timer->worker->timers;
    timer_untouch(timers, timer);
    if (timer->position != NUMAPERF__WHEEL_NOWHERE)
        numaperf__wheel_remove(&timers->wheel, timer);
}

static int timer_start(numaperf_timer_t *timer, uint64_t delay_ns)
{
    struct numaperf__timers *timers = timer->worker->timers;
    if (timers->closed)
        return numaperf__fail(NUMAPERF_E_STOPPING, 0, "timer", "worker %u ends",
                              timer->worker->index);
    uint64_t now_ns = numaperf__clock_now_ns();
    uint64_t deadline_ns = timer_after(now_ns, delay_ns);
    timer_untouch(timers, timer);
    timer->delay_ns = delay_ns;
    if (timer->position != NUMAPERF__WHEEL_NOWHERE) {
        if (numaperf__wheel_may_stay(&timers->wheel, timer, deadline_ns)) {
            timer->deadline_ns = deadline_ns;
            return 0;
        }
        numaperf__wheel_remove(&timers->wheel, timer);
    }
    if (timers->wheel.count == 0) /* nobody has looked at the time for it since the last one */
        numaperf__wheel_advance(&timers->wheel, now_ns);
    timer->deadline_ns = deadline_ns;
    numaperf__wheel_insert(&timers->wheel, timer);
    return 0;
}

int numaperf_timer_start(numaperf_timer_t *timer, uint64_t delay_ns)
{
    return timer_is_own(timer) ? timer_start(timer, delay_ns) : timer_refuse(timer);
}

int numaperf_timer_restart(numaperf_timer_t *timer)
{
    if (!timer_is_own(timer))
        return timer_refuse(timer);
    if (timer->touched != 0)
        return 0;
    if (timer->position >= NUMAPERF__WHEEL_FIRST_SLOT) {
        timer_touch(timer->worker->timers, timer);
        return 0;
    }
    if (timer->deadline_ns == 0)
        return numaperf__fail(-EINVAL, 0, "timer", "it was never started");
    return timer_start(timer, timer->delay_ns);
}

int numaperf_timer_stop(numaperf_timer_t *timer)
{
    if (!timer_is_own(timer))
        return timer_refuse(timer);
    bool active = timer->position != NUMAPERF__WHEEL_NOWHERE;
    timer_deactivate(timer);
    return active ? 1 : 0;
}
