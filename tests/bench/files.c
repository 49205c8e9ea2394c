/* SPDX-License-Identifier: MIT */
/*
 * Reads of 4 KiB from a file that is in the page cache, one at a time and 32 at a time:
 * uv_fs_read() on a plain libuv loop, io_uring by hand, and files of numaperf on a worker with a
 * ring, on one without, and on a loop that the user runs. Every read looks at what came: a page
 * begins with its number.
 *
 * All of a sample's reads are one thread's, on the first worker's PU. libuv's pool exists before
 * that thread is pinned, as numaperf sees to it, too: its threads run where they like.
 */
#include "harness.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define FILES_PAGE 4096u
#define FILES_PAGES 256u
#define FILES_STRIDE 97u /* pages between one read and the next */
#define FILES_DEPTH_MAX 32u
#define FILES_READS 600000u
#define FILES_READS_POOL 30000u /* one at a time; four times as many of 32 */
#define FILES_READS_SMOKE 320u
#define FILES_WARM_UP_PARTS 10u

struct files_work;

/* One read at a time. */
struct files_slot {
    struct files_work *work;
    char *buffer;
    uint64_t page;
    uv_fs_t request;
};

/* Who begins the next read of a slot. */
typedef int (*files_read_fn)(struct files_slot *slot);

struct files_work {
    int fd;
    uint32_t depth;
    uint64_t count;
    uint64_t begun, ended;
    uint64_t start_ns, end_ns;
    uint64_t start_cpu_ns, end_cpu_ns;
    int rc;
    files_read_fn read;
    numaperf_loop_t *loop;
    numaperf_file_t *file;
    uv_loop_t uv;
    struct io_uring ring;
    char *buffers;
    struct files_slot slots[FILES_DEPTH_MAX];
};

static struct bench_tally files_tally; /* of the runtime's one task */
static struct files_work files_work;   /* its process takes one sample */

/* ---- what all do ---- */

static int files_make(struct files_work *work)
{
    char path[] = "/tmp/numaperf-bench-XXXXXX";
    static uint64_t page[FILES_PAGE / sizeof(uint64_t)];
    work->fd = mkstemp(path);
    if (work->fd < 0)
        return -errno;
    (void)unlink(path);
    for (uint64_t i = 0; i < FILES_PAGES; i++) {
        page[0] = i;
        if (pwrite(work->fd, page, FILES_PAGE, (off_t)(i * FILES_PAGE)) != FILES_PAGE)
            return -EIO;
    }
    return 0;
}

/* Begin the next read of a slot, if there is one. */
static void files_next(struct files_slot *slot)
{
    struct files_work *work = slot->work;
    if (work->rc < 0 || work->begun == work->count)
        return;
    slot->page = work->begun * FILES_STRIDE % FILES_PAGES;
    work->begun++;
    int rc = work->read(slot);
    if (rc < 0)
        work->rc = rc;
}

static void files_begin(struct files_work *work)
{
    for (uint32_t i = 0; i < work->depth; i++) {
        work->slots[i].work = work;
        work->slots[i].buffer = work->buffers + (size_t)i * FILES_PAGE;
        files_next(&work->slots[i]);
    }
}

static void files_end(struct files_slot *slot, int64_t result)
{
    struct files_work *work = slot->work;
    uint64_t first = 0;
    memcpy(&first, slot->buffer, sizeof(first));
    if (result != FILES_PAGE || first != slot->page)
        work->rc = result < 0 ? (int)result : -EIO;
    work->ended++;
    if (work->ended == work->count / FILES_WARM_UP_PARTS) {
        work->start_ns = bench_now_ns();
        work->start_cpu_ns = bench_cpu_ns();
    }
    if (work->ended == work->count) {
        work->end_ns = bench_now_ns();
        work->end_cpu_ns = bench_cpu_ns();
    }
    files_next(slot);
}

/* ---- uv_fs ---- */

static void files_uv_done(uv_fs_t *request)
{
    struct files_slot *slot = request->data;
    int64_t result = request->result;
    uv_fs_req_cleanup(request);
    files_end(slot, result);
}

static int files_uv_read(struct files_slot *slot)
{
    uv_buf_t buffer = uv_buf_init(slot->buffer, FILES_PAGE);
    slot->request.data = slot;
    return uv_fs_read(&slot->work->uv, &slot->request, slot->work->fd, &buffer, 1,
                      (int64_t)(slot->page * FILES_PAGE), files_uv_done);
}

