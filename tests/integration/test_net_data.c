/* SPDX-License-Identifier: MIT */
/*
 * Bytes through a connection: copied, gathered, borrowed, held; whole and in order, whatever the
 * socket takes at once. On both backends, over AF_UNIX and TCP.
 */
#include "support/net_scene.h"

#include <numaperf/capabilities.h>
#include <numaperf/error.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- echo ---- */

static void echo_read(struct net_end *end, const char *bytes, size_t length)
{
    assert_true(numaperf_conn_write(end->conn, bytes, length) >= 0);
    end->written += length;
}

static const struct net_acts echo_acts = {.read = echo_read};

static void bytes_come_back_as_they_were_sent(void **state)
{
    struct net_scene scene;
    struct net_end end;
    const uint64_t total = 1 << 20;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, &echo_acts, NULL);
    size_t piece = 1;
    while (end.got < total) {
        size_t wanted = end.sent + piece < total ? piece : (size_t)(total - end.sent);
        net_peer_send(&end, wanted);
        piece = piece * 7 % 70001 + 1;
        NET_UNTIL(&scene, (net_peer_receive(&end, SIZE_MAX), end.got == end.sent));
    }
    numaperf_net_stats_t stats = net_stats(&scene);
    assert_true(stats.bytes_received == total && stats.bytes_sent == total);
    assert_int_equal(stats.connected, 1);
    assert_int_equal(stats.connections, 1);
    assert_true(stats.receives == end.reads && stats.sends > 0);
    net_end_close(&end);
    stats = net_stats(&scene);
    assert_int_equal(stats.closed, 1);
    assert_int_equal(stats.failed, 0);
    net_scene_close(&scene);
}

static void connection_says_what_it_is(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    assert_int_equal(numaperf_conn_backend(end.conn), scene.kind->backend);
    assert_ptr_equal(numaperf_conn_loop(end.conn), scene.loop);
    assert_ptr_equal(numaperf_conn_data(end.conn), &end);
    assert_true((fcntl(numaperf_conn_fd(end.conn), F_GETFL) & O_NONBLOCK) != 0);
    struct sockaddr_storage peer;
    struct sockaddr_in own;
    socklen_t own_length = sizeof(own);
    char text[64];
    char wanted[64] = "unix";
    int length = numaperf_conn_peer(end.conn, &peer);
    assert_true(length > 0);
    assert_int_equal(peer.ss_family, scene.kind->is_tcp ? AF_INET : AF_UNIX);
    if (scene.kind->is_tcp) {
        assert_int_equal(getsockname(end.peer, (struct sockaddr *)&own, &own_length), 0);
        (void)snprintf(wanted, sizeof(wanted), "127.0.0.1:%d", ntohs(own.sin_port));
    }
    assert_int_equal(numaperf_conn_peer_text(end.conn, text, sizeof(text)), strlen(wanted));
    assert_string_equal(text, wanted);
    assert_int_equal(numaperf_conn_peer_text(end.conn, text, 3), strlen(wanted));
    assert_int_equal(strlen(text), 2);
    net_end_close(&end);
    net_scene_close(&scene);
}

/* ---- bad input ---- */

static void refuse_config(struct net_scene *scene, int fd, int wanted, uint32_t size,
                          uint32_t flags, uint32_t reserved)
{
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    struct net_end end = {0};
    net_end_config(&end, &config);
    config.size = size;
    config.flags = flags;
    config.reserved = reserved;
    numaperf_conn_t *conn = (numaperf_conn_t *)&end;
    assert_int_equal(numaperf_conn_adopt(scene->loop, fd, &config, &conn), wanted);
    assert_int_equal(numaperf_last_error()->code, wanted);
    assert_ptr_equal(conn, &end); /* untouched */
    assert_int_equal(end.opens + end.closes, 0);
    assert_true(fcntl(fd, F_GETFD) >= 0); /* still the caller's */
}

