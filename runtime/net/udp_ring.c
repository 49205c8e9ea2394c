/* SPDX-License-Identifier: MIT */
/*
 * A UDP socket on the ring: one multishot receive into shared buffers, and at most one send in
 * flight, of the queue's first message, which rides the loop's next submission and waits for room
 * in the socket by itself. What has been queued behind it meanwhile goes out in one call.
 *
 * Thread rule: the loop's thread.
 *
 * Source: io_uring_prep_recvmsg_multishot(3).
 */
#include "net/udp.h"

#include "base/assert.h"

#include <errno.h>

/* ---- receive ---- */

/* What a CQE brought, when it brought something. The slot is the kernel's again afterwards. */
static void ring_take(struct numaperf_udp *udp, const struct numaperf__op *op)
{
    uint16_t index = 0;
    bool more_of_it = false;
    if (!numaperf__ring_buffer_of(op, &index, &more_of_it))
        return;
    NUMAPERF_ASSERT(!more_of_it);
    struct numaperf__udp_buffers *buffers = udp->net->udp_buffers;
    struct numaperf__message message;
    if (op->result >= 0 && !udp->is_closing) {
        NUMAPERF_ASSERT((uint32_t)op->result <= buffers->slot_bytes);
        bool is_message = numaperf__ring_message_parse(numaperf__udp_slot(buffers, index),
                                                       (size_t)op->result, &udp->layout, &message);
        NUMAPERF_ASSERT(is_message);
        udp->has_received = true;
        udp->took_buffers = true;
        numaperf__udp_deliver(udp, &message);
    }
    numaperf__udp_slot_return(buffers, index);
}

/* A kernel before 6.0: libuv waits for it. */
static void ring_give_up(struct numaperf_udp *udp)
{
    udp->on_ring = false;
    int rc = numaperf__udp_poll_open(udp);
    if (rc == 0)
        return;
    udp->on_ring = true;
    numaperf__udp_tell(udp, rc);
    if (!udp->is_closing)
        numaperf__udp_retry_later(udp);
}

/* The request is over for a reason that was not told yet. */
static void ring_receive_ended(struct numaperf_udp *udp, int rc)
{
    switch (rc) {
    case -ENOBUFS:
        numaperf__net_count(udp->net, NUMAPERF__NET_BUFFERS_EXHAUSTED, 1);
        if (udp->took_buffers && udp->net->udp_buffers->user_count > 1) {
            /* Others may have found none for this one's sake: they ask first. */
            numaperf__udp_retry_soon(udp);
            return;
        }
        /* The buffers come back in this very turn: there is one when the request is. */
        break;
    case -ECANCELED:
    case -EAGAIN:
    case -EINTR:
        break;
    case -EINVAL:
        if (!udp->has_received && !udp->send_op.in_flight) {
            ring_give_up(udp);
            return;
        }
        numaperf__udp_retry_later(udp);
        return;
    default:
        if (rc >= 0 || numaperf__udp_receive_failed(udp, rc))
            break;
        /* An error that may last: not again at once. */
        if (!udp->is_closing)
            numaperf__udp_retry_later(udp);
        return;
    }
    numaperf__udp_ring_receive(udp);
}

static void ring_received(struct numaperf__op *op)
{
    struct numaperf_udp *udp = NUMAPERF_CONTAINER_OF(op, struct numaperf_udp, receive_op);
    /* Before anything is told: the user may close the socket, whose last request this may be. */
    bool more = op->more;
    int rc = op->result;
    ring_take(udp, op);
    if (more)
        return;
    if (!udp->is_closing)
        ring_receive_ended(udp, rc);
    if (udp->is_closing)
        numaperf__udp_close_step(udp);
}

void numaperf__udp_ring_receive(struct numaperf_udp *udp)
{
    if (udp->receive_op.in_flight || udp->is_closing)
        return;
    udp->took_buffers = false;
    udp->receive_op = (struct numaperf__op){.kind = NUMAPERF__OP_RECVMSG_MULTI,
                                            .done = ring_received,
                                            .fd = udp->fd,
                                            .buffer = &udp->layout,
                                            .group = NUMAPERF__UDP_BUFFER_GROUP};
    if (numaperf__loop_submit(udp->net->loop, &udp->receive_op) < 0)
        numaperf__udp_retry_later(udp);
}

/* ---- send ---- */

static void ring_sent(struct numaperf__op *op)
{
    struct numaperf_udp *udp = NUMAPERF_CONTAINER_OF(op, struct numaperf_udp, send_op);
    if (op->result >= 0)
        numaperf__udp_sent(udp, udp->sending_bytes);
    if (udp->is_closing) {
        numaperf__udp_close_step(udp);
        return;
    }
    udp->is_flushing = true;
    if (op->result < 0 && op->result != -EAGAIN && op->result != -EINTR)
        numaperf__udp_send_failed(udp, op->result);
    if (!udp->is_closing)
        (void)numaperf__udp_flush(udp); /* what is left is asked below */
    udp->is_flushing = false;
    numaperf__udp_ring_send(udp);
}

void numaperf__udp_ring_send(struct numaperf_udp *udp)
{
    if (udp->first == NULL || udp->send_op.in_flight || udp->is_closing)
        return;
    udp->sending_bytes =
        numaperf__udp_message_fill(udp, udp->first, udp->first->offset, &udp->message);
    udp->send_op = (struct numaperf__op){.kind = NUMAPERF__OP_SENDMSG,
                                         .done = ring_sent,
                                         .fd = udp->fd,
                                         .buffer = &udp->message.header,
                                         .flags = MSG_NOSIGNAL};
    if (numaperf__loop_submit(udp->net->loop, &udp->send_op) < 0) {
        numaperf__udp_retry_later(udp);
        return;
    }
    numaperf__net_count(udp->net, NUMAPERF__NET_SENDS, 1);
}

/* ---- end ---- */

bool numaperf__udp_ring_cancel(struct numaperf_udp *udp)
{
    struct numaperf__op *ops[2] = {&udp->receive_op, &udp->send_op};
    bool is_busy = false;
    for (size_t i = 0; i < 2; i++) {
        if (!ops[i]->in_flight)
            continue;
        is_busy = true;
        /* One that the ring has no room for is asked again by the timer. */
        (void)numaperf__ring_cancel(udp->net->ring, ops[i]);
    }
    return is_busy;
}
