/* SPDX-License-Identifier: MIT */
/*
 * The io_uring ring: life, submission, completion. Only the ring*.c files know liburing.
 *
 * Invariants: an operation is in flight exactly from numaperf__ring_submit() to its last `done`;
 * its address is the CQE's user_data, 0 marks requests nobody waits for. No callback runs inside
 * submit, flush or wait: completions are copied into a batch first, so a `done` may submit, cancel
 * or reap again.
 *
 * Thread rule: the ring is created disabled; the thread that enables it is its single issuer
 * (another one gets -EEXIST from the kernel). Counters are read by other threads, relaxed.
 *
 * Source: io_uring_setup(2), io_uring_enter(2), io_uring_register(2). liburing returns -errno and
 * leaves errno alone.
 */
#include "io/ring.h"

#include "base/assert.h"
#include "base/atomic.h"
#include "io/iowq.h"
#include "io/ring_state.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RING_OWN_WAIT_NS 100000000u
#define RING_OWN_WAITS 100
#define RING_POLLER_WAITS_MAX 64u

static void ring_count(_Atomic uint64_t *counter, uint64_t n)
{
    /* One writer: a load and a store, no locked instruction. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

int numaperf__ring_create_as(const struct numaperf__ring_setup *setup, struct numaperf__ring **out)
{
    NUMAPERF_ASSERT(setup->entries > 0);

    struct numaperf__ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL)
        return -ENOMEM;
    int rc = numaperf__ring_setup(ring, setup);
    if (rc < 0) {
        free(ring);
        return rc;
    }
    *out = ring;
    return 0;
}

int numaperf__ring_create(uint32_t entries, struct numaperf__ring **out)
{
    const struct numaperf__ring_setup setup = {.entries = entries};
    return numaperf__ring_create_as(&setup, out);
}

int numaperf__ring_enable(struct numaperf__ring *ring)
{
    NUMAPERF_ASSERT(!ring->enabled);
    /* By number of the request: liburing 2.3 declares io_uring_enable_rings() without exporting it
     * from its shared library. */
    int rc =
        io_uring_register((unsigned)ring->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    if (rc < 0)
        return rc;
    ring->enabled = true;
    return 0;
}

static void ring_own_done(struct numaperf__op *op)
{
    (void)op; /* the result is read by who waits */
}

/* Have the kernel complete one NOP; its result. */
static int ring_round_trip(struct numaperf__ring *ring, enum numaperf__op_kind kind)
{
    struct numaperf__op *op = &ring->own_op;
    op->kind = (uint8_t)kind;
    op->done = ring_own_done;
    int rc = numaperf__ring_submit(ring, op);
    for (int i = 0; rc >= 0 && op->in_flight && i < RING_OWN_WAITS; i++) {
        rc = numaperf__ring_wait(ring, RING_OWN_WAIT_NS);
        (void)numaperf__ring_reap(ring, 1); /* how many does not matter: in_flight tells */
    }
    if (rc < 0)
        return rc;
    if (op->in_flight)
        return -ETIMEDOUT;
    return op->result < 0 ? op->result : 0;
}

int numaperf__ring_check(struct numaperf__ring *ring)
{
    NUMAPERF_ASSERT(ring->enabled && ring->in_flight == 0);
    return ring_round_trip(ring, NUMAPERF__OP_NOP);
}

int numaperf__ring_register_eventfd(struct numaperf__ring *ring, int event_fd)
{
    return io_uring_register_eventfd(&ring->uring, event_fd);
}

/* A polling thread has not taken anything yet. A wait for it ends early by a signal, and by work
 * that the kernel has for this thread, as it has some time after another ring was closed. */
static int ring_wait_for_poller(struct numaperf__ring *ring)
{
    int rc = 0;
    for (unsigned i = 0; i < RING_POLLER_WAITS_MAX && rc >= 0; i++) {
        if (io_uring_sq_space_left(&ring->uring) > 0)
            return 0;
        rc = io_uring_sqring_wait(&ring->uring);
    }
    return rc < 0 ? rc : 0;
}

/* A free SQE, after a flush when the SQ is full. */
static int ring_sqe(struct numaperf__ring *ring, struct io_uring_sqe **out)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL) {
        int rc = numaperf__ring_flush(ring);
        if (rc == 0 && ring->has_sqpoll)
            rc = ring_wait_for_poller(ring);
        if (rc < 0)
            return rc;
        sqe = io_uring_get_sqe(&ring->uring);
    }
    if (sqe == NULL)
        return -EBUSY;
    *out = sqe;
    return 0;
}

