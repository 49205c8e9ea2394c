/* SPDX-License-Identifier: MIT */
/*
 * The sockets of one loop: made at first use, turned before the loop waits, ended with it.
 *
 * Invariant: a connection that wants something of the kernel, or has something to tell, is in
 * `todo`, and the loop knows that the net is dirty; nothing else is looked at in a turn, so idle
 * connections cost nothing.
 *
 * Thread rule: the loop's thread, but for the counters.
 */
#include "net/net.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "io/features.h"
#include "net/conn.h"
#include "net/deadline.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define NET_BUFFER_GROUP 1u
#define NET_STATS_MIN_SIZE 8u

_Static_assert(sizeof(numaperf_net_stats_t) ==
                   offsetof(numaperf_net_stats_t, accepted) +
                       sizeof(uint64_t) * (size_t)NUMAPERF__NET_COUNTERS,
               "one counter a field, in the same order");
_Static_assert(offsetof(numaperf_net_stats_t, bytes_received) ==
                   offsetof(numaperf_net_stats_t, accepted) +
                       sizeof(uint64_t) * (size_t)NUMAPERF__NET_BYTES_RECEIVED,
               "the same order");
_Static_assert(offsetof(numaperf_net_stats_t, datagrams_sent) ==
                   offsetof(numaperf_net_stats_t, accepted) +
                       sizeof(uint64_t) * (size_t)NUMAPERF__NET_DATAGRAMS_SENT,
               "the same order");

static struct numaperf__net *net_of_tenant(struct numaperf__loop_tenant *tenant)
{
    return NUMAPERF_CONTAINER_OF(tenant, struct numaperf__net, tenant);
}

/* ---- turn ---- */

static void net_feed_starved(struct numaperf__net *net)
{
    if (net->buffers == NULL || numaperf__list_empty(&net->starved))
        return;
    if (!numaperf__buffers_has_room(net->buffers)) {
        /* There was some, and others have taken it since: wait for the next. */
        numaperf__buffers_await_room(net->buffers);
        return;
    }
    /* All of them: whoever is left out might wait for ever, since those that get their turn may
     * have nothing to read. */
    while (!numaperf__list_empty(&net->starved)) {
        struct numaperf_conn *conn =
            NUMAPERF_CONTAINER_OF(net->starved.next, struct numaperf_conn, starved_link);
        numaperf__list_remove(&conn->starved_link);
        conn->is_starved = false;
        numaperf__conn_look_again(conn);
    }
}

static void net_turn(struct numaperf__loop_tenant *tenant)
{
    struct numaperf__net *net = net_of_tenant(tenant);
    net->is_turning = true;
    net_feed_starved(net);
    /* Those that are in it now: what their callbacks add is for the next turn. */
    struct numaperf__list now;
    numaperf__list_init(&now);
    if (!numaperf__list_empty(&net->todo)) {
        numaperf__list_push_back(&net->todo, &now);
        numaperf__list_remove(&net->todo);
    }
    while (!numaperf__list_empty(&now)) {
        struct numaperf_conn *conn =
            NUMAPERF_CONTAINER_OF(now.next, struct numaperf_conn, todo_link);
        numaperf__list_remove(&conn->todo_link);
        conn->in_todo = false;
        numaperf__conn_turn(conn);
    }
    net->is_turning = false;
    if (net->driver->turn != NULL)
        net->driver->turn(net);
}

static void net_room(void *data)
{
    struct numaperf__net *net = data;
    numaperf__loop_mark_dirty(net->loop, &net->tenant);
}

/* ---- end ---- */

static void net_close(struct numaperf__loop_tenant *tenant)
{
    struct numaperf__net *net = net_of_tenant(tenant);
    net->closing = true;
    struct numaperf__list *next = NULL;
    for (struct numaperf__list *link = net->members.next; link != &net->members; link = next) {
        next = link->next;
        struct numaperf__net_member *member =
            NUMAPERF_CONTAINER_OF(link, struct numaperf__net_member, link);
        member->close(member);
    }
    for (struct numaperf__list *link = net->conns.next; link != &net->conns; link = link->next)
        numaperf_conn_reset(NUMAPERF_CONTAINER_OF(link, struct numaperf_conn, link),
                            NUMAPERF_E_STOPPING);
    numaperf__deadlines_close(net);
}

static bool net_is_busy(const struct numaperf__loop_tenant *tenant)
{
    const struct numaperf__net *net = (const struct numaperf__net *)tenant;
    return !numaperf__list_empty(&net->conns) || !numaperf__list_empty(&net->members);
}

static bool net_is_closed(const struct numaperf__loop_tenant *tenant)
{
    const struct numaperf__net *net = (const struct numaperf__net *)tenant;
    return !net_is_busy(tenant) && net->handle_count == 0;
}

static void net_destroy(struct numaperf__loop_tenant *tenant)
{
    struct numaperf__net *net = net_of_tenant(tenant);
    numaperf__buffers_destroy(net->buffers);
    numaperf_arena_free(net->arena, net);
}

/* ---- create ---- */

_Static_assert(offsetof(struct numaperf__net, tenant) == 0, "cast above");

