/* SPDX-License-Identifier: MIT */
/* Dates of HTTP (RFC 9110, 5.6.7). */
#ifndef EXAMPLES_HTTP_DATE_H
#define EXAMPLES_HTTP_DATE_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define DATE_BYTES 30 /* "Sun, 06 Nov 1994 08:49:37 GMT" and NUL */

void date_format(time_t when, char out[DATE_BYTES]);

/* Any of the three forms; false: it is none. */
bool date_parse(const char *text, size_t length, time_t *out);

#endif
