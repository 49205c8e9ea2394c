/* SPDX-License-Identifier: MIT */
/*
 * Discovery: this machine as the kernel shows it in /sys, within what this process may use.
 *
 * It reads /sys itself instead of asking hwloc, for two reasons. hwloc's discovery of a live
 * machine obeys its environment variables, and no call of its API stops that (HWLOC_FSROOT shows
 * another machine's tree, HWLOC_SYNTHETIC with HWLOC_THISSYSTEM forges one): here no variable is
 * read at all. And hwloc leaves out a memoryless node and shows a memory-only one with its
 * neighbour's PUs, whereas nodeN/cpulist says exactly whose a PU is.
 *
 * PUs and nodes come and go while this runs, so a file that is absent means "not known", never an
 * error. No state: any thread.
 * Source: kernel Documentation/ABI stable/sysfs-devices-node, testing/sysfs-devices-system-cpu;
 * cpuset(7).
 */
#include "topo/allowed.h"
#include "topo/textfile.h"
#include "topo/topology.h"

#include "base/assert.h"
#include "base/error.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_INDEX_MAX 16 /* cache directories of one PU; the kernel has about four */

/* ---- single files ---- */

/* Read a file of the tree; its path is a printf format after `root`. */
static int tree_read(char **out_text, const char *root, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static int tree_read(char **out_text, const char *root, const char *format, ...)
{
    char name[128];
    char path[PATH_MAX];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(name, sizeof(name), format, args);
    va_end(args);
    NUMAPERF_ASSERT(length > 0 && (size_t)length < sizeof(name));
    length = snprintf(path, sizeof(path), "%s/%s", root, name);
    if (length < 0 || (size_t)length >= sizeof(path))
        return -ENAMETOOLONG;
    int rc = numaperf__textfile_read(path, NUMAPERF_KERNEL_TEXT_MAX, out_text, NULL);
    if (rc == -ENOMEM)
        return numaperf__fail(-ENOMEM, ENOMEM, "discover", "text of %s", path);
    return rc;
}

/* Whether a failure ends the discovery; any other means "not known". */
static bool tree_is_fatal(int rc)
{
    return rc == -ENOMEM || rc == NUMAPERF_E_TOPOLOGY;
}

/* A list of PUs out of `text`, which is freed. An id out of range is our limit, not bad text. */
static int tree_cpus(int rc, char *text, const char *name, numaperf_cpuset_t *out)
{
    if (rc < 0)
        return rc;
    rc = numaperf_cpuset_parse(text, out);
    if (rc == -EINVAL)
        rc = numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "discover",
                            "%s says \"%.80s\": not a list of PUs below %d", name, text,
                            NUMAPERF_CPU_MAX);
    free(text);
    return rc;
}

static int tree_nodes(int rc, char *text, const char *name, numaperf_nodemask_t *out)
{
    if (rc < 0)
        return rc;
    rc = numaperf_nodemask_parse(text, out);
    if (rc == -EINVAL)
        rc = numaperf__fail(NUMAPERF_E_TOPOLOGY, 0, "discover",
                            "%s says \"%.80s\": not a list of nodes below %d", name, text,
                            NUMAPERF_NODE_MAX);
    free(text);
    return rc;
}

/* A number, 0 .. INT_MAX, out of a file of one PU; `otherwise` when there is none. */
static int tree_pu_number(const char *root, int cpu, const char *name, int otherwise)
{
    char *text = NULL;
    if (tree_read(&text, root, "cpu/cpu%d/%s", cpu, name) < 0)
        return otherwise;
    const char *at = text;
    uint64_t number = 0;
    int rc = numaperf__textfile_number(&at, &number);
    free(text);
    return rc < 0 || number > INT_MAX ? otherwise : (int)number;
}

/* ---- nodes ---- */

