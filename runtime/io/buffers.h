/* SPDX-License-Identifier: MIT */
/*
 * The receive buffers of a loop, in its arena: shared with the kernel as a provided-buffer ring
 * where there is one, else handed out here. Only the loop's thread touches them.
 */
#ifndef NUMAPERF_IO_BUFFERS_H
#define NUMAPERF_IO_BUFFERS_H

#include "io/ring.h"

#include <numaperf/arena.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct numaperf__buffers;
struct numaperf_buffer; /* one of them; the public numaperf_buffer_t */

/* Received bytes: they lie in `buffer`, of which this is one reference. */
struct numaperf__slice {
    struct numaperf_buffer *buffer;
    char *bytes;
    uint32_t length;
};

struct numaperf__buffers_config {
    numaperf_arena_t *arena;
    struct numaperf__ring *ring; /* NULL: no buffer ring, only acquire and commit */
    uint32_t bytes;              /* of each; a power of two */
    uint32_t count;              /* a power of two; 0: as many as suit */
    uint32_t group;              /* id of the buffer ring */
    bool whole;                  /* a receive takes a whole buffer, never a piece */
    void (*on_room)(void *data); /* a buffer is free again after there was none */
    void *data;
};

/* 0 or -errno; NUMAPERF_E_UNSUPPORTED when `ring` has no buffer rings: try without. */
int numaperf__buffers_create(const struct numaperf__buffers_config *config,
                             struct numaperf__buffers **out);
/* All references must be gone. */
void numaperf__buffers_destroy(struct numaperf__buffers *buffers);

/* ---- with a buffer ring ---- */

/* The bytes that a receive brought: a reference. False: the CQE has no buffer. */
bool numaperf__buffers_take(struct numaperf__buffers *buffers, const struct numaperf__op *op,
                            struct numaperf__slice *out);
/* A receive said -ENOBUFS: on_room will be called when there are buffers again, once. */
void numaperf__buffers_await_room(struct numaperf__buffers *buffers);
/* Whether the kernel has a buffer to fill now. */
bool numaperf__buffers_has_room(const struct numaperf__buffers *buffers);

/* ---- without ---- */

/* Room to receive into, at least a quarter of a buffer: a reference. False: there is none, as
 * above. What is not committed is the next one's. */
bool numaperf__buffers_acquire(struct numaperf__buffers *buffers, struct numaperf__slice *out);
/* The first `length` bytes were filled; 0: none, and the reference is given back. */
void numaperf__buffers_commit(struct numaperf__buffers *buffers, struct numaperf__slice *slice,
                              uint32_t length);

/* ---- both ---- */

void numaperf__buffer_ref(struct numaperf_buffer *buffer);
void numaperf__buffer_unref(struct numaperf_buffer *buffer);
/* A reference for the user, who may keep it long; false: half of all are lent already. It is given
 * back with numaperf__buffer_return(). */
bool numaperf__buffer_lend(struct numaperf_buffer *buffer);
void numaperf__buffer_return(struct numaperf_buffer *buffer);
/* Whether bytes lie within it. */
bool numaperf__buffer_contains(const struct numaperf_buffer *buffer, const void *bytes,
                               size_t length);

/* Its id in the buffer ring, and whether pieces of a buffer come one by one. */
uint32_t numaperf__buffers_group(const struct numaperf__buffers *buffers);
bool numaperf__buffers_incremental(const struct numaperf__buffers *buffers);
uint32_t numaperf__buffers_count(const struct numaperf__buffers *buffers);
/* References that are out; for tests and for the end. */
uint32_t numaperf__buffers_used(const struct numaperf__buffers *buffers);

#endif
