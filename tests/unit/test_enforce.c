/* SPDX-License-Identifier: MIT */
/* The soft/hard decision, as a table: mode and level in, success or refusal out. */
#include "place/enforce.h"

#include <numaperf/error.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static numaperf_enforcement_t level_of(numaperf_enforcement_level_t level)
{
    numaperf_enforcement_t found;
    numaperf__enforce_set(&found, level, "%s",
                          level == NUMAPERF_ENFORCE_STRICT ? "" : "node 3: too little memory");
    return found;
}

static void settle_soft_reports_every_level(void **state)
{
    (void)state;
    for (int i = NUMAPERF_ENFORCE_NONE; i <= NUMAPERF_ENFORCE_STRICT; i++) {
        numaperf_enforcement_t found = level_of((numaperf_enforcement_level_t)i);
        numaperf_enforcement_t out = {NUMAPERF_ENFORCE_NONE, "untouched"};
        assert_int_equal(numaperf__enforce_settle(NUMAPERF_MODE_SOFT, &found, EIO, "mbind", &out),
                         0);
        assert_int_equal(out.level, i);
        assert_string_equal(out.reason, found.reason);
    }
}

static void settle_hard_accepts_only_strict(void **state)
{
    (void)state;
    numaperf_enforcement_t found = level_of(NUMAPERF_ENFORCE_STRICT);
    numaperf_enforcement_t out = {NUMAPERF_ENFORCE_NONE, "untouched"};
    assert_int_equal(numaperf__enforce_settle(NUMAPERF_MODE_HARD, &found, 0, "mbind", &out), 0);
    assert_true(numaperf_is_strict(&out));
}

static void settle_hard_refused_names_the_node_and_keeps_the_output(void **state)
{
    (void)state;
    for (int i = NUMAPERF_ENFORCE_NONE; i < NUMAPERF_ENFORCE_STRICT; i++) {
        numaperf_enforcement_t found = level_of((numaperf_enforcement_level_t)i);
        numaperf_enforcement_t out = {NUMAPERF_ENFORCE_NONE, "untouched"};
        assert_int_equal(
            numaperf__enforce_settle(NUMAPERF_MODE_HARD, &found, ENOMEM, "mbind", &out),
            NUMAPERF_E_HARD_MODE);
        assert_string_equal(out.reason, "untouched");
        const numaperf_error_t *error = numaperf_last_error();
        assert_int_equal(error->code, NUMAPERF_E_HARD_MODE);
        assert_int_equal(error->sys_errno, ENOMEM);
        assert_string_equal(error->operation, "mbind");
        assert_non_null(strstr(error->reason, "node 3"));
    }
}

static int log_count;
static char log_text[256];

static void log_keep(int level, const char *text, void *data)
{
    (void)data;
    assert_int_equal(level, NUMAPERF_LOG_WARN);
    (void)strncpy(log_text, text, sizeof(log_text) - 1);
    log_count++;
}

static void settle_soft_logs_a_lower_level_once_and_strict_never(void **state)
{
    (void)state;
    numaperf_set_log(log_keep, NULL);
    numaperf_enforcement_t out;
    numaperf_enforcement_t strict = level_of(NUMAPERF_ENFORCE_STRICT);
    (void)numaperf__enforce_settle(NUMAPERF_MODE_SOFT, &strict, 0, "mbind", &out);
    assert_int_equal(log_count, 0);
    numaperf_enforcement_t none = level_of(NUMAPERF_ENFORCE_NONE);
    (void)numaperf__enforce_settle(NUMAPERF_MODE_SOFT, &none, EPERM, "mbind", &out);
    numaperf_set_log(NULL, NULL);
    assert_int_equal(log_count, 1);
    assert_non_null(strstr(log_text, "mbind"));
    assert_non_null(strstr(log_text, "node 3"));
}

static void settle_may_write_over_its_input(void **state)
{
    (void)state;
    numaperf_enforcement_t both = level_of(NUMAPERF_ENFORCE_BEST_EFFORT);
    assert_int_equal(numaperf__enforce_settle(NUMAPERF_MODE_SOFT, &both, 0, "mbind", &both), 0);
    assert_true(numaperf_is_best_effort(&both));
    assert_string_equal(both.reason, "node 3: too little memory");
}

