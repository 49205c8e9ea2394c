/* SPDX-License-Identifier: MIT */
/*
 * Re-verification: whether mapped memory still is where it was placed, asked of the kernel; and
 * putting it back.
 *
 * A look at everything asks about each page, and each policy; a sample about every n-th page, n so
 * that it stays within its limit. Pages are numbered through the whole list, and phase p asks about
 * those whose number leaves p by division by n: n phases ask about all of them, and each alone sees
 * what happened to many. A page that is nowhere (not touched yet, swapped out, or just on its way)
 * has not left its node.
 *
 * Thread rule: nothing is remembered, so any thread may look; who puts back sees to it that the
 * mapping is not given away meanwhile.
 *
 * Source: move_pages(2), get_mempolicy(2), mbind(2).
 */
#include "place/audit.h"

#include "base/assert.h"
#include "place/headroom.h"
#include "place/pages.h"
#include "place/range_policy.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>

uint64_t numaperf__audit_page_count(const struct numaperf__audit_range *ranges, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += ranges[i].range.length / ranges[i].range.page_bytes;
    return sum;
}

/* ---- look ---- */

static int audit_policy(const struct numaperf__audit_range *range, int node,
                        struct numaperf__audit_counts *counts)
{
    numaperf_nodemask_t wanted = numaperf_nodemask_single(node);
    int policy = 0;
    numaperf_nodemask_t nodes;
    int rc = numaperf__range_policy_get(range->range.base, &policy, &nodes);
    if (rc < 0)
        return rc;
    counts->policies++;
    if (policy == MPOL_BIND && numaperf_nodemask_equal(&nodes, &wanted))
        return 0;
    counts->other++;
    counts->policy = policy;
    counts->nodes = nodes;
    return 0;
}

/* Which pages and which mappings of a list one look asks about: the first, and every n-th. */
struct audit_round {
    uint64_t page;
    uint64_t page_stride;
    uint64_t mapping;
    uint64_t mapping_stride;
    const atomic_bool *give_up;
};

static struct audit_round audit_round_of(const struct numaperf__audit_range *ranges, size_t count,
                                         const struct numaperf__audit_sample *sample)
{
    struct audit_round round = {.page_stride = 1, .mapping_stride = 1};
    if (sample == NULL)
        return round;
    NUMAPERF_ASSERT(sample->pages_max > 0);
    uint64_t total = numaperf__audit_page_count(ranges, count);
    round.page_stride = total / sample->pages_max + (total % sample->pages_max != 0);
    if (round.page_stride == 0)
        round.page_stride = 1;
    round.page = sample->phase % round.page_stride;
    /* Mappings are no more than pages: as many rounds are enough for them. */
    round.mapping_stride = round.page_stride;
    round.mapping = round.page;
    round.give_up = sample->give_up;
    return round;
}

static bool audit_gives_up(const atomic_bool *give_up)
{
    /* Relaxed: that it comes to an end soon is all that hangs on it. */
    return give_up != NULL && atomic_load_explicit(give_up, memory_order_relaxed);
}

static int audit_pages(const struct numaperf__audit_range *ranges, size_t count,
                       const struct audit_round *round, numaperf_placement_t *placement)
{
    uint64_t next = round->page; /* counted from the start of the mapping */
    for (size_t i = 0; i < count; i++) {
        const struct numaperf__range *range = &ranges[i].range;
        uint64_t pages = range->length / range->page_bytes;
        while (next < pages) {
            if (audit_gives_up(round->give_up))
                return -ECANCELED;
            int rc = numaperf__range_query_some(range, round->page_stride, &next, placement);
            if (rc < 0)
                return rc;
        }
        next -= pages;
    }
    return 0;
}

int numaperf__audit_look(const struct numaperf__audit_range *ranges, size_t count, int node,
                         const struct numaperf__audit_sample *sample,
                         struct numaperf__audit_counts *io_counts)
{
    NUMAPERF_ASSERT(node >= 0 && node < NUMAPERF_NODE_MAX);

    struct audit_round round = audit_round_of(ranges, count, sample);
    struct numaperf__audit_counts counts = *io_counts;
    numaperf_placement_t placement;
    memset(&placement, 0, sizeof(placement));
    int rc = 0;
    for (uint64_t i = round.mapping; i < count && rc == 0; i += round.mapping_stride) {
        if (ranges[i].is_bound)
            rc = audit_policy(&ranges[i], node, &counts);
    }
    if (rc == 0)
        rc = audit_pages(ranges, count, &round, &placement);
    if (rc < 0)
        return rc;
    counts.pages += placement.pages;
    counts.home += placement.on_node[node];
    counts.absent += placement.absent;
    *io_counts = counts;
    return 0;
}

/* ---- put back ---- */

/* Whether pages that are not there yet can all come: bound, they would get the process killed. */
static bool audit_has_room(const numaperf_placement_t *placement, int node)
{
    uint64_t room = numaperf__headroom_node(node);
    uint64_t need = placement->absent * numaperf__page_bytes();
    return need == 0 || room == UINT64_MAX || room >= need + numaperf__headroom_reserve();
}

static int audit_query(const struct numaperf__range *range, numaperf_placement_t *out)
{
    memset(out, 0, sizeof(*out));
    return numaperf__range_query(range, out);
}

int numaperf__audit_move_back(const struct numaperf__range *range, int node)
{
    numaperf_nodemask_t nodes = numaperf_nodemask_single(node);
    numaperf_placement_t placement;
    int rc = numaperf__range_move_strays(range, &nodes);
    if (rc == 0)
        rc = audit_query(range, &placement);
    if (rc < 0)
        return rc;
    return numaperf__placement_strays(&placement, &nodes) > 0 ? -ENOMEM : 0;
}

int numaperf__audit_put_back(const struct numaperf__audit_range *range, int node)
{
    numaperf_nodemask_t nodes = numaperf_nodemask_single(node);
    int rc = 0;
    if (range->is_bound)
        rc = numaperf__range_policy_set(&range->range, MPOL_PREFERRED, &nodes, 0);
    if (rc == 0)
        rc = numaperf__audit_move_back(&range->range, node);
    if (rc < 0 || !range->is_bound)
        return rc;

    numaperf_placement_t placement;
    rc = audit_query(&range->range, &placement);
    if (rc < 0)
        return rc;
    if (!audit_has_room(&placement, node))
        return -ENOMEM;
    rc = numaperf__range_policy_set(&range->range, MPOL_BIND, &nodes, 0);
    if (rc < 0)
        return rc;
    numaperf_nodemask_t held;
    rc = numaperf__range_policy_verify(&range->range, MPOL_BIND, &nodes, &held);
    return rc == -ERANGE ? -EIO : rc;
}

void numaperf__audit_policy_name(int policy, const numaperf_nodemask_t *nodes, char *out,
                                 size_t size)
{
    static const char *const names[] = {"default",    "prefer", "bind",
                                        "interleave", "local",  "prefer (many)"};
    unsigned plain = (unsigned)policy & 0xffu; /* without the mode flags, the high bits */
    char list[48] = "";
    if (numaperf_nodemask_count(nodes) > 0)
        (void)numaperf_nodemask_format(nodes, list, sizeof(list)); /* cut when too long */
    (void)snprintf(out, size, "%s%s%s",
                   plain < sizeof(names) / sizeof(names[0]) ? names[plain] : "another",
                   list[0] != '\0' ? ":" : "", list);
}
