/* SPDX-License-Identifier: MIT */
/* Source: proc(5), numa(7), move_pages(2), kernel ABI "sysfs-devices-node". */
#include "support/witness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
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

/* ---- rings ---- */

enum { MASKS_MAX = 8 };

/* What is told of the rings that are open: the sizes they have, and where these stand in memory. */
struct ring_signs {
    struct io_uring_params params;
    size_t count; /* of different sizes */
    uint32_t sq_mask[MASKS_MAX];
    uint32_t cq_mask[MASKS_MAX];
};

struct rings {
    size_t count;
    size_t counts[VIEW_NODES + 1];
    bool is_unknown;
};

static void rings_add(struct rings *rings, uintptr_t from, uintptr_t to)
{
    size_t counts[VIEW_NODES + 1];
    if (!view_pages((const void *)from, to - from, counts)) {
        rings->is_unknown = true;
        return;
    }
    for (size_t node = 0; node <= VIEW_NODES; node++)
        rings->counts[node] += counts[node];
    rings->count++;
}

static void signs_add(struct ring_signs *signs, const char *fdinfo)
{
    const char *sq = strstr(fdinfo, "SqMask:");
    const char *cq = strstr(fdinfo, "CqMask:");
    if (sq == NULL || cq == NULL || signs->count == MASKS_MAX)
        return;
    uint32_t sq_mask = (uint32_t)strtoul(sq + strlen("SqMask:"), NULL, 0);
    uint32_t cq_mask = (uint32_t)strtoul(cq + strlen("CqMask:"), NULL, 0);
    for (size_t i = 0; i < signs->count; i++) {
        if (signs->sq_mask[i] == sq_mask && signs->cq_mask[i] == cq_mask)
            return;
    }
    signs->sq_mask[signs->count] = sq_mask;
    signs->cq_mask[signs->count] = cq_mask;
    signs->count++;
}

static void signs_read(struct ring_signs *out)
{
    memset(out, 0, sizeof(*out));
    DIR *dir = opendir("/proc/self/fd");
    if (dir == NULL)
        return;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        char path[300];
        char text[4096];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
        ssize_t length = readlink(path, text, sizeof(text) - 1);
        text[length > 0 ? length : 0] = '\0';
        (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", entry->d_name);
        if (strstr(text, "[io_uring]") != NULL && view_text(path, text, sizeof(text)))
            signs_add(out, text);
    }
    (void)closedir(dir);
    long fd = syscall(SYS_io_uring_setup, 4, &out->params);
    if (fd < 0)
        out->count = 0;
    else
        (void)close((int)fd);
}

static uint32_t word_at(int memory, uintptr_t address)
{
    uint32_t word = 0;
    return pread(memory, &word, sizeof(word), (off_t)address) == sizeof(word) ? word : 0;
}

/* Whether a ring's heads lie there: four numbers that must all be right. -1, or of which size. */
static int ring_at(const struct ring_signs *signs, int memory, uintptr_t page)
{
    const struct io_uring_params *at = &signs->params;
    for (size_t i = 0; i < signs->count; i++) {
        if (word_at(memory, page + at->sq_off.ring_mask) == signs->sq_mask[i] &&
            word_at(memory, page + at->cq_off.ring_mask) == signs->cq_mask[i] &&
            word_at(memory, page + at->sq_off.ring_entries) == signs->sq_mask[i] + 1 &&
            word_at(memory, page + at->cq_off.ring_entries) == signs->cq_mask[i] + 1)
            return (int)i;
    }
    return -1;
}

/* A program's own memory that a ring lies in is bound, and has nothing in the maps to tell. The
 * SQEs lie before the rings. */
static void rings_find_own(const struct ring_signs *signs, uintptr_t from, uintptr_t to,
                           struct rings *rings)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (to - from) / page;
    unsigned char *present = malloc(pages);
    int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    if (present == NULL || memory < 0 || mincore((void *)from, to - from, present) < 0)
        pages = 0;
    for (size_t i = 0; i < pages; i++) {
        uintptr_t at = from + i * page;
        int size = (present[i] & 1) != 0 ? ring_at(signs, memory, at) : -1;
        if (size < 0)
            continue;
        size_t sqes = (signs->sq_mask[size] + 1) * sizeof(struct io_uring_sqe);
        size_t cqes = (signs->cq_mask[size] + 1) * sizeof(struct io_uring_cqe);
        sqes = (sqes + page - 1) / page * page;
        cqes = (signs->params.cq_off.cqes + cqes + page - 1) / page * page;
        rings_add(rings, at - sqes, at + cqes);
    }
    if (memory >= 0)
        (void)close(memory);
    free(present);
}

static void rings_look(const struct ring_signs *signs, const char *line, struct rings *rings)
{
    unsigned long long from = 0;
    unsigned long long to = 0;
    unsigned long inode = 1;
    char access[5] = "";
    struct witness_mapping mapping;
    int fields = sscanf(line, "%llx-%llx %4s %*s %*s %lu", &from, &to, access, &inode);
    if (fields == 4 && strstr(line, "[io_uring]") != NULL) {
        rings_add(rings, (uintptr_t)from, (uintptr_t)to);
        return;
    }
    if (fields != 4 || inode != 0 || strcmp(access, "rw-p") != 0 || signs->count == 0)
        return;
    mapping.from = (uintptr_t)from;
    mapping_policy(&mapping);
    if (strncmp(mapping.policy, "bind", 4) == 0)
        rings_find_own(signs, (uintptr_t)from, (uintptr_t)to, rings);
}

size_t witness_rings(size_t out_counts[VIEW_NODES + 1])
{
    struct ring_signs signs;
    struct rings rings;
    memset(&rings, 0, sizeof(rings));
    memset(out_counts, 0, (VIEW_NODES + 1) * sizeof(*out_counts));
    signs_read(&signs);
    /* Read at once: the list changes while it is looked at. */
    size_t size = 1u << 20;
    char *maps = malloc(size);
    if (maps != NULL && view_text("/proc/self/maps", maps, size)) {
        for (char *line = strtok(maps, "\n"); line != NULL; line = strtok(NULL, "\n"))
            rings_look(&signs, line, &rings);
    }
    free(maps);
    memcpy(out_counts, rings.counts, sizeof(rings.counts));
    return rings.is_unknown ? 0 : rings.count;
}
