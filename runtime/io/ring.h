/* SPDX-License-Identifier: MIT */
/*
 * One io_uring ring and its operation records. Every call but create belongs to the one thread
 * that enabled the ring.
 */
#ifndef NUMAPERF_IO_RING_H
#define NUMAPERF_IO_RING_H

#include <numaperf/cpuset.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct numaperf__ring;

/* What an operation does; the fields it reads stand behind it, `fd` apart. */
enum numaperf__op_kind {
    NUMAPERF__OP_NOP = 1,       /* completes at once */
    NUMAPERF__OP_NOP_ASYNC,     /* a NOP that io-wq runs, so that its worker thread exists */
    NUMAPERF__OP_POLL,          /* once, when `fd` has an event of `poll_events` */
    NUMAPERF__OP_READ,          /* `length` bytes of `fd` to `buffer`; `offset`, or UINT64_MAX */
    NUMAPERF__OP_WRITE,         /* the other way round */
    NUMAPERF__OP_READ_FIXED,    /* the same, `buffer` within registered buffer `group` */
    NUMAPERF__OP_WRITE_FIXED,   /* the same */
    NUMAPERF__OP_READV,         /* `buffer` is struct iovec[`length`]; `offset` */
    NUMAPERF__OP_WRITEV,        /* the same */
    NUMAPERF__OP_ACCEPT,        /* one connection; `flags` of accept4(2) */
    NUMAPERF__OP_ACCEPT_MULTI,  /* as many as come, `more` until an error */
    NUMAPERF__OP_ACCEPT_DIRECT, /* the same to direct descriptors; result is the slot */
    NUMAPERF__OP_RECV,          /* once, to a buffer of ring `group` */
    NUMAPERF__OP_RECV_MULTI,    /* the same as often as there is something */
    NUMAPERF__OP_RECVMSG_MULTI, /* `buffer` is struct msghdr; io_uring_recvmsg_out in the buffer */
    NUMAPERF__OP_SEND,          /* `length` bytes at `buffer`, `flags` of send(2) */
    NUMAPERF__OP_SENDMSG,       /* `buffer` is struct msghdr, `flags` */
    NUMAPERF__OP_SEND_ZC,       /* zero copy, `mask` is IORING_SEND_ZC_* or 0; done twice when it
                                   sends anything, the second time is the notification */
    NUMAPERF__OP_CONNECT,       /* `buffer` is struct sockaddr of `length` bytes */
    NUMAPERF__OP_SHUTDOWN,      /* `flags` is SHUT_* */
    NUMAPERF__OP_CLOSE,         /* `fd`, or a direct descriptor */
    NUMAPERF__OP_OPENAT2,       /* `buffer` is the path, `argument` struct open_how, beneath `fd` */
    NUMAPERF__OP_FSYNC,         /* `flags`: IORING_FSYNC_DATASYNC or 0 */
    NUMAPERF__OP_FALLOCATE,     /* `flags` is the mode; `offset`, `length_64` */
    NUMAPERF__OP_STATX,         /* path `buffer` beneath `fd`; `flags` AT_*, `mask`, `argument` */
    NUMAPERF__OP_USER           /* `fill` makes the request, of `argument` */
};

struct io_uring_sqe;

/*
 * An operation: filled by who submits it, and the kernel's from submit until `done` is called for
 * the last time, which is when `more` is false: once, but for multishot and zero-copy requests.
 * That last `done` may submit it again or free it.
 */
struct numaperf__op {
    void (*done)(struct numaperf__op *op);
    void *buffer;
    union {
        uint64_t offset;
        void (*fill)(struct io_uring_sqe *sqe, void *argument);
    };
    union {
        void *argument;
        uint64_t length_64;
    };
    uint32_t length;
    union {
        uint32_t poll_events;
        uint32_t flags;
    };
    union {
        uint32_t mask;
        uint32_t group; /* buffer ring, or index of a registered buffer */
    };
    int32_t fd;
    int32_t result;     /* of the CQE, for `done` */
    uint32_t cqe_flags; /* the same: IORING_CQE_F_* */
    uint8_t kind;       /* enum numaperf__op_kind */
    bool is_direct;     /* `fd` is a direct descriptor */
    bool more;          /* for `done`: it is called again */
    bool in_flight;
};

