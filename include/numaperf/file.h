/* SPDX-License-Identifier: MIT */
/*
 * Files on a loop: on the ring where there is one, else in libuv's thread pool, with the same
 * callbacks. A file belongs to one loop; operations on it run at the same time and complete in any
 * order. They keep a loop that its user runs alive; a file that is merely open does not.
 *
 * A file has a position to read and write at. What has none is refused with -ESPIPE when it is
 * opened or adopted: a pipe, a FIFO, a socket, a terminal. Devices whose reads wait for somebody
 * are not for this: the end of a loop waits for reads and writes.
 *
 * Interruptions (EINTR) are not told, the operation goes on. At most NUMAPERF_FILE_IN_FLIGHT_MAX
 * operations of a loop's files run at a time; the thread pool, which is the whole process's, gets
 * 32 of a loop at a time, the others wait for these.
 *
 * A loop that ends, as a worker's does, cancels opens, waits for the other operations, tells all of
 * them, and then closes the files that are left, without a callback. numaperf_loop_destroy() is
 * refused while files are open.
 */
#ifndef NUMAPERF_FILE_H
#define NUMAPERF_FILE_H

#include <numaperf/loop.h>
#include <numaperf/version.h>

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

NUMAPERF_BEGIN_DECLS

struct iovec;
struct statx;

typedef struct numaperf_file numaperf_file_t;

/* Most operations of one loop's files at a time; one more is -EAGAIN. */
enum { NUMAPERF_FILE_IN_FLIGHT_MAX = 32768 };

/* The operation has ended; never called inside the call that began it. */
typedef void (*numaperf_file_fn)(numaperf_file_t *file, int64_t result, void *data);
/* `file` is open; or NULL, and `status` says why. */
typedef void (*numaperf_file_open_fn)(numaperf_file_t *file, int status, void *data);

/* Bits of numaperf_file_open_config_t.flags. */
enum {
    NUMAPERF_FILE_BENEATH = 1u << 0 /* never leave `directory`: no "..", absolute path, or symbolic
                                       link out of it; needs RESOLVE_BENEATH (Linux 5.6) */
};

typedef struct numaperf_file_open_config {
    uint32_t size;          /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;         /* NUMAPERF_FILE_*; an unknown bit is -EINVAL */
    const char *path;       /* copied */
    int32_t open_flags;     /* O_* of open(2); O_CLOEXEC is added, O_NONBLOCK means nothing */
    uint32_t mode;          /* permissions of a file that is made */
    int32_t directory;      /* descriptor that `path` is relative to, when has_directory is 1 */
    uint32_t has_directory; /* 0: relative to the working directory */
} numaperf_file_open_config_t;

#define NUMAPERF_FILE_OPEN_CONFIG_INIT                        \
    {                                                         \
        sizeof(numaperf_file_open_config_t), 0, 0, 0, 0, 0, 0 \
    }

/**
 * Open a file. What the kernel says is told to `opened`, which is called exactly once when this
 * succeeds: 0; -errno; -ESPIPE it has no position; -ECANCELED the loop ended.
 *
 * Returns:  0; -EINVAL; -EBADF directory; -E2BIG; -ENAMETOOLONG; -ENOMEM; -EBUSY the loop is bound
 *           to another thread; NUMAPERF_E_STOPPING.
 * Owner:    the loop, until numaperf_file_close(). `directory` stays open until `opened`.
 * Threads:  owner.
 * Source:   openat2(2).
 */
NUMAPERF_API int numaperf_file_open(numaperf_loop_t *loop,
                                    const numaperf_file_open_config_t *config,
                                    numaperf_file_open_fn opened, void *data);

/**
 * Use an open descriptor, which the file then owns; it stays the caller's when this fails.
 *
 * Returns:  0; -EINVAL; -EBADF; -ESPIPE it has no position; -ENOMEM; -EBUSY the loop is bound to
 *           another thread; NUMAPERF_E_STOPPING.
 * Owner:    the loop, until numaperf_file_close().
 * Threads:  owner.
 * Source:   lseek(2), ESPIPE.
 */
NUMAPERF_API int numaperf_file_adopt(numaperf_loop_t *loop, int fd, numaperf_file_t **out);

/**
 * Read `length` bytes at `offset`. A short read is continued: fewer come only at the end of the
 * file. `result` is the number of bytes, or -errno when none came before the error; an error after
 * some bytes gives their number, and the next read meets it again.
 *
 * One request of the kernel moves 2 GiB less 4096 bytes at most; more is several of them.
 *
 * Returns:  0; -EINVAL; -ENOMEM; -EBADF it is closing; -EAGAIN too many operations of the loop are
 *           in flight; NUMAPERF_E_STOPPING.
 * Owner:    `buffer` is lent until `done`.
 * Threads:  owner.
 * Source:   pread(2).
 */
