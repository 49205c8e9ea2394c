/* SPDX-License-Identifier: MIT */
/*
 * Timers of workers: never early, in order, on busy and on idle workers, on both backends; started
 * again and stopped; and what a stop makes of them.
 */
#include <numaperf/error.h>
#include <numaperf/timer.h>

#include "support/timer_scene.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define TIMERS 200

/* A timer of worker 0 and what came of it. */
struct alarm {
    numaperf_timer_t timer;
    uint64_t delay_ns;
    uint64_t from_ns; /* the clock, just before it was started */
    uint64_t at_ns;   /* when it expired */
    int sequence;     /* as which one it expired; 0: it did not */
};

static struct alarm alarms[TIMERS];

static void alarms_open(uint32_t backend)
{
    memset(alarms, 0, sizeof(alarms));
    scene_open("numa:1 pu:1", backend);
}

static void alarm_expires(numaperf_worker_t *worker, void *arg)
{
    struct alarm *alarm = arg;
    alarm->at_ns = test_now_ns();
    fault_unless(worker == numaperf_worker_current(), "ran on its worker");
    fault_unless(alarm->at_ns >= alarm->from_ns + alarm->delay_ns, "not early");
    alarm->sequence = atomic_load(&scene.expired) + 1;
    (void)atomic_fetch_add(&scene.expired, 1); /* last: who counts them reads the alarm then */
}

static void alarm_start(numaperf_worker_t *worker, struct alarm *alarm, uint64_t delay_ns)
{
    alarm->delay_ns = delay_ns;
    fault_unless(numaperf_timer_init(worker, &alarm->timer, alarm_expires, alarm) == 0, "init");
    alarm->from_ns = test_now_ns();
    fault_unless(numaperf_timer_start(&alarm->timer, delay_ns) == 0, "start");
}

static uint64_t alarm_late_ns(const struct alarm *alarm)
{
    return alarm->at_ns - alarm->from_ns - alarm->delay_ns;
}

/* ---- when ---- */

static void start_one(numaperf_worker_t *worker, void *arg)
{
    alarm_start(worker, &alarms[0], *(const uint64_t *)arg);
    (void)atomic_fetch_add(&scene.done, 1);
}

/* One after the other, from 1 ns on, with nothing else to wake the worker. */
static void check_precision(uint32_t backend)
{
    uint64_t worst_ns = 0;
    alarms_open(backend);
    for (unsigned shift = 0; shift < 27; shift++) {
        uint64_t delay_ns = (UINT64_C(1) << shift) + shift;
        atomic_store(&scene.expired, 0);
        run_on(0, start_one, &delay_ns);
        assert_true(runtime_reaches(&scene.expired, 1));
        uint64_t late_ns = alarm_late_ns(&alarms[0]);
        worst_ns = late_ns > worst_ns ? late_ns : worst_ns;
    }
    print_message("worst: %llu ns late\n", (unsigned long long)worst_ns);
    if (!test_is_slow())
        assert_true(worst_ns < test_limit_ns(5));
    scene_close();
}

static void idle_worker_on_the_ring_is_never_early_and_soon_there(void **state)
{
    (void)state;
    check_precision(NUMAPERF_IO_AUTO);
}

static void idle_worker_on_epoll_is_never_early_and_soon_there(void **state)
{
    (void)state;
    check_precision(NUMAPERF_IO_EPOLL);
}

static void start_mixed(numaperf_worker_t *worker, void *arg)
{
    uint64_t unit_ns = *(const uint64_t *)arg;
    for (uint64_t i = 0; i < TIMERS; i++)
        alarm_start(worker, &alarms[i], (i * 37 % TIMERS + 1) * unit_ns);
    (void)atomic_fetch_add(&scene.done, 1);
}

static void timers_expire_in_order_of_their_deadlines(void **state)
{
    (void)state;
    static const uint64_t units_ns[] = {20000, 200000};
    for (size_t u = 0; u < 2; u++) {
        alarms_open(NUMAPERF_IO_AUTO);
        run_on(0, start_mixed, (void *)&units_ns[u]);
        assert_true(runtime_reaches(&scene.expired, TIMERS));
        const struct alarm *by_sequence[TIMERS + 1] = {NULL};
        for (int i = 0; i < TIMERS; i++)
            by_sequence[alarms[i].sequence] = &alarms[i];
        for (int i = 2; i <= TIMERS; i++)
            assert_true(by_sequence[i - 1]->timer.deadline_ns <=
                        by_sequence[i]->timer.deadline_ns + 1024);
        scene_close();
    }
}

