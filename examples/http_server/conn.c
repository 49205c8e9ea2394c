/* SPDX-License-Identifier: MIT */
/*
 * One connection: requests in, answers out, in order, one at a time.
 *
 *     head       between requests or within one; the request is answered when its head is there
 *     body       its body is thrown away, up to a limit
 *     waiting    a file is being read for the answer; nothing is read meanwhile
 *     streaming  a large file is being sent; the same
 *
 * A request is answered where it lies, in the receive buffer: it is copied only when a part of it
 * has not come yet, or when its answer has to wait for a file. A peer that takes its answers slowly
 * is not read from until it has taken them.
 */
#include "conn.h"

#include "load.h"
#include "reply.h"
#include "stream.h"

#include <errno.h>
#include <string.h>

/* ---- deadlines ---- */

static void deadline_clear(struct http_conn *conn)
{
    struct http_deadlines *list = &conn->worker->requests;
    if (!conn->in_deadlines)
        return;
    *(conn->earlier != NULL ? &conn->earlier->later : &list->first) = conn->later;
    *(conn->later != NULL ? &conn->later->earlier : &list->last) = conn->earlier;
    conn->in_deadlines = false;
}

/* All have the same time to go: who comes last is last. */
static void deadline_set_request(struct http_conn *conn)
{
    struct http_worker *worker = conn->worker;
    struct http_deadlines *list = &worker->requests;
    uint32_t seconds = worker->server->request_seconds;
    if (seconds == 0 || conn->in_deadlines)
        return;
    conn->in_deadlines = true;
    conn->deadline_ms = uv_now(worker->loop) + (uint64_t)seconds * 1000;
    conn->earlier = list->last;
    conn->later = NULL;
    *(list->last != NULL ? &list->last->later : &list->first) = conn;
    list->last = conn;
    if (!uv_is_active((uv_handle_t *)&worker->tick))
        (void)uv_timer_start(&worker->tick, conn_tick, 250, 250); /* it has a callback */
}

/* ---- the end ---- */

static void conn_close(struct http_conn *conn, int reason)
{
    conn->is_open = false;
    numaperf_conn_close(conn->conn, reason);
}

/* The last answer was given, or there is nobody to answer. What still comes is thrown away by the
   library for a moment, so that the answer is not lost to a reset. */
static void conn_finish(struct http_conn *conn)
{
    conn->is_open = false;
    deadline_clear(conn);
    (void)numaperf_conn_finish(conn->conn); /* nothing, when it is closed already */
}

/* ---- answers ---- */

static bool conn_can_go(const struct http_conn *conn)
{
    return conn->is_open && !conn->blocked && !conn->ending &&
           (conn->state == CONN_HEAD || conn->state == CONN_BODY);
}

static struct front_slot *front_find(struct http_worker *worker, const char *path, size_t length)
{
    /* Not keyed: who makes two paths fall together costs himself the decoding. */
    uint64_t hash = length * UINT64_C(0x9e3779b97f4a7c15);
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)path[i]) * UINT64_C(0x100000001b3);
    return &worker->front[(hash ^ (hash >> 29)) % HTTP_FRONT_SLOTS];
}

static bool entry_is_fresh(const struct http_worker *worker, struct entry *entry)
{
    uint64_t checked = atomic_load_explicit(&entry->checked_ms, memory_order_relaxed);
    return uv_now(worker->loop) - checked < HTTP_FRESH_MS ||
           checked > uv_now(worker->loop); /* another worker's clock is ahead of our turn's */
}

/* Answers from the worker's own table. */
static bool answer_from_front(struct http_conn *conn, const char *path, size_t length)
{
    struct front_slot *slot = front_find(conn->worker, path, length);
    if (slot->entry == NULL || slot->length != length || memcmp(slot->path, path, length) != 0 ||
        !entry_is_fresh(conn->worker, slot->entry))
        return false;
    http_count(&conn->worker->counters.front_hits, 1);
    reply_entry(conn, slot->entry);
    return true;
}

