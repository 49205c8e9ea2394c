/* SPDX-License-Identifier: MIT */
/*
 * System calls that are refused to threads of the library alone: the caller of start, and libuv's
 * pool, are let through. The program gets every pthread_create() of the rooms it links.
 */
#ifndef TESTS_SUPPORT_WORKER_FILTER_H
#define TESTS_SUPPORT_WORKER_FILTER_H

#include "support/sandbox.h"

/*
 * The next threads that the library creates, but for the first `skip` of them, are under these
 * rules, which must stay; 0 rules: none is any more.
 */
void worker_filter_set(const struct sandbox_rule *rules, size_t count, int skip);

/* How many threads came under the rules since. */
int worker_filter_hits(void);

#endif
