/* SPDX-License-Identifier: MIT */
/*
 * A UDP socket by libuv: when it is readable several datagrams are taken in one call, a bounded
 * number of times, so that a flood leaves the loop to others; what callbacks send meanwhile goes
 * out together afterwards. libuv says at the next turn that it is still readable.
 *
 * Thread rule: the loop's thread.
 *
 * Source: recvmmsg(2); libuv, "uv_poll_start": an error ends the poll, which is started again.
 */
#include "net/udp.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>

#define UDP_RECEIVE_BATCH 16u
#define UDP_RECEIVE_CALLS 4u

struct udp_receive {
    uint32_t count;
    struct iovec parts[UDP_RECEIVE_BATCH];
    struct mmsghdr headers[UDP_RECEIVE_BATCH];
};

static void receive_fill(struct udp_receive *receive, const struct numaperf__udp_buffers *buffers)
{
    receive->count = buffers->count < UDP_RECEIVE_BATCH ? buffers->count : UDP_RECEIVE_BATCH;
    for (uint32_t i = 0; i < receive->count; i++) {
        char *name = numaperf__udp_slot(buffers, i) + NUMAPERF__RING_MESSAGE_HEADER;
        char *control = name + NUMAPERF__UDP_NAME_BYTES;
        receive->parts[i] = (struct iovec){.iov_base = control + NUMAPERF__UDP_CONTROL_BYTES,
                                           .iov_len = buffers->payload_bytes};
        receive->headers[i] = (struct mmsghdr){
            .msg_hdr = {.msg_name = name,
                        .msg_namelen = NUMAPERF__UDP_NAME_BYTES,
                        .msg_control = control,
                        .msg_controllen = NUMAPERF__UDP_CONTROL_BYTES,
                        .msg_iov = &receive->parts[i],
                        .msg_iovlen = 1},
        };
    }
}

static uint32_t poll_least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void poll_deliver(struct numaperf_udp *udp, const struct udp_receive *receive, uint32_t i)
{
    const struct msghdr *header = &receive->headers[i].msg_hdr;
    const struct numaperf__message message = {
        .bytes = receive->parts[i].iov_base,
        .length = poll_least(receive->headers[i].msg_len, (uint32_t)receive->parts[i].iov_len),
        .from = header->msg_name,
        .from_length = poll_least(header->msg_namelen, NUMAPERF__UDP_NAME_BYTES),
        .control = header->msg_control,
        .control_length = header->msg_controllen,
        .truncated = (header->msg_flags & MSG_TRUNC) != 0,
    };
    numaperf__udp_deliver(udp, &message);
}

static void poll_receive(struct numaperf_udp *udp)
{
    struct udp_receive receive;
    for (uint32_t calls = 0; calls < UDP_RECEIVE_CALLS; calls++) {
        receive_fill(&receive, udp->net->udp_buffers);
        int count = recvmmsg(udp->fd, receive.headers, receive.count, MSG_DONTWAIT, NULL);
        if (count < 0) {
            /* What it is was told; if it lasts, the next turn asks again. */
            if (errno != EAGAIN && errno != EINTR)
                (void)numaperf__udp_receive_failed(udp, -errno);
            return;
        }
        for (uint32_t i = 0; i < (uint32_t)count && !udp->is_closing; i++)
            poll_deliver(udp, &receive, i);
        if (udp->is_closing || (uint32_t)count < receive.count)
            return;
    }
}

static void poll_ready(uv_poll_t *poll, int status, int events)
{
    struct numaperf_udp *udp = NUMAPERF_CONTAINER_OF(poll, struct numaperf_udp, poll);
    udp->is_delivering = true;
    if (status < 0) {
        udp->poll_events = 0;                 /* libuv has stopped it */
        (void)numaperf__udp_take_errors(udp); /* none: a receive says what it was */
        events = UV_READABLE | UV_WRITABLE;
    }
    if ((events & UV_READABLE) != 0 && !udp->is_closing)
        poll_receive(udp);
    udp->is_delivering = false;
    if (udp->is_closing)
        return;
    if (udp->first != NULL)
        (void)numaperf__udp_flush(udp); /* the poll says when there is room for the rest */
    if (!udp->is_closing)
        numaperf__udp_poll_update(udp);
}

void numaperf__udp_poll_update(struct numaperf_udp *udp)
{
    int events = UV_READABLE | (udp->first != NULL ? UV_WRITABLE : 0);
    if (events == udp->poll_events)
        return;
    int rc = uv_poll_start(&udp->poll, events, poll_ready);
    NUMAPERF_ASSERT(rc == 0);
    udp->poll_events = events;
}

int numaperf__udp_poll_open(struct numaperf_udp *udp)
{
    int rc = uv_poll_init(numaperf_loop_uv(udp->net->loop), &udp->poll, udp->fd);
    if (rc < 0)
        return rc;
    numaperf__loop_mark((uv_handle_t *)&udp->poll);
    udp->has_poll = true;
    udp->handle_count++;
    udp->net->handle_count++;
    numaperf__udp_poll_update(udp);
    return 0;
}
