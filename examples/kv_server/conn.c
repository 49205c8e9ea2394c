/* SPDX-License-Identifier: MIT */
/*
 * One connection: bytes in, requests in order, answers in order, bytes out.
 *
 *     open     reads while the gate is open: while little enough is unanswered and unsent
 *     ending   takes no more commands (QUIT, a protocol error, the peer's end of stream); what
 *              was taken is answered and written, then the socket is finished
 *     closed   the socket is gone; freed when the last of its operations is back
 *
 * Commands are taken apart where they were received. One whose key is in the worker's own shard is
 * run and answered on the spot. Only a command that waits, for another shard or for what is before
 * it, is copied; so is the part of one that has not come yet.
 *
 * All answers of a piece of input are written to the socket at once, and the socket sends what was
 * written in a turn together.
 */
#include "conn.h"

#include "command.h"
#include "limits.h"
#include "output.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define REFUSAL "-ERR max number of clients reached\r\n"

struct conn {
    struct kv_worker *worker;
    numaperf_conn_t *socket; /* NULL: it is gone */
    struct conn *next_changed;
    bool is_changed;
    bool in_hand; /* being looked after */
    bool paused;
    bool end_of_input; /* the peer sends no more */
    bool ending;
    bool finished;       /* the socket was told to end, in one way or the other */
    uint32_t unanswered; /* requests */
    uint32_t ops_in_flight;
    size_t pending_bytes; /* of requests and of the values they found */
    struct request *first, *last;
    struct frame frame;
    char *input; /* what was received and could not be taken yet */
    size_t input_capacity, input_start, input_end;
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
    if (conn->socket != NULL || conn->ops_in_flight > 0 || conn->is_changed)
        return;
    struct kv_worker *worker = conn->worker;
    while (conn->first != NULL)
        conn_pop(conn);
    numaperf_arena_free(worker->arena, conn->input);
    numaperf_arena_free(worker->arena, conn);
}

static void conn_close(struct conn *conn, int reason)
{
    conn->finished = true;
    numaperf_conn_close(conn->socket, reason);
}

/* ---- input ---- */

static bool conn_gate_open(const struct conn *conn)
{
    size_t unsent = conn->worker->answers.length + numaperf_conn_queued_bytes(conn->socket);
    return !conn->ending && conn->unanswered < KV_UNANSWERED_MAX &&
           conn->pending_bytes + unsent <= KV_PENDING_BYTES_MAX;
}

/* Keeps what cannot be taken now; false: no memory. */
static bool conn_keep(struct conn *conn, const char *bytes, size_t length)
{
    size_t held = conn->input_end - conn->input_start;
    if (conn->input_capacity - conn->input_end < length) {
        size_t capacity = conn->input_capacity == 0 ? KV_INPUT_BYTES : conn->input_capacity;
        while (capacity - held < length)
            capacity *= 2; /* a part of a command is less than KV_COMMAND_MAX */
        char *larger = conn->input;
        if (capacity != conn->input_capacity)
            larger = numaperf_arena_alloc(conn->worker->arena, capacity, 64);
        if (larger == NULL)
            return false;
        if (held > 0)
            memmove(larger, conn->input + conn->input_start, held);
        if (larger != conn->input)
            numaperf_arena_free(conn->worker->arena, conn->input);
        conn->input = larger;
        conn->input_capacity = capacity;
        conn->input_start = 0;
        conn->input_end = held;
    }
    memcpy(conn->input + conn->input_end, bytes, length);
    conn->input_end += length;
    return true;
}

