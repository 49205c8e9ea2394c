/* SPDX-License-Identifier: MIT */
/*
 * The soft/hard decision.
 *
 * A placement step finds a level and a reason; numaperf__enforce_settle() is the one place that
 * turns them into success or refusal. Invariant: a level is strict exactly when its reason is
 * empty, so a lower level always says why. Nothing here has state: any thread may call any
 * function on structs that no other thread writes.
 */
#include "place/enforce.h"

#include "base/assert.h"
#include "base/error.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

_Static_assert(sizeof(numaperf_enforcement_t) == 164, "part of the ABI");
_Static_assert(offsetof(numaperf_enforcement_t, reason) == 4, "part of the ABI");

bool numaperf_is_strict(const numaperf_enforcement_t *enforcement)
{
    return enforcement != NULL && enforcement->level == NUMAPERF_ENFORCE_STRICT;
}

bool numaperf_is_best_effort(const numaperf_enforcement_t *enforcement)
{
    return enforcement != NULL && enforcement->level == NUMAPERF_ENFORCE_BEST_EFFORT;
}

bool numaperf_is_none(const numaperf_enforcement_t *enforcement)
{
    return enforcement != NULL && enforcement->level == NUMAPERF_ENFORCE_NONE;
}

const char *numaperf_enforcement_reason(const numaperf_enforcement_t *enforcement)
{
    if (enforcement == NULL)
        return "there is no enforcement record";
    return numaperf_is_strict(enforcement) ? NULL : enforcement->reason;
}

const char *numaperf_enforcement_level_name(numaperf_enforcement_level_t level)
{
    switch (level) {
    case NUMAPERF_ENFORCE_NONE:
        return "none";
    case NUMAPERF_ENFORCE_BEST_EFFORT:
        return "best effort";
    case NUMAPERF_ENFORCE_STRICT:
        return "strict";
    default:
        return "unknown";
    }
}

void numaperf__enforce_set(numaperf_enforcement_t *out, numaperf_enforcement_level_t level,
                           const char *reason, ...)
{
    va_list args;
    va_start(args, reason);
    /* A reason longer than the field is cut: its start names the operation and the node or PU. */
    (void)vsnprintf(out->reason, sizeof(out->reason), reason, args);
    va_end(args);
    out->level = level;
    NUMAPERF_ASSERT((level == NUMAPERF_ENFORCE_STRICT) == (out->reason[0] == '\0'));
}

void numaperf__enforce_lower(numaperf_enforcement_t *into, const numaperf_enforcement_t *other)
{
    if (other->level < into->level)
        *into = *other;
}

int numaperf__enforce_settle(numaperf_mode_t mode, const numaperf_enforcement_t *found,
                             int sys_errno, const char *operation, numaperf_enforcement_t *out)
{
    NUMAPERF_ASSERT(mode == NUMAPERF_MODE_SOFT || mode == NUMAPERF_MODE_HARD);
    NUMAPERF_ASSERT(numaperf_is_strict(found) == (found->reason[0] == '\0'));
    NUMAPERF_ASSERT(sys_errno >= 0);

    if (mode == NUMAPERF_MODE_HARD && !numaperf_is_strict(found))
        return numaperf__fail(NUMAPERF_E_HARD_MODE, sys_errno, operation, "%s", found->reason);

    if (!numaperf_is_strict(found))
        numaperf__log(NUMAPERF_LOG_WARN, "%s: %s: %s", operation,
                      numaperf_enforcement_level_name(found->level), found->reason);
    *out = *found;
    return 0;
}
