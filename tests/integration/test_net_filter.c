/* SPDX-License-Identifier: MIT */
/*
 * A filter between the socket and the callbacks: bytes both ways, a handshake that comes first,
 * failures, last words, and its removal, once, whatever happens.
 */
#include "support/net_scene.h"

#include <numaperf/error.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEY 0x5a
#define HELLO_BYTES 3 /* of a handshake: ours goes out first, the peer's must come */
#define WAITING_MAX 65536

/* Turns every byte round by KEY; what is written before the peer's hello has come waits. */
struct toy {
    bool shakes_hands;
    bool ends_with_a_word;
    int fails; /* what on_received says */
    int end_fails;
    size_t greeted; /* bytes of the peer's hello */
    char waiting[WAITING_MAX];
    size_t waiting_length;
    char kept[WAITING_MAX]; /* received, and not delivered since reading was paused */
    size_t kept_length;
    unsigned endings, removals, empty_calls;
};

static void toy_turn(char *out, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++)
        out[i] = (char)(bytes[i] ^ KEY);
}

static bool toy_is_open(const struct toy *toy)
{
    return !toy->shakes_hands || toy->greeted == HELLO_BYTES;
}

static int toy_send(numaperf_conn_t *conn, const char *bytes, size_t length)
{
    char *turned = malloc(length);
    assert_non_null(turned);
    toy_turn(turned, bytes, length);
    int rc = numaperf_conn_send_raw(conn, turned, length);
    free(turned);
    return rc;
}

/* In pieces of some hundred bytes, until reading is paused; then the rest is kept. */
static int toy_deliver(numaperf_conn_t *conn, struct toy *toy)
{
    size_t at = 0;
    while (at < toy->kept_length) {
        size_t piece = toy->kept_length - at < 500 ? toy->kept_length - at : 500;
        int rc = numaperf_conn_deliver(conn, toy->kept + at, piece);
        if (rc < 0)
            return 0; /* it is closed, and so is the filter */
        at += piece;
        if (rc == 1)
            break;
    }
    memmove(toy->kept, toy->kept + at, toy->kept_length - at);
    toy->kept_length -= at;
    return 0;
}

static int toy_received(numaperf_conn_t *conn, const void *bytes, size_t length, void *state)
{
    struct toy *toy = state;
    const char *from = bytes;
    if (toy->fails != 0 && length > 0)
        return toy->fails;
    toy->empty_calls += length == 0;
    for (; length > 0 && !toy_is_open(toy); from++, length--) {
        toy->greeted++;
        if (toy_is_open(toy) && toy->waiting_length > 0) {
            assert_true(toy_send(conn, toy->waiting, toy->waiting_length) >= 0);
            toy->waiting_length = 0;
        }
    }
    assert_true(length <= WAITING_MAX - toy->kept_length);
    toy_turn(toy->kept + toy->kept_length, from, length);
    toy->kept_length += length;
    return toy_deliver(conn, toy);
}

static int toy_written(numaperf_conn_t *conn, const void *bytes, size_t length, void *state)
{
    struct toy *toy = state;
    if (toy_is_open(toy))
        return toy_send(conn, bytes, length);
    if (length > WAITING_MAX - toy->waiting_length)
        return -EAGAIN;
    memcpy(toy->waiting + toy->waiting_length, bytes, length);
    toy->waiting_length += length;
    return 0;
}

static void toy_ending(numaperf_conn_t *conn, void *state)
{
    struct toy *toy = state;
    toy->endings++;
    if (toy->ends_with_a_word)
        assert_true(numaperf_conn_send_raw(conn, "bye", 3) >= 0);
}

static int toy_received_end(numaperf_conn_t *conn, void *state)
{
    (void)conn;
    struct toy *toy = state;
    return toy->end_fails;
}

static void toy_removed(void *state)
{
    struct toy *toy = state;
    toy->removals++;
}

static int put_in_place(struct net_end *end)
{
    struct toy *toy = end->arg;
    numaperf_conn_filter_t filter = NUMAPERF_CONN_FILTER_INIT;
    filter.on_received = toy_received;
    filter.on_written = toy_written;
    filter.on_ending = toy_ending;
    filter.on_received_end = toy_received_end;
    filter.on_removed = toy_removed;
    assert_int_equal(numaperf_conn_set_filter(end->conn, &filter, toy), 0);
    if (toy->shakes_hands)
        assert_int_equal(numaperf_conn_send_raw(end->conn, "hi!", HELLO_BYTES), 0);
    return 0;
}

static void echo(struct net_end *end, const char *bytes, size_t length)
{
    assert_true(numaperf_conn_write(end->conn, bytes, length) >= 0);
    end->written += length;
}

