// SPDX-License-Identifier: MIT
// The same from C++: the initializers and enumerations have to compile there, too.
#include <numaperf.h>

#include <cstdio>
#include <cstring>

int main()
{
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = 4096;
    numaperf_region_t *region = nullptr;
    if (numaperf_region_create(&config, &region) != 0)
        return 1;
    std::memset(numaperf_region_data(region), 1, numaperf_region_length(region));
    numaperf_region_destroy(region);

    config.length = 0;
    if (numaperf_region_create(&config, &region) >= 0 || numaperf_last_error()->code >= 0)
        return 2;

    numaperf_topology_t *topology = nullptr;
    if (numaperf_topology_from_synthetic("numa:2 pu:1", &topology) != 0)
        return 3;
    std::printf("%s %zu\n", numaperf_version_string(), numaperf_topology_node_count(topology));
    numaperf_topology_destroy(topology);
    return 0;
}
