/* SPDX-License-Identifier: MIT */
/*
 * Pins against the kernel we run on, and against answers it does not give here, which are played.
 */
#include "place/pin.h"

#include "place/enforce.h"

#include <numaperf/error.h>

#include "support/fake_syscall.h"
#include "support/thread_case.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

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
    fake_set(SYS_sched_getaffinity, FAKE_MORE_PUS, 0);
    assert_affinity_is(&at_start.cpus);
}

static void affinity_beyond_the_last_pu_is_an_overflow_not_a_smaller_set(void **state)
{
    (void)state;
    fake_set(SYS_sched_getaffinity, FAKE_MORE_PUS, 0);
    fake.extra_cpu = NUMAPERF_CPU_MAX + 5;
    numaperf_cpuset_t out = set_of(7, 7);
    numaperf_cpuset_t before = out;
    assert_int_equal(numaperf_get_affinity(&out), -EOVERFLOW);
    assert_true(numaperf_cpuset_equal(&out, &before));
}

static void pin_that_cannot_read_the_old_affinity_changes_nothing(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    fake_set(SYS_sched_getaffinity, FAKE_REFUSE, EPERM);
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_none(&pin.enforcement));
    assert_int_equal(numaperf_pin_restore(&pin), 0);
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_HARD, &pin),
                     NUMAPERF_E_HARD_MODE);
    assert_int_equal(numaperf_last_error()->sys_errno, EPERM);
    fake_clear();
    assert_affinity_is(&at_start.cpus);
}

static void pin_that_cannot_be_read_back_is_never_strict(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    fake_set(SYS_sched_getaffinity, FAKE_REFUSE, EPERM);
    fake.skip = 1;
    fake.is_only_once = true;
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_best_effort(&pin.enforcement));
    assert_int_equal(numaperf_pin_restore(&pin), 0);
    assert_affinity_is(&at_start.cpus);

    fake_set(SYS_sched_getaffinity, FAKE_REFUSE, EPERM);
    fake.skip = 1;
    fake.is_only_once = true;
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
    fake_set(SYS_sched_setaffinity, FAKE_NOTHING, 0);
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
    fake_set(SYS_sched_setaffinity, FAKE_REFUSE, EPERM);
    fake.skip = 1;
    assert_int_equal(numaperf_pin_current(&wanted, NUMAPERF_MODE_HARD, &pin), NUMAPERF_E_HARD_MODE);
    assert_non_null(strstr(numaperf_last_error()->reason, "could not be put back"));
    fake_clear();
    assert_int_equal(numaperf_set_affinity(&at_start.cpus), 0);
}

static void restore_that_fails_can_be_tried_again(void **state)
{
    (void)state;
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_to_cpu(first_cpu(), NUMAPERF_MODE_HARD, &pin), 0);
    fake_set(SYS_sched_setaffinity, FAKE_REFUSE, EPERM);
    assert_int_equal(numaperf_pin_restore(&pin), -EPERM);
    fake_clear();
    assert_int_equal(numaperf_pin_restore(&pin), 0);
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

#define CASE(f) cmocka_unit_test_setup_teardown(f, case_setup, case_teardown)

int main(void)
{
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
        CASE(current_cpu_takes_either_output_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
