/* SPDX-License-Identifier: MIT */
/* The token bucket: by a clock that the test turns, and by threads that all want more than it has.
 */
#include "sched/budget.h"

#include "support/clock.h"
#include "support/stress.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SECOND_NS UINT64_C(1000000000)
#define START_NS UINT64_C(123456789012345)
#define THREADS 4

__extension__ typedef unsigned __int128 wide_uint;

static uint64_t look(const struct numaperf__budget *budget, uint64_t now_ns)
{
    uint64_t next_ns = 0;
    return numaperf__budget_look(budget, now_ns, &next_ns);
}

static uint64_t next_token(const struct numaperf__budget *budget, uint64_t now_ns)
{
    uint64_t next_ns = 0;
    (void)numaperf__budget_look(budget, now_ns, &next_ns);
    return next_ns;
}

static void bucket_is_full_at_first_and_never_fuller(void **state)
{
    (void)state;
    struct numaperf__budget budget;
    numaperf__budget_init(&budget, 1000, 50, START_NS);
    assert_int_equal(look(&budget, START_NS), 50);
    assert_int_equal(next_token(&budget, START_NS), START_NS);
    assert_int_equal(look(&budget, START_NS + 100 * SECOND_NS), 50);
    assert_int_equal(numaperf__budget_take(&budget, START_NS + 100 * SECOND_NS, 1000), 50);
    assert_int_equal(numaperf__budget_take(&budget, START_NS + 100 * SECOND_NS, 1), 0);
}

static void take_gives_what_is_there_and_no_more(void **state)
{
    (void)state;
    struct numaperf__budget budget;
    numaperf__budget_init(&budget, 10, 8, START_NS);
    assert_int_equal(numaperf__budget_take(&budget, START_NS, 0), 0);
    assert_int_equal(numaperf__budget_take(&budget, START_NS, 3), 3);
    assert_int_equal(look(&budget, START_NS), 5);
    assert_int_equal(numaperf__budget_take(&budget, START_NS, 9), 5);
    assert_int_equal(numaperf__budget_take(&budget, START_NS, 1), 0);
}

/* To the nanosecond: not there one before `next`, there at it. */
static void empty_bucket_names_the_moment_of_its_next_token(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1, 3, 7, 1000, 999983, 333333333, SECOND_NS};
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        struct numaperf__budget budget;
        numaperf__budget_init(&budget, rates[i], 5, START_NS);
        uint64_t now_ns = START_NS;
        assert_int_equal(numaperf__budget_take(&budget, now_ns, 5), 5);
        for (int round = 0; round < 100; round++) {
            uint64_t next_ns = next_token(&budget, now_ns);
            assert_true(next_ns > now_ns);
            assert_int_equal(look(&budget, next_ns - 1), 0);
            assert_int_equal(look(&budget, next_ns), 1);
            now_ns = next_ns;
            assert_int_equal(numaperf__budget_take(&budget, now_ns, 2), 1);
        }
        /* One hundred tokens after the burst took exactly their time, rounded up once. */
        assert_int_equal(now_ns - START_NS, (100 * SECOND_NS + rates[i] - 1) / rates[i]);
    }
}

/* A bucket that is emptied once an hour for twenty years still knows its next token to the ns. */
static void years_of_draws_do_not_drift(void **state)
{
    (void)state;
    const uint64_t rate = 999999937; /* a prime: hardly an hour is a whole number of tokens */
    const uint64_t step_ns = UINT64_C(3600) * SECOND_NS + 7;
    struct numaperf__budget budget;
    numaperf__budget_init(&budget, rate, 3, START_NS);
    for (uint64_t hour = 1; hour <= UINT64_C(24) * 365 * 20; hour++) {
        uint64_t now_ns = START_NS + hour * step_ns;
        assert_int_equal(numaperf__budget_take(&budget, now_ns, 9), 3);
        uint64_t earned = (uint64_t)((wide_uint)(hour * step_ns) * rate / SECOND_NS);
        uint64_t next_ns = (uint64_t)(((wide_uint)(earned + 1) * SECOND_NS + rate - 1) / rate);
        assert_true(next_token(&budget, now_ns) == START_NS + next_ns);
    }
}

/* What is drawn in odd portions at odd times, against the same sum in 128 bits. */
static void draws_at_any_time_follow_the_model(void **state)
{
    (void)state;
    uint64_t random = stress_seed();
    for (int round = 0; round < 200; round++) {
        uint64_t rate = 1 + stress_below(&random, SECOND_NS) / (1 + stress_below(&random, 100000));
        uint64_t burst = 1 + stress_below(&random, 10000);
        struct numaperf__budget budget;
        numaperf__budget_init(&budget, rate, burst, START_NS);
        uint64_t now_ns = START_NS;
        uint64_t tokens = burst;
        uint64_t earned = 0;
        for (int step = 0; step < 200; step++) {
            now_ns += stress_below(&random, 4 * SECOND_NS / rate + 1000);
            uint64_t then = (uint64_t)((wide_uint)(now_ns - START_NS) * rate / SECOND_NS);
            tokens = tokens + (then - earned) < burst ? tokens + (then - earned) : burst;
            earned = then;
            assert_int_equal(look(&budget, now_ns), tokens);
            uint64_t wanted = stress_below(&random, burst + 2);
            uint64_t count = wanted < tokens ? wanted : tokens;
            assert_int_equal(numaperf__budget_take(&budget, now_ns, wanted), count);
            uint64_t back = stress_below(&random, count + 1);
            numaperf__budget_give_back(&budget, back);
            tokens = tokens - count + back;
        }
    }
}

