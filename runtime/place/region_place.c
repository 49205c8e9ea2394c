/* SPDX-License-Identifier: MIT */
/*
 * Placing pages, in an order that cannot wake the out-of-memory killer: room is checked first;
 * pages are populated under a policy that prefers the nodes but spills; strays are moved, which a
 * full node refuses with an errno; only then is the range bound, and the policy read back. Binding
 * first and touching later on a full node kills the process instead.
 *
 * Huge pages of the reserved pools are the exception: a node without them fails a populate with
 * EFAULT and kills nobody, so they are bound first.
 *
 * What strict means here: BIND, the range is bound to exactly these nodes, so that later pages
 * land there too, and no present page is elsewhere. PREFERRED, LOCAL and INTERLEAVE may spill when
 * a node fills, so they are strict only when everything was populated and found in place (LOCAL:
 * on the node that create ran on; INTERLEAVE: spread evenly), and best effort otherwise.
 *
 * Threads: a job belongs to the thread that creates the region.
 * Source: mbind(2), move_pages(2), Documentation/admin-guide/mm/numa_memory_policy.rst.
 */
#include "place/region_place.h"

#include "base/assert.h"
#include "base/error.h"
#include "place/enforce.h"
#include "place/headroom.h"
#include "place/pages.h"
#include "place/pin.h"
#include "place/prefault.h"
#include "place/range_policy.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MPOL_PREFERRED_MANY /* since Linux 5.15 */
#define MPOL_PREFERRED_MANY 5
#endif

/* Interleaving goes by transparent huge page where there are some: unevenness that is none. */
#define INTERLEAVE_SLACK_BYTES ((uint64_t)4 << 20)
#define TRANSPARENT_HUGE_BYTES ((size_t)2 << 20)

#define CGROUP_TEXT_MAX 160 /* of a cgroup's name in a reason, which is not longer */

int numaperf__region_note(struct numaperf__region_job *job, numaperf_enforcement_level_t level,
                          int sys_errno, const char *operation, const char *reason, ...)
{
    NUMAPERF_ASSERT(level != NUMAPERF_ENFORCE_STRICT);

    char text[sizeof(job->enforcement.reason)];
    va_list args;
    va_start(args, reason);
    (void)vsnprintf(text, sizeof(text), reason, args); /* cut like any reason */
    va_end(args);

    numaperf_enforcement_t found;
    numaperf_enforcement_t settled;
    numaperf__enforce_set(&found, level, "%s", text);
    int rc = numaperf__enforce_settle((numaperf_mode_t)job->cfg.mode, &found, sys_errno, operation,
                                      &settled);
    if (rc < 0)
        return rc;
    numaperf__enforce_lower(&job->enforcement, &settled);
    return 0;
}

/* ---- which nodes ---- */

static void goal_name(struct numaperf__region_job *job)
{
    char list[48];
    const char *word = numaperf_nodemask_count(&job->goal) == 1 ? "node" : "nodes";
    if (numaperf_nodemask_format(&job->goal, list, sizeof(list)) < 0)
        (void)snprintf(list, sizeof(list), "?"); /* short of memory for a mere name */
    (void)snprintf(job->goal_name, sizeof(job->goal_name), "%s %s", word, list);
}

static int goal_check_exists(const struct numaperf__region_job *job,
                             const numaperf_nodemask_t *with_memory)
{
    for (int node = numaperf_nodemask_next(&job->goal, -1); node >= 0;
         node = numaperf_nodemask_next(&job->goal, node)) {
        if (!numaperf_nodemask_contains(with_memory, node))
            return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "region",
                                  "node %d is absent or has no memory", node);
    }
    numaperf_nodemask_t usable;
    numaperf_nodemask_intersect(&job->goal, &job->allowed, &usable);
    if (numaperf_nodemask_count(&usable) == 0)
        return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "region",
                              "%s: the cpuset of this thread allows no memory there",
                              job->goal_name);
    return 0;
}

int numaperf__region_goal(struct numaperf__region_job *job)
{
    job->goal = job->cfg.nodes;
    int node = -1;
    if (job->cfg.policy == NUMAPERF_MEM_LOCAL && numaperf__current_cpu(NULL, &node) == 0)
        job->goal = numaperf_nodemask_single(node);
    goal_name(job);

    numaperf_nodemask_t with_memory;
    int rc_memory = numaperf__nodes_with_memory(&with_memory);
    int rc_allowed = numaperf__nodes_allowed(&job->allowed);
    if (rc_memory == 0 && rc_allowed == 0)
        numaperf_nodemask_intersect(&with_memory, &job->allowed, &job->allowed);
    else if (rc_memory == 0)
        job->allowed = with_memory;
    else if (rc_allowed == 0)
        with_memory = job->allowed;
    else
        return 0; /* nothing tells: the kernel will, when it is asked to bind */
    if (job->cfg.policy == NUMAPERF_MEM_LOCAL)
        return 0; /* of a node without memory, the nearest one is local */
    return goal_check_exists(job, &with_memory);
}

