/* SPDX-License-Identifier: MIT */
/*
 * Who waits for whom: pause and resume, water marks and the output limit, half-closes, and loops
 * that are short of buffers or of room for completions. No byte is lost, none comes too early.
 */
#include "support/net_scene.h"

#include <numaperf/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- pause and resume ---- */

static void paused_connection_reads_nothing_and_loses_nothing(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    net_peer_sends_until(&end, 1000);
    NET_UNTIL(&scene, end.received == 1000);
    for (int round = 0; round < 3; round++) {
        numaperf_conn_pause(end.conn);
        unsigned reads = end.reads;
        while (net_peer_send(&end, 65536) > 0)
            net_settle(&scene); /* until the kernel takes no more */
        assert_int_equal(end.reads, reads);
        assert_true(end.received < end.sent);
        numaperf_conn_resume(end.conn);
        assert_int_equal(end.reads, reads); /* not inside the call */
        NET_UNTIL(&scene, end.received == end.sent);
    }
    net_end_close(&end);
    net_scene_close(&scene);
}

/* A peer that is not read must be told so by its full socket, not be served from our memory. */
static void paused_connection_holds_the_peer_up(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    numaperf_conn_pause(end.conn);
    net_settle(&scene);
    uint64_t quiet = 0;
    while (quiet < 3 && end.sent < (64u << 20)) {
        quiet = net_peer_send(&end, 65536) > 0 ? 0 : quiet + 1;
        (void)numaperf_loop_run(scene.loop, 2 /* UV_RUN_NOWAIT */);
    }
    assert_true(end.sent < (64u << 20));
    numaperf_conn_resume(end.conn);
    NET_UNTIL(&scene, end.received == end.sent);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void pause_in_turns(struct net_end *end, const char *bytes, size_t length)
{
    (void)bytes;
    (void)length;
    bool *is_paused = end->arg;
    assert_false(*is_paused); /* nothing comes while it is paused */
    numaperf_conn_pause(end->conn);
    numaperf_conn_resume(end->conn);
    numaperf_conn_pause(end->conn);
    *is_paused = true;
}

static void pause_inside_on_read_counts_at_once(void **state)
{
    const struct net_acts acts = {.read = pause_in_turns};
    struct net_scene scene;
    struct net_end end;
    bool is_paused = false;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, &acts, NULL);
    end.arg = &is_paused;
    while (end.received < 400000) {
        net_peer_send(&end, 20000);
        NET_UNTIL(&scene, is_paused || end.received == end.sent);
        net_settle(&scene);
        is_paused = false;
        numaperf_conn_resume(end.conn);
    }
    net_end_close(&end);
    net_scene_close(&scene);
}

static void end_of_the_peer_waits_until_reading_goes_on(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    net_settle(&scene);
    numaperf_conn_pause(end.conn);
    net_peer_sends_until(&end, 5000);
    assert_int_equal(shutdown(end.peer, SHUT_WR), 0);
    net_settle(&scene);
    assert_int_equal(end.ends, 0);
    assert_int_equal(end.received, 0);
    numaperf_conn_resume(end.conn);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.received, 5000);
    assert_int_equal(end.ends, 1);
    assert_int_equal(end.reason, 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

/* ---- how much waits ---- */

static void drain_is_told_once_at_the_low_water_mark(void **state)
{
    struct net_scene scene;
    struct net_end end;
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.high_water_bytes = 100000;
    config.low_water_bytes = 20000;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, &config);
    net_make_tight(&end);
    for (int round = 1; round <= 3; round++) {
        int rc = 0;
        while (rc == 0)
            rc = net_write(&end, 9000);
        assert_int_equal(rc, 1);
        assert_true(numaperf_conn_queued_bytes(end.conn) > 100000);
        assert_int_equal(net_write(&end, 1), 1);
        while (end.drains < (unsigned)round) {
            size_t before = numaperf_conn_queued_bytes(end.conn);
            assert_true(before > 20000); /* else it should have been told */
            NET_UNTIL(&scene, net_peer_receive(&end, 3000) > 0);
            (void)numaperf_loop_run(scene.loop, 2);
            net_turn(&scene, net_limit(), "a drain");
        }
        assert_true(numaperf_conn_queued_bytes(end.conn) <= 20000);
    }
    net_peer_gets_until(&end, end.written);
    net_settle(&scene);
    assert_int_equal(end.drains, 3);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void mark_itself_is_not_beyond_it(void **state)
{
    struct net_scene scene;
    struct net_end end;
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.high_water_bytes = 5000;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, &config);
    assert_int_equal(net_write(&end, 5000), 0);
    assert_int_equal(net_write(&end, 1), 1);
    net_peer_gets_until(&end, 5001);
    NET_UNTIL(&scene, end.drains == 1);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void write_beyond_the_limit_takes_nothing(void **state)
{
    struct net_scene scene;
    struct net_end end;
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.high_water_bytes = 150000;
    config.output_limit_bytes = 200000;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, &config);
    net_make_tight(&end);
    assert_int_equal(net_write(&end, 200001), -EAGAIN); /* even by itself */
    assert_int_equal(numaperf_conn_queued_bytes(end.conn), 0);
    while (net_write(&end, 7001) >= 0)
        ;
    size_t queued = numaperf_conn_queued_bytes(end.conn);
    assert_true(queued + 7001 > 200000 && queued <= 200000);
    assert_int_equal(net_write(&end, 7001), -EAGAIN);
    assert_int_equal(numaperf_conn_queued_bytes(end.conn), queued);
    assert_true(net_write(&end, 200000 - queued) >= 0); /* what fits goes in */
    assert_int_equal(net_write(&end, 1), -EAGAIN);
    net_peer_gets_until(&end, end.written);
    assert_int_equal(net_write(&end, 7001), 0);
    net_peer_gets_until(&end, end.written);
    net_end_close(&end);
    net_scene_close(&scene);
}

