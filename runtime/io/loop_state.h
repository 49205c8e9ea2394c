/* SPDX-License-Identifier: MIT */
/* What the two forms of a loop share: hosted.c and loop.c alone include this. */
#ifndef NUMAPERF_IO_LOOP_STATE_H
#define NUMAPERF_IO_LOOP_STATE_H

#include "base/atomic.h"
#include "base/list.h"
#include "io/loop.h"

#include <uv.h>

#define NUMAPERF__LOOP_RING_ENTRIES 256u
#define NUMAPERF__LOOP_REAP_MAX 512u /* completions a turn, so that tasks get their share */

struct numaperf_loop {
    uv_loop_t *uv;
    uv_loop_t own_uv;
    struct numaperf__ring *ring; /* NULL on epoll */
    int ring_rc;                 /* why there is none; 0: nobody asked for one */
    uint32_t hidden_features;    /* bits 1u << enum numaperf__feature, by tests */
    char backend_reason[160];    /* empty with a ring */
    bool owns_uv;
    bool hosted;
    bool closing;   /* takes no operations any more */
    bool has_dirty; /* a tenant wants its turn */
    struct numaperf__loop_tenant *tenants[NUMAPERF__LOOP_SLOTS];
    struct numaperf__loop_cells own_cells;
    struct numaperf__loop_cells *cells; /* own_cells, or a worker's */
    numaperf_arena_t *arena;            /* of buffers; NULL until it is needed */
    bool owns_arena;
    uint32_t buffer_bytes, buffer_count; /* as configured */

    /* Hosted. */
    uv_async_t keep_alive;
    const struct numaperf__wake *wake;
    struct numaperf__op poll_op; /* on uv_backend_fd() */
    struct numaperf__op wake_op;
    uint64_t wake_count;  /* what wake_op reads */
    bool uv_due;          /* libuv's descriptor was ready */
    const void *prepared; /* first prepare handle of those that have run since the last wait */
    uint64_t polled_ns;   /* on epoll: when libuv last looked */
    uint64_t tick_ns;     /* coarse clock when tasks last had libuv's time refreshed */

    /* User-run. */
    uv_prepare_t submit;
    uv_poll_t completions;
    struct numaperf__wake ring_event; /* registered with the ring */
    _Atomic uintptr_t thread;  /* pthread_self() of who it is bound to, ring enabled; 0: nobody */
    _Atomic int32_t thread_id; /* of the same, by who bound it */
    _Atomic bool running;      /* inside numaperf_loop_run(), or our handles are being closed */
    bool referenced;           /* `completions` keeps the uv loop alive: operations are in flight */
    uint32_t open_handles;     /* of ours, until their close callbacks */
};

/* A loop with its ring, disabled, and its libuv loop. -errno, recorded. */
int numaperf__loop_alloc(const struct numaperf__loop_setup *setup, numaperf_loop_t **out);
/* For a loop whose handles are all closed. */
void numaperf__loop_free(numaperf_loop_t *loop);
/* The kernel refused the ring: a failure, or for AUTO the reason why the loop does without. */
int numaperf__loop_refused(numaperf_loop_t *loop, uint32_t backend, int rc, const char *operation);
/* A loop of the user's is alive as long as something is open on it. */
void numaperf__loop_settle_reference(numaperf_loop_t *loop);
/* Submit and take completions; then what their callbacks asked for, up to `rounds` times in all. */
void numaperf__loop_serve_ring(numaperf_loop_t *loop, unsigned rounds);
/* Have tenants start what callbacks asked for. */
void numaperf__loop_turn_tenants(numaperf_loop_t *loop);
/* Close what hangs on the loop, turning it by `turn` until it is gone, and free it. */
void numaperf__loop_end_tenants(numaperf_loop_t *loop, void (*turn)(numaperf_loop_t *loop));
/* Whether something of the user is open on it. */
bool numaperf__loop_has_busy_tenant(const numaperf_loop_t *loop);
/* Whether that keeps it alive. */
bool numaperf__loop_has_active_tenant(const numaperf_loop_t *loop);

#endif
