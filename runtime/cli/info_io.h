/* SPDX-License-Identifier: MIT */
/* The io section of numaperf info: what of io_uring works here. */
#ifndef NUMAPERF_CLI_INFO_IO_H
#define NUMAPERF_CLI_INFO_IO_H

#include <numaperf/topology.h>

#include <jansson.h>

/* NULL: the library's last error. */
json_t *info_read_io(const numaperf_topology_t *topology);
void info_print_io(const json_t *facts);

#endif
