/* SPDX-License-Identifier: MIT */
/* Source: proc(5), numa(7), move_pages(2), kernel ABI "sysfs-devices-node". */
#include "support/witness.h"

#include <dirent.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <sys/mman.h>

#define SYS_NODES "/sys/devices/system/node"

numaperf_nodemask_t witness_nodes;
numaperf_nodemask_t witness_memory;
numaperf_nodemask_t witness_placeable;
numaperf_cpuset_t witness_allowed;

static numaperf_cpuset_t cpus_of[VIEW_NODES];
static int distances[VIEW_NODES][VIEW_NODES];

/* ---- this machine ---- */

/* A list of PUs in a file, or behind `key` in it. */
static void read_cpus(const char *path, const char *key, numaperf_cpuset_t *out)
{
    char text[16384];
    numaperf_cpuset_zero(out);
    const char *list = view_list_text(path, key, text, sizeof(text));
    if (list != NULL)
        (void)numaperf_cpuset_parse(list, out);
}

/* A mask may hold PUs that are offline, or are not there at all: nothing runs on those. */
static void keep_online(numaperf_cpuset_t *mask)
{
    numaperf_cpuset_t online;
    read_cpus("/sys/devices/system/cpu/online", NULL, &online);
    if (numaperf_cpuset_count(&online) > 0)
        numaperf_cpuset_intersect(mask, &online, mask);
}

static void read_distances(int from)
{
    char path[96];
    char text[1024];
    (void)snprintf(path, sizeof(path), SYS_NODES "/node%d/distance", from);
    if (!view_text(path, text, sizeof(text)))
        return;
    char *at = text;
    for (int to = numaperf_nodemask_next(&witness_nodes, -1); to >= 0;
         to = numaperf_nodemask_next(&witness_nodes, to)) {
        char *end = at;
        long distance = strtol(at, &end, 10);
        distances[from][to] = end != at ? (int)distance : -1;
        at = end;
    }
}

static void look_at_node(int node)
{
    char path[96];
    (void)snprintf(path, sizeof(path), SYS_NODES "/node%d/cpulist", node);
    read_cpus(path, NULL, &cpus_of[node]);
    numaperf_cpuset_intersect(&cpus_of[node], &witness_allowed, &cpus_of[node]);
    read_distances(node);
    if (numaperf_cpuset_count(&cpus_of[node]) > 0 &&
        numaperf_nodemask_contains(&witness_memory, node))
        (void)numaperf_nodemask_add(&witness_placeable, node);
}

void witness_look(void)
{
    read_cpus("/proc/self/status", "\nCpus_allowed_list:", &witness_allowed);
    keep_online(&witness_allowed);
    view_list(SYS_NODES "/online", NULL, &witness_nodes);
    memset(distances, 0xff, sizeof(distances)); /* -1 */
    numaperf_nodemask_zero(&witness_placeable);
    if (numaperf_nodemask_count(&witness_nodes) == 0) { /* a kernel without NUMA */
        witness_nodes = numaperf_nodemask_single(0);
        witness_memory = witness_nodes;
        witness_placeable = witness_nodes;
        cpus_of[0] = witness_allowed;
        return;
    }
    numaperf_nodemask_t all;
    view_nodes(&all, &witness_memory);
    for (int node = numaperf_nodemask_next(&witness_nodes, -1); node >= 0 && node < VIEW_NODES;
         node = numaperf_nodemask_next(&witness_nodes, node))
        look_at_node(node);
}

void witness_node_cpus(int node, numaperf_cpuset_t *out)
{
    numaperf_cpuset_zero(out);
    if (node >= 0 && node < VIEW_NODES)
        *out = cpus_of[node];
}

int witness_node_of_cpu(int cpu)
{
    for (int node = 0; node < VIEW_NODES; node++) {
        if (numaperf_cpuset_contains(&cpus_of[node], cpu))
            return node;
    }
    return -1;
}

int witness_distance(int from, int to)
{
    return distances[from][to];
}

static int read_number(const char *path)
{
    char text[64];
    return view_text(path, text, sizeof(text)) ? (int)strtol(text, NULL, 10) : 0;
}

int witness_balancing(void)
{
    return read_number("/proc/sys/kernel/numa_balancing");
}

int witness_ring_errno(void)
{
    struct io_uring_params params;
    memset(&params, 0, sizeof(params));
    long fd = syscall(SYS_io_uring_setup, 4, &params);
    int error = fd < 0 ? errno : 0;
    if (fd >= 0)
        (void)close((int)fd);
    return error;
}

