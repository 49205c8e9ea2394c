/* SPDX-License-Identifier: MIT */
/*
 * Assembly of a runtime: the order of start and of stop, and the public calls. Everything it puts
 * together is in the rooms.
 *
 * Start: configuration -> topology -> documented requirements -> layout -> libuv's pool -> threads
 * -> latch -> on_worker_start -> latch -> on_node_start -> latch -> RUNNING. A failure anywhere
 * aborts the latch; every thread that exists undoes its own part and is joined.
 *
 * Stop: DRAINING, no more connections are accepted, until all is drained or the time is over ->
 * CANCELLING, what is left of both is ended -> (drained) CLOSING -> the workers run their stop
 * callbacks, close their loops and end -> join.
 *
 * Thread rule: several stops at once are allowed; the state is moved by anybody, forward, and
 * stop_mutex makes the joins happen once.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/error.h"
#include "io/loop.h"
#include "place/capability.h"
#include "place/enforce.h"
#include "place/region.h"
#include "sched/listen.h"
#include "sched/look.h"
#include "sched/rule.h"
#include "sched/sched.h"
#include "sched/sqpoll.h"
#include "sched/stall.h"
#include "sched/watch.h"

#include <numaperf/capabilities.h>
#include <numaperf/runtime.h>

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNTIME_WORKERS_PER_NODE_MAX 1024u
#define RUNTIME_ARENA_BYTES_DEFAULT (1ull << 30)
#define RUNTIME_SPIN_NS_DEFAULT 50000u
#define RUNTIME_TASK_LIMIT_DEFAULT (1ull << 20)
#define RUNTIME_STOP_POLL_NS 500000u /* between two looks of a stop */
#define RUNTIME_CONFIG_MIN_SIZE offsetof(numaperf_rt_config_t, nodes)
#define RUNTIME_PLACEMENT_MIN_SIZE sizeof(numaperf_placement_t)

_Static_assert(offsetof(numaperf_rt_config_t, nodes) == 32, "public struct: append only");
_Static_assert(offsetof(numaperf_rt_config_t, topology) == 160, "public struct: append only");
_Static_assert(offsetof(numaperf_rt_config_t, on_worker_start) == 192, "public: append only");
_Static_assert(offsetof(numaperf_rt_config_t, audit_policy) == 248, "public: append only");
_Static_assert(offsetof(numaperf_rt_config_t, steal_rules) == 256, "public: append only");
_Static_assert(sizeof(numaperf_rt_config_t) == 304, "public struct: append only");
_Static_assert(sizeof(numaperf_steal_rule_t) == 48, "public struct: append only");
_Static_assert(sizeof(numaperf_violation_t) == 216, "public struct: append only");

/* ---- configuration ---- */

static int runtime_check_choice(const char *field, uint32_t value, uint32_t max)
{
    if (value <= max)
        return 0;
    return numaperf__fail(-EINVAL, 0, "start", "%s %u is not one of its choices, 0 to %u", field,
                          value, max);
}

static int runtime_check_config(const numaperf_rt_config_t *cfg)
{
    const uint32_t known = NUMAPERF_RT_WAIVE_PRIVILEGES | NUMAPERF_RT_STALL_BACKTRACE;
    if ((cfg->flags & ~known) != 0)
        return numaperf__fail(-EINVAL, 0, "start", "flags %#x has an unknown bit", cfg->flags);
    if (cfg->workers_per_node > RUNTIME_WORKERS_PER_NODE_MAX)
        return numaperf__fail(-EINVAL, 0, "start", "workers_per_node %u is above %u",
                              cfg->workers_per_node, RUNTIME_WORKERS_PER_NODE_MAX);
    const struct {
        const char *field;
        uint32_t value;
        uint32_t max;
    } choices[] = {
        {"mode", cfg->mode, NUMAPERF_MODE_HARD},
        {"steal_policy", cfg->steal_policy, NUMAPERF_STEAL_ANY},
        {"huge_pages", cfg->huge_pages, NUMAPERF_HUGE_1GB},
        {"io_backend", cfg->io_backend, NUMAPERF_IO_EPOLL},
        {"audit_policy", cfg->audit_policy, NUMAPERF_AUDIT_STOP},
    };
    for (size_t i = 0; i < sizeof(choices) / sizeof(choices[0]); i++) {
        int bad = runtime_check_choice(choices[i].field, choices[i].value, choices[i].max);
        if (bad < 0)
            return bad;
    }
    if (cfg->reserved != 0)
        return numaperf__fail(-EINVAL, 0, "start", "reserved %u must be 0", cfg->reserved);
    const struct numaperf__loop_setup io = {.backend = cfg->io_backend,
                                            .flags = cfg->io_flags,
                                            .buffer_bytes = cfg->buffer_bytes,
                                            .buffer_count = cfg->buffer_count};
    int rc = numaperf__loop_check_setup(&io, "start");
    if (rc < 0)
        return rc;
    return numaperf__rule_check_rows(cfg->steal_rules, cfg->steal_rule_count);
}

