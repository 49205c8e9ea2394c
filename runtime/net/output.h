/* SPDX-License-Identifier: MIT */
/*
 * What a connection has to send, in order: copied, borrowed and held pieces. Sent bytes leave from
 * its front; a piece whose memory the kernel still uses after that waits aside.
 */
#ifndef NUMAPERF_NET_OUTPUT_H
#define NUMAPERF_NET_OUTPUT_H

#include "io/buffers.h"

#include <numaperf/arena.h>
#include <numaperf/net.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct numaperf__piece;

struct numaperf__output {
    struct numaperf__piece *first, *last;
    size_t bytes;                       /* of all pieces that have not been sent */
    struct numaperf__piece *held_first; /* sent, but a notification is owed */
    struct numaperf__piece *held_last;
};

void numaperf__output_init(struct numaperf__output *output);

/* Append; all or nothing, -ENOMEM. */
int numaperf__output_copy(struct numaperf__output *output, numaperf_arena_t *arena,
                          const struct iovec *parts, size_t part_count, size_t length);
int numaperf__output_borrow(struct numaperf__output *output, numaperf_arena_t *arena,
                            const void *bytes, size_t length, numaperf_written_fn done, void *data);
int numaperf__output_hold(struct numaperf__output *output, numaperf_arena_t *arena,
                          struct numaperf_buffer *buffer, const void *bytes, size_t length);

/*
 * What a send takes now: up to `max` parts from the front. Pieces of at least `zero_copy_bytes`
 * that are not copies go by themselves: `*out_zero_copy`. Returns the number of parts.
 */
uint32_t numaperf__output_front(const struct numaperf__output *output, struct iovec *parts,
                                uint32_t max, uint32_t zero_copy_bytes, bool *out_zero_copy,
                                size_t *out_length);

/* So many bytes from the front were sent. Pieces that are over call their `done` with 0, unless
 * `keep`: they wait aside for numaperf__output_released(). */
void numaperf__output_sent(struct numaperf__output *output, numaperf_arena_t *arena,
                           numaperf_conn_t *conn, size_t length, bool keep);
/* The kernel is done with what was kept. */
void numaperf__output_released(struct numaperf__output *output, numaperf_arena_t *arena,
                               numaperf_conn_t *conn);
/* Nothing is in flight: drop it all, `done` called with `status`. */
void numaperf__output_drop(struct numaperf__output *output, numaperf_arena_t *arena,
                           numaperf_conn_t *conn, int status);

#endif
