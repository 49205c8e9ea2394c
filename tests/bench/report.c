/* SPDX-License-Identifier: MIT */
/*
 * What was measured, for people and for programs. The table has ratios only: absolute times of a
 * machine that others share mean nothing on another day. The JSON has every sample.
 */
#include "harness.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <uv.h>

/* ---- table ---- */

static void report_limit(const struct bench_result *result, uint32_t peer,
                         const struct bench_metric *metric, uint32_t index)
{
    uint32_t within = 0;
    for (uint32_t i = 0; i < result->round_count; i++)
        within += bench_result_value(result, i, peer, index) <= metric->limit;
    printf("   limit %g %s: holds in %u of %u", metric->limit, metric->unit, within,
           result->round_count);
}

static void report_ratio(const struct bench_result *result, uint32_t peer, uint32_t index)
{
    const struct bench_metric *metric = &result->bench->metrics[index];
    struct bench_spread ratio = bench_result_ratios(result, peer, index);
    printf("  %-19s %-18s %8.3f   %.3f .. %.3f   %.3f .. %.3f   %s", result->peers[peer]->name,
           metric->name, ratio.median, ratio.low, ratio.high, ratio.least, ratio.most,
           metric->lower_is_better ? "lower" : "higher");
    if (metric->limit > 0)
        report_limit(result, peer, metric, index);
    printf("\n");
}

/* How far a goal was reached, in one word. */
static const char *report_reached(const struct bench_result *result, const struct bench_goal *goal,
                                  const struct bench_spread *spread)
{
    if (goal->aim > 0 && bench_goal_holds(result, goal, spread->median, goal->aim))
        return "aim";
    if (goal->must > 0 && bench_goal_holds(result, goal, spread->median, goal->must))
        return "must";
    return goal->must > 0 || goal->aim > 0 ? "no" : "";
}

static void report_goal(const struct bench_result *result, const struct bench_goal *goal)
{
    const struct bench_metric *metric = &result->bench->metrics[goal->metric];
    printf("  goal: %s, %s%s%s", metric->name, goal->peer->name,
           goal->against != NULL ? " / " : ", ",
           goal->against != NULL ? goal->against->name : metric->unit);
    struct bench_spread spread;
    if (!bench_result_goal(result, goal, &spread)) {
        printf(": not known, a peer is absent\n");
        return;
    }
    printf(" %.3f (%.3f .. %.3f)", spread.median, spread.low, spread.high);
    if (goal->must <= 0 && goal->aim <= 0) {
        printf(", nothing is asked\n");
        return;
    }
    const char *sign = metric->lower_is_better ? "<=" : ">=";
    if (goal->must > 0)
        printf("; must %s %g", sign, goal->must);
    if (goal->aim > 0)
        printf("; aim %s %g", sign, goal->aim);
    printf("; reached: %s\n", report_reached(result, goal, &spread));
}

static void report_absent(const struct bench_case *bench)
{
    for (uint32_t i = 0; i < BENCH_PEERS_MAX && bench->peers[i] != NULL; i++) {
        const char *why = bench_peer_absent(bench->peers[i]);
        if (why != NULL)
            printf("  %s is left out: %s\n", bench->peers[i]->name, why);
    }
}

void bench_print_table(const struct bench_result *result)
{
    const struct bench_case *bench = result->bench;
    printf("\n%s: %s\n", bench->name, bench->about);
    report_absent(bench);
    if (result->left_out[0] != '\0') {
        printf("  left out: %s\n", result->left_out);
        return;
    }
    printf("  as ratios to %s, %u rounds (%u retaken); others took %.0f %% of the machine\n",
           result->peers[0]->name, result->round_count, result->retaken, result->others_percent);
    printf("  %-19s %-18s %8s   %-14s   %-14s   %s\n", "peer", "metric", "median", "quartiles",
           "range", "better");
    for (uint32_t i = 0; i < result->metric_count; i++) {
        for (uint32_t peer = 1; peer < result->peer_count; peer++)
            report_ratio(result, peer, i);
    }
    for (uint32_t i = 0; i < BENCH_GOALS_MAX && bench->goals[i].peer != NULL; i++)
        report_goal(result, &bench->goals[i]);
    (void)fflush(stdout); /* a long run is watched */
}

/* ---- JSON ---- */

static void json_string(FILE *file, const char *text)
{
    (void)fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            (void)fputc('\\', file);
        if ((unsigned char)*text >= ' ')
            (void)fputc(*text, file);
    }
    (void)fputc('"', file);
}

