/* SPDX-License-Identifier: MIT */
/*
 * Capability report: its text, its requirements, what each refusal is taken for, and that a
 * detection leaves nothing behind. Answers that this kernel does not give are played; the real
 * refusals are in test_capabilities_live.
 */
#include "place/capability.h"

#include <numaperf/cpuset.h>
#include <numaperf/error.h>
#include <numaperf/pin.h>

#include "support/fake_syscall.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int case_setup(void **state)
{
    (void)state;
    fake_clear();
    return 0;
}

/* ---- what this process holds ---- */

#if defined(__has_feature)
#define HAS_SANITIZER (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SANITIZER true
#else
#define HAS_SANITIZER false
#endif

struct held {
    int descriptors;
    int threads;
    int mappings;
};

static int entries_count(const char *path)
{
    DIR *dir = opendir(path);
    assert_non_null(dir);
    int count = 0;
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

static int lines_count(const char *path)
{
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    int count = 0;
    for (int c = fgetc(file); c != EOF; c = fgetc(file))
        count += c == '\n';
    (void)fclose(file);
    return count;
}

static struct held held_now(void)
{
    struct held held = {entries_count("/proc/self/fd"), entries_count("/proc/self/task"),
                        lines_count("/proc/self/maps")};
    return held;
}

static void assert_holds_the_same(const struct held *before)
{
    struct held now = held_now();
    assert_int_equal(now.descriptors, before->descriptors);
    assert_int_equal(now.threads, before->threads);
    /* The sanitizers map memory for themselves whenever a thread was made. */
    if (!HAS_SANITIZER)
        assert_int_equal(now.mappings, before->mappings);
}

static numaperf_capabilities_t detect(void)
{
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    assert_int_equal(numaperf_capabilities_detect(&caps), 0);
    assert_int_equal(caps.size, sizeof(caps));
    return caps;
}

/* What the probes of this environment say without any fake; filters may be real. */
static numaperf_capabilities_t plain;

static void skip_unless_ok(uint32_t probe, const char *what)
{
    if (probe != NUMAPERF_PROBE_OK) {
        print_message("%s does not work here: %s\n", what, numaperf_probe_name(probe));
        skip();
    }
}

/* Whether a seccomp filter is on us: then a refusal is taken for its doing. */
static bool is_filtered(void)
{
    char line[256];
    bool filtered = false;
    FILE *file = fopen("/proc/thread-self/status", "re");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL)
        filtered = filtered || (strncmp(line, "Seccomp:", 8) == 0 && strchr(line, '2') != NULL);
    (void)fclose(file);
    return filtered;
}

/* ---- detect ---- */

static void detect_leaves_no_descriptor_mapping_or_thread(void **state)
{
    (void)state;
    (void)detect();
    struct held before = held_now();
    for (int i = 0; i < 10; i++)
        (void)detect();
    assert_holds_the_same(&before);
}

static void detect_of_failing_steps_leaves_nothing_either(void **state)
{
    (void)state;
    (void)detect();
    struct held before = held_now();
    const long calls[] = {
        SYS_mbind,          SYS_get_mempolicy,     SYS_move_pages,       SYS_io_uring_setup,
        SYS_io_uring_enter, SYS_io_uring_register, SYS_sched_getaffinity};
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        fake_set(calls[i], FAKE_REFUSE, EPERM);
        (void)detect();
        fake.number = 0;
        assert_holds_the_same(&before);
    }
    fake_set(SYS_io_uring_setup, FAKE_DEV_NULL, 0);
    numaperf_capabilities_t caps = detect();
    fake.number = 0;
    assert_int_equal(caps.probe_io_uring, NUMAPERF_PROBE_FAILED);
    assert_int_equal(caps.errno_io_uring, ENODEV);
    assert_holds_the_same(&before);
}

