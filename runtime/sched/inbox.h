/* SPDX-License-Identifier: MIT */
/* A FIFO of tasks: any thread pushes, whoever holds its token pops. */
#ifndef NUMAPERF_SCHED_INBOX_H
#define NUMAPERF_SCHED_INBOX_H

#include "base/atomic.h"
#include "sched/task.h"

#include <stdbool.h>
#include <stdint.h>

struct numaperf__inbox {
    /* Written by pushers. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic(struct numaperf__task *) head;
    _Atomic uint64_t accepted; /* tasks announced, before they are linked */
    /* Written by the holder of the token. */
    alignas(NUMAPERF_CACHE_LINE) atomic_bool token;
    struct numaperf__task *tail;
    _Atomic uint64_t taken; /* tasks popped */
    struct numaperf__task stub;
};

void numaperf__inbox_init(struct numaperf__inbox *inbox);
/* Asserts that it is empty. */
void numaperf__inbox_fini(struct numaperf__inbox *inbox);

/* Announce `count` tasks that will be pushed, or retract what was announced and will not be. */
void numaperf__inbox_announce(struct numaperf__inbox *inbox, uint64_t count);
void numaperf__inbox_retract(struct numaperf__inbox *inbox, uint64_t count);
/* Push a chain of announced tasks, linked by `next`, in order. */
void numaperf__inbox_push_mpsc(struct numaperf__inbox *inbox, struct numaperf__task *first,
                               struct numaperf__task *last);

/* The oldest task; NULL when there is none, it is not linked yet, or another thread pops. */
struct numaperf__task *numaperf__inbox_pop(struct numaperf__inbox *inbox);

/* Whether a task is announced and not popped; sequentially consistent, see inbox.c. */
bool numaperf__inbox_has_work(const struct numaperf__inbox *inbox);
/* How many; a recent picture. */
uint64_t numaperf__inbox_depth(const struct numaperf__inbox *inbox);
/* Announced so far, sequentially consistent. */
uint64_t numaperf__inbox_accepted(const struct numaperf__inbox *inbox);

#endif
