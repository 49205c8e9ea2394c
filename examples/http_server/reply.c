/* SPDX-License-Identifier: MIT */
/*
 * Answers. What most of them are made of is ready before the request comes: the first lines of a
 * 200, once a second, and the fields of a file with the file. A gather write joins them; a large
 * body is lent to the connection, with a reference that comes back when it is sent.
 */
#include "reply.h"

#include "date.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#define HEAD_BYTES 1024

static const char *status_text(unsigned status)
{
    switch (status) {
    case 200:
        return "OK";
    case 206:
        return "Partial Content";
    case 301:
        return "Moved Permanently";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 412:
        return "Precondition Failed";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 416:
        return "Range Not Satisfiable";
    case 417:
        return "Expectation Failed";
    case 431:
        return "Request Header Fields Too Large";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Internal Server Error";
    }
}

/* ---- writing ---- */

static void reply_wrote(struct http_conn *conn, int rc)
{
    if (rc == 1)
        conn->blocked = true;
    else if (rc < 0) {
        conn->is_open = false;
        numaperf_conn_close(conn->conn, rc);
    }
}

static void reply_borrow_done(numaperf_conn_t *conn, int status, void *data)
{
    (void)conn;
    (void)status; /* on_close tells it, too */
    entry_drop(data);
}

static void reply_borrow(struct http_conn *conn, struct entry *entry, const struct part *part)
{
    atomic_fetch_add_explicit(&entry->references, 1, memory_order_relaxed);
    int rc = numaperf_conn_write_borrowed(conn->conn, entry->body + part->offset, part->length,
                                          reply_borrow_done, entry);
    if (rc < 0)
        entry_drop(entry);
    reply_wrote(conn, rc);
}

/* ---- heads ---- */

/* Whether the connection goes on after this answer; to be asked once an answer. */
static const char *reply_connection(struct http_conn *conn)
{
    const struct request *request = &conn->request;
    if (!request->keep_alive || request->expects_continue || conn->last || conn->refused) {
        conn->ending = true;
        return "Connection: close\r\n";
    }
    return request->is_1_0 ? "Connection: keep-alive\r\n" : "";
}

static void reply_prefix(struct http_worker *worker)
{
    time_t now = time(NULL);
    if (now == worker->prefix_time)
        return;
    char date[DATE_BYTES];
    date_format(now, date);
    int length = snprintf(worker->prefix, sizeof(worker->prefix),
                          "HTTP/1.1 200 OK\r\nServer: numaperf\r\nDate: %s\r\n", date);
    worker->prefix_length = (size_t)length;
    worker->prefix_time = now;
}

static void reply_count(struct http_conn *conn, unsigned status)
{
    http_count(&conn->worker->counters.answers[status / 100], 1);
}

/* Status line and the fields that every answer has; the length. */
static size_t reply_begin(struct http_conn *conn, unsigned status, char head[HEAD_BYTES])
{
    char date[DATE_BYTES];
    date_format(time(NULL), date);
    reply_count(conn, status);
    return (size_t)snprintf(head, HEAD_BYTES,
                            "HTTP/1.1 %u %s\r\nServer: numaperf\r\nDate: %s\r\n%s", status,
                            status_text(status), date, reply_connection(conn));
}

/* A head in `text`, then a body unless only the head was asked for. */
static void reply_send(struct http_conn *conn, const char *text, size_t length, const char *body)
{
    struct iovec parts[2] = {{(void *)(uintptr_t)text, length},
                             {(void *)(uintptr_t)body, strlen(body)}};
    reply_wrote(conn, numaperf_conn_writev(conn->conn, parts,
                                           conn->request.is_head || body[0] == '\0' ? 1 : 2));
}

/* ---- answers ---- */

void reply_status(struct http_conn *conn, unsigned status)
{
    char head[HEAD_BYTES];
    char body[64];
    int body_length = snprintf(body, sizeof(body), "%u %s\n", status, status_text(status));
    size_t length = reply_begin(conn, status, head);
    length += (size_t)snprintf(head + length, sizeof(head) - length,
                               "%sContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n",
                               status == 405 ? "Allow: GET, HEAD\r\n" : "", body_length);
    reply_send(conn, head, length, body);
}

void reply_refuse(struct http_conn *conn, unsigned status)
{
    conn->refused = true;
    reply_status(conn, status);
}

void reply_redirect(struct http_conn *conn, const struct path *path)
{
    char head[HEAD_BYTES + 3 * HTTP_PATH_MAX + 8];
    char location[3 * HTTP_PATH_MAX + 2];
    if (path_encode(path, location, sizeof(location)) >= sizeof(location)) {
        reply_status(conn, 404);
        return;
    }
    size_t length = reply_begin(conn, 301, head);
    length += (size_t)snprintf(head + length, sizeof(head) - length,
                               "Location: %s/\r\nContent-Length: 0\r\n\r\n", location);
    reply_send(conn, head, length, "");
}

