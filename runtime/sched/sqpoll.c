/* SPDX-License-Identifier: MIT */
/*
 * A poller takes a whole PU while there is I/O: each gets one of its worker's node to itself, and
 * where there are too few, or a quota counts worker and poller together, the start is refused.
 *
 * Thread rule: before any thread exists.
 */
#include "sched/sqpoll.h"

#include "base/assert.h"
#include "base/error.h"
#include "io/sqpoll.h"
#include "sched/sched.h"

#include <errno.h>

static void sqpoll_free_cpus(const numaperf_rt_t *rt, int node, numaperf_cpuset_t *out)
{
    int rc = numaperf_topology_node_cpus(rt->topology, node, out);
    NUMAPERF_ASSERT(rc == 0); /* workers are on it */
    for (uint32_t i = 0; i < rt->worker_count; i++)
        numaperf_cpuset_remove(out, rt->workers[i].cpu);
}

static int sqpoll_plan_node(numaperf_rt_t *rt, const struct numaperf__node *node, int code)
{
    numaperf_cpuset_t cpus;
    sqpoll_free_cpus(rt, node->id, &cpus);
    int cpu = -1;
    for (uint32_t i = 0; i < node->worker_count; i++) {
        cpu = numaperf_cpuset_next(&cpus, cpu);
        if (cpu < 0)
            return numaperf__fail(code, 0, "SQPOLL",
                                  "SQPOLL: node %d has %d usable PUs beside those of its %u "
                                  "workers, and each needs one for its poller",
                                  node->id, numaperf_cpuset_count(&cpus), node->worker_count);
        rt->workers[node->first_worker + i].sqpoll_cpu = cpu;
    }
    return 0;
}

int numaperf__workers_plan_sqpoll(numaperf_rt_t *rt)
{
    int code = rt->config.mode == NUMAPERF_MODE_HARD ? NUMAPERF_E_HARD_MODE : -EINVAL;
    if ((rt->config.io_flags & NUMAPERF_LOOP_SQPOLL) == 0)
        return 0;
    int rc = numaperf__sqpoll_check_quota(rt->worker_count, code);
    for (uint32_t i = 0; i < rt->node_count && rc == 0; i++)
        rc = sqpoll_plan_node(rt, &rt->nodes[i], code);
    return rc;
}
