/* SPDX-License-Identifier: MIT */
/*
 * What the auditor does about a drift: puts it back and reads it back, says so when it could not,
 * tries again, or stops the runtime. The drifts are made by the test itself; what is so is read
 * past the library. A kernel that says yes and does nothing is played by this program.
 */
#include <numaperf.h>

#include "support/census.h"
#include "support/clock.h"
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
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define INTERVAL_MS 10
#define REPORTS_MAX 64

/* ---- a kernel that lies ---- */

static atomic_long lying_call; /* about other threads, and of mappings, it does nothing */

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
/* It takes six arguments where fewer were passed, as the C library's own does. */
__attribute__((no_sanitize_address)) long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(args, long);
    va_end(args);
    if (number == atomic_load(&lying_call) && a[0] != 0)
        return 0;
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- reports ---- */

struct witness {
    pthread_mutex_t mutex;
    numaperf_violation_t reports[REPORTS_MAX]; /* under mutex */
    atomic_int count;
    atomic_int late; /* reports after a stop had returned */
    atomic_bool is_stopped;
};

static void on_violation(numaperf_rt_t *rt, const numaperf_violation_t *violation, void *data)
{
    (void)rt;
    struct witness *witness = data;
    (void)pthread_mutex_lock(&witness->mutex);
    int n = atomic_load(&witness->count);
    if (n < REPORTS_MAX)
        witness->reports[n] = *violation;
    (void)pthread_mutex_unlock(&witness->mutex);
    if (atomic_load(&witness->is_stopped))
        (void)atomic_fetch_add(&witness->late, 1);
    (void)atomic_fetch_add(&witness->count, 1);
}

static numaperf_violation_t report_at(struct witness *witness, int n)
{
    (void)pthread_mutex_lock(&witness->mutex);
    numaperf_violation_t report = witness->reports[n];
    (void)pthread_mutex_unlock(&witness->mutex);
    return report;
}

static void box_open_any(struct runtime_box *box, struct witness *witness, uint32_t policy)
{
    memset(witness, 0, sizeof(*witness));
    assert_int_equal(pthread_mutex_init(&witness->mutex, NULL), 0);
    *box = (struct runtime_box){.config = NUMAPERF_RT_CONFIG_INIT};
    box->config.workers_per_node = 1;
    box->config.audit_interval_ms = INTERVAL_MS;
    box->config.audit_policy = policy;
    box->config.on_violation = on_violation;
    box->config.data = witness;
    assert_int_equal(runtime_box_open(box, NULL), 0);
}

static void box_open(struct runtime_box *box, struct witness *witness, uint32_t policy)
{
    box_open_any(box, witness, policy);
    if (numaperf_is_strict(numaperf_worker_enforcement(numaperf_rt_worker(box->rt, 0))))
        return;
    print_message(
        "skipped: placement is not strict here: %s\n",
        numaperf_enforcement_reason(numaperf_worker_enforcement(numaperf_rt_worker(box->rt, 0))));
    runtime_box_close(box);
    skip();
}

static void need_two_cpus(void)
{
    if (sysconf(_SC_NPROCESSORS_ONLN) >= 2)
        return;
    print_message("skipped: one PU alone: no affinity is wider\n");
    skip();
}

/* Any affinity but its own; by the C library's own call, which never lies. */
static int try_to_widen(int thread_id)
{
    cpu_set_t cpus;
    memset(&cpus, 0xff, sizeof(cpus));
    return sched_setaffinity(thread_id, sizeof(cpus), &cpus);
}

static void widen(int thread_id)
{
    assert_int_equal(try_to_widen(thread_id), 0);
}

static bool is_pinned(const numaperf_worker_t *worker)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    assert_int_equal(sched_getaffinity(numaperf_worker_thread_id(worker), sizeof(cpus), &cpus), 0);
    return CPU_COUNT(&cpus) == 1 && CPU_ISSET((size_t)numaperf_worker_cpu(worker), &cpus);
}

static bool gets_pinned(const numaperf_worker_t *worker)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (!is_pinned(worker)) {
        if (test_now_ns() > limit_ns)
            return false;
        test_sleep_ms(1);
    }
    return true;
}

/* ---- put back ---- */

