/* SPDX-License-Identifier: MIT */
/*
 * Provided-buffer rings and direct descriptors: what a ring registers with the kernel for sockets.
 *
 * A buffer ring is memory shared with the kernel, which takes entries from its front; the owner
 * appends and publishes with the tail. The tail lies in a field of the first entry that is
 * otherwise unused, so entries are written field by field.
 *
 * Thread rule: the ring's.
 *
 * Source: io_uring_register(2), IORING_REGISTER_PBUF_RING; io_uring_register_files_sparse(3).
 */
#include "base/assert.h"
#include "io/ring_state.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* What the header of liburing 2.3 lacks. */
#define RING_PBUF_INCREMENTAL 2u       /* IOU_PBUF_RING_INC, 6.12: in what was padding */
#define RING_CQE_BUFFER_MORE (1u << 4) /* IORING_CQE_F_BUF_MORE, 6.12 */

#define RING_NOTIF_COPIED (1u << 31) /* IORING_NOTIF_USAGE_ZC_COPIED, 6.2 */

_Static_assert(sizeof(struct io_uring_buf) == 16, "an entry of the kernel's");
_Static_assert(offsetof(struct io_uring_buf_ring, tail) == 14, "the tail is in the first entry");

int numaperf__ring_buffers_register(struct numaperf__ring *ring, uint32_t group, void *ring_memory,
                                    uint32_t entries, bool incremental)
{
    NUMAPERF_ASSERT(entries > 0 && (entries & (entries - 1)) == 0 && entries <= 32768);

    struct io_uring_buf_ring *shared = ring_memory;
    memset(shared, 0, entries * sizeof(struct io_uring_buf));
    struct io_uring_buf_reg request;
    memset(&request, 0, sizeof(request));
    request.ring_addr = (uint64_t)(uintptr_t)shared;
    request.ring_entries = entries;
    request.bgid = (uint16_t)group;
    request.pad = incremental ? RING_PBUF_INCREMENTAL : 0;
    return io_uring_register_buf_ring(&ring->uring, &request, 0);
}

int numaperf__ring_buffers_unregister(struct numaperf__ring *ring, uint32_t group)
{
    return io_uring_unregister_buf_ring(&ring->uring, (int)group);
}

/* NOLINTNEXTLINE(readability-function-size): three fields of a ring, and of its entry */
void numaperf__ring_buffers_add(void *ring_memory, uint32_t entries, uint32_t *tail, void *base,
                                uint32_t length, uint16_t id)
{
    struct io_uring_buf_ring *shared = ring_memory;
    struct io_uring_buf *entry = &shared->bufs[*tail & (entries - 1)];
    entry->addr = (uint64_t)(uintptr_t)base;
    entry->len = length;
    entry->bid = id;
    (*tail)++;
}

void numaperf__ring_buffers_publish(void *ring_memory, uint32_t tail)
{
    struct io_uring_buf_ring *shared = ring_memory;
    /* Pairs with the kernel's acquire: the entries below are whole. */
    io_uring_smp_store_release(&shared->tail, (uint16_t)tail);
}

bool numaperf__ring_buffer_of(const struct numaperf__op *op, uint16_t *out_id, bool *out_more)
{
    if ((op->cqe_flags & IORING_CQE_F_BUFFER) == 0)
        return false;
    *out_id = (uint16_t)(op->cqe_flags >> IORING_CQE_BUFFER_SHIFT);
    *out_more = (op->cqe_flags & RING_CQE_BUFFER_MORE) != 0;
    return true;
}

bool numaperf__ring_is_notification(const struct numaperf__op *op)
{
    return (op->cqe_flags & IORING_CQE_F_NOTIF) != 0;
}

bool numaperf__ring_was_copied(const struct numaperf__op *op)
{
    return ((uint32_t)op->result & RING_NOTIF_COPIED) != 0;
}

int numaperf__ring_direct_register(struct numaperf__ring *ring, uint32_t count)
{
    return io_uring_register_files_sparse(&ring->uring, count);
}
