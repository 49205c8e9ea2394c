/* SPDX-License-Identifier: MIT */
/*
 * What a multishot receive of messages writes into a buffer: a header, the sender's address,
 * control data, the payload. `layout` is the msghdr that the request was made with: how much room
 * it gives to the address and to control data.
 */
#ifndef NUMAPERF_IO_RING_MESSAGE_H
#define NUMAPERF_IO_RING_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define NUMAPERF__RING_MESSAGE_HEADER 16u /* bytes before the address */

/* A received message; all lies in the buffer. */
struct numaperf__message {
    const char *bytes;
    size_t length;
    const struct sockaddr *from;
    uint32_t from_length;
    const void *control;
    size_t control_length;
    bool truncated; /* the rest of the payload was lost */
};

/*
 * Of the `length` bytes that a receive brought. False: they are no message. Whatever the header
 * says, nothing in `out` reaches beyond its part of these bytes.
 */
bool numaperf__ring_message_parse(const void *bytes, size_t length, const struct msghdr *layout,
                                  struct numaperf__message *out);

#endif
