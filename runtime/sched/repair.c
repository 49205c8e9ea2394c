/* SPDX-License-Identifier: MIT */
/*
 * Putting back what has drifted.
 *
 * An affinity is set from here, by the thread's number; pages and policies of mappings belong to
 * the process, so they are put back from here, too. A thread's own memory policy and what is
 * registered with its ring only the thread itself can set: a bit in `repair_wanted` asks it, and a
 * wake. It answers between two callbacks, so the answer is waited for, but not for long; one that
 * is busy keeps the request, acts on it when its callback returns, and is not waited for again
 * until it has.
 *
 * No call's result is taken for success: what counts is the look after it.
 *
 * Thread rule: the auditor's thread, but for numaperf__worker_put_back(), which is the worker's.
 * Threads end, and their numbers are given to others, after the auditor was asked to end: so
 * what is set by a number is set under its mutex, while it has not been.
 *
 * Source: sched_setaffinity(2), set_mempolicy(2), mbind(2), io_uring_register(2)
 * "IORING_REGISTER_IOWQ_AFF".
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "io/loop.h"
#include "place/arena.h"
#include "place/pin.h"
#include "sched/auditor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define REPAIR_PAUSE_NS 200000         /* between two looks for the worker's answer */
#define REPAIR_ANSWER_NS_MAX 50000000u /* it is idle, or between two tasks, sooner than that */

/* ---- on the worker ---- */

void numaperf__worker_put_back(struct numaperf_worker *worker)
{
    /* Acquire pairs with the release of who asks; the pin of a woken worker is set by then. */
    uint32_t wanted = atomic_load_explicit(&worker->repair_wanted, memory_order_acquire);
    if ((wanted & NUMAPERF__REPAIR_MEMPOLICY) != 0) {
        numaperf_enforcement_t level; /* not settled: the auditor reads it back, and reports */
        int sys_errno = 0;
        numaperf__mempolicy_prefer(worker->node->id, &level, &sys_errno);
        atomic_store_explicit(&worker->repair_errno, sys_errno, memory_order_relaxed);
    }
    struct numaperf__ring *ring = numaperf__loop_ring(worker->loop);
    if ((wanted & NUMAPERF__REPAIR_IOWQ) != 0 && ring != NULL) {
        numaperf_cpuset_t cpus;
        int rc = numaperf_topology_node_cpus(worker->rt->topology, worker->node->id, &cpus);
        NUMAPERF_ASSERT(rc == 0); /* the worker is on it */
        rc = numaperf__ring_iowq_affinity(ring, &cpus);
        atomic_store_explicit(&worker->repair_errno, -rc, memory_order_relaxed);
    }
    /* Release: who sees the bits gone sees what was done. */
    (void)atomic_fetch_and_explicit(&worker->repair_wanted, ~wanted, memory_order_release);
}

/* ---- asking ---- */

/* Have the worker do it. 0; -EBUSY it does not answer; what it met itself. */
static int repair_ask(const struct numaperf__auditor *auditor, struct numaperf_worker *worker,
                      uint32_t what)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = REPAIR_PAUSE_NS};
    /* Release pairs with the acquire of the worker. Before the wake, so that it is not lost: the
       worker looks after each turn, and the turn after a wake comes after this. */
    uint32_t before = atomic_fetch_or_explicit(&worker->repair_wanted, what, memory_order_acq_rel);
    numaperf__wake_signal(&worker->wake);
    uint64_t start_ns = numaperf__clock_now_ns();
    while ((atomic_load_explicit(&worker->repair_wanted, memory_order_acquire) & what) != 0) {
        if ((before & what) != 0 || numaperf__auditor_stopping(auditor) ||
            numaperf__clock_now_ns() - start_ns >= REPAIR_ANSWER_NS_MAX)
            return -EBUSY;
        (void)nanosleep(&pause, NULL); /* all signals are blocked */
    }
    return -atomic_load_explicit(&worker->repair_errno, memory_order_relaxed);
}

/* Set the affinity of a thread that has not ended. */
static int repair_set_affinity(struct numaperf__auditor *auditor,
                               const struct numaperf_worker *worker, int thread_id,
                               const numaperf_cpuset_t *cpus)
{
    int rc = numaperf__worker_lock_state(worker);
    if (rc < 0)
        return rc;
    (void)pthread_mutex_lock(&auditor->mutex); /* never locked twice: cannot fail */
    rc = numaperf__auditor_stopping(auditor) ? -ECANCELED : numaperf__affinity_set(thread_id, cpus);
    (void)pthread_mutex_unlock(&auditor->mutex); /* as above */
    numaperf__worker_unlock_state(worker);
    return rc;
}

/* ---- by kind ---- */

static int repair_affinity(struct numaperf__auditor *auditor, const struct numaperf_worker *worker)
{
    numaperf_cpuset_t cpus;
    numaperf_cpuset_zero(&cpus);
    (void)numaperf_cpuset_add(&cpus, worker->cpu); /* is a PU: the worker was pinned to it */
    return repair_set_affinity(auditor, worker, worker->thread_id, &cpus);
}

static int repair_iowq(struct numaperf__auditor *auditor, struct numaperf_worker *worker)
{
    numaperf_cpuset_t cpus;
    int rc = numaperf_topology_node_cpus(worker->rt->topology, worker->node->id, &cpus);
    NUMAPERF_ASSERT(rc == 0); /* the worker is on it */
    /* For threads to come; those that are there keep their affinity. */
    int first_error = repair_ask(auditor, worker, NUMAPERF__REPAIR_IOWQ);
    auditor->iowq_rc = numaperf__iowq_refresh(&auditor->iowq);
    for (size_t i = 0; i < auditor->iowq.count; i++) {
        const struct numaperf__iowq_thread *thread = &auditor->iowq.threads[i];
        if (thread->name[0] == '\0' || strcmp(thread->name, worker->iowq_name) != 0)
            continue;
        rc = repair_set_affinity(auditor, worker, thread->thread_id, &cpus);
        if (rc < 0 && rc != -ESRCH && first_error == 0)
            first_error = rc;
    }
    return first_error;
}

