/* SPDX-License-Identifier: MIT */
/*
 * Figures of a runtime: exact once it has stopped, whatever was stolen, cancelled or taken back;
 * true while it works; and refused without memory.
 */
#include <numaperf.h>

#include "support/clock.h"
#include "support/runtimes.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TWO_NODES "numa:2 core:2 pu:1"

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static _Thread_local int callocs_left = -1; /* of this thread, until one fails; -1: none does */

void *__wrap_calloc(size_t count, size_t size)
{
    if (callocs_left == 0)
        return NULL;
    callocs_left -= callocs_left > 0 ? 1 : 0;
    return __real_calloc(count, size);
}

static numaperf_rt_stats_t stats_of(const numaperf_rt_t *rt)
{
    numaperf_rt_stats_t stats = NUMAPERF_RT_STATS_INIT;
    assert_int_equal(numaperf_rt_stats(rt, &stats), 0);
    return stats;
}

static numaperf_rt_stats_t stats_of_node(const numaperf_rt_t *rt, int node)
{
    numaperf_rt_stats_t stats = NUMAPERF_RT_STATS_INIT;
    assert_int_equal(numaperf_rt_node_stats(rt, node, &stats), 0);
    return stats;
}

static uint64_t matrix_of(const numaperf_rt_t *rt, int home, int node)
{
    uint64_t ran = 0;
    assert_int_equal(numaperf_rt_matrix(rt, home, node, &ran), 0);
    return ran;
}

/* Everything that must agree once nothing moves any more, on a runtime of nodes 0 and 1. */
static void assert_figures_agree(const numaperf_rt_t *rt)
{
    numaperf_rt_stats_t total = stats_of(rt);
    assert_true(total.accepted == total.ran + total.cancelled);
    assert_true(total.ran_remote == total.stolen_from);
    assert_int_equal(total.waiting_unbound + total.waiting_fixed + total.waiting_bound, 0);
    assert_int_equal(total.node_count, 2);
    assert_int_equal(total.node, NUMAPERF_NODE_ANY);
    uint64_t ran = 0;
    uint64_t accepted = 0;
    for (int node = 0; node < 2; node++) {
        numaperf_rt_stats_t one = stats_of_node(rt, node);
        assert_int_equal(one.node, node);
        assert_true(one.accepted == one.ran - one.ran_remote + one.stolen_from + one.cancelled);
        assert_true(one.ran == matrix_of(rt, 0, node) + matrix_of(rt, 1, node));
        assert_true(one.ran_remote == matrix_of(rt, 1 - node, node));
        assert_true(one.stolen_from == matrix_of(rt, node, 1 - node));
        ran += one.ran;
        accepted += one.accepted;
    }
    assert_true(ran == total.ran && accepted == total.accepted);
    uint64_t ran_by_workers = 0;
    for (uint32_t i = 0; i < total.worker_count; i++) {
        numaperf_worker_stats_t worker = NUMAPERF_WORKER_STATS_INIT;
        assert_int_equal(numaperf_rt_worker_stats(rt, i, &worker), 0);
        ran_by_workers += worker.ran;
        assert_true(worker.wait.count == worker.run.count); /* of the same tasks */
        assert_true(worker.run.count <= worker.ran);
    }
    assert_true(ran_by_workers == total.ran);
}

/* ---- sums ---- */

#define SPAWNERS 3

struct spawner {
    numaperf_rt_t *rt;
    pthread_t thread;
    uint64_t accepted;
    atomic_int *ran;
    bool until_stop;
    int count;
};

/* All kinds of targets in turn. */
static int spawn_some(numaperf_rt_t *rt, int i, numaperf_task_fn fn, void *arg)
{
    static const int nodes[] = {0, 1, NUMAPERF_NODE_ANY, NUMAPERF_NODE_LOCAL};
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    if (i % 3 == 0)
        return numaperf_rt_spawn(rt, nodes[i / 3 % 4], fn, arg);
    if (i % 3 == 1) {
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = i / 3 % 4;
    } else {
        options.flags = NUMAPERF_SPAWN_HAS_NODE | NUMAPERF_SPAWN_NEVER_STEAL;
        options.node = i / 3 % 2;
    }
    return numaperf_rt_spawn_with(rt, &options, fn, arg);
}