static void bad_input_is_refused_and_the_socket_stays_the_callers(void **state)
{
    struct net_scene scene;
    net_scene_open(&scene, state);
    int fds[2];
    net_pair(&scene, fds);
    uint32_t size = sizeof(numaperf_conn_config_t);
    refuse_config(&scene, fds[0], -EINVAL, size - 8, 0, 0);
    refuse_config(&scene, fds[0], -EINVAL, size, 1u << 31, 0);
    refuse_config(&scene, fds[0], -EINVAL, size, 0, 1);
    int file = open("/dev/null", O_RDWR | O_CLOEXEC);
    refuse_config(&scene, file, -ENOTSOCK, size, 0, 0);
    int lonely = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    refuse_config(&scene, lonely, -ENOTCONN, size, 0, 0);
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    numaperf_conn_t *conn = NULL;
    assert_int_equal(numaperf_conn_adopt(scene.loop, fds[0], &config, &conn), -EINVAL);
    struct net_end end = {0};
    net_end_config(&end, &config);
    assert_int_equal(numaperf_conn_adopt(NULL, fds[0], &config, &conn), -EINVAL);
    assert_int_equal(numaperf_conn_adopt(scene.loop, -1, &config, &conn), -EINVAL);
    assert_int_equal(numaperf_conn_adopt(scene.loop, fds[0], NULL, &conn), -EINVAL);
    config.high_water_bytes = 10;
    config.low_water_bytes = 11;
    assert_int_equal(numaperf_conn_adopt(scene.loop, fds[0], &config, &conn), -EINVAL);
    assert_null(conn);
    for (int i = 0; i < 2; i++)
        assert_int_equal(close(fds[i]), 0);
    assert_int_equal(close(file), 0);
    assert_int_equal(close(lonely), 0);
    net_scene_close(&scene);
}

