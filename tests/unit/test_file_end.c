/* SPDX-License-Identifier: MIT */
/*
 * Files on a loop that ends, as a worker's does: what was begun ends, each callback comes once,
 * and no descriptor is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/file.h"
#include "io/wake.h"
#include "support/file_case.h"

#include <dirent.h>
#include <sys/stat.h>

#define COUNT 100u
#define SIZE 5000u

struct hosted {
    struct file_fixture *fixture; /* its folder; its loop is the hosted one */
    struct numaperf__wake wake;
    int descriptors; /* before there was anything */
};

static struct hosted hosted;

static int count_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL) // NOLINT(concurrency-mt-unsafe): no other thread reads it
        count++;
    assert_int_equal(closedir(folder), 0);
    return count;
}

static struct hosted *hosted_open(void **state)
{
    hosted.fixture = *state;
    hosted.descriptors = count_descriptors();
    assert_int_equal(numaperf__wake_init(&hosted.wake), 0);
    const struct numaperf__loop_setup setup = {.backend = hosted.fixture->backend,
                                               .wake = &hosted.wake};
    int rc = numaperf__loop_create_hosted(&setup, &hosted.fixture->loop);
    if (rc < 0) {
        numaperf__wake_fini(&hosted.wake);
        assert_int_equal(hosted.fixture->backend, NUMAPERF_IO_URING);
        print_message("skipped: %s\n", numaperf_last_error()->reason);
        skip();
    }
    file_make_folder(hosted.fixture);
    file_make(hosted.fixture, "data", SIZE);
    return &hosted;
}

static void hosted_end(void)
{
    numaperf__loop_close_hosted(hosted.fixture->loop);
    numaperf__wake_fini(&hosted.wake);
    file_remove_folder(hosted.fixture);
    assert_int_equal(count_descriptors(), hosted.descriptors);
}

static void hosted_await(const struct file_told *told, unsigned count)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(60);
    while (told->count < count) {
        assert_true(test_now_ns() < limit_ns);
        numaperf__loop_turn(hosted.fixture->loop);
        uint64_t timeout_ns = numaperf__loop_timeout_ns(hosted.fixture->loop);
        if (told->count < count && timeout_ns > 0)
            numaperf__loop_wait(hosted.fixture->loop, timeout_ns);
    }
}

static int hosted_begin_open(const char *path, int flags, struct file_told *told)
{
    numaperf_file_open_config_t config = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    config.path = path;
    config.open_flags = flags;
    config.directory = hosted.fixture->folder_fd;
    config.has_directory = 1;
    return numaperf_file_open(hosted.fixture->loop, &config, file_tell_open, told);
}

static numaperf_file_t *hosted_file(void)
{
    struct file_told told = {0};
    assert_int_equal(hosted_begin_open("data", O_RDWR, &told), 0);
    hosted_await(&told, 1);
    assert_int_equal(told.result, 0);
    return told.file;
}

/* Asks for more, as a callback that copies a file would. */
static void tell_and_go_on(numaperf_file_t *file, int64_t result, void *data)
{
    struct file_told *told = data;
    char byte = 0;
    told->count++;
    told->result += result;
    assert_int_equal(numaperf_file_read(file, &byte, 1, 0, tell_and_go_on, data),
                     NUMAPERF_E_STOPPING);
    assert_int_equal(hosted_begin_open("data", O_RDONLY, told), NUMAPERF_E_STOPPING);
    assert_null(numaperf_file_buffer_alloc(hosted.fixture->loop, 1));
    assert_int_equal(numaperf_file_close(file, NULL, NULL), -EBADF);
}

