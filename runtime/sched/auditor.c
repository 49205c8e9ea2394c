/* SPDX-License-Identifier: MIT */
/*
 * The auditor: a thread that reads back, once an interval and soon after the kernel tells of a
 * change, what start had proven. drift.c looks, repair.c puts back, notify.c waits; this file is
 * the thread's life and what becomes of a finding.
 *
 *   look -> in order ---------------------------------> the episode, if there was one, is over
 *        -> drifted -> (REPAIR) put back, look again -> count and report, once an episode
 *                      (STOP)   stop the runtime    ->
 *        -> the kernel does not tell ----------------> nothing changes
 *
 * Whether a finding is reported is episode.c's. With REPAIR a drift that could not be put back is
 * tried again at every look, and is over, without another report, when that worked. Causes come
 * before effects: that a PU is offline is looked at, and reported, before what follows from it.
 *
 * Thread rule: it reads what workers wrote before the start ended, and asks the kernel about other
 * threads by id; workers take no part but in putting back what is their own. A stop asks it to end
 * first, so that it does not ask about threads that are gone: what it finds after that is not
 * reported. It is joined when it has ended, so that an on_violation that takes long keeps no stop
 * beyond its time. With STOP it ends by itself.
 */
#include "sched/auditor.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/error.h"
#include "sched/look.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define AUDITOR_INTERVAL_MS_DEFAULT 5000u
#define AUDITOR_AFTERMATH_NS 200000000u /* some of the kernel's changes follow a moment later */

bool numaperf__auditor_stopping(const struct numaperf__auditor *auditor)
{
    /* Acquire pairs with the release of the request: no worker had ended before it. */
    return atomic_load_explicit(&auditor->stopping, memory_order_acquire);
}

enum numaperf__episode *numaperf__auditor_episode(const struct numaperf__auditor *auditor,
                                                  uint32_t kind, int32_t worker)
{
    size_t slot = worker < 0 ? auditor->rt->worker_count : (size_t)worker;
    NUMAPERF_ASSERT(slot <= auditor->rt->worker_count && kind < NUMAPERF__VIOLATION_KINDS);
    return &auditor->episodes[slot * NUMAPERF__VIOLATION_KINDS + kind];
}

/* ---- findings ---- */

/* As numaperf_rt_stop(rt, 0), less the waiting: the workers go through their stop by themselves. */
static void auditor_stop_runtime(struct numaperf__auditor *auditor)
{
    numaperf__rt_advance(auditor->rt, NUMAPERF__RT_CANCELLING);
    numaperf__rt_close_if_drained(auditor->rt);
    auditor->stops = true;
}

static void auditor_report(struct numaperf__auditor *auditor,
                           const struct numaperf__finding *finding, uint32_t outcome,
                           const char *why)
{
    numaperf_rt_t *rt = auditor->rt;
    numaperf_violation_t violation = {.size = sizeof(violation),
                                      .kind = finding->kind,
                                      .worker = -1,
                                      .node = -1,
                                      .cpu = -1,
                                      .outcome = outcome};
    if (finding->worker >= 0) {
        violation.worker = finding->worker;
        violation.node = rt->workers[finding->worker].node->id;
        violation.cpu = rt->workers[finding->worker].cpu;
    }
    static const char *const said[] = {"", "; put back", "; not put back: ", "; stopping"};
    /* Why it failed must not be what is cut. */
    int room = (int)(sizeof(violation.text) - 1 - strlen(said[outcome]) - strlen(why));
    (void)snprintf(violation.text, sizeof(violation.text), "%.*s%s%s", room > 0 ? room : 0,
                   finding->text, said[outcome], why);
    (void)atomic_fetch_add_explicit(&rt->violation_count, 1, memory_order_relaxed);
    numaperf__log(NUMAPERF_LOG_WARN, "audit: %s", violation.text);
    if (rt->config.on_violation != NULL)
        rt->config.on_violation(rt, &violation, rt->config.data);
}

