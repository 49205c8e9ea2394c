/* SPDX-License-Identifier: MIT */
/*
 * Pins and thread policies against the kernel we run on, and against answers it does not give
 * here: this program's own syscall() stands before the C library's and can refuse or lie.
 */
#include "place/pin.h"

#include "place/enforce.h"

#include <numaperf/error.h>

#include <dlfcn.h>
#include <errno.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the kernel's stand-in ---- */

static struct {
    long number;       /* the call it concerns; 0: none */
    int skip;          /* so many calls of it pass first */
    int error;         /* refuse with it; 0: answer 0 and do nothing */
    bool is_only_once; /* later calls pass again */
    bool is_large;     /* getaffinity: a kernel of more than 8192 PUs */
    int large_cpu;     /* a PU beyond 8192 that it reports, or 0 */
} fake;

typedef long (*syscall_fn)(long, ...);

static long fake_getaffinity_large(syscall_fn real, long size, long buf)
{
    if (size * 8 <= NUMAPERF_CPU_MAX) {
        errno = EINVAL;
        return -1;
    }
    long n = real(SYS_sched_getaffinity, 0L, size, buf);
    if (n > 0 && fake.large_cpu > 0)
        ((uint64_t *)buf)[fake.large_cpu / 64] |= UINT64_C(1) << (fake.large_cpu % 64);
    return n;
}