/* Answers from the node's cache, and remembers it. */
static bool answer_from_cache(struct http_conn *conn, const char *path, size_t length)
{
    struct http_worker *worker = conn->worker;
    struct entry *entry = cache_get(worker->cache, &conn->path);
    if (entry == NULL)
        return false;
    if (!entry_is_fresh(worker, entry)) {
        entry_drop(entry);
        return false;
    }
    http_count(&worker->counters.cache_hits, 1);
    reply_entry(conn, entry);
    struct front_slot *slot = front_find(worker, path, length);
    if (length > sizeof(slot->path)) {
        entry_drop(entry);
        return true;
    }
    if (slot->entry != NULL)
        entry_drop(slot->entry);
    slot->entry = entry;
    slot->length = (uint32_t)length;
    memcpy(slot->path, path, length);
    return true;
}

/* Keeps the head, as the answer has to wait; the spans move with it. */
static bool conn_keep_head(struct http_conn *conn, const char *head, size_t length)
{
    conn->head = numaperf_arena_alloc(conn->worker->arena, length, 16);
    if (conn->head == NULL)
        return false;
    memcpy(conn->head, head, length);
    conn->request.target.data = conn->head + (conn->request.target.data - head);
    for (unsigned i = 0; i < FIELD_COUNT; i++) {
        struct span *span = &conn->request.fields[i];
        if (span->data != NULL)
            span->data = conn->head + (span->data - head);
    }
    return true;
}

static void answer_from_file(struct http_conn *conn, const char *head, size_t length)
{
    if (!conn_keep_head(conn, head, length)) {
        reply_status(conn, 503);
        return;
    }
    conn->state = CONN_WAITING;
    unsigned status = load_begin(conn);
    if (status != 0) {
        conn->state = CONN_HEAD;
        reply_status(conn, status);
    }
}

static void answer(struct http_conn *conn, const char *head, size_t length)
{
    const struct request *request = &conn->request;
    const char *path = NULL;
    size_t path_length = path_of_target(request->target.data, request->target.length, &path);
    if (!request->is_get && !request->is_head) {
        reply_status(conn, 405);
        return;
    }
    if (path_length > 0 && answer_from_front(conn, path, path_length))
        return;
    unsigned status = path_length > 0 ? path_decode(path, path_length, &conn->path) : 400;
    if (status != 0)
        reply_status(conn, status);
    else if (strcmp(conn->path.text, "metrics") == 0)
        reply_metrics(conn);
    else if (!answer_from_cache(conn, path, path_length))
        answer_from_file(conn, head, length);
}

/* ---- input ---- */

static void conn_set_body_state(struct http_conn *conn)
{
    conn->state = conn->has_body ? CONN_BODY : CONN_HEAD;
    if (!conn->has_body)
        request_begin(&conn->reader);
}

/* One step within `bytes`; how many were used up, 0: more are needed. */
static size_t conn_step(struct http_conn *conn, const char *bytes, size_t length)
{
    if (conn->state == CONN_BODY) {
        bool complete = false;
        int taken = request_skip_body(&conn->reader, bytes, length, &complete);
        if (taken < 0) { /* its request is answered already: there is nothing to say */
            conn->ending = true;
            return length;
        }
        conn->has_body = !complete;
        if (complete)
            conn_set_body_state(conn);
        return (size_t)taken;
    }
    int head = request_scan(&conn->reader, bytes, length);
    if (head == 0)
        return 0;
    http_count(&conn->worker->counters.requests, 1);
    if (head < 0) {
        memset(&conn->request, 0, sizeof(conn->request));
        reply_refuse(conn, (unsigned)-head);
        return length;
    }
    unsigned status = request_read_head(&conn->reader, bytes, (size_t)head, &conn->request);
    if (status != 0) {
        reply_refuse(conn, status);
        return length;
    }
    deadline_clear(conn);
    conn->has_body = conn->request.has_body;
    answer(conn, bytes, (size_t)head);
    if (conn->state != CONN_WAITING)
        conn_set_body_state(conn);
    return (size_t)head;
}

