/* SPDX-License-Identifier: MIT */
/*
 * The driver of connections without a ring: one uv_poll_t each, recv(2) and send(2).
 *
 * A system call has ended when it returns, but a driver tells nothing from inside a call of its
 * own. What ended there is noted in the connection's watch, which is put in a list of the net; the
 * driver's turn, which follows, tells it. What ends in libuv's callback is told right there.
 *
 * To change what a uv_poll_t waits for costs two system calls, so it is put off: an event that
 * nobody wants is what ends the interest in it. A send is tried at once; only when the socket is
 * full is it waited for.
 *
 * Invariants: whoever receives is polled for reading, or its end is noted. Whoever sends waits for
 * writability, or its end is noted. A watch outlives its connection until libuv has closed it.
 *
 * Thread rule: the loop's thread.
 */
#include "net/conn.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define EPOLL_ROOMS_MAX 4u  /* of buffers that one event fills, so that others get their share */
#define EPOLL_ERRORS_MAX 64 /* of an error queue, the same */

struct numaperf__conn_watch {
    uv_poll_t poll; /* first */
    struct numaperf__net *net;
    struct numaperf_conn *conn;        /* NULL: it is gone */
    struct numaperf__conn_watch *next; /* in the net's list, while one of the next two holds */
    bool receive_ended;                /* with this result, which is to be told */
    bool send_ended;
    int receive_rc, send_rc;
    int interest; /* what the poll is started for */
    bool is_full; /* the last send took less than it was given */
};

static int epoll_error(void)
{
    int error = errno;
    NUMAPERF_ASSERT(error > 0);
    return -error;
}

/* ---- ends ---- */

/* Have it told in the driver's turn. */
static void epoll_list(struct numaperf__conn_watch *watch)
{
    struct numaperf__net *net = watch->net;
    if (watch->receive_ended || watch->send_ended)
        return;
    watch->next = NULL;
    if (net->ended_last != NULL)
        net->ended_last->next = watch;
    else
        net->ended_first = watch;
    net->ended_last = watch;
    if (!net->is_turning)
        numaperf__loop_mark_dirty(net->loop, &net->tenant);
}

static void epoll_end_receive(struct numaperf__conn_watch *watch, int rc)
{
    NUMAPERF_ASSERT(!watch->receive_ended);
    epoll_list(watch);
    watch->receive_ended = true;
    watch->receive_rc = rc;
}

static void epoll_end_send(struct numaperf__conn_watch *watch, int rc)
{
    NUMAPERF_ASSERT(!watch->send_ended);
    epoll_list(watch);
    watch->send_ended = true;
    watch->send_rc = rc;
}

static bool epoll_is_receiving(const struct numaperf__conn_watch *watch)
{
    return watch->conn->is_receiving && !watch->receive_ended;
}

/* Whether a send waits until the socket takes more. */
static bool epoll_is_blocked(const struct numaperf__conn_watch *watch)
{
    return watch->conn->is_sending && !watch->send_ended;
}

static void epoll_tell_receive(struct numaperf__conn_watch *watch, int rc)
{
    watch->receive_ended = false;
    watch->conn->is_receiving = false;
    watch->conn->is_stopping = false;
    numaperf__conn_receive_ended(watch->conn, rc);
}

static void epoll_tell_send(struct numaperf__conn_watch *watch, int rc)
{
    watch->send_ended = false;
    watch->conn->is_sending = false;
    numaperf__conn_sent(watch->conn, rc);
}

static void epoll_turn(struct numaperf__net *net)
{
    struct numaperf__conn_watch *next = net->ended_first;
    net->ended_first = NULL;
    net->ended_last = NULL;
    while (next != NULL) {
        struct numaperf__conn_watch *watch = next;
        next = watch->next;
        /* Neither begins anything, so it is not in the list again before both are told. */
        if (watch->send_ended)
            epoll_tell_send(watch, watch->send_rc);
        if (watch->receive_ended)
            epoll_tell_receive(watch, watch->receive_rc);
    }
}

/* ---- events ---- */

static void epoll_event(uv_poll_t *poll, int status, int events);

/* Have the poll wait for these; 0 or -errno. */
static int epoll_await(struct numaperf__conn_watch *watch, int interest)
{
    if (watch->interest == interest)
        return 0;
    int rc = interest != 0 ? uv_poll_start(&watch->poll, interest, epoll_event)
                           : uv_poll_stop(&watch->poll);
    if (rc == 0)
        watch->interest = interest;
    return rc;
}

