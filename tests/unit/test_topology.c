/* SPDX-License-Identifier: MIT */
/*
 * Discovery: the machine this runs on against an independent reading of its /sys. With the argument
 * --summary it prints what it discovers: cases start it that way to see a fresh process. On several
 * nodes it runs in the test VM.
 */
#include "topo/allowed.h"
#include "topo/topology.h"

#include <numaperf/error.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TEXT_MAX 65536

static char scratch[] = "/tmp/numaperf-topology-XXXXXX";

/* ---- helpers ---- */

static void assert_cpus(const numaperf_cpuset_t *set, const char *list)
{
    char text[1024];
    assert_true(numaperf_cpuset_format(set, text, sizeof(text)) < (int)sizeof(text));
    assert_string_equal(text, list);
}

static char *summary_of(const numaperf_topology_t *topology)
{
    int length = numaperf_topology_summary(topology, NULL, 0);
    assert_true(length > 0);
    char *text = malloc((size_t)length + 1);
    assert_non_null(text);
    assert_int_equal(numaperf_topology_summary(topology, text, (size_t)length + 1), length);
    assert_int_equal(strlen(text), length);
    return text;
}

/* Write a file below the scratch directory, with the directories it needs; its path is static. */
static const char *scratch_write(const char *name, const void *data, size_t size)
{
    static char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/%s", scratch, name);
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return path;
}

static void tree_write(const char *name, const char *text)
{
    (void)scratch_write(name, text, strlen(text));
}

/* What a fresh process discovers that starts on `cpu` (-1: as we are) with `variables` set. */
static char *child_summary(int cpu, const char *const *variables)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET((size_t)(cpu < 0 ? 0 : cpu), &one);
        if (cpu >= 0 && sched_setaffinity(0, sizeof(one), &one) < 0)
            _exit(100);
        for (; variables != NULL && *variables != NULL; variables++)
            (void)putenv((char *)(uintptr_t)*variables);
        (void)dup2(ends[1], STDOUT_FILENO);
        (void)execl("/proc/self/exe", "test_topology", "--summary", (char *)NULL);
        _exit(101);
    }
    (void)close(ends[1]);
    char *text = calloc(1, TEXT_MAX);
    assert_non_null(text);
    size_t length = 0;
    ssize_t got = 0;
    while ((got = read(ends[0], text + length, TEXT_MAX - 1 - length)) > 0)
        length += (size_t)got;
    (void)close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return text;
}

/* ---- this machine, read independently ---- */

/* A number in a file of /sys; -1 when there is none. */
static long sys_number(const char *format, ...) __attribute__((format(printf, 1, 2)));

