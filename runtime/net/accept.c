/* SPDX-License-Identifier: MIT */
/*
 * Accepting on one loop.
 *
 *   NEW -> READY -> ACCEPTING <-> PAUSED
 *            |          |           |
 *            |          +-----+-----+
 *            |                v
 *            |            DRAINING    requests are cancelled, then the backlog is accepted
 *            |                v
 *            +----------> ENDING      no sockets; connections end, or are reset after the grace
 *                             v
 *                          CLOSED     nothing is on its way to it; its handles close
 *
 * What becomes of an accepted connection is admit.c's.
 *
 * Invariants: a source is armed in ACCEPTING, and its request may outlive that until it ends by
 * itself (PAUSED) or is cancelled (DRAINING). In PAUSED a timer is running, so that accepting goes
 * on by itself; a connection that closes ends the pause, too.
 *
 * Who accepts steps down from multishot with direct descriptors to polling, as the kernel refuses.
 *
 * Thread rule: the loop's thread. An acceptor ends only by moving `incoming` from 0 to closed, so
 * what was sent to it always finds it.
 *
 * Source: accept(2), "Error handling"; io_uring_prep_multishot_accept(3).
 */
#include "net/accept.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "net/conn.h"
#include "net/listener.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPT_BATCH 64u         /* of one event of a polled socket */
#define ACCEPT_FAILURES_MAX 16u  /* connections that fail in a row, before it pauses */
#define ACCEPT_PAUSE_MS 100u     /* until it tries again by itself */
#define ACCEPT_RECHECK_MS 10u    /* what another thread ends is looked for as often */
#define ACCEPT_DIRECT_MAX 65536u /* direct descriptors of a loop */
#define ACCEPT_TIMER_MS_MAX (1ull << 40)

static void acceptor_set_state(struct numaperf__acceptor *acceptor,
                               enum numaperf__acceptor_state from, enum numaperf__acceptor_state to)
{
    static const uint8_t edges[] = {
        [NUMAPERF__ACCEPTOR_NEW] = 1u << NUMAPERF__ACCEPTOR_READY,
        [NUMAPERF__ACCEPTOR_READY] =
            1u << NUMAPERF__ACCEPTOR_ACCEPTING | 1u << NUMAPERF__ACCEPTOR_ENDING,
        [NUMAPERF__ACCEPTOR_ACCEPTING] =
            1u << NUMAPERF__ACCEPTOR_PAUSED | 1u << NUMAPERF__ACCEPTOR_DRAINING,
        [NUMAPERF__ACCEPTOR_PAUSED] =
            1u << NUMAPERF__ACCEPTOR_ACCEPTING | 1u << NUMAPERF__ACCEPTOR_DRAINING,
        [NUMAPERF__ACCEPTOR_DRAINING] = 1u << NUMAPERF__ACCEPTOR_ENDING,
        [NUMAPERF__ACCEPTOR_ENDING] = 1u << NUMAPERF__ACCEPTOR_CLOSED,
        [NUMAPERF__ACCEPTOR_CLOSED] = 0,
    };
    NUMAPERF_ASSERT(acceptor->state == from);
    NUMAPERF_ASSERT((edges[from] >> to & 1u) != 0);
    acceptor->state = (uint8_t)to;
}

static void acceptor_tick(uv_timer_t *timer);
static void acceptor_settle(struct numaperf__acceptor *acceptor);
static void source_done(struct numaperf__op *op);
static void source_arm(struct numaperf__accept_source *source);

static void acceptor_start_timer(struct numaperf__acceptor *acceptor, uint64_t after_ms)
{
    /* Its time may be as old as the turn: a pause that is a little shorter harms nobody. */
    int rc = uv_timer_start(&acceptor->timer, acceptor_tick,
                            after_ms < ACCEPT_TIMER_MS_MAX ? after_ms : ACCEPT_TIMER_MS_MAX, 0);
    NUMAPERF_ASSERT(rc == 0);
}

/* ---- pause ---- */

static void acceptor_resume(struct numaperf__acceptor *acceptor)
{
    acceptor_set_state(acceptor, NUMAPERF__ACCEPTOR_PAUSED, NUMAPERF__ACCEPTOR_ACCEPTING);
    (void)uv_timer_stop(&acceptor->timer); /* never fails */
    for (uint32_t i = 0; i < acceptor->source_count; i++)
        source_arm(&acceptor->sources[i]);
}

