/* SPDX-License-Identifier: MIT */
#include "support/net_scene.h"

#include "support/clock.h"

#include <numaperf/error.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define PEER_BYTES 65536 /* of one send or receive */
#define IDLE_TURNS 20

const struct net_kind net_kinds[4] = {
    {NUMAPERF_IO_URING, false},
    {NUMAPERF_IO_URING, true},
    {NUMAPERF_IO_EPOLL, false},
    {NUMAPERF_IO_EPOLL, true},
};

/* ---- the loop ---- */

void net_scene_open_with(struct net_scene *scene, void **state, numaperf_loop_config_t *config)
{
    numaperf_loop_config_t plain = NUMAPERF_LOOP_CONFIG_INIT;
    numaperf_loop_config_t *used = config != NULL ? config : &plain;
    *scene = (struct net_scene){.kind = *state};
    used->backend = (uint32_t)scene->kind->backend;
    int rc = numaperf_loop_create(used, &scene->loop);
    if (rc < 0 && scene->kind->backend == NUMAPERF_IO_URING) {
        print_message("skipped: io_uring is refused here: %s\n", numaperf_last_error()->reason);
        skip();
    }
    assert_int_equal(rc, 0);
    assert_int_equal(numaperf_loop_backend(scene->loop), scene->kind->backend);
}

void net_scene_open(struct net_scene *scene, void **state)
{
    net_scene_open_with(scene, state, NULL);
}

void net_scene_close(struct net_scene *scene)
{
    assert_int_equal(net_stats(scene).connections, 0);
    NET_UNTIL(scene, numaperf_loop_destroy(scene->loop) == 0);
    scene->loop = NULL;
}

uint64_t net_limit(void)
{
    return test_now_ns() + test_limit_ns(30);
}

void net_turn(struct net_scene *scene, uint64_t limit_ns, const char *wanted)
{
    if (test_now_ns() > limit_ns)
        fail_msg("never came: %s", wanted);
    assert_true(numaperf_loop_run(scene->loop, UV_RUN_NOWAIT) >= 0);
    (void)usleep(20);
}

void net_settle(struct net_scene *scene)
{
    for (int i = 0; i < IDLE_TURNS; i++) {
        assert_true(numaperf_loop_run(scene->loop, UV_RUN_NOWAIT) >= 0);
        test_sleep_ms(1);
    }
}

numaperf_net_stats_t net_stats(const struct net_scene *scene)
{
    numaperf_net_stats_t stats = NUMAPERF_NET_STATS_INIT;
    assert_int_equal(numaperf_loop_net_stats(scene->loop, &stats), 0);
    return stats;
}

numaperf_loop_features_t net_features(const struct net_scene *scene)
{
    numaperf_loop_features_t features = NUMAPERF_LOOP_FEATURES_INIT;
    assert_int_equal(numaperf_loop_features(scene->loop, &features), 0);
    return features;
}

/* ---- the pattern ---- */

