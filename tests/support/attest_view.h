/* SPDX-License-Identifier: MIT */
/* Attestations for tests: asked for, taken apart, and the runtimes they are asked of. */
#ifndef TESTS_SUPPORT_ATTEST_VIEW_H
#define TESTS_SUPPORT_ATTEST_VIEW_H

#include "support/runtimes.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Asked for, which must succeed, and read by jansson itself. For json_decref(). */
json_t *attest(numaperf_rt_t *rt);

/* What is at a path, "workers/0/parts/stack/last": keys, indexes, names of parts. */
__attribute__((format(printf, 2, 3))) json_t *at_path(json_t *root, const char *format, ...);
const char *text_of(json_t *value);
uint64_t number_of(json_t *value);

/* Whether a look's verdict is this one; prints what else it is. */
bool verdict_is(json_t *root, uint32_t worker, const char *part, const char *when,
                const char *verdict);

/* A box of this mode, privileges waived; and opening it, which must succeed. */
struct runtime_box box_with(numaperf_mode_t mode);
void box_open(struct runtime_box *box, const char *machine);

/* Give a thread one PU; -1: all that there are. */
void set_affinity(int thread_id, int cpu_only);
/* Whether no affinity is wider than a pin; then says so. */
bool has_one_pu(void);

#endif
