/* SPDX-License-Identifier: MIT */
/*
 * How connections end: by calls out of every callback, by peers that reset or are gone, by a loop
 * that ends. on_close is the last word, once, with the reason; borrowed bytes are back by then.
 */
#include "support/census.h"
#include "support/net_scene.h"

#include <numaperf/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- closing inside callbacks ---- */

enum place { IN_OPEN = 0, IN_READ, IN_END, IN_DRAIN, IN_WRITTEN, PLACES };

/* Who is closed, by what, where. */
struct closing {
    enum place place;
    struct net_end *victim;
    int reason;
    unsigned written;
    int written_status;
    bool is_late;
};

static void close_if(struct net_end *end, enum place place)
{
    struct closing *closing = end->arg;
    if (closing == NULL || closing->place != place || closing->victim->conn == NULL)
        return;
    unsigned closes = closing->victim->closes;
    numaperf_conn_close(closing->victim->conn, closing->reason);
    numaperf_conn_close(closing->victim->conn, -EINVAL); /* the first counts */
    assert_int_equal(net_write(closing->victim, 1), -EPIPE);
    assert_int_equal(numaperf_conn_end(closing->victim->conn), -EPIPE);
    assert_int_equal(numaperf_conn_finish(closing->victim->conn), -EPIPE);
    assert_int_equal(closing->victim->closes, closes); /* later */
}

static int close_in_open(struct net_end *end)
{
    close_if(end, IN_OPEN);
    return 0;
}

static void close_in_read(struct net_end *end, const char *bytes, size_t length)
{
    (void)bytes;
    (void)length;
    close_if(end, IN_READ);
}

static void close_in_end(struct net_end *end)
{
    close_if(end, IN_END);
}

static void close_in_drain(struct net_end *end)
{
    close_if(end, IN_DRAIN);
}

static void close_in_written(numaperf_conn_t *conn, int status, void *data)
{
    struct net_end *end = data;
    struct closing *closing = end->arg;
    closing->written++;
    closing->written_status = status;
    closing->is_late |= end->closes > 0 || conn != end->conn;
    close_if(end, IN_WRITTEN);
}

static const struct net_acts closing_acts = {
    .open = close_in_open, .read = close_in_read, .end = close_in_end, .drain = close_in_drain};

/* Everything that can be told is told to `end`. */
static void provoke(struct net_scene *scene, struct net_end *end, struct closing *closing)
{
    static char bytes[1000];
    if (closing->victim->conn != NULL && end->conn != NULL && closing->place == IN_WRITTEN) {
        pattern_fill(bytes, sizeof(bytes), end->written);
        assert_true(numaperf_conn_write_borrowed(end->conn, bytes, sizeof(bytes), close_in_written,
                                                 end) >= 0);
        end->written += sizeof(bytes);
    }
    if (closing->place == IN_DRAIN)
        assert_int_equal(net_write(end, 3 << 20), 1);
    (void)net_peer_send(end, 100);
    (void)shutdown(end->peer, SHUT_WR);
    NET_UNTIL(scene, (net_peer_receive(end, SIZE_MAX), closing->victim->closes > 0));
}

static void close_inside_any_callback(void **state)
{
    struct net_scene scene;
    net_scene_open(&scene, state);
    for (enum place place = IN_OPEN; place < PLACES; place++) {
        struct net_end end;
        struct closing closing = {.place = place, .victim = &end, .reason = -4000 - (int)place};
        int fds[2];
        net_pair(&scene, fds);
        end = (struct net_end){.peer = fds[1], .arg = &closing};
        assert_int_equal(net_end_adopt(&scene, &end, &closing_acts, NULL, fds[0]), 0);
        provoke(&scene, &end, &closing);
        assert_int_equal(end.reason, closing.reason);
        assert_int_equal(closing.written, place == IN_WRITTEN);
        assert_false(closing.is_late);
        net_end_close(&end);
    }
    net_scene_close(&scene);
}

