/* SPDX-License-Identifier: MIT */
/*
 * The loop: libuv and a ring in one thread, in two forms. What they share is here, and the form
 * that callers run themselves; a worker's is in hosted.c.
 *
 * For numaperf_loop_run() the real uv_run() waits. The ring hangs on an unreferenced prepare
 * handle, which submits, and on a poll of its registered eventfd, which reaps, referenced while
 * operations of the user are outstanding, so liveness is libuv's own.
 *
 * A trap: an operation on an eventfd that is written to by hand completes unnoticed here from the
 * second time on, on Linux 6.12 and 6.18 (not 6.1): the kernel puts the ring's own signal off,
 * since it would nest, and remembers that for ever. Wakes of such a loop are libuv's uv_async_t.
 *
 * Thread rule: such a loop belongs to the thread of its first run or submission; only whether it
 * runs is asked by others.
 */
#include "io/loop.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "io/features.h"
#include "io/loop_state.h"
#include "io/sqpoll.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#define LOOP_RING_ENTRIES_MAX 32768u
#define LOOP_BUFFER_BYTES_MAX (16u << 20)
#define LOOP_BUFFER_COUNT_MAX 32768u
#define LOOP_BUSY_POLL_US 50u    /* as long as an idle worker spins, by default */
#define LOOP_ROUNDS 16u          /* of completions before uv_run() polls, which is three calls */
#define LOOP_CONFIG_MIN_SIZE 24u /* the first release's */

_Static_assert(sizeof(numaperf_loop_config_t) == 32, "public struct: append only");
_Static_assert(offsetof(numaperf_loop_config_t, uv_loop) == 8, "public struct: append only");
_Static_assert(offsetof(numaperf_loop_config_t, backend) == 16, "public struct: append only");

/* Our handles carry this address as their data. */
static const char loop_own_handle;

void numaperf__loop_mark(uv_handle_t *handle)
{
    handle->data = (void *)&loop_own_handle;
}

bool numaperf_loop_owns(const struct uv_handle_s *handle)
{
    return handle != NULL && handle->data == (const void *)&loop_own_handle;
}

/* ---- create ---- */

int numaperf__loop_refused(numaperf_loop_t *loop, uint32_t backend, int rc, const char *operation)
{
    (void)snprintf(loop->backend_reason, sizeof(loop->backend_reason), "%s was refused: %s%s",
                   operation, numaperf_strerror(rc),
                   rc == -EPERM    ? " (kernel.io_uring_disabled, or a seccomp filter)"
                   : rc == -ENOSYS ? " (too old a kernel, or a seccomp filter)"
                   : rc == -ENOMEM ? " (RLIMIT_MEMLOCK may be too low: newer kernels count rings)"
                                   : "");
    numaperf__ring_destroy(loop->ring);
    loop->ring = NULL;
    loop->ring_rc = rc;
    if (backend == NUMAPERF_IO_URING)
        return numaperf__fail(rc, -rc, operation, "%s", loop->backend_reason);
    return 0;
}

static int loop_make_ring(numaperf_loop_t *loop, const struct numaperf__loop_setup *setup)
{
    if (setup->backend == NUMAPERF_IO_EPOLL) {
        (void)snprintf(loop->backend_reason, sizeof(loop->backend_reason), "epoll was asked for");
        return 0;
    }
    const struct numaperf__ring_setup ring = {
        .entries = setup->ring_entries != 0 ? setup->ring_entries : NUMAPERF__LOOP_RING_ENTRIES,
        .hidden = loop->hidden_features,
        .own_memory = setup->has_node, /* it costs more than the ring itself, and proves nothing
                                          of a loop that has no node */
        .has_node = setup->has_node,
        .node = setup->node,
        .has_sqpoll = (setup->flags & NUMAPERF_LOOP_SQPOLL) != 0,
        .sqpoll_cpu = setup->sqpoll_cpu,
    };
    int rc = (loop->hidden_features & 1u << NUMAPERF__FEATURE_RING) != 0
                 ? -ENOSYS
                 : numaperf__ring_create_as(&ring, &loop->ring);
    if (rc < 0)
        return numaperf__loop_refused(loop, setup->backend, rc, "io_uring_setup");
    if (ring.has_sqpoll)
        numaperf__ring_prove_sqpoll(loop->ring, ring.sqpoll_cpu);
    if ((setup->flags & NUMAPERF_LOOP_BUSY_POLL) != 0)
        (void)numaperf__ring_busy_poll(loop->ring, LOOP_BUSY_POLL_US); /* the features tell */
    return 0;
}

