/* SPDX-License-Identifier: MIT */
/*
 * Outgoing connections: addresses are tried one after another, a new one beside the others when
 * none has answered for a while, and at once when one has failed. The first that answers wins.
 *
 *   RESOLVING --> RACING --> OVER --> freed
 *       `-------------------^
 *
 * Everything starts, ends and is told in callbacks of the loop, never inside a call of the user:
 * one libuv timer has the deadline, the next attempt, and what a call asked for. The timer keeps a
 * loop of the user alive meanwhile. Invariant: it is closed last, when no attempt is open any
 * more, and its close callback frees the object.
 *
 * Thread rule: the loop's thread.
 *
 * Source: RFC 8305; connect(2); unix(7).
 */
#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "net/address.h"
#include "net/conn.h"
#include "net/resolve.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 30000u
#define CONNECT_ATTEMPT_DELAY_MS 250u
#define CONNECT_CONFIG_MIN_SIZE 48u
#define CONNECT_RETRY_MS 10u /* a UNIX socket's backlog is full: no event tells when it is not */
#define CONNECT_SWEEP_MS 1u  /* a cancellation that the ring had no room for */

_Static_assert(sizeof(numaperf_connect_config_t) == CONNECT_CONFIG_MIN_SIZE,
               "public struct: append only");
_Static_assert(offsetof(numaperf_connect_config_t, host) == 8, "public struct: append only");
_Static_assert(offsetof(numaperf_connect_config_t, timeout_ms) == 28, "public struct: append only");
_Static_assert(offsetof(numaperf_connect_config_t, conn) == 40, "public struct: append only");

enum connect_state { CONNECT_RESOLVING = 1, CONNECT_RACING, CONNECT_OVER };

/* One address that is being tried. */
struct connect_attempt {
    struct numaperf_connect_request *connect;
    struct numaperf__op op; /* on the ring */
    uv_poll_t poll;         /* on epoll */
    int fd;                 /* -1: none, or the connection's */
    bool is_open;           /* the kernel or libuv has it */
};

struct numaperf_connect_request {
    struct numaperf__net_member member; /* in the net's members until it is freed */
    struct numaperf__net *net;
    numaperf_connected_fn connected;
    void *data;
    numaperf_conn_config_t conn_config;
    uint8_t state; /* enum connect_state */
    bool is_timer_closing;
    int32_t wanted_status; /* a call asked for this end; 0: none did */
    int32_t error;         /* of the attempts so far, the one that says most */
    uint64_t deadline_ms;  /* of it all; UINT64_MAX never */
    uint64_t attempt_ms;   /* when the next address is tried */
    uint32_t attempt_delay_ms;
    uint32_t target_count, next_target;
    uint32_t open_count;    /* attempts that the kernel or libuv has */
    uint32_t pending_count; /* attempts without an answer */
    struct numaperf__resolve *resolve;
    uv_timer_t timer;
    struct numaperf__target targets[NUMAPERF__RESOLVE_MAX];
    struct connect_attempt attempts[NUMAPERF__RESOLVE_MAX]; /* of the target of the same index */
};

/* ---- time ---- */

static uint64_t connect_next_ms(const struct numaperf_connect_request *connect, uint64_t now_ms)
{
    if (connect->state == CONNECT_OVER)
        return now_ms + CONNECT_SWEEP_MS;
    if (connect->wanted_status != 0)
        return now_ms;
    uint64_t next_ms = connect->deadline_ms;
    if (connect->state == CONNECT_RACING && connect->next_target < connect->target_count &&
        connect->attempt_ms < next_ms)
        next_ms = connect->attempt_ms;
    return next_ms;
}

static void connect_timer_fired(uv_timer_t *timer);

/* After everything that moved a deadline. A timer with no limit stays: it holds the loop. */
static void connect_arm(struct numaperf_connect_request *connect)
{
    uint64_t now_ms = numaperf__net_now_ms(connect->net);
    uint64_t next_ms = connect_next_ms(connect, now_ms);
    int rc = uv_timer_start(&connect->timer, connect_timer_fired,
                            next_ms > now_ms ? next_ms - now_ms : 0, 0);
    NUMAPERF_ASSERT(rc == 0);
}

/* ---- the end ---- */

static void connect_timer_closed(uv_handle_t *handle)
{
    struct numaperf_connect_request *connect =
        NUMAPERF_CONTAINER_OF(handle, struct numaperf_connect_request, timer);
    struct numaperf__net *net = connect->net;
    NUMAPERF_ASSERT(connect->state == CONNECT_OVER && connect->open_count == 0);
    NUMAPERF_ASSERT(net->handle_count > 0);
    net->handle_count--;
    numaperf__list_remove(&connect->member.link);
    numaperf_arena_free(net->arena, connect);
}