static long sys_number(const char *format, ...)
{
    char path[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(path, sizeof(path), format, args);
    va_end(args);
    FILE *file = fopen(path, "r");
    long number = -1;
    if (file != NULL && fscanf(file, "%ld", &number) != 1)
        number = -1;
    if (file != NULL)
        (void)fclose(file);
    return number;
}

static bool sys_has(const char *format, ...) __attribute__((format(printf, 1, 2)));

static bool sys_has(const char *format, ...)
{
    char path[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(path, sizeof(path), format, args);
    va_end(args);
    return access(path, F_OK) == 0;
}

#define SYS_CPU "/sys/devices/system/cpu/cpu%d"
#define SYS_NODE "/sys/devices/system/node/node%d"

/* The directory of a PU links to its node's: not the list that the library reads. */
static int sys_node_of(int cpu)
{
    for (int node = 0; node < NUMAPERF_NODE_MAX; node++) {
        if (sys_has(SYS_CPU "/node%d", cpu, node))
            return node;
    }
    return 0;
}

/* Whether a PU is online and the affinity of this process's first thread holds it. */
static bool sys_is_usable(int cpu)
{
    cpu_set_t *set = CPU_ALLOC(NUMAPERF_CPU_MAX);
    size_t size = CPU_ALLOC_SIZE(NUMAPERF_CPU_MAX);
    assert_non_null(set);
    assert_int_equal(sched_getaffinity(getpid(), size, set), 0);
    bool is_usable = CPU_ISSET_S((size_t)cpu, size, set) && sys_has(SYS_CPU, cpu) &&
                     sys_number(SYS_CPU "/online", cpu) != 0;
    CPU_FREE(set);
    return is_usable;
}

static bool sys_mems_allow(int node)
{
    enum { MEMS_ALLOWED = 1 << 2 }; /* MPOL_F_MEMS_ALLOWED */
    unsigned long mask[NUMAPERF_NODE_MAX / (8 * sizeof(unsigned long))] = {0};
    if (syscall(SYS_get_mempolicy, NULL, mask, NUMAPERF_NODE_MAX, NULL, MEMS_ALLOWED) < 0)
        return true; /* refused here: a machine where this cannot be told has one node */
    size_t bits = 8 * sizeof(unsigned long);
    return (mask[(size_t)node / bits] >> ((size_t)node % bits) & 1) != 0;
}

static uint64_t sys_memory(int node)
{
    char path[128];
    (void)snprintf(path, sizeof(path), SYS_NODE "/meminfo", node);
    FILE *file = fopen(path, "r");
    unsigned long long kibibytes = 0;
    if (file != NULL && fscanf(file, " Node %*d MemTotal: %llu", &kibibytes) != 1)
        kibibytes = 0;
    if (file != NULL)
        (void)fclose(file);
    return sys_mems_allow(node) ? kibibytes * 1024 : 0;
}

static void assert_distances(const numaperf_topology_t *topology, int from)
{
    char path[128];
    (void)snprintf(path, sizeof(path), SYS_NODE "/distance", from);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    for (int to = 0; to < NUMAPERF_NODE_MAX; to++) {
        int distance = 0;
        if (!sys_has(SYS_NODE, to))
            continue;
        assert_int_equal(fscanf(file, "%d", &distance), 1);
        assert_int_equal(numaperf_topology_distance(topology, from, to), distance);
    }
    (void)fclose(file);
}

static void assert_caches(const numaperf_topology_t *topology, int cpu)
{
    uint64_t expected[4] = {0};
    for (int index = 0; sys_has(SYS_CPU "/cache/index%d", cpu, index); index++) {
        long level = sys_number(SYS_CPU "/cache/index%d/level", cpu, index);
        long kibibytes = sys_number(SYS_CPU "/cache/index%d/size", cpu, index);
        char path[128];
        char type[16] = "";
        (void)snprintf(path, sizeof(path), SYS_CPU "/cache/index%d/type", cpu, index);
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        assert_int_equal(fscanf(file, "%15s", type), 1);
        (void)fclose(file);
        if (type[0] != 'I' && level >= 1 && level <= 4 && kibibytes > 0)
            expected[level - 1] = (uint64_t)kibibytes * 1024;
    }
    for (unsigned level = 1; level <= 4; level++)
        assert_int_equal(numaperf_topology_cache_bytes(topology, cpu, level), expected[level - 1]);
}

static void assert_core(const numaperf_topology_t *topology, int cpu)
{
    numaperf_cpuset_t core;
    assert_int_equal(numaperf_topology_core_cpus(topology, cpu, &core), 0);
    for (int other = 0; other < NUMAPERF_CPU_MAX; other++) {
        if (!sys_has(SYS_CPU "/topology/core_id", other) || !sys_is_usable(other))
            continue;
        /* Ids of cores are unique within a package, or within a die where there are dies. */
        bool is_same = sys_number(SYS_CPU "/topology/core_id", other) ==
                           sys_number(SYS_CPU "/topology/core_id", cpu) &&
                       sys_number(SYS_CPU "/topology/die_id", other) ==
                           sys_number(SYS_CPU "/topology/die_id", cpu) &&
                       sys_number(SYS_CPU "/topology/physical_package_id", other) ==
                           sys_number(SYS_CPU "/topology/physical_package_id", cpu);
        assert_int_equal(numaperf_cpuset_contains(&core, other), is_same);
    }
}

static numaperf_topology_t *discover(void)
{
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_discover(&topology), 0);
    assert_true(numaperf_topology_is_this_machine(topology));
    return topology;
}

static void discovery_agrees_with_the_kernel(void **state)
{
    (void)state;
    numaperf_topology_t *topology = discover();
    char *text = summary_of(topology);
    print_message("%s", text);
    free(text);

    numaperf_cpuset_t usable;
    assert_int_equal(numaperf_topology_cpus(topology, &usable), 0);
    int cpu_count = 0;
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu++) {
        bool is_usable = sys_is_usable(cpu);
        assert_int_equal(numaperf_cpuset_contains(&usable, cpu), is_usable);
        if (!is_usable)
            continue;
        cpu_count++;
        assert_int_equal(numaperf_topology_node_of_cpu(topology, cpu), sys_node_of(cpu));
        numaperf_cpuset_t of_node;
        assert_int_equal(numaperf_topology_node_cpus(topology, sys_node_of(cpu), &of_node), 0);
        assert_true(numaperf_cpuset_contains(&of_node, cpu));
        assert_core(topology, cpu);
        assert_caches(topology, cpu);
    }
    assert_int_equal(numaperf_cpuset_count(&usable), cpu_count);
    assert_true(cpu_count > 0);
    numaperf_topology_destroy(topology);
}

