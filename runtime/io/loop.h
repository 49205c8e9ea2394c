/* SPDX-License-Identifier: MIT */
/*
 * A worker's loop: ring first, the libuv loop embedded. See <numaperf/loop.h> for loops that
 * callers run themselves.
 */
#ifndef NUMAPERF_IO_LOOP_H
#define NUMAPERF_IO_LOOP_H

#include "io/ring.h"
#include "io/wake.h"

#include <numaperf/loop.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Turns and waits: on the thread that made the loop, unless said otherwise. */

/* What a loop is made of; all zero but `wake` is a loop with the defaults. */
struct numaperf__loop_setup {
    uint32_t backend;      /* NUMAPERF_IO_* */
    uint32_t flags;        /* NUMAPERF_LOOP_*, checked */
    uint32_t ring_entries; /* 0: the default */
    uint32_t buffer_bytes; /* as in numaperf_loop_config_t, checked */
    uint32_t buffer_count;
    struct uv_loop_s *adopted;         /* to be run by the user; NULL: an own one */
    const struct numaperf__wake *wake; /* of a hosted one: ends its wait, and outlives it */
    int32_t sqpoll_cpu;                /* of the ring's poller, with NUMAPERF_LOOP_SQPOLL */
    int32_t node;                      /* of the ring's memory, with has_node */
    bool has_node;                     /* else the kernel allocates it */
};

/* Whether these may be in a configuration: 0, or -EINVAL, recorded as of `operation`. */
int numaperf__loop_check_setup(const struct numaperf__loop_setup *setup, const char *operation);

/* Make a loop for the calling thread to host. -errno, with the cause recorded. */
int numaperf__loop_create_hosted(const struct numaperf__loop_setup *setup, numaperf_loop_t **out);

/* Serve what is ready, without waiting: completions, then libuv when it has something to do. */
void numaperf__loop_turn(numaperf_loop_t *loop);
/* Before a task, which may start timers: libuv's time is not older than a clock tick. */
void numaperf__loop_refresh_time(numaperf_loop_t *loop);
/* Whether a turn would find I/O; with a ring it reads memory only, else it asks now and then. */
bool numaperf__loop_ready(numaperf_loop_t *loop);
/* Nanoseconds until libuv wants to run; 0 is now, UINT64_MAX never. */
uint64_t numaperf__loop_timeout_ns(numaperf_loop_t *loop);
/* Wait for I/O, a wake, or `timeout_ns`. */
void numaperf__loop_wait(numaperf_loop_t *loop, uint64_t timeout_ns);
/* Close every handle that is left, run until they are gone, and free the loop. */
void numaperf__loop_close_hosted(numaperf_loop_t *loop);

/*
 * Queue a ring operation on either kind of loop; NUMAPERF_E_UNSUPPORTED without a ring,
 * NUMAPERF_E_STOPPING on one that is being closed. What is in flight then ends as cancelled.
 */
int numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);

/* NULL on epoll. */
struct numaperf__ring *numaperf__loop_ring(numaperf_loop_t *loop);

/* ---- what rooms above hang on a loop ---- */

/* Which one: sockets, files, and requests of the user. Each is made at its first use. */
enum numaperf__loop_slot {
    NUMAPERF__LOOP_NET = 0,
    NUMAPERF__LOOP_FILES,
    NUMAPERF__LOOP_USER_SQES,
    NUMAPERF__LOOP_SLOTS
};

/*
 * Embedded first in what is hung on the loop, which calls these on its thread. A loop that ends
 * calls `close` once, turns until `is_closed`, then `destroy`; numaperf_loop_destroy() refuses
 * while `is_busy`.
 */
struct numaperf__loop_tenant {
    /* Before the ring is submitted, and after completions and libuv: start what callbacks asked
     * for. Called only when the tenant has said numaperf__loop_mark_dirty(); may be NULL. */
    void (*turn)(struct numaperf__loop_tenant *tenant);
    void (*close)(struct numaperf__loop_tenant *tenant);
    bool (*is_closed)(const struct numaperf__loop_tenant *tenant);
    bool (*is_busy)(const struct numaperf__loop_tenant *tenant);
    void (*destroy)(struct numaperf__loop_tenant *tenant);
    bool is_dirty;
    bool is_passive; /* what is open on it keeps no loop of the user's alive */
};

/* Who hangs in a slot; NULL: nobody. */
struct numaperf__loop_tenant *numaperf__loop_get_tenant(const numaperf_loop_t *loop,
                                                        enum numaperf__loop_slot slot);
/* Hang it there. NUMAPERF_E_STOPPING on a loop that is being closed; -EBUSY on another thread. */
int numaperf__loop_set_tenant(numaperf_loop_t *loop, enum numaperf__loop_slot slot,
                              struct numaperf__loop_tenant *tenant);
/* Have `turn` called before the loop waits. */
void numaperf__loop_mark_dirty(numaperf_loop_t *loop, struct numaperf__loop_tenant *tenant);

/* Counters of the tenants, read by any thread: a worker's outlive its loop. */
#define NUMAPERF__LOOP_CELLS 24u
struct numaperf__loop_cells {
    _Atomic uint64_t cells[NUMAPERF__LOOP_CELLS];
};
struct numaperf__loop_cells *numaperf__loop_get_cells(const numaperf_loop_t *loop);
/* Before there is a tenant. */
void numaperf__loop_lend_cells(numaperf_loop_t *loop, struct numaperf__loop_cells *cells);

/* The arena of its buffers: the worker's, else an own one, made now. NULL, recorded. */
numaperf_arena_t *numaperf__loop_need_arena(numaperf_loop_t *loop);
/* Lends a hosted loop the worker's. */
void numaperf__loop_lend_arena(numaperf_loop_t *loop, numaperf_arena_t *arena);
/* 0 when the calling thread may use sockets and files of it: the loop is bound to it, now if it
 * was not. -EBUSY, NUMAPERF_E_STOPPING, recorded. */
int numaperf__loop_enter(numaperf_loop_t *loop);
/* As configured, 0 where it was not. */
uint32_t numaperf__loop_buffer_bytes(const numaperf_loop_t *loop);
uint32_t numaperf__loop_buffer_count(const numaperf_loop_t *loop);

/* Make a handle one of ours, see numaperf_loop_owns(): its `data` is taken for that. */
void numaperf__loop_mark(struct uv_handle_s *handle);

/* uv_loop_init(), without the epoll descriptor that libuv 1.44 leaves open when it fails. */
int numaperf__uv_loop_init(struct uv_loop_s *uv);

/*
 * uv_spawn() with the affinity and policy the process was started with; the calling thread has them
 * meanwhile. As uv_spawn().
 */
int numaperf__uv_spawn(struct uv_loop_s *loop, struct uv_process_s *process,
                       const struct uv_process_options_s *options);

/*
 * Have libuv's thread pool exist now, its threads with the affinity and policy the process was
 * started with. 0 or -errno. Threads: one without a loop running on it.
 */
int numaperf__pool_create(void);

#endif