static void tokens_given_back_can_be_drawn_again(void **state)
{
    (void)state;
    struct numaperf__budget budget;
    numaperf__budget_init(&budget, 1, 10, START_NS);
    assert_int_equal(numaperf__budget_take(&budget, START_NS, 10), 10);
    numaperf__budget_give_back(&budget, 4);
    assert_int_equal(look(&budget, START_NS), 4);
    assert_int_equal(numaperf__budget_take(&budget, START_NS, 10), 4);
    /* Given back into a full bucket they are lost, as if earned. */
    numaperf__budget_give_back(&budget, 10);
    assert_int_equal(look(&budget, START_NS), 10);
    assert_int_equal(look(&budget, START_NS + 60 * SECOND_NS), 10);
}

/* Clocks of two threads differ by a little: the later one's draw must not be free for the other. */
static void clock_that_is_behind_sees_fewer_tokens(void **state)
{
    (void)state;
    struct numaperf__budget budget;
    numaperf__budget_init(&budget, SECOND_NS, 100, START_NS);
    assert_int_equal(numaperf__budget_take(&budget, START_NS + 500, 90), 90);
    assert_int_equal(look(&budget, START_NS + 495), 5);
    assert_int_equal(numaperf__budget_take(&budget, START_NS + 400, 100), 0);
    assert_int_equal(look(&budget, START_NS - 1), 0);
    assert_int_equal(look(&budget, START_NS + 500), 10);
}

/* ---- threads ---- */

struct drawer {
    pthread_t thread;
    struct numaperf__budget *budget;
    uint64_t seed;
    uint64_t rounds;
    uint64_t drawn;   /* less what was given back */
    uint64_t last_ns; /* the latest clock it drew by */
};

static void *drawer_main(void *arg)
{
    struct drawer *drawer = arg;
    for (uint64_t i = 0; i < drawer->rounds; i++) {
        uint64_t now_ns = test_now_ns();
        uint64_t count =
            numaperf__budget_take(drawer->budget, now_ns, stress_below(&drawer->seed, 16));
        uint64_t back = stress_below(&drawer->seed, count + 1);
        numaperf__budget_give_back(drawer->budget, back);
        drawer->drawn += count - back;
        drawer->last_ns = now_ns;
    }
    return NULL;
}

static void threads_together_never_pass_the_budget(void **state)
{
    (void)state;
    const uint64_t rate = 2000000;
    const uint64_t burst = 1000;
    struct numaperf__budget budget;
    struct drawer drawers[THREADS] = {{0}};
    uint64_t seed = stress_seed();
    uint64_t start_ns = test_now_ns();
    numaperf__budget_init(&budget, rate, burst, start_ns);
    for (int i = 0; i < THREADS; i++) {
        drawers[i].budget = &budget;
        drawers[i].seed = stress_random(&seed);
        drawers[i].rounds = TEST_SANITIZED != 0 || test_is_guest() ? 5000 : 500000;
        assert_int_equal(pthread_create(&drawers[i].thread, NULL, drawer_main, &drawers[i]), 0);
    }
    uint64_t drawn = 0;
    uint64_t last_ns = 0;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(drawers[i].thread, NULL), 0);
        drawn += drawers[i].drawn;
        last_ns = drawers[i].last_ns > last_ns ? drawers[i].last_ns : last_ns;
    }
    uint64_t earned = (last_ns - start_ns) / 1000 * rate / 1000000 + rate / 1000000;
    assert_true(drawn <= burst + earned);
    /* They wanted more than there was at every moment, so hardly anything is left or was lost. */
    assert_true(drawn >= burst);
    assert_true(look(&budget, last_ns) <= burst);
    /* Nothing was lost between two that drew at once: what is spent is what they hold. */
    assert_true(atomic_load(&budget.spent) >= drawn);
}

/* With a rate of next to nothing every token is counted: all are drawn, each once. */
static void threads_share_a_burst_to_the_token(void **state)
{
    (void)state;
    struct numaperf__budget budget;
    struct drawer drawers[THREADS] = {{0}};
    uint64_t seed = stress_seed();
    const uint64_t burst = TEST_SANITIZED != 0 || test_is_guest() ? 5000 : 500000;
    /* Its clock begins in the future: nothing is earned. */
    numaperf__budget_init(&budget, 1, burst, UINT64_MAX / 2);
    for (int i = 0; i < THREADS; i++) {
        drawers[i].budget = &budget;
        drawers[i].seed = stress_random(&seed);
        drawers[i].rounds = burst;
        assert_int_equal(pthread_create(&drawers[i].thread, NULL, drawer_main, &drawers[i]), 0);
    }
    uint64_t drawn = 0;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(drawers[i].thread, NULL), 0);
        drawn += drawers[i].drawn;
    }
    assert_int_equal(drawn, atomic_load(&budget.spent));
    drawn += numaperf__budget_take(&budget, 0, burst);
    assert_int_equal(drawn, burst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bucket_is_full_at_first_and_never_fuller),
        cmocka_unit_test(take_gives_what_is_there_and_no_more),
        cmocka_unit_test(empty_bucket_names_the_moment_of_its_next_token),
        cmocka_unit_test(years_of_draws_do_not_drift),
        cmocka_unit_test(draws_at_any_time_follow_the_model),
        cmocka_unit_test(tokens_given_back_can_be_drawn_again),
        cmocka_unit_test(clock_that_is_behind_sees_fewer_tokens),
        cmocka_unit_test(threads_together_never_pass_the_budget),
        cmocka_unit_test(threads_share_a_burst_to_the_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
