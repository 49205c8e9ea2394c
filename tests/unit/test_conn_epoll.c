/* SPDX-License-Identifier: MIT */
/*
 * The driver of connections by epoll, alone: what it tells goes to the test instead of conn.c, and
 * the other ends of its sockets are the test's. No case asks the clock but for giving up.
 */
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

static struct end *end_of(struct numaperf_conn *conn)
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

static void scene_open_with(uint32_t buffer_bytes, uint32_t buffer_count)
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

static void scene_open(void)
{
    scene_open_with(CHUNK, 8);
}

static void turn(void)
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

static void scene_close(void)
{
    assert_null(scene.net->ended_first);
    turn();
    assert_int_equal(scene.net->handle_count, 1); /* the timer of the deadlines */
    assert_int_equal(numaperf_loop_destroy(scene.loop), 0);
}

static void tcp_pair(int out[2])
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

static void end_open(struct end *end, bool is_tcp)
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

static void end_close(struct end *end)
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

static void end_write(struct end *end, const void *bytes, size_t length)
{
    struct iovec part = {(void *)bytes, length};
    assert_int_equal(numaperf__output_copy(&end->conn.output, &part, 1, length), 0);
}

/* As many as go of `length` bytes, each the low byte of its number; how many. */
static size_t peer_send(struct end *end, uint64_t *sent, size_t length)
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

static uint64_t peer_drain(struct end *end)
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

static void peer_reset(struct end *end)
{
    struct linger linger = {.l_onoff = 1};
    assert_int_equal(setsockopt(end->peer, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    (void)close(end->peer);
    end->peer = -1;
}

/* Turns in which nothing is asked of the kernel about a connection. */
static void assert_quiet(void)
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

#define UNIX_AND_TCP(fn)                      \
    {#fn "_unix", fn, NULL, NULL, NULL},      \
    {                                         \
#fn "_tcp", fn, NULL, NULL, (void *)1 \
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
