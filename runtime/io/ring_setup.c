/* SPDX-License-Identifier: MIT */
/*
 * How a ring is made and unmade: flags, and the memory it lies in. What an older kernel does not
 * have is left out, one step at a time: a polling thread, memory of our own, deferred completions,
 * and so on down to the oldest ring that can be waited in.
 *
 * Memory of our own (IORING_SETUP_NO_MMAP) is a region on the ring's node; the kernel pins its
 * pages until the ring is gone. liburing 2.3 has no function for that: struct io_uring is filled
 * here, as it would be from the kernel's mappings, and not given to io_uring_queue_exit(), which
 * would unmap it.
 *
 * Thread rule: create on any thread, all else on the ring's.
 *
 * Source: io_uring_setup(2), io_uring_register(2).
 */
#include "base/assert.h"
#include "base/error.h"
#include "io/features.h"
#include "io/ring_state.h"
#include "io/sqpoll.h"
#include "place/range.h"
#include "place/region.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define RING_CQ_FACTOR                                                         \
    8u /* CQEs an SQE: multishot requests complete more often than they submit \
        */
#define RING_ENTRIES_MAX 32768u
#define RING_HEADER_BYTES 1024u /* before the CQEs; the kernel's takes half of that at most */
#define RING_SQPOLL_IDLE_MS 50u /* without requests, until its thread sleeps */

/* What the header of liburing 2.3 lacks, by number. */
#define RING_SETUP_NO_MMAP (1u << 14)    /* 6.5 */
#define RING_SETUP_NO_SQARRAY (1u << 16) /* 6.6 */
#define RING_REGISTER_NAPI 27u           /* 6.9 */

#define RING_FLAGS_NEWEST                                                                  \
    (IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG | \
     IORING_SETUP_SUBMIT_ALL | IORING_SETUP_R_DISABLED)
/* A thread that polls takes the completions' work on itself: nothing is deferred to ours. */
#define RING_FLAGS_SQPOLL \
    (IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_R_DISABLED)

static const uint32_t ring_flag_steps[] = {
    RING_FLAGS_NEWEST, /* 6.1 */
    /* 5.19 */
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL |
        IORING_SETUP_R_DISABLED,
    /* 5.18 */
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_R_DISABLED,
    /* 5.11, for timeouts in enter */
    IORING_SETUP_R_DISABLED,
};

/* IORING_REGISTER_NAPI's argument; what was set comes back in it. */
struct ring_napi {
    uint32_t busy_poll_us;
    uint8_t prefer_busy_poll;
    uint8_t reserved[3];
    uint64_t reserved_too;
};
_Static_assert(sizeof(struct ring_napi) == 16, "the kernel's struct io_uring_napi");
_Static_assert(sizeof(struct io_sqring_offsets) == 40, "its last field is an address, since 6.5");
_Static_assert(sizeof(struct io_cqring_offsets) == 40, "the same");

static bool ring_hides(const struct numaperf__ring_setup *setup, enum numaperf__feature feature)
{
    return (setup->hidden & 1u << feature) != 0;
}

static void ring_params(const struct numaperf__ring_setup *setup, uint32_t flags,
                        struct io_uring_params *out)
{
    memset(out, 0, sizeof(*out));
    out->flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    out->cq_entries = setup->entries * RING_CQ_FACTOR;
    if ((flags & IORING_SETUP_SQPOLL) != 0) {
        out->sq_thread_cpu = (uint32_t)setup->sqpoll_cpu;
        out->sq_thread_idle = RING_SQPOLL_IDLE_MS;
    }
}

/* Too old a kernel cannot wait with a timeout, or may drop completions. */
static bool ring_suits(const struct io_uring_params *params)
{
    const uint32_t wanted = IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_SINGLE_MMAP;
    return (params->features & wanted) == wanted;
}

static void ring_note(struct numaperf__ring *ring, const struct io_uring_params *params)
{
    ring->setup_flags = params->flags;
    ring->has_sqpoll = (params->flags & IORING_SETUP_SQPOLL) != 0;
    ring->memory_length[1] = params->sq_entries * sizeof(struct io_uring_sqe);
}

/* ---- in memory of the kernel ---- */

static int ring_setup_mapped(struct numaperf__ring *ring, const struct numaperf__ring_setup *setup,
                             uint32_t flags)
{
    struct io_uring_params params;
    ring_params(setup, flags, &params);
    int rc = io_uring_queue_init_params(setup->entries, &ring->uring, &params);
    if (rc < 0)
        return rc;
    if (!ring_suits(&params)) {
        io_uring_queue_exit(&ring->uring);
        return -ENOSYS;
    }
    ring_note(ring, &params);
    ring->memory_length[0] = ring->uring.sq.ring_sz;
    return 0;
}

