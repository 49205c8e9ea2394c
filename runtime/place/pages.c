/* SPDX-License-Identifier: MIT */
/*
 * Asking the kernel where pages are, and moving strays: the one place of move_pages(2). Works in
 * batches, so that a region of any length needs no memory here; nothing is remembered, so every
 * function is safe on any thread.
 *
 * A negative status of a page is an answer too: not present (ENOENT), or the shared zero page
 * (EFAULT). Both count as absent, since such a page is on no node that could be proven.
 *
 * Source: move_pages(2).
 */
#include "place/pages.h"

#include "base/assert.h"
#include "base/error.h"
#include "place/enforce.h"
#include "place/region.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/mempolicy.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BATCH_PAGES 512 /* 8 KiB of stack together with statuses and targets */

_Static_assert(sizeof(numaperf_placement_t) == 24 + 8 * NUMAPERF_NODE_MAX, "public layout");
_Static_assert(offsetof(numaperf_placement_t, on_node) == 24, "public layout");

/* Pages of a range in flight to or from the kernel. */
struct page_batch {
    void *address[BATCH_PAGES];
    int status[BATCH_PAGES]; /* node, or -errno */
    size_t count;
};

/* Fill the batch with the pages from `offset` on; returns the offset behind them. */
static size_t batch_fill(struct page_batch *batch, const struct numaperf__range *range,
                         size_t offset)
{
    batch->count = 0;
    while (offset < range->length && batch->count < BATCH_PAGES) {
        batch->address[batch->count++] = range->base + offset;
        offset += range->page_bytes;
    }
    return offset;
}

int numaperf__addresses_query(void *const *addresses, size_t count, int *out_statuses)
{
    NUMAPERF_ASSERT(count > 0);
    /* A sandbox may answer 0 and write nothing: then nothing was found. */
    for (size_t i = 0; i < count; i++)
        out_statuses[i] = -ENOENT;
    if (syscall(SYS_move_pages, 0, count, addresses, NULL, out_statuses, 0) < 0)
        return -errno;
    return 0;
}

static int batch_query(struct page_batch *batch)
{
    return numaperf__addresses_query(batch->address, batch->count, batch->status);
}

static void placement_add(numaperf_placement_t *placement, const struct page_batch *batch,
                          uint64_t base_pages)
{
    for (size_t i = 0; i < batch->count; i++) {
        int node = batch->status[i];
        placement->pages += base_pages;
        if (node < 0 || node >= NUMAPERF_NODE_MAX) {
            placement->absent += base_pages;
            continue;
        }
        if (placement->on_node[node] == 0)
            placement->node_count++;
        placement->on_node[node] += base_pages;
    }
}

int numaperf__range_query(const struct numaperf__range *range, numaperf_placement_t *io_placement)
{
    uint64_t base_pages = range->page_bytes / numaperf__page_bytes();
    NUMAPERF_ASSERT(base_pages > 0);

    struct page_batch batch;
    for (size_t offset = 0; offset < range->length;) {
        offset = batch_fill(&batch, range, offset);
        int rc = batch_query(&batch);
        if (rc < 0)
            return rc;
        placement_add(io_placement, &batch, base_pages);
    }
    return 0;
}

int numaperf__pages_query(const void *base, size_t length, numaperf_placement_t *io_placement)
{
    size_t page = numaperf__page_bytes();
    uintptr_t first = (uintptr_t)base / page * page;
    uintptr_t end = ((uintptr_t)base + length + page - 1) / page * page;
    struct numaperf__range range = {
        .base = (char *)first, .length = end - first, .page_bytes = page};
    if (length == 0)
        return 0;
    return numaperf__range_query(&range, io_placement);
}

/* Keep in the batch only what is present outside `nodes`. */
static void batch_keep_strays(struct page_batch *batch, const numaperf_nodemask_t *nodes)
{
    size_t kept = 0;
    for (size_t i = 0; i < batch->count; i++) {
        if (batch->status[i] < 0 || numaperf_nodemask_contains(nodes, batch->status[i]))
            continue;
        batch->address[kept++] = batch->address[i];
    }
    batch->count = kept;
}

/* One call for the whole batch. A full node is no failure: its pages simply stay. */
static int batch_move(struct page_batch *batch, int node)
{
    int target[BATCH_PAGES];
    for (size_t i = 0; i < batch->count; i++)
        target[i] = node;
    long rc = syscall(SYS_move_pages, 0, batch->count, batch->address, target, batch->status,
                      MPOL_MF_MOVE);
    if (rc < 0 && errno != ENOMEM && errno != EBUSY)
        return -errno;
    return 0;
}

static int batch_move_strays(struct page_batch *batch, const numaperf_nodemask_t *nodes)
{
    int first_error = 0;
    for (int node = numaperf_nodemask_next(nodes, -1); node >= 0;
         node = numaperf_nodemask_next(nodes, node)) {
        int rc = batch_query(batch);
        if (rc < 0)
            return rc;
        batch_keep_strays(batch, nodes);
        if (batch->count == 0)
            return 0;
        /* One node may be out of bounds (cpuset) while the next one takes the page. */
        rc = batch_move(batch, node);
        if (rc < 0 && first_error == 0)
            first_error = rc;
    }
    return first_error;
}

int numaperf__range_move_strays(const struct numaperf__range *range,
                                const numaperf_nodemask_t *nodes)
{
    int first_error = 0;
    struct page_batch batch;
    for (size_t offset = 0; offset < range->length;) {
        offset = batch_fill(&batch, range, offset);
        int rc = batch_move_strays(&batch, nodes);
        if (rc < 0 && first_error == 0)
            first_error = rc;
    }
    return first_error;
}

uint64_t numaperf__placement_strays(const numaperf_placement_t *placement,
                                    const numaperf_nodemask_t *nodes)
{
    uint64_t present = placement->pages - placement->absent;
    for (int node = numaperf_nodemask_next(nodes, -1); node >= 0;
         node = numaperf_nodemask_next(nodes, node)) {
        NUMAPERF_ASSERT(present >= placement->on_node[node]);
        present -= placement->on_node[node];
    }
    return present;
}

void numaperf__placement_level(const numaperf_placement_t *placement, int node, const char *what,
                               numaperf_enforcement_t *out)
{
    numaperf_nodemask_t nodes = numaperf_nodemask_single(node);
    uint64_t strays = numaperf__placement_strays(placement, &nodes);
    if (placement->pages == 0)
        numaperf__enforce_set(out, NUMAPERF_ENFORCE_BEST_EFFORT, "%s: no page was asked about",
                              what);
    else if (strays > 0)
        numaperf__enforce_set(out, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "%s: %" PRIu64 " of %" PRIu64 " pages are not on node %d", what,
                              strays, placement->pages, node);
    else if (placement->absent > 0)
        numaperf__enforce_set(out, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "%s: %" PRIu64 " of %" PRIu64 " pages are not present or unknown",
                              what, placement->absent, placement->pages);
    else
        numaperf__enforce_set(out, NUMAPERF_ENFORCE_STRICT, "%s", "");
}
