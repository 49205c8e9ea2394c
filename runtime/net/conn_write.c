/* SPDX-License-Identifier: MIT */
/*
 * Writing to a connection: what is written is appended to its output, and goes out in the net's
 * next turn, together with what else is written until then.
 *
 * Thread rule: the loop's thread.
 */
#include "net/conn.h"

#include "base/assert.h"
#include "base/error.h"
#include "net/conn_state.h"
#include "net/deadline.h"

#include <errno.h>
#include <string.h>

#define WRITE_PARTS_MAX 1024u
/* What a filter adds to the bytes it was given may pass the limit by this. */
#define WRITE_FILTER_SLACK_BYTES (1u << 20)

static int conn_check(const struct numaperf_conn *conn, const void *bytes, size_t length)
{
    if (conn == NULL)
        return numaperf__fail(-EINVAL, 0, "connection", "conn must not be NULL");
    if (bytes == NULL && length > 0)
        return numaperf__fail(-EINVAL, 0, "connection", "bytes must not be NULL");
    if (conn->state != NUMAPERF__CONN_OPEN || conn->end_wanted)
        return -EPIPE;
    if (length > conn->output_limit_bytes - (conn->output.bytes < conn->output_limit_bytes
                                                 ? conn->output.bytes
                                                 : conn->output_limit_bytes))
        return -EAGAIN;
    return 0;
}

/* What a successful write returns. */
static int conn_level(struct numaperf_conn *conn)
{
    if (conn->output.bytes <= conn->high_water_bytes)
        return 0;
    conn->over_high = true;
    return 1;
}

static int conn_appended(struct numaperf_conn *conn, bool was_empty)
{
    if (was_empty) {
        conn->waiting_ms = numaperf__net_now_ms(conn->net);
        numaperf__deadline_watch(conn);
    }
    if (!conn->is_sending)
        numaperf__conn_look_again(conn);
    return conn_level(conn);
}

int numaperf__conn_append(struct numaperf_conn *conn, const struct iovec *parts, size_t part_count,
                          size_t length)
{
    bool was_empty = conn->output.bytes == 0;
    int rc = numaperf__output_copy(&conn->output, parts, part_count, length);
    return rc < 0 ? rc : conn_appended(conn, was_empty);
}

int numaperf_conn_write(numaperf_conn_t *conn, const void *bytes, size_t length)
{
    int rc = conn_check(conn, bytes, length);
    if (rc < 0)
        return rc;
    if (length == 0)
        return conn_level(conn);
    if (conn->filter.on_written != NULL)
        return conn->filter.on_written(conn, bytes, length, conn->filter_state);
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    return numaperf__conn_append(conn, &part, 1, length);
}

/* A filter gets the parts as one, since it takes all or nothing. */
static int conn_writev_filtered(numaperf_conn_t *conn, const struct iovec *parts, size_t part_count,
                                size_t length)
{
    char *whole = numaperf_arena_alloc(conn->net->arena, length, 0);
    if (whole == NULL)
        return -ENOMEM;
    size_t at = 0;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].iov_len > 0)
            memcpy(whole + at, parts[i].iov_base, parts[i].iov_len);
        at += parts[i].iov_len;
    }
    int rc = conn->filter.on_written(conn, whole, length, conn->filter_state);
    numaperf_arena_free(conn->net->arena, whole);
    return rc;
}

int numaperf_conn_writev(numaperf_conn_t *conn, const struct iovec *parts, size_t part_count)
{
    if (parts == NULL && part_count > 0)
        return numaperf__fail(-EINVAL, 0, "connection", "parts must not be NULL");
    if (part_count > WRITE_PARTS_MAX)
        return numaperf__fail(-EINVAL, 0, "connection", "part_count %zu is above %u", part_count,
                              WRITE_PARTS_MAX);
    size_t length = 0;
    for (size_t i = 0; i < part_count; i++) {
        if (parts[i].iov_base == NULL && parts[i].iov_len > 0)
            return numaperf__fail(-EINVAL, 0, "connection", "part %zu has no bytes", i);
        if (parts[i].iov_len > SIZE_MAX - length)
            return numaperf__fail(-EINVAL, 0, "connection", "the parts are too long together");
        length += parts[i].iov_len;
    }
    int rc = conn_check(conn, parts, length);
    if (rc < 0)
        return rc;
    if (length == 0)
        return conn_level(conn);
    if (conn->filter.on_written != NULL)
        return conn_writev_filtered(conn, parts, part_count, length);
    return numaperf__conn_append(conn, parts, part_count, length);
}

