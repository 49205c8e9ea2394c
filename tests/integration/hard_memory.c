/* SPDX-License-Identifier: MIT */
/*
 * Hard mode where memory is short: on the node, in a cgroup, in the pools of huge pages. It must be
 * an error that names which, in a process that lives on.
 */
#include "hard_refusals.h"

#include "support/clock.h"
#include "support/memory_view.h"
#include "support/refusal.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <numaperf/arena.h>
#include <numaperf/error.h>
#include <numaperf/region.h>
#include <numaperf/topology.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((uint64_t)1 << 20)
#define KIB ((uint64_t)1 << 10)

/* ---- on the node ---- */

static void scene_full_node(const void *arg)
{
    (void)arg;
    struct refusal_machine machine;
    refusal_warm_up();
    refusal_machine_open(&machine);
    int node = refusal_last_node(&machine);
    numaperf_rt_config_t config = refusal_hard_config();
    config.nodes = numaperf_nodemask_single(node);
    refusal_hard_start(&config);

    /* More than there is: it spills when the node is full. */
    numaperf_region_config_t filler = NUMAPERF_REGION_CONFIG_INIT;
    filler.length = view_node_bytes(node, " MemTotal:");
    filler.policy = NUMAPERF_MEM_BIND;
    filler.prefault = NUMAPERF_PREFAULT_TOUCH;
    filler.nodes = config.nodes;
    numaperf_region_t *region = NULL;
    CHECK(numaperf_region_create(&filler, &region) == 0);
    CHECK(!numaperf_is_strict(numaperf_region_enforcement(region)));
    refusal_check(&config, &(struct refusal){
                               .code = NUMAPERF_E_HARD_MODE,
                               .sys_errno = ENOMEM,
                               .words = {refusal_word("node %d", node, 0), "too little memory"}});
    refusal_soft_start(config);
    numaperf_region_destroy(region);
    refusal_hard_start(&config);
    refusal_machine_close(&machine);
}

static void full_node_is_named_and_nobody_is_killed(void **state)
{
    (void)state;
    if (!refusal_machine_can() || !refusal_has_two_nodes())
        skip();
    struct refusal_machine machine;
    refusal_machine_open(&machine);
    int node = refusal_last_node(&machine);
    int other = numaperf_nodemask_next(&machine.usable, -1);
    refusal_machine_close(&machine);
    uint64_t total = view_node_bytes(node, " MemTotal:");
    if (total > 1024 * MIB || total > view_node_bytes(node, " MemFree:") +
                                          view_node_bytes(other, " MemFree:") - 128 * MIB) {
        print_message("skipped: needs small nodes, one of them empty\n");
        skip();
    }
    assert_true(sandbox_run(scene_full_node, NULL));
}

struct greed {
    uint64_t bytes;
    int node;
    atomic_int refused;
    atomic_int wrong;
};

static void take_too_much(numaperf_worker_t *worker, void *arg)
{
    struct greed *greed = arg;
    void *block = numaperf_arena_alloc(numaperf_worker_arena(worker), greed->bytes, 0);
    const numaperf_error_t *error = numaperf_last_error();
    bool right =
        block == NULL && error->code == NUMAPERF_E_HARD_MODE && error->sys_errno == ENOMEM &&
        strcmp(error->operation, "headroom") == 0 &&
        strstr(error->reason, refusal_word("node %d: too little memory", greed->node, 0)) != NULL;
    if (!right)
        (void)fprintf(stderr, "%p %s: %s\n", block, error->operation, error->reason);
    void *small = numaperf_arena_alloc(numaperf_worker_arena(worker), 4096, 0);
    if (small != NULL)
        memset(small, 1, 4096);
    right = right && small != NULL;
    numaperf_arena_free(numaperf_worker_arena(worker), small);
    (void)atomic_fetch_add(right ? &greed->refused : &greed->wrong, 1);
}

