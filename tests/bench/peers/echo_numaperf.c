/* SPDX-License-Identifier: MIT */
/*
 * An echo server as a user of <numaperf/net.h> writes it: one worker, a listener, and a callback
 * that holds what has come and sends it back from where it lies, or writes it.
 */
#include "echo.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#define OURS_WRITE_BIT 1u

struct ours_server {
    const struct bench_peer *host;
    void *state;
    numaperf_listener_t *listener;
};

static void ours_give_back(numaperf_conn_t *conn, const void *bytes, size_t length)
{
    if (numaperf_conn_write(conn, bytes, length) < 0)
        numaperf_conn_reset(conn, -ECANCELED);
}

static void ours_read_write(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    (void)data;
    ours_give_back(conn, bytes, length);
}

static void ours_read_hold(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    (void)data;
    numaperf_buffer_t *buffer = numaperf_conn_hold(conn);
    if (buffer == NULL) {
        ours_give_back(conn, bytes, length);
    } else if (numaperf_conn_write_held(conn, buffer, bytes, length) < 0) {
        numaperf_buffer_release(buffer);
        numaperf_conn_reset(conn, -ECANCELED);
    }
}

static int ours_listen(struct ours_server *server, const struct bench_echo_site *site, bool writes)
{
    numaperf_conn_config_t conn = NUMAPERF_CONN_CONFIG_INIT;
    conn.callbacks.on_read = writes ? ours_read_write : ours_read_hold;
    numaperf_listen_config_t config = NUMAPERF_LISTEN_CONFIG_INIT;
    config.flags = NUMAPERF_LISTEN_DIRECT;
    config.address = site->path == NULL ? "127.0.0.1" : NULL;
    config.unix_path = site->path;
    config.backlog = BENCH_ECHO_BACKLOG;
    config.conn = &conn;
    return numaperf_rt_listen(bench_numaperf_rt(server->state), &config, &server->listener);
}

static void ours_stop(void *arg)
{
    struct ours_server *server = arg;
    server->host->stop(server->state); /* the runtime owns the listener, and closes it */
    free(server);
}

static int ours_start(const struct bench_peer *peer, const struct bench_echo_site *site,
                      void **out_state, uint16_t *out_port)
{
    const struct bench_echo_ops *ops = peer->ops;
    struct ours_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return -ENOMEM;
    server->host = ops->host;
    int rc = server->host->start(server->host, site->setup, &server->state);
    if (rc < 0) {
        free(server);
        return rc;
    }
    rc = ours_listen(server, site, ops->variant == OURS_WRITE_BIT);
    if (rc < 0) {
        ours_stop(server);
        return rc;
    }
    if (site->path == NULL)
        *out_port = (uint16_t)numaperf_listener_port(server->listener);
    *out_state = server;
    return 0;
}

#define OURS_PEER(title, backend, kind, why)                                              \
    {                                                                                     \
        .name = (title), .missing = (why), .ops = &(const struct bench_echo_ops)          \
        {                                                                                 \
            .host = &(backend), .variant = (kind), .start = ours_start, .stop = ours_stop \
        }                                                                                 \
    }

const struct bench_peer bench_echo_numaperf =
    OURS_PEER("numaperf", bench_numaperf, 0, bench_ring_missing);
const struct bench_peer bench_echo_numaperf_calm =
    OURS_PEER("numaperf-calm", bench_numaperf_calm, 0, bench_ring_missing);
const struct bench_peer bench_echo_numaperf_write =
    OURS_PEER("numaperf-write", bench_numaperf, OURS_WRITE_BIT, bench_ring_missing);
const struct bench_peer bench_echo_numaperf_epoll =
    OURS_PEER("numaperf-epoll", bench_numaperf_epoll, 0, NULL);