static void a_changed_affinity_is_put_back_and_said_so(void **state)
{
    (void)state;
    need_two_cpus();
    struct runtime_box box;
    struct witness witness;
    box_open(&box, &witness, NUMAPERF_AUDIT_REPAIR);
    int before = atomic_load(&witness.count);
    const numaperf_worker_t *worker = numaperf_rt_worker(box.rt, 0);
    for (int i = 0; i < 3; i++) {
        widen(numaperf_worker_thread_id(worker));
        assert_true(runtime_reaches(&witness.count, before + i + 1));
        numaperf_violation_t report = report_at(&witness, before + i);
        assert_int_equal(report.kind, NUMAPERF_VIOLATION_AFFINITY);
        assert_int_equal(report.outcome, NUMAPERF_OUTCOME_REPAIRED);
        assert_int_equal(report.worker, 0);
        assert_true(is_pinned(worker)); /* by the time it is reported */
    }
    test_sleep_ms(10 * INTERVAL_MS);
    assert_int_equal(atomic_load(&witness.count), before + 3);
    runtime_box_close(&box);
}

static void a_repair_that_did_nothing_is_none_and_is_tried_again(void **state)
{
    (void)state;
    need_two_cpus();
    struct runtime_box box;
    struct witness witness;
    box_open(&box, &witness, NUMAPERF_AUDIT_REPAIR);
    int before = atomic_load(&witness.count);
    const numaperf_worker_t *worker = numaperf_rt_worker(box.rt, 0);
    atomic_store(&lying_call, SYS_sched_setaffinity);
    widen(numaperf_worker_thread_id(worker));
    assert_true(runtime_reaches(&witness.count, before + 1));
    numaperf_violation_t report = report_at(&witness, before);
    assert_int_equal(report.outcome, NUMAPERF_OUTCOME_FAILED);
    assert_non_null(strstr(report.text, "not put back: "));
    test_sleep_ms(10 * INTERVAL_MS);
    assert_int_equal(atomic_load(&witness.count), before + 1); /* the same episode */
    assert_false(is_pinned(worker));

    atomic_store(&lying_call, 0);
    assert_true(gets_pinned(worker)); /* at a later look, without another report */
    test_sleep_ms(10 * INTERVAL_MS);
    assert_int_equal(atomic_load(&witness.count), before + 1);
    widen(numaperf_worker_thread_id(worker)); /* a new episode */
    assert_true(runtime_reaches(&witness.count, before + 2));
    assert_int_equal(report_at(&witness, before + 1).outcome, NUMAPERF_OUTCOME_REPAIRED);
    runtime_box_close(&box);
}

/* The policy of the thread's own, by the kernel; -1 as long as the task has not run. */
struct policy_task {
    bool drops; /* set it to the default one first */
    atomic_int policy;
    struct runtime_gate gate; /* entered meanwhile, if it is not open */
};

static void policy_task(numaperf_worker_t *worker, void *arg)
{
    struct policy_task *task = arg;
    int policy = -1;
    if (task->drops)
        (void)__real_syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0ul);
    if (__real_syscall(SYS_get_mempolicy, &policy, NULL, 0ul, NULL, 0ul) != 0)
        policy = -2;
    atomic_store(&task->policy, policy);
    runtime_gate_task(worker, &task->gate);
}

static void run_policy_task(numaperf_rt_t *rt, struct policy_task *task, bool drops, bool stays)
{
    memset(task, 0, sizeof(*task));
    task->drops = drops;
    atomic_store(&task->policy, -1);
    atomic_store(&task->gate.open, !stays);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    assert_int_equal(numaperf_rt_spawn_with(rt, &options, policy_task, task), 0);
    assert_true(runtime_reaches(stays ? &task->gate.entered : &task->gate.left, 1));
}

static int policy_now(numaperf_rt_t *rt)
{
    struct policy_task task;
    run_policy_task(rt, &task, false, false);
    return atomic_load(&task.policy);
}

static void a_changed_memory_policy_is_put_back_by_its_thread(void **state)
{
    (void)state;
    struct runtime_box box;
    struct witness witness;
    struct policy_task drop;
    box_open(&box, &witness, NUMAPERF_AUDIT_REPAIR);
    int before = atomic_load(&witness.count);
    run_policy_task(box.rt, &drop, true, false);
    assert_int_equal(atomic_load(&drop.policy), MPOL_DEFAULT);
    assert_true(runtime_reaches(&witness.count, before + 1));
    numaperf_violation_t report = report_at(&witness, before);
    assert_int_equal(report.kind, NUMAPERF_VIOLATION_MEMPOLICY);
    assert_int_equal(report.outcome, NUMAPERF_OUTCOME_REPAIRED);
    assert_int_equal(policy_now(box.rt), MPOL_PREFERRED);
    numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
    assert_int_equal(numaperf_rt_worker_stats(box.rt, 0, &stats), 0);
    assert_int_equal(stats.ran, 2); /* the test's own: asking the worker is no task */
    runtime_box_close(&box);
}

