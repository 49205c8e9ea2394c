/* SPDX-License-Identifier: MIT */
/*
 * Capability detection against refusals that are real: seccomp filters, dropped privileges, kernel
 * settings. What can be set up only for a whole process happens in forked children; kernel
 * settings are not touched, the expectation is worked out from those that are found.
 */
#include <numaperf/capabilities.h>
#include <numaperf/cpuset.h>
#include <numaperf/error.h>

#include "place/capability.h"

#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- what the machine says, read here on its own ---- */

static long number_of(const char *path, long when_absent)
{
    long value = when_absent;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return when_absent;
    if (fscanf(file, "%ld", &value) != 1)
        value = when_absent;
    (void)fclose(file);
    return value;
}

/* The value of a line of our status file; `size` bytes at `out`. */
static bool status_of(const char *name, char *out, size_t size)
{
    char line[8192];
    size_t length = strlen(name);
    bool is_found = false;
    FILE *file = fopen("/proc/thread-self/status", "re");
    if (file == NULL)
        return false;
    while (!is_found && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, length) != 0 || line[length] != ':')
            continue;
        const char *value = line + length + 1 + strspn(line + length + 1, " \t");
        (void)snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
        is_found = true;
    }
    (void)fclose(file);
    return is_found;
}

static bool has_privilege(int capability)
{
    char text[64];
    assert_true(status_of("CapEff", text, sizeof(text)));
    return (strtoull(text, NULL, 16) >> capability & 1) != 0;
}

static bool is_filtered(void)
{
    char text[16];
    return status_of("Seccomp", text, sizeof(text)) && strcmp(text, "0") != 0;
}

static bool kernel_is_at_least(int major, int minor)
{
    struct utsname name;
    int a = 0;
    int b = 0;
    assert_int_equal(uname(&name), 0);
    assert_int_equal(sscanf(name.release, "%d.%d", &a, &b), 2);
    return a > major || (a == major && b >= minor);
}

static numaperf_capabilities_t detect(void)
{
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    assert_int_equal(numaperf_capabilities_detect(&caps), 0);
    return caps;
}

/* ---- this process as it is ---- */

static void report_agrees_with_the_kernels_own_files(void **state)
{
    (void)state;
    numaperf_capabilities_t caps = detect();
    char text[4096];
    (void)numaperf_capabilities_summary(&caps, text, sizeof(text));
    print_message("%s", text);

    assert_int_equal(caps.strict_memory_binding, has_privilege(CAP_SYS_ADMIN));
    assert_int_equal(caps.strict_cpu_affinity, has_privilege(CAP_SYS_NICE));
    assert_int_equal(caps.memory_locking, has_privilege(CAP_IPC_LOCK));
    long balancing = number_of("/proc/sys/kernel/numa_balancing", 0);
    assert_int_equal(caps.numa_balancing_disabled, balancing == 0);
    assert_int_equal(numaperf__numa_balancing(), balancing);

    char list[2048];
    numaperf_nodemask_t nodes;
    assert_true(status_of("Mems_allowed_list", list, sizeof(list)));
    assert_int_equal(numaperf_nodemask_parse(list, &nodes), 0);
    assert_int_equal(caps.numa_node_count, numaperf_nodemask_count(&nodes));
}

/* Neither pinning nor binding nor querying asks for a privilege. */
static void placement_probes_work_without_any_privilege(void **state)
{
    (void)state;
    if (is_filtered()) {
        print_message("a seccomp filter is active\n");
        skip();
    }
    numaperf_capabilities_t caps = detect();
    assert_int_equal(caps.probe_mbind, NUMAPERF_PROBE_OK);
    assert_int_equal(caps.probe_page_query, NUMAPERF_PROBE_OK);
    assert_int_equal(caps.probe_affinity, NUMAPERF_PROBE_OK);
    assert_int_equal(caps.errno_mbind, 0);
    assert_int_equal(caps.errno_page_query, 0);
    assert_int_equal(caps.errno_affinity, 0);
}

