/* SPDX-License-Identifier: MIT */
/* Spawning: where tasks run, in which order, what is refused, and all or none. */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- tasks that note where and when they ran ---- */

#define NOTES_MAX 8000

struct note {
    int node;
    uint32_t worker;
    int order; /* how many had run before; -1: has not run */
    int cpu_node;
};

static struct note notes[NOTES_MAX];
static atomic_int notes_order;
static atomic_int notes_count; /* added to last, so that what a note says is seen */

static void notes_clear(void)
{
    for (int i = 0; i < NOTES_MAX; i++)
        notes[i] = (struct note){.order = -1};
    atomic_store(&notes_order, 0);
    atomic_store(&notes_count, 0);
}

static void note_task(numaperf_worker_t *worker, void *arg)
{
    struct note *note = arg;
    if (numaperf_worker_current() != worker)
        abort();
    note->node = numaperf_worker_node(worker);
    note->worker = numaperf_worker_index(worker);
    note->cpu_node = numaperf_topology_node_of_cpu(numaperf_rt_topology(numaperf_worker_rt(worker)),
                                                   sched_getcpu());
    note->order = atomic_fetch_add(&notes_order, 1);
    (void)atomic_fetch_add(&notes_count, 1);
}

static struct runtime_box box_with(uint32_t workers_per_node, uint32_t policy)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = workers_per_node;
    box.config.steal_policy = policy;
    return box;
}

static int nodes_of(const struct runtime_box *box, int *out_nodes, int max)
{
    numaperf_nodemask_t mask;
    assert_int_equal(numaperf_rt_nodes(box->rt, &mask), 0);
    int count = 0;
    for (int node = numaperf_nodemask_next(&mask, -1); node >= 0 && count < max;
         node = numaperf_nodemask_next(&mask, node))
        out_nodes[count++] = node;
    return count;
}

/* ---- where ---- */

static void check_nodes_on(const char *machine, uint32_t workers_per_node)
{
    int nodes[80];
    struct runtime_box box = box_with(workers_per_node, NUMAPERF_STEAL_LOCAL_ONLY);
    assert_int_equal(runtime_box_open(&box, machine), 0);
    int node_count = nodes_of(&box, nodes, 80);
    notes_clear();
    for (int i = 0; i < 50 * node_count; i++)
        assert_int_equal(numaperf_rt_spawn(box.rt, nodes[i % node_count], note_task, &notes[i]), 0);
    assert_true(runtime_reaches(&notes_count, 50 * node_count));
    for (int i = 0; i < 50 * node_count; i++) {
        const numaperf_worker_t *worker = numaperf_rt_worker(box.rt, notes[i].worker);
        assert_int_equal(notes[i].node, nodes[i % node_count]);
        assert_int_equal(numaperf_worker_node(worker), nodes[i % node_count]);
        if (numaperf_is_strict(numaperf_worker_enforcement(worker)))
            assert_int_equal(notes[i].cpu_node, notes[i].node);
    }
    runtime_box_close(&box);
}

static void local_only_tasks_run_on_the_node_they_name(void **state)
{
    (void)state;
    check_nodes_on(NULL, 1);
    check_nodes_on(NULL, 2);
    check_nodes_on("numa:2 pu:1", 1);
    check_nodes_on("numa:2 pu:2", 2);
    check_nodes_on("numa:4 pu:1", 1);
    check_nodes_on("sparse_ids.xml", 1);
    check_nodes_on("memory_only_node.xml", 1);
    check_nodes_on("asymmetric_four.xml", 1);
}

