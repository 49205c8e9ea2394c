/* SPDX-License-Identifier: MIT */
/*
 * What hard or soft mode needs, as far as it can be seen without starting: settings, privileges,
 * nodes, PUs and live probes. These lines explain; whether the runtime starts is the trial's to
 * say, and a line that it contradicts is put right by it.
 */
#include "cli/doctor.h"
#include "cli/doctor_fix.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/procfs.h"

#include <numaperf/capabilities.h>
#include <numaperf/cpuset.h>
#include <numaperf/error.h>
#include <numaperf/topology.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK_LIST_MAX 64 /* characters of a list of nodes in a line */

static const char *const check_status_names[] = {"ok", "note", "missing"};

json_t *doctor_add(json_t *report, const struct doctor_line *line)
{
    json_t *fixes = json_array();
    json_t *requirement = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "name", line->name, "status",
                                    check_status_names[line->status], "found", line->found,
                                    "needed", line->needed, "why", line->why, "fixes", fixes);
    json_array_append_new(json_object_get(report, "requirements"), requirement);
    return fixes;
}

static bool check_is_hard(const numaperf_rt_config_t *config)
{
    return config->mode == NUMAPERF_MODE_HARD;
}

/* What hard mode must have and soft mode does without. */
static enum doctor_status check_status(const numaperf_rt_config_t *config, bool is_met)
{
    if (is_met)
        return DOCTOR_OK;
    return check_is_hard(config) ? DOCTOR_MISSING : DOCTOR_NOTE;
}

/* ---- nodes and PUs ---- */

static bool check_node_usable(const numaperf_topology_t *topology, int node)
{
    numaperf_cpuset_t cpus;
    return numaperf_topology_node_cpus(topology, node, &cpus) == 0 &&
           numaperf_cpuset_count(&cpus) > 0 &&
           numaperf_topology_node_memory_bytes(topology, node) > 0;
}

static void check_usable_nodes(const numaperf_topology_t *topology, numaperf_nodemask_t *out)
{
    numaperf_nodemask_zero(out);
    for (size_t i = 0; i < numaperf_topology_node_count(topology); i++) {
        int node = numaperf_topology_node_id(topology, i);
        if (check_node_usable(topology, node))
            (void)numaperf_nodemask_add(out, node); /* an id of the topology is in range */
    }
}

/* A list for a line; a very long one is cut. */
static void check_list(const numaperf_nodemask_t *nodes, char *buf)
{
    int length = numaperf_nodemask_format(nodes, buf, CHECK_LIST_MAX);
    if (length <= 0)
        (void)snprintf(buf, CHECK_LIST_MAX, "none");
    else if (length >= CHECK_LIST_MAX)
        memcpy(buf + CHECK_LIST_MAX - sizeof("..."), "...", sizeof("..."));
}

static void check_nodes(json_t *report, const numaperf_rt_config_t *config,
                        const numaperf_nodemask_t *usable)
{
    char found[CHECK_LIST_MAX];
    char needed[CHECK_LIST_MAX];
    numaperf_nodemask_t both;
    numaperf_nodemask_intersect(&config->nodes, usable, &both);
    bool is_any = numaperf_nodemask_count(&config->nodes) == 0;
    bool is_met = is_any ? numaperf_nodemask_count(usable) > 0
                         : numaperf_nodemask_equal(&both, &config->nodes);
    check_list(usable, found);
    check_list(&config->nodes, needed);
    json_t *fixes =
        doctor_add(report, &(struct doctor_line){
                               .name = "nodes",
                               .status = is_met ? DOCTOR_OK : DOCTOR_MISSING,
                               .found = found,
                               .needed = is_any ? "any node" : needed,
                               .why = "each needs PUs and memory that this process may use",
                           });
    if (is_met)
        return;
    if (numaperf_nodemask_count(usable) > 0) {
        json_t *list = procfs_nodemask_json(usable); /* unlike `found`, never cut */
        fix_line(fixes, "command", "numaperf doctor --nodes %s", json_string_value(list));
        json_decref(list);
    }
    fix_cpuset(fixes);
}

/* The nodes that the runtime would use, as far as they are usable. */
static numaperf_nodemask_t check_chosen(const numaperf_rt_config_t *config,
                                        const numaperf_nodemask_t *usable)
{
    numaperf_nodemask_t chosen = *usable;
    if (numaperf_nodemask_count(&config->nodes) > 0)
        numaperf_nodemask_intersect(&config->nodes, usable, &chosen);
    return chosen;
}