static void a_worker_that_is_busy_puts_it_back_when_it_can(void **state)
{
    (void)state;
    struct runtime_box box;
    struct witness witness;
    struct policy_task drop;
    box_open(&box, &witness, NUMAPERF_AUDIT_REPAIR);
    int before = atomic_load(&witness.count);
    run_policy_task(box.rt, &drop, true, true);
    assert_true(runtime_reaches(&witness.count, before + 1));
    numaperf_violation_t report = report_at(&witness, before);
    assert_int_equal(report.kind, NUMAPERF_VIOLATION_MEMPOLICY);
    assert_int_equal(report.outcome, NUMAPERF_OUTCOME_FAILED);
    assert_non_null(strstr(report.text, "worker busy"));
    test_sleep_ms(10 * INTERVAL_MS);
    atomic_store(&drop.gate.open, true);
    assert_true(runtime_reaches(&drop.gate.left, 1));
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (policy_now(box.rt) != MPOL_PREFERRED)
        assert_true(test_now_ns() < limit_ns);
    test_sleep_ms(10 * INTERVAL_MS);
    assert_int_equal(atomic_load(&witness.count), before + 1);
    runtime_box_close(&box);
}

/* Its level tells of it already; but where that is asked for it is reached later. */
static void what_a_soft_start_did_not_reach_is_no_drift(void **state)
{
    (void)state;
    struct runtime_box box;
    struct witness witness;
    box_open(&box, &witness, NUMAPERF_AUDIT_REPORT); /* skips where it could not be reached */
    runtime_box_close(&box);
    atomic_store(&lying_call, SYS_set_mempolicy);
    box_open_any(&box, &witness, NUMAPERF_AUDIT_REPAIR);
    const numaperf_worker_t *worker = numaperf_rt_worker(box.rt, 0);
    assert_false(numaperf_is_strict(numaperf_worker_enforcement(worker)));
    test_sleep_ms(20 * INTERVAL_MS);
    assert_int_equal(atomic_load(&witness.count), 0);
    atomic_store(&lying_call, 0);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (policy_now(box.rt) != MPOL_PREFERRED)
        assert_true(test_now_ns() < limit_ns);
    test_sleep_ms(10 * INTERVAL_MS);
    assert_int_equal(atomic_load(&witness.count), 0);
    runtime_box_close(&box);
}

/* An arena is the first thing in its first mapping. */
static char *arena_start(numaperf_rt_t *rt)
{
    uintptr_t address = (uintptr_t)numaperf_worker_arena(numaperf_rt_worker(rt, 0));
    return (char *)(address & ~(uintptr_t)(sysconf(_SC_PAGESIZE) - 1));
}

static int policy_at(const void *address)
{
    int policy = -1;
    assert_int_equal(
        __real_syscall(SYS_get_mempolicy, &policy, NULL, 0ul, address, (long)MPOL_F_ADDR), 0);
    return policy;
}

static void memory_that_was_bound_is_bound_again(void **state)
{
    (void)state;
    struct runtime_box box;
    struct witness witness;
    box_open(&box, &witness, NUMAPERF_AUDIT_REPAIR);
    int before = atomic_load(&witness.count);
    char *start = arena_start(box.rt);
    assert_int_equal(policy_at(start), MPOL_BIND);
    for (int i = 0; i < 2; i++) {
        atomic_store(&lying_call, i == 0 ? SYS_mbind : 0);
        assert_int_equal(
            __real_syscall(SYS_mbind, start, sysconf(_SC_PAGESIZE), MPOL_DEFAULT, NULL, 0ul, 0ul),
            0);
        if (i == 0) {
            assert_true(runtime_reaches(&witness.count, before + 1));
            numaperf_violation_t report = report_at(&witness, before);
            assert_int_equal(report.kind, NUMAPERF_VIOLATION_PAGES);
            assert_int_equal(report.outcome, NUMAPERF_OUTCOME_FAILED);
            assert_non_null(strstr(report.text, "policy default"));
        }
    }
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (policy_at(start) != MPOL_BIND)
        assert_true(test_now_ns() < limit_ns);
    runtime_box_close(&box);
}