static void node_ids_of_64_and_above_work(void **state)
{
    (void)state;
    int nodes[80];
    for (int all = 0; all < (test_is_slow() ? 1 : 2); all++) {
        struct runtime_box box = box_with(1, NUMAPERF_STEAL_LOCAL_ONLY);
        if (all == 0)
            assert_int_equal(numaperf_nodemask_parse("0,63,64,69", &box.config.nodes), 0);
        assert_int_equal(runtime_box_open(&box, "numa:70 pu:1"), 0);
        int node_count = nodes_of(&box, nodes, 80);
        assert_int_equal(node_count, all == 0 ? 4 : 70);
        notes_clear();
        for (int i = 0; i < node_count; i++)
            assert_int_equal(numaperf_rt_spawn(box.rt, nodes[i], note_task, &notes[i]), 0);
        assert_true(runtime_reaches(&notes_count, node_count));
        for (int i = 0; i < node_count; i++)
            assert_int_equal(notes[i].node, nodes[i]);
        assert_int_equal(nodes[node_count - 1], 69);
        if (all == 0)
            assert_int_equal(numaperf_rt_spawn(box.rt, 1, note_task, notes), NUMAPERF_E_NO_NODE);
        runtime_box_close(&box);
    }
}

static void absent_nodes_are_refused(void **state)
{
    (void)state;
    const int absent[] = {1, 3, 63, 64, 1023, 1024, 100000, INT_MAX, -3, -100, INT_MIN};
    struct runtime_box box = box_with(1, 0);
    assert_int_equal(runtime_box_open(&box, "sparse_ids.xml"), 0); /* nodes 0 and 2 */
    for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "node %d", absent[i]);
        assert_int_equal(numaperf_rt_spawn(box.rt, absent[i], note_task, notes),
                         NUMAPERF_E_NO_NODE);
        assert_int_equal(numaperf_last_error()->code, NUMAPERF_E_NO_NODE);
        assert_non_null(strstr(numaperf_last_error()->reason, text));
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_NODE;
        options.node = absent[i];
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, note_task, notes),
                         NUMAPERF_E_NO_NODE);
        assert_int_equal(numaperf_rt_worker_count(box.rt, absent[i]), 0);
    }
    runtime_box_close(&box);
}

static void spawn_local_task(numaperf_worker_t *worker, void *arg)
{
    if (numaperf_rt_spawn(numaperf_worker_rt(worker), NUMAPERF_NODE_LOCAL, note_task, arg) != 0)
        abort();
}

static void node_local_is_the_callers(void **state)
{
    (void)state;
    struct runtime_box box = box_with(1, NUMAPERF_STEAL_LOCAL_ONLY);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    notes_clear();
    for (int node = 0; node < 2; node++)
        assert_int_equal(numaperf_rt_spawn(box.rt, node, spawn_local_task, &notes[node]), 0);
    assert_true(runtime_reaches(&notes_count, 2));
    assert_int_equal(notes[0].node, 0);
    assert_int_equal(notes[1].node, 1);

    /* From outside: the node of the PU this thread is on. */
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    for (int cpu = 0; cpu < 2; cpu++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET((size_t)cpu, &one);
        if (sched_setaffinity(0, sizeof(one), &one) != 0)
            continue;
        notes_clear();
        assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_LOCAL, note_task, &notes[0]), 0);
        assert_true(runtime_reaches(&notes_count, 1));
        assert_int_equal(notes[0].node, cpu);
    }
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
    runtime_box_close(&box);
}

static void node_any_avoids_a_busy_node(void **state)
{
    (void)state;
    for (int busy = 0; busy < 2; busy++) {
        struct runtime_box box = box_with(1, NUMAPERF_STEAL_LOCAL_ONLY);
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
        struct runtime_gate gate = {.entered = 0};
        assert_int_equal(numaperf_rt_spawn(box.rt, busy, runtime_gate_task, &gate), 0);
        assert_true(runtime_reaches(&gate.entered, 1));
        assert_true(runtime_parks_reach(box.rt, (uint32_t)(1 - busy), 1));
        notes_clear();
        for (int i = 0; i < 20; i++) {
            /* Until it sleeps again the other one is no better than the one with the gate. */
            uint32_t other = (uint32_t)(1 - busy);
            uint64_t parks = runtime_parks(box.rt, other);
            assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, note_task, &notes[i]), 0);
            assert_true(runtime_reaches(&notes_count, i + 1));
            assert_int_equal(notes[i].node, 1 - busy);
            assert_true(runtime_parks_reach(box.rt, other, parks + 1));
        }
        atomic_store(&gate.open, true);
        runtime_box_close(&box);
    }
}

