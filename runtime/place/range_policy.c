/* SPDX-License-Identifier: MIT */
/*
 * Memory policy of ranges: the one place of mbind(2) and of the get_mempolicy(2) that looks at an
 * address. Nothing is remembered here, so every function is safe on any thread.
 *
 * A mask that is partly outside the cpuset is trimmed by the kernel without a word, so a policy
 * counts as set only after numaperf__range_policy_verify() compared it with the request.
 *
 * Source: mbind(2), get_mempolicy(2), Documentation/admin-guide/mm/numa_memory_policy.rst.
 */
#include "place/range_policy.h"

#include "base/assert.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel reads one bit less than maxnode says. */
#define MASK_MAXNODE ((unsigned long)NUMAPERF_NODE_MAX + 1)

_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "a nodemask is the kernel's bitmap");

size_t numaperf__page_bytes(void)
{
    long bytes = sysconf(_SC_PAGESIZE);
    NUMAPERF_ASSERT(bytes > 0);
    return (size_t)bytes;
}

int numaperf__range_policy_set(const struct numaperf__range *range, int policy,
                               const numaperf_nodemask_t *nodes, unsigned flags)
{
    NUMAPERF_ASSERT(range->length % range->page_bytes == 0);

    /* An empty set must be no mask at all: LOCAL rejects one with bits, others need one. */
    bool has_nodes = numaperf_nodemask_count(nodes) > 0;
    const uint64_t *mask = has_nodes ? nodes->bits : NULL;
    unsigned long maxnode = has_nodes ? MASK_MAXNODE : 0;
    if (syscall(SYS_mbind, range->base, range->length, policy, mask, maxnode, flags) < 0)
        return -errno;
    return 0;
}

int numaperf__range_policy_get(const void *address, int *out_policy, numaperf_nodemask_t *out_nodes)
{
    int policy = 0;
    numaperf_nodemask_t nodes;
    memset(&nodes, 0, sizeof(nodes));
    if (syscall(SYS_get_mempolicy, &policy, nodes.bits, MASK_MAXNODE, address, MPOL_F_ADDR) < 0)
        return -errno;
    *out_policy = policy;
    *out_nodes = nodes;
    return 0;
}

static bool range_policy_equal(int policy, const numaperf_nodemask_t *nodes, int asked_policy,
                               const numaperf_nodemask_t *asked_nodes)
{
    /* Kernels before 5.14 report LOCAL as PREFERRED of no node. */
    if (asked_policy == MPOL_LOCAL && policy == MPOL_PREFERRED)
        return numaperf_nodemask_count(nodes) == 0;
    return policy == asked_policy && numaperf_nodemask_equal(nodes, asked_nodes);
}

int numaperf__range_policy_verify(const struct numaperf__range *range, int policy,
                                  const numaperf_nodemask_t *nodes, numaperf_nodemask_t *out_nodes)
{
    size_t page_count = range->length / range->page_bytes;
    NUMAPERF_ASSERT(page_count > 0);

    /* One mbind covers one mapping, but a split one would show at its ends. */
    const size_t pages[] = {0, page_count / 2, page_count - 1};
    for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
        int held_policy = 0;
        numaperf_nodemask_t held;
        int rc = numaperf__range_policy_get(range->base + pages[i] * range->page_bytes,
                                            &held_policy, &held);
        if (rc < 0)
            return rc;
        if (!range_policy_equal(held_policy, &held, policy, nodes)) {
            *out_nodes = held;
            return -ERANGE;
        }
    }
    return 0;
}

int numaperf__nodes_allowed(numaperf_nodemask_t *out)
{
    numaperf_nodemask_t nodes;
    memset(&nodes, 0, sizeof(nodes));
    if (syscall(SYS_get_mempolicy, NULL, nodes.bits, MASK_MAXNODE, NULL, MPOL_F_MEMS_ALLOWED) < 0)
        return -errno;
    *out = nodes;
    return 0;
}
