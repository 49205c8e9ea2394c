/* SPDX-License-Identifier: MIT */
#include "support/stall_scene.h"

#include "support/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

void stall_told(numaperf_rt_t *rt, const numaperf_stall_t *stall, void *data)
{
    struct stall_witness *witness = data;
    (void)pthread_mutex_lock(&witness->mutex);
    witness->last = *stall;
    (void)pthread_mutex_unlock(&witness->mutex);
    if (stall->fn != atomic_load(&witness->wanted))
        (void)atomic_fetch_add(&witness->strangers, 1);
    if (atomic_load(&witness->calls_stop))
        atomic_store(&witness->stop_result, numaperf_rt_stop(rt, 0));
    (void)atomic_fetch_add(&witness->count, 1);
    while (atomic_load(&witness->hold))
        test_sleep_ms(1);
}

numaperf_stall_t stall_last(struct stall_witness *witness)
{
    (void)pthread_mutex_lock(&witness->mutex);
    numaperf_stall_t last = witness->last;
    (void)pthread_mutex_unlock(&witness->mutex);
    return last;
}

void stall_open(struct runtime_box *box, struct stall_witness *witness, int node_count)
{
    box->config.workers_per_node = 1;
    box->config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    if (box->config.stall_ms == 0)
        box->config.stall_ms = STALL_MS;
    if (witness != NULL) {
        box->config.on_stall = stall_told;
        box->config.data = witness;
    }
    assert_int_equal(runtime_box_open(box, node_count == 1 ? "numa:1 pu:1" : "numa:2 pu:1"), 0);
}

void stall_spin_task(numaperf_worker_t *worker, void *data)
{
    (void)worker;
    struct stall_hold *hold = data;
    while (!atomic_load(&hold->let_go))
        ;
    (void)atomic_fetch_add(&hold->held, 1);
}

void stall_wait_task(numaperf_worker_t *worker, void *data)
{
    (void)worker;
    struct stall_hold *hold = data;
    (void)atomic_fetch_add(&hold->entered, 1);
    while (!atomic_load(&hold->let_go)) {
        const struct timespec pause = {.tv_sec = 0, .tv_nsec = 10000000};
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    (void)atomic_fetch_add(&hold->held, 1);
}

void stall_no_task(numaperf_worker_t *worker, void *data)
{
    (void)worker;
    (void)data;
}

void stall_once(struct runtime_box *box, struct stall_witness *witness, int node,
                numaperf_task_fn fn, int count)
{
    struct stall_hold hold = {.entered = 0};
    atomic_store(&witness->wanted, fn);
    assert_int_equal(numaperf_rt_spawn(box->rt, node, fn, &hold), 0);
    assert_true(runtime_reaches(&witness->count, count));
    test_sleep_ms(2 * STALL_MS); /* there is no second report of the same one */
    assert_int_equal(atomic_load(&witness->count), count);
    atomic_store(&hold.let_go, true);
    assert_true(runtime_reaches(&hold.held, 1));
}