int numaperf__ring_submit(struct numaperf__ring *ring, struct numaperf__op *op)
{
    NUMAPERF_ASSERT_HOT(ring->enabled);
    NUMAPERF_ASSERT_HOT(!op->in_flight && op->done != NULL);

    struct io_uring_sqe *sqe = NULL;
    int rc = ring_sqe(ring, &sqe);
    if (rc < 0)
        return rc;
    numaperf__ring_prep(sqe, op);
    op->in_flight = true;
    ring->in_flight++;
    return 0;
}

int numaperf__ring_cancel(struct numaperf__ring *ring, struct numaperf__op *op)
{
    NUMAPERF_ASSERT(op->in_flight);

    struct io_uring_sqe *sqe = NULL;
    int rc = ring_sqe(ring, &sqe);
    if (rc < 0)
        return rc;
    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data(sqe, NULL);
    return 0;
}

int numaperf__ring_cancel_all(struct numaperf__ring *ring)
{
    struct io_uring_sqe *sqe = NULL;
    int rc = ring_sqe(ring, &sqe);
    if (rc < 0)
        return rc;
    io_uring_prep_cancel(sqe, NULL, IORING_ASYNC_CANCEL_ANY); /* 5.19; else -EINVAL, ignored */
    io_uring_sqe_set_data(sqe, NULL);
    return 0;
}

/* Requests that a flush has to do something about: a polling kernel thread takes what was published
 * by itself. */
static bool ring_has_unsubmitted(const struct numaperf__ring *ring)
{
    const struct io_uring *uring = &ring->uring;
    if (ring->has_sqpoll)
        return uring->sq.sqe_tail != uring->sq.sqe_head;
    return io_uring_sq_ready(uring) != 0;
}

static uint32_t ring_kernel_flags(const struct numaperf__ring *ring)
{
    return IO_URING_READ_ONCE(*ring->uring.sq.kflags);
}

/* Before every enter. The kernel keeps completions that found the CQ full; enter fetches them. */
static void ring_count_enter(struct numaperf__ring *ring)
{
    ring_count(&ring->enters, 1);
    if ((ring_kernel_flags(ring) & IORING_SQ_CQ_OVERFLOW) != 0)
        ring_count(&ring->overflows, 1);
}

