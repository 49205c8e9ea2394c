/* SPDX-License-Identifier: MIT */
/*
 * What hard mode refuses, one case each: settings, privileges, nodes, PUs, cpusets; hard_memory.c
 * has memory and huge pages, hard_denials.c the denied system calls. Each error must have the right
 * code and cause, name the step and the node or PU, and leave nothing; and a soft start right after
 * works.
 *
 * Privileges, mounts, cgroups and filters are a process's: every scene is a child of its own.
 */
#include "hard_refusals.h"

#include "support/cgroup.h"
#include "support/clock.h"
#include "support/refusal.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <numaperf/error.h>
#include <numaperf/topology.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CAPABILITY(number) (UINT64_C(1) << (number))
#define PRIVILEGES (CAPABILITY(CAP_SYS_ADMIN) | CAPABILITY(CAP_SYS_NICE))
#define BALANCING "/proc/sys/kernel/numa_balancing"

/* ---- what cases share ---- */

static bool is_privileged(void)
{
    if (geteuid() == 0 && (sandbox_capabilities() & PRIVILEGES) == PRIVILEGES)
        return true;
    print_message("skipped: not root with CAP_SYS_ADMIN and CAP_SYS_NICE\n");
    return false;
}

/* Refused in both modes, for naming a node. */
static void check_no_node(numaperf_rt_config_t config, const char *operation, const char *word,
                          const char *other_word)
{
    const struct refusal refusal = {
        .code = NUMAPERF_E_NO_NODE, .operation = operation, .words = {word, other_word}};
    config.mode = NUMAPERF_MODE_HARD;
    refusal_check(&config, &refusal);
    config.mode = NUMAPERF_MODE_SOFT;
    refusal_check(&config, &refusal);
}

/* And a soft start that does not name it works. */
static void check_other_nodes(numaperf_rt_config_t config)
{
    numaperf_nodemask_zero(&config.nodes);
    config.topology = NULL; /* with an older picture it would be taken for usable again */
    refusal_soft_start(config);
}

/* ---- settings and privileges ---- */

/* Only this process sees another text in the file. */
static bool hide_file(const char *path, const char *text)
{
    char name[] = "/tmp/numaperf-setting.XXXXXX";
    int fd = mkstemp(name);
    if (fd < 0)
        return false;
    bool is_done = write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
                   unshare(CLONE_NEWNS) == 0 &&
                   mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                   mount(name, path, NULL, MS_BIND, NULL) == 0;
    (void)close(fd);
    (void)unlink(name);
    return is_done;
}

static void scene_balancing(const void *arg)
{
    const char *value = arg;
    refusal_warm_up();
    numaperf_rt_config_t config = refusal_hard_config();
    CHECK(hide_file(BALANCING, value));
    struct refusal refusal = {.code = NUMAPERF_E_HARD_MODE,
                              .operation = "hard mode",
                              .words = {"kernel.numa_balancing", "sysctl kernel.numa_balancing=0",
                                        refusal_word("it is %d", atoi(value), 0)}};
    if (value[0] == '\0') { /* what cannot be known is not claimed */
        refusal.sys_errno = EIO;
        refusal.words[1] = "cannot be read";
        refusal.words[2] = NULL;
    }
    refusal_check(&config, &refusal);
    if (geteuid() == 0) { /* the privileges do not make up for it */
        config.flags = 0;
        refusal_check(&config, &refusal);
    }
    refusal_soft_start(config);
}

static void balancing_is_refused_waived_or_not(void **state)
{
    (void)state;
    if (!refusal_machine_can() || !is_privileged())
        skip();
    if (access(BALANCING, F_OK) != 0) {
        print_message("skipped: this kernel has no NUMA balancing\n");
        skip();
    }
    static const char *const values[] = {"1\n", "2\n", "3\n", ""};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        assert_true(sandbox_run(scene_balancing, values[i]));
}

static void scene_real_balancing(const void *arg)
{
    (void)arg;
    refusal_warm_up();
    numaperf_rt_config_t config = refusal_hard_config();
    refusal_check(&config, &(struct refusal){.code = NUMAPERF_E_HARD_MODE,
                                             .operation = "hard mode",
                                             .words = {"kernel.numa_balancing", "(it is 1)"}});
    refusal_soft_start(config);
}

static void balancing_that_is_on_is_refused(void **state)
{
    (void)state;
    bool was_on = refusal_balancing_is_on();
    if (!was_on && (!test_is_guest() || !refusal_set_balancing(true))) {
        print_message("skipped: it is off, and only a guest's root switches it on\n");
        skip();
    }
    bool is_right = sandbox_run(scene_real_balancing, NULL);
    assert_true(was_on || refusal_set_balancing(false));
    assert_true(is_right);
}

