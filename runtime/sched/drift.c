/* SPDX-License-Identifier: MIT */
/*
 * Drifts: what the auditor looks at, and what it makes of it. A kind is unknown where the kernel
 * does not tell; that a PU is offline is not also told as one that the cpuset lost.
 *
 * Pages. Each look asks about a part of them: AUDIT_PAGES for all workers together, others each
 * time, so that 1 GiB of small pages has been asked about after 683 looks (57 minutes at 5 s).
 * All of them are asked about at once when the kernel's own count of moved pages
 * (pgmigrate_success) is another one than before the last such look: no page moves without it, but
 * for one that was swapped out, or given back and touched again under another policy, which the
 * parts find. The count is the whole machine's. When others keep it moving, and three such looks
 * in a row found nothing new, they are made only as often as 4000 pages a second allow: all of
 * 1 GiB about once a minute. The same limit holds for looking whether a drift that was reported is
 * over, of which the count may tell nothing: the memory may have been freed.
 *
 * Thread rule: the auditor's thread; before that exists, the starter.
 *
 * Source: proc(5), "/proc/vmstat"; see look.c for the looks themselves.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "place/arena.h"
#include "place/capability.h"
#include "place/kernel_text.h"
#include "sched/auditor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define AUDIT_PAGES 512u /* of a look, but no worker's share is less than the next one */
#define AUDIT_PAGES_WORKER_MIN 32u
#define AUDIT_FRUITLESS_MAX 3u
#define AUDIT_REST_NS_PAGE 250000u /* 4000 pages a second */
#define AUDIT_VMSTAT_MAX 16384
#define AUDIT_ALL_PAGES UINT64_MAX

/* ---- machine ---- */

static void drift_look_balancing(struct numaperf__finding *out)
{
    int value = numaperf__numa_balancing();
    if (value <= 0) {
        out->sight = value == 0 ? NUMAPERF__SIGHT_HOME : NUMAPERF__SIGHT_UNKNOWN;
        return;
    }
    out->sight = NUMAPERF__SIGHT_DRIFTED;
    (void)snprintf(out->text, sizeof(out->text),
                   "kernel.numa_balancing: wanted 0, found %d: pages of heaps and stacks move",
                   value);
}

/* Pages that the kernel has moved since it runs; 0 when it does not tell. */
static uint64_t drift_read_migrated(void)
{
    char text[AUDIT_VMSTAT_MAX];
    uint64_t count = 0;
    if (numaperf__kernel_text_read("/proc/vmstat", text, sizeof(text)) < 0 ||
        numaperf__kernel_text_value(text, "\npgmigrate_success ", &count) < 0)
        return 0;
    return count;
}

/* ---- how many pages ---- */

static bool drift_any_open(const struct numaperf__auditor *auditor, uint32_t kind)
{
    for (uint32_t i = 0; i < auditor->rt->worker_count; i++) {
        if (*numaperf__auditor_episode(auditor, kind, (int32_t)i) == NUMAPERF__EPISODE_OPEN)
            return true;
    }
    return false;
}

static uint64_t drift_page_count(const numaperf_rt_t *rt)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < rt->worker_count; i++)
        sum += numaperf__arena_page_count(rt->workers[i].arena) +
               rt->workers[i].stack_length / numaperf__page_bytes();
    return sum;
}

static void drift_choose_pace(struct numaperf__auditor *auditor)
{
    struct numaperf__audit_pace *pace = &auditor->pace;
    uint64_t now_ns = numaperf__clock_now_ns();
    uint64_t migrated = drift_read_migrated();
    bool has_moved = migrated != pace->migrated;
    bool is_rested = now_ns >= pace->rested_ns;
    /* What the cpuset allows decides over all mappings: pages are moved and policies rewritten. */
    bool is_other = !numaperf_nodemask_equal(&pace->nodes, &auditor->confine.nodes);
    pace->nodes = auditor->confine.nodes;

    pace->phase++;
    pace->is_full = is_other || (has_moved && pace->fruitless < AUDIT_FRUITLESS_MAX) ||
                    (has_moved && is_rested) ||
                    (is_rested && drift_any_open(auditor, NUMAPERF_VIOLATION_PAGES));
    pace->is_fruitful = false;
    if (!pace->is_full)
        return;
    pace->migrated = migrated; /* read before the pages are: what moves meanwhile counts again */
    pace->rested_ns = now_ns + drift_page_count(auditor->rt) * AUDIT_REST_NS_PAGE;
}