/* ---- order ---- */

static void unbound_tasks_start_in_order_on_one_worker(void **state)
{
    (void)state;
    struct runtime_box box = box_with(1, NUMAPERF_STEAL_LOCAL_ONLY);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    notes_clear();
    for (int i = 0; i < NOTES_MAX; i++)
        assert_int_equal(numaperf_rt_spawn(box.rt, i % 2, note_task, &notes[i]), 0);
    assert_true(runtime_reaches(&notes_count, NOTES_MAX));
    for (int i = 2; i < NOTES_MAX; i++)
        assert_true(notes[i].order > notes[i - 2].order);
    runtime_box_close(&box);
}

static void worker_bound_tasks_are_a_fifo_under_every_policy(void **state)
{
    (void)state;
    for (uint32_t policy = NUMAPERF_STEAL_DEFAULT; policy <= NUMAPERF_STEAL_ANY; policy++) {
        struct runtime_box box = box_with(2, policy);
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:2"), 0);
        notes_clear();
        for (int i = 0; i < NOTES_MAX; i++) {
            numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
            options.flags = NUMAPERF_SPAWN_HAS_WORKER;
            options.worker = i % 4;
            assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, note_task, &notes[i]), 0);
        }
        assert_true(runtime_reaches(&notes_count, NOTES_MAX));
        for (int i = 0; i < NOTES_MAX; i++) {
            assert_int_equal(notes[i].worker, i % 4);
            if (i >= 4)
                assert_true(notes[i].order > notes[i - 4].order);
        }
        runtime_box_close(&box);
    }
}

static void batch_keeps_its_order(void **state)
{
    (void)state;
    struct runtime_box box = box_with(1, NUMAPERF_STEAL_LOCAL_ONLY);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    notes_clear();
    void *args[1000];
    for (int i = 0; i < 1000; i++)
        args[i] = &notes[i];
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    options.node = 1;
    assert_int_equal(numaperf_rt_spawn_batch(box.rt, &options, note_task, args, 1000), 0);
    assert_true(runtime_reaches(&notes_count, 1000));
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(notes[i].order, i);
        assert_int_equal(notes[i].node, 1);
    }
    assert_int_equal(numaperf_rt_spawn_batch(box.rt, &options, note_task, NULL, 0), 0);
    runtime_box_close(&box);
}

/* ---- options ---- */

static void assert_options(numaperf_rt_t *rt, uint32_t flags, int node, int worker, int code)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = flags;
    options.node = node;
    options.worker = worker;
    assert_int_equal(numaperf_rt_spawn_with(rt, &options, note_task, notes), code);
}

