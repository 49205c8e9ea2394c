/* SPDX-License-Identifier: MIT */
/* What a request wants of a file: all of it, a part, or nothing if it has it (RFC 9110, 13, 14). */
#ifndef EXAMPLES_HTTP_CONDITION_H
#define EXAMPLES_HTTP_CONDITION_H

#include "request.h"

#include <time.h>

/* A version of a file. */
struct validator {
    const char *etag; /* with its quotes; strong */
    size_t etag_length;
    time_t modified;
    uint64_t size; /* bytes of the file */
};

struct part {
    uint64_t offset, length;
};

/* The status: 200, 206, 304, 412 or 416. `out` is the part that a body is, with 200 and 206. */
unsigned condition_status(const struct request *request, const struct validator *file,
                          struct part *out);

#endif
