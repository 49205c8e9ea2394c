/* SPDX-License-Identifier: MIT */
/*
 * How much memory may be populated without waking the out-of-memory killer, asked of nodes and of
 * every memory cgroup above this process.
 *
 * The answer is a picture of one moment: a race with other processes on the node, or in the same
 * cgroup, remains. Page cache counts as room, since the kernel reclaims it before it kills; shared
 * memory and anonymous pages do not, although swap might take them. Where a file is missing (no
 * sysfs in a container, a cgroup outside the namespace) there is no answer, and no answer is never
 * taken for "full". Nothing is remembered, so every function is safe on any thread.
 *
 * Source: Documentation/admin-guide/cgroup-v2.rst "Memory Interface Files",
 * Documentation/admin-guide/cgroup-v1/memory.rst, proc(5) "/proc/[pid]/mountinfo".
 */
#include "place/headroom.h"

#include "base/assert.h"
#include "place/kernel_text.h"
#include "topo/allowed.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODE_DIR "/sys/devices/system/node"
#define NODE_TEXT_MAX 4096
#define CGROUP_TEXT_MAX 8192
#define CGROUP_PATH_MAX 1024 /* a longer path gives no answer: this runs on callers' stacks */
#define MOUNT_LINE_MAX 4096
#define CGROUP_DEPTH_MAX 64 /* levels looked at; deeper trees are not made by anyone */

int numaperf__nodes_with_memory(numaperf_nodemask_t *out)
{
    char text[NODE_TEXT_MAX];
    int rc = numaperf__kernel_text_read(NODE_DIR "/has_memory", text, sizeof(text));
    if (rc < 0)
        return rc;
    return numaperf_nodemask_parse(text, out);
}

void numaperf__node_cpus_online(int node, numaperf_cpuset_t *out)
{
    numaperf_cpuset_zero(out);
    char path[64];
    char text[NODE_TEXT_MAX];
    (void)snprintf(path, sizeof(path), NODE_DIR "/node%d/cpulist", node); /* fits: a short int */
    if (numaperf__kernel_text_read(path, text, sizeof(text)) < 0)
        return;
    if (numaperf_cpuset_parse(text, out) < 0)
        numaperf_cpuset_zero(out);
}

void numaperf__node_cpus(int node, numaperf_cpuset_t *out)
{
    numaperf__node_cpus_online(node, out);
    const numaperf_cpuset_t *allowed = numaperf__allowed_at_load();
    if (numaperf_cpuset_count(allowed) > 0)
        numaperf_cpuset_intersect(out, allowed, out);
}

uint64_t numaperf__headroom_node(int node)
{
    char path[64];
    char text[NODE_TEXT_MAX];
    (void)snprintf(path, sizeof(path), NODE_DIR "/node%d/meminfo", node); /* fits: a short int */
    if (numaperf__kernel_text_read(path, text, sizeof(text)) < 0)
        return UINT64_MAX;

    uint64_t kib = 0;
    if (numaperf__kernel_text_value(text, " MemFree:", &kib) < 0)
        return UINT64_MAX;
    static const char *const reclaimable[] = {
        " Active(file):", " Inactive(file):", " SReclaimable:"};
    for (size_t i = 0; i < sizeof(reclaimable) / sizeof(reclaimable[0]); i++) {
        uint64_t more = 0;
        if (numaperf__kernel_text_value(text, reclaimable[i], &more) == 0)
            kib += more;
    }
    return kib * 1024;
}

/* What the machine as a whole says; 0 when nothing tells. */
static uint64_t headroom_machine(void)
{
    char text[NODE_TEXT_MAX];
    uint64_t kib = 0;
    if (numaperf__kernel_text_read("/proc/meminfo", text, sizeof(text)) < 0 ||
        numaperf__kernel_text_value(text, "MemAvailable:", &kib) < 0)
        return 0;
    return kib * 1024;
}

uint64_t numaperf__headroom_nodes(const numaperf_nodemask_t *nodes)
{
    uint64_t sum = 0;
    for (int node = numaperf_nodemask_next(nodes, -1); node >= 0;
         node = numaperf_nodemask_next(nodes, node)) {
        uint64_t room = numaperf__headroom_node(node);
        if (room == UINT64_MAX)
            return UINT64_MAX;
        sum += room;
    }
    /* Guests whose memory grows at run time were seen to tell less by node than as a whole. */
    numaperf_nodemask_t all;
    if (numaperf__nodes_with_memory(&all) < 0 || !numaperf_nodemask_equal(&all, nodes))
        return sum;
    uint64_t whole = headroom_machine();
    return whole > sum ? whole : sum;
}