static void runtime_fill_defaults(numaperf_rt_config_t *cfg)
{
    if (cfg->steal_policy == NUMAPERF_STEAL_DEFAULT)
        cfg->steal_policy = NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE;
    if (cfg->arena_bytes == 0)
        cfg->arena_bytes = RUNTIME_ARENA_BYTES_DEFAULT;
    if (cfg->spin_ns_max == 0)
        cfg->spin_ns_max = RUNTIME_SPIN_NS_DEFAULT;
    else if (cfg->spin_ns_max == UINT64_MAX)
        cfg->spin_ns_max = 0;
    if (cfg->task_limit_per_node == 0)
        cfg->task_limit_per_node = RUNTIME_TASK_LIMIT_DEFAULT;
}

/* ---- start ---- */

static int runtime_topology(numaperf_rt_t *rt)
{
    if (rt->config.topology == NULL) {
        int rc = numaperf_topology_discover(&rt->own_topology);
        if (rc < 0)
            return rc;
    }
    rt->topology = rt->own_topology != NULL ? rt->own_topology : rt->config.topology;
    rt->placed = numaperf_topology_is_this_machine(rt->topology);
    return 0;
}

/* What hard mode documents, before anything is made; the rest is read back by the workers. */
static int runtime_requirements(const numaperf_rt_t *rt)
{
    if (rt->config.mode != NUMAPERF_MODE_HARD)
        return 0;
    if (!rt->placed)
        return numaperf__fail(NUMAPERF_E_HARD_MODE, 0, "start",
                              "the topology is not this machine's: nothing can be proven by it");
    return numaperf__hard_mode_check((rt->config.flags & NUMAPERF_RT_WAIVE_PRIVILEGES) != 0);
}

static void runtime_join(numaperf_rt_t *rt)
{
    for (uint32_t i = 0; i < rt->worker_count; i++)
        numaperf__worker_thread_join(&rt->workers[i]);
}

/* Threads up to RUNNING; on failure all of them are gone again, and so are queued tasks. */
static int runtime_start_workers(numaperf_rt_t *rt)
{
    uint32_t created = 0;
    int rc = 0;
    while (created < rt->worker_count && rc == 0) {
        rc = numaperf__worker_thread_create(&rt->workers[created]);
        if (rc == 0)
            created++;
    }
    if (rc < 0) {
        numaperf__latch_set_parties(&rt->stop_latch, created);
        numaperf__latch_abort(&rt->start_latch);
    }
    bool started = rc == 0;
    for (int phase = 0; started && phase < 3; phase++)
        started = numaperf__latch_arrive(&rt->start_latch);
    if (started)
        numaperf__evidence_gather(rt->evidence, rt);
    if (started && (numaperf__stall_start(rt) < 0 || numaperf__auditor_start(rt) < 0)) {
        numaperf__latch_abort(&rt->start_latch);
        started = false;
    }
    if (started) {
        numaperf__rt_advance(rt, NUMAPERF__RT_RUNNING);
        started = numaperf__latch_arrive(&rt->start_latch);
        NUMAPERF_ASSERT(started); /* nobody aborts after the third phase */
        return 0;
    }

    numaperf__stall_stop(rt);
    runtime_join(rt);
    numaperf__rt_advance(rt, NUMAPERF__RT_CLOSING);
    while (!numaperf__rt_drained(rt))
        numaperf__rt_cancel_queued(rt);
    numaperf_error_t error;
    bool aborted = numaperf__latch_aborted(&rt->start_latch, &error);
    NUMAPERF_ASSERT(aborted && error.code < 0);
    return numaperf__fail_copy(&error);
}

