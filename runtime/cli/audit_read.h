/* SPDX-License-Identifier: MIT */
/* What /proc tells about the threads and pages of a process. */
#ifndef NUMAPERF_CLI_AUDIT_READ_H
#define NUMAPERF_CLI_AUDIT_READ_H

#include <numaperf/cpuset.h>

#include <jansson.h>
#include <stdbool.h>

/* Which node each PU is on, as /sys says for the whole machine. */
struct audit_machine {
    numaperf_nodemask_t nodes;
    int16_t node_of_cpu[NUMAPERF_CPU_MAX]; /* -1: none known */
};

/* A kernel without nodes is one node. */
void audit_machine_read(struct audit_machine *out);

/* {"node": ...} of every thread in the process directory, which may shrink meanwhile: an array,
   sorted by id. Returns 0 or -errno; empty when all have ended. */
int audit_threads_read(int process_fd, const struct audit_machine *machine, json_t **out_threads);

/* The process' mappings: an array of {"kind", "policy", "node", "bytes"} sums. Returns 0 or
   -errno. */
int audit_pages_read(int process_fd, json_t **out_sums);

#endif
