/* SPDX-License-Identifier: MIT */
/* Memory policy of a range of addresses, and the nodes that this process may use at all. */
#ifndef NUMAPERF_PLACE_RANGE_POLICY_H
#define NUMAPERF_PLACE_RANGE_POLICY_H

#include "place/range.h"

#include <numaperf/cpuset.h>

/* Set the kernel's MPOL_* over the range, with MPOL_MF_* flags. Returns 0 or -errno. */
int numaperf__range_policy_set(const struct numaperf__range *range, int policy,
                               const numaperf_nodemask_t *nodes, unsigned flags);

/* Policy of the mapping that holds `address`. Returns 0 or -errno. */
int numaperf__range_policy_get(const void *address, int *out_policy,
                               numaperf_nodemask_t *out_nodes);

/*
 * Whether first, middle and last page of the range have exactly this policy and these nodes.
 * Returns 0; -ERANGE when not, with what the kernel holds in `out_nodes`; -errno.
 */
int numaperf__range_policy_verify(const struct numaperf__range *range, int policy,
                                  const numaperf_nodemask_t *nodes, numaperf_nodemask_t *out_nodes);

/* Nodes whose memory the cpuset of this thread allows. Returns 0 or -errno. */
int numaperf__nodes_allowed(numaperf_nodemask_t *out);

#endif