static bool drift_has_iowq(const numaperf_rt_t *rt)
{
    bool has = false;
    for (uint32_t i = 0; i < rt->worker_count; i++)
        has = has || rt->workers[i].iowq_name[0] != '\0';
    return has;
}

void numaperf__drift_prepare(struct numaperf__auditor *auditor)
{
    if (!auditor->rt->placed)
        return;
    if (numaperf__confine_read(&auditor->confine))
        numaperf__notify_watch(&auditor->notify,
                               auditor->confine.has_group ? &auditor->confine.group : NULL);
    if (drift_has_iowq(auditor->rt))
        auditor->iowq_rc = numaperf__iowq_refresh(&auditor->iowq);
    drift_choose_pace(auditor);
}

void numaperf__drift_finish(struct numaperf__auditor *auditor)
{
    struct numaperf__audit_pace *pace = &auditor->pace;
    if (!pace->is_full)
        return;
    if (pace->is_fruitful)
        pace->fruitless = 0;
    else if (pace->fruitless < AUDIT_FRUITLESS_MAX)
        pace->fruitless++;
}

/* ---- PU and cpuset ---- */

static void drift_look_offline(const struct numaperf__auditor *auditor,
                               const struct numaperf_worker *worker, struct numaperf__finding *out)
{
    const numaperf_cpuset_t *online = &auditor->confine.online;
    if (numaperf_cpuset_count(online) == 0)
        return;
    if (numaperf_cpuset_contains(online, worker->cpu)) {
        out->sight = NUMAPERF__SIGHT_HOME;
        return;
    }
    char list[48];
    (void)numaperf_cpuset_format(online, list, sizeof(list)); /* cut when too long */
    out->sight = NUMAPERF__SIGHT_DRIFTED;
    (void)snprintf(out->text, sizeof(out->text),
                   "worker %u, node %d: wanted PU %d online, found PUs %s online", worker->index,
                   worker->node->id, worker->cpu, list);
}

static void drift_look_cpuset(const struct numaperf__auditor *auditor,
                              const struct numaperf_worker *worker, struct numaperf__finding *out)
{
    const struct numaperf__confine *confine = &auditor->confine;
    char list[48];
    /* Of a PU that is offline the cpuset does not tell. */
    bool has_cpus = numaperf_cpuset_count(&confine->cpus) > 0 &&
                    numaperf_cpuset_contains(&confine->online, worker->cpu);
    bool has_nodes = numaperf_nodemask_count(&confine->nodes) > 0;
    if (has_nodes && !numaperf_nodemask_contains(&confine->nodes, worker->node->id)) {
        (void)numaperf_nodemask_format(&confine->nodes, list, sizeof(list)); /* as above */
        (void)snprintf(out->text, sizeof(out->text),
                       "worker %u: wanted node %d in the cpuset's memory, found nodes %s",
                       worker->index, worker->node->id, list);
        out->sight = NUMAPERF__SIGHT_DRIFTED;
    } else if (has_cpus && !numaperf_cpuset_contains(&confine->cpus, worker->cpu)) {
        (void)numaperf_cpuset_format(&confine->cpus, list, sizeof(list)); /* as above */
        (void)snprintf(out->text, sizeof(out->text),
                       "worker %u, node %d: wanted PU %d in the cpuset, found PUs %s",
                       worker->index, worker->node->id, worker->cpu, list);
        out->sight = NUMAPERF__SIGHT_DRIFTED;
    } else if (has_cpus || (has_nodes && numaperf_cpuset_count(&confine->cpus) == 0)) {
        out->sight = NUMAPERF__SIGHT_HOME; /* the latter: nothing tells of PUs, at no look */
    }
}

/* ---- parts ---- */

/* What a part's look means; a finding that is drifted already gets no better by it. */
static void drift_take_part(const struct numaperf_worker *worker, enum numaperf__part part,
                            const struct numaperf__look *look, struct numaperf__finding *io_finding)
{
    if (look->verdict == NUMAPERF__LOOK_NO_PART || io_finding->sight == NUMAPERF__SIGHT_DRIFTED)
        return;
    if (look->verdict == NUMAPERF__LOOK_UNREADABLE) {
        io_finding->sight = NUMAPERF__SIGHT_UNKNOWN;
    } else if (look->verdict == NUMAPERF__LOOK_DRIFTED) {
        io_finding->sight = NUMAPERF__SIGHT_DRIFTED;
        (void)snprintf(io_finding->text, sizeof(io_finding->text),
                       "worker %u, thread %d, node %d: %s: wanted %s, found %s", worker->index,
                       worker->thread_id, worker->node->id, numaperf__part_name(part), look->wanted,
                       look->found);
    }
}