static void pause_each(struct net_end *end, const char *bytes, size_t length)
{
    echo(end, bytes, length);
    numaperf_conn_pause(end->conn);
}

static const struct net_acts echo_acts = {.open = put_in_place, .read = echo};
static const struct net_acts pause_acts = {.open = put_in_place, .read = pause_each};

static void toy_open(struct net_scene *scene, struct net_end *end, const struct net_acts *acts,
                     struct toy *toy)
{
    int fds[2];
    net_pair(scene, fds);
    *end = (struct net_end){.peer = fds[1], .arg = toy};
    assert_int_equal(net_end_adopt(scene, end, acts, NULL, fds[0]), 0);
}

/* ---- the peer, who turns bytes round by itself ---- */

static void peer_send_turned(struct net_end *end, size_t length)
{
    char *bytes = malloc(length);
    assert_non_null(bytes);
    pattern_fill(bytes, length, end->sent);
    toy_turn(bytes, bytes, length);
    assert_int_equal(send(end->peer, bytes, length, MSG_NOSIGNAL), (ssize_t)length);
    end->sent += length;
    free(bytes);
}

static void peer_get_turned(struct net_end *end)
{
    char bytes[4096];
    ssize_t rc = recv(end->peer, bytes, sizeof(bytes), 0);
    if (rc <= 0) {
        end->peer_ended |= rc == 0;
        return;
    }
    toy_turn(bytes, bytes, (size_t)rc);
    assert_true(pattern_matches(bytes, (size_t)rc, end->got));
    end->got += (uint64_t)rc;
}

/* ---- cases ---- */

static void bytes_are_turned_both_ways(void **state)
{
    static struct toy toy;
    struct net_scene scene;
    struct net_end end;
    memset(&toy, 0, sizeof(toy));
    net_scene_open(&scene, state);
    toy_open(&scene, &end, &echo_acts, &toy);
    for (size_t length = 1; length < 40000; length = length * 3 + 1) {
        peer_send_turned(&end, length);
        NET_UNTIL(&scene, (peer_get_turned(&end), end.got == end.sent));
    }
    assert_int_equal(toy.removals, 0);
    net_end_close(&end);
    assert_int_equal(toy.removals, 1);
    net_scene_close(&scene);
}

