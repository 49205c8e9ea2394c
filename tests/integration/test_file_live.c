/* SPDX-License-Identifier: MIT */
/*
 * Files on the workers of a runtime: buffers on the worker's node, as the kernel tells; runtimes
 * that stop in the midst of operations; O_DIRECT; offsets beyond 4 GiB; loops that were adopted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support/file_case.h"
#include "support/memory_view.h"
#include "support/runtimes.h"

#include <numaperf/runtime.h>

#include <stdatomic.h>

#define SIZE 65536u

/* ---- on workers ---- */

/* What all workers of a runtime share. */
struct workers {
    struct file_fixture *fixture;
    atomic_int begun;
    atomic_int ended;  /* callbacks */
    atomic_int errors; /* operations that did not do what they should */
    atomic_int strays; /* pages on another node */
    atomic_int unseen; /* workers where the kernel did not tell */
    bool closes;       /* else the end of the loop has to */
};

struct worker_read {
    struct workers *workers;
    int node;
    char *buffer;
    numaperf_loop_t *loop;
};

static void worker_read_closed(numaperf_file_t *file, int64_t result, void *data)
{
    struct workers *workers = data;
    (void)file;
    if (result != 0)
        atomic_fetch_add(&workers->errors, 1);
    atomic_fetch_add(&workers->ended, 1);
}

static void worker_read_done(numaperf_file_t *file, int64_t result, void *data)
{
    struct worker_read *read = data;
    struct workers *workers = read->workers;
    char expected[SIZE];
    size_t counts[VIEW_NODES + 1];
    file_fill(expected, SIZE, 0);
    if (result != SIZE || memcmp(read->buffer, expected, SIZE) != 0)
        atomic_fetch_add(&workers->errors, 1);
    if (!view_pages(read->buffer, SIZE, counts))
        atomic_fetch_add(&workers->unseen, 1);
    else if (read->node >= 0 && counts[read->node] != SIZE / (size_t)sysconf(_SC_PAGESIZE))
        atomic_fetch_add(&workers->strays, 1);
    numaperf_file_buffer_free(read->loop, read->buffer);
    free(read);
    if (!workers->closes)
        atomic_fetch_add(&workers->ended, 1);
    else if (numaperf_file_close(file, worker_read_closed, workers) < 0)
        atomic_fetch_add(&workers->errors, 1);
}

static void worker_read_opened(numaperf_file_t *file, int status, void *data)
{
    struct worker_read *read = data;
    if (status == 0 && numaperf_file_read(file, read->buffer, SIZE, 0, worker_read_done, read) == 0)
        return;
    /* A runtime that stops has cancelled it. */
    if (status != -ECANCELED)
        atomic_fetch_add(&read->workers->errors, 1);
    atomic_fetch_add(&read->workers->ended, 1);
    free(read);
}

static void worker_begin(numaperf_worker_t *worker, void *arg)
{
    struct workers *workers = arg;
    struct worker_read *read = calloc(1, sizeof(*read));
    numaperf_file_open_config_t config = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    config.path = "data";
    config.directory = workers->fixture->folder_fd;
    config.has_directory = 1;
    if (read != NULL) {
        *read = (struct worker_read){.workers = workers,
                                     .node = numaperf_worker_node(worker),
                                     .loop = numaperf_worker_io(worker)};
        read->buffer = numaperf_file_buffer_alloc(read->loop, SIZE);
    }
    if (read == NULL || read->buffer == NULL ||
        numaperf_file_open(read->loop, &config, worker_read_opened, read) < 0) {
        atomic_fetch_add(&workers->errors, 1);
        atomic_fetch_add(&workers->ended, 1);
        free(read);
    }
    atomic_fetch_add(&workers->begun, 1);
}

static bool workers_start(struct workers *workers, struct runtime_box *box, void **state)
{
    *workers = (struct workers){.fixture = *state};
    *box = (struct runtime_box){.config = NUMAPERF_RT_CONFIG_INIT};
    box->config.io_backend = workers->fixture->backend;
    int rc = runtime_box_open(box, NULL);
    if (rc < 0) {
        assert_int_equal(workers->fixture->backend, NUMAPERF_IO_URING);
        print_message("skipped: %s\n", numaperf_last_error()->reason);
        runtime_box_close(box);
        return false;
    }
    file_make_folder(workers->fixture);
    file_make(workers->fixture, "data", SIZE);
    return true;
}

