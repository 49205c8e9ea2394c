/* SPDX-License-Identifier: MIT */
/* Which tasks of a queue are timed, and what a stamp tells. */
#include "sched/task.h"

#include "support/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define EVERY (1u << NUMAPERF__STAMP_EVERY_BITS)

static bool is_sampled(uint64_t number)
{
    const struct numaperf__task task = {.stamp = numaperf__stamp_for(number)};
    return numaperf__task_is_sampled(&task);
}

static void first_task_of_a_queue_is_sampled_and_then_one_in_many(void **state)
{
    (void)state;
    assert_true(is_sampled(0));
    const uint64_t starts[] = {0, 1, UINT64_C(1) << 32, UINT64_C(1) << 60};
    for (size_t i = 0; i < 4; i++) {
        uint32_t count = 0;
        for (uint64_t n = 0; n < 200u * EVERY; n++)
            count += is_sampled(starts[i] + n) ? 1 : 0;
        assert_in_range(count, 198, 202);
    }
}

/* Tasks that come in turns of any length are all sampled, each kind as often as the others. */
static void turns_of_a_program_do_not_meet_those_of_the_sample(void **state)
{
    (void)state;
    for (uint32_t turn = 2; turn <= 64; turn++) {
        uint32_t of_kind[64] = {0};
        for (uint64_t n = 0; n < (uint64_t)turn * 100 * EVERY; n++)
            of_kind[n % turn] += is_sampled(n) ? 1 : 0;
        for (uint32_t kind = 0; kind < turn; kind++)
            assert_in_range(of_kind[kind], 60, 140);
    }
}

static void stamp_tells_its_age_in_steps_also_when_it_comes_round(void **state)
{
    (void)state;
    const uint64_t step = UINT64_C(1) << NUMAPERF__STAMP_SHIFT;
    const uint64_t times[] = {step, 12345678 * step, (UINT64_C(1) << 32) * step - 5 * step};
    for (size_t i = 0; i < 3; i++) {
        uint32_t stamp = numaperf__stamp_of(times[i]);
        assert_true(stamp != 0);
        assert_true(numaperf__stamp_age_ns(stamp, times[i]) == 0);
        assert_true(numaperf__stamp_age_ns(stamp, times[i] + 100 * step + 3) == 100 * step);
    }
    uint64_t now_ns = numaperf__clock_now_ns();
    uint32_t stamp = numaperf__stamp_for(0);
    test_sleep_ms(5);
    uint64_t age_ns = numaperf__stamp_age_ns(stamp, numaperf__clock_now_ns());
    assert_in_range(age_ns, 5000000 - 2 * step, numaperf__clock_now_ns() - now_ns + step);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_task_of_a_queue_is_sampled_and_then_one_in_many),
        cmocka_unit_test(turns_of_a_program_do_not_meet_those_of_the_sample),
        cmocka_unit_test(stamp_tells_its_age_in_steps_also_when_it_comes_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
