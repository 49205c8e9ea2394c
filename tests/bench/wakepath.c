/* SPDX-License-Identifier: MIT */
/*
 * The kernel's ways to wake a thread, without a runtime around them: what the one that wakes pays,
 * and how long until the other runs. The waker rests half a millisecond in between, so the other
 * has gone to sleep each time. Those that sleep in a futex cannot wait for I/O meanwhile: they are
 * here for what the rest costs beyond them.
 *
 * The sleeper owns its ring, the waker the one it may send from; the futex word and the count of
 * wakes are shared.
 */
#include "harness.h"

#include <errno.h>
#include <liburing.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WAKEPATH_WAKES 400u
#define WAKEPATH_WAKES_SMOKE 5u
#define WAKEPATH_WARM_UP 20u
#define WAKEPATH_GAP_NS 500000u
#define WAKEPATH_GAP_SPREAD_NS 100000u
#define WAKEPATH_ENTRIES 8u
/* Newer than liburing 2.3. */
#define WAKEPATH_OP_FUTEX_WAIT 51
#define WAKEPATH_REGISTER_SEND_MSG_RING 31u
#define WAKEPATH_FUTEX2_PRIVATE_U32 (2 | 128)

struct wakepath {
    const struct wakepath_ops *ops;
    int32_t cpu; /* the sleeper's */
    int rc;      /* the sleeper's, written before it says that it is ready */
    bool has_from;
    struct io_uring ring; /* the sleeper's */
    struct io_uring from; /* the waker's */
    struct epoll_event interest;
    int event;
    int epoll;
    uint64_t event_value;                 /* the kernel writes it */
    _Alignas(128) _Atomic uint32_t word;  /* counted up by the waker */
    _Alignas(128) _Atomic uint32_t woken; /* counted up by the sleeper */
    _Atomic uint64_t seen_ns;             /* written by the sleeper before */
    _Alignas(128) _Atomic bool ready;
    _Atomic bool stop;
};

struct wakepath_ops {
    int (*open)(struct wakepath *path); /* on the sleeper; close() takes back what is there */
    int (*sleep)(struct wakepath *path);
    int (*wake)(struct wakepath *path);
};

/* ---- rings ---- */

static int wakepath_ring(struct wakepath *path)
{
    return io_uring_queue_init(WAKEPATH_ENTRIES, &path->ring,
                               IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                   IORING_SETUP_TASKRUN_FLAG);
}

static int wakepath_from(struct wakepath *path)
{
    int rc = io_uring_queue_init(WAKEPATH_ENTRIES, &path->from, IORING_SETUP_SINGLE_ISSUER);
    path->has_from = rc == 0;
    return rc;
}

/* Until one CQE is there; its result. */
static int wakepath_reap(struct wakepath *path)
{
    int rc = 0;
    do
        rc = io_uring_submit_and_wait(&path->ring, 1);
    while (rc == -EINTR);
    struct io_uring_cqe *cqe = NULL;
    if (rc >= 0)
        rc = io_uring_peek_cqe(&path->ring, &cqe);
    if (rc < 0)
        return rc;
    int result = cqe->res;
    io_uring_cqe_seen(&path->ring, cqe);
    return result;
}

/* ---- eventfd ---- */

static int wakepath_event_open(struct wakepath *path)
{
    path->event = eventfd(0, EFD_CLOEXEC);
    return path->event < 0 ? -errno : wakepath_ring(path);
}

static int wakepath_event_sleep(struct wakepath *path)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&path->ring);
    io_uring_prep_read(sqe, path->event, &path->event_value, sizeof(path->event_value), 0);
    return wakepath_reap(path);
}

static int wakepath_event_wake(struct wakepath *path)
{
    uint64_t one = 1;
    return write(path->event, &one, sizeof(one)) == (ssize_t)sizeof(one) ? 0 : -errno;
}

static int wakepath_epoll_open(struct wakepath *path)
{
    path->event = eventfd(0, EFD_CLOEXEC);
    path->epoll = epoll_create1(EPOLL_CLOEXEC);
    path->interest.events = EPOLLIN;
    if (path->event < 0 || path->epoll < 0 ||
        epoll_ctl(path->epoll, EPOLL_CTL_ADD, path->event, &path->interest) < 0)
        return -errno;
    return wakepath_ring(path);
}

static int wakepath_epoll_sleep(struct wakepath *path)
{
    struct epoll_event event;
    int rc = 0;
    do
        rc = epoll_wait(path->epoll, &event, 1, -1);
    while (rc < 0 && errno == EINTR);
    if (rc < 0)
        return -errno;
    ssize_t n = read(path->event, &path->event_value, sizeof(path->event_value));
    return n == (ssize_t)sizeof(path->event_value) ? 0 : -errno;
}

/* ---- MSG_RING ---- */

static void wakepath_prep_message(struct wakepath *path, struct io_uring_sqe *sqe)
{
    io_uring_prep_msg_ring(sqe, path->ring.ring_fd, 0, 0, 0);
}