static void *spawner_main(void *data)
{
    struct spawner *spawner = data;
    for (int i = 0; spawner->until_stop || i < spawner->count; i++) {
        int rc = spawn_some(spawner->rt, i, runtime_count_task, spawner->ran);
        if (rc == NUMAPERF_E_STOPPING)
            break;
        spawner->accepted += rc == 0 ? 1 : 0;
        if (rc == -EAGAIN)
            test_sleep_ms(1);
    }
    return NULL;
}

static void spawners_start(struct spawner *spawners, numaperf_rt_t *rt, atomic_int *ran, int count)
{
    for (int i = 0; i < SPAWNERS; i++) {
        spawners[i] =
            (struct spawner){.rt = rt, .ran = ran, .until_stop = count == 0, .count = count};
        assert_int_equal(pthread_create(&spawners[i].thread, NULL, spawner_main, &spawners[i]), 0);
    }
}

static uint64_t spawners_join(struct spawner *spawners)
{
    uint64_t accepted = 0;
    for (int i = 0; i < SPAWNERS; i++) {
        assert_int_equal(pthread_join(spawners[i].thread, NULL), 0);
        accepted += spawners[i].accepted;
    }
    return accepted;
}

static atomic_int cancelled_by_callback;

static void count_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    (void)fn;
    (void)arg;
    (void)data;
    (void)atomic_fetch_add(&cancelled_by_callback, 1);
}

static void open_two_nodes(struct runtime_box *box)
{
    atomic_store(&cancelled_by_callback, 0);
    box->config.workers_per_node = 2;
    box->config.on_task_cancel = count_cancel;
    assert_int_equal(runtime_box_open(box, TWO_NODES), 0);
}

static void sums_are_exact_once_all_ran(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    open_two_nodes(&box);
    atomic_int ran = 0;
    struct spawner spawners[SPAWNERS];
    spawners_start(spawners, box.rt, &ran, test_is_slow() ? 500 : 20000);
    uint64_t accepted = spawners_join(spawners);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    numaperf_rt_stats_t total = stats_of(box.rt);
    assert_true(total.accepted == accepted);
    assert_true(total.ran == (uint64_t)atomic_load(&ran));
    assert_int_equal(total.cancelled, 0);
    assert_true(total.run.count >= total.ran / 1024);
    assert_figures_agree(box.rt);
    runtime_box_close(&box);
}

static void sums_are_exact_after_a_stop_that_cancels_and_takes_back(void **state)
{
    (void)state;
    for (int round = 0; round < (test_is_slow() ? 5 : 40); round++) {
        struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
        open_two_nodes(&box);
        atomic_int ran = 0;
        struct spawner spawners[SPAWNERS];
        spawners_start(spawners, box.rt, &ran, 0);
        test_sleep_ms(2);
        int rc = numaperf_rt_stop(box.rt, 0); /* while they spawn */
        uint64_t accepted = spawners_join(spawners);
        assert_true(rc == 0 || rc == -ETIMEDOUT); /* on a busy machine a task may take long */
        assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
        numaperf_rt_stats_t total = stats_of(box.rt);
        assert_true(total.accepted == accepted);
        assert_true(total.ran == (uint64_t)atomic_load(&ran));
        assert_true(total.cancelled == (uint64_t)atomic_load(&cancelled_by_callback));
        assert_figures_agree(box.rt);
        runtime_box_close(&box);
    }
}

/* The thread that stops cancels what waits for a worker that is stuck. */
static void tasks_cancelled_by_the_stopping_thread_count(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    open_two_nodes(&box);
    struct runtime_gate gate = {.entered = 0};
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = 2;
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    atomic_int ran = 0;
    for (int i = 0; i < 7; i++)
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, runtime_count_task, &ran), 0);
    assert_int_equal(stats_of_node(box.rt, 1).waiting_bound, 7);
    assert_int_equal(numaperf_rt_stop(box.rt, 0), -ETIMEDOUT);
    assert_int_equal(stats_of_node(box.rt, 1).cancelled, 7);
    atomic_store(&gate.open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(stats_of(box.rt).cancelled, 7);
    assert_int_equal(stats_of(box.rt).ran, 1);
    assert_figures_agree(box.rt);
    runtime_box_close(&box);
}

