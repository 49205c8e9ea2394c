/* SPDX-License-Identifier: MIT */
/*
 * Listeners: configuration, sockets, steering, and the end that all acceptors have in common. See
 * listener.h for the phases and accept.c for what one loop does.
 *
 * Invariant: a listener is freed by, or after, the last of its acceptors, and `closed` is called
 * before. An acceptor has its sockets from begin on until it releases them; what several share is
 * closed by the last.
 *
 * Thread rule: the mutex guards phase and sockets; what is told to the user about a listener is
 * final before there is an `out`.
 *
 * Source: socket(7), unix(7).
 */
#include "net/listener.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/error.h"
#include "base/futex.h"
#include "net/address.h"
#include "net/conn.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTEN_CONFIG_MIN_SIZE sizeof(numaperf_listen_config_t) /* the last field is needed */
#define LISTEN_FDS_MAX 4096u
#define LISTEN_CONNECTIONS_DEFAULT 10000u
#define LISTEN_HANDOFF_DEFAULT 64u

_Static_assert(offsetof(numaperf_listen_config_t, address) == 8, "public struct: append only");
_Static_assert(offsetof(numaperf_listen_config_t, fd_count) == 32, "public struct: append only");
_Static_assert(offsetof(numaperf_listen_config_t, backlog) == 40, "public struct: append only");
_Static_assert(offsetof(numaperf_listen_config_t, nodes) == 56, "public struct: append only");
_Static_assert(offsetof(numaperf_listen_config_t, conn) == 184, "public struct: append only");
_Static_assert(sizeof(numaperf_listen_config_t) == 192, "public struct: append only");

/* ---- configuration ---- */

static int listen_check_where(const numaperf_listen_config_t *cfg)
{
    if ((cfg->address != NULL) + (cfg->unix_path != NULL) + (cfg->fds != NULL) > 1)
        return numaperf__fail(-EINVAL, 0, "listen",
                              "only one of address, unix_path and fds may be given");
    if (cfg->port != 0 && (cfg->unix_path != NULL || cfg->fds != NULL))
        return numaperf__fail(-EINVAL, 0, "listen", "port %u with unix_path or fds",
                              (unsigned)cfg->port);
    if ((cfg->fds != NULL) != (cfg->fd_count > 0))
        return numaperf__fail(-EINVAL, 0, "listen", "fds is %sNULL, fd_count is %u",
                              cfg->fds != NULL ? "not " : "", cfg->fd_count);
    if (cfg->fd_count > LISTEN_FDS_MAX)
        return numaperf__fail(-EINVAL, 0, "listen", "fd_count %u is above %u", cfg->fd_count,
                              LISTEN_FDS_MAX);
    return 0;
}

static int listen_check(const numaperf_listen_config_t *cfg)
{
    const uint32_t known =
        NUMAPERF_LISTEN_NO_STEER | NUMAPERF_LISTEN_DIRECT | NUMAPERF_LISTEN_V6_ONLY;
    if ((cfg->flags & ~known) != 0)
        return numaperf__fail(-EINVAL, 0, "listen", "flags %#x has an unknown bit", cfg->flags);
    if (cfg->reserved != 0 || cfg->reserved_2 != 0)
        return numaperf__fail(-EINVAL, 0, "listen", "reserved fields must be 0");
    if (cfg->conn == NULL)
        return numaperf__fail(-EINVAL, 0, "listen", "conn must not be NULL");
    return listen_check_where(cfg);
}

int numaperf__listen_config(const numaperf_listen_config_t *config, numaperf_listen_config_t *out,
                            numaperf_conn_config_t *out_conn)
{
    numaperf_listen_config_t cfg;
    int rc = numaperf__config_load(&cfg, sizeof(cfg), LISTEN_CONFIG_MIN_SIZE, config, "listen");
    if (rc == 0)
        rc = listen_check(&cfg);
    if (rc == 0)
        rc = numaperf__conn_config(cfg.conn, out_conn);
    if (rc < 0)
        return rc;
    if (cfg.backlog == 0)
        cfg.backlog = SOMAXCONN;
    if (cfg.connections_max == 0)
        cfg.connections_max = LISTEN_CONNECTIONS_DEFAULT;
    if (cfg.handoff_max == 0)
        cfg.handoff_max = LISTEN_HANDOFF_DEFAULT;
    cfg.conn = out_conn;
    *out = cfg;
    return 0;
}

