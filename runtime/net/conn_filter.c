/* SPDX-License-Identifier: MIT */
/*
 * Filters: what stands between a connection's socket and its callbacks.
 *
 * Bytes go through it in the order they came. It may keep some while reading is paused; then the
 * connection asks it again, before it gives it new ones.
 *
 * Thread rule: the loop's thread.
 */
#include "net/conn.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "net/conn_state.h"

#include <errno.h>

#define FILTER_MIN_SIZE 48u

_Static_assert(sizeof(numaperf_conn_filter_t) == FILTER_MIN_SIZE, "public struct: append only");

int numaperf_conn_set_filter(numaperf_conn_t *conn, const numaperf_conn_filter_t *filter,
                             void *state)
{
    if (conn == NULL)
        return numaperf__fail(-EINVAL, 0, "filter", "conn must not be NULL");
    numaperf_conn_filter_t cfg = NUMAPERF_CONN_FILTER_INIT;
    if (filter != NULL) {
        int rc = numaperf__config_load(&cfg, sizeof(cfg), FILTER_MIN_SIZE, filter, "filter");
        if (rc < 0)
            return rc;
        if (cfg.flags != 0)
            return numaperf__fail(-EINVAL, 0, "filter", "flags %#x: none is known", cfg.flags);
        if (cfg.on_received == NULL)
            return numaperf__fail(-EINVAL, 0, "filter", "on_received must not be NULL");
    }
    if (conn->state != NUMAPERF__CONN_OPEN)
        return -EPIPE;
    numaperf__conn_filter_remove(conn);
    conn->filter = cfg;
    conn->filter_state = state;
    conn->filter_ended = false;
    conn->filter_waits = false;
    return 0;
}

void numaperf__conn_filter_remove(struct numaperf_conn *conn)
{
    if (conn->filter.on_received == NULL)
        return;
    void (*on_removed)(void *state) = conn->filter.on_removed;
    conn->filter = (numaperf_conn_filter_t){.on_received = NULL};
    if (on_removed != NULL)
        on_removed(conn->filter_state);
    conn->filter_state = NULL;
}

void numaperf__conn_filter_received(struct numaperf_conn *conn, const void *bytes, size_t length)
{
    if (conn->filter.on_received == NULL)
        return;
    int rc = conn->filter.on_received(conn, bytes, length, conn->filter_state);
    if (rc < 0)
        numaperf_conn_reset(conn, rc);
}

int numaperf__conn_filter_received_end(struct numaperf_conn *conn)
{
    if (conn->filter.on_received_end == NULL)
        return 0;
    return conn->filter.on_received_end(conn, conn->filter_state);
}

void numaperf__conn_filter_ending(struct numaperf_conn *conn)
{
    if (conn->filter.on_ending == NULL || conn->filter_ended)
        return;
    conn->filter_ended = true;
    conn->filter.on_ending(conn, conn->filter_state);
}

int numaperf_conn_deliver(numaperf_conn_t *conn, const void *bytes, size_t length)
{
    if (conn == NULL || (bytes == NULL && length > 0))
        return numaperf__fail(-EINVAL, 0, "filter", "conn and bytes must not be NULL");
    if (conn->state != NUMAPERF__CONN_OPEN)
        return -EPIPE;
    if (conn->is_paused) {
        conn->filter_waits = true;
        return -EAGAIN;
    }
    if (length > 0 && !conn->finish_wanted)
        conn->callbacks.on_read(conn, bytes, length, conn->data);
    if (conn->state != NUMAPERF__CONN_OPEN)
        return -EPIPE;
    if (!conn->is_paused)
        return 0;
    conn->filter_waits = true;
    return 1;
}
