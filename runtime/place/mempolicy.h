/* SPDX-License-Identifier: MIT */
/* Memory policy of threads, for the rooms below; all calls are plain -errno. */
#ifndef NUMAPERF_PLACE_MEMPOLICY_H
#define NUMAPERF_PLACE_MEMPOLICY_H

#include <numaperf/cpuset.h>
#include <numaperf/enforce.h>

/* Memory policy of the calling thread; `policy` is the kernel's MPOL_* with its mode flags. */
int numaperf__mempolicy_get(int *out_policy, numaperf_nodemask_t *out_nodes);
int numaperf__mempolicy_set(int policy, const numaperf_nodemask_t *nodes);

/*
 * Set the calling thread's policy to PREFERRED(node) and read it back into a level: strict only
 * when the kernel says exactly that.
 */
void numaperf__mempolicy_prefer(int node, numaperf_enforcement_t *out, int *out_sys_errno);

/* `policy` of a state whose policy could not be read; setting such a state leaves it alone. */
#define NUMAPERF__POLICY_UNKNOWN (-1)

/* Affinity and memory policy of a thread together. Empty `cpus` are unknown, and left alone too. */
struct numaperf__thread_state {
    numaperf_cpuset_t cpus;
    numaperf_nodemask_t nodes;
    int policy;
};

/* Of the process when the library was loaded; what children and pool threads get. */
void numaperf__thread_state_at_load(struct numaperf__thread_state *out);
/* Of the calling thread; -errno, and then what could be read is there and the rest is unknown. */
int numaperf__thread_state_get(struct numaperf__thread_state *out);
/* Give it to the calling thread: both are tried, the first -errno is returned. */
int numaperf__thread_state_set(const struct numaperf__thread_state *state);

#endif
