/* SPDX-License-Identifier: MIT */
/*
 * Populating ranges, by the calling thread or by helper threads on the PUs of the target node.
 *
 * Helpers share one counter of pieces, so a helper that could not be made is simply missed: the
 * others take its pieces. Invariant: a piece is taken by exactly one thread, and all pieces are
 * populated when every thread has seen the counter at its end. Where a helper runs decides only
 * how quick it is; where the pages land is the memory policy's business and is queried afterwards,
 * so a helper that cannot be pinned works unpinned.
 *
 * Threads: numaperf__prefault() on any thread; it returns after its helpers are joined.
 * Source: madvise(2) MADV_POPULATE_WRITE, pthread_create(3).
 */
#include "place/prefault.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "place/pin.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

/* Since Linux 5.14; older headers lack them. */
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define PIECE_BYTES ((size_t)16 << 20) /* coarse enough that the counter is never contended */
#define THREADS_CHOSEN_MAX 8           /* clearing pages saturates a node's memory soon */

struct prefault_job {
    const struct numaperf__range *range;
    const struct numaperf__prefault_plan *plan;
    size_t piece_bytes;
    atomic_size_t next_offset; /* the first byte nobody has taken; every thread adds */
    atomic_int first_error;    /* 0, or the -errno seen first; every thread may set it */
};

/* Volatile, because nobody reads the result: the access itself is the purpose. */
static void prefault_touch(const struct numaperf__range *range, uint32_t touch)
{
    NUMAPERF_ASSERT(touch != NUMAPERF__TOUCH_REFUSE);
    for (size_t offset = 0; offset < range->length; offset += range->page_bytes) {
        volatile char *byte = range->base + offset;
        if (touch == NUMAPERF__TOUCH_CLEAR) {
            *byte = 0;
            continue;
        }
        char value = *byte;
        if (touch == NUMAPERF__TOUCH_REWRITE)
            *byte = value;
    }
}

static int prefault_piece(const struct numaperf__range *piece,
                          const struct numaperf__prefault_plan *plan)
{
    int advice = plan->writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
    if (madvise(piece->base, piece->length, advice) == 0)
        return 0;
    /* The kernel does not know the advice, or a filter refuses it; neither is about the memory. */
    if (errno != EINVAL && errno != EPERM && errno != EACCES && errno != ENOSYS)
        return -errno;
    if (plan->touch == NUMAPERF__TOUCH_REFUSE)
        return -ENOSYS;
    prefault_touch(piece, plan->touch);
    return 0;
}

static void prefault_run(struct prefault_job *job)
{
    const struct numaperf__range *range = job->range;
    /* Relaxed everywhere: the join publishes the work, the counter only shares it out. */
    while (atomic_load_explicit(&job->first_error, memory_order_relaxed) == 0) {
        size_t offset =
            atomic_fetch_add_explicit(&job->next_offset, job->piece_bytes, memory_order_relaxed);
        if (offset >= range->length)
            return;
        size_t left = range->length - offset;
        struct numaperf__range piece = *range;
        piece.base += offset;
        piece.length = left < job->piece_bytes ? left : job->piece_bytes;
        int rc = prefault_piece(&piece, job->plan);
        int none = 0;
        if (rc < 0)
            (void)atomic_compare_exchange_strong_explicit(
                &job->first_error, &none, rc, memory_order_relaxed,
                memory_order_relaxed); /* lost to another thread's error: just as good */
    }
}

static void *prefault_thread(void *arg)
{
    struct prefault_job *job = arg;
    if (numaperf_cpuset_count(&job->plan->cpus) > 0)
        (void)numaperf__affinity_set(0, &job->plan->cpus); /* slower when refused, not wrong */
    prefault_run(job);
    return NULL;
}

/* Start helpers with every signal blocked, so that none of the caller's handlers runs on them. */
static uint32_t prefault_start(struct prefault_job *job, pthread_t *threads)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all); /* cannot fail */
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return 0;
    uint32_t count = 0;
    while (count < job->plan->threads &&
           pthread_create(&threads[count], NULL, prefault_thread, job) == 0)
        count++;
    int rc = pthread_sigmask(SIG_SETMASK, &before, NULL);
    NUMAPERF_ASSERT(rc == 0);
    return count;
}

int numaperf__prefault(const struct numaperf__range *range,
                       const struct numaperf__prefault_plan *plan)
{
    NUMAPERF_ASSERT(plan->threads <= NUMAPERF__PREFAULT_THREADS_MAX);

    struct prefault_job job = {.range = range, .plan = plan, .piece_bytes = PIECE_BYTES};
    if (range->page_bytes > job.piece_bytes)
        job.piece_bytes = range->page_bytes;
    NUMAPERF_ASSERT(job.piece_bytes % range->page_bytes == 0);

    pthread_t threads[NUMAPERF__PREFAULT_THREADS_MAX];
    uint32_t started = plan->threads > 0 ? prefault_start(&job, threads) : 0;
    if (started == 0)
        prefault_run(&job);
    for (uint32_t i = 0; i < started; i++) {
        int rc = pthread_join(threads[i], NULL);
        NUMAPERF_ASSERT(rc == 0);
    }
    int rc = atomic_load_explicit(&job.first_error, memory_order_relaxed);
    NUMAPERF_ASSERT(rc < 0 ||
                    atomic_load_explicit(&job.next_offset, memory_order_relaxed) >= range->length);
    return rc;
}

uint32_t numaperf__prefault_threads(const struct numaperf__range *range,
                                    const numaperf_cpuset_t *cpus)
{
    size_t pieces = (range->length + PIECE_BYTES - 1) / PIECE_BYTES;
    int cpu_count = numaperf_cpuset_count(cpus);
    uint32_t count = THREADS_CHOSEN_MAX;
    if (cpu_count > 0 && (uint32_t)cpu_count < count)
        count = (uint32_t)cpu_count;
    if (pieces < count)
        count = (uint32_t)pieces;
    return count;
}
