/* SPDX-License-Identifier: MIT */
/*
 * A cgroup with a cpuset of its own, for one process that will be squeezed. Both versions of
 * cgroups are known; making one needs root. Source: cpuset(7),
 * Documentation/admin-guide/cgroup-v2.rst.
 */
#ifndef TESTS_SUPPORT_CGROUP_H
#define TESTS_SUPPORT_CGROUP_H

#include <stdbool.h>
#include <stddef.h>

struct cgroup {
    char parent[64]; /* where this process's group lies */
    char path[160];
    char cpus_path[192]; /* what is written to shrink and grow it */
    char mems_path[192];
    char procs_path[192];
    char all_cpus[128]; /* what it was made with: everything of its parent */
    char all_mems[128];
};

/* Why none can be made here; NULL when one can. */
const char *cgroup_unavailable(void);

/*
 * Make the group `name` with every PU and node there is, beside an older one's remains. False, and
 * nothing is left, when the kernel refuses.
 */
bool cgroup_create(struct cgroup *out, const char *name);

/* Put the calling process there, with all its threads; and back to where groups are made. */
bool cgroup_enter(const struct cgroup *group);
bool cgroup_leave(const struct cgroup *group);

/* Remove it. It must be empty; threads that are ending are waited for. */
bool cgroup_remove(const struct cgroup *group);

#endif