/* ---- half-closes ---- */

static void answer_after_the_end(struct net_end *end)
{
    assert_true(net_write(end, 300000) >= 0);
    assert_int_equal(numaperf_conn_end(end->conn), 0);
}

static void writing_goes_on_after_the_peers_end(void **state)
{
    const struct net_acts acts = {.end = answer_after_the_end};
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, &acts, NULL);
    net_peer_sends_until(&end, 12345);
    assert_int_equal(shutdown(end.peer, SHUT_WR), 0);
    net_peer_gets_until(&end, 300000);
    NET_UNTIL(&scene, (net_peer_receive(&end, 1), end.peer_ended));
    assert_int_equal(end.received, 12345);
    assert_int_equal(end.ends, 1);
    NET_UNTIL(&scene, end.closes == 1); /* both directions have ended */
    assert_int_equal(end.reason, 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void reading_goes_on_after_our_end(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    assert_true(net_write(&end, 500000) >= 0);
    assert_int_equal(numaperf_conn_end(end.conn), 0);
    assert_int_equal(numaperf_conn_end(end.conn), 0);
    assert_int_equal(net_write(&end, 1), -EPIPE);
    net_peer_gets_until(&end, 500000);
    NET_UNTIL(&scene, (net_peer_receive(&end, 1), end.peer_ended));
    assert_int_equal(end.closes, 0);
    net_peer_sends_until(&end, 400000);
    NET_UNTIL(&scene, end.received == 400000);
    assert_int_equal(shutdown(end.peer, SHUT_WR), 0);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void finish_sends_everything_and_reads_no_more(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    net_settle(&scene);
    net_make_tiny(numaperf_conn_fd(end.conn));
    assert_true(net_write(&end, 400000) >= 0);
    assert_int_equal(numaperf_conn_finish(end.conn), 0);
    assert_int_equal(numaperf_conn_finish(end.conn), 0);
    assert_int_equal(net_write(&end, 1), -EPIPE);
    net_settle(&scene);
    assert_int_equal(end.closes, 0); /* the peer has not read */
    net_peer_gets_until(&end, 400000);
    NET_UNTIL(&scene, (net_peer_receive(&end, 1), end.peer_ended));
    /* It waits for the peer's end; on a machine that stood still it may have given up. */
    (void)shutdown(end.peer, SHUT_WR);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, 0);
    assert_int_equal(end.received, 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void without_on_end_the_connection_finishes(void **state)
{
    struct net_scene scene;
    struct net_end end = {0};
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    numaperf_conn_t *conn = NULL;
    int fds[2];
    net_scene_open(&scene, state);
    net_pair(&scene, fds);
    end.scene = &scene;
    end.peer = fds[1];
    net_end_config(&end, &config);
    config.callbacks.on_end = NULL;
    assert_int_equal(numaperf_conn_adopt(scene.loop, fds[0], &config, &conn), 0);
    assert_ptr_equal(conn, end.conn);
    assert_true(net_write(&end, 300000) >= 0);
    assert_int_equal(shutdown(end.peer, SHUT_WR), 0);
    net_peer_gets_until(&end, 300000);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, 0);
    assert_int_equal(end.ends, 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_EACH(paused_connection_reads_nothing_and_loses_nothing),
        NET_EACH(paused_connection_holds_the_peer_up),
        NET_EACH(pause_inside_on_read_counts_at_once),
        NET_EACH(end_of_the_peer_waits_until_reading_goes_on),
        NET_EACH(drain_is_told_once_at_the_low_water_mark),
        NET_BOTH(mark_itself_is_not_beyond_it),
        NET_EACH(write_beyond_the_limit_takes_nothing),
        NET_EACH(writing_goes_on_after_the_peers_end),
        NET_EACH(reading_goes_on_after_our_end),
        NET_EACH(finish_sends_everything_and_reads_no_more),
        NET_EACH(without_on_end_the_connection_finishes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
