/* SPDX-License-Identifier: MIT */
/*
 * Bytes that a connection has received and cannot tell yet, since reading is paused: a ring of
 * pieces, in order.
 *
 * They are copied out of the receive buffers when these get scarce: peers that make us pause must
 * not keep buffers from all others.
 *
 * Thread rule: the loop's thread.
 */
#include "base/assert.h"
#include "net/conn.h"
#include "net/conn_state.h"

#include <errno.h>
#include <string.h>

#define STASH_FIRST 4u /* pieces there is room for at first; a power of two, and doubled */

void numaperf__conn_release_slice(struct numaperf_conn *conn, const struct numaperf__slice *slice)
{
    if (slice->buffer != NULL)
        numaperf__buffer_unref(slice->buffer);
    else
        numaperf_arena_free(conn->net->arena, slice->bytes); /* a copy of ours */
}

static bool stash_grow(struct numaperf_conn *conn)
{
    struct numaperf__conn_stash *stash = &conn->stash;
    uint32_t capacity = stash->capacity != 0 ? 2 * stash->capacity : STASH_FIRST;
    struct numaperf__slice *slices =
        numaperf_arena_alloc(conn->net->arena, capacity * sizeof(*slices), 0);
    if (slices == NULL)
        return false;
    for (uint32_t i = 0; i < stash->count; i++)
        slices[i] = stash->slices[(stash->first + i) & (stash->capacity - 1)];
    numaperf_arena_free(conn->net->arena, stash->slices);
    stash->slices = slices;
    stash->capacity = capacity;
    stash->first = 0;
    return true;
}

/* What is kept for long must not be most of the buffers. */
static bool stash_unbuffer(struct numaperf_conn *conn, struct numaperf__slice *slice)
{
    struct numaperf__buffers *buffers = conn->net->buffers;
    if (numaperf__buffers_used(buffers) < numaperf__buffers_count(buffers) / 2)
        return true;
    char *copy = numaperf_arena_alloc(conn->net->arena, slice->length, 0);
    if (copy == NULL)
        return false;
    memcpy(copy, slice->bytes, slice->length);
    numaperf__buffer_unref(slice->buffer);
    slice->buffer = NULL;
    slice->bytes = copy;
    return true;
}

void numaperf__conn_stash_push(struct numaperf_conn *conn, struct numaperf__slice *slice)
{
    struct numaperf__conn_stash *stash = &conn->stash;
    if (!stash_unbuffer(conn, slice) || (stash->count == stash->capacity && !stash_grow(conn))) {
        numaperf__conn_release_slice(conn, slice);
        numaperf_conn_reset(conn, -ENOMEM); /* better than a stream with a hole */
        return;
    }
    stash->slices[(stash->first + stash->count) & (stash->capacity - 1)] = *slice;
    stash->count++;
}

struct numaperf__slice numaperf__conn_stash_pop(struct numaperf_conn *conn)
{
    struct numaperf__conn_stash *stash = &conn->stash;
    NUMAPERF_ASSERT(stash->count > 0);
    struct numaperf__slice slice = stash->slices[stash->first];
    stash->first = (stash->first + 1) & (stash->capacity - 1);
    stash->count--;
    return slice;
}

void numaperf__conn_stash_drop(struct numaperf_conn *conn)
{
    struct numaperf__conn_stash *stash = &conn->stash;
    while (stash->count > 0) {
        struct numaperf__slice slice = numaperf__conn_stash_pop(conn);
        numaperf__conn_release_slice(conn, &slice);
    }
    numaperf_arena_free(conn->net->arena, stash->slices);
    *stash = (struct numaperf__conn_stash){.count = 0};
}