/* ---- room ---- */

static bool place_populates(const struct numaperf__region_job *job)
{
    return job->cfg.prefault != NUMAPERF_PREFAULT_NONE || job->cfg.mode == NUMAPERF_MODE_HARD ||
           (job->cfg.flags & NUMAPERF_REGION_LOCK) != 0 || job->is_hugetlb;
}

/* A file whose pages are copied when they are populated. */
static bool place_copies(const struct numaperf__region_job *job)
{
    return (job->cfg.flags & NUMAPERF_REGION_PRIVATE) != 0 &&
           (job->cfg.flags & NUMAPERF_REGION_READ_ONLY) == 0;
}

/* Shared page cache of a file system: the kernel reclaims it, and no policy steers it. */
static bool place_is_page_cache(const struct numaperf__region_job *job)
{
    if ((job->cfg.flags & NUMAPERF_REGION_HAS_FD) == 0 || job->file.follows_policy)
        return false;
    return !(place_copies(job) && place_populates(job));
}

/* Too little memory for the whole call: an error in both modes, since going on would kill. */
static int headroom_refuse(const struct numaperf__region_job *job, const char *where, uint64_t need,
                           uint64_t room)
{
    int code = job->cfg.mode == NUMAPERF_MODE_HARD ? NUMAPERF_E_HARD_MODE : -ENOMEM;
    return numaperf__fail(code, ENOMEM, "headroom",
                          "%s: too little memory: %" PRIu64 " KiB needed, %" PRIu64 " KiB left%s",
                          job->goal_name, need / 1024, room / 1024, where);
}

static int headroom_machine(const struct numaperf__region_job *job, uint64_t need)
{
    /* Page tables are charged too: one page for 512. */
    need += need / 256;
    char where[CGROUP_TEXT_MAX] = " by the memory cgroup's ";
    size_t length = strlen(where);
    uint64_t room = numaperf__headroom_cgroup(where + length, sizeof(where) - length);
    if (room < need + NUMAPERF__HEADROOM_CGROUP_RESERVE)
        return headroom_refuse(job, where, need + NUMAPERF__HEADROOM_CGROUP_RESERVE, room);
    room = numaperf_nodemask_count(&job->allowed) > 0 ? numaperf__headroom_nodes(&job->allowed)
                                                      : UINT64_MAX;
    uint64_t reserve = numaperf__headroom_reserve();
    if (room < need + reserve)
        return headroom_refuse(job, " on all nodes together", need + reserve, room);
    return 0;
}

/* A node that must take `share` bytes and cannot: refused in hard mode, spilled in soft mode. */
static int headroom_goal(struct numaperf__region_job *job, uint64_t need)
{
    numaperf_nodemask_t usable;
    numaperf_nodemask_intersect(&job->goal, &job->allowed, &usable);
    int node_count = numaperf_nodemask_count(&usable);
    if (node_count == 0)
        return 0; /* unknown, or refused elsewhere */

    uint64_t room = numaperf__headroom_nodes(&usable);
    if (job->cfg.policy == NUMAPERF_MEM_INTERLEAVE) {
        need /= (uint64_t)node_count;
        for (int node = numaperf_nodemask_next(&usable, -1); node >= 0;
             node = numaperf_nodemask_next(&usable, node)) {
            uint64_t node_room = numaperf__headroom_node(node);
            room = node_room < room ? node_room : room;
        }
    }
    if (room >= need)
        return 0;
    job->is_spilled = true;
    return numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, ENOMEM, "headroom",
                                 "%s: too little memory: %" PRIu64 " KiB needed, %" PRIu64
                                 " KiB free",
                                 job->goal_name, need / 1024, room / 1024);
}

/* Bytes that populating takes from nodes and cgroups. */
static uint64_t headroom_need(const struct numaperf__region_job *job)
{
    uint64_t length = job->range.length;
    if ((job->cfg.flags & NUMAPERF_REGION_HAS_FD) == 0)
        return length;
    /* A private write to a hole makes the file's page first, and then the copy. */
    uint64_t need = place_copies(job) ? length : 0;
    if (job->file.follows_policy)
        need += length - numaperf__file_held(&job->file, length);
    return need;
}