/* It takes six arguments where fewer were passed, as the C library's own does. */
__attribute__((no_sanitize_address)) long syscall(long number, ...)
{
    static syscall_fn real;
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "syscall");
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);

    if (fake.is_large && number == SYS_sched_getaffinity)
        return fake_getaffinity_large(real, a[1], a[2]);
    if (fake.number != 0 && number == fake.number && fake.skip-- <= 0) {
        if (fake.is_only_once)
            fake.number = 0;
        if (fake.error == 0)
            return 0;
        errno = fake.error;
        return -1;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void fake_refuse(long number, int skip, int error)
{
    fake.number = number;
    fake.skip = skip;
    fake.error = error;
}

/* ---- every case starts and ends with the affinity and policy of the start ---- */

static struct numaperf__thread_state at_start;

static int case_setup(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    return 0;
}

static int case_teardown(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    numaperf_cpuset_t now;
    int rc = numaperf__affinity_get(0, &now);
    bool is_same = rc == 0 && numaperf_cpuset_equal(&now, &at_start.cpus);
    (void)numaperf__thread_state_set(&at_start);
    if (!is_same)
        print_error("the case left the thread with another affinity\n");
    return is_same ? 0 : -1;
}

static int first_cpu(void)
{
    return numaperf_cpuset_next(&at_start.cpus, -1);
}

static numaperf_cpuset_t set_of(int a, int b)
{
    numaperf_cpuset_t set;
    numaperf_cpuset_zero(&set);
    assert_int_equal(numaperf_cpuset_add(&set, a), 0);
    assert_int_equal(numaperf_cpuset_add(&set, b), 0);
    return set;
}

static numaperf_cpuset_t affinity_now(void)
{
    numaperf_cpuset_t now;
    assert_int_equal(numaperf_get_affinity(&now), 0);
    return now;
}

static void assert_affinity_is(const numaperf_cpuset_t *wanted)
{
    numaperf_cpuset_t now = affinity_now();
    assert_true(numaperf_cpuset_equal(&now, wanted));
}

/* A PU no machine of the tests has. */
#define ABSENT_CPU (NUMAPERF_CPU_MAX - 1)

/* ---- pin ---- */

static void pin_to_cpu_is_strict_and_runs_there_and_is_restored(void **state)
{
    (void)state;
    for (int cpu = first_cpu(); cpu >= 0; cpu = numaperf_cpuset_next(&at_start.cpus, cpu)) {
        numaperf_pin_t pin = NUMAPERF_PIN_INIT;
        assert_int_equal(numaperf_pin_to_cpu(cpu, NUMAPERF_MODE_HARD, &pin), 0);
        numaperf_cpuset_t one = set_of(cpu, cpu);
        assert_affinity_is(&one);
        int running_on = -1;
        assert_int_equal(numaperf__current_cpu(&running_on, NULL), 0);
        assert_int_equal(running_on, cpu);

        assert_true(numaperf_is_strict(&pin.enforcement));
        assert_int_equal(pin.size, sizeof(pin));
        assert_int_equal(pin.thread_id, gettid());
        assert_true(numaperf_cpuset_equal(&pin.requested, &one));
        assert_true(numaperf_cpuset_equal(&pin.applied, &one));
        assert_true(numaperf_cpuset_equal(&pin.previous, &at_start.cpus));

        assert_int_equal(numaperf_pin_restore(&pin), 0);
        assert_affinity_is(&at_start.cpus);
    }
}

static void pin_trimmed_is_best_effort_in_soft(void **state)
{
    (void)state;
    numaperf_cpuset_t wanted = set_of(first_cpu(), ABSENT_CPU);
    numaperf_cpuset_t one = set_of(first_cpu(), first_cpu());
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_current(&wanted, NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_best_effort(&pin.enforcement));
    assert_non_null(strstr(pin.enforcement.reason, "8191"));
    assert_true(numaperf_cpuset_equal(&pin.requested, &wanted));
    assert_true(numaperf_cpuset_equal(&pin.applied, &one));
    assert_affinity_is(&one);
    assert_int_equal(numaperf_pin_restore(&pin), 0);
}

static void pin_trimmed_is_refused_in_hard_and_undone(void **state)
{
    (void)state;
    numaperf_cpuset_t wanted = set_of(first_cpu(), ABSENT_CPU);
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    pin.thread_id = 0x5a5a;
    numaperf_pin_t before = pin;
    assert_int_equal(numaperf_pin_current(&wanted, NUMAPERF_MODE_HARD, &pin), NUMAPERF_E_HARD_MODE);
    assert_affinity_is(&at_start.cpus);
    assert_memory_equal(&pin, &before, sizeof(pin));
    assert_string_equal(numaperf_last_error()->operation, "sched_setaffinity");
    assert_non_null(strstr(numaperf_last_error()->reason, "8191"));
}

static void pin_wholly_absent_leaves_the_thread_and_says_none(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_to_cpu(ABSENT_CPU, NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_none(&pin.enforcement));
    assert_non_null(strstr(pin.enforcement.reason, "8191"));
    assert_true(numaperf_cpuset_equal(&pin.applied, &at_start.cpus));
    assert_affinity_is(&at_start.cpus);
    assert_int_equal(numaperf_pin_restore(&pin), 0);

    assert_int_equal(numaperf_pin_to_cpu(ABSENT_CPU, NUMAPERF_MODE_HARD, &pin),
                     NUMAPERF_E_HARD_MODE);
    assert_int_equal(numaperf_last_error()->sys_errno, EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "8191"));
}

static void pin_refuses_bad_arguments_before_it_touches_the_thread(void **state)
{
    (void)state;
    numaperf_cpuset_t none;
    numaperf_cpuset_zero(&none);
    numaperf_cpuset_t one = set_of(first_cpu(), first_cpu());
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    numaperf_pin_t unsized = NUMAPERF_PIN_INIT;
    unsized.size = sizeof(pin) - 1;
    const numaperf_mode_t bad_mode = (numaperf_mode_t)7;

    assert_int_equal(numaperf_pin_current(&none, NUMAPERF_MODE_SOFT, &pin), -EINVAL);
    assert_int_equal(numaperf_pin_current(NULL, NUMAPERF_MODE_SOFT, &pin), -EINVAL);
    assert_int_equal(numaperf_pin_current(&one, NUMAPERF_MODE_SOFT, NULL), -EINVAL);
    assert_int_equal(numaperf_pin_current(&one, NUMAPERF_MODE_SOFT, &unsized), -EINVAL);
    assert_int_equal(numaperf_pin_current(&one, bad_mode, &pin), -EINVAL);
    assert_int_equal(numaperf_pin_to_cpu(-1, NUMAPERF_MODE_HARD, &pin), -EINVAL);
    assert_int_equal(numaperf_pin_to_cpu(NUMAPERF_CPU_MAX, NUMAPERF_MODE_HARD, &pin), -EINVAL);
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), bad_mode, &pin), -EINVAL);
    assert_int_equal(numaperf_pin_to_node(NULL, 0, bad_mode, &pin), -EINVAL);
    assert_int_equal(numaperf_pin_to_node(NULL, 0, NUMAPERF_MODE_SOFT, NULL), -EINVAL);
    assert_int_equal(numaperf_set_affinity(&none), -EINVAL);
    assert_int_equal(numaperf_set_affinity(NULL), -EINVAL);
    assert_int_equal(numaperf_get_affinity(NULL), -EINVAL);
    assert_int_equal(pin.thread_id, 0);
    assert_affinity_is(&at_start.cpus);
}

