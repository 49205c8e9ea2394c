/* SPDX-License-Identifier: MIT */
/*
 * Requests of the user. They are filled beside the ring, not in it: an SQE that was taken out of
 * the SQ cannot be given back, and one that is half filled would go out with whatever the user's
 * own calls submit meanwhile.
 *
 * Thread rule: the ring's.
 *
 * Source: io_uring_enter(2), "IOSQE_".
 */
#include "io/ring_state.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(struct io_uring_sqe) == NUMAPERF__RING_REQUEST_SIZE, "no SQE128 here");

/* No completion to account for, and what holds up the requests of others. */
#define REQUEST_FORBIDDEN \
    (IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_LINK | IOSQE_IO_HARDLINK | IOSQE_IO_DRAIN)

int numaperf__ring_request_fill(void *request, void (*fill)(struct io_uring_sqe *sqe, void *data),
                                void *data)
{
    struct io_uring_sqe *sqe = request;
    memset(sqe, 0, sizeof(*sqe));
    fill(sqe, data);
    return (sqe->flags & REQUEST_FORBIDDEN) != 0 ? -EINVAL : 0;
}

void numaperf__ring_request_copy(struct io_uring_sqe *sqe, void *request)
{
    memcpy(sqe, request, sizeof(*sqe));
}
