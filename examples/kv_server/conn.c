/* SPDX-License-Identifier: MIT */
/*
 * One connection: bytes in, requests in order, answers in order, bytes out.
 *
 *     open     reads while the gate is open: while little enough is unanswered and unwritten
 *     ending   takes no more commands (QUIT, a protocol error, the peer's end of stream); what
 *              was taken is answered and written
 *     linger   everything is written and our side is shut; input is thrown away for a moment, as
 *              closing with unread input would reset the connection and lose the last answer
 *     closing  uv_close() was called; freed when the last of its operations is back
 *
 * Reading only takes commands. Shards are asked and answers written at the end of the worker's
 * turn, once for each connection that changed, so that many of them travel together.
 */
#include "conn.h"

#include "command.h"
#include "limits.h"
#include "output.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define TICK_MS 1000

struct conn {
    union server_stream stream; /* first: libuv hands it back */
    struct kv_worker *worker;
    struct conn *prev, *next; /* in the worker's list of all */
    struct conn *next_changed;
    bool is_changed;
    bool reading;
    bool end_of_input; /* the peer sends no more */
    bool ending;
    bool linger;
    bool writing; /* `busy` is with libuv */
    bool closed;
    uint32_t unanswered; /* requests */
    uint32_t ops_in_flight;
    size_t pending_bytes; /* of requests and of the values they found */
    struct request *first, *last;
    struct frame frame;
    char *input;
    size_t input_capacity, input_start, input_end;
    struct output output, busy;
    uv_write_t write;
    size_t write_left; /* at the last tick */
    uint64_t active_at_ms;
    uint64_t linger_until_ms;
    size_t linger_bytes;
};

static void conn_changed(struct conn *conn)
{
    if (conn->is_changed)
        return;
    conn->is_changed = true;
    conn->next_changed = conn->worker->changed;
    conn->worker->changed = conn;
}

/* ---- end ---- */

static void conn_pop(struct conn *conn)
{
    struct request *request = conn->first;
    conn->first = request->next;
    if (conn->first == NULL)
        conn->last = NULL;
    conn->unanswered--;
    conn->pending_bytes -= request->bytes;
    request_free(request, conn->worker->arena);
}

static void conn_free_when_done(struct conn *conn)
{
    if (!conn->closed || conn->ops_in_flight > 0 || conn->is_changed)
        return;
    struct kv_worker *worker = conn->worker;
    while (conn->first != NULL)
        conn_pop(conn);
    if (conn->prev != NULL)
        conn->prev->next = conn->next;
    else
        worker->conns = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    output_free(&conn->output);
    output_free(&conn->busy);
    numaperf_arena_free(worker->arena, conn->input);
    numaperf_arena_free(worker->arena, conn);
    if (worker->conns == NULL && !uv_is_closing((uv_handle_t *)&worker->tick))
        (void)uv_timer_stop(&worker->tick); /* never fails */
    server_connection_closed(worker->server);
}

static void conn_closed(uv_handle_t *handle)
{
    struct conn *conn = (struct conn *)handle;
    conn->closed = true;
    conn_free_when_done(conn);
}

static void conn_close(struct conn *conn)
{
    if (!uv_is_closing(&conn->stream.handle))
        uv_close(&conn->stream.handle, conn_closed);
}

/* ---- input ---- */

static bool conn_gate_open(const struct conn *conn)
{
    size_t unwritten = conn->output.length + (conn->writing ? conn->busy.length : 0);
    return !conn->ending && conn->unanswered < KV_UNANSWERED_MAX &&
           conn->pending_bytes + unwritten < KV_PENDING_BYTES_MAX;
}

/* Room to read into: by moving what is there to the front, then by a larger buffer. */
static bool conn_input_room(struct conn *conn)
{
    size_t held = conn->input_end - conn->input_start;
    if (conn->input_start > 0 &&
        conn->input_capacity - conn->input_end < conn->input_capacity / 2) {
        memmove(conn->input, conn->input + conn->input_start, held);
        conn->input_start = 0;
        conn->input_end = held;
    }
    if (conn->input_end < conn->input_capacity)
        return true;
    size_t capacity = conn->input_capacity == 0 ? KV_INPUT_BYTES : conn->input_capacity * 2;
    if (capacity > KV_COMMAND_MAX)
        return false;
    char *larger = numaperf_arena_alloc(conn->worker->arena, capacity, 64);
    if (larger == NULL)
        return false;
    if (held > 0)
        memcpy(larger, conn->input, held);
    numaperf_arena_free(conn->worker->arena, conn->input);
    conn->input = larger;
    conn->input_capacity = capacity;
    return true;
}