static void check_pus(json_t *report, const numaperf_rt_config_t *config,
                      const numaperf_topology_t *topology, const numaperf_nodemask_t *chosen)
{
    int fewest = 0;
    int fewest_node = -1;
    for (int node = numaperf_nodemask_next(chosen, -1); node >= 0;
         node = numaperf_nodemask_next(chosen, node)) {
        numaperf_cpuset_t cpus;
        if (numaperf_topology_node_cpus(topology, node, &cpus) < 0)
            continue;
        int count = numaperf_cpuset_count(&cpus);
        if (fewest_node < 0 || count < fewest) {
            fewest = count;
            fewest_node = node;
        }
    }
    if (fewest_node < 0)
        return; /* the line before says that there is no node */

    char found[CHECK_LIST_MAX];
    char needed[CHECK_LIST_MAX];
    (void)snprintf(found, sizeof(found), "node %d: %d usable", fewest_node, fewest);
    if (config->workers_per_node == 0)
        (void)snprintf(needed, sizeof(needed), "1 per worker");
    else
        (void)snprintf(needed, sizeof(needed), "%u, 1 per worker",
                       (unsigned)config->workers_per_node);
    bool is_met = config->workers_per_node <= (uint32_t)fewest;
    json_t *fixes = doctor_add(report, &(struct doctor_line){
                                           .name = "PUs",
                                           .status = check_status(config, is_met),
                                           .found = found,
                                           .needed = needed,
                                           .why = "workers that share a PU wait for each other",
                                       });
    if (is_met)
        return;
    fix_line(fixes, "command", "numaperf doctor --workers-per-node %d", fewest);
    fix_cpuset(fixes);
}

static int check_machine(json_t *report, const numaperf_rt_config_t *config)
{
    numaperf_topology_t *topology = NULL;
    if (numaperf_topology_discover(&topology) < 0) {
        output_library_error("topology");
        return CLI_FAILED;
    }
    numaperf_nodemask_t usable;
    check_usable_nodes(topology, &usable);
    numaperf_nodemask_t chosen = check_chosen(config, &usable);
    check_nodes(report, config, &usable);
    check_pus(report, config, topology, &chosen);
    numaperf_topology_destroy(topology);
    return CLI_OK;
}

/* ---- settings and privileges ---- */

static void check_balancing(json_t *report, const numaperf_rt_config_t *config,
                            const numaperf_capabilities_t *caps)
{
    char found[32] = "not in this kernel";
    long value = procfs_read_number("/proc/sys/kernel/numa_balancing");
    if (value >= 0)
        (void)snprintf(found, sizeof(found), "%ld", value);
    else if (!caps->numa_balancing_disabled)
        (void)snprintf(found, sizeof(found), "cannot be read");
    json_t *fixes =
        doctor_add(report, &(struct doctor_line){
                               .name = "kernel.numa_balancing",
                               .status = check_status(config, caps->numa_balancing_disabled),
                               .found = found,
                               .needed = "0",
                               .why = "it moves pages that are not bound, such as the heap",
                           });
    if (!caps->numa_balancing_disabled)
        fix_sysctl(fixes, "kernel.numa_balancing", 0);
}

static void check_privileges(json_t *report, const numaperf_rt_config_t *config,
                             const numaperf_capabilities_t *caps)
{
    if (!check_is_hard(config))
        return; /* soft mode documents none */
    static const char *const found[] = {"none", "CAP_SYS_NICE", "CAP_SYS_ADMIN", "both"};
    bool is_waived = (config->flags & NUMAPERF_RT_WAIVE_PRIVILEGES) != 0;
    bool is_met = is_waived || (caps->strict_memory_binding && caps->strict_cpu_affinity);
    json_t *fixes = doctor_add(
        report,
        &(struct doctor_line){
            .name = "privileges",
            .status = is_met ? DOCTOR_OK : DOCTOR_MISSING,
            .found =
                found[(caps->strict_memory_binding ? 2 : 0) + (caps->strict_cpu_affinity ? 1 : 0)],
            .needed = is_waived ? "none: waived" : "CAP_SYS_NICE and CAP_SYS_ADMIN",
            .why = "documented for hard mode; the kernel itself asks for neither",
        });
    if (!is_met)
        fix_privileges(fixes);
}

/* ---- live probes ---- */

struct check_probe {
    const char *name;
    uint32_t outcome;
    int32_t sys_errno;
    enum doctor_status status; /* when it is not OK */
    enum fix_calls calls;
    const char *why;
};

static void check_fix_sysctl_ring(json_t *fixes)
{
    fix_sysctl(fixes, "kernel.io_uring_disabled", 0);
    if (procfs_read_number("/proc/sys/kernel/io_uring_disabled") == 1)
        fix_line(fixes, "group",
                 "sudo sysctl -w kernel.io_uring_group=GID\n(a group of the server)");
}