uint8_t pattern_byte(uint64_t position)
{
    return (uint8_t)((position * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

void pattern_fill(void *out, size_t length, uint64_t position)
{
    for (size_t i = 0; i < length; i++)
        ((uint8_t *)out)[i] = pattern_byte(position + i);
}

bool pattern_matches(const void *bytes, size_t length, uint64_t position)
{
    for (size_t i = 0; i < length; i++) {
        if (((const uint8_t *)bytes)[i] != pattern_byte(position + i)) {
            print_message("byte %llu is wrong\n", (unsigned long long)(position + i));
            return false;
        }
    }
    return true;
}

/* ---- what a connection tells ---- */

static int scene_on_open(numaperf_conn_t *conn, void *data)
{
    struct net_end *end = data;
    end->conn = conn;
    end->opens++;
    return end->acts != NULL && end->acts->open != NULL ? end->acts->open(end) : 0;
}

static void scene_on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    struct net_end *end = data;
    end->is_late |= end->closes > 0 || conn != end->conn || length == 0;
    end->is_wrong |= !pattern_matches(bytes, length, end->received);
    end->received += length;
    end->reads++;
    if (end->acts != NULL && end->acts->read != NULL)
        end->acts->read(end, bytes, length);
}

static void scene_on_end(numaperf_conn_t *conn, void *data)
{
    struct net_end *end = data;
    end->is_late |= end->closes > 0;
    end->ends++;
    if (end->acts != NULL && end->acts->end != NULL)
        end->acts->end(end);
    else
        (void)numaperf_conn_finish(conn);
}

static void scene_on_drain(numaperf_conn_t *conn, void *data)
{
    (void)conn;
    struct net_end *end = data;
    end->is_late |= end->closes > 0;
    end->drains++;
    if (end->acts != NULL && end->acts->drain != NULL)
        end->acts->drain(end);
}

static void scene_on_close(numaperf_conn_t *conn, int reason, void *data)
{
    struct net_end *end = data;
    end->is_late |= conn != end->conn;
    end->closes++;
    end->reason = reason;
    if (end->acts != NULL && end->acts->close != NULL)
        end->acts->close(end);
    end->conn = NULL;
}

void net_end_config(struct net_end *end, numaperf_conn_config_t *config)
{
    config->callbacks = (numaperf_conn_callbacks_t){
        .on_open = scene_on_open,
        .on_read = scene_on_read,
        .on_end = scene_on_end,
        .on_drain = scene_on_drain,
        .on_close = scene_on_close,
    };
    config->data = end;
}

/* ---- making and closing ---- */

static void scene_tcp_pair(int out_fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(listener >= 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    out_fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(out_fds[1] >= 0);
    assert_int_equal(connect(out_fds[1], (struct sockaddr *)&address, length), 0);
    out_fds[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(out_fds[0] >= 0);
    (void)close(listener);
}

void net_pair(const struct net_scene *scene, int out_fds[2])
{
    if (scene->kind->is_tcp)
        scene_tcp_pair(out_fds);
    else
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out_fds), 0);
    assert_int_equal(fcntl(out_fds[1], F_SETFL, O_NONBLOCK), 0);
}

int net_end_adopt(struct net_scene *scene, struct net_end *end, const struct net_acts *acts,
                  numaperf_conn_config_t *config, int fd)
{
    numaperf_conn_config_t plain = NUMAPERF_CONN_CONFIG_INIT;
    numaperf_conn_config_t *used = config != NULL ? config : &plain;
    end->scene = scene;
    end->acts = acts;
    net_end_config(end, used);
    numaperf_conn_t *conn = NULL;
    int rc = numaperf_conn_adopt(scene->loop, fd, used, &conn);
    if (rc == 0)
        assert_int_equal(end->opens, 1);
    return rc;
}

void net_end_open(struct net_scene *scene, struct net_end *end, const struct net_acts *acts,
                  numaperf_conn_config_t *config)
{
    int fds[2];
    net_pair(scene, fds);
    *end = (struct net_end){.peer = fds[1]};
    assert_int_equal(net_end_adopt(scene, end, acts, config, fds[0]), 0);
}

void net_end_close(struct net_end *end)
{
    if (end->conn != NULL)
        numaperf_conn_close(end->conn, 0);
    NET_UNTIL(end->scene, end->closes > 0);
    net_peer_close(end);
    assert_int_equal(end->opens, 1);
    assert_int_equal(end->closes, 1);
    assert_false(end->is_wrong);
    assert_false(end->is_late);
    assert_true(end->ends <= 1);
}

int net_write(struct net_end *end, size_t length)
{
    char *bytes = malloc(length);
    assert_non_null(bytes);
    pattern_fill(bytes, length, end->written);
    int rc = numaperf_conn_write(end->conn, bytes, length);
    memset(bytes, 0xee, length); /* they are the caller's again */
    free(bytes);
    if (rc >= 0)
        end->written += length;
    return rc;
}

/* ---- the peer ---- */

size_t net_peer_send(struct net_end *end, size_t length)
{
    static char bytes[PEER_BYTES];
    size_t total = 0;
    while (total < length) {
        size_t piece = length - total < PEER_BYTES ? length - total : PEER_BYTES;
        pattern_fill(bytes, piece, end->sent);
        ssize_t rc = send(end->peer, bytes, piece, MSG_NOSIGNAL);
        if (rc < 0) {
            end->peer_errno = errno == EAGAIN ? end->peer_errno : errno;
            break;
        }
        end->sent += (uint64_t)rc;
        total += (size_t)rc;
    }
    return total;
}

size_t net_peer_receive(struct net_end *end, size_t max)
{
    static char bytes[PEER_BYTES];
    size_t total = 0;
    while (total < max && !end->peer_ended) {
        size_t piece = max - total < PEER_BYTES ? max - total : PEER_BYTES;
        ssize_t rc = recv(end->peer, bytes, piece, 0);
        if (rc < 0) {
            end->peer_errno = errno == EAGAIN ? end->peer_errno : errno;
            break;
        }
        end->peer_ended = rc == 0;
        assert_true(pattern_matches(bytes, (size_t)rc, end->got));
        end->got += (uint64_t)rc;
        total += (size_t)rc;
    }
    return total;
}

void net_peer_sends_until(struct net_end *end, uint64_t sent)
{
    NET_UNTIL(end->scene, (net_peer_send(end, sent - end->sent), end->sent == sent));
}

void net_peer_gets_until(struct net_end *end, uint64_t got)
{
    NET_UNTIL(end->scene, (net_peer_receive(end, got - end->got), end->got == got));
}

void net_peer_close(struct net_end *end)
{
    if (end->peer >= 0)
        (void)close(end->peer);
    end->peer = -1;
}

void net_peer_reset(struct net_end *end)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(end->peer, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
    net_peer_close(end);
}

void net_make_tiny(int fd)
{
    int bytes = 1; /* the kernel's minimum */
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
}

void net_make_tight(const struct net_end *end)
{
    net_make_tiny(numaperf_conn_fd(end->conn));
    if (!end->scene->kind->is_tcp)
        net_make_tiny(end->peer);
}
