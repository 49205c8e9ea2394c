/* SPDX-License-Identifier: MIT */
/*
 * Messages of a multishot receive. The lengths in the header say what there was, which may be more
 * than there was room for: each is cut to its part of the buffer.
 *
 * Thread rule: pure, any thread.
 *
 * Source: io_uring_prep_recvmsg_multishot(3).
 */
#include "io/ring_message.h"

#include "io/ring_state.h"

_Static_assert(sizeof(struct io_uring_recvmsg_out) == NUMAPERF__RING_MESSAGE_HEADER,
               "the kernel's header");

static size_t message_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

bool numaperf__ring_message_parse(const void *bytes, size_t length, const struct msghdr *layout,
                                  struct numaperf__message *out)
{
    size_t before =
        NUMAPERF__RING_MESSAGE_HEADER + (size_t)layout->msg_namelen + layout->msg_controllen;
    if (length < before)
        return false;
    const struct io_uring_recvmsg_out *header = bytes;
    const char *name = (const char *)bytes + NUMAPERF__RING_MESSAGE_HEADER;
    const char *control = name + layout->msg_namelen;
    *out = (struct numaperf__message){
        .bytes = control + layout->msg_controllen,
        .length = length - before,
        .from = (const struct sockaddr *)(const void *)name,
        .from_length = (uint32_t)message_least(header->namelen, layout->msg_namelen),
        .control = control,
        .control_length = message_least(header->controllen, layout->msg_controllen),
        .truncated = (header->flags & MSG_TRUNC) != 0,
    };
    return true;
}