static void io_uring_follows_its_sysctl(void **state)
{
    (void)state;
    if (is_filtered() || !kernel_is_at_least(5, 14)) {
        print_message("needs no seccomp filter, and a kernel of 5.14 or newer\n");
        skip();
    }
    long disabled = number_of("/proc/sys/kernel/io_uring_disabled", 0);
    long group = number_of("/proc/sys/kernel/io_uring_group", -1);
    bool is_let_through = has_privilege(CAP_SYS_ADMIN) || (group >= 0 && getegid() == (gid_t)group);
    bool is_off = disabled == 2 || (disabled == 1 && !is_let_through);
    numaperf_capabilities_t caps = detect();
    print_message("io_uring_disabled %ld, group %ld: expecting %s\n", disabled, group,
                  is_off ? "sysctl" : "ok");
    uint32_t expected = is_off ? NUMAPERF_PROBE_SYSCTL : NUMAPERF_PROBE_OK;
    assert_int_equal(caps.probe_io_uring, expected);
    assert_int_equal(caps.probe_iowq_affinity, expected);
    assert_int_equal(caps.errno_io_uring, is_off ? EPERM : 0);
    assert_int_equal(caps.errno_iowq_affinity, is_off ? EPERM : 0);
}

static void hard_mode_check_follows_privileges_and_balancing(void **state)
{
    (void)state;
    bool is_balanced = number_of("/proc/sys/kernel/numa_balancing", 0) != 0;
    bool has_both = has_privilege(CAP_SYS_ADMIN) && has_privilege(CAP_SYS_NICE);
    assert_int_equal(numaperf__hard_mode_check(true), is_balanced ? NUMAPERF_E_HARD_MODE : 0);
    if (is_balanced)
        assert_non_null(strstr(numaperf_last_error()->reason, "kernel.numa_balancing"));
    assert_int_equal(numaperf__hard_mode_check(false),
                     is_balanced || !has_both ? NUMAPERF_E_HARD_MODE : 0);
    if (!has_both) {
        assert_int_equal(numaperf_last_error()->sys_errno, EPERM);
        assert_non_null(strstr(numaperf_last_error()->reason,
                               has_privilege(CAP_SYS_ADMIN) ? "CAP_SYS_NICE" : "CAP_SYS_ADMIN"));
    }
    numaperf_capabilities_t caps = detect();
    const char *missing[8];
    size_t count = numaperf_capabilities_missing_for_hard_mode(&caps, missing, 8);
    size_t expected =
        (size_t)!has_privilege(CAP_SYS_ADMIN) + !has_privilege(CAP_SYS_NICE) + is_balanced;
    if (!is_filtered())
        assert_int_equal(count, expected);
}

/* ---- forked children ---- */

/* What a child exits with when the system does not let it set its scene. */
#define CANNOT 77

