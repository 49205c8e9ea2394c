/* SPDX-License-Identifier: MIT */
/*
 * Three ways to write the same figures. Everything in them is a number or a name of ours, so JSON
 * needs no quoting and is written as it comes. No number is printed by way of floating point: a
 * program's locale may write a comma.
 *
 * Prometheus is told of workers where a figure is a worker's, of nodes where it is a node's: sums
 * are for it to make. Its buckets are whole octaves; a bucket's `le` is the largest value in it.
 *
 * Thread rule: a report and its text belong to who makes them.
 *
 * Source: Prometheus, "Exposition formats", text format 0.0.4.
 */
#include "stat/report.h"

#include "base/assert.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define REPORT_TEXT_START 4096u /* bytes; doubled as needed */
#define REPORT_OCTAVE 8u        /* buckets between a power of two and the next */
#define REPORT_OCTAVE_FIRST 56u /* first bucket told of by itself: values from 512 on */
#define REPORT_SAMPLED "one task in 512"

/* ---- text ---- */

/* Text in the making. That memory was short sticks, so that only the end is checked. */
struct report_out {
    char *data;
    size_t length;
    size_t capacity;
    bool failed;
};

static bool report_grow(struct report_out *out, size_t needed)
{
    size_t capacity = out->capacity != 0 ? out->capacity : REPORT_TEXT_START;
    while (capacity < needed)
        capacity *= 2;
    if (capacity == out->capacity)
        return true;
    char *grown = realloc(out->data, capacity);
    if (grown == NULL)
        return false;
    out->data = grown;
    out->capacity = capacity;
    return true;
}

__attribute__((format(printf, 2, 3))) static void report_say(struct report_out *out,
                                                             const char *format, ...)
{
    char piece[512]; /* no line is longer */
    va_list args;
    va_start(args, format);
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is right above */
    int length = vsnprintf(piece, sizeof(piece), format, args);
    va_end(args);
    NUMAPERF_ASSERT(length >= 0 && (size_t)length < sizeof(piece));
    if (out->failed || !report_grow(out, out->length + (size_t)length + 1)) {
        out->failed = true;
        return;
    }
    for (int i = 0; i <= length; i++) /* with its zero */
        out->data[out->length + (size_t)i] = piece[i];
    out->length += (size_t)length;
}

static int report_end(struct report_out *out, char **out_text)
{
    if (out->failed) {
        free(out->data);
        return numaperf__fail(-ENOMEM, ENOMEM, "stats", "no memory for the text");
    }
    *out_text = out->data;
    return 0;
}

/* ---- figures ---- */

struct report_figure {
    const char *name;
    const char *help;
    size_t offset;
    bool is_counter; /* only grows; else what is so now */
};

#define REPORT_WORKER(name) offsetof(numaperf_worker_stats_t, name)
#define REPORT_NODE(name) offsetof(numaperf_rt_stats_t, name)

/* Those that a worker tells; `cancelled` is told by where the task was cancelled. */
static const struct report_figure worker_figures[] = {
    {"ran", "Tasks run, stolen ones included.", REPORT_WORKER(ran), true},
    {"ran_remote", "Tasks run that were homed on another node.", REPORT_WORKER(ran_remote), true},
    {"cancelled", "Tasks cancelled by the worker.", REPORT_WORKER(cancelled), true},
    {"parks", "Times a worker went to sleep.", REPORT_WORKER(parks), true},
    {"wakes", "Times another thread woke a worker.", REPORT_WORKER(wakes), true},
    {"spins", "Times a worker searched before sleeping.", REPORT_WORKER(spins), true},
    {"ring_enters", "io_uring_enter calls.", REPORT_WORKER(ring_enters), true},
    {"ring_completions", "CQEs reaped.", REPORT_WORKER(ring_completions), true},
    {"ring_overflows", "Times the CQ had overflowed.", REPORT_WORKER(ring_overflows), true},
    {"stalls", "Callbacks that held a worker for too long.", REPORT_WORKER(stalls), true},
    {"waiting", "Tasks that wait for the worker alone.", REPORT_WORKER(waiting), false},
    {"arena_mapped_bytes", "Memory of arenas.", REPORT_WORKER(arena_mapped_bytes), false},
    {"arena_used_bytes", "Memory of arenas in blocks.", REPORT_WORKER(arena_used_bytes), false},
};

