/* SPDX-License-Identifier: MIT */
/*
 * The ring against the kernel it runs on: full queues, overflow, cancelling, signals, io-wq. Where
 * io_uring is refused, every case but the refusal is skipped with the reason.
 */
#include "io/ring.h"

#include "io/wake.h"
#include "place/pin.h"
#include "support/clock.h"

#include <numaperf/error.h>

#include <dirent.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

#define NO_LIMIT UINT64_MAX

/* Set by main(): whether there are rings here. */
static int ring_refusal;

static struct numaperf__ring *ring_open(uint32_t entries)
{
    struct numaperf__ring *ring = NULL;
    assert_int_equal(numaperf__ring_create(entries, &ring), 0);
    assert_int_equal(numaperf__ring_enable(ring), 0);
    return ring;
}

static int needs_ring(void **state)
{
    *state = NULL;
    if (ring_refusal == 0)
        return 0;
    print_message("skipped: io_uring is refused here: %s\n", numaperf_strerror(ring_refusal));
    return 1;
}

#define SKIP_WITHOUT_RING(state) \
    do {                         \
        if (needs_ring(state))   \
            skip();              \
    } while (0)

/* An operation that counts how often it was done. */
struct counted {
    struct numaperf__op op;
    unsigned done_count;
};

static void count_done(struct numaperf__op *op)
{
    struct counted *counted = NUMAPERF_CONTAINER_OF(op, struct counted, op);
    assert_false(op->in_flight);
    counted->done_count++;
}

static void counted_init(struct counted *counted, enum numaperf__op_kind kind)
{
    memset(counted, 0, sizeof(*counted));
    counted->op.kind = (uint8_t)kind;
    counted->op.done = count_done;
    counted->op.fd = -1;
}

static void poll_init(struct counted *counted, int fd)
{
    counted_init(counted, NUMAPERF__OP_POLL);
    counted->op.fd = fd;
    counted->op.poll_events = POLLIN;
}

static void submit_all(struct numaperf__ring *ring, struct counted *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        counted_init(&ops[i], NUMAPERF__OP_NOP);
        assert_int_equal(numaperf__ring_submit(ring, &ops[i].op), 0);
    }
}

/* Flush and reap until nothing is in flight. */
static unsigned drain(struct numaperf__ring *ring)
{
    unsigned total = 0;
    uint64_t limit_ns = test_now_ns() + test_limit_ns(20);
    while (numaperf__ring_in_flight(ring) > 0) {
        assert_true(test_now_ns() < limit_ns);
        assert_int_equal(numaperf__ring_flush(ring), 0);
        total += numaperf__ring_reap(ring, 1000000);
    }
    return total;
}

static void assert_each_done_once(const struct counted *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(ops[i].done_count, 1);
        assert_int_equal(ops[i].op.result, 0);
        assert_false(ops[i].op.in_flight);
    }
}

