/* SPDX-License-Identifier: MIT */
/*
 * A thread that takes from a queue, and sleeps when a look says that there is nothing; and one that
 * pushes, about when it falls asleep, and wakes it only when it sees it asleep. Nothing else wakes
 * it: a push and a look that miss each other leave it asleep with a task.
 */
#ifndef TESTS_SUPPORT_SLEEPER_H
#define TESTS_SUPPORT_SLEEPER_H

#include <stdbool.h>
#include <stdint.h>

struct sleeper_queue {
    void (*push)(uint32_t number); /* one task, on the calling thread of sleeper_survives() */
    bool (*take)(void);            /* on the other */
    bool (*has_work)(void);        /* the look before a sleep */
};

/* Whether the sleeper took `count` tasks, pushed one at a time, and was never left with one. */
bool sleeper_survives(const struct sleeper_queue *queue, uint32_t count, uint64_t seed);

#endif