static void detect_keeps_the_affinity_of_a_pinned_thread(void **state)
{
    (void)state;
    numaperf_cpuset_t all;
    assert_int_equal(numaperf_get_affinity(&all), 0);
    for (int cpu = numaperf_cpuset_next(&all, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&all, cpu)) {
        numaperf_pin_t pin = NUMAPERF_PIN_INIT;
        assert_int_equal(numaperf_pin_to_cpu(cpu, NUMAPERF_MODE_HARD, &pin), 0);
        numaperf_capabilities_t caps = detect();
        numaperf_cpuset_t now;
        assert_int_equal(numaperf_get_affinity(&now), 0);
        assert_true(numaperf_cpuset_equal(&now, &pin.requested));
        assert_int_equal(caps.probe_affinity, plain.probe_affinity);
        assert_int_equal(caps.probe_iowq_affinity, plain.probe_iowq_affinity);
        assert_int_equal(numaperf_pin_restore(&pin), 0);
    }
    (void)detect();
    numaperf_cpuset_t now;
    assert_int_equal(numaperf_get_affinity(&now), 0);
    assert_true(numaperf_cpuset_equal(&now, &all));
}

static void detect_refuses_a_struct_of_no_size_and_writes_only_what_fits(void **state)
{
    (void)state;
    numaperf_capabilities_t caps;
    memset(&caps, 0, sizeof(caps));
    assert_int_equal(numaperf_capabilities_detect(NULL), -EINVAL);
    assert_int_equal(numaperf_capabilities_detect(&caps), -EINVAL);
    caps.size = sizeof(caps) - 4;
    assert_int_equal(numaperf_capabilities_detect(&caps), -EINVAL);

    struct {
        numaperf_capabilities_t caps;
        uint32_t later; /* a field of a later release */
    } newer = {NUMAPERF_CAPABILITIES_INIT, 77};
    newer.caps.size = sizeof(newer);
    assert_int_equal(numaperf_capabilities_detect(&newer.caps), 0);
    assert_int_equal(newer.caps.size, sizeof(newer));
    assert_int_equal(newer.later, 77);
    assert_int_equal(newer.caps.probe_mbind, plain.probe_mbind);
}

/* ---- what an answer is taken for ---- */

static void refusals_are_told_apart_by_errno(void **state)
{
    (void)state;
    if (is_filtered()) {
        print_message("a seccomp filter is active: every refusal is taken for its doing\n");
        skip();
    }
    fake_set(SYS_mbind, FAKE_REFUSE, ENOSYS);
    numaperf_capabilities_t caps = detect();
    assert_int_equal(caps.probe_mbind, NUMAPERF_PROBE_TOO_OLD);
    assert_int_equal(caps.errno_mbind, ENOSYS);
    assert_int_equal(caps.probe_page_query, plain.probe_page_query);

    fake_set(SYS_move_pages, FAKE_REFUSE, EPERM);
    caps = detect();
    assert_int_equal(caps.probe_page_query, NUMAPERF_PROBE_NO_PRIVILEGE);
    assert_int_equal(caps.errno_page_query, EPERM);

    fake_set(SYS_sched_setaffinity, FAKE_REFUSE, EINVAL);
    caps = detect();
    assert_int_equal(caps.probe_affinity, NUMAPERF_PROBE_FAILED);
    assert_int_equal(caps.errno_affinity, EINVAL);

    fake_set(SYS_io_uring_setup, FAKE_REFUSE, ENOSYS);
    caps = detect();
    assert_int_equal(caps.probe_io_uring, NUMAPERF_PROBE_TOO_OLD);
    assert_int_equal(caps.probe_iowq_affinity, NUMAPERF_PROBE_TOO_OLD);
    assert_int_equal(caps.errno_iowq_affinity, ENOSYS);
}

static void unknown_register_operation_is_an_old_kernel(void **state)
{
    (void)state;
    skip_unless_ok(plain.probe_io_uring, "io_uring");
    fake_set(SYS_io_uring_register, FAKE_REFUSE, EINVAL);
    numaperf_capabilities_t caps = detect();
    assert_int_equal(caps.probe_io_uring, NUMAPERF_PROBE_OK);
    assert_int_equal(caps.probe_iowq_affinity, NUMAPERF_PROBE_TOO_OLD);
    assert_int_equal(caps.errno_iowq_affinity, EINVAL);
}

static void ring_that_cannot_be_entered_is_not_ok(void **state)
{
    (void)state;
    skip_unless_ok(plain.probe_io_uring, "io_uring");
    fake_set(SYS_io_uring_enter, FAKE_REFUSE, EBADFD);
    numaperf_capabilities_t caps = detect();
    assert_int_equal(caps.probe_io_uring, NUMAPERF_PROBE_FAILED);
    assert_int_equal(caps.errno_io_uring, EBADFD);
    assert_int_equal(caps.probe_iowq_affinity, NUMAPERF_PROBE_FAILED);

    /* A kernel that says "submitted" and completes nothing must not hang us. */
    fake.answer = FAKE_NOTHING;
    caps = detect();
    assert_int_equal(caps.errno_io_uring, ETIMEDOUT);
}