/* No descriptors, no memory, or it fails and fails: try again later. */
static void acceptor_pause(struct numaperf__acceptor *acceptor)
{
    acceptor_set_state(acceptor, NUMAPERF__ACCEPTOR_ACCEPTING, NUMAPERF__ACCEPTOR_PAUSED);
    numaperf__net_count(acceptor->net, NUMAPERF__NET_ACCEPT_PAUSES, 1);
    for (uint32_t i = 0; i < acceptor->source_count; i++) {
        struct numaperf__accept_source *source = &acceptor->sources[i];
        if (source->is_polling)
            (void)uv_poll_stop(&source->poll); /* never fails */
        source->is_polling = false;
    }
    acceptor_start_timer(acceptor, ACCEPT_PAUSE_MS);
}

/* Only this one connection failed; accept(2) says to go on. */
static bool source_is_transient(int rc)
{
    switch (rc) {
    case -ECONNABORTED:
    case -EAGAIN:
    case -EINTR:
    case -ECANCELED:
    case -EPERM:
    case -EPROTO:
    case -ENOPROTOOPT:
    case -ENETDOWN:
    case -ENETUNREACH:
    case -EHOSTDOWN:
    case -EHOSTUNREACH:
    case -ENONET:
    case -ETIMEDOUT:
        return true;
    default:
        return false;
    }
}

/* Whether accepting goes on at once after this failure. */
static bool source_goes_on(struct numaperf__accept_source *source, int rc)
{
    return source_is_transient(rc) && ++source->failures < ACCEPT_FAILURES_MAX;
}

/* ---- polled sources ---- */

static void source_handle_closed(uv_handle_t *handle);

