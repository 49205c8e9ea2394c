/* SPDX-License-Identifier: MIT */
/* A FIFO of tasks: any thread pushes, any thread pops. */
#ifndef NUMAPERF_SCHED_INBOX_H
#define NUMAPERF_SCHED_INBOX_H

#include "base/atomic.h"
#include "sched/task.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One place of the ring; see inbox.c for who may touch it. */
struct numaperf__slot {
    _Atomic uint64_t sequence; /* low half: place number plus one; high half: stamp */
    _Atomic(numaperf_task_fn) fn;
    _Atomic(void *) arg;
    _Atomic(numaperf_cancel_fn) on_cancel;
};

/* Tasks of one submission that found the ring full. */
struct numaperf__spill {
    struct numaperf__spill *next;
    size_t count;
    size_t moved; /* into the ring */
    struct numaperf__task tasks[];
};

struct numaperf__inbox {
    /* Written by pushers. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t tail; /* places given out so far */
    _Atomic uint64_t seen_head;                         /* `head`, some time ago */
    /* Written by poppers. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t head; /* tasks taken so far */
    /* Written when the ring is full. */
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t spilled; /* announced for it, not in the ring */
    pthread_mutex_t mutex;                                 /* guards the list */
    struct numaperf__spill *first;
    struct numaperf__spill *last;
    /* Constant. */
    alignas(NUMAPERF_CACHE_LINE) struct numaperf__slot *slots;
    uint64_t mask; /* places - 1 */
    uint32_t home;
};

/* Places for tasks that were announced. */
struct numaperf__ticket {
    uint64_t at;
    size_t count;
    struct numaperf__spill *spill; /* NULL: they are in the ring */
};

/*
 * `slots` are `capacity` places, a power of two, zeroed, and the caller's until fini; more tasks
 * wait in ordinary memory.
 */
void numaperf__inbox_init(struct numaperf__inbox *inbox, struct numaperf__slot *slots,
                          uint32_t capacity, uint32_t home);
/* Asserts that no task is left; zeroed ones are allowed. */
void numaperf__inbox_fini(struct numaperf__inbox *inbox);

/* Announce `count` tasks: from now on they count as accepted. 0 or -ENOMEM. */
int numaperf__inbox_reserve(struct numaperf__inbox *inbox, size_t count,
                            struct numaperf__ticket *out);
/* Fill the places of a ticket with fn(args[i]), in order. */
void numaperf__inbox_publish(struct numaperf__inbox *inbox, const struct numaperf__ticket *ticket,
                             const struct numaperf__task *like, void *const *args);
/* Or take them back: places in the ring come out as tasks without a function. */
void numaperf__inbox_retract(struct numaperf__inbox *inbox, const struct numaperf__ticket *ticket);

/* The oldest task; false when there is none, or it is not filled in yet. */
bool numaperf__inbox_pop(struct numaperf__inbox *inbox, struct numaperf__task *out);
/* The oldest tasks, at most `max`; how many. */
size_t numaperf__inbox_take(struct numaperf__inbox *inbox, struct numaperf__task *out, size_t max);

/* Whether `count` more would go to the ring; may say no too often. */
bool numaperf__inbox_has_place(struct numaperf__inbox *inbox, size_t count);
/* Whether a task is announced and not popped; sequentially consistent, see inbox.c. */
bool numaperf__inbox_has_work(const struct numaperf__inbox *inbox);
/* Where the ring ends now if all that was spilled before is in it, else UINT64_MAX. */
uint64_t numaperf__inbox_spill_end(const struct numaperf__inbox *inbox);
/* Whether everything before place `at` has been taken. */
bool numaperf__inbox_is_past(const struct numaperf__inbox *inbox, uint64_t at);
/* Tasks taken and pushed so far, in this order: tasks between them wait, or did a moment ago.
 * Sequentially consistent, as has_work. */
void numaperf__inbox_span(const struct numaperf__inbox *inbox, uint64_t *out_head,
                          uint64_t *out_tail);
/* How many; a recent picture. */
uint64_t numaperf__inbox_depth(const struct numaperf__inbox *inbox);
/* Announced so far, sequentially consistent; may be too high while tasks go from spill to ring. */
uint64_t numaperf__inbox_accepted(const struct numaperf__inbox *inbox);

#endif
