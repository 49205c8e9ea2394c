/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a connection that an acceptor has accepted: served here, handed over to another
 * worker of the node, or refused.
 *
 * Invariant: its descriptor is a connection's, on its way, or closed and counted. On its way means
 * that the receiver's `incoming` counts it, from before it is sent until it has arrived or was
 * dropped, which is the last that touches the receiver.
 *
 * Thread rule: the acceptor's loop, but for what accept.h says of siblings.
 */
#include "base/assert.h"
#include "net/accept.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/steer.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- what becomes of a connection ---- */

static void acceptor_close_direct_done(struct numaperf__op *op)
{
    free(op);
}

/* A direct descriptor that nobody wants. */
static void acceptor_close_direct(struct numaperf__acceptor *acceptor, int slot)
{
    struct numaperf__op *op = calloc(1, sizeof(*op));
    if (op == NULL)
        return; /* it stays open until the ring ends, and the table is one shorter */
    *op = (struct numaperf__op){.kind = NUMAPERF__OP_CLOSE,
                                .done = acceptor_close_direct_done,
                                .fd = slot,
                                .is_direct = true};
    if (numaperf__loop_submit(acceptor->net->loop, op) < 0)
        free(op); /* the same */
}

static void acceptor_refuse(struct numaperf__acceptor *acceptor, int fd, bool is_direct,
                            enum numaperf__net_counter counter)
{
    numaperf__net_count(acceptor->net, counter, 1);
    if (is_direct)
        acceptor_close_direct(acceptor, fd);
    else
        (void)close(fd); /* a socket: nothing is lost by a failure */
}

static void acceptor_count(struct numaperf__acceptor *acceptor, uint32_t change)
{
    /* One writer: no locked instruction. */
    uint32_t count = atomic_load_explicit(&acceptor->connections, memory_order_relaxed);
    atomic_store_explicit(&acceptor->connections, count + change, memory_order_relaxed);
}

static void acceptor_conn_gone(struct numaperf_conn *conn, int reason)
{
    struct numaperf__acceptor *acceptor = conn->origin;
    numaperf__list_remove(&conn->origin_link);
    acceptor_count(acceptor, UINT32_MAX);
    if (acceptor->is_resetting && reason == NUMAPERF_E_STOPPING)
        (void)atomic_fetch_add_explicit(&acceptor->listener->reset_count, 1, memory_order_relaxed);
    numaperf__acceptor_got_room(acceptor);
}

static void acceptor_serve(struct numaperf__acceptor *acceptor, int fd, bool is_direct, bool is_tcp)
{
    const struct numaperf__conn_origin origin = {.origin = acceptor,
                                                 .gone = acceptor_conn_gone,
                                                 .counter = NUMAPERF__NET_ACCEPTED,
                                                 .is_direct = is_direct,
                                                 .is_tcp = is_tcp};
    struct numaperf_conn *conn = NULL;
    acceptor_count(acceptor, 1); /* first: on_open may look, or have siblings look */
    int rc = numaperf__conn_make(acceptor->net, fd, &acceptor->listener->conn, &origin, &conn);
    if (rc < 0) {
        acceptor_count(acceptor, UINT32_MAX);
        acceptor_refuse(acceptor, fd, is_direct, NUMAPERF__NET_REFUSED_MEMORY);
        return;
    }
    numaperf__list_push_back(&acceptor->conns, &conn->origin_link);
    if (acceptor->is_resetting)
        numaperf_conn_reset(conn, NUMAPERF_E_STOPPING);
    else if (acceptor->state == NUMAPERF__ACCEPTOR_ENDING)
        numaperf__conn_shutdown(conn);
}

static uint32_t acceptor_load(const struct numaperf__acceptor *acceptor)
{
    uint32_t incoming = atomic_load_explicit(&acceptor->incoming, memory_order_relaxed);
    uint32_t load = atomic_load_explicit(&acceptor->connections, memory_order_relaxed);
    return incoming == NUMAPERF__INCOMING_CLOSED ? UINT32_MAX : load + incoming;
}