static void pins_nest(void **state)
{
    (void)state;
    int second = numaperf_cpuset_next(&at_start.cpus, first_cpu());
    if (second < 0) {
        print_message("needs two PUs\n");
        skip();
    }
    numaperf_cpuset_t two = set_of(first_cpu(), second);
    numaperf_pin_t outer = NUMAPERF_PIN_INIT;
    numaperf_pin_t inner = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_current(&two, NUMAPERF_MODE_HARD, &outer), 0);
    assert_int_equal(numaperf_pin_to_cpu(second, NUMAPERF_MODE_HARD, &inner), 0);
    assert_true(numaperf_cpuset_equal(&inner.previous, &two));
    assert_int_equal(numaperf_pin_restore(&inner), 0);
    assert_affinity_is(&two);
    assert_int_equal(numaperf_pin_restore(&outer), 0);
    assert_affinity_is(&at_start.cpus);
}

static void *restore_elsewhere(void *arg)
{
    return (void *)(intptr_t)numaperf_pin_restore(arg);
}

static void restore_on_another_thread_is_busy_and_keeps_the_pin(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_HARD, &pin), 0);
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(pthread_create(&thread, NULL, restore_elsewhere, &pin), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, -EBUSY);
    assert_int_equal(numaperf_pin_restore(&pin), 0);
}

static void restore_twice_or_of_nothing_is_invalid(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_restore(&pin), -EINVAL);
    assert_int_equal(numaperf_pin_restore(NULL), -EINVAL);
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_HARD, &pin), 0);
    assert_int_equal(numaperf_pin_restore(&pin), 0);
    assert_int_equal(numaperf_pin_restore(&pin), -EINVAL);
}

static void set_affinity_holds_and_a_trimmed_one_is_a_range_error(void **state)
{
    (void)state;
    numaperf_cpuset_t one = set_of(first_cpu(), first_cpu());
    assert_int_equal(numaperf_set_affinity(&one), 0);
    assert_affinity_is(&one);
    assert_int_equal(numaperf_set_affinity(&at_start.cpus), 0);

    numaperf_cpuset_t partly = set_of(first_cpu(), ABSENT_CPU);
    assert_int_equal(numaperf_set_affinity(&partly), -ERANGE);
    numaperf_cpuset_t absent = set_of(ABSENT_CPU, ABSENT_CPU);
    assert_int_equal(numaperf_set_affinity(&at_start.cpus), 0);
    assert_int_equal(numaperf_set_affinity(&absent), -EINVAL);
    assert_int_equal(numaperf_last_error()->sys_errno, EINVAL);
    assert_affinity_is(&at_start.cpus);
}

/* ---- pin to a node ---- */

