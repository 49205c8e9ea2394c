/* SPDX-License-Identifier: MIT */
/*
 * Looking at a worker: each part is read back from the kernel and compared with what start has set.
 * A verdict of HOME or DRIFTED is what the kernel said at that moment, never what a call returned.
 *
 * A page that is nowhere is not elsewhere: only pages present on another node are a drift, or a
 * mapping with another policy than the one it was made with. Memory that could not be bound when it
 * was made (soft mode) has no policy to keep. Of the affinity the mask alone decides: where a
 * thread ran last is of no meaning while it sleeps.
 *
 * Thread rule: reads what the worker wrote before the start ended, and asks the kernel about its
 * thread by id; its affinity and policy under state_mutex, see child.c.
 *
 * Source: sched_getaffinity(2); move_pages(2); get_mempolicy(2); proc(5): "numa_maps", whose
 * policies are those of the thread whose directory it is read from, and "stat".
 */
#include "sched/look.h"

#include "base/assert.h"
#include "place/arena.h"
#include "place/kernel_text.h"
#include "place/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOOK_STAT_PROCESSOR 39 /* field of the stat file */
#define LOOK_POLICY_READ 64    /* of numa_maps: a longer read has the kernel walk more mappings */

static void look_date(struct numaperf__look *out)
{
    struct timespec now;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    NUMAPERF_ASSERT(rc == 0);
    out->time_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void look_settle(struct numaperf__look *out, enum numaperf__verdict verdict)
{
    out->verdict = verdict;
}

static void look_unreadable(struct numaperf__look *out, int rc)
{
    NUMAPERF_ASSERT(rc < 0);
    out->verdict = NUMAPERF__LOOK_UNREADABLE;
    out->sys_errno = -rc;
}

/* "PU 3", "PUs 0-3", cut when too long. */
static void look_cpus_text(const numaperf_cpuset_t *cpus, char *out, size_t size)
{
    char list[48] = "?";
    (void)numaperf_cpuset_format(cpus, list, sizeof(list)); /* cut when too long */
    (void)snprintf(out, size, "%s %s", numaperf_cpuset_count(cpus) == 1 ? "PU" : "PUs", list);
}

/* ---- thread ---- */

/* The PU that a thread ran on last; -1 when nothing tells. */
static int look_last_cpu(int thread_id)
{
    char path[64];
    char text[512];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread_id);
    if (numaperf__kernel_text_read(path, text, sizeof(text)) < 0)
        return -1;
    const char *at = numaperf__kernel_text_stat_field(text, LOOK_STAT_PROCESSOR);
    return at != NULL ? (int)strtol(at, NULL, 10) : -1;
}

static int look_affinity_read(const struct numaperf_worker *worker, numaperf_cpuset_t *out)
{
    int rc = numaperf__worker_lock_state(worker);
    if (rc < 0)
        return rc;
    rc = numaperf__affinity_get(worker->thread_id, out);
    numaperf__worker_unlock_state(worker);
    return rc;
}

static void look_at_affinity(const struct numaperf_worker *worker, struct numaperf__look *out)
{
    (void)snprintf(out->wanted, sizeof(out->wanted), "PU %d", worker->cpu);
    numaperf_cpuset_t cpus;
    int rc = look_affinity_read(worker, &cpus);
    if (rc < 0) {
        look_unreadable(out, rc);
        return;
    }
    look_cpus_text(&cpus, out->found, sizeof(out->found));
    if (numaperf_cpuset_count(&cpus) == 1 && numaperf_cpuset_contains(&cpus, worker->cpu)) {
        look_settle(out, NUMAPERF__LOOK_HOME);
        return;
    }
    size_t length = strlen(out->found);
    int cpu = look_last_cpu(worker->thread_id);
    if (cpu >= 0)
        (void)snprintf(out->found + length, sizeof(out->found) - length, ", last ran on PU %d",
                       cpu);
    look_settle(out, NUMAPERF__LOOK_DRIFTED);
}