static int epoll_wanted(const struct numaperf__conn_watch *watch)
{
    return (epoll_is_receiving(watch) ? UV_READABLE : 0) |
           (epoll_is_blocked(watch) ? UV_WRITABLE : 0);
}

/* Receive once. 1: there may be more. 0: there is no more now, or receiving has ended. */
static int epoll_receive_once(struct numaperf__conn_watch *watch)
{
    struct numaperf_conn *conn = watch->conn;
    struct numaperf__buffers *buffers = watch->net->buffers;
    struct numaperf__slice slice;
    if (!numaperf__buffers_acquire(buffers, &slice)) {
        epoll_tell_receive(watch, -ENOBUFS);
        return 0;
    }
    size_t room = slice.length;
    ssize_t n = 0;
    do {
        n = recv(conn->fd, slice.bytes, room, 0);
    } while (n < 0 && errno == EINTR);
    int rc = n < 0 ? epoll_error() : 0;
    numaperf__buffers_commit(buffers, &slice, n > 0 ? (uint32_t)n : 0);
    if (n > 0) {
        numaperf__conn_received(conn, &slice);
        return (size_t)n == room;
    }
    if (rc != -EAGAIN)
        epoll_tell_receive(watch, rc);
    return 0;
}

/* One request, from the front of the output: how many bytes, or -errno. */
static int epoll_send_once(struct numaperf__conn_watch *watch)
{
    struct numaperf_conn *conn = watch->conn;
    struct numaperf__output_front front;
    numaperf__output_front(&conn->output, UINT32_MAX, conn->parts, NUMAPERF__CONN_PARTS_MAX,
                           &front);
    NUMAPERF_ASSERT_HOT(front.part_count > 0 && front.zero_copy == NULL);
    conn->message = (struct msghdr){.msg_iov = conn->parts, .msg_iovlen = front.part_count};
    ssize_t n = 0;
    do {
        n = front.part_count == 1
                ? send(conn->fd, conn->parts[0].iov_base, conn->parts[0].iov_len, MSG_NOSIGNAL)
                : sendmsg(conn->fd, &conn->message, MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    int rc = n < 0 ? epoll_error() : (int)n;
    numaperf__net_count(watch->net, NUMAPERF__NET_SENDS, 1);
    watch->is_full = rc == -EAGAIN || (n >= 0 && (size_t)n < front.length);
    if (watch->is_full)
        numaperf__net_count(watch->net, NUMAPERF__NET_PARTIAL_SENDS, 1);
    return rc;
}

/* Entries of the error queue are the only thing that an event tells of and no call returns: it
 * would come again and again. */
static void epoll_drop_errors(const struct numaperf_conn *conn)
{
    for (int i = 0; i < EPOLL_ERRORS_MAX; i++) {
        struct msghdr message = {.msg_iovlen = 0};
        if (recvmsg(conn->fd, &message, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            return;
    }
}

static void epoll_receive_some(struct numaperf__conn_watch *watch)
{
    for (unsigned i = 0; i < EPOLL_ROOMS_MAX; i++) {
        /* What comes when the user has paused would have to be kept. */
        if (epoll_receive_once(watch) == 0 || watch->conn->is_paused)
            return;
    }
}

/* Wait for what is wanted, and no more for what is not. */
static void epoll_settle(struct numaperf__conn_watch *watch, int wanted)
{
    int rc = epoll_await(watch, wanted);
    if (rc == 0)
        return;
    /* Another handle of the user's polls the descriptor. */
    if (epoll_is_receiving(watch))
        epoll_end_receive(watch, rc);
    if (epoll_is_blocked(watch))
        epoll_end_send(watch, rc);
}

static void epoll_event(uv_poll_t *poll, int status, int events)
{
    struct numaperf__conn_watch *watch =
        NUMAPERF_CONTAINER_OF(poll, struct numaperf__conn_watch, poll);
    NUMAPERF_ASSERT(watch->conn != NULL);
    int wanted = epoll_wanted(watch);
    if (status < 0) {
        /* An error of the socket, which the calls below return; libuv has stopped the poll. */
        watch->interest = 0;
        events = UV_READABLE | UV_WRITABLE;
    }
    if ((events & wanted & UV_READABLE) != 0)
        epoll_receive_some(watch);
    if ((events & wanted & UV_WRITABLE) != 0) {
        int rc = epoll_send_once(watch);
        if (rc != -EAGAIN)
            epoll_tell_send(watch, rc);
    }
    if (status < 0) {
        epoll_drop_errors(watch->conn);
        epoll_settle(watch, epoll_wanted(watch));
    } else if ((events & ~wanted) != 0) {
        /* Not what this event has ended: it may well begin again. */
        epoll_settle(watch, wanted | epoll_wanted(watch));
    }
}

/* ---- the driver ---- */

static int epoll_open(struct numaperf_conn *conn)
{
    struct numaperf__net *net = conn->net;
    struct numaperf__conn_watch *watch = numaperf_arena_alloc(net->arena, sizeof(*watch), 0);
    if (watch == NULL)
        return -ENOMEM;
    memset(watch, 0, sizeof(*watch));
    /* Makes it non-blocking. When it fails libuv knows nothing of it. */
    int rc = uv_poll_init(numaperf_loop_uv(net->loop), &watch->poll, conn->fd);
    if (rc < 0) {
        numaperf_arena_free(net->arena, watch);
        return rc;
    }
    numaperf__loop_mark((uv_handle_t *)&watch->poll);
    watch->net = net;
    watch->conn = conn;
    net->handle_count++;
    conn->watch = watch;
    return 0;
}

static void epoll_receive(struct numaperf_conn *conn)
{
    struct numaperf__conn_watch *watch = conn->watch;
    NUMAPERF_ASSERT(!conn->is_receiving && !watch->receive_ended);
    conn->is_receiving = true;
    conn->is_stopping = false;
    int rc = epoll_await(watch, watch->interest | UV_READABLE);
    if (rc < 0)
        epoll_end_receive(watch, rc);
}

static void epoll_stop_receive(struct numaperf_conn *conn)
{
    struct numaperf__conn_watch *watch = conn->watch;
    if (!epoll_is_receiving(watch))
        return; /* it has ended by itself, which is still to be told */
    conn->is_stopping = true;
    epoll_end_receive(watch, -ECANCELED);
}

static void epoll_send(struct numaperf_conn *conn)
{
    struct numaperf__conn_watch *watch = conn->watch;
    NUMAPERF_ASSERT(!conn->is_sending && !watch->send_ended);
    conn->is_sending = true;
    int rc = watch->is_full ? -EAGAIN : epoll_send_once(watch);
    if (rc == -EAGAIN) {
        watch->is_full = false; /* the next one is tried when it is not */
        rc = epoll_await(watch, watch->interest | UV_WRITABLE);
        if (rc == 0)
            return;
    }
    epoll_end_send(watch, rc);
}

static int epoll_shut(struct numaperf_conn *conn)
{
    NUMAPERF_ASSERT(!conn->is_sending && !conn->is_shutting);
    return shutdown(conn->fd, SHUT_WR) < 0 ? epoll_error() : 0;
}

static void epoll_abort(struct numaperf_conn *conn)
{
    struct numaperf__conn_watch *watch = conn->watch;
    if (epoll_is_receiving(watch))
        epoll_end_receive(watch, -ECANCELED);
    if (epoll_is_blocked(watch))
        epoll_end_send(watch, -ECANCELED);
}

static void epoll_closed(uv_handle_t *poll)
{
    struct numaperf__conn_watch *watch =
        NUMAPERF_CONTAINER_OF(poll, struct numaperf__conn_watch, poll);
    struct numaperf__net *net = watch->net;
    NUMAPERF_ASSERT(watch->conn == NULL && net->handle_count > 0);
    net->handle_count--;
    numaperf_arena_free(net->arena, watch);
}

static void epoll_close(struct numaperf_conn *conn)
{
    struct numaperf__conn_watch *watch = conn->watch;
    NUMAPERF_ASSERT(!conn->is_receiving && !conn->is_sending && !conn->is_shutting);
    NUMAPERF_ASSERT(!watch->receive_ended && !watch->send_ended);
    /* First: from here on libuv does not look at the descriptor. */
    uv_close((uv_handle_t *)&watch->poll, epoll_closed);
    watch->conn = NULL;
    (void)close(conn->fd); /* closed it is whatever this says */
    numaperf__conn_gone(conn);
}

const struct numaperf__conn_driver numaperf__conn_epoll = {
    .backend = NUMAPERF_IO_EPOLL,
    .open = epoll_open,
    .receive = epoll_receive,
    .stop_receive = epoll_stop_receive,
    .send = epoll_send,
    .shut = epoll_shut,
    .give_up = epoll_abort,
    .close = epoll_close,
    .turn = epoll_turn,
};