static int place_headroom(struct numaperf__region_job *job)
{
    if (job->is_hugetlb || place_is_page_cache(job))
        return 0; /* pools have their own count; page cache is reclaimed */
    uint64_t need = headroom_need(job);
    bool populates = place_populates(job);
    if (!populates && job->cfg.policy != NUMAPERF_MEM_BIND)
        return 0; /* pages to come spill */
    if (!populates)
        need += numaperf__headroom_reserve(); /* bound, they die at the watermark: no spilling */
    int rc = headroom_goal(job, need);
    if (rc < 0 || !populates)
        return rc;
    return headroom_machine(job, need);
}

int numaperf__region_admit(struct numaperf__region_job *job)
{
    int rc = 0;
    if (job->extra.unplaced_reason != NULL)
        rc = numaperf__region_note(job, NUMAPERF_ENFORCE_NONE, 0, "region", "%s",
                                   job->extra.unplaced_reason);
    else if (place_is_page_cache(job))
        rc = numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, 0, "region",
                                   "fd %d: page cache of its file system follows no memory policy",
                                   job->cfg.fd);
    if (rc < 0)
        return rc;
    return place_headroom(job);
}

/* ---- policy ---- */

static int place_policy(const struct numaperf__region_job *job)
{
    switch (job->cfg.policy) {
    case NUMAPERF_MEM_BIND:
        return MPOL_BIND;
    case NUMAPERF_MEM_PREFERRED:
        return MPOL_PREFERRED;
    case NUMAPERF_MEM_INTERLEAVE:
        return MPOL_INTERLEAVE;
    default:
        NUMAPERF_ASSERT(job->cfg.policy == NUMAPERF_MEM_LOCAL);
        return MPOL_LOCAL;
    }
}

static bool place_binds_late(const struct numaperf__region_job *job)
{
    return job->cfg.policy == NUMAPERF_MEM_BIND && !job->is_hugetlb;
}

static int place_set_spilling(const struct numaperf__region_job *job)
{
    int first = numaperf_nodemask_next(&job->cfg.nodes, -1);
    numaperf_nodemask_t one = numaperf_nodemask_single(first);
    if (numaperf_nodemask_equal(&one, &job->cfg.nodes))
        return numaperf__range_policy_set(&job->range, MPOL_PREFERRED, &one, 0);
    int rc = numaperf__range_policy_set(&job->range, MPOL_PREFERRED_MANY, &job->cfg.nodes, 0);
    if (rc != -EINVAL)
        return rc;
    /* A kernel without it prefers one node; the others are tried when strays are moved. */
    numaperf_nodemask_t usable;
    numaperf_nodemask_intersect(&job->goal, &job->allowed, &usable);
    if (numaperf_nodemask_count(&usable) > 0)
        one = numaperf_nodemask_single(numaperf_nodemask_next(&usable, -1));
    return numaperf__range_policy_set(&job->range, MPOL_PREFERRED, &one, 0);
}

static int place_first_policy(struct numaperf__region_job *job)
{
    int rc = place_binds_late(job)
                 ? place_set_spilling(job)
                 : numaperf__range_policy_set(&job->range, place_policy(job), &job->cfg.nodes, 0);
    if (rc == 0)
        return 0;
    job->is_refused = true;
    return numaperf__region_note(job, NUMAPERF_ENFORCE_NONE, -rc, "mbind",
                                 "%s: the kernel refuses the memory policy: %s", job->goal_name,
                                 numaperf_strerror(rc));
}

/* ---- pages ---- */

int numaperf__region_lacks_huge(struct numaperf__region_job *job, int sys_errno)
{
    uint64_t mib = job->range.page_bytes >> 20;
    if ((job->cfg.flags & NUMAPERF_REGION_HAS_FD) != 0 && job->cfg.mode != NUMAPERF_MODE_HARD)
        return numaperf__fail(-ENOMEM, sys_errno, "populate",
                              "%s: too few free huge pages of %" PRIu64 " MiB for the file",
                              job->goal_name, mib);
    const char *outcome = job->cfg.mode == NUMAPERF_MODE_HARD ? "" : ", small ones instead";
    int rc = numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, sys_errno, "huge pages",
                                   "%s: too few free huge pages of %" PRIu64 " MiB%s",
                                   job->goal_name, mib, outcome);
    return rc < 0 ? rc : NUMAPERF__REGION_LACKS_HUGE;
}