static int source_accept(const struct numaperf__accept_source *source)
{
    int fd = accept4(source->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

static void source_ready(uv_poll_t *poll, int status, int events)
{
    (void)status; /* accept4() says better what the matter is */
    (void)events;
    struct numaperf__accept_source *source =
        NUMAPERF_CONTAINER_OF(poll, struct numaperf__accept_source, poll);
    struct numaperf__acceptor *acceptor = source->acceptor;
    /* A callback, or a failure, may end it. What is left is told again. */
    for (uint32_t i = 0; i < ACCEPT_BATCH && acceptor->state == NUMAPERF__ACCEPTOR_ACCEPTING; i++) {
        int rc = source_accept(source);
        if (rc == -EAGAIN)
            return;
        if (rc >= 0) {
            source->failures = 0;
            numaperf__acceptor_take(acceptor, rc, source, false);
        } else if (!source_goes_on(source, rc)) {
            source->failures = 0;
            acceptor_pause(acceptor);
        }
    }
}

/* The handle, which needs one of libuv's places for the descriptor. 0 or -errno. */
static int source_make_poll(struct numaperf__accept_source *source)
{
    struct numaperf__acceptor *acceptor = source->acceptor;
    int rc = uv_poll_init(numaperf_loop_uv(acceptor->net->loop), &source->poll, source->fd);
    if (rc < 0)
        return rc;
    numaperf__loop_mark((uv_handle_t *)&source->poll);
    source->poll_exists = true;
    acceptor->handle_count++;
    acceptor->net->handle_count++;
    return 0;
}

static int source_arm_poll(struct numaperf__accept_source *source)
{
    int rc = source->poll_exists ? 0 : source_make_poll(source);
    if (rc == 0)
        rc = uv_poll_start(&source->poll, UV_READABLE, source_ready);
    source->is_polling = rc == 0;
    return rc;
}

/* ---- sources on the ring ---- */

static int source_arm_ring(struct numaperf__accept_source *source)
{
    static const uint8_t kinds[] = {
        [NUMAPERF__ACCEPT_DIRECT] = NUMAPERF__OP_ACCEPT_DIRECT,
        [NUMAPERF__ACCEPT_MULTI] = NUMAPERF__OP_ACCEPT_MULTI,
        [NUMAPERF__ACCEPT_SINGLE] = NUMAPERF__OP_ACCEPT,
    };
    bool is_direct = source->way == NUMAPERF__ACCEPT_DIRECT;
    source->op = (struct numaperf__op){
        .kind = kinds[source->way],
        .done = source_done,
        .fd = source->fd,
        .flags = SOCK_NONBLOCK | (is_direct ? 0u : (uint32_t)SOCK_CLOEXEC),
    };
    return numaperf__loop_submit(source->acceptor->net->loop, &source->op);
}

static void source_arm(struct numaperf__accept_source *source)
{
    struct numaperf__acceptor *acceptor = source->acceptor;
    /* Arming an earlier one may have paused it; a request may have outlived a pause. */
    if (acceptor->state != NUMAPERF__ACCEPTOR_ACCEPTING || source->op.in_flight ||
        source->is_polling)
        return;
    int rc =
        source->way == NUMAPERF__ACCEPT_POLL ? source_arm_poll(source) : source_arm_ring(source);
    if (rc < 0)
        acceptor_pause(acceptor);
}

/* Whether the kernel refuses this way of accepting, and there is another. */
static bool source_steps_down(struct numaperf__accept_source *source, int rc)
{
    if (source->has_accepted || source->way == NUMAPERF__ACCEPT_POLL ||
        (rc != -EINVAL && rc != -EOPNOTSUPP && rc != -ENXIO))
        return false;
    source->way++;
    return true;
}

static void acceptor_drained(struct numaperf__acceptor *acceptor);

static void source_ended(struct numaperf__accept_source *source, int rc)
{
    struct numaperf__acceptor *acceptor = source->acceptor;
    if (acceptor->state == NUMAPERF__ACCEPTOR_DRAINING) {
        acceptor_drained(acceptor);
        return;
    }
    if (acceptor->state != NUMAPERF__ACCEPTOR_ACCEPTING)
        return; /* a pause is on: its end arms it */
    if (rc >= 0 || source_steps_down(source, rc) || source_goes_on(source, rc)) {
        source_arm(source);
        return;
    }
    source->failures = 0;
    acceptor_pause(acceptor);
}

static void source_done(struct numaperf__op *op)
{
    struct numaperf__accept_source *source =
        NUMAPERF_CONTAINER_OF(op, struct numaperf__accept_source, op);
    int rc = op->result;
    bool more = op->more;
    if (rc >= 0) {
        source->failures = 0;
        source->has_accepted = true;
        numaperf__acceptor_take(source->acceptor, rc, source,
                                source->way == NUMAPERF__ACCEPT_DIRECT);
    }
    if (!more)
        source_ended(source, rc);
}

/* ---- end ---- */

static void acceptor_gone(struct numaperf__acceptor *acceptor)
{
    NUMAPERF_ASSERT(numaperf__list_empty(&acceptor->conns));
    numaperf__list_remove(&acceptor->member.link);
    numaperf__listener_left(acceptor->listener); /* the last one frees them all */
}

static void acceptor_handle_closed(struct numaperf__acceptor *acceptor)
{
    NUMAPERF_ASSERT(acceptor->handle_count > 0 && acceptor->net->handle_count > 0);
    acceptor->net->handle_count--;
    acceptor->handle_count--;
    if (acceptor->handle_count == 0)
        acceptor_gone(acceptor);
}

static void source_handle_closed(uv_handle_t *handle)
{
    struct numaperf__accept_source *source =
        NUMAPERF_CONTAINER_OF((uv_poll_t *)handle, struct numaperf__accept_source, poll);
    source->poll_exists = false;
    acceptor_handle_closed(source->acceptor);
}

static void acceptor_timer_closed(uv_handle_t *handle)
{
    acceptor_handle_closed(
        NUMAPERF_CONTAINER_OF((uv_timer_t *)handle, struct numaperf__acceptor, timer));
}

/* In ENDING: go when there is nothing left. */
static void acceptor_settle(struct numaperf__acceptor *acceptor)
{
    if (acceptor->state != NUMAPERF__ACCEPTOR_ENDING || !numaperf__list_empty(&acceptor->conns))
        return;
    uint32_t none = 0;
    /* Acquire pairs with the release of who took the last one away. */
    if (!atomic_compare_exchange_strong_explicit(&acceptor->incoming, &none,
                                                 NUMAPERF__INCOMING_CLOSED, memory_order_acquire,
                                                 memory_order_relaxed)) {
        acceptor_start_timer(acceptor, ACCEPT_RECHECK_MS);
        return;
    }
    acceptor_set_state(acceptor, NUMAPERF__ACCEPTOR_ENDING, NUMAPERF__ACCEPTOR_CLOSED);
    uv_close((uv_handle_t *)&acceptor->timer, acceptor_timer_closed);
}

static void acceptor_reset_all(struct numaperf__acceptor *acceptor)
{
    acceptor->is_resetting = true;
    for (struct numaperf__list *link = acceptor->conns.next; link != &acceptor->conns;
         link = link->next)
        numaperf_conn_reset(NUMAPERF_CONTAINER_OF(link, struct numaperf_conn, origin_link),
                            NUMAPERF_E_STOPPING);
}

/* In ENDING: reset when the grace is over, else wait for its end. */
static void acceptor_limit(struct numaperf__acceptor *acceptor)
{
    uint64_t grace_end_ns = 0;
    (void)numaperf__listener_phase(acceptor->listener, &grace_end_ns);
    if (acceptor->is_resetting || grace_end_ns == UINT64_MAX)
        return;
    uint64_t now_ns = numaperf__clock_now_ns();
    if (now_ns >= grace_end_ns)
        acceptor_reset_all(acceptor);
    else
        acceptor_start_timer(acceptor, (grace_end_ns - now_ns) / 1000000u + 1);
}

/* What the kernel has accepted already is served, too, unless it would be reset at once. */
static void acceptor_take_backlog(struct numaperf__acceptor *acceptor,
                                  struct numaperf__accept_source *source)
{
    uint32_t limit = acceptor->listener->config.backlog;
    /* Another process may go on with the same socket: limited, so that this ends all the same. */
    for (uint32_t i = 0; i < limit; i++) {
        int rc = source_accept(source);
        if (rc >= 0)
            numaperf__acceptor_take(acceptor, rc, source, false);
        else if (!source_is_transient(rc) || rc == -EAGAIN)
            return;
    }
}

static bool acceptor_grace_is_over(const struct numaperf__acceptor *acceptor)
{
    uint64_t grace_end_ns = 0;
    (void)numaperf__listener_phase(acceptor->listener, &grace_end_ns);
    return acceptor->is_resetting || numaperf__clock_now_ns() >= grace_end_ns;
}

/* In DRAINING, once no request is left: on to ENDING. */
static void acceptor_drained(struct numaperf__acceptor *acceptor)
{
    for (uint32_t i = 0; i < acceptor->source_count; i++) {
        if (acceptor->sources[i].op.in_flight)
            return;
    }
    for (uint32_t i = 0; i < acceptor->source_count && !acceptor_grace_is_over(acceptor); i++)
        acceptor_take_backlog(acceptor, &acceptor->sources[i]);
    numaperf__listener_release(acceptor->listener, acceptor->index);
    acceptor_set_state(acceptor, NUMAPERF__ACCEPTOR_DRAINING, NUMAPERF__ACCEPTOR_ENDING);
    acceptor_limit(acceptor);
    for (struct numaperf__list *link = acceptor->conns.next;
         link != &acceptor->conns && !acceptor->is_resetting; link = link->next)
        numaperf__conn_shutdown(NUMAPERF_CONTAINER_OF(link, struct numaperf_conn, origin_link));
    acceptor_settle(acceptor);
}

static void acceptor_cancel(struct numaperf__acceptor *acceptor)
{
    for (uint32_t i = 0; i < acceptor->source_count; i++) {
        struct numaperf__op *op = &acceptor->sources[i].op;
        if (!op->in_flight)
            continue;
        (void)numaperf__ring_cancel(acceptor->net->ring, op); /* no room: the timer asks again */
        acceptor_start_timer(acceptor, ACCEPT_RECHECK_MS);
    }
}

/* Accept no more. */
static void acceptor_drain(struct numaperf__acceptor *acceptor)
{
    acceptor_set_state(acceptor, (enum numaperf__acceptor_state)acceptor->state,
                       NUMAPERF__ACCEPTOR_DRAINING);
    (void)uv_timer_stop(&acceptor->timer); /* never fails */
    for (uint32_t i = 0; i < acceptor->source_count; i++) {
        struct numaperf__accept_source *source = &acceptor->sources[i];
        source->is_polling = false;
        /* Closed now, before the descriptor is: a later close would reach into libuv's list by a
         * number that is another one's by then. */
        if (source->poll_exists)
            uv_close((uv_handle_t *)&source->poll, source_handle_closed);
    }
    acceptor_cancel(acceptor);
    acceptor_drained(acceptor);
}

void numaperf__acceptor_abandon(struct numaperf__acceptor *acceptor)
{
    for (uint32_t i = 0; i < acceptor->source_count; i++) {
        if (acceptor->sources[i].poll_exists)
            uv_close((uv_handle_t *)&acceptor->sources[i].poll, source_handle_closed);
    }
    numaperf__listener_release(acceptor->listener, acceptor->index);
    acceptor_set_state(acceptor, NUMAPERF__ACCEPTOR_READY, NUMAPERF__ACCEPTOR_ENDING);
    acceptor_settle(acceptor);
}

void numaperf__acceptor_got_room(struct numaperf__acceptor *acceptor)
{
    if (acceptor->state == NUMAPERF__ACCEPTOR_PAUSED)
        acceptor_resume(acceptor);
    else if (acceptor->state == NUMAPERF__ACCEPTOR_ENDING)
        acceptor_settle(acceptor);
}

/* ---- follow ---- */

static void acceptor_begin(struct numaperf__acceptor *acceptor)
{
    acceptor_set_state(acceptor, NUMAPERF__ACCEPTOR_READY, NUMAPERF__ACCEPTOR_ACCEPTING);
    for (uint32_t i = 0; i < acceptor->source_count; i++)
        source_arm(&acceptor->sources[i]);
}

static void acceptor_follow_end(struct numaperf__acceptor *acceptor)
{
    /* Closed before it had its turn to begin: there may be connections all the same, in the
     * backlog or handed over. */
    if (acceptor->state == NUMAPERF__ACCEPTOR_READY)
        acceptor_set_state(acceptor, NUMAPERF__ACCEPTOR_READY, NUMAPERF__ACCEPTOR_ACCEPTING);
    if (acceptor->state == NUMAPERF__ACCEPTOR_ACCEPTING ||
        acceptor->state == NUMAPERF__ACCEPTOR_PAUSED)
        acceptor_drain(acceptor);
    else if (acceptor->state == NUMAPERF__ACCEPTOR_DRAINING)
        acceptor_cancel(acceptor);
    else if (acceptor->state == NUMAPERF__ACCEPTOR_ENDING)
        acceptor_limit(acceptor);
}

static void acceptor_follow(struct numaperf__acceptor *acceptor, enum numaperf__follow how)
{
    if (how >= NUMAPERF__FOLLOW_DRAIN)
        numaperf__listener_stopping(acceptor->listener);
    uint64_t grace_end_ns = 0;
    enum numaperf__listener_phase phase =
        numaperf__listener_phase(acceptor->listener, &grace_end_ns);
    if (phase == NUMAPERF__LISTENER_STARTING)
        return; /* who starts it goes on, and has it looked at again */
    if (phase == NUMAPERF__LISTENER_OPEN) {
        if (acceptor->state == NUMAPERF__ACCEPTOR_READY)
            acceptor_begin(acceptor);
        return;
    }
    if (how == NUMAPERF__FOLLOW_RESET && !acceptor->is_resetting)
        acceptor_reset_all(acceptor);
    if (phase == NUMAPERF__LISTENER_FAILED && acceptor->state == NUMAPERF__ACCEPTOR_READY)
        numaperf__acceptor_abandon(acceptor);
    else
        acceptor_follow_end(acceptor);
    acceptor_settle(acceptor);
}

static void acceptor_tick(uv_timer_t *timer)
{
    struct numaperf__acceptor *acceptor =
        NUMAPERF_CONTAINER_OF(timer, struct numaperf__acceptor, timer);
    if (acceptor->state == NUMAPERF__ACCEPTOR_PAUSED)
        acceptor_resume(acceptor);
    acceptor_follow(acceptor, NUMAPERF__FOLLOW_LISTENER);
}

void numaperf__acceptor_look_soon(struct numaperf__acceptor *acceptor)
{
    acceptor_start_timer(acceptor, 0);
}

static void acceptor_member_close(struct numaperf__net_member *member)
{
    struct numaperf__acceptor *acceptor =
        NUMAPERF_CONTAINER_OF(member, struct numaperf__acceptor, member);
    acceptor_follow(acceptor, NUMAPERF__FOLLOW_RESET);
}

void numaperf__acceptors_follow(numaperf_loop_t *loop, enum numaperf__follow how)
{
    struct numaperf__loop_tenant *tenant = numaperf__loop_get_tenant(loop, NUMAPERF__LOOP_NET);
    if (tenant == NULL)
        return;
    struct numaperf__net *net = NUMAPERF_CONTAINER_OF(tenant, struct numaperf__net, tenant);
    /* Members leave in close callbacks of libuv only, never in here. */
    for (struct numaperf__list *link = net->members.next; link != &net->members;
         link = link->next) {
        struct numaperf__net_member *member =
            NUMAPERF_CONTAINER_OF(link, struct numaperf__net_member, link);
        if (member->close == acceptor_member_close)
            acceptor_follow(NUMAPERF_CONTAINER_OF(member, struct numaperf__acceptor, member), how);
    }
}

/* ---- prepare ---- */

/* The loop's table of direct descriptors, made by the first listener that wants one. */
static bool acceptor_has_direct(const struct numaperf__acceptor *acceptor)
{
    struct rlimit limit;
    uint64_t count = acceptor->listener->config.connections_max;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && count > limit.rlim_cur)
        count = limit.rlim_cur;
    if (count > ACCEPT_DIRECT_MAX)
        count = ACCEPT_DIRECT_MAX;
    int rc = numaperf__ring_direct_register(acceptor->net->ring, (uint32_t)count);
    return rc == 0 || rc == -EBUSY; /* there is one already */
}

static enum numaperf__accept_way acceptor_best_way(const struct numaperf__acceptor *acceptor)
{
    /* A request waits for the next connection alone: of a socket that several workers share it
     * would be the one who is woken, also while its worker is busy and the others are idle. */
    const struct numaperf_listener *listener = acceptor->listener;
    if (acceptor->net->ring == NULL ||
        (listener->acceptor_count > 1 && !listener->sockets.is_group))
        return NUMAPERF__ACCEPT_POLL;
    if ((listener->config.flags & NUMAPERF_LISTEN_DIRECT) != 0 && acceptor_has_direct(acceptor))
        return NUMAPERF__ACCEPT_DIRECT;
    return NUMAPERF__ACCEPT_MULTI;
}

static int acceptor_prepare_polls(struct numaperf__acceptor *acceptor)
{
    for (uint32_t i = 0; i < acceptor->source_count; i++) {
        int rc = source_make_poll(&acceptor->sources[i]);
        if (rc < 0)
            return numaperf__fail(rc, -rc, "listen", "a listening socket cannot be polled: %s",
                                  numaperf_strerror(rc));
    }
    return 0;
}

int numaperf__acceptor_prepare(struct numaperf__acceptor *acceptor, numaperf_loop_t *loop)
{
    struct numaperf__net *net = NULL;
    int rc = numaperf__net_of(loop, &net);
    if (rc < 0)
        return rc;
    acceptor->net = net;
    acceptor->member.close = acceptor_member_close;
    numaperf__list_push_back(&net->members, &acceptor->member.link);
    rc = uv_timer_init(numaperf_loop_uv(loop), &acceptor->timer);
    NUMAPERF_ASSERT(rc == 0);
    numaperf__loop_mark((uv_handle_t *)&acceptor->timer);
    acceptor->handle_count++;
    net->handle_count++;
    acceptor_set_state(acceptor, NUMAPERF__ACCEPTOR_NEW, NUMAPERF__ACCEPTOR_READY);
    enum numaperf__accept_way way = acceptor_best_way(acceptor);
    for (uint32_t i = 0; i < acceptor->source_count; i++)
        acceptor->sources[i].way = (uint8_t)way;
    return way == NUMAPERF__ACCEPT_POLL ? acceptor_prepare_polls(acceptor) : 0;
}
