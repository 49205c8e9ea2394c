/* SPDX-License-Identifier: MIT */
/*
 * An echo server with as little above epoll as possible: edge-triggered, one buffer for all, and a
 * read that brings less than it asked for is the last one. Beside it what both hand-written servers
 * need to listen.
 *
 * The thread owns everything but `stop_fd`, by which stop ends it.
 */
#include "echo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define EPOLL_EVENTS 512
#define EPOLL_SPIN_BIT 1u

/* ---- listening ---- */

static int echo_bind_unix(int fd, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    return bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
}

static int echo_bind_tcp(int fd, uint16_t *out_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    int on = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        return -errno;
    *out_port = ntohs(address.sin_port);
    return 0;
}

int bench_echo_listen(const struct bench_echo_site *site, uint16_t *out_port)
{
    int fd = socket(site->path != NULL ? AF_UNIX : AF_INET,
                    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int rc = site->path != NULL ? echo_bind_unix(fd, site->path) : echo_bind_tcp(fd, out_port);
    if (rc == 0 && listen(fd, BENCH_ECHO_BACKLOG) < 0)
        rc = -errno;
    if (rc == 0)
        return fd;
    (void)close(fd);
    return rc;
}

/* ---- the server ---- */

struct epoll_conn {
    int fd;
    bool blocked;
    size_t rest_at;     /* of what did not fit */
    size_t rest_length; /* 0: nothing waits */
    char *rest;         /* BENCH_ECHO_BUFFER bytes, from the first time something waits */
};

struct epoll_server {
    int epoll_fd;
    int stop_fd;
    struct epoll_conn listener; /* only its descriptor */
    struct epoll_conn *conns;
    uint32_t conn_count;
    uint32_t conn_max;
    int32_t cpu;
    uint64_t spin_ns;
    pthread_t thread;
    char buffer[BENCH_ECHO_BUFFER];
};

static void epoll_conn_close(struct epoll_conn *conn)
{
    if (conn->fd >= 0)
        (void)close(conn->fd);
    conn->fd = -1;
    free(conn->rest);
    conn->rest = NULL;
}

static void epoll_watch(struct epoll_server *server, struct epoll_conn *conn, int op)
{
    struct epoll_event event = {.events =
                                    EPOLLIN | EPOLLRDHUP | EPOLLET | (conn->blocked ? EPOLLOUT : 0),
                                .data = {.ptr = conn}};
    if (epoll_ctl(server->epoll_fd, op, conn->fd, &event) < 0)
        epoll_conn_close(conn);
}

static void epoll_accept(struct epoll_server *server)
{
    while (server->conn_count < server->conn_max) {
        int fd = accept4(server->listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct epoll_conn *conn = &server->conns[server->conn_count++];
        *conn = (struct epoll_conn){.fd = fd};
        epoll_watch(server, conn, EPOLL_CTL_ADD);
    }
}

/* What fits of `length` bytes, or -1. */
static ssize_t epoll_send(struct epoll_conn *conn, const char *bytes, size_t length)
{
    ssize_t n = send(conn->fd, bytes, length, MSG_NOSIGNAL);
    return n < 0 && errno == EAGAIN ? 0 : n;
}

/* False: the connection is to be closed. */
static bool epoll_write(struct epoll_server *server, struct epoll_conn *conn, size_t length)
{
    ssize_t n = epoll_send(conn, server->buffer, length);
    if (n < 0 || (size_t)n == length)
        return n >= 0;
    if (conn->rest == NULL)
        conn->rest = malloc(BENCH_ECHO_BUFFER);
    if (conn->rest == NULL)
        return false;
    conn->rest_at = 0;
    conn->rest_length = length - (size_t)n;
    memcpy(conn->rest, server->buffer + n, conn->rest_length);
    conn->blocked = true;
    epoll_watch(server, conn, EPOLL_CTL_MOD);
    return conn->fd >= 0;
}

/* Nothing is read while something waits to be sent. */
static bool epoll_read(struct epoll_server *server, struct epoll_conn *conn, bool ended)
{
    while (!conn->blocked) {
        ssize_t n = recv(conn->fd, server->buffer, BENCH_ECHO_BUFFER, 0);
        if (n < 0)
            return errno == EAGAIN;
        if (n == 0 || !epoll_write(server, conn, (size_t)n))
            return false;
        /* With less than asked for the socket is empty; its end is no event of its own. */
        if (n < (ssize_t)BENCH_ECHO_BUFFER && !ended)
            return true;
    }
    return true;
}

static bool epoll_flush(struct epoll_server *server, struct epoll_conn *conn)
{
    ssize_t n = epoll_send(conn, conn->rest + conn->rest_at, conn->rest_length);
    if (n < 0)
        return false;
    conn->rest_at += (size_t)n;
    conn->rest_length -= (size_t)n;
    conn->blocked = conn->rest_length > 0;
    if (!conn->blocked)
        epoll_watch(server, conn, EPOLL_CTL_MOD);
    return conn->fd >= 0;
}

static void epoll_serve(struct epoll_server *server, const struct epoll_event *event)
{
    struct epoll_conn *conn = event->data.ptr;
    if (conn == &server->listener) {
        epoll_accept(server);
        return;
    }
    bool good = conn->fd >= 0;
    if (good && conn->blocked)
        good = epoll_flush(server, conn);
    if (good)
        good = epoll_read(server, conn, (event->events & (EPOLLRDHUP | EPOLLHUP)) != 0);
    if (!good)
        epoll_conn_close(conn);
}

static int epoll_await(struct epoll_server *server, struct epoll_event *events)
{
    uint64_t until_ns = server->spin_ns > 0 ? bench_now_ns() + server->spin_ns : 0;
    int n = 0;
    if (server->spin_ns > 0)
        do
            n = epoll_wait(server->epoll_fd, events, EPOLL_EVENTS, 0);
        while (n == 0 && bench_now_ns() < until_ns);
    return n == 0 ? epoll_wait(server->epoll_fd, events, EPOLL_EVENTS, -1) : n;
}

static void *epoll_main(void *arg)
{
    struct epoll_server *server = arg;
    struct epoll_event events[EPOLL_EVENTS];
    if (bench_pin(server->cpu) < 0)
        abort(); /* numaperf was here before: the PU exists */
    for (;;) {
        int n = epoll_await(server, events);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == NULL)
                return NULL;
            epoll_serve(server, &events[i]);
        }
    }
}