static void discovery_finds_every_node_of_the_kernel(void **state)
{
    (void)state;
    if (!sys_has("/sys/devices/system/node")) {
        print_message("skipped: this kernel has no NUMA\n");
        skip();
    }
    numaperf_topology_t *topology = discover();
    size_t node_count = 0;
    int pu_count = 0;
    for (int node = 0; node < NUMAPERF_NODE_MAX; node++) {
        numaperf_cpuset_t set;
        int rc = numaperf_topology_node_cpus(topology, node, &set);
        assert_int_equal(rc, sys_has(SYS_NODE, node) ? 0 : NUMAPERF_E_NO_NODE);
        if (rc < 0)
            continue;
        assert_int_equal(numaperf_topology_node_id(topology, node_count++), node);
        pu_count += numaperf_cpuset_count(&set);
        assert_int_equal(numaperf_topology_node_memory_bytes(topology, node), sys_memory(node));
        assert_distances(topology, node);
    }
    assert_int_equal(numaperf_topology_node_count(topology), node_count);
    assert_int_equal(numaperf_topology_is_single_node(topology), node_count == 1);
    /* No PU counts on two nodes. */
    numaperf_cpuset_t usable;
    assert_int_equal(numaperf_topology_cpus(topology, &usable), 0);
    assert_int_equal(numaperf_cpuset_count(&usable), pu_count);
    numaperf_topology_destroy(topology);
}

/* ---- what restricts, and what does not ---- */

static void a_process_started_on_one_pu_sees_one(void **state)
{
    (void)state;
    numaperf_topology_t *topology = discover();
    numaperf_cpuset_t usable;
    assert_int_equal(numaperf_topology_cpus(topology, &usable), 0);
    for (int cpu = numaperf_cpuset_next(&usable, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&usable, cpu)) {
        char expected[64];
        (void)snprintf(expected, sizeof(expected), "1 usable PU, this machine");
        char *text = child_summary(cpu, NULL);
        assert_non_null(strstr(text, expected));
        (void)snprintf(expected, sizeof(expected), "node %d: PUs %d (cores %d), memory",
                       numaperf_topology_node_of_cpu(topology, cpu), cpu, cpu);
        assert_non_null(strstr(text, expected));
        free(text);
    }
    numaperf_topology_destroy(topology);
}

static void *summary_on_one_pu(void *arg)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t) * (const int *)arg, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    numaperf_topology_t *topology = discover();
    char *text = summary_of(topology);
    numaperf_topology_destroy(topology);
    return text;
}