/* The second word of the first line of numa_maps: a mapping without a policy of its own. */
static int look_policy_read(int thread_id, char *out, size_t size)
{
    char path[64];
    char line[LOOK_POLICY_READ + 1];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/numa_maps", thread_id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = read(fd, line, sizeof(line) - 1);
    int rc = n < 0 ? -errno : 0;
    (void)close(fd); /* was only read */
    if (rc < 0)
        return rc;
    line[n] = '\0';
    const char *word = strchr(line, ' ');
    if (word == NULL)
        return -EIO;
    (void)snprintf(out, size, "%.*s", (int)strcspn(word + 1, " \n"), word + 1);
    return 0;
}

static void look_at_mempolicy(const struct numaperf_worker *worker, struct numaperf__look *out)
{
    (void)snprintf(out->wanted, sizeof(out->wanted), "prefer:%d", worker->node->id);
    int rc = numaperf__worker_lock_state(worker);
    if (rc == 0) {
        rc = look_policy_read(worker->thread_id, out->found, sizeof(out->found));
        numaperf__worker_unlock_state(worker);
    }
    if (rc < 0)
        look_unreadable(out, rc);
    else
        look_settle(out, strcmp(out->found, out->wanted) == 0 ? NUMAPERF__LOOK_HOME
                                                              : NUMAPERF__LOOK_DRIFTED);
}

/* ---- memory ---- */

static void look_pages_text(const struct numaperf__audit_counts *counts, int node,
                            struct numaperf__look *out)
{
    uint64_t away = counts->pages - counts->home - counts->absent;
    int length = 0;
    if (away > 0)
        length = snprintf(out->found, sizeof(out->found),
                          "%" PRIu64 " of %" PRIu64 " pages elsewhere", away, counts->pages);
    else
        length = snprintf(out->found, sizeof(out->found), "%" PRIu64 " pages on node %d",
                          counts->home, node);
    if (counts->other == 0)
        return;
    char policy[40];
    numaperf__audit_policy_name(counts->policy, &counts->nodes, policy, sizeof(policy));
    (void)snprintf(out->found + length, sizeof(out->found) - (size_t)length, ", policy %s", policy);
}

static void look_pages_settle(const struct numaperf_worker *worker,
                              const struct numaperf__audit_counts *counts,
                              struct numaperf__look *out)
{
    int node = worker->node->id;
    NUMAPERF_ASSERT(counts->home + counts->absent <= counts->pages);
    out->pages = counts->pages;
    out->pages_home = counts->home;
    out->pages_absent = counts->absent;
    (void)snprintf(out->wanted, sizeof(out->wanted),
                   counts->policies > 0 ? "node %d, policy bind:%d" : "node %d", node, node);
    look_pages_text(counts, node, out);
    if (counts->home + counts->absent < counts->pages || counts->other > 0)
        look_settle(out, NUMAPERF__LOOK_DRIFTED);
    else
        look_settle(out, NUMAPERF__LOOK_HOME);
}

/* A list that stays as it is: a sample of it, and all of it where the sample shows a drift. */
static int look_ranges(const struct numaperf__audit_range *ranges, size_t count, int node,
                       const struct numaperf__audit_sample *sample,
                       struct numaperf__audit_counts *out)
{
    memset(out, 0, sizeof(*out));
    int rc = numaperf__audit_look(ranges, count, node, sample, out);
    if (rc < 0 || sample == NULL || (out->home + out->absent == out->pages && out->other == 0))
        return rc;
    memset(out, 0, sizeof(*out));
    return numaperf__audit_look(ranges, count, node, NULL, out);
}

static void look_at_ranges(const struct numaperf_worker *worker,
                           const struct numaperf__audit_range *ranges, size_t count,
                           const struct numaperf__audit_sample *sample, struct numaperf__look *out)
{
    struct numaperf__audit_counts counts;
    int rc = look_ranges(ranges, count, worker->node->id, sample, &counts);
    if (rc < 0)
        look_unreadable(out, rc);
    else
        look_pages_settle(worker, &counts, out);
}

