/* SPDX-License-Identifier: MIT */
/* What an attestation says of machine, kernel, process and libraries. */
#ifndef NUMAPERF_SCHED_ATTEST_HOST_H
#define NUMAPERF_SCHED_ATTEST_HOST_H

#include "sched/attest_json.h"

#include <numaperf/topology.h>

/* Put "host", "kernel", "process", "libraries": asked now. Any thread. */
void numaperf__attest_host(struct numaperf__json *json, json_t *root);
/* Put "topology": as it was when it was discovered, or lent. Any thread. */
void numaperf__attest_topology(struct numaperf__json *json, json_t *root,
                               const numaperf_topology_t *topology);

#endif
