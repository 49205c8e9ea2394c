/* SPDX-License-Identifier: MIT */
/* What a peer may ask for. Every buffer and queue of the server is bounded by one of these. */
#ifndef EXAMPLES_KV_LIMITS_H
#define EXAMPLES_KV_LIMITS_H

#include <stddef.h>
#include <stdint.h>

#define KV_BULK_MAX ((size_t)512 * 1024)       /* bytes of one argument */
#define KV_ARGS_MAX 4096u                      /* arguments of one command */
#define KV_COMMAND_MAX ((size_t)1024 * 1024)   /* bytes of one command as it is on the wire */
#define KV_INLINE_MAX ((size_t)16 * 1024)      /* bytes of a command given as a plain line */
#define KV_REPLY_MAX ((size_t)8 * 1024 * 1024) /* bytes of one answer */

/* A connection with more than this unanswered is not read until answers have gone out. */
#define KV_UNANSWERED_MAX 1024u /* commands */
#define KV_PENDING_BYTES_MAX                                             \
    ((size_t)1024 * 1024) /* commands, values found and answers together \
                           */

#define KV_INPUT_BYTES \
    ((size_t)16 * 1024) /* for a part of a command; grows up to one, and one receive buffer */
#define KV_OUTPUT_BYTES ((size_t)16 * 1024) /* write buffer; grows up to what an answer needs */
#define KV_BUFFERS_BYTES ((uint64_t)16 * 1024 * 1024) /* receive buffers of a worker */
#define KV_REFUSALS_MAX 64u /* connections of a worker that are told that there are too many */

#endif
