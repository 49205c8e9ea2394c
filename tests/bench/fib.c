/* SPDX-License-Identifier: MIT */
/*
 * The fork-join tree fib(27). Peers with a fork and join of their own use it; for the others a fork
 * is a frame that counts the two values it waits for: it is the argument of the task for n - 1,
 * while the task that forks goes on with n - 2, and whoever brings the second value takes the sum
 * on to the frame above.
 *
 * A frame is written by the task that forks until the spawn, and by the bringers through its
 * atomics afterwards. Frames are recycled by thread, as every peer's user would have to.
 */
#include "fib.h"

#include "harness.h"

#include <errno.h>
#include <stdlib.h>

#define FIB_N 27u
#define FIB_N_SMOKE 12u
#define FIB_WARM_UP_LESS 5u /* an eleventh of the tree before the clock runs */
#define FIB_FRAMES 256u     /* allocated at once */

struct fib_run;

struct fib_frame {
    struct fib_run *run;
    struct fib_frame *parent; /* NULL: the root; in the free list: the next */
    uint32_t n;               /* of the task it is the argument of */
    _Atomic uint32_t missing; /* values */
    _Atomic uint64_t sum;
};

/* Kept until the process of the sample ends: its frames go from thread to thread. */
struct fib_block {
    struct fib_block *next;
    struct fib_frame frames[FIB_FRAMES];
};

struct fib_run {
    const struct bench_peer *peer;
    uint32_t cutoff;
    uint64_t value; /* written before the tally is */
};

static struct bench_tally tally;
static _Thread_local struct fib_frame *fib_free;
static _Atomic(struct fib_block *) fib_blocks;

static void fib_frame_free(struct fib_frame *frame)
{
    frame->parent = fib_free;
    fib_free = frame;
}

static struct fib_frame *fib_frame_alloc(void)
{
    if (fib_free == NULL) {
        struct fib_block *block = calloc(1, sizeof(*block));
        if (block == NULL)
            abort(); /* there is nobody to tell in the middle of a tree */
        block->next = atomic_exchange_explicit(&fib_blocks, block, memory_order_relaxed);
        for (uint32_t i = 0; i < FIB_FRAMES; i++)
            fib_frame_free(&block->frames[i]);
    }
    struct fib_frame *frame = fib_free;
    fib_free = frame->parent;
    return frame;
}

/* Upwards, as long as the other value is there already. */
static void fib_bring(struct fib_run *run, struct fib_frame *frame, uint64_t value)
{
    while (frame != NULL) {
        (void)atomic_fetch_add_explicit(&frame->sum, value, memory_order_relaxed);
        /* Release: the sum; acquire: the other's part of it. */
        if (atomic_fetch_sub_explicit(&frame->missing, 1, memory_order_acq_rel) != 1)
            return;
        value = atomic_load_explicit(&frame->sum, memory_order_relaxed);
        struct fib_frame *parent = frame->parent;
        fib_frame_free(frame);
        frame = parent;
    }
    run->value = value;
    bench_tally_add(&tally);
}

static void fib_task(numaperf_worker_t *worker, void *arg);

/* Downwards. */
static void fib_go(struct fib_run *run, numaperf_worker_t *worker, struct fib_frame *above,
                   uint32_t n)
{
    while (n >= run->cutoff) {
        struct fib_frame *frame = fib_frame_alloc();
        frame->run = run;
        frame->parent = above;
        frame->n = n - 1;
        atomic_store_explicit(&frame->missing, 2, memory_order_relaxed);
        atomic_store_explicit(&frame->sum, 0, memory_order_relaxed);
        /* The limit of a node is above the tasks of the whole tree. */
        if (run->peer->spawn_inside(worker, fib_task, frame) < 0)
            abort();
        above = frame;
        n -= 2;
    }
    fib_bring(run, above, bench_fib(n));
}

