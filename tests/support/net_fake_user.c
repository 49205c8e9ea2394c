/* SPDX-License-Identifier: MIT */
/* The user: callbacks that check what they are told, and the calls that the script wants. */
#include "support/net_fake.h"

#include "support/net_fake_state.h"

/* Whatever the script wants inside a callback. */
static void callback(void)
{
    if (fake_all.depth > 1)
        return;
    fake_all.depth++;
    for (unsigned count = next() % (CALLBACK_OPS + 1); count > 0; count--)
        fake_user_op();
    fake_all.depth--;
}

/* ---- callbacks ---- */

static void fake_check_alive(const struct fake *fake, const struct numaperf_conn *conn)
{
    CHECK(fake->conn == conn && !fake->is_closed && !fake->close_told);
    CHECK(conn->state == NUMAPERF__CONN_OPEN && !fake_all.is_writing);
}

static int fake_on_open(numaperf_conn_t *conn, void *data)
{
    struct fake *fake = data;
    fake_check_alive(fake, conn);
    callback();
    if (!fake->opens_badly)
        return 0;
    if (conn->state == NUMAPERF__CONN_OPEN)
        fake->reason = REASON_OPEN;
    fake->is_closed = true;
    return REASON_OPEN;
}

static void fake_hold_some(struct fake *fake, const char *bytes, size_t length)
{
    struct fake_hold *hold = &fake_all.holds[next() % HOLDS];
    if (hold->buffer != NULL)
        return;
    hold->buffer = numaperf_conn_hold(fake->conn);
    hold->bytes = bytes;
    hold->length = length;
    hold->position = fake->told;
    net_fake_reach.held += hold->buffer != NULL;
}

static void fake_on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    struct fake *fake = data;
    fake_check_alive(fake, conn);
    CHECK(!fake->is_paused && !fake->is_finished && !fake->end_told && length > 0);
    CHECK(fake->told + length <= fake->made && matches(bytes, length, fake->told));
    if (next() % 4 == 3)
        fake_hold_some(fake, bytes, length);
    fake->told += length;
    net_fake_reach.reads++;
    callback();
}

static void fake_on_end(numaperf_conn_t *conn, void *data)
{
    struct fake *fake = data;
    fake_check_alive(fake, conn);
    CHECK(fake->input_ended && !fake->end_told && !fake->is_paused && !fake->is_finished);
    CHECK(fake->told == fake->made);
    fake->end_told = true;
    net_fake_reach.ends++;
    callback();
}

static void fake_on_drain(numaperf_conn_t *conn, void *data)
{
    struct fake *fake = data;
    fake_check_alive(fake, conn);
    CHECK(fake->drain_owed && fake->written - fake->taken <= LOW_WATER);
    fake->drain_owed = false;
    net_fake_reach.drains++;
    callback();
}

static void fake_on_close(numaperf_conn_t *conn, int reason, void *data)
{
    struct fake *fake = data;
    CHECK(fake->conn == conn && !fake->close_told && !fake_all.is_writing);
    CHECK(fake->loans_out == 0);
    CHECK(numaperf_conn_write(conn, "x", 1) == -EPIPE);
    if (fake->reason != 1)
        CHECK(reason == fake->reason);
    else
        CHECK(reason == 0 && fake->is_ended && fake->taken == fake->written && fake->is_shut);
    net_fake_reach.end_of_both += fake->reason == 1;
    fake->close_told = true;
    callback();
}

static void fake_origin_gone(struct numaperf_conn *conn, int reason)
{
    struct fake *fake = fake_of(conn);
    CHECK(fake->close_told && (fake->reason == 1 || fake->reason == reason));
    CHECK(!fake->is_filtered);
    free(fake->filter.kept);
    free(fake->sent_log);
    memset(fake, 0, sizeof(*fake));
}

/* ---- a filter that passes bytes as they are, when it likes ---- */

static int filter_deliver(struct fake *fake)
{
    struct fake_filter *filter = &fake->filter;
    int rc = 0;
    while (filter->length > 0 && rc == 0) {
        size_t piece = (size_t)next() + 1;
        piece = piece < filter->length ? piece : filter->length;
        char *bytes = malloc(piece);
        CHECK(bytes != NULL);
        memcpy(bytes, filter->kept, piece);
        uint64_t told = fake->told;
        bool is_paused = fake->is_paused;
        rc = numaperf_conn_deliver(fake->conn, bytes, piece);
        free(bytes);
        if (is_paused || fake->told == told)
            break; /* not taken: it was paused before, finished or closed */
        filter->length -= piece;
        memmove(filter->kept, filter->kept + piece, filter->length);
    }
    return 0;
}

static int filter_received(numaperf_conn_t *conn, const void *bytes, size_t length, void *state)
{
    struct fake *fake = state;
    struct fake_filter *filter = &fake->filter;
    fake_check_alive(fake, conn);
    if (filter->fails && length > 0) {
        fake->reason = REASON_FILTER;
        fake->is_closed = true;
        return REASON_FILTER;
    }
    filter->kept = realloc(filter->kept, filter->length + length + 1);
    CHECK(filter->kept != NULL);
    if (length > 0)
        memcpy(filter->kept + filter->length, bytes, length);
    filter->length += length;
    net_fake_reach.filtered++;
    return filter_deliver(fake);
}