static void success_without_effect_is_not_ok(void **state)
{
    (void)state;
    skip_unless_ok(plain.probe_mbind, "mbind");
    fake_set(SYS_mbind, FAKE_NOTHING, 0);
    numaperf_capabilities_t caps = detect();
    assert_int_equal(caps.probe_mbind, NUMAPERF_PROBE_FAILED);
    assert_int_not_equal(caps.errno_mbind, 0);

    fake_set(SYS_move_pages, FAKE_NOTHING, 0);
    assert_int_equal(detect().probe_page_query, NUMAPERF_PROBE_FAILED);

    numaperf_cpuset_t all;
    assert_int_equal(numaperf_get_affinity(&all), 0);
    if (numaperf_cpuset_count(&all) > 1) {
        fake_set(SYS_sched_setaffinity, FAKE_NOTHING, 0);
        assert_int_equal(detect().probe_affinity, NUMAPERF_PROBE_FAILED);
    }
}

static void iowq_worker_that_kept_its_mask_is_not_ok(void **state)
{
    (void)state;
    skip_unless_ok(plain.probe_iowq_affinity, "io-wq affinity");
    fake_set(SYS_sched_getaffinity, FAKE_ALL_PUS, 0);
    fake.only_other_threads = true;
    numaperf_capabilities_t caps = detect();
    assert_int_equal(caps.probe_io_uring, NUMAPERF_PROBE_OK);
    assert_int_equal(caps.probe_iowq_affinity, NUMAPERF_PROBE_FAILED);

    /* The registration itself is swallowed: the worker is there, on every PU. */
    numaperf_cpuset_t all;
    assert_int_equal(numaperf_get_affinity(&all), 0);
    if (numaperf_cpuset_count(&all) > 1) {
        fake_set(SYS_io_uring_register, FAKE_NOTHING, 0);
        assert_int_equal(detect().probe_iowq_affinity, NUMAPERF_PROBE_FAILED);
    }
}

static void affinity_that_is_not_given_back_is_not_ok(void **state)
{
    (void)state;
    numaperf_cpuset_t all;
    assert_int_equal(numaperf_get_affinity(&all), 0);
    fake_set(SYS_sched_setaffinity, FAKE_REFUSE, EPERM);
    fake.skip = 1;
    numaperf_capabilities_t caps = detect();
    fake.number = 0;
    assert_int_not_equal(caps.probe_affinity, NUMAPERF_PROBE_OK);
    assert_int_equal(caps.errno_affinity, EPERM);
    assert_int_equal(numaperf_set_affinity(&all), 0);
}

static void io_uring_errnos_map_to_outcomes(void **state)
{
    (void)state;
    assert_int_equal(numaperf__io_uring_probe_outcome(0), NUMAPERF_PROBE_OK);
    assert_int_equal(numaperf__io_uring_probe_outcome(EINVAL), NUMAPERF_PROBE_TOO_OLD);
    assert_int_equal(numaperf__io_uring_probe_outcome(ENOMEM), NUMAPERF_PROBE_FAILED);
    assert_int_equal(numaperf__io_uring_probe_outcome(EMFILE), NUMAPERF_PROBE_FAILED);
    if (!is_filtered())
        assert_int_equal(numaperf__io_uring_probe_outcome(ENOSYS), NUMAPERF_PROBE_TOO_OLD);
}

/* ---- requirements ---- */

static numaperf_capabilities_t everything(void)
{
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    caps.strict_memory_binding = true;
    caps.strict_cpu_affinity = true;
    caps.numa_balancing_disabled = true;
    caps.numa_node_count = 2;
    return caps;
}

static void assert_only_missing(const numaperf_capabilities_t *caps, const char *word)
{
    const char *missing[8] = {NULL};
    assert_int_equal(numaperf_capabilities_missing_for_hard_mode(caps, missing, 8), 1);
    assert_non_null(strstr(missing[0], word));
    assert_null(missing[1]);
    assert_false(numaperf_capabilities_supports_hard_mode(caps));
}

