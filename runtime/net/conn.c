/* SPDX-License-Identifier: MIT */
/*
 * A connection, independent of how its bytes get to and from the kernel (see the driver in conn.h).
 *
 *   OPEN -> CLOSING -> CLOSED -> gone
 *
 *   CLOSING  closed by the user, an error or a timeout; what is in flight is being aborted
 *   CLOSED   nothing is in flight, borrowed bytes are back; the driver closes the descriptor
 *
 * Whoever wants something of a connection says so in its fields and has it looked at again
 * (numaperf__conn_look_again()); numaperf__conn_turn() alone starts requests. So a callback may do
 * anything to any connection, several writes of a turn go out together, and on_close never comes
 * inside a call. Invariants: at most one receive and one send are under way, zero-copy pieces that
 * are still pinned apart; the memory stays until the driver has said numaperf__conn_gone().
 *
 * Thread rule: the loop's thread.
 */
#include "net/conn.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "net/conn_state.h"
#include "net/deadline.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#define CONN_CONFIG_MIN_SIZE 96u
#define CONN_IDLE_TIMEOUT_MS 300000u
#define CONN_WRITE_TIMEOUT_MS 30000u
#define CONN_HIGH_WATER_BYTES (1u << 20)
#define CONN_OUTPUT_LIMIT_BYTES (64u << 20)
#define CONN_ZERO_COPY_BYTES                                             \
    UINT32_MAX /* loopback copies anyway; a network card has to be asked \
                */
#define CONN_LINGER_MS 2000u
#define CONN_LINGER_BYTES (4u << 20)

_Static_assert(sizeof(numaperf_conn_config_t) == CONN_CONFIG_MIN_SIZE,
               "public struct: append only");

/* ---- config ---- */

static uint32_t conn_default(uint32_t value, uint32_t otherwise)
{
    return value != 0 ? value : otherwise;
}

static void conn_config_defaults(numaperf_conn_config_t *cfg)
{
    cfg->idle_timeout_ms = conn_default(cfg->idle_timeout_ms, CONN_IDLE_TIMEOUT_MS);
    cfg->read_timeout_ms = conn_default(cfg->read_timeout_ms, UINT32_MAX);
    cfg->write_timeout_ms = conn_default(cfg->write_timeout_ms, CONN_WRITE_TIMEOUT_MS);
    cfg->high_water_bytes = conn_default(cfg->high_water_bytes, CONN_HIGH_WATER_BYTES);
    cfg->low_water_bytes = conn_default(cfg->low_water_bytes, cfg->high_water_bytes / 4);
    cfg->output_limit_bytes = conn_default(cfg->output_limit_bytes, CONN_OUTPUT_LIMIT_BYTES);
}

int numaperf__conn_config(const numaperf_conn_config_t *config, numaperf_conn_config_t *out)
{
    if (config == NULL)
        return numaperf__fail(-EINVAL, 0, "connection", "its config must not be NULL");
    numaperf_conn_config_t cfg;
    int rc = numaperf__config_load(&cfg, sizeof(cfg), CONN_CONFIG_MIN_SIZE, config, "connection");
    if (rc < 0)
        return rc;
    if ((cfg.flags & ~(uint32_t)NUMAPERF_CONN_DELAY) != 0)
        return numaperf__fail(-EINVAL, 0, "connection", "flags %#x: unknown bits", cfg.flags);
    if (cfg.reserved != 0)
        return numaperf__fail(-EINVAL, 0, "connection", "reserved is %u, not 0", cfg.reserved);
    if (cfg.callbacks.on_read == NULL)
        return numaperf__fail(-EINVAL, 0, "connection", "callbacks.on_read must not be NULL");
    conn_config_defaults(&cfg);
    if (cfg.low_water_bytes >= cfg.high_water_bytes)
        return numaperf__fail(-EINVAL, 0, "connection",
                              "low_water_bytes %u is not below high_water_bytes %u",
                              cfg.low_water_bytes, cfg.high_water_bytes);
    if (cfg.output_limit_bytes < cfg.high_water_bytes)
        return numaperf__fail(-EINVAL, 0, "connection",
                              "output_limit_bytes %u is below high_water_bytes %u",
                              cfg.output_limit_bytes, cfg.high_water_bytes);
    *out = cfg;
    return 0;
}

/* ---- state ---- */

static void conn_set_state(struct numaperf_conn *conn, uint8_t from, uint8_t to)
{
    NUMAPERF_ASSERT(conn->state == from && to == from + 1);
    conn->state = to;
}

