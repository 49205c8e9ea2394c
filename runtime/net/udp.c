/* SPDX-License-Identifier: MIT */
/*
 * UDP sockets: made, told of, closed. Errors that the network answers with are asked for
 * (IP_RECVERR): without a connection the kernel would keep them to itself.
 *
 *   open --> closing: requests of the ring end --> ending: libuv's handles close --> freed
 *
 * Invariants: on_close is called when nothing of the socket is the kernel's or libuv's any more,
 * and is the last call; whoever calls the user looks at is_closing afterwards.
 *
 * Thread rule: the loop's thread.
 *
 * Source: udp(7); ip(7) and ipv6(7), IP_RECVERR; cmsg(3).
 */
#include "net/udp.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "net/address.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/udp.h>
#include <stdalign.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define UDP_CONFIG_MIN_SIZE 48u
#define UDP_OUTPUT_LIMIT_BYTES (4u << 20)
#define UDP_RETRY_MS 1u
#define UDP_ERRORS_MAX 32u /* told at once */
#define UDP_FLAGS_KNOWN \
    ((uint32_t)(NUMAPERF_UDP_REUSE_PORT | NUMAPERF_UDP_GRO | NUMAPERF_UDP_V6_ONLY))

_Static_assert(sizeof(numaperf_udp_config_t) == UDP_CONFIG_MIN_SIZE, "public struct: append only");
_Static_assert(offsetof(numaperf_udp_config_t, address) == 8, "public struct: append only");
_Static_assert(offsetof(numaperf_udp_config_t, output_limit_bytes) == 20,
               "public struct: append only");
_Static_assert(offsetof(numaperf_udp_config_t, on_datagram) == 24, "public struct: append only");
_Static_assert(sizeof(union numaperf__udp_address) <= NUMAPERF__UDP_NAME_BYTES,
               "a slot has room for every address");
_Static_assert(CMSG_SPACE(sizeof(int)) <= NUMAPERF__UDP_CONTROL_BYTES,
               "a slot has room for the length of segments");

/* ---- telling ---- */

/* Of the control data that came with a datagram; 0: it is one. */
static size_t udp_segment_bytes(const struct numaperf__message *message)
{
    struct msghdr header = {.msg_control = (void *)message->control,
                            .msg_controllen = message->control_length};
    for (struct cmsghdr *control = CMSG_FIRSTHDR(&header); control != NULL;
         control = CMSG_NXTHDR(&header, control)) {
        if (control->cmsg_level != SOL_UDP || control->cmsg_type != UDP_GRO ||
            control->cmsg_len < CMSG_LEN(sizeof(int)))
            continue;
        int value = 0;
        memcpy(&value, CMSG_DATA(control), sizeof(value));
        return value > 0 ? (size_t)value : 0;
    }
    return 0;
}

void numaperf__udp_deliver(struct numaperf_udp *udp, const struct numaperf__message *message)
{
    size_t segment_bytes = udp_segment_bytes(message);
    if (segment_bytes == 0 || segment_bytes > message->length)
        segment_bytes = message->length;
    const numaperf_datagram_t datagram = {.bytes = message->bytes,
                                          .length = message->length,
                                          .segment_bytes = segment_bytes,
                                          .from = message->from,
                                          .from_length = message->from_length,
                                          .truncated = message->truncated};
    uint64_t count =
        message->length > segment_bytes ? (message->length - 1) / segment_bytes + 1 : 1;
    numaperf__net_count(udp->net, NUMAPERF__NET_DATAGRAMS_RECEIVED, count);
    numaperf__net_count(udp->net, NUMAPERF__NET_BYTES_RECEIVED, message->length);
    udp->on_datagram(udp, &datagram, 0, udp->data);
}

void numaperf__udp_tell(struct numaperf_udp *udp, int status)
{
    NUMAPERF_ASSERT(status < 0 && !udp->is_closing);
    udp->on_datagram(udp, NULL, status, udp->data);
}

