/* SPDX-License-Identifier: MIT */
/*
 * Live probe of io_uring and of its io-wq worker threads.
 *
 * The ring is driven by raw system calls: what is asked here is what the kernel does, before any
 * ring of the runtime exists. It runs on a short thread of its own, because io-wq belongs to the
 * thread that submits: on the caller's it would change the affinity of the workers of the caller's
 * own rings, and leave a worker behind for as long as that thread lives. The thread allocates
 * nothing and its stack is mapped here, so that the C library keeps no arena and no cached stack.
 * Invariant: when the probe returns, descriptors, mappings and threads are what they were.
 *
 * Source: io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
 */
#include "place/probe.h"

#include "base/assert.h"
#include "place/kernel_text.h"
#include "place/pin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RING_ENTRIES 4u
#define NOP_TAG 0x6e6f70u

/* Signals are blocked on the thread, so even one wait again is rare; a bound is a bound. */
#define WAIT_ATTEMPTS_MAX 64

/* io-wq threads of this process that are told apart; a process with more cannot be judged. */
#define WORKERS_MAX 1024

/* A kernel thread leaves /proc a moment after its creator was told that it is done. */
#define GONE_WAIT_MS_MAX 2000

/* What the thread sanitizer needs; only what is touched costs memory. */
#define STACK_LENGTH ((size_t)2 << 20)

/* ---- the ring ---- */

struct ring {
    int fd;
    size_t sq_length;
    size_t cq_length;
    size_t sqes_length;
    void *sq; /* shared with the kernel, at the offsets in params */
    void *cq;
    void *sqes;
    struct io_uring_params params;
};

static void *ring_at(void *base, unsigned offset)
{
    return (char *)base + offset;
}

static int ring_map(const struct ring *ring, size_t length, unsigned long long offset,
                    void **out_base)
{
    void *base = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd,
                      (off_t)offset);
    if (base == MAP_FAILED)
        return -errno;
    *out_base = base;
    return 0;
}

static void ring_close(struct ring *ring)
{
    if (ring->sqes != NULL)
        (void)munmap(ring->sqes, ring->sqes_length);
    if (ring->cq != NULL)
        (void)munmap(ring->cq, ring->cq_length);
    if (ring->sq != NULL)
        (void)munmap(ring->sq, ring->sq_length);
    (void)close(ring->fd); /* nothing is in flight that anyone waits for */
}

static int ring_open(struct ring *ring)
{
    memset(ring, 0, sizeof(*ring));
    ring->fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &ring->params);
    if (ring->fd < 0)
        return -errno;

    const struct io_uring_params *params = &ring->params;
    ring->sq_length = params->sq_off.array + params->sq_entries * sizeof(unsigned);
    ring->cq_length = params->cq_off.cqes + params->cq_entries * sizeof(struct io_uring_cqe);
    ring->sqes_length = params->sq_entries * sizeof(struct io_uring_sqe);
    /* Three mappings work with and without IORING_FEAT_SINGLE_MMAP. */
    int rc = ring_map(ring, ring->sq_length, IORING_OFF_SQ_RING, &ring->sq);
    if (rc == 0)
        rc = ring_map(ring, ring->cq_length, IORING_OFF_CQ_RING, &ring->cq);
    if (rc == 0)
        rc = ring_map(ring, ring->sqes_length, IORING_OFF_SQES, &ring->sqes);
    if (rc < 0)
        ring_close(ring);
    return rc;
}

/* Take the completion, if there is one; returns whether there was. */
static bool ring_reap(struct ring *ring, int *out_result)
{
    _Atomic unsigned *head_word = ring_at(ring->cq, ring->params.cq_off.head);
    _Atomic unsigned *tail_word = ring_at(ring->cq, ring->params.cq_off.tail);
    unsigned head = atomic_load_explicit(head_word, memory_order_relaxed);
    /* Pairs with the kernel's release of the tail: the entry is whole. */
    unsigned tail = atomic_load_explicit(tail_word, memory_order_acquire);
    if (head == tail)
        return false;

    const struct io_uring_cqe *cqes = ring_at(ring->cq, ring->params.cq_off.cqes);
    const struct io_uring_cqe *cqe = &cqes[head & (ring->params.cq_entries - 1)];
    *out_result = cqe->user_data == NOP_TAG ? cqe->res : -EIO;
    /* Pairs with the kernel's acquire of the head: it may write the entry again. */
    atomic_store_explicit(head_word, head + 1, memory_order_release);
    return true;
}

