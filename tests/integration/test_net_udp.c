/* SPDX-License-Identifier: MIT */
/*
 * Datagrams that come, on both backends: whole, cut, joined, none too many for the loop, and until
 * the socket closes and no longer.
 */
#include "io/loop.h"

#include "support/census.h"
#include "support/udp_scene.h"

#include <numaperf/error.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <uv.h>

/* ---- what comes ---- */

static void comes_from(void **state, const char *own, const char *peer_address)
{
    static const size_t lengths[] = {0, 1, 3, 4, 5, 1400, 9000, 0, 65507};
    enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };
    struct net_scene scene;
    struct udp_end end = {0};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, own);
    int peer = udp_peer(peer_address, &port);
    for (unsigned i = 0; i < COUNT; i++) {
        udp_peer_send(&end, peer, peer_address, lengths[i], i);
        NET_UNTIL(&scene, end.datagrams > i);
        assert_int_equal(end.told[i].length, lengths[i]);
        assert_int_equal(end.told[i].segment_bytes, lengths[i]);
        assert_false(end.told[i].truncated);
        if (lengths[i] >= 4)
            assert_int_equal(end.told[i].number, i);
    }
    /* Who sent it can be answered. */
    assert_int_equal(end.calls, COUNT);
    assert_int_equal(udp_end_send(&end, &end.from, 100, 7), 0);
    uint32_t number = 7;
    uint64_t limit_ns = net_limit();
    for (; number == 7; udp_peer_take(peer, 100, &number))
        net_turn(&scene, limit_ns, "the answer");
    numaperf_net_stats_t stats = net_stats(&scene);
    assert_true(stats.datagrams_received == COUNT && stats.datagrams_sent == 1);
    assert_true(stats.bytes_sent == 100 && stats.bytes_received == 1413 + 9000 + 65507);
    udp_end_close(&end);
    (void)close(peer);
    udp_scene_end(&scene);
}

static void udp_datagrams_come_whole_over_ipv4(void **state)
{
    comes_from(state, "127.0.0.1", "127.0.0.1");
}

static bool has_v6(void)
{
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    if (fd >= 0)
        (void)close(fd);
    return has;
}

static void udp_datagrams_come_whole_over_ipv6(void **state)
{
    if (!has_v6()) {
        print_message("skipped: no ::1 on this host\n");
        skip();
    }
    comes_from(state, "::1", "::1");
}

static void udp_socket_of_no_address_takes_ipv4(void **state)
{
    comes_from(state, NULL, "127.0.0.1");
}

static void udp_socket_of_no_address_takes_ipv6(void **state)
{
    if (!has_v6()) {
        print_message("skipped: no ::1 on this host\n");
        skip();
    }
    comes_from(state, NULL, "::1");
}

