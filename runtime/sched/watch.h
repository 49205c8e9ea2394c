/* SPDX-License-Identifier: MIT */
/* How a stop tells a callback that does not return from a worker that is on its way. */
#ifndef NUMAPERF_SCHED_WATCH_H
#define NUMAPERF_SCHED_WATCH_H

#include "sched/sched.h"

#include <stdbool.h>
#include <stdint.h>

struct numaperf__watch;

/* NULL when there is no memory. */
struct numaperf__watch *numaperf__watch_create(const numaperf_rt_t *rt, uint64_t now_ns);
void numaperf__watch_destroy(struct numaperf__watch *watch);

/* Look at every worker; whether one of them, or the auditor, has been in a callback for long. */
bool numaperf__watch_any_stuck(struct numaperf__watch *watch, uint64_t now_ns);

#endif
