/* SPDX-License-Identifier: MIT */
/* Small files of /proc and /sys, and sets as JSON. */
#ifndef NUMAPERF_CLI_PROCFS_H
#define NUMAPERF_CLI_PROCFS_H

#include <numaperf/cpuset.h>

#include <jansson.h>
#include <stddef.h>

/* The whole file as text, for the caller to free, relative to `directory_fd` (or AT_FDCWD).
   NULL, and errno, when it cannot be read. */
char *procfs_read(int directory_fd, const char *path);

/* A number at the beginning of a file; -1 when it cannot be read. */
long procfs_read_number(const char *path);

/* The value of "name:" in a status file, for the caller to free, or NULL. */
char *procfs_field(const char *text, const char *name);

/* "0-3,8" */
json_t *procfs_cpuset_json(const numaperf_cpuset_t *cpus);
json_t *procfs_nodemask_json(const numaperf_nodemask_t *nodes);

/* The nodes that this thread may allocate on, as such a list; null when nothing tells. */
json_t *procfs_own_memory_nodes(void);

#endif
