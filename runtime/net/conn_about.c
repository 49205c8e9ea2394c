/* SPDX-License-Identifier: MIT */
/*
 * What a connection is asked and told beside its bytes: data, timeouts, pause, addresses; and
 * taking over a socket.
 *
 * Thread rule: the loop's thread.
 */
#include "net/conn.h"

#include "base/assert.h"
#include "base/error.h"
#include "net/address.h"
#include "net/conn_state.h"
#include "net/deadline.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>

/* ---- adopt ---- */

static int adopt_check(int fd, int *out_family)
{
    int type = 0;
    socklen_t length = sizeof(type);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0)
        return numaperf__fail(-errno, errno, "adopt", "fd %d is no socket", fd);
    if (type != SOCK_STREAM)
        return numaperf__fail(-EINVAL, 0, "adopt", "fd %d is no stream socket", fd);
    struct sockaddr_storage peer = {.ss_family = AF_UNIX};
    length = sizeof(peer);
    if (getpeername(fd, (struct sockaddr *)&peer, &length) != 0)
        return numaperf__fail(-errno, errno, "adopt", "fd %d is not connected", fd);
    *out_family = length > 0 ? peer.ss_family : AF_UNIX;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return numaperf__fail(-errno, errno, "adopt", "fd %d cannot be made non-blocking", fd);
    return 0;
}

int numaperf_conn_adopt(numaperf_loop_t *loop, int fd, const numaperf_conn_config_t *config,
                        numaperf_conn_t **out)
{
    if (loop == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "adopt", "loop and out must not be NULL");
    if (fd < 0)
        return numaperf__fail(-EINVAL, 0, "adopt", "fd %d is negative", fd);
    numaperf_conn_config_t cfg;
    int rc = numaperf__conn_config(config, &cfg);
    if (rc < 0)
        return rc;
    int family = AF_UNSPEC;
    rc = adopt_check(fd, &family);
    if (rc < 0)
        return rc;
    struct numaperf__net *net = NULL;
    rc = numaperf__net_of(loop, &net);
    if (rc < 0)
        return rc;
    struct numaperf__conn_origin origin = {.counter = NUMAPERF__NET_CONNECTED,
                                           .is_tcp = family != AF_UNIX};
    if (origin.is_tcp && (cfg.flags & NUMAPERF_CONN_DELAY) == 0) {
        int on = 1;
        /* A slower connection is still one. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
    return numaperf__conn_make(net, fd, &cfg, &origin, out);
}

/* ---- told ---- */

void numaperf_conn_pause(numaperf_conn_t *conn)
{
    if (conn == NULL || conn->is_paused)
        return;
    conn->is_paused = true;
    if (conn->state == NUMAPERF__CONN_OPEN)
        numaperf__conn_look_again(conn);
}

void numaperf_conn_resume(numaperf_conn_t *conn)
{
    if (conn == NULL || !conn->is_paused)
        return;
    conn->is_paused = false;
    if (conn->state != NUMAPERF__CONN_OPEN)
        return;
    conn->reading_ms = numaperf__net_now_ms(conn->net);
    numaperf__deadline_watch(conn);
    numaperf__conn_look_again(conn);
}

int numaperf_conn_set_timeouts(numaperf_conn_t *conn, uint32_t idle_ms, uint32_t read_ms,
                               uint32_t write_ms)
{
    if (conn == NULL)
        return numaperf__fail(-EINVAL, 0, "connection", "conn must not be NULL");
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.callbacks.on_read = conn->callbacks.on_read;
    config.idle_timeout_ms = idle_ms;
    config.read_timeout_ms = read_ms;
    config.write_timeout_ms = write_ms;
    numaperf_conn_config_t cfg;
    int rc = numaperf__conn_config(&config, &cfg);
    if (rc < 0)
        return rc;
    conn->idle_timeout_ms = cfg.idle_timeout_ms;
    conn->read_timeout_ms = cfg.read_timeout_ms;
    conn->write_timeout_ms = cfg.write_timeout_ms;
    if (conn->state == NUMAPERF__CONN_OPEN)
        numaperf__deadline_watch(conn);
    return 0;
}

int numaperf_conn_set_callbacks(numaperf_conn_t *conn, const numaperf_conn_callbacks_t *callbacks)
{
    if (conn == NULL || callbacks == NULL || callbacks->on_read == NULL)
        return numaperf__fail(-EINVAL, 0, "connection",
                              "conn, callbacks and on_read must not be NULL");
    conn->callbacks = *callbacks;
    return 0;
}

void numaperf_conn_set_data(numaperf_conn_t *conn, void *data)
{
    conn->data = data;
}

/* ---- asked ---- */

void *numaperf_conn_data(const numaperf_conn_t *conn)
{
    return conn->data;
}

numaperf_loop_t *numaperf_conn_loop(const numaperf_conn_t *conn)
{
    return conn->net->loop;
}

int numaperf_conn_backend(const numaperf_conn_t *conn)
{
    return conn->driver->backend;
}

size_t numaperf_conn_queued_bytes(const numaperf_conn_t *conn)
{
    return conn->output.bytes;
}

int numaperf_conn_fd(const numaperf_conn_t *conn)
{
    return conn->is_direct || conn->state == NUMAPERF__CONN_CLOSED ? -EBADF : conn->fd;
}

int numaperf_conn_peer(numaperf_conn_t *conn, struct sockaddr_storage *out)
{
    if (conn == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "connection", "conn and out must not be NULL");
    if (conn->peer == NULL) {
        int fd = numaperf_conn_fd(conn);
        if (fd < 0)
            return fd;
        struct sockaddr_storage peer;
        socklen_t length = sizeof(peer);
        memset(&peer, 0, sizeof(peer));
        if (getpeername(fd, (struct sockaddr *)&peer, &length) != 0)
            return -errno;
        if (length == 0) { /* a socketpair of some kernels */
            peer.ss_family = AF_UNIX;
            length = sizeof(sa_family_t);
        }
        conn->peer = numaperf_arena_alloc(conn->net->arena, sizeof(peer), 0);
        if (conn->peer == NULL)
            return -ENOMEM;
        *conn->peer = peer;
        conn->peer_length = length;
    }
    *out = *conn->peer;
    return (int)conn->peer_length;
}

int numaperf_conn_peer_text(numaperf_conn_t *conn, char *buf, size_t size)
{
    struct sockaddr_storage peer;
    int length = numaperf_conn_peer(conn, &peer);
    if (length < 0)
        return length;
    return numaperf__address_format((const struct sockaddr *)&peer, (socklen_t)length, buf, size);
}