static void check_fix_probe(json_t *fixes, const struct check_probe *probe)
{
    bool is_ring = probe->calls == FIX_CALLS_RING;
    if (probe->outcome == NUMAPERF_PROBE_SECCOMP)
        fix_seccomp(fixes, probe->calls);
    else if (probe->outcome == NUMAPERF_PROBE_SYSCTL)
        check_fix_sysctl_ring(fixes);
    else if (probe->outcome == NUMAPERF_PROBE_NO_PRIVILEGE)
        fix_privileges(fixes);
    else if (probe->outcome == NUMAPERF_PROBE_TOO_OLD && is_ring)
        fix_line(fixes, "kernel", "Linux 6.1 or newer, with CONFIG_IO_URING=y");
    else if (probe->outcome == NUMAPERF_PROBE_TOO_OLD)
        fix_line(fixes, "kernel", "one built with CONFIG_NUMA=y");
    if (is_ring)
        fix_line(fixes, "without", "numaperf doctor --backend epoll");
}

static void check_probe(json_t *report, const struct check_probe *probe)
{
    char found[64];
    bool is_met = probe->outcome == NUMAPERF_PROBE_OK;
    if (is_met)
        (void)snprintf(found, sizeof(found), "works");
    else
        (void)snprintf(found, sizeof(found), "%s (%s)", numaperf_probe_name(probe->outcome),
                       numaperf_err_name(-probe->sys_errno));
    json_t *fixes = doctor_add(report, &(struct doctor_line){
                                           .name = probe->name,
                                           .status = is_met ? DOCTOR_OK : probe->status,
                                           .found = found,
                                           .needed = "works",
                                           .why = probe->why,
                                       });
    if (!is_met)
        check_fix_probe(fixes, probe);
}

/* The ring is needed where it is asked for by name; auto does without. Confining io-wq is needed in
   hard mode with any ring. */
static void check_ring(json_t *report, const numaperf_rt_config_t *config,
                       const numaperf_capabilities_t *caps)
{
    if (config->io_backend == NUMAPERF_IO_EPOLL)
        return;
    bool is_required = config->io_backend == NUMAPERF_IO_URING;
    bool has_ring = caps->probe_io_uring == NUMAPERF_PROBE_OK;
    check_probe(report,
                &(struct check_probe){
                    .name = "io_uring",
                    .outcome = caps->probe_io_uring,
                    .sys_errno = caps->errno_io_uring,
                    .status = is_required ? DOCTOR_MISSING : DOCTOR_NOTE,
                    .calls = FIX_CALLS_RING,
                    .why = is_required ? "workers are to wait in io_uring"
                                       : "without it workers wait in epoll, at more CPU a request",
                });
    if (!has_ring)
        return; /* no ring, no io-wq */
    check_probe(report, &(struct check_probe){
                            .name = "io-wq affinity",
                            .outcome = caps->probe_iowq_affinity,
                            .sys_errno = caps->errno_iowq_affinity,
                            .status = check_status(config, false),
                            .calls = FIX_CALLS_RING,
                            .why = "io_uring's helper threads would run on any node",
                        });
}

static void check_probes(json_t *report, const numaperf_rt_config_t *config,
                         const numaperf_capabilities_t *caps)
{
    const struct check_probe probes[] = {
        {.name = "thread affinity",
         .outcome = caps->probe_affinity,
         .sys_errno = caps->errno_affinity,
         .calls = FIX_CALLS_AFFINITY,
         .why = "every worker is pinned to one PU, and this is read back"},
        {.name = "memory policy",
         .outcome = caps->probe_mbind,
         .sys_errno = caps->errno_mbind,
         .calls = FIX_CALLS_MEMORY,
         .why = "arenas and stacks are bound to their node, and this is read back"},
        {.name = "page query",
         .outcome = caps->probe_page_query,
         .sys_errno = caps->errno_page_query,
         .calls = FIX_CALLS_QUERY,
         .why = "only the kernel can say where a page is (move_pages)"},
    };
    for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
        struct check_probe probe = probes[i];
        probe.status = check_status(config, false);
        check_probe(report, &probe);
    }
    check_ring(report, config, caps);
}

int doctor_check(json_t *report, const numaperf_rt_config_t *config)
{
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    if (numaperf_capabilities_detect(&caps) < 0) {
        output_library_error("capabilities");
        return CLI_FAILED;
    }
    int code = check_machine(report, config);
    if (code != CLI_OK)
        return code;
    check_balancing(report, config, &caps);
    check_privileges(report, config, &caps);
    check_probes(report, config, &caps);
    return CLI_OK;
}
