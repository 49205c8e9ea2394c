/* SPDX-License-Identifier: MIT */
/*
 * The fork-join tree that all peers compute alike: a call below the cutoff is plain code; above it,
 * n - 1 becomes a task, n - 2 goes on in the task that forks.
 */
#ifndef NUMAPERF_BENCH_FIB_H
#define NUMAPERF_BENCH_FIB_H

#include <stdint.h>

/* The plain code. Recursive as the tree is, and inline, so that it is the same for every peer. */
static inline uint64_t bench_fib(uint32_t n)
{
    return n < 2 ? n : bench_fib(n - 1) + bench_fib(n - 2);
}

#endif
