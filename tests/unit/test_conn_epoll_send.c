/* SPDX-License-Identifier: MIT */
/* The driver of connections by epoll, alone: sending and ending; see test_conn_epoll.c. */
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

/* ---- send ---- */

static void send_is_tried_at_once_and_told_later(void **state)
{
    (void)state;
    scene_open();
    struct end end;
    end_open(&end, false);
    end_write(&end, "hello", 5);
    CALL(&end, send);
    assert_true(end.conn.is_sending);
    assert_int_equal(end.send_rc, UNTOLD);
    char bytes[8];
    assert_int_equal(__real_recv(end.peer, bytes, sizeof(bytes), 0), 5);
    assert_memory_equal(bytes, "hello", 5);
    UNTIL(end.send_rc != UNTOLD);
    assert_int_equal(end.send_rc, 5);
    assert_int_equal(scene.sends, 1);
    assert_int_equal(scene.poll_starts, 0); /* nothing to wait for */
    end_close(&end);
    scene_close();
}

/* More parts than one request takes are sent in order by several. */
static void many_parts_are_gathered(void **state)
{
    (void)state;
    scene_open();
    struct end end;
    end_open(&end, false);
    static char bytes[64 * 3000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (char)i;
    uint64_t got = 0;
    for (size_t i = 0; i < 64; i++)
        assert_int_equal(
            numaperf__output_borrow(&end.conn.output, bytes + i * 3000, 3000, NULL, NULL), 0);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(20);
    while (end.conn.output.bytes > 0 || end.conn.is_sending) {
        assert_true(test_now_ns() < limit_ns);
        end.send_rc = UNTOLD;
        if (!end.conn.is_sending)
            CALL(&end, send);
        for (int i = 0; i < 100 && end.send_rc == UNTOLD; i++) {
            char peer[10000];
            ssize_t n = __real_recv(end.peer, peer, sizeof(peer), 0);
            for (ssize_t k = 0; k < n; k++)
                assert_int_equal(peer[k], (char)(got + (uint64_t)k));
            got += n > 0 ? (uint64_t)n : 0;
            turn();
        }
        assert_true(end.send_rc > 0);
    }
    got += peer_drain(&end);
    assert_int_equal(got, sizeof(bytes));
    end_close(&end);
    scene_close();
}

/* Fill the socket until a send waits. */
static uint64_t end_fill(struct end *end)
{
    static char bytes[CHUNK];
    uint64_t sent = 0;
    for (int i = 0; i < 10000; i++) {
        end->send_rc = UNTOLD;
        if (end->conn.output.bytes == 0)
            end_write(end, bytes, sizeof(bytes));
        CALL(end, send);
        turn();
        if (end->send_rc == UNTOLD)
            return sent;
        assert_true(end->send_rc > 0);
        sent += (uint64_t)end->send_rc;
    }
    fail_msg("the socket never filled");
    return 0;
}

static void send_to_a_full_socket_waits_until_the_peer_reads(void **state)
{
    bool is_tcp = *state != NULL;
    scene_open();
    struct end end;
    end_open(&end, is_tcp);
    uint64_t sent = end_fill(&end);
    assert_int_equal(scene.poll_starts, 1); /* only when it was full */
    unsigned sends = scene.sends;
    turn();
    assert_int_equal(scene.sends, sends);
    uint64_t got = 0;
    UNTIL((got += peer_drain(&end), end.send_rc != UNTOLD));
    assert_true(end.send_rc > 0);
    sent += (uint64_t)end.send_rc;
    assert_true(scene.sends - sends <= 2);
    /* Writable all the time now, which nobody waits for. */
    assert_quiet();
    UNTIL((got += peer_drain(&end), got == sent));
    end_close(&end);
    scene_close();
}

static void send_that_waits_ends_when_the_peer_goes(void **state)
{
    bool is_tcp = *state != NULL;
    scene_open();
    struct end end;
    end_open(&end, is_tcp);
    (void)end_fill(&end);
    if (is_tcp) {
        peer_reset(&end);
    } else {
        (void)close(end.peer);
        end.peer = -1;
    }
    UNTIL(end.send_rc != UNTOLD);
    assert_true(end.send_rc == -ECONNRESET || end.send_rc == -EPIPE);
    assert_quiet();
    end_close(&end);
    scene_close();
}

static void both_directions_learn_of_a_reset(void **state)
{
    (void)state;
    scene_open();
    struct end end;
    end_open(&end, true);
    CALL(&end, receive);
    (void)end_fill(&end);
    peer_reset(&end);
    UNTIL(end.send_rc != UNTOLD && end.receive_rc != UNTOLD);
    assert_int_equal(end.receive_rc, -ECONNRESET);
    assert_true(end.send_rc == -ECONNRESET || end.send_rc == -EPIPE);
    assert_quiet();
    end_close(&end);
    scene_close();
}

/* ---- ends ---- */

static void shut_ends_one_direction_alone(void **state)
{
    bool is_tcp = *state != NULL;
    scene_open();
    struct end end;
    end_open(&end, is_tcp);
    CALL(&end, receive);
    assert_int_equal(end.conn.driver->shut(&end.conn), 0);
    char byte = 0;
    ssize_t n = -1;
    UNTIL((n = __real_recv(end.peer, &byte, 1, 0)) >= 0);
    assert_int_equal(n, 0);
    uint64_t sent = 0;
    (void)peer_send(&end, &sent, 5000);
    UNTIL(end.received == sent);
    assert_int_equal(end.receive_rc, UNTOLD);
    end_close(&end);
    scene_close();
}

static void shut_of_a_connection_that_is_gone_says_so(void **state)
{
    (void)state;
    scene_open();
    struct end end;
    end_open(&end, true);
    peer_reset(&end);
    turn();
    int rc = 0;
    UNTIL((rc = end.conn.driver->shut(&end.conn)) != 0);
    assert_int_equal(rc, -ENOTCONN);
    end_close(&end);
    scene_close();
}

static void abort_ends_what_is_in_flight_once(void **state)
{
    (void)state;
    scene_open();
    struct end end;
    end_open(&end, false);
    CALL(&end, receive);
    (void)end_fill(&end);
    CALL(&end, give_up);
    CALL(&end, give_up);
    assert_true(end.conn.is_receiving && end.conn.is_sending);
    turn();
    assert_int_equal(end.receive_rc, -ECANCELED);
    assert_int_equal(end.send_rc, -ECANCELED);
    CALL(&end, give_up); /* nothing is */
    turn();
    assert_quiet();
    end_close(&end);
    scene_close();
}

static void abort_keeps_the_result_that_a_send_has_already(void **state)
{
    (void)state;
    scene_open();
    struct end end;
    end_open(&end, false);
    end_write(&end, "sent", 4);
    CALL(&end, receive);
    CALL(&end, send);
    CALL(&end, give_up);
    turn();
    assert_int_equal(end.send_rc, 4);
    assert_int_equal(end.receive_rc, -ECANCELED);
    end_close(&end);
    scene_close();
}

/* The number of a closed descriptor is used again at once: what libuv knew of it must be over. */
static void descriptor_that_is_used_again_is_a_new_connection(void **state)
{
    (void)state;
    scene_open();
    for (int i = 0; i < 200; i++) {
        struct end first;
        struct end second;
        end_open(&first, false);
        uint64_t sent = 0;
        CALL(&first, receive);
        (void)numaperf_loop_run(scene.loop, UV_RUN_NOWAIT);
        (void)peer_send(&first, &sent, 10);
        if (i % 2 == 0)
            (void)numaperf_loop_run(scene.loop, UV_RUN_NOWAIT);
        int fd = first.conn.fd;
        CALL(&first, give_up);
        UNTIL(!first.conn.is_receiving);
        first.conn.driver->close(&first.conn);
        (void)close(first.peer);
        end_open(&second, false);
        assert_true(second.conn.fd == fd || second.peer == fd);
        CALL(&second, receive);
        sent = 0;
        (void)peer_send(&second, &sent, 20);
        UNTIL(second.received == 20);
        end_close(&second);
    }
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(send_is_tried_at_once_and_told_later),
        cmocka_unit_test(many_parts_are_gathered),
        UNIX_AND_TCP(send_to_a_full_socket_waits_until_the_peer_reads),
        UNIX_AND_TCP(send_that_waits_ends_when_the_peer_goes),
        cmocka_unit_test(both_directions_learn_of_a_reset),
        UNIX_AND_TCP(shut_ends_one_direction_alone),
        cmocka_unit_test(shut_of_a_connection_that_is_gone_says_so),
        cmocka_unit_test(abort_ends_what_is_in_flight_once),
        cmocka_unit_test(abort_keeps_the_result_that_a_send_has_already),
        cmocka_unit_test(descriptor_that_is_used_again_is_a_new_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
