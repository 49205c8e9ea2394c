/* SPDX-License-Identifier: MIT */
/* A stretch of this process's memory, as the steps of a region's life hand it to each other. */
#ifndef NUMAPERF_PLACE_RANGE_H
#define NUMAPERF_PLACE_RANGE_H

#include <stddef.h>

struct numaperf__range {
    char *base;        /* a multiple of page_bytes */
    size_t length;     /* bytes, a multiple of page_bytes, > 0 */
    size_t page_bytes; /* of one page of the mapping: the base page size, 2 MiB or 1 GiB */
};

/* The base page size of this machine. */
size_t numaperf__page_bytes(void);

#endif