void numaperf__conn_look_again(struct numaperf_conn *conn)
{
    if (conn->in_todo)
        return;
    conn->in_todo = true;
    numaperf__list_push_back(&conn->net->todo, &conn->todo_link);
    numaperf__loop_mark_dirty(conn->net->loop, &conn->net->tenant);
}

bool numaperf__conn_is_busy(const struct numaperf_conn *conn)
{
    return conn->is_receiving || conn->is_sending || conn->is_shutting || conn->pinned_count > 0;
}

/* ---- create ---- */

static void conn_fill(struct numaperf_conn *conn, const numaperf_conn_config_t *config)
{
    conn->callbacks = config->callbacks;
    conn->data = config->data;
    conn->idle_timeout_ms = config->idle_timeout_ms;
    conn->read_timeout_ms = config->read_timeout_ms;
    conn->write_timeout_ms = config->write_timeout_ms;
    conn->high_water_bytes = config->high_water_bytes;
    conn->low_water_bytes = config->low_water_bytes;
    conn->output_limit_bytes = config->output_limit_bytes;
    conn->zero_copy_learns = config->zero_copy_bytes == 0;
    conn->zero_copy_bytes = config->zero_copy_bytes;
    if (conn->zero_copy_learns)
        conn->zero_copy_bytes = UINT32_MAX;
    if (conn->zero_copy_learns && conn->net->zero_copy_flags == NUMAPERF__RING_ZERO_COPY_REPORT)
        conn->zero_copy_bytes = CONN_ZERO_COPY_BYTES;
}

static void conn_open(struct numaperf_conn *conn)
{
    struct numaperf__net *net = conn->net;
    uint64_t now_ms = numaperf__net_now_ms(net);
    conn->received_ms = now_ms;
    conn->sent_ms = now_ms;
    conn->reading_ms = now_ms;
    numaperf__deadline_watch(conn);
    if (conn->callbacks.on_open != NULL) {
        int rc = conn->callbacks.on_open(conn, conn->data);
        if (rc < 0)
            numaperf_conn_close(conn, rc);
    }
    numaperf__conn_look_again(conn);
}

int numaperf__conn_make(struct numaperf__net *net, int fd, const numaperf_conn_config_t *config,
                        const struct numaperf__conn_origin *origin, struct numaperf_conn **out)
{
    struct numaperf_conn *conn = numaperf_arena_alloc(net->arena, sizeof(*conn), 64);
    if (conn == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "connection", "no memory for it in the arena");
    memset(conn, 0, sizeof(*conn));
    conn->net = net;
    conn->driver = net->driver;
    conn->fd = fd;
    conn->is_direct = origin->is_direct;
    conn->is_tcp = origin->is_tcp;
    conn->origin = origin->origin;
    conn->origin_gone = origin->gone;
    numaperf__list_init(&conn->starved_link);
    numaperf__list_init(&conn->origin_link);
    numaperf__output_init(&conn->output, net->arena);
    conn_fill(conn, config);
    int rc = conn->driver->open(conn);
    if (rc < 0) {
        numaperf_arena_free(net->arena, conn);
        return numaperf__fail(rc, -rc, "connection", "it cannot be watched: %s",
                              numaperf_strerror(rc));
    }
    numaperf__list_push_back(&net->conns, &conn->link);
    numaperf__net_count(net, NUMAPERF__NET_CONNECTIONS, 1);
    numaperf__net_count(net, origin->counter, 1);
    *out = conn;
    conn_open(conn);
    return 0;
}

/* ---- input ---- */

static void conn_tell_read(struct numaperf_conn *conn, struct numaperf__slice *slice)
{
    numaperf__net_count(conn->net, NUMAPERF__NET_RECEIVES, 1);
    if (conn->filter.on_received != NULL) {
        numaperf__conn_filter_received(conn, slice->bytes, slice->length);
    } else {
        conn->current = slice;
        conn->callbacks.on_read(conn, slice->bytes, slice->length, conn->data);
        conn->current = NULL;
    }
    numaperf__conn_release_slice(conn, slice);
}

/* After the end of our own: thrown away, but not without limit. */
static void conn_throw_away(struct numaperf_conn *conn, const struct numaperf__slice *slice)
{
    conn->lingered_bytes += slice->length;
    numaperf__conn_release_slice(conn, slice);
    if (conn->lingered_bytes > CONN_LINGER_BYTES)
        numaperf_conn_reset(conn, 0);
}

