/* SPDX-License-Identifier: MIT */
/*
 * What UDP sockets send: a queue of pieces, each one datagram or several of one length for one
 * receiver. The kernel cuts several where it can (UDP_SEGMENT), else they go one by one; whether
 * it can is found by doing, piece by piece, since it depends on the way they take. Many messages go
 * in one call. Order is kept: the first that finds no room stops those behind it.
 *
 * Thread rule: the loop's thread.
 *
 * Source: udp(7), UDP_SEGMENT; sendmmsg(2); ip(7), IP_RECVERR.
 */
#include "net/udp.h"

#include "base/assert.h"
#include "base/error.h"
#include "net/address.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>

#define UDP_SEND_BATCH 32u       /* messages of one call */
#define UDP_SEND_CALLS 8u        /* calls at once, so that the loop gets to others */
#define UDP_SEGMENTS_MAX 64u     /* of one message: UDP_MAX_SEGMENTS of kernels before 6.9 */
#define UDP_SEGMENTED_MAX 65000u /* bytes of one message, headers left aside */
#define UDP_TRIES_MAX 3u
#define UDP_PIECE_COST_MIN                                                                        \
    64u                         /* what a short datagram counts as, so that many are bounded, too \
                                 */
#define UDP_V4_BYTES_MAX 65507u /* an IP packet less its headers */
#define UDP_V6_BYTES_MAX 65527u

/* ---- messages ---- */

static void message_set_segment(struct numaperf__udp_message *message, size_t segment_bytes)
{
    memset(message->control, 0, sizeof(message->control));
    message->header.msg_control = message->control;
    message->header.msg_controllen = sizeof(message->control);
    struct cmsghdr *control = CMSG_FIRSTHDR(&message->header);
    control->cmsg_level = SOL_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    uint16_t value = (uint16_t)segment_bytes;
    memcpy(CMSG_DATA(control), &value, sizeof(value));
}

/* How many bytes a message takes when the kernel is to cut it. */
static size_t message_segmented_length(const struct numaperf__udp_piece *piece, size_t left)
{
    size_t most = UDP_SEGMENTED_MAX / piece->segment_bytes;
    if (most > UDP_SEGMENTS_MAX)
        most = UDP_SEGMENTS_MAX;
    most *= piece->segment_bytes;
    return left < most ? left : most;
}

size_t numaperf__udp_message_fill(const struct numaperf_udp *udp,
                                  const struct numaperf__udp_piece *piece, size_t offset,
                                  struct numaperf__udp_message *out)
{
    NUMAPERF_ASSERT(offset <= piece->length);
    size_t left = piece->length - offset;
    size_t length = left < piece->segment_bytes ? left : piece->segment_bytes;
    memset(&out->header, 0, sizeof(out->header));
    out->header.msg_name = (void *)&piece->to;
    out->header.msg_namelen = piece->to_length;
    if (left > piece->segment_bytes && udp->can_segment && !piece->one_by_one &&
        2 * piece->segment_bytes <= UDP_SEGMENTED_MAX) {
        length = message_segmented_length(piece, left);
        message_set_segment(out, piece->segment_bytes);
    }
    out->part = (struct iovec){.iov_base = (void *)(piece->bytes + offset), .iov_len = length};
    out->header.msg_iov = &out->part;
    out->header.msg_iovlen = 1;
    return length;
}

/* ---- queue ---- */

/* What a piece that has not been sent counts as. */
static size_t udp_cost(size_t length)
{
    return length > UDP_PIECE_COST_MIN ? length : UDP_PIECE_COST_MIN;
}

static void udp_pop(struct numaperf_udp *udp)
{
    struct numaperf__udp_piece *piece = udp->first;
    NUMAPERF_ASSERT(udp->queued_bytes >= udp_cost(piece->length));
    udp->queued_bytes -= udp_cost(piece->length);
    udp->first = piece->next;
    if (udp->first == NULL)
        udp->last = NULL;
    numaperf_arena_free(udp->net->arena, piece);
}