static void a_pinned_caller_sees_the_whole_machine(void **state)
{
    (void)state;
    numaperf_topology_t *topology = discover();
    char *whole = summary_of(topology);
    numaperf_cpuset_t usable;
    assert_int_equal(numaperf_topology_cpus(topology, &usable), 0);
    if (numaperf_cpuset_count(&usable) < 2)
        print_message("note: with one usable PU a pin cannot narrow anything\n");
    int cpu = numaperf_cpuset_next(&usable, -1);
    pthread_t thread;
    void *text = NULL;
    assert_int_equal(pthread_create(&thread, NULL, summary_on_one_pu, &cpu), 0);
    assert_int_equal(pthread_join(thread, &text), 0);
    assert_string_equal((const char *)text, whole);
    assert_true(numaperf_cpuset_contains(numaperf__allowed_at_load(), cpu));
    free(text);
    free(whole);
    numaperf_topology_destroy(topology);
}

/* Each could forge or change what hwloc shows of this machine. */
static void no_environment_variable_changes_discovery(void **state)
{
    (void)state;
    tree_write("forged/sys/devices/system/cpu/online", "0-63\n");
    char fsroot[PATH_MAX];
    (void)snprintf(fsroot, sizeof(fsroot), "HWLOC_FSROOT=%s/forged", scratch);
    const char *const rows[][4] = {
        {"HWLOC_SYNTHETIC=numa:3 pu:4"},
        {"HWLOC_SYNTHETIC=numa:3 pu:4", "HWLOC_THISSYSTEM=1"},
        {"HWLOC_XMLFILE=" NUMAPERF_TESTS_DIR "/fixtures/topology/asymmetric_four.xml"},
        {"HWLOC_XMLFILE=" NUMAPERF_TESTS_DIR "/fixtures/topology/asymmetric_four.xml",
         "HWLOC_THISSYSTEM=1"},
        {fsroot},
        {fsroot, "HWLOC_THISSYSTEM=1"},
        {"HWLOC_THISSYSTEM=0"},
        {"HWLOC_THISSYSTEM=1"},
        {"HWLOC_COMPONENTS=synthetic,stop", "HWLOC_SYNTHETIC=numa:3 pu:4"},
        {"HWLOC_COMPONENTS=no_os,stop"},
        {"HWLOC_COMPONENTS=-linux,x86"},
        {"HWLOC_CPUID_PATH=/nowhere"},
        {"HWLOC_ALLOW=all"},
        {"HWLOC_THISSYSTEM_ALLOWED_RESOURCES=0"},
        {"HWLOC_USE_NUMA_DISTANCES=0"},
        {"HWLOC_DUMPED_HWDATA_DIR=/nowhere"},
        {"HWLOC_PLUGINS_PATH=/nowhere"},
        {"HWLOC_DEBUG_CHECK=1", "HWLOC_HIDE_ERRORS=0"},
    };
    char *plain = child_summary(-1, NULL);
    assert_non_null(strstr(plain, "this machine"));
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *text = child_summary(-1, rows[i]);
        assert_string_equal(text, plain);
        free(text);
    }
    free(plain);
}

#define TEST_GROUP "/sys/fs/cgroup/numaperf-test"

static bool group_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool is_done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        (void)close(fd);
    return is_done;
}

/* The cpuset is followed as it is now, also where nothing of the first affinity is left in it. */
static void a_cpuset_entered_later_restricts(void **state)
{
    (void)state;
    if (getenv("VM_TOPOLOGY") == NULL || geteuid() != 0) {
        print_message("skipped: needs root in the test VM, to make a cpuset\n");
        skip();
    }
    char home[1024] = "";
    FILE *file = fopen("/proc/self/cgroup", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "0::%1000s", home), 1);
    (void)fclose(file);
    char back[PATH_MAX];
    (void)snprintf(back, sizeof(back), "/sys/fs/cgroup%s/cgroup.procs", home);
    numaperf_topology_t *before = discover();
    char *whole = summary_of(before);

    for (int cpu = 0; cpu < 8; cpu++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "%d", cpu);
        if (!sys_has(SYS_CPU, cpu) || sys_number(SYS_CPU "/online", cpu) == 0)
            continue;
        assert_int_equal(mkdir(TEST_GROUP, 0700), 0);
        assert_true(group_write(TEST_GROUP "/cpuset.cpus", id));
        assert_true(group_write(TEST_GROUP "/cgroup.procs", "0"));
        numaperf_topology_t *inside = discover();
        assert_true(group_write(back, "0"));
        assert_int_equal(rmdir(TEST_GROUP), 0);
        numaperf_cpuset_t usable;
        assert_int_equal(numaperf_topology_cpus(inside, &usable), 0);
        assert_cpus(&usable, id);
        numaperf_topology_destroy(inside);
    }
    numaperf_topology_t *after = discover();
    char *again = summary_of(after);
    assert_string_equal(again, whole);
    free(again);
    free(whole);
    numaperf_topology_destroy(after);
    numaperf_topology_destroy(before);
}