static int wakepath_message_wake(struct wakepath *path)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&path->from);
    wakepath_prep_message(path, sqe);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    int rc = io_uring_submit(&path->from);
    return rc < 0 ? rc : 0;
}

static int wakepath_register_wake(struct wakepath *path)
{
    struct io_uring_sqe sqe = {0};
    wakepath_prep_message(path, &sqe);
    long rc = syscall(SYS_io_uring_register, -1, WAKEPATH_REGISTER_SEND_MSG_RING, &sqe, 1);
    return rc < 0 ? -errno : 0;
}

/* ---- futex ---- */

static long wakepath_futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
    return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

static int wakepath_futex_sleep(struct wakepath *path)
{
    uint32_t seen = atomic_load_explicit(&path->woken, memory_order_relaxed);
    /* Acquire pairs with the release of the waker. */
    while (atomic_load_explicit(&path->word, memory_order_acquire) == seen) {
        if (wakepath_futex(&path->word, FUTEX_WAIT_PRIVATE, seen) < 0 && errno != EAGAIN &&
            errno != EINTR)
            return -errno;
    }
    return 0;
}

static int wakepath_ring_futex_sleep(struct wakepath *path)
{
    uint32_t seen = atomic_load_explicit(&path->woken, memory_order_relaxed);
    struct io_uring_sqe *sqe = io_uring_get_sqe(&path->ring);
    io_uring_prep_rw(WAKEPATH_OP_FUTEX_WAIT, sqe, WAKEPATH_FUTEX2_PRIVATE_U32, (void *)&path->word,
                     0, seen);
    sqe->addr3 = FUTEX_BITSET_MATCH_ANY;
    int rc = wakepath_reap(path);
    return rc == -EAGAIN ? 0 : rc; /* it was woken before it slept */
}

static int wakepath_futex_wake(struct wakepath *path)
{
    (void)atomic_fetch_add_explicit(&path->word, 1, memory_order_release);
    return wakepath_futex(&path->word, FUTEX_WAKE_PRIVATE, 1) < 0 ? -errno : 0;
}

/* ---- sleeper ---- */

static void *wakepath_sleeper(void *arg)
{
    struct wakepath *path = arg;
    path->rc = bench_pin(path->cpu);
    if (path->rc == 0)
        path->rc = path->ops->open(path);
    int rc = path->rc;
    atomic_store_explicit(&path->ready, true, memory_order_release);
    while (rc >= 0 && !atomic_load_explicit(&path->stop, memory_order_acquire)) {
        rc = path->ops->sleep(path);
        atomic_store_explicit(&path->seen_ns, bench_now_ns(), memory_order_relaxed);
        (void)atomic_fetch_add_explicit(&path->woken, 1, memory_order_release);
    }
    if (rc < 0 && path->rc == 0)
        abort(); /* the waker would wait for ever */
    if (path->rc == 0)
        io_uring_queue_exit(&path->ring);
    return NULL;
}

/* One wake; how long the call took, and how long until the sleeper was there. */
static int wakepath_once(struct wakepath *path, double *out_cost_ns, double *out_latency_ns)
{
    uint32_t before = atomic_load_explicit(&path->woken, memory_order_relaxed);
    uint64_t start_ns = bench_now_ns();
    int rc = path->ops->wake(path);
    uint64_t end_ns = bench_now_ns();
    if (rc < 0)
        return rc;
    while (atomic_load_explicit(&path->woken, memory_order_acquire) == before)
        continue;
    *out_cost_ns = (double)(end_ns - start_ns);
    uint64_t seen_ns = atomic_load_explicit(&path->seen_ns, memory_order_relaxed);
    *out_latency_ns = (double)(seen_ns - start_ns);
    return 0;
}

static int wakepath_drive(struct wakepath *path, uint32_t count, double *out_values)
{
    double costs[WAKEPATH_WAKES];
    double latencies[WAKEPATH_WAKES];
    uint32_t random = 12345;
    uint64_t start_cpu_ns = 0;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < count + WAKEPATH_WARM_UP; i++) {
        if (i == WAKEPATH_WARM_UP)
            start_cpu_ns = bench_cpu_ns() - bench_thread_cpu_ns();
        uint32_t at = i < WAKEPATH_WARM_UP ? 0 : i - WAKEPATH_WARM_UP;
        random = random * 1664525u + 1013904223u;
        bench_sleep_ns(WAKEPATH_GAP_NS + (random >> 8) % WAKEPATH_GAP_SPREAD_NS);
        rc = wakepath_once(path, &costs[at], &latencies[at]);
    }
    if (rc < 0)
        return rc;
    uint64_t cpu_ns = bench_cpu_ns() - bench_thread_cpu_ns() - start_cpu_ns;
    out_values[0] = bench_quantile(costs, count, 0.5);
    out_values[1] = bench_quantile(latencies, count, 0.5);
    out_values[2] = bench_quantile(latencies, count, 0.9);
    out_values[3] = (double)cpu_ns / count;
    return 0;
}