static void conn_input_consume(struct conn *conn, size_t bytes)
{
    conn->input_start += bytes;
    frame_reset(&conn->frame);
    if (conn->input_start < conn->input_end)
        return;
    conn->input_start = 0;
    conn->input_end = 0;
    if (conn->input_capacity > KV_INPUT_BYTES) { /* one large command is over */
        numaperf_arena_free(conn->worker->arena, conn->input);
        conn->input = NULL;
        conn->input_capacity = 0;
    }
}

static void conn_push(struct conn *conn, struct request *request)
{
    request->conn = conn;
    if (conn->last == NULL)
        conn->first = request;
    else
        conn->last->next = request;
    conn->last = request;
    conn->unanswered++;
    conn->pending_bytes += request->bytes;
}

/* Puts an error in the order of answers. Without memory even for that, the connection ends. */
static void conn_push_error(struct conn *conn, const char *prefix, const char *text)
{
    struct request *request = request_error(conn->worker->arena, prefix, text);
    if (request == NULL)
        conn_close(conn);
    else
        conn_push(conn, request);
}

/* The peer broke the protocol or a limit: nothing after it can be trusted. */
static void conn_refuse(struct conn *conn, const char *text)
{
    kv_count(&conn->worker->counters.protocol_errors, 1);
    conn_push_error(conn, "ERR Protocol error: ", text);
    conn->ending = true;
}

/* A browser made to send a form here must not run the commands in it. */
static bool request_is_http(const struct request *request)
{
    const struct slice word = request->argc > 0 ? request->args[0] : (struct slice){"", 0};
    return (word.length == 4 && strncasecmp(word.data, "post", 4) == 0) ||
           (word.length == 5 && strncasecmp(word.data, "host:", 5) == 0);
}

/* One framed command becomes a request. */
static void conn_take(struct conn *conn)
{
    struct kv_worker *worker = conn->worker;
    if (worker->reader == NULL)
        worker->reader = request_reader_create();
    struct request *request = NULL;
    if (worker->reader != NULL)
        request = request_parse(worker->arena, worker->reader, &conn->frame,
                                conn->input + conn->input_start);
    if (request == NULL) {
        conn_push_error(conn, "OOM ", "no memory for this command");
        return;
    }
    if (request->fault != FAULT_NONE) {
        conn_refuse(conn, request->error);
        request_free(request, worker->arena);
        redisReaderFree(worker->reader);
        worker->reader = NULL;
        return;
    }
    if (conn->frame.inlined && request_is_http(request)) {
        conn_refuse(conn, "this is no HTTP server");
        request_free(request, worker->arena);
        return;
    }
    if (command_plan(request, worker->arena) < 0) {
        request_free(request, worker->arena);
        conn_push_error(conn, "OOM ", "no memory for this command");
        return;
    }
    conn_push(conn, request);
    conn->ending = command_is_last(request);
    conn->ops_in_flight += request->op_count;
    kv_count(&worker->counters.commands, 1);
    kv_route(worker, request);
}

/* Takes commands from the buffer while the gate is open; true: there was at least one. */
static bool conn_parse(struct conn *conn)
{
    bool any = false;
    while (conn_gate_open(conn) && !uv_is_closing(&conn->stream.handle)) {
        size_t held = conn->input_end - conn->input_start;
        const char *data = held > 0 ? conn->input + conn->input_start : "";
        switch (frame_scan(&conn->frame, data, held)) {
        case FRAME_MORE:
            /* The rest of a command will never come. */
            conn->ending = conn->end_of_input;
            return any;
        case FRAME_ERROR:
            conn_refuse(conn, conn->frame.error);
            return true;
        case FRAME_COMMAND:
            conn_take(conn);
            any = true;
            break;
        case FRAME_EMPTY:
            break;
        }
        conn_input_consume(conn, conn->frame.length);
    }
    return any;
}

static void conn_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)suggested; /* what the limits leave is what there is */
    struct conn *conn = (struct conn *)handle;
    *out = uv_buf_init(NULL, 0); /* libuv reports ENOBUFS then */
    if (conn->linger) {
        conn->input_start = 0;
        conn->input_end = 0;
    }
    if (conn_input_room(conn))
        *out = uv_buf_init(conn->input + conn->input_end,
                           (unsigned)(conn->input_capacity - conn->input_end));
}

