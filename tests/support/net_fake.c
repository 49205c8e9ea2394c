/* SPDX-License-Identifier: MIT */
/*
 * The kernel: a driver whose requests end when and how the script says, and the turns.
 *
 * The model, for each connection: `sent_log` is what was written, byte for byte; `taken` how much
 * of it the kernel took; `made` how many bytes the kernel brought, each pattern(n); `told` how many
 * of those on_read has had. Loans are freed when they come back, so that the address sanitizer sees
 * a use that comes too late.
 */
#include "support/net_fake.h"

#include "support/net_fake_state.h"

struct fake_all fake_all;
struct net_fake_reach net_fake_reach;

/* ---- the driver ---- */

/* Whether the kernel has no room for the request now. */
static bool fake_puts_off(struct numaperf_conn *conn)
{
    if (fake_all.is_ending || next() % 16 != 15)
        return false;
    numaperf__conn_look_again(conn);
    return true;
}

static int fake_open(struct numaperf_conn *conn)
{
    if (!fake_all.is_ending && next() % 16 == 15)
        return -EMFILE;
    fake_of(conn)->conn = conn;
    return 0;
}

static void fake_receive(struct numaperf_conn *conn)
{
    const struct fake *fake = fake_of(conn);
    CHECK(!conn->is_receiving && !conn->is_stopping && !fake->input_ended);
    CHECK(conn->state == NUMAPERF__CONN_OPEN && (!fake->is_paused || fake->is_finished));
    if (!fake_puts_off(conn))
        conn->is_receiving = true;
}

static void fake_stop_receive(struct numaperf_conn *conn)
{
    CHECK(conn->is_receiving && !conn->is_stopping);
    if (!fake_puts_off(conn))
        conn->is_stopping = true;
}

static struct fake_owed *fake_free_owed(struct fake *fake)
{
    for (size_t i = 0; i < NUMAPERF__CONN_ZERO_COPY_MAX; i++) {
        if (fake->owed[i].piece == NULL)
            return &fake->owed[i];
    }
    return NULL;
}

static void fake_send(struct numaperf_conn *conn)
{
    struct fake *fake = fake_of(conn);
    CHECK(!conn->is_sending && !conn->is_shutting && conn->output.bytes > 0);
    CHECK(!fake->is_shut && conn->state == NUMAPERF__CONN_OPEN);
    if (fake_puts_off(conn))
        return;
    struct fake_owed *owed = fake_free_owed(fake);
    numaperf__output_front(&conn->output, owed != NULL ? conn->zero_copy_bytes : UINT32_MAX,
                           fake->parts, NUMAPERF__CONN_PARTS_MAX, &fake->front);
    if (fake->front.zero_copy != NULL) {
        CHECK(owed != NULL && fake->front.part_count == 1);
        *owed = (struct fake_owed){fake->front.zero_copy, fake->parts[0], fake->taken};
        numaperf__piece_pin(owed->piece);
        conn->pinned_count++;
        net_fake_reach.zero_copies++;
    }
    conn->is_sending = true;
}

static int fake_shut(struct numaperf_conn *conn)
{
    struct fake *fake = fake_of(conn);
    CHECK(!conn->is_sending && !conn->is_shutting && !fake->is_shut);
    CHECK(fake->is_ended && fake->taken == fake->written);
    if (fake_puts_off(conn))
        return -EAGAIN;
    uint8_t choice = fake_all.is_ending ? 0 : next() % 8;
    if (choice == 7) {
        fake->reason = -ECONNRESET;
        return -ENOTCONN;
    }
    if (choice > 3)
        return -EINPROGRESS;
    fake->is_shut = true;
    return 0;
}

static void fake_abort(struct numaperf_conn *conn)
{
    CHECK(conn->state == NUMAPERF__CONN_CLOSING && numaperf__conn_is_busy(conn));
    fake_of(conn)->is_aborted = true;
}

static void fake_gone(struct fake *fake)
{
    struct numaperf_conn *conn = fake->conn;
    fake->close_waits = false;
    numaperf__conn_gone(conn);
    CHECK(fake->conn == NULL);
}

