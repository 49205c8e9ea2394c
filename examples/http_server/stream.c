/* SPDX-License-Identifier: MIT */
/*
 * Streams: one buffer each, which is with the file or with the connection, never with both. A
 * stream outlives its connection only until what it has begun on the file has ended.
 */
#include "stream.h"

#include "load.h"
#include "reply.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct stream {
    struct http_conn *conn; /* NULL: gone */
    struct http_worker *worker;
    numaperf_file_t *file;
    bool file_busy; /* an operation of the file is under way */
    bool held_back; /* the next piece waits for on_drain */
    uint64_t offset, left;
    size_t piece;
    char *buffer;
    struct statx look;
    struct entry about; /* without a body */
};

/* ---- end ---- */

static void stream_free(struct stream *stream)
{
    struct http_worker *worker = stream->worker;
    if (stream->file != NULL)
        (void)numaperf_file_close(stream->file, NULL, NULL); /* it was only read */
    numaperf_file_buffer_free(worker->io, stream->buffer);
    numaperf_arena_free(worker->arena, stream);
}

/* The answer is written, as a whole. */
static void stream_end(struct stream *stream)
{
    struct http_conn *conn = stream->conn;
    stream_free(stream);
    conn->stream = NULL;
    conn_answered(conn);
}

/* Nothing has been said yet: say what went wrong. */
static void stream_refuse(struct stream *stream, unsigned status)
{
    reply_status(stream->conn, status);
    stream_end(stream);
}

void stream_leave(struct stream *stream)
{
    stream->conn = NULL;
    if (!stream->file_busy)
        stream_free(stream);
}

/* An operation of the file has ended; true: nobody waits for it any more, and it is gone. */
static bool stream_left(struct stream *stream)
{
    stream->file_busy = false;
    if (stream->conn != NULL)
        return false;
    stream_free(stream);
    return true;
}

/* ---- pieces ---- */

static void stream_next(struct stream *stream);

static void stream_sent(numaperf_conn_t *conn, int status, void *data)
{
    (void)conn;
    struct stream *stream = data;
    if (status < 0)
        return; /* on_close follows, and leaves */
    stream->offset += stream->piece;
    stream->left -= stream->piece;
    if (stream->left == 0)
        stream_end(stream);
    else if (stream->conn->blocked)
        stream->held_back = true;
    else
        stream_next(stream);
}

static void stream_read(numaperf_file_t *file, int64_t result, void *data)
{
    (void)file;
    struct stream *stream = data;
    if (stream_left(stream))
        return;
    struct http_conn *conn = stream->conn;
    if (result != (int64_t)stream->piece) {
        /* The length was promised: only a broken connection says that it does not hold. */
        numaperf_conn_reset(conn->conn, result < 0 ? (int)result : -EIO);
        return;
    }
    int rc = numaperf_conn_write_borrowed(conn->conn, stream->buffer, stream->piece, stream_sent,
                                          stream);
    if (rc == 1)
        conn->blocked = true;
    else if (rc < 0)
        numaperf_conn_close(conn->conn, rc);
}

static void stream_next(struct stream *stream)
{
    stream->piece = stream->left < HTTP_STREAM_BYTES ? (size_t)stream->left : HTTP_STREAM_BYTES;
    int rc = numaperf_file_read(stream->file, stream->buffer, stream->piece, stream->offset,
                                stream_read, stream);
    if (rc < 0)
        numaperf_conn_reset(stream->conn->conn, rc);
    else
        stream->file_busy = true;
}

void stream_drained(struct stream *stream)
{
    if (!stream->held_back)
        return;
    stream->held_back = false;
    stream_next(stream);
}

/* ---- begin ---- */

static void stream_looked(numaperf_file_t *file, int64_t result, void *data)
{
    (void)file;
    struct stream *stream = data;
    if (stream_left(stream))
        return;
    if (result < 0 || !S_ISREG(stream->look.stx_mode)) {
        stream_refuse(stream, result < 0 ? load_status((int)result) : 404);
        return;
    }
    struct part part;
    entry_describe(&stream->about, &stream->conn->path, &stream->look);
    (void)reply_head(stream->conn, &stream->about, &part); /* the part says it all */
    stream->offset = part.offset;
    stream->left = part.length;
    if (part.length == 0)
        stream_end(stream);
    else
        stream_next(stream);
}

static void stream_opened(numaperf_file_t *file, int status, void *data)
{
    struct stream *stream = data;
    if (status == 0)
        stream->file = file;
    if (stream_left(stream))
        return;
    if (status < 0) {
        stream_refuse(stream, load_status(status));
        return;
    }
    int rc = numaperf_file_stat(file, STATX_BASIC_STATS, &stream->look, stream_looked, stream);
    if (rc < 0)
        stream_refuse(stream, load_status(rc));
    else
        stream->file_busy = true;
}

void stream_begin(struct http_conn *conn)
{
    struct http_worker *worker = conn->worker;
    struct stream *stream = numaperf_arena_alloc(worker->arena, sizeof(*stream), 64);
    if (stream == NULL) {
        reply_status(conn, 503);
        return;
    }
    memset(stream, 0, sizeof(*stream));
    stream->conn = conn;
    stream->worker = worker;
    numaperf_file_open_config_t config = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    config.flags = NUMAPERF_FILE_BENEATH;
    config.path = conn->path.text;
    config.open_flags = O_RDONLY | O_NONBLOCK;
    config.directory = worker->server->root_fd;
    config.has_directory = 1;
    stream->buffer = numaperf_file_buffer_alloc(worker->io, HTTP_STREAM_BYTES);
    if (stream->buffer == NULL ||
        numaperf_file_open(worker->io, &config, stream_opened, stream) < 0) {
        stream_free(stream);
        reply_status(conn, 503);
        return;
    }
    http_count(&worker->counters.streams, 1);
    stream->file_busy = true;
    conn->state = CONN_STREAMING;
    conn->stream = stream;
}
