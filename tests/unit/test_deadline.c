/* SPDX-License-Identifier: MIT */
/*
 * Timeouts of connections: the deadline as a table, and the wheel under a clock and a timer that
 * the test holds in its hands; at the end once with libuv's own.
 */
#include "net/deadline.h"

#include "support/clock.h"
#include "support/stress.h"

#include <numaperf/loop.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define NEVER UINT32_MAX
#define START_MS UINT64_C(86400000)
#define MANY 10000u
#define FIVE_MINUTES_MS 300000u

/* ---- the clock and the timer ---- */

static struct {
    bool is_real;
    uint64_t now_ms;
    uv_timer_cb fn; /* NULL: not started */
    uint64_t at_ms;
    unsigned starts;
    unsigned fires;
} fake;

int __real_uv_timer_start(uv_timer_t *timer, uv_timer_cb fn, uint64_t timeout, uint64_t repeat);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb fn, uint64_t timeout, uint64_t repeat);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb fn, uint64_t timeout, uint64_t repeat)
{
    fake.starts++;
    if (fake.is_real)
        return __real_uv_timer_start(timer, fn, timeout, repeat);
    fake.fn = fn;
    fake.at_ms = fake.now_ms + timeout;
    return 0;
}

int __real_uv_timer_stop(uv_timer_t *timer);
int __wrap_uv_timer_stop(uv_timer_t *timer);
int __wrap_uv_timer_stop(uv_timer_t *timer)
{
    fake.fn = NULL;
    return __real_uv_timer_stop(timer);
}

uint64_t __wrap_numaperf__net_now_ms(const struct numaperf__net *net);
uint64_t __wrap_numaperf__net_now_ms(const struct numaperf__net *net)
{
    return fake.is_real ? uv_now(numaperf_loop_uv(net->loop)) : fake.now_ms;
}

/* ---- connections ---- */

struct scene {
    numaperf_loop_t *loop;
    struct numaperf__net net;
    struct numaperf_conn *conns;
    unsigned count;
    unsigned expired;
};

static struct scene scene;

/* As the real one: it closes, and is forgotten. What it was told is kept in its state and reason.
 */
void __wrap_numaperf__conn_timed_out(struct numaperf_conn *conn,
                                     enum numaperf__net_counter counter);
void __wrap_numaperf__conn_timed_out(struct numaperf_conn *conn, enum numaperf__net_counter counter)
{
    assert_int_equal(conn->state, 0);
    enum numaperf__net_counter wanted = NUMAPERF__NET_ACCEPTED;
    assert_true(numaperf__deadline_of(conn, &wanted) <= numaperf__net_now_ms(conn->net));
    assert_int_equal(counter, wanted);
    conn->state = 1;
    conn->reason = (int32_t)counter;
    numaperf__deadline_forget(conn);
    scene.expired++;
}

static void conn_init(struct numaperf_conn *conn)
{
    memset(conn, 0, sizeof(*conn));
    conn->net = &scene.net;
    conn->idle_timeout_ms = NEVER;
    conn->read_timeout_ms = NEVER;
    conn->write_timeout_ms = NEVER;
    uint64_t now_ms = numaperf__net_now_ms(&scene.net);
    conn->received_ms = now_ms;
    conn->sent_ms = now_ms;
    conn->waiting_ms = now_ms;
    conn->reading_ms = now_ms;
}

static void scene_open(unsigned count)
{
    memset(&fake, 0, sizeof(fake));
    fake.now_ms = START_MS;
    memset(&scene, 0, sizeof(scene));
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = NUMAPERF_IO_EPOLL;
    assert_int_equal(numaperf_loop_create(&config, &scene.loop), 0);
    scene.net.loop = scene.loop;
    assert_int_equal(numaperf__deadlines_init(&scene.net), 0);
    assert_int_equal(scene.net.handle_count, 1);
    scene.conns = calloc(count, sizeof(*scene.conns));
    assert_non_null(scene.conns);
    scene.count = count;
    for (unsigned i = 0; i < count; i++)
        conn_init(&scene.conns[i]);
}

