/* SPDX-License-Identifier: MIT */
/*
 * The loop: libuv and a ring in one thread, in two forms.
 *
 * Hosted, for workers: the thread waits in the ring (or, without one, in poll), and libuv is
 * embedded. A one-shot POLL_ADD on uv_backend_fd() says when libuv has events; it rides the enter
 * that waits anyway. A multishot poll there would stall or spin. A referenced async handle keeps
 * the loop alive, else uv_run() would do nothing.
 *
 *   turn: flush -> reap -> uv_run(NOWAIT) when the poll fired, a timer is due, or a handle was
 *         started since libuv last looked
 *   wait: arm poll and wake -> submit and wait
 *
 * libuv registers a descriptor with epoll only inside uv_run(): handles started by a task, or by
 * the last callbacks of a run, sit in loop->watcher_queue. A sleep with that queue filled would
 * miss their events, and no public function tells; so its emptiness is read from the public struct
 * (feature-checked by the build, and by test_loop).
 *
 * User-run, for numaperf_loop_run(): the real uv_run() waits. The ring hangs on an unreferenced
 * prepare handle, which submits, and on a poll of its registered eventfd, which reaps, referenced
 * while operations of the user are outstanding, so liveness is libuv's own.
 *
 * Thread rule: a hosted loop belongs to the thread that made it, a user-run one to the thread of
 * its first run. The wake of a hosted loop is not its own, since wakers may outlive it.
 */
#include "io/loop.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define LOOP_RING_ENTRIES_DEFAULT 256u
#define LOOP_RING_ENTRIES_MAX 32768u
#define LOOP_REAP_MAX 512u  /* completions a turn, so that tasks get their share */
#define LOOP_POLL_NS 50000u /* on epoll, how often a worker busy with tasks looks for I/O */
#define LOOP_CONFIG_MIN_SIZE offsetof(numaperf_loop_config_t, uv_loop)

_Static_assert(sizeof(numaperf_loop_config_t) == 24, "public struct: append only");
_Static_assert(offsetof(numaperf_loop_config_t, backend) == 16, "public struct: append only");

struct numaperf_loop {
    uv_loop_t *uv;
    uv_loop_t own_uv;
    struct numaperf__ring *ring; /* NULL on epoll */
    char backend_reason[160];    /* empty with a ring */
    bool owns_uv;
    bool hosted;

    /* Hosted. */
    uv_async_t keep_alive;
    const struct numaperf__wake *wake;
    struct numaperf__op poll_op; /* on uv_backend_fd() */
    struct numaperf__op wake_op;
    uint64_t wake_count; /* what wake_op reads */
    bool uv_due;         /* libuv's descriptor was ready */
    uint64_t polled_ns;  /* on epoll: when libuv last looked */

    /* User-run. */
    uv_prepare_t submit;
    uv_poll_t completions;
    struct numaperf__wake ring_event; /* registered with the ring */
    pthread_t thread;
    bool bound;            /* `thread` is set and the ring enabled */
    bool running;          /* inside numaperf_loop_run() */
    bool referenced;       /* `completions` keeps the uv loop alive: operations are in flight */
    uint32_t open_handles; /* of ours, until their close callbacks */
};

/* Our handles carry this address as their data. */
static const char loop_own_handle;

bool numaperf_loop_owns(const struct uv_handle_s *handle)
{
    return handle != NULL && handle->data == (const void *)&loop_own_handle;
}

/* ---- create ---- */

/* A ring as `backend` asks; for AUTO a refusal is recorded in the loop and no failure. */
static int loop_make_ring(numaperf_loop_t *loop, uint32_t backend, uint32_t entries)
{
    if (backend == NUMAPERF_IO_EPOLL) {
        (void)snprintf(loop->backend_reason, sizeof(loop->backend_reason), "epoll was asked for");
        return 0;
    }
    int rc = numaperf__ring_create(entries, &loop->ring);
    if (rc == 0)
        return 0;
    (void)snprintf(loop->backend_reason, sizeof(loop->backend_reason),
                   "io_uring_setup was refused: %s%s", numaperf_strerror(rc),
                   rc == -EPERM    ? " (kernel.io_uring_disabled, or a seccomp filter)"
                   : rc == -ENOSYS ? " (too old a kernel, or a seccomp filter)"
                                   : "");
    if (backend == NUMAPERF_IO_URING)
        return numaperf__fail(rc, -rc, "io_uring_setup", "%s", loop->backend_reason);
    return 0;
}