static uint32_t populate_touch(const struct numaperf__region_job *job)
{
    if (job->is_hugetlb)
        return NUMAPERF__TOUCH_REFUSE;
    if ((job->cfg.flags & NUMAPERF_REGION_HAS_FD) == 0)
        return NUMAPERF__TOUCH_CLEAR;
    return place_copies(job) ? NUMAPERF__TOUCH_REWRITE : NUMAPERF__TOUCH_READ;
}

static void populate_helpers(const struct numaperf__region_job *job,
                             struct numaperf__prefault_plan *plan)
{
    if (job->cfg.prefault != NUMAPERF_PREFAULT_PARALLEL)
        return;
    for (int node = numaperf_nodemask_next(&job->goal, -1); node >= 0;
         node = numaperf_nodemask_next(&job->goal, node)) {
        numaperf_cpuset_t cpus;
        numaperf__node_cpus(node, &cpus);
        numaperf_cpuset_union(&plan->cpus, &cpus, &plan->cpus);
    }
    plan->threads = job->cfg.prefault_threads;
    if (plan->threads == 0)
        plan->threads = numaperf__prefault_threads(&job->range, &plan->cpus);
}

static int place_populate(struct numaperf__region_job *job)
{
    struct numaperf__prefault_plan plan;
    memset(&plan, 0, sizeof(plan));
    plan.writable = (job->cfg.flags & NUMAPERF_REGION_READ_ONLY) == 0;
    plan.touch = populate_touch(job);
    populate_helpers(job, &plan);
    int rc = numaperf__prefault(&job->range, &plan);
    if (rc == 0)
        return 0;
    if (job->is_hugetlb && (rc == -EFAULT || rc == -ENOSYS || rc == -ENOMEM))
        return numaperf__region_lacks_huge(job, -rc);
    int code = job->cfg.mode == NUMAPERF_MODE_HARD ? NUMAPERF_E_HARD_MODE : rc;
    return numaperf__fail(code, -rc, "populate", "%s: pages cannot be populated: %s",
                          job->goal_name, numaperf_strerror(rc));
}

static int place_query(struct numaperf__region_job *job)
{
    memset(&job->placement, 0, sizeof(job->placement));
    int rc = numaperf__range_query(&job->range, &job->placement);
    if (rc == 0)
        return 0;
    job->placement.pages = 0;
    return rc;
}

/* Pages that a node may hold above or below its share of an even spread. */
static uint64_t interleave_slack(const struct numaperf__region_job *job, uint64_t share)
{
    uint64_t page = numaperf__page_bytes();
    if (job->is_hugetlb || job->cfg.huge_pages == NUMAPERF_HUGE_NONE ||
        job->range.length < TRANSPARENT_HUGE_BYTES)
        return job->range.page_bytes / page;
    /* Whatever huge pages do to a short range: with less than half of a share it is not spread. */
    uint64_t slack = INTERLEAVE_SLACK_BYTES / page;
    return slack < share / 2 ? slack : share / 2;
}

/* Every node of the goal holds its share. Returns the first that does not, or -1. */
static int interleave_uneven(const struct numaperf__region_job *job)
{
    uint64_t node_count = (uint64_t)numaperf_nodemask_count(&job->goal);
    uint64_t share = job->placement.pages / node_count;
    uint64_t slack = interleave_slack(job, share);
    for (int node = numaperf_nodemask_next(&job->goal, -1); node >= 0;
         node = numaperf_nodemask_next(&job->goal, node)) {
        uint64_t held = job->placement.on_node[node];
        if (held + slack < share || held > share + slack)
            return node;
    }
    return -1;
}

/* Whether the last query shows everything where it shall be; notes why not. */
static int place_judge(struct numaperf__region_job *job, int move_rc)
{
    const numaperf_placement_t *placement = &job->placement;
    uint64_t strays = numaperf__placement_strays(placement, &job->goal);
    if (strays > 0) {
        job->is_spilled = true;
        return numaperf__region_note(
            job, NUMAPERF_ENFORCE_BEST_EFFORT, move_rc < 0 ? -move_rc : ENOMEM, "move_pages",
            "%s: too little memory: %" PRIu64 " of %" PRIu64 " pages are elsewhere%s",
            job->goal_name, strays, placement->pages, move_rc < 0 ? " and cannot be moved" : "");
    }
    if (placement->absent > 0)
        return numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, 0, "move_pages",
                                     "%s: %" PRIu64 " of %" PRIu64 " pages are not present",
                                     job->goal_name, placement->absent, placement->pages);
    int uneven = job->cfg.policy == NUMAPERF_MEM_INTERLEAVE ? interleave_uneven(job) : -1;
    if (uneven >= 0)
        return numaperf__region_note(
            job, NUMAPERF_ENFORCE_BEST_EFFORT, ENOMEM, "interleave",
            "node %d holds %" PRIu64 " of %" PRIu64 " pages: not spread evenly over %s", uneven,
            placement->on_node[uneven], placement->pages, job->goal_name);
    return 0;
}