static int wakepath_start(struct wakepath *path, const struct bench_run *run, pthread_t *out_thread)
{
    path->ops = run->peer->ops;
    path->event = -1;
    path->epoll = -1;
    path->cpu = run->setup->cpus[0];
    int rc = bench_pin(run->setup->cpus[1]);
    if (rc == 0)
        rc = wakepath_from(path);
    if (rc == 0)
        rc = -pthread_create(out_thread, NULL, wakepath_sleeper, path);
    if (rc < 0)
        return rc;
    while (!atomic_load_explicit(&path->ready, memory_order_acquire))
        bench_sleep_ns(WAKEPATH_GAP_NS);
    if (path->rc < 0)
        pthread_join(*out_thread, NULL);
    return path->rc;
}

static int wakepath_sample(const struct bench_run *run, double *out_values)
{
    static struct wakepath path; /* its process takes one sample */
    pthread_t thread;
    int rc = wakepath_start(&path, run, &thread);
    if (rc == 0) {
        rc = wakepath_drive(&path, run->smoke ? WAKEPATH_WAKES_SMOKE : WAKEPATH_WAKES, out_values);
        atomic_store_explicit(&path.stop, true, memory_order_release);
        if (rc < 0 || path.ops->wake(&path) < 0)
            return rc; /* the sleeper ends with the process */
        pthread_join(thread, NULL);
    }
    if (path.has_from)
        io_uring_queue_exit(&path.from);
    if (path.event >= 0)
        (void)close(path.event);
    if (path.epoll >= 0)
        (void)close(path.epoll);
    return rc;
}

/* ---- peers ---- */

static const char *wakepath_no_ring(void)
{
    static struct wakepath path;
    if (wakepath_ring(&path) < 0)
        return "no io_uring with deferred task work here";
    io_uring_queue_exit(&path.ring);
    return NULL;
}

static const char *wakepath_no_ring_futex(void)
{
    struct io_uring_probe *probe = io_uring_get_probe();
    bool is_here = probe != NULL && probe->last_op >= WAKEPATH_OP_FUTEX_WAIT;
    io_uring_free_probe(probe);
    const char *why = wakepath_no_ring();
    return why != NULL || is_here ? why : "the kernel's io_uring has no futexes";
}

static const char *wakepath_no_register(void)
{
    struct io_uring_sqe sqe = {.opcode = IORING_OP_MSG_RING, .fd = -1};
    const char *why = wakepath_no_ring();
    if (why != NULL)
        return why;
    long rc = syscall(SYS_io_uring_register, -1, WAKEPATH_REGISTER_SEND_MSG_RING, &sqe, 1);
    return rc < 0 && errno == EBADF ? NULL : "the kernel sends no message without a ring";
}

#define WAKEPATH_PEER(variable, title, why, open_fn, sleep_fn, wake_fn)             \
    static const struct wakepath_ops variable##_ops = {open_fn, sleep_fn, wake_fn}; \
    static const struct bench_peer variable = {                                     \
        .name = title, .missing = why, .ops = &variable##_ops}

WAKEPATH_PEER(wakepath_event, "eventfd-read", wakepath_no_ring, wakepath_event_open,
              wakepath_event_sleep, wakepath_event_wake);
WAKEPATH_PEER(wakepath_epoll, "eventfd-epoll", wakepath_no_ring, wakepath_epoll_open,
              wakepath_epoll_sleep, wakepath_event_wake);
WAKEPATH_PEER(wakepath_message, "msg_ring", wakepath_no_ring, wakepath_ring, wakepath_reap,
              wakepath_message_wake);
WAKEPATH_PEER(wakepath_register, "msg_ring-register", wakepath_no_register, wakepath_ring,
              wakepath_reap, wakepath_register_wake);
WAKEPATH_PEER(wakepath_ring_word, "ring-futex", wakepath_no_ring_futex, wakepath_ring,
              wakepath_ring_futex_sleep, wakepath_futex_wake);
WAKEPATH_PEER(wakepath_word, "futex", wakepath_no_ring, wakepath_ring, wakepath_futex_sleep,
              wakepath_futex_wake);

static const struct bench_case wakepath_cases[] = {
    {
        .name = "wakepath.asleep",
        .about = "one thread wakes another, which sleeps in the kernel on another PU",
        .peers = {&wakepath_event, &wakepath_epoll, &wakepath_message, &wakepath_register,
                  &wakepath_ring_word, &wakepath_word},
        .metrics = {{.name = "cost to the waker", .unit = "ns", .lower_is_better = true},
                    {.name = "latency p50", .unit = "ns", .lower_is_better = true},
                    {.name = "latency p90", .unit = "ns", .lower_is_better = true},
                    {.name = "CPU of the sleeper", .unit = "ns", .lower_is_better = true}},
        .node_count = 1,
        .workers_per_node = 2,
        .sample = wakepath_sample,
    },
};

const struct bench_workload bench_wakepath = {
    .name = "wakepath",
    .cases = wakepath_cases,
    .case_count = sizeof(wakepath_cases) / sizeof(wakepath_cases[0]),
};
