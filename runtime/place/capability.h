/* SPDX-License-Identifier: MIT */
/* What hard mode requires of process and kernel, for the rooms below. */
#ifndef NUMAPERF_PLACE_CAPABILITY_H
#define NUMAPERF_PLACE_CAPABILITY_H

#include <numaperf/capabilities.h>

#include <stdbool.h>

/*
 * The documented requirements of hard mode: CAP_SYS_ADMIN and CAP_SYS_NICE unless `waive`, and
 * kernel.numa_balancing = 0. Returns 0, or NUMAPERF_E_HARD_MODE with the first missing one
 * recorded (EPERM for a privilege).
 */
int numaperf__hard_mode_check(bool waive);

/* kernel.numa_balancing, a bit mask; 0 also when this kernel has none; -errno. */
int numaperf__numa_balancing(void);

/* A probe outcome for an errno that io_uring_setup gave: SECCOMP, SYSCTL, TOO_OLD, ... */
uint32_t numaperf__io_uring_probe_outcome(int sys_errno);

#endif
