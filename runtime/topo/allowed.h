/* SPDX-License-Identifier: MIT */
/* The PUs this process was started with, captured when the library was loaded. */
#ifndef NUMAPERF_TOPO_ALLOWED_H
#define NUMAPERF_TOPO_ALLOWED_H

#include <numaperf/cpuset.h>

#include <stdbool.h>

/*
 * The affinity of the thread that loaded the library, at that time: before any pin of ours, so
 * that a pinned caller does not narrow a later discovery and children can be given it back. Empty
 * when it could not be read.
 */
const numaperf_cpuset_t *numaperf__allowed_at_load(void);

/*
 * Whether that affinity left out a PU that was online then. When it did not, it is no restriction,
 * and PUs that come online later are usable too.
 */
bool numaperf__allowed_restricts(void);

#endif
