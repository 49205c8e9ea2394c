/* SPDX-License-Identifier: MIT */
/*
 * Starting a timer again while ten thousand of them run, as a server does with the timeout of a
 * connection at every request: numaperf_timer_restart() against uv_timer_again(). Tasks of a
 * thousand restarts each follow each other, so what a restart leaves for later is in the time.
 * None expires.
 *
 * All is the first worker's alone, but for the figures, which it leaves before the tally.
 */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>
#include <uv.h>

#define TIMERS_RUNNING 10000u
#define TIMERS_PER_TASK 1000u
#define TIMERS_TASKS 1000u
#define TIMERS_TASKS_SMOKE 2u
#define TIMERS_TIMEOUT_MS 60000u
#define TIMERS_STRIDE 3571u /* has no divisor in common with TIMERS_RUNNING: each has its turn */

union timers_timer {
    uv_timer_t uv;
    numaperf_timer_t own;
};

struct timers_run {
    const struct bench_peer *peer;
    uint32_t tasks_left;
    uint32_t at; /* the timer whose turn it is */
    uint64_t start_ns;
    uint64_t end_ns;
    int rc;
};

static struct bench_tally tally;
/* Until the process of the sample ends: handles of libuv are closed after the last task. */
static union timers_timer timers[TIMERS_RUNNING];
static struct timers_run timers_run;

static void timers_uv_expired(uv_timer_t *timer)
{
    (void)timer;
    abort(); /* a minute passed */
}

static void timers_own_expired(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)arg;
    abort(); /* a minute passed */
}

static int timers_start(struct timers_run *run, numaperf_worker_t *worker,
                        union timers_timer *timer)
{
    if (run->peer == &bench_libuv) {
        int rc = uv_timer_init(run->peer->loop(worker), &timer->uv);
        /* Only a timer that repeats may be started again. */
        return rc < 0 ? rc
                      : uv_timer_start(&timer->uv, timers_uv_expired, TIMERS_TIMEOUT_MS,
                                       TIMERS_TIMEOUT_MS);
    }
    int rc = numaperf_timer_init(worker, &timer->own, timers_own_expired, run);
    return rc < 0 ? rc : numaperf_timer_start(&timer->own, TIMERS_TIMEOUT_MS * UINT64_C(1000000));
}

static void timers_restart(struct timers_run *run)
{
    bool is_uv = run->peer == &bench_libuv;
    for (uint32_t i = 0; run->rc >= 0 && i < TIMERS_PER_TASK; i++) {
        union timers_timer *timer = &timers[run->at];
        run->at = (run->at + TIMERS_STRIDE) % TIMERS_RUNNING;
        run->rc = is_uv ? uv_timer_again(&timer->uv) : numaperf_timer_restart(&timer->own);
    }
}

static void timers_end(struct timers_run *run)
{
    run->end_ns = bench_now_ns();
    /* Those of libuv are closed by the peer's stop. */
    for (uint32_t i = 0; run->peer != &bench_libuv && i < TIMERS_RUNNING; i++)
        (void)numaperf_timer_stop(&timers[i].own); /* says only whether it ran */
    bench_tally_add(&tally);
}

static void timers_task(numaperf_worker_t *worker, void *arg)
{
    struct timers_run *run = arg;
    timers_restart(run);
    if (run->rc >= 0 && --run->tasks_left > 0)
        run->rc = run->peer->spawn_inside(worker, timers_task, run);
    else
        timers_end(run);
}

static void timers_first_task(numaperf_worker_t *worker, void *arg)
{
    struct timers_run *run = arg;
    for (uint32_t i = 0; run->rc >= 0 && i < TIMERS_RUNNING; i++)
        run->rc = timers_start(run, worker, &timers[i]);
    timers_restart(run); /* the first of a kind pays for cold code */
    run->start_ns = bench_now_ns();
    timers_task(worker, run);
}

static int timers_measure(const struct bench_run *run, void *state, double *out_values)
{
    uint32_t tasks = run->smoke ? TIMERS_TASKS_SMOKE : TIMERS_TASKS;
    timers_run = (struct timers_run){.peer = run->peer, .tasks_left = tasks};
    int rc = run->peer->spawn(state, 0, timers_first_task, &timers_run);
    if (rc == 0)
        rc = bench_tally_wait(&tally, 1);
    if (rc == 0 && timers_run.rc < 0)
        rc = timers_run.rc;
    uint64_t took_ns = timers_run.end_ns - timers_run.start_ns;
    out_values[0] = (double)took_ns / ((double)tasks * (double)TIMERS_PER_TASK);
    return rc;
}

static int timers_sample(const struct bench_run *run, double *out_values)
{
    void *state = NULL;
    int rc = run->peer->start(run->peer, run->setup, &state);
    if (rc < 0)
        return rc;
    rc = timers_measure(run, state, out_values);
    run->peer->stop(state);
    return rc;
}

static const struct bench_case timers_cases[] = {
    {
        .name = "timers.restart",
        .about = "restart of one of 10 000 running timers, again and again",
        .peers = {&bench_libuv, &bench_numaperf, &bench_numaperf_epoll},
        .metrics = {{.name = "restart", .unit = "ns", .lower_is_better = true}},
        .goals = {{.peer = &bench_numaperf, .against = &bench_libuv, .must = 0.125}},
        .node_count = 1,
        .workers_per_node = 1,
        .sample = timers_sample,
    },
};

const struct bench_workload bench_timers = {
    .name = "timers",
    .cases = timers_cases,
    .case_count = sizeof(timers_cases) / sizeof(timers_cases[0]),
};