static void conn_read_done(uv_stream_t *stream, ssize_t length, const uv_buf_t *buf);

static void conn_set_reading(struct conn *conn, bool on)
{
    if (conn->reading == on)
        return;
    conn->reading = on;
    if (!on)
        (void)uv_read_stop(&conn->stream.stream); /* always succeeds */
    else if (uv_read_start(&conn->stream.stream, conn_alloc, conn_read_done) < 0)
        conn_close(conn);
}

static void conn_discard(struct conn *conn, size_t bytes)
{
    conn->linger_bytes += bytes;
    if (conn->linger_bytes > KV_LINGER_BYTES)
        conn_close(conn);
}

static void conn_read_done(uv_stream_t *stream, ssize_t length, const uv_buf_t *buf)
{
    (void)buf; /* it lies at input_end */
    struct conn *conn = (struct conn *)stream;
    if (length == 0)
        return;
    if (length == UV_ENOBUFS && !conn->linger) {
        conn_push_error(conn, "OOM ", "no memory to read into");
        conn->ending = true;
    } else if (length == UV_EOF && !conn->linger) {
        conn->end_of_input = true;
    } else if (length < 0) {
        conn_close(conn);
        return;
    } else if (conn->linger) {
        conn_discard(conn, (size_t)length);
        return;
    } else {
        conn->input_end += (size_t)length;
        conn->active_at_ms = uv_now(stream->loop);
        /* libuv may read again before this turn ends: not into a buffer full of commands, and not
           more of them than the gate lets in. */
        (void)conn_parse(conn);
        conn_set_reading(conn, conn_gate_open(conn));
    }
    conn_changed(conn);
}

/* ---- output ---- */

/* There was no memory for an answer; true: it is an error now, false: it waits or is no more. */
static bool conn_answer_without_memory(struct conn *conn)
{
    if (conn->output.length > 0 || conn->writing)
        return false; /* memory comes back when that has gone out */
    if (!output_reserve(&conn->output, OUTPUT_SHORT)) {
        conn_close(conn);
        return false;
    }
    output_error(&conn->output, "OOM no memory for this answer");
    return true;
}

/* Writes the answers that are ready and next in order; true: there was at least one. */
static bool conn_answer(struct conn *conn)
{
    bool any = false;
    while (conn->first != NULL && conn->first->ops_left == 0 &&
           conn->output.length < KV_PENDING_BYTES_MAX) {
        if (!command_answer(conn->worker, conn->first, &conn->output) &&
            !conn_answer_without_memory(conn))
            break;
        conn_pop(conn);
        any = true;
    }
    return any;
}

static void conn_write_done(uv_write_t *write, int status)
{
    struct conn *conn = write->data;
    conn->writing = false;
    output_free(&conn->busy);
    if (uv_is_closing(&conn->stream.handle))
        return;
    if (status < 0) {
        conn_close(conn);
        return;
    }
    conn->active_at_ms = uv_now(conn->stream.handle.loop);
    conn_changed(conn);
}

/* true: something went out. */
static bool conn_write(struct conn *conn)
{
    if (conn->writing || conn->output.length == 0 || uv_is_closing(&conn->stream.handle))
        return false;
    uv_buf_t buf = uv_buf_init(conn->output.data, (unsigned)conn->output.length);
    int written = uv_try_write(&conn->stream.stream, &buf, 1);
    if (written == (int)conn->output.length) {
        conn->output.length = 0;
        if (conn->output.capacity > 4 * KV_OUTPUT_BYTES)
            output_free(&conn->output);
        return true;
    }
    if (written < 0 && written != UV_EAGAIN) {
        conn_close(conn);
        return false;
    }
    conn->busy = conn->output;
    conn->output = (struct output){.arena = conn->worker->arena};
    if (written > 0) {
        buf.base += written;
        buf.len -= (size_t)written;
    }
    conn->writing = true;
    conn->write.data = conn;
    if (uv_write(&conn->write, &conn->stream.stream, &buf, 1, conn_write_done) < 0) {
        conn->writing = false;
        conn_close(conn);
    }
    return written > 0;
}

/* ---- turn ---- */

