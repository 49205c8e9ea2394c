/* SPDX-License-Identifier: MIT */
/*
 * Any struct with any `size` to the one reader of configs, and any `size` to the one writer of
 * results: against the rule written out byte by byte. The caller's memory ends where its size
 * says, so that a byte too far is found.
 */
#include "base/config.h"

#include <numaperf/error.h>

#include "fuzz.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES 48 /* what the library knows */
#define CONFIG_MIN 16   /* the first release's */

/* The caller's struct, exactly as long as its size says, and at least long enough to hold that. */
static uint8_t *caller_struct(const uint8_t *data, size_t length, uint32_t *out_size)
{
    uint32_t claimed = (uint32_t)length;
    uint8_t *config = malloc(length);
    check(config != NULL);
    memcpy(config, data, length);
    memcpy(config, &claimed, sizeof(claimed));
    *out_size = claimed;
    return config;
}

static int expected_result(const uint8_t *config, uint32_t size)
{
    if (size < CONFIG_MIN)
        return -EINVAL;
    for (uint32_t i = CONFIG_BYTES; i < size; i++) {
        if (config[i] != 0)
            return -E2BIG;
    }
    return 0;
}

static void check_load(const uint8_t *config, uint32_t size)
{
    uint8_t loaded[CONFIG_BYTES];
    uint8_t untouched[CONFIG_BYTES];
    memset(loaded, 0x5a, sizeof(loaded));
    memset(untouched, 0x5a, sizeof(untouched));
    int rc = numaperf__config_load(loaded, sizeof(loaded), CONFIG_MIN, config, "fuzz");
    check(rc == expected_result(config, size));
    if (rc < 0) {
        check(numaperf_last_error()->code == rc);
        check(memcmp(loaded, untouched, sizeof(loaded)) == 0);
        return;
    }
    for (uint32_t i = (uint32_t)sizeof(size); i < CONFIG_BYTES; i++)
        check(loaded[i] == (i < size ? config[i] : 0));
}

static void check_store(uint8_t *out, uint32_t size)
{
    uint8_t result[CONFIG_BYTES];
    uint8_t before[CONFIG_BYTES];
    memset(result, 0xa5, sizeof(result));
    memcpy(before, out, size < CONFIG_BYTES ? size : CONFIG_BYTES);
    int rc = numaperf__result_store(out, CONFIG_MIN, result, sizeof(result), "fuzz");
    check(rc == (size < CONFIG_MIN ? -EINVAL : 0));
    check(memcmp(out, before, sizeof(size)) == 0);
    for (uint32_t i = (uint32_t)sizeof(size); i < size && i < CONFIG_BYTES; i++)
        check(out[i] == (rc == 0 ? 0xa5 : before[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < sizeof(uint32_t))
        return 0;
    uint32_t claimed = 0;
    uint8_t *config = caller_struct(data, size, &claimed);
    check_load(config, claimed);
    check_store(config, claimed);
    free(config);
    return 0;
}