/* The victim has bytes that wait to be told, too. */
static void close_of_another_connection_inside_any_callback(void **state)
{
    struct net_scene scene;
    net_scene_open(&scene, state);
    for (int order = 0; order < 2; order++) {
        for (enum place place = IN_READ; place < PLACES; place++) {
            struct net_end ends[2];
            struct closing closing = {
                .place = place, .victim = &ends[1 - order], .reason = -4000 - (int)place};
            for (int i = 0; i < 2; i++)
                net_end_open(&scene, &ends[i], i == order ? &closing_acts : NULL, NULL);
            ends[order].arg = &closing;
            (void)net_peer_send(&ends[1 - order], 200000);
            provoke(&scene, &ends[order], &closing);
            assert_int_equal(ends[1 - order].reason, closing.reason);
            assert_false(closing.is_late);
            for (int i = 0; i < 2; i++)
                net_end_close(&ends[i]);
        }
    }
    net_scene_close(&scene);
}

static int refuse_open(struct net_end *end)
{
    (void)end;
    return -4711;
}

static void on_open_that_fails_closes_with_its_code(void **state)
{
    const struct net_acts acts = {.open = refuse_open};
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, &acts, NULL);
    assert_int_equal(end.closes, 0);
    net_peer_send(&end, 100);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, -4711);
    assert_int_equal(end.received, 0);
    assert_int_equal(net_stats(&scene).failed, 1);
    net_end_close(&end);
    net_scene_close(&scene);
}

/* ---- resets ---- */

static void reset_is_seen_by_a_tcp_peer(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    assert_true(net_write(&end, 100) >= 0);
    numaperf_conn_reset(end.conn, -4711);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, -4711);
    NET_UNTIL(&scene, (net_peer_receive(&end, 1000), end.peer_errno != 0));
    assert_int_equal(end.peer_errno, ECONNRESET);
    net_end_close(&end);
    net_scene_close(&scene);
}

static bool is_gone_reason(int reason)
{
    return reason == -ECONNRESET || reason == -EPIPE;
}

static void reset_of_the_peer_gives_borrowed_bytes_back_unsent(void **state)
{
    struct net_scene scene;
    struct net_end end;
    static char bytes[2 << 20];
    struct closing closing = {.place = PLACES, .victim = &end};
    for (uint32_t zero_copy = 0; zero_copy < 2; zero_copy++) {
        numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
        config.zero_copy_bytes = zero_copy == 0 ? UINT32_MAX : 4096;
        memset(&closing, 0, sizeof(closing));
        closing.place = PLACES;
        closing.victim = &end;
        net_scene_open(&scene, state);
        net_end_open(&scene, &end, NULL, &config);
        end.arg = &closing;
        net_make_tiny(numaperf_conn_fd(end.conn)); /* the kernel does not take all of it */
        pattern_fill(bytes, sizeof(bytes), 0);
        assert_true(numaperf_conn_write_borrowed(end.conn, bytes, sizeof(bytes), close_in_written,
                                                 &end) >= 0);
        NET_UNTIL(&scene, net_peer_receive(&end, 10000) > 0);
        net_peer_reset(&end);
        NET_UNTIL(&scene, end.closes == 1);
        assert_true(is_gone_reason(end.reason));
        assert_int_equal(closing.written, 1);
        assert_true(closing.written_status < 0);
        assert_false(closing.is_late);
        assert_int_equal(net_stats(&scene).failed, 1);
        net_end_close(&end);
        net_scene_close(&scene);
    }
}

