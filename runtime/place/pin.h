/* SPDX-License-Identifier: MIT */
/* Affinity of threads, for the rooms below; all calls are plain -errno. */
#ifndef NUMAPERF_PLACE_PIN_H
#define NUMAPERF_PLACE_PIN_H

#include "place/mempolicy.h"

#include <numaperf/cpuset.h>
#include <numaperf/pin.h>

/* Affinity of any thread of this process by kernel thread id; 0 is the calling thread. */
int numaperf__affinity_get(int thread_id, numaperf_cpuset_t *out);
int numaperf__affinity_set(int thread_id, const numaperf_cpuset_t *cpus);

/* PU and node the calling thread runs on right now, by getcpu(2). Either output may be NULL. */
int numaperf__current_cpu(int *out_cpu, int *out_node);

#endif