static int loop_alloc(uint32_t backend, uint32_t entries, uv_loop_t *adopted, numaperf_loop_t **out)
{
    numaperf_loop_t *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "loop", "no memory for the handle");
    loop->ring_event.fd = -1;
    int rc = loop_make_ring(loop, backend, entries);
    if (rc < 0)
        goto free_handle;
    loop->uv = adopted;
    if (adopted == NULL) {
        rc = uv_loop_init(&loop->own_uv);
        if (rc < 0) {
            rc = numaperf__fail(rc, -rc, "uv_loop_init", "%s", uv_strerror(rc));
            goto destroy_ring;
        }
        loop->uv = &loop->own_uv;
        loop->owns_uv = true;
    }
    *out = loop;
    return 0;

destroy_ring:
    numaperf__ring_destroy(loop->ring);
free_handle:
    free(loop);
    return rc;
}

/* For a loop whose handles are all closed. */
static void loop_free(numaperf_loop_t *loop)
{
    if (loop->owns_uv) {
        int rc = uv_loop_close(loop->uv);
        NUMAPERF_ASSERT(rc == 0);
    }
    numaperf__ring_destroy(loop->ring);
    numaperf__wake_fini(&loop->ring_event);
    free(loop);
}

static void loop_handle_closed(uv_handle_t *handle)
{
    (void)handle; /* a hosted loop waits for the whole uv loop to end */
}

static void loop_keep_alive_fired(uv_async_t *handle)
{
    (void)handle; /* never sent: it is there to be referenced */
}

static void loop_poll_done(struct numaperf__op *op)
{
    numaperf_loop_t *loop = NUMAPERF_CONTAINER_OF(op, numaperf_loop_t, poll_op);
    /* An error, cancellation apart, means looking more often, never less. */
    loop->uv_due = true;
}

static void loop_wake_done(struct numaperf__op *op)
{
    (void)op; /* to have ended the wait is all it does; the next wait arms it again */
}

int numaperf__loop_create_hosted(uint32_t backend, const struct numaperf__wake *wake,
                                 numaperf_loop_t **out)
{
    numaperf_loop_t *loop = NULL;
    int rc = loop_alloc(backend, LOOP_RING_ENTRIES_DEFAULT, NULL, &loop);
    if (rc < 0)
        return rc;
    loop->hosted = true;
    loop->wake = wake;
    if (loop->ring != NULL) {
        rc = numaperf__ring_enable(loop->ring);
        if (rc < 0) {
            rc = numaperf__fail(rc, -rc, "io_uring_register", "the ring cannot be enabled");
            goto free_loop;
        }
    }
    rc = uv_async_init(loop->uv, &loop->keep_alive, loop_keep_alive_fired);
    if (rc < 0) {
        rc = numaperf__fail(rc, -rc, "uv_async_init", "%s", uv_strerror(rc));
        goto free_loop;
    }
    loop->keep_alive.data = (void *)&loop_own_handle;
    loop->poll_op = (struct numaperf__op){.kind = NUMAPERF__OP_POLL,
                                          .done = loop_poll_done,
                                          .fd = uv_backend_fd(loop->uv),
                                          .poll_events = POLLIN};
    loop->wake_op = (struct numaperf__op){.kind = NUMAPERF__OP_READ,
                                          .done = loop_wake_done,
                                          .fd = wake->fd,
                                          .buffer = &loop->wake_count,
                                          .length = sizeof(loop->wake_count)};
    loop->uv_due = true;
    *out = loop;
    return 0;

free_loop:
    loop_free(loop);
    return rc;
}

/* ---- hosted: operate ---- */

/* Whether handles were started that libuv has not yet shown to epoll; see the file comment. */
static bool loop_has_unregistered(const uv_loop_t *uv)
{
    const void *head = (const void *)&uv->watcher_queue;
    const void *first = NULL;
    memcpy(&first, head, sizeof(first));
    return first != head;
}

static void loop_arm(numaperf_loop_t *loop, struct numaperf__op *op)
{
    if (op->in_flight)
        return;
    int rc = numaperf__ring_submit(loop->ring, op);
    NUMAPERF_ASSERT(rc == 0);
}

