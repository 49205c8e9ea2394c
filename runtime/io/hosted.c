/* SPDX-License-Identifier: MIT */
/*
 * A worker's loop: the thread waits in the ring (or, without one, in poll), and libuv is embedded.
 * A one-shot POLL_ADD on uv_backend_fd() says when libuv has events; it rides the enter that waits
 * anyway. A multishot poll there would stall or spin. A referenced async handle keeps the loop
 * alive, else uv_run() would do nothing.
 *
 *   turn: flush -> reap -> uv_run(NOWAIT) when the poll fired, a timer is due, a handle was
 *         started since libuv last looked, or prepare handles have not run since the last wait
 *   wait: arm poll and wake -> submit and wait
 *
 * libuv registers a descriptor with epoll only inside uv_run(): handles started by a task, or by
 * the last callbacks of a run, are not seen by the poll. uv_backend_timeout() is 0 as long as there
 * are such (test_loop checks it). Of prepare handles, which are to run before a wait, no public
 * function tells; whether there are new ones is read from the public struct, checked there as well.
 *
 * Thread rule: a hosted loop belongs to the thread that made it. Its wake is not its own, since
 * wakers may outlive it.
 */
#include "io/loop.h"

#include "base/assert.h"
#include "base/error.h"
#include "io/loop_state.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#define HOSTED_CLOSE_WAIT_NS 10000000u /* a turn of the close; what is awaited ends the wait */
#define HOSTED_ROUNDS 4u /* of completions in a turn: tasks and libuv have theirs in between */
#define HOSTED_SPIN_POLL_NS 2000u /* the same for one that looks around for work */
#define HOSTED_POLL_NS 50000u /* on epoll, how often a worker that does not wait looks for I/O */

/* ---- create ---- */

static void hosted_handle_closed(uv_handle_t *handle)
{
    (void)handle; /* a hosted loop waits for the whole uv loop to end */
}

static void hosted_keep_alive_fired(uv_async_t *handle)
{
    (void)handle; /* never sent: it is there to be referenced */
}

static void hosted_poll_done(struct numaperf__op *op)
{
    numaperf_loop_t *loop = NUMAPERF_CONTAINER_OF(op, numaperf_loop_t, poll_op);
    /* An error, cancellation apart, means looking more often, never less. */
    loop->uv_due = true;
}

static void hosted_wake_done(struct numaperf__op *op)
{
    (void)op; /* to have ended the wait is all it does; the next wait arms it again */
}

/* That a ring could be set up says little: a filter may refuse the other two calls. */
static int hosted_prove_ring(numaperf_loop_t *loop, uint32_t backend)
{
    if (loop->ring == NULL)
        return 0;
    int rc = numaperf__ring_enable(loop->ring);
    if (rc < 0)
        return numaperf__loop_refused(loop, backend, rc, "io_uring_register");
    rc = numaperf__ring_check(loop->ring);
    return rc < 0 ? numaperf__loop_refused(loop, backend, rc, "io_uring_enter") : 0;
}

int numaperf__loop_create_hosted(const struct numaperf__loop_setup *setup, numaperf_loop_t **out)
{
    NUMAPERF_ASSERT(setup->wake != NULL && setup->adopted == NULL);

    numaperf_loop_t *loop = NULL;
    int rc = numaperf__loop_alloc(setup, &loop);
    if (rc < 0)
        return rc;
    loop->hosted = true;
    loop->wake = setup->wake;
    rc = hosted_prove_ring(loop, setup->backend);
    if (rc < 0)
        goto free_loop;
    rc = uv_async_init(loop->uv, &loop->keep_alive, hosted_keep_alive_fired);
    if (rc < 0) {
        rc = numaperf__fail(rc, -rc, "uv_async_init", "%s", uv_strerror(rc));
        goto free_loop;
    }
    numaperf__loop_mark((uv_handle_t *)&loop->keep_alive);
    loop->poll_op = (struct numaperf__op){.kind = NUMAPERF__OP_POLL,
                                          .done = hosted_poll_done,
                                          .fd = uv_backend_fd(loop->uv),
                                          .poll_events = POLLIN};
    loop->wake_op = (struct numaperf__op){.kind = NUMAPERF__OP_READ,
                                          .done = hosted_wake_done,
                                          .fd = setup->wake->fd,
                                          .buffer = &loop->wake_count,
                                          .offset = UINT64_MAX,
                                          .length = sizeof(loop->wake_count)};
    loop->uv_due = true;
    *out = loop;
    return 0;

free_loop:
    numaperf__loop_free(loop);
    return rc;
}

/* ---- operate ---- */

/* First of a libuv queue, whose head is two pointers in every release; NULL when it is empty. */
static const void *hosted_queue_first(const void *head)
{
    const void *first = NULL;
    memcpy(&first, head, sizeof(first));
    return first != head ? first : NULL;
}

/* Whether prepare handles have yet to run before the next wait. */
static bool hosted_has_to_prepare(const numaperf_loop_t *loop)
{
    const void *first = hosted_queue_first(&loop->uv->prepare_handles);
    return first != NULL && first != loop->prepared;
}

static void hosted_run_uv(numaperf_loop_t *loop)
{
    /* New ones go to the front: the same first before and after means that all have run. */
    const void *prepare = hosted_queue_first(&loop->uv->prepare_handles);
    loop->uv_due = false;
    (void)uv_run(loop->uv, UV_RUN_NOWAIT); /* it is alive by our own handle, always */
    loop->prepared = prepare == hosted_queue_first(&loop->uv->prepare_handles) ? prepare : NULL;
}

