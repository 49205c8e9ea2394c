/* SPDX-License-Identifier: MIT */
/*
 * Machine, kernel, process and libraries for the attestation, read when they are asked about.
 *
 * A document is made to be shown around, so it has nothing that names a machine or its owner: no
 * host name, no machine id, no addresses, no path of a cgroup, which in containers is an id. The
 * boot id is there: random, forgotten at the next boot, and without it nobody could tell whether
 * two documents speak of the same running kernel.
 *
 * What cannot be read is null with the cause, never left out and never guessed.
 *
 * Thread rule: nothing is kept; any thread. "process" speaks of the whole process, so the kernel
 * is asked about its first thread, whoever calls.
 *
 * Source: proc(5), cpuset(7), Documentation/admin-guide/cgroup-v2.rst "Cpuset Interface Files",
 * Documentation/admin-guide/sysctl/kernel.rst.
 */
#include "sched/attest_host.h"

#include "io/version.h"
#include "place/cgroup.h"
#include "topo/textfile.h"
#include "topo/version.h"

#include <numaperf/error.h>

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* ---- files ---- */

/* A text of the kernel without its last newline, for free(); NULL, and why. */
static char *host_read(struct numaperf__json *json, const char *path, int *out_rc)
{
    char *text = NULL;
    size_t size = 0;
    *out_rc = numaperf__textfile_read(path, NUMAPERF_KERNEL_TEXT_MAX, &text, &size);
    if (*out_rc == -ENOMEM)
        json->failed = true;
    if (*out_rc < 0)
        return NULL;
    if (size > 0 && text[size - 1] == '\n')
        text[size - 1] = '\0';
    return text;
}

static json_t *host_errno(int rc)
{
    return rc < 0 ? json_string(numaperf_err_name(rc)) : json_null();
}

/* "always [madvise] never" chooses madvise. Cuts the text. */
static const char *host_choice(char *text)
{
    char *open = strchr(text, '[');
    char *close = open != NULL ? strchr(open, ']') : NULL;
    if (close == NULL)
        return text;
    *close = '\0';
    return open + 1;
}

/* A number where it is one. Cuts the text. */
static json_t *host_value(char *text)
{
    const char *at = text;
    uint64_t number = 0;
    if (numaperf__textfile_number(&at, &number) == 0 && *at == '\0')
        return numaperf__json_number(number);
    return numaperf__json_text(host_choice(text));
}

/* {"value": ..., "errno": ...}; ENOENT is a kernel that has no such setting. */
static void host_put_setting(struct numaperf__json *json, json_t *object, const char *key,
                             const char *path)
{
    int rc = 0;
    char *text = host_read(json, path, &rc);
    json_t *setting = numaperf__json_section(json, object, key);
    numaperf__json_put(json, setting, "value", text != NULL ? host_value(text) : json_null());
    numaperf__json_put(json, setting, "errno", host_errno(rc));
    free(text);
}

/* ---- machine and kernel ---- */

static void host_put_machine(struct numaperf__json *json, json_t *root)
{
    json_t *host = numaperf__json_section(json, root, "host");
    struct utsname name;
    bool known = uname(&name) == 0; /* has no other cause to fail than a bad address */
    int rc = 0;
    char *boot = host_read(json, "/proc/sys/kernel/random/boot_id", &rc);
    numaperf__json_put(json, host, "machine", numaperf__json_text(known ? name.machine : NULL));
    numaperf__json_put(json, host, "kernel", numaperf__json_text(known ? name.release : NULL));
    numaperf__json_put(json, host, "boot_id", numaperf__json_text(boot));
    free(boot);
}

static void host_put_kernel(struct numaperf__json *json, json_t *root)
{
    static const struct {
        const char *key;
        const char *path;
    } settings[] = {
        {"numa_balancing", "/proc/sys/kernel/numa_balancing"},
        {"io_uring_disabled", "/proc/sys/kernel/io_uring_disabled"},
        {"transparent_hugepage", "/sys/kernel/mm/transparent_hugepage/enabled"},
    };
    json_t *kernel = numaperf__json_section(json, root, "kernel");
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        host_put_setting(json, kernel, settings[i].key, settings[i].path);
}

/* ---- process ---- */

/* A cpuset's files: in version 2 of cgroups, and in version 1. */
struct host_cpuset {
    const char *controller;
    const char *cpus;
    const char *mems;
};

static char *host_read_group(struct numaperf__json *json, const struct numaperf__cgroup *group,
                             const char *name)
{
    char path[NUMAPERF__CGROUP_PATH_MAX];
    int rc = numaperf__cgroup_file(group, name, path, sizeof(path));
    return rc == 0 ? host_read(json, path, &rc) : NULL;
}

/* Of the nearest group upwards that has a cpuset; false where none has. */
static bool host_put_cpuset_of(struct numaperf__json *json, json_t *cpuset,
                               const struct host_cpuset *kind)
{
    struct numaperf__cgroup group;
    if (numaperf__cgroup_find(kind->controller, &group) < 0)
        return false;
    char *cpus = host_read_group(json, &group, kind->cpus);
    for (int i = 0; i < NUMAPERF__CGROUP_DEPTH_MAX && cpus == NULL; i++) {
        if (!numaperf__cgroup_ascend(&group))
            return false;
        cpus = host_read_group(json, &group, kind->cpus);
    }
    char *mems = host_read_group(json, &group, kind->mems);
    numaperf__json_put(json, cpuset, "cpus_effective", numaperf__json_text(cpus));
    numaperf__json_put(json, cpuset, "mems_effective", numaperf__json_text(mems));
    free(cpus);
    free(mems);
    return true;
}

