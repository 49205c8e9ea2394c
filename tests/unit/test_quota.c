/* SPDX-License-Identifier: MIT */
/* CPU quotas: what the text says, and that reading finds this process's group or none. */
#include "place/quota.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void quota_text_is_thousandths_of_a_pu(void **state)
{
    (void)state;
    const struct {
        const char *text;
        uint64_t milli_pus;
    } cases[] = {
        {"max 100000", NUMAPERF__QUOTA_NONE},
        {"max", NUMAPERF__QUOTA_NONE},
        {"", NUMAPERF__QUOTA_NONE},
        {"100000 100000", 1000},
        {"50000 100000", 500},
        {"1000 1000000", 1},
        {"250000 100000", 2500},
        {"6400000 100000", 64000},
        {"1 3000", 0},                       /* less than a thousandth */
        {"-1 100000", NUMAPERF__QUOTA_NONE}, /* as version 1 says none */
        {"0 100000", NUMAPERF__QUOTA_NONE},  /* no kernel says so */
        {"50000", NUMAPERF__QUOTA_NONE},     /* without a period it says nothing */
        {"50000 0", NUMAPERF__QUOTA_NONE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_true(numaperf__quota_parse(cases[i].text) == cases[i].milli_pus);
}

static void quota_that_is_there_names_its_file(void **state)
{
    (void)state;
    char file[256] = "untouched";
    uint64_t quota = numaperf__quota_milli_pus(file, sizeof(file));
    if (quota == NUMAPERF__QUOTA_NONE)
        assert_string_equal(file, "untouched");
    else
        assert_non_null(strstr(file, "/cpu."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quota_text_is_thousandths_of_a_pu),
        cmocka_unit_test(quota_that_is_there_names_its_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