static void each_requirement_is_named_when_it_alone_is_missing(void **state)
{
    (void)state;
    numaperf_capabilities_t caps = everything();
    assert_true(numaperf_capabilities_supports_hard_mode(&caps));
    assert_int_equal(numaperf_capabilities_missing_for_hard_mode(&caps, NULL, 0), 0);

    caps.strict_memory_binding = false;
    assert_only_missing(&caps, "CAP_SYS_ADMIN");
    caps = everything();
    caps.strict_cpu_affinity = false;
    assert_only_missing(&caps, "CAP_SYS_NICE");
    caps = everything();
    caps.numa_balancing_disabled = false;
    assert_only_missing(&caps, "kernel.numa_balancing");
    caps = everything();
    caps.probe_mbind = NUMAPERF_PROBE_SECCOMP;
    assert_only_missing(&caps, "mbind");
    caps = everything();
    caps.probe_page_query = NUMAPERF_PROBE_SECCOMP;
    assert_only_missing(&caps, "move_pages");
    caps = everything();
    caps.probe_affinity = NUMAPERF_PROBE_SECCOMP;
    assert_only_missing(&caps, "sched_setaffinity");
}

static void hard_mode_needs_neither_locking_nor_io_uring(void **state)
{
    (void)state;
    numaperf_capabilities_t caps = everything();
    caps.memory_locking = false;
    caps.probe_io_uring = NUMAPERF_PROBE_SYSCTL;
    caps.probe_iowq_affinity = NUMAPERF_PROBE_SYSCTL;
    assert_true(numaperf_capabilities_supports_hard_mode(&caps));
}

static void missing_counts_what_does_not_fit_and_writes_only_max(void **state)
{
    (void)state;
    numaperf_capabilities_t caps = everything();
    caps.strict_memory_binding = false;
    caps.strict_cpu_affinity = false;
    caps.numa_balancing_disabled = false;
    const char *missing[3] = {NULL, "untouched", "untouched"};
    assert_int_equal(numaperf_capabilities_missing_for_hard_mode(&caps, missing, 1), 3);
    assert_non_null(strstr(missing[0], "CAP_SYS_ADMIN"));
    assert_string_equal(missing[1], "untouched");
    assert_int_equal(numaperf_capabilities_missing_for_hard_mode(&caps, NULL, 0), 3);
}

static void nothing_known_is_nothing_supported(void **state)
{
    (void)state;
    numaperf_capabilities_t unsized;
    memset(&unsized, 0, sizeof(unsized));
    unsized.strict_memory_binding = true;
    assert_false(numaperf_capabilities_supports_hard_mode(NULL));
    assert_false(numaperf_capabilities_supports_hard_mode(&unsized));
    assert_int_equal(numaperf_capabilities_missing_for_hard_mode(&unsized, NULL, 0), 3);
}

static void hard_mode_check_agrees_with_the_report(void **state)
{
    (void)state;
    int rc = numaperf__hard_mode_check(false);
    bool has_all =
        plain.strict_memory_binding && plain.strict_cpu_affinity && plain.numa_balancing_disabled;
    assert_int_equal(rc, has_all ? 0 : NUMAPERF_E_HARD_MODE);
    rc = numaperf__hard_mode_check(true);
    assert_int_equal(rc, plain.numa_balancing_disabled ? 0 : NUMAPERF_E_HARD_MODE);
}

static void hard_mode_check_names_a_missing_privilege(void **state)
{
    (void)state;
    /* capget refused: a privilege that cannot be seen is not claimed. */
    fake_set(SYS_capget, FAKE_REFUSE, EPERM);
    assert_int_equal(numaperf__hard_mode_check(false), NUMAPERF_E_HARD_MODE);
    assert_int_equal(numaperf_last_error()->sys_errno, EPERM);
    assert_non_null(strstr(numaperf_last_error()->reason, "CAP_SYS_ADMIN"));
    assert_int_equal(numaperf__hard_mode_check(true),
                     plain.numa_balancing_disabled ? 0 : NUMAPERF_E_HARD_MODE);
}

/* ---- text ---- */

