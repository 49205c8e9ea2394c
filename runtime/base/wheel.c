/* SPDX-License-Identifier: MIT */
/*
 * The wheel: nine levels of 64 slots. A deadline, in ticks rounded up, is a number of nine digits
 * of six bits. A timer is in the level of the highest digit in which its tick differs from `now`,
 * in the slot of that digit; so within a level all slots in use are after now's own, slots of a
 * lower level come before those of a higher one, and the first slot in use of the lowest level in
 * use is the next event: there, timers of level 0 are due and others move to lower levels, eight
 * times at most. `now` jumps from event to event: empty slots cost nothing.
 *
 * A timer is looked at no later than its deadline, but may be earlier: one whose deadline was moved
 * into the future stays where it is until then, and is put where it belongs when it is looked at.
 * Started again a thousand times, it moves once.
 *
 * Never early: a tick is due when the clock has reached it, and a deadline's tick is rounded up.
 *
 * Thread rule: belongs to one worker.
 *
 * Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels".
 */
#include "base/wheel.h"

#include "base/assert.h"
#include "base/list.h"

#define WHEEL_TICK_MAX ((UINT64_C(1) << 54) - 1)
#define WHEEL_LOOK_MAX 16u /* timers of a slot that are looked at for the exact deadline */

_Static_assert(sizeof(numaperf_timer_t) == 64, "one cache line, and public");

/* ---- lists ---- */

static void wheel_list_init(numaperf_timer_link_t *head)
{
    head->next = head;
    head->prev = head;
}

static bool wheel_list_empty(const numaperf_timer_link_t *head)
{
    return head->next == head;
}

static void wheel_list_push(numaperf_timer_link_t *head, numaperf_timer_t *timer)
{
    timer->link.next = head;
    timer->link.prev = head->prev;
    head->prev->next = &timer->link;
    head->prev = &timer->link;
}

static void wheel_list_remove(numaperf_timer_t *timer)
{
    timer->link.prev->next = timer->link.next;
    timer->link.next->prev = timer->link.prev;
}

static numaperf_timer_t *wheel_list_first(const numaperf_timer_link_t *head)
{
    return NUMAPERF_CONTAINER_OF(head->next, numaperf_timer_t, link);
}

/* Hang the timers of one list into an empty one: the other is empty then. */
static void wheel_list_move(numaperf_timer_link_t *from, numaperf_timer_link_t *to)
{
    wheel_list_init(to);
    if (wheel_list_empty(from))
        return;
    *to = *from;
    to->next->prev = to;
    to->prev->next = to;
    wheel_list_init(from);
}

/* ---- place ---- */

static uint64_t wheel_tick_of(uint64_t deadline_ns)
{
    const uint64_t part = (UINT64_C(1) << NUMAPERF__WHEEL_TICK_SHIFT) - 1;
    uint64_t tick = (deadline_ns >> NUMAPERF__WHEEL_TICK_SHIFT) + ((deadline_ns & part) != 0);
    return tick < WHEEL_TICK_MAX ? tick : WHEEL_TICK_MAX;
}

static uint64_t wheel_ns_of(uint64_t tick)
{
    return tick << NUMAPERF__WHEEL_TICK_SHIFT;
}

static void wheel_place_due(struct numaperf__wheel *wheel, numaperf_timer_t *timer)
{
    timer->position = NUMAPERF__WHEEL_LISTED;
    wheel_list_push(&wheel->due, timer);
}

/* Does not count. */
static void wheel_place(struct numaperf__wheel *wheel, numaperf_timer_t *timer)
{
    uint64_t tick = wheel_tick_of(timer->deadline_ns);
    if (tick <= wheel->now) {
        wheel_place_due(wheel, timer);
        return;
    }
    unsigned level = (63u - (unsigned)__builtin_clzll(tick ^ wheel->now)) / NUMAPERF__WHEEL_BITS;
    NUMAPERF_ASSERT_HOT(level < NUMAPERF__WHEEL_LEVELS);
    unsigned slot =
        (unsigned)(tick >> (level * NUMAPERF__WHEEL_BITS)) & (NUMAPERF__WHEEL_SLOTS - 1);
    unsigned at = level * NUMAPERF__WHEEL_SLOTS + slot;
    wheel->occupied[level] |= UINT64_C(1) << slot;
    timer->position = (uint16_t)(NUMAPERF__WHEEL_FIRST_SLOT + at);
    wheel_list_push(&wheel->slots[at], timer);
}