static void fake_close(struct numaperf_conn *conn)
{
    struct fake *fake = fake_of(conn);
    CHECK(conn->state == NUMAPERF__CONN_CLOSED && !numaperf__conn_is_busy(conn));
    CHECK(fake->loans_out == 0 && !fake->close_waits);
    if (fake_puts_off(conn))
        return;
    if (!fake_all.is_ending && next() % 2 == 0)
        fake->close_waits = true;
    else
        fake_gone(fake);
}

static const struct numaperf__conn_driver fake_driver = {
    .backend = NUMAPERF_IO_EPOLL,
    .open = fake_open,
    .receive = fake_receive,
    .stop_receive = fake_stop_receive,
    .send = fake_send,
    .shut = fake_shut,
    .give_up = fake_abort,
    .close = fake_close,
};

/* ---- what the kernel says ---- */

/* Others have all the buffers for a while. */
static void kernel_hoard(bool takes)
{
    while (takes && fake_all.hoarded < BUFFERS) {
        struct numaperf__slice slice;
        if (!numaperf__buffers_acquire(fake_all.net->buffers, &slice))
            return;
        numaperf__buffers_commit(fake_all.net->buffers, &slice, slice.length);
        fake_all.hoard[fake_all.hoarded++] = slice.buffer;
    }
    while (!takes && fake_all.hoarded > 0)
        numaperf__buffer_unref(fake_all.hoard[--fake_all.hoarded]);
}

static void kernel_receive(struct fake *fake)
{
    struct numaperf_conn *conn = fake->conn;
    size_t length = next_length();
    if (!conn->is_receiving || fake->is_aborted)
        return;
    struct numaperf__slice slice;
    if (!numaperf__buffers_acquire(fake_all.net->buffers, &slice)) {
        conn->is_receiving = conn->is_stopping = false;
        numaperf__conn_receive_ended(conn, -ENOBUFS);
        net_fake_reach.starved += conn->is_starved;
        return;
    }
    uint32_t part = length < slice.length ? (uint32_t)length : slice.length;
    for (uint32_t i = 0; i < part; i++)
        slice.bytes[i] = (char)pattern(fake->made + i);
    numaperf__buffers_commit(fake_all.net->buffers, &slice, part);
    fake->made += part;
    uint32_t stashed = conn->stash.count;
    numaperf__conn_received(conn, &slice);
    net_fake_reach.stashed += conn->stash.count > stashed;
}

static void kernel_receive_end(struct fake *fake)
{
    static const int codes[] = {0, 0, -EAGAIN, -ENOBUFS, -ECONNRESET};
    struct numaperf_conn *conn = fake->conn;
    int rc = fake_all.is_ending ? 0 : codes[next() % 5];
    if (!conn->is_receiving)
        return;
    if (fake->is_aborted || (conn->is_stopping && rc != 0))
        rc = -ECANCELED;
    fake->input_ended |= rc == 0;
    if (rc == -ECONNRESET && conn->state == NUMAPERF__CONN_OPEN)
        fake->reason = rc;
    conn->is_receiving = conn->is_stopping = false;
    numaperf__conn_receive_ended(conn, rc);
}

static void kernel_notify(struct fake *fake, struct fake_owed *owed)
{
    if (owed->piece == NULL)
        return;
    /* It was the kernel's until now. */
    CHECK(memcmp(owed->part.iov_base, fake->sent_log + owed->position, owed->part.iov_len) == 0);
    struct numaperf__piece *piece = owed->piece;
    owed->piece = NULL;
    numaperf__conn_notified(fake->conn, piece, next() % 2 == 0);
}

static void kernel_check_sending(const struct fake *fake)
{
    uint64_t at = fake->taken;
    for (uint32_t i = 0; i < fake->front.part_count; i++) {
        size_t length = fake->parts[i].iov_len;
        CHECK(at + length <= fake->written);
        CHECK(memcmp(fake->parts[i].iov_base, fake->sent_log + at, length) == 0);
        at += length;
    }
    CHECK(at - fake->taken == fake->front.length);
}

