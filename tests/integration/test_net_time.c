/* SPDX-License-Identifier: MIT */
/*
 * Idle, read and write timeouts: slow readers, slow senders, and peers that do just enough. No
 * case counts time: it waits for what must happen, and a wait that was too long for what must not
 * happen is done again.
 */
#include "support/clock.h"
#include "support/net_scene.h"

#include <errno.h>
#include <sys/socket.h>

#define SOON_MS 50u
#define LATER_MS 2500u

static void open_with(struct net_scene *scene, struct net_end *end, void **state, uint32_t idle_ms,
                      uint32_t read_ms, uint32_t write_ms)
{
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.idle_timeout_ms = idle_ms;
    config.read_timeout_ms = read_ms;
    config.write_timeout_ms = write_ms;
    net_scene_open(scene, state);
    net_end_open(scene, end, NULL, &config);
}

static void idle_connection_times_out(void **state)
{
    struct net_scene scene;
    struct net_end end;
    open_with(&scene, &end, state, SOON_MS, 0, 0);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, -ETIMEDOUT);
    numaperf_net_stats_t stats = net_stats(&scene);
    assert_int_equal(stats.idle_timeouts, 1);
    assert_int_equal(stats.read_timeouts + stats.write_timeouts, 0);
    assert_int_equal(stats.failed, 1);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void silent_sender_times_out(void **state)
{
    struct net_scene scene;
    struct net_end end;
    open_with(&scene, &end, state, UINT32_MAX, SOON_MS, 0);
    net_peer_send(&end, 10);
    NET_UNTIL(&scene, (net_write(&end, 1), net_peer_receive(&end, 1), end.closes == 1));
    assert_int_equal(end.reason, -ETIMEDOUT); /* whatever we have sent meanwhile */
    assert_int_equal(net_stats(&scene).read_timeouts, 1);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void reader_that_takes_nothing_times_out(void **state)
{
    struct net_scene scene;
    struct net_end end;
    open_with(&scene, &end, state, UINT32_MAX, 0, SOON_MS);
    assert_true(net_write(&end, 8 << 20) >= 0);
    /* It sends all the while. */
    NET_UNTIL(&scene, (net_peer_send(&end, 1), end.closes == 1));
    assert_int_equal(end.reason, -ETIMEDOUT);
    assert_int_equal(net_stats(&scene).write_timeouts, 1);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void finish_is_limited_by_the_write_timeout(void **state)
{
    struct net_scene scene;
    struct net_end end;
    open_with(&scene, &end, state, UINT32_MAX, 0, SOON_MS);
    assert_true(net_write(&end, 8 << 20) >= 0);
    assert_int_equal(numaperf_conn_finish(end.conn), 0);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, -ETIMEDOUT);
    assert_int_equal(net_stats(&scene).write_timeouts, 1);
    net_end_close(&end);
    net_scene_close(&scene);
}

/* Not so narrow that TCP itself waits long before it goes on. */
static void narrow(int fd)
{
    int bytes = 65536;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
}

/* A byte one way and some the other now and then, for longer than the timeout; true when never more
 * than half of it passed between two. */
static bool trickle(struct net_scene *scene, struct net_end *end)
{
    uint64_t begin_ns = test_now_ns();
    uint64_t last_ns = begin_ns;
    uint64_t longest_ns = 0;
    while (last_ns - begin_ns < LATER_MS * UINT64_C(1200000)) {
        net_peer_send(end, 1);
        net_peer_receive(end, 4000);
        for (int i = 0; i < 5; i++)
            net_turn(scene, net_limit(), "a turn");
        uint64_t now_ns = test_now_ns();
        longest_ns = now_ns - last_ns > longest_ns ? now_ns - last_ns : longest_ns;
        last_ns = now_ns;
        test_sleep_ms(10);
    }
    return longest_ns < LATER_MS * UINT64_C(500000);
}

static void one_byte_at_a_time_is_enough(void **state)
{
    bool is_quick = false;
    for (int attempt = 0; attempt < 5 && !is_quick; attempt++) {
        struct net_scene scene;
        struct net_end end;
        open_with(&scene, &end, state, LATER_MS, LATER_MS, LATER_MS);
        narrow(numaperf_conn_fd(end.conn));
        narrow(end.peer);
        assert_true(net_write(&end, 8 << 20) >= 0); /* more than is read meanwhile */
        is_quick = trickle(&scene, &end);
        if (is_quick) {
            assert_int_equal(end.closes, 0);
            /* The last byte may still be under way. */
            NET_UNTIL(&scene, end.received == end.sent || end.closes > 0);
            assert_int_equal(end.closes, 0);
            assert_true(numaperf_conn_queued_bytes(end.conn) > 0);
        }
        net_end_close(&end);
        net_scene_close(&scene);
    }
    if (!is_quick) {
        print_message("skipped: this machine is too busy to be in time\n");
        skip();
    }
}

static void paused_connection_has_no_read_timeout(void **state)
{
    struct net_scene scene;
    struct net_end end;
    struct net_end other;
    open_with(&scene, &end, state, UINT32_MAX, SOON_MS, 0);
    numaperf_conn_pause(end.conn);
    /* One that began later times out three times: by then the first would have. */
    for (int i = 0; i < 3; i++) {
        numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
        config.read_timeout_ms = SOON_MS;
        net_end_open(&scene, &other, NULL, &config);
        NET_UNTIL(&scene, other.closes == 1);
        net_end_close(&other);
    }
    assert_int_equal(end.closes, 0);
    numaperf_conn_resume(end.conn);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, -ETIMEDOUT);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void other_timeouts_count_at_once(void **state)
{
    struct net_scene scene;
    struct net_end end;
    open_with(&scene, &end, state, 0, 0, 0); /* minutes */
    net_settle(&scene);
    assert_int_equal(numaperf_conn_set_timeouts(NULL, 1, 1, 1), -EINVAL);
    assert_int_equal(numaperf_conn_set_timeouts(end.conn, SOON_MS, 0, 0), 0);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, -ETIMEDOUT);
    assert_int_equal(net_stats(&scene).idle_timeouts, 1);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void timeouts_that_are_put_off_do_not_come(void **state)
{
    struct net_scene scene;
    struct net_end end;
    struct net_end other;
    open_with(&scene, &end, state, LATER_MS, LATER_MS, LATER_MS);
    assert_int_equal(numaperf_conn_set_timeouts(end.conn, UINT32_MAX, UINT32_MAX, UINT32_MAX), 0);
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.idle_timeout_ms = LATER_MS + SOON_MS;
    net_end_open(&scene, &other, NULL, &config);
    NET_UNTIL(&scene, other.closes == 1);
    net_settle(&scene);
    assert_int_equal(end.closes, 0);
    net_end_close(&other);
    net_end_close(&end);
    net_scene_close(&scene);
}

/* The timer of the timeouts is nobody's reason to go on. */
static void loop_with_nothing_to_do_ends(void **state)
{
    struct net_scene scene;
    struct net_end end;
    open_with(&scene, &end, state, 0, 0, 0);
    net_end_close(&end);
    assert_int_equal(numaperf_loop_run(scene.loop, 0 /* UV_RUN_DEFAULT */), 0);
    net_scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_EACH(idle_connection_times_out),
        NET_BOTH(silent_sender_times_out),
        NET_EACH(reader_that_takes_nothing_times_out),
        NET_BOTH(finish_is_limited_by_the_write_timeout),
        NET_EACH(one_byte_at_a_time_is_enough),
        NET_BOTH(paused_connection_has_no_read_timeout),
        NET_BOTH(other_timeouts_count_at_once),
        NET_BOTH(timeouts_that_are_put_off_do_not_come),
        NET_BOTH(loop_with_nothing_to_do_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
