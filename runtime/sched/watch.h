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

/* The state of a thread of this process, as in proc(5), and its CPU time in clock ticks; false when
   it has ended, or nothing tells. */
bool numaperf__watch_ask(int thread_id, char *out_state, uint64_t *out_ticks);

/* Look at every worker; whether one of them, the auditor or the stall detector has been in a
   callback for long. */
bool numaperf__watch_any_stuck(struct numaperf__watch *watch, uint64_t now_ns);

#endif