static void conn_input_consume(struct conn *conn, size_t bytes)
{
    conn->input_start += bytes;
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
        conn_close(conn, -ENOMEM);
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
static void conn_take(struct conn *conn, const char *data)
{
    struct kv_worker *worker = conn->worker;
    if (worker->reader == NULL)
        worker->reader = request_reader_create();
    struct request *request = NULL;
    if (worker->reader != NULL)
        request = request_parse(worker->arena, worker->reader, &conn->frame, data);
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

/* ---- answers ---- */

/* Hands the answers in hand to the socket. */
static void conn_write(struct conn *conn)
{
    struct output *answers = &conn->worker->answers;
    if (answers->length == 0)
        return;
    if (!conn->finished) {
        int rc = numaperf_conn_write(conn->socket, answers->data, answers->length);
        if (rc < 0)
            conn_close(conn, rc);
    }
    answers->length = 0;
    if (answers->capacity > 4 * KV_OUTPUT_BYTES)
        output_free(answers);
}

/* There was no memory for an answer; true: it is an error now, false: it waits or is no more. */
static bool conn_answer_without_memory(struct conn *conn)
{
    struct output *answers = &conn->worker->answers;
    if (answers->length > 0 || numaperf_conn_queued_bytes(conn->socket) > 0)
        return false; /* memory comes back when that has gone out */
    if (!output_reserve(answers, OUTPUT_SHORT)) {
        conn_close(conn, -ENOMEM);
        return false;
    }
    output_error(answers, "OOM no memory for this answer");
    return true;
}

/* Writes the answers that are ready and next in order; true: there was at least one. */
static bool conn_answer(struct conn *conn)
{
    struct output *answers = &conn->worker->answers;
    bool any = false;
    while (conn->first != NULL && conn->first->ops_left == 0 && !conn->finished) {
        if (answers->length + numaperf_conn_queued_bytes(conn->socket) > KV_PENDING_BYTES_MAX)
            break;
        if (!command_answer(conn->worker, conn->first, answers) &&
            !conn_answer_without_memory(conn))
            break;
        conn_pop(conn);
        any = true;
    }
    return any;
}

/* Runs and answers a command on the spot; false: it has to be taken as a request. */
static bool conn_run(struct conn *conn, const char *data)
{
    struct kv_worker *worker = conn->worker;
    struct request *request = worker->fast;
    if (conn->first != NULL || !request_parse_fast(request, &conn->frame, data) ||
        !output_reserve(&worker->answers, OUTPUT_SHORT) || !command_plan_one(request))
        return false;
    if (request->op_count > 0 && !kv_run_here(worker, &request->one))
        return false;
    kv_count(&worker->counters.commands, 1);
    conn->ending = command_is_last(request);
    if (!command_answer(worker, request, &worker->answers) && !conn_answer_without_memory(conn))
        conn_close(conn, -ENOMEM); /* it was run: to be taken again is not for it */
    request_drop(request);
    return true;
}

/* ---- turn ---- */

/* Takes commands from `bytes` while the gate is open; how many bytes. */
static size_t conn_parse(struct conn *conn, const char *bytes, size_t length)
{
    size_t taken = 0;
    while (conn_gate_open(conn) && !conn->finished) {
        const char *data = bytes + taken;
        switch (frame_scan(&conn->frame, data, length - taken)) {
        case FRAME_MORE:
            return taken;
        case FRAME_ERROR:
            conn_refuse(conn, conn->frame.error);
            return length;
        case FRAME_COMMAND:
            if (!conn_run(conn, data))
                conn_take(conn, data);
            break;
        case FRAME_EMPTY:
            break;
        }
        taken += conn->frame.length;
        frame_reset(&conn->frame);
        if (conn->first != NULL)
            (void)conn_answer(conn); /* those in order: the next may be run on the spot */
    }
    return taken;
}

/* Parses what is kept; true: there was a command in it. */
static bool conn_parse_kept(struct conn *conn)
{
    size_t held = conn->input_end - conn->input_start;
    if (held == 0)
        return false;
    size_t taken = conn_parse(conn, conn->input + conn->input_start, held);
    conn_input_consume(conn, taken);
    return taken > 0;
}

/* After everything that could be done: read on, or not, or end. */
static void conn_settle(struct conn *conn)
{
    conn_write(conn);
    if (conn->finished)
        return;
    bool gate = conn_gate_open(conn);
    /* The rest of a command will never come. */
    if (conn->end_of_input && gate)
        conn->ending = true;
    if (conn->ending && conn->first == NULL) {
        conn->finished = true;
        (void)numaperf_conn_finish(conn->socket); /* it is open */
        return;
    }
    if (conn->ending || gate != conn->paused)
        return;
    conn->paused = !gate;
    if (gate)
        numaperf_conn_resume(conn->socket);
    else
        numaperf_conn_pause(conn->socket);
}

static void conn_look_after(struct conn *conn)
{
    if (conn->socket == NULL) {
        conn_free_when_done(conn);
        return;
    }
    conn->in_hand = true;
    bool more = true;
    while (more && !conn->finished) {
        more = conn_answer(conn);
        more = conn_parse_kept(conn) || more;
    }
    conn_settle(conn);
    conn->in_hand = false;
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
    if (conn->socket == NULL)
        conn_free_when_done(conn);
    else if (request->ops_left == 0 && !conn->in_hand)
        conn_changed(conn);
}

/* ---- what the socket calls ---- */

/* What was asked of other shards goes out by a task; without a place for one, now. */
static void conn_turned(struct kv_worker *worker)
{
    if (worker->flush_wanted && !worker->flush_spawned)
        kv_turn(worker);
}

static int conn_opened(numaperf_conn_t *socket, void *data)
{
    struct kv *kv = data;
    struct kv_worker *worker = kv->workers[numaperf_worker_index(numaperf_worker_current())];
    unsigned open = atomic_load_explicit(&worker->connection_count, memory_order_relaxed);
    numaperf_conn_set_data(socket, NULL);
    struct conn *conn = NULL;
    if (open < kv->options->connections_max)
        conn = numaperf_arena_alloc(worker->arena, sizeof(*conn), 64);
    if (conn == NULL) {
        kv_count(&worker->counters.connections_refused, 1);
        (void)numaperf_conn_write(socket, REFUSAL, sizeof(REFUSAL) - 1); /* a courtesy */
        (void)numaperf_conn_finish(socket);
        return 0;
    }
    memset(conn, 0, sizeof(*conn));
    conn->worker = worker;
    conn->socket = socket;
    numaperf_conn_set_data(socket, conn);
    kv_count(&worker->counters.connections_accepted, 1);
    atomic_store_explicit(&worker->connection_count, open + 1, memory_order_relaxed);
    return 0;
}

static void conn_read(numaperf_conn_t *socket, const void *bytes, size_t length, void *data)
{
    (void)socket;
    struct conn *conn = data;
    if (conn == NULL || conn->ending)
        return;
    conn->in_hand = true;
    bool kept = true;
    if (conn->input_start == conn->input_end) {
        size_t taken = conn_parse(conn, bytes, length);
        if (taken < length && !conn->ending)
            kept = conn_keep(conn, (const char *)bytes + taken, length - taken);
    } else {
        kept = conn_keep(conn, bytes, length);
        if (kept)
            (void)conn_parse_kept(conn);
    }
    if (!kept) {
        conn_push_error(conn, "OOM ", "no memory to read into");
        conn->ending = true;
    }
    (void)conn_answer(conn); /* an error may be the last in order */
    conn_settle(conn);
    conn->in_hand = false;
    conn_turned(conn->worker);
}

static void conn_input_ended(numaperf_conn_t *socket, void *data)
{
    struct conn *conn = data;
    if (conn == NULL) {
        (void)numaperf_conn_finish(socket); /* it is told in open ones */
        return;
    }
    conn->end_of_input = true;
    conn_look_after(conn);
    conn_turned(conn->worker);
}

static void conn_drained(numaperf_conn_t *socket, void *data)
{
    (void)socket;
    struct conn *conn = data;
    if (conn == NULL)
        return;
    conn_look_after(conn);
    conn_turned(conn->worker);
}

static void conn_socket_closed(numaperf_conn_t *socket, int reason, void *data)
{
    (void)socket;
    struct conn *conn = data;
    if (conn == NULL)
        return;
    struct kv_worker *worker = conn->worker;
    unsigned open = atomic_load_explicit(&worker->connection_count, memory_order_relaxed);
    atomic_store_explicit(&worker->connection_count, open - 1, memory_order_relaxed);
    if (reason == -ETIMEDOUT)
        kv_count(&worker->counters.connections_idle_closed, 1);
    conn->socket = NULL;
    conn_free_when_done(conn);
}

void conn_config(numaperf_conn_config_t *config)
{
    config->callbacks.on_open = conn_opened;
    config->callbacks.on_read = conn_read;
    config->callbacks.on_end = conn_input_ended;
    config->callbacks.on_drain = conn_drained;
    config->callbacks.on_close = conn_socket_closed;
    config->high_water_bytes = (uint32_t)KV_PENDING_BYTES_MAX;
}