/* It spawns itself, so that its worker never has nothing to do. */
static void busy_task(numaperf_worker_t *worker, void *arg)
{
    uint64_t end_ns = test_now_ns() + 20000;
    while (test_now_ns() < end_ns)
        ;
    if (!atomic_load(&scene.quit))
        (void)numaperf_rt_spawn(numaperf_worker_rt(worker), NUMAPERF_NODE_LOCAL, busy_task, arg);
}

static void check_busy(uint32_t backend)
{
    static const uint64_t unit_ns = 100000;
    alarms_open(backend);
    for (int i = 0; i < 4; i++)
        assert_int_equal(numaperf_rt_spawn(scene.box.rt, 0, busy_task, NULL), 0);
    run_on(0, start_mixed, (void *)&unit_ns);
    bool all = runtime_reaches(&scene.expired, TIMERS);
    atomic_store(&scene.quit, true);
    assert_true(all);
    scene_close();
}

static void busy_worker_runs_its_timers(void **state)
{
    (void)state;
    check_busy(NUMAPERF_IO_AUTO);
    check_busy(NUMAPERF_IO_EPOLL);
}

/* Due timers that never end must not keep a worker from its tasks. */
static void endless_expires(numaperf_worker_t *worker, void *arg)
{
    struct alarm *alarm = arg;
    (void)worker;
    (void)atomic_fetch_add(&scene.expired, 1);
    fault_unless(numaperf_timer_start(&alarm->timer, 0) == 0, "start");
}

static void start_endless(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    for (int i = 0; i < TIMERS; i++) {
        (void)numaperf_timer_init(worker, &alarms[i].timer, endless_expires, &alarms[i]);
        fault_unless(numaperf_timer_start(&alarms[i].timer, 0) == 0, "start");
    }
    (void)atomic_fetch_add(&scene.done, 1);
}

static void stop_all(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    int *active = arg;
    for (int i = 0; i < TIMERS; i++)
        *active += numaperf_timer_stop(&alarms[i].timer);
    (void)atomic_fetch_add(&scene.done, 1);
}

static void timers_that_are_always_due_leave_room_for_tasks(void **state)
{
    (void)state;
    int active = 0;
    alarms_open(NUMAPERF_IO_AUTO);
    run_on(0, start_endless, NULL);
    test_sleep_ms(20);
    run_on(0, stop_all, &active);
    assert_int_equal(active, TIMERS);
    int expired = atomic_load(&scene.expired);
    assert_true(expired > TIMERS);
    test_sleep_ms(5);
    assert_int_equal(atomic_load(&scene.expired), expired);
    scene_close();
}

/* ---- restart, stop ---- */

struct restarts {
    struct alarm *alarm;
    uint64_t count;
    uint64_t took_ns;
};

static void restart_often(numaperf_worker_t *worker, void *arg)
{
    struct restarts *own = arg;
    alarm_start(worker, own->alarm, own->alarm->delay_ns);
    own->alarm->from_ns = test_now_ns(); /* of the last restart, which is not before this */
    for (uint64_t i = 0; i < own->count; i++)
        fault_unless(numaperf_timer_restart(&own->alarm->timer) == 0, "restart");
    own->took_ns = test_now_ns() - own->alarm->from_ns;
    (void)atomic_fetch_add(&scene.done, 1);
}

static void restart_often_and_it_expires_once_after_the_last(void **state)
{
    (void)state;
    struct restarts own = {.alarm = &alarms[0], .count = 100000};
    alarms_open(NUMAPERF_IO_AUTO);
    alarms[0].delay_ns = 5 * MS_NS;
    for (int round = 1; round <= 5; round++) {
        run_on(0, restart_often, &own);
        assert_true(runtime_reaches(&scene.expired, round));
        assert_true(alarms[0].at_ns >= alarms[0].from_ns + 5 * MS_NS);
    }
    test_sleep_ms(10);
    assert_int_equal(atomic_load(&scene.expired), 5);
    print_message("%.1f ns a restart\n", (double)own.took_ns / (double)own.count);
    scene_close();
}

/* A hundred times a millisecond apart, which is what connections do. */
static void restart_in_turns(numaperf_worker_t *worker, void *arg)
{
    struct alarm *alarm = arg;
    if (alarm->sequence == 0 && alarm->from_ns == 0)
        alarm_start(worker, alarm, 20 * MS_NS);
    alarm->from_ns = test_now_ns();
    fault_unless(numaperf_timer_restart(&alarm->timer) == 0, "restart");
    (void)atomic_fetch_add(&scene.done, 1);
}

