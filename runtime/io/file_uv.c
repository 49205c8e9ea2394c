/* SPDX-License-Identifier: MIT */
/*
 * Operations of files in libuv's thread pool, for loops without a ring, and for what a ring cannot
 * do at the moment. uv_queue_work() and not uv_fs_*: a thread goes on by itself after a short read
 * or an interruption, and openat2(2) and statx(2) are what a ring would do.
 *
 * All loops of the process share the pool, so a loop gives it a window of operations at a time; the
 * rest waits here, first in, first out.
 *
 * Thread rule: pool_work() and what it calls run on a thread of the pool, which has the record
 * meanwhile and touches nothing else of the loop; everything else on the loop's thread.
 *
 * Source: libuv, "Thread pool work scheduling".
 */
#include "base/assert.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- on a thread of the pool ---- */

static int64_t pool_errno(int64_t rc)
{
    return rc < 0 ? -errno : rc;
}

static int64_t pool_open_as(const struct numaperf__file_op *op, struct open_how *how)
{
    int64_t fd = pool_errno(syscall(SYS_openat2, op->fd, op->buffer, how, sizeof(*how)));
    /* Before 5.6, or behind a filter that does not know it. What holds the path in cannot be done
     * another way. */
    if (fd == -ENOSYS && how->resolve == 0)
        fd = pool_errno(openat(op->fd, op->buffer, (int)how->flags, (mode_t)how->mode));
    return fd;
}

/*
 * First with O_NONBLOCK, as a ring does it: nobody waits for the other end of a FIFO, which is
 * refused afterwards anyway.
 */
static int64_t pool_open(const struct numaperf__file_op *op)
{
    struct open_how how = op->how;
    how.flags |= O_NONBLOCK;
    int64_t fd = pool_open_as(op, &how);
    if (fd != -EAGAIN)
        return fd;
    /* A lease that has to be waited for, or a race on the way. */
    how.flags &= ~(uint64_t)O_NONBLOCK;
    return pool_open_as(op, &how);
}

static size_t pool_length(const struct numaperf__file_op *op)
{
    return op->length < NUMAPERF__FILE_MOVE_MAX ? (size_t)op->length : NUMAPERF__FILE_MOVE_MAX;
}

static int64_t pool_call(struct numaperf__file_op *op)
{
    off_t offset = (off_t)op->offset;
    switch ((enum numaperf__file_kind)op->kind) {
    case NUMAPERF__FILE_OPEN:
        return pool_open(op);
    case NUMAPERF__FILE_READ:
        return pool_errno(pread(op->fd, op->buffer, pool_length(op), offset));
    case NUMAPERF__FILE_WRITE:
        return pool_errno(pwrite(op->fd, op->buffer, pool_length(op), offset));
    case NUMAPERF__FILE_READV:
        return pool_errno(preadv(op->fd, op->buffer, (int)op->length, offset));
    case NUMAPERF__FILE_WRITEV:
        return pool_errno(pwritev(op->fd, op->buffer, (int)op->length, offset));
    case NUMAPERF__FILE_SYNC:
        return pool_errno(fsync(op->fd));
    case NUMAPERF__FILE_DATASYNC:
        return pool_errno(fdatasync(op->fd));
    case NUMAPERF__FILE_ALLOCATE:
        return pool_errno(fallocate(op->fd, (int)op->flags, offset, (off_t)op->length));
    case NUMAPERF__FILE_STAT:
        return pool_errno(statx(op->fd, "", AT_EMPTY_PATH, op->flags, op->buffer));
    case NUMAPERF__FILE_CLOSE:
        return pool_errno(close(op->fd));
    default:
        NUMAPERF_ASSERT(false);
        return -EINVAL;
    }
}

static void pool_work(uv_work_t *work)
{
    struct numaperf__file_op *op = NUMAPERF_CONTAINER_OF(work, struct numaperf__file_op, via.work);
    while (numaperf__file_advance(op, pool_call(op)))
        ;
}

/* ---- on the loop's thread ---- */

static void pool_done(uv_work_t *work, int status);

static void pool_queue(struct numaperf__file_op *op)
{
    struct numaperf__files *files = op->file->files;
    int rc = uv_queue_work(numaperf_loop_uv(files->loop), &op->via.work, pool_work, pool_done);
    NUMAPERF_ASSERT(rc == 0); /* it can refuse a missing function alone */
    files->in_pool++;
}

static void pool_queue_next(struct numaperf__files *files)
{
    struct numaperf__file_op *op = files->waiting;
    if (op == NULL)
        return;
    files->waiting = op->next;
    if (files->waiting == NULL)
        files->waiting_end = &files->waiting;
    op->next = NULL;
    pool_queue(op);
}

static void pool_done(uv_work_t *work, int status)
{
    struct numaperf__file_op *op = NUMAPERF_CONTAINER_OF(work, struct numaperf__file_op, via.work);
    struct numaperf__files *files = op->file->files;
    NUMAPERF_ASSERT(status == 0); /* nobody cancels it */
    NUMAPERF_ASSERT(files->in_pool > 0);
    files->in_pool--;
    pool_queue_next(files);
    numaperf__file_end(op);
}

void numaperf__file_pool_start(struct numaperf__file_op *op)
{
    struct numaperf__files *files = op->file->files;
    if (files->in_pool < NUMAPERF__FILE_POOL_WINDOW) {
        pool_queue(op);
        return;
    }
    op->next = NULL;
    *files->waiting_end = op;
    files->waiting_end = &op->next;
}