static int filter_written(numaperf_conn_t *conn, const void *bytes, size_t length, void *state)
{
    (void)state;
    return numaperf_conn_send_raw(conn, bytes, length);
}

static void filter_removed(void *state)
{
    struct fake *fake = state;
    CHECK(fake->is_filtered && !fake->close_told);
    fake->is_filtered = false;
}

static void user_filter(struct fake *fake)
{
    bool fails = next() % 16 == 15;
    if (fake->filter.length > 0)
        return; /* what it has kept would be lost */
    numaperf_conn_filter_t filter = NUMAPERF_CONN_FILTER_INIT;
    filter.on_received = filter_received;
    filter.on_written = filter_written;
    filter.on_removed = filter_removed;
    bool is_open = fake->conn->state == NUMAPERF__CONN_OPEN;
    bool removes = fake->is_filtered;
    int rc = numaperf_conn_set_filter(fake->conn, removes ? NULL : &filter, fake);
    CHECK(rc == (is_open ? 0 : -EPIPE));
    if (is_open) {
        fake->is_filtered = !removes;
        fake->filter.fails = fails;
    }
}

/* ---- what the user does ---- */

/* What a write of `length` bytes must say. */
static int user_expects(const struct fake *fake, size_t length)
{
    if (fake->conn->state != NUMAPERF__CONN_OPEN || fake->is_ended)
        return -EPIPE;
    uint64_t queued = fake->written - fake->taken + length;
    if (queued > OUTPUT_LIMIT)
        return -EAGAIN;
    return queued > HIGH_WATER;
}

static void user_wrote(struct fake *fake, const char *bytes, size_t length, int rc, int expected)
{
    fake_all.is_writing = false;
    CHECK(rc == expected);
    net_fake_reach.limits += rc == -EAGAIN;
    if (rc >= 0) {
        memcpy(fake->sent_log + fake->written, bytes, length);
        fake->written += length;
        fake->drain_owed |= rc == 1;
    }
    if (fake->conn->state == NUMAPERF__CONN_OPEN)
        CHECK(numaperf_conn_queued_bytes(fake->conn) == fake->written - fake->taken);
}

static char *user_bytes(const struct fake *fake, size_t length)
{
    char *bytes = malloc(length);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)(pattern(fake->written + i) ^ 0x55);
    return bytes;
}

static void user_write(struct fake *fake, size_t length, bool in_parts)
{
    char *bytes = user_bytes(fake, length);
    int expected = user_expects(fake, length);
    size_t half = length / 2;
    const struct iovec parts[3] = {{bytes, half}, {NULL, 0}, {bytes + half, length - half}};
    fake_all.is_writing = true;
    int rc = in_parts ? numaperf_conn_writev(fake->conn, parts, 3)
                      : numaperf_conn_write(fake->conn, bytes, length);
    user_wrote(fake, bytes, length, rc, expected);
    free(bytes);
}

static void loan_done(numaperf_conn_t *conn, int status, void *data)
{
    struct fake_loan *loan = data;
    struct fake *fake = loan->fake;
    CHECK(fake != NULL && fake->conn == conn && !fake->close_told && !fake_all.is_writing);
    CHECK((status == 0) == (loan->end <= fake->taken) || loan->is_filtered);
    CHECK(status == 0 || conn->state != NUMAPERF__CONN_OPEN);
    net_fake_reach.loans_sent += status == 0;
    net_fake_reach.loans_dropped += status != 0;
    fake->loans_out--;
    loan->fake = NULL;
    free(loan->bytes);
    callback();
}

static void user_lend(struct fake *fake, size_t length)
{
    struct fake_loan *loan = &fake_all.loans[next() % LOANS];
    if (loan->fake != NULL)
        return;
    char *bytes = user_bytes(fake, length);
    int expected = user_expects(fake, length);
    *loan = (struct fake_loan){fake, bytes, fake->written + length, fake->is_filtered};
    fake_all.is_writing = true;
    int rc = numaperf_conn_write_borrowed(fake->conn, bytes, length, loan_done, loan);
    user_wrote(fake, bytes, length, rc, expected);
    if (rc >= 0) {
        fake->loans_out++;
    } else {
        loan->fake = NULL;
        free(bytes);
    }
}

void fake_user_check_hold(const struct fake_hold *hold)
{
    CHECK(matches(hold->bytes, hold->length, hold->position));
}

static void user_write_held(struct fake *fake)
{
    struct fake_hold *hold = &fake_all.holds[next() % HOLDS];
    if (hold->buffer == NULL)
        return;
    fake_user_check_hold(hold);
    int expected = user_expects(fake, hold->length);
    char *bytes = malloc(hold->length);
    CHECK(bytes != NULL);
    memcpy(bytes, hold->bytes, hold->length); /* the buffer may be used again at once */
    fake_all.is_writing = true;
    int rc = numaperf_conn_write_held(fake->conn, hold->buffer, hold->bytes, hold->length);
    user_wrote(fake, bytes, hold->length, rc, expected);
    free(bytes);
    if (rc >= 0)
        hold->buffer = NULL;
}

