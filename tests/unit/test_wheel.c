/* SPDX-License-Identifier: MIT */
/* The timer wheel against a model that looks at every timer. */
#include "base/wheel.h"

#include "support/stress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TICK_NS (UINT64_C(1) << NUMAPERF__WHEEL_TICK_SHIFT)
#define START_NS UINT64_C(123456789012345)
#define MODEL_TIMERS 300
#define MODEL_STEPS 60000
#define YEAR_NS (UINT64_C(365) * 24 * 3600 * 1000000000)

static struct numaperf__wheel wheel;

static void insert_at(numaperf_timer_t *timer, uint64_t deadline_ns)
{
    memset(timer, 0, sizeof(*timer));
    timer->deadline_ns = deadline_ns;
    numaperf__wheel_insert(&wheel, timer);
}

/* The first tick at which a deadline has passed for sure, as a time. */
static uint64_t due_ns(uint64_t deadline_ns)
{
    return (deadline_ns + TICK_NS - 1) / TICK_NS * TICK_NS;
}

static void empty_wheel_never_wants_to_run(void **state)
{
    (void)state;
    numaperf__wheel_init(&wheel, START_NS);
    assert_true(numaperf__wheel_next_ns(&wheel) == UINT64_MAX);
    numaperf__wheel_advance(&wheel, START_NS + YEAR_NS);
    assert_null(numaperf__wheel_pop_due(&wheel));
    numaperf__wheel_validate(&wheel);
}

/* From 1 ns to centuries; each alone, by the wheel's own word on when to look. */
static void single_timers_are_never_early_and_at_most_a_tick_late(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift < 63; shift++) {
        numaperf_timer_t timer;
        uint64_t deadline_ns = START_NS + (UINT64_C(1) << shift) + shift;
        numaperf__wheel_init(&wheel, START_NS);
        insert_at(&timer, deadline_ns);
        uint64_t next_ns = numaperf__wheel_next_ns(&wheel);
        assert_true(next_ns >= deadline_ns && next_ns < deadline_ns + TICK_NS);
        numaperf__wheel_advance(&wheel, next_ns - 1);
        assert_null(numaperf__wheel_pop_due(&wheel));
        numaperf__wheel_validate(&wheel);
        assert_true(numaperf__wheel_next_ns(&wheel) == next_ns);
        numaperf__wheel_advance(&wheel, next_ns);
        assert_ptr_equal(numaperf__wheel_pop_due(&wheel), &timer);
        assert_int_equal(timer.position, NUMAPERF__WHEEL_NOWHERE);
    }
}

static void deadlines_beyond_the_clock_stay(void **state)
{
    (void)state;
    numaperf_timer_t timers[2];
    numaperf__wheel_init(&wheel, START_NS);
    insert_at(&timers[0], UINT64_MAX);
    insert_at(&timers[1], UINT64_MAX - TICK_NS + 1);
    numaperf__wheel_validate(&wheel);
    numaperf__wheel_advance(&wheel, START_NS + 200 * YEAR_NS);
    assert_null(numaperf__wheel_pop_due(&wheel));
    numaperf__wheel_validate(&wheel);
    numaperf__wheel_remove(&wheel, &timers[0]);
    numaperf__wheel_remove(&wheel, &timers[1]);
    assert_true(numaperf__wheel_next_ns(&wheel) == UINT64_MAX);
}

static void what_has_passed_is_due_at_once(void **state)
{
    (void)state;
    numaperf_timer_t timer;
    numaperf__wheel_init(&wheel, START_NS);
    insert_at(&timer, START_NS - 5 * TICK_NS);
    assert_true(numaperf__wheel_next_ns(&wheel) == 0);
    assert_ptr_equal(numaperf__wheel_pop_due(&wheel), &timer);
    assert_null(numaperf__wheel_pop_due(&wheel));
}

static void due_timers_come_in_order_of_their_deadlines(void **state)
{
    (void)state;
    enum { COUNT = 2000 };
    static numaperf_timer_t timers[COUNT];
    uint64_t random = stress_seed();
    numaperf__wheel_init(&wheel, START_NS);
    for (int i = 0; i < COUNT; i++)
        insert_at(&timers[i], START_NS + stress_below(&random, UINT64_C(1) << 40));
    numaperf__wheel_advance(&wheel, START_NS + (UINT64_C(1) << 41));
    uint64_t last_ns = 0;
    for (int i = 0; i < COUNT; i++) {
        numaperf_timer_t *timer = numaperf__wheel_pop_due(&wheel);
        assert_non_null(timer);
        assert_true(due_ns(timer->deadline_ns) >= last_ns);
        last_ns = due_ns(timer->deadline_ns);
    }
    assert_null(numaperf__wheel_pop_due(&wheel));
}