int numaperf__uv_loop_init(uv_loop_t *uv)
{
    uv->backend_fd = -1;
    int rc = uv_loop_init(uv);
    int fd = uv->backend_fd;
    struct epoll_event event;
    /* Of a libuv that has closed it this is another descriptor or none: asked before it is closed.
     * (0 is what memory that libuv has only cleared says.) */
    if (rc < 0 && fd > 0 && epoll_wait(fd, &event, 1, 0) >= 0)
        (void)close(fd); /* an epoll descriptor: nothing to do about a failure */
    return rc;
}

int numaperf__loop_alloc(const struct numaperf__loop_setup *setup, numaperf_loop_t **out)
{
    numaperf_loop_t *loop = calloc(1, sizeof(*loop));
    if (loop == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "loop", "no memory for the handle");
    loop->ring_event.fd = -1;
    loop->cells = &loop->own_cells;
    loop->hidden_features = numaperf__features_disabled();
    loop->buffer_bytes = setup->buffer_bytes;
    loop->buffer_count = setup->buffer_count;
    int rc = loop_make_ring(loop, setup);
    if (rc < 0)
        goto free_handle;
    loop->uv = setup->adopted;
    if (setup->adopted == NULL) {
        rc = numaperf__uv_loop_init(&loop->own_uv);
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

void numaperf__loop_free(numaperf_loop_t *loop)
{
    if (loop->owns_uv) {
        int rc = uv_loop_close(loop->uv);
        NUMAPERF_ASSERT(rc == 0);
    }
    numaperf__ring_destroy(loop->ring);
    numaperf__wake_fini(&loop->ring_event);
    free(loop);
}

struct numaperf__ring *numaperf__loop_ring(numaperf_loop_t *loop)
{
    return loop->ring;
}

/* ---- run ---- */

/* Operations in flight, and what is open on it, keep a user-run loop alive, as handles of libuv do.
 */
void numaperf__loop_settle_reference(numaperf_loop_t *loop)
{
    bool wanted = (loop->ring != NULL && numaperf__ring_in_flight(loop->ring) > 0) ||
                  numaperf__loop_has_active_tenant(loop);
    if (wanted == loop->referenced)
        return;
    loop->referenced = wanted;
    if (wanted)
        uv_ref((uv_handle_t *)&loop->completions);
    else
        uv_unref((uv_handle_t *)&loop->completions);
}

/* Something is left to do: the poll of uv_run() returns at once, and comes back here. */
static void loop_poke(numaperf_loop_t *loop)
{
    numaperf__wake_signal(&loop->ring_event);
}

void numaperf__loop_serve_ring(numaperf_loop_t *loop, unsigned rounds)
{
    unsigned left = NUMAPERF__LOOP_REAP_MAX; /* what is more waits for the next time */
    for (unsigned i = 0; i < rounds && left > 0 && numaperf__ring_pending(loop->ring); i++) {
        int rc = numaperf__ring_flush(loop->ring);
        NUMAPERF_ASSERT(rc == 0);
        left -= numaperf__ring_reap(loop->ring, left);
        numaperf__loop_turn_tenants(loop);
    }
}

static void loop_submit_prepare(uv_prepare_t *handle)
{
    numaperf_loop_t *loop = NUMAPERF_CONTAINER_OF(handle, numaperf_loop_t, submit);
    numaperf__loop_turn_tenants(loop);
    if (loop->ring != NULL) {
        numaperf__loop_serve_ring(loop, LOOP_ROUNDS);
        /* What the last callbacks asked for must not wait for the next event. */
        int rc = numaperf__ring_flush(loop->ring);
        NUMAPERF_ASSERT(rc == 0);
    }
    numaperf__loop_settle_reference(loop);
    if (loop->has_dirty || (loop->ring != NULL && numaperf__ring_pending(loop->ring)))
        loop_poke(loop);
}

static void loop_completions_ready(uv_poll_t *handle, int status, int events)
{
    (void)status;
    (void)events;
    numaperf_loop_t *loop = NUMAPERF_CONTAINER_OF(handle, numaperf_loop_t, completions);
    numaperf__wake_drain(&loop->ring_event);
    if (loop->ring == NULL)
        return; /* a poke: the prepare handle has what it wants */
    /* The eventfd says that work is deferred, not that a completion is posted: get events. */
    numaperf__loop_serve_ring(loop, 1);
    if (numaperf__ring_pending(loop->ring))
        loop_poke(loop);
    numaperf__loop_settle_reference(loop);
}

static void loop_own_closed(uv_handle_t *handle)
{
    numaperf_loop_t *loop = handle->type == UV_PREPARE
                                ? NUMAPERF_CONTAINER_OF(handle, numaperf_loop_t, submit)
                                : NUMAPERF_CONTAINER_OF(handle, numaperf_loop_t, completions);
    NUMAPERF_ASSERT(loop->open_handles > 0);
    loop->open_handles--;
}

/*
 * Close our handles in the uv loop and have their callbacks run. That takes turns of the loop, in
 * which callbacks of an adopted one's user run as well: to them this loop is running.
 */
static void loop_detach(numaperf_loop_t *loop)
{
    atomic_store_explicit(&loop->running, true, memory_order_relaxed);
    if (loop->open_handles > 0)
        uv_close((uv_handle_t *)&loop->submit, loop_own_closed);
    if (loop->open_handles > 1)
        uv_close((uv_handle_t *)&loop->completions, loop_own_closed);
    while (loop->open_handles > 0)
        (void)uv_run(loop->uv, UV_RUN_NOWAIT); /* whether others are alive does not matter */
}

/* Have the ring signal. A filter may refuse this where it let the ring be made. */
static int loop_register(numaperf_loop_t *loop, uint32_t backend)
{
    int rc = numaperf__wake_init(&loop->ring_event);
    if (rc < 0)
        return numaperf__fail(rc, -rc, "eventfd", "no descriptor for the loop's signal");
    if (loop->ring == NULL)
        return 0;
    rc = numaperf__ring_register_eventfd(loop->ring, loop->ring_event.fd);
    if (rc == 0)
        return 0;
    return numaperf__loop_refused(loop, backend, rc, "io_uring_register");
}

/* Hang the ring on the uv loop; see the file comment. */
static int loop_attach(numaperf_loop_t *loop)
{
    int rc = uv_prepare_init(loop->uv, &loop->submit);
    NUMAPERF_ASSERT(rc == 0);
    loop->open_handles = 1;
    numaperf__loop_mark((uv_handle_t *)&loop->submit);
    rc = uv_prepare_start(&loop->submit, loop_submit_prepare);
    NUMAPERF_ASSERT(rc == 0);
    uv_unref((uv_handle_t *)&loop->submit);

    rc = uv_poll_init(loop->uv, &loop->completions, loop->ring_event.fd);
    if (rc < 0)
        return rc;
    loop->open_handles = 2;
    numaperf__loop_mark((uv_handle_t *)&loop->completions);
    rc = uv_poll_start(&loop->completions, UV_READABLE, loop_completions_ready);
    if (rc < 0)
        return rc;
    uv_unref((uv_handle_t *)&loop->completions);
    return 0;
}

static int loop_check_buffers(const struct numaperf__loop_setup *setup, const char *operation)
{
    const uint32_t bytes = setup->buffer_bytes;
    const uint32_t count = setup->buffer_count;
    if ((bytes & (bytes - 1)) != 0 || bytes > LOOP_BUFFER_BYTES_MAX)
        return numaperf__fail(-EINVAL, 0, operation, "buffer_bytes %u is no power of two up to %u",
                              bytes, LOOP_BUFFER_BYTES_MAX);
    if ((count & (count - 1)) != 0 || count > LOOP_BUFFER_COUNT_MAX)
        return numaperf__fail(-EINVAL, 0, operation, "buffer_count %u is no power of two up to %u",
                              count, LOOP_BUFFER_COUNT_MAX);
    return 0;
}

int numaperf__loop_check_setup(const struct numaperf__loop_setup *setup, const char *operation)
{
    const uint32_t known = NUMAPERF_LOOP_SQPOLL | NUMAPERF_LOOP_BUSY_POLL;
    if ((setup->flags & ~known) != 0)
        return numaperf__fail(-EINVAL, 0, operation, "flags of a loop: %#x has an unknown bit",
                              setup->flags);
    if (setup->backend > NUMAPERF_IO_EPOLL)
        return numaperf__fail(-EINVAL, 0, operation, "backend %u is not a NUMAPERF_IO_*",
                              setup->backend);
    if (setup->backend == NUMAPERF_IO_EPOLL && setup->flags != 0)
        return numaperf__fail(-EINVAL, 0, operation,
                              "flags of a loop: %#x is about io_uring, and epoll was asked for",
                              setup->flags);
    if (setup->ring_entries > LOOP_RING_ENTRIES_MAX)
        return numaperf__fail(-EINVAL, 0, operation, "ring_entries %u is above %u",
                              setup->ring_entries, LOOP_RING_ENTRIES_MAX);
    return loop_check_buffers(setup, operation);
}

static int loop_plan_sqpoll(struct numaperf__loop_setup *setup)
{
    int rc = numaperf__sqpoll_check_quota(1, -EINVAL);
    return rc < 0 ? rc : numaperf__sqpoll_choose(&setup->sqpoll_cpu);
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
    struct numaperf__loop_setup setup = {.backend = cfg.backend,
                                         .flags = cfg.flags,
                                         .ring_entries = cfg.ring_entries,
                                         .buffer_bytes = cfg.buffer_bytes,
                                         .buffer_count = cfg.buffer_count,
                                         .adopted = cfg.uv_loop};
    rc = numaperf__loop_check_setup(&setup, "loop");
    if (rc == 0 && (cfg.flags & NUMAPERF_LOOP_SQPOLL) != 0)
        rc = loop_plan_sqpoll(&setup);
    if (rc < 0)
        return rc;

    numaperf_loop_t *loop = NULL;
    rc = numaperf__loop_alloc(&setup, &loop);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(loop != NULL);
    rc = loop_register(loop, cfg.backend);
    if (rc < 0) {
        numaperf__loop_free(loop);
        return rc;
    }
    rc = loop_attach(loop);
    if (rc < 0) {
        loop_detach(loop);
        numaperf__loop_free(loop);
        return numaperf__fail(rc, -rc, "loop", "the ring cannot be attached: %s",
                              numaperf_strerror(rc));
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
    uintptr_t self = (uintptr_t)pthread_self();
    uintptr_t owner = 0;
    /* Relaxed: only the thread that wins, or won before, goes on to what is not atomic. */
    if (!atomic_compare_exchange_strong_explicit(&loop->thread, &owner, self, memory_order_relaxed,
                                                 memory_order_relaxed)) {
        if (owner != self)
            return numaperf__fail(-EBUSY, 0, "loop", "the loop is bound to another thread");
        return 0;
    }
    atomic_store_explicit(&loop->thread_id, (int32_t)syscall(SYS_gettid), memory_order_relaxed);
    if (loop->ring == NULL)
        return 0;
    int rc = numaperf__ring_enable(loop->ring);
    if (rc < 0) {
        atomic_store_explicit(&loop->thread, 0, memory_order_relaxed);
        return numaperf__fail(rc, -rc, "loop", "the ring cannot be enabled: %s",
                              numaperf_strerror(rc));
    }
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
    /* A new thread may have got the pthread_t of one that ended; the ring knows them apart. */
    if (atomic_load_explicit(&loop->thread_id, memory_order_relaxed) !=
        (int32_t)syscall(SYS_gettid))
        return numaperf__fail(-EBUSY, 0, "loop", "the loop is bound to a thread that has ended");
    if (atomic_load_explicit(&loop->running, memory_order_relaxed))
        return numaperf__fail(-EBUSY, 0, "loop", "it is running: called from one of its callbacks");
    atomic_store_explicit(&loop->running, true, memory_order_relaxed);
    rc = uv_run(loop->uv, (uv_run_mode)mode);
    /* Release pairs with the acquire in numaperf_loop_destroy(). */
    atomic_store_explicit(&loop->running, false, memory_order_release);
    return rc;
}

int numaperf__loop_enter(numaperf_loop_t *loop)
{
    if (loop->closing)
        return numaperf__fail(NUMAPERF_E_STOPPING, 0, "loop", "the loop is being closed");
    return loop->hosted ? 0 : loop_bind(loop);
}

int numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op)
{
    if (loop->ring == NULL)
        return NUMAPERF_E_UNSUPPORTED;
    if (loop->closing)
        return NUMAPERF_E_STOPPING;
    if (loop->hosted)
        return numaperf__ring_submit(loop->ring, op);
    int rc = loop_bind(loop);
    if (rc == 0)
        rc = numaperf__ring_submit(loop->ring, op);
    if (rc == 0)
        numaperf__loop_settle_reference(loop);
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

/* A tenant's last handles close in it. */
static void loop_turn_once(numaperf_loop_t *loop)
{
    (void)uv_run(loop->uv, UV_RUN_NOWAIT); /* whether others are alive does not matter */
}

int numaperf_loop_destroy(numaperf_loop_t *loop)
{
    if (loop == NULL)
        return 0;
    if (loop->hosted)
        return numaperf__fail(-EINVAL, 0, "loop", "it is a worker's");
    /* Acquire pairs with the release in numaperf_loop_run(): its thread may have ended since. */
    if (atomic_load_explicit(&loop->running, memory_order_acquire))
        return numaperf__fail(-EBUSY, 0, "loop", "it is running");
    if (numaperf__loop_has_busy_tenant(loop))
        return numaperf__fail(-EBUSY, 0, "loop", "sockets, files or requests are still open");
    if (loop->ring != NULL && numaperf__ring_in_flight(loop->ring) > 0)
        return numaperf__fail(-EBUSY, 0, "loop", "ring operations are in flight");
    if (loop->owns_uv) {
        unsigned foreign = 0;
        uv_walk(loop->uv, loop_count_foreign, &foreign);
        if (foreign > 0 || uv_loop_alive(loop->uv) != 0)
            return numaperf__fail(-EBUSY, 0, "loop", "%u handles, or requests, are still open",
                                  foreign);
    }
    numaperf__loop_end_tenants(loop, loop_turn_once);
    loop->closing = true;
    loop_detach(loop);
    numaperf__loop_free(loop);
    return 0;
}