static void connect_close_fd(struct connect_attempt *attempt)
{
    if (attempt->fd >= 0)
        (void)close(attempt->fd); /* nothing was written to it that could be lost */
    attempt->fd = -1;
}

/* The kernel, or libuv, is done with it; its descriptor may have become a connection's. */
static void connect_attempt_gone(struct connect_attempt *attempt)
{
    NUMAPERF_ASSERT(attempt->is_open && attempt->connect->open_count > 0);
    attempt->is_open = false;
    attempt->connect->open_count--;
}

static void connect_sweep(struct numaperf_connect_request *connect);

static void connect_poll_closed(uv_handle_t *handle)
{
    struct connect_attempt *attempt = NUMAPERF_CONTAINER_OF(handle, struct connect_attempt, poll);
    struct numaperf_connect_request *connect = attempt->connect;
    NUMAPERF_ASSERT(connect->net->handle_count > 0);
    connect->net->handle_count--;
    connect_attempt_gone(attempt);
    if (connect->state == CONNECT_OVER)
        connect_sweep(connect);
}

static void connect_close_poll(struct connect_attempt *attempt)
{
    if (!uv_is_closing((uv_handle_t *)&attempt->poll))
        uv_close((uv_handle_t *)&attempt->poll, connect_poll_closed);
}

/* Have every attempt end; called until none is open. */
static void connect_sweep(struct numaperf_connect_request *connect)
{
    for (uint32_t i = 0; i < connect->next_target; i++) {
        struct connect_attempt *attempt = &connect->attempts[i];
        if (!attempt->is_open)
            continue;
        if (connect->net->ring == NULL) {
            connect_close_poll(attempt);
            connect_close_fd(attempt); /* libuv has let go of it in uv_close() */
        } else if (attempt->op.in_flight) {
            /* One that the ring has no room for is asked again by the timer. */
            (void)numaperf__ring_cancel(connect->net->ring, &attempt->op);
        }
    }
    if (connect->open_count == 0 && !connect->is_timer_closing) {
        connect->is_timer_closing = true;
        uv_close((uv_handle_t *)&connect->timer, connect_timer_closed);
    }
}

/* It is decided: nothing more is tried. The object lives on until the loop's next turn. */
static void connect_stop(struct numaperf_connect_request *connect)
{
    NUMAPERF_ASSERT(connect->state != CONNECT_OVER);
    connect->state = CONNECT_OVER;
    if (connect->resolve != NULL)
        numaperf__resolve_abandon(connect->resolve);
    connect->resolve = NULL;
    connect_sweep(connect);
    if (!connect->is_timer_closing)
        connect_arm(connect);
}

static void connect_fail(struct numaperf_connect_request *connect, int status)
{
    NUMAPERF_ASSERT(status < 0);
    connect_stop(connect);
    connect->connected(NULL, status, connect->data);
}

/* ---- attempts ---- */

/*
 * A socket that asked for a port of its own machine, where nobody listens, may have been given
 * that very port to ask from: TCP connects it to itself, which nobody wants.
 */
static bool connect_is_to_itself(int fd, const struct numaperf__target *target)
{
    struct numaperf__target own = {.length = sizeof(own.v6)};
    if (getsockname(fd, &own.any, &own.length) < 0 || own.any.sa_family != target->any.sa_family ||
        numaperf__address_port(&own.any) != numaperf__address_port(&target->any))
        return false;
    if (own.any.sa_family == AF_INET)
        return own.v4.sin_addr.s_addr == target->v4.sin_addr.s_addr;
    return memcmp(&own.v6.sin6_addr, &target->v6.sin6_addr, sizeof(own.v6.sin6_addr)) == 0;
}

static void connect_win(struct numaperf_connect_request *connect, int fd, bool is_tcp)
{
    connect_stop(connect);
    const struct numaperf__conn_origin origin = {.counter = NUMAPERF__NET_CONNECTED,
                                                 .is_tcp = is_tcp};
    numaperf_conn_t *conn = NULL;
    int rc = numaperf__conn_make(connect->net, fd, &connect->conn_config, &origin, &conn);
    if (rc < 0)
        (void)close(fd); /* nothing was written to it that could be lost */
    connect->connected(rc < 0 ? NULL : conn, rc < 0 ? rc : 0, connect->data);
}

