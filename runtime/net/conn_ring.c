/* SPDX-License-Identifier: MIT */
/*
 * The driver of connections on the ring.
 *
 * One multishot receive a connection, into buffers of the loop's ring; one send under way, of one
 * part or of several (sendmsg). Sends are queued in the turn of the net and ride the enter that
 * fetches completions. A zero-copy send completes twice: its result, after which the next send may
 * go, and later a notification that its memory is free; no more than
 * NUMAPERF__CONN_ZERO_COPY_MAX wait for theirs, beyond that bytes are copied.
 *
 * A request that finds no room in the submission queue is asked for again in the next turn.
 *
 * Thread rule: the loop's thread.
 *
 * Source: io_uring_enter(2), IORING_OP_RECV, IORING_OP_SEND_ZC.
 */
#include "net/conn.h"

#include "base/assert.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static int ring_open(struct numaperf_conn *conn)
{
    (void)conn; /* nothing is registered: requests carry the descriptor */
    return 0;
}

/* False: no room for it now, the connection is looked at again. */
static bool ring_submit(struct numaperf_conn *conn, struct numaperf__op *op)
{
    op->fd = conn->fd;
    op->is_direct = conn->is_direct;
    int rc = numaperf__loop_submit(conn->net->loop, op);
    if (rc == 0)
        return true;
    NUMAPERF_ASSERT(rc == -EBUSY);
    numaperf__conn_look_again(conn);
    return false;
}

/* ---- receive ---- */

static void ring_received(struct numaperf__op *op)
{
    struct numaperf_conn *conn = NUMAPERF_CONTAINER_OF(op, struct numaperf_conn, receive_op);
    bool more = op->more;
    int rc = op->result;
    struct numaperf__slice slice;
    bool has_buffer = numaperf__buffers_take(conn->net->buffers, op, &slice);
    if (!more) {
        conn->is_receiving = false;
        conn->is_stopping = false;
    }
    if (rc > 0) {
        NUMAPERF_ASSERT(has_buffer);
        numaperf__conn_received(conn, &slice);
    } else if (has_buffer) {
        numaperf__buffer_unref(slice.buffer);
    }
    /* A receive that ended with bytes has just ended: a kernel may do so at any time. */
    if (!more)
        numaperf__conn_receive_ended(conn, rc > 0 ? -EAGAIN : rc);
}

static void ring_receive(struct numaperf_conn *conn)
{
    struct numaperf__op *op = &conn->receive_op;
    op->kind = conn->net->receives_once ? NUMAPERF__OP_RECV : NUMAPERF__OP_RECV_MULTI;
    op->done = ring_received;
    op->group = numaperf__buffers_group(conn->net->buffers);
    op->length = 0; /* as much as a buffer holds */
    conn->is_receiving = ring_submit(conn, op);
}

static bool ring_cancel(struct numaperf_conn *conn, struct numaperf__op *op)
{
    if (!op->in_flight)
        return true;
    if (numaperf__ring_cancel(conn->net->ring, op) == 0)
        return true;
    numaperf__conn_look_again(conn);
    return false;
}

static void ring_stop_receive(struct numaperf_conn *conn)
{
    conn->is_stopping = ring_cancel(conn, &conn->receive_op);
}

/* ---- send ---- */

static void ring_count_sent(struct numaperf_conn *conn, const struct numaperf__op *op,
                            size_t wanted)
{
    if (op->result >= 0 && (size_t)op->result < wanted)
        numaperf__net_count(conn->net, NUMAPERF__NET_PARTIAL_SENDS, 1);
}

static void ring_sent(struct numaperf__op *op)
{
    struct numaperf_conn *conn = NUMAPERF_CONTAINER_OF(op, struct numaperf_conn, send_op);
    conn->is_sending = false;
    ring_count_sent(conn, op, conn->sending_bytes);
    numaperf__conn_sent(conn, op->result);
}

/* Its result, and with `more` a notification follows; or that. */
static void ring_zero_copy_sent(struct numaperf__op *op)
{
    struct numaperf__conn_zero_copy *send =
        NUMAPERF_CONTAINER_OF(op, struct numaperf__conn_zero_copy, op);
    struct numaperf_conn *conn = send->conn;
    struct numaperf__piece *piece = send->piece;
    bool is_result = !numaperf__ring_is_notification(op);
    bool more = op->more;
    int rc = op->result;
    if (!more)
        send->piece = NULL;
    if (is_result) {
        conn->is_sending = false;
        ring_count_sent(conn, op, conn->sending_bytes);
        if (rc < 0 && rc != -ECANCELED && rc != -EAGAIN) {
            /* Not for this socket, or no memory may be locked: by copies, then. A broken
             * connection says so again. */
            conn->zero_copy_bytes = UINT32_MAX;
            rc = 0;
        }
        numaperf__conn_sent(conn, rc);
    }
    if (!more)
        numaperf__conn_notified(conn, piece, !is_result && numaperf__ring_was_copied(op));
}

static struct numaperf__conn_zero_copy *ring_free_zero_copy(struct numaperf_conn *conn)
{
    for (size_t i = 0; i < NUMAPERF__CONN_ZERO_COPY_MAX; i++) {
        if (conn->zero_copy[i].piece == NULL && !conn->zero_copy[i].op.in_flight)
            return &conn->zero_copy[i];
    }
    return NULL;
}