static void pin_to_each_node_is_strict_and_runs_on_it(void **state)
{
    (void)state;
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_discover(&topology), 0);
    int pinned = 0;
    for (size_t i = 0; i < numaperf_topology_node_count(topology); i++) {
        int node = numaperf_topology_node_id(topology, i);
        numaperf_cpuset_t cpus;
        assert_int_equal(numaperf_topology_node_cpus(topology, node, &cpus), 0);
        bool is_empty = numaperf_cpuset_count(&cpus) == 0;
        for (int given = 0; given < 2; given++) {
            numaperf_pin_t pin = NUMAPERF_PIN_INIT;
            int rc = numaperf_pin_to_node(given ? topology : NULL, node, NUMAPERF_MODE_HARD, &pin);
            assert_int_equal(rc, is_empty ? NUMAPERF_E_NO_NODE : 0);
            if (is_empty)
                continue;
            assert_true(numaperf_is_strict(&pin.enforcement));
            assert_affinity_is(&cpus);
            int running_on = -1;
            assert_int_equal(numaperf__current_cpu(NULL, &running_on), 0);
            assert_int_equal(running_on, node);
            assert_int_equal(numaperf_pin_restore(&pin), 0);
            pinned++;
        }
    }
    numaperf_topology_destroy(topology);
    assert_true(pinned > 0);
}

static void pin_to_an_absent_node_is_no_node_in_both_modes(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_to_node(NULL, 999, NUMAPERF_MODE_SOFT, &pin), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_pin_to_node(NULL, 999, NUMAPERF_MODE_HARD, &pin), NUMAPERF_E_NO_NODE);
    assert_non_null(strstr(numaperf_last_error()->reason, "999"));
    assert_int_equal(pin.thread_id, 0);
    assert_affinity_is(&at_start.cpus);
}

static void foreign_topology_pins_softly_and_never_strictly(void **state)
{
    (void)state;
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_synthetic("numa:2 pu:64", &topology), 0);
    numaperf_cpuset_t node_cpus;
    assert_int_equal(numaperf_topology_node_cpus(topology, 0, &node_cpus), 0);
    numaperf_cpuset_t expected;
    numaperf_cpuset_intersect(&node_cpus, &at_start.cpus, &expected);

    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_to_node(topology, 0, NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_best_effort(&pin.enforcement));
    assert_affinity_is(&expected);
    assert_int_equal(numaperf_pin_restore(&pin), 0);

    /* PUs 64 to 127: none of them is here. */
    assert_int_equal(numaperf_pin_to_node(topology, 1, NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_none(&pin.enforcement));
    assert_affinity_is(&at_start.cpus);
    assert_int_equal(numaperf_pin_restore(&pin), 0);

    assert_int_equal(numaperf_pin_to_node(topology, 0, NUMAPERF_MODE_HARD, &pin),
                     NUMAPERF_E_HARD_MODE);
    assert_non_null(strstr(numaperf_last_error()->reason, "this machine"));
    assert_int_equal(numaperf_pin_to_node(topology, 2, NUMAPERF_MODE_HARD, &pin),
                     NUMAPERF_E_NO_NODE);
    assert_affinity_is(&at_start.cpus);
    numaperf_topology_destroy(topology);
}

static void foreign_topology_that_fits_exactly_is_still_best_effort(void **state)
{
    (void)state;
    if (first_cpu() != 0) {
        print_message("needs PU 0\n");
        skip();
    }
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_synthetic("numa:1 pu:1", &topology), 0);
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_to_node(topology, 0, NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_cpuset_equal(&pin.requested, &pin.applied));
    assert_true(numaperf_is_best_effort(&pin.enforcement));
    assert_non_null(strstr(pin.enforcement.reason, "this machine"));
    assert_int_equal(numaperf_pin_restore(&pin), 0);
    numaperf_topology_destroy(topology);
}

/* ---- kernels and filters that answer otherwise ---- */

static void affinity_of_a_kernel_with_more_pus_is_read(void **state)
{
    (void)state;
    fake.is_large = true;
    assert_affinity_is(&at_start.cpus);
}

static void affinity_beyond_the_last_pu_is_an_overflow_not_a_smaller_set(void **state)
{
    (void)state;
    fake.is_large = true;
    fake.large_cpu = NUMAPERF_CPU_MAX + 5;
    numaperf_cpuset_t out = set_of(7, 7);
    numaperf_cpuset_t before = out;
    assert_int_equal(numaperf_get_affinity(&out), -EOVERFLOW);
    assert_true(numaperf_cpuset_equal(&out, &before));
}

