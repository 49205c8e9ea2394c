/* SPDX-License-Identifier: MIT */
/* Random numbers that can be replayed, and how much a stress test does. */
#ifndef TESTS_SUPPORT_STRESS_H
#define TESTS_SUPPORT_STRESS_H

#include "support/clock.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* NUMAPERF_STRESS_SEED replays the choices of an earlier run. */
static inline uint64_t stress_seed(void)
{
    const char *text = getenv("NUMAPERF_STRESS_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : test_now_ns();
    printf("NUMAPERF_STRESS_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* `count`, or as many times less as NUMAPERF_STRESS_SCALE says; much less where all is slow. */
static inline uint64_t stress_count(uint64_t count)
{
    const char *text = getenv("NUMAPERF_STRESS_SCALE");
    uint64_t divisor = text != NULL          ? strtoull(text, NULL, 0)
                       : test_is_guest()     ? 500
                       : TEST_SANITIZED != 0 ? 50
                                             : 1;
    return divisor == 0 ? count : count / divisor + 1;
}

/* splitmix64 */
static inline uint64_t stress_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline uint64_t stress_below(uint64_t *state, uint64_t limit)
{
    return stress_random(state) % limit;
}

#endif