uint64_t witness_capabilities(void)
{
    char text[16384];
    if (!view_text("/proc/self/status", text, sizeof(text)))
        return 0;
    const char *at = strstr(text, "\nCapEff:");
    return at != NULL ? strtoull(at + strlen("\nCapEff:"), NULL, 16) : 0;
}

static bool can_bind(int node)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned long mask[2] = {1ul << node, 0};
    char *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    bool can = syscall(SYS_mbind, memory, page, MPOL_BIND, mask, 65ul, 0) == 0;
    if (can)
        memory[0] = 1;
    can = can && witness_all_on(memory, page, node);
    (void)munmap(memory, page);
    return can;
}

static bool can_pin(int node)
{
    cpu_set_t before;
    cpu_set_t one;
    int last = -1;
    for (int cpu = numaperf_cpuset_next(&cpus_of[node], -1); cpu >= 0 && cpu < CPU_SETSIZE;
         cpu = numaperf_cpuset_next(&cpus_of[node], cpu))
        last = cpu;
    if (last < 0 || sched_getaffinity(0, sizeof(before), &before) != 0)
        return false;
    CPU_ZERO(&one);
    CPU_SET((size_t)last, &one);
    bool can = sched_setaffinity(0, sizeof(one), &one) == 0 && sched_getcpu() == last;
    return sched_setaffinity(0, sizeof(before), &before) == 0 && can;
}

bool witness_can_place(void)
{
    int node = -1;
    for (int next = numaperf_nodemask_next(&witness_placeable, -1); next >= 0;
         next = numaperf_nodemask_next(&witness_placeable, next))
        node = next;
    if (node < 0) {
        printf("no node has both PUs and memory that this process may use\n");
        return false;
    }
    if (!can_bind(node)) {
        printf("a page cannot be bound to node %d and found there\n", node);
        return false;
    }
    if (!can_pin(node)) {
        printf("a thread cannot be pinned to a PU of node %d\n", node);
        return false;
    }
    return true;
}

/* ---- threads ---- */

size_t witness_tasks(int out_ids[WITNESS_TASKS_MAX])
{
    DIR *dir = opendir("/proc/self/task");
    size_t count = 0;
    if (dir == NULL)
        return 0;
    struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL && count < WITNESS_TASKS_MAX) {
        if (entry->d_name[0] != '.')
            out_ids[count++] = (int)strtol(entry->d_name, NULL, 10);
    }
    (void)closedir(dir);
    return count;
}

