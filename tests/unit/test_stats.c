/* SPDX-License-Identifier: MIT */
/* Tallies, sums and reports: what is counted comes out, in all three forms. */
#include "stat/report.h"
#include "stat/stats.h"
#include "stat/tally.h"

#include <errno.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static int grows_left = -1; /* until memory is short; -1: never */

void *__wrap_realloc(void *memory, size_t size)
{
    if (grows_left == 0)
        return NULL;
    grows_left -= grows_left > 0 ? 1 : 0;
    return __real_realloc(memory, size);
}

/* ---- tallies ---- */

static void tally_is_told_by_home(void **state)
{
    (void)state;
    struct numaperf__tally *tally = numaperf__tally_create(3);
    assert_non_null(tally);
    numaperf__counter_add_owner(&tally->homes[0].ran, 5);
    numaperf__counter_add_owner(&tally->homes[1].ran, 70);
    numaperf__counter_add_owner(&tally->homes[2].ran, 600);
    numaperf__counter_add_owner(&tally->homes[2].cancelled, 8);
    numaperf__counter_add_owner(&tally->homes[0].cancelled, 1);
    numaperf__histogram_record_owner(&tally->wait, 100);
    numaperf__histogram_record_owner(&tally->run, 7);
    numaperf__tally_finish_owner(&tally->homes[2].retracted); /* over, but not told */
    assert_int_equal(numaperf__tally_finished(tally), 675 + 9 + 1);
    numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
    numaperf__tally_snapshot(tally, 1, &stats);
    assert_int_equal(stats.ran, 675);
    assert_int_equal(stats.ran_remote, 605);
    assert_int_equal(stats.cancelled, 9);
    assert_int_equal(stats.wait.sum, 100);
    assert_int_equal(stats.run.max, 7);
    numaperf__tally_destroy(tally);
}

static void locality_is_1_only_when_something_ran_and_all_at_home(void **state)
{
    (void)state;
    assert_true(numaperf__stats_locality(0, 0) == 0.0);
    assert_true(numaperf__stats_locality(0, 9) == 0.0);
    assert_true(numaperf__stats_locality(1, 1) == 1.0);
    assert_true(numaperf__stats_locality(3, 4) == 0.75);
    assert_true(numaperf__stats_locality(UINT64_MAX - 1, UINT64_MAX) < 1.0);
    assert_true(numaperf__stats_locality(UINT64_MAX, UINT64_MAX) == 1.0);
}

/* ---- sums ---- */

/* Every number of a struct of figures; the histograms apart. */
static uint64_t *worker_numbers(numaperf_worker_stats_t *stats, size_t *out_count)
{
    *out_count =
        (offsetof(numaperf_worker_stats_t, wait) - offsetof(numaperf_worker_stats_t, ran)) /
        sizeof(uint64_t);
    return &stats->ran;
}

static void sums_leave_no_figure_out(void **state)
{
    (void)state;
    numaperf_rt_stats_t one = NUMAPERF_RT_STATS_INIT;
    uint64_t *numbers = &one.accepted;
    size_t count =
        (offsetof(numaperf_rt_stats_t, locality) - offsetof(numaperf_rt_stats_t, accepted)) /
        sizeof(uint64_t);
    for (size_t i = 0; i < count; i++)
        numbers[i] = i + 1;
    one.run.buckets[3] = 5;
    one.wait.buckets[4] = 6;
    numaperf_rt_stats_t sum = NUMAPERF_RT_STATS_INIT;
    numaperf__stats_add_node(&sum, &one);
    numaperf__stats_add_node(&sum, &one);
    for (size_t i = 0; i < count; i++)
        assert_int_equal((&sum.accepted)[i], 2 * (i + 1));
    assert_int_equal(sum.run.buckets[3], 10);
    assert_int_equal(sum.wait.buckets[4], 12);
}

static void sums_take_from_workers_what_is_not_told_by_home(void **state)
{
    (void)state;
    numaperf_worker_stats_t worker = NUMAPERF_WORKER_STATS_INIT;
    size_t count = 0;
    uint64_t *numbers = worker_numbers(&worker, &count);
    for (size_t i = 0; i < count; i++)
        numbers[i] = UINT64_C(1) << i;
    numaperf_rt_stats_t sum = NUMAPERF_RT_STATS_INIT;
    numaperf__stats_add_worker(&sum, &worker);
    assert_int_equal(sum.worker_count, 1);
    assert_int_equal(sum.ran, worker.ran);
    assert_int_equal(sum.ran_remote, worker.ran_remote);
    assert_int_equal(sum.waiting_bound, worker.waiting);
    assert_int_equal(sum.parks, worker.parks);
    assert_int_equal(sum.wakes, worker.wakes);
    assert_int_equal(sum.spins, worker.spins);
    assert_int_equal(sum.ring_enters, worker.ring_enters);
    assert_int_equal(sum.ring_completions, worker.ring_completions);
    assert_int_equal(sum.ring_overflows, worker.ring_overflows);
    assert_int_equal(sum.stalls, worker.stalls);
    assert_int_equal(sum.arena_mapped_bytes, worker.arena_mapped_bytes);
    assert_int_equal(sum.arena_used_bytes, worker.arena_used_bytes);
    assert_int_equal(sum.cancelled, 0); /* by home */
    assert_int_equal(sum.stolen_from, 0);
}