static void summary_has_a_line_for_each_item_and_names_causes(void **state)
{
    (void)state;
    numaperf_capabilities_t caps = everything();
    caps.strict_cpu_affinity = false;
    caps.probe_io_uring = NUMAPERF_PROBE_SYSCTL;
    caps.errno_io_uring = EPERM;
    char text[2048];
    int length = numaperf_capabilities_summary(&caps, text, sizeof(text));
    assert_int_equal(length, strlen(text));
    assert_non_null(strstr(text, "CAP_SYS_NICE (strict CPU affinity): no\n"));
    assert_non_null(strstr(text, "CAP_SYS_ADMIN (strict memory binding): yes\n"));
    assert_non_null(strstr(text, "io_uring: sysctl (EPERM)\n"));
    assert_non_null(strstr(text, "mbind: ok\n"));
    assert_non_null(strstr(text, "nodes with memory: 2\n"));
    assert_non_null(strstr(text, "hard mode: no\n"));
    assert_non_null(strstr(text, "hard mode needs: CAP_SYS_NICE"));
}

static void summary_cuts_as_snprintf_does(void **state)
{
    (void)state;
    numaperf_capabilities_t caps = everything();
    char whole[2048];
    int length = numaperf_capabilities_summary(&caps, whole, sizeof(whole));
    assert_int_equal(numaperf_capabilities_summary(&caps, NULL, 0), length);
    for (size_t size = 1; size <= (size_t)length + 1; size++) {
        char cut[2048];
        memset(cut, '#', sizeof(cut));
        assert_int_equal(numaperf_capabilities_summary(&caps, cut, size), length);
        assert_int_equal(strlen(cut), size - 1);
        assert_memory_equal(cut, whole, size - 1);
        assert_int_equal(cut[size], '#');
    }
}

static void summary_refuses_bad_arguments(void **state)
{
    (void)state;
    numaperf_capabilities_t caps = everything();
    char text[8];
    assert_int_equal(numaperf_capabilities_summary(NULL, text, sizeof(text)), -EINVAL);
    assert_int_equal(numaperf_capabilities_summary(&caps, NULL, 8), -EINVAL);
    caps.size = 0;
    assert_int_equal(numaperf_capabilities_summary(&caps, text, sizeof(text)), -EINVAL);
}

static void probe_names_are_distinct_words(void **state)
{
    (void)state;
    for (uint32_t a = 0; a <= NUMAPERF_PROBE_NOT_ASKED; a++) {
        assert_string_not_equal(numaperf_probe_name(a), "unknown");
        for (uint32_t b = 0; b < a; b++)
            assert_string_not_equal(numaperf_probe_name(a), numaperf_probe_name(b));
    }
    assert_string_equal(numaperf_probe_name(NUMAPERF_PROBE_NOT_ASKED + 1), "unknown");
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, case_setup, case_setup)

int main(void)
{
    plain.size = sizeof(plain);
    if (numaperf_capabilities_detect(&plain) < 0)
        return 1;
    const struct CMUnitTest tests[] = {
        CASE(detect_leaves_no_descriptor_mapping_or_thread),
        CASE(detect_of_failing_steps_leaves_nothing_either),
        CASE(detect_keeps_the_affinity_of_a_pinned_thread),
        CASE(detect_refuses_a_struct_of_no_size_and_writes_only_what_fits),
        CASE(refusals_are_told_apart_by_errno),
        CASE(unknown_register_operation_is_an_old_kernel),
        CASE(ring_that_cannot_be_entered_is_not_ok),
        CASE(success_without_effect_is_not_ok),
        CASE(iowq_worker_that_kept_its_mask_is_not_ok),
        CASE(affinity_that_is_not_given_back_is_not_ok),
        CASE(io_uring_errnos_map_to_outcomes),
        CASE(each_requirement_is_named_when_it_alone_is_missing),
        CASE(hard_mode_needs_neither_locking_nor_io_uring),
        CASE(missing_counts_what_does_not_fit_and_writes_only_max),
        CASE(nothing_known_is_nothing_supported),
        CASE(hard_mode_check_agrees_with_the_report),
        CASE(hard_mode_check_names_a_missing_privilege),
        CASE(summary_has_a_line_for_each_item_and_names_causes),
        CASE(summary_cuts_as_snprintf_does),
        CASE(summary_refuses_bad_arguments),
        CASE(probe_names_are_distinct_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
