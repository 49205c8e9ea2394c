/* SPDX-License-Identifier: MIT */
/* Version of the library, and the two macros every public header uses. */
#ifndef NUMAPERF_VERSION_H
#define NUMAPERF_VERSION_H

#define NUMAPERF_VERSION_MAJOR 0
#define NUMAPERF_VERSION_MINOR 1
#define NUMAPERF_VERSION_PATCH 0
#define NUMAPERF_VERSION_STRING "0.1.0"
#define NUMAPERF_VERSION_NUMBER \
    (NUMAPERF_VERSION_MAJOR * 10000 + NUMAPERF_VERSION_MINOR * 100 + NUMAPERF_VERSION_PATCH)

#if defined(__GNUC__)
#define NUMAPERF_API __attribute__((visibility("default")))
#else
#define NUMAPERF_API
#endif

#ifdef __cplusplus
#define NUMAPERF_BEGIN_DECLS extern "C" {
#define NUMAPERF_END_DECLS }
#else
#define NUMAPERF_BEGIN_DECLS
#define NUMAPERF_END_DECLS
#endif

NUMAPERF_BEGIN_DECLS

/**
 * Version of the library that is loaded, in the form of NUMAPERF_VERSION_NUMBER.
 *
 * Returns:  major * 10000 + minor * 100 + patch.
 * Threads:  signal.
 */
NUMAPERF_API int numaperf_version(void);

/**
 * The same as text, "major.minor.patch".
 *
 * Returns:  a constant string.
 * Owner:    the library.
 * Threads:  signal.
 */
NUMAPERF_API const char *numaperf_version_string(void);

NUMAPERF_END_DECLS
#endif