static void timer_that_is_restarted_in_time_does_not_expire(void **state)
{
    (void)state;
    alarms_open(NUMAPERF_IO_AUTO);
    for (int i = 0; i < 100; i++) {
        run_on(0, restart_in_turns, &alarms[0]);
        test_sleep_ms(1);
    }
    assert_true(runtime_reaches(&scene.expired, 1) || test_is_slow());
    if (!test_is_slow())
        assert_true(alarm_late_ns(&alarms[0]) < test_limit_ns(5));
    scene_close();
}

struct freed {
    numaperf_timer_t timer;
    numaperf_timer_t other;
};

/* Release the memory of both, the one that runs and one that was due as well. */
static void freeing_expires(numaperf_worker_t *worker, void *arg)
{
    struct freed *freed = arg;
    (void)worker;
    fault_unless(numaperf_timer_stop(&freed->timer) == 0, "not active while it runs");
    fault_unless(numaperf_timer_stop(&freed->other) == 1, "active, and due in half of the cases");
    memset(freed, 0x5a, sizeof(*freed));
    free(freed);
    (void)atomic_fetch_add(&scene.expired, 1);
}

static void start_freed(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        struct freed *freed = calloc(1, sizeof(*freed));
        if (freed == NULL)
            abort();
        (void)numaperf_timer_init(worker, &freed->timer, freeing_expires, freed);
        (void)numaperf_timer_init(worker, &freed->other, never_expires, freed);
        (void)numaperf_timer_start(&freed->timer, MS_NS);
        (void)numaperf_timer_start(&freed->other, 2 * MS_NS);
        if (i % 2 == 0) {
            (void)numaperf_timer_restart(&freed->timer);
            (void)numaperf_timer_restart(&freed->other);
        }
    }
    uint64_t end_ns = test_now_ns() + 3 * MS_NS;
    while (test_now_ns() < end_ns)
        ;
    (void)atomic_fetch_add(&scene.done, 1);
}

static void memory_may_be_released_when_a_timer_is_not_active(void **state)
{
    (void)state;
    alarms_open(NUMAPERF_IO_AUTO);
    run_on(0, start_freed, NULL);
    assert_true(runtime_reaches(&scene.expired, 100));
    scene_close();
}

static void start_and_stop(numaperf_worker_t *worker, void *arg)
{
    numaperf_timer_t timer;
    (void)arg;
    fault_unless(numaperf_timer_init(worker, &timer, never_expires, NULL) == 0, "init");
    fault_unless(numaperf_timer_stop(&timer) == 0, "stop before a start");
    fault_unless(numaperf_timer_restart(&timer) == -EINVAL, "restart before a start");
    for (unsigned shift = 0; shift < 64; shift++) {
        fault_unless(numaperf_timer_start(&timer, UINT64_C(1) << shift) == 0, "start");
        fault_unless(numaperf_timer_start(&timer, UINT64_MAX >> shift) == 0, "start again");
        fault_unless(numaperf_timer_restart(&timer) == 0, "restart");
        fault_unless(numaperf_timer_stop(&timer) == 1, "stop");
        fault_unless(numaperf_timer_stop(&timer) == 0, "stop again");
        fault_unless(numaperf_timer_restart(&timer) == 0, "restart after a stop");
        fault_unless(numaperf_timer_stop(&timer) == 1, "stop");
    }
    fault_unless(numaperf_timer_cancel(&timer) == -EINVAL, "cancel of a worker's timer");
    memset(&timer, 0, sizeof(timer));
    fault_unless(numaperf_timer_start(&timer, 1) == -EINVAL, "start without init");
    fault_unless(numaperf_timer_init(NULL, &timer, never_expires, NULL) == -EINVAL, "no worker");
    fault_unless(numaperf_timer_init(worker, &timer, NULL, NULL) == -EINVAL, "no function");
    fault_unless(numaperf_timer_init(worker, NULL, never_expires, NULL) == -EINVAL, "no timer");
    fault_unless(numaperf_timer_stop(NULL) == -EINVAL, "stop of NULL");
    (void)atomic_fetch_add(&scene.done, 1);
}

