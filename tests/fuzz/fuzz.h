/* SPDX-License-Identifier: MIT */
/* What every fuzz target has. */
#ifndef NUMAPERF_TESTS_FUZZ_H
#define NUMAPERF_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The fuzzer takes an abort for a find, and keeps the input. */
static inline void check(bool holds)
{
    if (!holds)
        abort();
}

#endif
