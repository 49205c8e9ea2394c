/* SPDX-License-Identifier: MIT */
/*
 * usage: numaperf_bench [--rounds N] [--quiet PERCENT] [--smoke] [--json FILE] [--list]
 *                       [WORKLOAD | CASE]...
 *
 * Without a name all workloads run. --quiet: a round in which other processes took more of the
 * machine than that is taken again. --smoke does little and proves only that they work.
 */
#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAIN_ROUNDS_DEFAULT 9u
#define MAIN_ROUNDS_MAX 1000u
#define MAIN_CASES_MAX 128u

static const struct bench_workload *const workloads[] = {
    &bench_spawn,    &bench_wake,  &bench_pingpong, &bench_fib_tree, &bench_gain, &bench_idle,
    &bench_overhead, &bench_steal, &bench_timers,   &bench_wakepath, &bench_echo, &bench_kv,
    &bench_http,     &bench_files, &bench_arena, /* last: its peers stay loaded */
};
#define MAIN_WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

struct main_options {
    struct bench_options bench;
    bool list;
    const char *json;
    char **names;
    int name_count;
};

static bool main_is_known(const char *name)
{
    for (size_t i = 0; i < MAIN_WORKLOADS; i++) {
        if (strcmp(name, workloads[i]->name) == 0)
            return true;
        for (size_t k = 0; k < workloads[i]->case_count; k++) {
            if (strcmp(name, workloads[i]->cases[k].name) == 0)
                return true;
        }
    }
    return false;
}

static bool main_is_wanted(const struct main_options *options, const struct bench_workload *work,
                           const struct bench_case *bench)
{
    for (int i = 0; i < options->name_count; i++) {
        if (strcmp(options->names[i], work->name) == 0 ||
            strcmp(options->names[i], bench->name) == 0)
            return true;
    }
    return options->name_count == 0;
}

static bool main_parse(int argc, char **argv, struct main_options *out)
{
    *out = (struct main_options){.bench = {.round_count = MAIN_ROUNDS_DEFAULT}, .names = argv};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--smoke") == 0) {
            out->bench.smoke = true;
        } else if (strcmp(argv[i], "--list") == 0) {
            out->list = true;
        } else if (strcmp(argv[i], "--json") == 0 && value != NULL) {
            out->json = argv[++i];
        } else if (strcmp(argv[i], "--rounds") == 0 && value != NULL) {
            unsigned long rounds = strtoul(argv[++i], NULL, 10);
            if (rounds < 1 || rounds > MAIN_ROUNDS_MAX)
                return false;
            out->bench.round_count = (uint32_t)rounds;
        } else if (strcmp(argv[i], "--quiet") == 0 && value != NULL) {
            out->bench.others_percent_max = strtod(argv[++i], NULL);
        } else if (argv[i][0] != '-') {
            out->names[out->name_count++] = argv[i]; /* its own place or one before it */
        } else {
            return false;
        }
    }
    for (int k = 0; k < out->name_count; k++) {
        if (!main_is_known(out->names[k])) {
            (void)fprintf(stderr, "%s: no such workload or case; see --list\n", out->names[k]);
            return false;
        }
    }
    if (out->bench.smoke)
        out->bench.round_count = 1;
    return true;
}

static void main_list(void)
{
    for (size_t i = 0; i < MAIN_WORKLOADS; i++) {
        for (size_t k = 0; k < workloads[i]->case_count; k++)
            printf("%-20s %s\n", workloads[i]->cases[k].name, workloads[i]->cases[k].about);
    }
}

/* How many cases ran; < 0 when one failed. */
static int main_run(const struct main_options *options, struct bench_result *results)
{
    int count = 0;
    for (size_t i = 0; i < MAIN_WORKLOADS; i++) {
        for (size_t k = 0; k < workloads[i]->case_count; k++) {
            const struct bench_case *bench = &workloads[i]->cases[k];
            if (!main_is_wanted(options, workloads[i], bench) || count >= (int)MAIN_CASES_MAX)
                continue;
            struct bench_result *result = &results[count];
            count++;
            if (bench_case_run(bench, &options->bench, result) < 0)
                return -1;
            bench_print_table(result);
        }
    }
    return count;
}

int main(int argc, char **argv)
{
    struct main_options options;
    if (!main_parse(argc, argv, &options)) {
        (void)fprintf(stderr, "usage: numaperf_bench [--rounds N] [--quiet PERCENT] [--smoke] "
                              "[--json FILE] [--list] [WORKLOAD | CASE]...\n");
        return 2;
    }
    if (options.list) {
        main_list();
        return 0;
    }
    static struct bench_result results[MAIN_CASES_MAX];
    int status = 0;
    int count = main_run(&options, results);
    if (count < 0) {
        status = 1;
    } else if (options.json != NULL) {
        int rc = bench_write_json(options.json, results, (size_t)count);
        if (rc < 0) {
            (void)fprintf(stderr, "%s: %s\n", options.json, numaperf_strerror(rc));
            status = 1;
        }
    }
    for (size_t i = 0; i < MAIN_CASES_MAX; i++)
        bench_result_fini(&results[i]);
    return status;
}
