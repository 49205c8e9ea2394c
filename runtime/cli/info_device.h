/* SPDX-License-Identifier: MIT */
/* The devices of numaperf info: a section of its own size. */
#ifndef NUMAPERF_CLI_INFO_DEVICE_H
#define NUMAPERF_CLI_INFO_DEVICE_H

#include <numaperf/topology.h>

#include <jansson.h>

/* NULL: the library's last error. */
json_t *info_read_devices(const numaperf_topology_t *topology);

void info_print_devices(const json_t *facts);

#endif