/* ---- reports ---- */

/* Two nodes, 3 and 8, of one worker each. */
struct machine {
    numaperf_rt_stats_t total;
    numaperf_rt_stats_t nodes[2];
    numaperf_worker_stats_t workers[2];
    uint64_t matrix[4];
    struct numaperf__report report;
};

static struct machine *machine_create(void)
{
    const numaperf_rt_stats_t no_stats = NUMAPERF_RT_STATS_INIT;
    const numaperf_worker_stats_t no_worker = NUMAPERF_WORKER_STATS_INIT;
    struct machine *machine = calloc(1, sizeof(*machine));
    assert_non_null(machine);
    machine->total = no_stats;
    for (uint32_t i = 0; i < 2; i++) {
        numaperf_worker_stats_t *worker = &machine->workers[i];
        *worker = no_worker;
        worker->node = i == 0 ? 3 : 8;
        worker->cpu = 11;
        worker->index = i;
        size_t count = 0;
        uint64_t *numbers = worker_numbers(worker, &count);
        for (size_t k = 0; k < count; k++)
            numbers[k] = 100 * (i + 1) + k;
        worker->run.count = 3;
        worker->run.sum = 2500000000u;
        worker->run.max = 2000000000u;
        worker->run.buckets[8] = 2;
        worker->run.buckets[60] = 1;
        machine->nodes[i] = no_stats;
        machine->nodes[i].node = worker->node;
        machine->nodes[i].node_count = 1;
        numaperf__stats_add_worker(&machine->nodes[i], worker);
        machine->nodes[i].accepted = UINT64_C(5000000000);
        numaperf__stats_add_node(&machine->total, &machine->nodes[i]);
    }
    machine->total.locality = 0.9999999;
    const uint64_t matrix[4] = {40, 41, 42, 43};
    memcpy(machine->matrix, matrix, sizeof(matrix));
    machine->report = (struct numaperf__report){.total = &machine->total,
                                                .nodes = machine->nodes,
                                                .workers = machine->workers,
                                                .matrix = machine->matrix,
                                                .node_count = 2,
                                                .worker_count = 2};
    return machine;
}

static json_int_t number_at(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static void json_has_every_figure(void **state)
{
    (void)state;
    struct machine *machine = machine_create();
    char *text = NULL;
    assert_int_equal(numaperf__report_json(&machine->report, &text), 0);
    json_error_t error;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    free(text);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "schema")), "numaperf-stats/1");
    const json_t *total = json_object_get(json, "runtime");
    assert_int_equal(number_at(total, "node_count"), 2);
    assert_int_equal(number_at(total, "accepted"), INT64_C(10000000000));
    assert_int_equal(number_at(total, "ran"), 300);
    assert_true(json_real_value(json_object_get(total, "locality")) < 1.0);
    const json_t *node = json_array_get(json_object_get(json, "nodes"), 1);
    assert_int_equal(number_at(node, "node"), 8);
    assert_int_equal(number_at(node, "arena_used_bytes"), 213);
    const json_t *worker = json_array_get(json_object_get(json, "workers"), 1);
    assert_int_equal(number_at(worker, "worker"), 1);
    assert_int_equal(number_at(worker, "cpu"), 11);
    assert_int_equal(number_at(worker, "stalls"), 210);
    const json_t *run = json_object_get(worker, "run_ns");
    assert_int_equal(number_at(run, "count"), 3);
    assert_int_equal(number_at(run, "p50"), 8);
    const json_t *buckets = json_object_get(run, "buckets");
    assert_int_equal(json_array_size(buckets), 2);
    assert_int_equal(json_integer_value(json_array_get(json_array_get(buckets, 1), 0)), 768);
    const json_t *rows = json_object_get(json_object_get(json, "matrix"), "ran");
    assert_int_equal(json_array_size(rows), 2);
    assert_int_equal(json_integer_value(json_array_get(json_array_get(rows, 1), 0)), 42);
    json_decref(json);
    free(machine);
}

