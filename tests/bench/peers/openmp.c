/* SPDX-License-Identifier: MIT */
/*
 * OpenMP tasks, of the compiler's own runtime: gcc's libgomp or clang's libomp. A team takes no
 * tasks from a thread outside, so it does fork and join only. The calling thread is a member of the
 * team, so it is pinned like the others. The runtime has the threads wait for the next region by
 * itself; they end with the process.
 */
#include "fib.h"
#include "peers/peer.h"

#include <errno.h>
#include <omp.h>
#include <stdlib.h>

struct openmp_state {
    int thread_count; /* constant */
};

static int openmp_peer_start(const struct bench_peer *peer, const struct bench_setup *setup,
                             void **out_state)
{
    (void)peer;
    struct openmp_state *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return -ENOMEM;
    state->thread_count = (int)(setup->node_count * setup->workers_per_node);
    omp_set_dynamic(0);
    int failures = 0;
#pragma omp parallel num_threads(state->thread_count) reduction(+ : failures)
    failures += omp_get_num_threads() != state->thread_count ||
                bench_pin(setup->cpus[omp_get_thread_num()]) < 0;
    if (failures > 0) {
        free(state);
        return -EAGAIN;
    }
    *out_state = state;
    return 0;
}

/* The recursion is what is measured; it is as deep as n. */
static uint64_t openmp_tree(uint32_t n, uint32_t cutoff)
{
    if (n < cutoff)
        return bench_fib(n);
    uint64_t left = 0;
#pragma omp task shared(left)
    left = openmp_tree(n - 1, cutoff);
    uint64_t right = openmp_tree(n - 2, cutoff);
#pragma omp taskwait
    return left + right;
}

static int openmp_peer_fork_join(void *arg, uint32_t n, uint32_t cutoff, uint64_t *out_value)
{
    struct openmp_state *state = arg;
    uint64_t value = 0;
#pragma omp parallel num_threads(state->thread_count)
#pragma omp single
    value = openmp_tree(n, cutoff);
    *out_value = value;
    return 0;
}

static void openmp_peer_stop(void *arg)
{
    free(arg);
}

const struct bench_peer bench_openmp = {
    .name = NUMAPERF_BENCH_OPENMP,
    .start = openmp_peer_start,
    .fork_join = openmp_peer_fork_join,
    .stop = openmp_peer_stop,
};