static unsigned entries_of(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    unsigned count = 0;
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static unsigned lines_of(const char *path)
{
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    unsigned count = 0;
    for (int c = fgetc(file); c != EOF; c = fgetc(file))
        count += c == '\n';
    (void)fclose(file);
    return count;
}

/* ---- life ---- */

static void ring_create_and_destroy_leave_nothing(void **state)
{
    SKIP_WITHOUT_RING(state);
    numaperf__ring_destroy(ring_open(8)); /* what the first one warms up */
    unsigned descriptors = entries_of("/proc/self/fd");
    unsigned mappings = lines_of("/proc/self/maps");
    for (int i = 0; i < 50; i++) {
        struct numaperf__ring *ring = NULL;
        assert_int_equal(numaperf__ring_create(64, &ring), 0);
        if (i % 2 == 0)
            assert_int_equal(numaperf__ring_enable(ring), 0);
        numaperf__ring_destroy(ring);
    }
    assert_int_equal(entries_of("/proc/self/fd"), descriptors);
    if (!TEST_SANITIZED) /* a sanitizer maps as it likes */
        assert_int_equal(lines_of("/proc/self/maps"), mappings);
    numaperf__ring_destroy(NULL);
}

static void ring_uses_what_the_kernel_has(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct utsname system;
    int major = 0;
    int minor = 0;
    assert_int_equal(uname(&system), 0);
    assert_int_equal(sscanf(system.release, "%d.%d", &major, &minor), 2);
    struct numaperf__ring *ring = ring_open(8);
    uint32_t flags = numaperf__ring_setup_flags(ring);
    assert_true((flags & IORING_SETUP_R_DISABLED) != 0);
    if (major > 6 || (major == 6 && minor >= 1)) {
        assert_true((flags & IORING_SETUP_DEFER_TASKRUN) != 0);
        assert_true((flags & IORING_SETUP_SINGLE_ISSUER) != 0);
        assert_true((flags & IORING_SETUP_TASKRUN_FLAG) != 0);
    }
    numaperf__ring_destroy(ring);
}

static void ring_check_is_a_round_trip(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    assert_int_equal(numaperf__ring_check(ring), 0);
    assert_int_equal(numaperf__ring_in_flight(ring), 0);
    struct numaperf__ring_counters counters;
    numaperf__ring_get_counters(ring, &counters);
    assert_int_equal(counters.completions, 1);
    numaperf__ring_destroy(ring);
}

static void ring_memory_names_both_parts(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(64);
    const void *base = NULL;
    size_t length = 0;
    for (unsigned part = 0; part < 2; part++) {
        assert_true(numaperf__ring_memory(ring, part, &base, &length));
        assert_non_null(base);
        assert_true(length >= 64 * 16);
    }
    assert_false(numaperf__ring_memory(ring, 2, &base, &length));
    numaperf__ring_destroy(ring);
}

static void *flush_foreign(void *arg)
{
    static int rc;
    rc = numaperf__ring_flush(arg);
    return &rc;
}

static void ring_refuses_another_thread(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    if ((numaperf__ring_setup_flags(ring) & IORING_SETUP_SINGLE_ISSUER) == 0) {
        numaperf__ring_destroy(ring);
        print_message("skipped: this kernel has no single issuer\n");
        skip();
    }
    struct counted nop;
    counted_init(&nop, NUMAPERF__OP_NOP);
    assert_int_equal(numaperf__ring_submit(ring, &nop.op), 0);
    pthread_t thread;
    void *rc = NULL;
    assert_int_equal(pthread_create(&thread, NULL, flush_foreign, ring), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal(*(int *)rc, -EEXIST);
    assert_int_equal(drain(ring), 1);
    assert_int_equal(nop.done_count, 1);
    numaperf__ring_destroy(ring);
}

/* ---- queues ---- */

static void ring_full_sq_is_submitted_by_itself(void **state)
{
    SKIP_WITHOUT_RING(state);
    enum { COUNT = 50 };
    struct counted ops[COUNT];
    struct numaperf__ring *ring = ring_open(8); /* CQ of 64: no overflow */
    submit_all(ring, ops, COUNT);
    assert_int_equal(numaperf__ring_in_flight(ring), COUNT);
    assert_int_equal(drain(ring), COUNT);
    assert_each_done_once(ops, COUNT);
    struct numaperf__ring_counters counters;
    numaperf__ring_get_counters(ring, &counters);
    assert_int_equal(counters.overflows, 0);
    assert_int_equal(counters.completions, COUNT);
    assert_true(counters.enters >= COUNT / 8);
    numaperf__ring_destroy(ring);
}

static void overflow(bool by_wait)
{
    enum { COUNT = 2000 };
    static struct counted ops[COUNT];
    struct numaperf__ring *ring = ring_open(4); /* CQ of 32 */
    unsigned early = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        counted_init(&ops[i], NUMAPERF__OP_NOP);
        int rc = numaperf__ring_submit(ring, &ops[i].op);
        if (rc == -EBUSY) { /* a kernel that wants the CQ emptied first */
            early += numaperf__ring_reap(ring, COUNT);
            rc = numaperf__ring_submit(ring, &ops[i].op);
        }
        assert_int_equal(rc, 0);
    }
    uint64_t limit_ns = test_now_ns() + test_limit_ns(20);
    unsigned total = early;
    while (numaperf__ring_in_flight(ring) > 0) {
        assert_true(test_now_ns() < limit_ns);
        assert_int_equal(by_wait ? numaperf__ring_wait(ring, NO_LIMIT) : numaperf__ring_flush(ring),
                         0);
        total += numaperf__ring_reap(ring, COUNT);
    }
    assert_int_equal(total, COUNT);
    assert_each_done_once(ops, COUNT);
    struct numaperf__ring_counters counters;
    numaperf__ring_get_counters(ring, &counters);
    assert_int_equal(counters.completions, COUNT);
    assert_true(counters.overflows > 0);
    assert_false(numaperf__ring_pending(ring));
    numaperf__ring_destroy(ring);
}

static void ring_overflow_loses_nothing_and_is_counted(void **state)
{
    SKIP_WITHOUT_RING(state);
    overflow(false);
}

static void ring_overflow_is_fetched_by_a_wait(void **state)
{
    SKIP_WITHOUT_RING(state);
    overflow(true);
}

static void ring_reap_takes_no_more_than_asked(void **state)
{
    SKIP_WITHOUT_RING(state);
    enum { COUNT = 200 };
    struct counted ops[COUNT];
    struct numaperf__ring *ring = ring_open(64);
    submit_all(ring, ops, COUNT);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    assert_int_equal(numaperf__ring_reap(ring, 0), 0);
    assert_int_equal(numaperf__ring_reap(ring, 1), 1);
    assert_int_equal(ops[0].done_count, 1);
    assert_int_equal(ops[1].done_count, 0);
    assert_int_equal(numaperf__ring_reap(ring, 99), 99); /* more than one batch */
    assert_int_equal(ops[99].done_count, 1);
    assert_int_equal(ops[100].done_count, 0);
    assert_true(numaperf__ring_pending(ring));
    assert_int_equal(numaperf__ring_in_flight(ring), COUNT - 100);
    assert_int_equal(numaperf__ring_reap(ring, 1000), COUNT - 100);
    assert_each_done_once(ops, COUNT);
    assert_false(numaperf__ring_pending(ring));
    numaperf__ring_destroy(ring);
}

static void ring_flush_of_nothing_enters_nothing(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    assert_false(numaperf__ring_pending(ring));
    for (int i = 0; i < 10; i++)
        assert_int_equal(numaperf__ring_flush(ring), 0);
    struct numaperf__ring_counters counters;
    numaperf__ring_get_counters(ring, &counters);
    assert_int_equal(counters.enters, 0);
    numaperf__ring_destroy(ring);
}

/* ---- done ---- */

struct chained {
    struct numaperf__op op;
    struct numaperf__ring *ring;
    unsigned left;
    unsigned depth;
};

static void chain_done(struct numaperf__op *op)
{
    struct chained *chained = NUMAPERF_CONTAINER_OF(op, struct chained, op);
    chained->depth++;
    assert_int_equal(chained->depth, 1); /* not from inside its own submit */
    if (--chained->left > 0) {
        assert_int_equal(numaperf__ring_submit(chained->ring, op), 0);
        /* Even when the completion is there already. */
        assert_int_equal(numaperf__ring_flush(chained->ring), 0);
    }
    chained->depth--;
}

static void ring_done_submits_again_without_recursion(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(2);
    struct chained chained = {.ring = ring, .left = 20000};
    chained.op.kind = NUMAPERF__OP_NOP;
    chained.op.done = chain_done;
    assert_int_equal(numaperf__ring_submit(ring, &chained.op), 0);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    /* It feeds itself, and still the limit holds. */
    assert_int_equal(numaperf__ring_reap(ring, 5000), 5000);
    assert_int_equal(chained.left, 15000);
    assert_int_equal(drain(ring), 15000);
    assert_int_equal(chained.left, 0);
    numaperf__ring_destroy(ring);
}

struct canceller {
    struct numaperf__op op;
    struct numaperf__ring *ring;
    struct counted *other;
};

static void cancel_other_done(struct numaperf__op *op)
{
    struct canceller *canceller = NUMAPERF_CONTAINER_OF(op, struct canceller, op);
    /* Reaped with this one, but not done: still in flight, so that it may be cancelled. */
    assert_int_equal(canceller->other->done_count, 0);
    assert_true(canceller->other->op.in_flight);
    assert_int_equal(numaperf__ring_cancel(canceller->ring, &canceller->other->op), 0);
}

static void ring_done_may_cancel_another_of_its_batch(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    struct counted other;
    counted_init(&other, NUMAPERF__OP_NOP);
    struct canceller canceller = {.ring = ring, .other = &other};
    canceller.op.kind = NUMAPERF__OP_NOP;
    canceller.op.done = cancel_other_done;
    assert_int_equal(numaperf__ring_submit(ring, &canceller.op), 0);
    assert_int_equal(numaperf__ring_submit(ring, &other.op), 0);
    assert_int_equal(drain(ring), 2);
    assert_int_equal(other.done_count, 1);
    /* The cancellation found nothing; nobody is told. */
    assert_int_equal(numaperf__ring_flush(ring), 0);
    (void)numaperf__ring_reap(ring, 10);
    assert_int_equal(other.done_count, 1);
    numaperf__ring_destroy(ring);
}

/* ---- poll, read, cancel ---- */

static void ring_poll_and_read_complete(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    int ends[2];
    char buffer[8] = "";
    assert_int_equal(pipe(ends), 0);
    struct counted polled;
    poll_init(&polled, ends[0]);
    struct counted read_op;
    counted_init(&read_op, NUMAPERF__OP_READ);
    read_op.op.fd = ends[0];
    read_op.op.buffer = buffer;
    read_op.op.length = sizeof(buffer);
    assert_int_equal(numaperf__ring_submit(ring, &polled.op), 0);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    assert_int_equal(numaperf__ring_reap(ring, 10), 0);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    assert_int_equal(drain(ring), 1);
    assert_true((polled.op.result & POLLIN) != 0);
    assert_int_equal(numaperf__ring_submit(ring, &read_op.op), 0);
    assert_int_equal(numaperf__ring_wait(ring, NO_LIMIT), 0);
    assert_int_equal(drain(ring), 1);
    assert_int_equal(read_op.op.result, 3);
    assert_memory_equal(buffer, "abc", 3);
    (void)close(ends[0]);
    (void)close(ends[1]);
    numaperf__ring_destroy(ring);
}

static void ring_cancel_ends_a_poll(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    struct counted flushed;
    struct counted queued;
    poll_init(&flushed, wake.fd);
    poll_init(&queued, wake.fd);
    assert_int_equal(numaperf__ring_submit(ring, &flushed.op), 0);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    assert_int_equal(numaperf__ring_submit(ring, &queued.op), 0); /* not yet the kernel's */
    assert_int_equal(numaperf__ring_cancel(ring, &flushed.op), 0);
    assert_int_equal(numaperf__ring_cancel(ring, &queued.op), 0);
    drain(ring);
    assert_int_equal(flushed.op.result, -ECANCELED);
    assert_int_equal(queued.op.result, -ECANCELED);
    assert_int_equal(flushed.done_count, 1);
    assert_int_equal(queued.done_count, 1);
    numaperf__wake_fini(&wake);
    numaperf__ring_destroy(ring);
}

static void ring_cancel_all_ends_everything(void **state)
{
    SKIP_WITHOUT_RING(state);
    enum { COUNT = 40 };
    struct numaperf__ring *ring = ring_open(8);
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    struct counted polls[COUNT];
    for (int i = 0; i < COUNT; i++) {
        poll_init(&polls[i], wake.fd);
        assert_int_equal(numaperf__ring_submit(ring, &polls[i].op), 0);
    }
    assert_int_equal(numaperf__ring_cancel_all(ring), 0);
    drain(ring);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(polls[i].done_count, 1);
        assert_int_equal(polls[i].op.result, -ECANCELED);
    }
    numaperf__wake_fini(&wake);
    numaperf__ring_destroy(ring);
}