static void bad_options_are_refused_and_nothing_runs(void **state)
{
    (void)state;
    struct runtime_box box = box_with(1, 0);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    numaperf_rt_t *rt = box.rt;
    notes_clear();
    assert_options(rt, 8, 0, 0, -EINVAL);
    assert_options(rt, 0x80000000u, 0, 0, -EINVAL);
    assert_options(rt, 0, 1, 0, -EINVAL);
    assert_options(rt, 0, 0, 1, -EINVAL);
    assert_options(rt, NUMAPERF_SPAWN_HAS_WORKER, 0, 2, -EINVAL);
    assert_options(rt, NUMAPERF_SPAWN_HAS_WORKER, 0, -1, -EINVAL);
    assert_options(rt, NUMAPERF_SPAWN_HAS_WORKER, 1, 0, -EINVAL);
    assert_options(rt, NUMAPERF_SPAWN_HAS_WORKER | NUMAPERF_SPAWN_HAS_NODE, 0, 1, -EINVAL);

    struct {
        numaperf_spawn_options_t known;
        uint64_t newer;
    } longer = {.known = NUMAPERF_SPAWN_OPTIONS_INIT, .newer = 1};
    longer.known.size = 0;
    assert_int_equal(numaperf_rt_spawn_with(rt, &longer.known, note_task, notes), -EINVAL);
    longer.known.size = sizeof(longer);
    assert_int_equal(numaperf_rt_spawn_with(rt, &longer.known, note_task, notes), -E2BIG);
    assert_int_equal(numaperf_rt_spawn(rt, 0, NULL, notes), -EINVAL);
    assert_int_equal(numaperf_rt_spawn(NULL, 0, note_task, notes), -EINVAL);
    assert_int_equal(numaperf_rt_each_node(rt, NULL, notes), -EINVAL);
    assert_int_equal(numaperf_rt_spawn_batch(rt, NULL, note_task, NULL, 1), -EINVAL);

    /* What is right still is. */
    longer.newer = 0;
    assert_int_equal(numaperf_rt_spawn_with(rt, &longer.known, note_task, &notes[0]), 0);
    assert_int_equal(numaperf_rt_spawn_with(rt, NULL, note_task, &notes[1]), 0);
    assert_int_equal(numaperf_rt_stop(rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&notes_count), 2);
    runtime_box_close(&box);
}

static void given_worker_is_of_any_node(void **state)
{
    (void)state;
    struct runtime_box box = box_with(1, 0);
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    notes_clear();
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER | NUMAPERF_SPAWN_HAS_NODE;
    options.node = NUMAPERF_NODE_ANY;
    for (int i = 0; i < 20; i++) { /* ANY turns from node to node */
        options.worker = i % 2;
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, note_task, &notes[i]), 0);
    }
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    for (int i = 0; i < 20; i++)
        assert_int_equal(notes[i].worker, i % 2);
    runtime_box_close(&box);
}

/* ---- limits ---- */

static void full_node_says_eagain_until_there_is_room(void **state)
{
    (void)state;
    struct runtime_box box = box_with(1, NUMAPERF_STEAL_LOCAL_ONLY);
    box.config.task_limit_per_node = 10;
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    struct runtime_gate gate = {.entered = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    atomic_int ran = 0;
    int accepted = 0;
    int rc = 0;
    assert_int_equal(numaperf_rt_spawn(box.rt, 5, note_task, notes), NUMAPERF_E_NO_NODE);
    while (accepted < 100 && (rc = numaperf_rt_spawn(box.rt, 0, runtime_count_task, &ran)) == 0)
        accepted++;
    assert_int_equal(rc, -EAGAIN);
    assert_int_equal(accepted, 10); /* that wait: not the one that runs */
    assert_int_equal(numaperf_last_error()->code, NUMAPERF_E_NO_NODE); /* EAGAIN leaves no record */

    /* All kinds count, and the other node is free. */
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, runtime_count_task, &ran), -EAGAIN);
    assert_int_equal(numaperf_rt_each_node(box.rt, runtime_count_task, &ran), -EAGAIN);
    atomic_int elsewhere = 0;
    assert_int_equal(numaperf_rt_spawn(box.rt, 1, runtime_count_task, &elsewhere), 0);
    assert_true(runtime_reaches(&elsewhere, 1));
    assert_int_equal(atomic_load(&ran), 0);

    atomic_store(&gate.open, true);
    assert_true(runtime_reaches(&ran, accepted));
    uint64_t limit_ns = test_now_ns() + test_limit_ns(5);
    while ((rc = numaperf_rt_each_node(box.rt, runtime_count_task, &ran)) == -EAGAIN &&
           test_now_ns() < limit_ns)
        test_sleep_ms(1);
    assert_int_equal(rc, 2);
    assert_true(runtime_reaches(&ran, accepted + 2));
    runtime_box_close(&box);
}