static void look_at_stack(const struct numaperf_worker *worker,
                          const struct numaperf__audit_sample *sample, struct numaperf__look *out)
{
    struct numaperf__audit_range range;
    numaperf__worker_stack_range(worker, &range);
    look_at_ranges(worker, &range, 1, sample, out);
}

static void look_at_queues(const struct numaperf_worker *worker,
                           const struct numaperf__audit_sample *sample, struct numaperf__look *out)
{
    struct numaperf__audit_range ranges[NUMAPERF__QUEUE_RANGES_MAX];
    size_t count = numaperf__worker_queue_ranges(worker, ranges);
    if (count > 0)
        look_at_ranges(worker, ranges, count, sample, out);
    else
        look_settle(out, NUMAPERF__LOOK_NO_PART);
}

static void look_at_ring(const struct numaperf_worker *worker,
                         const struct numaperf__audit_sample *sample, struct numaperf__look *out)
{
    struct numaperf__audit_range ranges[2];
    struct numaperf__audit_counts counts;
    size_t count = numaperf__worker_ring_ranges(worker, ranges);
    if (count == 0) {
        look_settle(out, NUMAPERF__LOOK_NO_PART);
        return;
    }
    int rc = look_ranges(ranges, count, worker->node->id, sample, &counts);
    if (rc == 0 && counts.absent == counts.pages)
        rc = -ENODATA; /* the kernel's own pages: it may not tell of them */
    if (rc < 0)
        look_unreadable(out, rc);
    else
        look_pages_settle(worker, &counts, out);
}

static void look_at_arena(const struct numaperf_worker *worker,
                          const struct numaperf__audit_sample *sample, struct numaperf__look *out)
{
    struct numaperf__audit_counts counts;
    int rc = numaperf__arena_look(worker->arena, sample, &counts);
    if (rc < 0)
        look_unreadable(out, rc);
    else
        look_pages_settle(worker, &counts, out);
}

/* ---- io-wq ---- */

static bool look_cpus_within(const numaperf_cpuset_t *inner, const numaperf_cpuset_t *outer)
{
    numaperf_cpuset_t both;
    numaperf_cpuset_intersect(inner, outer, &both);
    return numaperf_cpuset_equal(inner, &both);
}

/* The first io-wq thread of the worker that may leave the node: its id; 0 none; -errno. */
static int look_iowq_stray(const struct numaperf_worker *worker, const numaperf_cpuset_t *wanted,
                           const struct numaperf__iowq_census *census, numaperf_cpuset_t *out_cpus,
                           unsigned *out_count)
{
    *out_count = 0;
    for (size_t i = 0; i < census->count; i++) {
        const struct numaperf__iowq_thread *thread = &census->threads[i];
        if (thread->name[0] == '\0' || strcmp(thread->name, worker->iowq_name) != 0)
            continue;
        int rc = numaperf__affinity_get(thread->thread_id, out_cpus);
        if (rc == -ESRCH)
            continue; /* they end when they are idle */
        if (rc < 0)
            return rc;
        (*out_count)++;
        if (!look_cpus_within(out_cpus, wanted))
            return thread->thread_id;
    }
    return 0;
}