static void pin_that_cannot_read_the_old_affinity_changes_nothing(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    fake_refuse(SYS_sched_getaffinity, 0, EPERM);
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_none(&pin.enforcement));
    assert_int_equal(numaperf_pin_restore(&pin), 0);
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_HARD, &pin),
                     NUMAPERF_E_HARD_MODE);
    assert_int_equal(numaperf_last_error()->sys_errno, EPERM);
    fake.number = 0;
    assert_affinity_is(&at_start.cpus);
}

static void pin_that_cannot_be_read_back_is_never_strict(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    fake.is_only_once = true;
    fake_refuse(SYS_sched_getaffinity, 1, EPERM);
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_best_effort(&pin.enforcement));
    assert_int_equal(numaperf_pin_restore(&pin), 0);
    assert_affinity_is(&at_start.cpus);

    fake_refuse(SYS_sched_getaffinity, 1, EPERM);
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_HARD, &pin),
                     NUMAPERF_E_HARD_MODE);
    assert_affinity_is(&at_start.cpus);
}

static void pin_that_returns_success_without_effect_is_never_strict(void **state)
{
    (void)state;
    if (numaperf_cpuset_count(&at_start.cpus) < 2) {
        print_message("needs two PUs\n");
        skip();
    }
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    fake_refuse(SYS_sched_setaffinity, 0, 0);
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_SOFT, &pin), 0);
    assert_false(numaperf_is_strict(&pin.enforcement));
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_HARD, &pin),
                     NUMAPERF_E_HARD_MODE);
}

static void hard_refusal_that_cannot_be_undone_says_so(void **state)
{
    (void)state;
    numaperf_cpuset_t wanted = set_of(first_cpu(), ABSENT_CPU);
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    fake_refuse(SYS_sched_setaffinity, 1, EPERM);
    assert_int_equal(numaperf_pin_current(&wanted, NUMAPERF_MODE_HARD, &pin), NUMAPERF_E_HARD_MODE);
    assert_non_null(strstr(numaperf_last_error()->reason, "could not be put back"));
    fake.number = 0;
    assert_int_equal(numaperf_set_affinity(&at_start.cpus), 0);
}

static void restore_that_fails_can_be_tried_again(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_HARD, &pin), 0);
    fake_refuse(SYS_sched_setaffinity, 0, EPERM);
    assert_int_equal(numaperf_pin_restore(&pin), -EPERM);
    fake.number = 0;
    assert_int_equal(numaperf_pin_restore(&pin), 0);
    assert_affinity_is(&at_start.cpus);
}

/* ---- memory policy ---- */

/* Nodes the kernel lets this thread take memory from; empty when it has no NUMA at all. */
static numaperf_nodemask_t memory_nodes(void)
{
    numaperf_nodemask_t nodes;
    numaperf_nodemask_zero(&nodes);
    if (syscall(SYS_get_mempolicy, NULL, nodes.bits, 1025UL, NULL,
                (unsigned long)MPOL_F_MEMS_ALLOWED) < 0)
        numaperf_nodemask_zero(&nodes);
    return nodes;
}

static void skip_without_numa(void)
{
    numaperf_nodemask_t nodes = memory_nodes();
    if (numaperf_nodemask_count(&nodes) == 0) {
        print_message("this kernel has no memory policies\n");
        skip();
    }
}

static void prefer_of_each_memory_node_is_strict_and_read_back(void **state)
{
    (void)state;
    skip_without_numa();
    numaperf_nodemask_t nodes = memory_nodes();
    for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0;
         node = numaperf_nodemask_next(&nodes, node)) {
        numaperf_enforcement_t level;
        int sys_errno = -1;
        numaperf__mempolicy_prefer(node, &level, &sys_errno);
        assert_true(numaperf_is_strict(&level));
        assert_int_equal(sys_errno, 0);

        int policy = -1;
        numaperf_nodemask_t got;
        numaperf_nodemask_t wanted = numaperf_nodemask_single(node);
        assert_int_equal(numaperf__mempolicy_get(&policy, &got), 0);
        assert_int_equal(policy, MPOL_PREFERRED);
        assert_true(numaperf_nodemask_equal(&got, &wanted));
    }
}

