/* SPDX-License-Identifier: MIT */
/*
 * The driver of connections by epoll with the test in place of conn.c: what it tells, and what it
 * asks of the kernel. Included once in a program, which names the wrapped functions.
 */
#ifndef TESTS_SUPPORT_EPOLL_SCENE_H
#define TESTS_SUPPORT_EPOLL_SCENE_H

#include "net/conn.h"

#include "support/clock.h"

#include <numaperf/loop.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define UNTOLD 12345 /* no result */
#define TURNS 20     /* more than enough for what is ready to happen */
#define CHUNK 65536u
#define ROOMS_MAX 4u /* of a buffer, by one event */

/* ---- what is told ---- */

struct end {
    struct numaperf_conn conn; /* first */
    int peer;
    int receive_rc, send_rc;
    unsigned received_calls;
    uint64_t received; /* bytes; each is the low byte of its number */
    bool is_wrong;
    bool is_gone;
    bool is_in_call; /* of the driver */
    bool pauses;     /* at the first bytes */
    bool keeps;      /* the buffers */
    struct numaperf__slice kept[64];
    uint32_t kept_count;
};

static struct {
    numaperf_loop_t *loop;
    struct numaperf__net *net;
    unsigned recvs, sends, poll_starts, poll_stops;
} scene;

static inline struct end *end_of(struct numaperf_conn *conn)
{
    struct end *end = (struct end *)conn;
    assert_false(end->is_in_call);
    assert_false(end->is_gone);
    return end;
}

void __wrap_numaperf__conn_received(struct numaperf_conn *conn, struct numaperf__slice *slice);
void __wrap_numaperf__conn_received(struct numaperf_conn *conn, struct numaperf__slice *slice)
{
    struct end *end = end_of(conn);
    assert_true(conn->is_receiving);
    assert_true(slice->length > 0);
    end->received_calls++;
    for (uint32_t i = 0; i < slice->length; i++) {
        if (slice->bytes[i] != (char)(end->received + i))
            end->is_wrong = true;
    }
    end->received += slice->length;
    if (end->pauses)
        conn->is_paused = true;
    if (end->keeps) {
        assert_true(end->kept_count < 64);
        end->kept[end->kept_count++] = *slice;
        return;
    }
    numaperf__buffer_unref(slice->buffer);
}

void __wrap_numaperf__conn_receive_ended(struct numaperf_conn *conn, int rc);
void __wrap_numaperf__conn_receive_ended(struct numaperf_conn *conn, int rc)
{
    struct end *end = end_of(conn);
    assert_false(conn->is_receiving);
    assert_false(conn->is_stopping);
    assert_int_equal(end->receive_rc, UNTOLD); /* once */
    end->receive_rc = rc;
}

void __wrap_numaperf__conn_sent(struct numaperf_conn *conn, int rc);
void __wrap_numaperf__conn_sent(struct numaperf_conn *conn, int rc)
{
    struct end *end = end_of(conn);
    assert_false(conn->is_sending);
    assert_int_equal(end->send_rc, UNTOLD);
    end->send_rc = rc;
    if (rc > 0)
        numaperf__output_sent(&conn->output, conn, (size_t)rc);
}

/* The one that may come from inside a call. */
void __wrap_numaperf__conn_gone(struct numaperf_conn *conn);
void __wrap_numaperf__conn_gone(struct numaperf_conn *conn)
{
    struct end *end = (struct end *)conn;
    assert_false(end->is_gone);
    end->is_gone = true;
    numaperf__list_remove(&conn->link);
    numaperf__loop_mark_dirty(scene.loop, &scene.net->tenant);
}

/* ---- what is asked of the kernel and of libuv ---- */

ssize_t __real_recv(int fd, void *buffer, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *buffer, size_t length, int flags);
ssize_t __wrap_recv(int fd, void *buffer, size_t length, int flags)
{
    scene.recvs++;
    return __real_recv(fd, buffer, length, flags);
}

ssize_t __real_send(int fd, const void *buffer, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *buffer, size_t length, int flags);
ssize_t __wrap_send(int fd, const void *buffer, size_t length, int flags)
{
    scene.sends++;
    return __real_send(fd, buffer, length, flags);
}

int __real_uv_poll_start(uv_poll_t *handle, int events, uv_poll_cb fn);
int __wrap_uv_poll_start(uv_poll_t *handle, int events, uv_poll_cb fn);
int __wrap_uv_poll_start(uv_poll_t *handle, int events, uv_poll_cb fn)
{
    scene.poll_starts++;
    return __real_uv_poll_start(handle, events, fn);
}

int __real_uv_poll_stop(uv_poll_t *handle);
int __wrap_uv_poll_stop(uv_poll_t *handle);
int __wrap_uv_poll_stop(uv_poll_t *handle)
{
    scene.poll_stops++;
    return __real_uv_poll_stop(handle);
}

/* ---- scene ---- */

