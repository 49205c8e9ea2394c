/* SPDX-License-Identifier: MIT */
/* Runtimes for tests: kinds of machines, gates that hold tasks, counters that are waited for. */
#ifndef TESTS_SUPPORT_RUNTIMES_H
#define TESTS_SUPPORT_RUNTIMES_H

#include <numaperf/runtime.h>
#include <numaperf/topology.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A runtime with the topology it borrows. Fill `config`, then open. */
struct runtime_box {
    numaperf_rt_config_t config;
    numaperf_topology_t *topology;
    numaperf_rt_t *rt;
};

/*
 * `machine`: NULL is this one; "*.xml" a fixture; else a synthetic description. 0, or the code of
 * what failed.
 */
int runtime_box_open(struct runtime_box *box, const char *machine);
/* Destroys what is there. */
void runtime_box_close(struct runtime_box *box);

/* A task that says it has begun, then stays until it is let go. */
struct runtime_gate {
    atomic_int entered;
    atomic_bool open;
    atomic_int left;
};
void runtime_gate_task(numaperf_worker_t *worker, void *gate);

/* Adds one to an atomic_int. */
void runtime_count_task(numaperf_worker_t *worker, void *counter);
/* A numaperf_cancel_fn: adds one to the atomic_int that is the task's arg. */
void runtime_count_cancel(numaperf_task_fn fn, void *counter, void *data);

/* Whether the counter gets to `wanted` before a generous time limit. */
bool runtime_reaches(const atomic_int *counter, int wanted);

/* How often a worker went to sleep; and whether it gets to `wanted` times, which a worker that was
   asleep does by one for every task it runs. */
uint64_t runtime_parks(const numaperf_rt_t *rt, uint32_t worker);
bool runtime_parks_reach(const numaperf_rt_t *rt, uint32_t worker, uint64_t wanted);

#endif