/* Those that belong to the home of tasks, then those that sum up its workers'. */
static const struct report_figure node_figures[] = {
    {"accepted", "Tasks accepted, by home node.", REPORT_NODE(accepted), true},
    {"stolen_from", "Tasks homed here that another node ran.", REPORT_NODE(stolen_from), true},
    {"cancelled_homed", "Tasks cancelled, by home node.", REPORT_NODE(cancelled), true},
    {"waiting_unbound", "Tasks that wait for any worker allowed.", REPORT_NODE(waiting_unbound),
     false},
    {"waiting_fixed", "Tasks that wait for workers of the node.", REPORT_NODE(waiting_fixed),
     false},
    {"waiting_bound", "", REPORT_NODE(waiting_bound), false},
    {"ran", "", REPORT_NODE(ran), true},
    {"ran_remote", "", REPORT_NODE(ran_remote), true},
    {"parks", "", REPORT_NODE(parks), true},
    {"wakes", "", REPORT_NODE(wakes), true},
    {"spins", "", REPORT_NODE(spins), true},
    {"ring_enters", "", REPORT_NODE(ring_enters), true},
    {"ring_completions", "", REPORT_NODE(ring_completions), true},
    {"ring_overflows", "", REPORT_NODE(ring_overflows), true},
    {"stalls", "", REPORT_NODE(stalls), true},
    {"arena_mapped_bytes", "", REPORT_NODE(arena_mapped_bytes), false},
    {"arena_used_bytes", "", REPORT_NODE(arena_used_bytes), false},
};
#define REPORT_WORKER_FIGURES (sizeof(worker_figures) / sizeof(worker_figures[0]))
#define REPORT_NODE_FIGURES (sizeof(node_figures) / sizeof(node_figures[0]))
#define REPORT_HOME_FIGURES 5u /* of a node's: the first ones, which no worker tells */

static uint64_t report_value(const void *stats, const struct report_figure *figure)
{
    return *(const uint64_t *)((const char *)stats + figure->offset);
}

/* A share of 1 in millionths, rounded down: 1000000 is all. */
static unsigned report_millionths(double share)
{
    return (unsigned)(share * 1e6);
}

