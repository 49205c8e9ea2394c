/* SPDX-License-Identifier: MIT */
/* Groups, for the other files; see <numaperf/group.h> for the public side. */
#ifndef NUMAPERF_SCHED_GROUP_H
#define NUMAPERF_SCHED_GROUP_H

#include "sched/sched.h"

#include <numaperf/group.h>

/* 0, or -EINVAL for a group of another runtime. */
int numaperf__group_check(const numaperf_group_t *group, const numaperf_rt_t *rt);
/* Members come, before they are submitted. */
void numaperf__group_enter(numaperf_group_t *group, uint64_t count);
/* The same for one that waits for its time. */
void numaperf__group_enter_delayed(numaperf_group_t *group);
/* Members have run or were cancelled. The group may be gone when this returns. */
void numaperf__group_leave(numaperf_group_t *group, uint64_t count, bool cancelled);
/* Whether members do not begin any more; for a member's own thread. */
bool numaperf__group_is_cancelled(const numaperf_group_t *group);
/* numaperf__submit() for members. */
int numaperf__group_submit(const struct numaperf__submission *to, numaperf_group_t *group,
                           numaperf_task_fn fn, void *const *args, size_t count);
/* numaperf_group_on_done() with the target decided. */
int numaperf__group_on_done(numaperf_group_t *group, const struct numaperf__submission *to,
                            numaperf_task_fn fn, void *arg);
numaperf_rt_t *numaperf__group_rt(const numaperf_group_t *group);

#endif
