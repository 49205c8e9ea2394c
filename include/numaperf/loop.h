/* SPDX-License-Identifier: MIT */
/*
 * A libuv loop with an io_uring ring beside it, for a thread the caller owns. A runtime's workers
 * have theirs already: see runtime.h.
 */
#ifndef NUMAPERF_LOOP_H
#define NUMAPERF_LOOP_H

#include <numaperf/version.h>

#include <stdbool.h>
#include <stdint.h>

NUMAPERF_BEGIN_DECLS

struct uv_handle_s;
struct uv_loop_s;
struct uv_process_s;
struct uv_process_options_s;

/* Which kernel interface a loop waits in. */
enum {
    NUMAPERF_IO_AUTO = 0, /* io_uring where it works, else epoll with the cause reported */
    NUMAPERF_IO_URING,    /* io_uring, or an error with the cause */
    NUMAPERF_IO_EPOLL     /* plain libuv */
};

typedef struct numaperf_loop numaperf_loop_t;

typedef struct numaperf_loop_config {
    uint32_t size;             /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;            /* none yet; an unknown bit is -EINVAL */
    struct uv_loop_s *uv_loop; /* an initialised loop to adopt; NULL: an own one is made */
    uint32_t backend;          /* NUMAPERF_IO_*; 0 is AUTO */
    uint32_t ring_entries;     /* submission entries, at most 32768; 0 is 256 */
} numaperf_loop_config_t;

#define NUMAPERF_LOOP_CONFIG_INIT                  \
    {                                              \
        sizeof(numaperf_loop_config_t), 0, 0, 0, 0 \
    }

/**
 * Make a loop, or adopt one. `config` may be NULL: an own loop, backend chosen.
 *
 * An adopted loop stays the caller's, with its handles, its options and its `data`.
 *
 * Returns:  0; -EINVAL; -E2BIG; -ENOMEM; with NUMAPERF_IO_URING the errno that refused the ring.
 * Owner:    caller, until numaperf_loop_destroy().
 * Threads:  any.
 * Source:   io_uring_setup(2).
 */
NUMAPERF_API int numaperf_loop_create(const numaperf_loop_config_t *config, numaperf_loop_t **out);

/**
 * The libuv loop, for libuv's own functions.
 *
 * Owner:    `loop`, or who made it when it was adopted.
 * Threads:  any for the pointer; libuv's rules for its use.
 */
NUMAPERF_API struct uv_loop_s *numaperf_loop_uv(numaperf_loop_t *loop);

/**
 * Whether a handle is one of this library's own, so that a uv_walk() leaves it alone.
 *
 * Threads:  owner of the handle's loop.
 */
NUMAPERF_API bool numaperf_loop_owns(const struct uv_handle_s *handle);

/**
 * Run it: exactly uv_run() with that uv_run_mode, its return value, liveness and uv_stop().
 *
 * The first run binds the loop to the calling thread.
 *
 * Returns:  as uv_run(); -EINVAL loop or mode; -EBUSY it is bound to another thread.
 * Threads:  owner.
 * Source:   libuv, "uv_run".
 */
NUMAPERF_API int numaperf_loop_run(numaperf_loop_t *loop, int uv_run_mode);

/**
 * Free the loop; NULL is allowed. An adopted uv loop is left open, without our handles in it;
 * closing them takes a turn of it, in which callbacks of the user that are due run.
 *
 * Returns:  0; -EBUSY while it runs, or handles of the user are open on an own loop, and nothing
 *           was done.
 * Threads:  owner, or any when it will not run any more.
 */
NUMAPERF_API int numaperf_loop_destroy(numaperf_loop_t *loop);

/**
 * What the loop waits in: NUMAPERF_IO_URING or NUMAPERF_IO_EPOLL.
 *
 * Returns:  the backend; -EINVAL for NULL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_loop_backend(const numaperf_loop_t *loop);

/**
 * Why it does not wait in io_uring.
 *
 * Returns:  the reason; NULL when it does.
 * Owner:    `loop`.
 * Threads:  any.
 */
NUMAPERF_API const char *numaperf_loop_backend_reason(const numaperf_loop_t *loop);

/**
 * uv_spawn() for a pinned thread: the child gets the affinity and the memory policy that the
 * process was started with, not those of the thread. The thread's own are put back and checked
 * before this returns.
 *
 * Returns:  as uv_spawn(); -EINVAL.
 * Threads:  owner of `loop`.
 * Source:   sched_setaffinity(2) and set_mempolicy(2), "inherited by the child".
 */
NUMAPERF_API int numaperf_uv_spawn(struct uv_loop_s *loop, struct uv_process_s *process,
                                   const struct uv_process_options_s *options);

NUMAPERF_END_DECLS
#endif