struct report_quantile {
    const char *name;
    double q;
};
static const struct report_quantile report_quantiles[] = {
    {"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
#define REPORT_QUANTILES (sizeof(report_quantiles) / sizeof(report_quantiles[0]))

/* ---- text for people ---- */

static void text_histogram(struct report_out *out, const char *name,
                           const numaperf_histogram_t *histogram)
{
    report_say(out, "  %s:", name);
    for (size_t i = 0; i < REPORT_QUANTILES; i++)
        report_say(out, " %s %" PRIu64 ",", report_quantiles[i].name,
                   numaperf_histogram_quantile(histogram, report_quantiles[i].q));
    report_say(out, " max %" PRIu64 " ns, of %" PRIu64 " tasks\n", histogram->max,
               histogram->count);
}

static void text_figures(struct report_out *out, const struct report_figure *figures, size_t count,
                         const void *stats)
{
    for (size_t i = 0; i < count; i++)
        report_say(out, "%s%s %" PRIu64, i % 6 == 0 ? (i == 0 ? "  " : "\n  ") : ", ",
                   figures[i].name, report_value(stats, &figures[i]));
    report_say(out, "\n");
}

static void text_stats(struct report_out *out, const numaperf_rt_stats_t *stats)
{
    unsigned share = report_millionths(stats->locality);
    report_say(out, " %u workers, locality %u.%06u\n", stats->worker_count, share / 1000000,
               share % 1000000);
    text_figures(out, node_figures, REPORT_NODE_FIGURES, stats);
    text_histogram(out, "waited", &stats->wait);
    text_histogram(out, "ran", &stats->run);
}

int numaperf__report_text(const struct numaperf__report *report, char **out_text)
{
    struct report_out out = {.data = NULL};
    report_say(&out, "runtime: %u nodes,", report->node_count);
    text_stats(&out, report->total);
    for (uint32_t i = 0; i < report->node_count; i++) {
        report_say(&out, "node %d:", report->nodes[i].node);
        text_stats(&out, &report->nodes[i]);
    }
    for (uint32_t i = 0; i < report->worker_count; i++) {
        const numaperf_worker_stats_t *worker = &report->workers[i];
        report_say(&out, "worker %u: node %d, PU %d\n", worker->index, worker->node, worker->cpu);
        text_figures(&out, worker_figures, REPORT_WORKER_FIGURES, worker);
    }
    report_say(&out, "tasks by home (down) and by the node that ran them (across)\n%8s", "");
    for (uint32_t i = 0; i < report->node_count; i++)
        report_say(&out, " %12d", report->nodes[i].node);
    for (uint32_t i = 0; i < report->node_count * report->node_count; i++) {
        if (i % report->node_count == 0)
            report_say(&out, "\n%8d", report->nodes[i / report->node_count].node);
        report_say(&out, " %12" PRIu64, report->matrix[i]);
    }
    report_say(&out, "\n");
    return report_end(&out, out_text);
}

/* ---- JSON ---- */

static void json_figures(struct report_out *out, const struct report_figure *figures, size_t count,
                         const void *stats)
{
    for (size_t i = 0; i < count; i++)
        report_say(out, ", \"%s\": %" PRIu64, figures[i].name, report_value(stats, &figures[i]));
}

/* With the buckets that hold something: their smallest value, and how many. */
static void json_histogram(struct report_out *out, const char *name,
                           const numaperf_histogram_t *histogram)
{
    report_say(out, ",\n    \"%s\": {\"count\": %" PRIu64 ", \"sum\": %" PRIu64, name,
               histogram->count, histogram->sum);
    for (size_t i = 0; i < REPORT_QUANTILES; i++)
        report_say(out, ", \"%s\": %" PRIu64, report_quantiles[i].name,
                   numaperf_histogram_quantile(histogram, report_quantiles[i].q));
    report_say(out, ", \"max\": %" PRIu64 ", \"buckets\": [", histogram->max);
    const char *comma = "";
    for (uint32_t i = 0; i < NUMAPERF_HISTOGRAM_BUCKETS; i++) {
        if (histogram->buckets[i] == 0)
            continue;
        report_say(out, "%s[%" PRIu64 ", %" PRIu64 "]", comma, numaperf_histogram_bucket_min(i),
                   histogram->buckets[i]);
        comma = ", ";
    }
    report_say(out, "]}");
}

static void json_stats(struct report_out *out, const numaperf_rt_stats_t *stats)
{
    unsigned share = report_millionths(stats->locality);
    report_say(out, "\"worker_count\": %u, \"locality\": %u.%06u", stats->worker_count,
               share / 1000000, share % 1000000);
    json_figures(out, node_figures, REPORT_NODE_FIGURES, stats);
    json_histogram(out, "wait_ns", &stats->wait);
    json_histogram(out, "run_ns", &stats->run);
    report_say(out, "}");
}

static void json_worker(struct report_out *out, const numaperf_worker_stats_t *worker)
{
    report_say(out, "{\"worker\": %u, \"node\": %d, \"cpu\": %d", worker->index, worker->node,
               worker->cpu);
    json_figures(out, worker_figures, REPORT_WORKER_FIGURES, worker);
    json_histogram(out, "wait_ns", &worker->wait);
    json_histogram(out, "run_ns", &worker->run);
    report_say(out, "}");
}

static void json_matrix(struct report_out *out, const struct numaperf__report *report)
{
    report_say(out, "{\"nodes\": [");
    for (uint32_t i = 0; i < report->node_count; i++)
        report_say(out, "%s%d", i == 0 ? "" : ", ", report->nodes[i].node);
    report_say(out, "], \"ran\": [");
    for (uint32_t i = 0; i < report->node_count * report->node_count; i++) {
        if (i % report->node_count == 0)
            report_say(out, "%s[", i == 0 ? "" : "], ");
        report_say(out, "%s%" PRIu64, i % report->node_count == 0 ? "" : ", ", report->matrix[i]);
    }
    report_say(out, "]]}");
}

int numaperf__report_json(const struct numaperf__report *report, char **out_text)
{
    NUMAPERF_ASSERT(report->node_count > 0);

    struct report_out out = {.data = NULL};
    report_say(&out, "{\"schema\": \"numaperf-stats/1\",\n  \"runtime\": {\"node_count\": %u, ",
               report->node_count);
    json_stats(&out, report->total);
    report_say(&out, ",\n  \"nodes\": [");
    for (uint32_t i = 0; i < report->node_count; i++) {
        report_say(&out, "%s\n   {\"node\": %d, ", i == 0 ? "" : ",", report->nodes[i].node);
        json_stats(&out, &report->nodes[i]);
    }
    report_say(&out, "],\n  \"workers\": [");
    for (uint32_t i = 0; i < report->worker_count; i++) {
        report_say(&out, "%s\n   ", i == 0 ? "" : ",");
        json_worker(&out, &report->workers[i]);
    }
    report_say(&out, "],\n  \"matrix\": ");
    json_matrix(&out, report);
    report_say(&out, "}\n");
    return report_end(&out, out_text);
}

/* ---- Prometheus ---- */

static void prometheus_head(struct report_out *out, const struct report_figure *figure)
{
    const char *total = figure->is_counter ? "_total" : "";
    report_say(out, "# HELP numaperf_%s%s %s\n", figure->name, total, figure->help);
    report_say(out, "# TYPE numaperf_%s%s %s\n", figure->name, total,
               figure->is_counter ? "counter" : "gauge");
}

static void prometheus_workers(struct report_out *out, const struct numaperf__report *report,
                               const struct report_figure *figure)
{
    prometheus_head(out, figure);
    for (uint32_t i = 0; i < report->worker_count; i++) {
        const numaperf_worker_stats_t *worker = &report->workers[i];
        report_say(out, "numaperf_%s%s{node=\"%d\",worker=\"%u\"} %" PRIu64 "\n", figure->name,
                   figure->is_counter ? "_total" : "", worker->node, worker->index,
                   report_value(worker, figure));
    }
}

static void prometheus_nodes(struct report_out *out, const struct numaperf__report *report,
                             const struct report_figure *figure)
{
    prometheus_head(out, figure);
    for (uint32_t i = 0; i < report->node_count; i++)
        report_say(out, "numaperf_%s%s{node=\"%d\"} %" PRIu64 "\n", figure->name,
                   figure->is_counter ? "_total" : "", report->nodes[i].node,
                   report_value(&report->nodes[i], figure));
}

static void prometheus_matrix(struct report_out *out, const struct numaperf__report *report)
{
    report_say(out, "# HELP numaperf_matrix_total Tasks by home and by the node that ran them.\n"
                    "# TYPE numaperf_matrix_total counter\n");
    uint32_t n = report->node_count;
    for (uint32_t i = 0; i < n * n; i++)
        report_say(out, "numaperf_matrix_total{home=\"%d\",node=\"%d\"} %" PRIu64 "\n",
                   report->nodes[i / n].node, report->nodes[i % n].node, report->matrix[i]);
}

/* Nanoseconds as seconds. */
#define REPORT_SECONDS "%" PRIu64 ".%09" PRIu64
#define REPORT_SECONDS_OF(ns) (ns) / 1000000000u, (ns) % 1000000000u

static void prometheus_buckets(struct report_out *out, const char *name, int node,
                               const numaperf_histogram_t *histogram)
{
    uint64_t seen = 0;
    for (uint32_t i = 0; i < NUMAPERF_HISTOGRAM_BUCKETS; i++) {
        if (i >= REPORT_OCTAVE_FIRST && i % REPORT_OCTAVE == 0)
            report_say(out,
                       "numaperf_task_%s_seconds_bucket{node=\"%d\",le=\"" REPORT_SECONDS
                       "\"} %" PRIu64 "\n",
                       name, node, REPORT_SECONDS_OF(numaperf_histogram_bucket_min(i) - 1), seen);
        seen += histogram->buckets[i];
    }
    report_say(out, "numaperf_task_%s_seconds_bucket{node=\"%d\",le=\"+Inf\"} %" PRIu64 "\n", name,
               node, seen);
    report_say(out, "numaperf_task_%s_seconds_sum{node=\"%d\"} " REPORT_SECONDS "\n", name, node,
               REPORT_SECONDS_OF(histogram->sum));
    report_say(out, "numaperf_task_%s_seconds_count{node=\"%d\"} %" PRIu64 "\n", name, node, seen);
}

static void prometheus_histograms(struct report_out *out, const struct numaperf__report *report)
{
    report_say(out,
               "# HELP numaperf_task_wait_seconds Time between spawn and run, of " REPORT_SAMPLED
               ".\n"
               "# TYPE numaperf_task_wait_seconds histogram\n");
    for (uint32_t i = 0; i < report->node_count; i++)
        prometheus_buckets(out, "wait", report->nodes[i].node, &report->nodes[i].wait);
    report_say(out, "# HELP numaperf_task_run_seconds Time that tasks ran, of " REPORT_SAMPLED ".\n"
                    "# TYPE numaperf_task_run_seconds histogram\n");
    for (uint32_t i = 0; i < report->node_count; i++)
        prometheus_buckets(out, "run", report->nodes[i].node, &report->nodes[i].run);
}

int numaperf__report_prometheus(const struct numaperf__report *report, char **out_text)
{
    struct report_out out = {.data = NULL};
    for (size_t i = 0; i < REPORT_WORKER_FIGURES; i++)
        prometheus_workers(&out, report, &worker_figures[i]);
    for (size_t i = 0; i < REPORT_HOME_FIGURES; i++)
        prometheus_nodes(&out, report, &node_figures[i]);
    prometheus_matrix(&out, report);
    prometheus_histograms(&out, report);
    unsigned share = report_millionths(report->total->locality);
    report_say(&out,
               "# HELP numaperf_locality_ratio Share of the tasks run that ran on their home "
               "node.\n# TYPE numaperf_locality_ratio gauge\nnumaperf_locality_ratio %u.%06u\n",
               share / 1000000, share % 1000000);
    return report_end(&out, out_text);
}