uint64_t numaperf__headroom_reserve(void)
{
    char text[32];
    if (numaperf__kernel_text_read("/proc/sys/vm/min_free_kbytes", text, sizeof(text)) < 0)
        return 0;
    /* The low watermark, at which allocations start to wait, is a quarter above the minimum. */
    return strtoull(text, NULL, 10) * 1024 * 2;
}

/* The files of one hierarchy. */
struct cgroup_kind {
    const char *fs_type;      /* of its mount */
    const char *mount_option; /* that the mount must have; NULL: any */
    const char *limit;        /* file names */
    const char *usage;
    const char *reclaimable[3]; /* keys in memory.stat, with their newline; NULL ends */
};

static const struct cgroup_kind cgroup_v2 = {
    .fs_type = "cgroup2",
    .limit = "memory.max",
    .usage = "memory.current",
    .reclaimable = {"\ninactive_file ", "\nactive_file ", "\nslab_reclaimable "}};

static const struct cgroup_kind cgroup_v1 = {
    .fs_type = "cgroup",
    .mount_option = "memory",
    .limit = "memory.limit_in_bytes",
    .usage = "memory.usage_in_bytes",
    .reclaimable = {"\ntotal_inactive_file ", "\ntotal_active_file ", NULL}};

static int cgroup_number(const char *directory, const char *name, uint64_t *out)
{
    char path[CGROUP_PATH_MAX];
    char text[64];
    int length = snprintf(path, sizeof(path), "%s/%s", directory, name);
    if (length < 0 || (size_t)length >= sizeof(path))
        return -ENAMETOOLONG;
    int rc = numaperf__kernel_text_read(path, text, sizeof(text));
    if (rc < 0)
        return rc;
    if (text[0] < '0' || text[0] > '9')
        return -ENOENT; /* "max": no limit here */
    *out = strtoull(text, NULL, 10);
    return 0;
}

static uint64_t cgroup_reclaimable(const char *directory, const struct cgroup_kind *kind)
{
    char path[CGROUP_PATH_MAX];
    char text[CGROUP_TEXT_MAX];
    int length = snprintf(path, sizeof(path), "%s/memory.stat", directory);
    if (length < 0 || (size_t)length >= sizeof(path))
        return 0;
    if (numaperf__kernel_text_read(path, text, sizeof(text)) < 0)
        return 0;
    uint64_t sum = 0;
    for (size_t i = 0; i < 3 && kind->reclaimable[i] != NULL; i++) {
        uint64_t bytes = 0;
        if (numaperf__kernel_text_value(text, kind->reclaimable[i], &bytes) == 0)
            sum += bytes;
    }
    return sum;
}

static uint64_t cgroup_room(const char *directory, const struct cgroup_kind *kind)
{
    uint64_t limit = 0;
    uint64_t usage = 0;
    if (cgroup_number(directory, kind->limit, &limit) < 0 ||
        cgroup_number(directory, kind->usage, &usage) < 0)
        return UINT64_MAX;
    uint64_t reclaimable = cgroup_reclaimable(directory, kind);
    uint64_t held = usage > reclaimable ? usage - reclaimable : 0;
    return limit > held ? limit - held : 0;
}

/* The narrowest limit seen so far. */
struct cgroup_least {
    uint64_t room;
    char *file; /* of `size` bytes */
    size_t size;
};

/* From the directory up to its mount point, the first `top_length` bytes of it. */
static void cgroup_room_upwards(char *directory, size_t top_length, const struct cgroup_kind *kind,
                                struct cgroup_least *io_least)
{
    for (int depth = 0; depth < CGROUP_DEPTH_MAX; depth++) {
        uint64_t room = cgroup_room(directory, kind);
        if (room < io_least->room) {
            io_least->room = room;
            (void)snprintf(io_least->file, io_least->size, "%s/%s", directory, kind->limit);
        }
        char *slash = strrchr(directory, '/');
        if (slash == NULL || (size_t)(slash - directory) < top_length)
            break;
        *slash = '\0';
    }
}

