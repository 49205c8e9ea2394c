/* SPDX-License-Identifier: MIT */
/* Whole text files, read at once: those of /sys and /proc, and files users hand in. */
#ifndef NUMAPERF_TOPO_TEXTFILE_H
#define NUMAPERF_TOPO_TEXTFILE_H

#include <stddef.h>
#include <stdint.h>

/* Enough for the longest list of ids that /sys or /proc can print. */
#define NUMAPERF_KERNEL_TEXT_MAX ((size_t)256 * 1024)

/*
 * Read a regular file of at most `size_max` bytes; never blocks on a pipe or a device. The text is
 * the caller's to free() and ends with a zero that `out_size`, which may be NULL, does not count.
 *
 * Returns:  0; -errno, -EFBIG when it is longer, -ENOTSUP when it is no regular file. Nothing is
 *           recorded as the last error: most callers expect files to be absent.
 */
int numaperf__textfile_read(const char *path, size_t size_max, char **out_text, size_t *out_size);

/* The value of the line "name: value" in `text`, cut off there with a zero; NULL without one. */
char *numaperf__textfile_field(char *text, const char *name);

/* Read a decimal number at `*text` and move past it. Returns 0, or -EINVAL when there is none. */
int numaperf__textfile_number(const char **text, uint64_t *out_number);

#endif