/* A child says what is wrong on its standard error and exits with 1. Skips when it cannot. */
static void run_child(int (*body)(const void *), const void *arg)
{
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(body(arg));
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == CANNOT) {
        print_message("the system refuses what the child needs\n");
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int expect(const char *what, long got, long wanted)
{
    if (got == wanted)
        return 0;
    (void)fprintf(stderr, "%s: %ld instead of %ld\n", what, got, wanted);
    return 1;
}

static int entries_count(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;
    while (dir != NULL && readdir(dir) != NULL)
        count++;
    if (dir != NULL)
        (void)closedir(dir);
    return count;
}

/* ---- seccomp ---- */

struct denial {
    long number;
    int error;
    uint32_t probes; /* bit set of the probes that must say "seccomp" */
};

enum { MBIND = 1, PAGE_QUERY = 2, AFFINITY = 4, IO_URING = 8, IOWQ = 16 };

static int filter_install(long number, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
}

/* Outcomes as an array, in the order of the bits above. */
static void outcomes_of(const numaperf_capabilities_t *caps, uint32_t *out_probe,
                        int32_t *out_errno)
{
    const uint32_t probes[5] = {caps->probe_mbind, caps->probe_page_query, caps->probe_affinity,
                                caps->probe_io_uring, caps->probe_iowq_affinity};
    const int32_t errnos[5] = {caps->errno_mbind, caps->errno_page_query, caps->errno_affinity,
                               caps->errno_io_uring, caps->errno_iowq_affinity};
    memcpy(out_probe, probes, sizeof(probes));
    memcpy(out_errno, errnos, sizeof(errnos));
}

/*
 * A ring that is switched off is refused with EPERM, filter or not: the setting is the cause then.
 * With another errno only the filter can have refused it.
 */
static bool is_filters_doing(const struct denial *denial, uint32_t before)
{
    if (before == NUMAPERF_PROBE_SYSCTL)
        return denial->number == SYS_io_uring_setup && denial->error != EPERM;
    return before == NUMAPERF_PROBE_OK;
}

static int child_denied(const void *arg)
{
    static const char *const names[5] = {"mbind", "page query", "affinity", "io_uring", "io-wq"};
    const struct denial *denial = arg;
    uint32_t before[5];
    uint32_t after[5];
    int32_t errnos[5];
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    if (numaperf_capabilities_detect(&caps) < 0)
        return 2;
    outcomes_of(&caps, before, errnos);
    int fds = entries_count("/proc/self/fd");
    int threads = entries_count("/proc/self/task");
    if (filter_install(denial->number, denial->error) < 0)
        return 3;
    if (numaperf_capabilities_detect(&caps) < 0)
        return 4;
    outcomes_of(&caps, after, errnos);

    int wrong = 0;
    for (int i = 0; i < 5; i++) {
        bool is_denied = (denial->probes >> i & 1) != 0 && is_filters_doing(denial, before[i]);
        wrong += expect(names[i], after[i], is_denied ? NUMAPERF_PROBE_SECCOMP : before[i]);
        if (is_denied)
            wrong += expect(names[i], errnos[i], denial->error);
    }
    wrong += expect("descriptors", entries_count("/proc/self/fd"), fds);
    wrong += expect("threads", entries_count("/proc/self/task"), threads);
    return wrong == 0 ? 0 : 1;
}

static void each_denial_by_seccomp_is_named_and_the_rest_still_works(void **state)
{
    (void)state;
    const struct denial denials[] = {
        {SYS_mbind, 0, MBIND},
        {SYS_get_mempolicy, 0, MBIND},
        {SYS_move_pages, 0, PAGE_QUERY},
        {SYS_sched_setaffinity, 0, AFFINITY},
        {SYS_io_uring_setup, 0, IO_URING | IOWQ},
        {SYS_io_uring_enter, 0, IO_URING | IOWQ},
        {SYS_io_uring_register, 0, IOWQ},
    };
    const int errors[] = {EPERM, ENOSYS, EACCES};
    for (size_t i = 0; i < sizeof(denials) / sizeof(denials[0]); i++) {
        for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
            struct denial denial = denials[i];
            denial.error = errors[e];
            run_child(child_denied, &denial);
        }
    }
}

/* With the ring switched off as well, the setting is the cause: it would refuse without the filter.
 */
/* ---- privileges ---- */

struct drop {
    uint64_t keep; /* capabilities that stay */
};

static int privileges_keep(uint64_t keep)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof(data));
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(keep >> 32 * i);
        data[i].permitted = data[i].effective;
    }
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int child_dropped(const void *arg)
{
    const struct drop *drop = arg;
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setresuid(65534, 65534, 65534) < 0)
        return 2;
    if (privileges_keep(drop->keep) < 0)
        return 3;
    bool has_admin = (drop->keep >> CAP_SYS_ADMIN & 1) != 0;
    bool has_nice = (drop->keep >> CAP_SYS_NICE & 1) != 0;
    bool has_lock = (drop->keep >> CAP_IPC_LOCK & 1) != 0;
    bool is_balanced = number_of("/proc/sys/kernel/numa_balancing", 0) != 0;

    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    if (numaperf_capabilities_detect(&caps) < 0)
        return 4;
    int wrong = expect("CAP_SYS_ADMIN", caps.strict_memory_binding, has_admin);
    wrong += expect("CAP_SYS_NICE", caps.strict_cpu_affinity, has_nice);
    wrong += expect("CAP_IPC_LOCK", caps.memory_locking, has_lock);
    wrong += expect("missing", (long)numaperf_capabilities_missing_for_hard_mode(&caps, NULL, 0),
                    !has_admin + !has_nice + is_balanced);
    wrong += expect("hard mode", numaperf__hard_mode_check(false),
                    has_admin && has_nice && !is_balanced ? 0 : NUMAPERF_E_HARD_MODE);
    wrong +=
        expect("waived", numaperf__hard_mode_check(true), is_balanced ? NUMAPERF_E_HARD_MODE : 0);
    return wrong == 0 ? 0 : 1;
}

