/* SPDX-License-Identifier: MIT */
/*
 * Connections against a model, by scripts that chance writes: what fuzz_conn does, for every
 * compiler and sanitizer. The model is in support/net_fake.c.
 */
#include "support/net_fake.h"
#include "support/stress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define SCRIPTS 3000
#define SCRIPTS_MIN 200
#define SCRIPT_BYTES 2000

static void connections_do_what_the_model_does(void **state)
{
    (void)state;
    static uint8_t script[SCRIPT_BYTES];
    uint64_t random = stress_seed();
    net_fake_open();
    uint64_t scripts = stress_count(SCRIPTS);
    scripts = scripts < SCRIPTS_MIN ? SCRIPTS_MIN : scripts;
    for (uint64_t i = 0; i < scripts; i++) {
        size_t length = (size_t)stress_below(&random, SCRIPT_BYTES + 1);
        for (size_t at = 0; at < length; at++)
            script[at] = (uint8_t)stress_random(&random);
        net_fake_run(script, length);
    }
    net_fake_close();
    /* A model that nothing happens in says nothing. */
    const struct net_fake_reach *reach = &net_fake_reach;
    assert_true(reach->opened > scripts / 2 && reach->reads > scripts);
    assert_true(reach->refused > 0 && reach->ends > 0 && reach->drains > 0);
    assert_true(reach->stashed > 0 && reach->starved > 0 && reach->zero_copies > 0);
    assert_true(reach->loans_sent > 0 && reach->loans_dropped > 0 && reach->held > 0);
    assert_true(reach->end_of_both > 0 && reach->resets > 0 && reach->filtered > 0);
    assert_true(reach->timeouts > 0 && (reach->limits > 0 || scripts < 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_do_what_the_model_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