/* ---- where ---- */

static void locality_is_0_before_anything_ran_and_1_when_all_was_at_home(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    open_two_nodes(&box);
    assert_true(stats_of(box.rt).locality == 0.0);
    atomic_int ran = 0;
    for (int i = 0; i < 100; i++)
        assert_int_equal(numaperf_rt_spawn(box.rt, 1, runtime_count_task, &ran), 0);
    assert_true(runtime_reaches(&ran, 100));
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_true(stats_of(box.rt).locality == 1.0);
    assert_true(stats_of_node(box.rt, 0).locality == 0.0);
    assert_true(stats_of_node(box.rt, 1).locality == 1.0);
    assert_int_equal(matrix_of(box.rt, 1, 1), 100);
    runtime_box_close(&box);
}

static void stolen_tasks_are_in_the_matrix_and_lower_the_locality(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    box.config.steal_policy = NUMAPERF_STEAL_ANY;
    assert_int_equal(runtime_box_open(&box, TWO_NODES), 0);
    struct runtime_gate gate = {.entered = 0};
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    atomic_int ran = 0;
    for (int i = 1; i <= 9; i++) { /* only node 1 can */
        assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_count_task, &ran), 0);
        assert_true(runtime_reaches(&ran, i));
    }
    atomic_store(&gate.open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(matrix_of(box.rt, 0, 0), 1);
    assert_int_equal(matrix_of(box.rt, 0, 1), 9);
    assert_int_equal(matrix_of(box.rt, 1, 0), 0);
    assert_true(stats_of(box.rt).locality == 0.1);
    assert_true(stats_of_node(box.rt, 0).locality == 0.1);
    assert_int_equal(stats_of_node(box.rt, 0).stolen_from, 9);
    assert_int_equal(stats_of_node(box.rt, 1).ran_remote, 9);
    assert_figures_agree(box.rt);
    runtime_box_close(&box);
}

static void waiting_tasks_are_told_by_kind(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    struct runtime_gate gate = {.entered = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    atomic_int ran = 0;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    for (int i = 0; i < 6; i++) {
        options.flags = i < 1   ? 0
                        : i < 3 ? NUMAPERF_SPAWN_HAS_NODE | NUMAPERF_SPAWN_NEVER_STEAL
                                : NUMAPERF_SPAWN_HAS_WORKER;
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, runtime_count_task, &ran), 0);
    }
    numaperf_rt_stats_t stats = stats_of(box.rt);
    assert_int_equal(stats.waiting_unbound, 1);
    assert_int_equal(stats.waiting_fixed, 2);
    assert_int_equal(stats.waiting_bound, 3);
    assert_int_equal(stats.accepted, 7);
    atomic_store(&gate.open, true);
    assert_true(runtime_reaches(&ran, 6));
    assert_int_equal(stats_of(box.rt).waiting_bound, 0);
    runtime_box_close(&box);
}

/* ---- how long, and what of ---- */

#define NAP_MS 20

static void nap_task(numaperf_worker_t *worker, void *ran)
{
    void *block = numaperf_arena_alloc(numaperf_worker_arena(worker), 1000, 0);
    test_sleep_ms(NAP_MS);
    (void)atomic_fetch_add((atomic_int *)ran, block != NULL ? 1 : 0); /* it is not given back */
}

static void run_time_of_the_first_task_and_the_arena_are_told(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    atomic_int ran = 0;
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, nap_task, &ran), 0);
    assert_true(runtime_reaches(&ran, 1));
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    uint64_t took_ns = test_now_ns() - start_ns;
    numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
    assert_int_equal(numaperf_rt_worker_stats(box.rt, 0, &stats), 0);
    assert_int_equal(stats.run.count, 1);
    assert_in_range(stats.run.max, NAP_MS * 1000000u, took_ns);
    assert_true(stats.run.sum == stats.run.max);
    assert_true(numaperf_histogram_quantile(&stats.run, 0.5) <= stats.run.max);
    assert_true(stats.arena_used_bytes >= 1000);
    assert_true(stats.arena_mapped_bytes >= stats.arena_used_bytes);
    assert_true(stats_of(box.rt).arena_used_bytes == stats.arena_used_bytes);
    assert_int_equal(stats.stalls, 0);
    runtime_box_close(&box);
}

