/* SPDX-License-Identifier: MIT */
/*
 * The auditor: what has drifted is found, counted and reported once an episode, and again when it
 * drifts again. The drifts are made by the test itself, behind the library's back.
 */
#include <numaperf.h>

#include "support/runtimes.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define INTERVAL_MS 20

struct witness {
    atomic_int count;
    atomic_int kinds[8];
    pthread_mutex_t mutex;
    numaperf_violation_t last; /* under mutex */
    atomic_bool hold;          /* on_violation does not return while it is set */
    atomic_int stop_result;
    atomic_bool calls_stop;
};

static void nap_ms(long ms)
{
    const struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&nap, NULL);
}

static void on_violation(numaperf_rt_t *rt, const numaperf_violation_t *violation, void *data)
{
    struct witness *witness = data;
    (void)pthread_mutex_lock(&witness->mutex);
    witness->last = *violation;
    (void)pthread_mutex_unlock(&witness->mutex);
    if (violation->kind < 8)
        atomic_fetch_add(&witness->kinds[violation->kind], 1);
    if (atomic_load(&witness->calls_stop))
        atomic_store(&witness->stop_result, numaperf_rt_stop(rt, 0));
    atomic_fetch_add(&witness->count, 1);
    while (atomic_load(&witness->hold))
        nap_ms(1);
}

static void box_open(struct runtime_box *box, struct witness *witness, numaperf_mode_t mode)
{
    memset(witness, 0, sizeof(*witness));
    assert_int_equal(pthread_mutex_init(&witness->mutex, NULL), 0);
    *box = (struct runtime_box){.config = NUMAPERF_RT_CONFIG_INIT};
    box->config.mode = mode;
    box->config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    box->config.workers_per_node = 1;
    box->config.audit_interval_ms = INTERVAL_MS;
    box->config.on_violation = on_violation;
    box->config.data = witness;
    int rc = runtime_box_open(box, NULL);
    if (rc < 0)
        print_message("start: %s\n", numaperf_last_error()->reason);
    assert_int_equal(rc, 0);
}

static void set_affinity(int thread_id, int cpu_only)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (cpu_only < 0 || cpu == (size_t)cpu_only)
            CPU_SET(cpu, &cpus);
    }
    assert_int_equal(sched_setaffinity(thread_id, sizeof(cpus), &cpus), 0);
}

static void a_worker_whose_affinity_was_changed_is_reported_once_an_episode(void **state)
{
    (void)state;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        print_message("skipped: one PU alone: no affinity is wider\n");
        skip();
    }
    struct runtime_box box;
    struct witness witness;
    box_open(&box, &witness, NUMAPERF_MODE_SOFT);
    const numaperf_worker_t *worker = numaperf_rt_worker(box.rt, 0);
    int thread_id = numaperf_worker_thread_id(worker);
    nap_ms(10 * INTERVAL_MS);
    assert_int_equal(numaperf_rt_violation_count(box.rt), 0);

    set_affinity(thread_id, -1);
    assert_true(runtime_reaches(&witness.kinds[NUMAPERF_VIOLATION_AFFINITY], 1));
    (void)pthread_mutex_lock(&witness.mutex);
    assert_int_equal(witness.last.worker, 0);
    assert_int_equal(witness.last.cpu, numaperf_worker_cpu(worker));
    assert_int_equal(witness.last.node, numaperf_worker_node(worker));
    char wanted[32];
    (void)snprintf(wanted, sizeof(wanted), "wanted PU %d,", numaperf_worker_cpu(worker));
    assert_non_null(strstr(witness.last.text, wanted));
    (void)pthread_mutex_unlock(&witness.mutex);
    nap_ms(10 * INTERVAL_MS);
    assert_int_equal(atomic_load(&witness.count), 1); /* the same episode */

    set_affinity(thread_id, numaperf_worker_cpu(worker));
    nap_ms(20 * INTERVAL_MS); /* long enough for a look that finds it in order */
    set_affinity(thread_id, -1);
    assert_true(runtime_reaches(&witness.kinds[NUMAPERF_VIOLATION_AFFINITY], 2));
    assert_int_equal(numaperf_rt_violation_count(box.rt), 2);
    runtime_box_close(&box);
}