NUMAPERF_API int numaperf_file_read(numaperf_file_t *file, void *buffer, size_t length,
                                    uint64_t offset, numaperf_file_fn done, void *data);

/**
 * Write `length` bytes at `offset`. A short write is continued; `result` is the number of bytes
 * written, less than `length` only when an error ended it, or -errno when none were. With O_APPEND
 * it goes to the end of the file, whatever `offset` says.
 *
 * Returns:  as numaperf_file_read().
 * Owner:    `buffer` is lent until `done`.
 * Threads:  owner.
 * Source:   pwrite(2).
 */
NUMAPERF_API int numaperf_file_write(numaperf_file_t *file, const void *buffer, size_t length,
                                     uint64_t offset, numaperf_file_fn done, void *data);

/**
 * numaperf_file_read() into several parts, 1 to 1024. The array is copied.
 *
 * Returns:  as numaperf_file_read().
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_file_readv(numaperf_file_t *file, const struct iovec *parts,
                                     size_t part_count, uint64_t offset, numaperf_file_fn done,
                                     void *data);

/**
 * numaperf_file_write() of several parts, 1 to 1024. The array is copied.
 *
 * Returns:  as numaperf_file_read().
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_file_writev(numaperf_file_t *file, const struct iovec *parts,
                                      size_t part_count, uint64_t offset, numaperf_file_fn done,
                                      void *data);

/**
 * Have everything written so far, and what is known about the file, reach the device.
 *
 * Operations that have not ended may be included or not.
 *
 * Returns:  as numaperf_file_read().
 * Threads:  owner.
 * Source:   fsync(2).
 */
NUMAPERF_API int numaperf_file_sync(numaperf_file_t *file, numaperf_file_fn done, void *data);

/**
 * The same without what reading does not need.
 *
 * Returns:  as numaperf_file_read().
 * Threads:  owner.
 * Source:   fdatasync(2).
 */
NUMAPERF_API int numaperf_file_datasync(numaperf_file_t *file, numaperf_file_fn done, void *data);

/**
 * Reserve, or with other modes of fallocate(2) punch out, a range.
 *
 * Returns:  as numaperf_file_read().
 * Threads:  owner.
 * Source:   fallocate(2).
 */
NUMAPERF_API int numaperf_file_allocate(numaperf_file_t *file, int mode, uint64_t offset,
                                        uint64_t length, numaperf_file_fn done, void *data);

/**
 * Facts of the file. `mask`: STATX_* of statx(2).
 *
 * Returns:  as numaperf_file_read().
 * Owner:    `out` is lent until `done`.
 * Threads:  owner.
 * Source:   statx(2).
 */
NUMAPERF_API int numaperf_file_stat(numaperf_file_t *file, uint32_t mask, struct statx *out,
                                    numaperf_file_fn done, void *data);

/**
 * Close it, after the operations that were begun. `done`, which may be NULL, gets what close(2)
 * said, and is the last call; the file is gone when it returns.
 *
 * Returns:  0; -EINVAL; -EBADF it is closing already.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_file_close(numaperf_file_t *file, numaperf_file_fn done, void *data);

/**
 * Its descriptor; not for closing.
 *
 * Returns:  the descriptor; -1 in the callback of its close; -EINVAL for NULL.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_file_fd(const numaperf_file_t *file);

/**
 * What O_DIRECT wants: alignment of memory, and of offset and length. 0 where it cannot be had. The
 * kernel is asked on the spot.
 *
 * Units:    bytes.
 * Returns:  0; -EINVAL; -errno of statx(2); NUMAPERF_E_UNSUPPORTED the kernel cannot tell: the
 *           outputs are then the page and the file system's block, which is safe.
 * Threads:  owner.
 * Source:   statx(2), STATX_DIOALIGN, Linux 6.1.
 */
NUMAPERF_API int numaperf_file_alignment(const numaperf_file_t *file, uint32_t *out_memory,
                                         uint32_t *out_offset);

/**
 * A buffer on the loop's node, at a multiple of 4096, registered with its ring where that works:
 * reads and writes within it spare the kernel looking its pages up. Any other memory works as well.
 * The first 64 of a loop are registered, as far as RLIMIT_MEMLOCK lets them, on Linux 5.19.
 *
 * Returns:  the buffer; NULL with the cause in numaperf_last_error().
 * Owner:    caller, until numaperf_file_buffer_free() or the end of the loop.
 * Threads:  owner.
 * Source:   io_uring_register(2), IORING_REGISTER_BUFFERS2.
 */
NUMAPERF_API void *numaperf_file_buffer_alloc(numaperf_loop_t *loop, size_t length);

/**
 * Give it back, when no operation uses it; NULL is allowed.
 *
 * Threads:  owner.
 */
NUMAPERF_API void numaperf_file_buffer_free(numaperf_loop_t *loop, void *buffer);

NUMAPERF_END_DECLS
#endif