static void lower_keeps_the_lower_level_and_the_first_reason(void **state)
{
    (void)state;
    numaperf_enforcement_t into = level_of(NUMAPERF_ENFORCE_STRICT);
    numaperf_enforcement_t first;
    numaperf_enforcement_t second;
    numaperf__enforce_set(&first, NUMAPERF_ENFORCE_BEST_EFFORT, "page %d", 1);
    numaperf__enforce_set(&second, NUMAPERF_ENFORCE_BEST_EFFORT, "page %d", 2);

    numaperf__enforce_lower(&into, &first);
    numaperf__enforce_lower(&into, &second);
    assert_true(numaperf_is_best_effort(&into));
    assert_string_equal(into.reason, "page 1");

    numaperf_enforcement_t strict = level_of(NUMAPERF_ENFORCE_STRICT);
    numaperf__enforce_lower(&into, &strict);
    assert_true(numaperf_is_best_effort(&into));

    numaperf_enforcement_t none = level_of(NUMAPERF_ENFORCE_NONE);
    numaperf__enforce_lower(&into, &none);
    assert_true(numaperf_is_none(&into));
    assert_string_equal(into.reason, "node 3: too little memory");
}

static void set_cuts_a_long_reason_and_terminates_it(void **state)
{
    (void)state;
    char longer[400];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    numaperf_enforcement_t out;
    numaperf__enforce_set(&out, NUMAPERF_ENFORCE_NONE, "%s", longer);
    assert_int_equal(strlen(out.reason), sizeof(out.reason) - 1);
}

static void exactly_one_predicate_holds_for_each_level(void **state)
{
    (void)state;
    for (int i = NUMAPERF_ENFORCE_NONE; i <= NUMAPERF_ENFORCE_STRICT; i++) {
        numaperf_enforcement_t e = level_of((numaperf_enforcement_level_t)i);
        assert_int_equal(numaperf_is_none(&e), i == NUMAPERF_ENFORCE_NONE);
        assert_int_equal(numaperf_is_best_effort(&e), i == NUMAPERF_ENFORCE_BEST_EFFORT);
        assert_int_equal(numaperf_is_strict(&e), i == NUMAPERF_ENFORCE_STRICT);
    }
    assert_false(numaperf_is_none(NULL));
    assert_false(numaperf_is_best_effort(NULL));
    assert_false(numaperf_is_strict(NULL));
}

static void reason_is_null_only_when_strict(void **state)
{
    (void)state;
    numaperf_enforcement_t strict = level_of(NUMAPERF_ENFORCE_STRICT);
    numaperf_enforcement_t none = level_of(NUMAPERF_ENFORCE_NONE);
    assert_null(numaperf_enforcement_reason(&strict));
    assert_ptr_equal(numaperf_enforcement_reason(&none), none.reason);
    assert_non_null(numaperf_enforcement_reason(NULL));
}

static void level_names_are_plain_words(void **state)
{
    (void)state;
    assert_string_equal(numaperf_enforcement_level_name(NUMAPERF_ENFORCE_NONE), "none");
    assert_string_equal(numaperf_enforcement_level_name(NUMAPERF_ENFORCE_BEST_EFFORT),
                        "best effort");
    assert_string_equal(numaperf_enforcement_level_name(NUMAPERF_ENFORCE_STRICT), "strict");
    assert_string_equal(numaperf_enforcement_level_name((numaperf_enforcement_level_t)3),
                        "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settle_soft_reports_every_level),
        cmocka_unit_test(settle_hard_accepts_only_strict),
        cmocka_unit_test(settle_hard_refused_names_the_node_and_keeps_the_output),
        cmocka_unit_test(settle_soft_logs_a_lower_level_once_and_strict_never),
        cmocka_unit_test(settle_may_write_over_its_input),
        cmocka_unit_test(lower_keeps_the_lower_level_and_the_first_reason),
        cmocka_unit_test(set_cuts_a_long_reason_and_terminates_it),
        cmocka_unit_test(exactly_one_predicate_holds_for_each_level),
        cmocka_unit_test(reason_is_null_only_when_strict),
        cmocka_unit_test(level_names_are_plain_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