/* ---- threads ---- */

static void *read_everything(void *arg)
{
    const numaperf_topology_t *topology = arg;
    for (int i = 0; i < 20; i++) {
        char *text = summary_of(topology);
        free(text);
        numaperf_topology_t *other = discover();
        assert_int_equal(numaperf_topology_node_count(other),
                         numaperf_topology_node_count(topology));
        numaperf_topology_destroy(other);
        other = NULL;
        assert_int_equal(numaperf_topology_from_synthetic("numa:2 pu:2", &other), 0);
        numaperf_topology_destroy(other);
    }
    return NULL;
}

static void any_number_of_threads_may_read(void **state)
{
    (void)state;
    numaperf_topology_t *topology = discover();
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_everything, topology), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    numaperf_topology_destroy(topology);
}

static void null_is_an_error_and_never_a_crash(void **state)
{
    (void)state;
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_topology_discover(NULL), -EINVAL);
    assert_int_equal(numaperf_topology_node_id(NULL, 0), -EINVAL);
    assert_int_equal(numaperf_topology_nodes(NULL, NULL), -EINVAL);
    assert_int_equal(numaperf_topology_node_cpus(NULL, 0, &set), -EINVAL);
    assert_int_equal(numaperf_topology_node_cores(NULL, 0, &set), -EINVAL);
    assert_int_equal(numaperf_topology_cpus(NULL, &set), -EINVAL);
    assert_int_equal(numaperf_topology_core_cpus(NULL, 0, &set), -EINVAL);
    assert_int_equal(numaperf_topology_node_of_cpu(NULL, 0), -EINVAL);
    assert_int_equal(numaperf_topology_distance(NULL, 0, 0), -EINVAL);
    assert_int_equal(numaperf_topology_node_package(NULL, 0), -EINVAL);
    assert_int_equal(numaperf_topology_node_memory_bytes(NULL, 0), 0);
    assert_int_equal(numaperf_topology_cache_bytes(NULL, 0, 1), 0);
    assert_int_equal(numaperf_topology_node_count(NULL), 0);
    assert_false(numaperf_topology_is_this_machine(NULL));
    assert_false(numaperf_topology_is_single_node(NULL));
    numaperf_topology_destroy(NULL);
}

/* ---- program ---- */

static int scratch_remove_one(const char *path, const struct stat *info, int kind, struct FTW *at)
{
    (void)info;
    (void)kind;
    (void)at;
    return remove(path);
}

static int scratch_make(void **state)
{
    (void)state;
    return mkdtemp(scratch) == NULL ? -1 : 0;
}

static int scratch_remove(void **state)
{
    (void)state;
    return nftw(scratch, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static int print_summary(void)
{
    numaperf_topology_t *topology = NULL;
    static char text[TEXT_MAX];
    if (numaperf_topology_discover(&topology) < 0 ||
        numaperf_topology_summary(topology, text, sizeof(text)) < 0)
        return 1;
    numaperf_topology_destroy(topology);
    return fputs(text, stdout) < 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--summary") == 0)
        return print_summary();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(discovery_agrees_with_the_kernel),
        cmocka_unit_test(discovery_finds_every_node_of_the_kernel),
        cmocka_unit_test(a_process_started_on_one_pu_sees_one),
        cmocka_unit_test(a_pinned_caller_sees_the_whole_machine),
        cmocka_unit_test(no_environment_variable_changes_discovery),
        cmocka_unit_test(a_cpuset_entered_later_restricts),
        cmocka_unit_test(any_number_of_threads_may_read),
        cmocka_unit_test(null_is_an_error_and_never_a_crash),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