struct grant {
    uint64_t capabilities;
    const char *word;
    const char *not_word;
};

static void scene_privileges(const void *arg)
{
    const struct grant *grant = arg;
    sandbox_become_user(grant->capabilities);
    refusal_warm_up();
    numaperf_rt_config_t config = refusal_hard_config();
    refusal_hard_start(&config); /* waived */
    config.flags = 0;
    refusal_check(&config, &(struct refusal){.code = NUMAPERF_E_HARD_MODE,
                                             .sys_errno = EPERM,
                                             .operation = "hard mode",
                                             .words = {grant->word, "NUMAPERF_RT_WAIVE_PRIVILEGES"},
                                             .not_word = grant->not_word});
    refusal_soft_start(config);
}

static void each_missing_privilege_is_named_and_can_be_waived(void **state)
{
    (void)state;
    if (!refusal_machine_can() || !is_privileged())
        skip();
    const struct grant grants[] = {
        {CAPABILITY(CAP_SYS_NICE), "CAP_SYS_ADMIN is not effective", "CAP_SYS_NICE"},
        {CAPABILITY(CAP_SYS_ADMIN), "CAP_SYS_NICE is not effective", "CAP_SYS_ADMIN"},
        {0, "CAP_SYS_ADMIN and CAP_SYS_NICE are not effective", NULL},
    };
    for (size_t i = 0; i < sizeof(grants) / sizeof(grants[0]); i++)
        assert_true(sandbox_run(scene_privileges, &grants[i]));
}

/* ---- nodes ---- */

static void scene_absent_node(const void *arg)
{
    (void)arg;
    struct refusal_machine machine;
    refusal_warm_up();
    refusal_machine_open(&machine);
    numaperf_rt_config_t config = refusal_hard_config();
    const int nodes[] = {1, 63, 64, NUMAPERF_NODE_MAX - 1};
    numaperf_nodemask_t there;
    CHECK(numaperf_topology_nodes(machine.topology, &there) == 0);
    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        if (numaperf_nodemask_contains(&there, nodes[i]))
            continue;
        config.nodes = machine.usable; /* one bad name among good ones */
        CHECK(numaperf_nodemask_add(&config.nodes, nodes[i]) == 0);
        check_no_node(config, "start", refusal_word("node %d does not exist", nodes[i], 0), NULL);
        /* It comes before what hard mode asks of the machine. */
        config.topology = machine.topology;
        config.flags = 0;
        check_no_node(config, "start", refusal_word("node %d does not exist", nodes[i], 0), NULL);
        config = refusal_hard_config();
    }
    check_other_nodes(config);
    refusal_machine_close(&machine);
}

static void absent_node_is_refused_in_both_modes(void **state)
{
    (void)state;
    assert_true(sandbox_run(scene_absent_node, NULL));
}

/* Nodes with one thing only: of this machine, or of a picture of another. */
static void check_half_nodes(const numaperf_topology_t *topology, const numaperf_topology_t *lent)
{
    for (size_t i = 0; i < numaperf_topology_node_count(topology); i++) {
        int node = numaperf_topology_node_id(topology, i);
        bool has_memory = numaperf_topology_node_memory_bytes(topology, node) > 0;
        numaperf_rt_config_t config = refusal_hard_config();
        config.nodes = numaperf_nodemask_single(node);
        config.topology = lent;
        if (refusal_pu_count(topology, node) == 0)
            check_no_node(config, "start", refusal_word("node %d has no usable PUs", node, 0),
                          NULL);
        else if (!has_memory)
            check_no_node(config, "start", refusal_word("node %d has no memory", node, 0), NULL);
    }
    check_other_nodes(refusal_hard_config());
}

static void scene_half_nodes_of_a_picture(const void *arg)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    refusal_warm_up();
    CHECK(runtime_box_open(&box, arg) == 0);
    numaperf_rt_destroy(box.rt);
    box.rt = NULL;
    check_half_nodes(box.topology, box.topology);
    runtime_box_close(&box);
}

static void node_without_pus_or_memory_is_refused_in_both_modes(void **state)
{
    (void)state;
    assert_true(sandbox_run(scene_half_nodes_of_a_picture, "memory_only_node.xml"));
    assert_true(sandbox_run(scene_half_nodes_of_a_picture, "memoryless_node.xml"));
}

static void scene_half_nodes(const void *arg)
{
    (void)arg;
    struct refusal_machine machine;
    refusal_warm_up();
    refusal_machine_open(&machine);
    check_half_nodes(machine.topology, NULL);
    check_half_nodes(machine.topology, machine.topology);
    refusal_machine_close(&machine);
}

