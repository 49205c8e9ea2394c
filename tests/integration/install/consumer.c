/* SPDX-License-Identifier: MIT */
/* A user's program: prints the version and what a set of PUs looks like. */
#include <numaperf.h>

#include <stdio.h>
#include <string.h>

int main(void)
{
    numaperf_cpuset_t set;
    char text[32];
    if (numaperf_cpuset_parse("0-2,8", &set) != 0 || numaperf_cpuset_count(&set) != 4)
        return 1;
    if (numaperf_cpuset_format(&set, text, sizeof(text)) != 5 || strcmp(text, "0-2,8") != 0)
        return 2;
    if (strcmp(numaperf_version_string(), NUMAPERF_VERSION_STRING) != 0)
        return 3;

    numaperf_topology_t *topology = NULL;
    if (numaperf_topology_from_synthetic("numa:2 pu:1", &topology) != 0)
        return 4;
    size_t count = numaperf_topology_node_count(topology);
    numaperf_topology_destroy(topology);
    printf("%s %zu\n", numaperf_version_string(), count);
    return 0;
}