static void fib_task(numaperf_worker_t *worker, void *arg)
{
    struct fib_frame *frame = arg;
    fib_go(frame->run, worker, frame, frame->n);
}

struct fib_root {
    struct fib_run run;
    uint32_t n;
};

static void fib_root_task(numaperf_worker_t *worker, void *arg)
{
    struct fib_root *root = arg;
    fib_go(&root->run, worker, NULL, root->n);
}

static int fib_compute(const struct bench_run *run, void *state, uint32_t n)
{
    uint64_t value = 0;
    struct fib_root root = {.run = {.peer = run->peer, .cutoff = run->bench->parameter}, .n = n};
    int rc = 0;
    if (run->peer->fork_join != NULL) {
        rc = run->peer->fork_join(state, n, root.run.cutoff, &value);
    } else {
        uint64_t before = bench_tally_sum(&tally);
        rc = run->peer->spawn(state, 0, fib_root_task, &root);
        if (rc == 0)
            rc = bench_tally_wait(&tally, before + 1);
        value = root.run.value;
    }
    if (rc == 0 && value != bench_fib(n))
        rc = -EPROTO;
    return rc;
}

/* Forks of the tree: those of its two branches, and its own. */
static uint64_t fib_forks(uint32_t n, uint32_t cutoff)
{
    uint64_t below[2] = {0, 0};
    for (uint32_t i = cutoff; i <= n; i++) {
        uint64_t forks = below[0] + below[1] + 1;
        below[0] = below[1];
        below[1] = forks;
    }
    return below[1];
}

static int fib_measure(const struct bench_run *run, void *state, double *out_values)
{
    uint32_t n = run->smoke ? FIB_N_SMOKE : FIB_N;
    int rc = fib_compute(run, state, n - FIB_WARM_UP_LESS);
    if (rc < 0)
        return rc;
    uint64_t start_ns = bench_now_ns();
    uint64_t start_cpu_ns = bench_cpu_ns();
    rc = fib_compute(run, state, n);
    uint64_t cpu_ns = bench_cpu_ns() - start_cpu_ns;
    uint64_t took_ns = bench_now_ns() - start_ns;
    double forks = (double)fib_forks(n, run->bench->parameter);
    out_values[0] = forks * 1e9 / (double)took_ns;
    out_values[1] = (double)cpu_ns / forks;
    return rc;
}

static int fib_sample(const struct bench_run *run, double *out_values)
{
    void *state = NULL;
    int rc = run->peer->start(run->peer, run->setup, &state);
    if (rc < 0)
        return rc;
    rc = fib_measure(run, state, out_values);
    run->peer->stop(state);
    return rc;
}

#define FIB_CASE(suffix, text, cut)                                                      \
    {                                                                                    \
        .name = "fib." suffix, .about = text,                                            \
        .peers = {&bench_tbb_enqueue, &bench_tbb_group, &bench_openmp,                   \
                  &bench_glib,        &bench_numaperf,  &bench_numaperf_epoll},          \
        .metrics = {{.name = "forks/s", .unit = "1/s"},                                  \
                    {.name = "CPU a fork", .unit = "ns", .lower_is_better = true}},      \
        .goals = {{.peer = &bench_numaperf, .against = &bench_tbb_enqueue, .must = 1.0}, \
                  {.peer = &bench_numaperf, .against = &bench_tbb_group, .aim = 1.3}},   \
        .node_count = 1, .workers_per_node = 2, .parameter = (cut), .sample = fib_sample \
    }

static const struct bench_case fib_cases[] = {
    FIB_CASE("fine", "fork-join tree fib(27), every call a task or a fork, two workers of a node",
             2),
    FIB_CASE("coarse", "fork-join tree fib(27), plain code below 12, two workers of a node", 12),
};

const struct bench_workload bench_fib_tree = {
    .name = "fib",
    .cases = fib_cases,
    .case_count = sizeof(fib_cases) / sizeof(fib_cases[0]),
};
