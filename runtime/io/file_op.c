/* SPDX-License-Identifier: MIT */
/*
 * Operations of files: their records, and what they come to request by request.
 *
 *   free --take--> taken --begin--> in flight --end--> free
 *
 * Records lie in the loop's arena and come from a list of those that were used before, so that a
 * read costs no allocation. Invariant: an operation that was begun ends exactly once, and nothing
 * of it is touched after `done` was called.
 *
 * Thread rule: the loop's thread, but for numaperf__file_advance().
 */
#include "base/assert.h"
#include "io/file.h"

#include <errno.h>
#include <sys/uio.h>

struct numaperf__file_op *numaperf__file_take(struct numaperf_file *file,
                                              enum numaperf__file_kind kind)
{
    struct numaperf__files *files = file->files;
    struct numaperf__file_op *op = files->free_ops;
    if (op != NULL)
        files->free_ops = op->next;
    else
        op = numaperf_arena_alloc(files->arena, sizeof(*op), NUMAPERF__FILE_OP_ALIGN);
    if (op == NULL)
        return NULL;
    op->file = file;
    op->next = NULL;
    op->owned = NULL;
    op->moved = 0;
    op->slot = NUMAPERF__FILE_NO_SLOT;
    op->flags = 0;
    op->tries = 0;
    op->fd = file->fd;
    op->kind = (uint8_t)kind;
    op->is_in_ring = false;
    return op;
}

void numaperf__file_give(struct numaperf__file_op *op)
{
    struct numaperf__files *files = op->file->files;
    if (op->owned != NULL)
        numaperf_arena_free(files->arena, op->owned);
    op->owned = NULL;
    op->next = files->free_ops;
    files->free_ops = op;
}

void numaperf__file_begin(struct numaperf__file_op *op)
{
    struct numaperf_file *file = op->file;
    file->in_flight++;
    file->files->in_flight++;
    if (file->files->has_ring)
        numaperf__file_ring_start(op);
    else
        numaperf__file_pool_start(op);
}

/* ---- one request after the other ---- */

static bool op_moves(const struct numaperf__file_op *op)
{
    return op->kind >= NUMAPERF__FILE_READ && op->kind <= NUMAPERF__FILE_WRITEV;
}

/* Whether the same again may go better: openat2(2) says -EAGAIN when it was raced on its way. */
static bool op_may_retry(const struct numaperf__file_op *op, int64_t result)
{
    if (op->kind == NUMAPERF__FILE_CLOSE)
        return false; /* the descriptor is gone, whatever close(2) says */
    return result == -EINTR || (result == -EAGAIN && op->kind == NUMAPERF__FILE_OPEN);
}

static void op_skip_parts(struct numaperf__file_op *op, size_t count)
{
    struct iovec *part = op->buffer;
    while (op->length > 0 && count >= part->iov_len) {
        count -= part->iov_len;
        part++;
        op->length--;
    }
    if (op->length > 0) {
        part->iov_base = (char *)part->iov_base + count;
        part->iov_len -= count;
    }
    op->buffer = part;
}

static void op_skip(struct numaperf__file_op *op, uint64_t count)
{
    op->moved += (int64_t)count;
    op->offset += count;
    if (op->kind == NUMAPERF__FILE_READV || op->kind == NUMAPERF__FILE_WRITEV) {
        op_skip_parts(op, (size_t)count);
        return;
    }
    NUMAPERF_ASSERT(count <= op->length);
    op->buffer = (char *)op->buffer + count;
    op->length -= count;
}

bool numaperf__file_advance(struct numaperf__file_op *op, int64_t result)
{
    if (result < 0 && op_may_retry(op, result) && op->tries < NUMAPERF__FILE_TRIES_MAX) {
        op->tries++;
        return true;
    }
    if (result > 0 && op_moves(op)) {
        op->tries = 0;
        op_skip(op, (uint64_t)result);
        result = 0;
        if (op->length > 0)
            return true;
    }
    /* An error after some bytes: the next operation meets it again. */
    op->result = op->moved > 0 ? op->moved : result;
    return false;
}

void numaperf__file_end(struct numaperf__file_op *op)
{
    struct numaperf_file *file = op->file;
    NUMAPERF_ASSERT(file->in_flight > 0 && file->files->in_flight > 0);
    file->in_flight--;
    file->files->in_flight--;
    if (op->kind == NUMAPERF__FILE_OPEN) {
        numaperf__file_opened(op);
        return;
    }
    if (op->kind == NUMAPERF__FILE_CLOSE) {
        numaperf__file_closed(op);
        return;
    }
    numaperf_file_fn done = op->done;
    void *data = op->data;
    int64_t result = op->result;
    numaperf__file_give(op);
    numaperf__file_settle(file);
    done(file, result, data);
}