static void json_member(FILE *file, const char *name, const char *text)
{
    (void)fprintf(file, "\"%s\": ", name);
    json_string(file, text);
}

/* What stands behind the first line of `path` that begins with `key`; else "unknown". */
static void json_line_of(const char *path, const char *key, char *out, size_t size)
{
    (void)snprintf(out, size, "unknown");
    FILE *file = fopen(path, "re");
    char line[512];
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        const char *value = line + strlen(key);
        value += strspn(value, " \t:");
        (void)snprintf(out, size, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    if (file != NULL)
        (void)fclose(file); /* was only read */
}

static void json_nodes(FILE *file)
{
    numaperf_topology_t *topology = NULL;
    if (numaperf_topology_discover(&topology) < 0) {
        (void)fprintf(file, "[]");
        return;
    }
    (void)fprintf(file, "[");
    for (size_t i = 0; i < numaperf_topology_node_count(topology); i++) {
        int node = numaperf_topology_node_id(topology, i);
        numaperf_cpuset_t cpus;
        char list[256] = "";
        if (numaperf_topology_node_cpus(topology, node, &cpus) == 0)
            (void)numaperf_cpuset_format(&cpus, list, sizeof(list));
        (void)fprintf(file, "%s{\"node\": %d, \"memory_bytes\": %llu, ", i == 0 ? "" : ", ", node,
                      (unsigned long long)numaperf_topology_node_memory_bytes(topology, node));
        json_member(file, "cpus", list);
        (void)fprintf(file, "}");
    }
    (void)fprintf(file, "]");
    numaperf_topology_destroy(topology);
}

static void json_machine(FILE *file)
{
    char text[512];
    struct utsname name;
    memset(&name, 0, sizeof(name));
    (void)uname(&name); /* fails for a bad pointer only */
    json_line_of("/proc/cpuinfo", "model name", text, sizeof(text));
    (void)fprintf(file, "  \"machine\": {");
    json_member(file, "cpu", text);
    (void)fprintf(file, ", ");
    json_member(file, "architecture", name.machine);
    (void)fprintf(file, ", ");
    json_member(file, "kernel", name.release);
    json_line_of("/proc/loadavg", "", text, sizeof(text));
    (void)fprintf(file, ", ");
    json_member(file, "load_at_end", text);
    (void)fprintf(file, ", \"nodes\": ");
    json_nodes(file);
    (void)fprintf(file, "},\n  \"software\": {");
    json_member(file, "numaperf", numaperf_version_string());
    (void)fprintf(file, ", ");
    json_member(file, "libuv", uv_version_string());
    (void)fprintf(file, ", ");
    json_member(file, "peers", NUMAPERF_BENCH_PEERS);
    (void)fprintf(file, ", ");
    json_member(file, "compiler", __VERSION__);
    (void)fprintf(file, ", ");
    json_member(file, "build", NUMAPERF_BENCH_BUILD);
    (void)fprintf(file, "},\n");
}

static void json_spread(FILE *file, const char *name, struct bench_spread spread)
{
    (void)fprintf(file,
                  "\"%s\": {\"median\": %.6g, \"q1\": %.6g, \"q3\": %.6g, \"min\": %.6g, "
                  "\"max\": %.6g}",
                  name, spread.median, spread.low, spread.high, spread.least, spread.most);
}

static void json_metric(FILE *file, const struct bench_result *result, uint32_t peer,
                        uint32_t index)
{
    const struct bench_metric *metric = &result->bench->metrics[index];
    (void)fprintf(file, "        {");
    json_member(file, "peer", result->peers[peer]->name);
    (void)fprintf(file, ", ");
    json_member(file, "metric", metric->name);
    (void)fprintf(file, ", ");
    json_member(file, "unit", metric->unit);
    (void)fprintf(file, ", \"lower_is_better\": %s, ", metric->lower_is_better ? "true" : "false");
    if (metric->limit > 0)
        (void)fprintf(file, "\"limit\": %g, ", metric->limit);
    if (peer > 0) {
        json_spread(file, "ratio", bench_result_ratios(result, peer, index));
        (void)fprintf(file, ", ");
    }
    json_spread(file, "value", bench_result_values(result, peer, index));
    (void)fprintf(file, ", \"samples\": [");
    for (uint32_t i = 0; i < result->round_count; i++)
        (void)fprintf(file, "%s%.6g", i == 0 ? "" : ", ",
                      bench_result_value(result, i, peer, index));
    (void)fprintf(file, "]}");
}

/* What must hold of the case, and what came of it. */
static void json_goals(FILE *file, const struct bench_result *result)
{
    const struct bench_case *bench = result->bench;
    (void)fprintf(file, ",\n      \"goals\": [");
    for (uint32_t i = 0; i < BENCH_GOALS_MAX && bench->goals[i].peer != NULL; i++) {
        const struct bench_goal *goal = &bench->goals[i];
        (void)fprintf(file, "%s{", i == 0 ? "" : ", ");
        json_member(file, "peer", goal->peer->name);
        (void)fprintf(file, ", ");
        json_member(file, "against", goal->against != NULL ? goal->against->name : "");
        (void)fprintf(file, ", ");
        json_member(file, "metric", bench->metrics[goal->metric].name);
        if (goal->must > 0)
            (void)fprintf(file, ", \"must\": %g", goal->must);
        if (goal->aim > 0)
            (void)fprintf(file, ", \"aim\": %g", goal->aim);
        struct bench_spread spread;
        if (bench_result_goal(result, goal, &spread)) {
            (void)fprintf(file, ", \"reached\": \"%s\", ", report_reached(result, goal, &spread));
            json_spread(file, "figure", spread);
        }
        (void)fprintf(file, "}");
    }
    (void)fprintf(file, "]");
}

static void json_absent(FILE *file, const struct bench_case *bench)
{
    const char *between = "";
    (void)fprintf(file, ", \"absent\": [");
    for (uint32_t i = 0; i < BENCH_PEERS_MAX && bench->peers[i] != NULL; i++) {
        const char *why = bench_peer_absent(bench->peers[i]);
        if (why == NULL)
            continue;
        (void)fprintf(file, "%s{", between);
        json_member(file, "peer", bench->peers[i]->name);
        (void)fprintf(file, ", ");
        json_member(file, "why", why);
        (void)fprintf(file, "}");
        between = ", ";
    }
    (void)fprintf(file, "]");
}

static void json_case(FILE *file, const struct bench_result *result)
{
    (void)fprintf(file, "    {");
    json_member(file, "case", result->bench->name);
    (void)fprintf(file, ", ");
    json_member(file, "about", result->bench->about);
    (void)fprintf(file, ", ");
    json_member(file, "against",
                result->peer_count > 0 ? result->peers[0]->name : result->bench->peers[0]->name);
    json_absent(file, result->bench);
    if (result->left_out[0] != '\0') {
        (void)fprintf(file, ", ");
        json_member(file, "left_out", result->left_out);
        (void)fprintf(file, "}");
        return;
    }
    (void)fprintf(file, ", \"repetitions\": %u, \"nodes\": %u, \"worker_cpus\": [",
                  result->round_count, result->setup.node_count);
    for (uint32_t i = 0; i < result->setup.node_count * result->setup.workers_per_node; i++)
        (void)fprintf(file, "%s%d", i == 0 ? "" : ", ", result->setup.cpus[i]);
    (void)fprintf(file, "], \"others_percent\": %.1f, \"retaken\": %u,\n      \"metrics\": [\n",
                  result->others_percent, result->retaken);
    for (uint32_t i = 0; i < result->metric_count * result->peer_count; i++) {
        (void)fprintf(file, "%s", i == 0 ? "" : ",\n");
        json_metric(file, result, i % result->peer_count, i / result->peer_count);
    }
    (void)fprintf(file, "]");
    json_goals(file, result);
    (void)fprintf(file, "}");
}

int bench_write_json(const char *path, const struct bench_result *results, size_t count)
{
    FILE *file = fopen(path, "we");
    if (file == NULL)
        return -errno;
    char date[64] = "unknown";
    time_t now = time(NULL);
    struct tm parts;
    if (gmtime_r(&now, &parts) != NULL)
        (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &parts);
    (void)fprintf(file, "{\n  ");
    json_member(file, "date", date);
    (void)fprintf(file, ",\n");
    json_machine(file);
    (void)fprintf(file, "  \"cases\": [\n");
    for (size_t i = 0; i < count; i++) {
        (void)fprintf(file, "%s", i == 0 ? "" : ",\n");
        json_case(file, &results[i]);
    }
    (void)fprintf(file, "]\n}\n");
    bool bad = ferror(file) != 0;
    return fclose(file) != 0 || bad ? -EIO : 0;
}