static void scene_close(void)
{
    for (unsigned i = 0; i < scene.count; i++)
        numaperf__deadline_forget(&scene.conns[i]);
    assert_int_equal(scene.net.deadlines.wheel.count, 0);
    assert_null(fake.fn); /* nothing is timed, so nothing runs */
    numaperf__deadlines_close(&scene.net);
    for (int i = 0; i < 10 && scene.net.handle_count > 0; i++)
        (void)numaperf_loop_run(scene.loop, UV_RUN_NOWAIT);
    assert_int_equal(scene.net.handle_count, 0);
    assert_false(scene.net.deadlines.is_open);
    assert_int_equal(numaperf_loop_destroy(scene.loop), 0);
    free(scene.conns);
}

/* Let time pass; the timer fires when it is due, and may be started anew in that. */
static void pass_until(uint64_t to_ms)
{
    while (fake.fn != NULL && fake.at_ms <= to_ms) {
        fake.now_ms = fake.at_ms > fake.now_ms ? fake.at_ms : fake.now_ms;
        uv_timer_cb fn = fake.fn;
        fake.fn = NULL;
        fake.fires++;
        fn(&scene.net.deadlines.timer);
        numaperf__wheel_validate(&scene.net.deadlines.wheel);
    }
    fake.now_ms = to_ms;
}

/* How late a deadline may be told that was so far away when it was last looked at. */
static uint64_t late_ms_max(uint64_t away_ms)
{
    uint64_t part_ms = away_ms / 64;
    return part_ms < 1024 ? part_ms : 1024;
}

/* ---- the table ---- */

struct row {
    const char *name;
    uint32_t idle_ms, read_ms, write_ms;
    uint64_t received, sent, waiting, reading; /* ms */
    size_t waiting_bytes;
    bool is_paused, input_ended, finish_wanted;
    uint64_t deadline; /* UINT64_MAX: never */
    enum numaperf__net_counter counter;
};

#define IDLE NUMAPERF__NET_IDLE_TIMEOUTS
#define READ NUMAPERF__NET_READ_TIMEOUTS
#define WRITE NUMAPERF__NET_WRITE_TIMEOUTS

static const struct row rows[] = {
    {"nothing is timed", NEVER, NEVER, NEVER, 5, 5, 5, 5, 9, 0, 0, 0, UINT64_MAX, IDLE},
    {"idle since a byte came", 100, NEVER, NEVER, 20, 10, 0, 0, 0, 0, 0, 0, 121, IDLE},
    {"idle since a byte went", 100, NEVER, NEVER, 10, 20, 0, 0, 0, 0, 0, 0, 121, IDLE},
    {"idle while paused, too", 100, NEVER, NEVER, 10, 20, 0, 0, 0, 1, 0, 0, 121, IDLE},
    {"read since a byte came", NEVER, 50, NEVER, 20, 99, 0, 10, 0, 0, 0, 0, 71, READ},
    {"read since it was resumed", NEVER, 50, NEVER, 10, 99, 0, 20, 0, 0, 0, 0, 71, READ},
    {"no read timeout when paused", NEVER, 50, NEVER, 10, 9, 0, 2, 0, 1, 0, 0, UINT64_MAX, IDLE},
    {"none after the peer's end", NEVER, 50, NEVER, 10, 9, 0, 2, 0, 0, 1, 0, UINT64_MAX, IDLE},
    {"none when it finishes", NEVER, 50, NEVER, 10, 9, 0, 2, 0, 0, 0, 1, UINT64_MAX, IDLE},
    {"write since output waits", NEVER, NEVER, 30, 90, 10, 20, 0, 1, 0, 0, 0, 51, WRITE},
    {"write since some went", NEVER, NEVER, 30, 90, 20, 10, 0, 1, 0, 0, 0, 51, WRITE},
    {"none when nothing waits", NEVER, NEVER, 30, 9, 2, 1, 0, 0, 0, 0, 0, UINT64_MAX, IDLE},
    {"write when paused, ended and finishing", NEVER, NEVER, 30, 9, 2, 20, 0, 1, 1, 1, 1, 51,
     WRITE},
    {"the soonest: idle", 10, 40, 40, 20, 20, 20, 20, 1, 0, 0, 0, 31, IDLE},
    {"the soonest: read", 40, 10, 40, 20, 20, 20, 20, 1, 0, 0, 0, 31, READ},
    {"the soonest: write", 40, 40, 10, 20, 20, 20, 20, 1, 0, 0, 0, 31, WRITE},
    {"of equals the one that says most", 10, 10, 10, 20, 20, 20, 20, 1, 0, 0, 0, 31, WRITE},
    {"of equals the one that says more", 10, 10, 10, 20, 20, 20, 20, 0, 0, 0, 0, 31, READ},
    {"the longest that is none for ever", NEVER - 1, NEVER, NEVER, 1, 1, 1, 1, 0, 0, 0, 0,
     UINT64_C(4294967296), IDLE},
};