/* False when there is no room for it now: the SQ is full, and the kernel too short to empty it. */
static bool hosted_arm(numaperf_loop_t *loop, struct numaperf__op *op)
{
    if (op->in_flight)
        return true;
    int rc = numaperf__ring_submit(loop->ring, op);
    NUMAPERF_ASSERT(rc == 0 || rc == -EBUSY);
    return rc == 0;
}

void numaperf__loop_turn(numaperf_loop_t *loop)
{
    NUMAPERF_ASSERT_HOT(loop->hosted);

    /* First: what is done now may start timers, which must not count from a stale time. */
    uv_update_time(loop->uv);
    numaperf__loop_turn_tenants(loop);
    if (loop->ring != NULL)
        numaperf__loop_serve_ring(loop, HOSTED_ROUNDS);
    if (loop->ring == NULL && uv_hrtime() - loop->polled_ns >= HOSTED_POLL_NS)
        loop->uv_due = true;
    if (loop->uv_due || hosted_has_to_prepare(loop) || uv_backend_timeout(loop->uv) == 0) {
        hosted_run_uv(loop);
        /* Armed now, not only before a wait: a worker that is never idle has I/O, too. */
        if (loop->ring == NULL)
            loop->polled_ns = uv_hrtime();
        else if (!hosted_arm(loop, &loop->poll_op))
            loop->uv_due = true;
    }
    numaperf__loop_turn_tenants(loop);
}

void numaperf__loop_refresh_time(numaperf_loop_t *loop)
{
    /* The coarse clock costs a fraction of the exact one and moves every few milliseconds. */
    struct timespec now;
    int rc = clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    NUMAPERF_ASSERT_HOT(rc == 0);
    (void)rc; /* cannot fail; unused in a release build */
    uint64_t tick_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (tick_ns == loop->tick_ns)
        return;
    loop->tick_ns = tick_ns;
    uv_update_time(loop->uv);
}

bool numaperf__loop_ready(numaperf_loop_t *loop)
{
    if (loop->has_dirty)
        return true;
    if (loop->ring != NULL)
        return numaperf__ring_pending(loop->ring);
    /* Only the kernel knows; a look costs a fraction of this. */
    uint64_t now_ns = uv_hrtime();
    if (now_ns - loop->polled_ns < HOSTED_SPIN_POLL_NS)
        return false;
    loop->polled_ns = now_ns;
    struct pollfd fd = {.fd = uv_backend_fd(loop->uv), .events = POLLIN};
    if (poll(&fd, 1, 0) > 0)
        loop->uv_due = true;
    return loop->uv_due;
}

uint64_t numaperf__loop_timeout_ns(numaperf_loop_t *loop)
{
    if (loop->uv_due || loop->has_dirty || hosted_has_to_prepare(loop))
        return 0;
    uv_update_time(loop->uv);
    int timeout_ms = uv_backend_timeout(loop->uv);
    return timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * 1000000u;
}

/* Without a ring: poll on libuv's descriptor and the wake. */
static void hosted_wait_poll(numaperf_loop_t *loop, uint64_t timeout_ns)
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

    loop->prepared = NULL;
    if (loop->ring == NULL) {
        hosted_wait_poll(loop, timeout_ns);
        return;
    }
    /* Without either of them a wait might never end. */
    if (!hosted_arm(loop, &loop->poll_op) || !hosted_arm(loop, &loop->wake_op))
        return;
    int rc = numaperf__ring_wait(loop->ring, timeout_ns);
    NUMAPERF_ASSERT(rc == 0);
}

/* ---- close ---- */

static void hosted_close_left(uv_handle_t *handle, void *data)
{
    (void)data;
    if (!uv_is_closing(handle) && !numaperf_loop_owns(handle))
        uv_close(handle, NULL); /* the user's memory: valid until the stop ends */
}

/* Have the ring let go of everything: our own operations, and those somebody left in it. */
static void hosted_empty_ring(numaperf_loop_t *loop)
{
    struct numaperf__op *own[2] = {&loop->poll_op, &loop->wake_op};
    while (numaperf__ring_in_flight(loop->ring) > 0) {
        /* Asked again each time: a request that found the SQ full was not queued. */
        for (size_t i = 0; i < 2; i++) {
            if (own[i]->in_flight)
                (void)numaperf__ring_cancel(loop->ring, own[i]);
        }
        (void)numaperf__ring_cancel_all(loop->ring);
        int rc = numaperf__ring_wait(loop->ring, UINT64_MAX);
        NUMAPERF_ASSERT(rc == 0);
        (void)numaperf__ring_reap(loop->ring, NUMAPERF__LOOP_REAP_MAX); /* in_flight tells */
    }
}

static void hosted_turn_and_wait(numaperf_loop_t *loop)
{
    numaperf__loop_turn(loop);
    if (!numaperf__loop_ready(loop))
        numaperf__loop_wait(loop, HOSTED_CLOSE_WAIT_NS);
}

void numaperf__loop_close_hosted(numaperf_loop_t *loop)
{
    if (loop == NULL)
        return;
    NUMAPERF_ASSERT(loop->hosted);

    numaperf__loop_end_tenants(loop, hosted_turn_and_wait);
    /* uv_loop_close() would hang on the armed poll: first the ring lets go of libuv. */
    loop->closing = true;
    if (loop->ring != NULL)
        hosted_empty_ring(loop);
    uv_close((uv_handle_t *)&loop->keep_alive, hosted_handle_closed);
    /*
     * A close callback may open another handle, so: one round, which also waits for requests in
     * the thread pool, then look again. A whole run would never end with such a handle active.
     */
    do {
        uv_walk(loop->uv, hosted_close_left, NULL);
        (void)uv_run(loop->uv, UV_RUN_ONCE); /* what is left is asked below */
    } while (uv_loop_close(loop->uv) == UV_EBUSY);
    loop->owns_uv = false;
    numaperf__loop_free(loop);
}