/* All of it, a part, nothing, or an error. */
static int kernel_send_result(struct fake *fake)
{
    size_t length = fake->front.length;
    uint8_t choice = fake_all.is_ending ? 0 : next() % 16;
    if (fake->is_aborted && choice % 2 == 0)
        return -ECANCELED;
    if (choice == 15)
        return -EPIPE;
    if (choice == 14)
        return -EAGAIN;
    if (choice < 6)
        return (int)length;
    size_t part = (size_t)next() * 31 + 1;
    return (int)(part < length ? part : length);
}

static void kernel_sent(struct fake *fake)
{
    struct numaperf_conn *conn = fake->conn;
    if (!conn->is_sending)
        return;
    kernel_check_sending(fake);
    int rc = kernel_send_result(fake);
    if (rc == -EPIPE && conn->state == NUMAPERF__CONN_OPEN)
        fake->reason = rc;
    struct fake_owed *owed = NULL;
    for (size_t i = 0; i < NUMAPERF__CONN_ZERO_COPY_MAX && fake->front.zero_copy != NULL; i++) {
        if (fake->owed[i].piece == fake->front.zero_copy && fake->owed[i].position == fake->taken)
            owed = &fake->owed[i];
    }
    if (rc > 0)
        fake->taken += (uint64_t)rc;
    if (owed != NULL)
        owed->part.iov_len = rc > 0 ? (size_t)rc : 0;
    conn->is_sending = false;
    if (owed != NULL && rc <= 0)
        kernel_notify(fake, owed); /* nothing was sent: there is no second completion */
    numaperf__conn_sent(conn, rc);
    if (conn->state == NUMAPERF__CONN_OPEN && fake->drain_owed)
        CHECK(fake->written - fake->taken > LOW_WATER);
}

static void kernel_shut(struct fake *fake)
{
    if (!fake->conn->is_shutting)
        return;
    bool fails = !fake_all.is_ending && next() % 8 == 7;
    if (fails && fake->conn->state == NUMAPERF__CONN_OPEN)
        fake->reason = -EIO;
    fake->is_shut = true;
    numaperf__conn_shut(fake->conn, fails ? -EIO : 0);
}

static void kernel_op(struct fake *fake)
{
    switch (next() % 8) {
    case 0:
    case 1:
    case 2:
        kernel_receive(fake);
        break;
    case 3:
        kernel_receive_end(fake);
        break;
    case 4:
    case 5:
        kernel_sent(fake);
        break;
    case 6:
        kernel_notify(fake, &fake->owed[next() % NUMAPERF__CONN_ZERO_COPY_MAX]);
        break;
    default:
        if (fake->close_waits)
            fake_gone(fake);
        else if (fake->conn->is_shutting)
            kernel_shut(fake);
        else
            kernel_hoard(next() % 4 == 0);
    }
}

/* ---- turns ---- */

/* At rest everything that is wanted is under way, and everything that can be told was told. */
static void fake_check_rest(const struct fake *fake)
{
    const struct numaperf_conn *conn = fake->conn;
    numaperf__conn_validate(conn);
    if (conn->state != NUMAPERF__CONN_OPEN) {
        CHECK(numaperf__conn_is_busy(conn) ? fake->is_aborted : fake->close_waits);
        return;
    }
    CHECK(conn->output.bytes == fake->written - fake->taken);
    CHECK(conn->output.bytes == 0 || conn->is_sending);
    CHECK(!fake->is_ended || conn->output.bytes > 0 || conn->is_sending || conn->is_shutting ||
          fake->is_shut);
    CHECK(fake->is_finished || !fake->is_paused || !conn->is_receiving || conn->is_stopping);
    if (fake->is_finished || fake->is_paused)
        return;
    CHECK(fake->told == fake->made);
    CHECK(fake->end_told == fake->input_ended);
    CHECK(fake->input_ended || conn->is_receiving || conn->is_starved);
    CHECK(!conn->is_starved || !numaperf__buffers_has_room(fake_all.net->buffers));
}

