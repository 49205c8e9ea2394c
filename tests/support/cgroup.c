/* SPDX-License-Identifier: MIT */
#include "support/cgroup.h"

#include "support/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define V1_PARENT "/sys/fs/cgroup/cpuset"
#define V2_PARENT "/sys/fs/cgroup"

static bool file_read(const char *path, char *out, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, out, size - 1) : -1;
    if (fd >= 0)
        (void)close(fd);
    if (n < 0)
        return false;
    out[n] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return true;
}

static bool file_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? write(fd, text, strlen(text)) : -1;
    if (n < 0)
        (void)fprintf(stderr, "%s: \"%s\": %s\n", path, text, strerror(errno));
    if (fd >= 0)
        (void)close(fd);
    return n >= 0;
}

/* Where cpusets are mounted, and under which name they tell what they have. */
struct hierarchy {
    const char *parent;
    const char *cpus;
    const char *mems;
};

static const struct hierarchy *hierarchy_here(void)
{
    static const struct hierarchy v1 = {V1_PARENT, "cpuset.cpus", "cpuset.mems"};
    static const struct hierarchy v2 = {V2_PARENT, "cpuset.cpus.effective",
                                        "cpuset.mems.effective"};
    char text[256];
    if (access(V1_PARENT "/cpuset.cpus", R_OK) == 0)
        return &v1;
    if (file_read(V2_PARENT "/cgroup.subtree_control", text, sizeof(text)) &&
        strstr(text, "cpuset") != NULL)
        return &v2;
    return NULL;
}

const char *cgroup_unavailable(void)
{
    if (geteuid() != 0)
        return "only root makes cgroups";
    const struct hierarchy *hierarchy = hierarchy_here();
    if (hierarchy == NULL)
        return "no cgroups with cpusets are mounted";
    if (access(hierarchy->parent, W_OK) != 0)
        return "the cgroups are mounted for reading alone";
    return NULL;
}

bool cgroup_create(struct cgroup *out, const char *name)
{
    const struct hierarchy *hierarchy = hierarchy_here();
    if (hierarchy == NULL)
        return false;
    char path[128];
    memset(out, 0, sizeof(*out));
    (void)snprintf(out->parent, sizeof(out->parent), "%s", hierarchy->parent);
    (void)snprintf(out->path, sizeof(out->path), "%s/%s", hierarchy->parent, name);
    (void)snprintf(out->cpus_path, sizeof(out->cpus_path), "%s/cpuset.cpus", out->path);
    (void)snprintf(out->mems_path, sizeof(out->mems_path), "%s/cpuset.mems", out->path);
    (void)snprintf(out->procs_path, sizeof(out->procs_path), "%s/cgroup.procs", out->path);
    (void)snprintf(path, sizeof(path), "%s/%s", hierarchy->parent, hierarchy->cpus);
    if (!file_read(path, out->all_cpus, sizeof(out->all_cpus)))
        return false;
    (void)snprintf(path, sizeof(path), "%s/%s", hierarchy->parent, hierarchy->mems);
    if (!file_read(path, out->all_mems, sizeof(out->all_mems)))
        return false;
    /* A group that was in use before remembers: it has to be a new one. */
    if (mkdir(out->path, 0755) != 0 && (!cgroup_remove(out) || mkdir(out->path, 0755) != 0))
        return false;
    if (file_write(out->cpus_path, out->all_cpus) && file_write(out->mems_path, out->all_mems))
        return true;
    (void)cgroup_remove(out);
    return false;
}

bool cgroup_enter(const struct cgroup *group)
{
    return file_write(group->procs_path, "0");
}

bool cgroup_leave(const struct cgroup *group)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "%s/cgroup.procs", group->parent);
    return file_write(path, "0");
}

bool cgroup_remove(const struct cgroup *group)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(5);
    while (rmdir(group->path) != 0) {
        if (errno == ENOENT)
            return true;
        if (errno != EBUSY || test_now_ns() > limit_ns) {
            (void)fprintf(stderr, "%s: %s\n", group->path, strerror(errno));
            return false;
        }
        test_sleep_ms(2);
    }
    return true;
}
