/* SPDX-License-Identifier: MIT */
/* Where this process is in a cgroup hierarchy, as a directory of its mount. */
#ifndef NUMAPERF_PLACE_CGROUP_H
#define NUMAPERF_PLACE_CGROUP_H

#include <stdbool.h>
#include <stddef.h>

#define NUMAPERF__CGROUP_PATH_MAX 1024 /* a longer path gives no answer: this is kept on stacks */
#define NUMAPERF__CGROUP_DEPTH_MAX 64  /* levels looked at; deeper trees are not made by anyone */

struct numaperf__cgroup {
    char path[NUMAPERF__CGROUP_PATH_MAX];
    size_t top_length; /* of the mount point, which `path` begins with */
};

/*
 * The group of this process in version 2's hierarchy (`controller` NULL), or in that of a version 1
 * controller. 0 or -errno, and then `out` is untouched.
 */
int numaperf__cgroup_find(const char *controller, struct numaperf__cgroup *out);

/* The group above; false, and nothing is done, at the mount point. */
bool numaperf__cgroup_ascend(struct numaperf__cgroup *io_group);

/* Path of a file of the group. 0 or -ENAMETOOLONG. */
int numaperf__cgroup_file(const struct numaperf__cgroup *group, const char *name, char *out,
                          size_t size);

#endif
