/* SPDX-License-Identifier: MIT */
/* Linked into every test program: NUMAPERF_TEST='region_hard*' runs the cases that match. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

__attribute__((constructor)) static void filter_cases(void)
{
    const char *pattern = getenv("NUMAPERF_TEST");
    if (pattern != NULL)
        cmocka_set_test_filter(pattern);
}