/* A mask passed one bit short would drop node 1023, and an empty PREFERRED succeeds. */
static void prefer_of_the_last_possible_node_reaches_the_kernel(void **state)
{
    (void)state;
    skip_without_numa();
    numaperf_enforcement_t level;
    int sys_errno = 0;
    numaperf__mempolicy_prefer(NUMAPERF_NODE_MAX - 1, &level, &sys_errno);
    assert_true(numaperf_is_none(&level));
    assert_int_equal(sys_errno, EINVAL);
    assert_non_null(strstr(level.reason, "node 1023"));
}

static void prefer_that_has_no_effect_is_never_strict(void **state)
{
    (void)state;
    skip_without_numa();
    numaperf_nodemask_t nodes = memory_nodes();
    numaperf_enforcement_t level;
    int sys_errno = 0;
    fake_refuse(SYS_set_mempolicy, 0, 0);
    numaperf__mempolicy_prefer(numaperf_nodemask_next(&nodes, -1), &level, &sys_errno);
    assert_true(numaperf_is_best_effort(&level));

    fake_refuse(SYS_get_mempolicy, 0, EPERM);
    numaperf__mempolicy_prefer(numaperf_nodemask_next(&nodes, -1), &level, &sys_errno);
    assert_true(numaperf_is_best_effort(&level));
    assert_int_equal(sys_errno, EPERM);
}

static void thread_state_with_mode_flags_is_given_back_exactly(void **state)
{
    (void)state;
    skip_without_numa();
    const int policies[] = {MPOL_DEFAULT,
                            MPOL_LOCAL,
                            MPOL_PREFERRED,
                            MPOL_PREFERRED | MPOL_F_STATIC_NODES,
                            MPOL_BIND | MPOL_F_RELATIVE_NODES,
                            MPOL_INTERLEAVE | MPOL_F_STATIC_NODES,
                            MPOL_BIND | MPOL_F_NUMA_BALANCING};
    numaperf_nodemask_t nodes = memory_nodes();
    numaperf_nodemask_t one = numaperf_nodemask_single(numaperf_nodemask_next(&nodes, -1));
    for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
        bool takes_none = policies[i] == MPOL_DEFAULT || policies[i] == MPOL_LOCAL;
        assert_int_equal(numaperf__mempolicy_set(policies[i], takes_none ? NULL : &one), 0);
        struct numaperf__thread_state kept;
        assert_int_equal(numaperf__thread_state_get(&kept), 0);
        assert_int_equal(kept.policy, policies[i]);

        assert_int_equal(numaperf__mempolicy_set(MPOL_INTERLEAVE, &nodes), 0);
        assert_int_equal(numaperf__thread_state_set(&kept), 0);
        struct numaperf__thread_state again;
        assert_int_equal(numaperf__thread_state_get(&again), 0);
        assert_int_equal(again.policy, policies[i]);
        assert_true(numaperf_nodemask_equal(&again.nodes, &kept.nodes));
        assert_true(numaperf_cpuset_equal(&again.cpus, &kept.cpus));
    }
}

static void thread_state_gives_affinity_back_where_policies_are_refused(void **state)
{
    (void)state;
    struct numaperf__thread_state kept;
    fake_refuse(SYS_get_mempolicy, 0, EPERM);
    assert_int_equal(numaperf__thread_state_get(&kept), -EPERM);
    assert_int_equal(kept.policy, NUMAPERF__POLICY_UNKNOWN);
    assert_true(numaperf_cpuset_equal(&kept.cpus, &at_start.cpus));

    numaperf_cpuset_t one = set_of(first_cpu(), first_cpu());
    assert_int_equal(numaperf_set_affinity(&one), 0);
    fake_refuse(SYS_set_mempolicy, 0, EPERM);
    assert_int_equal(numaperf__thread_state_set(&kept), 0);
    assert_affinity_is(&at_start.cpus);
    /* A known policy is tried, its refusal reported, and the affinity still given back. */
    assert_int_equal(numaperf_set_affinity(&one), 0);
    kept.policy = MPOL_DEFAULT;
    assert_int_equal(numaperf__thread_state_set(&kept), -EPERM);
    assert_affinity_is(&at_start.cpus);
}

