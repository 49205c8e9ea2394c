/* SPDX-License-Identifier: MIT */
/*
 * A libuv loop with an io_uring ring beside it, for a thread the caller owns. A runtime's workers
 * have theirs already: see runtime.h.
 */
#ifndef NUMAPERF_LOOP_H
#define NUMAPERF_LOOP_H

#include <numaperf/arena.h>
#include <numaperf/version.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

NUMAPERF_BEGIN_DECLS

struct io_uring_sqe;
struct uv_handle_s;
struct uv_loop_s;
struct uv_process_s;
struct uv_process_options_s;

/* Bits of numaperf_loop_config_t.flags, and of numaperf_rt_config_t.io_flags. */
enum {
    NUMAPERF_LOOP_SQPOLL = 1u << 0,   /* a kernel thread on the loop's node submits; it takes a PU
                                         while there is I/O: off by default, and refused where a CPU
                                         quota would make the loop pay for it */
    NUMAPERF_LOOP_BUSY_POLL = 1u << 1 /* waits poll the network device (NAPI); off by default */
};

/* Which kernel interface a loop waits in. */
enum {
    NUMAPERF_IO_AUTO = 0, /* io_uring where it works, else epoll with the cause reported */
    NUMAPERF_IO_URING,    /* io_uring, or an error with the cause */
    NUMAPERF_IO_EPOLL     /* plain libuv */
};

typedef struct numaperf_loop numaperf_loop_t;

typedef struct numaperf_loop_config {
    uint32_t size;             /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;            /* NUMAPERF_LOOP_*; an unknown bit is -EINVAL */
    struct uv_loop_s *uv_loop; /* an initialised loop to adopt; NULL: an own one is made */
    uint32_t backend;          /* NUMAPERF_IO_*; 0 is AUTO */
    uint32_t ring_entries;     /* submission entries, at most 32768; 0 is 256 */
    uint32_t buffer_bytes;     /* of a receive buffer of the sockets; 0 is 64 KiB; a power of two */
    uint32_t buffer_count;     /* how many of them; 0: 64 where the kernel fills them piece by
                                  piece, else 256; a power of two, at most 32768 */
} numaperf_loop_config_t;

#define NUMAPERF_LOOP_CONFIG_INIT                        \
    {                                                    \
        sizeof(numaperf_loop_config_t), 0, 0, 0, 0, 0, 0 \
    }

/**
 * Make a loop, or adopt one. `config` may be NULL: an own loop, backend chosen.
 *
 * An adopted loop stays the caller's, with its handles, its options and its `data`.
 *
 * Returns:  0; -EINVAL, also for SQPOLL where a CPU quota or too few PUs make it harmful; -E2BIG;
 *           -ENOMEM; with NUMAPERF_IO_URING the errno that refused the ring.
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

/*
 * What of io_uring a loop uses: NUMAPERF_PROBE_* of <numaperf/capabilities.h>, each found by doing
 * it on the ring itself.
 */
typedef struct numaperf_loop_feature_list {
    uint32_t size;          /* bytes of this struct the caller knows; set by _INIT */
    uint32_t ring;          /* OK; else none of the others is */
    uint32_t defer_taskrun; /* else completions interrupt the thread */
    uint32_t own_memory;    /* NO_MMAP: the ring lies in memory bound to the worker's node, not the
                               kernel's; NUMAPERF_PROBE_NOT_ASKED of a loop without a node */
    uint32_t buffer_ring;   /* provided buffers; else a receive has to be told its buffer */
    uint32_t buffer_incremental; /* a buffer is filled piece by piece */
    uint32_t accept_multishot;
    uint32_t receive_multishot;
    uint32_t send_zero_copy;
    uint32_t direct_descriptors;
    uint32_t message_ring;  /* MSG_RING */
    uint32_t iowq_affinity; /* NUMAPERF_PROBE_NOT_ASKED but on a worker */
    uint32_t busy_poll;     /* NAPI; NUMAPERF_PROBE_NOT_ASKED unless asked for */
    uint32_t sqpoll;        /* the same */
} numaperf_loop_features_t;

#define NUMAPERF_LOOP_FEATURES_INIT                                             \
    {                                                                           \
        sizeof(numaperf_loop_features_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 \
    }

/**
 * What of io_uring the loop uses. Probed once a process and kernel feature.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 * Source:   io_uring_setup(2), io_uring_register(2).
 */
NUMAPERF_API int numaperf_loop_features(const numaperf_loop_t *loop, numaperf_loop_features_t *out);

/**
 * One of them by its number, for who lists them all: its name as in the struct, and its outcome.
 *
 * Returns:  the name, a constant string; NULL when `index` is beyond the last.
 * Threads:  any.
 */
NUMAPERF_API const char *numaperf_loop_feature(const numaperf_loop_features_t *features,
                                               size_t index, uint32_t *out_outcome);

/* Fills a request, all but its user_data. */
typedef void (*numaperf_sqe_fill_fn)(struct io_uring_sqe *sqe, void *data);
/* It completed: `result` and `cqe_flags` of the CQE. The last call has no IORING_CQE_F_MORE. */
typedef void (*numaperf_sqe_done_fn)(int32_t result, uint32_t cqe_flags, void *data);

/**
 * Submit a request of the user's own, for what this library has no call for. It rides the loop's
 * next submission, keeps a loop of the user alive, and is cancelled when the loop closes.
 *
 * `fill` is called once, inside this call; `done` at least once, never inside it. Not allowed,
 * since there would be no completion to account for or others would be held up:
 * IOSQE_CQE_SKIP_SUCCESS, IOSQE_IO_LINK, IOSQE_IO_HARDLINK, IOSQE_IO_DRAIN.
 *
 * Returns:  0; -EINVAL an argument, or such a flag, and nothing is submitted; -EBUSY the kernel is
 *           short of memory; -ENOMEM; NUMAPERF_E_UNSUPPORTED without a ring; NUMAPERF_E_STOPPING.
 * Threads:  owner.
 * Source:   io_uring_enter(2).
 */
NUMAPERF_API int numaperf_loop_sqe(numaperf_loop_t *loop, numaperf_sqe_fill_fn fill,
                                   numaperf_sqe_done_fn done, void *data);

/**
 * The arena that buffers of its sockets and files come from: a worker's own, else one the loop has
 * made on the node of the thread that first used it.
 *
 * Returns:  the arena; NULL for NULL, or before there is one.
 * Owner:    `loop`.
 * Threads:  owner.
 */
NUMAPERF_API numaperf_arena_t *numaperf_loop_arena(numaperf_loop_t *loop);

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
