/* SPDX-License-Identifier: MIT */
/*
 * The driver of connections by epoll, alone: opening and receiving. No case asks the clock but for
 * giving up.
 */
#include "support/epoll_scene.h"

/* These stand before the real ones, see the scene. */
void __wrap_numaperf__conn_received(struct numaperf_conn *conn, struct numaperf__slice *slice);
void __wrap_numaperf__conn_receive_ended(struct numaperf_conn *conn, int rc);
void __wrap_numaperf__conn_sent(struct numaperf_conn *conn, int rc);
void __wrap_numaperf__conn_gone(struct numaperf_conn *conn);
ssize_t __wrap_recv(int fd, void *buffer, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *buffer, size_t length, int flags);
int __wrap_uv_poll_start(uv_poll_t *handle, int events, uv_poll_cb fn);
int __wrap_uv_poll_stop(uv_poll_t *handle);

/* ---- open ---- */

static void open_refused_by_libuv_leaves_nothing(void **state)
{
    (void)state;
    scene_open();
    struct numaperf_conn conn;
    memset(&conn, 0, sizeof(conn));
    conn.net = scene.net;
    conn.fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    int file = conn.fd;
    /* A regular file of /proc cannot be polled by epoll; a closed descriptor neither. */
    numaperf_arena_stats_t before = NUMAPERF_ARENA_STATS_INIT;
    numaperf_arena_stats_t after = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf_arena_stats(scene.net->arena, &before), 0);
    assert_int_equal(numaperf__conn_epoll.open(&conn), -EPERM);
    (void)close(file);
    assert_int_equal(numaperf__conn_epoll.open(&conn), -EBADF);
    assert_null(conn.watch);
    assert_int_equal(numaperf_arena_stats(scene.net->arena, &after), 0);
    assert_int_equal(after.used_bytes, before.used_bytes);
    assert_int_equal(scene.net->handle_count, 1);
    scene_close();
}

/* ---- receive ---- */

static void bytes_are_told_in_order_and_then_the_end_once(void **state)
{
    bool is_tcp = *state != NULL;
    scene_open();
    struct end end;
    end_open(&end, is_tcp);
    CALL(&end, receive);
    uint64_t sent = 0;
    for (size_t i = 0; i < 300; i++) {
        size_t wanted = i * i * 7 % 90000 + 1;
        for (size_t done = 0; done < wanted;) {
            done += peer_send(&end, &sent, wanted - done);
            (void)numaperf_loop_run(scene.loop, UV_RUN_NOWAIT);
        }
    }
    UNTIL(end.received == sent);
    assert_int_equal(end.receive_rc, UNTOLD);
    assert_int_equal(scene.poll_starts, 1);
    assert_int_equal(shutdown(end.peer, SHUT_WR), 0);
    UNTIL(end.receive_rc != UNTOLD);
    assert_int_equal(end.receive_rc, 0);
    assert_quiet();
    end_close(&end);
    scene_close();
}

static void end_of_a_closed_peer_is_not_told_over_and_over(void **state)
{
    bool is_tcp = *state != NULL;
    scene_open();
    struct end end;
    end_open(&end, is_tcp);
    CALL(&end, receive);
    (void)close(end.peer);
    end.peer = -1;
    UNTIL(end.receive_rc != UNTOLD);
    assert_int_equal(end.receive_rc, 0);
    assert_quiet();
    end_close(&end);
    scene_close();
}

static void reset_by_the_peer_is_told_as_one(void **state)
{
    (void)state;
    scene_open();
    struct end end;
    end_open(&end, true);
    CALL(&end, receive);
    turn();
    peer_reset(&end);
    UNTIL(end.receive_rc != UNTOLD);
    assert_int_equal(end.receive_rc, -ECONNRESET);
    assert_quiet();
    end_close(&end);
    scene_close();
}

static void stopped_receive_ends_as_cancelled_and_takes_no_more(void **state)
{
    bool is_tcp = *state != NULL;
    scene_open();
    struct end end;
    end_open(&end, is_tcp);
    CALL(&end, receive);
    turn();
    uint64_t sent = 0;
    (void)peer_send(&end, &sent, 1000);
    CALL(&end, stop_receive);
    assert_true(end.conn.is_stopping);
    UNTIL(end.receive_rc != UNTOLD);
    assert_int_equal(end.receive_rc, -ECANCELED);
    assert_quiet();
    assert_int_equal(end.received, 0);
    /* A peer that resets meanwhile makes no noise, and is found when reading goes on. */
    if (is_tcp) {
        peer_reset(&end);
        assert_quiet();
    }
    end.receive_rc = UNTOLD;
    CALL(&end, receive);
    UNTIL(is_tcp ? end.receive_rc != UNTOLD : end.received == sent);
    assert_int_equal(end.receive_rc, is_tcp ? -ECONNRESET : UNTOLD);
    end_close(&end);
    scene_close();
}

