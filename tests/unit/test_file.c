/* SPDX-License-Identifier: MIT */
/*
 * Files on a loop, on the ring and in the thread pool: every case runs on both, and expects the
 * same. What a kernel does only now and then is in test_file_faults.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/file.h"
#include "support/file_case.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define SIZE 10000u

/* ---- open ---- */

static void file_open_tells_what_the_kernel_says(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    int status = 0;
    assert_null(file_try(fixture, "absent", O_RDONLY, &status));
    assert_int_equal(status, -ENOENT);
    file_make(fixture, "there", 1);
    assert_null(file_try(fixture, "there", O_RDWR | O_CREAT | O_EXCL, &status));
    assert_int_equal(status, -EEXIST);
    assert_null(file_try(fixture, "there/below", O_RDONLY, &status));
    assert_int_equal(status, -ENOTDIR);
    assert_null(file_try(fixture, "", O_RDONLY, &status));
    assert_int_equal(status, -ENOENT);
    /* Nothing is left of them. */
    assert_int_equal(numaperf_loop_run(fixture->loop, UV_RUN_DEFAULT), 0);
    file_fixture_close(fixture);
}

static void file_open_makes_the_file_with_its_mode(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    struct stat facts;
    mode_t before = umask(0);
    numaperf_file_t *file = file_open(fixture, "new", O_WRONLY | O_CREAT);
    (void)umask(before);
    int fd = numaperf_file_fd(file);
    assert_int_equal(fstat(fd, &facts), 0);
    assert_int_equal(facts.st_mode & 07777, 0600);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    file_close(fixture, file);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    /* A mode without a file to make means nothing; O_NONBLOCK neither. */
    file = file_open(fixture, "new", O_RDONLY | O_NONBLOCK);
    assert_int_equal(fcntl(numaperf_file_fd(file), F_GETFL) & O_NONBLOCK, 0);
    file_close(fixture, file);
    file = file_open(fixture, "newer", O_RDWR | O_CREAT | O_TRUNC);
    assert_int_equal(fcntl(numaperf_file_fd(file), F_GETFL) & O_NONBLOCK, 0);
    file_close(fixture, file);
    file_fixture_close(fixture);
}

static void file_open_copies_the_path(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    struct file_told told = {0};
    char path[] = "there";
    file_make(fixture, path, 1);
    numaperf_file_open_config_t config = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    config.path = path;
    config.directory = fixture->folder_fd;
    config.has_directory = 1;
    assert_int_equal(numaperf_file_open(fixture->loop, &config, file_tell_open, &told), 0);
    memset(path, 'x', sizeof(path) - 1);
    memset(&config, 0xff, sizeof(config));
    file_await(fixture, &told, 1);
    assert_int_equal(told.result, 0);
    file_close(fixture, told.file);
    file_fixture_close(fixture);
}

static int file_status_beneath(struct file_fixture *fixture, const char *path, int directory)
{
    numaperf_file_open_config_t config = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    struct file_told told = {0};
    config.flags = NUMAPERF_FILE_BENEATH;
    config.path = path;
    config.directory = directory;
    config.has_directory = 1;
    assert_int_equal(numaperf_file_open(fixture->loop, &config, file_tell_open, &told), 0);
    file_await(fixture, &told, 1);
    if (told.file != NULL)
        file_close(fixture, told.file);
    return (int)told.result;
}

