/* SPDX-License-Identifier: MIT */
/*
 * Datagrams that go, on both backends: in order, many at once, cut by the kernel or one by one, no
 * more than the limit; and what the network answers when nobody takes them.
 */
#include "support/udp_scene.h"

#include <numaperf/error.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

static void peer_takes_until(struct net_scene *scene, int peer, size_t length, uint32_t *number,
                             uint32_t wanted)
{
    uint64_t limit_ns = net_limit();
    for (udp_peer_take(peer, length, number); *number < wanted; udp_peer_take(peer, length, number))
        net_turn(scene, limit_ns, "all datagrams at the peer");
    assert_int_equal(*number, wanted);
}

/* ---- order and number ---- */

static void udp_sends_go_out_in_order(void **state)
{
    enum { ROUNDS = 40, BURST = 50 };
    struct net_scene scene;
    struct udp_end end = {0};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    struct sockaddr_storage to;
    uint32_t to_length = 0, number = 0;
    udp_address("127.0.0.1", port, &to, &to_length);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < BURST; i++)
            assert_int_equal(udp_end_send(&end, &to, 200, round * BURST + i), 0);
        peer_takes_until(&scene, peer, 200, &number, (round + 1) * BURST);
    }
    assert_true(net_stats(&scene).datagrams_sent == ROUNDS * BURST);
    udp_end_close(&end);
    (void)close(peer);
    udp_scene_end(&scene);
}

static void act_answer(struct udp_end *end, const numaperf_datagram_t *datagram, int status)
{
    assert_int_equal(status, 0);
    assert_int_equal(numaperf_udp_send(end->udp, datagram->from, datagram->from_length,
                                       datagram->bytes, datagram->length, 0),
                     0);
}

static void udp_answers_in_the_callback_keep_their_order(void **state)
{
    enum { ROUNDS = 20, BURST = 60 };
    struct net_scene scene;
    struct udp_end end = {.act = act_answer};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    uint32_t number = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < BURST; i++)
            udp_peer_send(&end, peer, "127.0.0.1", 300, round * BURST + i);
        peer_takes_until(&scene, peer, 300, &number, (round + 1) * BURST);
    }
    /* Many go in one call. */
    numaperf_net_stats_t stats = net_stats(&scene);
    assert_true(stats.datagrams_sent == ROUNDS * BURST);
    assert_true(stats.sends < stats.datagrams_sent);
    udp_end_close(&end);
    (void)close(peer);
    udp_scene_end(&scene);
}

static void udp_empty_datagrams_are_sent(void **state)
{
    enum { COUNT = 10 };
    struct net_scene scene;
    struct udp_end end = {0};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    struct sockaddr_storage to;
    uint32_t to_length = 0, number = 0;
    udp_address("127.0.0.1", port, &to, &to_length);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(numaperf_udp_send(end.udp, (struct sockaddr *)&to, to_length,
                                           i % 2 == 0 ? NULL : "", 0, i % 3),
                         0);
    peer_takes_until(&scene, peer, 0, &number, COUNT);
    assert_true(net_stats(&scene).datagrams_sent == COUNT);
    udp_end_close(&end);
    (void)close(peer);
    udp_scene_end(&scene);
}

/* ---- several of one length ---- */