static inline void scene_open_with(uint32_t buffer_bytes, uint32_t buffer_count)
{
    memset(&scene, 0, sizeof(scene));
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = NUMAPERF_IO_EPOLL;
    config.buffer_bytes = buffer_bytes;
    config.buffer_count = buffer_count;
    assert_int_equal(numaperf_loop_create(&config, &scene.loop), 0);
    assert_int_equal(numaperf__net_of(scene.loop, &scene.net), 0);
    assert_ptr_equal(scene.net->driver, &numaperf__conn_epoll);
    scene.poll_starts = 0; /* the loop's own */
}

static inline void scene_open(void)
{
    scene_open_with(CHUNK, 8);
}

static inline void turn(void)
{
    for (int i = 0; i < TURNS; i++)
        (void)numaperf_loop_run(scene.loop, UV_RUN_NOWAIT);
}

#define UNTIL(condition)                                         \
    do {                                                         \
        uint64_t limit_ns = test_now_ns() + test_limit_ns(20);   \
        while (!(condition)) {                                   \
            if (test_now_ns() > limit_ns)                        \
                fail_msg("it never came to be: %s", #condition); \
            (void)numaperf_loop_run(scene.loop, UV_RUN_NOWAIT);  \
        }                                                        \
    } while (0)

static inline void scene_close(void)
{
    assert_null(scene.net->ended_first);
    turn();
    assert_int_equal(scene.net->handle_count, 1); /* the timer of the deadlines */
    assert_int_equal(numaperf_loop_destroy(scene.loop), 0);
}

static inline void tcp_pair(int out[2])
{
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    out[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(out[1], (struct sockaddr *)&address, length), 0);
    out[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(out[0] >= 0);
    (void)close(listener);
}

static inline void end_open(struct end *end, bool is_tcp)
{
    memset(end, 0, sizeof(*end));
    end->receive_rc = UNTOLD;
    end->send_rc = UNTOLD;
    int fds[2];
    if (is_tcp)
        tcp_pair(fds);
    else
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    end->conn.net = scene.net;
    end->conn.driver = scene.net->driver;
    end->conn.fd = fds[0];
    end->peer = fds[1];
    numaperf__output_init(&end->conn.output, scene.net->arena);
    numaperf__list_push_back(&scene.net->conns, &end->conn.link); /* keeps the loop alive */
    numaperf__loop_mark_dirty(scene.loop, &scene.net->tenant);
    assert_int_equal(end->conn.driver->open(&end->conn), 0);
    assert_true((fcntl(fds[0], F_GETFL) & O_NONBLOCK) != 0);
}

#define CALL(end, what)                         \
    do {                                        \
        (end)->is_in_call = true;               \
        (end)->conn.driver->what(&(end)->conn); \
        (end)->is_in_call = false;              \
    } while (0)

static inline void end_close(struct end *end)
{
    if (end->conn.is_receiving || end->conn.is_sending) {
        end->receive_rc = UNTOLD;
        end->send_rc = UNTOLD;
        CALL(end, give_up);
        turn();
    }
    int fd = end->conn.fd;
    numaperf__output_drop(&end->conn.output, &end->conn, -ECANCELED);
    end->conn.driver->close(&end->conn);
    assert_true(end->is_gone);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_false(end->is_wrong);
    if (end->peer >= 0)
        (void)close(end->peer);
}

static inline void end_write(struct end *end, const void *bytes, size_t length)
{
    struct iovec part = {(void *)bytes, length};
    assert_int_equal(numaperf__output_copy(&end->conn.output, &part, 1, length), 0);
}

/* As many as go of `length` bytes, each the low byte of its number; how many. */
static inline size_t peer_send(struct end *end, uint64_t *sent, size_t length)
{
    static char bytes[CHUNK];
    size_t done = 0;
    while (done < length) {
        size_t part = length - done < CHUNK ? length - done : CHUNK;
        for (size_t i = 0; i < part; i++)
            bytes[i] = (char)(*sent + i);
        ssize_t n = __real_send(end->peer, bytes, part, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        *sent += (uint64_t)n;
        done += (size_t)n;
    }
    return done;
}

static inline uint64_t peer_drain(struct end *end)
{
    static char bytes[CHUNK];
    uint64_t got = 0;
    for (;;) {
        ssize_t n = __real_recv(end->peer, bytes, sizeof(bytes), 0);
        if (n <= 0)
            return got;
        got += (uint64_t)n;
    }
}

static inline void peer_reset(struct end *end)
{
    struct linger linger = {.l_onoff = 1};
    assert_int_equal(setsockopt(end->peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    (void)close(end->peer);
    end->peer = -1;
}

/* Turns in which nothing is asked of the kernel about a connection. */
static inline void assert_quiet(void)
{
    turn(); /* an event that nobody wants any more may come once */
    unsigned recvs = scene.recvs;
    unsigned sends = scene.sends;
    unsigned starts = scene.poll_starts + scene.poll_stops;
    turn();
    assert_int_equal(scene.recvs, recvs);
    assert_int_equal(scene.sends, sends);
    assert_int_equal(scene.poll_starts + scene.poll_stops, starts);
}

#define UNIX_AND_TCP(fn)                      \
    {#fn "_unix", fn, NULL, NULL, NULL},      \
    {                                         \
#fn "_tcp", fn, NULL, NULL, (void *)1 \
    }

#endif