void numaperf__loop_turn(numaperf_loop_t *loop)
{
    NUMAPERF_ASSERT_HOT(loop->hosted);

    if (loop->ring != NULL && numaperf__ring_pending(loop->ring)) {
        int rc = numaperf__ring_flush(loop->ring);
        NUMAPERF_ASSERT(rc == 0);
        (void)numaperf__ring_reap(loop->ring, LOOP_REAP_MAX); /* the rest waits for the next turn */
    }
    /* Callbacks and tasks may start timers: they must not count from a stale time. */
    uv_update_time(loop->uv);
    if (loop->ring == NULL && uv_hrtime() - loop->polled_ns >= LOOP_POLL_NS)
        loop->uv_due = true;
    if (loop->uv_due || loop_has_unregistered(loop->uv) || uv_backend_timeout(loop->uv) == 0) {
        loop->uv_due = false;
        (void)uv_run(loop->uv, UV_RUN_NOWAIT); /* it is alive by our own handle, always */
        /* Armed now, not only before a wait: a worker that is never idle has I/O, too. */
        if (loop->ring != NULL)
            loop_arm(loop, &loop->poll_op);
        else
            loop->polled_ns = uv_hrtime();
    }
}

bool numaperf__loop_ready(const numaperf_loop_t *loop)
{
    return loop->ring != NULL && numaperf__ring_pending(loop->ring);
}

uint64_t numaperf__loop_timeout_ns(numaperf_loop_t *loop)
{
    if (loop->uv_due || loop_has_unregistered(loop->uv))
        return 0;
    uv_update_time(loop->uv);
    int timeout_ms = uv_backend_timeout(loop->uv);
    return timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * 1000000u;
}

/* Without a ring: poll on libuv's descriptor and the wake. */
static void loop_wait_poll(numaperf_loop_t *loop, uint64_t timeout_ns)
{
    struct pollfd fds[2] = {{.fd = uv_backend_fd(loop->uv), .events = POLLIN},
                            {.fd = loop->wake->fd, .events = POLLIN}};
    struct timespec limit = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                             .tv_nsec = (long)(timeout_ns % 1000000000u)};
    int n = ppoll(fds, 2, timeout_ns == UINT64_MAX ? NULL : &limit, NULL);
    if (n <= 0)
        return; /* time is over, or a signal: a wake */
    if (fds[0].revents != 0)
        loop->uv_due = true;
    if (fds[1].revents != 0)
        numaperf__wake_drain(loop->wake);
}

void numaperf__loop_wait(numaperf_loop_t *loop, uint64_t timeout_ns)
{
    NUMAPERF_ASSERT_HOT(loop->hosted);

    if (loop->ring == NULL) {
        loop_wait_poll(loop, timeout_ns);
        return;
    }
    loop_arm(loop, &loop->poll_op);
    loop_arm(loop, &loop->wake_op);
    int rc = numaperf__ring_wait(loop->ring, timeout_ns);
    NUMAPERF_ASSERT(rc == 0);
}

struct numaperf__ring *numaperf__loop_ring(numaperf_loop_t *loop)
{
    return loop->ring;
}

/* ---- hosted: close ---- */

static void loop_close_left(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle) && !numaperf_loop_owns(handle))
        uv_close(handle, NULL); /* the user's memory: valid until the stop ends */
}

static void loop_cancel_own(numaperf_loop_t *loop)
{
    struct numaperf__op *own[2] = {&loop->poll_op, &loop->wake_op};
    while (own[0]->in_flight || own[1]->in_flight) {
        /* Asked again each time: a request that found the SQ full was not queued. */
        for (size_t i = 0; i < 2; i++) {
            if (own[i]->in_flight)
                (void)numaperf__ring_cancel(loop->ring, own[i]);
        }
        int rc = numaperf__ring_wait(loop->ring, UINT64_MAX);
        NUMAPERF_ASSERT(rc == 0);
        (void)numaperf__ring_reap(loop->ring, LOOP_REAP_MAX); /* in_flight tells */
    }
}

void numaperf__loop_close_hosted(numaperf_loop_t *loop)
{
    if (loop == NULL)
        return;
    NUMAPERF_ASSERT(loop->hosted);

    /* uv_loop_close() would hang on the armed poll: first the ring lets go of libuv. */
    if (loop->ring != NULL)
        loop_cancel_own(loop);
    uv_close((uv_handle_t *)&loop->keep_alive, loop_handle_closed);
    /* A close callback may open another handle: go on until libuv itself is content. */
    do {
        uv_walk(loop->uv, loop_close_left, NULL);
        (void)uv_run(loop->uv, UV_RUN_DEFAULT); /* also waits for requests in the thread pool */
    } while (uv_loop_close(loop->uv) == UV_EBUSY);
    loop->owns_uv = false;
    loop_free(loop);
}

/* ---- user-run ---- */