static void file_beneath_never_leaves_the_directory(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    file_make(fixture, "secret", 1);
    assert_int_equal(mkdirat(fixture->folder_fd, "root", 0700), 0);
    assert_int_equal(mkdirat(fixture->folder_fd, "root/below", 0700), 0);
    file_make(fixture, "root/page", 1);
    assert_int_equal(symlinkat("../secret", fixture->folder_fd, "root/out"), 0);
    assert_int_equal(symlinkat("page", fixture->folder_fd, "root/in"), 0);
    assert_int_equal(symlinkat("/etc/passwd", fixture->folder_fd, "root/absolute"), 0);
    int root = openat(fixture->folder_fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(root >= 0);
    static const struct {
        const char *path;
        int status;
    } ways[] = {{"page", 0},           {"below/../page", 0},           {"in", 0},
                {"../secret", -EXDEV}, {"below/../../secret", -EXDEV}, {"out", -EXDEV},
                {"absolute", -EXDEV},  {"/etc/passwd", -EXDEV},        {"absent", -ENOENT}};
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        assert_int_equal(file_status_beneath(fixture, ways[i].path, root), ways[i].status);
    assert_int_equal(close(root), 0);
    file_fixture_close(fixture);
}

static void file_without_a_position_is_refused(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    int status = 0;
    assert_int_equal(mkfifoat(fixture->folder_fd, "fifo", 0600), 0);
    assert_null(file_try(fixture, "fifo", O_RDONLY, &status));
    assert_int_equal(status, -ESPIPE);
    assert_null(file_try(fixture, "fifo", O_RDONLY | O_CREAT, &status));
    assert_int_equal(status, -ESPIPE);
    assert_null(file_try(fixture, "fifo", O_WRONLY, &status));
    assert_int_equal(status, -ENXIO);
    int fds[4];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds + 2), 0);
    numaperf_file_t *file = NULL;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(numaperf_file_adopt(fixture->loop, fds[i], &file), -ESPIPE);
        assert_null(file);
        assert_non_null(strstr(numaperf_last_error()->reason, "pipe"));
        assert_int_equal(close(fds[i]), 0); /* it stayed ours */
    }
    assert_int_equal(numaperf_file_adopt(fixture->loop, fds[0], &file), -EBADF);
    assert_int_equal(numaperf_file_adopt(fixture->loop, -1, &file), -EBADF);
    int fd = openat(fixture->folder_fd, "fifo", O_PATH | O_CLOEXEC);
    assert_int_equal(numaperf_file_adopt(fixture->loop, fd, &file), -EBADF);
    assert_int_equal(close(fd), 0);
    assert_null(file);
    file_fixture_close(fixture);
}

/* ---- move ---- */

static void file_reads_what_was_written(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    char wrote[SIZE];
    char read[SIZE + 100];
    file_fill(wrote, SIZE, 1);
    memset(read, 0, sizeof(read));
    numaperf_file_t *file = file_open(fixture, "data", O_RDWR | O_CREAT);
    assert_int_equal(FILE_WRITE(file, wrote, SIZE, 0), SIZE);
    assert_int_equal(FILE_READ(file, read, SIZE, 0), SIZE);
    assert_memory_equal(read, wrote, SIZE);
    assert_int_equal(FILE_READ(file, read, 100, 5000), 100);
    assert_memory_equal(read, wrote + 5000, 100);
    assert_int_equal(FILE_WRITE(file, "here", 4, 5000), 4);
    assert_int_equal(FILE_READ(file, read, 6, 4999), 6);
    assert_memory_equal(read + 1, "here", 4);
    assert_memory_equal(read, wrote + 4999, 1);
    assert_memory_equal(read + 5, wrote + 5004, 1);
    file_close(fixture, file);
    file_fixture_close(fixture);
}

static void file_ends_where_it_ends(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    char read[SIZE + 100];
    file_make(fixture, "data", SIZE);
    numaperf_file_t *file = file_open(fixture, "data", O_RDONLY);
    assert_int_equal(FILE_READ(file, read, sizeof(read), 0), SIZE);
    assert_int_equal(FILE_READ(file, read, sizeof(read), SIZE - 1), 1);
    assert_int_equal(FILE_READ(file, read, sizeof(read), SIZE), 0);
    assert_int_equal(FILE_READ(file, read, 1, INT64_MAX - 1), 0);
    assert_int_equal(FILE_READ(file, NULL, 0, 0), 0);
    /* Errors are told, as the kernel says them. */
    assert_int_equal(FILE_WRITE(file, "x", 1, 0), -EBADF);
    file_close(fixture, file);
    file = file_open(fixture, ".", O_RDONLY | O_DIRECTORY);
    assert_int_equal(FILE_READ(file, read, 1, 0), -EISDIR);
    file_close(fixture, file);
    file_fixture_close(fixture);
}