static void end_waits_for_operations_and_closes_files(void **state)
{
    (void)hosted_open(state);
    static char read[COUNT][SIZE];
    struct file_told reads = {0};
    struct file_told writes = {0};
    numaperf_file_t *file = hosted_file();
    numaperf_file_t *idle = hosted_file();
    assert_int_not_equal(numaperf_file_fd(idle), numaperf_file_fd(file));
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(numaperf_file_read(file, read[i], SIZE, 0, tell_and_go_on, &reads), 0);
        assert_int_equal(
            numaperf_file_write(file, "more", 4, SIZE + i * 4, tell_and_go_on, &writes), 0);
    }
    assert_int_equal(numaperf_file_sync(file, tell_and_go_on, &writes), 0);
    struct stat facts;
    int folder = dup(hosted.fixture->folder_fd);
    numaperf__loop_close_hosted(hosted.fixture->loop);
    assert_int_equal(reads.count, COUNT);
    assert_int_equal(reads.result, COUNT * SIZE);
    assert_int_equal(writes.count, COUNT + 1);
    assert_int_equal(writes.result, COUNT * 4);
    assert_int_equal(fstatat(folder, "data", &facts, 0), 0);
    assert_int_equal(facts.st_size, SIZE + COUNT * 4);
    assert_int_equal(close(folder), 0);
    hosted.fixture->loop = NULL;
    hosted_end();
}

static void end_lets_a_close_under_way_tell(void **state)
{
    (void)hosted_open(state);
    struct file_told closed = {0};
    struct file_told read = {0};
    char byte = 0;
    numaperf_file_t *file = hosted_file();
    assert_int_equal(numaperf_file_close(file, file_tell, &closed), 0);
    file = hosted_file();
    assert_int_equal(numaperf_file_read(file, &byte, 1, 0, file_tell, &read), 0);
    assert_int_equal(numaperf_file_close(file, file_tell, &closed), 0);
    hosted_end();
    assert_int_equal(read.count, 1);
    assert_int_equal(read.result, 1);
    assert_int_equal(closed.count, 2);
    assert_int_equal(closed.result, 0);
}

static void end_cancels_an_open(void **state)
{
    (void)hosted_open(state);
    struct file_told told[COUNT] = {{0}};
    struct file_told absent = {0};
    for (unsigned i = 0; i < COUNT; i++)
        assert_int_equal(hosted_begin_open("data", O_RDWR, &told[i]), 0);
    assert_int_equal(hosted_begin_open("absent", O_RDWR, &absent), 0);
    hosted_end();
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(told[i].count, 1);
        assert_int_equal(told[i].result, -ECANCELED);
        assert_null(told[i].file);
    }
    assert_int_equal(absent.count, 1);
    assert_true(absent.result == -ECANCELED || absent.result == -ENOENT);
}

/* A FIFO behind a link of procfs, which io_uring does not follow without waiting: there it waits
 * for somebody who writes. The pool does not, and refuses it. */
static void end_cancels_an_open_that_would_wait_for_ever(void **state)
{
    (void)hosted_open(state);
    struct file_told told = {0};
    struct file_told read = {0};
    char path[40];
    char byte = 0;
    assert_int_equal(mkfifoat(hosted.fixture->folder_fd, "fifo", 0600), 0);
    int fifo = openat(hosted.fixture->folder_fd, "fifo", O_PATH | O_CLOEXEC);
    assert_true(fifo >= 0);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fifo);
    assert_int_equal(hosted_begin_open(path, O_RDONLY, &told), 0);
    /* Others go on meanwhile. */
    numaperf_file_t *file = hosted_file();
    assert_int_equal(numaperf_file_read(file, &byte, 1, 0, file_tell, &read), 0);
    hosted_await(&read, 1);
    assert_int_equal(close(fifo), 0);
    hosted_end();
    assert_int_equal(told.count, 1);
    assert_null(told.file);
    assert_true(told.result == -ECANCELED ||
                (told.result == -ESPIPE && hosted.fixture->backend == NUMAPERF_IO_EPOLL));
}

int main(void)
{
    /* What libuv makes once a process is there before anything is counted. */
    numaperf_loop_t *loop = NULL;
    if (numaperf_loop_create(NULL, &loop) < 0 || numaperf_loop_destroy(loop) < 0)
        return EXIT_FAILURE;
    const struct CMUnitTest tests[] = {
        FILE_CASE(end_waits_for_operations_and_closes_files),
        FILE_CASE(end_lets_a_close_under_way_tell),
        FILE_CASE(end_cancels_an_open),
        FILE_CASE(end_cancels_an_open_that_would_wait_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
