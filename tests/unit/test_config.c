/* SPDX-License-Identifier: MIT */
/* Size-prefixed structs: what an older and a newer caller's config and result become. */
#include "base/config.h"

#include <numaperf/error.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* As a later release knows it; the first release ended with `mode`. */
struct config {
    uint32_t size;
    uint32_t flags;
    uint64_t length;
    uint32_t mode;
    uint32_t added;
    uint64_t added_too;
};
#define CONFIG_MIN_SIZE offsetof(struct config, added)

/* Longer than the library's: from a caller newer still. */
union any_config {
    struct config config;
    unsigned char bytes[96];
};

static int load(struct config *out, const union any_config *config)
{
    return numaperf__config_load(out, sizeof(*out), CONFIG_MIN_SIZE, config, "test");
}

static void a_config_of_any_size_is_read_or_refused(void **state)
{
    (void)state;
    for (uint32_t size = 0; size <= sizeof(union any_config); size++) {
        /* A block of exactly that many bytes, so that a sanitizer sees a read beyond. */
        union any_config whole;
        memset(&whole, 0, sizeof(whole));
        memset(whole.bytes, 0x11, sizeof(struct config));
        whole.config.size = size;
        size_t room = size < sizeof(uint32_t) ? sizeof(uint32_t) : size;
        unsigned char *exact = malloc(room);
        assert_non_null(exact);
        memcpy(exact, &whole, room);

        struct config out, before;
        memset(&out, 0xa5, sizeof(out));
        before = out;
        int rc = numaperf__config_load(&out, sizeof(out), CONFIG_MIN_SIZE, exact, "test");
        if (size < CONFIG_MIN_SIZE) {
            assert_int_equal(rc, -EINVAL);
            assert_memory_equal(&out, &before, sizeof(out));
            assert_string_equal(numaperf_last_error()->operation, "test");
        } else {
            struct config expected = {0};
            memcpy(&expected, exact, size < sizeof(expected) ? size : sizeof(expected));
            assert_int_equal(rc, 0);
            assert_memory_equal(&out, &expected, sizeof(out));
        }
        free(exact);
    }
}

static void what_an_older_caller_does_not_know_reads_as_zero(void **state)
{
    (void)state;
    union any_config config;
    memset(&config, 0xff, sizeof(config));
    config.config.size = CONFIG_MIN_SIZE;
    config.config.length = 4096;
    struct config out;
    memset(&out, 0xa5, sizeof(out));
    assert_int_equal(load(&out, &config), 0);
    assert_int_equal(out.length, 4096);
    assert_int_equal(out.mode, UINT32_MAX);
    assert_int_equal(out.added, 0);
    assert_int_equal(out.added_too, 0);
}

static void a_newer_field_that_is_used_is_refused_and_named(void **state)
{
    (void)state;
    for (size_t i = sizeof(struct config); i < sizeof(union any_config); i++) {
        union any_config config;
        memset(&config, 0, sizeof(config));
        config.config.size = sizeof(config);
        config.bytes[i] = 1;
        struct config out, before;
        memset(&out, 0xa5, sizeof(out));
        before = out;
        assert_int_equal(load(&out, &config), -E2BIG);
        assert_memory_equal(&out, &before, sizeof(out));
        char byte[32];
        (void)snprintf(byte, sizeof(byte), "byte %zu ", i);
        assert_non_null(strstr(numaperf_last_error()->reason, byte));

        /* Beyond what the caller says it knows, nothing is looked at. */
        config.config.size = (uint32_t)i;
        assert_int_equal(load(&out, &config), 0);
    }
}

static void a_result_never_exceeds_what_the_caller_knows(void **state)
{
    (void)state;
    struct config result;
    memset(&result, 0x22, sizeof(result));
    for (uint32_t size = 0; size <= sizeof(union any_config); size++) {
        union any_config out, before;
        memset(&out, 0xa5, sizeof(out));
        out.config.size = size;
        before = out;
        int rc = numaperf__result_store(&out, CONFIG_MIN_SIZE, &result, sizeof(result), "test");
        if (size < CONFIG_MIN_SIZE) {
            assert_int_equal(rc, -EINVAL);
            assert_memory_equal(&out, &before, sizeof(out));
            continue;
        }
        size_t known = size < sizeof(result) ? size : sizeof(result);
        assert_int_equal(rc, 0);
        assert_int_equal(out.config.size, size);
        assert_memory_equal(out.bytes + 4, (unsigned char *)&result + 4, known - 4);
        assert_memory_equal(out.bytes + known, before.bytes + known, sizeof(out) - known);
    }
    assert_int_equal(numaperf__result_store(NULL, CONFIG_MIN_SIZE, &result, sizeof(result), "test"),
                     -EINVAL);
    assert_string_equal(numaperf_last_error()->operation, "test");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_of_any_size_is_read_or_refused),
        cmocka_unit_test(what_an_older_caller_does_not_know_reads_as_zero),
        cmocka_unit_test(a_newer_field_that_is_used_is_refused_and_named),
        cmocka_unit_test(a_result_never_exceeds_what_the_caller_knows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
