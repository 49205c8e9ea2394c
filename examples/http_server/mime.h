/* SPDX-License-Identifier: MIT */
/* The media type of a file, by its name. */
#ifndef EXAMPLES_HTTP_MIME_H
#define EXAMPLES_HTTP_MIME_H

#include <stddef.h>

const char *mime_type(const char *path, size_t length);

#endif