#define LARGE_BLOCKS 8
#define LARGE_BYTES ((size_t)2 << 20)

static void large_blocks_task(numaperf_worker_t *worker, void *arg)
{
    _Atomic(char *) *last = arg;
    char *block = NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < LARGE_BLOCKS; i++)
        block = numaperf_arena_alloc(numaperf_worker_arena(worker), LARGE_BYTES, page);
    /* Each has a mapping of its own, and is a page behind its start. */
    atomic_store(last, block != NULL ? block - page : NULL);
}

/* No page moves: the kernel's count does not tell. It is found when its turn has come. */
static void a_change_that_nothing_tells_of_is_found_in_its_turn(void **state)
{
    (void)state;
    struct runtime_box box;
    struct witness witness;
    _Atomic(char *) last = NULL;
    box_open(&box, &witness, NUMAPERF_AUDIT_REPORT);
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, large_blocks_task, (void *)&last),
                     0);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (atomic_load(&last) == NULL)
        assert_true(test_now_ns() < limit_ns);
    test_sleep_ms(5 * INTERVAL_MS); /* past the first look, which is at everything */
    assert_int_equal(policy_at(atomic_load(&last)), MPOL_BIND);
    assert_int_equal(__real_syscall(SYS_mbind, atomic_load(&last), sysconf(_SC_PAGESIZE),
                                    MPOL_DEFAULT, NULL, 0ul, 0ul),
                     0);
    assert_true(runtime_reaches(&witness.count, 1));
    assert_int_equal(report_at(&witness, 0).kind, NUMAPERF_VIOLATION_PAGES);
    runtime_box_close(&box);
}

/* ---- stop ---- */

static void a_drift_stops_the_runtime_where_that_is_asked(void **state)
{
    (void)state;
    need_two_cpus();
    struct runtime_box box;
    struct witness witness;
    struct runtime_gate gate = {.entered = 0};
    atomic_int ran = 0;
    box_open(&box, &witness, NUMAPERF_AUDIT_STOP);
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, runtime_gate_task, &gate), 0);
    assert_true(runtime_reaches(&gate.entered, 1));
    widen(numaperf_worker_thread_id(numaperf_rt_worker(box.rt, 0)));
    assert_true(runtime_reaches(&witness.count, 1));
    assert_int_equal(report_at(&witness, 0).outcome, NUMAPERF_OUTCOME_STOPPING);
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, runtime_count_task, &ran),
                     NUMAPERF_E_STOPPING);
    atomic_store(&gate.open, true);
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&ran), 0);
    assert_int_equal(atomic_load(&witness.count), 1);
    runtime_box_close(&box);
}

/* ---- a worker that always works, and makes children ---- */

static uv_process_t child;
static atomic_int child_count;
static atomic_bool goes_on;

static void child_closed(uv_handle_t *handle)
{
    (void)handle;
    (void)atomic_fetch_add(&child_count, 1);
}

static void child_ended(uv_process_t *process, int64_t status, int signal)
{
    (void)status;
    (void)signal;
    uv_close((uv_handle_t *)process, child_closed);
}

/* A child after the other, and never idle. */
static void busy_task(numaperf_worker_t *worker, void *arg)
{
    static char name[] = "/bin/true";
    static char *args[] = {name, NULL};
    static int made;
    (void)arg;
    if (made == atomic_load(&child_count)) {
        uv_process_options_t options = {.exit_cb = child_ended, .file = name, .args = args};
        made++;
        (void)numaperf_uv_spawn(numaperf_worker_loop(worker), &child, &options);
    }
    if (atomic_load(&goes_on) || made != atomic_load(&child_count))
        (void)numaperf_rt_spawn(numaperf_worker_rt(worker), NUMAPERF_NODE_LOCAL, busy_task, NULL);
}

static void a_drift_of_a_busy_parent_is_told_and_its_children_are_not(void **state)
{
    (void)state;
    need_two_cpus();
    struct runtime_box box;
    struct witness witness;
    box_open(&box, &witness, NUMAPERF_AUDIT_REPORT);
    int before = atomic_load(&witness.count);
    atomic_store(&goes_on, true);
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, busy_task, NULL), 0);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(20);
    while (atomic_load(&child_count) < 50) {
        assert_true(test_now_ns() < limit_ns);
        test_sleep_ms(1);
    }
    assert_int_equal(atomic_load(&witness.count), before);
    /* Again and again: what is changed while a child is made is put back when that is done. */
    limit_ns = test_now_ns() + test_limit_ns(20);
    while (atomic_load(&witness.count) == before) {
        assert_true(test_now_ns() < limit_ns);
        widen(numaperf_worker_thread_id(numaperf_rt_worker(box.rt, 0)));
        test_sleep_ms(3);
    }
    assert_int_equal(report_at(&witness, before).kind, NUMAPERF_VIOLATION_AFFINITY);
    atomic_store(&goes_on, false);
    runtime_box_close(&box);
}