/* ---- make ---- */

static int listener_make_acceptors(struct numaperf_listener *listener)
{
    size_t bytes = listener->acceptor_count * sizeof(*listener->acceptors); /* both are bounded */
    listener->acceptors = aligned_alloc(NUMAPERF_CACHE_LINE, bytes);
    if (listener->acceptors == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "listen", "no memory for %u workers",
                              listener->acceptor_count);
    memset(listener->acceptors, 0, bytes);
    for (uint32_t i = 0; i < listener->acceptor_count; i++) {
        struct numaperf__acceptor *acceptor = &listener->acceptors[i];
        acceptor->listener = listener;
        acceptor->index = i;
        acceptor->first_sibling = i;
        acceptor->sibling_count = 1;
        numaperf__list_init(&acceptor->conns);
        acceptor->source_count = listener->sockets.is_group ? 1 : listener->sockets.count;
        acceptor->sources = calloc(acceptor->source_count, sizeof(*acceptor->sources));
        if (acceptor->sources == NULL)
            return numaperf__fail(-ENOMEM, ENOMEM, "listen", "no memory for %u sockets",
                                  acceptor->source_count);
        for (uint32_t j = 0; j < acceptor->source_count; j++) {
            struct numaperf__accept_source *source = &acceptor->sources[j];
            source->acceptor = acceptor;
            source->fd = listener->sockets.fds[listener->sockets.is_group ? i : j];
            source->is_tcp = numaperf__listen_socket_is_tcp(source->fd);
        }
    }
    return 0;
}

int numaperf__listener_make(const numaperf_listen_config_t *config, uint32_t acceptor_count,
                            struct numaperf_listener **out)
{
    NUMAPERF_ASSERT(acceptor_count > 0);

    struct numaperf_listener *listener = calloc(1, sizeof(*listener));
    if (listener == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "listen", "no memory for the listener");
    listener->acceptor_count = acceptor_count;
    listener->accepting = acceptor_count;
    listener->grace_end_ns = UINT64_MAX;
    atomic_init(&listener->present, acceptor_count);
    numaperf__list_init(&listener->host_link);
    (void)pthread_mutex_init(&listener->mutex, NULL); /* cannot fail on Linux */
    int rc = numaperf__listen_sockets_open(&listener->sockets, config, acceptor_count);
    if (rc < 0)
        goto free_listener;
    listener->conn = *config->conn;
    listener->config = *config;
    listener->config.conn = &listener->conn;
    rc = numaperf__address_format((const struct sockaddr *)&listener->sockets.address,
                                  listener->sockets.address_length, listener->address,
                                  sizeof(listener->address));
    if (rc < 0) {
        rc = numaperf__fail(rc, -rc, "listen", "sockets of an unknown family");
        goto free_listener;
    }
    rc = listener_make_acceptors(listener);
    if (rc < 0)
        goto free_listener;
    *out = listener;
    return 0;

free_listener:
    numaperf__listener_free(listener);
    return rc;
}

void numaperf__listener_free(struct numaperf_listener *listener)
{
    numaperf__listen_sockets_close_all(&listener->sockets);
    numaperf__listen_sockets_free(&listener->sockets);
    for (uint32_t i = 0; listener->acceptors != NULL && i < listener->acceptor_count; i++)
        free(listener->acceptors[i].sources);
    free(listener->acceptors);
    (void)pthread_mutex_destroy(&listener->mutex); /* nobody has it */
    free(listener);
}

/* ---- begin ---- */

static void listener_steer(struct numaperf_listener *listener, const struct numaperf__seat *seats,
                           const numaperf_topology_t *topology)
{
    const struct numaperf__listen_sockets *sockets = &listener->sockets;
    if (!sockets->is_group) {
        listener->steering = NUMAPERF_STEER_SHARED;
        (void)snprintf(listener->steering_reason, sizeof(listener->steering_reason), "%s",
                       sockets->shared_reason != NULL ? sockets->shared_reason : "");
        return;
    }
    const struct numaperf__steer_request request = {
        .fds = sockets->fds,
        .seats = seats,
        .count = sockets->count,
        .topology = topology,
        .inherited = sockets->inherited,
        .unwanted = (listener->config.flags & NUMAPERF_LISTEN_NO_STEER) != 0,
    };
    listener->steering = numaperf__steer_apply(&request, listener->steering_reason,
                                               sizeof(listener->steering_reason));
}