static void deadline_is_the_soonest_of_the_timeouts_that_apply(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];
        struct numaperf_conn conn;
        memset(&conn, 0, sizeof(conn));
        conn.idle_timeout_ms = row->idle_ms;
        conn.read_timeout_ms = row->read_ms;
        conn.write_timeout_ms = row->write_ms;
        conn.received_ms = row->received;
        conn.sent_ms = row->sent;
        conn.waiting_ms = row->waiting;
        conn.reading_ms = row->reading;
        conn.output.bytes = row->waiting_bytes;
        conn.is_paused = row->is_paused;
        conn.input_ended = row->input_ended;
        conn.finish_wanted = row->finish_wanted;
        enum numaperf__net_counter counter = IDLE;
        uint64_t deadline = numaperf__deadline_of(&conn, &counter);
        if (deadline != row->deadline || counter != row->counter)
            fail_msg("%s: %llu by %d", row->name, (unsigned long long)deadline, (int)counter);
    }
}

static void lingering_ends_at_its_own_time_whatever_the_timeouts(void **state)
{
    (void)state;
    scene_open(1);
    struct numaperf_conn *conn = &scene.conns[0];
    conn->idle_timeout_ms = 10;
    numaperf__deadline_watch(conn);
    conn->lingers = true;
    conn->linger_until_ms = START_MS + 2000;
    numaperf__deadline_watch(conn);
    pass_until(START_MS + 1999);
    assert_int_equal(scene.expired, 0);
    pass_until(START_MS + 2000 + late_ms_max(2000));
    assert_int_equal(scene.expired, 1);
    assert_int_equal(conn->reason, NUMAPERF__NET_COUNTERS);
    scene_close();
}

/* ---- the wheel ---- */

static void idle_connection_expires_when_its_time_is_over_and_not_before(void **state)
{
    (void)state;
    for (uint32_t timeout_ms = 1; timeout_ms < 2000000; timeout_ms = timeout_ms * 3 + 1) {
        scene_open(1);
        scene.conns[0].idle_timeout_ms = timeout_ms;
        numaperf__deadline_watch(&scene.conns[0]);
        pass_until(START_MS + timeout_ms);
        assert_int_equal(scene.expired, 0);
        pass_until(START_MS + timeout_ms + 1 + late_ms_max(timeout_ms + 1));
        assert_int_equal(scene.expired, 1);
        assert_int_equal(scene.conns[0].reason, IDLE);
        assert_true(fake.fires <= 3);
        scene_close();
    }
}