/* The first message leaves the queue, sent or not. */
static void udp_advance(struct numaperf_udp *udp, size_t length)
{
    struct numaperf__udp_piece *piece = udp->first;
    NUMAPERF_ASSERT(piece != NULL && length <= piece->length - piece->offset);
    piece->offset += length;
    piece->tries = 0;
    if (piece->offset == piece->length)
        udp_pop(udp);
}

void numaperf__udp_drop_all(struct numaperf_udp *udp)
{
    while (udp->first != NULL)
        udp_pop(udp);
    NUMAPERF_ASSERT(udp->queued_bytes == 0);
}

static void udp_count_sent(struct numaperf_udp *udp, const struct numaperf__udp_piece *piece,
                           size_t length)
{
    uint64_t datagrams =
        length > piece->segment_bytes ? (length - 1) / piece->segment_bytes + 1 : 1;
    numaperf__net_count(udp->net, NUMAPERF__NET_DATAGRAMS_SENT, datagrams);
    numaperf__net_count(udp->net, NUMAPERF__NET_BYTES_SENT, length);
}

void numaperf__udp_sent(struct numaperf_udp *udp, size_t length)
{
    udp_count_sent(udp, udp->first, length);
    udp_advance(udp, length);
}

void numaperf__udp_send_failed(struct numaperf_udp *udp, int rc)
{
    struct numaperf__udp_piece *piece = udp->first;
    NUMAPERF_ASSERT(piece != NULL && rc < 0);
    struct numaperf__udp_message message;
    size_t length = numaperf__udp_message_fill(udp, piece, piece->offset, &message);
    if (length > piece->segment_bytes && (rc == -EINVAL || rc == -EIO || rc == -EMSGSIZE)) {
        /* A segment is longer than the way there takes, or the device cannot: whole datagrams are
         * cut by IP. */
        piece->one_by_one = true;
        if (rc == -EIO)
            udp->can_segment = false;
        return;
    }
    piece->tries++;
    bool is_answer = numaperf__udp_take_errors(udp) > 0;
    /* The answer to an earlier datagram was told here; this one has not been sent. */
    if (udp->is_closing || (is_answer && piece->tries < UDP_TRIES_MAX))
        return;
    udp_advance(udp, length);
    numaperf__udp_tell(udp, rc);
}

/* ---- sending ---- */

struct udp_batch {
    uint32_t count;
    size_t lengths[UDP_SEND_BATCH];
    struct numaperf__udp_message messages[UDP_SEND_BATCH];
    struct mmsghdr headers[UDP_SEND_BATCH];
};

static void batch_fill(struct udp_batch *batch, const struct numaperf_udp *udp)
{
    batch->count = 0;
    const struct numaperf__udp_piece *piece = udp->first;
    size_t offset = piece->offset;
    while (piece != NULL && batch->count < UDP_SEND_BATCH) {
        struct numaperf__udp_message *message = &batch->messages[batch->count];
        size_t length = numaperf__udp_message_fill(udp, piece, offset, message);
        batch->lengths[batch->count] = length;
        batch->headers[batch->count] = (struct mmsghdr){.msg_hdr = message->header};
        batch->count++;
        offset += length;
        if (offset == piece->length) {
            piece = piece->next;
            offset = piece != NULL ? piece->offset : 0;
        }
    }
}

bool numaperf__udp_flush(struct numaperf_udp *udp)
{
    struct udp_batch batch;
    bool is_full = false;
    udp->is_flushing = true;
    for (uint32_t calls = 0; !is_full && calls < UDP_SEND_CALLS && udp->first != NULL; calls++) {
        batch_fill(&batch, udp);
        int sent = sendmmsg(udp->fd, batch.headers, batch.count, MSG_DONTWAIT | MSG_NOSIGNAL);
        int rc = sent < 0 ? -errno : 0;
        numaperf__net_count(udp->net, NUMAPERF__NET_SENDS, 1);
        for (int i = 0; i < sent; i++)
            numaperf__udp_sent(udp, batch.lengths[i]);
        is_full = rc == -EAGAIN;
        if (rc < 0 && rc != -EAGAIN && rc != -EINTR)
            numaperf__udp_send_failed(udp, rc);
        if (udp->is_closing)
            break;
    }
    udp->is_flushing = false;
    return is_full;
}

/* Straight to the kernel, when nothing waits: a datagram that it does not take is queued, and what
 * it was refused for is found out by those who may tell it. */