static void real_node_without_pus_or_memory_is_refused_in_both_modes(void **state)
{
    (void)state;
    struct refusal_machine machine;
    refusal_machine_open(&machine);
    size_t usable = (size_t)numaperf_nodemask_count(&machine.usable);
    size_t all = numaperf_topology_node_count(machine.topology);
    refusal_machine_close(&machine);
    if (usable == all) {
        print_message("skipped: every node here has PUs and memory\n");
        skip();
    }
    assert_true(sandbox_run(scene_half_nodes, NULL));
}

static void scene_foreign_topology(const void *arg)
{
    struct runtime_box box = {.config = refusal_hard_config()};
    (void)arg;
    refusal_warm_up();
    CHECK(numaperf_topology_from_synthetic("numa:2 pu:1", &box.topology) == 0);
    box.config.topology = box.topology;
    refusal_check(&box.config, &(struct refusal){.code = NUMAPERF_E_HARD_MODE,
                                                 .operation = "start",
                                                 .words = {"the topology is not this machine's"}});
    refusal_soft_start(box.config);
    numaperf_topology_destroy(box.topology);
}

static void topology_of_another_machine_is_refused(void **state)
{
    (void)state;
    assert_true(sandbox_run(scene_foreign_topology, NULL));
}

/* ---- PUs ---- */

static void scene_too_many_workers(const void *arg)
{
    (void)arg;
    struct refusal_machine machine;
    refusal_warm_up();
    refusal_machine_open(&machine);
    int node = refusal_last_node(&machine);
    int count = refusal_pu_count(machine.topology, node);
    numaperf_rt_config_t config = refusal_hard_config();
    config.nodes = numaperf_nodemask_single(node);
    config.workers_per_node = (uint32_t)count;
    refusal_hard_start(&config);
    config.workers_per_node++;
    refusal_check(&config, &(struct refusal){
                               .code = NUMAPERF_E_HARD_MODE,
                               .operation = "start",
                               .words = {refusal_word("node %d has %d usable PUs", node, count),
                                         refusal_word("%d workers need one each", count + 1, 0)}});
    refusal_soft_start(config);
    refusal_machine_close(&machine);
}

static void more_workers_than_pus_name_the_node(void **state)
{
    (void)state;
    if (!refusal_machine_can())
        skip();
    assert_true(sandbox_run(scene_too_many_workers, NULL));
}

/* ---- cpusets ---- */

static int last_pu(const numaperf_topology_t *topology, int node)
{
    numaperf_cpuset_t cpus;
    int last = -1;
    CHECK(numaperf_topology_node_cpus(topology, node, &cpus) == 0);
    for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&cpus, cpu))
        last = cpu;
    return last;
}

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool is_written = fd >= 0 && write(fd, text, strlen(text)) >= 0;
    if (fd >= 0)
        (void)close(fd);
    return is_written;
}

/* All PUs of the group but one. */
static void group_exclude_pu(const struct cgroup *group, int cpu)
{
    char list[256];
    numaperf_cpuset_t cpus;
    CHECK(numaperf_cpuset_parse(group->all_cpus, &cpus) == 0);
    numaperf_cpuset_remove(&cpus, cpu);
    CHECK(numaperf_cpuset_format(&cpus, list, sizeof(list)) < (int)sizeof(list));
    CHECK(write_text(group->cpus_path, list));
}

/* The caller's picture is older than the cpuset: the worker's own step must find out. */
static void scene_pu_taken_away(const void *arg)
{
    const struct cgroup *group = arg;
    struct refusal_machine machine;
    refusal_warm_up();
    refusal_machine_open(&machine);
    int node = refusal_last_node(&machine);
    int count = refusal_pu_count(machine.topology, node);
    int cpu = last_pu(machine.topology, node);
    numaperf_rt_config_t config = refusal_hard_config();
    config.nodes = numaperf_nodemask_single(node);
    config.workers_per_node = (uint32_t)count;
    config.topology = machine.topology;
    CHECK(cgroup_enter(group));
    refusal_hard_start(&config);
    group_exclude_pu(group, cpu);
    /* With a ring another worker may be first, whose io-wq the kernel will not let onto that PU. */
    refusal_check(&config, &(struct refusal){.code = NUMAPERF_E_HARD_MODE,
                                             .sys_errno = EINVAL,
                                             .words = {refusal_word("node %d", node, 0),
                                                       "outside the cpuset", "worker ", "(PU "}});
    config.io_backend = NUMAPERF_IO_EPOLL;
    refusal_check(&config, &(struct refusal){.code = NUMAPERF_E_HARD_MODE,
                                             .sys_errno = EINVAL,
                                             .operation = "sched_setaffinity",
                                             .words = {refusal_word("(PU %d, node %d)", cpu, node),
                                                       refusal_word("pin to PUs %d:", cpu, 0),
                                                       "outside the cpuset"}});
    refusal_soft_start(config);
    CHECK(write_text(group->cpus_path, group->all_cpus));
    refusal_hard_start(&config);
    refusal_machine_close(&machine);
}

