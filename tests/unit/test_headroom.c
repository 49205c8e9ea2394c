/* SPDX-License-Identifier: MIT */
/*
 * Too little memory: on the machine, on a node, in a cgroup. It must be an error with a name or a
 * reported downgrade, and this process must live to say so.
 */
#include "place/headroom.h"

#include "support/region_case.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void region_longer_than_the_machine_is_refused(void **state)
{
    (void)state;
    uint64_t length = view_value("/proc/meminfo", "MemTotal") * KIB + 64 * MIB;
    int node = numaperf_nodemask_next(&usable, -1);
    char name[48];
    (void)snprintf(name, sizeof(name), "node %d: too little memory", node);
    numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, length);
    expect_refused(&config, NUMAPERF_E_HARD_MODE, name);
    assert_int_equal(numaperf_last_error()->sys_errno, ENOMEM);
    config.mode = NUMAPERF_MODE_SOFT;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    expect_refused(&config, -ENOMEM, "too little memory");
}

static uint64_t node_room(int node)
{
    return view_node_bytes(node, " MemFree:") + view_node_bytes(node, " Active(file):") +
           view_node_bytes(node, " Inactive(file):") + view_node_bytes(node, " SReclaimable:");
}

static void region_hard_refused_names_the_full_node_and_soft_falls_over(void **state)
{
    (void)state;
    int other = numaperf_nodemask_next(&usable, -1);
    int node = numaperf_nodemask_next(&usable, other);
    if (node < 0 || view_node_bytes(node, " MemTotal:") > 1024 * MIB) {
        print_message("skipped: needs two usable nodes of at most 1 GiB\n");
        skip();
    }
    char name[48];
    (void)snprintf(name, sizeof(name), "node %d: too little memory", node);
    uint64_t length = (node_room(node) + 24 * MIB) / page_size() * page_size();
    if (length + 64 * MIB > node_room(node) + node_room(other)) {
        print_message("skipped: the other node is too small\n");
        skip();
    }
    numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, length);
    expect_refused(&config, NUMAPERF_E_HARD_MODE, name);
    config.mode = NUMAPERF_MODE_SOFT;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    numaperf_region_t *region = make(&config);
    assert_level(region, NUMAPERF_ENFORCE_BEST_EFFORT);
    assert_non_null(strstr(numaperf_region_enforcement(region)->reason, name));
    memset(numaperf_region_data(region), 1, numaperf_region_length(region));
    static numaperf_placement_t placement;
    placement.size = sizeof(placement);
    assert_int_equal(numaperf_region_audit(region, &placement), 0);
    assert_true(placement.on_node[node] > placement.pages / 2);
    assert_true(placement.on_node[node] < placement.pages);
    numaperf_region_destroy(region);

    /* Nothing populated: not bound either, so that a touch spills instead of killing. */
    config = bind_to(node, NUMAPERF_MODE_SOFT, node_room(node) + 24 * MIB);
    region = make(&config);
    assert_level(region, NUMAPERF_ENFORCE_BEST_EFFORT);
    memset(numaperf_region_data(region), 1, numaperf_region_length(region));
    numaperf_region_destroy(region);
}

/* As much as the files say is there: whether it fits is the kernel's affair, a lie is not. */
static void region_that_just_fills_a_node_is_all_there_or_refused(void **state)
{
    (void)state;
    int other = numaperf_nodemask_next(&usable, -1);
    int node = numaperf_nodemask_next(&usable, other);
    if (node < 0 || view_node_bytes(node, " MemTotal:") > 1024 * MIB) {
        print_message("skipped: needs two usable nodes of at most 1 GiB\n");
        skip();
    }
    uint64_t length = (node_room(node) - MIB) / page_size() * page_size();
    numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, length);
    numaperf_region_t *region = NULL;
    int rc = numaperf_region_create(&config, &region);
    if (rc == 0) {
        assert_all_on(region, node);
        numaperf_region_destroy(region);
        return;
    }
    assert_int_equal(rc, NUMAPERF_E_HARD_MODE);
    assert_non_null(strstr(numaperf_last_error()->reason, "too little memory"));
}

/* A bound page to come cannot spill, and the kernel kills before the last free page is taken. */
static void region_touched_after_create_on_an_almost_full_node_kills_nobody(void **state)
{
    (void)state;
    int node = numaperf_nodemask_next(&usable, numaperf_nodemask_next(&usable, -1));
    if (node < 0 || view_node_bytes(node, " MemTotal:") > 1024 * MIB) {
        print_message("skipped: needs two usable nodes of at most 1 GiB\n");
        skip();
    }
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        numaperf_region_config_t config =
            bind_to(node, NUMAPERF_MODE_SOFT, node_room(node) - 8 * MIB);
        numaperf_region_t *region = NULL;
        if (numaperf_region_create(&config, &region) != 0)
            _exit(1);
        memset(numaperf_region_data(region), 1, numaperf_region_length(region));
        _exit(numaperf_is_best_effort(numaperf_region_enforcement(region)) ? 0 : 2);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status)); /* else the out-of-memory killer got it */
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Put this process into a fresh cgroup with a limit, v2 or v1; false when that is not possible. */
static bool enter_limited_cgroup(const char *directory, const char *limit_file)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/../cgroup.procs", directory);
    if (access(path, W_OK) < 0 && (mkdir(directory, 0755) < 0 || access(path, W_OK) < 0)) {
        (void)rmdir(directory); /* no cgroup file system here */
        return false;
    }
    if (mkdir(directory, 0755) < 0 && errno != EEXIST)
        return false;
    (void)snprintf(path, sizeof(path), "%s/%s", directory, limit_file);
    FILE *file = fopen(path, "r+e");
    if (file == NULL)
        return false;
    bool done = fputs("67108864", file) >= 0;
    done = fclose(file) == 0 && done;
    (void)snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
    file = done ? fopen(path, "r+e") : NULL;
    if (file == NULL)
        return false;
    done = fprintf(file, "%d", getpid()) > 0;
    return fclose(file) == 0 && done;
}