static void auditor_take(struct numaperf__auditor *auditor, const struct numaperf__finding *finding)
{
    uint32_t policy = auditor->rt->config.audit_policy;
    enum numaperf__sight sight = finding->sight;
    uint32_t outcome = NUMAPERF_OUTCOME_REPORTED;
    char why[64] = "";
    if (numaperf__auditor_stopping(auditor) || auditor->stops)
        return;
    if (sight == NUMAPERF__SIGHT_DRIFTED && policy == NUMAPERF_AUDIT_REPAIR) {
        int rc = numaperf__repair(auditor, finding, why, sizeof(why));
        outcome = rc == 0 ? NUMAPERF_OUTCOME_REPAIRED : NUMAPERF_OUTCOME_FAILED;
        sight = rc == 0 ? NUMAPERF__SIGHT_PUT_BACK : NUMAPERF__SIGHT_DRIFTED;
        if (numaperf__auditor_stopping(auditor))
            return; /* it was broken off */
    }
    enum numaperf__episode *episode =
        numaperf__auditor_episode(auditor, finding->kind, finding->worker);
    if (!numaperf__episode_move(episode, sight))
        return;
    if (policy == NUMAPERF_AUDIT_STOP) {
        auditor_stop_runtime(auditor);
        outcome = NUMAPERF_OUTCOME_STOPPING;
    }
    auditor_report(auditor, finding, outcome, why);
}

/* One look at everything. */
static void auditor_pass(struct numaperf__auditor *auditor)
{
    static const uint32_t kinds[] = {NUMAPERF_VIOLATION_OFFLINE,  NUMAPERF_VIOLATION_CPUSET,
                                     NUMAPERF_VIOLATION_AFFINITY, NUMAPERF_VIOLATION_MEMPOLICY,
                                     NUMAPERF_VIOLATION_IOWQ,     NUMAPERF_VIOLATION_PAGES};
    const numaperf_rt_t *rt = auditor->rt;
    struct numaperf__finding finding;
    numaperf__drift_prepare(auditor);
    numaperf__drift_look(auditor, NUMAPERF_VIOLATION_BALANCING, -1, &finding);
    auditor_take(auditor, &finding);
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        if (!rt->placed && kinds[k] != NUMAPERF_VIOLATION_AFFINITY)
            continue; /* nodes and PUs of another machine */
        for (uint32_t i = 0; i < rt->worker_count; i++) {
            if (numaperf__auditor_stopping(auditor) || auditor->stops)
                return;
            numaperf__drift_look(auditor, kinds[k], (int32_t)i, &finding);
            auditor_take(auditor, &finding);
        }
    }
    numaperf__drift_finish(auditor);
}

/* ---- thread ---- */

static void *auditor_main(void *arg)
{
    struct numaperf__auditor *auditor = arg;
    uint64_t interval_ns = (uint64_t)auditor->interval_ms * 1000000u;
    atomic_store_explicit(&auditor->thread_id, (int32_t)syscall(SYS_gettid), memory_order_relaxed);
    uint64_t next_ns = numaperf__clock_now_ns() + interval_ns;
    enum numaperf__notice notice = numaperf__notify_wait(&auditor->notify, next_ns);
    while (notice != NUMAPERF__NOTICE_END) {
        uint64_t now_ns = numaperf__clock_now_ns();
        next_ns = now_ns + interval_ns;
        if (notice == NUMAPERF__NOTICE_EVENT && interval_ns > AUDITOR_AFTERMATH_NS)
            next_ns = now_ns + AUDITOR_AFTERMATH_NS;
        auditor_pass(auditor);
        if (auditor->stops)
            break;
        notice = numaperf__notify_wait(&auditor->notify, next_ns);
    }
    /* Release pairs with the acquire of who waits for the end. */
    atomic_store_explicit(&auditor->exited, true, memory_order_release);
    return NULL;
}

/* ---- start ---- */

static void auditor_free(struct numaperf__auditor *auditor)
{
    numaperf__notify_close(&auditor->notify);
    numaperf__iowq_free(&auditor->iowq);
    (void)pthread_mutex_destroy(&auditor->mutex); /* nobody has it */
    free(auditor->episodes);
    free(auditor);
}

