/* SPDX-License-Identifier: MIT */
/*
 * Timeouts of a loop's connections. Each that has one hangs in the wheel under a time no later than
 * its deadline. Bytes only move deadlines away: they write a timestamp, and the connection stays
 * where it is until that time; then its deadline is computed again, and it hangs there. So a busy
 * connection is looked at once in a timeout, and one that idles not at all.
 *
 * Invariants: a connection with a deadline is in the wheel; the timer is started while the wheel is
 * not empty, and fires no later than the first in it is due.
 *
 * Never early: timestamps are whole milliseconds, rounded down, so a deadline is one more than the
 * sum. Late by at most a 64th of the timeout, and by 1 s: deadlines that are about as near share a
 * wake.
 *
 * Thread rule: the loop's thread.
 */
#include "net/deadline.h"

#include "base/assert.h"
#include "base/list.h"

/* The wheel counts in ticks; here a tick of it is a millisecond. */
#define DEADLINE_TICKS(ms) ((ms) << NUMAPERF__WHEEL_TICK_SHIFT)
#define DEADLINE_MS(ticks) ((ticks) >> NUMAPERF__WHEEL_TICK_SHIFT)
#define DEADLINE_BUDGET 256u         /* connections looked at in one turn */
#define DEADLINE_PART_SHIFT 6u       /* a 64th of the time left may be added ... */
#define DEADLINE_GRAIN_SHIFT_MAX 10u /* ... but no more than 1024 ms */

/* ---- pure ---- */