/* ---- wait ---- */

static void ring_wait_ends_in_time_and_not_before(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf__ring_wait(ring, 30000000), 0);
    assert_true(test_now_ns() - start_ns >= 30000000);
    assert_true(test_now_ns() - start_ns < test_limit_ns(10));
    assert_int_equal(numaperf__ring_reap(ring, 10), 0); /* the time limit is no completion */
    numaperf__ring_destroy(ring);
}

static void ring_wait_returns_when_a_completion_waits_already(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(8);
    struct counted nop;
    counted_init(&nop, NUMAPERF__OP_NOP);
    assert_int_equal(numaperf__ring_submit(ring, &nop.op), 0);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    assert_int_equal(numaperf__ring_wait(ring, NO_LIMIT), 0);
    assert_int_equal(numaperf__ring_wait(ring, 60000000000u), 0);
    assert_int_equal(numaperf__ring_reap(ring, 10), 1);
    numaperf__ring_destroy(ring);
}

static atomic_int signals_seen;

static void on_signal(int number)
{
    (void)number;
    signals_seen++;
}

struct interrupter {
    pthread_t target;
    atomic_bool stop;
};

/* Again and again: the first may come before the wait begins. */
static void *interrupt(void *arg)
{
    struct interrupter *interrupter = arg;
    while (!interrupter->stop) {
        test_sleep_ms(20);
        (void)pthread_kill(interrupter->target, SIGUSR1);
    }
    return NULL;
}

