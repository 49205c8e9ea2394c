/* SPDX-License-Identifier: MIT */
/* What the ring*.c files share: they alone include this, and liburing. */
#ifndef NUMAPERF_IO_RING_STATE_H
#define NUMAPERF_IO_RING_STATE_H

#include "base/atomic.h"
#include "io/ring.h"

#include <numaperf/region.h>

#include <liburing.h>

#define NUMAPERF__RING_REAP_BATCH 64u

struct numaperf__ring_completion {
    struct numaperf__op *op;
    int32_t result;
    uint32_t flags;
};

struct numaperf__ring {
    struct io_uring uring;
    uint32_t setup_flags;
    struct numaperf__ring_outcome outcome;
    numaperf_region_t *memory; /* what it lies in; NULL: memory of the kernel */
    size_t memory_length[2];   /* of rings and SQEs, as the kernel laid them out */
    bool has_sqpoll;           /* a kernel thread submits */
    bool enabled;
    uint32_t in_flight;         /* operations, owner only */
    struct numaperf__op own_op; /* of ring_round_trip(), which it outlives when a wait fails */
    uint32_t batch_next;        /* completions taken out of the CQ and not yet done */
    uint32_t batch_count;
    struct numaperf__ring_completion batch[NUMAPERF__RING_REAP_BATCH];
    _Atomic uint64_t enters;      /* written by the owner */
    _Atomic uint64_t completions; /* written by the owner */
    _Atomic uint64_t overflows;   /* written by the owner */
};

/* ring_setup.c: make `ring` what `setup` says. 0 or -errno. */
int numaperf__ring_setup(struct numaperf__ring *ring, const struct numaperf__ring_setup *setup);
void numaperf__ring_teardown(struct numaperf__ring *ring);

/* ring_prep.c: fill the request of an operation, its user_data included. */
void numaperf__ring_prep(struct io_uring_sqe *sqe, struct numaperf__op *op);

#endif
