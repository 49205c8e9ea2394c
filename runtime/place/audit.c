/* SPDX-License-Identifier: MIT */
/*
 * Re-verification: whether mapped memory still is where it was placed, asked of the kernel; and
 * putting it back.
 *
 * A look at everything asks about each page, and each mapping's policy; a sample about a window of
 * neighbours, which cost least: what the kernel reads of them lies together. Pages are numbered
 * through the whole list, and each phase has the next window; a mapping's policy goes with its
 * first page. A page that is nowhere (not touched yet, swapped out, or just on its way) has not
 * left its node.
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
#include "place/region.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define AUDIT_BATCH 512 /* 8 KiB of stack */

void numaperf__audit_range_of(const numaperf_region_t *region, struct numaperf__audit_range *out)
{
    out->range.base = numaperf_region_data(region);
    out->range.length = numaperf_region_length(region);
    out->range.page_bytes = numaperf_region_page_size(region);
    out->is_bound = numaperf_is_strict(numaperf_region_enforcement(region));
}

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

/* Pages in flight to the kernel, of any mappings of the list, and what came back so far. */
struct audit_batch {
    void *address[AUDIT_BATCH];
    int status[AUDIT_BATCH];
    uint32_t weight[AUDIT_BATCH]; /* base pages that each is worth */
    size_t count;
    int node;
    struct numaperf__audit_counts counts;
};

static int audit_flush(struct audit_batch *batch)
{
    if (batch->count == 0)
        return 0;
    int rc = numaperf__addresses_query(batch->address, batch->count, batch->status);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < batch->count; i++) {
        batch->counts.pages += batch->weight[i];
        if (batch->status[i] == batch->node)
            batch->counts.home += batch->weight[i];
        else if (batch->status[i] < 0)
            batch->counts.absent += batch->weight[i];
    }
    batch->count = 0;
    return 0;
}

/* Pages of a list by their numbers: those a look asks about are neighbours. */
struct audit_window {
    uint64_t first;
    uint64_t end;
    const atomic_bool *give_up;
};

static struct audit_window audit_window_of(const struct numaperf__audit_range *ranges, size_t count,
                                           const struct numaperf__audit_sample *sample)
{
    struct audit_window window = {.end = UINT64_MAX};
    if (sample == NULL)
        return window;
    NUMAPERF_ASSERT(sample->pages_max > 0);
    window.give_up = sample->give_up;
    uint64_t total = numaperf__audit_page_count(ranges, count);
    if (total <= sample->pages_max)
        return window;
    uint64_t rounds = total / sample->pages_max + (total % sample->pages_max != 0);
    window.first = sample->phase % rounds * sample->pages_max;
    window.end = window.first + sample->pages_max;
    return window;
}

static bool audit_gives_up(const atomic_bool *give_up)
{
    /* Relaxed: that it comes to an end soon is all that hangs on it. */
    return give_up != NULL && atomic_load_explicit(give_up, memory_order_relaxed);
}

/* The part of one mapping that is in the window; its pages are numbered from `number` on. */
static int audit_mapping(const struct numaperf__audit_range *mapping, uint64_t number,
                         const struct audit_window *window, struct audit_batch *batch)
{
    const struct numaperf__range *range = &mapping->range;
    uint64_t pages = range->length / range->page_bytes;
    uint64_t page = window->first > number ? window->first - number : 0;
    int rc = 0;
    if (page == 0 && mapping->is_bound)
        rc = audit_policy(mapping, batch->node, &batch->counts);
    for (; page < pages && number + page < window->end && rc == 0; page++) {
        batch->address[batch->count] = range->base + page * range->page_bytes;
        batch->weight[batch->count] = (uint32_t)(range->page_bytes / numaperf__page_bytes());
        batch->count++;
        if (batch->count == AUDIT_BATCH)
            rc = audit_gives_up(window->give_up) ? -ECANCELED : audit_flush(batch);
    }
    return rc;
}

int numaperf__audit_look(const struct numaperf__audit_range *ranges, size_t count, int node,
                         const struct numaperf__audit_sample *sample,
                         struct numaperf__audit_counts *io_counts)
{
    NUMAPERF_ASSERT(node >= 0 && node < NUMAPERF_NODE_MAX);

    struct audit_window window = audit_window_of(ranges, count, sample);
    struct audit_batch batch;
    batch.count = 0;
    batch.node = node;
    batch.counts = *io_counts;
    uint64_t number = 0;
    int rc = 0;
    for (size_t i = 0; i < count && number < window.end && rc == 0; i++) {
        uint64_t pages = ranges[i].range.length / ranges[i].range.page_bytes;
        if (number + pages > window.first)
            rc = audit_mapping(&ranges[i], number, &window, &batch);
        number += pages;
    }
    if (rc == 0)
        rc = audit_flush(&batch);
    if (rc == 0)
        *io_counts = batch.counts;
    return rc;
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
    if (!range->is_bound)
        return numaperf__audit_move_back(&range->range, node);

    numaperf_nodemask_t nodes = numaperf_nodemask_single(node);
    numaperf_placement_t placement;
    int rc = numaperf__range_policy_set(&range->range, MPOL_PREFERRED, &nodes, 0);
    if (rc < 0)
        return rc;
    /* Pages that stay elsewhere, a full node or their own doing, are no reason not to bind. */
    int move_rc = numaperf__audit_move_back(&range->range, node);
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
    if (rc < 0)
        return rc == -ERANGE ? -EIO : rc;
    return move_rc;
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
