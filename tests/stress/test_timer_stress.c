/* SPDX-License-Identifier: MIT */
/*
 * Timers of two workers, started, restarted and stopped by chance, on idle and on busy workers: one
 * that is active expires once, not before its time; one that is not active does not.
 */
#include <numaperf/timer.h>

#include "support/runtimes.h"
#include "support/stress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TIMERS 500
#define WORKERS 2

struct watched {
    numaperf_timer_t timer;
    struct own *own;
    uint64_t from_ns;  /* the clock before the last start */
    uint64_t delay_ns; /* of it */
    bool is_active;    /* by this test's own account */
};

/* What one worker has; nobody else uses it. */
struct own {
    struct watched timers[TIMERS];
    uint64_t random;
    uint64_t steps;
    uint64_t expired;
    uint64_t faults;
    uint64_t late_ns; /* worst */
};

static struct own owns[WORKERS];
static atomic_int ended;

static void watched_act(struct own *own, struct watched *watched)
{
    uint64_t kind = stress_below(&own->random, 16);
    if (kind < 3) {
        own->faults += numaperf_timer_stop(&watched->timer) != (watched->is_active ? 1 : 0);
        watched->is_active = false;
        return;
    }
    watched->from_ns = test_now_ns();
    if (kind < 11 && watched->delay_ns != 0) {
        own->faults += numaperf_timer_restart(&watched->timer) != 0;
    } else {
        /* Between 1 ns and 2 ms, mostly short; at times so long that it never comes. */
        watched->delay_ns =
            1 + (stress_below(&own->random, UINT64_C(1) << 21) >> stress_below(&own->random, 21));
        if (kind == 15)
            watched->delay_ns <<= 40;
        own->faults += numaperf_timer_start(&watched->timer, watched->delay_ns) != 0;
    }
    watched->is_active = true;
}

static void watched_act_on_some(struct own *own)
{
    for (uint64_t n = stress_below(&own->random, 8); n > 0; n--)
        watched_act(own, &own->timers[stress_below(&own->random, TIMERS)]);
}

static void watched_expires(numaperf_worker_t *worker, void *arg)
{
    struct watched *watched = arg;
    struct own *own = watched->own;
    uint64_t now_ns = test_now_ns();
    (void)worker;
    own->faults += !watched->is_active;
    own->faults += now_ns < watched->from_ns + watched->delay_ns;
    uint64_t late_ns = now_ns - watched->from_ns - watched->delay_ns;
    own->late_ns = late_ns > own->late_ns ? late_ns : own->late_ns;
    own->expired++;
    watched->is_active = false;
    watched_act_on_some(own);
}

static void act_task(numaperf_worker_t *worker, void *arg)
{
    struct own *own = arg;
    watched_act_on_some(own);
    if (own->steps == 0) {
        (void)atomic_fetch_add(&ended, 1);
        return;
    }
    own->steps--;
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)numaperf_worker_index(worker);
    uint64_t delay_ns = stress_below(&own->random, 4) != 0 ? 0 : 50000; /* idle in between */
    int rc = delay_ns == 0
                 ? numaperf_rt_spawn_with(numaperf_worker_rt(worker), &options, act_task, own)
                 : numaperf_rt_spawn_after(numaperf_worker_rt(worker), &options, delay_ns, act_task,
                                           own, NULL);
    own->faults += rc != 0;
}

/* After the last act: whatever is active with a short delay expires. */
static void settle_task(numaperf_worker_t *worker, void *arg)
{
    struct own *own = arg;
    (void)worker;
    uint64_t now_ns = test_now_ns();
    for (int i = 0; i < TIMERS; i++) {
        struct watched *watched = &own->timers[i];
        bool is_overdue =
            watched->is_active && now_ns > watched->from_ns + watched->delay_ns + test_limit_ns(1);
        own->faults += is_overdue;
        own->faults += numaperf_timer_stop(&watched->timer) != (watched->is_active ? 1 : 0);
        watched->is_active = false;
    }
    (void)atomic_fetch_add(&ended, 1);
}

static int own_start(numaperf_worker_t *worker, void *data)
{
    struct own *own = &((struct own *)data)[numaperf_worker_index(worker)];
    int rc = 0;
    for (int i = 0; i < TIMERS && rc == 0; i++) {
        own->timers[i].own = own;
        rc = numaperf_timer_init(worker, &own->timers[i].timer, watched_expires, &own->timers[i]);
    }
    return rc;
}

static void run_round(uint64_t *random, uint32_t backend, uint64_t steps)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    memset(owns, 0, sizeof(owns));
    atomic_store(&ended, 0);
    box.config.workers_per_node = 1;
    box.config.io_backend = backend;
    box.config.on_worker_start = own_start;
    box.config.data = owns;
    assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    for (int i = 0; i < WORKERS; i++) {
        owns[i].random = stress_random(random);
        owns[i].steps = steps;
        options.worker = i;
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, act_task, &owns[i]), 0);
    }
    /* Their memory is the round's, so it waits as long as it takes. */
    while (atomic_load(&ended) < WORKERS)
        test_sleep_ms(1);
    test_sleep_ms(20);
    for (int i = 0; i < WORKERS; i++) {
        options.worker = i;
        assert_int_equal(numaperf_rt_spawn_with(box.rt, &options, settle_task, &owns[i]), 0);
    }
    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    runtime_box_close(&box);
    assert_int_equal(atomic_load(&ended), 2 * WORKERS);
    for (int i = 0; i < WORKERS; i++) {
        assert_int_equal(owns[i].faults, 0);
        print_message("%llu expired, at worst %llu us after the last start was due\n",
                      (unsigned long long)owns[i].expired,
                      (unsigned long long)owns[i].late_ns / 1000);
    }
}

static void timers_expire_when_they_should_and_never_else(void **state)
{
    (void)state;
    uint64_t random = stress_seed();
    run_round(&random, NUMAPERF_IO_AUTO, stress_count(20000));
    run_round(&random, NUMAPERF_IO_EPOLL, stress_count(20000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_expire_when_they_should_and_never_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
