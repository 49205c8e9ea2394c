/* SPDX-License-Identifier: MIT */
/*
 * What a connection has to send, in order: copied, borrowed and held pieces. Sent bytes leave from
 * its front. A piece that the kernel still uses after that (zero copy) is pinned, and waits aside.
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
    size_t bytes;                  /* of all pieces that have not been sent */
    struct numaperf__piece *aside; /* sent whole, but pinned */
    numaperf_arena_t *arena;       /* of the pieces */
};

void numaperf__output_init(struct numaperf__output *output, numaperf_arena_t *arena);

/* Append at least one byte; all or nothing, -ENOMEM. */
int numaperf__output_copy(struct numaperf__output *output, const struct iovec *parts,
                          size_t part_count, size_t length);
int numaperf__output_borrow(struct numaperf__output *output, const void *bytes, size_t length,
                            numaperf_written_fn done, void *data);
/* The user's loan becomes the output's. */
int numaperf__output_hold(struct numaperf__output *output, struct numaperf_buffer *buffer,
                          const void *bytes, size_t length);

/* What one send takes. */
struct numaperf__output_front {
    struct numaperf__piece *zero_copy; /* one piece that goes by itself, to be pinned; or NULL */
    uint32_t part_count;
    size_t length;
};

/*
 * Up to `max` parts from the front, which is not empty. A piece of at least `zero_copy_bytes` left
 * that is no copy goes by itself.
 */
void numaperf__output_front(const struct numaperf__output *output, uint32_t zero_copy_bytes,
                            struct iovec *parts, uint32_t max, struct numaperf__output_front *out);

/* So many bytes from the front were sent. Pieces that are over and not pinned call their `done`
 * with 0 and are gone; that may append. */
void numaperf__output_sent(struct numaperf__output *output, numaperf_conn_t *conn, size_t length);
/* The kernel uses a piece's memory beyond the send, or does so no more. */
void numaperf__piece_pin(struct numaperf__piece *piece);
void numaperf__output_unpin(struct numaperf__output *output, numaperf_conn_t *conn,
                            struct numaperf__piece *piece);
/* Nothing is in flight or pinned: drop it all, `done` called with `status`. */
void numaperf__output_drop(struct numaperf__output *output, numaperf_conn_t *conn, int status);

/* Assert that it is consistent; for tests. */
void numaperf__output_validate(const struct numaperf__output *output);

#endif
