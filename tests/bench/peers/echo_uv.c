/* SPDX-License-Identifier: MIT */
/*
 * An echo server as libuv's users write it: what was read is offered to the socket at once, and
 * what does not fit is queued. The same code on libuv's own loop and on the loop of a worker of
 * numaperf.
 *
 * All of it runs on the loop's thread, but for start and stop; its memory outlives the loop, whose
 * end closes the handles that are left.
 */
#include "echo.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

union uv_echo_stream {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

struct uv_echo {
    const struct bench_echo_site *site;
    const struct bench_peer *host;
    void *host_state;
    uv_loop_t *loop;
    union uv_echo_stream listener;
    union uv_echo_stream *connections;
    uint32_t connection_count;
    struct bench_tally *ready;
    int rc; /* of the listen; written before `ready` */
    uint16_t port;
    char buffer[BENCH_ECHO_BUFFER]; /* of whoever reads: it is written back before the next reads */
};

/* The part that did not fit. */
struct uv_echo_rest {
    uv_write_t write;
    char bytes[];
};

static void uv_echo_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested;
    struct uv_echo *echo = handle->data;
    *out = uv_buf_init(echo->buffer, sizeof(echo->buffer));
}

static void uv_echo_written(uv_write_t *write, int status)
{
    (void)status; /* a connection that failed shows in the client's count */
    free(write);
}

static int uv_echo_queue(uv_stream_t *stream, const char *bytes, size_t length)
{
    struct uv_echo_rest *rest = malloc(sizeof(*rest) + length);
    if (rest == NULL)
        return -ENOMEM;
    memcpy(rest->bytes, bytes, length);
    uv_buf_t out = uv_buf_init(rest->bytes, (unsigned)length);
    int rc = uv_write(&rest->write, stream, &out, 1, uv_echo_written);
    if (rc < 0)
        free(rest);
    return rc;
}

static void uv_echo_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    int rc = 0;
    if (n > 0) {
        uv_buf_t out = uv_buf_init(buf->base, (unsigned)n);
        rc = uv_try_write(stream, &out, 1);
        size_t done = rc > 0 ? (size_t)rc : 0;
        if ((rc >= 0 || rc == UV_EAGAIN) && done < (size_t)n)
            rc = uv_echo_queue(stream, buf->base + done, (size_t)n - done);
    }
    if ((n < 0 || rc < 0) && !uv_is_closing((uv_handle_t *)stream))
        uv_close((uv_handle_t *)stream, NULL);
}

static int uv_echo_init(struct uv_echo *echo, union uv_echo_stream *stream)
{
    int rc = echo->site->path == NULL ? uv_tcp_init(echo->loop, &stream->tcp)
                                      : uv_pipe_init(echo->loop, &stream->pipe, 0);
    stream->handle.data = echo;
    return rc;
}

static void uv_echo_accept(uv_stream_t *listener, int status)
{
    struct uv_echo *echo = listener->data;
    if (status < 0 || echo->connection_count == echo->site->connection_count)
        return;
    union uv_echo_stream *stream = &echo->connections[echo->connection_count];
    if (uv_echo_init(echo, stream) < 0)
        return;
    echo->connection_count++;
    if (uv_accept(listener, &stream->stream) < 0 ||
        uv_read_start(&stream->stream, uv_echo_alloc, uv_echo_read) < 0)
        uv_close(&stream->handle, NULL);
    else if (echo->site->path == NULL)
        (void)uv_tcp_nodelay(&stream->tcp, 1); /* makes no difference with one request in flight */
}

static int uv_echo_bind(struct uv_echo *echo)
{
    if (echo->site->path != NULL)
        return uv_pipe_bind(&echo->listener.pipe, echo->site->path);
    struct sockaddr_in address;
    int rc = uv_ip4_addr("127.0.0.1", 0, &address);
    if (rc == 0)
        rc = uv_tcp_bind(&echo->listener.tcp, (const struct sockaddr *)&address, 0);
    int length = sizeof(address);
    if (rc == 0)
        rc = uv_tcp_getsockname(&echo->listener.tcp, (struct sockaddr *)&address, &length);
    echo->port = ntohs(address.sin_port);
    return rc;
}

static void uv_echo_listen(numaperf_worker_t *worker, void *arg)
{
    struct uv_echo *echo = arg;
    echo->loop = echo->host->loop(worker);
    echo->rc = uv_echo_init(echo, &echo->listener);
    if (echo->rc == 0)
        echo->rc = uv_echo_bind(echo);
    if (echo->rc == 0)
        echo->rc = uv_listen(&echo->listener.stream, BENCH_ECHO_BACKLOG, uv_echo_accept);
    bench_tally_add(echo->ready);
}

static void uv_echo_free(struct uv_echo *echo)
{
    free(echo->ready);
    free(echo->connections);
    free(echo);
}

static void uv_echo_stop(void *state)
{
    struct uv_echo *echo = state;
    echo->host->stop(echo->host_state);
    uv_echo_free(echo);
}

static int uv_echo_start(const struct bench_peer *peer, const struct bench_echo_site *site,
                         void **out_state, uint16_t *out_port)
{
    const struct bench_echo_ops *ops = peer->ops;
    struct uv_echo *echo = calloc(1, sizeof(*echo));
    if (echo == NULL)
        return -ENOMEM;
    echo->site = site;
    echo->host = ops->host;
    echo->connections = calloc(site->connection_count, sizeof(*echo->connections));
    echo->ready = aligned_alloc(_Alignof(struct bench_tally), sizeof(*echo->ready));
    int rc = -ENOMEM;
    if (echo->connections != NULL && echo->ready != NULL) {
        memset(echo->ready, 0, sizeof(*echo->ready));
        rc = echo->host->start(echo->host, site->setup, &echo->host_state);
    }
    if (rc < 0) {
        uv_echo_free(echo);
        return rc;
    }
    rc = echo->host->spawn(echo->host_state, 0, uv_echo_listen, echo);
    if (rc == 0)
        rc = bench_tally_wait(echo->ready, 1);
    if (rc == 0)
        rc = echo->rc;
    if (rc < 0) {
        uv_echo_stop(echo);
        return rc;
    }
    *out_state = echo;
    *out_port = echo->port;
    return 0;
}

const struct bench_peer bench_echo_libuv = {
    .name = "libuv",
    .ops = &(const struct bench_echo_ops){.host = &bench_libuv,
                                          .start = uv_echo_start,
                                          .stop = uv_echo_stop},
};

const struct bench_peer bench_echo_uv_on_ours = {
    .name = "numaperf-uv",
    .missing = bench_ring_missing,
    .ops = &(const struct bench_echo_ops){.host = &bench_numaperf,
                                          .start = uv_echo_start,
                                          .stop = uv_echo_stop},
};