/* Operations in flight keep a user-run loop alive, as libuv's requests do. */
static void loop_settle_reference(numaperf_loop_t *loop)
{
    bool wanted = numaperf__ring_in_flight(loop->ring) > 0;
    if (wanted == loop->referenced)
        return;
    loop->referenced = wanted;
    if (wanted)
        uv_ref((uv_handle_t *)&loop->completions);
    else
        uv_unref((uv_handle_t *)&loop->completions);
}

static void loop_reap(numaperf_loop_t *loop)
{
    (void)numaperf__ring_reap(loop->ring, LOOP_REAP_MAX); /* what is left signals again below */
    if (numaperf__ring_pending(loop->ring))
        numaperf__wake_signal(&loop->ring_event);
    loop_settle_reference(loop);
}

static void loop_submit_prepare(uv_prepare_t *handle)
{
    numaperf_loop_t *loop = NUMAPERF_CONTAINER_OF(handle, numaperf_loop_t, submit);
    int rc = numaperf__ring_flush(loop->ring);
    NUMAPERF_ASSERT(rc == 0);
    loop_reap(loop);
}

static void loop_completions_ready(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    numaperf_loop_t *loop = NUMAPERF_CONTAINER_OF(handle, numaperf_loop_t, completions);
    numaperf__wake_drain(&loop->ring_event);
    /* The eventfd says that work is deferred, not that a completion is posted: get events. */
    int rc = numaperf__ring_flush(loop->ring);
    NUMAPERF_ASSERT(rc == 0);
    loop_reap(loop);
}

static void loop_own_closed(uv_handle_t *handle)
{
    numaperf_loop_t *loop = handle->type == UV_PREPARE
                                ? NUMAPERF_CONTAINER_OF(handle, numaperf_loop_t, submit)
                                : NUMAPERF_CONTAINER_OF(handle, numaperf_loop_t, completions);
    NUMAPERF_ASSERT(loop->open_handles > 0);
    loop->open_handles--;
}

/* Close our handles in the uv loop and have their callbacks run. */
static void loop_detach(numaperf_loop_t *loop)
{
    if (loop->open_handles > 0)
        uv_close((uv_handle_t *)&loop->submit, loop_own_closed);
    if (loop->open_handles > 1)
        uv_close((uv_handle_t *)&loop->completions, loop_own_closed);
    while (loop->open_handles > 0)
        (void)uv_run(loop->uv, UV_RUN_NOWAIT); /* whether others are alive does not matter */
}

/* Hang the ring on the uv loop; see the file comment. */
static int loop_attach(numaperf_loop_t *loop)
{
    int rc = numaperf__wake_init(&loop->ring_event);
    if (rc < 0)
        return rc;
    rc = numaperf__ring_register_eventfd(loop->ring, loop->ring_event.fd);
    if (rc < 0)
        return rc;
    rc = uv_prepare_init(loop->uv, &loop->submit);
    NUMAPERF_ASSERT(rc == 0);
    loop->open_handles = 1;
    loop->submit.data = (void *)&loop_own_handle;
    rc = uv_prepare_start(&loop->submit, loop_submit_prepare);
    NUMAPERF_ASSERT(rc == 0);
    uv_unref((uv_handle_t *)&loop->submit);

    rc = uv_poll_init(loop->uv, &loop->completions, loop->ring_event.fd);
    if (rc < 0)
        return rc;
    loop->open_handles = 2;
    loop->completions.data = (void *)&loop_own_handle;
    rc = uv_poll_start(&loop->completions, UV_READABLE, loop_completions_ready);
    if (rc < 0)
        return rc;
    uv_unref((uv_handle_t *)&loop->completions);
    return 0;
}

static int loop_config_check(const numaperf_loop_config_t *cfg)
{
    if (cfg->flags != 0)
        return numaperf__fail(-EINVAL, 0, "loop", "flags %#x: none is known", cfg->flags);
    if (cfg->backend > NUMAPERF_IO_EPOLL)
        return numaperf__fail(-EINVAL, 0, "loop", "backend %u is not a NUMAPERF_IO_*",
                              cfg->backend);
    if (cfg->ring_entries > LOOP_RING_ENTRIES_MAX)
        return numaperf__fail(-EINVAL, 0, "loop", "ring_entries %u is above %u", cfg->ring_entries,
                              LOOP_RING_ENTRIES_MAX);
    return 0;
}