static void waiting_time_of_the_first_task_of_a_queue_is_told(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:1"), 0);
    struct runtime_gate gate = {.entered = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER; /* another queue than the first task's */
    atomic_int ran = 0;
    uint64_t start_ns = test_now_ns();
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, runtime_count_task, &ran), 0);
    test_sleep_ms(NAP_MS);
    atomic_store(&gate.open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    numaperf_rt_stats_t stats = stats_of(box.rt);
    assert_int_equal(stats.wait.count, 2);
    assert_in_range(stats.wait.max, NAP_MS * 1000000u - 1024, test_now_ns() - start_ns + 1024);
    runtime_box_close(&box);
}

/* ---- while it works ---- */

static void snapshots_under_load_only_grow(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    open_two_nodes(&box);
    atomic_int ran = 0;
    struct spawner spawners[SPAWNERS];
    spawners_start(spawners, box.rt, &ran, test_is_slow() ? 300 : 10000);
    numaperf_rt_stats_t last = stats_of(box.rt);
    for (int i = 0; i < (test_is_slow() ? 20 : 500); i++) {
        numaperf_rt_stats_t now = stats_of(box.rt);
        assert_true(now.ran >= last.ran && now.parks >= last.parks);
        assert_true(now.locality >= 0.0 && now.locality <= 1.0);
        numaperf_histogram_t since = now.run;
        assert_int_equal(numaperf_histogram_subtract(&since, &last.run), 0);
        last = now;
        char *text = NULL;
        assert_int_equal(numaperf_rt_stats_text(box.rt, &text), 0);
        free(text);
    }
    (void)spawners_join(spawners);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_figures_agree(box.rt);
    runtime_box_close(&box);
}

static int stats_at_start(numaperf_worker_t *worker, void *data)
{
    (void)data;
    numaperf_rt_stats_t stats = NUMAPERF_RT_STATS_INIT;
    int rc = numaperf_rt_stats(numaperf_worker_rt(worker), &stats);
    return rc < 0 || stats.worker_count == 4 ? rc : -EPROTO;
}

static void start_callbacks_may_ask(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.on_worker_start = stats_at_start;
    box.config.on_node_start = stats_at_start;
    open_two_nodes(&box);
    runtime_box_close(&box);
}

/* ---- the three forms ---- */

static void reports_say_what_the_structs_say(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    open_two_nodes(&box);
    atomic_int ran = 0;
    for (int i = 0; i < 64; i++)
        assert_int_equal(spawn_some(box.rt, i, runtime_count_task, &ran), 0);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    char *text = NULL;
    assert_int_equal(numaperf_rt_stats_json(box.rt, &text), 0);
    json_error_t error;
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    free(text);
    assert_non_null(json);
    const json_t *total = json_object_get(json, "runtime");
    assert_int_equal(json_integer_value(json_object_get(total, "ran")), 64);
    assert_int_equal(json_array_size(json_object_get(json, "nodes")), 2);
    assert_int_equal(json_array_size(json_object_get(json, "workers")), 4);
    const json_t *rows = json_object_get(json_object_get(json, "matrix"), "ran");
    for (int i = 0; i < 4; i++)
        assert_true((uint64_t)json_integer_value(
                        json_array_get(json_array_get(rows, (size_t)i / 2), (size_t)i % 2)) ==
                    matrix_of(box.rt, i / 2, i % 2));
    json_decref(json);
    assert_int_equal(numaperf_rt_stats_prometheus(box.rt, &text), 0);
    assert_non_null(strstr(text, "\nnumaperf_accepted_total{node=\"1\"} "));
    free(text);
    assert_int_equal(numaperf_rt_stats_text(box.rt, &text), 0);
    assert_non_null(strstr(text, "runtime: 2 nodes, 4 workers"));
    free(text);
    runtime_box_close(&box);
}

/* ---- refusals ---- */

