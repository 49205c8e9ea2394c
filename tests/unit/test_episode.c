/* SPDX-License-Identifier: MIT */
/* Episodes: what is reported, and when again. */
#include "sched/episode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define U NUMAPERF__SIGHT_UNKNOWN
#define H NUMAPERF__SIGHT_HOME
#define D NUMAPERF__SIGHT_DRIFTED
#define P NUMAPERF__SIGHT_PUT_BACK

/* How often a row of sights is reported, and whether the episode is open at its end. */
static void check_row(const enum numaperf__sight *sights, size_t count, int reports, bool is_open)
{
    enum numaperf__episode episode = NUMAPERF__EPISODE_NONE;
    int reported = 0;
    for (size_t i = 0; i < count; i++)
        reported += numaperf__episode_move(&episode, sights[i]) ? 1 : 0;
    assert_int_equal(reported, reports);
    assert_int_equal(episode, is_open ? NUMAPERF__EPISODE_OPEN : NUMAPERF__EPISODE_NONE);
}

#define CHECK_ROW(reports, is_open, ...)                                                          \
    check_row((const enum numaperf__sight[]){__VA_ARGS__},                                        \
              sizeof((const enum numaperf__sight[]){__VA_ARGS__}) / sizeof(enum numaperf__sight), \
              reports, is_open)

static void episode_is_reported_once_however_long_it_lasts(void **state)
{
    (void)state;
    CHECK_ROW(1, true, H, D, D, D, D);
    CHECK_ROW(0, false, H, H, U, H);
}

static void episode_is_reported_again_only_after_it_was_in_order(void **state)
{
    (void)state;
    CHECK_ROW(2, true, D, H, D);
    CHECK_ROW(1, false, D, D, H, H);
    CHECK_ROW(3, true, D, H, D, D, H, D);
}

static void episode_does_not_end_because_nothing_can_be_read(void **state)
{
    (void)state;
    CHECK_ROW(1, true, D, U, D, U, U);
    CHECK_ROW(1, false, D, U, H);
    CHECK_ROW(0, false, U, U);
}

static void episode_of_what_is_put_back_at_once_is_over_at_once(void **state)
{
    (void)state;
    CHECK_ROW(1, false, H, P, H);
    CHECK_ROW(2, false, P, P); /* it was read back in order in between */
}

static void episode_whose_repair_works_later_ends_without_another_report(void **state)
{
    (void)state;
    CHECK_ROW(1, false, D, D, P, H);
    CHECK_ROW(2, true, D, P, D);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(episode_is_reported_once_however_long_it_lasts),
        cmocka_unit_test(episode_is_reported_again_only_after_it_was_in_order),
        cmocka_unit_test(episode_does_not_end_because_nothing_can_be_read),
        cmocka_unit_test(episode_of_what_is_put_back_at_once_is_over_at_once),
        cmocka_unit_test(episode_whose_repair_works_later_ends_without_another_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