static void signal_ends_wait(uint64_t timeout_ns)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction before;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    struct numaperf__ring *ring = ring_open(8);
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&wake), 0);
    struct counted polled;
    poll_init(&polled, wake.fd);
    assert_int_equal(numaperf__ring_submit(ring, &polled.op), 0);
    struct interrupter interrupter = {.target = pthread_self()};
    pthread_t thread;
    signals_seen = 0;
    assert_int_equal(pthread_create(&thread, NULL, interrupt, &interrupter), 0);
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf__ring_wait(ring, timeout_ns), 0);
    assert_true(signals_seen > 0);
    assert_true(test_now_ns() - start_ns < test_limit_ns(20));
    assert_int_equal(polled.done_count, 0);
    interrupter.stop = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    /* What was queued was submitted all the same. */
    numaperf__wake_signal(&wake);
    drain(ring);
    assert_int_equal(polled.done_count, 1);
    numaperf__wake_fini(&wake);
    numaperf__ring_destroy(ring);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

static void ring_signal_ends_a_wait(void **state)
{
    SKIP_WITHOUT_RING(state);
    signal_ends_wait(NO_LIMIT);
    signal_ends_wait(3600000000000u);
}

static void ring_eventfd_is_signalled(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = NULL;
    struct numaperf__wake event;
    struct numaperf__wake wake;
    assert_int_equal(numaperf__wake_init(&event), 0);
    assert_int_equal(numaperf__wake_init(&wake), 0);
    assert_int_equal(numaperf__ring_create(8, &ring), 0);
    assert_int_equal(numaperf__ring_register_eventfd(ring, event.fd), 0);
    assert_int_equal(numaperf__ring_enable(ring), 0);
    struct counted polled;
    poll_init(&polled, wake.fd);
    assert_int_equal(numaperf__ring_submit(ring, &polled.op), 0);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    struct pollfd fd = {.fd = event.fd, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 0), 0);
    numaperf__wake_signal(&wake);
    assert_int_equal(poll(&fd, 1, 60000), 1);
    assert_int_equal(numaperf__ring_flush(ring), 0);
    assert_int_equal(numaperf__ring_reap(ring, 10), 1);
    numaperf__ring_destroy(ring);
    numaperf__wake_fini(&event);
    numaperf__wake_fini(&wake);
}

