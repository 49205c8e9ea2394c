/* SPDX-License-Identifier: MIT */
/* Which hwloc this process runs with. */
#ifndef NUMAPERF_TOPO_VERSION_H
#define NUMAPERF_TOPO_VERSION_H

#include <stddef.h>

/* Its API version, "2.8.0": the only one that hwloc tells at run time. */
void numaperf__hwloc_api_version(char *out, size_t size);

#endif
