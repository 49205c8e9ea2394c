/* SPDX-License-Identifier: MIT */
/*
 * The load on epoll. Events are edge-triggered, and room to send is asked for only when there was
 * none: a socket that is watched for it costs the server, too.
 *
 * Source: epoll(7).
 */
#include "echo_load.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define EPOLL_CHUNK 65536u

struct load_epoll {
    int fd;
    unsigned char chunk[EPOLL_CHUNK];
};

static int load_epoll_open(struct echo_load *load)
{
    struct load_epoll *state = malloc(sizeof(*state));
    if (state == NULL)
        return -ENOMEM;
    load->way_state = state;
    state->fd = epoll_create1(EPOLL_CLOEXEC);
    return state->fd < 0 ? -errno : 0;
}

static int load_epoll_watch(struct echo_load *load, struct echo_load_conn *conn, int op)
{
    struct load_epoll *state = load->way_state;
    struct epoll_event event = {.events =
                                    EPOLLIN | EPOLLET | (conn->blocked ? (uint32_t)EPOLLOUT : 0),
                                .data = {.ptr = conn}};
    return epoll_ctl(state->fd, op, conn->fd, &event) < 0 ? -errno : 0;
}

static int load_epoll_add(struct echo_load *load, struct echo_load_conn *conn)
{
    return load_epoll_watch(load, conn, EPOLL_CTL_ADD);
}

static int load_epoll_pump(struct echo_load *load, struct echo_load_conn *conn)
{
    bool was_blocked = conn->blocked;
    const unsigned char *bytes = NULL;
    conn->blocked = false;
    for (size_t length = echo_load_next(load, conn, &bytes); length > 0;
         length = echo_load_next(load, conn, &bytes)) {
        ssize_t n = send(conn->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN)
            return -errno;
        conn->blocked = n < 0;
        if (conn->blocked)
            break;
        conn->sent += (uint64_t)n;
    }
    return conn->blocked == was_blocked ? 0 : load_epoll_watch(load, conn, EPOLL_CTL_MOD);
}

static int load_epoll_receive(struct echo_load *load, struct echo_load_conn *conn)
{
    struct load_epoll *state = load->way_state;
    for (;;) {
        ssize_t n = recv(conn->fd, state->chunk, EPOLL_CHUNK, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            return n == 0 ? -ECONNRESET : -errno;
        int rc = echo_load_take(load, conn, state->chunk, (size_t)n);
        if (rc == 0)
            rc = load_epoll_pump(load, conn);
        /* With less than asked for the socket is empty, and the next byte is an event. */
        if (rc < 0 || n < (ssize_t)EPOLL_CHUNK)
            return rc;
    }
}

static int load_epoll_turn(struct echo_load *load, bool spins)
{
    struct load_epoll *state = load->way_state;
    struct epoll_event events[ECHO_CONNECTIONS_MAX];
    int timeout_ms = spins ? 0 : (int)(ECHO_LOAD_STALL_NS / 1000000u);
    int n = epoll_wait(state->fd, events, (int)ECHO_CONNECTIONS_MAX, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        struct echo_load_conn *conn = events[i].data.ptr;
        int rc = (events[i].events & EPOLLOUT) != 0 ? load_epoll_pump(load, conn) : 0;
        if (rc == 0 && (events[i].events & ~(uint32_t)EPOLLOUT) != 0)
            rc = load_epoll_receive(load, conn);
        if (rc < 0)
            return rc;
    }
    return n;
}

const struct echo_load_way echo_load_epoll = {
    .open = load_epoll_open,
    .add = load_epoll_add,
    .pump = load_epoll_pump,
    .turn = load_epoll_turn,
};
