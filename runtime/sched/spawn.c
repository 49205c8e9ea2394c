/* SPDX-License-Identifier: MIT */
/*
 * The public calls that spawn: what their arguments and options mean, checked, and handed to the
 * way in (submit.c), with a record where a task belongs to a group or has to wait for its time.
 *
 * Any thread.
 */
#include "base/config.h"
#include "base/error.h"
#include "sched/delay.h"
#include "sched/group.h"
#include "sched/record_task.h"
#include "sched/sched.h"

#include <numaperf/group.h>
#include <numaperf/timer.h>

#include <errno.h>
#include <stddef.h>

#define SPAWN_OPTIONS_MIN_SIZE offsetof(numaperf_spawn_options_t, priority)

_Static_assert(offsetof(numaperf_spawn_options_t, priority) == 24, "public: append only");
_Static_assert(sizeof(numaperf_spawn_options_t) == 40, "public struct: append only");

static int spawn_target(numaperf_rt_t *rt, const numaperf_spawn_options_t *options,
                        struct numaperf__submission *out)
{
    const uint32_t known =
        NUMAPERF_SPAWN_HAS_NODE | NUMAPERF_SPAWN_HAS_WORKER | NUMAPERF_SPAWN_NEVER_STEAL;
    bool has_node = (options->flags & NUMAPERF_SPAWN_HAS_NODE) != 0;
    bool has_worker = (options->flags & NUMAPERF_SPAWN_HAS_WORKER) != 0;
    if ((options->flags & ~known) != 0)
        return numaperf__fail(-EINVAL, 0, "spawn", "flags %#x has an unknown bit", options->flags);
    if (!has_node && options->node != 0)
        return numaperf__fail(-EINVAL, 0, "spawn", "node %d without NUMAPERF_SPAWN_HAS_NODE",
                              options->node);
    if (!has_worker && options->worker != 0)
        return numaperf__fail(-EINVAL, 0, "spawn", "worker %d without NUMAPERF_SPAWN_HAS_WORKER",
                              options->worker);
    if (has_worker && (options->worker < 0 || (uint32_t)options->worker >= rt->worker_count))
        return numaperf__fail(-EINVAL, 0, "spawn", "worker %d: the runtime has 0 to %u",
                              options->worker, rt->worker_count - 1);

    if (options->priority > NUMAPERF_PRIORITY_THROUGHPUT)
        return numaperf__fail(-EINVAL, 0, "spawn", "priority %u is not a NUMAPERF_PRIORITY_*",
                              options->priority);
    out->on_cancel = options->on_cancel;
    out->tries_again = false;
    out->priority = options->priority;
    out->stealable = !has_worker && (options->flags & NUMAPERF_SPAWN_NEVER_STEAL) == 0;
    out->worker = has_worker ? &rt->workers[options->worker] : NULL;
    if (has_worker && (!has_node || options->node == NUMAPERF_NODE_ANY)) {
        out->node = out->worker->node;
        return 0;
    }
    out->node = numaperf__submit_node(rt, has_node ? options->node : NUMAPERF_NODE_LOCAL);
    if (out->node == NULL)
        return NUMAPERF_E_NO_NODE;
    if (has_worker && out->worker->node != out->node)
        return numaperf__fail(-EINVAL, 0, "spawn", "worker %d is on node %d, not on node %d",
                              options->worker, out->worker->node->id, out->node->id);
    return 0;
}

static int spawn_check(const numaperf_rt_t *rt, numaperf_task_fn fn)
{
    if (rt == NULL || fn == NULL)
        return numaperf__fail(-EINVAL, 0, "spawn", "rt and fn must not be NULL");
    return 0;
}

int numaperf_rt_spawn(numaperf_rt_t *rt, int node, numaperf_task_fn fn, void *arg)
{
    struct numaperf_worker *self = numaperf__worker_self;
    if (self != NULL && self->rt == rt && fn != NULL &&
        (node == NUMAPERF_NODE_LOCAL || node == self->node->id))
        return numaperf__submit_inside(self, fn, arg);
    int rc = spawn_check(rt, fn);
    if (rc < 0)
        return rc;
    struct numaperf__submission to = {.node = numaperf__submit_node(rt, node), .stealable = true};
    if (to.node == NULL)
        return NUMAPERF_E_NO_NODE;
    return numaperf__submit(rt, &to, fn, &arg, 1);
}

