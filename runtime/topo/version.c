/* SPDX-License-Identifier: MIT */
/* Version of hwloc as loaded: 8 bits each of revision, minor and, above them, major. Any thread. */
#include "topo/version.h"

#include <hwloc.h>
#include <stdio.h>

void numaperf__hwloc_api_version(char *out, size_t size)
{
    unsigned version = hwloc_get_api_version();
    (void)snprintf(out, size, "%u.%u.%u", version >> 16, version >> 8 & 0xff, version & 0xff);
}
