/* SPDX-License-Identifier: MIT */
/*
 * The tests' own reading of where a worker is, past the library: from /proc and /sys alone.
 */
#ifndef TESTS_SUPPORT_DRIFT_VIEW_H
#define TESTS_SUPPORT_DRIFT_VIEW_H

#include <numaperf/cpuset.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIEW_IOWQ_MAX 16

/* A file's first line as a set of PUs or of nodes; empty when it cannot be read. */
void drift_view_cpus(const char *path, numaperf_cpuset_t *out);
void drift_view_nodes(const char *path, numaperf_nodemask_t *out);

/* Affinity of a thread of this process; empty when there is no such thread. */
void drift_view_affinity(int thread_id, numaperf_cpuset_t *out);
/* The same, as "0-2". */
void drift_view_affinity_text(int thread_id, char *out, size_t size);

/* Ids of the io-wq threads that serve a thread's ring; how many there are. */
unsigned drift_view_iowq(int thread_id, int out[VIEW_IOWQ_MAX]);
/* Whether all of them are kept to these PUs. */
bool drift_view_iowq_within(int thread_id, const numaperf_cpuset_t *cpus);

/* Memory policy of a thread: that of memory without one of its own. */
void drift_view_policy(int thread_id, char *out, size_t size);

/* The mapping an address lies in: its policy, its pages on `node` and those on others. */
struct drift_mapping {
    char policy[32];
    uint64_t here;
    uint64_t elsewhere;
};
bool drift_view_mapping(uintptr_t address, int node, struct drift_mapping *out);

#endif
