/* SPDX-License-Identifier: MIT */
/*
 * Datagrams on a loop: UDP sockets, with the kernel's joining (GRO) and splitting (GSO) of them.
 * A socket belongs to one loop for all its life, as those of net.h do.
 */
#ifndef NUMAPERF_UDP_H
#define NUMAPERF_UDP_H

#include <numaperf/loop.h>
#include <numaperf/version.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

NUMAPERF_BEGIN_DECLS

typedef struct numaperf_udp numaperf_udp_t;

/* Bits of numaperf_udp_config_t.flags. */
enum {
    NUMAPERF_UDP_REUSE_PORT = 1u << 0, /* a socket a worker on the same port */
    NUMAPERF_UDP_GRO = 1u << 1,        /* let the kernel join datagrams of one sender, if it can */
    NUMAPERF_UDP_V6_ONLY = 1u << 2
};

typedef struct numaperf_datagram {
    const void *bytes;
    size_t length;
    size_t segment_bytes; /* several datagrams of this length, the last may be shorter; = length
                             when it is one */
    const struct sockaddr *from;
    uint32_t from_length;
    bool truncated; /* the rest of it was lost: it was longer than a buffer */
} numaperf_datagram_t;

typedef struct numaperf_udp_config {
    uint32_t size;       /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;      /* NUMAPERF_UDP_*; an unknown bit is -EINVAL */
    const char *address; /* to bind to, numeric; NULL: "::" for both families, else "0.0.0.0" */
    uint16_t port;       /* 0: the kernel chooses */
    uint16_t reserved;
    uint32_t output_limit_bytes; /* a send that would leave more waiting is -EAGAIN; 0: 4 MiB */
    /* Valid until it returns. An error of the socket, such as -ECONNREFUSED, comes with
       `datagram` NULL; reading goes on. */
    void (*on_datagram)(numaperf_udp_t *udp, const numaperf_datagram_t *datagram, int status,
                        void *data);
    void (*on_close)(numaperf_udp_t *udp, void *data); /* the last call */
    void *data;
} numaperf_udp_config_t;

#define NUMAPERF_UDP_CONFIG_INIT                              \
    {                                                         \
        sizeof(numaperf_udp_config_t), 0, 0, 0, 0, 0, 0, 0, 0 \
    }

/**
 * Open a UDP socket on a loop and receive.
 *
 * Returns:  0; -EINVAL; -E2BIG; -ENOMEM; -errno of socket or bind; -EBUSY; NUMAPERF_E_STOPPING.
 * Owner:    the loop, until on_close.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_udp_open(numaperf_loop_t *loop, const numaperf_udp_config_t *config,
                                   numaperf_udp_t **out);

/**
 * Send datagrams of `segment_bytes` each, the last may be shorter; 0: one datagram. Copied.
 *
 * Returns:  0; -EINVAL; -EMSGSIZE; -EAGAIN more than the limit would wait; -ENOMEM; -EPIPE closed.
 * Threads:  owner.
 * Source:   udp(7), UDP_SEGMENT; one by one where the kernel cannot.
 */
NUMAPERF_API int numaperf_udp_send(numaperf_udp_t *udp, const struct sockaddr *to,
                                   uint32_t to_length, const void *bytes, size_t length,
                                   size_t segment_bytes);

/**
 * Close; what waits to be sent is dropped. on_close comes later.
 *
 * Threads:  owner.
 */
NUMAPERF_API void numaperf_udp_close(numaperf_udp_t *udp);

/**
 * The port it is bound to.
 *
 * Returns:  the port; -EINVAL.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_udp_port(const numaperf_udp_t *udp);

NUMAPERF_END_DECLS
#endif