/* The errno of an entry of the error queue; 0: it is about something else. */
static int udp_queued_error(struct msghdr *header)
{
    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control != NULL;
         control = CMSG_NXTHDR(header, control)) {
        bool is_error = (control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_RECVERR) ||
                        (control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_RECVERR);
        if (!is_error || control->cmsg_len < CMSG_LEN(sizeof(struct sock_extended_err)))
            continue;
        struct sock_extended_err error;
        memcpy(&error, CMSG_DATA(control), sizeof(error));
        return error.ee_errno <= INT32_MAX ? (int)error.ee_errno : 0;
    }
    return 0;
}

uint32_t numaperf__udp_take_errors(struct numaperf_udp *udp)
{
    uint32_t count = 0;
    /* Those that are left set the socket's error again, which brings us back. */
    while (count < UDP_ERRORS_MAX && !udp->is_closing) {
        alignas(struct cmsghdr) char control[256];
        struct msghdr header = {.msg_control = control, .msg_controllen = sizeof(control)};
        if (recvmsg(udp->fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            break;
        count++;
        int error = udp_queued_error(&header);
        if (error != 0)
            numaperf__udp_tell(udp, -error);
    }
    return count;
}

bool numaperf__udp_receive_failed(struct numaperf_udp *udp, int rc)
{
    if (numaperf__udp_take_errors(udp) > 0)
        return true;
    numaperf__udp_tell(udp, rc);
    return false;
}

/* ---- closing ---- */

static void udp_handle_closed(struct numaperf_udp *udp)
{
    struct numaperf__net *net = udp->net;
    NUMAPERF_ASSERT(udp->handle_count > 0 && net->handle_count > 0);
    net->handle_count--;
    if (--udp->handle_count > 0)
        return;
    numaperf__udp_drop_all(udp);
    numaperf__udp_buffers_put(net);
    if (udp->on_close != NULL)
        udp->on_close(udp, udp->data);
    numaperf__list_remove(&udp->member.link);
    numaperf_arena_free(net->arena, udp);
}

static void udp_timer_closed(uv_handle_t *handle)
{
    udp_handle_closed(NUMAPERF_CONTAINER_OF(handle, struct numaperf_udp, timer));
}

static void udp_poll_closed(uv_handle_t *handle)
{
    udp_handle_closed(NUMAPERF_CONTAINER_OF(handle, struct numaperf_udp, poll));
}

void numaperf__udp_close_step(struct numaperf_udp *udp)
{
    NUMAPERF_ASSERT(udp->is_closing);
    if (udp->is_ending)
        return;
    if (numaperf__udp_ring_cancel(udp)) {
        numaperf__udp_retry_later(udp);
        return;
    }
    udp->is_ending = true;
    uv_close((uv_handle_t *)&udp->timer, udp_timer_closed);
    if (udp->has_poll)
        uv_close((uv_handle_t *)&udp->poll, udp_poll_closed);
    (void)close(udp->fd); /* libuv has let go of it in uv_close(); datagrams need no goodbye */
    udp->fd = -1;
}

void numaperf_udp_close(numaperf_udp_t *udp)
{
    if (udp == NULL || udp->is_closing)
        return;
    udp->is_closing = true;
    numaperf__udp_close_step(udp);
}

static void udp_member_close(struct numaperf__net_member *member)
{
    numaperf_udp_close(NUMAPERF_CONTAINER_OF(member, struct numaperf_udp, member));
}

/* ---- trying again ---- */

static void udp_timer_fired(uv_timer_t *timer)
{
    struct numaperf_udp *udp = NUMAPERF_CONTAINER_OF(timer, struct numaperf_udp, timer);
    if (udp->is_closing) {
        numaperf__udp_close_step(udp);
    } else if (udp->on_ring) {
        numaperf__udp_ring_receive(udp);
        numaperf__udp_ring_send(udp);
    }
}

static void udp_retry_in(struct numaperf_udp *udp, uint64_t ms)
{
    int rc = uv_timer_start(&udp->timer, udp_timer_fired, ms, 0);
    NUMAPERF_ASSERT(rc == 0);
}

void numaperf__udp_retry_later(struct numaperf_udp *udp)
{
    udp_retry_in(udp, UDP_RETRY_MS);
}

void numaperf__udp_retry_soon(struct numaperf_udp *udp)
{
    udp_retry_in(udp, 0);
}

/* ---- opening ---- */

static int udp_set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static int udp_set_options(int fd, int family, uint32_t flags)
{
    int rc = 0;
    if ((flags & NUMAPERF_UDP_REUSE_PORT) != 0)
        rc = udp_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0 && family == AF_INET6)
        rc = udp_set(fd, IPPROTO_IPV6, IPV6_V6ONLY, (flags & NUMAPERF_UDP_V6_ONLY) != 0);
    if (rc < 0)
        return rc;
    /* Where the kernel has them; without the first, errors of the network are not told, without
     * the last every datagram comes by itself. */
    (void)udp_set(fd, IPPROTO_IP, IP_RECVERR, 1);
    if (family == AF_INET6)
        (void)udp_set(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    if ((flags & NUMAPERF_UDP_GRO) != 0)
        (void)udp_set(fd, SOL_UDP, UDP_GRO, 1);
    return 0;
}

/* A bound socket; -errno. */
static int udp_bind(const struct sockaddr_storage *address, socklen_t length, uint32_t flags,
                    int *out_fd)
{
    int fd = socket(address->ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int rc = udp_set_options(fd, address->ss_family, flags);
    if (rc == 0 && bind(fd, (const struct sockaddr *)address, length) < 0)
        rc = -errno;
    if (rc < 0) {
        (void)close(fd); /* nothing was sent */
        return rc;
    }
    *out_fd = fd;
    return 0;
}

/* The socket of a config, and where it is bound to. */
static int udp_socket(const numaperf_udp_config_t *cfg, union numaperf__udp_address *out,
                      int *out_fd)
{
    struct sockaddr_storage address;
    socklen_t length = 0;
    int rc = 0;
    if (cfg->address != NULL) {
        rc = numaperf__address_parse(cfg->address, cfg->port, &address, &length);
        if (rc < 0)
            return numaperf__fail(rc, 0, "udp", "address is not a numeric one");
        rc = udp_bind(&address, length, cfg->flags, out_fd);
    } else {
        numaperf__address_any(AF_INET6, cfg->port, &address, &length);
        rc = udp_bind(&address, length, cfg->flags, out_fd);
        if (rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) {
            numaperf__address_any(AF_INET, cfg->port, &address, &length);
            rc = udp_bind(&address, length, cfg->flags, out_fd);
        }
    }
    if (rc < 0)
        return numaperf__fail(rc, -rc, "udp", "no socket on port %u: %s", (unsigned)cfg->port,
                              numaperf_strerror(rc));
    length = sizeof(*out);
    rc = getsockname(*out_fd, &out->any, &length);
    NUMAPERF_ASSERT(rc == 0);
    return 0;
}

static int udp_load(const numaperf_udp_config_t *config, numaperf_udp_config_t *out)
{
    if (config == NULL)
        return numaperf__fail(-EINVAL, 0, "udp", "config must not be NULL");
    int rc = numaperf__config_load(out, sizeof(*out), UDP_CONFIG_MIN_SIZE, config, "udp");
    if (rc < 0)
        return rc;
    if ((out->flags & ~UDP_FLAGS_KNOWN) != 0)
        return numaperf__fail(-EINVAL, 0, "udp", "flags %#x: unknown bits", out->flags);
    if (out->reserved != 0)
        return numaperf__fail(-EINVAL, 0, "udp", "reserved is %u, not 0", (unsigned)out->reserved);
    if (out->on_datagram == NULL)
        return numaperf__fail(-EINVAL, 0, "udp", "on_datagram must not be NULL");
    if (out->output_limit_bytes == 0)
        out->output_limit_bytes = UDP_OUTPUT_LIMIT_BYTES;
    return 0;
}

/* Whether the kernel knows UDP_SEGMENT: one that does not would take all of it for one datagram. */
static bool udp_can_segment(int fd)
{
    int value = 0;
    socklen_t length = sizeof(value);
    return getsockopt(fd, SOL_UDP, UDP_SEGMENT, &value, &length) == 0;
}

static struct numaperf_udp *udp_alloc(struct numaperf__net *net, const numaperf_udp_config_t *cfg)
{
    struct numaperf_udp *udp = numaperf_arena_alloc(net->arena, sizeof(*udp), 64);
    if (udp == NULL)
        return NULL;
    memset(udp, 0, sizeof(*udp));
    udp->net = net;
    udp->fd = -1;
    udp->on_datagram = cfg->on_datagram;
    udp->on_close = cfg->on_close;
    udp->data = cfg->data;
    udp->output_limit_bytes = cfg->output_limit_bytes;
    udp->layout = (struct msghdr){.msg_namelen = NUMAPERF__UDP_NAME_BYTES,
                                  .msg_controllen = NUMAPERF__UDP_CONTROL_BYTES};
    udp->member.close = udp_member_close;
    return udp;
}

static int udp_start(struct numaperf_udp *udp)
{
    struct numaperf__net *net = udp->net;
    udp->on_ring = net->ring != NULL;
    if (!udp->on_ring) {
        int rc = numaperf__udp_poll_open(udp);
        if (rc < 0)
            return numaperf__fail(rc, -rc, "udp", "it cannot be watched: %s",
                                  numaperf_strerror(rc));
    }
    int rc = uv_timer_init(numaperf_loop_uv(net->loop), &udp->timer);
    NUMAPERF_ASSERT(rc == 0);
    numaperf__loop_mark((uv_handle_t *)&udp->timer);
    udp->handle_count++;
    net->handle_count++;
    numaperf__list_push_back(&net->members, &udp->member.link);
    if (udp->on_ring)
        numaperf__udp_ring_receive(udp);
    return 0;
}

static int udp_open(struct numaperf__net *net, const numaperf_udp_config_t *cfg,
                    numaperf_udp_t **out)
{
    struct numaperf_udp *udp = udp_alloc(net, cfg);
    if (udp == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "udp", "no memory in the loop's arena");
    union numaperf__udp_address bound = {.any = {.sa_family = AF_UNSPEC}};
    int rc = udp_socket(cfg, &bound, &udp->fd);
    if (rc < 0)
        goto free_handle;
    udp->port = numaperf__address_port(&bound.any);
    udp->is_v6 = bound.any.sa_family == AF_INET6;
    udp->can_segment = udp_can_segment(udp->fd);
    rc = numaperf__udp_buffers_get(net);
    if (rc < 0) {
        rc = numaperf__fail(rc, -rc, "udp", "no receive buffers: %s", numaperf_strerror(rc));
        goto close_fd;
    }
    rc = udp_start(udp);
    if (rc < 0)
        goto put_buffers;
    *out = udp;
    return 0;

put_buffers:
    numaperf__udp_buffers_put(net);
close_fd:
    (void)close(udp->fd); /* nothing was sent */
free_handle:
    numaperf_arena_free(net->arena, udp);
    return rc;
}

int numaperf_udp_open(numaperf_loop_t *loop, const numaperf_udp_config_t *config,
                      numaperf_udp_t **out)
{
    if (loop == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "udp", "loop and out must not be NULL");
    numaperf_udp_config_t cfg = NUMAPERF_UDP_CONFIG_INIT;
    int rc = udp_load(config, &cfg);
    if (rc < 0)
        return rc;
    struct numaperf__net *net = NULL;
    rc = numaperf__net_of(loop, &net);
    return rc < 0 ? rc : udp_open(net, &cfg, out);
}

int numaperf_udp_port(const numaperf_udp_t *udp)
{
    if (udp == NULL)
        return numaperf__fail(-EINVAL, 0, "udp", "udp must not be NULL");
    return udp->port;
}