/* Parts of 0, 1, 2 ... bytes, over and over. */
static size_t file_cut(struct iovec *parts, size_t count, char *bytes)
{
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        parts[i] = (struct iovec){.iov_base = bytes + length, .iov_len = i % 17};
        length += i % 17;
    }
    return length;
}

static void file_parts_are_moved_in_order(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    static char wrote[1024 * 16];
    static char read[1024 * 16];
    struct iovec parts[1024];
    static const size_t counts[] = {1, 2, 3, 40, 1024};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        numaperf_file_t *file = file_open(fixture, "data", O_RDWR | O_CREAT | O_TRUNC);
        long long length = (long long)file_cut(parts, counts[i], wrote);
        file_fill(wrote, sizeof(wrote), (unsigned)i);
        struct file_told told = {0};
        assert_int_equal(numaperf_file_writev(file, parts, counts[i], 123, file_tell, &told), 0);
        memset(parts, 0xff, sizeof(parts)); /* the array was copied */
        file_await(fixture, &told, 1);
        assert_int_equal(told.result, length);
        memset(read, 0, sizeof(read));
        (void)file_cut(parts, counts[i], read);
        assert_int_equal(FILE_RESULT(numaperf_file_readv(file, parts, counts[i], 123, FILE_TOLD)),
                         length);
        assert_memory_equal(read, wrote, (size_t)length);
        assert_int_equal(lseek(numaperf_file_fd(file), 0, SEEK_END),
                         length == 0 ? 0 : 123 + length);
        file_close(fixture, file);
    }
    file_fixture_close(fixture);
}

static void file_operations_run_at_the_same_time(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    enum { COUNT = 200, LENGTH = 50 };
    static char wrote[COUNT][LENGTH];
    static char read[COUNT][LENGTH];
    struct file_told told = {0};
    numaperf_file_t *file = file_open(fixture, "data", O_RDWR | O_CREAT);
    for (unsigned i = 0; i < COUNT; i++) {
        file_fill(wrote[i], LENGTH, i);
        assert_int_equal(
            numaperf_file_write(file, wrote[i], LENGTH, (uint64_t)i * LENGTH, file_tell, &told), 0);
    }
    file_await(fixture, &told, COUNT);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(
            numaperf_file_read(file, read[i], LENGTH, (uint64_t)i * LENGTH, file_tell, &told), 0);
    file_await(fixture, &told, 2 * COUNT);
    assert_memory_equal(read, wrote, sizeof(read));
    file_close(fixture, file);
    file_fixture_close(fixture);
}

/* ---- the rest ---- */

static void file_stat_sync_and_allocate_do_what_they_say(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    struct statx facts;
    char read[4096];
    memset(&facts, 0, sizeof(facts));
    file_make(fixture, "data", SIZE);
    numaperf_file_t *file = file_open(fixture, "data", O_RDWR);
    assert_int_equal(FILE_RESULT(numaperf_file_stat(file, STATX_BASIC_STATS, &facts, FILE_TOLD)),
                     0);
    assert_int_equal(facts.stx_size, SIZE);
    assert_int_equal(facts.stx_mode, S_IFREG | 0600);
    assert_int_equal(FILE_RESULT(numaperf_file_sync(file, FILE_TOLD)), 0);
    assert_int_equal(FILE_RESULT(numaperf_file_datasync(file, FILE_TOLD)), 0);
    long long rc = FILE_RESULT(numaperf_file_allocate(file, 0, SIZE, 5000, FILE_TOLD));
    if (rc == -EOPNOTSUPP) {
        print_message("not looked at: the file system reserves no ranges\n");
    } else {
        assert_int_equal(rc, 0);
        assert_int_equal(lseek(numaperf_file_fd(file), 0, SEEK_END), SIZE + 5000);
        assert_int_equal(
            FILE_RESULT(numaperf_file_allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                               4096, 4096, FILE_TOLD)),
            0);
        assert_int_equal(FILE_READ(file, read, sizeof(read), 4096), 4096);
        for (size_t i = 0; i < sizeof(read); i++)
            assert_int_equal(read[i], 0);
    }
    assert_int_equal(FILE_RESULT(numaperf_file_allocate(file, 0x40000000, 0, 1, FILE_TOLD)),
                     -EOPNOTSUPP);
    file_close(fixture, file);
    file_fixture_close(fixture);
}

