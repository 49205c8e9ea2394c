/* SPDX-License-Identifier: MIT */
/*
 * An independent witness of placement: what the kernel's own files and move_pages(2) say of this
 * machine, of threads (also of a child's) and of mappings. Nothing of the library is asked; only
 * its sets are used to hold ids, and their parser to read lists of them.
 */
#ifndef TESTS_SUPPORT_WITNESS_H
#define TESTS_SUPPORT_WITNESS_H

#include "support/memory_view.h"

#include <numaperf/cpuset.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- this machine, as far as this process may use it ---- */

/*
 * Look at /sys and /proc/self/status once, before anything is pinned: the main thread's affinity is
 * then the process's. All functions below answer from that look.
 */
void witness_look(void);

extern numaperf_nodemask_t witness_nodes;     /* that exist */
extern numaperf_nodemask_t witness_memory;    /* of these, with memory that may be used */
extern numaperf_nodemask_t witness_placeable; /* of these, with PUs that may be used */
extern numaperf_cpuset_t witness_allowed;     /* PUs */

/* The PUs of a node that may be used; empty for a node that is not there. */
void witness_node_cpus(int node, numaperf_cpuset_t *out);
/* The node whose list in /sys holds the PU; -1. */
int witness_node_of_cpu(int cpu);
/* As /sys states it; -1 when it does not. */
int witness_distance(int from, int to);

/* kernel.numa_balancing now; 0 where the kernel has none. */
int witness_balancing(void);
/* What io_uring_setup(2) says to this process: 0, or the errno that refuses a ring. */
int witness_ring_errno(void);
/* The effective capabilities of this process (bits). */
uint64_t witness_capabilities(void);

/*
 * Whether plain system calls can place here: bind a page to the last usable node, pin to its last
 * PU, and see both. Where they cannot, as in some containers, prints what was refused.
 */
bool witness_can_place(void);

/* ---- threads ---- */

#define WITNESS_TASKS_MAX 256

/* The threads of this process now; how many. */
size_t witness_tasks(int out_ids[WITNESS_TASKS_MAX]);
/* Process 0 is this one. False when the thread is gone. */
bool witness_task_name(int process, int task, char out[64]);
/* Of its PUs those that are online. */
bool witness_task_cpus(int process, int task, numaperf_cpuset_t *out);
/* Its memory policy as numa_maps writes it, "default", "prefer:1"; "" when the kernel does not. */
bool witness_task_policy(int process, int task, char out[64]);
/* io-wq threads of the ring that this thread made; how many of them may leave `cpus`. */
size_t witness_iowq(int task, const numaperf_cpuset_t *cpus, size_t *out_outside);

/* ---- mappings ---- */

struct witness_mapping {
    uintptr_t from;
    uintptr_t to;
    char access[8];  /* as "rw-p" */
    char policy[64]; /* as numa_maps writes it; "" when the kernel does not */
    bool has_guard;  /* what lies right below may be neither read nor written */
};

/* The mapping that holds an address; false when there is none. */
bool witness_mapping(const void *address, struct witness_mapping *out);

/* Whether every page from `base` on is present and on `node`; prints what is not. */
bool witness_all_on(const void *base, size_t length, int node);
/* Whether no page from `base` on is on another node, and at least `wanted` are on this one. */
bool witness_none_elsewhere(const void *base, size_t length, int node, size_t wanted);

/* Pages of all rings, in mappings of the kernel's or in the program's own bound memory, by node as
 * view_pages() counts them; how many of either. */
size_t witness_rings(size_t out_counts[VIEW_NODES + 1]);

#endif
