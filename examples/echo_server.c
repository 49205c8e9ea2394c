/* SPDX-License-Identifier: MIT */
/*
 * Echo server: every byte goes back. Shows plain libuv on a worker's loop, with connections in the
 * worker's node-bound arena.
 *
 * A connection has one buffer. What does not go out at once is written by libuv, and reading stops
 * meanwhile: a peer that never reads costs one buffer, not more.
 */
#include "server/server.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define BUFFER_BYTES 65536
#define TICK_MS 1000

struct echo_link {
    struct echo_link *prev, *next;
};

struct echo_conn {
    union server_stream stream; /* first: libuv hands it back */
    struct echo_link link;      /* among the connections of its worker */
    struct server_worker *worker;
    uv_write_t write;
    uint64_t active_at_ms;
    char buffer[BUFFER_BYTES];
};

struct echo_worker {
    struct echo_link conns; /* ring */
    uv_timer_t tick;        /* runs while there are connections */
};

static struct echo_conn *conn_of(struct echo_link *link)
{
    return (struct echo_conn *)((char *)link - offsetof(struct echo_conn, link));
}

static void conn_closed(uv_handle_t *handle)
{
    struct echo_conn *conn = (struct echo_conn *)handle;
    struct server_worker *worker = conn->worker;
    struct echo_worker *echo = worker->app;
    conn->link.prev->next = conn->link.next;
    conn->link.next->prev = conn->link.prev;
    numaperf_arena_free(worker->arena, conn);
    if (echo->conns.next == &echo->conns && !uv_is_closing((uv_handle_t *)&echo->tick))
        (void)uv_timer_stop(&echo->tick); /* stopping never fails on an open timer */
    server_connection_closed(worker);
}

static void conn_close(struct echo_conn *conn)
{
    if (!uv_is_closing(&conn->stream.handle))
        uv_close(&conn->stream.handle, conn_closed);
}

static void conn_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested; /* the buffer is what there is */
    struct echo_conn *conn = (struct echo_conn *)handle;
    *out = uv_buf_init(conn->buffer, sizeof(conn->buffer));
}

static void conn_write_done(uv_write_t *write, int status);

static void conn_read_done(uv_stream_t *stream, ssize_t length, const uv_buf_t *buf)
{
    struct echo_conn *conn = (struct echo_conn *)stream;
    if (length == 0)
        return;
    if (length < 0) {
        conn_close(conn);
        return;
    }
    conn->active_at_ms = uv_now(stream->loop);
    uv_buf_t rest = uv_buf_init(buf->base, (unsigned)length);
    int written = uv_try_write(stream, &rest, 1);
    if (written == (int)length)
        return;
    if (written > 0) {
        rest.base += written;
        rest.len -= (size_t)written;
    }
    (void)uv_read_stop(stream); /* always succeeds */
    if (uv_write(&conn->write, stream, &rest, 1, conn_write_done) < 0)
        conn_close(conn);
}

static void conn_write_done(uv_write_t *write, int status)
{
    struct echo_conn *conn = (struct echo_conn *)write->handle;
    conn->active_at_ms = uv_now(write->handle->loop);
    if (status < 0 || uv_read_start(write->handle, conn_alloc, conn_read_done) < 0)
        conn_close(conn);
}

/* Once a second, and only while somebody is connected. */
static void echo_tick(uv_timer_t *timer)
{
    struct server_worker *worker = timer->data;
    struct echo_worker *echo = worker->app;
    uint64_t limit_ms = (uint64_t)worker->options->idle_seconds * 1000;
    for (struct echo_link *l = echo->conns.next; l != &echo->conns && limit_ms > 0; l = l->next)
        if (uv_now(timer->loop) - conn_of(l)->active_at_ms > limit_ms)
            conn_close(conn_of(l));
}

static void echo_connection(struct server_worker *worker)
{
    struct echo_worker *echo = worker->app;
    struct echo_conn *conn = NULL;
    if (atomic_load_explicit(&worker->connection_count, memory_order_relaxed) <
        worker->options->connections_max)
        conn = numaperf_arena_alloc(worker->arena, sizeof(*conn), 64);
    if (conn == NULL) {
        server_refuse(worker, "");
        return;
    }
    memset(conn, 0, offsetof(struct echo_conn, buffer));
    bool initialised = false;
    int rc = server_accept(worker, &conn->stream, &initialised);
    if (!initialised) {
        numaperf_arena_free(worker->arena, conn);
        return;
    }
    conn->worker = worker;
    conn->link.next = &echo->conns;
    conn->link.prev = echo->conns.prev;
    conn->link.prev->next = &conn->link;
    echo->conns.prev = &conn->link;
    conn->active_at_ms = uv_now(worker->loop);
    if (!uv_is_active((uv_handle_t *)&echo->tick))
        rc |= uv_timer_start(&echo->tick, echo_tick, TICK_MS, TICK_MS);
    if (rc < 0 || uv_read_start(&conn->stream.stream, conn_alloc, conn_read_done) < 0)
        conn_close(conn);
}

static void echo_drain(struct server_worker *worker, bool now)
{
    struct echo_worker *echo = worker->app;
    for (struct echo_link *l = echo->conns.next; l != &echo->conns; l = l->next) {
        if (now)
            conn_close(conn_of(l));
        else
            server_stream_stop_receiving(&conn_of(l)->stream);
    }
}

static int echo_worker_start(struct server_worker *worker)
{
    struct echo_worker *echo = numaperf_arena_alloc(worker->arena, sizeof(*echo), 64);
    if (echo == NULL)
        return -ENOMEM;
    echo->conns.prev = &echo->conns;
    echo->conns.next = &echo->conns;
    worker->app = echo;
    echo->tick.data = worker;
    return uv_timer_init(worker->loop, &echo->tick);
}

static void echo_worker_stop(struct server_worker *worker)
{
    struct echo_worker *echo = worker->app;
    echo_drain(worker, true);
    uv_close((uv_handle_t *)&echo->tick, NULL);
}

int main(int argc, char **argv)
{
    static const struct server_app app = {
        .name = "echo_server",
        .default_port = 7777,
        .worker_start = echo_worker_start,
        .connection = echo_connection,
        .drain = echo_drain,
        .worker_stop = echo_worker_stop,
    };
    return server_main(&app, argc, argv);
}
