/* SPDX-License-Identifier: MIT */
/*
 * Pins the threads of a pool that does not say which ones they are: as many tasks as there are
 * threads, each of which pins its thread to a PU of its own and then waits for the others, so that
 * no thread takes two.
 */
#ifndef NUMAPERF_BENCH_GATHER_H
#define NUMAPERF_BENCH_GATHER_H

#include <pthread.h>
#include <stdint.h>

struct bench_gather {
    pthread_mutex_t mutex;
    pthread_cond_t all_here;
    const int32_t *cpus; /* one for each thread */
    uint32_t wanted;
    uint32_t here; /* under the mutex */
    uint32_t left; /* under the mutex; the task that counts it up last touches nothing after */
};

void bench_gather_init(struct bench_gather *gather, const int32_t *cpus, uint32_t wanted);
/* In a task of the pool, `wanted` times. */
void bench_gather_join(struct bench_gather *gather);
/* Wait until every thread is pinned and no task is in bench_gather_join(), then free it. */
void bench_gather_fini(struct bench_gather *gather);

#endif