bool numaperf__ring_pending(const struct numaperf__ring *ring)
{
    if (ring_has_unsubmitted(ring) || io_uring_cq_ready(&ring->uring) != 0 ||
        ring->batch_next != ring->batch_count)
        return true;
    return (ring_kernel_flags(ring) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

/*
 * What an enter says, less what only says "not now": the time is over, a signal came, the CQ must
 * be emptied first, the kernel is short of memory. What was queued stays so; the next turn goes on.
 * (-EBADR: too short even to keep a completion that found the CQ full.)
 */
static int ring_settle(int rc)
{
    switch (rc) {
    case -ETIME:
    case -EINTR:
    case -EBUSY:
    case -EAGAIN:
    case -ENOMEM:
    case -EBADR:
        return 0;
    default:
        return rc < 0 ? rc : 0;
    }
}

int numaperf__ring_flush(struct numaperf__ring *ring)
{
    struct io_uring *uring = &ring->uring;
    uint32_t flags = ring_kernel_flags(ring);
    bool must_enter = (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
    if (!ring_has_unsubmitted(ring) && !must_enter)
        return 0;

    if (ring->has_sqpoll && !must_enter) {
        /* Publishes; it enters only to wake the kernel's thread (IORING_SQ_NEED_WAKEUP). */
        return ring_settle(io_uring_submit(uring));
    }
    ring_count_enter(ring);
    return ring_settle(io_uring_submit_and_get_events(uring));
}

int numaperf__ring_wait(struct numaperf__ring *ring, uint64_t timeout_ns)
{
    struct io_uring *uring = &ring->uring;
    ring_count_enter(ring);
    int rc = 0;
    if (timeout_ns == UINT64_MAX) {
        rc = io_uring_submit_and_wait(uring, 1);
    } else {
        struct __kernel_timespec limit = {
            .tv_sec = (int64_t)(timeout_ns / 1000000000u),
            .tv_nsec = (long long)(timeout_ns % 1000000000u),
        };
        struct io_uring_cqe *cqe = NULL;
        rc = io_uring_submit_and_wait_timeout(uring, &cqe, 1, &limit, NULL);
    }
    return ring_settle(rc);
}

/* Copy up to `max` completions out of the CQ, so that the kernel has its room again. */
static void ring_collect(struct numaperf__ring *ring, unsigned max)
{
    struct io_uring *uring = &ring->uring;
    unsigned want = max < NUMAPERF__RING_REAP_BATCH ? max : NUMAPERF__RING_REAP_BATCH;
    unsigned ready = io_uring_cq_ready(uring);
    if (want > ready)
        want = ready;
    unsigned head = *uring->cq.khead;
    for (unsigned i = 0; i < want; i++) {
        const struct io_uring_cqe *cqe = &uring->cq.cqes[(head + i) & uring->cq.ring_mask];
        ring->batch[i] = (struct numaperf__ring_completion){
            .op = io_uring_cqe_get_data(cqe), .result = cqe->res, .flags = cqe->flags};
    }
    io_uring_cq_advance(uring, want);
    ring_count(&ring->completions, want);
    ring->batch_next = 0;
    ring->batch_count = want;
}

static void ring_complete(struct numaperf__ring *ring,
                          const struct numaperf__ring_completion *completion)
{
    struct numaperf__op *op = completion->op;
    if (op == NULL)
        return; /* a request nobody waits for */
    NUMAPERF_ASSERT(op->in_flight);
    op->result = completion->result;
    op->cqe_flags = completion->flags;
    op->more = (completion->flags & IORING_CQE_F_MORE) != 0;
    if (!op->more) {
        /* Only now: the `done` of another one may have looked whether to cancel it. */
        NUMAPERF_ASSERT(ring->in_flight > 0);
        ring->in_flight--;
        op->in_flight = false;
    }
    op->done(op);
}

unsigned numaperf__ring_reap(struct numaperf__ring *ring, unsigned max)
{
    unsigned total = 0;
    while (total < max) {
        /* The batch is the ring's: a `done` that reaps goes on where this one is, in order. */
        if (ring->batch_next == ring->batch_count)
            ring_collect(ring, max - total);
        if (ring->batch_next == ring->batch_count)
            break;
        struct numaperf__ring_completion completion = ring->batch[ring->batch_next++];
        total++;
        ring_complete(ring, &completion);
    }
    return total;
}

/* ---- io-wq ---- */

static bool ring_iowq_has(const struct numaperf__iowq_census *census, int thread_id)
{
    for (size_t i = 0; i < census->count; i++) {
        if (census->threads[i].thread_id == thread_id && census->threads[i].name[0] != '\0')
            return true;
    }
    return false;
}

/*
 * The caller's io-wq thread; 0 when it cannot be told. Its name carries the caller's number in the
 * first pid namespace; in another one it is the only thread that is new since `before`.
 */
static int ring_iowq_thread(const struct numaperf__iowq_census *before,
                            const struct numaperf__iowq_census *now)
{
    char own_name[NUMAPERF__IOWQ_NAME_SIZE];
    numaperf__iowq_own_name(own_name);
    int found = 0;
    unsigned fresh = 0;
    for (size_t i = 0; i < now->count; i++) {
        const struct numaperf__iowq_thread *thread = &now->threads[i];
        if (thread->name[0] == '\0' || ring_iowq_has(before, thread->thread_id))
            continue;
        if (strcmp(thread->name, own_name) == 0)
            return thread->thread_id;
        found = thread->thread_id;
        fresh++;
    }
    return fresh == 1 ? found : 0;
}

/* Have the io-wq thread exist, and find it. */
static int ring_iowq_force(struct numaperf__ring *ring, int *out_thread_id)
{
    /* Global on purpose: threads of the whole process are compared before and after. */
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    struct numaperf__iowq_census before = {.count = 0};
    struct numaperf__iowq_census now = {.count = 0};
    (void)pthread_mutex_lock(&one_at_a_time); /* a plain mutex: neither call can fail */
    /* What cannot be listed is not found: the thread is then 0. */
    bool is_listed = numaperf__iowq_refresh(&before) == 0;
    int rc = ring_round_trip(ring, NUMAPERF__OP_NOP_ASYNC);
    if (rc == 0 && is_listed && numaperf__iowq_refresh(&now) == 0)
        *out_thread_id = ring_iowq_thread(&before, &now);
    (void)pthread_mutex_unlock(&one_at_a_time);
    numaperf__iowq_free(&before);
    numaperf__iowq_free(&now);
    return rc;
}

int numaperf__ring_iowq_affinity(struct numaperf__ring *ring, const numaperf_cpuset_t *cpus)
{
    return io_uring_register_iowq_aff(&ring->uring, sizeof(*cpus), (const cpu_set_t *)cpus);
}

int numaperf__ring_iowq_confine(struct numaperf__ring *ring, const numaperf_cpuset_t *cpus,
                                unsigned worker_max, int *out_thread_id)
{
    NUMAPERF_ASSERT(ring->enabled && ring->in_flight == 0);

    int rc = numaperf__ring_iowq_affinity(ring, cpus);
    ring->outcome.iowq_affinity = rc < 0 ? rc : 0;
    if (rc < 0)
        return rc;
    unsigned limits[2] = {worker_max, worker_max}; /* bounded, unbounded */
    rc = io_uring_register_iowq_max_workers(&ring->uring, limits);
    if (rc < 0)
        return rc;

    return ring_iowq_force(ring, out_thread_id);
}

bool numaperf__ring_memory(const struct numaperf__ring *ring, unsigned part, const void **out_base,
                           size_t *out_length)
{
    const struct io_uring *uring = &ring->uring;
    switch (part) {
    case 0: /* SQ and CQ ring, one mapping (IORING_FEAT_SINGLE_MMAP, 5.4) */
        *out_base = uring->sq.ring_ptr;
        *out_length = ring->memory_length[0];
        return true;
    case 1:
        *out_base = uring->sq.sqes;
        *out_length = ring->memory_length[1];
        return true;
    default:
        return false;
    }
}

void numaperf__ring_get_counters(const struct numaperf__ring *ring,
                                 struct numaperf__ring_counters *out)
{
    out->enters = atomic_load_explicit(&ring->enters, memory_order_relaxed);
    out->completions = atomic_load_explicit(&ring->completions, memory_order_relaxed);
    out->overflows = atomic_load_explicit(&ring->overflows, memory_order_relaxed);
}

uint32_t numaperf__ring_in_flight(const struct numaperf__ring *ring)
{
    return ring->in_flight;
}

uint32_t numaperf__ring_setup_flags(const struct numaperf__ring *ring)
{
    return ring->setup_flags;
}

void numaperf__ring_destroy(struct numaperf__ring *ring)
{
    if (ring == NULL)
        return;
    NUMAPERF_ASSERT(ring->in_flight == (ring->own_op.in_flight ? 1u : 0u));
    numaperf__ring_teardown(ring);
    free(ring);
}
