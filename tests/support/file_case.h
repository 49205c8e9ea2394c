/* SPDX-License-Identifier: MIT */
/*
 * Files on a loop for tests: a folder of their own, a loop of one backend, operations that are
 * waited for. After cmocka.h. A state is one of the two fixtures; where there is no ring its cases
 * are skipped with the reason.
 */
#ifndef TESTS_SUPPORT_FILE_CASE_H
#define TESTS_SUPPORT_FILE_CASE_H

#include "support/clock.h"

#include <numaperf/error.h>
#include <numaperf/file.h>
#include <numaperf/loop.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

struct file_told {
    unsigned count;
    int64_t result;
    numaperf_file_t *file;
};

struct file_fixture {
    uint32_t backend;
    numaperf_loop_t *loop;
    char folder[64];
    int folder_fd;
    struct file_told told; /* of FILE_RESULT() */
};

static struct file_fixture file_uring = {.backend = NUMAPERF_IO_URING};
static struct file_fixture file_epoll = {.backend = NUMAPERF_IO_EPOLL};

#define FILE_CASE(name)                                       \
    {#name " (ring)", name, NULL, NULL, &file_uring},         \
    {                                                         \
#name " (thread pool)", name, NULL, NULL, &file_epoll \
    }

static inline void file_make_folder(struct file_fixture *fixture)
{
    const char *parent = getenv("TMPDIR");
    (void)snprintf(fixture->folder, sizeof(fixture->folder), "%s/numaperf-file-XXXXXX",
                   parent != NULL && strlen(parent) < 30 ? parent : "/tmp");
    assert_non_null(mkdtemp(fixture->folder));
    fixture->folder_fd = open(fixture->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fixture->folder_fd >= 0);
}

static inline void file_remove_folder(struct file_fixture *fixture)
{
    char command[128];
    assert_int_equal(close(fixture->folder_fd), 0);
    (void)snprintf(command, sizeof(command), "rm -rf %s", fixture->folder);
    assert_int_equal(system(command), 0); // NOLINT(cert-env33-c,concurrency-mt-unsafe): a test
}

static inline struct file_fixture *file_fixture_open(void **state)
{
    struct file_fixture *fixture = *state;
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = fixture->backend;
    int rc = numaperf_loop_create(&config, &fixture->loop);
    if (rc < 0) {
        assert_int_equal(fixture->backend, NUMAPERF_IO_URING);
        print_message("skipped: %s\n", numaperf_last_error()->reason);
        skip();
    }
    file_make_folder(fixture);
    return fixture;
}

static inline void file_fixture_close(struct file_fixture *fixture)
{
    assert_int_equal(numaperf_loop_destroy(fixture->loop), 0);
    file_remove_folder(fixture);
}

/* ---- operations that are waited for ---- */

static inline void file_tell(numaperf_file_t *file, int64_t result, void *told)
{
    struct file_told *to = told;
    to->count++;
    to->result = result;
    to->file = file;
}

static inline void file_tell_open(numaperf_file_t *file, int status, void *told)
{
    file_tell(file, status, told);
}

/* Run until `count` calls were told. */
static inline void file_await(struct file_fixture *fixture, const struct file_told *told,
                              unsigned count)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(60);
    while (told->count < count) {
        assert_true(test_now_ns() < limit_ns);
        (void)numaperf_loop_run(fixture->loop, UV_RUN_ONCE);
    }
    assert_int_equal(told->count, count);
}

/* Result of one operation: its callback comes after the call, never in it. */
static inline long long file_result(struct file_fixture *fixture, int rc)
{
    assert_int_equal(rc, 0);
    assert_int_equal(fixture->told.count, 0);
    file_await(fixture, &fixture->told, 1);
    return fixture->told.result;
}

/* `call` ends with FILE_TOLD. */
#define FILE_TOLD file_tell, &fixture->told
#define FILE_RESULT(call) (fixture->told.count = 0, file_result(fixture, call))
#define FILE_READ(file, buffer, length, offset) \
    FILE_RESULT(numaperf_file_read(file, buffer, length, offset, FILE_TOLD))
#define FILE_WRITE(file, buffer, length, offset) \
    FILE_RESULT(numaperf_file_write(file, buffer, length, offset, FILE_TOLD))

/* Open beneath the folder; what `opened` was told is `*out_status`. */
static inline numaperf_file_t *file_try(struct file_fixture *fixture, const char *path, int flags,
                                        int *out_status)
{
    numaperf_file_open_config_t config = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    struct file_told told = {0};
    config.path = path;
    config.open_flags = flags;
    config.mode = 0600;
    config.directory = fixture->folder_fd;
    config.has_directory = 1;
    assert_int_equal(numaperf_file_open(fixture->loop, &config, file_tell_open, &told), 0);
    assert_int_equal(told.count, 0);
    file_await(fixture, &told, 1);
    *out_status = (int)told.result;
    assert_true((told.file != NULL) == (told.result == 0));
    return told.file;
}

static inline numaperf_file_t *file_open(struct file_fixture *fixture, const char *path, int flags)
{
    int status = -1;
    numaperf_file_t *file = file_try(fixture, path, flags, &status);
    assert_int_equal(status, 0);
    return file;
}

static inline void file_close(struct file_fixture *fixture, numaperf_file_t *file)
{
    assert_int_equal(FILE_RESULT(numaperf_file_close(file, FILE_TOLD)), 0);
}

/* Bytes that differ from their neighbours and from 256 bytes on. */
static inline void file_fill(char *bytes, size_t length, unsigned seed)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)((i * 7 + (i >> 8) * 13 + seed) & 0xff);
}

/* A file of `length` such bytes in the folder. */
static inline void file_make(struct file_fixture *fixture, const char *path, size_t length)
{
    char *bytes = malloc(length + 1);
    assert_non_null(bytes);
    file_fill(bytes, length, 0);
    int fd = openat(fixture->folder_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, length, 0), (long long)length);
    assert_int_equal(close(fd), 0);
    free(bytes);
}

#endif