static void user_release(void)
{
    struct fake_hold *hold = &fake_all.holds[next() % HOLDS];
    if (hold->buffer == NULL)
        return;
    fake_user_check_hold(hold);
    numaperf_buffer_release(hold->buffer);
    hold->buffer = NULL;
}

void fake_user_end(struct fake *fake, bool finishes)
{
    bool is_open = fake->conn->state == NUMAPERF__CONN_OPEN;
    int rc = finishes ? numaperf_conn_finish(fake->conn) : numaperf_conn_end(fake->conn);
    CHECK(rc == (is_open ? 0 : -EPIPE));
    fake->is_ended |= is_open;
    fake->is_finished |= is_open && finishes;
}

static void user_close(struct fake *fake, bool resets)
{
    int reason = -(int)(next() % 4);
    if (fake->conn->state == NUMAPERF__CONN_OPEN)
        fake->reason = reason;
    fake->is_closed = true;
    unsigned depth = fake_all.depth;
    fake_all.depth = 2; /* nothing is told inside */
    if (resets)
        numaperf_conn_reset(fake->conn, reason);
    else
        numaperf_conn_close(fake->conn, reason);
    fake_all.depth = depth;
    CHECK(fake->conn != NULL);
    net_fake_reach.resets += resets;
}

void fake_user_pause(struct fake *fake, bool pauses)
{
    fake->is_paused = pauses;
    if (pauses)
        numaperf_conn_pause(fake->conn);
    else
        numaperf_conn_resume(fake->conn);
}

static void user_time_out(struct fake *fake)
{
    if (fake->conn->state != NUMAPERF__CONN_OPEN || fake_all.depth > 0 || next() % 4 != 0)
        return;
    fake->reason = -ETIMEDOUT;
    fake->is_closed = true;
    numaperf__conn_timed_out(fake->conn, NUMAPERF__NET_IDLE_TIMEOUTS);
    net_fake_reach.timeouts++;
}

static void user_open(struct fake *fake)
{
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.callbacks = (numaperf_conn_callbacks_t){.on_open = fake_on_open,
                                                   .on_read = fake_on_read,
                                                   .on_end = fake_on_end,
                                                   .on_drain = fake_on_drain,
                                                   .on_close = fake_on_close};
    config.data = fake;
    config.high_water_bytes = HIGH_WATER;
    config.low_water_bytes = LOW_WATER;
    config.output_limit_bytes = OUTPUT_LIMIT;
    config.zero_copy_bytes = ZERO_COPY_BYTES;
    const struct numaperf__conn_origin origin = {
        .origin = fake, .gone = fake_origin_gone, .counter = NUMAPERF__NET_CONNECTED};
    numaperf_conn_config_t cfg;
    CHECK(numaperf__conn_config(&config, &cfg) == 0);
    memset(fake, 0, sizeof(*fake));
    fake->reason = 1;
    fake->opens_badly = next() % 16 == 15;
    fake->sent_log = malloc(LOG_BYTES);
    CHECK(fake->sent_log != NULL);
    struct numaperf_conn *conn = NULL;
    int rc = numaperf__conn_make(fake_all.net, -1, &cfg, &origin, &conn);
    CHECK(rc == 0 || rc == -EMFILE);
    if (rc < 0) {
        free(fake->sent_log);
        memset(fake, 0, sizeof(*fake));
        net_fake_reach.refused++;
        return;
    }
    CHECK(conn == fake->conn);
    net_fake_reach.opened++;
}

/* The calls that write. */
static void user_write_op(struct fake *fake, unsigned op)
{
    size_t length = next_length();
    if (fake->written + length + 4096 > LOG_BYTES)
        return;
    switch (op) {
    case 0:
        user_write(fake, length, false);
        break;
    case 1:
        user_write(fake, length, true);
        break;
    case 2:
        user_lend(fake, length);
        break;
    default:
        user_write_held(fake);
    }
}

void fake_user_op(void)
{
    struct fake *fake = &fake_all.fakes[next() % CONNS];
    unsigned op = next() % 16;
    if (fake->conn == NULL || fake->close_told) {
        if (fake->conn == NULL && fake_all.depth == 0 && !fake_all.is_ending)
            user_open(fake);
        return;
    }
    switch (op) {
    case 4:
    case 5:
        fake_user_pause(fake, op == 4);
        break;
    case 6:
        user_release();
        break;
    case 7:
    case 8:
        if (next() % 4 == 0)
            fake_user_end(fake, op == 8);
        break;
    case 9:
    case 10:
        if (next() % 8 == 0)
            user_close(fake, op == 10);
        break;
    case 11:
        user_filter(fake);
        break;
    case 12:
        user_time_out(fake);
        break;
    case 13:
        CHECK(numaperf_conn_set_timeouts(fake->conn, UINT32_MAX, next() + 60000u, 0) == 0);
        break;
    default:
        user_write_op(fake, op % 4);
    }
}