/* ---- in memory of our own ---- */

static uint32_t ring_power_of_two(uint32_t number, uint32_t max)
{
    uint32_t power = 1;
    while (power < number && power < max)
        power *= 2;
    return power;
}

/* Where SQEs end and the rings begin: on a page. */
static size_t ring_sqes_length(const struct numaperf__ring_setup *setup)
{
    size_t page = numaperf__page_bytes();
    size_t length =
        ring_power_of_two(setup->entries, RING_ENTRIES_MAX) * sizeof(struct io_uring_sqe);
    return (length + page - 1) / page * page;
}

static int ring_map_own(const struct numaperf__ring_setup *setup, numaperf_region_t **out)
{
    uint64_t sqes = ring_power_of_two(setup->entries, RING_ENTRIES_MAX);
    uint64_t cqes = ring_power_of_two(setup->entries * RING_CQ_FACTOR, 2 * RING_ENTRIES_MAX);
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = ring_sqes_length(setup) + RING_HEADER_BYTES +
                    cqes * sizeof(struct io_uring_cqe) + sqes * sizeof(uint32_t);
    config.huge_pages = NUMAPERF_HUGE_NONE;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    if (setup->has_node) {
        config.policy = NUMAPERF_MEM_BIND;
        config.nodes = numaperf_nodemask_single(setup->node);
    }
    /* Soft: what counts is what is read back of the ring when it is there. */
    numaperf_error_t before = *numaperf_last_error();
    int rc = numaperf_region_create(&config, out);
    if (rc < 0 && before.code < 0)
        (void)numaperf__fail_copy(&before); /* no failure of the ring: it has the kernel's memory */
    return rc;
}

/* The kernel's fields of the SQ, which lies behind the SQEs. */
static void ring_point_sq(struct numaperf__ring *ring, const struct io_uring_params *params,
                          char *sqes, char *rings)
{
    struct io_uring_sq *sq = &ring->uring.sq;
    const struct io_sqring_offsets *at = &params->sq_off;
    sq->khead = (unsigned *)(void *)(rings + at->head);
    sq->ktail = (unsigned *)(void *)(rings + at->tail);
    sq->kring_mask = (unsigned *)(void *)(rings + at->ring_mask);
    sq->kring_entries = (unsigned *)(void *)(rings + at->ring_entries);
    sq->kflags = (unsigned *)(void *)(rings + at->flags);
    sq->kdropped = (unsigned *)(void *)(rings + at->dropped);
    sq->array = NULL; /* NO_SQARRAY: entries are taken as they lie */
    sq->sqes = (struct io_uring_sqe *)(void *)sqes;
    sq->ring_ptr = rings;
    sq->ring_sz = ring->memory_length[0];
    sq->ring_entries = params->sq_entries;
    sq->ring_mask = params->sq_entries - 1;
}

static void ring_point_cq(struct numaperf__ring *ring, const struct io_uring_params *params,
                          char *rings)
{
    struct io_uring_cq *cq = &ring->uring.cq;
    const struct io_cqring_offsets *at = &params->cq_off;
    cq->khead = (unsigned *)(void *)(rings + at->head);
    cq->ktail = (unsigned *)(void *)(rings + at->tail);
    cq->kring_mask = (unsigned *)(void *)(rings + at->ring_mask);
    cq->kring_entries = (unsigned *)(void *)(rings + at->ring_entries);
    cq->kflags = at->flags != 0 ? (unsigned *)(void *)(rings + at->flags) : NULL;
    cq->koverflow = (unsigned *)(void *)(rings + at->overflow);
    cq->cqes = (struct io_uring_cqe *)(void *)(rings + at->cqes);
    cq->ring_ptr = rings;
    cq->ring_sz = ring->memory_length[0];
    cq->ring_entries = params->cq_entries;
    cq->ring_mask = params->cq_entries - 1;
}

/* The address goes where older headers have a reserved field: last in both structs. */
static void ring_pass_address(void *offsets, size_t size, const void *address)
{
    uint64_t value = (uint64_t)(uintptr_t)address;
    memcpy((char *)offsets + size - sizeof(value), &value, sizeof(value));
}

