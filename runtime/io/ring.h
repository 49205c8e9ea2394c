/* SPDX-License-Identifier: MIT */
/*
 * One io_uring ring and its operation records. Every call but create belongs to the one thread
 * that enabled the ring.
 */
#ifndef NUMAPERF_IO_RING_H
#define NUMAPERF_IO_RING_H

#include "base/list.h"

#include <numaperf/cpuset.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct numaperf__ring;

enum numaperf__op_kind {
    NUMAPERF__OP_NOP = 1,   /* completes at once */
    NUMAPERF__OP_NOP_ASYNC, /* a NOP that io-wq runs, so that its worker thread exists */
    NUMAPERF__OP_POLL,      /* once, when `fd` has an event of `poll_events` */
    NUMAPERF__OP_READ       /* `length` bytes of `fd` to `buffer` */
};

/*
 * An operation: filled by who submits it, and the kernel's from submit until `done` is called,
 * exactly once. `done` may submit it again.
 */
struct numaperf__op {
    struct numaperf__list link; /* in the ring's list between reap and done */
    void (*done)(struct numaperf__op *op);
    void *buffer;
    uint32_t length;
    uint32_t poll_events;
    int32_t fd;
    int32_t result; /* of the CQE, for `done` */
    uint8_t kind;   /* enum numaperf__op_kind */
    bool in_flight;
};

struct numaperf__ring_counters {
    uint64_t enters;
    uint64_t completions;
    uint64_t overflows;
};

/*
 * Make a ring of `entries` SQEs, disabled: it belongs to the thread that enables it. Steps down
 * flag by flag where the kernel is older. Returns -errno of io_uring_setup when there is none.
 */
int numaperf__ring_create(uint32_t entries, struct numaperf__ring **out);
void numaperf__ring_destroy(struct numaperf__ring *ring);
int numaperf__ring_enable(struct numaperf__ring *ring);
/* Whether the kernel takes requests, too: one NOP there and back. First of all; 0 or -errno. */
int numaperf__ring_check(struct numaperf__ring *ring);

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

/* Operations submitted and not yet done. */
uint32_t numaperf__ring_in_flight(const struct numaperf__ring *ring);

/* The ring's shared memory: part 0 and 1; false when there is no such part. */
bool numaperf__ring_memory(const struct numaperf__ring *ring, unsigned part, const void **out_base,
                           size_t *out_length);
void numaperf__ring_get_counters(const struct numaperf__ring *ring,
                                 struct numaperf__ring_counters *out);
/* The flags the kernel accepted, IORING_SETUP_*. */
uint32_t numaperf__ring_setup_flags(const struct numaperf__ring *ring);

#endif
