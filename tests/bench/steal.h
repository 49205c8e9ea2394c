/* SPDX-License-Identifier: MIT */
/* What the steal workload asks of a queue with one owner and thieves. */
#ifndef NUMAPERF_BENCH_STEAL_H
#define NUMAPERF_BENCH_STEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Items a queue must have room for. */
#define BENCH_STEAL_ROOM 1024u
/* Items pushed at once, or taken at once by a thief, at most. */
#define BENCH_STEAL_BATCH 64u

/* Items are never 0. */
struct bench_steal_ops {
    void *(*create)(void); /* NULL: no memory */
    void (*destroy)(void *queue);
    /* The items first, first + 1, ..., for which there is room; all at once where the queue can. */
    void (*push_owner)(void *queue, uint64_t first, size_t count);
    uint64_t (*pop_owner)(void *queue); /* 0: empty, or a thief was faster */
    /* Half of what is there, or one where the queue knows no better; how many. */
    size_t (*steal_thief)(void *queue, uint64_t *out_items);
};

#endif