static uint64_t deadline_later(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Take the sooner one. `timeout_ms` UINT32_MAX: never. */
static void deadline_consider(uint64_t since_ms, uint32_t timeout_ms,
                              enum numaperf__net_counter counter, uint64_t *deadline_ms,
                              enum numaperf__net_counter *out_counter)
{
    if (timeout_ms == UINT32_MAX)
        return;
    uint64_t at_ms = since_ms + timeout_ms + 1;
    if (at_ms >= *deadline_ms)
        return;
    *deadline_ms = at_ms;
    *out_counter = counter;
}

uint64_t numaperf__deadline_of(const struct numaperf_conn *conn,
                               enum numaperf__net_counter *out_counter)
{
    uint64_t deadline_ms = UINT64_MAX;
    if (conn->lingers) {
        *out_counter = NUMAPERF__NET_COUNTERS;
        return conn->linger_until_ms;
    }
    /* Of two that end at once, the one that says more is told. */
    if (conn->output.bytes > 0 || conn->pinned_count > 0)
        deadline_consider(deadline_later(conn->sent_ms, conn->waiting_ms), conn->write_timeout_ms,
                          NUMAPERF__NET_WRITE_TIMEOUTS, &deadline_ms, out_counter);
    if (!conn->is_paused && !conn->input_ended && !conn->finish_wanted)
        deadline_consider(deadline_later(conn->received_ms, conn->reading_ms),
                          conn->read_timeout_ms, NUMAPERF__NET_READ_TIMEOUTS, &deadline_ms,
                          out_counter);
    deadline_consider(deadline_later(conn->received_ms, conn->sent_ms), conn->idle_timeout_ms,
                      NUMAPERF__NET_IDLE_TIMEOUTS, &deadline_ms, out_counter);
    return deadline_ms;
}

/* Where in the wheel: not before `deadline_ms`, and where others are, too. */
static uint64_t deadline_wheel_ms(uint64_t deadline_ms, uint64_t now_ms)
{
    uint64_t part_ms = deadline_ms > now_ms ? (deadline_ms - now_ms) >> DEADLINE_PART_SHIFT : 0;
    unsigned shift = part_ms > 0 ? 63u - (unsigned)__builtin_clzll(part_ms) : 0;
    if (shift > DEADLINE_GRAIN_SHIFT_MAX)
        shift = DEADLINE_GRAIN_SHIFT_MAX;
    uint64_t grain_ms = UINT64_C(1) << shift;
    return (deadline_ms + grain_ms - 1) & ~(grain_ms - 1);
}

/* ---- the timer ---- */

static struct numaperf__net *deadline_net_of(uv_handle_t *timer)
{
    struct numaperf__deadlines *deadlines =
        NUMAPERF_CONTAINER_OF(timer, struct numaperf__deadlines, timer);
    return NUMAPERF_CONTAINER_OF(deadlines, struct numaperf__net, deadlines);
}

static void deadlines_fired(uv_timer_t *timer);

/* Have the timer fire at a time, or sooner: firing once in vain is cheaper than starting it anew
 * for every connection that comes or goes. */
static void deadlines_arm(struct numaperf__net *net, uint64_t at_ms)
{
    struct numaperf__deadlines *deadlines = &net->deadlines;
    if (deadlines->armed_ms <= at_ms)
        return;
    if (uv_is_closing((uv_handle_t *)&deadlines->timer) != 0)
        return; /* the loop ends: connections are closed, not timed */
    uint64_t now_ms = numaperf__net_now_ms(net);
    deadlines->armed_ms = at_ms;
    int rc =
        uv_timer_start(&deadlines->timer, deadlines_fired, at_ms > now_ms ? at_ms - now_ms : 0, 0);
    NUMAPERF_ASSERT(rc == 0); /* fails only while it is being closed */
}

static void deadline_insert(struct numaperf_conn *conn, uint64_t wheel_ms)
{
    conn->deadline.deadline_ns = DEADLINE_TICKS(wheel_ms);
    numaperf__wheel_insert(&conn->net->deadlines.wheel, &conn->deadline);
}

/* It is in no list any more: tell that it is late, or hang it where it belongs. */
static void deadline_look(struct numaperf_conn *conn, uint64_t now_ms)
{
    enum numaperf__net_counter counter = NUMAPERF__NET_IDLE_TIMEOUTS;
    uint64_t deadline_ms = numaperf__deadline_of(conn, &counter);
    if (deadline_ms <= now_ms)
        numaperf__conn_timed_out(conn, counter);
    else if (deadline_ms != UINT64_MAX)
        deadline_insert(conn, deadline_wheel_ms(deadline_ms, now_ms));
}

static void deadlines_fired(uv_timer_t *timer)
{
    struct numaperf__net *net = deadline_net_of((uv_handle_t *)timer);
    struct numaperf__wheel *wheel = &net->deadlines.wheel;
    uint64_t now_ms = numaperf__net_now_ms(net);
    net->deadlines.armed_ms = UINT64_MAX;
    numaperf__wheel_advance(wheel, DEADLINE_TICKS(now_ms));
    for (uint32_t i = 0; i < DEADLINE_BUDGET; i++) {
        numaperf_timer_t *due = numaperf__wheel_pop_due(wheel);
        if (due == NULL)
            break;
        deadline_look(NUMAPERF_CONTAINER_OF(due, struct numaperf_conn, deadline), now_ms);
    }
    /* What is still due has it fire again in the next turn, after others had theirs. */
    if (wheel->count > 0)
        deadlines_arm(net, DEADLINE_MS(numaperf__wheel_next_ns(wheel)));
}

/* ---- life ---- */

int numaperf__deadlines_init(struct numaperf__net *net)
{
    struct numaperf__deadlines *deadlines = &net->deadlines;
    uv_loop_t *uv = numaperf_loop_uv(net->loop);
    int rc = uv_timer_init(uv, &deadlines->timer);
    if (rc < 0)
        return rc;
    numaperf__loop_mark((uv_handle_t *)&deadlines->timer);
    uv_unref((uv_handle_t *)&deadlines->timer);
    net->handle_count++;
    deadlines->is_open = true;
    deadlines->armed_ms = UINT64_MAX;
    numaperf__wheel_init(&deadlines->wheel, DEADLINE_TICKS(numaperf__net_now_ms(net)));
    return 0;
}

static void deadlines_closed(uv_handle_t *timer)
{
    struct numaperf__net *net = deadline_net_of(timer);
    NUMAPERF_ASSERT(net->handle_count > 0);
    net->deadlines.is_open = false;
    net->handle_count--;
}

void numaperf__deadlines_close(struct numaperf__net *net)
{
    struct numaperf__deadlines *deadlines = &net->deadlines;
    if (deadlines->is_open && !uv_is_closing((uv_handle_t *)&deadlines->timer))
        uv_close((uv_handle_t *)&deadlines->timer, deadlines_closed);
}

void numaperf__deadline_watch(struct numaperf_conn *conn)
{
    enum numaperf__net_counter counter = NUMAPERF__NET_IDLE_TIMEOUTS;
    uint64_t deadline_ms = numaperf__deadline_of(conn, &counter);
    if (deadline_ms == UINT64_MAX)
        return; /* if it is in the wheel, it leaves that when it is looked at */
    uint64_t wheel_ms = deadline_wheel_ms(deadline_ms, numaperf__net_now_ms(conn->net));
    if (conn->deadline.position != NUMAPERF__WHEEL_NOWHERE) {
        if (conn->deadline.deadline_ns <= DEADLINE_TICKS(wheel_ms))
            return;
        numaperf__wheel_remove(&conn->net->deadlines.wheel, &conn->deadline);
    }
    deadline_insert(conn, wheel_ms);
    deadlines_arm(conn->net, wheel_ms);
}

void numaperf__deadline_forget(struct numaperf_conn *conn)
{
    if (conn->deadline.position == NUMAPERF__WHEEL_NOWHERE)
        return;
    struct numaperf__deadlines *deadlines = &conn->net->deadlines;
    numaperf__wheel_remove(&deadlines->wheel, &conn->deadline);
    if (deadlines->wheel.count > 0)
        return;
    deadlines->armed_ms = UINT64_MAX;
    (void)uv_timer_stop(&deadlines->timer); /* never fails */
}