void numaperf__look_at_iowq(const struct numaperf_worker *worker,
                            const struct numaperf__iowq_census *census, struct numaperf__look *out)
{
    memset(out, 0, sizeof(*out));
    if (!worker->rt->placed || worker->iowq_name[0] == '\0') {
        look_settle(out, NUMAPERF__LOOK_NO_PART);
        look_date(out);
        return;
    }
    numaperf_cpuset_t wanted;
    numaperf_cpuset_t cpus;
    unsigned count = 0;
    int rc = numaperf_topology_node_cpus(worker->rt->topology, worker->node->id, &wanted);
    NUMAPERF_ASSERT(rc == 0); /* the worker is on it */
    look_cpus_text(&wanted, out->wanted, sizeof(out->wanted));
    rc = look_iowq_stray(worker, &wanted, census, &cpus, &count);
    if (rc < 0) {
        look_unreadable(out, rc);
    } else if (rc > 0) {
        char list[64];
        look_cpus_text(&cpus, list, sizeof(list));
        (void)snprintf(out->found, sizeof(out->found), "io-wq thread %d on %s", rc, list);
        look_settle(out, NUMAPERF__LOOK_DRIFTED);
    } else {
        (void)snprintf(out->found, sizeof(out->found), "%u io-wq threads within", count);
        look_settle(out, NUMAPERF__LOOK_HOME);
    }
    look_date(out);
}

static void look_at_iowq_alone(const struct numaperf_worker *worker, struct numaperf__look *out)
{
    struct numaperf__iowq_census census = {.count = 0};
    int rc = numaperf__iowq_refresh(&census);
    if (rc < 0)
        look_unreadable(out, rc);
    else
        numaperf__look_at_iowq(worker, &census, out);
    numaperf__iowq_free(&census);
}

/* ---- parts ---- */

/* What a part gets of a worker's sample: all but the arena are small. */
static const struct numaperf__audit_sample *look_share(enum numaperf__part part,
                                                       const struct numaperf__audit_sample *sample,
                                                       struct numaperf__audit_sample *out)
{
    if (sample == NULL)
        return NULL;
    uint64_t small = sample->pages_max / 8; /* of everything: everything still */
    *out = *sample;
    out->pages_max = part == NUMAPERF__PART_ARENA ? sample->pages_max - 3 * small : small;
    if (out->pages_max == 0)
        out->pages_max = 1;
    return out;
}

void numaperf__look_at_some(const struct numaperf_worker *worker, enum numaperf__part part,
                            const struct numaperf__audit_sample *sample, struct numaperf__look *out)
{
    struct numaperf__audit_sample own;
    const struct numaperf__audit_sample *share = look_share(part, sample, &own);
    memset(out, 0, sizeof(*out));
    if (!worker->rt->placed && part != NUMAPERF__PART_AFFINITY)
        look_settle(out, NUMAPERF__LOOK_NO_PART);
    else if (part == NUMAPERF__PART_AFFINITY)
        look_at_affinity(worker, out);
    else if (part == NUMAPERF__PART_MEMPOLICY)
        look_at_mempolicy(worker, out);
    else if (part == NUMAPERF__PART_STACK)
        look_at_stack(worker, share, out);
    else if (part == NUMAPERF__PART_ARENA)
        look_at_arena(worker, share, out);
    else if (part == NUMAPERF__PART_QUEUES)
        look_at_queues(worker, share, out);
    else if (part == NUMAPERF__PART_RING)
        look_at_ring(worker, share, out);
    else
        look_at_iowq_alone(worker, out);
    NUMAPERF_ASSERT(out->verdict != NUMAPERF__LOOK_NEVER);
    look_date(out);
}

void numaperf__look_at(const struct numaperf_worker *worker, enum numaperf__part part,
                       struct numaperf__look *out)
{
    numaperf__look_at_some(worker, part, NULL, out);
}

const char *numaperf__part_name(enum numaperf__part part)
{
    static const char *const names[NUMAPERF__PART_COUNT] = {
        "affinity", "memory policy", "stack", "arena", "queues", "ring", "io-wq"};
    NUMAPERF_ASSERT(part < NUMAPERF__PART_COUNT);
    return names[part];
}

const char *numaperf__verdict_name(enum numaperf__verdict verdict)
{
    static const char *const names[] = {"never", "home", "drifted", "unreadable", "no_part"};
    NUMAPERF_ASSERT((size_t)verdict < sizeof(names) / sizeof(names[0]));
    return names[verdict];
}
