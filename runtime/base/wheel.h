/* SPDX-License-Identifier: MIT */
/* A hierarchical timer wheel: insert and remove in constant time, the next deadline in one look. */
#ifndef NUMAPERF_BASE_WHEEL_H
#define NUMAPERF_BASE_WHEEL_H

#include <numaperf/timer.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMAPERF__WHEEL_TICK_SHIFT 10u /* a tick is 1024 ns */
#define NUMAPERF__WHEEL_BITS 6u
#define NUMAPERF__WHEEL_SLOTS (1u << NUMAPERF__WHEEL_BITS)
#define NUMAPERF__WHEEL_LEVELS 9u /* 10 + 9 * 6 bits are all that a deadline has */

/* Where a timer is: in no list, in a list that is no slot, or in a slot. */
enum { NUMAPERF__WHEEL_NOWHERE = 0, NUMAPERF__WHEEL_LISTED = 1, NUMAPERF__WHEEL_FIRST_SLOT = 2 };

struct numaperf__wheel {
    uint64_t now;                              /* tick up to which everything has been looked at */
    uint64_t count;                            /* timers in slots and in `due` */
    uint64_t occupied[NUMAPERF__WHEEL_LEVELS]; /* bit i: slot i has timers */
    numaperf_timer_link_t due;
    numaperf_timer_link_t slots[NUMAPERF__WHEEL_LEVELS * NUMAPERF__WHEEL_SLOTS];
};

void numaperf__wheel_init(struct numaperf__wheel *wheel, uint64_t now_ns);
/* By its deadline_ns; it is nowhere yet. */
void numaperf__wheel_insert(struct numaperf__wheel *wheel, numaperf_timer_t *timer);
/* From wherever it is. */
void numaperf__wheel_remove(struct numaperf__wheel *wheel, numaperf_timer_t *timer);

/*
 * Whether a timer that is in the wheel may stay where it is with a deadline of `deadline_ns`: it
 * is looked at no later than that. Who finds so only writes its deadline_ns.
 */
bool numaperf__wheel_may_stay(const struct numaperf__wheel *wheel, const numaperf_timer_t *timer,
                              uint64_t deadline_ns);

/* Make due what is due at `now_ns`. */
void numaperf__wheel_advance(struct numaperf__wheel *wheel, uint64_t now_ns);
/* Take the first that is due, in order of ticks; NULL when there is none. */
numaperf_timer_t *numaperf__wheel_pop_due(struct numaperf__wheel *wheel);
/* When to advance next: 0 now, UINT64_MAX never. May be earlier than the first deadline. */
uint64_t numaperf__wheel_next_ns(const struct numaperf__wheel *wheel);

/* Make due, whatever their time, those that `is_wanted` says. */
void numaperf__wheel_make_due(struct numaperf__wheel *wheel,
                              bool (*is_wanted)(const numaperf_timer_t *timer));

/* Walk it all and assert that it is consistent; for tests. */
void numaperf__wheel_validate(const struct numaperf__wheel *wheel);

#endif