/* Keeps what is not used up; `bytes` may lie in the input itself. */
static bool conn_keep_input(struct http_conn *conn, const char *bytes, size_t length)
{
    if (length > conn->input_capacity) {
        size_t capacity = length < 2048 ? 2048 : length;
        char *larger = numaperf_arena_alloc(conn->worker->arena, capacity, 16);
        if (larger == NULL)
            return false;
        memcpy(larger, bytes, length);
        numaperf_arena_free(conn->worker->arena, conn->input);
        conn->input = larger;
        conn->input_capacity = capacity;
    } else if (length > 0) {
        memmove(conn->input, bytes, length);
    } else if (conn->input != NULL) {
        numaperf_arena_free(conn->worker->arena, conn->input);
        conn->input = NULL;
        conn->input_capacity = 0;
    }
    conn->input_length = length;
    return true;
}

/* Appends what came to what was kept. */
static bool conn_join_input(struct http_conn *conn, const void *bytes, size_t length)
{
    size_t all = conn->input_length + length;
    if (all > conn->input_capacity) {
        char *larger = numaperf_arena_alloc(conn->worker->arena, all, 16);
        if (larger == NULL)
            return false;
        if (conn->input_length > 0)
            memcpy(larger, conn->input, conn->input_length);
        numaperf_arena_free(conn->worker->arena, conn->input);
        conn->input = larger;
        conn->input_capacity = all;
    }
    memcpy(conn->input + conn->input_length, bytes, length);
    conn->input_length = all;
    return true;
}

static void conn_set_paused(struct http_conn *conn, bool paused)
{
    if (conn->is_paused == paused)
        return;
    conn->is_paused = paused;
    if (paused)
        numaperf_conn_pause(conn->conn);
    else
        numaperf_conn_resume(conn->conn);
}

/* Between requests, with no answer to say that it was the last one. A request may have come that we
   have not seen: the kernel tells it before the end. An end that TLS did not tell would look like
   an attack, so a connection with TLS just ends. */
static void conn_stop_input(struct http_conn *conn)
{
    int fd = numaperf_conn_fd(conn->conn);
    if (conn->input_stopped)
        return;
    conn->input_stopped = true;
    if (fd < 0 || conn->worker->server->tls != NULL || shutdown(fd, SHUT_RD) != 0)
        conn_finish(conn);
}

/* After steps: read on, wait, or end. */
static void conn_settle(struct http_conn *conn)
{
    bool between = conn->state == CONN_HEAD && conn->input_length == 0;
    if (!conn->is_open)
        return;
    if (conn->state == CONN_WAITING || conn->state == CONN_STREAMING || conn->blocked) {
        conn_set_paused(conn, true);
        return;
    }
    if (conn->ending || conn->input_ended) {
        conn_finish(conn);
        return;
    }
    if (!between)
        deadline_set_request(conn);
    else
        deadline_clear(conn);
    if (between && conn->last)
        conn_stop_input(conn);
    if (!conn->is_open)
        return;
    conn_set_paused(conn, false);
}

static void conn_run(struct http_conn *conn, const char *bytes, size_t length)
{
    size_t used = 0;
    conn->is_running = true;
    while (used < length && conn_can_go(conn)) {
        size_t taken = conn_step(conn, bytes + used, length - used);
        if (taken == 0)
            break;
        used += taken;
    }
    conn->is_running = false;
    if (!conn->is_open)
        return;
    if ((used < length || conn->input != NULL) &&
        !conn_keep_input(conn, bytes + used, length - used)) {
        conn_close(conn, -ENOMEM);
        return;
    }
    conn_settle(conn);
}

static void conn_go_on(struct http_conn *conn)
{
    if (conn->is_running || !conn->is_open)
        return;
    if (conn_can_go(conn) && conn->input_length > 0)
        conn_run(conn, conn->input, conn->input_length);
    else
        conn_settle(conn);
}

void conn_answered(struct http_conn *conn)
{
    numaperf_arena_free(conn->worker->arena, conn->head);
    conn->head = NULL;
    conn_set_body_state(conn);
    conn_go_on(conn);
}

/* ---- callbacks ---- */

static void conn_tls_ended(numaperf_conn_t *nc);