/* Whatever is not all of a file: nothing of it, or a part. */
static void reply_partly(struct http_conn *conn, unsigned status, const struct entry *entry,
                         const struct part *part)
{
    char head[HEAD_BYTES];
    char date[DATE_BYTES];
    const struct validator *file = &entry->validator;
    if (status == 412) {
        reply_status(conn, status);
        return;
    }
    size_t length = reply_begin(conn, status, head);
    char *at = head + length;
    size_t room = sizeof(head) - length;
    date_format(file->modified, date);
    if (status == 416) {
        length += (size_t)snprintf(at, room, "Content-Range: bytes */%llu\r\nContent-Length: 0\r\n",
                                   (unsigned long long)file->size);
    } else if (status == 304) {
        length += (size_t)snprintf(at, room, "ETag: %s\r\nLast-Modified: %s\r\n", file->etag, date);
    } else {
        /* The file's own fields are those of the whole: all but the length of what follows. */
        const char *type_end = memchr(entry->head, '\n', entry->head_length);
        length += (size_t)snprintf(
            at, room,
            "%.*sLast-Modified: %s\r\nETag: %s\r\nContent-Range: bytes %llu-%llu/%llu\r\n"
            "Content-Length: %llu\r\n",
            (int)(type_end - entry->head) + 1, entry->head, date, file->etag,
            (unsigned long long)part->offset, (unsigned long long)(part->offset + part->length - 1),
            (unsigned long long)file->size, (unsigned long long)part->length);
    }
    memcpy(head + length, "\r\n", 3);
    reply_send(conn, head, length + 2, "");
}

/* First lines and the file's fields: of a 200. With the body behind them when it is small. */
static void reply_whole(struct http_conn *conn, const struct entry *entry, bool with_body)
{
    struct http_worker *worker = conn->worker;
    const char *connection = reply_connection(conn);
    reply_prefix(worker);
    reply_count(conn, 200);
    struct iovec parts[4] = {{worker->prefix, worker->prefix_length}};
    size_t count = 1;
    if (connection[0] != '\0')
        parts[count++] = (struct iovec){(void *)(uintptr_t)connection, strlen(connection)};
    parts[count++] = (struct iovec){(void *)(uintptr_t)entry->head, entry->head_length};
    if (with_body)
        parts[count++] = (struct iovec){(void *)(uintptr_t)entry->body, entry->validator.size};
    reply_wrote(conn, numaperf_conn_writev(conn->conn, parts, count));
}

void reply_entry(struct http_conn *conn, struct entry *entry)
{
    struct part part;
    unsigned status = condition_status(&conn->request, &entry->validator, &part);
    bool with_body = !conn->request.is_head && part.length > 0;
    if (status == 200) {
        bool small = part.length <= HTTP_COPY_MAX;
        reply_whole(conn, entry, with_body && small);
        if (with_body && !small)
            reply_borrow(conn, entry, &part);
        return;
    }
    reply_partly(conn, status, entry, &part);
    if (status == 206 && with_body)
        reply_borrow(conn, entry, &part);
}

unsigned reply_head(struct http_conn *conn, const struct entry *entry, struct part *out)
{
    unsigned status = condition_status(&conn->request, &entry->validator, out);
    if (status == 200)
        reply_whole(conn, entry, false);
    else
        reply_partly(conn, status, entry, out);
    if ((status != 200 && status != 206) || conn->request.is_head)
        out->length = 0;
    return status;
}

static void reply_text_sent(numaperf_conn_t *conn, int status, void *data)
{
    (void)conn;
    (void)status; /* on_close tells it, too */
    free(data);
}

void reply_metrics(struct http_conn *conn)
{
    char head[HEAD_BYTES];
    size_t size = 0;
    char *text = metrics_text(conn->worker->server, &size);
    if (text == NULL) {
        reply_status(conn, 503);
        return;
    }
    size_t length = reply_begin(conn, 200, head);
    length += (size_t)snprintf(head + length, sizeof(head) - length,
                               "Content-Type: text/plain; version=0.0.4\r\n"
                               "Cache-Control: no-store\r\nContent-Length: %zu\r\n\r\n",
                               size);
    reply_send(conn, head, length, "");
    int rc = conn->request.is_head
                 ? -EPIPE
                 : numaperf_conn_write_borrowed(conn->conn, text, size, reply_text_sent, text);
    if (rc < 0)
        free(text);
    if (!conn->request.is_head)
        reply_wrote(conn, rc);
}