/* Send `count` of `segment` and a short one, and have the peer take them. */
static void sends_segments(struct net_scene *scene, size_t segment, unsigned count)
{
    static char bytes[120000];
    struct udp_end end = {0};
    uint16_t port = 0;
    udp_end_open(scene, &end, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    struct sockaddr_storage to;
    uint32_t to_length = 0, number = 0;
    udp_address("127.0.0.1", port, &to, &to_length);
    for (unsigned i = 0; i < count; i++)
        udp_fill(bytes + i * segment, segment, i);
    size_t length = count * segment;
    bytes[length] = 'x';
    int rc =
        numaperf_udp_send(end.udp, (struct sockaddr *)&to, to_length, bytes, length + 1, segment);
    assert_int_equal(rc, 0);
    NET_UNTIL(scene, net_stats(scene).datagrams_sent == count + 1);
    assert_true(net_stats(scene).bytes_sent == length + 1);
    for (; number < count; number++) {
        static char got[65536];
        assert_int_equal(recv(peer, got, sizeof(got), 0), (int)segment);
        uint32_t found = 0;
        assert_true(udp_check(got, segment, &found));
        assert_int_equal(found, number);
    }
    char last[2];
    assert_int_equal(recv(peer, last, sizeof(last), 0), 1);
    assert_int_equal(last[0], 'x');
    assert_int_equal(end.errors, 0);
    udp_end_close(&end);
    (void)close(peer);
}

static void udp_segments_arrive_one_by_one(void **state)
{
    struct net_scene scene;
    udp_scene_begin(&scene, state);
    sends_segments(&scene, 1000, 100);
    /* Cut by the kernel: far fewer calls than datagrams. */
    assert_true(net_stats(&scene).sends < 20);
    udp_scene_end(&scene);
}

static void udp_segments_longer_than_the_way_takes_arrive(void **state)
{
    int old = udp_network_enter(1500);
    if (old < 0) {
        print_message("skipped: no network of our own to set an MTU in\n");
        skip();
    }
    struct net_scene scene;
    udp_scene_begin(&scene, state);
    sends_segments(&scene, 3000, 10);
    udp_scene_end(&scene);
    udp_network_leave(old);
}

/* ---- limits ---- */

static void udp_send_says_what_is_wrong_and_sends_nothing(void **state)
{
    static char bytes[70000];
    struct net_scene scene;
    struct udp_end end = {0};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    numaperf_udp_config_t config = udp_end_config(&end, "127.0.0.1");
    config.output_limit_bytes = 100000;
    udp_end_open_with(&scene, &end, &config);
    int peer = udp_peer("127.0.0.1", &port);
    struct sockaddr_storage to;
    uint32_t length = 0;
    udp_address("127.0.0.1", port, &to, &length);
    struct sockaddr *any = (struct sockaddr *)&to;
    numaperf_udp_t *udp = end.udp;
    assert_int_equal(numaperf_udp_send(NULL, any, length, bytes, 1, 0), -EINVAL);
    assert_int_equal(numaperf_udp_send(udp, NULL, length, bytes, 1, 0), -EINVAL);
    assert_int_equal(numaperf_udp_send(udp, any, length, NULL, 1, 0), -EINVAL);
    assert_int_equal(numaperf_udp_send(udp, any, length - 1, bytes, 1, 0), -EINVAL);
    assert_int_equal(numaperf_udp_send(udp, any, 1, bytes, 1, 0), -EINVAL);
    assert_int_equal(numaperf_udp_send(udp, any, length, bytes, 65508, 0), -EMSGSIZE);
    assert_int_equal(numaperf_udp_send(udp, any, length, bytes, 70000, 65508), -EMSGSIZE);
    assert_int_equal(numaperf_udp_send(udp, any, length, bytes, 200000, 1000), -EAGAIN);
    udp_address("127.0.0.1", 0, &to, &length);
    assert_int_equal(numaperf_udp_send(udp, any, length, bytes, 1, 0), -EINVAL);
    udp_address("::1", port, &to, &length);
    assert_int_equal(numaperf_udp_send(udp, any, length, bytes, 1, 0), -EINVAL);
    to.ss_family = AF_UNIX;
    assert_int_equal(numaperf_udp_send(udp, any, length, bytes, 1, 0), -EINVAL);
    net_settle(&scene);
    assert_true(recv(peer, bytes, sizeof(bytes), 0) < 0);
    assert_true(net_stats(&scene).datagrams_sent == 0);
    udp_address("127.0.0.1", port, &to, &length);
    numaperf_udp_close(udp);
    assert_int_equal(numaperf_udp_send(udp, any, length, bytes, 1, 0), -EPIPE);
    assert_int_equal(numaperf_udp_port(NULL), -EINVAL);
    udp_end_close(&end);
    (void)close(peer);
    udp_scene_end(&scene);
}

struct limited {
    struct sockaddr_storage to;
    uint32_t taken;
};

/* Send until the limit is reached. */
static void act_until_full(struct udp_end *end, const numaperf_datagram_t *datagram, int status)
{
    struct limited *limited = end->arg;
    (void)datagram;
    assert_int_equal(status, 0);
    int rc = 0;
    while (limited->taken < 1000 && rc == 0) {
        rc = udp_end_send(end, &limited->to, 100, limited->taken);
        limited->taken += rc == 0;
    }
    assert_int_equal(rc, -EAGAIN);
}

static void udp_sends_beyond_the_limit_are_refused_and_the_rest_arrives(void **state)
{
    struct net_scene scene;
    struct limited limited = {.taken = 0};
    struct udp_end end = {.act = act_until_full, .arg = &limited};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    numaperf_udp_config_t config = udp_end_config(&end, "127.0.0.1");
    config.output_limit_bytes = 1050;
    udp_end_open_with(&scene, &end, &config);
    int peer = udp_peer("127.0.0.1", &port);
    uint32_t to_length = 0, number = 0;
    udp_address("127.0.0.1", port, &limited.to, &to_length);
    for (uint32_t round = 1; round <= 5; round++) {
        udp_peer_send(&end, peer, "127.0.0.1", 10, 0);
        NET_UNTIL(&scene, end.calls == round);
        assert_int_equal(limited.taken, 10 * round);
        peer_takes_until(&scene, peer, 100, &number, limited.taken);
    }
    udp_end_close(&end);
    (void)close(peer);
    udp_scene_end(&scene);
}

/* ---- nobody there ---- */

static void udp_refused_datagrams_are_told_and_reading_goes_on(void **state)
{
    enum { ROUNDS = 30 };
    struct net_scene scene;
    struct udp_end end = {0};
    uint16_t port = 0, nobodys = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    int nobody = udp_nobody(&nobodys);
    struct sockaddr_storage to_peer, to_nobody;
    uint32_t length = 0, number = 0;
    udp_address("127.0.0.1", port, &to_peer, &length);
    udp_address("127.0.0.1", nobodys, &to_nobody, &length);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        unsigned errors = end.errors;
        /* Those for the peer are not lost among answers to the others. */
        assert_int_equal(udp_end_send(&end, &to_nobody, 100, 0), 0);
        assert_int_equal(udp_end_send(&end, &to_peer, 100, 3 * round), 0);
        assert_int_equal(udp_end_send(&end, &to_peer, 100, 3 * round + 1), 0);
        assert_int_equal(udp_end_send(&end, &to_nobody, 100, 0), 0);
        assert_int_equal(udp_end_send(&end, &to_peer, 100, 3 * round + 2), 0);
        peer_takes_until(&scene, peer, 100, &number, 3 * round + 3);
        NET_UNTIL(&scene, end.errors > errors);
        assert_int_equal(end.status, -ECONNREFUSED);
        udp_peer_send(&end, peer, "127.0.0.1", 50, round);
        NET_UNTIL(&scene, end.datagrams == round + 1);
    }
    udp_end_close(&end);
    (void)close(peer);
    (void)close(nobody);
    udp_scene_end(&scene);
}