int numaperf_loop_create(const numaperf_loop_config_t *config, numaperf_loop_t **out)
{
    if (out == NULL)
        return numaperf__fail(-EINVAL, 0, "loop", "out must not be NULL");
    const numaperf_loop_config_t defaults = NUMAPERF_LOOP_CONFIG_INIT;
    numaperf_loop_config_t cfg;
    int rc = numaperf__config_load(&cfg, sizeof(cfg), LOOP_CONFIG_MIN_SIZE,
                                   config != NULL ? config : &defaults, "loop");
    if (rc < 0)
        return rc;
    rc = loop_config_check(&cfg);
    if (rc < 0)
        return rc;
    if (cfg.ring_entries == 0)
        cfg.ring_entries = LOOP_RING_ENTRIES_DEFAULT;

    numaperf_loop_t *loop = NULL;
    rc = loop_alloc(cfg.backend, cfg.ring_entries, cfg.uv_loop, &loop);
    if (rc < 0)
        return rc;
    if (loop->ring != NULL) {
        rc = loop_attach(loop);
        if (rc < 0) {
            loop_detach(loop);
            loop_free(loop);
            return numaperf__fail(rc, -rc, "loop", "the ring cannot be attached: %s",
                                  numaperf_strerror(rc));
        }
    }
    *out = loop;
    return 0;
}

struct uv_loop_s *numaperf_loop_uv(numaperf_loop_t *loop)
{
    return loop != NULL ? loop->uv : NULL;
}

static int loop_bind(numaperf_loop_t *loop)
{
    if (loop->bound) {
        if (pthread_equal(loop->thread, pthread_self()) == 0)
            return numaperf__fail(-EBUSY, 0, "loop", "the loop is bound to another thread");
        return 0;
    }
    if (loop->ring != NULL) {
        int rc = numaperf__ring_enable(loop->ring);
        if (rc < 0)
            return numaperf__fail(rc, -rc, "loop", "the ring cannot be enabled");
    }
    loop->thread = pthread_self();
    loop->bound = true;
    return 0;
}

int numaperf_loop_run(numaperf_loop_t *loop, int mode)
{
    if (loop == NULL || loop->hosted)
        return numaperf__fail(-EINVAL, 0, "loop", "loop is NULL or a worker's");
    if (mode < UV_RUN_DEFAULT || mode > UV_RUN_NOWAIT)
        return numaperf__fail(-EINVAL, 0, "loop", "%d is not a uv_run_mode", mode);
    int rc = loop_bind(loop);
    if (rc < 0)
        return rc;
    if (loop->running)
        return numaperf__fail(-EBUSY, 0, "loop", "it is running: called from one of its callbacks");
    loop->running = true;
    rc = uv_run(loop->uv, (uv_run_mode)mode);
    loop->running = false;
    return rc;
}

int numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op)
{
    if (loop->ring == NULL)
        return NUMAPERF_E_UNSUPPORTED;
    if (loop->hosted)
        return numaperf__ring_submit(loop->ring, op);
    int rc = loop_bind(loop);
    if (rc == 0)
        rc = numaperf__ring_submit(loop->ring, op);
    if (rc == 0)
        loop_settle_reference(loop);
    return rc;
}

int numaperf_loop_backend(const numaperf_loop_t *loop)
{
    if (loop == NULL)
        return numaperf__fail(-EINVAL, 0, "loop", "loop must not be NULL");
    return loop->ring != NULL ? NUMAPERF_IO_URING : NUMAPERF_IO_EPOLL;
}

const char *numaperf_loop_backend_reason(const numaperf_loop_t *loop)
{
    return loop != NULL && loop->ring == NULL ? loop->backend_reason : NULL;
}

static void loop_count_foreign(uv_handle_t *handle, void *data)
{
    unsigned *count = data;
    if (!numaperf_loop_owns(handle))
        (*count)++;
}

int numaperf_loop_destroy(numaperf_loop_t *loop)
{
    if (loop == NULL)
        return 0;
    if (loop->hosted)
        return numaperf__fail(-EINVAL, 0, "loop", "it is a worker's");
    if (loop->running || (loop->bound && pthread_equal(loop->thread, pthread_self()) == 0))
        return numaperf__fail(-EBUSY, 0, "loop", "it is running, or bound to another thread");
    if (loop->ring != NULL && numaperf__ring_in_flight(loop->ring) > 0)
        return numaperf__fail(-EBUSY, 0, "loop", "ring operations are in flight");
    if (loop->owns_uv) {
        unsigned foreign = 0;
        uv_walk(loop->uv, loop_count_foreign, &foreign);
        if (foreign > 0 || uv_loop_alive(loop->uv) != 0)
            return numaperf__fail(-EBUSY, 0, "loop", "%u handles, or requests, are still open",
                                  foreign);
    }
    loop_detach(loop);
    loop_free(loop);
    return 0;
}