static void deadline_that_moves_away_keeps_its_place_and_is_kept(void **state)
{
    (void)state;
    numaperf_timer_t timer;
    numaperf__wheel_init(&wheel, START_NS);
    insert_at(&timer, START_NS + 1000000);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t deadline_ns = START_NS + 1000000 + i * 300000;
        assert_true(numaperf__wheel_may_stay(&wheel, &timer, deadline_ns));
        timer.deadline_ns = deadline_ns;
        numaperf__wheel_advance(&wheel, deadline_ns - 500000);
        assert_null(numaperf__wheel_pop_due(&wheel));
        numaperf__wheel_validate(&wheel);
    }
    assert_false(numaperf__wheel_may_stay(&wheel, &timer, START_NS));
    numaperf__wheel_advance(&wheel, due_ns(timer.deadline_ns));
    assert_ptr_equal(numaperf__wheel_pop_due(&wheel), &timer);
}

static void crowded_slot_is_looked_at_no_later_than_its_first_deadline(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    static numaperf_timer_t timers[COUNT];
    numaperf__wheel_init(&wheel, START_NS);
    for (uint64_t i = 0; i < COUNT; i++)
        insert_at(&timers[i], START_NS + 3600000000000 + (COUNT - i) * 100000);
    unsigned looks = 0;
    numaperf_timer_t *timer = NULL;
    uint64_t now_ns = START_NS;
    while (timer == NULL && looks < 100) {
        uint64_t next_ns = numaperf__wheel_next_ns(&wheel);
        assert_true(next_ns > now_ns && next_ns <= due_ns(timers[COUNT - 1].deadline_ns));
        now_ns = next_ns;
        numaperf__wheel_advance(&wheel, now_ns);
        numaperf__wheel_validate(&wheel);
        timer = numaperf__wheel_pop_due(&wheel);
        looks++;
    }
    assert_ptr_equal(timer, &timers[COUNT - 1]);
    assert_in_range(looks, 1, NUMAPERF__WHEEL_LEVELS);
}

static bool is_odd(const numaperf_timer_t *timer)
{
    return timer->delay_ns % 2 == 1;
}

static void chosen_timers_are_made_due_and_the_others_stay(void **state)
{
    (void)state;
    enum { COUNT = 500 };
    static numaperf_timer_t timers[COUNT];
    uint64_t random = stress_seed();
    numaperf__wheel_init(&wheel, START_NS);
    for (uint64_t i = 0; i < COUNT; i++) {
        insert_at(&timers[i], START_NS + TICK_NS + stress_below(&random, YEAR_NS));
        timers[i].delay_ns = i;
    }
    numaperf__wheel_make_due(&wheel, is_odd);
    numaperf__wheel_validate(&wheel);
    for (int i = 0; i < COUNT / 2; i++) {
        numaperf_timer_t *timer = numaperf__wheel_pop_due(&wheel);
        assert_non_null(timer);
        assert_true(is_odd(timer));
    }
    assert_null(numaperf__wheel_pop_due(&wheel));
    assert_int_equal(wheel.count, COUNT / 2);
    numaperf__wheel_validate(&wheel);
}

/* ---- model ---- */

static struct {
    numaperf_timer_t timers[MODEL_TIMERS];
    uint64_t now_ns;
    uint64_t random;
} model;

/* Short and long ones alike. */
static uint64_t model_delay_ns(void)
{
    return stress_random(&model.random) >> (1 + stress_below(&model.random, 62));
}

static void model_start(numaperf_timer_t *timer)
{
    uint64_t delay_ns = model_delay_ns();
    uint64_t deadline_ns =
        delay_ns < UINT64_MAX - model.now_ns ? model.now_ns + delay_ns : UINT64_MAX;
    if (timer->position != NUMAPERF__WHEEL_NOWHERE) {
        if (numaperf__wheel_may_stay(&wheel, timer, deadline_ns)) {
            timer->deadline_ns = deadline_ns;
            return;
        }
        numaperf__wheel_remove(&wheel, timer);
    }
    timer->deadline_ns = deadline_ns;
    numaperf__wheel_insert(&wheel, timer);
}