static void act_close(struct udp_end *end, const numaperf_datagram_t *datagram, int status)
{
    assert_null(datagram);
    assert_int_equal(status, -ECONNREFUSED);
    numaperf_udp_close(end->udp);
}

static void udp_socket_closed_when_it_is_refused_is_told_nothing_more(void **state)
{
    struct net_scene scene;
    struct udp_end end = {.act = act_close};
    uint16_t nobodys = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    int nobody = udp_nobody(&nobodys);
    struct sockaddr_storage to;
    uint32_t length = 0;
    udp_address("127.0.0.1", nobodys, &to, &length);
    for (uint32_t i = 0; i < 50; i++)
        assert_int_equal(udp_end_send(&end, &to, 100, i), 0);
    NET_UNTIL(&scene, end.closes == 1);
    net_settle(&scene);
    assert_int_equal(end.errors, 1);
    assert_false(end.is_late || end.is_wrong);
    (void)close(nobody);
    udp_scene_end(&scene);
}

static void udp_datagram_that_cannot_go_is_told_and_others_go(void **state)
{
    struct net_scene scene;
    struct udp_end end = {0};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    struct sockaddr_storage to_peer, to_all;
    uint32_t length = 0, number = 0;
    udp_address("127.0.0.1", port, &to_peer, &length);
    udp_address("255.255.255.255", port, &to_all, &length); /* nobody allowed a broadcast */
    assert_int_equal(udp_end_send(&end, &to_peer, 100, 0), 0);
    assert_int_equal(udp_end_send(&end, &to_all, 100, 0), 0);
    assert_int_equal(udp_end_send(&end, &to_peer, 100, 1), 0);
    peer_takes_until(&scene, peer, 100, &number, 2);
    NET_UNTIL(&scene, end.errors == 1);
    assert_true(end.status == -EACCES || end.status == -ENETUNREACH);
    assert_true(net_stats(&scene).datagrams_sent == 2);
    udp_end_close(&end);
    (void)close(peer);
    udp_scene_end(&scene);
}

/* ---- closing ---- */

static void udp_socket_closed_with_sends_under_way_drops_them(void **state)
{
    struct net_scene scene;
    struct udp_end end = {0};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    struct sockaddr_storage to;
    uint32_t length = 0, number = 0;
    udp_address("127.0.0.1", port, &to, &length);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(udp_end_send(&end, &to, 100, i), 0);
    udp_end_close(&end);
    /* Those that went before are in order. */
    udp_peer_take(peer, 100, &number);
    assert_true(number <= 100);
    assert_true(net_stats(&scene).datagrams_sent == number);
    (void)close(peer);
    udp_scene_end(&scene);
}

int main(void)
{
    /* What libuv opens once and keeps. */
    uv_loop_t warm;
    if (uv_loop_init(&warm) != 0)
        return 1;
    (void)uv_loop_close(&warm);
    const struct CMUnitTest tests[] = {
        NET_BOTH(udp_sends_go_out_in_order),
        NET_BOTH(udp_answers_in_the_callback_keep_their_order),
        NET_BOTH(udp_empty_datagrams_are_sent),
        NET_BOTH(udp_segments_arrive_one_by_one),
        NET_BOTH(udp_segments_longer_than_the_way_takes_arrive),
        NET_BOTH(udp_send_says_what_is_wrong_and_sends_nothing),
        NET_BOTH(udp_sends_beyond_the_limit_are_refused_and_the_rest_arrives),
        NET_BOTH(udp_refused_datagrams_are_told_and_reading_goes_on),
        NET_BOTH(udp_socket_closed_when_it_is_refused_is_told_nothing_more),
        NET_BOTH(udp_datagram_that_cannot_go_is_told_and_others_go),
        NET_BOTH(udp_socket_closed_with_sends_under_way_drops_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
