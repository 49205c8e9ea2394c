/* SPDX-License-Identifier: MIT */
/*
 * CPU quotas of cgroups: cpu.max in version 2, cpu.cfs_quota_us and cpu.cfs_period_us in version 1.
 * A group is limited by those above it as well, so all of them are read; a root has no such file.
 *
 * Thread rule: nothing is kept; any thread.
 *
 * Source: Documentation/admin-guide/cgroup-v2.rst "CPU Interface Files",
 * Documentation/scheduler/sched-bwc.rst.
 */
#include "place/quota.h"

#include "place/cgroup.h"
#include "place/kernel_text.h"

#include <stdio.h>
#include <stdlib.h>

#define QUOTA_TEXT_MAX 64

static uint64_t quota_of(long long quota_us, long long period_us)
{
    if (quota_us <= 0 || period_us <= 0)
        return NUMAPERF__QUOTA_NONE;
    return (uint64_t)quota_us * 1000u / (uint64_t)period_us;
}

uint64_t numaperf__quota_parse(const char *text)
{
    char *end = NULL;
    long long quota_us = strtoll(text, &end, 10);
    if (end == text) /* "max" */
        return NUMAPERF__QUOTA_NONE;
    return quota_of(quota_us, strtoll(end, NULL, 10));
}

static uint64_t quota_read_2(const struct numaperf__cgroup *group, char *path, size_t size)
{
    char text[QUOTA_TEXT_MAX];
    if (numaperf__cgroup_file(group, "cpu.max", path, size) < 0 ||
        numaperf__kernel_text_read(path, text, sizeof(text)) < 0)
        return NUMAPERF__QUOTA_NONE;
    return numaperf__quota_parse(text);
}

static uint64_t quota_read_1(const struct numaperf__cgroup *group, char *path, size_t size)
{
    char quota[QUOTA_TEXT_MAX];
    char period[QUOTA_TEXT_MAX];
    if (numaperf__cgroup_file(group, "cpu.cfs_period_us", path, size) < 0 ||
        numaperf__kernel_text_read(path, period, sizeof(period)) < 0 ||
        numaperf__cgroup_file(group, "cpu.cfs_quota_us", path, size) < 0 ||
        numaperf__kernel_text_read(path, quota, sizeof(quota)) < 0)
        return NUMAPERF__QUOTA_NONE;
    return quota_of(strtoll(quota, NULL, 10), strtoll(period, NULL, 10));
}

struct quota_kind {
    const char *controller;
    uint64_t (*read)(const struct numaperf__cgroup *group, char *path, size_t size);
};

/* What is less than `least` from the process's group up, else that. */
static uint64_t quota_least(const struct quota_kind *kind, uint64_t least, char *out_file,
                            size_t size)
{
    struct numaperf__cgroup group;
    bool is_there = numaperf__cgroup_find(kind->controller, &group) == 0;
    for (int depth = 0; is_there && depth < NUMAPERF__CGROUP_DEPTH_MAX; depth++) {
        char path[NUMAPERF__CGROUP_PATH_MAX + 32];
        uint64_t limit = kind->read(&group, path, sizeof(path));
        if (limit < least) {
            least = limit;
            (void)snprintf(out_file, size, "%s", path); /* a long path loses its end */
        }
        is_there = numaperf__cgroup_ascend(&group);
    }
    return least;
}

uint64_t numaperf__quota_milli_pus(char *out_file, size_t size)
{
    static const struct quota_kind kinds[] = {{NULL, quota_read_2}, {"cpu", quota_read_1}};
    uint64_t least = NUMAPERF__QUOTA_NONE;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        least = quota_least(&kinds[i], least, out_file, size);
    return least;
}