/* ---- io-wq ---- */

struct confined {
    int cpu;
    int rc;
    int thread_id;
    int affinity_rc;
    numaperf_cpuset_t actual;
    unsigned in_flight;
};

/* On a thread of its own, which takes its io-wq threads with it. */
static void *confine(void *arg)
{
    struct confined *confined = arg;
    numaperf_cpuset_t one;
    numaperf_cpuset_zero(&one);
    (void)numaperf_cpuset_add(&one, confined->cpu);
    struct numaperf__ring *ring = NULL;
    confined->rc = numaperf__ring_create(8, &ring);
    if (confined->rc == 0)
        confined->rc = numaperf__ring_enable(ring);
    if (confined->rc == 0)
        confined->rc = numaperf__ring_iowq_confine(ring, &one, 2, &confined->thread_id);
    if (confined->thread_id > 0)
        confined->affinity_rc = numaperf__affinity_get(confined->thread_id, &confined->actual);
    if (ring != NULL)
        confined->in_flight = numaperf__ring_in_flight(ring);
    numaperf__ring_destroy(ring);
    return NULL;
}

static void ring_iowq_is_confined_as_read_back(void **state)
{
    SKIP_WITHOUT_RING(state);
    numaperf_cpuset_t allowed;
    assert_int_equal(numaperf__affinity_get(0, &allowed), 0);
    /* Every PU in turn: the default affinity would pass with one of them at most. */
    for (int cpu = numaperf_cpuset_next(&allowed, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&allowed, cpu)) {
        struct confined confined = {.cpu = cpu};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, confine, &confined), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(confined.rc, 0);
        assert_int_equal(confined.in_flight, 0);
        if (confined.thread_id == 0) {
            print_message("skipped: io-wq threads cannot be told apart here (pid namespace)\n");
            skip();
        }
        assert_int_equal(confined.affinity_rc, 0);
        assert_int_equal(numaperf_cpuset_count(&confined.actual), 1);
        assert_true(numaperf_cpuset_contains(&confined.actual, cpu));
    }
}