void numaperf__conn_received(struct numaperf_conn *conn, struct numaperf__slice *slice)
{
    NUMAPERF_ASSERT_HOT(slice->length > 0);
    numaperf__net_count(conn->net, NUMAPERF__NET_BYTES_RECEIVED, slice->length);
    conn->received_ms = numaperf__net_now_ms(conn->net);
    if (conn->state != NUMAPERF__CONN_OPEN)
        numaperf__conn_release_slice(conn, slice);
    else if (conn->finish_wanted)
        conn_throw_away(conn, slice);
    else if (conn->is_paused || conn->stash.count > 0)
        numaperf__conn_stash_push(conn, slice);
    else
        conn_tell_read(conn, slice);
}

static void conn_starve(struct numaperf_conn *conn)
{
    struct numaperf__net *net = conn->net;
    numaperf__net_count(net, NUMAPERF__NET_BUFFERS_EXHAUSTED, 1);
    if (numaperf__buffers_has_room(net->buffers)) {
        numaperf__conn_look_again(conn); /* others gave theirs back meanwhile */
        return;
    }
    conn->is_starved = true;
    numaperf__list_push_back(&net->starved, &conn->starved_link);
    numaperf__buffers_await_room(net->buffers);
}

void numaperf__conn_receive_ended(struct numaperf_conn *conn, int rc)
{
    NUMAPERF_ASSERT(!conn->is_receiving && !conn->is_stopping);
    if (conn->state != NUMAPERF__CONN_OPEN) {
        numaperf__conn_look_again(conn);
        return;
    }
    switch (rc) {
    case 0:
        conn->input_ended = true;
        numaperf__conn_look_again(conn);
        break;
    case -ENOBUFS:
        conn_starve(conn);
        break;
    case -EAGAIN:
    case -EINTR:
    case -ECANCELED:
        numaperf__conn_look_again(conn);
        break;
    default:
        numaperf_conn_close(conn, rc);
        break;
    }
}

/* Tell what was kept while reading was paused. */
static void conn_turn_stash(struct numaperf_conn *conn)
{
    struct numaperf__conn_stash *stash = &conn->stash;
    /* Of one whose bytes a filter has kept: first those. */
    if (conn->filter_waits && !conn->is_paused) {
        conn->filter_waits = false;
        numaperf__conn_filter_received(conn, NULL, 0);
    }
    while (stash->count > 0 && !conn->is_paused && !conn->filter_waits &&
           conn->state == NUMAPERF__CONN_OPEN && !conn->finish_wanted) {
        struct numaperf__slice slice = numaperf__conn_stash_pop(conn);
        conn_tell_read(conn, &slice);
    }
}

static void conn_tell_end(struct numaperf_conn *conn)
{
    conn->end_told = true;
    int rc = numaperf__conn_filter_received_end(conn);
    if (rc < 0)
        numaperf_conn_close(conn, rc);
    else if (conn->callbacks.on_end != NULL)
        conn->callbacks.on_end(conn, conn->data);
    else
        (void)numaperf_conn_finish(conn); /* open: it cannot fail */
}

static void conn_turn_input(struct numaperf_conn *conn)
{
    if (conn->stash.count > 0 || conn->filter_waits)
        conn_turn_stash(conn);
    if (conn->state == NUMAPERF__CONN_OPEN && conn->input_ended && !conn->end_told &&
        !conn->finish_wanted && !conn->is_paused && conn->stash.count == 0 && !conn->filter_waits)
        conn_tell_end(conn);
}

static void conn_turn_receive(struct numaperf_conn *conn)
{
    bool wanted =
        !conn->input_ended &&
        (conn->finish_wanted ? conn->lingers : !conn->is_paused && conn->stash.count == 0);
    if (wanted && !conn->is_receiving && !conn->is_starved)
        conn->driver->receive(conn);
    else if (!wanted && conn->is_receiving && !conn->is_stopping)
        conn->driver->stop_receive(conn);
}

/* ---- output ---- */

void numaperf__conn_sent(struct numaperf_conn *conn, int rc)
{
    NUMAPERF_ASSERT(!conn->is_sending);
    if (rc > 0) {
        numaperf__net_count(conn->net, NUMAPERF__NET_BYTES_SENT, (uint64_t)rc);
        conn->sent_ms = numaperf__net_now_ms(conn->net);
        numaperf__output_sent(&conn->output, conn, (size_t)rc);
    } else if (rc < 0 && rc != -EAGAIN && rc != -EINTR && rc != -ENOBUFS) {
        numaperf_conn_close(conn, rc); /* nothing when it is closing, and was told to stop */
    }
    if (conn->state == NUMAPERF__CONN_OPEN && conn->over_high &&
        conn->output.bytes <= conn->low_water_bytes) {
        conn->over_high = false;
        if (conn->callbacks.on_drain != NULL)
            conn->callbacks.on_drain(conn, conn->data);
    }
    if (conn->state != NUMAPERF__CONN_OPEN || conn->output.bytes > 0 || conn->end_wanted)
        numaperf__conn_look_again(conn);
}