static void bad_writes_are_refused_and_nothing_is_sent(void **state)
{
    struct net_scene scene;
    struct net_end end;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    struct iovec parts[2] = {{.iov_base = (void *)"a", .iov_len = 1}, {NULL, 1}};
    assert_int_equal(numaperf_conn_write(NULL, "a", 1), -EINVAL);
    assert_int_equal(numaperf_conn_write(end.conn, NULL, 1), -EINVAL);
    assert_int_equal(numaperf_conn_writev(end.conn, parts, 2), -EINVAL);
    assert_int_equal(numaperf_conn_writev(end.conn, NULL, 1), -EINVAL);
    assert_int_equal(numaperf_conn_write_held(end.conn, NULL, "a", 1), -EINVAL);
    assert_int_equal(numaperf_conn_end(NULL), -EINVAL);
    assert_int_equal(numaperf_conn_finish(NULL), -EINVAL);
    net_settle(&scene);
    assert_int_equal(net_peer_receive(&end, 100), 0);
    assert_int_equal(numaperf_conn_queued_bytes(end.conn), 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

/* ---- ways to write ---- */

static void gathered_parts_go_out_in_order(void **state)
{
    struct net_scene scene;
    struct net_end end;
    static uint8_t bytes[100 * 101 / 2];
    struct iovec parts[101];
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    pattern_fill(bytes, sizeof(bytes), 0);
    size_t at = 0;
    for (size_t i = 0; i <= 100; i++) { /* the first is empty */
        parts[i] = (struct iovec){.iov_base = bytes + at, .iov_len = i};
        at += i;
    }
    assert_int_equal(numaperf_conn_writev(end.conn, parts, 101), 0);
    memset(bytes, 0xee, sizeof(bytes));
    net_peer_gets_until(&end, sizeof(bytes));
    assert_int_equal(numaperf_conn_queued_bytes(end.conn), 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

static void tiny_socket_buffer_takes_writes_in_pieces(void **state)
{
    struct net_scene scene;
    struct net_end end;
    const uint64_t total = 600000;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    net_make_tight(&end);
    for (size_t piece = 1; end.written < total; piece = piece * 5 % 30011 + 1)
        assert_true(net_write(&end, piece) >= 0);
    assert_true(numaperf_conn_queued_bytes(end.conn) > total / 2);
    size_t most = 1;
    while (end.got < end.written) {
        NET_UNTIL(&scene, net_peer_receive(&end, most) > 0);
        most = most * 3 % 9001 + 1;
        assert_true(numaperf_conn_queued_bytes(end.conn) <= end.written - end.got);
    }
    numaperf_net_stats_t stats = net_stats(&scene);
    assert_true(stats.sends > 1 && stats.bytes_sent == end.written);
    assert_int_equal(numaperf_conn_queued_bytes(end.conn), 0);
    net_end_close(&end);
    net_scene_close(&scene);
}

/* ---- borrowed ---- */

enum { LOANS = 40 };

static struct loan_desk {
    uint8_t *bytes[LOANS];
    size_t lengths[LOANS];
    unsigned returned;
    bool is_writing, is_wrong;
    bool any_order; /* notifications come when they come */
} desk;

/* Once, in the order they were written, never inside the call, and before on_close. */
static void loan_done(numaperf_conn_t *conn, int status, void *data)
{
    struct net_end *end = numaperf_conn_data(conn);
    size_t index = (size_t)(uintptr_t)data;
    desk.is_wrong |= desk.is_writing || status != 0 || end->closes != 0;
    desk.is_wrong |= index != desk.returned && !desk.any_order;
    assert_non_null(desk.bytes[index]);
    memset(desk.bytes[index], 0xee, desk.lengths[index]);
    free(desk.bytes[index]);
    desk.bytes[index] = NULL;
    desk.returned++;
}

static void lend(struct net_end *end, size_t index, size_t length)
{
    desk.bytes[index] = malloc(length);
    desk.lengths[index] = length;
    assert_non_null(desk.bytes[index]);
    pattern_fill(desk.bytes[index], length, end->written);
    desk.is_writing = true;
    assert_true(numaperf_conn_write_borrowed(end->conn, desk.bytes[index], length, loan_done,
                                             (void *)(uintptr_t)index) >= 0);
    desk.is_writing = false;
    end->written += length;
}

static void borrowed_bytes_are_given_back_once_and_in_order(void **state)
{
    struct net_scene scene;
    struct net_end end;
    memset(&desk, 0, sizeof(desk));
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, NULL);
    net_make_tiny(numaperf_conn_fd(end.conn));
    for (size_t i = 0; i < LOANS; i++) {
        lend(&end, i, i * 997 % 20011 + 1);
        assert_true(net_write(&end, i % 3 + 1) >= 0); /* copies between them */
    }
    net_settle(&scene);
    assert_true(desk.returned < LOANS); /* nobody has read them yet */
    net_peer_gets_until(&end, end.written);
    NET_UNTIL(&scene, desk.returned == LOANS);
    net_end_close(&end);
    assert_false(desk.is_wrong);
    assert_int_equal(desk.returned, LOANS);
    net_scene_close(&scene);
}

static void large_borrowed_bytes_are_sent_without_a_copy(void **state)
{
    struct net_scene scene;
    struct net_end end;
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.zero_copy_bytes = 4096;
    memset(&desk, 0, sizeof(desk));
    desk.any_order = true;
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, &config);
    for (size_t i = 0; i < 10; i++) {
        lend(&end, i, 300000 + i);
        assert_true(net_write(&end, 100) >= 0);
    }
    net_peer_gets_until(&end, end.written);
    NET_UNTIL(&scene, desk.returned == 10);
    numaperf_net_stats_t stats = net_stats(&scene);
    bool expected = scene.kind->backend == NUMAPERF_IO_URING && scene.kind->is_tcp &&
                    net_features(&scene).send_zero_copy == NUMAPERF_PROBE_OK;
    if (expected)
        assert_true(stats.zero_copy_sends > 0); /* one that was copied may be the last */
    if (scene.kind->backend == NUMAPERF_IO_EPOLL)
        assert_int_equal(stats.zero_copy_sends, 0);
    assert_true(stats.zero_copy_copied <= stats.zero_copy_sends);
    assert_true(stats.bytes_sent == end.written);
    net_end_close(&end);
    assert_false(desk.is_wrong);
    net_scene_close(&scene);
}

static void bytes_below_the_limit_are_copied(void **state)
{
    struct net_scene scene;
    struct net_end end;
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.zero_copy_bytes = UINT32_MAX;
    memset(&desk, 0, sizeof(desk));
    net_scene_open(&scene, state);
    net_end_open(&scene, &end, NULL, &config);
    lend(&end, 0, 500000);
    net_peer_gets_until(&end, end.written);
    NET_UNTIL(&scene, desk.returned == 1);
    assert_int_equal(net_stats(&scene).zero_copy_sends, 0);
    net_end_close(&end);
    assert_false(desk.is_wrong);
    net_scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_EACH(bytes_come_back_as_they_were_sent),
        NET_EACH(connection_says_what_it_is),
        NET_EACH(bad_input_is_refused_and_the_socket_stays_the_callers),
        NET_EACH(bad_writes_are_refused_and_nothing_is_sent),
        NET_EACH(gathered_parts_go_out_in_order),
        NET_EACH(tiny_socket_buffer_takes_writes_in_pieces),
        NET_EACH(borrowed_bytes_are_given_back_once_and_in_order),
        NET_EACH(large_borrowed_bytes_are_sent_without_a_copy),
        NET_BOTH_TCP(bytes_below_the_limit_are_copied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
