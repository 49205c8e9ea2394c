/* SPDX-License-Identifier: MIT */
/* Time limits of tests: generous, and more so where everything is slow. */
#ifndef TESTS_SUPPORT_CLOCK_H
#define TESTS_SUPPORT_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SANITIZED 1
#endif
#endif
#ifndef TEST_SANITIZED
#define TEST_SANITIZED 0
#endif

static inline uint64_t test_now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void test_sleep_ms(uint64_t ms)
{
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&pause, &pause) != 0)
        ;
}

/* In an emulated guest nothing is as fast as it should be. */
static inline bool test_is_guest(void)
{
    return getenv("VM_TOPOLOGY") != NULL;
}

static inline bool test_is_slow(void)
{
    return TEST_SANITIZED != 0 || test_is_guest();
}

/* How long something may take that takes `seconds` at most on a busy machine. */
static inline uint64_t test_limit_ns(uint64_t seconds)
{
    return seconds * 1000000000u * (test_is_slow() ? 10 : 1);
}

#endif
