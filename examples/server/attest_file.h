/* SPDX-License-Identifier: MIT */
/* An attestation in a file. */
#ifndef EXAMPLES_SERVER_ATTEST_FILE_H
#define EXAMPLES_SERVER_ATTEST_FILE_H

#include <numaperf.h>

#include <stddef.h>

/* Writes it under another name beside `path`, then renames it: whoever reads `path` sees all of it
   or what was there before. < 0: nothing is left of it, and `why` says why. */
int attest_file_write(numaperf_rt_t *rt, const char *path, char *why, size_t size);

#endif
