/* SPDX-License-Identifier: MIT */
/*
 * The one harness of all benchmarks. A workload file gives cases; a case names its peers, its
 * metrics and a function that takes one sample of one peer. The harness takes the samples in
 * rounds, every peer once a round and in another order each time, each sample in a process of its
 * own; compares within a round; and reports medians and spread of these ratios.
 */
#ifndef NUMAPERF_BENCH_HARNESS_H
#define NUMAPERF_BENCH_HARNESS_H

#include "peers/peer.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_PEERS_MAX 12u
#define BENCH_METRICS_MAX 6u
#define BENCH_GOALS_MAX 6u

struct bench_metric {
    const char *name;
    const char *unit;
    bool lower_is_better;
    double limit; /* what no sample may pass, in `unit`; 0: there is none */
};

/* What must hold of a metric: the median of the paired ratios of two peers, or of values. */
struct bench_goal {
    const struct bench_peer *peer;
    const struct bench_peer *against; /* NULL: of the values themselves */
    uint32_t metric; /* its index; whether it is a least or a most is known there */
    double must;
    double aim; /* 0: there is none; so with must */
};

struct bench_case;

/* What a sample is taken of. */
struct bench_run {
    const struct bench_case *bench;
    const struct bench_peer *peer;
    const struct bench_setup *setup;
    bool smoke; /* as little as shows that it works */
};

struct bench_case {
    const char *name; /* workload.case */
    const char *about;
    /* The first is the one that the others are measured against. */
    const struct bench_peer *peers[BENCH_PEERS_MAX];
    struct bench_metric metrics[BENCH_METRICS_MAX]; /* up to the first without a name */
    struct bench_goal goals[BENCH_GOALS_MAX];       /* up to the first without a peer */
    uint32_t node_count;
    uint32_t workers_per_node;
    uint32_t parameter; /* means something to the workload alone */
    /* One value a metric; < 0 and the cause in numaperf_last_error(). In its own process. */
    int (*sample)(const struct bench_run *run, double *out_values);
};

struct bench_workload {
    const char *name;
    const struct bench_case *cases;
    size_t case_count;
};

extern const struct bench_workload bench_spawn;
extern const struct bench_workload bench_wake;
extern const struct bench_workload bench_pingpong;
extern const struct bench_workload bench_fib_tree;
extern const struct bench_workload bench_gain;
extern const struct bench_workload bench_overhead;
extern const struct bench_workload bench_steal;
extern const struct bench_workload bench_timers;
extern const struct bench_workload bench_wakepath;
extern const struct bench_workload bench_idle;
extern const struct bench_workload bench_echo;
extern const struct bench_workload bench_files;
extern const struct bench_workload bench_arena;
extern const struct bench_workload bench_kv;
extern const struct bench_workload bench_http;

/* Why it is left out, where this program runs; NULL: it is not. */
const char *bench_peer_absent(const struct bench_peer *peer);

/* ---- running a case ---- */

struct bench_options {
    uint32_t round_count;
    bool smoke;
    /* A round in which other processes took more of the machine is taken again; 0: never. */
    double others_percent_max;
};

struct bench_result {
    const struct bench_case *bench;
    struct bench_setup setup;
    const struct bench_peer *peers[BENCH_PEERS_MAX]; /* those that are there, in their order */
    uint32_t peer_count;
    uint32_t metric_count;
    uint32_t round_count;
    double *values;        /* [round][peer][metric] */
    double others_percent; /* how much of the machine other processes took meanwhile */
    uint32_t retaken;      /* rounds thrown away because that was too much */
    char left_out[300];    /* why it could not run here; empty when it did */
};

struct bench_spread {
    double median, low, high; /* the quartiles */
    double least, most;
};

/* < 0 when a sample failed, said on the standard error stream; free with bench_result_fini(). */
int bench_case_run(const struct bench_case *bench, const struct bench_options *options,
                   struct bench_result *out);
void bench_result_fini(struct bench_result *result);

double bench_result_value(const struct bench_result *result, uint32_t round, uint32_t peer,
                          uint32_t metric);
/* Of the values themselves, and of their ratios to the first peer's of the same round. */
struct bench_spread bench_result_values(const struct bench_result *result, uint32_t peer,
                                        uint32_t metric);
struct bench_spread bench_result_ratios(const struct bench_result *result, uint32_t peer,
                                        uint32_t metric);
/* Of what the goal is about; false when one of its peers is not there. */
bool bench_result_goal(const struct bench_result *result, const struct bench_goal *goal,
                       struct bench_spread *out);
/* Whether a figure is at least, or at most, `wanted`. */
bool bench_goal_holds(const struct bench_result *result, const struct bench_goal *goal,
                      double figure, double wanted);

/* ---- report.c ---- */

void bench_print_table(const struct bench_result *result);
/* 0 or -errno. */
int bench_write_json(const char *path, const struct bench_result *results, size_t count);

/* ---- for workloads ---- */

uint64_t bench_now_ns(void);
/* CPU time of this process, all its threads. */
uint64_t bench_cpu_ns(void);
/* CPU time of the calling thread. */
uint64_t bench_thread_cpu_ns(void);
void bench_sleep_ns(uint64_t ns);
/* Sorts `values` and returns the one below which that part of them lies. */
double bench_quantile(double *values, size_t count, double part);

/* Tasks that have run, counted without a cache line that workers share. */
struct bench_tally {
    struct {
        _Alignas(128) _Atomic uint64_t count; /* written by one thread */
    } slots[BENCH_WORKERS_MAX];
    _Alignas(128) _Atomic uint32_t used;
};
/* Count one more for the calling thread; there is one tally in a process. */
void bench_tally_add(struct bench_tally *tally);
uint64_t bench_tally_sum(const struct bench_tally *tally);
/* Sleep until the sum is `count`; -ETIMEDOUT after a minute without progress. */
int bench_tally_wait(const struct bench_tally *tally, uint64_t count);

#endif