static int on_open(numaperf_conn_t *nc, void *data)
{
    struct http_server *server = data;
    struct http_worker *worker = numaperf_worker_data(numaperf_worker_current());
    struct http_conn *conn = numaperf_arena_alloc(worker->arena, sizeof(*conn), 64);
    numaperf_conn_set_data(nc, conn);
    if (conn == NULL)
        return -ENOMEM;
    memset(conn, 0, sizeof(*conn));
    conn->conn = nc;
    conn->worker = worker;
    conn->is_open = true;
    request_begin(&conn->reader);
    /* From here on: a peer that says nothing at all is a slow one, too. */
    deadline_set_request(conn);
    return server->tls != NULL ? tls_attach(server->tls, nc, conn_tls_ended) : 0;
}

static void on_read(numaperf_conn_t *nc, const void *bytes, size_t length, void *data)
{
    (void)nc;
    struct http_conn *conn = data;
    if (!conn->is_open)
        return; /* it is being finished */
    if (conn->input_length == 0 && conn_can_go(conn)) {
        conn_run(conn, bytes, length);
        return;
    }
    if (!conn_join_input(conn, bytes, length)) {
        conn_close(conn, -ENOMEM);
        return;
    }
    conn_go_on(conn);
}

/* The peer sends no more: what it asked for is still answered. */
static void on_end(numaperf_conn_t *nc, void *data)
{
    struct http_conn *conn = data;
    (void)nc;
    conn->input_ended = true;
    conn_go_on(conn);
}

static void conn_tls_ended(numaperf_conn_t *nc)
{
    on_end(nc, numaperf_conn_data(nc));
}

static void on_drain(numaperf_conn_t *nc, void *data)
{
    (void)nc;
    struct http_conn *conn = data;
    conn->blocked = false;
    if (conn->stream != NULL)
        stream_drained(conn->stream);
    else
        conn_go_on(conn);
}

/* The server stops: what has come is answered, and the last answer says so. */
static void on_shutdown(numaperf_conn_t *nc, void *data)
{
    (void)nc;
    struct http_conn *conn = data;
    conn->last = true;
    if (conn->is_open && conn->state == CONN_HEAD && conn->input_length == 0)
        conn_stop_input(conn);
}

static void on_close(numaperf_conn_t *nc, int reason, void *data)
{
    (void)nc;
    (void)reason; /* the library counts it */
    struct http_conn *conn = data;
    if (conn == NULL)
        return; /* there was no memory for it */
    conn->is_open = false;
    deadline_clear(conn);
    load_leave(conn);
    if (conn->stream != NULL)
        stream_leave(conn->stream);
    numaperf_arena_free(conn->worker->arena, conn->input);
    numaperf_arena_free(conn->worker->arena, conn->head);
    numaperf_arena_free(conn->worker->arena, conn);
}

const numaperf_conn_callbacks_t http_conn_callbacks = {
    .on_open = on_open,
    .on_read = on_read,
    .on_end = on_end,
    .on_drain = on_drain,
    .on_shutdown = on_shutdown,
    .on_close = on_close,
};

/* ---- time ---- */

static struct http_conn *deadline_next(struct http_deadlines *list, uint64_t now_ms)
{
    struct http_conn *conn = list->first;
    return conn != NULL && conn->deadline_ms <= now_ms ? conn : NULL;
}

void conn_tick(uv_timer_t *timer)
{
    struct http_worker *worker = timer->data;
    uint64_t now_ms = uv_now(worker->loop);
    struct http_conn *conn = NULL;
    while ((conn = deadline_next(&worker->requests, now_ms)) != NULL) {
        deadline_clear(conn);
        http_count(&worker->counters.request_timeouts, 1);
        if (conn->state == CONN_HEAD && conn->input_length > 0) {
            memset(&conn->request, 0, sizeof(conn->request));
            reply_refuse(conn, 408);
            conn->input_length = 0;
            conn_settle(conn);
        } else {
            conn_close(conn, -ETIMEDOUT);
        }
    }
    if (worker->requests.first == NULL)
        (void)uv_timer_stop(timer); /* never fails */
}
