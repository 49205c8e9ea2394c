/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a word to change. Both calls may be made in a signal handler, too.
 *
 * Source: futex(2).
 */
#ifndef NUMAPERF_BASE_FUTEX_H
#define NUMAPERF_BASE_FUTEX_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* While the word is `value`, until it is woken or `timeout_ns` is over; UINT64_MAX: no limit. May
   return early, so the caller looks again. */
static inline void numaperf__futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
    const struct timespec limit = {.tv_sec = (time_t)(timeout_ns / 1000000000u),
                                   .tv_nsec = (long)(timeout_ns % 1000000000u)};
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value,
                  timeout_ns == UINT64_MAX ? NULL : &limit, NULL, 0);
}

/* Whoever waits for the word, which was changed before. */
static inline void numaperf__futex_wake_all(_Atomic uint32_t *word)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

#endif