static void runtime_free(numaperf_rt_t *rt)
{
    numaperf__listen_fini(rt);
    numaperf__auditor_destroy(rt);
    numaperf__evidence_destroy(rt->evidence);
    numaperf__stall_destroy(rt);
    numaperf__tallies_destroy(rt);
    numaperf__layout_destroy(rt);
    numaperf_topology_destroy(rt->own_topology);
    free(rt);
}

static int runtime_locks_init(numaperf_rt_t *rt)
{
    int rc = numaperf__latch_init(&rt->start_latch, rt->worker_count + 1);
    if (rc < 0)
        return numaperf__fail(rc, -rc, "start", "no latch");
    rc = numaperf__latch_init(&rt->stop_latch, rt->worker_count);
    if (rc < 0)
        goto fini_start;
    rc = -pthread_mutex_init(&rt->stop_mutex, NULL);
    if (rc == 0)
        return 0;
    numaperf__latch_fini(&rt->stop_latch);
fini_start:
    numaperf__latch_fini(&rt->start_latch);
    return numaperf__fail(rc, -rc, "start", "no lock");
}

static void runtime_locks_fini(numaperf_rt_t *rt)
{
    (void)pthread_mutex_destroy(&rt->stop_mutex); /* nobody has it */
    numaperf__latch_fini(&rt->stop_latch);
    numaperf__latch_fini(&rt->start_latch);
}

/* Everything of a start but the handle. */
static int runtime_assemble(numaperf_rt_t *rt)
{
    int rc = runtime_topology(rt);
    if (rc < 0)
        return rc;
    rc = numaperf__layout_create(rt);
    if (rc == 0)
        rc = runtime_requirements(rt);
    if (rc == 0)
        rc = numaperf__workers_plan_sqpoll(rt);
    if (rc == 0)
        rc = numaperf__workers_check_room(rt);
    if (rc == 0)
        rc = numaperf__layout_inboxes(rt);
    if (rc == 0)
        rc = numaperf__tallies_create(rt);
    if (rc == 0)
        rc = numaperf__stall_prepare(rt);
    if (rc < 0)
        return rc;
    /* libuv's pool threads inherit from who makes them: not from a pinned worker, then. */
    rc = numaperf__pool_create();
    if (rc < 0)
        return numaperf__fail(rc, -rc, "start", "libuv's thread pool cannot be made");
    rc = numaperf__evidence_create(rt->worker_count, &rt->evidence);
    if (rc < 0)
        return rc;
    rc = runtime_locks_init(rt);
    if (rc < 0)
        return rc;
    rc = runtime_start_workers(rt);
    if (rc < 0)
        runtime_locks_fini(rt);
    return rc;
}

