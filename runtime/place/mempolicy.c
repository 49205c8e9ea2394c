/* SPDX-License-Identifier: MIT */
/*
 * Memory policy of threads, set and read back, and the state a thread is given back with.
 *
 * A policy is trimmed to the cpuset as silently as an affinity is, so a level comes from reading it
 * back. Mode flags are part of a policy here: what was read is what can be set again. The one
 * piece of state of the process is the policy at load, written once before main() or inside
 * dlopen(); afterwards every thread may read it.
 *
 * Source: set_mempolicy(2), get_mempolicy(2).
 */
#include "place/mempolicy.h"

#include "base/assert.h"
#include "base/error.h"
#include "place/enforce.h"
#include "place/pin.h"
#include "topo/allowed.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * The kernel reads and writes one bit less than its `maxnode` says: all 1024 need this number.
 */
#define NODE_BITS_ARG ((unsigned long)NUMAPERF_NODE_MAX + 1)

_Static_assert(sizeof(unsigned long) == sizeof(uint64_t), "sets are the kernel's arrays of long");

int numaperf__mempolicy_get(int *out_policy, numaperf_nodemask_t *out_nodes)
{
    int policy = 0;
    numaperf_nodemask_t nodes;
    numaperf_nodemask_zero(&nodes);
    if (syscall(SYS_get_mempolicy, &policy, nodes.bits, NODE_BITS_ARG, NULL, 0UL) < 0)
        return -errno;
    /*
     * With STATIC_NODES or RELATIVE_NODES the nodes are those that were once asked for, which is
     * what setting the same policy again needs.
     */
    *out_policy = policy;
    *out_nodes = nodes;
    return 0;
}

int numaperf__mempolicy_set(int policy, const numaperf_nodemask_t *nodes)
{
    /* DEFAULT and LOCAL allow no nodes, and no mask is the plainest way to name none. */
    bool is_empty = nodes == NULL || numaperf_nodemask_count(nodes) == 0;
    if (syscall(SYS_set_mempolicy, policy, is_empty ? NULL : nodes->bits,
                is_empty ? 0UL : NODE_BITS_ARG) < 0)
        return -errno;
    return 0;
}

void numaperf__mempolicy_prefer(int node, numaperf_enforcement_t *out, int *out_sys_errno)
{
    NUMAPERF_ASSERT(node >= 0 && node < NUMAPERF_NODE_MAX);

    *out_sys_errno = 0;
    numaperf_nodemask_t wanted = numaperf_nodemask_single(node);
    int rc = numaperf__mempolicy_set(MPOL_PREFERRED, &wanted);
    if (rc < 0) {
        *out_sys_errno = -rc;
        numaperf__enforce_set(out, NUMAPERF_ENFORCE_NONE,
                              "set_mempolicy: PREFERRED(node %d) was refused: %s", node,
                              numaperf_strerror(rc));
        return;
    }

    int policy = 0;
    numaperf_nodemask_t nodes;
    rc = numaperf__mempolicy_get(&policy, &nodes);
    if (rc < 0) {
        *out_sys_errno = -rc;
        numaperf__enforce_set(out, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "get_mempolicy: PREFERRED(node %d) was set but cannot be read "
                              "back: %s",
                              node, numaperf_strerror(rc));
        return;
    }
    if (policy != MPOL_PREFERRED || !numaperf_nodemask_equal(&nodes, &wanted)) {
        numaperf__enforce_set(out, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "set_mempolicy: PREFERRED(node %d) reads back as policy 0x%x", node,
                              (unsigned int)policy);
        return;
    }
    numaperf__enforce_set(out, NUMAPERF_ENFORCE_STRICT, "%s", "");
}

/* ---- both together ---- */

/* Written by the constructor alone. The affinity at load is the topology's, which needs it too. */
static struct {
    numaperf_nodemask_t nodes;
    int policy;
} at_load = {.policy = NUMAPERF__POLICY_UNKNOWN};

__attribute__((constructor)) static void mempolicy_capture(void)
{
    /* A refusal leaves "unknown", which is then left alone: there is nobody to tell here. */
    (void)numaperf__mempolicy_get(&at_load.policy, &at_load.nodes);
}

void numaperf__thread_state_at_load(struct numaperf__thread_state *out)
{
    out->cpus = *numaperf__allowed_at_load();
    out->nodes = at_load.nodes;
    out->policy = at_load.policy;
}

int numaperf__thread_state_get(struct numaperf__thread_state *out)
{
    memset(out, 0, sizeof(*out));
    out->policy = NUMAPERF__POLICY_UNKNOWN;
    int affinity_rc = numaperf__affinity_get(0, &out->cpus);
    int policy_rc = numaperf__mempolicy_get(&out->policy, &out->nodes);
    return affinity_rc < 0 ? affinity_rc : policy_rc;
}

int numaperf__thread_state_set(const struct numaperf__thread_state *state)
{
    int affinity_rc = 0;
    int policy_rc = 0;
    if (numaperf_cpuset_count(&state->cpus) > 0)
        affinity_rc = numaperf__affinity_set(0, &state->cpus);
    if (state->policy != NUMAPERF__POLICY_UNKNOWN)
        policy_rc = numaperf__mempolicy_set(state->policy, &state->nodes);
    return affinity_rc < 0 ? affinity_rc : policy_rc;
}