static int files_uv_run(struct files_work *work)
{
    int rc = uv_loop_init(&work->uv);
    if (rc < 0)
        return rc;
    work->read = files_uv_read;
    files_begin(work);
    (void)uv_run(&work->uv, UV_RUN_DEFAULT); /* whether all was read is asked later */
    return uv_loop_close(&work->uv);
}

/* ---- io_uring by hand ---- */

static int files_ring_read(struct files_slot *slot)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&slot->work->ring); /* as many as the depth */
    io_uring_prep_read_fixed(sqe, slot->work->fd, slot->buffer, FILES_PAGE, slot->page * FILES_PAGE,
                             0);
    io_uring_sqe_set_data(sqe, slot);
    return 0;
}

static int files_ring_turn(struct files_work *work)
{
    struct io_uring_cqe *cqes[FILES_DEPTH_MAX];
    int rc = io_uring_submit_and_wait(&work->ring, 1);
    if (rc < 0)
        return rc;
    unsigned count = io_uring_peek_batch_cqe(&work->ring, cqes, FILES_DEPTH_MAX);
    for (unsigned i = 0; i < count; i++)
        files_end(io_uring_cqe_get_data(cqes[i]), cqes[i]->res);
    io_uring_cq_advance(&work->ring, count);
    return 0;
}

static int files_ring_open(struct files_work *work)
{
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    return io_uring_queue_init_params(FILES_DEPTH_MAX, &work->ring, &params);
}

static int files_ring_run(struct files_work *work)
{
    int rc = files_ring_open(work);
    if (rc < 0)
        return rc;
    struct iovec all = {.iov_base = work->buffers, .iov_len = (size_t)work->depth * FILES_PAGE};
    rc = io_uring_register_buffers(&work->ring, &all, 1);
    work->read = files_ring_read;
    if (rc == 0)
        files_begin(work);
    while (rc == 0 && work->ended < work->begun)
        rc = files_ring_turn(work);
    io_uring_queue_exit(&work->ring);
    return rc;
}

static const char *files_no_ring(void)
{
    if (files_ring_open(&files_work) < 0)
        return "no io_uring with deferred task work here";
    io_uring_queue_exit(&files_work.ring);
    return NULL;
}

/* ---- numaperf ---- */

static void files_own_closed(numaperf_file_t *file, int64_t result, void *data)
{
    struct files_work *work = data;
    (void)file;
    if (result < 0)
        work->rc = (int)result;
    numaperf_file_buffer_free(work->loop, work->buffers);
    bench_tally_add(&files_tally);
}

static void files_own_done(numaperf_file_t *file, int64_t result, void *data)
{
    struct files_slot *slot = data;
    struct files_work *work = slot->work;
    files_end(slot, result);
    if (work->ended == work->begun && numaperf_file_close(file, files_own_closed, work) < 0)
        abort(); /* nobody would ever hear of it */
}

static int files_own_read(struct files_slot *slot)
{
    return numaperf_file_read(slot->work->file, slot->buffer, FILES_PAGE, slot->page * FILES_PAGE,
                              files_own_done, slot);
}

static int files_own_begin(struct files_work *work)
{
    work->read = files_own_read;
    work->buffers = numaperf_file_buffer_alloc(work->loop, (size_t)work->depth * FILES_PAGE);
    if (work->buffers == NULL)
        return numaperf_last_error()->code;
    int rc = numaperf_file_adopt(work->loop, work->fd, &work->file);
    if (rc == 0)
        files_begin(work);
    return rc;
}

static void files_own_task(numaperf_worker_t *worker, void *arg)
{
    struct files_work *work = arg;
    work->loop = numaperf_worker_io(worker);
    int rc = files_own_begin(work);
    if (rc == 0)
        return;
    work->rc = rc;
    bench_tally_add(&files_tally);
}

static int files_own_run(struct files_work *work)
{
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = NUMAPERF_IO_URING;
    int rc = numaperf_loop_create(&config, &work->loop);
    if (rc < 0)
        return rc;
    rc = files_own_begin(work);
    if (rc == 0)
        rc = numaperf_loop_run(work->loop, UV_RUN_DEFAULT);
    return rc < 0 ? rc : numaperf_loop_destroy(work->loop);
}

/* ---- a sample ---- */