static int auditor_alloc(numaperf_rt_t *rt, uint32_t interval_ms, struct numaperf__auditor **out)
{
    size_t slots = ((size_t)rt->worker_count + 1) * NUMAPERF__VIOLATION_KINDS;
    struct numaperf__auditor *auditor = calloc(1, sizeof(*auditor));
    if (auditor == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "audit", "no memory for the auditor");
    auditor->rt = rt;
    auditor->interval_ms = interval_ms;
    auditor->episodes = calloc(slots, sizeof(*auditor->episodes));
    int rc = auditor->episodes != NULL ? numaperf__notify_open(&auditor->notify) : -ENOMEM;
    if (rc < 0) {
        free(auditor->episodes);
        free(auditor);
        return numaperf__fail(rc, -rc, "audit", "no memory or descriptor for the auditor");
    }
    (void)pthread_mutex_init(&auditor->mutex, NULL); /* cannot fail on Linux */
    *out = auditor;
    return 0;
}

/* Hard mode promises nothing that it cannot watch, or that is not so already. */
static int auditor_refuse_part(const struct numaperf_worker *worker, enum numaperf__part part,
                               const struct numaperf__look *first)
{
    if (first->verdict == NUMAPERF__LOOK_DRIFTED)
        return numaperf__fail(NUMAPERF_E_HARD_MODE, 0, "audit",
                              "worker %u, node %d: %s: wanted %s, found %s", worker->index,
                              worker->node->id, numaperf__part_name(part), first->wanted,
                              first->found);
    return numaperf__fail(NUMAPERF_E_HARD_MODE, first->sys_errno, "audit",
                          "worker %u, node %d: %s: what start has proven cannot be read again: %s",
                          worker->index, worker->node->id, numaperf__part_name(part),
                          numaperf_strerror(-first->sys_errno));
}

/*
 * What the first look at a part means. In soft mode what start did not reach is no drift: its
 * levels have told of it already, so it counts as an episode that was reported.
 */
static int auditor_take_first(struct numaperf__auditor *auditor,
                              const struct numaperf_worker *worker, enum numaperf__part part)
{
    static const uint32_t kinds[NUMAPERF__PART_COUNT] = {
        [NUMAPERF__PART_AFFINITY] = NUMAPERF_VIOLATION_AFFINITY,
        [NUMAPERF__PART_MEMPOLICY] = NUMAPERF_VIOLATION_MEMPOLICY,
        [NUMAPERF__PART_STACK] = NUMAPERF_VIOLATION_PAGES,
        [NUMAPERF__PART_ARENA] = NUMAPERF_VIOLATION_PAGES,
        [NUMAPERF__PART_QUEUES] = NUMAPERF_VIOLATION_PAGES,
        [NUMAPERF__PART_RING] = NUMAPERF_VIOLATION_PAGES,
        [NUMAPERF__PART_IOWQ] = NUMAPERF_VIOLATION_IOWQ,
    };
    struct numaperf__look first;
    struct numaperf__look last;
    numaperf__evidence_get(auditor->rt->evidence, worker->index, part, &first, &last);
    if (first.verdict == NUMAPERF__LOOK_HOME || first.verdict == NUMAPERF__LOOK_NO_PART)
        return 0;
    if (auditor->rt->config.mode == NUMAPERF_MODE_HARD)
        return auditor_refuse_part(worker, part, &first);
    if (first.verdict == NUMAPERF__LOOK_DRIFTED)
        (void)numaperf__episode_move(
            numaperf__auditor_episode(auditor, kinds[part], (int32_t)worker->index),
            NUMAPERF__SIGHT_DRIFTED); /* was reported */
    return 0;
}

static int auditor_take_first_balancing(struct numaperf__auditor *auditor)
{
    struct numaperf__finding finding;
    numaperf__drift_look(auditor, NUMAPERF_VIOLATION_BALANCING, -1, &finding);
    if (finding.sight == NUMAPERF__SIGHT_HOME)
        return 0;
    if (auditor->rt->config.mode == NUMAPERF_MODE_HARD)
        return numaperf__fail(NUMAPERF_E_HARD_MODE, 0, "audit", "%s",
                              finding.sight == NUMAPERF__SIGHT_DRIFTED
                                  ? finding.text
                                  : "kernel.numa_balancing cannot be read again");
    (void)numaperf__episode_move(
        numaperf__auditor_episode(auditor, NUMAPERF_VIOLATION_BALANCING, -1),
        finding.sight); /* whoever switched it on knows */
    return 0;
}

