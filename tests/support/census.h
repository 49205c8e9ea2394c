/* SPDX-License-Identifier: MIT */
/* What this process holds of the kernel: threads, descriptors, mappings. */
#ifndef TESTS_SUPPORT_CENSUS_H
#define TESTS_SUPPORT_CENSUS_H

#include <stdbool.h>

struct census {
    int threads;
    int descriptors;
    int mappings; /* 0 under a sanitizer, which maps as it likes */
};

/* Make the C library's allocator map the same however many threads ask it; once, at the start. */
void census_prepare(void);

struct census census_take(void);

/*
 * Whether the process holds what `before` says. What the kernel removes a moment late (threads of
 * io-wq, rings) is waited for, a few seconds at most; then both are printed.
 */
bool census_returns_to(const struct census *before);

#endif
