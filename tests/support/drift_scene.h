/* SPDX-License-Identifier: MIT */
/*
 * A server that drifts: a runtime with its auditor on, an echo server on every worker's loop, a
 * client that counts the answers, and tasks that are counted; beside it a process that makes the
 * drift (outsider.h). What the auditor reports is kept with its time. A scene belongs into a child
 * (sandbox.h): what goes wrong ends it.
 */
#ifndef TESTS_SUPPORT_DRIFT_SCENE_H
#define TESTS_SUPPORT_DRIFT_SCENE_H

#include "support/cgroup.h"
#include "support/drift_view.h"
#include "support/outsider.h"

#include <numaperf/runtime.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define DRIFT_WORKERS_MAX 16
#define DRIFT_REPORTS_MAX 256
#define DRIFT_TASKS_MAX (1u << 16)

/* A report must come within so many intervals; a busy machine may take three times as long. */
#define DRIFT_INTERVALS 2

#define DRIFT_BIT(kind) (1u << (kind))

struct drift_setup {
    uint32_t mode;
    uint32_t policy; /* NUMAPERF_AUDIT_* */
    bool in_cgroup;  /* of its own, with a cpuset */
    uint32_t workers_per_node;
    uint32_t interval_ms; /* 0: one that fits the machine */
};

/* One worker and what the test knows of it. */
struct drift_plot {
    uint32_t index;
    int node;
    int cpu;
    int thread_id;
    numaperf_cpuset_t node_cpus; /* by /sys */
    _Atomic uintptr_t stack;     /* an address in it */
    _Atomic uintptr_t arena;
    atomic_int port;
    atomic_uint answers;
    int fd; /* the client's */
    uv_tcp_t listener;
    uv_tcp_t peer;
    char buffer[64];
};

struct drift_report {
    numaperf_violation_t violation;
    uint64_t time_ns;
    bool is_checked; /* by who awaits it */
};

struct drift_scene {
    struct drift_setup setup;
    struct outsider outsider;
    struct cgroup cgroup;
    numaperf_rt_t *rt;
    uint32_t worker_count;
    struct drift_plot plots[DRIFT_WORKERS_MAX];
    atomic_uint report_count;
    struct drift_report reports[DRIFT_REPORTS_MAX]; /* written by the auditor, before the count */
    pthread_t user;
    atomic_bool user_ends;
    atomic_bool may_stop; /* the server may go away */
    uint32_t accepted;    /* tasks, by the user's thread */
    atomic_uchar tasks[DRIFT_TASKS_MAX];
};

/* Start everything; what fails ends the process. */
struct drift_scene *drift_open(const struct drift_setup *setup);
/* Stop it; every task has ended exactly once, every report is counted. */
void drift_close(struct drift_scene *scene);

uint64_t drift_intervals_ns(const struct drift_scene *scene, unsigned count);
const char *drift_kind_name(uint32_t kind);
/* The last worker: its PU is no machine's first, its node the last one. */
struct drift_plot *drift_last(struct drift_scene *scene);
/* The list `all` without a PU, or without a node; what is in both lists alike. */
void drift_list_without(const char *all, int id, char *out, size_t size);

/* ---- what is reported ---- */

/* The reports of a kind about a worker (-1: the machine), from the `from`th report of all on. */
unsigned drift_count(const struct drift_scene *scene, uint32_t kind, int worker, unsigned from);
/*
 * The first of them. It must come within the intervals promised, counted from the outsider's last
 * deed, once that is done.
 */
const numaperf_violation_t *drift_await(struct drift_scene *scene, uint32_t kind, int worker,
                                        unsigned from);
/* The same, and what came of it must be `outcome`. */
const numaperf_violation_t *drift_await_outcome(struct drift_scene *scene, uint32_t kind,
                                                int worker, unsigned from, uint32_t outcome);
/* Until nothing more is reported for three intervals. */
void drift_settle(const struct drift_scene *scene);
/* Nothing is reported for so many intervals. */
void drift_quiet(const struct drift_scene *scene, unsigned intervals);
/*
 * From the `from`th report on: each kind in `wanted` (bits, by worker) is reported exactly once,
 * none in `allowed` more than once, no other at all; and that for three intervals.
 */
void drift_check_reports(struct drift_scene *scene, unsigned from, const uint32_t *wanted,
                         const uint32_t *allowed);

/* ---- what is so, by the test's own reading ---- */

/* Adds AFFINITY and IOWQ for each worker whose threads are not kept where they belong. */
void drift_read_threads(const struct drift_scene *scene, uint32_t *io_kinds);
/* Adds PAGES for each worker with a page of stack or arena elsewhere, or bound elsewhere. */
void drift_read_pages(const struct drift_scene *scene, uint32_t *io_kinds);
/* Until all workers have everything at home; what takes too long ends the process. */
void drift_await_home(const struct drift_scene *scene);
/* Every worker answers the client again and again. */
void drift_answers(const struct drift_scene *scene);

#endif
