/* SPDX-License-Identifier: MIT */
/*
 * A UDP socket: what its files share. udp.c is its life, udp_send.c its queue, udp_ring.c and
 * udp_epoll.c are how it receives and waits for room; udp_buffers.c is what it receives into.
 */
#ifndef NUMAPERF_NET_UDP_H
#define NUMAPERF_NET_UDP_H

#include "io/ring_message.h"
#include "net/net.h"

#include <netinet/in.h>
#include <stdalign.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* A slot: the kernel's header, address, control data, payload. */
#define NUMAPERF__UDP_NAME_BYTES 32u
#define NUMAPERF__UDP_CONTROL_BYTES 32u

/* Buffers of all UDP sockets of a loop: in use from a receive to the return of on_datagram. */
struct numaperf__udp_buffers {
    uint32_t user_count; /* sockets */
    uint32_t count;      /* a power of two */
    uint32_t slot_bytes; /* what the kernel gets: all of a slot that is not padding */
    uint32_t stride;
    uint32_t payload_bytes;
    uint32_t tail;     /* of the buffer ring */
    void *ring_memory; /* NULL without a ring */
    char *memory;
};

#define NUMAPERF__UDP_BUFFER_GROUP 2u /* id of the buffer ring; connections have 1 */

/* One more user of the net's; made for the first. 0 or -errno. */
int numaperf__udp_buffers_get(struct numaperf__net *net);
void numaperf__udp_buffers_put(struct numaperf__net *net);
char *numaperf__udp_slot(const struct numaperf__udp_buffers *buffers, uint32_t index);
/* A slot that the kernel filled is its again. */
void numaperf__udp_slot_return(struct numaperf__udp_buffers *buffers, uint32_t index);

union numaperf__udp_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* What one numaperf_udp_send() took. */
struct numaperf__udp_piece {
    struct numaperf__udp_piece *next;
    union numaperf__udp_address to;
    socklen_t to_length;
    uint32_t tries; /* failures of the datagram at `offset` */
    const char *bytes;
    size_t length;
    size_t offset;        /* before it all has been sent */
    size_t segment_bytes; /* at least 1, unless `length` is 0 */
    bool one_by_one;      /* the kernel does not cut these */
};

/* One send: `header` points into the rest. */
struct numaperf__udp_message {
    struct msghdr header;
    struct iovec part;
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(uint16_t))];
};

struct numaperf_udp {
    struct numaperf__net_member member; /* in the net's members until it is freed */
    struct numaperf__net *net;
    void (*on_datagram)(numaperf_udp_t *udp, const numaperf_datagram_t *datagram, int status,
                        void *data);
    void (*on_close)(numaperf_udp_t *udp, void *data);
    void *data;
    int fd;
    uint16_t port;
    bool is_v6;
    bool on_ring;       /* else by libuv */
    bool can_segment;   /* the kernel cuts what is sent */
    bool is_delivering; /* on epoll: sends are queued meanwhile, and go out together */
    bool is_flushing;   /* the queue is being sent: what is sent meanwhile joins it */
    bool is_closing;
    bool is_ending; /* the handles close: the last step */
    bool has_poll;
    bool has_received; /* on the ring: so a request of that kind works */
    bool took_buffers; /* the same: the present one */

    /* Output. */
    uint32_t output_limit_bytes;
    size_t queued_bytes; /* a short datagram counts for more than it has */
    struct numaperf__udp_piece *first, *last;
    struct numaperf__udp_message message; /* of send_op */
    size_t sending_bytes;                 /* the same */
    struct numaperf__op send_op;

    /* Input. */
    struct msghdr layout; /* of receive_op */
    struct numaperf__op receive_op;

    uv_timer_t timer; /* what found no room in the ring is tried again */
    uv_poll_t poll;
    int poll_events;       /* what it waits for */
    uint32_t handle_count; /* of these two, open */
};

/* ---- udp.c ---- */

/* A datagram, or several joined ones, for the user, who may close the socket. */
void numaperf__udp_deliver(struct numaperf_udp *udp, const struct numaperf__message *message);
/* An error for the user, who may close the socket. */
void numaperf__udp_tell(struct numaperf_udp *udp, int status);
/* Errors that the network answered with: told, some at once. How many there were. */
uint32_t numaperf__udp_take_errors(struct numaperf_udp *udp);
/* A receive failed: whether because of such an answer; else the error itself was told. */
bool numaperf__udp_receive_failed(struct numaperf_udp *udp, int rc);
/* Try later what the kernel had no room for. */
void numaperf__udp_retry_later(struct numaperf_udp *udp);
/* The same when libuv has its turn, after what has been submitted until then. */
void numaperf__udp_retry_soon(struct numaperf_udp *udp);
/* Closing: go on with it, something may have ended. */
void numaperf__udp_close_step(struct numaperf_udp *udp);

/* ---- udp_send.c ---- */

/* The message at the piece's offset; its length. */
size_t numaperf__udp_message_fill(const struct numaperf_udp *udp,
                                  const struct numaperf__udp_piece *piece, size_t offset,
                                  struct numaperf__udp_message *out);
/* The first message of the queue, of `length`, was sent. */
void numaperf__udp_sent(struct numaperf_udp *udp, size_t length);
/* It was not: have it tried again, or drop it and tell. The user may close the socket. */
void numaperf__udp_send_failed(struct numaperf_udp *udp, int rc);
/* Send from the queue, bounded. True: there is no room in the socket now. */
bool numaperf__udp_flush(struct numaperf_udp *udp);
void numaperf__udp_drop_all(struct numaperf_udp *udp);

/* ---- udp_ring.c, udp_epoll.c ---- */

/* Receive, unless it does already. */
void numaperf__udp_ring_receive(struct numaperf_udp *udp);
/* Have the queue sent, unless it is being already. */
void numaperf__udp_ring_send(struct numaperf_udp *udp);
/* Whether a request is under way; then it has been told to end. */
bool numaperf__udp_ring_cancel(struct numaperf_udp *udp);

/* 0 or -errno. */
int numaperf__udp_poll_open(struct numaperf_udp *udp);
/* Wait for what is wanted now. */
void numaperf__udp_poll_update(struct numaperf_udp *udp);

#endif