/* ---- everything at once ---- */

static void again_task(numaperf_worker_t *worker, void *arg)
{
    (void)atomic_fetch_add((atomic_int *)arg, 1);
    if (atomic_load(&goes_on))
        (void)numaperf_rt_spawn(numaperf_worker_rt(worker), NUMAPERF_NODE_ANY, again_task, arg);
}

static void drift_at_random(numaperf_rt_t *rt, unsigned *seed)
{
    struct policy_task *drop = NULL;
    uint32_t workers = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    uint32_t index = (uint32_t)rand_r(seed) % workers;
    const numaperf_worker_t *worker = numaperf_rt_worker(rt, index);
    if (rand_r(seed) % 3 != 0) {
        (void)try_to_widen(numaperf_worker_thread_id(worker)); /* it may have stopped already */
    } else if (rand_r(seed) % 2 == 0) {
        (void)__real_syscall(SYS_mbind, arena_start(rt), sysconf(_SC_PAGESIZE), MPOL_DEFAULT, NULL,
                             0ul, 0ul);
    } else {
        static struct policy_task drops[REPORTS_MAX]; /* may run after this has returned */
        static int used;
        drop = &drops[used++ % REPORTS_MAX];
        drop->drops = true;
        atomic_store(&drop->gate.open, true);
        (void)numaperf_rt_spawn(rt, NUMAPERF_NODE_ANY, policy_task, drop);
    }
}

static void drifts_and_stops_at_random_moments_lose_nothing(void **state)
{
    (void)state;
    need_two_cpus();
    unsigned seed = (unsigned)getpid();
    struct census before = {.threads = 0};
    int rounds = test_is_slow() ? 6 : 25;
    print_message("seed %u\n", seed);
    for (int i = 0; i <= rounds; i++) {
        struct runtime_box box;
        struct witness witness;
        atomic_int ran = 0;
        atomic_store(&goes_on, true);
        box_open(&box, &witness, i % 2 == 0 ? NUMAPERF_AUDIT_REPAIR : NUMAPERF_AUDIT_STOP);
        (void)numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, again_task, &ran);
        int drifts = rand_r(&seed) % 20;
        for (int k = 0; k < drifts && (i % 2 == 0 || k == 0); k++) {
            drift_at_random(box.rt, &seed);
            test_sleep_ms((uint64_t)rand_r(&seed) % 10);
        }
        atomic_store(&goes_on, rand_r(&seed) % 2 == 0);
        int rc = numaperf_rt_stop(box.rt, (uint64_t)rand_r(&seed) % 2 * 50000000u);
        if (rc == -ETIMEDOUT) /* on a slow machine */
            rc = numaperf_rt_stop(box.rt, UINT64_MAX);
        assert_int_equal(rc, 0);
        atomic_store(&witness.is_stopped, true);
        atomic_store(&goes_on, false);
        test_sleep_ms(2 * INTERVAL_MS);
        assert_int_equal(atomic_load(&witness.late), 0);
        runtime_box_close(&box);
        if (i == 0)
            before = census_take(); /* what a first start leaves is there from now on */
    }
    assert_true(census_returns_to(&before));
}

int main(void)
{
    census_prepare();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_changed_affinity_is_put_back_and_said_so),
        cmocka_unit_test(a_repair_that_did_nothing_is_none_and_is_tried_again),
        cmocka_unit_test(a_changed_memory_policy_is_put_back_by_its_thread),
        cmocka_unit_test(a_worker_that_is_busy_puts_it_back_when_it_can),
        cmocka_unit_test(what_a_soft_start_did_not_reach_is_no_drift),
        cmocka_unit_test(memory_that_was_bound_is_bound_again),
        cmocka_unit_test(a_change_that_nothing_tells_of_is_found_in_its_turn),
        cmocka_unit_test(a_drift_stops_the_runtime_where_that_is_asked),
        cmocka_unit_test(a_drift_of_a_busy_parent_is_told_and_its_children_are_not),
        cmocka_unit_test(drifts_and_stops_at_random_moments_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
