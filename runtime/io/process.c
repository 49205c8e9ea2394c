/* SPDX-License-Identifier: MIT */
/*
 * What inherits from a thread: children, and libuv's pool threads. Both take the affinity and the
 * memory policy of the thread that makes them, so that thread first goes back to what the process
 * was started with.
 *
 * Source: sched_setaffinity(2), set_mempolicy(2), "Notes": inherited through fork and clone.
 */
#include "base/error.h"
#include "io/loop.h"
#include "place/mempolicy.h"
#include "place/pin.h"

#include <errno.h>
#include <numaperf/loop.h>
#include <uv.h>

/*
 * Give the calling thread what the process was started with, and keep its own. Where the memory
 * policy can be neither read nor set, as under a container's filter, it was never changed.
 */
static void process_enter(struct numaperf__thread_state *out_own)
{
    struct numaperf__thread_state at_load;
    numaperf__thread_state_at_load(&at_load);
    (void)numaperf__thread_state_get(out_own); /* what it could not read it leaves alone */
    int rc = numaperf__thread_state_set(&at_load);
    if (rc < 0 && rc != -EPERM && rc != -ENOSYS)
        numaperf__log(NUMAPERF_LOG_WARN, "children and pool threads keep this placement: %s",
                      numaperf_strerror(rc));
}

/* Back, and checked: a thread that lost its PU in between must not look pinned. */
static void process_leave(const struct numaperf__thread_state *own)
{
    int rc = numaperf__thread_state_set(own);
    struct numaperf__thread_state now;
    (void)numaperf__thread_state_get(&now); /* unknown both times is equal */
    bool same = numaperf_cpuset_equal(&now.cpus, &own->cpus) && now.policy == own->policy &&
                numaperf_nodemask_equal(&now.nodes, &own->nodes);
    if (!same)
        numaperf__log(NUMAPERF_LOG_ERROR, "the thread's own placement could not be put back: %s",
                      rc < 0 ? numaperf_strerror(rc) : "it reads back otherwise");
}

int numaperf__uv_spawn(struct uv_loop_s *loop, struct uv_process_s *process,
                       const struct uv_process_options_s *options)
{
    struct numaperf__thread_state own;
    process_enter(&own);
    int rc = uv_spawn(loop, process, options);
    process_leave(&own);
    return rc;
}

static void pool_work(uv_work_t *work)
{
    (void)work; /* to have run is all it does: libuv starts its threads at the first request */
}

static void pool_work_done(uv_work_t *work, int status)
{
    (void)work;
    (void)status;
}

/* On a thread that has the placement of the process; see process_enter(). */
static int pool_touch(void)
{
    uv_loop_t loop;
    int rc = numaperf__uv_loop_init(&loop);
    if (rc < 0)
        return rc;
    uv_work_t work;
    rc = uv_queue_work(&loop, &work, pool_work, pool_work_done);
    if (rc == 0)
        (void)uv_run(&loop, UV_RUN_DEFAULT); /* ends when the work is done */
    int closed = uv_loop_close(&loop);
    return rc < 0 ? rc : closed;
}

int numaperf__pool_create(void)
{
    struct numaperf__thread_state own;
    process_enter(&own);
    int rc = pool_touch();
    process_leave(&own);
    return rc;
}