int main(void)
{
    struct numaperf__ring *ring = NULL;
    ring_refusal = numaperf__ring_create(8, &ring);
    if (ring_refusal == 0)
        numaperf__ring_destroy(ring);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_create_and_destroy_leave_nothing),
        cmocka_unit_test(ring_uses_what_the_kernel_has),
        cmocka_unit_test(ring_check_is_a_round_trip),
        cmocka_unit_test(ring_memory_names_both_parts),
        cmocka_unit_test(ring_refuses_another_thread),
        cmocka_unit_test(ring_full_sq_is_submitted_by_itself),
        cmocka_unit_test(ring_overflow_loses_nothing_and_is_counted),
        cmocka_unit_test(ring_overflow_is_fetched_by_a_wait),
        cmocka_unit_test(ring_reap_takes_no_more_than_asked),
        cmocka_unit_test(ring_flush_of_nothing_enters_nothing),
        cmocka_unit_test(ring_done_submits_again_without_recursion),
        cmocka_unit_test(ring_done_may_cancel_another_of_its_batch),
        cmocka_unit_test(ring_poll_and_read_complete),
        cmocka_unit_test(ring_cancel_ends_a_poll),
        cmocka_unit_test(ring_cancel_all_ends_everything),
        cmocka_unit_test(ring_wait_ends_in_time_and_not_before),
        cmocka_unit_test(ring_wait_returns_when_a_completion_waits_already),
        cmocka_unit_test(ring_signal_ends_a_wait),
        cmocka_unit_test(ring_eventfd_is_signalled),
        cmocka_unit_test(ring_iowq_is_confined_as_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