static void udp_datagram_longer_than_a_buffer_is_cut_and_says_so(void **state)
{
    enum { BYTES = 4096 };
    static const size_t lengths[] = {BYTES, BYTES + 1, 10, 60000, BYTES - 1};
    enum { COUNT = sizeof(lengths) / sizeof(lengths[0]) };
    struct net_scene scene;
    struct udp_end end = {0};
    uint16_t port = 0;
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.buffer_bytes = BYTES;
    udp_scene_begin_with(&scene, state, &config);
    udp_end_open(&scene, &end, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    for (unsigned i = 0; i < COUNT; i++)
        udp_peer_send(&end, peer, "127.0.0.1", lengths[i], i);
    NET_UNTIL(&scene, end.datagrams == COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(end.told[i].number, i);
        assert_int_equal(end.told[i].length, lengths[i] < BYTES ? lengths[i] : BYTES);
        assert_int_equal(end.told[i].truncated, lengths[i] > BYTES);
    }
    udp_end_close(&end);
    (void)close(peer);
    udp_scene_end(&scene);
}

static void udp_more_datagrams_than_buffers_all_come_in_order(void **state)
{
    enum { COUNT = 200 };
    struct net_scene scene;
    struct udp_end end = {0}, other = {0};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    udp_end_open(&scene, &other, "127.0.0.1");
    net_settle(&scene);
    int peer = udp_peer("127.0.0.1", &port);
    for (uint32_t i = 0; i < COUNT; i++) {
        udp_peer_send(&end, peer, "127.0.0.1", 64, i);
        udp_peer_send(&other, peer, "127.0.0.1", 64, COUNT + i);
    }
    NET_UNTIL(&scene, end.datagrams == COUNT && other.datagrams == COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(end.told[i].number, i);
        assert_int_equal(other.told[i].number, COUNT + i);
    }
    udp_end_close(&end);
    /* What they share is there as long as one of them is. */
    udp_peer_send(&other, peer, "127.0.0.1", 64, 1);
    NET_UNTIL(&scene, other.datagrams == COUNT + 1);
    udp_end_close(&other);
    (void)close(peer);
    udp_scene_end(&scene);
}

/* ---- joined ---- */

/* The peer sends several at once, which stay together on the way. */
static void peer_send_joined(const struct udp_end *end, int peer, size_t segment, unsigned count)
{
    static char bytes[60000];
    for (unsigned i = 0; i < count; i++)
        udp_fill(bytes + i * segment, segment, i);
    struct sockaddr_storage to;
    uint32_t to_length = 0;
    udp_address("127.0.0.1", numaperf_udp_port(end->udp), &to, &to_length);
    int value = (int)segment;
    assert_int_equal(setsockopt(peer, SOL_UDP, UDP_SEGMENT, &value, sizeof(value)), 0);
    /* The last one is shorter. */
    size_t length = segment * count - 100;
    assert_int_equal(sendto(peer, bytes, length, 0, (struct sockaddr *)&to, to_length),
                     (int)length);
}

static void udp_joined_datagrams_come_with_their_length(void **state)
{
    enum { COUNT = 20, SEGMENT = 1000 };
    struct net_scene scene;
    struct udp_end joined = {0}, single = {0};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    numaperf_udp_config_t config = udp_end_config(&joined, "127.0.0.1");
    config.flags = NUMAPERF_UDP_GRO;
    udp_end_open_with(&scene, &joined, &config);
    udp_end_open(&scene, &single, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    peer_send_joined(&joined, peer, SEGMENT, COUNT);
    peer_send_joined(&single, peer, SEGMENT, COUNT);
    NET_UNTIL(&scene, joined.datagrams == COUNT && single.datagrams == COUNT);
    for (uint32_t i = 0; i < COUNT; i++) {
        size_t length = i < COUNT - 1 ? SEGMENT : SEGMENT - 100;
        assert_int_equal(joined.told[i].length, length);
        assert_int_equal(joined.told[i].number, i);
        assert_int_equal(single.told[i].length, length);
        assert_int_equal(single.told[i].segment_bytes, length);
    }
    assert_int_equal(single.calls, COUNT);
    assert_true(joined.calls < COUNT);
    assert_true(net_stats(&scene).datagrams_received == 2 * COUNT);
    udp_end_close(&joined);
    udp_end_close(&single);
    (void)close(peer);
    udp_scene_end(&scene);
}

/* ---- a flood ---- */

static void act_flood(struct udp_end *end, const numaperf_datagram_t *datagram, int status)
{
    (void)datagram;
    assert_int_equal(status, 0);
    /* For each that is taken two more are there: the socket is never empty. */
    for (uint32_t i = 0; i < 2; i++)
        udp_peer_send(end, *(int *)end->arg, "127.0.0.1", 64, i);
}

static void count_timer(uv_timer_t *timer)
{
    (*(unsigned *)timer->data)++;
}

static void udp_flood_leaves_the_loop_to_others(void **state)
{
    struct net_scene scene;
    uint16_t port = 0;
    unsigned fired = 0;
    int peer = -1;
    struct udp_end end = {.act = act_flood, .arg = &peer}, quiet = {0};
    udp_scene_begin(&scene, state);
    peer = udp_peer("127.0.0.1", &port);
    udp_end_open(&scene, &end, "127.0.0.1");
    udp_end_open(&scene, &quiet, "127.0.0.1");
    uv_timer_t timer;
    assert_int_equal(uv_timer_init(numaperf_loop_uv(scene.loop), &timer), 0);
    timer.data = &fired;
    assert_int_equal(uv_timer_start(&timer, count_timer, 1, 1), 0);
    udp_peer_send(&end, peer, "127.0.0.1", 64, 0);
    NET_UNTIL(&scene, end.datagrams > 1000 && fired > 10);
    unsigned before = end.datagrams;
    udp_peer_send(&quiet, peer, "127.0.0.1", 64, 9);
    NET_UNTIL(&scene, quiet.datagrams == 1 && end.datagrams > before);
    end.act = NULL;
    uv_close((uv_handle_t *)&timer, NULL);
    udp_end_close(&end);
    udp_end_close(&quiet);
    (void)close(peer);
    udp_scene_end(&scene);
}

/* ---- opening ---- */

static void udp_open_says_what_is_wrong_and_leaves_nothing(void **state)
{
    struct net_scene scene;
    struct udp_end end = {0};
    udp_scene_begin(&scene, state);
    numaperf_udp_t *out = (numaperf_udp_t *)&end;
    numaperf_udp_config_t config = udp_end_config(&end, "127.0.0.1");
    assert_int_equal(numaperf_udp_open(NULL, &config, &out), -EINVAL);
    assert_int_equal(numaperf_udp_open(scene.loop, NULL, &out), -EINVAL);
    assert_int_equal(numaperf_udp_open(scene.loop, &config, NULL), -EINVAL);
    config.flags = 1u << 31;
    assert_int_equal(numaperf_udp_open(scene.loop, &config, &out), -EINVAL);
    config = udp_end_config(&end, "localhost");
    assert_int_equal(numaperf_udp_open(scene.loop, &config, &out), -EINVAL);
    config = udp_end_config(&end, "127.0.0.1");
    config.reserved = 1;
    assert_int_equal(numaperf_udp_open(scene.loop, &config, &out), -EINVAL);
    config = udp_end_config(&end, "127.0.0.1");
    config.on_datagram = NULL;
    assert_int_equal(numaperf_udp_open(scene.loop, &config, &out), -EINVAL);
    config = udp_end_config(&end, "127.0.0.1");
    config.size = 8;
    assert_int_equal(numaperf_udp_open(scene.loop, &config, &out), -EINVAL);
    config = udp_end_config(&end, "198.51.100.1"); /* nobody's */
    assert_int_equal(numaperf_udp_open(scene.loop, &config, &out), -EADDRNOTAVAIL);
    uint16_t port = 0;
    int peer = udp_peer("127.0.0.1", &port);
    config = udp_end_config(&end, "127.0.0.1");
    config.port = port;
    assert_int_equal(numaperf_udp_open(scene.loop, &config, &out), -EADDRINUSE);
    assert_ptr_equal(out, &end);
    (void)close(peer);
    udp_scene_end(&scene);
}

static void udp_port_is_shared_only_when_asked_for(void **state)
{
    struct net_scene scene;
    struct udp_end first = {0}, second = {0};
    udp_scene_begin(&scene, state);
    numaperf_udp_config_t config = udp_end_config(&first, "127.0.0.1");
    config.flags = NUMAPERF_UDP_REUSE_PORT;
    udp_end_open_with(&scene, &first, &config);
    int port = numaperf_udp_port(first.udp);
    assert_true(port > 0);
    config = udp_end_config(&second, "127.0.0.1");
    config.port = (uint16_t)port;
    numaperf_udp_t *none = NULL;
    assert_int_equal(numaperf_udp_open(scene.loop, &config, &none), -EADDRINUSE);
    config.flags = NUMAPERF_UDP_REUSE_PORT;
    udp_end_open_with(&scene, &second, &config);
    assert_int_equal(numaperf_udp_port(second.udp), port);
    udp_end_close(&first);
    udp_end_close(&second);
    udp_scene_end(&scene);
}

static void udp_socket_for_ipv6_alone_takes_no_ipv4(void **state)
{
    if (!has_v6()) {
        print_message("skipped: no ::1 on this host\n");
        skip();
    }
    struct net_scene scene;
    struct udp_end v6 = {0}, v4 = {0};
    udp_scene_begin(&scene, state);
    numaperf_udp_config_t config = udp_end_config(&v6, "::");
    config.flags = NUMAPERF_UDP_V6_ONLY;
    udp_end_open_with(&scene, &v6, &config);
    /* The port is free for the other family. */
    config = udp_end_config(&v4, "0.0.0.0");
    config.port = (uint16_t)numaperf_udp_port(v6.udp);
    udp_end_open_with(&scene, &v4, &config);
    uint16_t port = 0;
    int peer = udp_peer("127.0.0.1", &port);
    udp_peer_send(&v4, peer, "127.0.0.1", 10, 1);
    NET_UNTIL(&scene, v4.datagrams == 1);
    assert_int_equal(v6.datagrams, 0);
    udp_end_close(&v4);
    udp_end_close(&v6);
    (void)close(peer);
    udp_scene_end(&scene);
}

/* ---- closing ---- */

static void act_close(struct udp_end *end, const numaperf_datagram_t *datagram, int status)
{
    (void)datagram;
    (void)status;
    numaperf_udp_close(end->udp);
    numaperf_udp_close(end->udp);
    assert_int_equal(end->closes, 0);
}

static void udp_socket_that_closes_in_its_callback_is_told_nothing_more(void **state)
{
    struct net_scene scene;
    struct udp_end end = {.act = act_close};
    uint16_t port = 0;
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    int peer = udp_peer("127.0.0.1", &port);
    for (uint32_t i = 0; i < 100; i++)
        udp_peer_send(&end, peer, "127.0.0.1", 500, i);
    NET_UNTIL(&scene, end.closes == 1);
    net_settle(&scene);
    assert_int_equal(end.calls, 1);
    assert_false(end.is_late || end.is_wrong);
    (void)close(peer);
    udp_scene_end(&scene);
}

static void udp_socket_closed_as_soon_as_it_is_open_is_told_nothing(void **state)
{
    struct net_scene scene;
    struct udp_end end = {0};
    udp_scene_begin(&scene, state);
    udp_end_open(&scene, &end, "127.0.0.1");
    udp_end_close(&end);
    assert_int_equal(end.calls + end.errors, 0);
    udp_scene_end(&scene);
}

static void udp_socket_on_a_loop_that_ends_is_closed(void **state)
{
    enum { SOCKETS = 3 };
    const struct net_kind *kind = *state;
    struct numaperf__wake wake;
    numaperf_loop_t *loop = NULL;
    int before = census_take().descriptors;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    const struct numaperf__loop_setup setup = {.backend = (uint32_t)kind->backend, .wake = &wake};
    if (numaperf__loop_create_hosted(&setup, &loop) < 0) {
        numaperf__wake_fini(&wake);
        print_message("skipped: %s\n", numaperf_last_error()->reason);
        skip();
    }
    struct net_scene scene = {.kind = kind, .loop = loop};
    struct udp_end ends[SOCKETS];
    memset(ends, 0, sizeof(ends));
    uint16_t port = 0;
    int peer = udp_peer("127.0.0.1", &port);
    struct sockaddr_storage to;
    uint32_t to_length = 0;
    udp_address("127.0.0.1", port, &to, &to_length);
    for (int i = 0; i < SOCKETS; i++) {
        udp_end_open(&scene, &ends[i], "127.0.0.1");
        udp_peer_send(&ends[i], peer, "127.0.0.1", 100, 0);
    }
    for (int i = 0; i < 100; i++)
        numaperf__loop_turn(loop);
    for (int i = 0; i < SOCKETS; i++) {
        assert_int_equal(ends[i].datagrams, 1);
        udp_peer_send(&ends[i], peer, "127.0.0.1", 100, 0);
        assert_int_equal(udp_end_send(&ends[i], &to, 100, 0), 0);
    }
    numaperf_udp_close(ends[0].udp);
    numaperf__loop_close_hosted(loop);
    numaperf__wake_fini(&wake);
    for (int i = 0; i < SOCKETS; i++) {
        assert_int_equal(ends[i].closes, 1);
        assert_false(ends[i].is_late || ends[i].is_wrong);
    }
    (void)close(peer);
    assert_int_equal(census_take().descriptors, before);
}

int main(void)
{
    /* What libuv opens once and keeps. */
    uv_loop_t warm;
    if (uv_loop_init(&warm) != 0)
        return 1;
    (void)uv_loop_close(&warm);
    const struct CMUnitTest tests[] = {
        NET_BOTH(udp_datagrams_come_whole_over_ipv4),
        NET_BOTH(udp_datagrams_come_whole_over_ipv6),
        NET_BOTH(udp_socket_of_no_address_takes_ipv4),
        NET_BOTH(udp_socket_of_no_address_takes_ipv6),
        NET_BOTH(udp_datagram_longer_than_a_buffer_is_cut_and_says_so),
        NET_BOTH(udp_more_datagrams_than_buffers_all_come_in_order),
        NET_BOTH(udp_joined_datagrams_come_with_their_length),
        NET_BOTH(udp_flood_leaves_the_loop_to_others),
        NET_BOTH(udp_open_says_what_is_wrong_and_leaves_nothing),
        NET_BOTH(udp_port_is_shared_only_when_asked_for),
        NET_BOTH(udp_socket_for_ipv6_alone_takes_no_ipv4),
        NET_BOTH(udp_socket_that_closes_in_its_callback_is_told_nothing_more),
        NET_BOTH(udp_socket_closed_as_soon_as_it_is_open_is_told_nothing),
        NET_BOTH(udp_socket_on_a_loop_that_ends_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
