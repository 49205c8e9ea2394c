/* SPDX-License-Identifier: MIT */
/*
 * A pair: two connections of one worker, each of which is sent what the other receives.
 *
 *     bytes      are not copied: the buffer they were received into is held and sent from. A loop
 *                lends out half of its buffers; when these are gone, bytes are copied.
 *     slowness   a side that does not take its bytes pauses the other one, until it has
 *     end        of one direction is the end of that direction on the other side, and no more
 *     failure    of one side is a reset of the other: what was cut off must not look whole
 *
 * The pair is gone with the last of its connections.
 */
#include "pair.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum { CLIENT = 0, UPSTREAM = 1 };

struct pair;

struct side {
    struct pair *pair;
    numaperf_conn_t *conn; /* NULL: not there yet, or gone */
};

struct pair {
    struct side sides[2];
    numaperf_connect_t *connect; /* under way */
    numaperf_arena_t *arena;
};

static struct side *other(struct side *side)
{
    struct pair *pair = side->pair;
    return side == &pair->sides[CLIENT] ? &pair->sides[UPSTREAM] : &pair->sides[CLIENT];
}

static void pair_free_when_done(struct pair *pair)
{
    if (pair->sides[CLIENT].conn == NULL && pair->sides[UPSTREAM].conn == NULL &&
        pair->connect == NULL)
        numaperf_arena_free(pair->arena, pair);
}

/* ---- both sides ---- */

/* Without a copy if a buffer may be held, else with one; as numaperf_conn_write(). */
static int side_pass(numaperf_conn_t *from, numaperf_conn_t *to, const void *bytes, size_t length)
{
    numaperf_buffer_t *buffer = numaperf_conn_hold(from);
    if (buffer == NULL)
        return numaperf_conn_write(to, bytes, length);
    int rc = numaperf_conn_write_held(to, buffer, bytes, length);
    if (rc < 0)
        numaperf_buffer_release(buffer);
    return rc;
}

static void on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    struct side *side = data;
    numaperf_conn_t *to = other(side)->conn;
    int rc = to != NULL ? side_pass(conn, to, bytes, length) : -EPIPE;
    if (rc == 1)
        numaperf_conn_pause(conn);
    else if (rc < 0)
        numaperf_conn_reset(conn, rc);
}

static void on_drain(numaperf_conn_t *conn, void *data)
{
    (void)conn;
    struct side *from = other(data);
    if (from->conn != NULL)
        numaperf_conn_resume(from->conn);
}

static void on_end(numaperf_conn_t *conn, void *data)
{
    (void)conn;
    struct side *to = other(data);
    if (to->conn != NULL)
        (void)numaperf_conn_end(to->conn); /* one that is closing needs it no more */
}

static void on_close(numaperf_conn_t *conn, int reason, void *data)
{
    (void)conn;
    struct side *side = data;
    struct pair *pair = side->pair;
    struct side *to = other(side);
    side->conn = NULL;
    if (pair->connect != NULL)
        numaperf_connect_cancel(pair->connect);
    if (to->conn != NULL && reason < 0)
        numaperf_conn_reset(to->conn, reason);
    pair_free_when_done(pair);
}

/* ---- begin ---- */

static void pair_connected(numaperf_conn_t *conn, int status, void *data)
{
    struct pair *pair = data;
    numaperf_conn_t *client = pair->sides[CLIENT].conn;
    pair->connect = NULL;
    if (client == NULL && conn != NULL)
        numaperf_conn_reset(conn, -ECONNRESET); /* its on_close frees the pair */
    else if (client != NULL && conn == NULL)
        numaperf_conn_reset(client, status); /* the same */
    else if (client != NULL)
        numaperf_conn_resume(client);
    pair_free_when_done(pair);
}

static int pair_connect(struct pair *pair, const struct proxy *proxy, numaperf_loop_t *loop)
{
    numaperf_conn_config_t conn = proxy->upstream;
    numaperf_connect_config_t config = NUMAPERF_CONNECT_CONFIG_INIT;
    conn.data = &pair->sides[UPSTREAM];
    config.host = proxy->unix_path == NULL ? proxy->host : NULL;
    config.unix_path = proxy->unix_path;
    config.port = proxy->port;
    config.timeout_ms = proxy->connect_ms;
    config.conn = &conn;
    return numaperf_connect(loop, &config, pair_connected, pair, &pair->connect);
}

static int client_open(numaperf_conn_t *conn, void *data)
{
    const struct proxy *proxy = data;
    numaperf_arena_t *arena = numaperf_worker_arena(numaperf_worker_current());
    struct pair *pair = numaperf_arena_alloc(arena, sizeof(*pair), 64);
    numaperf_conn_set_data(conn, NULL);
    if (pair == NULL)
        return -ENOMEM;
    memset(pair, 0, sizeof(*pair));
    pair->arena = arena;
    pair->sides[CLIENT] = (struct side){.pair = pair, .conn = conn};
    pair->sides[UPSTREAM] = (struct side){.pair = pair};
    int rc = pair_connect(pair, proxy, numaperf_conn_loop(conn));
    if (rc < 0) {
        numaperf_arena_free(arena, pair);
        return rc;
    }
    numaperf_conn_set_data(conn, &pair->sides[CLIENT]);
    numaperf_conn_pause(conn); /* until there is somebody to give it to */
    return 0;
}

static void client_close(numaperf_conn_t *conn, int reason, void *data)
{
    if (data != NULL) /* NULL: it could not be begun */
        on_close(conn, reason, data);
}

static int upstream_open(numaperf_conn_t *conn, void *data)
{
    struct side *side = data;
    side->conn = conn;
    return 0;
}

const numaperf_conn_callbacks_t proxy_client_callbacks = {
    .on_open = client_open,
    .on_read = on_read,
    .on_end = on_end,
    .on_drain = on_drain,
    .on_close = client_close,
};

const numaperf_conn_callbacks_t proxy_upstream_callbacks = {
    .on_open = upstream_open,
    .on_read = on_read,
    .on_end = on_end,
    .on_drain = on_drain,
    .on_close = on_close,
};