int numaperf_rt_start(const numaperf_rt_config_t *config, numaperf_rt_t **out)
{
    if (out == NULL)
        return numaperf__fail(-EINVAL, 0, "start", "out must not be NULL");
    const numaperf_rt_config_t defaults = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_config_t cfg;
    int rc = numaperf__config_load(&cfg, sizeof(cfg), RUNTIME_CONFIG_MIN_SIZE,
                                   config != NULL ? config : &defaults, "start");
    if (rc == 0)
        rc = runtime_check_config(&cfg);
    if (rc < 0)
        return rc;
    runtime_fill_defaults(&cfg);

    numaperf_rt_t *rt = aligned_alloc(NUMAPERF_CACHE_LINE, sizeof(*rt));
    if (rt == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for the runtime");
    memset(rt, 0, sizeof(*rt));
    rt->config = cfg;
    numaperf__listen_init(rt);
    rc = runtime_assemble(rt);
    if (rc < 0) {
        runtime_free(rt);
        return rc;
    }
    *out = rt;
    return 0;
}

/* ---- stop ---- */

static bool runtime_all_exited(const numaperf_rt_t *rt)
{
    /* Acquire pairs with the release of the worker's last act. */
    return atomic_load_explicit(&rt->exited_count, memory_order_acquire) == rt->worker_count &&
           numaperf__auditor_exited(rt) && numaperf__stall_exited(rt);
}

/* One look of a stop: move the state on where it is time; true when all threads have ended. */
static bool runtime_stop_step(numaperf_rt_t *rt, bool time_is_over, bool stuck)
{
    if (numaperf__rt_state(rt) == NUMAPERF__RT_DRAINING &&
        (time_is_over || numaperf__rt_drained(rt)))
        numaperf__rt_advance(rt, NUMAPERF__RT_CANCELLING);
    /* Idle workers cancel by themselves; what waits for a worker that is stuck is ours. */
    if (numaperf__rt_state(rt) == NUMAPERF__RT_CANCELLING && stuck)
        numaperf__rt_cancel_queued(rt);
    numaperf__rt_close_if_drained(rt);
    /* Not before: what keeps a runtime from draining is a stall more often than not. */
    if (numaperf__rt_state(rt) >= NUMAPERF__RT_CLOSING)
        numaperf__stall_end(rt);
    return runtime_all_exited(rt);
}

static int runtime_stop_wait(numaperf_rt_t *rt, uint64_t timeout_ns, uint64_t start_ns,
                             struct numaperf__watch *watch)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = RUNTIME_STOP_POLL_NS};
    for (;;) {
        uint64_t now_ns = numaperf__clock_now_ns();
        bool time_is_over = now_ns - start_ns >= timeout_ns;
        bool stuck = numaperf__watch_any_stuck(watch, now_ns);
        if (runtime_stop_step(rt, time_is_over, stuck))
            return 0;
        if (time_is_over && stuck)
            return numaperf__fail(-ETIMEDOUT, ETIMEDOUT, "stop",
                                  "a callback is still running; its thread ends when it returns");
        (void)nanosleep(&pause, NULL); /* shorter when a signal comes, which is as well */
    }
}

/* Join all threads once they have exited; true when that is done. */
static bool runtime_settle(numaperf_rt_t *rt, bool exited)
{
    (void)pthread_mutex_lock(&rt->stop_mutex);
    if (!rt->joined && exited) {
        numaperf__auditor_join(rt);
        numaperf__stall_join(rt);
        runtime_join(rt);
        rt->joined = true;
    }
    bool joined = rt->joined;
    (void)pthread_mutex_unlock(&rt->stop_mutex);
    return joined;
}

/* Without the mutex: each of several stops waits by its own clock, and any moves the state on. */
static int runtime_stop_timed(numaperf_rt_t *rt, uint64_t timeout_ns)
{
    uint64_t start_ns = numaperf__clock_now_ns();
    struct numaperf__watch *watch = numaperf__watch_create(rt, start_ns);
    if (watch == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "stop", "no memory for %u workers",
                              rt->worker_count);
    numaperf__auditor_end(rt); /* first: it asks about threads that are going to end */
    numaperf__rt_advance(rt, NUMAPERF__RT_DRAINING);
    int rc = runtime_stop_wait(rt, timeout_ns, start_ns, watch);
    numaperf__watch_destroy(watch);
    return rc;
}

int numaperf_rt_stop(numaperf_rt_t *rt, uint64_t timeout_ns)
{
    if (rt == NULL)
        return numaperf__fail(-EINVAL, 0, "stop", "rt must not be NULL");
    if (numaperf__worker_is_of(rt) || numaperf__auditor_is_current(rt) ||
        numaperf__stall_is_current(rt))
        return numaperf__fail(-EDEADLK, 0, "stop",
                              "called on a thread of the runtime, which it would wait for");
    if (runtime_settle(rt, false))
        return 0;
    int rc = runtime_stop_timed(rt, timeout_ns);
    if (rc == 0)
        (void)runtime_settle(rt, true); /* all have exited: it is joined now */
    return rc;
}