static void drift_look_part(struct numaperf__auditor *auditor, const struct numaperf_worker *worker,
                            enum numaperf__part part, struct numaperf__finding *io_finding)
{
    struct numaperf__look look;
    struct numaperf__audit_sample some = {
        .pages_max = AUDIT_PAGES / auditor->rt->worker_count,
        .phase = auditor->pace.phase,
        .give_up = &auditor->stopping,
    };
    if (some.pages_max < AUDIT_PAGES_WORKER_MIN)
        some.pages_max = AUDIT_PAGES_WORKER_MIN;
    if (auditor->pace.is_full)
        some.pages_max = AUDIT_ALL_PAGES;
    if (part == NUMAPERF__PART_IOWQ && auditor->iowq_rc == 0)
        numaperf__look_at_iowq(worker, &auditor->iowq, &look);
    else
        numaperf__look_at_some(worker, part, &some, &look);
    numaperf__evidence_add(auditor->rt->evidence, worker->index, part, &look);
    drift_take_part(worker, part, &look, io_finding);
}

static void drift_look_pages(struct numaperf__auditor *auditor,
                             const struct numaperf_worker *worker,
                             struct numaperf__finding *io_finding)
{
    static const enum numaperf__part parts[] = {NUMAPERF__PART_ARENA, NUMAPERF__PART_STACK,
                                                NUMAPERF__PART_QUEUES, NUMAPERF__PART_RING};
    bool was_open = *numaperf__auditor_episode(auditor, NUMAPERF_VIOLATION_PAGES,
                                               (int32_t)worker->index) == NUMAPERF__EPISODE_OPEN;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        drift_look_part(auditor, worker, parts[i], io_finding);
    bool is_away = io_finding->sight == NUMAPERF__SIGHT_DRIFTED;
    if (is_away != was_open)
        auditor->pace.is_fruitful = true;
    /* A sample that shows nothing does not show that all is in order again. */
    if (was_open && !is_away && !auditor->pace.is_full)
        io_finding->sight = NUMAPERF__SIGHT_UNKNOWN;
}

void numaperf__drift_look(struct numaperf__auditor *auditor, uint32_t kind, int32_t worker,
                          struct numaperf__finding *out)
{
    memset(out, 0, sizeof(*out));
    out->kind = kind;
    out->worker = worker;
    if (kind == NUMAPERF_VIOLATION_BALANCING) {
        drift_look_balancing(out);
        return;
    }
    NUMAPERF_ASSERT(worker >= 0 && (uint32_t)worker < auditor->rt->worker_count);
    const struct numaperf_worker *of = &auditor->rt->workers[worker];
    if (kind == NUMAPERF_VIOLATION_OFFLINE) {
        drift_look_offline(auditor, of, out);
    } else if (kind == NUMAPERF_VIOLATION_CPUSET) {
        drift_look_cpuset(auditor, of, out);
    } else {
        out->sight = NUMAPERF__SIGHT_HOME; /* of a part that it lacks */
        if (kind == NUMAPERF_VIOLATION_AFFINITY)
            drift_look_part(auditor, of, NUMAPERF__PART_AFFINITY, out);
        else if (kind == NUMAPERF_VIOLATION_MEMPOLICY)
            drift_look_part(auditor, of, NUMAPERF__PART_MEMPOLICY, out);
        else if (kind == NUMAPERF_VIOLATION_IOWQ)
            drift_look_part(auditor, of, NUMAPERF__PART_IOWQ, out);
        else
            drift_look_pages(auditor, of, out);
    }
}

void numaperf__drift_look_whole(struct numaperf__auditor *auditor, uint32_t kind, int32_t worker,
                                struct numaperf__finding *out)
{
    bool was_full = auditor->pace.is_full;
    auditor->pace.is_full = true;
    numaperf__drift_look(auditor, kind, worker, out);
    auditor->pace.is_full = was_full;
}