/* ---- without a copy ---- */

/* The filter has its own copy: the bytes are back, which is told in the next turn. */
static int conn_write_borrowed_filtered(numaperf_conn_t *conn, const void *bytes, size_t length,
                                        numaperf_written_fn done, void *data)
{
    struct numaperf__conn_written *written =
        numaperf_arena_alloc(conn->net->arena, sizeof(*written), 0);
    if (written == NULL)
        return -ENOMEM;
    int rc = length > 0 ? numaperf_conn_write(conn, bytes, length) : conn_level(conn);
    if (rc < 0 || done == NULL) {
        numaperf_arena_free(conn->net->arena, written);
        return rc;
    }
    *written = (struct numaperf__conn_written){.done = done, .data = data};
    if (conn->written_last == NULL)
        conn->written_first = written;
    else
        conn->written_last->next = written;
    conn->written_last = written;
    numaperf__conn_look_again(conn);
    return rc;
}

int numaperf_conn_write_borrowed(numaperf_conn_t *conn, const void *bytes, size_t length,
                                 numaperf_written_fn done, void *data)
{
    int rc = conn_check(conn, bytes, length);
    if (rc < 0)
        return rc;
    if (length == 0 || conn->filter.on_written != NULL)
        return conn_write_borrowed_filtered(conn, bytes, length, done, data);
    bool was_empty = conn->output.bytes == 0;
    rc = numaperf__output_borrow(&conn->output, bytes, length, done, data);
    return rc < 0 ? rc : conn_appended(conn, was_empty);
}

numaperf_buffer_t *numaperf_conn_hold(numaperf_conn_t *conn)
{
    if (conn == NULL || conn->current == NULL || conn->current->buffer == NULL)
        return NULL;
    struct numaperf_buffer *buffer = conn->current->buffer;
    return numaperf__buffer_lend(buffer) ? buffer : NULL;
}

void numaperf_buffer_release(numaperf_buffer_t *buffer)
{
    if (buffer != NULL)
        numaperf__buffer_return(buffer);
}

int numaperf_conn_write_held(numaperf_conn_t *conn, numaperf_buffer_t *buffer, const void *bytes,
                             size_t length)
{
    int rc = conn_check(conn, bytes, length);
    if (rc < 0)
        return rc;
    if (buffer == NULL)
        return numaperf__fail(-EINVAL, 0, "connection", "buffer must not be NULL");
    if (!numaperf__buffer_contains(buffer, bytes, length))
        return numaperf__fail(-EINVAL, 0, "connection", "the bytes do not lie in the buffer");
    if (length == 0 || conn->filter.on_written != NULL) {
        rc = length > 0 ? numaperf_conn_write(conn, bytes, length) : conn_level(conn);
        if (rc >= 0)
            numaperf__buffer_return(buffer);
        return rc;
    }
    bool was_empty = conn->output.bytes == 0;
    rc = numaperf__output_hold(&conn->output, buffer, bytes, length);
    return rc < 0 ? rc : conn_appended(conn, was_empty);
}

/* ---- from a filter ---- */

int numaperf_conn_send_raw(numaperf_conn_t *conn, const void *bytes, size_t length)
{
    int rc = conn_check(conn, bytes, 0);
    if (rc < 0)
        return rc;
    if (bytes == NULL && length > 0)
        return numaperf__fail(-EINVAL, 0, "connection", "bytes must not be NULL");
    if (length == 0)
        return conn_level(conn);
    size_t limit = (size_t)conn->output_limit_bytes + WRITE_FILTER_SLACK_BYTES;
    if (conn->output.bytes + length > limit)
        return -EAGAIN;
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = length};
    return numaperf__conn_append(conn, &part, 1, length);
}