/* What a worker asks of its arena later is as safe as the start: an error, and it goes on. */
static void scene_arena_beyond_the_node(const void *arg)
{
    (void)arg;
    struct refusal_machine machine;
    refusal_warm_up();
    refusal_machine_open(&machine);
    struct greed greed = {.node = refusal_last_node(&machine)};
    greed.bytes = view_value("/proc/meminfo", "MemTotal") * 1024 + 64 * MIB;
    refusal_machine_close(&machine);
    numaperf_rt_config_t config = refusal_hard_config();
    config.nodes = numaperf_nodemask_single(greed.node);
    config.workers_per_node = 1;
    config.arena_bytes = 4 * greed.bytes;
    numaperf_rt_t *rt = NULL;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    CHECK(numaperf_rt_spawn(rt, greed.node, take_too_much, &greed) == 0);
    CHECK(runtime_reaches(&greed.refused, 1) && atomic_load(&greed.wrong) == 0);
    numaperf_rt_destroy(rt);
    refusal_soft_start(config);
}

static void arena_beyond_the_node_is_refused_and_the_worker_lives(void **state)
{
    (void)state;
    if (!refusal_machine_can())
        skip();
    assert_true(sandbox_run(scene_arena_beyond_the_node, NULL));
}

/* ---- in a cgroup ---- */

/* A group, one in it, and the names that its version gives to files. */
struct memory_group {
    char top[96];
    char leaf[128];
    const char *limit;
    const char *usage;
    const char *no_limit;
};

static bool text_write(const char *directory, const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool is_written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        (void)close(fd);
    return is_written;
}

static uint64_t number_read(const char *directory, const char *name)
{
    char path[256];
    char text[64];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    CHECK(view_text(path, text, sizeof(text)));
    return strtoull(text, NULL, 10);
}

static void memory_group_remove(const struct memory_group *group)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(5);
    while (rmdir(group->leaf) != 0 && errno == EBUSY && test_now_ns() < limit_ns)
        test_sleep_ms(2); /* who left it a moment ago is still counted */
    (void)rmdir(group->top);
}

static bool memory_group_make(struct memory_group *out)
{
    bool is_v1 = access("/sys/fs/cgroup/memory/memory.limit_in_bytes", F_OK) == 0;
    *out = is_v1 ? (struct memory_group){.limit = "memory.limit_in_bytes",
                                         .usage = "memory.usage_in_bytes",
                                         .no_limit = "-1"}
                 : (struct memory_group){
                       .limit = "memory.max", .usage = "memory.current", .no_limit = "max"};
    (void)snprintf(out->top, sizeof(out->top), "/sys/fs/cgroup/%srefusal-memory-%d",
                   is_v1 ? "memory/" : "", getpid());
    (void)snprintf(out->leaf, sizeof(out->leaf), "%s/leaf", out->top);
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", out->leaf, out->limit);
    bool is_made = mkdir(out->top, 0755) == 0 &&
                   (is_v1 || text_write(out->top, "cgroup.subtree_control", "+memory")) &&
                   mkdir(out->leaf, 0755) == 0 && access(path, W_OK) == 0;
    if (!is_made)
        memory_group_remove(out);
    return is_made;
}

/* So much more than is used there now. */
static void memory_group_limit(const struct memory_group *group, const char *directory,
                               uint64_t more)
{
    char text[32];
    uint64_t limit = number_read(group->top, group->usage) + more;
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)limit);
    CHECK(text_write(directory, group->limit, text));
}