static void file_alignment_is_told_or_safe(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    uint32_t memory = 0;
    uint32_t offset = 0;
    numaperf_file_t *file = file_open(fixture, "data", O_RDWR | O_CREAT);
    int rc = numaperf_file_alignment(file, &memory, &offset);
    if (rc == NUMAPERF_E_UNSUPPORTED) {
        assert_int_equal(memory, sysconf(_SC_PAGESIZE));
        assert_true(offset >= memory);
    } else {
        assert_int_equal(rc, 0);
        assert_int_equal(memory & (memory - 1), 0);
        assert_int_equal(offset & (offset - 1), 0);
        assert_true((memory == 0) == (offset == 0));
    }
    assert_int_equal(numaperf_file_alignment(file, NULL, &offset), -EINVAL);
    assert_int_equal(numaperf_file_alignment(file, &memory, NULL), -EINVAL);
    assert_int_equal(numaperf_file_alignment(NULL, &memory, &offset), -EINVAL);
    file_close(fixture, file);
    file_fixture_close(fixture);
}

/* ---- close ---- */

struct file_order {
    unsigned reads;
    unsigned reads_at_close;
    unsigned closed;
    int64_t status;
};

static void file_order_read(numaperf_file_t *file, int64_t result, void *data)
{
    struct file_order *order = data;
    assert_int_equal(result, SIZE);
    assert_int_equal(order->closed, 0);
    /* It is closing. */
    assert_int_equal(numaperf_file_sync(file, file_order_read, data), -EBADF);
    assert_int_equal(numaperf_file_close(file, NULL, NULL), -EBADF);
    order->reads++;
}

static void file_order_closed(numaperf_file_t *file, int64_t result, void *data)
{
    struct file_order *order = data;
    assert_int_equal(numaperf_file_fd(file), -1);
    order->closed++;
    order->reads_at_close = order->reads;
    order->status = result;
}