static void bytes_start_no_timer_and_keep_it_alive(void **state)
{
    (void)state;
    scene_open(1);
    struct numaperf_conn *conn = &scene.conns[0];
    conn->idle_timeout_ms = 1000;
    numaperf__deadline_watch(conn);
    for (int i = 0; i < 10000; i++) {
        conn->received_ms = fake.now_ms;
        pass_until(fake.now_ms + 1);
    }
    assert_int_equal(scene.expired, 0);
    assert_true(fake.starts <= 12); /* once in a timeout, not once in a byte */
    pass_until(conn->received_ms + 1000);
    assert_int_equal(scene.expired, 0);
    pass_until(conn->received_ms + 1001 + late_ms_max(1001));
    assert_int_equal(scene.expired, 1);
    scene_close();
}

static void output_that_waits_is_timed_sooner_than_an_idle_peer(void **state)
{
    (void)state;
    scene_open(1);
    struct numaperf_conn *conn = &scene.conns[0];
    conn->idle_timeout_ms = 60000;
    conn->write_timeout_ms = 500;
    numaperf__deadline_watch(conn);
    pass_until(START_MS + 10000);
    conn->output.bytes = 7;
    conn->waiting_ms = fake.now_ms;
    numaperf__deadline_watch(conn);
    conn->received_ms = fake.now_ms + 400; /* the peer may well send meanwhile */
    pass_until(START_MS + 10500);
    assert_int_equal(scene.expired, 0);
    pass_until(START_MS + 10501 + late_ms_max(501));
    assert_int_equal(scene.expired, 1);
    assert_int_equal(conn->reason, WRITE);
    scene_close();
}

static void output_that_makes_progress_has_no_write_timeout(void **state)
{
    (void)state;
    scene_open(1);
    struct numaperf_conn *conn = &scene.conns[0];
    conn->write_timeout_ms = 500;
    conn->output.bytes = 1 << 20;
    numaperf__deadline_watch(conn);
    for (int i = 0; i < 100; i++) {
        pass_until(fake.now_ms + 400);
        conn->sent_ms = fake.now_ms;
        conn->output.bytes--;
    }
    assert_int_equal(scene.expired, 0);
    conn->output.bytes = 0;
    pass_until(fake.now_ms + 100000);
    assert_int_equal(scene.expired, 0);
    /* It left the wheel: what waits anew is timed anew. */
    assert_int_equal(scene.net.deadlines.wheel.count, 0);
    conn->output.bytes = 1;
    conn->waiting_ms = fake.now_ms;
    numaperf__deadline_watch(conn);
    pass_until(fake.now_ms + 501 + late_ms_max(501));
    assert_int_equal(scene.expired, 1);
    scene_close();
}

/* A peer that trickles bytes is never idle; only a read timeout that it does not meet ends it. */
static void reading_that_is_paused_is_not_timed_and_begins_anew(void **state)
{
    (void)state;
    scene_open(1);
    struct numaperf_conn *conn = &scene.conns[0];
    conn->read_timeout_ms = 100;
    numaperf__deadline_watch(conn);
    pass_until(START_MS + 50);
    conn->is_paused = true;
    pass_until(START_MS + 5000);
    assert_int_equal(scene.expired, 0);
    conn->is_paused = false;
    conn->reading_ms = fake.now_ms;
    numaperf__deadline_watch(conn);
    pass_until(START_MS + 5100);
    assert_int_equal(scene.expired, 0);
    pass_until(START_MS + 5101 + late_ms_max(101));
    assert_int_equal(scene.expired, 1);
    assert_int_equal(conn->reason, READ);
    scene_close();
}

static void connection_that_closes_is_not_told(void **state)
{
    (void)state;
    scene_open(2);
    for (unsigned i = 0; i < 2; i++) {
        scene.conns[i].idle_timeout_ms = 100;
        numaperf__deadline_watch(&scene.conns[i]);
    }
    numaperf__deadline_forget(&scene.conns[0]);
    numaperf__deadline_forget(&scene.conns[0]);
    assert_non_null(fake.fn);
    pass_until(START_MS + 10000);
    assert_int_equal(scene.expired, 1);
    assert_int_equal(scene.conns[0].state, 0);
    assert_int_equal(scene.conns[1].state, 1);
    assert_null(fake.fn);
    scene_close();
}