static int files_on_worker(const struct bench_run *run, struct files_work *work)
{
    void *state = NULL;
    int rc = run->peer->start(run->peer, run->setup, &state);
    if (rc < 0)
        return rc;
    rc = run->peer->spawn(state, 0, files_own_task, work);
    if (rc == 0)
        rc = bench_tally_wait(&files_tally, 1);
    run->peer->stop(state);
    return rc;
}

static void files_nothing(uv_work_t *work)
{
    (void)work;
}

static void files_nothing_done(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
}

/* Have libuv's pool exist: its threads run where this one may run now. */
static int files_make_pool(void)
{
    uv_loop_t loop;
    uv_work_t work;
    int rc = uv_loop_init(&loop);
    if (rc == 0)
        rc = uv_queue_work(&loop, &work, files_nothing, files_nothing_done);
    if (rc == 0)
        rc = uv_run(&loop, UV_RUN_DEFAULT);
    return rc < 0 ? rc : uv_loop_close(&loop);
}

static int files_on_thread(const struct bench_run *run, struct files_work *work)
{
    int (*const *ops)(struct files_work *) = run->peer->ops;
    int rc = files_make_pool();
    if (rc == 0)
        rc = bench_pin(run->setup->cpus[0]);
    work->buffers = rc == 0 ? aligned_alloc(FILES_PAGE, (size_t)work->depth * FILES_PAGE) : NULL;
    char *buffers = work->buffers; /* numaperf takes its own */
    if (buffers == NULL)
        return rc < 0 ? rc : -ENOMEM;
    rc = (*ops)(work);
    free(buffers);
    return rc;
}

static uint64_t files_count(const struct bench_run *run)
{
    if (run->smoke)
        return FILES_READS_SMOKE;
    if (run->peer == &bench_numaperf_epoll || run->peer->variant == FILES_READS_POOL)
        return run->bench->parameter == 1 ? FILES_READS_POOL : 4 * FILES_READS_POOL;
    return FILES_READS;
}

static int files_sample(const struct bench_run *run, double *out_values)
{
    struct files_work *work = &files_work;
    work->depth = run->bench->parameter;
    work->count = files_count(run);
    int rc = files_make(work);
    if (rc == 0)
        rc = run->peer->start != NULL ? files_on_worker(run, work) : files_on_thread(run, work);
    if (rc == 0)
        rc = work->rc;
    if (rc == 0 && work->ended != work->count)
        rc = -EIO;
    uint64_t timed = work->count - work->count / FILES_WARM_UP_PARTS;
    out_values[0] = (double)timed * 1e9 / (double)(work->end_ns - work->start_ns);
    out_values[1] = (double)(work->end_cpu_ns - work->start_cpu_ns) / (double)timed;
    return rc;
}

/* ---- cases ---- */

static int (*const files_uv_ops)(struct files_work *) = files_uv_run;
static int (*const files_ring_ops)(struct files_work *) = files_ring_run;
static int (*const files_own_ops)(struct files_work *) = files_own_run;

static const struct bench_peer files_uv = {
    .name = "uv_fs", .variant = FILES_READS_POOL, .ops = &files_uv_ops};
static const struct bench_peer files_ring = {
    .name = "io_uring", .missing = files_no_ring, .ops = &files_ring_ops};
static const struct bench_peer files_loop = {
    .name = "numaperf-loop", .missing = files_no_ring, .ops = &files_own_ops};

#define FILES_CASE(title, what, depth, must_be, aim_is)                                           \
    {                                                                                             \
        .name = (title), .about = (what),                                                         \
        .peers = {&files_uv, &files_ring, &bench_numaperf, &files_loop, &bench_numaperf_epoll},   \
        .metrics = {{.name = "reads/s", .unit = "1/s"},                                           \
                    {.name = "CPU a read", .unit = "ns", .lower_is_better = true}},               \
        .goals =                                                                                  \
            {{.peer = &bench_numaperf, .against = &files_uv, .must = (must_be), .aim = (aim_is)}, \
             {.peer = &bench_numaperf, .against = &files_ring, .aim = 0.9}},                      \
        .node_count = 1, .workers_per_node = 1, .parameter = (depth), .sample = files_sample      \
    }

static const struct bench_case files_cases[] = {
    FILES_CASE("files.one", "cached reads of 4 KiB, one at a time", 1, 20, 35),
    FILES_CASE("files.deep", "cached reads of 4 KiB, 32 at a time", 32, 3, 4.5),
};

const struct bench_workload bench_files = {
    .name = "files",
    .cases = files_cases,
    .case_count = sizeof(files_cases) / sizeof(files_cases[0]),
};
