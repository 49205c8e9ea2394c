/* SPDX-License-Identifier: MIT */
/*
 * Files on a kernel that does what kernels may: moves less than it was asked for, is interrupted,
 * would have to wait, fails half way, has no room. Each case runs on the ring and in the pool, and
 * what it says is said to both: requests of the ring are cut or replaced before they are queued,
 * calls of the pool's threads in their wrappers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "io/file.h"
#include "support/file_case.h"

#include <stdatomic.h>
#include <sys/uio.h>

#define SIZE 10000u
#define PASS INT64_MIN /* the kernel answers */

/* ---- what is answered ---- */

/* Written before an operation begins, read on a thread of the pool, too. */
static struct {
    size_t piece_max;   /* no request moves more; 0: no limit */
    int64_t answer;     /* said to requests instead of asking the kernel; PASS: none */
    int64_t after;      /* so many requests pass first */
    int64_t times;      /* so many requests get it, then they pass again */
    bool moves_all;     /* nothing is moved, and all of it is said to be */
    bool ring_is_full;  /* the ring takes nothing */
    atomic_llong calls; /* requests so far */
    atomic_ullong longest;
} kernel;

static void kernel_reset(void)
{
    memset(&kernel, 0, sizeof(kernel));
    kernel.answer = PASS;
}

/* What the next request, of `length` bytes, is told; or PASS. */
static int64_t kernel_answer(uint64_t length)
{
    int64_t call = atomic_fetch_add(&kernel.calls, 1);
    if (length > atomic_load(&kernel.longest))
        atomic_store(&kernel.longest, length);
    if (kernel.moves_all)
        return (int64_t)length;
    bool is_meant = call >= kernel.after && call < kernel.after + kernel.times;
    return is_meant ? kernel.answer : PASS;
}

static size_t kernel_piece(size_t length)
{
    return kernel.piece_max != 0 && length > kernel.piece_max ? kernel.piece_max : length;
}

/* ---- to the pool ---- */

static unsigned pool_queued; /* by the loop's thread */
static unsigned pool_most;
static struct numaperf__files *pool_files;

int __real_uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb run, uv_after_work_cb after);
int __wrap_uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb run, uv_after_work_cb after);
int __wrap_uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb run, uv_after_work_cb after)
{
    pool_queued++;
    if (pool_files != NULL && pool_files->in_pool + 1 > pool_most)
        pool_most = pool_files->in_pool + 1;
    return __real_uv_queue_work(loop, work, run, after);
}

static int64_t kernel_say(int64_t answer)
{
    errno = answer < 0 ? (int)-answer : 0;
    return answer < 0 ? -1 : answer;
}

ssize_t __real_pread(int fd, void *bytes, size_t length, off_t offset);
ssize_t __wrap_pread(int fd, void *bytes, size_t length, off_t offset);
ssize_t __wrap_pread(int fd, void *bytes, size_t length, off_t offset)
{
    int64_t answer = kernel_answer(length);
    return answer != PASS ? kernel_say(answer)
                          : __real_pread(fd, bytes, kernel_piece(length), offset);
}

ssize_t __real_pwrite(int fd, const void *bytes, size_t length, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t length, off_t offset);
ssize_t __wrap_pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    int64_t answer = kernel_answer(length);
    return answer != PASS ? kernel_say(answer)
                          : __real_pwrite(fd, bytes, kernel_piece(length), offset);
}

ssize_t __real_preadv(int fd, const struct iovec *parts, int count, off_t offset);
ssize_t __wrap_preadv(int fd, const struct iovec *parts, int count, off_t offset);
ssize_t __wrap_preadv(int fd, const struct iovec *parts, int count, off_t offset)
{
    int64_t answer = kernel_answer(parts->iov_len);
    if (answer != PASS)
        return kernel_say(answer);
    if (kernel.piece_max == 0 || parts->iov_len == 0)
        return __real_preadv(fd, parts, count, offset);
    return __real_pread(fd, parts->iov_base, kernel_piece(parts->iov_len), offset);
}

ssize_t __real_pwritev(int fd, const struct iovec *parts, int count, off_t offset);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t offset);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    int64_t answer = kernel_answer(parts->iov_len);
    if (answer != PASS)
        return kernel_say(answer);
    if (kernel.piece_max == 0 || parts->iov_len == 0)
        return __real_pwritev(fd, parts, count, offset);
    return __real_pwrite(fd, parts->iov_base, kernel_piece(parts->iov_len), offset);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    int64_t answer = kernel_answer(0);
    return answer != PASS ? (int)kernel_say(answer) : __real_fsync(fd);
}