int numaperf__listener_begin(struct numaperf_listener *listener, const struct numaperf__seat *seats,
                             const numaperf_topology_t *topology)
{
    /* Steered before the first packet is taken. */
    listener_steer(listener, seats, topology);
    return numaperf__listen_sockets_listen(&listener->sockets, listener->config.backlog);
}

static void listener_poke_all(struct numaperf_listener *listener)
{
    for (uint32_t i = 0; i < listener->acceptor_count; i++) {
        if (listener->host != NULL)
            listener->host->poke(listener, i);
        else
            numaperf__acceptor_look_soon(&listener->acceptors[i]);
    }
}

void numaperf__listener_open(struct numaperf_listener *listener)
{
    (void)pthread_mutex_lock(&listener->mutex);
    listener->phase = NUMAPERF__LISTENER_OPEN;
    /* Under the lock: an acceptor that sees the phase, and has it closed, may free it all. */
    listener_poke_all(listener);
    (void)pthread_mutex_unlock(&listener->mutex);
}

void numaperf__listener_fail(struct numaperf_listener *listener, _Atomic uint32_t *done)
{
    (void)pthread_mutex_lock(&listener->mutex);
    listener->failed_done = done;
    listener->phase = NUMAPERF__LISTENER_FAILED;
    (void)pthread_mutex_unlock(&listener->mutex);
}

/* ---- loops of a user ---- */

int numaperf_loop_listen(numaperf_loop_t *loop, const numaperf_listen_config_t *config,
                         numaperf_listener_t **out)
{
    if (loop == NULL || config == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "listen", "loop, config and out must not be NULL");
    numaperf_listen_config_t cfg;
    numaperf_conn_config_t conn;
    int rc = numaperf__listen_config(config, &cfg, &conn);
    if (rc < 0)
        return rc;
    struct numaperf_listener *listener = NULL;
    rc = numaperf__listener_make(&cfg, 1, &listener);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(listener != NULL);
    rc = numaperf__acceptor_prepare(&listener->acceptors[0], loop);
    if (rc == 0)
        rc = numaperf__listener_begin(listener, NULL, NULL);
    if (rc == 0) {
        numaperf__listener_open(listener);
        *out = listener;
        return 0;
    }
    if (listener->acceptors[0].net == NULL) {
        numaperf__listener_free(listener);
        return rc;
    }
    numaperf__listener_fail(listener, NULL);
    numaperf__acceptor_abandon(&listener->acceptors[0]);
    return rc;
}

/* ---- close ---- */

int numaperf_listener_close(numaperf_listener_t *listener, uint64_t grace_ns,
                            numaperf_listener_closed_fn closed, void *data)
{
    if (listener == NULL)
        return numaperf__fail(-EINVAL, 0, "listener", "listener must not be NULL");
    uint64_t now_ns = numaperf__clock_now_ns();
    (void)pthread_mutex_lock(&listener->mutex);
    bool is_open = listener->phase == NUMAPERF__LISTENER_OPEN;
    if (is_open) {
        listener->phase = NUMAPERF__LISTENER_CLOSING;
        listener->closed = closed;
        listener->closed_data = data;
        listener->grace_end_ns = grace_ns < UINT64_MAX - now_ns ? now_ns + grace_ns : UINT64_MAX;
        /* Under the lock: an acceptor that sees the phase and is the last to go frees it all. */
        listener_poke_all(listener);
    }
    (void)pthread_mutex_unlock(&listener->mutex);
    return is_open ? 0 : numaperf__fail(-EBUSY, 0, "listener", "it is closing already");
}

enum numaperf__listener_phase numaperf__listener_phase(struct numaperf_listener *listener,
                                                       uint64_t *out_grace_end_ns)
{
    (void)pthread_mutex_lock(&listener->mutex);
    enum numaperf__listener_phase phase = listener->phase;
    *out_grace_end_ns = listener->grace_end_ns;
    (void)pthread_mutex_unlock(&listener->mutex);
    return phase;
}

void numaperf__listener_stopping(struct numaperf_listener *listener)
{
    (void)pthread_mutex_lock(&listener->mutex);
    if (listener->phase == NUMAPERF__LISTENER_OPEN)
        listener->phase = NUMAPERF__LISTENER_STOPPING;
    (void)pthread_mutex_unlock(&listener->mutex);
}

