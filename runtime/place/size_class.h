/* SPDX-License-Identifier: MIT */
/*
 * Size classes: every 16 bytes up to 128, then four to a doubling, so that rounding up wastes at
 * most a fifth. A size that is a multiple of a power of two falls into a class that is one too,
 * which is all that aligned allocation needs.
 */
#ifndef NUMAPERF_PLACE_SIZE_CLASS_H
#define NUMAPERF_PLACE_SIZE_CLASS_H

#include <stddef.h>
#include <stdint.h>

enum {
    NUMAPERF__SIZE_CLASS_COUNT = 39,
    NUMAPERF__SIZE_CLASS_MAX_BYTES = 28672 /* two to a span; above, a block has its own region */
};

/* The smallest class that holds `size`, 1 .. NUMAPERF__SIZE_CLASS_MAX_BYTES. */
static inline uint32_t numaperf__size_class(size_t size)
{
    uint32_t last = (uint32_t)size - 1;
    if (last < 128)
        return last / 16;
    uint32_t log2 = 31 - (uint32_t)__builtin_clz(last);
    return 8 + (log2 - 7) * 4 + (last >> (log2 - 2)) - 4;
}

static inline uint32_t numaperf__size_class_bytes(uint32_t size_class)
{
    if (size_class < 8)
        return (size_class + 1) * 16;
    uint32_t above = size_class - 8;
    return (5 + above % 4) << (above / 4 + 5);
}

#endif