static void batch_is_accepted_whole_or_not_at_all(void **state)
{
    (void)state;
    struct runtime_box box = box_with(1, NUMAPERF_STEAL_LOCAL_ONLY);
    box.config.task_limit_per_node = 10;
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    struct runtime_gate gate = {.entered = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    atomic_int ran = 0;
    void *args[11];
    for (int i = 0; i < 11; i++)
        args[i] = &ran;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    /* More than ever fits is not worth trying again. */
    assert_int_equal(numaperf_rt_spawn_batch(box.rt, &options, runtime_count_task, args, 11),
                     -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "11 is above"));
    assert_int_equal(numaperf_rt_spawn_batch(box.rt, &options, runtime_count_task, args, 6), 0);
    assert_int_equal(numaperf_rt_spawn_batch(box.rt, &options, runtime_count_task, args, 6),
                     -EAGAIN);
    atomic_store(&gate.open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&ran), 6);
    runtime_box_close(&box);
}

static void each_node_runs_once_on_every_node(void **state)
{
    (void)state;
    const char *const all[] = {NULL, "numa:4 pu:2", "sparse_ids.xml"};
    for (size_t k = 0; k < 3; k++) {
        struct runtime_box box = box_with(2, NUMAPERF_STEAL_ANY);
        int nodes[80];
        assert_int_equal(runtime_box_open(&box, all[k]), 0);
        int node_count = nodes_of(&box, nodes, 80);
        static atomic_int per_node[NUMAPERF_NODE_MAX];
        memset(per_node, 0, sizeof(per_node));
        for (int i = 0; i < 100; i++) {
            atomic_int ran = 0;
            assert_int_equal(numaperf_rt_each_node(box.rt, runtime_count_task, &ran), node_count);
            assert_true(runtime_reaches(&ran, node_count));
        }
        assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
        for (uint32_t i = 0; i < numaperf_rt_worker_count(box.rt, NUMAPERF_NODE_ANY); i++) {
            numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
            assert_int_equal(numaperf_rt_worker_stats(box.rt, i, &stats), 0);
            per_node[stats.node] += (int)stats.ran;
            assert_int_equal(stats.ran_remote, 0);
        }
        for (int i = 0; i < node_count; i++)
            assert_int_equal(per_node[nodes[i]], 100);
        runtime_box_close(&box);
    }
}

/* ---- cancel ---- */

static struct {
    atomic_int own;
    atomic_int general;
    atomic_int wrong;
} cancels;

static void own_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    if (fn != note_task || arg != &notes[7] || data != &cancels)
        (void)atomic_fetch_add(&cancels.wrong, 1);
    (void)atomic_fetch_add(&cancels.own, 1);
}

static void general_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    if (fn != note_task || arg != &notes[8] || data != &cancels)
        (void)atomic_fetch_add(&cancels.wrong, 1);
    (void)atomic_fetch_add(&cancels.general, 1);
}

static void cancel_callbacks_get_the_task_and_the_data(void **state)
{
    (void)state;
    struct runtime_box box = box_with(1, NUMAPERF_STEAL_LOCAL_ONLY);
    box.config.on_task_cancel = general_cancel;
    box.config.data = &cancels;
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    struct runtime_gate gate = {.entered = 0};
    assert_int_equal(numaperf_rt_spawn(box.rt, 0, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    notes_clear();
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_NODE;
    options.on_cancel = own_cancel;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, note_task, &notes[7]), 0);
        assert_int_equal(numaperf_rt_spawn(box.rt, 0, note_task, &notes[8]), 0);
        assert_int_equal(numaperf_rt_spawn(box.rt, 0, note_task, &notes[8]), 0);
    }
    assert_int_equal(numaperf_rt_stop(box.rt, 0), -ETIMEDOUT);
    atomic_store(&gate.open, true);
    runtime_box_close(&box);
    assert_int_equal(atomic_load(&cancels.own), 5);
    assert_int_equal(atomic_load(&cancels.general), 10);
    assert_int_equal(atomic_load(&cancels.wrong), 0);
    assert_int_equal(atomic_load(&notes_count), 0);
}