/* Whether one of the comma-separated `options` is `option`. */
static bool has_option(const char *options, const char *option)
{
    size_t length = strlen(option);
    for (const char *at = strstr(options, option); at != NULL; at = strstr(at + 1, option)) {
        bool starts = at == options || at[-1] == ',';
        bool ends = at[length] == '\0' || at[length] == ',' || at[length] == '\n';
        if (starts && ends)
            return true;
    }
    return false;
}

/*
 * Mount point and root, within the hierarchy, of the mount that one mountinfo line describes.
 * `line` is cut up. False when it is another file system.
 */
static bool mount_parse(char *line, const struct cgroup_kind *kind, char **out_root,
                        char **out_point)
{
    char *dash = strstr(line, " - ");
    if (dash == NULL)
        return false;
    *dash = '\0';
    char *rest = NULL;
    const char *type = strtok_r(dash + 3, " ", &rest);
    const char *source = strtok_r(NULL, " ", &rest);
    const char *options = strtok_r(NULL, " ", &rest);
    if (type == NULL || source == NULL || options == NULL || strcmp(type, kind->fs_type) != 0)
        return false;
    if (kind->mount_option != NULL && !has_option(options, kind->mount_option))
        return false;

    char *fields[5] = {NULL};
    rest = NULL;
    for (size_t i = 0; i < 5; i++)
        fields[i] = strtok_r(i == 0 ? line : NULL, " ", &rest);
    *out_root = fields[3];
    *out_point = fields[4];
    return fields[4] != NULL;
}

/* The mount of the hierarchy: its point and root. Both outputs hold CGROUP_PATH_MAX bytes. */
static int cgroup_mount(const struct cgroup_kind *kind, char *out_point, char *out_root)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (file == NULL)
        return -errno;
    int rc = -ENOENT;
    char line[MOUNT_LINE_MAX]; /* the pieces of a longer one (an overlay) do not parse */
    while (rc < 0 && fgets(line, sizeof(line), file) != NULL) {
        char *root = NULL;
        char *point = NULL;
        if (!mount_parse(line, kind, &root, &point))
            continue;
        if (strlen(point) >= CGROUP_PATH_MAX || strlen(root) >= CGROUP_PATH_MAX)
            continue;
        memcpy(out_point, point, strlen(point) + 1);
        memcpy(out_root, root, strlen(root) + 1);
        rc = 0;
    }
    (void)fclose(file); /* read only */
    return rc;
}

/* This process's path in the hierarchy: "0::/path" in v2, "5:memory:/path" in v1. */
static int cgroup_path(const struct cgroup_kind *kind, char *out_path)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL)
        return -errno;
    int rc = -ENOENT;
    char line[MOUNT_LINE_MAX];
    while (rc < 0 && fgets(line, sizeof(line), file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL)
            continue;
        *path++ = '\0';
        controllers++;
        bool ours = kind->mount_option == NULL ? *controllers == '\0'
                                               : has_option(controllers, kind->mount_option);
        if (!ours || strlen(path) >= CGROUP_PATH_MAX)
            continue;
        memcpy(out_path, path, strlen(path) + 1);
        rc = 0;
    }
    (void)fclose(file); /* read only */
    return rc;
}

static void cgroup_headroom(const struct cgroup_kind *kind, struct cgroup_least *io_least)
{
    char point[CGROUP_PATH_MAX];
    char root[CGROUP_PATH_MAX];
    char path[CGROUP_PATH_MAX];
    if (cgroup_mount(kind, point, root) < 0 || cgroup_path(kind, path) < 0)
        return;

    /* A bind mount of a part of the tree (containers) shows the path without that part. */
    const char *below = path;
    size_t root_length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    if (strncmp(path, root, root_length) == 0)
        below = path + root_length;
    size_t point_length = strlen(point);
    NUMAPERF_ASSERT(point_length < CGROUP_PATH_MAX);
    if (strcmp(below, "/") == 0)
        below = "";
    if (point_length + strlen(below) >= CGROUP_PATH_MAX)
        return;
    memcpy(point + point_length, below, strlen(below) + 1);
    cgroup_room_upwards(point, point_length, kind, io_least);
}

uint64_t numaperf__headroom_cgroup(char *out_file, size_t size)
{
    NUMAPERF_ASSERT(size > 0);
    struct cgroup_least least = {.room = UINT64_MAX, .file = out_file, .size = size};
    out_file[0] = '\0';
    cgroup_headroom(&cgroup_v2, &least);
    cgroup_headroom(&cgroup_v1, &least);
    return least.room;
}