/* Stopping and beginning again costs no system call while nothing comes. */
static void pause_and_resume_leave_the_poll_alone(void **state)
{
    (void)state;
    scene_open();
    struct end end;
    end_open(&end, false);
    CALL(&end, receive);
    for (int i = 0; i < 50; i++) {
        end.receive_rc = UNTOLD;
        CALL(&end, stop_receive);
        UNTIL(end.receive_rc == -ECANCELED);
        CALL(&end, receive);
        uint64_t sent = end.received;
        (void)peer_send(&end, &sent, 10);
        UNTIL(end.received == sent);
    }
    assert_int_equal(scene.poll_starts, 1);
    assert_int_equal(scene.poll_stops, 0);
    end_close(&end);
    scene_close();
}

static void user_that_pauses_is_told_no_more_of_that_event(void **state)
{
    (void)state;
    scene_open_with(4096, 8);
    struct end end;
    end_open(&end, false);
    end.pauses = true;
    uint64_t sent = 0;
    assert_int_equal(peer_send(&end, &sent, 30000), 30000);
    CALL(&end, receive);
    UNTIL(end.received > 0);
    assert_int_equal(end.received_calls, 1);
    end_close(&end);
    scene_close();
}

static void receive_without_a_buffer_says_so_and_waits_quietly(void **state)
{
    (void)state;
    scene_open_with(4096, 4);
    struct end end;
    end_open(&end, false);
    end.keeps = true;
    uint64_t sent = 0;
    assert_int_equal(peer_send(&end, &sent, 40000), 40000);
    CALL(&end, receive);
    UNTIL(end.receive_rc != UNTOLD);
    assert_int_equal(end.receive_rc, -ENOBUFS);
    assert_true(end.received < sent);
    assert_quiet();
    /* Buffers that come back are filled; by and by all of it arrives. */
    for (int i = 0; i < 100 && end.received < sent; i++) {
        while (end.kept_count > 0)
            numaperf__buffer_unref(end.kept[--end.kept_count].buffer);
        end.receive_rc = UNTOLD;
        if (!end.conn.is_receiving)
            CALL(&end, receive);
        turn();
    }
    assert_int_equal(end.received, sent);
    while (end.kept_count > 0)
        numaperf__buffer_unref(end.kept[--end.kept_count].buffer);
    end_close(&end);
    scene_close();
}

/* With as much as they can send, no one gets more than its share while another has to wait. */
static void flood_of_one_peer_does_not_starve_another(void **state)
{
    (void)state;
    scene_open_with(4096, 8);
    static struct end ends[2];
    uint64_t sent[2] = {0, 0};
    uint64_t before[2] = {0, 0};
    for (int i = 0; i < 2; i++) {
        end_open(&ends[i], false);
        CALL(&ends[i], receive);
    }
    for (int n = 0; n < 200; n++) {
        for (int i = 0; i < 2; i++)
            (void)peer_send(&ends[i], &sent[i], 200000);
        (void)numaperf_loop_run(scene.loop, UV_RUN_NOWAIT);
        for (int i = 0; i < 2; i++) {
            assert_true(ends[i].received > before[i]);
            assert_true(ends[i].received - before[i] <= ROOMS_MAX * 4096u);
            before[i] = ends[i].received;
        }
    }
    for (int i = 0; i < 2; i++)
        end_close(&ends[i]);
    scene_close();
}

/* The error queue makes epoll report an error that neither recv() nor send() returns. */
static void error_queue_that_nobody_reads_is_no_busy_loop(void **state)
{
    (void)state;
    scene_open();
    struct end end;
    end_open(&end, true);
    uint32_t flags = SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE |
                     SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_OPT_TSONLY;
    assert_int_equal(setsockopt(end.conn.fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags)),
                     0);
    CALL(&end, receive);
    for (int i = 0; i < 10; i++) {
        end.send_rc = UNTOLD;
        end_write(&end, "byte", 4);
        CALL(&end, send);
        UNTIL(end.send_rc == 4);
    }
    turn();
    assert_quiet();
    uint64_t sent = 0;
    (void)peer_send(&end, &sent, 100);
    UNTIL(end.received == sent);
    assert_int_equal(end.receive_rc, UNTOLD);
    end_close(&end);
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_refused_by_libuv_leaves_nothing),
        UNIX_AND_TCP(bytes_are_told_in_order_and_then_the_end_once),
        UNIX_AND_TCP(end_of_a_closed_peer_is_not_told_over_and_over),
        cmocka_unit_test(reset_by_the_peer_is_told_as_one),
        UNIX_AND_TCP(stopped_receive_ends_as_cancelled_and_takes_no_more),
        cmocka_unit_test(pause_and_resume_leave_the_poll_alone),
        cmocka_unit_test(user_that_pauses_is_told_no_more_of_that_event),
        cmocka_unit_test(receive_without_a_buffer_says_so_and_waits_quietly),
        cmocka_unit_test(flood_of_one_peer_does_not_starve_another),
        cmocka_unit_test(error_queue_that_nobody_reads_is_no_busy_loop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