/* What of the ring is used: a step that is missing is done without. */
static void net_take_stock(struct numaperf__net *net)
{
    if (net->ring == NULL)
        return;
    if (!numaperf__loop_has(net->loop, NUMAPERF__FEATURE_BUFFER_RING))
        net->ring = NULL;
    net->receives_once = !numaperf__loop_has(net->loop, NUMAPERF__FEATURE_RECEIVE_MULTISHOT);
    net->zero_copy_flags = UINT32_MAX;
    if (numaperf__loop_has(net->loop, NUMAPERF__FEATURE_SEND_ZERO_COPY))
        net->zero_copy_flags = numaperf__loop_has(net->loop, NUMAPERF__FEATURE_ZERO_COPY_REPORT)
                                   ? NUMAPERF__RING_ZERO_COPY_REPORT
                                   : 0;
}

static int net_make_buffers(struct numaperf__net *net)
{
    struct numaperf__buffers_config config = {
        .arena = net->arena,
        .ring = net->ring,
        .bytes = numaperf__loop_buffer_bytes(net->loop),
        .count = numaperf__loop_buffer_count(net->loop),
        .group = NET_BUFFER_GROUP,
        .whole = net->ring != NULL &&
                 !numaperf__loop_has(net->loop, NUMAPERF__FEATURE_BUFFER_INCREMENTAL),
        .on_room = net_room,
        .data = net,
    };
    int rc = numaperf__buffers_create(&config, &net->buffers);
    if (rc == NUMAPERF_E_UNSUPPORTED) {
        /* A ring without buffer rings: connections go by libuv, which needs no buffer for one that
         * is idle. */
        net->ring = NULL;
        config.ring = NULL;
        rc = numaperf__buffers_create(&config, &net->buffers);
    }
    net->driver = net->ring != NULL ? &numaperf__conn_ring : &numaperf__conn_epoll;
    return rc < 0 ? numaperf__fail(rc, -rc, "net", "no receive buffers: %s", numaperf_strerror(rc))
                  : 0;
}

static int net_create(numaperf_loop_t *loop, numaperf_arena_t *arena, struct numaperf__net **out)
{
    struct numaperf__net *net = numaperf_arena_alloc(arena, sizeof(*net), 64);
    if (net == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "net", "no memory for the sockets of a loop");
    memset(net, 0, sizeof(*net));
    net->tenant = (struct numaperf__loop_tenant){.turn = net_turn,
                                                 .close = net_close,
                                                 .is_closed = net_is_closed,
                                                 .is_busy = net_is_busy,
                                                 .destroy = net_destroy};
    net->loop = loop;
    net->arena = arena;
    net->ring = numaperf__loop_ring(loop);
    net->cells = numaperf__loop_get_cells(loop)->cells;
    net_take_stock(net);
    numaperf__list_init(&net->conns);
    numaperf__list_init(&net->members);
    numaperf__list_init(&net->todo);
    numaperf__list_init(&net->starved);
    int rc = net_make_buffers(net);
    if (rc < 0)
        goto free;
    rc = numaperf__loop_set_tenant(loop, NUMAPERF__LOOP_NET, &net->tenant);
    if (rc < 0)
        goto free_buffers;
    /* Last: a handle that is initialised has to be closed by the loop's turns. */
    rc = numaperf__deadlines_init(net);
    NUMAPERF_ASSERT(rc == 0);
    *out = net;
    return 0;

free_buffers:
    numaperf__buffers_destroy(net->buffers);
free:
    numaperf_arena_free(arena, net);
    return rc;
}

int numaperf__net_of(numaperf_loop_t *loop, struct numaperf__net **out)
{
    int rc = numaperf__loop_enter(loop);
    if (rc < 0)
        return rc;
    struct numaperf__loop_tenant *tenant = numaperf__loop_get_tenant(loop, NUMAPERF__LOOP_NET);
    if (tenant != NULL) {
        struct numaperf__net *net = net_of_tenant(tenant);
        if (net->closing)
            return numaperf__fail(NUMAPERF_E_STOPPING, 0, "net", "the loop is being closed");
        *out = net;
        return 0;
    }
    numaperf_arena_t *arena = numaperf__loop_need_arena(loop);
    return arena != NULL ? net_create(loop, arena, out) : numaperf_last_error()->code;
}

uint64_t numaperf__net_now_ms(const struct numaperf__net *net)
{
    return uv_now(numaperf_loop_uv(net->loop));
}

/* ---- figures ---- */

void numaperf__net_add_stats(const struct numaperf__loop_cells *cells, numaperf_net_stats_t *total)
{
    const _Atomic uint64_t *cell = cells->cells;
    total->connections +=
        (uint32_t)atomic_load_explicit(&cell[NUMAPERF__NET_CONNECTIONS], memory_order_relaxed);
    uint64_t *fields = &total->accepted;
    for (size_t i = 0; i < NUMAPERF__NET_COUNTERS; i++)
        fields[i] += atomic_load_explicit(&cell[i], memory_order_relaxed);
}

int numaperf__net_store_stats(const numaperf_net_stats_t *total, numaperf_net_stats_t *out)
{
    return numaperf__result_store(out, NET_STATS_MIN_SIZE, total, sizeof(*total), "net");
}

int numaperf_loop_net_stats(const numaperf_loop_t *loop, numaperf_net_stats_t *out)
{
    if (loop == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "net", "loop and out must not be NULL");
    numaperf_net_stats_t total = NUMAPERF_NET_STATS_INIT;
    numaperf__net_add_stats(numaperf__loop_get_cells(loop), &total);
    return numaperf__net_store_stats(&total, out);
}