/* ---- many ---- */

static void ten_thousand_idle_connections_cost_a_wake_a_second_at_most(void **state)
{
    (void)state;
    scene_open(MANY);
    for (unsigned i = 0; i < MANY; i++) {
        conn_init(&scene.conns[i]);
        scene.conns[i].idle_timeout_ms = FIVE_MINUTES_MS;
        numaperf__deadline_watch(&scene.conns[i]);
        pass_until(fake.now_ms + 1); /* they come over ten seconds */
    }
    uint64_t last_ms = fake.now_ms;
    assert_true(fake.starts <= 2);
    pass_until(START_MS + FIVE_MINUTES_MS);
    assert_int_equal(scene.expired, 0);
    assert_true(fake.fires <= 16); /* what the wheel turns over on its way */
    pass_until(last_ms + FIVE_MINUTES_MS + 1 + late_ms_max(FIVE_MINUTES_MS));
    assert_int_equal(scene.expired, MANY);
    /* Ten seconds of them: one wake for each, as many turns as the budget needs, a few to get
     * there. */
    assert_true(fake.fires <= 16 + 11 + MANY / 256 + 11);
    scene_close();
}

static void those_that_expire_at_once_are_told_over_several_turns(void **state)
{
    (void)state;
    scene_open(1000);
    for (unsigned i = 0; i < 1000; i++) {
        scene.conns[i].idle_timeout_ms = 50;
        numaperf__deadline_watch(&scene.conns[i]);
    }
    assert_int_equal(fake.starts, 1);
    unsigned before = 0;
    while (scene.expired < 1000) {
        assert_non_null(fake.fn);
        uint64_t at_ms = fake.at_ms;
        uv_timer_cb fn = fake.fn;
        fake.fn = NULL;
        fake.now_ms = at_ms;
        fn(&scene.net.deadlines.timer);
        assert_true(scene.expired - before <= 256);
        before = scene.expired;
    }
    assert_true(fake.now_ms <= START_MS + 60);
    scene_close();
}

/* What the connections do at random, checked against each one's own deadline. */
static void model_step(struct numaperf_conn *conn, uint64_t *random)
{
    uint64_t now_ms = fake.now_ms;
    switch (stress_below(random, 6)) {
    case 0:
        conn->received_ms = now_ms;
        break;
    case 1:
        if (conn->output.bytes > 0)
            conn->sent_ms = now_ms;
        conn->output.bytes = 0;
        break;
    case 2:
        if (conn->output.bytes == 0)
            conn->waiting_ms = now_ms;
        conn->output.bytes += 10;
        break;
    case 3:
        conn->is_paused = true;
        break;
    case 4:
        if (conn->is_paused)
            conn->reading_ms = now_ms;
        conn->is_paused = false;
        break;
    default:
        conn->read_timeout_ms = (uint32_t)stress_below(random, 3000) + 1;
        break;
    }
    numaperf__deadline_watch(conn);
}

static void model_check(const struct numaperf_conn *conn)
{
    if (conn->state != 0)
        return;
    enum numaperf__net_counter counter = IDLE;
    uint64_t deadline_ms = numaperf__deadline_of(conn, &counter);
    if (deadline_ms == UINT64_MAX)
        return;
    /* It hangs in the wheel, at a time that is not much after its deadline. */
    assert_int_not_equal(conn->deadline.position, NUMAPERF__WHEEL_NOWHERE);
    assert_true(deadline_ms + 1024 >= fake.now_ms);
    assert_non_null(fake.fn);
}

