/* SPDX-License-Identifier: MIT */
/* Recording failures and sending messages; see <numaperf/error.h> for the public side. */
#ifndef NUMAPERF_BASE_ERROR_H
#define NUMAPERF_BASE_ERROR_H

#include <numaperf/error.h>

/*
 * Record a failure of this thread and return `code`. For cold paths: never for -EAGAIN of a full
 * queue. `reason` is a printf format: plain words, with the node or PU it concerns.
 */
int numaperf__fail(int code, int sys_errno, const char *operation, const char *reason, ...)
    __attribute__((format(printf, 4, 5), cold));

/* Copy a record made on another thread into this one's; returns its code. */
int numaperf__fail_copy(const numaperf_error_t *error);

/* Send a message to the user's log function, if there is one. */
void numaperf__log(int level, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

#endif