static int ring_submit_and_wait(struct ring *ring)
{
    unsigned to_submit = 1;
    for (int attempt = 0; attempt < WAIT_ATTEMPTS_MAX; attempt++) {
        long n =
            syscall(SYS_io_uring_enter, ring->fd, to_submit, 1u, IORING_ENTER_GETEVENTS, NULL, 0UL);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0)
            to_submit = 0;
        int result = 0;
        if (ring_reap(ring, &result))
            return result;
    }
    return -ETIMEDOUT;
}

/* One NOP; IOSQE_ASYNC makes an io-wq worker run it. */
static int ring_nop(struct ring *ring, unsigned char sqe_flags)
{
    _Atomic unsigned *tail_word = ring_at(ring->sq, ring->params.sq_off.tail);
    unsigned tail = atomic_load_explicit(tail_word, memory_order_relaxed);
    unsigned index = tail & (ring->params.sq_entries - 1);
    struct io_uring_sqe *sqe = (struct io_uring_sqe *)ring->sqes + index;
    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = IORING_OP_NOP;
    sqe->flags = sqe_flags;
    sqe->fd = -1;
    sqe->user_data = NOP_TAG;
    unsigned *array = ring_at(ring->sq, ring->params.sq_off.array);
    array[index] = index;
    /* Pairs with the kernel's acquire of the tail: the entry is written before it is seen. */
    atomic_store_explicit(tail_word, tail + 1, memory_order_release);
    return ring_submit_and_wait(ring);
}

/* ---- io-wq workers, found among the threads of this process ---- */

struct workers {
    int count;
    int tid[WORKERS_MAX];
};

static bool workers_contain(const struct workers *workers, int tid)
{
    for (int i = 0; i < workers->count; i++) {
        if (workers->tid[i] == tid)
            return true;
    }
    return false;
}

/* Whether a thread is an io-wq worker, by its name: "iou-wrk-" and the number of its owner. */
static bool worker_read_owner(int tid, int *out_owner)
{
    static const char prefix[] = "iou-wrk-";
    char path[64];
    char comm[32];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/comm", tid);
    if (numaperf__kernel_text_read(path, comm, sizeof(comm)) < 0)
        return false; /* gone in the meantime */
    if (strncmp(comm, prefix, sizeof(prefix) - 1) != 0)
        return false;
    *out_owner = (int)strtol(comm + sizeof(prefix) - 1, NULL, 10);
    return true;
}

/* One buffer of directory entries; -E2BIG when there are too many workers. */
static int workers_add(struct workers *workers, const char *entries, size_t length)
{
    size_t at = 0;
    while (at < length) {
        const struct dirent64 *entry = (const void *)(entries + at);
        at += entry->d_reclen;
        int tid = (int)strtol(entry->d_name, NULL, 10);
        int owner = 0;
        if (tid <= 0 || !worker_read_owner(tid, &owner))
            continue;
        if (workers->count == WORKERS_MAX)
            return -E2BIG;
        workers->tid[workers->count] = tid;
        workers->count++;
    }
    return 0;
}

static int workers_list(struct workers *out)
{
    out->count = 0;
    /* Not opendir(), which allocates. */
    int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    _Alignas(struct dirent64) char entries[4096];
    int rc = 0;
    ssize_t n = 1;
    while (rc == 0 && n > 0) {
        n = getdents64(fd, entries, sizeof(entries));
        if (n < 0)
            rc = -errno;
        else
            rc = workers_add(out, entries, (size_t)n);
    }
    (void)close(fd);
    return rc;
}

/*
 * Judge the workers that are new since `before`. The number in a worker's name is its owner's in
 * the first pid namespace, so inside a container it need not be ours: then a new worker with
 * exactly the mask is taken for it.
 */