static void turn_until_rest(void)
{
    int turns = 0;
    do {
        CHECK(numaperf_loop_run(fake_all.loop, UV_RUN_NOWAIT) >= 0);
        CHECK(++turns < TURNS_MAX);
    } while (fake_all.net->tenant.is_dirty);
    for (size_t i = 0; i < CONNS; i++) {
        if (fake_all.fakes[i].conn != NULL)
            fake_check_rest(&fake_all.fakes[i]);
    }
}

static void script_step(void)
{
    switch (next() % 4) {
    case 0:
        fake_user_op();
        break;
    case 1:
        turn_until_rest();
        break;
    default: {
        struct fake *fake = &fake_all.fakes[next() % CONNS];
        if (fake->conn != NULL)
            kernel_op(fake);
    }
    }
}

/* Everything that is under way ends well, and the peer ends, too. */
static void kernel_completes(struct fake *fake)
{
    if (fake->conn->is_sending)
        kernel_sent(fake);
    for (size_t i = 0; i < NUMAPERF__CONN_ZERO_COPY_MAX; i++)
        kernel_notify(fake, &fake->owed[i]);
    if (fake->conn->is_shutting)
        kernel_shut(fake);
    if (fake->conn->is_receiving)
        kernel_receive_end(fake);
    if (fake->close_waits)
        fake_gone(fake);
}

static void script_end(void)
{
    fake_all.is_ending = true;
    kernel_hoard(false);
    for (size_t i = 0; i < HOLDS; i++) {
        if (fake_all.holds[i].buffer != NULL) {
            fake_user_check_hold(&fake_all.holds[i]);
            numaperf_buffer_release(fake_all.holds[i].buffer);
            fake_all.holds[i].buffer = NULL;
        }
    }
    for (size_t i = 0; i < CONNS; i++) {
        if (fake_all.fakes[i].conn == NULL)
            continue;
        fake_user_pause(&fake_all.fakes[i], false);
        fake_user_end(&fake_all.fakes[i], false);
    }
    for (int round = 0; !numaperf__list_empty(&fake_all.net->conns); round++) {
        CHECK(round < TURNS_MAX);
        for (size_t i = 0; i < CONNS; i++) {
            if (fake_all.fakes[i].conn != NULL)
                kernel_completes(&fake_all.fakes[i]);
        }
        turn_until_rest();
    }
}

static size_t arena_used(void)
{
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    CHECK(numaperf_arena_stats(fake_all.net->arena, &stats) == 0);
    return stats.used_bytes;
}

void net_fake_run(const uint8_t *script, size_t length)
{
    size_t used = arena_used();
    fake_all.script = script;
    fake_all.length = length;
    fake_all.at = 0;
    fake_all.is_ending = false;
    while (fake_all.at < fake_all.length)
        script_step();
    script_end();
    for (size_t i = 0; i < LOANS; i++)
        CHECK(fake_all.loans[i].fake == NULL);
    CHECK(numaperf__buffers_used(fake_all.net->buffers) == 0);
    CHECK(numaperf__list_empty(&fake_all.net->starved));
    CHECK(arena_used() == used);
    numaperf_net_stats_t stats = NUMAPERF_NET_STATS_INIT;
    CHECK(numaperf_loop_net_stats(fake_all.loop, &stats) == 0);
    CHECK(stats.connections == 0 && stats.connected == stats.closed + stats.failed);
}

/* ---- the loop ---- */

void net_fake_open(void)
{
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = NUMAPERF_IO_EPOLL;
    config.buffer_bytes = 512;
    config.buffer_count = BUFFERS;
    memset(&fake_all, 0, sizeof(fake_all));
    CHECK(numaperf_loop_create(&config, &fake_all.loop) == 0);
    CHECK(numaperf__net_of(fake_all.loop, &fake_all.net) == 0);
    fake_all.net->driver = &fake_driver;
    CHECK(uv_async_init(numaperf_loop_uv(fake_all.loop), &fake_all.keep_alive, NULL) == 0);
}

void net_fake_close(void)
{
    uv_close((uv_handle_t *)&fake_all.keep_alive, NULL);
    CHECK(numaperf_loop_run(fake_all.loop, UV_RUN_DEFAULT) == 0);
    CHECK(numaperf_loop_destroy(fake_all.loop) == 0);
}