void numaperf_rt_destroy(numaperf_rt_t *rt)
{
    if (rt == NULL)
        return;
    /* What is queued is cancelled at once; what runs is waited for without limit. */
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = RUNTIME_STOP_POLL_NS};
    int rc = 0;
    while ((rc = numaperf_rt_stop(rt, 0)) < 0) {
        if (rc == -EDEADLK)
            return; /* on a thread of its own: recorded, nothing done */
        (void)nanosleep(&pause, NULL);
    }
    runtime_locks_fini(rt);
    runtime_free(rt);
}

/* ---- what a runtime tells ---- */

int numaperf_rt_nodes(const numaperf_rt_t *rt, numaperf_nodemask_t *out)
{
    if (rt == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "nodes", "rt and out must not be NULL");
    numaperf_nodemask_zero(out);
    for (uint32_t i = 0; i < rt->node_count; i++)
        (void)numaperf_nodemask_add(out, rt->nodes[i].id); /* was in a mask before */
    return 0;
}

const numaperf_topology_t *numaperf_rt_topology(const numaperf_rt_t *rt)
{
    return rt != NULL ? rt->topology : NULL;
}

numaperf_worker_t *numaperf_rt_worker(const numaperf_rt_t *rt, uint32_t index)
{
    return rt != NULL && index < rt->worker_count ? &rt->workers[index] : NULL;
}

int numaperf_rt_enforcement(const numaperf_rt_t *rt, numaperf_enforcement_t *out)
{
    if (rt == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "enforcement", "rt and out must not be NULL");
    *out = rt->workers[0].enforcement;
    for (uint32_t i = 1; i < rt->worker_count; i++)
        numaperf__enforce_lower(out, &rt->workers[i].enforcement);
    return 0;
}

static int runtime_part_placement(const numaperf_worker_t *worker, uint32_t part,
                                  numaperf_placement_t *out)
{
    if (part == NUMAPERF_WORKER_ARENA)
        return numaperf_arena_audit(worker->arena, out);
    /* The kernel is asked about addresses: that they may be unmapped by now harms nobody. */
    if (numaperf__rt_state(worker->rt) >= NUMAPERF__RT_CLOSING)
        return numaperf__fail(NUMAPERF_E_STOPPING, 0, "placement", "worker %u has ended",
                              worker->index);
    if (part == NUMAPERF_WORKER_RING && worker->ring_length[0] == 0)
        return numaperf__fail(NUMAPERF_E_UNSUPPORTED, 0, "placement", "worker %u has no ring",
                              worker->index);
    int rc = 0;
    if (part == NUMAPERF_WORKER_STACK)
        rc = numaperf__pages_query(worker->stack_base, worker->stack_length, out);
    for (int i = 0; part == NUMAPERF_WORKER_RING && i < 2 && rc == 0; i++)
        rc = numaperf__pages_query(worker->ring_base[i], worker->ring_length[i], out);
    return rc == 0 ? 0 : numaperf__fail(rc, -rc, "placement", "the pages cannot be queried");
}

int numaperf_worker_placement(const numaperf_worker_t *worker, uint32_t part,
                              numaperf_placement_t *out)
{
    if (worker == NULL || part > NUMAPERF_WORKER_RING)
        return numaperf__fail(-EINVAL, 0, "placement", "worker is NULL or part %u unknown", part);
    numaperf_placement_t found = NUMAPERF_PLACEMENT_INIT;
    int rc = runtime_part_placement(worker, part, &found);
    if (rc < 0)
        return rc;
    return numaperf__result_store(out, RUNTIME_PLACEMENT_MIN_SIZE, &found, sizeof(found),
                                  "placement");
}
