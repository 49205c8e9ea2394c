/* SPDX-License-Identifier: MIT */
/*
 * Mode is what a caller asks for, level is what was achieved. A level is strict only after the
 * placement was read back from the kernel.
 */
#ifndef NUMAPERF_ENFORCE_H
#define NUMAPERF_ENFORCE_H

#include <numaperf/version.h>

#include <stdbool.h>

NUMAPERF_BEGIN_DECLS

typedef enum {
    NUMAPERF_MODE_SOFT = 0, /* do what is possible and report the level reached */
    NUMAPERF_MODE_HARD = 1  /* fail unless the placement is guaranteed */
} numaperf_mode_t;

typedef enum {
    NUMAPERF_ENFORCE_NONE = 0,        /* nothing holds the placement */
    NUMAPERF_ENFORCE_BEST_EFFORT = 1, /* asked of the kernel, not (wholly) guaranteed */
    NUMAPERF_ENFORCE_STRICT = 2       /* set and read back */
} numaperf_enforcement_level_t;

typedef struct numaperf_enforcement {
    numaperf_enforcement_level_t level;
    char reason[160]; /* why the level is not strict; empty when it is */
} numaperf_enforcement_t;

/**
 * Whether the placement was set and read back.
 *
 * Returns:  true at level strict; false for NULL.
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_is_strict(const numaperf_enforcement_t *enforcement);

/**
 * Whether the placement was asked of the kernel but is not guaranteed.
 *
 * Returns:  true at level best effort; false for NULL.
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_is_best_effort(const numaperf_enforcement_t *enforcement);

/**
 * Whether nothing holds the placement.
 *
 * Returns:  true at level none; false for NULL.
 * Threads:  any.
 */
NUMAPERF_API bool numaperf_is_none(const numaperf_enforcement_t *enforcement);

/**
 * Why the level is not strict.
 *
 * Returns:  the reason; NULL when the level is strict.
 * Owner:    `enforcement`.
 * Threads:  any.
 */
NUMAPERF_API const char *numaperf_enforcement_reason(const numaperf_enforcement_t *enforcement);

/**
 * The level as a word: "strict", "best effort", "none".
 *
 * Returns:  a constant string; "unknown" for a number that is no level.
 * Owner:    the library.
 * Threads:  any.
 */
NUMAPERF_API const char *numaperf_enforcement_level_name(numaperf_enforcement_level_t level);

NUMAPERF_END_DECLS
#endif
