/* SPDX-License-Identifier: MIT */
/*
 * What this process is confined to: read from the cpuset's cgroup and from sysfs, anew each time.
 * Where the group is, is looked for only when the process was moved to another one.
 *
 * A group without a cpuset of its own is confined by the nearest one above that has one. The nodes
 * need no file: the kernel tells the calling thread its own, which shares the process's cpuset.
 *
 * Thread rule: an object belongs to one thread.
 * Source: Documentation/admin-guide/cgroup-v2.rst "Cpuset Interface Files", cpuset(7),
 * get_mempolicy(2) "MPOL_F_MEMS_ALLOWED".
 */
#include "place/confine.h"

#include "place/kernel_text.h"
#include "place/range_policy.h"

#include <stdio.h>
#include <string.h>

#define CONFINE_LIST_MAX 8192 /* of a list of PUs; a longer one is taken for unreadable */

static bool confine_list(const char *path, numaperf_cpuset_t *out)
{
    char text[CONFINE_LIST_MAX];
    int length = numaperf__kernel_text_read(path, text, sizeof(text));
    return length >= 0 && length < (int)sizeof(text) - 2 && numaperf_cpuset_parse(text, out) == 0;
}

/* PUs of a group; false when it has no cpuset of its own. */
static bool confine_cpus(const struct numaperf__cgroup *group, bool is_version_1,
                         numaperf_cpuset_t *out)
{
    static const char *const names[2][2] = {{"cpuset.cpus.effective", NULL},
                                            {"cpuset.effective_cpus", "cpuset.cpus"}};
    for (size_t i = 0; i < 2 && names[is_version_1][i] != NULL; i++) {
        char path[NUMAPERF__CGROUP_PATH_MAX];
        if (numaperf__cgroup_file(group, names[is_version_1][i], path, sizeof(path)) == 0 &&
            confine_list(path, out))
            return true;
    }
    return false;
}

/* The nearest group upwards that has a cpuset, in either version. */
static bool confine_find(struct numaperf__confine *confine, bool is_version_1)
{
    struct numaperf__cgroup group;
    numaperf_cpuset_t cpus;
    if (numaperf__cgroup_find(is_version_1 ? "cpuset" : NULL, &group) < 0)
        return false;
    for (int depth = 0; depth < NUMAPERF__CGROUP_DEPTH_MAX; depth++) {
        if (confine_cpus(&group, is_version_1, &cpus)) {
            confine->group = group;
            confine->is_version_1 = is_version_1;
            return true;
        }
        if (!numaperf__cgroup_ascend(&group))
            break;
    }
    return false;
}

/* Whether the process is in other groups than at the last look. */
static bool confine_was_moved(struct numaperf__confine *confine)
{
    char member[NUMAPERF__CONFINE_MEMBER_MAX];
    if (numaperf__kernel_text_read("/proc/self/cgroup", member, sizeof(member)) < 0)
        member[0] = '\0';
    if (strcmp(member, confine->member) == 0)
        return false;
    memcpy(confine->member, member, sizeof(member));
    return true;
}

bool numaperf__confine_read(struct numaperf__confine *confine)
{
    bool is_new = false;
    numaperf_cpuset_zero(&confine->online);
    numaperf_cpuset_zero(&confine->cpus);
    numaperf_nodemask_zero(&confine->nodes);
    (void)confine_list("/sys/devices/system/cpu/online", &confine->online);
    (void)numaperf__nodes_allowed(&confine->nodes);

    if (confine_was_moved(confine)) {
        struct numaperf__cgroup old = confine->group;
        bool had = confine->has_group;
        confine->has_group = confine_find(confine, false) || confine_find(confine, true);
        is_new = had != confine->has_group || (had && strcmp(old.path, confine->group.path) != 0);
    }
    if (confine->has_group)
        (void)confine_cpus(&confine->group, confine->is_version_1, &confine->cpus);
    return is_new;
}
