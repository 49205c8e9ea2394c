/* SPDX-License-Identifier: MIT */
/*
 * Groups: tasks that are waited for, or cancelled, together. A task is a member from its spawn with
 * options.group until it has run or was cancelled; a group is done when it has no members, and may
 * be used again then.
 */
#ifndef NUMAPERF_GROUP_H
#define NUMAPERF_GROUP_H

#include <numaperf/runtime.h>
#include <numaperf/version.h>

#include <stdint.h>

NUMAPERF_BEGIN_DECLS

/**
 * Make a group for tasks of `rt`.
 *
 * Returns:  0; -EINVAL; -ENOMEM.
 * Owner:    caller, until numaperf_group_destroy().
 * Threads:  any.
 */
NUMAPERF_API int numaperf_group_create(numaperf_rt_t *rt, numaperf_group_t **out);

/**
 * Free a group that is done; NULL is allowed. It may be called by who was told that it is done, and
 * after the runtime was destroyed as well.
 *
 * Returns:  0; -EBUSY it has members, or somebody waits for it.
 * Threads:  any, with no other call on this group under way.
 */
NUMAPERF_API int numaperf_group_destroy(numaperf_group_t *group);

/**
 * Members now.
 *
 * Returns:  the count; 0 when it is done.
 * Threads:  any; a recent picture while tasks run.
 */
NUMAPERF_API uint64_t numaperf_group_count(const numaperf_group_t *group);

/**
 * Wait until the group is done, at most `timeout_ns`; 0 only looks, UINT64_MAX has no limit.
 *
 * Units:    nanoseconds.
 * Returns:  how many members were cancelled since the last wait that returned a count, at most
 *           INT_MAX; -ETIMEDOUT; -EDEADLK on a worker of this runtime, which may be needed for
 *           the members to run; -EINVAL.
 * Threads:  any but the runtime's own.
 */
NUMAPERF_API int numaperf_group_wait(numaperf_group_t *group, uint64_t timeout_ns);

/**
 * Have fn(worker, arg) spawned, with these options, when the group is done; at once when it is.
 * Once for each call; several may be pending. It runs, or is cancelled, exactly once: a runtime
 * that stops meanwhile cancels it. `options` may be NULL; its group must be. Which node
 * NUMAPERF_NODE_LOCAL and NUMAPERF_NODE_ANY mean is decided now.
 *
 * Returns:  as numaperf_rt_spawn_with().
 * Threads:  any.
 */
NUMAPERF_API int numaperf_group_on_done(numaperf_group_t *group,
                                        const numaperf_spawn_options_t *options,
                                        numaperf_task_fn fn, void *arg);

/**
 * Cancel the members that have not begun: instead of them their on_cancel runs, or the runtime's
 * on_task_cancel, once a worker comes to them; for those of numaperf_rt_spawn_after() that is at
 * once. Members that run finish; what they spawn into the group meanwhile is cancelled as well.
 * When the group is done this is over. Does not wait.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_group_cancel(numaperf_group_t *group);

NUMAPERF_END_DECLS
#endif