/* ---- to the ring ---- */

static uint64_t ring_kinds; /* bit k: an operation of kind k was submitted */
static void (*ring_done)(struct numaperf__op *op);
static int64_t ring_answer; /* of the one request that is replaced */

static void ring_replaced(struct numaperf__op *op)
{
    op->result = (int32_t)ring_answer;
    ring_done(op);
}

static void ring_cut(struct numaperf__op *op, int64_t answer)
{
    bool is_vector = op->kind == NUMAPERF__OP_READV || op->kind == NUMAPERF__OP_WRITEV;
    if (answer != PASS) {
        op->kind = NUMAPERF__OP_NOP;
        ring_done = op->done;
        ring_answer = answer;
        op->done = ring_replaced;
    } else if (!is_vector) {
        op->length = (uint32_t)kernel_piece(op->length);
    } else if (kernel.piece_max != 0 && ((const struct iovec *)op->buffer)->iov_len != 0) {
        const struct iovec *part = op->buffer;
        op->kind = op->kind == NUMAPERF__OP_READV ? NUMAPERF__OP_READ : NUMAPERF__OP_WRITE;
        op->length = (uint32_t)kernel_piece(part->iov_len);
        op->buffer = part->iov_base;
    }
}

int __real_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op)
{
    ring_kinds |= UINT64_C(1) << op->kind;
    if (kernel.ring_is_full)
        return -EBUSY;
    if ((op->kind >= NUMAPERF__OP_READ && op->kind <= NUMAPERF__OP_WRITEV) ||
        op->kind == NUMAPERF__OP_FSYNC)
        ring_cut(op, kernel_answer(op->length));
    return __real_numaperf__loop_submit(loop, op);
}

/* ---- memory ---- */

static int arena_left; /* allocations until one fails; < 0: none does */

void *__real_numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align);
void *__wrap_numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align);
void *__wrap_numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align)
{
    if (arena_left == 0) {
        (void)numaperf__fail(-ENOMEM, ENOMEM, "arena", "the limit is reached");
        return NULL;
    }
    if (arena_left > 0)
        arena_left--;
    return __real_numaperf_arena_alloc(arena, size, align);
}

/* ---- cases ---- */

struct faulty {
    struct file_fixture *fixture;
    numaperf_file_t *file;
    char bytes[SIZE]; /* of the file */
    char read[SIZE];
};

static struct faulty faulty;

static struct faulty *faulty_open(void **state)
{
    kernel_reset();
    arena_left = -1;
    faulty.fixture = file_fixture_open(state);
    file_make(faulty.fixture, "data", SIZE);
    file_fill(faulty.bytes, SIZE, 0);
    memset(faulty.read, 0, SIZE);
    faulty.file = file_open(faulty.fixture, "data", O_RDWR);
    pool_queued = 0;
    ring_kinds = 0;
    kernel_reset();
    return &faulty;
}

static void faulty_close(void)
{
    kernel_reset();
    file_close(faulty.fixture, faulty.file);
    pool_files = NULL;
    file_fixture_close(faulty.fixture);
}

static void file_short_transfers_are_continued(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    static const size_t pieces[] = {7, 4096, SIZE - 1};
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        char wrote[SIZE];
        file_fill(wrote, SIZE, (unsigned)i + 1);
        kernel.piece_max = pieces[i];
        kernel.calls = 0;
        assert_int_equal(FILE_WRITE(faulty.file, wrote, SIZE, 50), SIZE);
        assert_int_equal(kernel.calls, (SIZE + pieces[i] - 1) / pieces[i]);
        assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 50), SIZE);
        assert_memory_equal(faulty.read, wrote, SIZE);
        /* Up to the end, then once more, to see that it is the end. */
        assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 1050), SIZE - 1000);
        assert_memory_equal(faulty.read, wrote + 1000, SIZE - 1000);
    }
    faulty_close();
}