static int workers_judge(const struct workers *before, const numaperf_cpuset_t *wanted,
                         int *out_worker_tid)
{
    struct workers now;
    int rc = workers_list(&now);
    if (rc < 0)
        return rc;

    rc = -EIO;
    for (int i = 0; i < now.count; i++) {
        int owner = 0;
        numaperf_cpuset_t cpus;
        if (workers_contain(before, now.tid[i]) || !worker_read_owner(now.tid[i], &owner))
            continue;
        if (numaperf__affinity_get(now.tid[i], &cpus) < 0)
            continue;
        bool is_confined = numaperf_cpuset_equal(&cpus, wanted);
        if (is_confined || owner == gettid())
            *out_worker_tid = now.tid[i];
        if (owner == gettid())
            return is_confined ? 0 : -EIO;
        if (is_confined)
            rc = 0;
    }
    return rc;
}

/* ---- the probe ---- */

/* Written by the probe's thread, read by its creator after the join. */
struct ring_job {
    struct numaperf__ring_probe probe;
    int tid;
    int worker_tid;
};

static void iowq_probe(struct ring *ring, struct ring_job *job)
{
    numaperf_cpuset_t own;
    int rc = numaperf__affinity_get(0, &own);
    if (rc < 0) {
        job->probe.iowq_effect = rc;
        return;
    }
    numaperf_cpuset_t one;
    numaperf_cpuset_zero(&one);
    (void)numaperf_cpuset_add(&one, numaperf_cpuset_next(&own, -1)); /* in range: from a set */
    /* Before any asynchronous request: kernels up to 6.1 leave workers that exist alone. */
    if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_IOWQ_AFF, one.bits,
                sizeof(one.bits)) < 0) {
        job->probe.iowq_register = -errno;
        return;
    }

    struct workers before;
    rc = workers_list(&before);
    if (rc == 0)
        rc = ring_nop(ring, IOSQE_ASYNC);
    if (rc == 0)
        rc = workers_judge(&before, &one, &job->worker_tid);
    job->probe.iowq_effect = rc;
}

static void *ring_main(void *arg)
{
    struct ring_job *job = arg;
    job->tid = gettid();
    struct ring ring;
    job->probe.setup = ring_open(&ring);
    if (job->probe.setup < 0)
        return NULL;
    job->probe.nop = ring_nop(&ring, 0);
    if (job->probe.nop == 0)
        iowq_probe(&ring, job);
    ring_close(&ring);
    return NULL;
}

/* Wait, within reason, until a thread is no longer one of this process. */
static void thread_await_gone(int tid)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d", tid);
    for (int ms = 0; ms < GONE_WAIT_MS_MAX && access(path, F_OK) == 0; ms++) {
        const struct timespec pause = {0, 1000000};
        (void)nanosleep(&pause, NULL); /* shorter when interrupted, which does no harm */
    }
}

/* Run the job on a thread that lies on `stack`, with all signals blocked. */
static int ring_thread_run(void *stack, struct ring_job *job)
{
    pthread_attr_t attr;
    int err = pthread_attr_init(&attr);
    if (err != 0)
        return -err;
    err = pthread_attr_setstack(&attr, stack, STACK_LENGTH);
    NUMAPERF_ASSERT(err == 0);

    sigset_t all;
    sigset_t old;
    (void)sigfillset(&all); /* cannot fail */
    err = pthread_sigmask(SIG_SETMASK, &all, &old);
    NUMAPERF_ASSERT(err == 0);
    pthread_t thread;
    int create_err = pthread_create(&thread, &attr, ring_main, job);
    err = pthread_sigmask(SIG_SETMASK, &old, NULL);
    NUMAPERF_ASSERT(err == 0);
    (void)pthread_attr_destroy(&attr);
    if (create_err != 0)
        return -create_err;
    err = pthread_join(thread, NULL);
    NUMAPERF_ASSERT(err == 0);
    return 0;
}

void numaperf__probe_ring(struct numaperf__ring_probe *out_probe)
{
    struct ring_job job;
    memset(&job, 0, sizeof(job));
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    char *stack = mmap(NULL, guard + STACK_LENGTH, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        job.probe.setup = -ENOMEM;
        goto report;
    }
    int rc = mprotect(stack, guard, PROT_NONE) < 0 ? -errno : 0;
    if (rc == 0)
        rc = ring_thread_run(stack + guard, &job);
    if (rc < 0)
        job.probe.setup = rc;
    if (job.tid > 0)
        thread_await_gone(job.tid);
    if (job.worker_tid > 0)
        thread_await_gone(job.worker_tid);
    (void)munmap(stack, guard + STACK_LENGTH);
report:
    *out_probe = job.probe;
}