struct numaperf__ring_counters {
    uint64_t enters;
    uint64_t completions;
    uint64_t overflows;
};

/* What a ring is made of; all zero but `entries` is one in memory of the kernel. */
struct numaperf__ring_setup {
    uint32_t entries;
    uint32_t hidden;    /* bits 1u << enum numaperf__feature: steps to be left out */
    bool own_memory;    /* in memory of ours, if the kernel can: NO_MMAP */
    bool has_node;      /* bound to `node`; else where this thread runs */
    bool has_sqpoll;    /* a kernel thread on PU `sqpoll_cpu` submits, if the kernel can */
    int32_t node;       /* OS id */
    int32_t sqpoll_cpu; /* OS id */
};

/* How the steps turned out that are not needed: 0, -errno, or that they were not asked for. */
#define NUMAPERF__RING_NOT_ASKED 1
struct numaperf__ring_outcome {
    int own_memory;
    int sqpoll;
    int busy_poll;
    int iowq_affinity;
};

/*
 * Make a ring of `entries` SQEs, disabled: it belongs to the thread that enables it. Steps down
 * flag by flag where the kernel is older. Returns -errno of io_uring_setup when there is none.
 */
int numaperf__ring_create(uint32_t entries, struct numaperf__ring **out);
int numaperf__ring_create_as(const struct numaperf__ring_setup *setup, struct numaperf__ring **out);
void numaperf__ring_destroy(struct numaperf__ring *ring);
int numaperf__ring_enable(struct numaperf__ring *ring);
/* Whether the kernel takes requests, too: one NOP there and back. First of all; 0 or -errno. */
int numaperf__ring_check(struct numaperf__ring *ring);

/* Have waits poll the network device for `limit_us` before they sleep (NAPI, Linux 6.9), and read
 * that back. 0 or -errno. */
int numaperf__ring_busy_poll(struct numaperf__ring *ring, uint32_t limit_us);
/* Note whether the poller, if one was made, is confined to that PU. */
void numaperf__ring_prove_sqpoll(struct numaperf__ring *ring, int32_t cpu);
/* How the steps turned out. */
void numaperf__ring_get_outcome(const struct numaperf__ring *ring,
                                struct numaperf__ring_outcome *out);

/* Signal `event_fd` when completions wait; afterwards numaperf__ring_flush() gets them. */
int numaperf__ring_register_eventfd(struct numaperf__ring *ring, int event_fd);

/* Queue an operation for the next flush or wait; -errno when the SQ cannot be emptied. */
int numaperf__ring_submit(struct numaperf__ring *ring, struct numaperf__op *op);
/* Have an operation that is in flight complete soon, with -ECANCELED or what it reached. */
int numaperf__ring_cancel(struct numaperf__ring *ring, struct numaperf__op *op);
/* The same for everything in flight; does nothing before Linux 5.19. */
int numaperf__ring_cancel_all(struct numaperf__ring *ring);

/* Whether a flush or a reap would do anything; reads memory only. */
bool numaperf__ring_pending(const struct numaperf__ring *ring);
/* Submit what is queued and let the kernel post what is ready; does not wait. 0 or -errno. */
int numaperf__ring_flush(struct numaperf__ring *ring);
/* Submit, and wait for a completion or `timeout_ns`; UINT64_MAX has no limit. A signal is a wake.
 */
int numaperf__ring_wait(struct numaperf__ring *ring, uint64_t timeout_ns);
/* Take up to `max` completions, then call their `done`; returns how many. */
unsigned numaperf__ring_reap(struct numaperf__ring *ring, unsigned max);

/*
 * Confine io-wq to `cpus` with at most `worker_max` bounded workers, force one worker into being
 * and give its thread id, or 0 when none was seen. Before any other request. 0 or -errno.
 */
int numaperf__ring_iowq_confine(struct numaperf__ring *ring, const numaperf_cpuset_t *cpus,
                                unsigned worker_max, int *out_thread_id);