static bool task_file(int process, int task, const char *name, char *out, size_t size)
{
    char path[96];
    if (process == 0)
        (void)snprintf(path, sizeof(path), "/proc/self/task/%d/%s", task, name);
    else
        (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", process, task, name);
    return view_text(path, out, size);
}

bool witness_task_name(int process, int task, char out[64])
{
    if (!task_file(process, task, "comm", out, 64))
        return false;
    out[strcspn(out, "\n")] = '\0';
    return true;
}

bool witness_task_cpus(int process, int task, numaperf_cpuset_t *out)
{
    static const char key[] = "\nCpus_allowed_list:";
    char text[16384];
    if (!task_file(process, task, "status", text, sizeof(text)))
        return false;
    char *at = strstr(text, key);
    if (at == NULL)
        return false;
    at += strlen(key);
    at += strspn(at, " \t");
    at[strcspn(at, "\n")] = '\0';
    if (numaperf_cpuset_parse(at, out) < 0)
        return false;
    keep_online(out);
    return true;
}

/* The policy of a mapping that has none of its own, as the program's, is the thread's. */
bool witness_task_policy(int process, int task, char out[64])
{
    char text[512];
    out[0] = '\0';
    if (!task_file(process, task, "status", text, sizeof(text)))
        return false;
    if (!task_file(process, task, "numa_maps", text, sizeof(text)))
        return true; /* this kernel has none */
    const char *word = strchr(text, ' ');
    if (word == NULL)
        return false;
    (void)snprintf(out, 64, "%.*s", (int)strcspn(word + 1, " \n"), word + 1);
    return true;
}

size_t witness_iowq(int task, const numaperf_cpuset_t *cpus, size_t *out_outside)
{
    int ids[WITNESS_TASKS_MAX];
    size_t count = witness_tasks(ids);
    size_t found = 0;
    char wanted[64];
    (void)snprintf(wanted, sizeof(wanted), "iou-wrk-%d", task);
    *out_outside = 0;
    for (size_t i = 0; i < count; i++) {
        char name[64];
        numaperf_cpuset_t mask;
        if (!witness_task_name(0, ids[i], name) || strcmp(name, wanted) != 0 ||
            !witness_task_cpus(0, ids[i], &mask))
            continue; /* another, or it ended meanwhile */
        numaperf_cpuset_t inside;
        numaperf_cpuset_intersect(&mask, cpus, &inside);
        found++;
        *out_outside += numaperf_cpuset_equal(&mask, &inside) ? 0 : 1;
    }
    return found;
}

/* ---- mappings ---- */

static void mapping_policy(struct witness_mapping *mapping)
{
    char line[512];
    mapping->policy[0] = '\0';
    if (!view_policy((const void *)mapping->from, line, sizeof(line)))
        return;
    const char *word = strchr(line, ' ');
    if (word != NULL)
        (void)snprintf(mapping->policy, sizeof(mapping->policy), "%.*s",
                       (int)strcspn(word + 1, " \n"), word + 1);
}

bool witness_mapping(const void *address, struct witness_mapping *out)
{
    FILE *file = fopen("/proc/self/maps", "re");
    char line[512];
    bool is_found = false;
    uintptr_t guard_end = 0;
    memset(out, 0, sizeof(*out));
    if (file == NULL)
        return false;
    while (!is_found && fgets(line, sizeof(line), file) != NULL) {
        unsigned long long from = 0;
        unsigned long long to = 0;
        char access[5] = "";
        if (sscanf(line, "%llx-%llx %4s", &from, &to, access) != 3)
            continue;
        is_found = (uintptr_t)address >= from && (uintptr_t)address < to;
        out->from = (uintptr_t)from;
        out->to = (uintptr_t)to;
        out->has_guard = guard_end == from;
        (void)snprintf(out->access, sizeof(out->access), "%s", access);
        if (strncmp(access, "---", 3) == 0)
            guard_end = (uintptr_t)to;
    }
    (void)fclose(file);
    if (is_found)
        mapping_policy(out);
    return is_found;
}

static bool pages_ok(const void *base, size_t length, int node, size_t wanted, bool absent_too)
{
    size_t counts[VIEW_NODES + 1];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const char *first = (const char *)base - (uintptr_t)base % page;
    size_t whole = (size_t)((const char *)base - first) + length;
    size_t pages = (whole + page - 1) / page;
    if (!view_pages(first, whole, counts)) {
        printf("the pages cannot be queried: %s\n", strerror(errno));
        return false;
    }
    size_t elsewhere = pages - counts[node] - (absent_too ? 0 : counts[VIEW_NODES]);
    if (elsewhere == 0 && counts[node] >= wanted)
        return true;
    printf("%zu pages at %p: %zu on node %d, %zu nowhere; by node:", pages, base, counts[node],
           node, counts[VIEW_NODES]);
    for (int i = 0; i < VIEW_NODES; i++) {
        if (counts[i] > 0)
            printf(" %d: %zu", i, counts[i]);
    }
    printf("\n");
    return false;
}

bool witness_all_on(const void *base, size_t length, int node)
{
    return pages_ok(base, length, node, 1, true);
}

bool witness_none_elsewhere(const void *base, size_t length, int node, size_t wanted)
{
    return pages_ok(base, length, node, wanted, false);
}

size_t witness_rings(size_t out_counts[VIEW_NODES + 1])
{
    enum { RINGS_MAX = 128 };
    struct {
        uintptr_t from;
        uintptr_t to;
    } rings[RINGS_MAX];
    size_t count = 0;
    char line[512];
    memset(out_counts, 0, (VIEW_NODES + 1) * sizeof(*out_counts));
    FILE *file = fopen("/proc/self/maps", "re");
    if (file == NULL)
        return 0;
    while (count < RINGS_MAX && fgets(line, sizeof(line), file) != NULL) {
        unsigned long long from = 0;
        unsigned long long to = 0;
        if (strstr(line, "[io_uring]") == NULL || sscanf(line, "%llx-%llx", &from, &to) != 2)
            continue;
        rings[count].from = (uintptr_t)from;
        rings[count++].to = (uintptr_t)to;
    }
    (void)fclose(file);
    for (size_t i = 0; i < count; i++) {
        size_t counts[VIEW_NODES + 1];
        if (!view_pages((const void *)rings[i].from, rings[i].to - rings[i].from, counts))
            return 0;
        for (size_t node = 0; node <= VIEW_NODES; node++)
            out_counts[node] += counts[node];
    }
    return count;
}
