/* SPDX-License-Identifier: MIT */
/* Kernel threads that submit for a ring (SQPOLL): whether there is room for them, and where. */
#ifndef NUMAPERF_IO_SQPOLL_H
#define NUMAPERF_IO_SQPOLL_H

#include <numaperf/cpuset.h>

#include <stddef.h>
#include <stdint.h>

/*
 * Whether `loop_count` loops and a poller for each may use as many PUs at once, by the CPU quota:
 * 0, or `code` with the cause recorded.
 */
int numaperf__sqpoll_check_quota(uint32_t loop_count, int code);

/* A PU for the poller of a loop made here: of this thread's node, and another one than its own. 0,
 * or -EINVAL with the cause recorded. */
int numaperf__sqpoll_choose(int32_t *out_cpu);

/* Whether a poller of this process is confined to that PU, as read back; it is waited for a moment
 * until it has begun. 0 or -errno. */
int numaperf__sqpoll_prove(int32_t cpu);

#endif