/* Discovered within the cpuset: too few PUs, or none at all. */
static void scene_pu_excluded(const void *arg)
{
    const struct cgroup *group = arg;
    struct refusal_machine machine;
    refusal_warm_up();
    refusal_machine_open(&machine);
    int node = refusal_last_node(&machine);
    int count = refusal_pu_count(machine.topology, node);
    int cpu = last_pu(machine.topology, node);
    refusal_machine_close(&machine);
    CHECK(cgroup_enter(group));
    group_exclude_pu(group, cpu);
    numaperf_rt_config_t config = refusal_hard_config();
    config.nodes = numaperf_nodemask_single(node);
    config.workers_per_node = (uint32_t)count;
    const char *excluded = refusal_word("excludes PUs %d", cpu, 0);
    if (count == 1) {
        check_no_node(config, "start", refusal_word("node %d has no usable PUs", node, 0),
                      excluded);
        check_other_nodes(config);
        return;
    }
    refusal_check(&config, &(struct refusal){
                               .code = NUMAPERF_E_HARD_MODE,
                               .operation = "start",
                               .words = {refusal_word("node %d has %d usable PUs", node, count - 1),
                                         excluded}});
    refusal_soft_start(config);
    config.workers_per_node--;
    refusal_hard_start(&config);
}

static void in_a_group(void (*scene)(const void *arg))
{
    struct cgroup group;
    char name[32];
    const char *why_not = cgroup_unavailable();
    (void)snprintf(name, sizeof(name), "refusal-%d", getpid());
    if (why_not != NULL || !cgroup_create(&group, name)) {
        print_message("skipped: %s\n", why_not != NULL ? why_not : "no cgroup can be made");
        skip();
    }
    bool is_right = sandbox_run(scene, &group);
    assert_true(cgroup_remove(&group));
    assert_true(is_right);
}

static void pu_that_the_cpuset_takes_away_is_named(void **state)
{
    (void)state;
    if (!refusal_machine_can())
        skip();
    in_a_group(scene_pu_taken_away);
}

static void pu_that_the_cpuset_excludes_is_named(void **state)
{
    (void)state;
    if (!refusal_machine_can())
        skip();
    in_a_group(scene_pu_excluded);
}

static void scene_memory_excluded(const void *arg)
{
    const struct cgroup *group = arg;
    struct refusal_machine machine;
    char list[16];
    refusal_warm_up();
    refusal_machine_open(&machine);
    int node = refusal_last_node(&machine);
    (void)snprintf(list, sizeof(list), "%d", numaperf_nodemask_next(&machine.usable, -1));
    numaperf_rt_config_t config = refusal_hard_config();
    config.nodes = machine.usable;
    CHECK(cgroup_enter(group));
    refusal_hard_start(&config);
    CHECK(write_text(group->mems_path, list));
    check_no_node(config, "start", refusal_word("node %d has no usable memory", node, 0),
                  "the cpuset of this process excludes it");
    /* With a picture that is older than the cpuset the kernel is asked, and tells the same. */
    config.topology = machine.topology;
    config.nodes = numaperf_nodemask_single(node);
    check_no_node(config, "region", refusal_word("node %d:", node, 0),
                  "the cpuset of this thread allows no memory there");
    check_other_nodes(config);
    refusal_machine_close(&machine);
}

static void memory_node_that_the_cpuset_trims_is_named(void **state)
{
    (void)state;
    if (!refusal_machine_can() || !refusal_has_two_nodes())
        skip();
    in_a_group(scene_memory_excluded);
}

int main(void)
{
    if (test_is_guest() && geteuid() == 0)
        (void)refusal_set_balancing(false); /* on by default where there are several nodes */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(balancing_is_refused_waived_or_not),
        cmocka_unit_test(balancing_that_is_on_is_refused),
        cmocka_unit_test(each_missing_privilege_is_named_and_can_be_waived),
        cmocka_unit_test(absent_node_is_refused_in_both_modes),
        cmocka_unit_test(node_without_pus_or_memory_is_refused_in_both_modes),
        cmocka_unit_test(real_node_without_pus_or_memory_is_refused_in_both_modes),
        cmocka_unit_test(topology_of_another_machine_is_refused),
        cmocka_unit_test(more_workers_than_pus_name_the_node),
        cmocka_unit_test(pu_that_the_cpuset_takes_away_is_named),
        cmocka_unit_test(pu_that_the_cpuset_excludes_is_named),
        cmocka_unit_test(memory_node_that_the_cpuset_trims_is_named),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    failed += hard_memory_run();
    failed += hard_denials_run();
    return failed == 0 ? 0 : 1;
}