static void bad_arguments_are_refused(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    open_two_nodes(&box);
    numaperf_rt_stats_t stats = NUMAPERF_RT_STATS_INIT;
    uint64_t ran = 77;
    char *text = NULL;
    assert_int_equal(numaperf_rt_stats(NULL, &stats), -EINVAL);
    assert_int_equal(numaperf_rt_stats(box.rt, NULL), -EINVAL);
    assert_int_equal(numaperf_rt_node_stats(NULL, 0, &stats), -EINVAL);
    assert_int_equal(numaperf_rt_node_stats(box.rt, 0, NULL), -EINVAL);
    assert_int_equal(numaperf_rt_node_stats(box.rt, 2, &stats), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_rt_node_stats(box.rt, -2, &stats), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_rt_node_stats(box.rt, 1 << 20, &stats), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_rt_matrix(box.rt, 0, 2, &ran), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_rt_matrix(box.rt, -1, 0, &ran), NUMAPERF_E_NO_NODE);
    assert_int_equal(numaperf_rt_matrix(box.rt, 0, 0, NULL), -EINVAL);
    assert_int_equal(ran, 77);
    assert_int_equal(numaperf_rt_stats_text(NULL, &text), -EINVAL);
    assert_int_equal(numaperf_rt_stats_json(box.rt, NULL), -EINVAL);
    stats.size = 100;
    assert_int_equal(numaperf_rt_stats(box.rt, &stats), -EINVAL);
    assert_int_equal(stats.worker_count, 0);
    runtime_box_close(&box);
}

static void worker_stats_of_an_older_caller_end_where_he_knows(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    open_two_nodes(&box);
    numaperf_worker_stats_t stats;
    memset(&stats, 0x5a, sizeof(stats));
    stats.size = offsetof(numaperf_worker_stats_t, stalls);
    assert_int_equal(numaperf_rt_worker_stats(box.rt, 3, &stats), 0);
    assert_int_equal(stats.index, 3);
    assert_int_equal(stats.ran, 0);
    assert_true(stats.stalls == UINT64_C(0x5a5a5a5a5a5a5a5a));
    assert_true(stats.run.count == UINT64_C(0x5a5a5a5a5a5a5a5a));
    runtime_box_close(&box);
}

static void without_memory_figures_are_refused_and_untouched(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    open_two_nodes(&box);
    numaperf_rt_stats_t stats = NUMAPERF_RT_STATS_INIT;
    char *text = NULL;
    for (int i = 0; i < 2; i++) {
        callocs_left = i;
        assert_int_equal(numaperf_rt_stats(box.rt, &stats), -ENOMEM);
        callocs_left = i;
        assert_int_equal(numaperf_rt_node_stats(box.rt, 0, &stats), -ENOMEM);
    }
    assert_int_equal(stats.worker_count, 0);
    for (int i = 0; i < 3; i++) {
        callocs_left = i;
        assert_int_equal(numaperf_rt_stats_json(box.rt, &text), -ENOMEM);
        assert_null(text);
    }
    callocs_left = -1;
    assert_int_equal(numaperf_rt_stats_json(box.rt, &text), 0);
    free(text);
    runtime_box_close(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_exact_once_all_ran),
        cmocka_unit_test(sums_are_exact_after_a_stop_that_cancels_and_takes_back),
        cmocka_unit_test(tasks_cancelled_by_the_stopping_thread_count),
        cmocka_unit_test(locality_is_0_before_anything_ran_and_1_when_all_was_at_home),
        cmocka_unit_test(stolen_tasks_are_in_the_matrix_and_lower_the_locality),
        cmocka_unit_test(waiting_tasks_are_told_by_kind),
        cmocka_unit_test(run_time_of_the_first_task_and_the_arena_are_told),
        cmocka_unit_test(waiting_time_of_the_first_task_of_a_queue_is_told),
        cmocka_unit_test(snapshots_under_load_only_grow),
        cmocka_unit_test(start_callbacks_may_ask),
        cmocka_unit_test(reports_say_what_the_structs_say),
        cmocka_unit_test(bad_arguments_are_refused),
        cmocka_unit_test(worker_stats_of_an_older_caller_end_where_he_knows),
        cmocka_unit_test(without_memory_figures_are_refused_and_untouched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