static int ring_setup_own(struct numaperf__ring *ring, const struct numaperf__ring_setup *setup,
                          uint32_t flags)
{
    numaperf_region_t *memory = NULL;
    int rc = ring_map_own(setup, &memory);
    if (rc < 0)
        return rc;
    char *sqes = numaperf_region_data(memory);
    char *rings = sqes + ring_sqes_length(setup);
    size_t room = numaperf_region_length(memory) - ring_sqes_length(setup);

    struct io_uring_params params;
    ring_params(setup, flags | RING_SETUP_NO_MMAP | RING_SETUP_NO_SQARRAY, &params);
    ring_pass_address(&params.sq_off, sizeof(params.sq_off), sqes);
    ring_pass_address(&params.cq_off, sizeof(params.cq_off), rings);
    int fd = io_uring_setup(setup->entries, &params);
    if (fd < 0) {
        numaperf_region_destroy(memory);
        return fd;
    }
    ring_note(ring, &params);
    ring->memory = memory;
    ring->memory_length[0] = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    NUMAPERF_ASSERT(ring_suits(&params)); /* the flags are younger */
    NUMAPERF_ASSERT(ring->memory_length[0] <= room);
    NUMAPERF_ASSERT(ring->memory_length[1] <= ring_sqes_length(setup));
    ring_point_sq(ring, &params, sqes, rings);
    ring_point_cq(ring, &params, rings);
    ring->uring.flags = params.flags;
    ring->uring.features = params.features;
    ring->uring.ring_fd = fd;
    ring->uring.enter_ring_fd = fd;
    return 0;
}

/* ---- step by step ---- */

/* One step: in our memory if that is wanted and works, else in the kernel's. */
static int ring_step(struct numaperf__ring *ring, const struct numaperf__ring_setup *setup,
                     uint32_t flags)
{
    if (setup->own_memory) {
        ring->outcome.own_memory = ring_hides(setup, NUMAPERF__FEATURE_OWN_MEMORY)
                                       ? -EINVAL
                                       : ring_setup_own(ring, setup, flags);
        if (ring->outcome.own_memory == 0)
            return 0;
    }
    return ring_setup_mapped(ring, setup, flags);
}

int numaperf__ring_setup(struct numaperf__ring *ring, const struct numaperf__ring_setup *setup)
{
    ring->outcome = (struct numaperf__ring_outcome){.own_memory = NUMAPERF__RING_NOT_ASKED,
                                                    .sqpoll = NUMAPERF__RING_NOT_ASKED,
                                                    .busy_poll = NUMAPERF__RING_NOT_ASKED,
                                                    .iowq_affinity = NUMAPERF__RING_NOT_ASKED};
    if (setup->has_sqpoll) {
        ring->outcome.sqpoll = ring_step(ring, setup, RING_FLAGS_SQPOLL);
        if (ring->outcome.sqpoll == 0)
            return 0;
    }
    int rc = -EINVAL;
    if (!ring_hides(setup, NUMAPERF__FEATURE_DEFER_TASKRUN))
        rc = ring_step(ring, setup, ring_flag_steps[0]);
    for (size_t i = 1; rc == -EINVAL && i < sizeof(ring_flag_steps) / sizeof(ring_flag_steps[0]);
         i++)
        rc = ring_setup_mapped(ring, setup, ring_flag_steps[i]);
    return rc;
}

int numaperf__ring_busy_poll(struct numaperf__ring *ring, uint32_t limit_us)
{
    struct ring_napi wanted = {.busy_poll_us = limit_us};
    struct ring_napi found = wanted;
    unsigned fd = (unsigned)ring->uring.ring_fd;
    int rc = io_uring_register(fd, RING_REGISTER_NAPI, &wanted, 1);
    /* The call gives back what was set before: a second one tells of the first. */
    if (rc >= 0)
        rc = io_uring_register(fd, RING_REGISTER_NAPI, &found, 1);
    if (rc >= 0 && found.busy_poll_us != limit_us)
        rc = -EIO;
    ring->outcome.busy_poll = rc < 0 ? rc : 0;
    return ring->outcome.busy_poll;
}

void numaperf__ring_prove_sqpoll(struct numaperf__ring *ring, int32_t cpu)
{
    if (ring->outcome.sqpoll == 0)
        ring->outcome.sqpoll = numaperf__sqpoll_prove(cpu);
}

void numaperf__ring_get_outcome(const struct numaperf__ring *ring,
                                struct numaperf__ring_outcome *out)
{
    *out = ring->outcome;
}

bool numaperf__ring_defers(const struct numaperf__ring *ring)
{
    return (ring->setup_flags & IORING_SETUP_DEFER_TASKRUN) != 0;
}

bool numaperf__ring_has_sqpoll(const struct numaperf__ring *ring)
{
    return ring->has_sqpoll;
}

bool numaperf__ring_is_bound(const struct numaperf__ring *ring)
{
    return ring->memory != NULL && numaperf_is_strict(numaperf_region_enforcement(ring->memory));
}

void numaperf__ring_teardown(struct numaperf__ring *ring)
{
    if (ring->memory == NULL) {
        io_uring_queue_exit(&ring->uring);
        return;
    }
    int rc = close(ring->uring.ring_fd);
    NUMAPERF_ASSERT(rc == 0);
    /* The kernel has its own hold on the pages until it is done with them. */
    numaperf_region_destroy(ring->memory);
    ring->memory = NULL;
}
