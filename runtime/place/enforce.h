/* SPDX-License-Identifier: MIT */
/* The soft/hard decision; see <numaperf/enforce.h> for the public side. */
#ifndef NUMAPERF_PLACE_ENFORCE_H
#define NUMAPERF_PLACE_ENFORCE_H

#include <numaperf/enforce.h>

/*
 * The whole soft/hard choice. `found` is what a placement step reached; when it is not strict its
 * reason says why and `sys_errno` is the system's cause, or 0. In soft mode, or when strict, it is
 * copied to `out` and 0 returned; in hard mode a lower level is recorded as the last error of
 * `operation` and NUMAPERF_E_HARD_MODE returned, `out` untouched.
 */
int numaperf__enforce_settle(numaperf_mode_t mode, const numaperf_enforcement_t *found,
                             int sys_errno, const char *operation, numaperf_enforcement_t *out);

/* Fill a level, and its reason from a printf format; strict takes "" as its format. */
void numaperf__enforce_set(numaperf_enforcement_t *out, numaperf_enforcement_level_t level,
                           const char *reason, ...) __attribute__((format(printf, 3, 4)));

/* Keep in `into` the lower of both levels; at the same level the reason that was there first. */
void numaperf__enforce_lower(numaperf_enforcement_t *into, const numaperf_enforcement_t *other);

#endif