static int repair_ring_pages(struct numaperf__auditor *auditor,
                             const struct numaperf_worker *worker)
{
    struct numaperf__audit_range ranges[2];
    size_t count = numaperf__worker_ring_ranges(worker, ranges);
    int rc = 0;
    (void)pthread_mutex_lock(&auditor->mutex); /* the ring goes with its thread */
    for (size_t i = 0; i < count && !numaperf__auditor_stopping(auditor); i++) {
        int one = ranges[i].is_bound
                      ? numaperf__audit_put_back(&ranges[i], worker->node->id)
                      : numaperf__audit_move_back(&ranges[i].range, worker->node->id);
        rc = rc == 0 ? one : rc;
    }
    (void)pthread_mutex_unlock(&auditor->mutex); /* as above */
    return rc;
}

static int repair_queue_pages(const struct numaperf_worker *worker)
{
    struct numaperf__audit_range ranges[NUMAPERF__QUEUE_RANGES_MAX];
    size_t count = numaperf__worker_queue_ranges(worker, ranges);
    int rc = 0;
    for (size_t i = 0; i < count; i++) {
        int one = numaperf__audit_put_back(&ranges[i], worker->node->id);
        rc = rc == 0 ? one : rc;
    }
    return rc;
}

/* What is elsewhere alone: a mapping that is in order is left alone. */
static int repair_pages(struct numaperf__auditor *auditor, const struct numaperf_worker *worker)
{
    struct numaperf__audit_range range;
    struct numaperf__look look;
    int rc = 0;
    numaperf__look_at(worker, NUMAPERF__PART_STACK, &look);
    if (look.verdict == NUMAPERF__LOOK_DRIFTED) {
        numaperf__worker_stack_range(worker, &range);
        rc = numaperf__audit_put_back(&range, worker->node->id);
    }
    numaperf__look_at(worker, NUMAPERF__PART_QUEUES, &look);
    int one = look.verdict == NUMAPERF__LOOK_DRIFTED ? repair_queue_pages(worker) : 0;
    rc = rc == 0 ? one : rc;
    one = numaperf__arena_put_back(worker->arena, &auditor->stopping);
    rc = rc == 0 ? one : rc;
    numaperf__look_at(worker, NUMAPERF__PART_RING, &look);
    one = look.verdict == NUMAPERF__LOOK_DRIFTED ? repair_ring_pages(auditor, worker) : 0;
    return rc == 0 ? one : rc;
}

static int repair_try(struct numaperf__auditor *auditor, uint32_t kind, int32_t worker)
{
    if (worker < 0)
        return -EPERM; /* the machine's settings are not ours */
    struct numaperf_worker *of = &auditor->rt->workers[worker];
    switch (kind) {
    case NUMAPERF_VIOLATION_AFFINITY:
        return repair_affinity(auditor, of);
    case NUMAPERF_VIOLATION_MEMPOLICY:
        return repair_ask(auditor, of, NUMAPERF__REPAIR_MEMPOLICY);
    case NUMAPERF_VIOLATION_PAGES:
        return repair_pages(auditor, of);
    case NUMAPERF_VIOLATION_IOWQ:
        return repair_iowq(auditor, of);
    default:
        return -EPERM; /* who shrank the cpuset or took the PU away may give it back */
    }
}

/* ---- why not ---- */

static const char *repair_why_of_kind(uint32_t kind)
{
    switch (kind) {
    case NUMAPERF_VIOLATION_BALANCING:
        return "switch it off: sysctl kernel.numa_balancing=0";
    case NUMAPERF_VIOLATION_OFFLINE:
        return "bring it online again";
    case NUMAPERF_VIOLATION_CPUSET:
        return "give it back in cpuset.cpus and cpuset.mems";
    default:
        return NULL;
    }
}

static const char *repair_why_of_errno(uint32_t kind, int rc)
{
    bool is_pages = kind == NUMAPERF_VIOLATION_PAGES;
    if (rc == -EBUSY && !is_pages)
        return "worker busy";
    if (rc == -EINVAL && kind == NUMAPERF_VIOLATION_AFFINITY)
        return "PU offline, or outside the cpuset";
    if (rc == -EINVAL && kind == NUMAPERF_VIOLATION_IOWQ)
        return "the kernel keeps it, or the cpuset";
    if (rc == -EINVAL)
        return "node outside the cpuset";
    if (rc == -ENOMEM && is_pages)
        return "node too full, or pages that cannot move";
    return rc < 0 ? numaperf_strerror(rc) : "set, but it reads back otherwise";
}

int numaperf__repair(struct numaperf__auditor *auditor, const struct numaperf__finding *finding,
                     char *out_why, size_t size)
{
    NUMAPERF_ASSERT(finding->sight == NUMAPERF__SIGHT_DRIFTED);
    int rc = repair_try(auditor, finding->kind, finding->worker);
    const char *why = repair_why_of_kind(finding->kind);
    if (why == NULL) {
        struct numaperf__finding again;
        numaperf__drift_look_whole(auditor, finding->kind, finding->worker, &again);
        if (again.sight == NUMAPERF__SIGHT_HOME)
            return 0;
        why = repair_why_of_errno(finding->kind, rc);
    }
    (void)snprintf(out_why, size, "%s", why);
    return rc < 0 ? rc : -EIO;
}