/*
 * Files in memory: what one holds outside of the mapping makes no room, and a private page over a
 * hole costs two. Returns 0 as it should be, else what went wrong.
 */
static int limited_files(const char *held_outside)
{
    numaperf_region_t *region = NULL;
    numaperf_region_config_t config =
        bind_to(numaperf_nodemask_next(&usable, -1), NUMAPERF_MODE_SOFT, 80 * MIB);
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    config.flags = NUMAPERF_REGION_HAS_FD;
    config.fd = open(held_outside, O_RDWR | O_CLOEXEC);
    config.offset = 80 * MIB;
    if (numaperf_region_create(&config, &region) != -ENOMEM)
        return 11;
    (void)close(config.fd);

    config.fd = memfd_create("sparse", MFD_CLOEXEC);
    config.flags |= NUMAPERF_REGION_PRIVATE;
    config.offset = 0;
    config.length = 40 * MIB;
    if (ftruncate(config.fd, (off_t)config.length) < 0)
        return 12;
    if (numaperf_region_create(&config, &region) != -ENOMEM)
        return 13;
    config.length = 16 * MIB; /* fits twice */
    if (numaperf_region_create(&config, &region) != 0)
        return 14;
    numaperf_region_destroy(region);
    (void)close(config.fd);
    return 0;
}

/* In a child: 0 as it should be, 77 no cgroup can be made, else what went wrong. */
static int limited_child(const char *directory, const char *limit_file)
{
    /* The first half of this file is charged to the cgroup we come from. */
    int fd = memfd_create("half", MFD_CLOEXEC);
    if (ftruncate(fd, (off_t)(160 * MIB)) < 0 || fallocate(fd, 0, 0, (off_t)(80 * MIB)) < 0)
        return 10;
    char half[64];
    (void)snprintf(half, sizeof(half), "/proc/self/fd/%d", fd);
    if (!enter_limited_cgroup(directory, limit_file))
        return 77;
    int rc = limited_files(half);
    if (rc != 0)
        return rc;
    int node = numaperf_nodemask_next(&usable, -1);
    numaperf_region_t *region = NULL;
    numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, 96 * MIB);
    if (numaperf_region_create(&config, &region) != NUMAPERF_E_HARD_MODE)
        return 1;
    char file[128];
    (void)snprintf(file, sizeof(file), "%s/%s", directory, limit_file);
    if (strstr(numaperf_last_error()->reason, file) == NULL)
        return 2;
    config.mode = NUMAPERF_MODE_SOFT;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    if (numaperf_region_create(&config, &region) != -ENOMEM)
        return 3;
    config.length = 16 * MIB; /* fits */
    if (numaperf_region_create(&config, &region) != 0)
        return 4;
    return numaperf_is_strict(numaperf_region_enforcement(region)) ? 0 : 5;
}

static void limited_case(const char *directory, const char *limit_file)
{
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(limited_child(directory, limit_file));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)rmdir(directory);
    assert_true(WIFEXITED(status)); /* else the out-of-memory killer got it */
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: no cgroup can be made at %s\n", directory);
        skip();
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void region_beyond_the_cgroup_limit_is_refused_and_nobody_is_killed_v2(void **state)
{
    (void)state;
    limited_case("/sys/fs/cgroup/numaperf-test", "memory.max");
}

static void region_beyond_the_cgroup_limit_is_refused_and_nobody_is_killed_v1(void **state)
{
    (void)state;
    limited_case("/sys/fs/cgroup/memory/numaperf-test", "memory.limit_in_bytes");
}

static void headroom_answers_are_plausible(void **state)
{
    (void)state;
    int node = numaperf_nodemask_next(&usable, -1);
    uint64_t room = numaperf__headroom_node(node);
    assert_true(room > MIB);
    assert_true(room <= view_node_bytes(node, " MemTotal:"));
    assert_true(numaperf__headroom_nodes(&usable) >= room);
    assert_true(numaperf__headroom_reserve() < view_value("/proc/meminfo", "MemTotal") * KIB / 2);
    assert_int_equal(numaperf__headroom_node(1023), UINT64_MAX); /* no answer is not "full" */
    char file[256];
    uint64_t allowed = numaperf__headroom_cgroup(file, sizeof(file));
    assert_true(allowed > 0);
    assert_true(allowed == UINT64_MAX ? file[0] == '\0' : file[0] == '/');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headroom_answers_are_plausible),
        cmocka_unit_test(region_longer_than_the_machine_is_refused),
        cmocka_unit_test(region_hard_refused_names_the_full_node_and_soft_falls_over),
        cmocka_unit_test(region_that_just_fills_a_node_is_all_there_or_refused),
        cmocka_unit_test(region_touched_after_create_on_an_almost_full_node_kills_nobody),
        cmocka_unit_test(region_beyond_the_cgroup_limit_is_refused_and_nobody_is_killed_v2),
        cmocka_unit_test(region_beyond_the_cgroup_limit_is_refused_and_nobody_is_killed_v1),
    };
    view_nodes(&with_memory, &usable);
    cmocka_set_test_filter(getenv("NUMAPERF_TEST"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