static void check_group_limit(const struct memory_group *group, const char *directory)
{
    char file[256];
    (void)snprintf(file, sizeof(file), "%s/%s", directory, group->limit);
    numaperf_rt_config_t config = refusal_hard_config();
    refusal_hard_start(&config);
    memory_group_limit(group, directory, 3 * MIB);
    struct refusal refusal = {.code = NUMAPERF_E_HARD_MODE,
                              .sys_errno = ENOMEM,
                              .operation = "headroom",
                              .words = {"node", "too little memory", file}};
    refusal_check(&config, &refusal);
    config.mode = NUMAPERF_MODE_SOFT; /* going on would kill */
    refusal.code = -ENOMEM;
    refusal_check(&config, &refusal);
    CHECK(text_write(directory, group->limit, group->no_limit));
    refusal_soft_start(config);
    config.mode = NUMAPERF_MODE_HARD;
    refusal_hard_start(&config);
}

static void scene_group_limit(const void *arg)
{
    const struct memory_group *group = arg;
    refusal_warm_up();
    CHECK(text_write(group->leaf, "cgroup.procs", "0"));
    check_group_limit(group, group->leaf);
    check_group_limit(group, group->top); /* of the group above, which is not this process's own */
}

/*
 * However narrow the limit: a start, or an error; what dies here dies of the kernel's killer. All
 * workers there can be, since they populate at once.
 */
static void scene_any_group_limit(const void *arg)
{
    const struct memory_group *group = arg;
    numaperf_rt_config_t config = refusal_hard_config();
    numaperf_rt_t *rt = NULL;
    refusal_warm_up();
    CHECK(text_write(group->leaf, "cgroup.procs", "0"));
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    uint64_t most = (5 * numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY) + 3) * MIB;
    numaperf_rt_destroy(rt);
    int started = 0;
    int refused = 0;
    uint64_t step = test_is_guest() ? most / 16 : 128 * KIB;
    for (uint64_t more = step; more <= most; more += step) {
        rt = NULL;
        memory_group_limit(group, group->leaf, more);
        int rc = numaperf_rt_start(&config, &rt);
        CHECK(rc == 0 ||
              (rc == NUMAPERF_E_HARD_MODE && numaperf_last_error()->sys_errno == ENOMEM));
        started += rc == 0;
        refused += rc < 0;
        numaperf_rt_destroy(rt);
        CHECK(text_write(group->leaf, group->limit, group->no_limit));
    }
    printf("%d limits with a start, %d with an error\n", started, refused);
    CHECK(started > 0 && refused > 0);
    refusal_soft_start(config);
}

static void in_a_memory_group(void (*scene)(const void *arg))
{
    struct memory_group group;
    if (!refusal_machine_can())
        skip();
    if (geteuid() != 0 || !memory_group_make(&group)) {
        print_message("skipped: no memory cgroup can be made\n");
        skip();
    }
    bool is_right = sandbox_run(scene, &group);
    memory_group_remove(&group);
    assert_true(is_right);
}

static void cgroup_without_memory_is_named_its_own_or_one_above(void **state)
{
    (void)state;
    in_a_memory_group(scene_group_limit);
}

static void no_limit_of_a_cgroup_kills_a_start(void **state)
{
    (void)state;
    if (TEST_SANITIZED) {
        print_message("skipped: a sanitizer takes memory of its own, beside what is asked for\n");
        skip();
    }
    in_a_memory_group(scene_any_group_limit);
}

/* ---- huge pages ---- */

static void pool_set(int node, const char *count)
{
    char directory[96];
    (void)snprintf(directory, sizeof(directory),
                   "/sys/devices/system/node/node%d/hugepages/hugepages-2048kB", node);
    CHECK(text_write(directory, "nr_hugepages", count));
}

static void check_huge_refused(const numaperf_rt_config_t *config, int node, int mib)
{
    const struct refusal refusal = {
        .code = NUMAPERF_E_HARD_MODE,
        .sys_errno =
            REFUSAL_SOME_ERRNO, /* of mmap or of the first page, by what other nodes have */
        .operation = "huge pages",
        .words = {refusal_word("node %d", node, 0),
                  refusal_word("too few free huge pages of %d MiB", mib, 0), "worker ", "(PU "}};
    refusal_check(config, &refusal);
    numaperf_rt_config_t soft = *config;
    if (mib > 2 && view_value("/proc/meminfo", "MemTotal") * KIB < 4096 * MIB)
        soft.huge_pages = NUMAPERF_HUGE_DEFAULT; /* as much in small ones is more than there is */
    refusal_soft_start(soft);                    /* small ones instead */
}