static uint64_t tree_node_memory(const char *root, int node)
{
    char *text = NULL;
    if (tree_read(&text, root, "node/node%d/meminfo", node) < 0)
        return 0;
    uint64_t kibibytes = 0;
    const char *at = strstr(text, " MemTotal:");
    if (at != NULL) {
        at += strlen(" MemTotal:");
        if (numaperf__textfile_number(&at, &kibibytes) < 0 || kibibytes > UINT64_MAX / 1024)
            kibibytes = 0;
    }
    free(text);
    return kibibytes * 1024;
}

/* The kernel prints one number for each online node, ascending: all of ours, in our order. */
static void tree_node_distances(const char *root, numaperf_topology_t *topology, size_t from)
{
    char *text = NULL;
    if (tree_read(&text, root, "node/node%d/distance", topology->nodes[from].id) < 0)
        return;
    uint32_t *row = &topology->distances[from * topology->node_count];
    const char *at = text;
    uint64_t distance = 0;
    size_t count = 0;
    while (numaperf__textfile_number(&at, &distance) == 0) {
        if (count < topology->node_count)
            row[count] = distance <= INT_MAX ? (uint32_t)distance : 0;
        count++;
    }
    /* Another count means that a node came or went meanwhile: no number is sure to be its own. */
    if (count != topology->node_count)
        memset(row, 0, topology->node_count * sizeof(*row));
    free(text);
}

/* Say of each PU of a node that it is there. */
static int tree_node_pus(const char *root, numaperf_topology_t *topology, size_t index)
{
    int node = topology->nodes[index].id;
    char *text = NULL;
    numaperf_cpuset_t cpus;
    int rc = tree_read(&text, root, "node/node%d/cpulist", node);
    rc = tree_cpus(rc, text, "cpulist", &cpus);
    if (rc < 0)
        return tree_is_fatal(rc) ? rc : 0;
    for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0 && cpu < topology->pu_limit;
         cpu = numaperf_cpuset_next(&cpus, cpu))
        topology->pus[cpu].node = (int)index;
    return 0;
}

static int tree_fill_nodes(const char *root, const numaperf_nodemask_t *mems,
                           numaperf_topology_t *topology)
{
    for (size_t i = 0; i < topology->node_count; i++) {
        int rc = tree_node_pus(root, topology, i);
        if (rc < 0)
            return rc;
        if (numaperf_nodemask_contains(mems, topology->nodes[i].id))
            topology->nodes[i].memory_bytes = tree_node_memory(root, topology->nodes[i].id);
        tree_node_distances(root, topology, i);
    }
    return 0;
}

/* A kernel without NUMA: everything is on node 0. */
static void tree_fill_one_node(numaperf_topology_t *topology)
{
    for (int cpu = 0; cpu < topology->pu_limit; cpu++)
        topology->pus[cpu].node = 0;
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_bytes = sysconf(_SC_PAGESIZE);
    if (pages > 0 && page_bytes > 0)
        topology->nodes[0].memory_bytes = (uint64_t)pages * (uint64_t)page_bytes;
}

/* ---- PUs ---- */

static int tree_pu_core(const char *root, int cpu)
{
    /* The second name is that of kernels before 5.2. */
    static const char *const names[] = {"core_cpus_list", "thread_siblings_list"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *text = NULL;
        numaperf_cpuset_t cpus;
        if (tree_read(&text, root, "cpu/cpu%d/topology/%s", cpu, names[i]) < 0)
            continue;
        int rc = numaperf_cpuset_parse(text, &cpus);
        free(text);
        if (rc == 0 && numaperf_cpuset_contains(&cpus, cpu))
            return numaperf_cpuset_next(&cpus, -1);
    }
    return cpu;
}

