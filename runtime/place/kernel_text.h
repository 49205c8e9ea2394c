/* SPDX-License-Identifier: MIT */
/* Small text files of /proc and /sys. */
#ifndef NUMAPERF_PLACE_KERNEL_TEXT_H
#define NUMAPERF_PLACE_KERNEL_TEXT_H

#include <stddef.h>
#include <stdint.h>

/*
 * Read a file into `buf`, cut when it is longer, always terminated, its last newline removed.
 * Returns the length or -errno.
 */
int numaperf__kernel_text_read(const char *path, char *buf, size_t size);

/*
 * A field of a thread's "stat" file, counted from 1 as in proc(5), from 3 (the state) on, in
 * `text`; NULL when it has none.
 */
const char *numaperf__kernel_text_stat_field(const char *text, int field);

/* The number that follows `key` and blanks in `text`, at its first occurrence. 0 or -ENOENT. */
int numaperf__kernel_text_value(const char *text, const char *key, uint64_t *out);

#endif