static void scene_huge_elsewhere(const void *arg)
{
    const int *nodes = arg; /* with and without */
    refusal_warm_up();
    numaperf_rt_config_t config = refusal_hard_config();
    config.huge_pages = NUMAPERF_HUGE_2MB;
    config.nodes = numaperf_nodemask_single(nodes[1]);
    config.workers_per_node = 1;
    check_huge_refused(&config, nodes[1], 2);
    config.nodes = numaperf_nodemask_single(nodes[0]);
    refusal_hard_start(&config);
}

static void huge_pages_of_another_node_are_none(void **state)
{
    (void)state;
    if (!refusal_machine_can() || !refusal_has_two_nodes())
        skip();
    if (!test_is_guest() || geteuid() != 0) {
        print_message("skipped: only a guest's root fills the pools of huge pages\n");
        skip();
    }
    struct refusal_machine machine;
    refusal_machine_open(&machine);
    const int nodes[] = {numaperf_nodemask_next(&machine.usable, -1), refusal_last_node(&machine)};
    refusal_machine_close(&machine);
    pool_set(nodes[1], "0");
    pool_set(nodes[0], "8");
    bool is_right = view_huge_free(nodes[0]) >= 8 && view_huge_free(nodes[1]) == 0 &&
                    sandbox_run(scene_huge_elsewhere, nodes);
    pool_set(nodes[0], "0");
    assert_true(is_right);
}

static void scene_no_huge(const void *arg)
{
    const numaperf_rt_config_t *config = arg;
    refusal_warm_up();
    check_huge_refused(config, numaperf_nodemask_next(&config->nodes, -1),
                       config->huge_pages == NUMAPERF_HUGE_2MB ? 2 : 1024);
}

static void check_no_huge(uint32_t huge_pages, const char *folder)
{
    char path[128];
    char text[32] = "0";
    struct refusal_machine machine;
    if (!refusal_machine_can())
        skip();
    refusal_machine_open(&machine);
    numaperf_rt_config_t config = refusal_hard_config();
    int node = refusal_last_node(&machine);
    config.nodes = numaperf_nodemask_single(node);
    config.huge_pages = huge_pages;
    config.arena_bytes = 4096 * MIB;
    config.workers_per_node = 1; /* whose name is known */
    refusal_machine_close(&machine);
    (void)snprintf(path, sizeof(path),
                   "/sys/devices/system/node/node%d/hugepages/%s/free_hugepages", node, folder);
    (void)view_text(path, text, sizeof(text)); /* a kernel without such pages has none free */
    if (atoi(text) != 0) {
        print_message("skipped: node %d has such pages\n", node);
        skip();
    }
    assert_true(sandbox_run(scene_no_huge, &config));
}

static void node_without_huge_pages_is_named(void **state)
{
    (void)state;
    check_no_huge(NUMAPERF_HUGE_2MB, "hugepages-2048kB");
}

static void node_without_pages_of_1_gib_is_named(void **state)
{
    (void)state;
    check_no_huge(NUMAPERF_HUGE_1GB, "hugepages-1048576kB");
}

int hard_memory_run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_node_is_named_and_nobody_is_killed),
        cmocka_unit_test(arena_beyond_the_node_is_refused_and_the_worker_lives),
        cmocka_unit_test(cgroup_without_memory_is_named_its_own_or_one_above),
        cmocka_unit_test(no_limit_of_a_cgroup_kills_a_start),
        cmocka_unit_test(huge_pages_of_another_node_are_none),
        cmocka_unit_test(node_without_huge_pages_is_named),
        cmocka_unit_test(node_without_pages_of_1_gib_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