static void ring_send_zero_copy(struct numaperf_conn *conn, struct numaperf__conn_zero_copy *send,
                                struct numaperf__piece *piece)
{
    NUMAPERF_ASSERT(send != NULL);
    struct numaperf__op *op = &send->op;
    op->kind = NUMAPERF__OP_SEND_ZC;
    op->done = ring_zero_copy_sent;
    op->buffer = conn->parts[0].iov_base;
    op->length = (uint32_t)conn->parts[0].iov_len;
    op->mask = conn->net->zero_copy_flags;
    op->flags = MSG_NOSIGNAL;
    conn->is_sending = ring_submit(conn, op);
    if (!conn->is_sending)
        return;
    send->conn = conn;
    send->piece = piece;
    numaperf__piece_pin(piece);
    conn->pinned_count++;
    numaperf__net_count(conn->net, NUMAPERF__NET_ZERO_COPY_SENDS, 1);
}

static void ring_send_copied(struct numaperf_conn *conn, uint32_t part_count)
{
    struct numaperf__op *op = &conn->send_op;
    op->done = ring_sent;
    op->flags = MSG_NOSIGNAL;
    if (part_count == 1) {
        op->kind = NUMAPERF__OP_SEND;
        op->buffer = conn->parts[0].iov_base;
        op->length = (uint32_t)conn->parts[0].iov_len;
    } else {
        op->kind = NUMAPERF__OP_SENDMSG;
        conn->message.msg_iov = conn->parts;
        conn->message.msg_iovlen = part_count;
        op->buffer = &conn->message;
    }
    conn->is_sending = ring_submit(conn, op);
}

static void ring_send(struct numaperf_conn *conn)
{
    struct numaperf__conn_zero_copy *zero_copy =
        conn->net->zero_copy_flags != UINT32_MAX ? ring_free_zero_copy(conn) : NULL;
    struct numaperf__output_front front;
    numaperf__output_front(&conn->output, zero_copy != NULL ? conn->zero_copy_bytes : UINT32_MAX,
                           conn->parts, NUMAPERF__CONN_PARTS_MAX, &front);
    conn->sending_bytes = front.length;
    if (front.zero_copy != NULL)
        ring_send_zero_copy(conn, zero_copy, front.zero_copy);
    else
        ring_send_copied(conn, front.part_count);
    if (conn->is_sending)
        numaperf__net_count(conn->net, NUMAPERF__NET_SENDS, 1);
}

/* ---- end ---- */

static void ring_shut_done(struct numaperf__op *op)
{
    numaperf__conn_shut(NUMAPERF_CONTAINER_OF(op, struct numaperf_conn, close_op), op->result);
}

static int ring_shut(struct numaperf_conn *conn)
{
    /* Where there is a descriptor the call is cheaper: a request would go through io-wq. */
    if (!conn->is_direct)
        return shutdown(conn->fd, SHUT_WR) == 0 ? 0 : -errno;
    struct numaperf__op *op = &conn->close_op;
    op->kind = NUMAPERF__OP_SHUTDOWN;
    op->done = ring_shut_done;
    op->flags = SHUT_WR;
    return ring_submit(conn, op) ? -EINPROGRESS : -EAGAIN;
}

static void ring_abort(struct numaperf_conn *conn)
{
    (void)ring_cancel(conn, &conn->receive_op); /* each is asked for again when it was not queued */
    (void)ring_cancel(conn, &conn->send_op);
    for (size_t i = 0; i < NUMAPERF__CONN_ZERO_COPY_MAX; i++) {
        /* One that waits for its notification alone cannot be hurried but by a reset. */
        if (conn->is_sending)
            (void)ring_cancel(conn, &conn->zero_copy[i].op);
    }
    if (conn->pinned_count > 0 && !conn->is_direct) {
        /* A peer that does not read would keep these pieces for as long as it likes. This resets
         * the connection and empties the socket's queue, which tells us at once. */
        static const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
        (void)connect(conn->fd, &nobody, sizeof(nobody)); /* else it takes longer */
    }
}

static void ring_closed(struct numaperf__op *op)
{
    numaperf__conn_gone(NUMAPERF_CONTAINER_OF(op, struct numaperf_conn, close_op));
}

static void ring_close(struct numaperf_conn *conn)
{
    if (!conn->is_direct) {
        (void)close(conn->fd); /* a socket's close says nothing that could be acted upon */
        numaperf__conn_gone(conn);
        return;
    }
    struct numaperf__op *op = &conn->close_op;
    op->kind = NUMAPERF__OP_CLOSE;
    op->done = ring_closed;
    (void)ring_submit(conn, op); /* else in the next turn */
}

const struct numaperf__conn_driver numaperf__conn_ring = {
    .backend = NUMAPERF_IO_URING,
    .open = ring_open,
    .receive = ring_receive,
    .stop_receive = ring_stop_receive,
    .send = ring_send,
    .shut = ring_shut,
    .give_up = ring_abort,
    .close = ring_close,
};