/* The sibling with the fewest connections; itself when it has none. */
static struct numaperf__acceptor *acceptor_least(struct numaperf__acceptor *acceptor)
{
    struct numaperf__acceptor *siblings = &acceptor->listener->acceptors[acceptor->first_sibling];
    struct numaperf__acceptor *least = acceptor;
    uint32_t least_load = UINT32_MAX;
    for (uint32_t i = 0; i < acceptor->sibling_count; i++) {
        uint32_t load = acceptor_load(&siblings[i]);
        if (&siblings[i] == acceptor || load >= least_load)
            continue;
        least = &siblings[i];
        least_load = load;
    }
    return least;
}

/* Whether another worker has it now. */
static bool acceptor_hand_over(struct numaperf__acceptor *acceptor, int fd, bool is_tcp)
{
    struct numaperf_listener *listener = acceptor->listener;
    uint32_t own = acceptor_load(acceptor);
    uint32_t limit = listener->config.connections_max;
    if (acceptor->sibling_count < 2 || listener->config.handoff_max == UINT32_MAX ||
        (own < NUMAPERF__HANDOFF_MARGIN && own < limit))
        return false;
    struct numaperf__acceptor *to = acceptor_least(acceptor);
    if (!numaperf__steer_hands_over(own, acceptor_load(to), limit) ||
        !numaperf__acceptor_reserve(to, listener->config.handoff_max))
        return false;
    const struct numaperf__handoff handoff = {.fd = fd, .is_tcp = is_tcp};
    if (listener->host->hand_over(to, &handoff) < 0) {
        numaperf__acceptor_unreserve(to);
        return false;
    }
    numaperf__net_count(acceptor->net, NUMAPERF__NET_HANDED_OVER, 1);
    return true;
}

void numaperf__acceptor_take(struct numaperf__acceptor *acceptor, int fd,
                             const struct numaperf__accept_source *source, bool is_direct)
{
    if (!is_direct && acceptor->state == NUMAPERF__ACCEPTOR_ACCEPTING &&
        acceptor_hand_over(acceptor, fd, source->is_tcp))
        return;
    if (acceptor_load(acceptor) >= acceptor->listener->config.connections_max)
        acceptor_refuse(acceptor, fd, is_direct, NUMAPERF__NET_REFUSED_LIMIT);
    else
        acceptor_serve(acceptor, fd, is_direct, source->is_tcp);
}

/* ---- handed over ---- */

bool numaperf__acceptor_reserve(struct numaperf__acceptor *acceptor, uint32_t max)
{
    uint32_t incoming = atomic_load_explicit(&acceptor->incoming, memory_order_relaxed);
    do {
        if (incoming >= max) /* closed included */
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&acceptor->incoming, &incoming, incoming + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void numaperf__acceptor_unreserve(struct numaperf__acceptor *acceptor)
{
    /* Release pairs with the acquire in acceptor_settle(), after which all may be freed. */
    uint32_t before = atomic_fetch_sub_explicit(&acceptor->incoming, 1, memory_order_release);
    NUMAPERF_ASSERT(before > 0 && before != NUMAPERF__INCOMING_CLOSED);
}

static void acceptor_reset_fd(struct numaperf_listener *listener, int fd)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    /* AF_UNIX has none: the peer sees an end. */
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    (void)close(fd); /* a socket: nothing is lost by a failure */
    (void)atomic_fetch_add_explicit(&listener->reset_count, 1, memory_order_relaxed);
}

void numaperf__acceptor_dropped(struct numaperf__acceptor *acceptor,
                                const struct numaperf__handoff *handoff)
{
    acceptor_reset_fd(acceptor->listener, handoff->fd);
    numaperf__acceptor_unreserve(acceptor); /* last: now it may go */
}

void numaperf__acceptor_arrive(struct numaperf__acceptor *acceptor,
                               const struct numaperf__handoff *handoff)
{
    NUMAPERF_ASSERT(acceptor->net != NULL && acceptor->state != NUMAPERF__ACCEPTOR_CLOSED);
    numaperf__acceptor_unreserve(acceptor); /* now: else it would count twice */
    if (acceptor->is_resetting)
        acceptor_reset_fd(acceptor->listener, handoff->fd);
    else
        acceptor_serve(acceptor, handoff->fd, false, handoff->is_tcp);
    numaperf__acceptor_got_room(acceptor);
}