static void no_connection_is_early_or_missed_whatever_happens_to_them(void **state)
{
    (void)state;
    uint64_t random = stress_seed();
    scene_open(200);
    for (unsigned i = 0; i < 200; i++) {
        struct numaperf_conn *conn = &scene.conns[i];
        conn->idle_timeout_ms = (uint32_t)stress_below(&random, 100000) + 1;
        conn->read_timeout_ms = (uint32_t)stress_below(&random, 10000) + 1;
        conn->write_timeout_ms = (uint32_t)stress_below(&random, 3000) + 1;
        numaperf__deadline_watch(conn);
    }
    unsigned closed = 0;
    for (uint64_t step = stress_count(20000); step > 0; step--) {
        struct numaperf_conn *conn = &scene.conns[stress_below(&random, 200)];
        if (conn->state != 0) { /* another one comes in its place */
            uint32_t idle_ms = conn->idle_timeout_ms;
            conn_init(conn);
            conn->idle_timeout_ms = idle_ms;
            conn->write_timeout_ms = 2000;
            closed++;
        }
        model_step(conn, &random);
        pass_until(fake.now_ms + stress_below(&random, 20));
        for (unsigned i = 0; i < 200; i++)
            model_check(&scene.conns[i]);
    }
    print_message("%u of them expired\n", scene.expired);
    assert_true(scene.expired >= closed);
    scene_close();
}

/* ---- with libuv's own ---- */

static void timer_keeps_no_loop_alive_and_fires_in_one_that_is(void **state)
{
    (void)state;
    scene_open(1);
    fake.is_real = true;
    uv_loop_t *uv = numaperf_loop_uv(scene.loop);
    uv_update_time(uv);
    /* The wheel was made under the other clock. */
    numaperf__wheel_init(&scene.net.deadlines.wheel, uv_now(uv) << NUMAPERF__WHEEL_TICK_SHIFT);
    conn_init(&scene.conns[0]);
    scene.conns[0].idle_timeout_ms = 30;
    numaperf__deadline_watch(&scene.conns[0]);
    assert_true(uv_is_active((uv_handle_t *)&scene.net.deadlines.timer));
    assert_true(numaperf_loop_owns((uv_handle_t *)&scene.net.deadlines.timer));
    assert_int_equal(uv_loop_alive(uv), 0);

    uv_async_t alive;
    assert_int_equal(uv_async_init(uv, &alive, NULL), 0);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(30);
    while (scene.expired == 0) {
        assert_true(test_now_ns() < limit_ns);
        (void)numaperf_loop_run(scene.loop, UV_RUN_ONCE);
    }
    assert_int_equal(uv_is_active((uv_handle_t *)&scene.net.deadlines.timer), 0);
    uv_close((uv_handle_t *)&alive, NULL);
    (void)numaperf_loop_run(scene.loop, UV_RUN_DEFAULT);
    fake.is_real = false;
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deadline_is_the_soonest_of_the_timeouts_that_apply),
        cmocka_unit_test(lingering_ends_at_its_own_time_whatever_the_timeouts),
        cmocka_unit_test(idle_connection_expires_when_its_time_is_over_and_not_before),
        cmocka_unit_test(bytes_start_no_timer_and_keep_it_alive),
        cmocka_unit_test(output_that_waits_is_timed_sooner_than_an_idle_peer),
        cmocka_unit_test(output_that_makes_progress_has_no_write_timeout),
        cmocka_unit_test(reading_that_is_paused_is_not_timed_and_begins_anew),
        cmocka_unit_test(connection_that_closes_is_not_told),
        cmocka_unit_test(ten_thousand_idle_connections_cost_a_wake_a_second_at_most),
        cmocka_unit_test(those_that_expire_at_once_are_told_over_several_turns),
        cmocka_unit_test(no_connection_is_early_or_missed_whatever_happens_to_them),
        cmocka_unit_test(timer_keeps_no_loop_alive_and_fires_in_one_that_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