static void what_is_written_waits_for_the_handshake(void **state)
{
    static struct toy toy;
    struct net_scene scene;
    struct net_end end;
    char hello[HELLO_BYTES];
    memset(&toy, 0, sizeof(toy));
    toy.shakes_hands = true;
    net_scene_open(&scene, state);
    toy_open(&scene, &end, &echo_acts, &toy);
    assert_int_equal(net_write(&end, 5000), 0);
    assert_int_equal(net_write(&end, WAITING_MAX), -EAGAIN);
    NET_UNTIL(&scene, recv(end.peer, hello, HELLO_BYTES, MSG_PEEK) == HELLO_BYTES);
    net_settle(&scene);
    char more[16];
    assert_int_equal(recv(end.peer, more, sizeof(more), 0), HELLO_BYTES); /* and not a byte else */
    assert_memory_equal(more, "hi!", HELLO_BYTES);
    for (size_t i = 0; i < HELLO_BYTES; i++) { /* one at a time */
        assert_int_equal(end.got, 0);
        assert_int_equal(send(end.peer, &"hi!"[i], 1, 0), 1);
        net_settle(&scene);
    }
    NET_UNTIL(&scene, (peer_get_turned(&end), end.got == 5000));
    assert_int_equal(end.received, 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void paused_reader_is_delivered_nothing(void **state)
{
    static struct toy toy;
    struct net_scene scene;
    struct net_end end;
    memset(&toy, 0, sizeof(toy));
    net_scene_open(&scene, state);
    toy_open(&scene, &end, &pause_acts, &toy);
    peer_send_turned(&end, 3000);
    for (uint64_t wanted = 500; wanted <= 3000; wanted += 500) {
        NET_UNTIL(&scene, end.received == wanted);
        net_settle(&scene);
        assert_true(end.received == wanted);
        numaperf_conn_resume(end.conn);
    }
    assert_true(toy.empty_calls > 0); /* what was kept needs no new bytes to go on */
    NET_UNTIL(&scene, (peer_get_turned(&end), end.got == 3000));
    net_end_close(&end);
    net_scene_close(&scene);
}

static void failing_filter_resets_the_connection(void **state)
{
    static struct toy toy;
    struct net_scene scene;
    struct net_end end;
    memset(&toy, 0, sizeof(toy));
    toy.fails = -4711;
    net_scene_open(&scene, state);
    toy_open(&scene, &end, &echo_acts, &toy);
    peer_send_turned(&end, 100);
    NET_UNTIL(&scene, end.closes == 1);
    assert_int_equal(end.reason, -4711);
    assert_int_equal(end.received, 0);
    assert_int_equal(toy.removals, 1);
    NET_UNTIL(&scene, (net_peer_receive(&end, 1), end.peer_ended || end.peer_errno != 0));
    if (scene.kind->is_tcp)
        assert_int_equal(end.peer_errno, ECONNRESET);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void last_word_goes_out_before_the_end(void **state)
{
    struct net_scene scene;
    net_scene_open(&scene, state);
    for (int finishes = 0; finishes < 2; finishes++) {
        static struct toy toy;
        struct net_end end;
        char word[16];
        memset(&toy, 0, sizeof(toy));
        toy.ends_with_a_word = true;
        toy_open(&scene, &end, &echo_acts, &toy);
        assert_int_equal(net_write(&end, 1000), 0);
        assert_int_equal(
            finishes != 0 ? numaperf_conn_finish(end.conn) : numaperf_conn_end(end.conn), 0);
        assert_int_equal(numaperf_conn_end(end.conn), 0);
        assert_int_equal(toy.endings, 1);
        net_settle(&scene);
        static char bytes[2000];
        size_t length = 0;
        while (!end.peer_ended) {
            NET_UNTIL(&scene, recv(end.peer, word, 1, MSG_PEEK) >= 0);
            ssize_t rc = recv(end.peer, bytes + length, sizeof(bytes) - length, 0);
            assert_true(rc >= 0);
            length += (size_t)rc;
            end.peer_ended = rc == 0;
        }
        assert_int_equal(length, 1003);
        assert_memory_equal(bytes + 1000, "bye", 3);
        net_end_close(&end);
        assert_int_equal(toy.removals, 1);
    }
    net_scene_close(&scene);
}

static void end_that_the_filter_refuses_is_a_failure(void **state)
{
    static struct toy toy;
    struct net_scene scene;
    struct net_end end;
    for (int fails = 0; fails < 2; fails++) {
        memset(&toy, 0, sizeof(toy));
        toy.end_fails = fails != 0 ? -4712 : 0;
        net_scene_open(&scene, state);
        toy_open(&scene, &end, &echo_acts, &toy);
        peer_send_turned(&end, 100);
        assert_int_equal(shutdown(end.peer, SHUT_WR), 0);
        NET_UNTIL(&scene, end.closes == 1);
        assert_int_equal(end.reason, toy.end_fails);
        assert_int_equal(end.ends, fails == 0);
        assert_int_equal(end.received, 100);
        net_end_close(&end);
        assert_int_equal(toy.removals, 1);
        net_scene_close(&scene);
    }
}

static void removed_filter_is_told_once_and_bytes_pass_as_they_are(void **state)
{
    static struct toy toy;
    struct net_scene scene;
    struct net_end end;
    memset(&toy, 0, sizeof(toy));
    net_scene_open(&scene, state);
    toy_open(&scene, &end, &echo_acts, &toy);
    peer_send_turned(&end, 100);
    NET_UNTIL(&scene, (peer_get_turned(&end), end.got == 100));
    assert_int_equal(numaperf_conn_set_filter(end.conn, NULL, NULL), 0);
    assert_int_equal(toy.removals, 1);
    net_peer_sends_until(&end, 2000);
    net_peer_gets_until(&end, 2000);
    net_end_close(&end);
    assert_int_equal(toy.removals, 1);
    net_scene_close(&scene);
}

static void bad_filters_are_refused(void **state)
{
    struct net_scene scene;
    struct net_end end;
    numaperf_conn_filter_t filter = NUMAPERF_CONN_FILTER_INIT;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    assert_int_equal(numaperf_conn_set_filter(end.conn, &filter, NULL), -EINVAL);
    filter.on_received = toy_received;
    assert_int_equal(numaperf_conn_set_filter(NULL, &filter, NULL), -EINVAL);
    filter.flags = 1;
    assert_int_equal(numaperf_conn_set_filter(end.conn, &filter, NULL), -EINVAL);
    filter.flags = 0;
    filter.size = 4;
    assert_int_equal(numaperf_conn_set_filter(end.conn, &filter, NULL), -EINVAL);
    net_peer_sends_until(&end, 100); /* and none is in place */
    NET_UNTIL(&scene, end.received == 100);
    net_end_close(&end);
    net_scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_EACH(bytes_are_turned_both_ways),
        NET_EACH(what_is_written_waits_for_the_handshake),
        NET_EACH(paused_reader_is_delivered_nothing),
        NET_EACH(failing_filter_resets_the_connection),
        NET_EACH(last_word_goes_out_before_the_end),
        NET_EACH(end_that_the_filter_refuses_is_a_failure),
        NET_EACH(removed_filter_is_told_once_and_bytes_pass_as_they_are),
        NET_EACH(bad_filters_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
