/* SPDX-License-Identifier: MIT */
/* PUs for the kernel threads that submit for the workers' rings. */
#ifndef NUMAPERF_SCHED_SQPOLL_H
#define NUMAPERF_SCHED_SQPOLL_H

#include <numaperf/runtime.h>

/*
 * With NUMAPERF_LOOP_SQPOLL, give each worker a PU of its node that no worker has, after the layout
 * was made. 0; recorded where a poller would harm more than help: NUMAPERF_E_HARD_MODE, in soft
 * mode -EINVAL.
 */
int numaperf__workers_plan_sqpoll(numaperf_rt_t *rt);

#endif