static void file_close_comes_after_everything_else(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    enum { COUNT = 50 };
    static char read[COUNT][SIZE];
    struct file_order order = {.status = 1};
    file_make(fixture, "data", SIZE);
    numaperf_file_t *file = file_open(fixture, "data", O_RDONLY);
    int fd = numaperf_file_fd(file);
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(numaperf_file_read(file, read[i], SIZE, 0, file_order_read, &order), 0);
    assert_int_equal(numaperf_file_close(file, file_order_closed, &order), 0);
    assert_int_equal(numaperf_file_close(file, file_order_closed, &order), -EBADF);
    assert_int_equal(numaperf_file_read(file, read[0], 1, 0, file_order_read, &order), -EBADF);
    assert_int_equal(order.reads + order.closed, 0);
    assert_int_equal(numaperf_loop_run(fixture->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(order.reads, COUNT);
    assert_int_equal(order.closed, 1);
    assert_int_equal(order.reads_at_close, COUNT);
    assert_int_equal(order.status, 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    file_fixture_close(fixture);
}

static void file_close_from(numaperf_file_t *file, int64_t result, void *data)
{
    assert_int_equal(result, 1);
    assert_int_equal(numaperf_file_close(file, file_tell, data), 0);
}

static void file_close_inside_a_callback_works(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    struct file_told told = {0};
    char byte = 0;
    file_make(fixture, "data", SIZE);
    numaperf_file_t *file = file_open(fixture, "data", O_RDONLY);
    assert_int_equal(numaperf_file_read(file, &byte, 1, 0, file_close_from, &told), 0);
    file_await(fixture, &told, 1);
    /* And one that nobody wants to hear of. */
    file = file_open(fixture, "data", O_RDONLY);
    int fd = numaperf_file_fd(file);
    assert_int_equal(numaperf_file_close(file, NULL, NULL), 0);
    assert_int_equal(numaperf_loop_run(fixture->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    file_fixture_close(fixture);
}

static void file_keeps_its_loop(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    file_make(fixture, "data", SIZE);
    int fd = openat(fixture->folder_fd, "data", O_RDONLY | O_CLOEXEC);
    numaperf_file_t *file = NULL;
    assert_int_equal(numaperf_file_adopt(fixture->loop, fd, &file), 0);
    assert_int_equal(numaperf_file_fd(file), fd);
    assert_int_equal(numaperf_loop_run(fixture->loop, UV_RUN_DEFAULT), 0); /* nothing to do */
    assert_int_equal(numaperf_loop_destroy(fixture->loop), -EBUSY);
    char byte = 1;
    assert_int_equal(FILE_READ(file, &byte, 1, 0), 1);
    assert_int_equal(numaperf_file_close(file, NULL, NULL), 0);
    assert_int_equal(numaperf_loop_destroy(fixture->loop), -EBUSY); /* not yet closed */
    assert_int_equal(numaperf_loop_run(fixture->loop, UV_RUN_DEFAULT), 0);
    file_fixture_close(fixture);
}

/* ---- arguments ---- */

#define REFUSED(call, code, word)                                     \
    do {                                                              \
        assert_int_equal(call, code);                                 \
        assert_non_null(strstr(numaperf_last_error()->reason, word)); \
    } while (0)

static void file_open_names_the_argument_that_is_wrong(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    struct file_told told = {0};
    numaperf_loop_t *loop = fixture->loop;
    numaperf_file_open_config_t good = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    good.path = "data";
    numaperf_file_open_config_t bad = good;
    REFUSED(numaperf_file_open(NULL, &good, file_tell_open, &told), -EINVAL, "loop");
    REFUSED(numaperf_file_open(loop, NULL, file_tell_open, &told), -EINVAL, "config");
    REFUSED(numaperf_file_open(loop, &good, NULL, &told), -EINVAL, "opened");
    bad.path = NULL;
    REFUSED(numaperf_file_open(loop, &bad, file_tell_open, &told), -EINVAL, "path");
    bad = good;
    bad.flags = 2;
    REFUSED(numaperf_file_open(loop, &bad, file_tell_open, &told), -EINVAL, "flags");
    bad = good;
    bad.open_flags = O_PATH;
    REFUSED(numaperf_file_open(loop, &bad, file_tell_open, &told), -EINVAL, "open_flags");
    bad = good;
    bad.mode = 010000;
    REFUSED(numaperf_file_open(loop, &bad, file_tell_open, &told), -EINVAL, "mode");
    bad = good;
    bad.has_directory = 2;
    REFUSED(numaperf_file_open(loop, &bad, file_tell_open, &told), -EINVAL, "has_directory");
    bad.has_directory = 1;
    bad.directory = -1;
    REFUSED(numaperf_file_open(loop, &bad, file_tell_open, &told), -EBADF, "directory");
    bad = good;
    bad.size = 31;
    assert_int_equal(numaperf_file_open(loop, &bad, file_tell_open, &told), -EINVAL);
    static char path[4097];
    memset(path, 'a', sizeof(path) - 1);
    bad = good;
    bad.path = path;
    REFUSED(numaperf_file_open(loop, &bad, file_tell_open, &told), -ENAMETOOLONG, "path");
    REFUSED(numaperf_file_adopt(NULL, 0, (numaperf_file_t **)path), -EINVAL, "loop");
    REFUSED(numaperf_file_adopt(loop, 0, NULL), -EINVAL, "out");
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(told.count, 0);
    file_fixture_close(fixture);
}

static void file_operations_name_the_argument_that_is_wrong(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    struct file_told told = {0};
    struct statx facts;
    char byte = 0;
    struct iovec part = {.iov_base = &byte, .iov_len = 1};
    struct iovec endless[2] = {{&byte, (size_t)INT64_MAX}, {&byte, 1}};
    struct iovec nowhere = {.iov_base = NULL, .iov_len = 1};
    file_make(fixture, "data", SIZE);
    numaperf_file_t *file = file_open(fixture, "data", O_RDWR);
    REFUSED(numaperf_file_read(NULL, &byte, 1, 0, file_tell, &told), -EINVAL, "file");
    REFUSED(numaperf_file_read(file, &byte, 1, 0, NULL, &told), -EINVAL, "done");
    REFUSED(numaperf_file_read(file, NULL, 1, 0, file_tell, &told), -EINVAL, "buffer");
    REFUSED(numaperf_file_write(file, NULL, 1, 0, file_tell, &told), -EINVAL, "buffer");
    REFUSED(numaperf_file_read(file, &byte, 1, UINT64_MAX, file_tell, &told), -EINVAL, "offset");
    REFUSED(numaperf_file_write(file, &byte, 2, INT64_MAX - 1, file_tell, &told), -EINVAL,
            "length");
    REFUSED(numaperf_file_readv(file, NULL, 1, 0, file_tell, &told), -EINVAL, "parts");
    REFUSED(numaperf_file_readv(file, &part, 0, 0, file_tell, &told), -EINVAL, "part_count");
    REFUSED(numaperf_file_writev(file, &part, 1025, 0, file_tell, &told), -EINVAL, "part_count");
    REFUSED(numaperf_file_writev(file, &nowhere, 1, 0, file_tell, &told), -EINVAL, "part 0");
    REFUSED(numaperf_file_writev(file, endless, 2, 0, file_tell, &told), -EINVAL, "parts");
    REFUSED(numaperf_file_writev(file, &part, 1, INT64_MAX, file_tell, &told), -EINVAL, "offset");
    REFUSED(numaperf_file_allocate(file, -1, 0, 1, file_tell, &told), -EINVAL, "mode");
    REFUSED(numaperf_file_allocate(file, 0, 0, 0, file_tell, &told), -EINVAL, "length");
    REFUSED(numaperf_file_allocate(file, 0, 1, INT64_MAX, file_tell, &told), -EINVAL, "offset");
    REFUSED(numaperf_file_stat(file, 0x80000000u, &facts, file_tell, &told), -EINVAL, "mask");
    REFUSED(numaperf_file_stat(file, 0, NULL, file_tell, &told), -EINVAL, "out");
    REFUSED(numaperf_file_sync(file, NULL, &told), -EINVAL, "done");
    REFUSED(numaperf_file_datasync(NULL, file_tell, &told), -EINVAL, "file");
    REFUSED(numaperf_file_close(NULL, file_tell, &told), -EINVAL, "file");
    assert_int_equal(numaperf_file_fd(NULL), -EINVAL);
    assert_int_equal(told.count, 0);
    file_close(fixture, file);
    file_fixture_close(fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_CASE(file_open_tells_what_the_kernel_says),
        FILE_CASE(file_open_makes_the_file_with_its_mode),
        FILE_CASE(file_open_copies_the_path),
        FILE_CASE(file_beneath_never_leaves_the_directory),
        FILE_CASE(file_without_a_position_is_refused),
        FILE_CASE(file_reads_what_was_written),
        FILE_CASE(file_ends_where_it_ends),
        FILE_CASE(file_parts_are_moved_in_order),
        FILE_CASE(file_operations_run_at_the_same_time),
        FILE_CASE(file_stat_sync_and_allocate_do_what_they_say),
        FILE_CASE(file_alignment_is_told_or_safe),
        FILE_CASE(file_close_comes_after_everything_else),
        FILE_CASE(file_close_inside_a_callback_works),
        FILE_CASE(file_keeps_its_loop),
        FILE_CASE(file_open_names_the_argument_that_is_wrong),
        FILE_CASE(file_operations_name_the_argument_that_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
