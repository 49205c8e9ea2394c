/* SPDX-License-Identifier: MIT */
/* The figures of a runtime as text for people, as JSON, and for Prometheus. */
#ifndef NUMAPERF_STAT_REPORT_H
#define NUMAPERF_STAT_REPORT_H

#include <numaperf/stats.h>

#include <stdint.h>

/* A snapshot, borrowed: the figures of everything, of the nodes and of the workers. */
struct numaperf__report {
    const numaperf_rt_stats_t *total;
    const numaperf_rt_stats_t *nodes;
    const numaperf_worker_stats_t *workers;
    const uint64_t *matrix; /* tasks homed on node i that ran on node j: [i * node_count + j] */
    uint32_t node_count;
    uint32_t worker_count;
};

/* Each makes text of malloc(3). 0, or -ENOMEM, recorded. */
int numaperf__report_text(const struct numaperf__report *report, char **out_text);
int numaperf__report_json(const struct numaperf__report *report, char **out_text);
int numaperf__report_prometheus(const struct numaperf__report *report, char **out_text);

#endif
