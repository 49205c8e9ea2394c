/* SPDX-License-Identifier: MIT */
/*
 * Assertions state this library's own invariants; user input is never asserted. NUMAPERF_ASSERT
 * stays on in release builds, NUMAPERF_ASSERT_HOT is for per-operation paths and is off there.
 */
#ifndef NUMAPERF_BASE_ASSERT_H
#define NUMAPERF_BASE_ASSERT_H

_Noreturn void numaperf__assert_failed(const char *expression, const char *file, int line);

#define NUMAPERF_ASSERT(expression) \
    ((expression) ? (void)0 : numaperf__assert_failed(#expression, __FILE__, __LINE__))

#ifdef NDEBUG
#define NUMAPERF_ASSERT_HOT(expression) ((void)sizeof(expression))
#else
#define NUMAPERF_ASSERT_HOT(expression) NUMAPERF_ASSERT(expression)
#endif

#endif