void numaperf__conn_notified(struct numaperf_conn *conn, struct numaperf__piece *piece, bool copied)
{
    NUMAPERF_ASSERT(conn->pinned_count > 0);
    conn->pinned_count--;
    if (copied) {
        numaperf__net_count(conn->net, NUMAPERF__NET_ZERO_COPY_COPIED, 1);
        if (conn->zero_copy_learns)
            conn->zero_copy_bytes = UINT32_MAX;
    }
    numaperf__output_unpin(&conn->output, conn, piece);
    numaperf__conn_look_again(conn);
}

/* Our side has ended; the peer's last bytes are waited for, a while. */
static void conn_linger(struct numaperf_conn *conn)
{
    conn->lingers = true;
    conn->linger_until_ms = numaperf__net_now_ms(conn->net) + CONN_LINGER_MS;
    numaperf__deadline_watch(conn);
}

void numaperf__conn_shut(struct numaperf_conn *conn, int rc)
{
    conn->is_shutting = false;
    numaperf__conn_look_again(conn);
    if (conn->state != NUMAPERF__CONN_OPEN)
        return;
    conn->end_done = true;
    if (rc < 0)
        numaperf_conn_close(conn, rc == -ENOTCONN ? -ECONNRESET : rc);
}

static void conn_turn_output(struct numaperf_conn *conn)
{
    if (conn->is_sending || conn->is_shutting)
        return;
    if (conn->output.bytes > 0) {
        conn->driver->send(conn);
        return;
    }
    if (!conn->end_wanted)
        return;
    if (!conn->end_done) {
        int rc = conn->driver->shut(conn);
        if (rc == -EINPROGRESS)
            conn->is_shutting = true;
        else if (rc != -EAGAIN)
            numaperf__conn_shut(conn, rc);
        return;
    }
    if (conn->pinned_count > 0)
        return; /* a close would drop what the kernel has yet to send of these; time is limited */
    /* Both sides have ended, as far as the user wants to know: nothing can happen any more. */
    if (conn->input_ended && (conn->finish_wanted || conn->end_told))
        numaperf_conn_close(conn, 0);
    else if (conn->finish_wanted && !conn->lingers)
        conn_linger(conn);
}

/* ---- end ---- */

int numaperf_conn_end(numaperf_conn_t *conn)
{
    if (conn == NULL)
        return numaperf__fail(-EINVAL, 0, "connection", "conn must not be NULL");
    if (conn->state != NUMAPERF__CONN_OPEN)
        return -EPIPE;
    if (conn->end_wanted)
        return 0;
    numaperf__conn_filter_ending(conn);
    conn->end_wanted = true;
    numaperf__conn_look_again(conn);
    return 0;
}

int numaperf_conn_finish(numaperf_conn_t *conn)
{
    int rc = numaperf_conn_end(conn);
    if (rc < 0)
        return rc;
    if (conn->finish_wanted)
        return 0;
    conn->finish_wanted = true;
    numaperf__conn_stash_drop(conn);
    numaperf__conn_look_again(conn);
    return 0;
}

void numaperf_conn_close(numaperf_conn_t *conn, int reason)
{
    if (conn == NULL || conn->state != NUMAPERF__CONN_OPEN)
        return;
    conn->reason = reason < 0 ? reason : 0;
    conn_set_state(conn, NUMAPERF__CONN_OPEN, NUMAPERF__CONN_CLOSING);
    numaperf__deadline_forget(conn);
    if (conn->is_starved) {
        conn->is_starved = false;
        numaperf__list_remove(&conn->starved_link);
    }
    numaperf__conn_look_again(conn);
}

void numaperf_conn_reset(numaperf_conn_t *conn, int reason)
{
    if (conn == NULL || conn->state != NUMAPERF__CONN_OPEN)
        return;
    conn->reset_wanted = true;
    numaperf_conn_close(conn, reason);
}

void numaperf__conn_timed_out(struct numaperf_conn *conn, enum numaperf__net_counter counter)
{
    if (counter == NUMAPERF__NET_COUNTERS) {
        numaperf_conn_close(conn, 0);
        return;
    }
    numaperf__net_count(conn->net, counter, 1);
    /* A reset: what a peer that does not read left in the kernel is not kept for it. */
    numaperf_conn_reset(conn, -ETIMEDOUT);
}