static void idle_connection_sees_the_reset(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    net_settle(&scene);
    net_peer_reset(&end);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, -ECONNRESET);
    assert_int_equal(end.ends, 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void peer_that_is_gone_before_the_adoption_is_told(void **state)
{
    struct net_scene scene;
    struct net_end end = {.peer = -1};
    int fds[2];
    net_scene_open(&scene, state);
    net_pair(&scene, fds);
    assert_int_equal(send(fds[1], "\0", 1, 0), 1); /* byte 0 of the pattern */
    assert_int_equal(pattern_byte(0), 0);
    assert_int_equal(close(fds[1]), 0);
    assert_int_equal(net_end_adopt(&scene, &end, NULL, NULL, fds[0]), 0);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.received, 1); /* what it sent is read all the same */
    assert_int_equal(end.ends, 1);
    assert_int_equal(end.reason, 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void write_to_a_peer_that_is_gone_fails_the_connection(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    numaperf_conn_pause(end.conn); /* it will not find out by reading */
    net_settle(&scene);
    net_peer_close(&end);
    for (int i = 0; i < 3 && end.closes == 0; i++) {
        (void)net_write(&end, 100000);
        net_settle(&scene);
    }
    NET_UNTIL(&scene, end.closes == 1);
    assert_true(is_gone_reason(end.reason));
    net_end_close(&end);
    net_scene_close(&scene);
}

/* ---- other callbacks ---- */

static void second_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    (void)conn;
    (void)bytes;
    *(size_t *)data += length;
}

static void change_protocol(struct net_end *end, const char *bytes, size_t length)
{
    (void)bytes;
    (void)length;
    numaperf_conn_callbacks_t callbacks = {.on_read = second_read};
    assert_int_equal(numaperf_conn_set_callbacks(end->conn, NULL), -EINVAL);
    assert_int_equal(numaperf_conn_set_callbacks(end->conn, &callbacks), 0);
    numaperf_conn_set_data(end->conn, end->arg);
}

static void other_callbacks_count_from_the_next_event(void **state)
{
    const struct net_acts acts = {.read = change_protocol};
    struct net_scene scene;
    struct net_end end;
    size_t more = 0;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, &acts, NULL);
    end.arg = &more;
    net_peer_sends_until(&end, 100);
    NET_UNTIL(&scene, end.received == 100);
    net_peer_sends_until(&end, 5000);
    NET_UNTIL(&scene, more == 4900);
    assert_int_equal(end.reads, 1);
    net_peer_close(&end);
    NET_UNTIL(&scene, net_stats(&scene).connections == 0);
    assert_int_equal(end.ends + end.closes, 0); /* they are told to nobody */
    net_scene_close(&scene);
}

/* ---- the loop ends ---- */

static void loop_with_open_connections_is_not_destroyed(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(numaperf_loop_destroy(scene.loop), -EBUSY);
        assert_int_equal(numaperf_last_error()->code, -EBUSY);
        net_peer_sends_until(&end, end.sent + 1000); /* nothing was done */
        NET_UNTIL(&scene, end.received == end.sent);
    }
    net_end_close(&end);
    net_scene_close(&scene);
}

/* One connection of every state; nothing of them is left afterwards. */
static void descriptors_and_mappings_return(void **state)
{
    struct census before = {0};
    for (int round = 0; round < 3; round++) {
        struct net_scene scene;
        struct net_end ends[4];
        if (round == 1)
            before = census_take();
        net_scene_open(&scene, state);
        for (int i = 0; i < 4; i++)
            net_end_open(&scene, &ends[i], NULL, NULL);
        numaperf_conn_pause(ends[1].conn);
        for (int i = 0; i < 4; i++)
            (void)net_peer_send(&ends[i], 300000);
        net_settle(&scene);
        assert_true(net_write(&ends[2], 1 << 20) >= 0);
        assert_int_equal(numaperf_conn_finish(ends[2].conn), 0);
        numaperf_conn_reset(ends[3].conn, -1);
        for (int i = 0; i < 4; i++)
            net_end_close(&ends[i]);
        net_scene_close(&scene);
    }
    assert_true(census_returns_to(&before));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_EACH(close_inside_any_callback),
        NET_EACH(close_of_another_connection_inside_any_callback),
        NET_EACH(on_open_that_fails_closes_with_its_code),
        NET_BOTH_TCP(reset_is_seen_by_a_tcp_peer),
        NET_BOTH_TCP(reset_of_the_peer_gives_borrowed_bytes_back_unsent),
        NET_BOTH_TCP(idle_connection_sees_the_reset),
        NET_EACH(peer_that_is_gone_before_the_adoption_is_told),
        NET_EACH(write_to_a_peer_that_is_gone_fails_the_connection),
        NET_EACH(other_callbacks_count_from_the_next_event),
        NET_EACH(loop_with_open_connections_is_not_destroyed),
        NET_EACH(descriptors_and_mappings_return),
    };
    census_prepare();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
