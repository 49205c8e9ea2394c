/* SPDX-License-Identifier: MIT */
/*
 * Operations of files on the ring: one request after the other until the whole is done.
 *
 * A request that the ring has no room for, and one that says -EAGAIN (since it would have to wait
 * for a descriptor with O_NONBLOCK, or lost a race on its way along a path), goes to the thread
 * pool: there is no busy loop, and an operation that was accepted always ends.
 *
 * Thread rule: the loop's thread.
 *
 * Source: io_uring_enter(2).
 */
#include "base/assert.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>

static void ring_prepare_move(struct numaperf__file_op *op)
{
    static const uint8_t kinds[2][2] = {{NUMAPERF__OP_WRITE, NUMAPERF__OP_WRITE_FIXED},
                                        {NUMAPERF__OP_READ, NUMAPERF__OP_READ_FIXED}};
    struct numaperf__op *ring = &op->via.ring;
    bool is_fixed = op->slot != NUMAPERF__FILE_NO_SLOT;
    ring->kind = kinds[op->kind == NUMAPERF__FILE_READ][is_fixed];
    ring->buffer = op->buffer;
    ring->offset = op->offset;
    ring->length =
        op->length < NUMAPERF__FILE_MOVE_MAX ? (uint32_t)op->length : NUMAPERF__FILE_MOVE_MAX;
    ring->group = is_fixed ? op->slot : 0;
}

static void ring_prepare(struct numaperf__file_op *op)
{
    struct numaperf__op *ring = &op->via.ring;
    switch ((enum numaperf__file_kind)op->kind) {
    case NUMAPERF__FILE_READ:
    case NUMAPERF__FILE_WRITE:
        ring_prepare_move(op);
        break;
    case NUMAPERF__FILE_READV:
    case NUMAPERF__FILE_WRITEV:
        ring->kind = op->kind == NUMAPERF__FILE_READV ? NUMAPERF__OP_READV : NUMAPERF__OP_WRITEV;
        ring->buffer = op->buffer;
        ring->length = (uint32_t)op->length;
        ring->offset = op->offset;
        break;
    case NUMAPERF__FILE_SYNC:
    case NUMAPERF__FILE_DATASYNC:
        ring->kind = NUMAPERF__OP_FSYNC;
        ring->flags = op->kind == NUMAPERF__FILE_DATASYNC ? IORING_FSYNC_DATASYNC : 0;
        break;
    case NUMAPERF__FILE_ALLOCATE:
        ring->kind = NUMAPERF__OP_FALLOCATE;
        ring->flags = op->flags;
        ring->offset = op->offset;
        ring->length_64 = op->length;
        break;
    case NUMAPERF__FILE_STAT:
        ring->kind = NUMAPERF__OP_STATX;
        ring->buffer = (void *)""; /* the descriptor itself; only read */
        ring->flags = AT_EMPTY_PATH;
        ring->mask = op->flags;
        ring->argument = op->buffer;
        break;
    case NUMAPERF__FILE_OPEN:
        ring->kind = NUMAPERF__OP_OPENAT2;
        ring->buffer = op->buffer;
        ring->argument = &op->how;
        break;
    case NUMAPERF__FILE_CLOSE:
        ring->kind = NUMAPERF__OP_CLOSE;
        break;
    default:
        NUMAPERF_ASSERT(false);
    }
}

static void ring_done(struct numaperf__op *ring)
{
    struct numaperf__file_op *op = NUMAPERF_CONTAINER_OF(ring, struct numaperf__file_op, via.ring);
    int32_t result = ring->result;
    op->is_in_ring = false;
    if (result == -EAGAIN) {
        numaperf__file_pool_start(op);
        return;
    }
    /* One that the end of the loop has cancelled says -EINTR: not once more. */
    bool is_cut_off = op->kind == NUMAPERF__FILE_OPEN && op->file->files->is_closing && result < 0;
    if (is_cut_off)
        op->result = -ECANCELED;
    else if (numaperf__file_advance(op, result)) {
        numaperf__file_ring_start(op);
        return;
    }
    numaperf__file_end(op);
}

void numaperf__file_ring_start(struct numaperf__file_op *op)
{
    op->via.ring = (struct numaperf__op){.done = ring_done, .fd = op->fd};
    ring_prepare(op);
    op->is_in_ring = true;
    if (numaperf__loop_submit(op->file->files->loop, &op->via.ring) == 0)
        return;
    op->is_in_ring = false;
    numaperf__file_pool_start(op);
}