/* What the caller's options mean, which may be NULL: where to, and of which group. */
static int spawn_options(numaperf_rt_t *rt, const numaperf_spawn_options_t *options,
                         struct numaperf__submission *out, numaperf_group_t **out_group)
{
    const numaperf_spawn_options_t defaults = NUMAPERF_SPAWN_OPTIONS_INIT;
    numaperf_spawn_options_t loaded;
    int rc = numaperf__config_load(&loaded, sizeof(loaded), SPAWN_OPTIONS_MIN_SIZE,
                                   options != NULL ? options : &defaults, "spawn");
    if (rc == 0)
        rc = numaperf__group_check(loaded.group, rt);
    if (rc < 0)
        return rc;
    *out_group = loaded.group;
    return spawn_target(rt, &loaded, out);
}

int numaperf_rt_spawn_batch(numaperf_rt_t *rt, const numaperf_spawn_options_t *options,
                            numaperf_task_fn fn, void *const *args, size_t count)
{
    int rc = spawn_check(rt, fn);
    if (rc < 0)
        return rc;
    if (args == NULL && count > 0)
        return numaperf__fail(-EINVAL, 0, "spawn", "args is NULL, count is %zu", count);
    if (count > rt->config.task_limit_per_node)
        return numaperf__fail(-EINVAL, 0, "spawn", "count %zu is above the limit of a node, %llu",
                              count, (unsigned long long)rt->config.task_limit_per_node);
    struct numaperf__submission to;
    numaperf_group_t *group = NULL;
    rc = spawn_options(rt, options, &to, &group);
    if (rc < 0)
        return rc;
    return group != NULL ? numaperf__group_submit(&to, group, fn, args, count)
                         : numaperf__submit(rt, &to, fn, args, count);
}

int numaperf_rt_spawn_with(numaperf_rt_t *rt, const numaperf_spawn_options_t *options,
                           numaperf_task_fn fn, void *arg)
{
    return numaperf_rt_spawn_batch(rt, options, fn, &arg, 1);
}

/* NOLINTNEXTLINE(readability-function-size): a spawn's five parameters and the delay */
int numaperf_rt_spawn_after(numaperf_rt_t *rt, const numaperf_spawn_options_t *options,
                            uint64_t delay_ns, numaperf_task_fn fn, void *arg,
                            numaperf_timer_t **out_timer)
{
    struct numaperf__submission to;
    numaperf_group_t *group = NULL;
    struct numaperf__record *record = NULL;
    int rc = spawn_check(rt, fn);
    if (rc == 0)
        rc = spawn_options(rt, options, &to, &group);
    if (rc == 0)
        rc = numaperf__record_make(&to, group, fn, arg, &record);
    return rc < 0 ? rc : numaperf__delay_arm(record, delay_ns, out_timer);
}

int numaperf_group_on_done(numaperf_group_t *group, const numaperf_spawn_options_t *options,
                           numaperf_task_fn fn, void *arg)
{
    if (group == NULL || fn == NULL)
        return numaperf__fail(-EINVAL, 0, "group", "group and fn must not be NULL");
    struct numaperf__submission to;
    numaperf_group_t *own = NULL;
    int rc = spawn_options(numaperf__group_rt(group), options, &to, &own);
    if (rc == 0 && own != NULL)
        return numaperf__fail(-EINVAL, 0, "group", "options.group must be NULL");
    return rc < 0 ? rc : numaperf__group_on_done(group, &to, fn, arg);
}

int numaperf_rt_each_node(numaperf_rt_t *rt, numaperf_task_fn fn, void *arg)
{
    int rc = spawn_check(rt, fn);
    return rc < 0 ? rc : numaperf__submit_each_node(rt, fn, arg);
}