void numaperf__wheel_init(struct numaperf__wheel *wheel, uint64_t now_ns)
{
    wheel->now = now_ns >> NUMAPERF__WHEEL_TICK_SHIFT;
    wheel->count = 0;
    wheel_list_init(&wheel->due);
    for (unsigned level = 0; level < NUMAPERF__WHEEL_LEVELS; level++)
        wheel->occupied[level] = 0;
    for (unsigned i = 0; i < NUMAPERF__WHEEL_LEVELS * NUMAPERF__WHEEL_SLOTS; i++)
        wheel_list_init(&wheel->slots[i]);
}

void numaperf__wheel_insert(struct numaperf__wheel *wheel, numaperf_timer_t *timer)
{
    NUMAPERF_ASSERT_HOT(timer->position == NUMAPERF__WHEEL_NOWHERE);

    wheel->count++;
    wheel_place(wheel, timer);
}

/* Take a timer out of its list. Does not count. */
static void wheel_displace(struct numaperf__wheel *wheel, numaperf_timer_t *timer)
{
    wheel_list_remove(timer);
    if (timer->position >= NUMAPERF__WHEEL_FIRST_SLOT) {
        unsigned at = timer->position - NUMAPERF__WHEEL_FIRST_SLOT;
        if (wheel_list_empty(&wheel->slots[at]))
            wheel->occupied[at / NUMAPERF__WHEEL_SLOTS] &=
                ~(UINT64_C(1) << at % NUMAPERF__WHEEL_SLOTS);
    }
    timer->position = NUMAPERF__WHEEL_NOWHERE;
}

void numaperf__wheel_remove(struct numaperf__wheel *wheel, numaperf_timer_t *timer)
{
    NUMAPERF_ASSERT_HOT(timer->position != NUMAPERF__WHEEL_NOWHERE);
    NUMAPERF_ASSERT_HOT(wheel->count > 0);

    wheel_displace(wheel, timer);
    wheel->count--;
}

/* The tick at which a slot is looked at. */
static uint64_t wheel_event(const struct numaperf__wheel *wheel, unsigned level, unsigned slot)
{
    unsigned shift = level * NUMAPERF__WHEEL_BITS;
    uint64_t above = wheel->now >> (shift + NUMAPERF__WHEEL_BITS) << (shift + NUMAPERF__WHEEL_BITS);
    return above | (uint64_t)slot << shift;
}

bool numaperf__wheel_may_stay(const struct numaperf__wheel *wheel, const numaperf_timer_t *timer,
                              uint64_t deadline_ns)
{
    NUMAPERF_ASSERT_HOT(timer->position != NUMAPERF__WHEEL_NOWHERE);

    if (timer->position < NUMAPERF__WHEEL_FIRST_SLOT)
        return false; /* due: nobody asks about its time again */
    unsigned at = timer->position - NUMAPERF__WHEEL_FIRST_SLOT;
    return wheel_tick_of(deadline_ns) >=
           wheel_event(wheel, at / NUMAPERF__WHEEL_SLOTS, at % NUMAPERF__WHEEL_SLOTS);
}

/* ---- time ---- */

/* The slot that is looked at next, as an index of `slots`; false when all are empty. */
static bool wheel_next_slot(const struct numaperf__wheel *wheel, unsigned *out_at)
{
    for (unsigned level = 0; level < NUMAPERF__WHEEL_LEVELS; level++) {
        uint64_t occupied = wheel->occupied[level];
        if (occupied == 0)
            continue;
        *out_at = level * NUMAPERF__WHEEL_SLOTS + (unsigned)__builtin_ctzll(occupied);
        return true;
    }
    return false;
}

void numaperf__wheel_advance(struct numaperf__wheel *wheel, uint64_t now_ns)
{
    uint64_t to = now_ns >> NUMAPERF__WHEEL_TICK_SHIFT;
    NUMAPERF_ASSERT(to >= wheel->now);

    unsigned at = 0;
    while (wheel_next_slot(wheel, &at)) {
        unsigned level = at / NUMAPERF__WHEEL_SLOTS;
        uint64_t event = wheel_event(wheel, level, at % NUMAPERF__WHEEL_SLOTS);
        NUMAPERF_ASSERT_HOT(event > wheel->now);
        if (event > to)
            break;
        wheel->now = event;
        wheel->occupied[level] &= ~(UINT64_C(1) << at % NUMAPERF__WHEEL_SLOTS);
        numaperf_timer_link_t list;
        wheel_list_move(&wheel->slots[at], &list);
        while (!wheel_list_empty(&list)) {
            numaperf_timer_t *timer = wheel_list_first(&list);
            wheel_list_remove(timer);
            wheel_place(wheel, timer);
        }
    }
    wheel->now = to;
}