static void file_short_transfers_of_parts_are_continued(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    static const size_t lengths[] = {0, 1, 0, 0, 3000, 13, 0, 999, 0};
    enum { COUNT = sizeof(lengths) / sizeof(lengths[0]), SUM = 4013 };
    char wrote[SUM];
    struct iovec parts[2][COUNT];
    size_t at = 0;
    for (size_t i = 0; i < COUNT; i++) {
        parts[0][i] = (struct iovec){.iov_base = wrote + at, .iov_len = lengths[i]};
        parts[1][i] = (struct iovec){.iov_base = faulty.read + at, .iov_len = lengths[i]};
        at += lengths[i];
    }
    file_fill(wrote, SUM, 1);
    kernel.piece_max = 10;
    assert_int_equal(FILE_RESULT(numaperf_file_writev(faulty.file, parts[0], COUNT, 3, FILE_TOLD)),
                     SUM);
    assert_int_equal(FILE_RESULT(numaperf_file_readv(faulty.file, parts[1], COUNT, 3, FILE_TOLD)),
                     SUM);
    assert_memory_equal(faulty.read, wrote, SUM);
    assert_int_equal(
        FILE_RESULT(numaperf_file_readv(faulty.file, parts[1], COUNT, SIZE - 2000, FILE_TOLD)),
        2000);
    assert_memory_equal(faulty.read, faulty.bytes + SIZE - 2000, 2000);
    faulty_close();
}

static void file_interruptions_are_not_told(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    kernel.answer = -EINTR;
    kernel.times = 50;
    assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 0), SIZE);
    assert_memory_equal(faulty.read, faulty.bytes, SIZE);
    assert_int_equal(kernel.calls, 51);
    kernel.calls = 0;
    assert_int_equal(FILE_RESULT(numaperf_file_sync(faulty.file, FILE_TOLD)), 0);
    assert_int_equal(kernel.calls, 51);
    /* Not for ever. */
    kernel.calls = 0;
    kernel.times = INT64_MAX;
    assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 0), -EINTR);
    assert_int_equal(kernel.calls, NUMAPERF__FILE_TRIES_MAX + 1);
    faulty_close();
}

static void file_error_after_some_bytes_gives_their_number(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    kernel.piece_max = 1000;
    kernel.after = 3;
    kernel.times = INT64_MAX - 3;
    kernel.answer = -EIO;
    assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 0), 3000);
    assert_memory_equal(faulty.read, faulty.bytes, 3000);
    assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 3000), -EIO);
    kernel.calls = 0;
    assert_int_equal(FILE_WRITE(faulty.file, faulty.bytes, SIZE, 0), 3000);
    assert_int_equal(FILE_WRITE(faulty.file, faulty.bytes, SIZE, 3000), -EIO);
    /* A write that moves nothing and tells no error does not go on for ever. */
    kernel.calls = 0;
    kernel.answer = 0;
    assert_int_equal(FILE_WRITE(faulty.file, faulty.bytes, SIZE, 0), 3000);
    faulty_close();
}

static void file_requests_are_as_long_as_the_kernel_takes(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    const size_t length = (size_t)5 << 30;
    kernel.moves_all = true; /* there is no such buffer */
    assert_int_equal(FILE_READ(faulty.file, faulty.read, length, 0), length);
    assert_int_equal(kernel.calls, 3);
    assert_int_equal(kernel.longest, NUMAPERF__FILE_MOVE_MAX);
    assert_int_equal(FILE_WRITE(faulty.file, faulty.read, length, 0), length);
    assert_int_equal(kernel.calls, 6);
    faulty_close();
}

static void file_that_would_have_to_wait_goes_to_the_pool(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    kernel.piece_max = 1000;
    kernel.answer = -EAGAIN;
    kernel.after = 2;
    kernel.times = 1;
    if (fixture->backend == NUMAPERF_IO_URING) {
        assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 0), SIZE);
        assert_memory_equal(faulty.read, faulty.bytes, SIZE);
        assert_int_equal(pool_queued, 1);
        kernel.calls = 0;
        kernel.times = INT64_MAX - 2;
        assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 0), 2000);
        assert_int_equal(pool_queued, 2);
    } else {
        assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 0), 2000);
    }
    faulty_close();
}