static int place_pages(struct numaperf__region_job *job)
{
    int rc = place_query(job);
    int move_rc = 0;
    if (rc == 0 && numaperf__placement_strays(&job->placement, &job->goal) > 0) {
        move_rc = numaperf__range_move_strays(&job->range, &job->goal);
        rc = place_query(job);
    }
    if (rc < 0)
        return numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, -rc, "move_pages",
                                     "%s: the kernel does not tell where the pages are: %s",
                                     job->goal_name, numaperf_strerror(rc));
    return place_judge(job, move_rc);
}

/* Pages to come: nothing was populated, so only a bound range can be promised anything. */
static int place_absent_pages(struct numaperf__region_job *job)
{
    if ((job->cfg.flags & NUMAPERF_REGION_HAS_FD) != 0)
        return numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, 0, "region",
                                     "pages that the file has already are only looked at when "
                                     "they are prefaulted");
    if (job->cfg.policy == NUMAPERF_MEM_BIND)
        return 0;
    return numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, 0, "region",
                                 "no page is present yet, and without BIND a full node spills");
}

/* ---- bind and read back ---- */

static int place_last_policy(struct numaperf__region_job *job)
{
    int rc = 0;
    if (place_binds_late(job)) {
        if (job->is_spilled)
            return 0; /* bound, the next fault on a full node would kill: stay spilling */
        rc = numaperf__range_policy_set(&job->range, MPOL_BIND, &job->cfg.nodes, MPOL_MF_STRICT);
    }
    if (rc < 0)
        return numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, -rc, "mbind",
                                     "%s: the range cannot be bound: %s", job->goal_name,
                                     numaperf_strerror(rc));
    numaperf_nodemask_t held;
    numaperf_nodemask_zero(&held);
    rc = numaperf__range_policy_verify(&job->range, place_policy(job), &job->cfg.nodes, &held);
    if (rc == 0)
        return 0;
    if (rc != -ERANGE)
        return numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, -rc, "get_mempolicy",
                                     "%s: the memory policy cannot be read back: %s",
                                     job->goal_name, numaperf_strerror(rc));
    char list[48];
    if (numaperf_nodemask_format(&held, list, sizeof(list)) < 0)
        (void)snprintf(list, sizeof(list), "?"); /* short of memory for a mere name */
    return numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, 0, "get_mempolicy",
                                 "%s: the kernel holds another policy or only node %s (cpuset)",
                                 job->goal_name, list);
}

static int place_lock(struct numaperf__region_job *job)
{
    if ((job->cfg.flags & NUMAPERF_REGION_LOCK) == 0)
        return 0;
    if (mlock(job->range.base, job->range.length) == 0)
        return 0;
    int sys_errno = errno;
    return numaperf__region_note(job, NUMAPERF_ENFORCE_BEST_EFFORT, sys_errno, "mlock",
                                 "%zu bytes cannot be locked (RLIMIT_MEMLOCK, CAP_IPC_LOCK): %s",
                                 job->range.length, numaperf_strerror(-sys_errno));
}

/* The steps between the first policy and the lock. */
static int place_steps(struct numaperf__region_job *job)
{
    int rc = 0;
    if (place_populates(job)) {
        rc = place_populate(job);
        if (rc != 0 || job->is_refused)
            return rc;
        rc = place_pages(job);
    } else if (!job->is_refused) {
        rc = place_absent_pages(job);
    }
    if (rc < 0 || job->is_refused)
        return rc;
    return place_last_policy(job);
}

int numaperf__region_place(struct numaperf__region_job *job)
{
    NUMAPERF_ASSERT(job->range.base != NULL);
    NUMAPERF_ASSERT(job->range.length % job->range.page_bytes == 0);

    int rc = 0;
    if (job->extra.unplaced_reason != NULL) {
        /* The thread's own policy may name a node; that this is refused changes nothing here. */
        (void)numaperf__range_policy_set(&job->range, MPOL_LOCAL, &job->cfg.nodes, 0);
        job->is_refused = true;
    } else {
        rc = place_first_policy(job);
    }
    if (rc == 0)
        rc = place_steps(job);
    if (rc == 0)
        rc = place_lock(job);
    NUMAPERF_ASSERT(rc != 0 || job->cfg.mode != NUMAPERF_MODE_HARD ||
                    numaperf_is_strict(&job->enforcement));
    return rc;
}
