/* SPDX-License-Identifier: MIT */
/* Cases about the calling thread: each starts and ends with the placement of the start. */
#ifndef TESTS_SUPPORT_THREAD_CASE_H
#define TESTS_SUPPORT_THREAD_CASE_H

#include "place/pin.h"

#include "support/fake_syscall.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Filled by the program before its first case. */
static struct numaperf__thread_state at_start;

static inline int case_setup(void **state)
{
    (void)state;
    fake_clear();
    return 0;
}

static inline int case_teardown(void **state)
{
    (void)state;
    fake_clear();
    numaperf_cpuset_t now;
    int rc = numaperf__affinity_get(0, &now);
    bool is_same = rc == 0 && numaperf_cpuset_equal(&now, &at_start.cpus);
    (void)numaperf__thread_state_set(&at_start);
    if (!is_same)
        print_error("the case left the thread with another affinity\n");
    return is_same ? 0 : -1;
}

static inline int first_cpu(void)
{
    return numaperf_cpuset_next(&at_start.cpus, -1);
}

static inline numaperf_cpuset_t set_of(int a, int b)
{
    numaperf_cpuset_t set;
    numaperf_cpuset_zero(&set);
    assert_int_equal(numaperf_cpuset_add(&set, a), 0);
    assert_int_equal(numaperf_cpuset_add(&set, b), 0);
    return set;
}

static inline numaperf_cpuset_t affinity_now(void)
{
    numaperf_cpuset_t now;
    assert_int_equal(numaperf_get_affinity(&now), 0);
    return now;
}

static inline void assert_affinity_is(const numaperf_cpuset_t *wanted)
{
    numaperf_cpuset_t now = affinity_now();
    assert_true(numaperf_cpuset_equal(&now, wanted));
}

#endif