static void host_put_cpuset(struct numaperf__json *json, json_t *process)
{
    static const struct host_cpuset kinds[] = {
        {NULL, "cpuset.cpus.effective", "cpuset.mems.effective"},
        {"cpuset", "cpuset.effective_cpus", "cpuset.effective_mems"},
    };
    json_t *cpuset = numaperf__json_section(json, process, "cgroup_cpuset");
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (host_put_cpuset_of(json, cpuset, &kinds[i]))
            return;
    }
    numaperf__json_put(json, cpuset, "cpus_effective", json_null());
    numaperf__json_put(json, cpuset, "mems_effective", json_null());
}

/* A line of /proc/self/status as it stands there; it is cut out of the text. */
static json_t *host_status(char *text, const char *name)
{
    return numaperf__json_text(text != NULL ? numaperf__textfile_field(text, name) : NULL);
}

static json_t *host_capability(json_t *mask, int capability)
{
    const char *digits = json_string_value(mask);
    if (digits == NULL)
        return json_null();
    return json_boolean((strtoull(digits, NULL, 16) >> capability & 1) != 0);
}

static void host_put_process(struct numaperf__json *json, json_t *root)
{
    json_t *process = numaperf__json_section(json, root, "process");
    int rc = 0;
    char *status = host_read(json, "/proc/self/status", &rc);
    /* From its end to its beginning: each one cuts the text where it stands. */
    json_t *mems = host_status(status, "Mems_allowed_list");
    json_t *mask = host_status(status, "CapEff");
    numaperf__json_put(json, process, "pid", json_integer(getpid()));
    numaperf__json_put(json, process, "uid", json_integer((json_int_t)geteuid()));
    numaperf__json_put(json, process, "cap_sys_admin", host_capability(mask, CAP_SYS_ADMIN));
    numaperf__json_put(json, process, "cap_sys_nice", host_capability(mask, CAP_SYS_NICE));
    numaperf__json_put(json, process, "capabilities_effective", mask);
    numaperf__json_put(json, process, "mems_allowed", mems);
    host_put_cpuset(json, process);
    free(status);
}

/* ---- libraries ---- */

static void host_put_libraries(struct numaperf__json *json, json_t *root)
{
    json_t *libraries = numaperf__json_section(json, root, "libraries");
    char uring[32];
    char hwloc[32];
    bool uring_known = numaperf__uring_version(uring, sizeof(uring));
    numaperf__hwloc_api_version(hwloc, sizeof(hwloc));
    numaperf__json_put(json, libraries, "libuv", numaperf__json_text(numaperf__uv_version()));
    numaperf__json_put(json, libraries, "liburing",
                       numaperf__json_text(uring_known ? uring : NULL));
    numaperf__json_put(json, libraries, "hwloc_api", numaperf__json_text(hwloc));
}

void numaperf__attest_host(struct numaperf__json *json, json_t *root)
{
    host_put_machine(json, root);
    host_put_kernel(json, root);
    host_put_process(json, root);
    host_put_libraries(json, root);
}

/* ---- topology ---- */

/* To every node, in their order; null where the firmware does not say. */
static json_t *host_distances(struct numaperf__json *json, const numaperf_topology_t *topology,
                              int from)
{
    json_t *distances = json_array();
    for (size_t i = 0; i < numaperf_topology_node_count(topology); i++) {
        int to = numaperf_topology_node_id(topology, i);
        int distance = numaperf_topology_distance(topology, from, to);
        numaperf__json_append(json, distances,
                              distance >= 0 ? json_integer(distance) : json_null());
    }
    return distances;
}

static json_t *host_node(struct numaperf__json *json, const numaperf_topology_t *topology, int id)
{
    json_t *node = json_object();
    numaperf_cpuset_t cpus;
    numaperf_cpuset_zero(&cpus);
    (void)numaperf_topology_node_cpus(topology, id, &cpus); /* it is one of its own nodes */
    numaperf__json_put(json, node, "node", json_integer(id));
    numaperf__json_put(json, node, "pus", numaperf__json_cpuset(&cpus));
    numaperf__json_put(json, node, "memory_bytes",
                       numaperf__json_number(numaperf_topology_node_memory_bytes(topology, id)));
    numaperf__json_put(json, node, "distances", host_distances(json, topology, id));
    return node;
}

void numaperf__attest_topology(struct numaperf__json *json, json_t *root,
                               const numaperf_topology_t *topology)
{
    json_t *section = numaperf__json_section(json, root, "topology");
    bool ours = numaperf_topology_is_this_machine(topology);
    json_t *nodes = json_array();
    for (size_t i = 0; i < numaperf_topology_node_count(topology); i++) {
        int id = numaperf_topology_node_id(topology, i);
        numaperf__json_append(json, nodes, host_node(json, topology, id));
    }
    numaperf__json_put(json, section, "this_machine", json_boolean(ours));
    numaperf__json_put(json, section, "nodes", nodes);
}
