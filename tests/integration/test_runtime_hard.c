/* SPDX-License-Identifier: MIT */
/*
 * Hard mode: who may have it, and that what it promises is so by the kernel's own files. What it
 * refuses is in test_hard_refusals.c. Privileges are a process's, so every scene is a child of its
 * own.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/clock.h"
#include "support/refusal.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <linux/capability.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define CAPABILITY(number) (UINT64_C(1) << (number))
#define PRIVILEGES (CAPABILITY(CAP_SYS_ADMIN) | CAPABILITY(CAP_SYS_NICE))
#define PAGES_ASKED 64

/* ---- what the kernel says ---- */

/* The rest of the line of a task's file that begins with `name`; "" when there is none. */
static void task_line(int thread_id, const char *file_name, const char *name, char *out,
                      size_t size)
{
    char path[64];
    char line[4096];
    out[0] = '\0';
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/%s", thread_id, file_name);
    FILE *file = fopen(path, "re");
    CHECK(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) != 0)
            continue;
        const char *value = line + strlen(name);
        value += strspn(value, ": \t");
        (void)snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    (void)fclose(file);
}

/* The policy of the first mapping that has none of its own: the thread's. */
static void thread_policy(int thread_id, char *out, size_t size)
{
    char line[4096];
    task_line(thread_id, "numa_maps", "", line, sizeof(line));
    const char *word = strchr(line, ' ');
    CHECK(word != NULL);
    (void)snprintf(out, size, "%.*s", (int)strcspn(word + 1, " "), word + 1);
}

/* Pages from `base` up that are on `node`; present ones elsewhere make it fail. */
static int pages_on(const void *base, size_t length, int node)
{
    void *pages[PAGES_ASKED];
    int status[PAGES_ASKED];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *first = (char *)((uintptr_t)base & ~(page - 1));
    size_t count = (length + page - 1) / page;
    int on_node = 0;
    count = count < PAGES_ASKED ? count : PAGES_ASKED;
    for (size_t i = 0; i < count; i++)
        pages[i] = first + i * page;
    CHECK(syscall(SYS_move_pages, 0, count, pages, NULL, status, 0) == 0);
    for (size_t i = 0; i < count; i++) {
        CHECK(status[i] < 0 || status[i] == node);
        on_node += status[i] == node;
    }
    return on_node;
}

/* Whether nothing can be read or written just below the calling thread's stack. */
static bool stack_is_guarded(void)
{
    pthread_attr_t attr;
    void *base = NULL;
    size_t length = 0;
    CHECK(pthread_getattr_np(pthread_self(), &attr) == 0);
    CHECK(pthread_attr_getstack(&attr, &base, &length) == 0);
    (void)pthread_attr_destroy(&attr);
    FILE *file = fopen("/proc/self/maps", "re");
    CHECK(file != NULL);
    char line[512];
    bool is_guarded = false;
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long long from = 0;
        unsigned long long to = 0;
        char access[5] = "";
        if (sscanf(line, "%llx-%llx %4s", &from, &to, access) == 3 && (uintptr_t)base - 1 >= from &&
            (uintptr_t)base - 1 < to)
            is_guarded = strcmp(access, "---p") == 0;
    }
    (void)fclose(file);
    return is_guarded;
}

struct inside {
    atomic_int checked;
    atomic_int wrong;
};

static void check_from_inside(numaperf_worker_t *worker, void *arg)
{
    struct inside *inside = arg;
    int node = numaperf_worker_node(worker);
    unsigned cpu = 0;
    unsigned cpu_node = 0;
    volatile char on_stack[3 * 4096];
    memset((void *)on_stack, 1, sizeof(on_stack));
    char *block = numaperf_arena_alloc(numaperf_worker_arena(worker), 8 * 4096, 4096);
    char *plain = malloc(8 * 4096);
    bool right =
        block != NULL && plain != NULL && syscall(SYS_getcpu, &cpu, &cpu_node, NULL) == 0 &&
        (int)cpu == numaperf_worker_cpu(worker) && (int)cpu_node == node && stack_is_guarded();
    if (right) {
        memset(plain, 1, 8 * 4096); /* by the thread's policy; its first page may be older */
        memset(block, 1, 8 * 4096);
        right = pages_on((const void *)on_stack, sizeof(on_stack), node) >= 3 &&
                pages_on(block, 8 * 4096, node) == 8;
    }
    numaperf_arena_free(numaperf_worker_arena(worker), block);
    free(plain);
    (void)atomic_fetch_add(right ? &inside->checked : &inside->wrong, 1);
}

static void check_part(const numaperf_worker_t *worker, uint32_t part)
{
    numaperf_placement_t placement = NUMAPERF_PLACEMENT_INIT;
    int rc = numaperf_worker_placement(worker, part, &placement);
    if (part == NUMAPERF_WORKER_RING && numaperf_worker_backend(worker) == NUMAPERF_IO_EPOLL) {
        CHECK(rc == NUMAPERF_E_UNSUPPORTED);
        return;
    }
    CHECK(rc == 0);
    CHECK(placement.pages > 0 && placement.absent == 0);
    CHECK(placement.on_node[numaperf_worker_node(worker)] == placement.pages);
}

