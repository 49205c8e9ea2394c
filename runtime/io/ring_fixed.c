/* SPDX-License-Identifier: MIT */
/*
 * Registered buffers: memory whose pages the kernel looks up and holds once, not at every read and
 * write. One sparse table a ring; whoever fills a slot keeps the books.
 *
 * Thread rule: the ring's.
 *
 * Source: io_uring_register(2), IORING_REGISTER_BUFFERS2 and _BUFFERS_UPDATE (Linux 5.13), sparse
 * since 5.19. The pages count against RLIMIT_MEMLOCK unless the process may lock memory.
 */
#include "base/assert.h"
#include "io/ring_state.h"

#include <errno.h>
#include <sys/uio.h>

int numaperf__ring_fixed_register(struct numaperf__ring *ring, uint32_t count)
{
    NUMAPERF_ASSERT(ring->enabled && count > 0);
    return io_uring_register_buffers_sparse(&ring->uring, count);
}

int numaperf__ring_fixed_update(struct numaperf__ring *ring, uint32_t index, void *base,
                                size_t length)
{
    NUMAPERF_ASSERT((base == NULL) == (length == 0));
    const struct iovec entry = {.iov_base = base, .iov_len = length};
    const __u64 no_tag = 0;
    int rc = io_uring_register_buffers_update_tag(&ring->uring, index, &entry, &no_tag, 1);
    if (rc < 0)
        return rc;
    return rc == 1 ? 0 : -EIO; /* the number of slots that were filled */
}