/* Everything is answered and written. */
static void conn_finish(struct conn *conn)
{
    uv_os_fd_t fd = -1;
    if (conn->end_of_input || uv_fileno(&conn->stream.handle, &fd) < 0 ||
        shutdown(fd, SHUT_WR) != 0) {
        conn_close(conn);
        return;
    }
    conn->linger = true;
    conn->linger_until_ms = uv_now(conn->stream.handle.loop) + KV_LINGER_MS;
    conn_set_reading(conn, true);
}

static void conn_look_after(struct conn *conn)
{
    bool more = !conn->linger;
    while (more && !uv_is_closing(&conn->stream.handle)) {
        more = conn_answer(conn);
        more = conn_parse(conn) || more;
        /* Answers to what was parsed just now go out together with the others. */
        more = more || conn_write(conn);
    }
    if (uv_is_closing(&conn->stream.handle)) {
        conn_free_when_done(conn);
        return;
    }
    if (conn->linger)
        return;
    conn_set_reading(conn, !conn->end_of_input && conn_gate_open(conn));
    if (conn->ending && conn->first == NULL && !conn->writing && conn->output.length == 0)
        conn_finish(conn);
}

void conn_look_after_changed(struct kv_worker *worker)
{
    while (worker->changed != NULL) {
        struct conn *conn = worker->changed;
        worker->changed = conn->next_changed;
        conn->is_changed = false;
        conn_look_after(conn);
    }
}

void conn_op_done(struct conn *conn, struct op *op)
{
    struct request *request = op->request;
    request->ops_left--;
    conn->ops_in_flight--;
    if (op->found != NULL) {
        request->bytes += op->found->length;
        conn->pending_bytes += op->found->length;
    }
    if (conn->closed)
        conn_free_when_done(conn);
    else if (request->ops_left == 0)
        conn_changed(conn);
}

/* ---- begin ---- */

void conn_open(struct kv_worker *worker)
{
    unsigned open = atomic_load_explicit(&worker->server->connection_count, memory_order_relaxed);
    struct conn *conn = NULL;
    if (open < worker->server->options->connections_max)
        conn = numaperf_arena_alloc(worker->arena, sizeof(*conn), 64);
    if (conn == NULL) {
        kv_count(&worker->counters.connections_refused, 1);
        server_refuse(worker->server, "-ERR max number of clients reached\r\n");
        return;
    }
    memset(conn, 0, sizeof(*conn));
    bool initialised = false;
    int rc = server_accept(worker->server, &conn->stream, &initialised);
    if (!initialised) {
        numaperf_arena_free(worker->arena, conn);
        return;
    }
    conn->worker = worker;
    conn->output.arena = worker->arena;
    conn->busy.arena = worker->arena;
    conn->next = worker->conns;
    if (conn->next != NULL)
        conn->next->prev = conn;
    worker->conns = conn;
    conn->active_at_ms = uv_now(worker->server->loop);
    kv_count(&worker->counters.connections_accepted, 1);
    if (!uv_is_active((uv_handle_t *)&worker->tick))
        (void)uv_timer_start(&worker->tick, conn_tick, TICK_MS, TICK_MS); /* has a callback */
    if (rc < 0)
        conn_close(conn);
    else
        conn_set_reading(conn, true);
}

/* A peer that takes a large answer slowly makes progress without a callback. */
static bool conn_is_idle(struct conn *conn, uint64_t now_ms, uint64_t limit_ms)
{
    size_t left = uv_stream_get_write_queue_size(&conn->stream.stream);
    if (left < conn->write_left)
        conn->active_at_ms = now_ms;
    conn->write_left = left;
    return limit_ms > 0 && now_ms - conn->active_at_ms > limit_ms;
}

void conn_tick(uv_timer_t *timer)
{
    struct kv_worker *worker = timer->data;
    uint64_t now_ms = uv_now(timer->loop);
    uint64_t limit_ms = (uint64_t)worker->server->options->idle_seconds * 1000;
    for (struct conn *conn = worker->conns; conn != NULL; conn = conn->next) {
        if (conn->linger && now_ms >= conn->linger_until_ms) {
            conn_close(conn);
        } else if (conn_is_idle(conn, now_ms, limit_ms)) {
            kv_count(&worker->counters.connections_idle_closed, 1);
            conn_close(conn);
        }
    }
}

void conn_drain_all(struct kv_worker *worker, bool now)
{
    for (struct conn *conn = worker->conns; conn != NULL; conn = conn->next) {
        if (now)
            conn_close(conn);
        else
            server_stream_stop_receiving(&conn->stream);
    }
}