static void epoll_free(struct epoll_server *server)
{
    for (uint32_t i = 0; i < server->conn_count; i++)
        epoll_conn_close(&server->conns[i]);
    epoll_conn_close(&server->listener);
    if (server->epoll_fd >= 0)
        (void)close(server->epoll_fd);
    if (server->stop_fd >= 0)
        (void)close(server->stop_fd);
    free(server->conns);
    free(server);
}

static void epoll_stop(void *state)
{
    struct epoll_server *server = state;
    if (eventfd_write(server->stop_fd, 1) < 0)
        abort(); /* it counts to more than one */
    pthread_join(server->thread, NULL);
    epoll_free(server);
}

static int epoll_open(struct epoll_server *server, const struct bench_echo_site *site,
                      uint16_t *out_port)
{
    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    server->stop_fd = eventfd(0, EFD_CLOEXEC);
    server->conns = calloc(site->connection_count, sizeof(*server->conns));
    if (server->epoll_fd < 0 || server->stop_fd < 0 || server->conns == NULL)
        return -errno;
    server->conn_max = site->connection_count;
    server->listener.fd = bench_echo_listen(site, out_port);
    if (server->listener.fd < 0)
        return server->listener.fd;
    epoll_watch(server, &server->listener, EPOLL_CTL_ADD);
    struct epoll_event stop = {.events = EPOLLIN, .data = {.ptr = NULL}};
    if (server->listener.fd < 0 ||
        epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->stop_fd, &stop) < 0)
        return -errno;
    return -pthread_create(&server->thread, NULL, epoll_main, server);
}

static int epoll_start(const struct bench_peer *peer, const struct bench_echo_site *site,
                       void **out_state, uint16_t *out_port)
{
    const struct bench_echo_ops *ops = peer->ops;
    struct epoll_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return -ENOMEM;
    server->listener.fd = -1;
    server->cpu = site->setup->cpus[0];
    server->spin_ns = ops->variant == EPOLL_SPIN_BIT ? BENCH_ECHO_SPIN_NS : 0;
    int rc = epoll_open(server, site, out_port);
    if (rc < 0) {
        epoll_free(server);
        return rc;
    }
    *out_state = server;
    return 0;
}

const struct bench_peer bench_echo_epoll = {
    .name = "epoll",
    .ops = &(const struct bench_echo_ops){.start = epoll_start, .stop = epoll_stop},
};

const struct bench_peer bench_echo_epoll_spin = {
    .name = "epoll-spin",
    .ops = &(const struct bench_echo_ops){.variant = EPOLL_SPIN_BIT,
                                          .start = epoll_start,
                                          .stop = epoll_stop},
};