/* "48K", "32768K" */
static uint64_t tree_cache_size(const char *root, int cpu, int index)
{
    char *text = NULL;
    if (tree_read(&text, root, "cpu/cpu%d/cache/index%d/size", cpu, index) < 0)
        return 0;
    const char *at = text;
    uint64_t size = 0;
    if (numaperf__textfile_number(&at, &size) < 0 || size > UINT64_MAX >> 30)
        size = 0;
    unsigned shift = *at == 'K' ? 10 : *at == 'M' ? 20 : *at == 'G' ? 30 : 0;
    free(text);
    return size << shift;
}

static void tree_pu_caches(const char *root, int cpu, struct numaperf__topology_pu *pu)
{
    for (int index = 0; index < CACHE_INDEX_MAX; index++) {
        char *type = NULL;
        if (tree_read(&type, root, "cpu/cpu%d/cache/index%d/type", cpu, index) < 0)
            return;
        bool holds_data = strncmp(type, "Instruction", strlen("Instruction")) != 0;
        free(type);
        char name[64];
        (void)snprintf(name, sizeof(name), "cache/index%d/level", index); /* always fits */
        int level = tree_pu_number(root, cpu, name, 0);
        if (holds_data && level >= 1 && level <= NUMAPERF_CACHE_LEVELS)
            pu->cache_bytes[level - 1] = tree_cache_size(root, cpu, index);
    }
}

/* ---- the whole ---- */

/* The online PUs; without /sys, what the process may use is all there is to know. */
static int tree_online(const char *root, const numaperf_cpuset_t *usable, numaperf_cpuset_t *out)
{
    char *text = NULL;
    int rc = tree_read(&text, root, "cpu/online");
    rc = tree_cpus(rc, text, "cpu/online", out);
    if (rc == 0 || tree_is_fatal(rc))
        return rc;
    if (numaperf_cpuset_count(usable) == NUMAPERF_CPU_MAX)
        return numaperf__fail(NUMAPERF_E_TOPOLOGY, -rc, "discover",
                              "neither %s/cpu/online nor the affinity at load can be read", root);
    *out = *usable;
    return 0;
}

/* The online nodes. Returns 1, or 0 and node 0 alone when the kernel knows no nodes. */
static int tree_online_nodes(const char *root, numaperf_nodemask_t *out)
{
    char *text = NULL;
    int rc = tree_read(&text, root, "node/online");
    rc = tree_nodes(rc, text, "node/online", out);
    if (tree_is_fatal(rc))
        return rc;
    if (rc < 0)
        *out = numaperf_nodemask_single(0);
    return rc == 0;
}

