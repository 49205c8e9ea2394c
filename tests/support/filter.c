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

/*
 * What thread sanitizer takes for races because it does not see raw system calls: libuv closes
 * descriptors by them, so a number that is used again looks like a race between the two that
 * opened it, or that used and closed it (opendir() makes a descriptor unseen, too); liburing maps
 * rings by them, so an address that is used again looks like a race between the two rings. Neither
 * list has a function that calls back, so nothing else is hidden.
 */
const char *__tsan_default_suppressions(void);

__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void)
{
    return "race:epoll_create1\n"
           "race:eventfd\n"
           "race:closedir\n"
           "race:numaperf__kernel_text_read\n"
           "race:pipe2\n"
           "race:ring_prep\n"
           "race:ring_sqe\n"
           "race:ring_collect\n";
}