/* The number behind a series; fails when it is not there exactly once. */
static const char *series(const char *text, const char *name)
{
    char line[160];
    (void)snprintf(line, sizeof(line), "\n%s ", name);
    const char *at = strstr(text, line);
    if (at == NULL)
        print_error("no series %s\n", name);
    assert_non_null(at);
    assert_null(strstr(at + 1, line));
    return at + strlen(line);
}

static void prometheus_has_series_of_workers_nodes_and_cumulative_buckets(void **state)
{
    (void)state;
    struct machine *machine = machine_create();
    char *text = NULL;
    assert_int_equal(numaperf__report_prometheus(&machine->report, &text), 0);
#define SERIES(name) strtoull(series(text, name), NULL, 10)
    assert_int_equal(SERIES("numaperf_ran_total{node=\"8\",worker=\"1\"}"), 200);
    assert_int_equal(SERIES("numaperf_stalls_total{node=\"3\",worker=\"0\"}"), 110);
    assert_int_equal(SERIES("numaperf_arena_used_bytes{node=\"3\",worker=\"0\"}"), 113);
    assert_int_equal(SERIES("numaperf_accepted_total{node=\"8\"}"), 5000000000u);
    assert_int_equal(SERIES("numaperf_matrix_total{home=\"8\",node=\"3\"}"), 42);
#define BUCKET(le) SERIES("numaperf_task_run_seconds_bucket{node=\"3\",le=\"" le "\"}")
    assert_int_equal(BUCKET("0.000000511"), 2);
    assert_int_equal(BUCKET("0.000001023"), 3);
    assert_int_equal(BUCKET("+Inf"), 3);
    assert_int_equal(SERIES("numaperf_task_run_seconds_count{node=\"3\"}"), 3);
    assert_memory_equal(series(text, "numaperf_task_run_seconds_sum{node=\"3\"}"), "2.500000000\n",
                        12);
    /* Rounded down: all but a few is not all. */
    assert_memory_equal(series(text, "numaperf_locality_ratio"), "0.999999\n", 9);
    /* Every line is a comment or a series with a number, and each metric is described once. */
    int types = 0;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        types += strncmp(line, "# TYPE ", 7) == 0 ? 1 : 0;
        const char *number = strrchr(line, ' ');
        assert_true(line[0] == '#' || (number != NULL && number[1] >= '0' && number[1] <= '9'));
        assert_true(line[0] == '#' || strncmp(line, "numaperf_", 9) == 0);
    }
    assert_int_equal(types, 13 + 5 + 1 + 2 + 1);
    free(text);
    free(machine);
}

static void text_names_nodes_workers_and_the_matrix(void **state)
{
    (void)state;
    struct machine *machine = machine_create();
    char *text = NULL;
    assert_int_equal(numaperf__report_text(&machine->report, &text), 0);
    assert_non_null(strstr(text, "runtime: 2 nodes, 2 workers, locality 0.999999\n"));
    assert_non_null(strstr(text, "\nnode 8: 1 workers"));
    assert_non_null(strstr(text, "worker 1: node 8, PU 11\n"));
    assert_non_null(strstr(text, "accepted 10000000000,"));
    assert_non_null(strstr(text, "\n       8           42           43\n"));
    free(text);
    free(machine);
}

static void report_without_memory_is_refused_and_leaves_nothing(void **state)
{
    (void)state;
    int (*const writers[])(const struct numaperf__report *, char **) = {
        numaperf__report_text, numaperf__report_json, numaperf__report_prometheus};
    struct machine *machine = machine_create();
    for (size_t i = 0; i < 3; i++) {
        char *text = NULL;
        grows_left = 0;
        assert_int_equal(writers[i](&machine->report, &text), -ENOMEM);
        assert_null(text);
        grows_left = -1;
        assert_int_equal(writers[i](&machine->report, &text), 0);
        free(text);
    }
    /* That of Prometheus grows more than once: it fails in the middle as well. */
    char *text = NULL;
    grows_left = 1;
    assert_int_equal(numaperf__report_prometheus(&machine->report, &text), -ENOMEM);
    assert_null(text);
    grows_left = -1;
    free(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tally_is_told_by_home),
        cmocka_unit_test(locality_is_1_only_when_something_ran_and_all_at_home),
        cmocka_unit_test(sums_leave_no_figure_out),
        cmocka_unit_test(sums_take_from_workers_what_is_not_told_by_home),
        cmocka_unit_test(json_has_every_figure),
        cmocka_unit_test(prometheus_has_series_of_workers_nodes_and_cumulative_buckets),
        cmocka_unit_test(text_names_nodes_workers_and_the_matrix),
        cmocka_unit_test(report_without_memory_is_refused_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