static void default_policy_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    atomic_int *done = arg;
    long rc = syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0UL);
    atomic_store(done, rc == 0 ? 1 : -1);
}

static void a_worker_whose_memory_policy_was_changed_is_reported(void **state)
{
    (void)state;
    struct runtime_box box;
    struct witness witness;
    atomic_int done = 0;
    box_open(&box, &witness, NUMAPERF_MODE_SOFT);
    if (!numaperf_is_strict(numaperf_worker_enforcement(numaperf_rt_worker(box.rt, 0)))) {
        runtime_box_close(&box);
        print_message("skipped: memory policy is not strict here\n");
        skip();
    }
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, default_policy_task, &done), 0);
    assert_true(runtime_reaches(&done, 1));
    assert_true(runtime_reaches(&witness.kinds[NUMAPERF_VIOLATION_MEMPOLICY], 1));
    (void)pthread_mutex_lock(&witness.mutex);
    assert_non_null(strstr(witness.last.text, "prefer:"));
    (void)pthread_mutex_unlock(&witness.mutex);
    runtime_box_close(&box);
}

/* Another usable node with memory than `node`; -1 when there is none. */
static int other_node(const numaperf_topology_t *topology, int node)
{
    for (size_t i = 0; i < numaperf_topology_node_count(topology); i++) {
        int id = numaperf_topology_node_id(topology, i);
        if (id != node && numaperf_topology_node_memory_bytes(topology, id) > 0)
            return id;
    }
    return -1;
}

/* A page of the worker's stack that is not in use now. */
static void stack_address_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    /* Not that of a local variable: address sanitizer may have those in memory of its own. */
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0);
    _Atomic uintptr_t *address = arg;
    atomic_store(address, (frame & ~(uintptr_t)4095) - 64 * 4096ul);
}

static void pages_that_another_thread_moved_away_are_reported(void **state)
{
    (void)state;
    struct runtime_box box;
    struct witness witness;
    box_open(&box, &witness, NUMAPERF_MODE_SOFT);
    numaperf_worker_t *worker = numaperf_rt_worker(box.rt, 0);
    int node = other_node(numaperf_rt_topology(box.rt), numaperf_worker_node(worker));
    if (node < 0) {
        runtime_box_close(&box);
        print_message("skipped: no second node to move pages to\n");
        skip();
    }
    numaperf_placement_t before = NUMAPERF_PLACEMENT_INIT;
    assert_int_equal(numaperf_worker_placement(worker, NUMAPERF_WORKER_STACK, &before), 0);
    assert_int_equal(before.on_node[numaperf_worker_node(worker)], before.pages);
    _Atomic uintptr_t address = 0;
    numaperf_spawn_options_t to_first = NUMAPERF_SPAWN_OPTIONS_INIT;
    to_first.flags = NUMAPERF_SPAWN_HAS_WORKER;
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &to_first, stack_address_task, &address), 0);
    while (atomic_load(&address) == 0)
        nap_ms(1);
    void *page = (void *)address;
    int status = -1;
    assert_int_equal(syscall(SYS_move_pages, 0, 1ul, &page, &node, &status, MPOL_MF_MOVE), 0);
    assert_int_equal(status, node);
    assert_true(runtime_reaches(&witness.kinds[NUMAPERF_VIOLATION_PAGES], 1));
    runtime_box_close(&box);
}

