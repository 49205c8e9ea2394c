/* SPDX-License-Identifier: MIT */
/* Loading of size-prefixed structs: the one reader of every public config. */
#ifndef NUMAPERF_BASE_CONFIG_H
#define NUMAPERF_BASE_CONFIG_H

#include <stddef.h>

/*
 * Copy the caller's size-prefixed struct into `out`, of `out_size` bytes. A tail the caller does
 * not know reads as zero; one that we do not know must be zero.
 *
 * Returns:  0; -EINVAL shorter than `min_size`; -E2BIG. `name` is the operation in the error.
 */
int numaperf__config_load(void *out, size_t out_size, size_t min_size, const void *config,
                          const char *name);

/*
 * Copy a result of `result_size` bytes to the caller's size-prefixed struct, at most as many bytes
 * as its `size` says; its `size` is kept.
 *
 * Returns:  0; -EINVAL `out` is NULL or its size is below `min_size`.
 */
int numaperf__result_store(void *out, size_t min_size, const void *result, size_t result_size,
                           const char *name);

#endif
