/* SPDX-License-Identifier: MIT */
/* From a request target to the name of a file beneath the root. Pure functions. */
#ifndef EXAMPLES_HTTP_PATH_H
#define EXAMPLES_HTTP_PATH_H

#include "limits.h"

#include <stddef.h>

struct path {
    size_t length;
    char text[HTTP_PATH_MAX]; /* "dir/file", ends with NUL; never empty, never absolute */
};

/* The path part of a target: "/a?b" and "http://host/a" are "/a". Length 0: it has none. */
size_t path_of_target(const char *target, size_t length, const char **out_path);

/*
 * Decodes a path: no escape is left, slashes are merged, index.html is added to a directory.
 * 0, or the HTTP status that refuses it: 400 bad escapes and control characters, 404 what is never
 * served (a name that begins with a dot, an escaped slash), 414.
 */
unsigned path_decode(const char *raw, size_t length, struct path *out);

/* The same path in a header, "/dir/file" with escapes: as snprintf(). */
size_t path_encode(const struct path *path, char *out, size_t size);

#endif