static void check_iowq(const numaperf_rt_t *rt, const numaperf_worker_t *worker)
{
    numaperf_cpuset_t node_cpus;
    CHECK(numaperf_topology_node_cpus(numaperf_rt_topology(rt), numaperf_worker_node(worker),
                                      &node_cpus) == 0);
    char wanted[32];
    char text[256];
    (void)snprintf(wanted, sizeof(wanted), "iou-wrk-%d", numaperf_worker_thread_id(worker));
    FILE *list = popen("ls /proc/$PPID/task", "re");
    CHECK(list != NULL);
    int id = 0;
    while (fscanf(list, "%d", &id) == 1) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/self/task/%d", id);
        if (access(path, F_OK) != 0)
            continue; /* io-wq threads come and go */
        task_line(id, "comm", "", text, sizeof(text));
        if (strcmp(text, wanted) != 0)
            continue;
        task_line(id, "status", "Cpus_allowed_list", text, sizeof(text));
        numaperf_cpuset_t allowed;
        CHECK(numaperf_cpuset_parse(text, &allowed) == 0);
        numaperf_cpuset_intersect(&allowed, &node_cpus, &node_cpus);
        CHECK(numaperf_cpuset_equal(&allowed, &node_cpus));
    }
    (void)pclose(list);
}

static void check_worker(const numaperf_rt_t *rt, const numaperf_worker_t *worker)
{
    char text[256];
    char wanted[32];
    int thread_id = numaperf_worker_thread_id(worker);
    CHECK(numaperf_is_strict(numaperf_worker_enforcement(worker)));

    task_line(thread_id, "status", "Cpus_allowed_list", text, sizeof(text));
    (void)snprintf(wanted, sizeof(wanted), "%d", numaperf_worker_cpu(worker));
    CHECK(strcmp(text, wanted) == 0);
    task_line(thread_id, "status", "SigBlk", text, sizeof(text));
    const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGPIPE, SIGUSR1, SIGALRM};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
        CHECK((strtoull(text, NULL, 16) >> (signals[i] - 1) & 1) != 0);
    thread_policy(thread_id, text, sizeof(text));
    (void)snprintf(wanted, sizeof(wanted), "prefer:%d", numaperf_worker_node(worker));
    CHECK(strcmp(text, wanted) == 0);
    CHECK(numaperf_topology_node_of_cpu(numaperf_rt_topology(rt), numaperf_worker_cpu(worker)) ==
          numaperf_worker_node(worker));
    check_part(worker, NUMAPERF_WORKER_ARENA);
    check_part(worker, NUMAPERF_WORKER_STACK);
    check_part(worker, NUMAPERF_WORKER_RING);
    check_iowq(rt, worker);
}

/* ---- scenes ---- */

struct grant {
    bool change_user;
    uint64_t capabilities; /* of the ordinary user */
    bool waive;
    uint32_t workers_per_node;
};

static numaperf_rt_config_t hard_config(const struct grant *grant)
{
    if (grant->change_user)
        sandbox_become_user(grant->capabilities);
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = NUMAPERF_MODE_HARD;
    config.flags = grant->waive ? NUMAPERF_RT_WAIVE_PRIVILEGES : 0;
    config.workers_per_node = grant->workers_per_node;
    return config;
}

static void scene_proves_what_it_promises(const void *arg)
{
    numaperf_rt_config_t config = hard_config(arg);
    numaperf_rt_t *rt = NULL;
    if (numaperf_rt_start(&config, &rt) != 0)
        (void)fprintf(stderr, "%s: %s\n", numaperf_last_error()->operation,
                      numaperf_last_error()->reason);
    CHECK(rt != NULL);
    numaperf_enforcement_t level;
    CHECK(numaperf_rt_enforcement(rt, &level) == 0 && numaperf_is_strict(&level));
    uint32_t count = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    struct inside inside = {.checked = 0};
    for (uint32_t i = 0; i < count; i++) {
        check_worker(rt, numaperf_rt_worker(rt, i));
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)i;
        CHECK(numaperf_rt_spawn_with(rt, &options, check_from_inside, &inside) == 0);
    }
    CHECK(runtime_reaches(&inside.checked, (int)count));
    CHECK(atomic_load(&inside.wrong) == 0);
    /* Still so, after work. */
    for (uint32_t i = 0; i < count; i++)
        check_worker(rt, numaperf_rt_worker(rt, i));
    CHECK(numaperf_rt_violation_count(rt) == 0);
    numaperf_rt_destroy(rt);
}

/* ---- cases ---- */

static bool is_privileged(void)
{
    if (geteuid() == 0 && (sandbox_capabilities() & PRIVILEGES) == PRIVILEGES)
        return true;
    print_message("skipped: not root with CAP_SYS_ADMIN and CAP_SYS_NICE\n");
    return false;
}

static void waived_hard_mode_needs_no_privilege(void **state)
{
    (void)state;
    if (!refusal_machine_can())
        skip();
    bool is_root = geteuid() == 0;
    const struct grant all = {.change_user = is_root, .waive = true};
    assert_true(sandbox_run(scene_proves_what_it_promises, &all));
    const struct grant one = {.change_user = is_root, .waive = true, .workers_per_node = 1};
    assert_true(sandbox_run(scene_proves_what_it_promises, &one));
}

static void root_has_hard_mode(void **state)
{
    (void)state;
    if (!refusal_machine_can() || !is_privileged())
        skip();
    const struct grant grant = {.change_user = false};
    assert_true(sandbox_run(scene_proves_what_it_promises, &grant));
}

static void ordinary_user_with_the_two_capabilities_has_hard_mode(void **state)
{
    (void)state;
    if (!refusal_machine_can() || !is_privileged())
        skip();
    const struct grant grant = {.change_user = true, .capabilities = PRIVILEGES};
    assert_true(sandbox_run(scene_proves_what_it_promises, &grant));
}

int main(void)
{
    if (test_is_guest() && geteuid() == 0)
        (void)refusal_set_balancing(false); /* on by default where there are several nodes */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(waived_hard_mode_needs_no_privilege),
        cmocka_unit_test(root_has_hard_mode),
        cmocka_unit_test(ordinary_user_with_the_two_capabilities_has_hard_mode),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