void numaperf__listener_release(struct numaperf_listener *listener, uint32_t index)
{
    (void)pthread_mutex_lock(&listener->mutex);
    NUMAPERF_ASSERT(listener->accepting > 0);
    listener->accepting--;
    if (listener->sockets.is_group)
        numaperf__listen_sockets_close(&listener->sockets, index);
    else if (listener->accepting == 0)
        numaperf__listen_sockets_close_all(&listener->sockets);
    (void)pthread_mutex_unlock(&listener->mutex);
}

/* All acceptors are gone, so nobody else looks at it: but for a user who may, in ENDED. */
static void listener_end(struct numaperf_listener *listener)
{
    (void)pthread_mutex_lock(&listener->mutex);
    enum numaperf__listener_phase phase = listener->phase;
    listener->phase = NUMAPERF__LISTENER_ENDED;
    (void)pthread_mutex_unlock(&listener->mutex);
    NUMAPERF_ASSERT(phase != NUMAPERF__LISTENER_OPEN && phase != NUMAPERF__LISTENER_ENDED);
    if (phase == NUMAPERF__LISTENER_CLOSING && listener->closed != NULL)
        listener->closed(atomic_load_explicit(&listener->reset_count, memory_order_relaxed),
                         listener->closed_data);
    if (phase == NUMAPERF__LISTENER_STOPPING && listener->host != NULL)
        return; /* the user's until the runtime is destroyed */
    _Atomic uint32_t *done = phase == NUMAPERF__LISTENER_FAILED ? listener->failed_done : NULL;
    if (listener->host != NULL)
        listener->host->forget(listener);
    numaperf__listener_free(listener);
    if (done == NULL)
        return;
    /* Release pairs with the acquire of who waits, and may be gone with the word right after:
     * waking an address that nobody waits at harms nobody. */
    atomic_store_explicit(done, 1, memory_order_release);
    numaperf__futex_wake_all(done);
}

void numaperf__listener_left(struct numaperf_listener *listener)
{
    const struct numaperf__listener_host *host = listener->host;
    void *host_data = listener->host_data;
    /* acq_rel: the last one sees what all others did, and frees it. */
    if (atomic_fetch_sub_explicit(&listener->present, 1, memory_order_acq_rel) == 1)
        listener_end(listener);
    if (host != NULL)
        host->left(host_data);
}

/* ---- what a listener tells ---- */

int numaperf_listener_address(const numaperf_listener_t *listener, char *buf, size_t size)
{
    if (listener == NULL || (buf == NULL && size > 0))
        return numaperf__fail(-EINVAL, 0, "listener", "listener and buf must not be NULL");
    return snprintf(buf, size, "%s", listener->address);
}

int numaperf_listener_port(const numaperf_listener_t *listener)
{
    if (listener == NULL)
        return numaperf__fail(-EINVAL, 0, "listener", "listener must not be NULL");
    return numaperf__address_port((const struct sockaddr *)&listener->sockets.address);
}

int numaperf_listener_steering(const numaperf_listener_t *listener, uint32_t *out,
                               const char **out_reason)
{
    if (listener == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "listener", "listener and out must not be NULL");
    *out = listener->steering;
    if (out_reason != NULL)
        *out_reason = listener->steering_reason[0] != '\0' ? listener->steering_reason : NULL;
    return 0;
}

int numaperf_listener_fds(const numaperf_listener_t *listener, int *out_fds, size_t max)
{
    if (listener == NULL || (out_fds == NULL && max > 0))
        return numaperf__fail(-EINVAL, 0, "listener", "listener and out_fds must not be NULL");
    /* The lock, and that they are given out, are no part of what a user may not see change. */
    numaperf_listener_t *self = (numaperf_listener_t *)listener;
    (void)pthread_mutex_lock(&self->mutex);
    uint32_t count = self->phase == NUMAPERF__LISTENER_OPEN ? self->sockets.count : 0;
    for (uint32_t i = 0; i < count && i < max; i++)
        out_fds[i] = self->sockets.fds[i];
    self->sockets.is_handed_out = self->sockets.is_handed_out || (count > 0 && max > 0);
    (void)pthread_mutex_unlock(&self->mutex);
    return (int)count;
}