/* The deadline of the first timer that the model has; UINT64_MAX when there is none. */
static uint64_t model_first_ns(void)
{
    uint64_t first_ns = UINT64_MAX;
    for (int i = 0; i < MODEL_TIMERS; i++) {
        const numaperf_timer_t *timer = &model.timers[i];
        if (timer->position != NUMAPERF__WHEEL_NOWHERE && timer->deadline_ns < first_ns)
            first_ns = timer->deadline_ns;
    }
    return first_ns;
}

/* Go on in time: to the next event, close to it, or by chance, but not out of the clock. */
static void model_advance(void)
{
    uint64_t step_ns = model_delay_ns() >> 20;
    uint64_t next_ns = numaperf__wheel_next_ns(&wheel);
    if (next_ns != 0 && next_ns < UINT64_MAX / 2 && stress_below(&model.random, 2) == 0) {
        assert_true(next_ns > model.now_ns - TICK_NS);
        step_ns = next_ns > model.now_ns ? next_ns - model.now_ns : 0;
        step_ns -= step_ns > 0 ? stress_below(&model.random, 2) : 0;
    }
    if (model.now_ns + step_ns > UINT64_MAX / 2)
        return;
    model.now_ns += step_ns;
    numaperf__wheel_advance(&wheel, model.now_ns);
}

/* What is due by the model is what the wheel gives, no more and no less, in order. */
static void model_pop(void)
{
    uint64_t now_tick_ns = model.now_ns / TICK_NS * TICK_NS;
    uint64_t last_ns = 0;
    for (;;) {
        numaperf_timer_t *timer = numaperf__wheel_pop_due(&wheel);
        if (timer == NULL)
            break;
        assert_true(timer->deadline_ns <= model.now_ns);
        assert_true(due_ns(timer->deadline_ns) >= last_ns);
        last_ns = due_ns(timer->deadline_ns);
    }
    uint64_t first_ns = model_first_ns();
    assert_true(first_ns > now_tick_ns);
    uint64_t next_ns = numaperf__wheel_next_ns(&wheel);
    assert_true(next_ns > now_tick_ns);
    assert_true(first_ns > UINT64_MAX - TICK_NS || next_ns <= due_ns(first_ns));
}

static void wheel_does_what_a_list_of_all_timers_does(void **state)
{
    (void)state;
    model.random = stress_seed();
    model.now_ns = START_NS;
    memset(model.timers, 0, sizeof(model.timers));
    numaperf__wheel_init(&wheel, model.now_ns);
    uint64_t steps = stress_count(MODEL_STEPS);
    for (uint64_t i = 0; i < steps; i++) {
        numaperf_timer_t *timer = &model.timers[stress_below(&model.random, MODEL_TIMERS)];
        switch (stress_below(&model.random, 8)) {
        case 0:
            model_advance();
            model_pop();
            break;
        case 1:
            if (timer->position != NUMAPERF__WHEEL_NOWHERE)
                numaperf__wheel_remove(&wheel, timer);
            break;
        default:
            model_start(timer);
        }
        if (i % 16 == 0)
            numaperf__wheel_validate(&wheel);
        if (model.now_ns > UINT64_MAX / 4) { /* and from the start again */
            memset(model.timers, 0, sizeof(model.timers));
            model.now_ns = START_NS;
            numaperf__wheel_init(&wheel, model.now_ns);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_wheel_never_wants_to_run),
        cmocka_unit_test(single_timers_are_never_early_and_at_most_a_tick_late),
        cmocka_unit_test(deadlines_beyond_the_clock_stay),
        cmocka_unit_test(what_has_passed_is_due_at_once),
        cmocka_unit_test(due_timers_come_in_order_of_their_deadlines),
        cmocka_unit_test(deadline_that_moves_away_keeps_its_place_and_is_kept),
        cmocka_unit_test(crowded_slot_is_looked_at_no_later_than_its_first_deadline),
        cmocka_unit_test(chosen_timers_are_made_due_and_the_others_stay),
        cmocka_unit_test(wheel_does_what_a_list_of_all_timers_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