static void file_buffers_of_workers_are_on_their_nodes(void **state)
{
    struct workers workers;
    struct runtime_box box;
    if (!workers_start(&workers, &box, state))
        skip();
    workers.closes = true;
    enum { ROUNDS = 20 };
    int nodes = 0; /* that have workers */
    for (int node = 0; node < VIEW_NODES; node++)
        nodes += numaperf_rt_worker_count(box.rt, node) > 0;
    assert_true(nodes > 0);
    for (int i = 0; i < ROUNDS; i++)
        assert_int_equal(numaperf_rt_each_node(box.rt, worker_begin, &workers), nodes);
    assert_true(runtime_reaches(&workers.begun, nodes * ROUNDS));
    assert_true(runtime_reaches(&workers.ended, nodes * ROUNDS));
    assert_int_equal(workers.errors, 0);
    assert_int_equal(workers.strays, 0);
    if (atomic_load(&workers.unseen) > 0)
        print_message("not looked at: move_pages is refused here\n");
    runtime_box_close(&box);
    file_remove_folder(workers.fixture);
}

static void file_operations_of_a_runtime_that_stops_end(void **state)
{
    struct workers workers;
    struct runtime_box box;
    if (!workers_start(&workers, &box, state))
        skip();
    enum { COUNT = 200 };
    int accepted = 0;
    for (int i = 0; i < COUNT; i++)
        accepted += numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, worker_begin, &workers) == 0;
    assert_int_equal(accepted, COUNT);
    (void)numaperf_rt_stop(box.rt, 60u * UINT64_C(1000000000));
    assert_int_equal(workers.begun, COUNT);
    runtime_box_close(&box);
    /* Files and buffers that are left are the loops' own. */
    assert_int_equal(workers.errors, 0);
    assert_int_equal(workers.ended, COUNT);
    file_remove_folder(workers.fixture);
}

/* ---- the kernel's real answers ---- */

static void file_direct_reads_take_what_alignment_tells(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    uint32_t memory = 0;
    uint32_t offset = 0;
    int status = 0;
    char expected[SIZE];
    file_make(fixture, "data", SIZE + 100);
    file_fill(expected, SIZE, 0);
    numaperf_file_t *file = file_try(fixture, "data", O_RDWR | O_DIRECT, &status);
    if (file == NULL) {
        assert_int_equal(status, -EINVAL);
        print_message("skipped: the file system of %s has no O_DIRECT\n", fixture->folder);
        file_fixture_close(fixture);
        skip();
    }
    int rc = numaperf_file_alignment(file, &memory, &offset);
    assert_true(rc == 0 || rc == NUMAPERF_E_UNSUPPORTED);
    if (offset == 0 || offset > SIZE / 2) {
        print_message("skipped: the file system says that this file has no O_DIRECT\n");
        file_close(fixture, file);
        file_fixture_close(fixture);
        skip();
    }
    char *buffer = numaperf_file_buffer_alloc(fixture->loop, (size_t)2 * SIZE);
    assert_non_null(buffer);
    assert_int_equal((uintptr_t)buffer % memory, 0);
    assert_int_equal(FILE_READ(file, buffer, SIZE, 0), SIZE);
    assert_memory_equal(buffer, expected, SIZE);
    assert_int_equal(FILE_READ(file, buffer, offset, offset), offset);
    assert_memory_equal(buffer, expected + offset, offset);
    /* The end lies in the midst of a block: what goes on from there would not be aligned. */
    assert_int_equal(FILE_READ(file, buffer, (size_t)2 * SIZE, 0), SIZE + 100);
    assert_int_equal(FILE_WRITE(file, buffer + offset, offset, 0), offset);
    assert_int_equal(FILE_READ(file, buffer, offset, 0), offset);
    assert_memory_equal(buffer, expected + offset, offset);
    numaperf_file_buffer_free(fixture->loop, buffer);
    file_close(fixture, file);
    file_fixture_close(fixture);
}