static void file_goes_to_the_pool_when_the_ring_is_full(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    struct file_told told = {0};
    struct statx facts;
    kernel.ring_is_full = true;
    assert_int_equal(FILE_READ(faulty.file, faulty.read, SIZE, 0), SIZE);
    assert_memory_equal(faulty.read, faulty.bytes, SIZE);
    assert_int_equal(FILE_RESULT(numaperf_file_stat(faulty.file, 0, &facts, FILE_TOLD)), 0);
    assert_int_equal(FILE_RESULT(numaperf_file_datasync(faulty.file, FILE_TOLD)), 0);
    numaperf_file_t *other = file_open(fixture, "data", O_RDONLY);
    int fd = numaperf_file_fd(other);
    assert_int_equal(numaperf_file_read(other, faulty.read, SIZE, 0, file_tell, &told), 0);
    assert_int_equal(numaperf_file_close(other, file_tell, &told), 0);
    file_await(fixture, &told, 2);
    assert_int_equal(told.result, 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(pool_queued, 6);
    faulty_close();
}

static void file_pool_has_a_window_of_them_at_a_time(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    enum { COUNT = 3 * NUMAPERF__FILE_POOL_WINDOW };
    struct file_told told = {0};
    kernel.ring_is_full = true;
    pool_most = 0;
    pool_files = faulty.file->files;
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(numaperf_file_read(faulty.file, faulty.read + i, 1, i, file_tell, &told),
                         0);
    assert_int_equal(pool_queued, NUMAPERF__FILE_POOL_WINDOW);
    file_await(fixture, &told, COUNT);
    assert_int_equal(pool_queued, COUNT);
    assert_int_equal(pool_most, NUMAPERF__FILE_POOL_WINDOW);
    assert_memory_equal(faulty.read, faulty.bytes, COUNT);
    /* Again: the queue of those that wait is as new. */
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(numaperf_file_read(faulty.file, faulty.read + i, 1, i, file_tell, &told),
                         0);
    file_await(fixture, &told, 2 * COUNT);
    faulty_close();
}

static void file_operations_of_a_loop_have_a_limit(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    struct numaperf__files *files = faulty.file->files;
    struct file_told told = {0};
    files->in_flight += NUMAPERF_FILE_IN_FLIGHT_MAX;
    assert_int_equal(numaperf_file_read(faulty.file, faulty.read, 1, 0, file_tell, &told), -EAGAIN);
    assert_int_equal(numaperf_file_sync(faulty.file, file_tell, &told), -EAGAIN);
    files->in_flight -= 1;
    assert_int_equal(numaperf_file_read(faulty.file, faulty.read, 1, 0, file_tell, &told), 0);
    files->in_flight -= NUMAPERF_FILE_IN_FLIGHT_MAX - 1;
    file_await(fixture, &told, 1);
    faulty_close();
}

static void file_without_memory_begins_nothing(void **state)
{
    struct file_fixture *fixture = faulty_open(state)->fixture;
    struct file_told told = {0};
    numaperf_file_open_config_t config = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    config.path = "/dev/null";
    struct iovec part = {.iov_base = faulty.read, .iov_len = 1};
    numaperf_file_t *file = NULL;
    int fd = openat(fixture->folder_fd, "data", O_RDONLY | O_CLOEXEC);
    /* Use up the records that lie ready, so that each of them needs memory. */
    struct numaperf__files *files = faulty.file->files;
    struct numaperf__file_op *ready = files->free_ops;
    files->free_ops = NULL;
    for (arena_left = 0; numaperf_file_open(fixture->loop, &config, file_tell_open, &told) < 0;) {
        assert_int_equal(numaperf_last_error()->code, -ENOMEM);
        arena_left = ++told.result > 100 ? -1 : (int)told.result;
        files->free_ops = NULL; /* what failed has given its record back */
    }
    assert_in_range(told.result, 3, 4); /* the file, its record, the path */
    arena_left = -1;
    file_await(fixture, &told, 1);
    file_close(fixture, told.file);
    files->free_ops = NULL;
    for (int i = 0; i < 2; i++) {
        arena_left = i;
        assert_int_equal(numaperf_file_adopt(fixture->loop, fd, &file), -ENOMEM);
        arena_left = i;
        assert_int_equal(numaperf_file_readv(faulty.file, &part, 1, 0, file_tell, &told), -ENOMEM);
        files->free_ops = NULL;
    }
    arena_left = 0;
    assert_int_equal(numaperf_file_read(faulty.file, faulty.read, 1, 0, file_tell, &told), -ENOMEM);
    assert_null(numaperf_file_buffer_alloc(fixture->loop, 1));
    arena_left = -1;
    assert_null(file);
    assert_int_equal(told.count, 1);
    assert_int_equal(close(fd), 0); /* it stayed ours */
    files->free_ops = ready;
    assert_int_equal(files->in_flight, 0);
    faulty_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_CASE(file_short_transfers_are_continued),
        FILE_CASE(file_short_transfers_of_parts_are_continued),
        FILE_CASE(file_interruptions_are_not_told),
        FILE_CASE(file_error_after_some_bytes_gives_their_number),
        FILE_CASE(file_requests_are_as_long_as_the_kernel_takes),
        FILE_CASE(file_that_would_have_to_wait_goes_to_the_pool),
        FILE_CASE(file_goes_to_the_pool_when_the_ring_is_full),
        FILE_CASE(file_pool_has_a_window_of_them_at_a_time),
        FILE_CASE(file_operations_of_a_loop_have_a_limit),
        FILE_CASE(file_without_memory_begins_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
