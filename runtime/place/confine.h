/* SPDX-License-Identifier: MIT */
/* What this process is confined to now: PUs and nodes of its cpuset, and PUs that are online. */
#ifndef NUMAPERF_PLACE_CONFINE_H
#define NUMAPERF_PLACE_CONFINE_H

#include "place/cgroup.h"

#include <numaperf/cpuset.h>

#include <stdbool.h>

#define NUMAPERF__CONFINE_MEMBER_MAX 1024

/* Large: not for small stacks. Start with all zero. */
struct numaperf__confine {
    /* Empty: nothing tells. */
    numaperf_cpuset_t online;
    numaperf_cpuset_t cpus;    /* of the cpuset; only PUs that are online are ever in it */
    numaperf_nodemask_t nodes; /* whose memory the cpuset allows */

    bool has_group;
    bool is_version_1;
    struct numaperf__cgroup group;             /* that `cpus` is read from */
    char member[NUMAPERF__CONFINE_MEMBER_MAX]; /* which groups the process was in */
};

/*
 * Read all of it anew; what cannot be read is empty then. Whether `group` is another one than
 * before. Not for concurrent use of one object.
 */
bool numaperf__confine_read(struct numaperf__confine *confine);

#endif