static void file_offsets_go_beyond_32_bits(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    const uint64_t far = UINT64_C(5) << 30;
    char read[10];
    numaperf_file_t *file = file_open(fixture, "sparse", O_RDWR | O_CREAT);
    long long rc = FILE_WRITE(file, "here", 4, far);
    if (rc == -EFBIG) {
        print_message("skipped: files of 5 GiB are not allowed here\n");
    } else {
        assert_int_equal(rc, 4);
        assert_int_equal(FILE_READ(file, read, 10, far - 2), 6);
        assert_memory_equal(read, "\0\0here", 6);
        assert_int_equal(lseek(numaperf_file_fd(file), 0, SEEK_END), (long long)far + 4);
        assert_int_equal(FILE_READ(file, read, 10, 0), 10);
        assert_memory_equal(read, "\0\0\0\0", 4);
    }
    file_close(fixture, file);
    file_fixture_close(fixture);
}

static void file_appends_where_the_file_ends(void **state)
{
    struct file_fixture *fixture = file_fixture_open(state);
    char read[8];
    numaperf_file_t *file = file_open(fixture, "log", O_RDWR | O_CREAT | O_APPEND);
    assert_int_equal(FILE_WRITE(file, "abcd", 4, 0), 4);
    assert_int_equal(FILE_WRITE(file, "efgh", 4, 0), 4);
    assert_int_equal(FILE_READ(file, read, 8, 0), 8);
    assert_memory_equal(read, "abcdefgh", 8);
    file_close(fixture, file);
    file_fixture_close(fixture);
}

/* ---- loops ---- */

static void timer_counts(uv_timer_t *timer)
{
    (*(int *)timer->data)++;
}

static void file_operations_keep_an_adopted_loop_alive(void **state)
{
    struct file_fixture *fixture = *state;
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    uv_loop_t uv;
    uv_timer_t timer;
    int fired = 0;
    assert_int_equal(uv_loop_init(&uv), 0);
    config.backend = fixture->backend;
    config.uv_loop = &uv;
    if (numaperf_loop_create(&config, &fixture->loop) < 0) {
        assert_int_equal(fixture->backend, NUMAPERF_IO_URING);
        print_message("skipped: %s\n", numaperf_last_error()->reason);
        assert_int_equal(uv_loop_close(&uv), 0);
        skip();
    }
    file_make_folder(fixture);
    file_make(fixture, "data", SIZE);
    assert_int_equal(uv_timer_init(&uv, &timer), 0);
    timer.data = &fired;
    assert_int_equal(uv_timer_start(&timer, timer_counts, 1, 0), 0);
    numaperf_file_t *file = file_open(fixture, "data", O_RDONLY);
    static char read[64][SIZE];
    struct file_told told = {0};
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(numaperf_file_read(file, read[i], SIZE, 0, file_tell, &told), 0);
    assert_int_equal(numaperf_file_close(file, file_tell, &told), 0);
    /* To the end of all of it, by libuv itself. */
    assert_int_equal(numaperf_loop_run(fixture->loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(told.count, 65);
    assert_int_equal(fired, 1);
    for (unsigned i = 1; i < 64; i++)
        assert_memory_equal(read[i], read[0], SIZE);
    uv_close((uv_handle_t *)&timer, NULL);
    assert_int_equal(numaperf_loop_run(fixture->loop, UV_RUN_DEFAULT), 0);
    file_fixture_close(fixture);
    assert_int_equal(uv_loop_close(&uv), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_CASE(file_buffers_of_workers_are_on_their_nodes),
        FILE_CASE(file_operations_of_a_runtime_that_stops_end),
        FILE_CASE(file_direct_reads_take_what_alignment_tells),
        FILE_CASE(file_offsets_go_beyond_32_bits),
        FILE_CASE(file_appends_where_the_file_ends),
        FILE_CASE(file_operations_keep_an_adopted_loop_alive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