/* Register `cpus` alone, again: for io-wq threads to come. 0 or -errno. */
int numaperf__ring_iowq_affinity(struct numaperf__ring *ring, const numaperf_cpuset_t *cpus);

/* ---- provided buffers and direct descriptors ---- */

/*
 * Register `entries` (a power of two) buffers of `buffer_bytes` each, lying one after another at
 * `base`, as buffer ring `group`; `ring_memory`, a page-aligned 16 bytes an entry, is what is
 * shared. `incremental`: a buffer is filled piece by piece (Linux 6.12). 0 or -errno.
 */
int numaperf__ring_buffers_register(struct numaperf__ring *ring, uint32_t group, void *ring_memory,
                                    uint32_t entries, bool incremental);
int numaperf__ring_buffers_unregister(struct numaperf__ring *ring, uint32_t group);
/* Give buffer `id` to the kernel: visible when `numaperf__ring_buffers_publish` has been called. */
void numaperf__ring_buffers_add(void *ring_memory, uint32_t entries, uint32_t *tail, void *base,
                                uint32_t length, uint16_t id);
void numaperf__ring_buffers_publish(void *ring_memory, uint32_t tail);
/* Whether the CQE of an operation brought a buffer, and which; whether more of it will come. */
bool numaperf__ring_buffer_of(const struct numaperf__op *op, uint16_t *out_id, bool *out_more);

/* `mask` of a zero-copy send whose notification is to say whether bytes were copied:
 * IORING_SEND_ZC_REPORT_USAGE (6.2), which the header of liburing 2.3 lacks. */
#define NUMAPERF__RING_ZERO_COPY_REPORT (1u << 3)
/* Of a zero-copy send: whether this completion is the notification, and whether that says that the
 * bytes were copied all the same. */
bool numaperf__ring_is_notification(const struct numaperf__op *op);
bool numaperf__ring_was_copied(const struct numaperf__op *op);

/* A table of `count` direct descriptors, all free. 0 or -errno. */
int numaperf__ring_direct_register(struct numaperf__ring *ring, uint32_t count);

/* A table of `count` registered buffers, all empty, once; then fill slot `index` (length 0: empty
 * it). 0 or -errno. */
int numaperf__ring_fixed_register(struct numaperf__ring *ring, uint32_t count);
int numaperf__ring_fixed_update(struct numaperf__ring *ring, uint32_t index, void *base,
                                size_t length);

/* Operations submitted and not yet done. */
uint32_t numaperf__ring_in_flight(const struct numaperf__ring *ring);

/* ---- what kernels know ---- */

/*
 * Try what a ring can do, on one made for it on the calling thread: 0 or -errno each, at its index
 * of enum numaperf__feature. -errno when there was no way to try: nothing is known then.
 */
int numaperf__ring_try_features(int *out_results);

/* ---- requests of the user ---- */

#define NUMAPERF__RING_REQUEST_SIZE 64u
/* Have the user fill `request`, of that many bytes. -EINVAL: it has a flag that is not allowed. */
int numaperf__ring_request_fill(void *request, void (*fill)(struct io_uring_sqe *sqe, void *data),
                                void *data);
/* For NUMAPERF__OP_USER: makes the SQE a copy of the request. */
void numaperf__ring_request_copy(struct io_uring_sqe *sqe, void *request);

/* The ring's shared memory: part 0 and 1; false when there is no such part. */
bool numaperf__ring_memory(const struct numaperf__ring *ring, unsigned part, const void **out_base,
                           size_t *out_length);
void numaperf__ring_get_counters(const struct numaperf__ring *ring,
                                 struct numaperf__ring_counters *out);
/* The flags the kernel accepted, IORING_SETUP_*. */
uint32_t numaperf__ring_setup_flags(const struct numaperf__ring *ring);
/* Whether completions are deferred to the thread's own waits (DEFER_TASKRUN). */
bool numaperf__ring_defers(const struct numaperf__ring *ring);
/* Whether a kernel thread submits for it. */
bool numaperf__ring_has_sqpoll(const struct numaperf__ring *ring);
/* Whether its memory is bound to its node by policy, as read back: then it has to stay so. */
bool numaperf__ring_is_bound(const struct numaperf__ring *ring);

#endif
