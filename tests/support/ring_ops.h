/* SPDX-License-Identifier: MIT */
/* Operations that count how often they were done, for tests of the ring. */
#ifndef TESTS_SUPPORT_RING_OPS_H
#define TESTS_SUPPORT_RING_OPS_H

#include "base/list.h"
#include "io/ring.h"
#include "place/pin.h"

#include "support/clock.h"

#include <numaperf/error.h>

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NO_LIMIT UINT64_MAX

/* Set by main(): whether there are rings here. */
static int ring_refusal;

/* Whether rings lie in memory of ours, on the node of this thread. */
static bool ring_is_own;

static inline int ring_make(uint32_t entries, struct numaperf__ring **out)
{
    int node = -1;
    if (!ring_is_own)
        return numaperf__ring_create(entries, out);
    assert_int_equal(numaperf__current_cpu(NULL, &node), 0);
    const struct numaperf__ring_setup setup = {
        .entries = entries, .own_memory = true, .has_node = true, .node = node};
    int rc = numaperf__ring_create_as(&setup, out);
    struct numaperf__ring_outcome made = {.own_memory = 0};
    if (rc == 0)
        numaperf__ring_get_outcome(*out, &made);
    assert_int_equal(made.own_memory, 0);
    return rc;
}

/* Whether the kernel takes memory of ours for a ring. */
static inline bool ring_may_be_own(void)
{
    const struct numaperf__ring_setup setup = {.entries = 8, .own_memory = true};
    struct numaperf__ring *ring = NULL;
    struct numaperf__ring_outcome made = {.own_memory = -1};
    if (numaperf__ring_create_as(&setup, &ring) == 0)
        numaperf__ring_get_outcome(ring, &made);
    numaperf__ring_destroy(ring);
    if (made.own_memory < 0)
        print_message("no rings in memory of ours here: %s\n", numaperf_strerror(made.own_memory));
    return made.own_memory == 0;
}

/* Every case with rings in the kernel's memory, and again in ours; how many failed. */
#define RING_RUN_GROUPS(tests, out_failed)                              \
    do {                                                                \
        *(out_failed) = cmocka_run_group_tests(tests, NULL, NULL);      \
        ring_is_own = ring_refusal == 0 && ring_may_be_own();           \
        if (ring_is_own)                                                \
            *(out_failed) += cmocka_run_group_tests(tests, NULL, NULL); \
    } while (0)

static inline struct numaperf__ring *ring_open(uint32_t entries)
{
    struct numaperf__ring *ring = NULL;
    assert_int_equal(ring_make(entries, &ring), 0);
    assert_int_equal(numaperf__ring_enable(ring), 0);
    return ring;
}

static inline int ring_is_missing(void **state)
{
    *state = NULL;
    if (ring_refusal == 0)
        return 0;
    print_message("skipped: io_uring is refused here: %s\n", numaperf_strerror(ring_refusal));
    return 1;
}

#define SKIP_WITHOUT_RING(state)    \
    do {                            \
        if (ring_is_missing(state)) \
            skip();                 \
    } while (0)

/* An operation that counts how often it was done. */
struct counted {
    struct numaperf__op op;
    unsigned done_count;
};

static inline void count_done(struct numaperf__op *op)
{
    struct counted *counted = NUMAPERF_CONTAINER_OF(op, struct counted, op);
    assert_false(op->in_flight);
    counted->done_count++;
}

static inline void counted_init(struct counted *counted, enum numaperf__op_kind kind)
{
    memset(counted, 0, sizeof(*counted));
    counted->op.kind = (uint8_t)kind;
    counted->op.done = count_done;
    counted->op.fd = -1;
}

static inline void poll_init(struct counted *counted, int fd)
{
    counted_init(counted, NUMAPERF__OP_POLL);
    counted->op.fd = fd;
    counted->op.poll_events = POLLIN;
}

static inline void submit_all(struct numaperf__ring *ring, struct counted *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        counted_init(&ops[i], NUMAPERF__OP_NOP);
        assert_int_equal(numaperf__ring_submit(ring, &ops[i].op), 0);
    }
}

/* Flush and reap until nothing is in flight. */
static inline unsigned drain(struct numaperf__ring *ring)
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

static inline void assert_each_done_once(const struct counted *ops, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(ops[i].done_count, 1);
        assert_int_equal(ops[i].op.result, 0);
        assert_false(ops[i].op.in_flight);
    }
}

#endif