void numaperf__conn_shutdown(struct numaperf_conn *conn)
{
    if (conn->state != NUMAPERF__CONN_OPEN || conn->finish_wanted)
        return;
    if (conn->callbacks.on_shutdown != NULL) {
        conn->callbacks.on_shutdown(conn, conn->data);
        return;
    }
    /* What has arrived can still be read, and is followed by the end. A filter would take that for
     * a stream that was cut off. */
    if (conn->is_direct || conn->filter.on_received != NULL || shutdown(conn->fd, SHUT_RD) != 0)
        (void)numaperf_conn_finish(conn); /* open: it cannot fail */
}

static void conn_call_written(struct numaperf_conn *conn, int status)
{
    while (conn->written_first != NULL) {
        struct numaperf__conn_written written = *conn->written_first;
        numaperf_arena_free(conn->net->arena, conn->written_first);
        conn->written_first = written.next;
        if (written.next == NULL)
            conn->written_last = NULL;
        written.done(conn, status, written.data);
    }
}

static void conn_turn_close(struct numaperf_conn *conn)
{
    if (numaperf__conn_is_busy(conn)) {
        conn->driver->give_up(conn);
        return;
    }
    conn_call_written(conn, 0); /* a filter has taken these */
    numaperf__output_drop(&conn->output, conn, conn->reason < 0 ? conn->reason : -ECANCELED);
    numaperf__conn_stash_drop(conn);
    if (conn->reset_wanted && conn->is_tcp && !conn->is_direct) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        /* An end instead of a reset is all that a failure would mean. */
        (void)setsockopt(conn->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    }
    conn_set_state(conn, NUMAPERF__CONN_CLOSING, NUMAPERF__CONN_CLOSED);
    /* Closed in this very turn, it is in `todo` again: the driver is asked twice only if it asks
     * for that itself. */
    if (conn->in_todo)
        numaperf__list_remove(&conn->todo_link);
    conn->in_todo = false;
    conn->driver->close(conn);
}

void numaperf__conn_gone(struct numaperf_conn *conn)
{
    NUMAPERF_ASSERT(conn->state == NUMAPERF__CONN_CLOSED && !numaperf__conn_is_busy(conn));
    NUMAPERF_ASSERT(conn->output.bytes == 0 && conn->current == NULL);
    struct numaperf__net *net = conn->net;
    int reason = conn->reason;
    if (conn->in_todo)
        numaperf__list_remove(&conn->todo_link);
    numaperf__list_remove(&conn->link);
    numaperf__net_count(net, NUMAPERF__NET_CONNECTIONS, UINT64_MAX); /* one less */
    numaperf__net_count(net, reason == 0 ? NUMAPERF__NET_CLOSED : NUMAPERF__NET_FAILED, 1);
    numaperf__conn_filter_remove(conn);
    if (conn->callbacks.on_close != NULL)
        conn->callbacks.on_close(conn, reason, conn->data);
    if (conn->origin_gone != NULL)
        conn->origin_gone(conn, reason);
    numaperf_arena_free(net->arena, conn->peer);
    numaperf_arena_free(net->arena, conn);
    /* A loop of the user's may end now: it looks again. */
    if (numaperf__list_empty(&net->conns))
        numaperf__loop_mark_dirty(net->loop, &net->tenant);
}

void numaperf__conn_turn(struct numaperf_conn *conn)
{
    if (conn->state == NUMAPERF__CONN_OPEN)
        conn_turn_input(conn);
    if (conn->state == NUMAPERF__CONN_OPEN && conn->written_first != NULL)
        conn_call_written(conn, 0);
    if (conn->state == NUMAPERF__CONN_OPEN)
        conn_turn_output(conn);
    if (conn->state == NUMAPERF__CONN_OPEN)
        conn_turn_receive(conn);
    if (conn->state == NUMAPERF__CONN_CLOSING)
        conn_turn_close(conn);
    else if (conn->state == NUMAPERF__CONN_CLOSED)
        conn->driver->close(conn);
}

void numaperf__conn_validate(const struct numaperf_conn *conn)
{
    numaperf__output_validate(&conn->output);
    NUMAPERF_ASSERT(conn->state <= NUMAPERF__CONN_CLOSED);
    NUMAPERF_ASSERT(conn->stash.count <= conn->stash.capacity);
    NUMAPERF_ASSERT(!conn->finish_wanted || conn->end_wanted);
    NUMAPERF_ASSERT(!conn->end_done || (conn->end_wanted && conn->output.bytes == 0));
    NUMAPERF_ASSERT(!conn->is_stopping || conn->is_receiving);
    NUMAPERF_ASSERT(!conn->is_starved || !conn->is_receiving);
}
