/* SPDX-License-Identifier: MIT */
/*
 * The ring against the kernel it runs on: full queues, overflow, cancelling, signals, io-wq. Where
 * io_uring is refused, every case but the refusal is skipped with the reason.
 */
#include "io/ring.h"

#include "place/region.h"

#include "support/clock.h"
#include "support/ring_ops.h"

#include <dirent.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

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
        assert_int_equal(ring_make(64, &ring), 0);
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

/* Where it lies is known of memory of ours alone. */
static void ring_memory_of_ours_is_bound_and_at_home(void **state)
{
    SKIP_WITHOUT_RING(state);
    struct numaperf__ring *ring = ring_open(256);
    assert_true(ring_is_own || !numaperf__ring_is_bound(ring));
    numaperf_placement_t pages = NUMAPERF_PLACEMENT_INIT;
    for (unsigned part = 0; part < 2 && numaperf__ring_is_bound(ring); part++) {
        const void *base = NULL;
        size_t length = 0;
        assert_true(numaperf__ring_memory(ring, part, &base, &length));
        assert_int_equal(numaperf__pages_query(base, length, &pages), 0);
    }
    /* Bound to the node this thread was on then, and it may have moved since. */
    uint64_t most = 0;
    for (size_t i = 0; i < NUMAPERF_NODE_MAX; i++)
        most = pages.on_node[i] > most ? pages.on_node[i] : most;
    assert_int_equal(most, pages.pages);
    assert_int_equal(pages.absent, 0);
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

/* With a kernel thread that submits, the SQ is full until it has taken something, and nobody but a
 * flush fetches what found the CQ full. */
static void ring_with_a_poller_loses_nothing(void **state)
{
    SKIP_WITHOUT_RING(state);
    enum { COUNT = 500 };
    static struct counted ops[COUNT];
    numaperf_cpuset_t cpus;
    int own = -1;
    assert_int_equal(numaperf__affinity_get(0, &cpus), 0);
    assert_int_equal(numaperf__current_cpu(&own, NULL), 0);
    numaperf_cpuset_remove(&cpus, own);
    if (numaperf_cpuset_count(&cpus) == 0) {
        print_message("skipped: there is no PU beside this thread's own\n");
        skip();
    }
    const struct numaperf__ring_setup setup = {.entries = 8,
                                               .own_memory = ring_is_own,
                                               .has_sqpoll = true,
                                               .sqpoll_cpu = numaperf_cpuset_next(&cpus, -1)};
    struct numaperf__ring *ring = NULL;
    struct numaperf__ring_outcome made;
    assert_int_equal(numaperf__ring_create_as(&setup, &ring), 0);
    numaperf__ring_get_outcome(ring, &made);
    assert_int_equal(made.sqpoll, 0);
    assert_int_equal(made.own_memory, ring_is_own ? 0 : NUMAPERF__RING_NOT_ASKED);
    assert_int_equal(numaperf__ring_enable(ring), 0);
    submit_all(ring, ops, COUNT);
    assert_int_equal(drain(ring), COUNT);
    assert_each_done_once(ops, COUNT);
    struct numaperf__ring_counters counters;
    numaperf__ring_get_counters(ring, &counters);
    assert_int_equal(counters.completions, COUNT);
    assert_true(counters.overflows > 0); /* 64 CQEs */
    numaperf__ring_destroy(ring);
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
        cmocka_unit_test(ring_memory_of_ours_is_bound_and_at_home),
        cmocka_unit_test(ring_refuses_another_thread),
        cmocka_unit_test(ring_full_sq_is_submitted_by_itself),
        cmocka_unit_test(ring_overflow_loses_nothing_and_is_counted),
        cmocka_unit_test(ring_overflow_is_fetched_by_a_wait),
        cmocka_unit_test(ring_with_a_poller_loses_nothing),
        cmocka_unit_test(ring_reap_takes_no_more_than_asked),
        cmocka_unit_test(ring_flush_of_nothing_enters_nothing),
        cmocka_unit_test(ring_done_submits_again_without_recursion),
        cmocka_unit_test(ring_done_may_cancel_another_of_its_batch),
    };
    int failed = 0;
    RING_RUN_GROUPS(tests, &failed);
    return failed;
}
