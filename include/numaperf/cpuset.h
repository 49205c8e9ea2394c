/* SPDX-License-Identifier: MIT */
/*
 * Sets of PUs and of nodes, as plain structs that are copied by assignment. Ids are OS ids. A set
 * of zero bytes is the empty set. Functions that only read or write the struct they are given are
 * safe on any thread as long as no other thread writes that struct.
 */
#ifndef NUMAPERF_CPUSET_H
#define NUMAPERF_CPUSET_H

#include <numaperf/version.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

NUMAPERF_BEGIN_DECLS

#define NUMAPERF_CPU_MAX 8192  /* PU ids are 0 .. 8191 */
#define NUMAPERF_NODE_MAX 1024 /* node ids are 0 .. 1023 */

typedef struct numaperf_cpuset {
    uint64_t bits[NUMAPERF_CPU_MAX / 64];
} numaperf_cpuset_t;

typedef struct numaperf_nodemask {
    uint64_t bits[NUMAPERF_NODE_MAX / 64];
} numaperf_nodemask_t;

/**
 * Empty the set.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_cpuset_zero(numaperf_cpuset_t *set);

/**
 * Add one PU.
 *
 * Returns:  0; -EINVAL when `cpu` is not 0 .. NUMAPERF_CPU_MAX - 1.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_cpuset_add(numaperf_cpuset_t *set, int cpu);

/**
 * Remove one PU; one that is not in the set is no error.
 *
 * Returns:  0; -EINVAL when `cpu` is not 0 .. NUMAPERF_CPU_MAX - 1.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_cpuset_remove(numaperf_cpuset_t *set, int cpu);

/**
 * Whether the PU is in the set; false for an id out of range.
 *
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_cpuset_contains(const numaperf_cpuset_t *set, int cpu);

/**
 * How many PUs the set holds.
 *
 * Threads:  any.
 */
NUMAPERF_API int numaperf_cpuset_count(const numaperf_cpuset_t *set);

/**
 * Whether two sets hold the same PUs.
 *
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_cpuset_equal(const numaperf_cpuset_t *a, const numaperf_cpuset_t *b);

/**
 * `out` = the PUs in either set. `out` may be `a` or `b`.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_cpuset_union(const numaperf_cpuset_t *a, const numaperf_cpuset_t *b,
                                        numaperf_cpuset_t *out);

/**
 * `out` = the PUs in both sets. `out` may be `a` or `b`.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_cpuset_intersect(const numaperf_cpuset_t *a, const numaperf_cpuset_t *b,
                                            numaperf_cpuset_t *out);

/**
 * The next PU after `previous`, in ascending order; start with -1.
 *
 * Returns:  the id; -1 when there is none.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_cpuset_next(const numaperf_cpuset_t *set, int previous);

/**
 * Parse a list as the kernel writes it: "0-3,8". Empty text is the empty set.
 *
 * Returns:  0; -EINVAL when `list` is not such a list or names an id out of range; -ENOMEM. `out`
 *           is untouched on failure.
 * Threads:  any.
 * Source:   cpuset(7), "List format".
 */
NUMAPERF_API int numaperf_cpuset_parse(const char *list, numaperf_cpuset_t *out);

/**
 * Write the set as such a list, as snprintf does: never more than `size` bytes, with the
 * terminating zero where `size` > 0. `buf` may be NULL when `size` is 0.
 *
 * Units:    bytes.
 * Returns:  the length of the whole text, also when it did not fit; -EINVAL; -ENOMEM.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_cpuset_format(const numaperf_cpuset_t *set, char *buf, size_t size);

/* ---- the same for nodes ---- */

/**
 * Empty the set.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_nodemask_zero(numaperf_nodemask_t *set);

/**
 * Add one node.
 *
 * Returns:  0; -EINVAL when `node` is not 0 .. NUMAPERF_NODE_MAX - 1.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_nodemask_add(numaperf_nodemask_t *set, int node);

/**
 * Remove one node; one that is not in the set is no error.
 *
 * Returns:  0; -EINVAL when `node` is not 0 .. NUMAPERF_NODE_MAX - 1.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_nodemask_remove(numaperf_nodemask_t *set, int node);

/**
 * Whether the node is in the set; false for an id out of range.
 *
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_nodemask_contains(const numaperf_nodemask_t *set, int node);

/**
 * How many nodes the set holds.
 *
 * Threads:  any.
 */
NUMAPERF_API int numaperf_nodemask_count(const numaperf_nodemask_t *set);

/**
 * Whether two sets hold the same nodes.
 *
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_nodemask_equal(const numaperf_nodemask_t *a,
                                          const numaperf_nodemask_t *b);

/**
 * `out` = the nodes in either set. `out` may be `a` or `b`.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_nodemask_union(const numaperf_nodemask_t *a,
                                          const numaperf_nodemask_t *b, numaperf_nodemask_t *out);

/**
 * `out` = the nodes in both sets. `out` may be `a` or `b`.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_nodemask_intersect(const numaperf_nodemask_t *a,
                                              const numaperf_nodemask_t *b,
                                              numaperf_nodemask_t *out);

/**
 * The next node after `previous`, in ascending order; start with -1.
 *
 * Returns:  the id; -1 when there is none.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_nodemask_next(const numaperf_nodemask_t *set, int previous);

/**
 * Parse a list as the kernel writes it: "0-3,8". Empty text is the empty set.
 *
 * Returns:  0; -EINVAL when `list` is not such a list or names an id out of range; -ENOMEM. `out`
 *           is untouched on failure.
 * Threads:  any.
 * Source:   cpuset(7), "List format".
 */
NUMAPERF_API int numaperf_nodemask_parse(const char *list, numaperf_nodemask_t *out);

/**
 * Write the set as such a list, as snprintf does: never more than `size` bytes, with the
 * terminating zero where `size` > 0. `buf` may be NULL when `size` is 0.
 *
 * Units:    bytes.
 * Returns:  the length of the whole text, also when it did not fit; -EINVAL; -ENOMEM.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_nodemask_format(const numaperf_nodemask_t *set, char *buf, size_t size);

/**
 * The set of one node, by value; empty when `node` is out of range.
 *
 * Threads:  any.
 */
NUMAPERF_API numaperf_nodemask_t numaperf_nodemask_single(int node);

NUMAPERF_END_DECLS
#endif