static void current_cpu_takes_either_output_alone(void **state)
{
    (void)state;
    int node = -1;
    assert_int_equal(numaperf__current_cpu(NULL, &node), 0);
    assert_true(node >= 0);
    assert_int_equal(numaperf__current_cpu(NULL, NULL), 0);
}

/* In the new program: what was captured at load must be what exec passed on, whatever we do now. */
static int check_state_at_load(void)
{
    struct numaperf__thread_state now;
    struct numaperf__thread_state at_load;
    if (numaperf__thread_state_get(&now) < 0)
        return 2;
    if (numaperf__mempolicy_set(MPOL_DEFAULT, NULL) < 0)
        return 3;
    numaperf__thread_state_at_load(&at_load);
    if (at_load.policy != MPOL_INTERLEAVE || now.policy != MPOL_INTERLEAVE)
        return 4;
    if (!numaperf_nodemask_equal(&at_load.nodes, &now.nodes))
        return 5;
    if (numaperf_cpuset_count(&at_load.cpus) != 1)
        return 6;
    return numaperf_cpuset_equal(&at_load.cpus, &now.cpus) ? 0 : 7;
}

static void thread_state_at_load_is_what_the_process_was_started_with(void **state)
{
    (void)state;
    skip_without_numa();
    numaperf_nodemask_t nodes = memory_nodes();
    numaperf_cpuset_t one = set_of(first_cpu(), first_cpu());
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (numaperf__mempolicy_set(MPOL_INTERLEAVE, &nodes) == 0 &&
            numaperf__affinity_set(0, &one) == 0)
            (void)execl("/proc/self/exe", "test_pin", "state-at-load", (char *)NULL);
        _exit(100);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, case_setup, case_teardown)

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "state-at-load") == 0)
        return check_state_at_load();

    (void)numaperf__thread_state_get(&at_start);
    const struct CMUnitTest tests[] = {
        CASE(pin_to_cpu_is_strict_and_runs_there_and_is_restored),
        CASE(pin_trimmed_is_best_effort_in_soft),
        CASE(pin_trimmed_is_refused_in_hard_and_undone),
        CASE(pin_wholly_absent_leaves_the_thread_and_says_none),
        CASE(pin_refuses_bad_arguments_before_it_touches_the_thread),
        CASE(pins_nest),
        CASE(restore_on_another_thread_is_busy_and_keeps_the_pin),
        CASE(restore_twice_or_of_nothing_is_invalid),
        CASE(set_affinity_holds_and_a_trimmed_one_is_a_range_error),
        CASE(pin_to_each_node_is_strict_and_runs_on_it),
        CASE(pin_to_an_absent_node_is_no_node_in_both_modes),
        CASE(foreign_topology_pins_softly_and_never_strictly),
        CASE(foreign_topology_that_fits_exactly_is_still_best_effort),
        CASE(affinity_of_a_kernel_with_more_pus_is_read),
        CASE(affinity_beyond_the_last_pu_is_an_overflow_not_a_smaller_set),
        CASE(pin_that_cannot_read_the_old_affinity_changes_nothing),
        CASE(pin_that_cannot_be_read_back_is_never_strict),
        CASE(pin_that_returns_success_without_effect_is_never_strict),
        CASE(hard_refusal_that_cannot_be_undone_says_so),
        CASE(restore_that_fails_can_be_tried_again),
        CASE(prefer_of_each_memory_node_is_strict_and_read_back),
        CASE(prefer_of_the_last_possible_node_reaches_the_kernel),
        CASE(prefer_that_has_no_effect_is_never_strict),
        CASE(thread_state_with_mode_flags_is_given_back_exactly),
        CASE(thread_state_gives_affinity_back_where_policies_are_refused),
        CASE(current_cpu_takes_either_output_alone),
        CASE(thread_state_at_load_is_what_the_process_was_started_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
