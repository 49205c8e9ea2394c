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
#include "place/pin.h"

#include <errno.h>
#include <numaperf/loop.h>
#include <uv.h>

int numaperf_uv_spawn(struct uv_loop_s *loop, struct uv_process_s *process,
                      const struct uv_process_options_s *options)
{
    if (loop == NULL || process == NULL || options == NULL)
        return numaperf__fail(-EINVAL, 0, "uv_spawn", "loop, process, options must not be NULL");

    struct numaperf__thread_state own;
    struct numaperf__thread_state at_load;
    int rc = numaperf__thread_state_get(&own);
    if (rc < 0)
        return numaperf__fail(rc, -rc, "uv_spawn", "this thread's affinity cannot be read");
    numaperf__thread_state_at_load(&at_load);
    rc = numaperf__thread_state_set(&at_load);
    if (rc < 0)
        numaperf__log(NUMAPERF_LOG_WARN, "uv_spawn: the child keeps this thread's placement: %s",
                      numaperf_strerror(rc));
    int spawned = uv_spawn(loop, process, options);
    rc = numaperf__thread_state_set(&own);
    if (rc < 0) /* the child runs: that is what the caller must learn; the auditor sees the rest */
        numaperf__log(NUMAPERF_LOG_ERROR, "uv_spawn: the thread's own placement is lost: %s",
                      numaperf_strerror(rc));
    return spawned;
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

/* With the placement of the calling thread already set back. */
static int pool_touch(void)
{
    uv_loop_t loop;
    int rc = uv_loop_init(&loop);
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
    struct numaperf__thread_state at_load;
    int rc = numaperf__thread_state_get(&own);
    if (rc < 0)
        return rc;
    numaperf__thread_state_at_load(&at_load);
    (void)numaperf__thread_state_set(&at_load); /* best effort: a cpuset may have shrunk */
    rc = pool_touch();
    int back = numaperf__thread_state_set(&own);
    return rc < 0 ? rc : back;
}