/* ---- workers ---- */

static void data_task(numaperf_worker_t *worker, void *arg)
{
    if (numaperf_worker_data(worker) == NULL)
        numaperf_worker_set_data(worker, worker);
    if (numaperf_worker_data(worker) == worker && numaperf_worker_arena(worker) != NULL &&
        numaperf_worker_loop(worker) != NULL)
        (void)atomic_fetch_add((atomic_int *)arg, 1);
}

static void workers_tell_who_they_are(void **state)
{
    (void)state;
    assert_null(numaperf_worker_current());
    struct runtime_box box = box_with(2, NUMAPERF_STEAL_LOCAL_ONLY);
    assert_int_equal(runtime_box_open(&box, "sparse_ids.xml"), 0);
    for (uint32_t i = 0; i < 4; i++) {
        numaperf_worker_t *worker = numaperf_rt_worker(box.rt, i);
        assert_int_equal(numaperf_worker_index(worker), i);
        assert_int_equal(numaperf_worker_node(worker), i < 2 ? 0 : 2);
        assert_int_equal(numaperf_worker_cpu(worker), i);
        assert_ptr_equal(numaperf_worker_rt(worker), box.rt);
        assert_true(numaperf_worker_thread_id(worker) > 0);
    }
    assert_null(numaperf_rt_worker(box.rt, 4));
    atomic_int seen = 0;
    for (int i = 0; i < 10; i++)
        assert_int_equal(numaperf_rt_each_node(box.rt, data_task, &seen), 2);
    assert_true(runtime_reaches(&seen, 20));
    assert_null(numaperf_worker_current());
    runtime_box_close(&box);
}

static void more_workers_than_pus_share_and_say_so(void **state)
{
    (void)state;
    struct runtime_box box = box_with(7, 0);
    assert_int_equal(runtime_box_open(&box, "numa:1 pu:2"), 0);
    assert_int_equal(numaperf_rt_worker_count(box.rt, 0), 7);
    runtime_box_close(&box);

    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    config.workers_per_node = 40;
    assert_int_equal(numaperf_rt_start(&config, &rt), 0);
    numaperf_enforcement_t level;
    assert_int_equal(numaperf_rt_enforcement(rt, &level), 0);
    assert_false(numaperf_is_strict(&level));
    assert_non_null(numaperf_enforcement_reason(&level));
    atomic_int ran = 0;
    for (int i = 0; i < 100; i++)
        assert_int_equal(numaperf_rt_spawn(rt, NUMAPERF_NODE_ANY, runtime_count_task, &ran), 0);
    assert_true(runtime_reaches(&ran, 100));
    numaperf_rt_destroy(rt);
}

int main(void)
{
    census_prepare();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(local_only_tasks_run_on_the_node_they_name),
        cmocka_unit_test(node_ids_of_64_and_above_work),
        cmocka_unit_test(absent_nodes_are_refused),
        cmocka_unit_test(node_local_is_the_callers),
        cmocka_unit_test(node_any_avoids_a_busy_node),
        cmocka_unit_test(unbound_tasks_start_in_order_on_one_worker),
        cmocka_unit_test(worker_bound_tasks_are_a_fifo_under_every_policy),
        cmocka_unit_test(batch_keeps_its_order),
        cmocka_unit_test(bad_options_are_refused_and_nothing_runs),
        cmocka_unit_test(given_worker_is_of_any_node),
        cmocka_unit_test(full_node_says_eagain_until_there_is_room),
        cmocka_unit_test(batch_is_accepted_whole_or_not_at_all),
        cmocka_unit_test(each_node_runs_once_on_every_node),
        cmocka_unit_test(cancel_callbacks_get_the_task_and_the_data),
        cmocka_unit_test(workers_tell_who_they_are),
        cmocka_unit_test(more_workers_than_pus_share_and_say_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