static void stopped_timer_does_not_expire_and_misuse_is_refused(void **state)
{
    (void)state;
    alarms_open(NUMAPERF_IO_AUTO);
    run_on(0, start_and_stop, NULL);
    numaperf_timer_t timer;
    numaperf_worker_t *worker = numaperf_rt_worker(scene.box.rt, 0);
    assert_int_equal(numaperf_timer_init(worker, &timer, never_expires, NULL), 0);
    assert_int_equal(numaperf_timer_start(&timer, 1), -EINVAL); /* this is not its worker */
    assert_string_equal(numaperf_last_error()->reason,
                        "called on another thread than that of worker 0");
    assert_int_equal(numaperf_timer_restart(&timer), -EINVAL);
    assert_int_equal(numaperf_timer_stop(&timer), -EINVAL);
    assert_int_equal(numaperf_timer_cancel(NULL), -EINVAL);
    test_sleep_ms(5);
    scene_close();
}

/* ---- cost ---- */

static uint64_t process_cpu_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void start_long(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    for (uint64_t i = 0; i < TIMERS; i++) /* from a minute to a century */
        alarm_start(worker, &alarms[i], (60000 + i * i * i * i * 2000) * MS_NS);
    (void)atomic_fetch_add(&scene.done, 1);
}

static void check_waiting_is_free(uint32_t backend)
{
    alarms_open(backend);
    run_on(0, start_long, NULL);
    for (int i = 0; i < 100; i++)
        assert_int_equal(
            numaperf_rt_spawn_after(scene.box.rt, NULL, HOUR_NS, never_expires, NULL, NULL), 0);
    test_sleep_ms(100);
    uint64_t before_ns = process_cpu_ns();
    test_sleep_ms(1500);
    uint64_t used_ns = process_cpu_ns() - before_ns;
    print_message("%.3f ms of CPU in 1.5 s\n", (double)used_ns / 1e6);
    if (!test_is_slow())
        assert_true(used_ns < MS_NS / 2);
    scene_close();
    assert_int_equal(atomic_load(&scene.cancelled), 100);
}

static void waiting_for_timers_costs_nothing(void **state)
{
    (void)state;
    check_waiting_is_free(NUMAPERF_IO_AUTO);
    check_waiting_is_free(NUMAPERF_IO_EPOLL);
}

/* ---- stop ---- */

static void worker_ends(numaperf_worker_t *worker, void *data)
{
    (void)data;
    struct alarm *alarm = &alarms[numaperf_worker_index(worker)];
    fault_unless(numaperf_timer_stop(&alarm->timer) == 0, "not active in the stop callback");
    fault_unless(numaperf_timer_start(&alarm->timer, 1) == NUMAPERF_E_STOPPING, "refused");
    fault_unless(numaperf_timer_restart(&alarm->timer) == NUMAPERF_E_STOPPING, "refused, too");
    (void)atomic_fetch_add(&scene.done, 1);
}

static int worker_begins(numaperf_worker_t *worker, void *data)
{
    (void)data;
    struct alarm *alarm = &alarms[numaperf_worker_index(worker)];
    int rc = numaperf_timer_init(worker, &alarm->timer, never_expires, alarm);
    return rc < 0 ? rc : numaperf_timer_start(&alarm->timer, HOUR_NS);
}

static void timers_of_workers_that_end_never_expire(void **state)
{
    (void)state;
    scene_reset(NUMAPERF_IO_AUTO);
    scene.box.config.on_worker_start = worker_begins;
    scene.box.config.on_worker_stop = worker_ends;
    assert_int_equal(runtime_box_open(&scene.box, "numa:3 pu:1"), 0);
    scene_close();
    assert_int_equal(atomic_load(&scene.done), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(idle_worker_on_the_ring_is_never_early_and_soon_there),
        cmocka_unit_test(idle_worker_on_epoll_is_never_early_and_soon_there),
        cmocka_unit_test(timers_expire_in_order_of_their_deadlines),
        cmocka_unit_test(busy_worker_runs_its_timers),
        cmocka_unit_test(timers_that_are_always_due_leave_room_for_tasks),
        cmocka_unit_test(restart_often_and_it_expires_once_after_the_last),
        cmocka_unit_test(timer_that_is_restarted_in_time_does_not_expire),
        cmocka_unit_test(memory_may_be_released_when_a_timer_is_not_active),
        cmocka_unit_test(stopped_timer_does_not_expire_and_misuse_is_refused),
        cmocka_unit_test(waiting_for_timers_costs_nothing),
        cmocka_unit_test(timers_of_workers_that_end_never_expire),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
