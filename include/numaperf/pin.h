/* SPDX-License-Identifier: MIT */
/*
 * Affinity of the calling thread. A pin remembers what was before and gives it back; pins nest,
 * and are restored by the thread that made them, the newest first.
 */
#ifndef NUMAPERF_PIN_H
#define NUMAPERF_PIN_H

#include <numaperf/cpuset.h>
#include <numaperf/enforce.h>
#include <numaperf/topology.h>
#include <numaperf/version.h>

#include <stdint.h>

NUMAPERF_BEGIN_DECLS

typedef struct numaperf_pin {
    uint32_t size;                      /* bytes of this struct the caller knows; set by _INIT */
    int32_t thread_id;                  /* the thread that is pinned; 0 when none is */
    numaperf_cpuset_t requested;        /* what was asked for */
    numaperf_cpuset_t applied;          /* what the kernel says it is, read back */
    numaperf_cpuset_t previous;         /* given back by numaperf_pin_restore() */
    numaperf_enforcement_t enforcement; /* strict only when `applied` equals `requested` */
} numaperf_pin_t;

#define NUMAPERF_PIN_INIT                               \
    {                                                   \
        sizeof(numaperf_pin_t), 0, {{0}}, {{0}}, {{0}}, \
        {                                               \
            NUMAPERF_ENFORCE_NONE,                      \
            {                                           \
                0                                       \
            }                                           \
        }                                               \
    }

/**
 * Pin the calling thread to a set of PUs, and read the kernel's answer back.
 *
 * The kernel trims a set that is partly outside the thread's cpuset without saying so: that is
 * best effort in soft mode, and refused, with the old affinity put back, in hard mode. A set it
 * refuses altogether leaves the thread as it was: level none in soft mode.
 *
 * Returns:  0; -EINVAL an empty set, a bad mode, or NULL; NUMAPERF_E_HARD_MODE.
 * Owner:    caller memory, until numaperf_pin_restore().
 * Threads:  any; it concerns the calling thread alone.
 * Source:   sched_setaffinity(2), cpuset(7).
 */
NUMAPERF_API int numaperf_pin_current(const numaperf_cpuset_t *cpus, numaperf_mode_t mode,
                                      numaperf_pin_t *out_pin);

/**
 * The same for one PU.
 *
 * Returns:  as numaperf_pin_current(); -EINVAL also for a PU id out of range.
 * Owner:    caller memory, until numaperf_pin_restore().
 * Threads:  any; it concerns the calling thread alone.
 */
NUMAPERF_API int numaperf_pin_to_cpu(int cpu, numaperf_mode_t mode, numaperf_pin_t *out_pin);

/**
 * The same for the usable PUs of a node. `topology` may be NULL: this machine's is discovered.
 *
 * Returns:  as numaperf_pin_current(); NUMAPERF_E_NO_NODE the node is absent or has no usable PU;
 *           in hard mode a topology that is not this machine's is NUMAPERF_E_HARD_MODE.
 * Owner:    caller memory, until numaperf_pin_restore().
 * Threads:  any; it concerns the calling thread alone.
 */
NUMAPERF_API int numaperf_pin_to_node(const numaperf_topology_t *topology, int node,
                                      numaperf_mode_t mode, numaperf_pin_t *out_pin);

/**
 * Give the thread back the affinity it had before the pin.
 *
 * Returns:  0; -EINVAL NULL, or nothing is pinned by it (restored already); -EBUSY called on
 *           another thread than the pinned one; -errno when the kernel refuses.
 * Threads:  owner, the pinned thread.
 */
NUMAPERF_API int numaperf_pin_restore(numaperf_pin_t *pin);

/**
 * The calling thread's affinity.
 *
 * Returns:  0; -EINVAL; -errno.
 * Threads:  any.
 * Source:   sched_getaffinity(2).
 */
NUMAPERF_API int numaperf_get_affinity(numaperf_cpuset_t *out);

/**
 * Set the calling thread's affinity for good, and read it back.
 *
 * Returns:  0 when it then is exactly `cpus`; -EINVAL; -ERANGE when the kernel trimmed it; -errno.
 * Threads:  any; it concerns the calling thread alone.
 * Source:   sched_setaffinity(2).
 */
NUMAPERF_API int numaperf_set_affinity(const numaperf_cpuset_t *cpus);

NUMAPERF_END_DECLS
#endif