static int auditor_take_first_looks(struct numaperf__auditor *auditor)
{
    const numaperf_rt_t *rt = auditor->rt;
    int rc = auditor_take_first_balancing(auditor);
    for (uint32_t i = 0; i < rt->worker_count && rc == 0; i++) {
        for (uint32_t part = 0; part < NUMAPERF__PART_COUNT && rc == 0; part++)
            rc = auditor_take_first(auditor, &rt->workers[i], (enum numaperf__part)part);
    }
    return rc;
}

static int auditor_thread_create(struct numaperf__auditor *auditor)
{
    sigset_t all;
    sigset_t previous;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &previous); /* signals go to the user's threads */
    int rc = pthread_create(&auditor->thread, NULL, auditor_main, auditor);
    (void)pthread_sigmask(SIG_SETMASK, &previous, NULL);
    return rc == 0 ? 0 : numaperf__fail(-rc, rc, "audit", "no thread for the auditor");
}

uint32_t numaperf__auditor_interval_ms(const numaperf_rt_config_t *config)
{
    if (config->audit_interval_ms == UINT32_MAX)
        return 0;
    if (config->audit_interval_ms == 0 && config->mode == NUMAPERF_MODE_HARD)
        return AUDITOR_INTERVAL_MS_DEFAULT;
    return config->audit_interval_ms;
}

int numaperf__auditor_start(numaperf_rt_t *rt)
{
    uint32_t interval_ms = numaperf__auditor_interval_ms(&rt->config);
    if (interval_ms == 0)
        return 0;

    struct numaperf__auditor *auditor = NULL;
    int rc = auditor_alloc(rt, interval_ms, &auditor);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(auditor != NULL);
    rc = auditor_take_first_looks(auditor);
    if (rc == 0) {
        /* What is so now is what changes are told from; and from now on they are listened to. */
        numaperf__drift_prepare(auditor);
        auditor->pace.migrated = UINT64_MAX; /* the first looks came before: look at all again */
        rc = auditor_thread_create(auditor);
    }
    if (rc < 0) {
        auditor_free(auditor);
        return rc;
    }
    rt->auditor = auditor;
    return 0;
}

uint64_t numaperf_rt_violation_count(const numaperf_rt_t *rt)
{
    return rt != NULL ? atomic_load_explicit(&rt->violation_count, memory_order_relaxed) : 0;
}

bool numaperf__auditor_is_current(const numaperf_rt_t *rt)
{
    /* Relaxed: only the auditor itself could find its own id there, and it wrote it. */
    return rt->auditor != NULL &&
           atomic_load_explicit(&rt->auditor->thread_id, memory_order_relaxed) ==
               (int32_t)syscall(SYS_gettid);
}

/* ---- end ---- */

void numaperf__auditor_end(numaperf_rt_t *rt)
{
    struct numaperf__auditor *auditor = rt->auditor;
    if (auditor == NULL)
        return;
    (void)pthread_mutex_lock(&auditor->mutex); /* never locked twice: cannot fail */
    atomic_store_explicit(&auditor->stopping, true, memory_order_release);
    (void)pthread_mutex_unlock(&auditor->mutex); /* as above */
    numaperf__notify_end(&auditor->notify);
}

bool numaperf__auditor_exited(const numaperf_rt_t *rt)
{
    return rt->auditor == NULL || atomic_load_explicit(&rt->auditor->exited, memory_order_acquire);
}

void numaperf__auditor_join(numaperf_rt_t *rt)
{
    struct numaperf__auditor *auditor = rt->auditor;
    if (auditor == NULL || auditor->joined)
        return;
    int rc = pthread_join(auditor->thread, NULL);
    NUMAPERF_ASSERT(rc == 0);
    auditor->joined = true;
    atomic_store_explicit(&auditor->thread_id, 0, memory_order_relaxed);
}

void numaperf__auditor_destroy(numaperf_rt_t *rt)
{
    struct numaperf__auditor *auditor = rt->auditor;
    if (auditor == NULL)
        return;
    NUMAPERF_ASSERT(auditor->joined);
    auditor_free(auditor);
    rt->auditor = NULL;
}