static void tree_fill_pus(const char *root, const numaperf_cpuset_t *online,
                          const numaperf_cpuset_t *usable, numaperf_topology_t *topology)
{
    for (int cpu = numaperf_cpuset_next(online, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(online, cpu)) {
        struct numaperf__topology_pu *pu = &topology->pus[cpu];
        pu->core = tree_pu_core(root, cpu);
        pu->package = tree_pu_number(root, cpu, "topology/physical_package_id", -1);
        if (numaperf_cpuset_contains(usable, cpu))
            tree_pu_caches(root, cpu, pu);
    }
}

int numaperf__topology_from_sysfs(const char *root, const numaperf_cpuset_t *usable,
                                  const numaperf_nodemask_t *mems, numaperf_topology_t **out)
{
    numaperf_cpuset_t online;
    int rc = tree_online(root, usable, &online);
    if (rc < 0)
        return rc;
    numaperf_nodemask_t nodes;
    int has_nodes = tree_online_nodes(root, &nodes);
    if (has_nodes < 0)
        return has_nodes;

    numaperf_topology_t *topology = NULL;
    rc = numaperf__topology_alloc(root, &nodes, &online, &topology);
    if (rc < 0)
        return rc;
    if (has_nodes)
        rc = tree_fill_nodes(root, mems, topology);
    else
        tree_fill_one_node(topology);
    if (rc < 0)
        goto destroy;

    numaperf_cpuset_t both;
    numaperf_cpuset_intersect(usable, &online, &both);
    tree_fill_pus(root, &online, usable, topology);
    rc = numaperf__topology_seal(root, topology, &both);
    if (rc < 0)
        goto destroy;
    *out = topology;
    return 0;

destroy:
    numaperf_topology_destroy(topology);
    return rc;
}

/* ---- this machine ---- */

/* The nodes whose memory the cpuset allows; all when the kernel does not say. */
static void limits_mems(numaperf_nodemask_t *out)
{
    memset(out, 0xff, sizeof(*out));
    char *text = NULL;
    if (numaperf__textfile_read("/proc/thread-self/status", NUMAPERF_KERNEL_TEXT_MAX, &text, NULL) <
        0)
        return;
    const char *list = numaperf__textfile_field(text, "Mems_allowed_list");
    if (list != NULL)
        (void)numaperf_nodemask_parse(list, out); /* untouched when it cannot be read */
    free(text);
}

/* Read the PUs of the cpuset at `path`, as /proc names it, from where it may be mounted. */
static bool limits_read_cpuset(const char *path, numaperf_cpuset_t *out)
{
    static const struct {
        const char *mount, *file;
    } places[] = {
        {"/sys/fs/cgroup", "cpuset.cpus.effective"},        /* version 2 */
        {"/sys/fs/cgroup/cpuset", "cpuset.effective_cpus"}, /* version 1 */
        {"/dev/cpuset", "effective_cpus"},                  /* before cgroups */
    };
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char name[PATH_MAX];
        int length = snprintf(name, sizeof(name), "%s%s/%s", places[i].mount, path, places[i].file);
        char *text = NULL;
        if (length < 0 || (size_t)length >= sizeof(name))
            continue;
        if (numaperf__textfile_read(name, NUMAPERF_KERNEL_TEXT_MAX, &text, NULL) < 0)
            continue;
        int rc = numaperf_cpuset_parse(text, out);
        free(text);
        if (rc == 0 && numaperf_cpuset_count(out) > 0)
            return true;
    }
    return false;
}

/*
 * The PUs of our cpuset as it is now; all when the kernel does not say. Not from the affinity: that
 * of a caller who was pinned meanwhile is narrower.
 */
static void limits_cpuset(numaperf_cpuset_t *out)
{
    memset(out, 0xff, sizeof(*out));
    char *path = NULL;
    if (numaperf__textfile_read("/proc/thread-self/cpuset", PATH_MAX, &path, NULL) < 0)
        return;
    path[strcspn(path, "\n")] = '\0';
    if (strcmp(path, "/") == 0)
        path[0] = '\0';
    /* A path that climbs is outside our view of the tree, and cannot be read. */
    numaperf_cpuset_t cpus;
    if (strstr(path, "/..") == NULL && limits_read_cpuset(path, &cpus))
        *out = cpus;
    free(path);
}

/*
 * What this process may use. The affinity it was started with counts as long as the cpuset still
 * holds any of it; when the cpuset moved away from all of it, the kernel gave every thread the
 * whole new set, and so do we.
 */
static void limits_cpus(numaperf_cpuset_t *out)
{
    limits_cpuset(out);
    numaperf_cpuset_t both;
    numaperf_cpuset_intersect(out, numaperf__allowed_at_load(), &both);
    if (numaperf__allowed_restricts() && numaperf_cpuset_count(&both) > 0)
        *out = both;
}

int numaperf_topology_discover(numaperf_topology_t **out)
{
    if (out == NULL)
        return numaperf__fail(-EINVAL, 0, "discover", "out must not be NULL");

    numaperf_cpuset_t usable;
    numaperf_nodemask_t mems;
    limits_cpus(&usable);
    limits_mems(&mems);
    numaperf_topology_t *topology = NULL;
    int rc = numaperf__topology_from_sysfs("/sys/devices/system", &usable, &mems, &topology);
    if (rc < 0)
        return rc;
    topology->is_this_machine = true;
    *out = topology;
    return 0;
}