static void dropped_privileges_are_seen_one_by_one(void **state)
{
    (void)state;
    const uint64_t both = UINT64_C(1) << CAP_SYS_ADMIN | UINT64_C(1) << CAP_SYS_NICE;
    if (getuid() != 0 || !has_privilege(CAP_SETUID) || !has_privilege(CAP_SYS_ADMIN) ||
        !has_privilege(CAP_SYS_NICE) || !has_privilege(CAP_IPC_LOCK) || is_filtered()) {
        print_message("needs root with its capabilities and without a seccomp filter\n");
        skip();
    }
    const struct drop drops[] = {{0},
                                 {UINT64_C(1) << CAP_SYS_ADMIN},
                                 {UINT64_C(1) << CAP_SYS_NICE},
                                 {UINT64_C(1) << CAP_IPC_LOCK},
                                 {both}};
    for (size_t i = 0; i < sizeof(drops) / sizeof(drops[0]); i++)
        run_child(child_dropped, &drops[i]);
}

/* ---- namespaces, as containers have them ---- */

/* The same outcome as outside, and no thread left that the first detection did not leave. */
static int detect_inside(uint32_t expected_iowq)
{
    int threads = 0;
    int wrong = 0;
    for (int i = 0; i < 3; i++) {
        numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
        if (numaperf_capabilities_detect(&caps) < 0)
            return 4;
        wrong += expect("io-wq", caps.probe_iowq_affinity, expected_iowq);
        if (i == 0)
            threads = entries_count("/proc/self/task");
    }
    wrong += expect("threads", entries_count("/proc/self/task"), threads);
    return wrong == 0 ? 0 : 1;
}

/* A new pid namespace holds for the next child, which also needs its own /proc. */
static int child_contained(const void *arg)
{
    const uint32_t *expected_iowq = arg;
    if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return CANNOT;
    pid_t child = fork();
    if (child == 0) {
        if (mount("proc", "/proc", "proc", 0, NULL) < 0)
            _exit(CANNOT);
        _exit(detect_inside(*expected_iowq));
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return 5;
    return WEXITSTATUS(status);
}

static void io_wq_worker_is_found_inside_a_pid_namespace(void **state)
{
    (void)state;
    if (!has_privilege(CAP_SYS_ADMIN) || is_filtered()) {
        print_message("needs CAP_SYS_ADMIN and no seccomp filter\n");
        skip();
    }
    uint32_t expected_iowq = detect().probe_iowq_affinity;
    run_child(child_contained, &expected_iowq);
}

/* Inside a user namespace every capability is effective, and opens no door of the kernel's. */
static int child_in_user_namespace(const void *arg)
{
    const uint32_t *expected = arg;
    if (unshare(CLONE_NEWUSER) < 0)
        return CANNOT;
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    if (numaperf_capabilities_detect(&caps) < 0)
        return 4;
    int wrong = expect("CAP_SYS_ADMIN", caps.strict_memory_binding, true);
    wrong += expect("io_uring", caps.probe_io_uring, *expected);
    return wrong == 0 ? 0 : 1;
}

static void restricted_ring_stays_shut_in_a_user_namespace(void **state)
{
    (void)state;
    long disabled = number_of("/proc/sys/kernel/io_uring_disabled", 0);
    if (is_filtered() || number_of("/proc/sys/kernel/io_uring_group", -1) >= 0 ||
        number_of("/proc/sys/user/max_user_namespaces", 0) == 0) {
        print_message("needs no seccomp filter, no io_uring_group, and user namespaces\n");
        skip();
    }
    uint32_t expected = disabled == 0 ? NUMAPERF_PROBE_OK : NUMAPERF_PROBE_SYSCTL;
    run_child(child_in_user_namespace, &expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(report_agrees_with_the_kernels_own_files),
        cmocka_unit_test(placement_probes_work_without_any_privilege),
        cmocka_unit_test(io_uring_follows_its_sysctl),
        cmocka_unit_test(hard_mode_check_follows_privileges_and_balancing),
        cmocka_unit_test(each_denial_by_seccomp_is_named_and_the_rest_still_works),
        cmocka_unit_test(dropped_privileges_are_seen_one_by_one),
        cmocka_unit_test(io_wq_worker_is_found_inside_a_pid_namespace),
        cmocka_unit_test(restricted_ring_stays_shut_in_a_user_namespace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