static void hard_mode_audits_by_default_and_can_be_told_not_to(void **state)
{
    (void)state;
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    assert_int_equal(numaperf_capabilities_detect(&caps), 0);
    if (!caps.numa_balancing_disabled || caps.probe_page_query != NUMAPERF_PROBE_OK) {
        print_message("skipped: hard mode is not to be had here\n");
        skip();
    }
    struct runtime_box box;
    struct witness witness;
    box_open(&box, &witness, NUMAPERF_MODE_HARD);
    set_affinity(numaperf_worker_thread_id(numaperf_rt_worker(box.rt, 0)), -1);
    bool wider = sysconf(_SC_NPROCESSORS_ONLN) > 1;
    if (wider)
        assert_true(runtime_reaches(&witness.kinds[NUMAPERF_VIOLATION_AFFINITY], 1));
    runtime_box_close(&box);

    box = (struct runtime_box){.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.mode = NUMAPERF_MODE_HARD;
    box.config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    box.config.audit_interval_ms = UINT32_MAX;
    assert_int_equal(runtime_box_open(&box, NULL), 0);
    set_affinity(numaperf_worker_thread_id(numaperf_rt_worker(box.rt, 0)), -1);
    nap_ms(10 * INTERVAL_MS);
    assert_int_equal(numaperf_rt_violation_count(box.rt), 0);
    runtime_box_close(&box);
}

static void a_stop_in_on_violation_is_refused_and_a_long_one_keeps_no_stop(void **state)
{
    (void)state;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        print_message("skipped: one PU alone: no affinity is wider\n");
        skip();
    }
    struct runtime_box box;
    struct witness witness;
    box_open(&box, &witness, NUMAPERF_MODE_SOFT);
    atomic_store(&witness.calls_stop, true);
    atomic_store(&witness.hold, true);
    set_affinity(numaperf_worker_thread_id(numaperf_rt_worker(box.rt, 0)), -1);
    assert_true(runtime_reaches(&witness.count, 1));
    assert_int_equal(atomic_load(&witness.stop_result), -EDEADLK);

    assert_int_equal(numaperf_rt_stop(box.rt, 1000000), -ETIMEDOUT);
    atomic_store(&witness.hold, false);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    runtime_box_close(&box);
}

/* ---- what is not a drift ---- */

#define CHILDREN 150

static uv_process_t child;
static uv_process_options_t child_options;
static atomic_int child_count;
static atomic_int child_result;

static void child_start(uv_loop_t *loop);

static void child_closed(uv_handle_t *handle)
{
    if (atomic_fetch_add(&child_count, 1) + 1 < CHILDREN)
        child_start(handle->loop);
}

static void child_ended(uv_process_t *process, int64_t status, int signal)
{
    (void)status;
    (void)signal;
    uv_close((uv_handle_t *)process, child_closed);
}

static void child_start(uv_loop_t *loop)
{
    static char name[] = "/bin/true";
    static char *args[] = {name, NULL};
    child_options = (uv_process_options_t){.exit_cb = child_ended, .file = name, .args = args};
    int rc = numaperf_uv_spawn(loop, &child, &child_options);
    if (rc < 0) {
        atomic_store(&child_result, rc);
        atomic_store(&child_count, CHILDREN);
    }
}

static void child_task(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    child_start(numaperf_worker_loop(worker));
}

/* While a child is made its parent is not pinned; the audit comes at any moment. */
static void a_worker_that_makes_children_has_not_drifted(void **state)
{
    (void)state;
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = 1;
    box.config.audit_interval_ms = 2;
    assert_int_equal(runtime_box_open(&box, NULL), 0);
    atomic_store(&child_count, 0);
    atomic_store(&child_result, 0);
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, child_task, NULL), 0);
    assert_true(runtime_reaches(&child_count, CHILDREN));
    assert_int_equal(atomic_load(&child_result), 0);
    assert_int_equal(numaperf_rt_violation_count(box.rt), 0);
    runtime_box_close(&box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_that_makes_children_has_not_drifted),
        cmocka_unit_test(a_worker_whose_affinity_was_changed_is_reported_once_an_episode),
        cmocka_unit_test(a_worker_whose_memory_policy_was_changed_is_reported),
        cmocka_unit_test(pages_that_another_thread_moved_away_are_reported),
        cmocka_unit_test(hard_mode_audits_by_default_and_can_be_told_not_to),
        cmocka_unit_test(a_stop_in_on_violation_is_refused_and_a_long_one_keeps_no_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
