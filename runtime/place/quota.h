/* SPDX-License-Identifier: MIT */
/* How much CPU time the cgroups of this process allow it. */
#ifndef NUMAPERF_PLACE_QUOTA_H
#define NUMAPERF_PLACE_QUOTA_H

#include <stddef.h>
#include <stdint.h>

#define NUMAPERF__QUOTA_NONE UINT64_MAX

/*
 * The least that this process's group or one above it allows, in thousandths of a PU;
 * NUMAPERF__QUOTA_NONE when none limits it, or none can be read. `out_file`: the file that says so.
 */
uint64_t numaperf__quota_milli_pus(char *out_file, size_t size);

/* The limit that the text of cpu.max states, "max 100000" or "50000 100000". */
uint64_t numaperf__quota_parse(const char *text);

#endif