/* Of several failures the user gets the last that says something of the peer, if any does. */
static void connect_note(struct numaperf_connect_request *connect, int rc)
{
    bool says_little = rc == -ENETUNREACH || rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL;
    if (connect->error == 0 || !says_little)
        connect->error = rc;
}

static void connect_advance(struct numaperf_connect_request *connect);

/* The kernel's answer: 0 or -errno. The attempt is not in flight any more. */
static void connect_answered(struct connect_attempt *attempt, int rc)
{
    struct numaperf_connect_request *connect = attempt->connect;
    const struct numaperf__target *target = &connect->targets[attempt - connect->attempts];
    connect->pending_count--;
    if (connect->state == CONNECT_OVER || connect->wanted_status != 0) {
        connect_close_fd(attempt);
        return;
    }
    if (rc == 0 && connect_is_to_itself(attempt->fd, target)) {
        /* With a reset: ended in order, the port would be taken for a minute. */
        const struct linger now = {.l_onoff = 1};
        (void)setsockopt(attempt->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        rc = -ECONNREFUSED;
    }
    if (rc == 0) {
        int fd = attempt->fd;
        attempt->fd = -1;
        connect_win(connect, fd, true);
        return;
    }
    connect_close_fd(attempt);
    connect_note(connect, rc);
    connect_advance(connect);
}

static void connect_op_done(struct numaperf__op *op)
{
    struct connect_attempt *attempt = NUMAPERF_CONTAINER_OF(op, struct connect_attempt, op);
    struct numaperf_connect_request *connect = attempt->connect;
    connect_attempt_gone(attempt);
    connect_answered(attempt, op->result);
    if (connect->state == CONNECT_OVER)
        connect_sweep(connect);
}

static void connect_poll_ready(uv_poll_t *poll, int status, int events)
{
    (void)events;
    struct connect_attempt *attempt = NUMAPERF_CONTAINER_OF(poll, struct connect_attempt, poll);
    int error = 0;
    socklen_t length = sizeof(error);
    int rc = getsockopt(attempt->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (rc < 0)
        error = errno;
    /* libuv says UV_EBADF of any error, whose errno the socket had. */
    if (error == 0 && status < 0)
        error = -status;
    connect_close_poll(attempt);
    connect_answered(attempt, -error);
}

static int connect_start_op(struct connect_attempt *attempt, struct numaperf__target *target)
{
    attempt->op = (struct numaperf__op){.kind = NUMAPERF__OP_CONNECT,
                                        .done = connect_op_done,
                                        .fd = attempt->fd,
                                        .buffer = &target->any,
                                        .length = target->length};
    return numaperf__loop_submit(attempt->connect->net->loop, &attempt->op);
}

static int connect_begin(int fd, const struct numaperf__target *target)
{
    return connect(fd, &target->any, target->length) < 0 && errno != EINPROGRESS ? -errno : 0;
}

static int connect_start_poll(struct connect_attempt *attempt,
                              const struct numaperf__target *target)
{
    struct numaperf__net *net = attempt->connect->net;
    int rc = connect_begin(attempt->fd, target);
    if (rc < 0)
        return rc;
    /* Connected already: the poll says so at once. */
    rc = uv_poll_init(numaperf_loop_uv(net->loop), &attempt->poll, attempt->fd);
    if (rc < 0)
        return rc;
    net->handle_count++;
    numaperf__loop_mark((uv_handle_t *)&attempt->poll);
    rc = uv_poll_start(&attempt->poll, UV_WRITABLE, connect_poll_ready);
    NUMAPERF_ASSERT(rc == 0);
    return 0;
}

/* Try the next target; 0 and it is under way, or -errno and it is over. */
static int connect_try(struct numaperf_connect_request *connect)
{
    uint32_t index = connect->next_target;
    struct numaperf__target *target = &connect->targets[index];
    struct connect_attempt *attempt = &connect->attempts[index];
    *attempt = (struct connect_attempt){.connect = connect, .fd = -1};
    attempt->fd = socket(target->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (attempt->fd < 0)
        return -errno;
    int rc = connect->net->ring != NULL ? connect_start_op(attempt, target)
                                        : connect_start_poll(attempt, target);
    if (rc < 0) {
        connect_close_fd(attempt);
        return rc;
    }
    attempt->is_open = true;
    connect->open_count++;
    connect->pending_count++;
    return 0;
}

/* A UNIX socket. 0 and its descriptor, or -errno. */
static int connect_local(const struct numaperf__target *target, int *out_fd)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (connect(fd, &target->any, target->length) < 0) {
        int rc = -errno;
        (void)close(fd); /* nothing was written to it that could be lost */
        return rc;
    }
    *out_fd = fd;
    return 0;
}

/* A UNIX socket answers at once, or has no room in its backlog: then it is asked now and then. */
static void connect_try_local(struct numaperf_connect_request *connect)
{
    int fd = -1;
    int rc = connect_local(&connect->targets[0], &fd);
    if (rc == 0) {
        connect_win(connect, fd, false);
        return;
    }
    if (rc != -EAGAIN) {
        connect_fail(connect, rc);
        return;
    }
    connect->attempt_ms = numaperf__net_now_ms(connect->net) + CONNECT_RETRY_MS;
}

/* Start what is due; fail when nothing is left. */
static void connect_advance(struct numaperf_connect_request *connect)
{
    NUMAPERF_ASSERT(connect->state == CONNECT_RACING);
    if (connect->targets[0].any.sa_family == AF_UNIX) {
        connect_try_local(connect);
    } else {
        bool started = false;
        while (!started && connect->next_target < connect->target_count) {
            int rc = connect_try(connect);
            connect->next_target++;
            started = rc == 0;
            if (!started)
                connect_note(connect, rc);
        }
        connect->attempt_ms = numaperf__net_now_ms(connect->net) + connect->attempt_delay_ms;
    }
    if (connect->state != CONNECT_RACING)
        return;
    if (connect->pending_count == 0 && connect->next_target == connect->target_count)
        connect_fail(connect, connect->error);
    else
        connect_arm(connect);
}

static void connect_timer_fired(uv_timer_t *timer)
{
    struct numaperf_connect_request *connect =
        NUMAPERF_CONTAINER_OF(timer, struct numaperf_connect_request, timer);
    uint64_t now_ms = numaperf__net_now_ms(connect->net);
    if (connect->state == CONNECT_OVER) {
        connect_sweep(connect);
        if (!connect->is_timer_closing)
            connect_arm(connect);
    } else if (connect->wanted_status != 0) {
        connect_fail(connect, connect->wanted_status);
    } else if (now_ms >= connect->deadline_ms) {
        connect_fail(connect, -ETIMEDOUT);
    } else if (connect->state == CONNECT_RACING && connect->next_target < connect->target_count &&
               now_ms >= connect->attempt_ms) {
        connect_advance(connect);
    } else {
        connect_arm(connect);
    }
}

/* ---- create ---- */

static void connect_resolved(int rc, const struct numaperf__target *targets, uint32_t count,
                             void *data)
{
    struct numaperf_connect_request *connect = data;
    connect->resolve = NULL;
    if (connect->wanted_status != 0)
        return; /* the timer is due */
    if (rc < 0) {
        connect_fail(connect, rc);
        return;
    }
    memcpy(connect->targets, targets, count * sizeof(targets[0]));
    connect->target_count = count;
    connect->state = CONNECT_RACING;
    connect_advance(connect);
}

/* The only target is known: it is tried in the loop's next turn. */
static void connect_race_one(struct numaperf_connect_request *connect,
                             const struct sockaddr_storage *address, socklen_t length)
{
    struct numaperf__target *target = &connect->targets[0];
    NUMAPERF_ASSERT(length <= sizeof(target->local));
    memcpy(&target->any, address, length);
    target->length = length;
    connect->target_count = 1;
    connect->state = CONNECT_RACING;
}

static int connect_set_target(struct numaperf_connect_request *connect,
                              const numaperf_connect_config_t *cfg)
{
    struct sockaddr_storage address;
    socklen_t length = 0;
    if (cfg->unix_path != NULL) {
        int rc = numaperf__address_unix(cfg->unix_path, &address, &length);
        if (rc < 0)
            return numaperf__fail(rc, 0, "connect", "unix_path is %s",
                                  rc == -EINVAL ? "empty" : "longer than an address");
        connect_race_one(connect, &address, length);
        return 0;
    }
    if (numaperf__address_parse(cfg->host, cfg->port, &address, &length) == 0) {
        connect_race_one(connect, &address, length);
        return 0;
    }
    connect->state = CONNECT_RESOLVING;
    const struct numaperf__resolve_request request = {
        .host = cfg->host, .port = cfg->port, .resolved = connect_resolved, .data = connect};
    int rc = numaperf__resolve_start(connect->net, &request, &connect->resolve);
    return rc < 0 ? numaperf__fail(rc, -rc, "connect", "the name cannot be looked up: %s",
                                   numaperf_strerror(rc))
                  : 0;
}

static int connect_check_place(const numaperf_connect_config_t *cfg)
{
    if ((cfg->host == NULL) == (cfg->unix_path == NULL))
        return numaperf__fail(-EINVAL, 0, "connect", "either host or unix_path must be given");
    if (cfg->host == NULL)
        return 0;
    size_t length = strnlen(cfg->host, NUMAPERF__HOST_NAME_MAX + 1);
    if (length == 0 || cfg->port == 0)
        return numaperf__fail(-EINVAL, 0, "connect", "host must not be empty, nor port 0");
    if (length > NUMAPERF__HOST_NAME_MAX)
        return numaperf__fail(-ENAMETOOLONG, 0, "connect", "host is longer than %u bytes",
                              NUMAPERF__HOST_NAME_MAX);
    return 0;
}

static int connect_load(const numaperf_connect_config_t *config, numaperf_connect_config_t *out)
{
    if (config == NULL)
        return numaperf__fail(-EINVAL, 0, "connect", "config must not be NULL");
    int rc = numaperf__config_load(out, sizeof(*out), CONNECT_CONFIG_MIN_SIZE, config, "connect");
    if (rc < 0)
        return rc;
    if (out->flags != 0 || out->reserved != 0 || out->reserved_2 != 0)
        return numaperf__fail(-EINVAL, 0, "connect", "flags and reserved fields must be 0");
    if (out->timeout_ms == 0)
        out->timeout_ms = CONNECT_TIMEOUT_MS;
    if (out->attempt_delay_ms == 0)
        out->attempt_delay_ms = CONNECT_ATTEMPT_DELAY_MS;
    return connect_check_place(out);
}

/* The loop ends. */
static void connect_member_close(struct numaperf__net_member *member)
{
    struct numaperf_connect_request *connect =
        NUMAPERF_CONTAINER_OF(member, struct numaperf_connect_request, member);
    if (connect->state == CONNECT_OVER)
        return;
    connect->wanted_status = NUMAPERF_E_STOPPING;
    connect_arm(connect);
}

/* Nothing of this can fail: from here on it ends by `connected`. */
static void connect_open(struct numaperf_connect_request *connect, uint32_t timeout_ms)
{
    struct numaperf__net *net = connect->net;
    uv_loop_t *uv = numaperf_loop_uv(net->loop);
    int rc = uv_timer_init(uv, &connect->timer);
    NUMAPERF_ASSERT(rc == 0);
    numaperf__loop_mark((uv_handle_t *)&connect->timer);
    net->handle_count++;
    connect->member.close = connect_member_close;
    numaperf__list_push_back(&net->members, &connect->member.link);
    /* The loop's time may be that of the last turn, and the caller long at work since. */
    uv_update_time(uv);
    uint64_t now_ms = numaperf__net_now_ms(net);
    connect->attempt_ms = now_ms;
    connect->deadline_ms = timeout_ms == UINT32_MAX ? UINT64_MAX : now_ms + timeout_ms;
    connect_arm(connect);
}

int numaperf_connect(numaperf_loop_t *loop, const numaperf_connect_config_t *config,
                     numaperf_connected_fn connected, void *data, numaperf_connect_t **out)
{
    if (loop == NULL || connected == NULL)
        return numaperf__fail(-EINVAL, 0, "connect", "loop and connected must not be NULL");
    numaperf_connect_config_t cfg = NUMAPERF_CONNECT_CONFIG_INIT;
    int rc = connect_load(config, &cfg);
    if (rc < 0)
        return rc;
    numaperf_conn_config_t conn_config;
    rc = numaperf__conn_config(cfg.conn, &conn_config);
    if (rc < 0)
        return rc;
    struct numaperf__net *net = NULL;
    rc = numaperf__net_of(loop, &net);
    if (rc < 0)
        return rc;

    struct numaperf_connect_request *connect =
        numaperf_arena_alloc(net->arena, sizeof(*connect), 0);
    if (connect == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "connect", "no memory in the loop's arena");
    memset(connect, 0, offsetof(struct numaperf_connect_request, attempts));
    connect->net = net;
    connect->connected = connected;
    connect->data = data;
    connect->conn_config = conn_config;
    connect->attempt_delay_ms = cfg.attempt_delay_ms;
    rc = connect_set_target(connect, &cfg);
    if (rc < 0) {
        numaperf_arena_free(net->arena, connect);
        return rc;
    }
    connect_open(connect, cfg.timeout_ms);
    if (out != NULL)
        *out = connect;
    return 0;
}

void numaperf_connect_cancel(numaperf_connect_t *connect)
{
    if (connect == NULL || connect->state == CONNECT_OVER || connect->wanted_status != 0)
        return;
    connect->wanted_status = -ECANCELED;
    connect_arm(connect);
}
