/* SPDX-License-Identifier: MIT */
/* Which libuv and liburing this process runs with, which need not be those it was built with. */
#ifndef NUMAPERF_IO_VERSION_H
#define NUMAPERF_IO_VERSION_H

#include <stdbool.h>
#include <stddef.h>

/* "1.44.2"; a constant string. */
const char *numaperf__uv_version(void);

/* "2.3"; false, `out` untouched, where liburing does not tell: one before 2.4 linked statically. */
bool numaperf__uring_version(char *out, size_t size);

#endif
