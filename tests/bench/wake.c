/* SPDX-License-Identifier: MIT */
/*
 * How long from the spawn to the start of the task. Rare: one task about every millisecond, so
 * that the worker is asleep each time. Frequent: one every 20 us, where an adaptive spin pays.
 *
 * The producer sits on the last worker's PU and sends to the first, so that a wake crosses PUs
 * with every peer. For rare arrivals it sleeps in between, for frequent ones it watches the clock.
 * The CPU time is that of the process without the producer.
 */
#include "harness.h"

#include <errno.h>
#include <stdlib.h>

#define WAKE_RARE_TASKS 300u
#define WAKE_RARE_GAP_NS 1000000u
#define WAKE_FREQUENT_TASKS 15000u
#define WAKE_FREQUENT_GAP_NS 20000u
#define WAKE_SMOKE_PARTS 50u
#define WAKE_WARM_UP_PARTS 10u
#define WAKE_JITTER_PARTS 4u /* gaps vary by a quarter, so that no clock tick keeps in step */

enum wake_arrivals { WAKE_RARE = 0, WAKE_FREQUENT };

struct wake_slot {
    uint64_t sent_ns;  /* written by the producer before the spawn */
    uint64_t start_ns; /* written by the task */
};

static struct bench_tally tally;

static void wake_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    struct wake_slot *slot = arg;
    slot->start_ns = bench_now_ns();
    bench_tally_add(&tally);
}

static void wake_pause_until(uint64_t deadline_ns, bool sleeping)
{
    uint64_t now_ns = bench_now_ns();
    if (sleeping && now_ns < deadline_ns)
        bench_sleep_ns(deadline_ns - now_ns);
    while (!sleeping && bench_now_ns() < deadline_ns)
        continue;
}

static int wake_drive(const struct bench_run *run, void *state, struct wake_slot *slots,
                      uint32_t count)
{
    bool rare = run->bench->parameter == WAKE_RARE;
    uint64_t gap_ns = rare ? WAKE_RARE_GAP_NS : WAKE_FREQUENT_GAP_NS;
    uint64_t before = bench_tally_sum(&tally);
    uint64_t next_ns = bench_now_ns();
    uint32_t random = 12345;
    for (uint32_t i = 0; i < count; i++) {
        random = random * 1664525u + 1013904223u;
        next_ns += gap_ns + (random >> 8) % (gap_ns / WAKE_JITTER_PARTS);
        wake_pause_until(next_ns, rare);
        slots[i].sent_ns = bench_now_ns();
        int rc = run->peer->spawn(state, 0, wake_task, &slots[i]);
        if (rc < 0)
            return rc;
        /* After a pause that others forced on us there is no burst to catch up. */
        uint64_t now_ns = bench_now_ns();
        if (now_ns > next_ns + gap_ns)
            next_ns = now_ns;
    }
    return bench_tally_wait(&tally, before + count);
}

static int wake_measure(const struct bench_run *run, void *state, struct wake_slot *slots,
                        double *out_values)
{
    bool rare = run->bench->parameter == WAKE_RARE;
    uint32_t count = rare ? WAKE_RARE_TASKS : WAKE_FREQUENT_TASKS;
    if (run->smoke)
        count /= WAKE_SMOKE_PARTS;
    int rc = wake_drive(run, state, slots, count / WAKE_WARM_UP_PARTS + 1);
    if (rc < 0)
        return rc;
    uint64_t start_ns = bench_cpu_ns() - bench_thread_cpu_ns();
    rc = wake_drive(run, state, slots, count);
    uint64_t cpu_ns = bench_cpu_ns() - bench_thread_cpu_ns() - start_ns;
    double *latencies = calloc(count, sizeof(*latencies));
    if (rc < 0 || latencies == NULL) {
        free(latencies);
        return rc < 0 ? rc : -ENOMEM;
    }
    for (uint32_t i = 0; i < count; i++)
        latencies[i] = (double)(slots[i].start_ns - slots[i].sent_ns);
    out_values[0] = bench_quantile(latencies, count, 0.5);
    out_values[1] = bench_quantile(latencies, count, 0.9);
    out_values[2] = (double)cpu_ns / count;
    free(latencies);
    return 0;
}

static int wake_sample(const struct bench_run *run, double *out_values)
{
    uint32_t last = run->setup->node_count * run->setup->workers_per_node - 1;
    struct wake_slot *slots = calloc(WAKE_FREQUENT_TASKS, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    void *state = NULL;
    int rc = run->peer->start(run->peer, run->setup, &state);
    if (rc == 0) {
        rc = bench_pin(run->setup->cpus[last]);
        if (rc == 0)
            rc = wake_measure(run, state, slots, out_values);
        run->peer->stop(state);
    }
    free(slots);
    return rc;
}

#define WAKE_CASE(suffix, text, nodes, workers, arrivals)                                  \
    .name = "wake." suffix, .about = text,                                                 \
    .metrics = {{.name = "latency p50", .unit = "ns", .lower_is_better = true},            \
                {.name = "latency p90", .unit = "ns", .lower_is_better = true},            \
                {.name = "worker CPU a task", .unit = "ns", .lower_is_better = true}},     \
    .node_count = (nodes), .workers_per_node = (workers), .parameter = (uint32_t)arrivals, \
    .sample = wake_sample
#define WAKE_GOAL(most, wanted) \
    .goals = {{.peer = &bench_numaperf, .against = &bench_libuv, .must = (most), .aim = (wanted)}}
/* On one node a pool may wake the thread whose PU the producer is on: no figure of a wake. */
#define WAKE_PEERS_ONE_NODE .peers = {&bench_libuv, &bench_numaperf, &bench_numaperf_epoll}
#define WAKE_PEERS_TWO_NODES \
    .peers = {&bench_libuv, &bench_glib, &bench_tbb_enqueue, &bench_numaperf, &bench_numaperf_epoll}

static const struct bench_case wake_cases[] = {
    {WAKE_CASE("rare_one_node", "a task every 1 ms, two workers of a node", 1, 2, WAKE_RARE),
     WAKE_GOAL(1.0, 0.85), WAKE_PEERS_ONE_NODE},
    {WAKE_CASE("rare_two_nodes", "a task every 1 ms, two nodes of one worker", 2, 1, WAKE_RARE),
     WAKE_GOAL(1.0, 0.85), WAKE_PEERS_TWO_NODES},
    {WAKE_CASE("frequent_one_node", "a task every 20 us, two workers of a node", 1, 2,
               WAKE_FREQUENT),
     WAKE_GOAL(0.05, 0.02), WAKE_PEERS_ONE_NODE},
    {WAKE_CASE("frequent_two_nodes", "a task every 20 us, two nodes of one worker", 2, 1,
               WAKE_FREQUENT),
     WAKE_GOAL(0.05, 0.02), WAKE_PEERS_TWO_NODES},
};

const struct bench_workload bench_wake = {
    .name = "wake",
    .cases = wake_cases,
    .case_count = sizeof(wake_cases) / sizeof(wake_cases[0]),
};