numaperf_timer_t *numaperf__wheel_pop_due(struct numaperf__wheel *wheel)
{
    if (wheel_list_empty(&wheel->due))
        return NULL;
    numaperf_timer_t *timer = wheel_list_first(&wheel->due);
    numaperf__wheel_remove(wheel, timer);
    return timer;
}

uint64_t numaperf__wheel_next_ns(const struct numaperf__wheel *wheel)
{
    if (!wheel_list_empty(&wheel->due))
        return 0;
    unsigned at = 0;
    if (!wheel_next_slot(wheel, &at))
        return UINT64_MAX;
    uint64_t event = wheel_event(wheel, at / NUMAPERF__WHEEL_SLOTS, at % NUMAPERF__WHEEL_SLOTS);
    /* With few timers in it: when the first of them is due, so that nobody wakes for nothing. But
     * not beyond the slot, where timers of another one may come first. */
    uint64_t first = event + (UINT64_C(1) << at / NUMAPERF__WHEEL_SLOTS * NUMAPERF__WHEEL_BITS);
    unsigned seen = 0;
    for (const numaperf_timer_link_t *link = wheel->slots[at].next; link != &wheel->slots[at];
         link = link->next) {
        uint64_t tick =
            wheel_tick_of(NUMAPERF_CONTAINER_OF(link, const numaperf_timer_t, link)->deadline_ns);
        first = tick < first ? tick : first;
        if (++seen == WHEEL_LOOK_MAX)
            return wheel_ns_of(event);
    }
    NUMAPERF_ASSERT_HOT(first >= event);
    return wheel_ns_of(first);
}

void numaperf__wheel_make_due(struct numaperf__wheel *wheel,
                              bool (*is_wanted)(const numaperf_timer_t *timer))
{
    for (unsigned at = 0; at < NUMAPERF__WHEEL_LEVELS * NUMAPERF__WHEEL_SLOTS; at++) {
        numaperf_timer_link_t *link = wheel->slots[at].next;
        while (link != &wheel->slots[at]) {
            numaperf_timer_t *timer = NUMAPERF_CONTAINER_OF(link, numaperf_timer_t, link);
            link = link->next;
            if (!is_wanted(timer))
                continue;
            wheel_displace(wheel, timer);
            wheel_place_due(wheel, timer);
        }
    }
}

/* ---- validate ---- */

static uint64_t wheel_validate_slot(const struct numaperf__wheel *wheel, unsigned at)
{
    unsigned level = at / NUMAPERF__WHEEL_SLOTS;
    unsigned slot = at % NUMAPERF__WHEEL_SLOTS;
    uint64_t count = 0;
    for (const numaperf_timer_link_t *link = wheel->slots[at].next; link != &wheel->slots[at];
         link = link->next) {
        const numaperf_timer_t *timer = NUMAPERF_CONTAINER_OF(link, const numaperf_timer_t, link);
        NUMAPERF_ASSERT(link->next->prev == link && link->prev->next == link);
        NUMAPERF_ASSERT(timer->position == NUMAPERF__WHEEL_FIRST_SLOT + at);
        NUMAPERF_ASSERT(wheel_tick_of(timer->deadline_ns) >= wheel_event(wheel, level, slot));
        count++;
    }
    NUMAPERF_ASSERT((count > 0) == ((wheel->occupied[level] >> slot & 1) != 0));
    NUMAPERF_ASSERT(count == 0 || wheel_event(wheel, level, slot) > wheel->now);
    return count;
}

void numaperf__wheel_validate(const struct numaperf__wheel *wheel)
{
    uint64_t count = 0;
    for (const numaperf_timer_link_t *link = wheel->due.next; link != &wheel->due;
         link = link->next) {
        NUMAPERF_ASSERT(link->next->prev == link && link->prev->next == link);
        count++;
    }
    for (unsigned at = 0; at < NUMAPERF__WHEEL_LEVELS * NUMAPERF__WHEEL_SLOTS; at++)
        count += wheel_validate_slot(wheel, at);
    NUMAPERF_ASSERT(count == wheel->count);
}