static bool udp_send_now(struct numaperf_udp *udp, const struct numaperf__udp_piece *piece)
{
    struct numaperf__udp_message message;
    size_t length = numaperf__udp_message_fill(udp, piece, 0, &message);
    if (length < piece->length)
        return false;
    ssize_t sent = sendmsg(udp->fd, &message.header, MSG_DONTWAIT | MSG_NOSIGNAL);
    numaperf__net_count(udp->net, NUMAPERF__NET_SENDS, 1);
    if (sent < 0)
        return false;
    udp_count_sent(udp, piece, length);
    return true;
}

static int udp_push(struct numaperf_udp *udp, const struct numaperf__udp_piece *made)
{
    struct numaperf__udp_piece *piece =
        numaperf_arena_alloc(udp->net->arena, sizeof(*piece) + made->length, 0);
    if (piece == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "udp send", "no memory in the loop's arena");
    *piece = *made;
    char *bytes = (char *)(piece + 1);
    if (made->length > 0)
        memcpy(bytes, made->bytes, made->length);
    piece->bytes = bytes;
    if (udp->last != NULL)
        udp->last->next = piece;
    else
        udp->first = piece;
    udp->last = piece;
    udp->queued_bytes += udp_cost(made->length);
    return 0;
}

static int udp_check_to(const struct numaperf_udp *udp, const struct sockaddr *to,
                        uint32_t to_length)
{
    if (to == NULL || to_length < sizeof(sa_family_t))
        return numaperf__fail(-EINVAL, 0, "udp send", "to must be an address");
    bool is_v4 = to->sa_family == AF_INET && to_length >= sizeof(struct sockaddr_in);
    bool is_v6 = to->sa_family == AF_INET6 && to_length >= sizeof(struct sockaddr_in6);
    if (!is_v4 && !(is_v6 && udp->is_v6))
        return numaperf__fail(-EINVAL, 0, "udp send",
                              "to has family %d and %u bytes, which is no address for this socket",
                              (int)to->sa_family, to_length);
    if (numaperf__address_port(to) == 0)
        return numaperf__fail(-EINVAL, 0, "udp send", "the port of to is 0");
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): an address and bytes are two parameters each */
int numaperf_udp_send(numaperf_udp_t *udp, const struct sockaddr *to, uint32_t to_length,
                      const void *bytes, size_t length, size_t segment_bytes)
{
    if (udp == NULL || (bytes == NULL && length > 0))
        return numaperf__fail(-EINVAL, 0, "udp send", "udp and bytes must not be NULL");
    if (udp->is_closing)
        return numaperf__fail(-EPIPE, EPIPE, "udp send", "the socket is closed");
    int rc = udp_check_to(udp, to, to_length);
    if (rc < 0)
        return rc;
    struct numaperf__udp_piece piece = {
        .bytes = bytes != NULL ? bytes : "",
        .length = length,
        .segment_bytes = segment_bytes != 0 && segment_bytes < length ? segment_bytes : length};
    piece.to_length = to->sa_family == AF_INET ? sizeof(piece.to.v4) : sizeof(piece.to.v6);
    memcpy(&piece.to, to, piece.to_length);
    size_t most = to->sa_family == AF_INET ? UDP_V4_BYTES_MAX : UDP_V6_BYTES_MAX;
    if (piece.segment_bytes > most)
        return numaperf__fail(-EMSGSIZE, 0, "udp send",
                              "a datagram of %zu bytes: the longest has %zu", piece.segment_bytes,
                              most);
    if (udp->queued_bytes + udp_cost(length) > udp->output_limit_bytes)
        return -EAGAIN;

    if (!udp->on_ring && udp->first == NULL && !udp->is_flushing && !udp->is_delivering &&
        udp_send_now(udp, &piece))
        return 0;
    rc = udp_push(udp, &piece);
    if (rc < 0)
        return rc;
    if (udp->is_flushing || udp->is_delivering)
        return 0; /* who does that looks at the queue afterwards */
    if (udp->on_ring)
        numaperf__udp_ring_send(udp);
    else
        numaperf__udp_poll_update(udp);
    return 0;
}
