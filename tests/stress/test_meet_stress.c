/* SPDX-License-Identifier: MIT */
/*
 * Tasks that wait for each other on as many workers as may run them: each meeting needs all of
 * these at the same time, so a worker that sleeps over a task that it may run is missed for ever.
 * Meetings are called from outside and inside, while the workers are awake, searching, on their way
 * to sleep or asleep. NUMAPERF_STRESS_SEED replays the choices.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/runtimes.h"
#include "support/stress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PARTIES_MAX 8
/* Dozes, of some 60 us each, until somebody counts as lost: not seconds, for a virtual machine may
 * stand still for several of them. */
#define LOST_DOZES 150000u

/* How a meeting is called. */
enum call {
    CALL_ONE_BY_ONE, /* from outside */
    CALL_BATCH,      /* from outside, too */
    CALL_INSIDE,     /* the first one spawns the others, and stays */
    CALL_INSIDE_BATCH,
    CALL_CHAIN, /* each one spawns the next, and stays */
    CALLS
};

struct meeting {
    numaperf_rt_t *rt;
    numaperf_spawn_options_t options;
    enum call call;
    int parties;
    uint64_t dozes_max;
    atomic_int begun;
    atomic_int arrived;
    atomic_int left;
    atomic_int missed; /* who waited in vain, or could not be spawned */
};

static void meeting_task(numaperf_worker_t *worker, void *arg);

static void doze(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = 5000}, NULL);
}

static void meeting_spawn(struct meeting *meeting, int count, bool batch)
{
    void *args[PARTIES_MAX];
    int rc = 0;
    for (int i = 0; i < count; i++) {
        args[i] = meeting;
        if (!batch && rc == 0)
            rc = numaperf_rt_spawn_with(meeting->rt, &meeting->options, meeting_task, meeting);
    }
    if (batch)
        rc = numaperf_rt_spawn_batch(meeting->rt, &meeting->options, meeting_task, args,
                                     (size_t)count);
    if (rc != 0)
        (void)atomic_fetch_add(&meeting->missed, 1);
}

static void meeting_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    struct meeting *meeting = arg;
    int number = atomic_fetch_add(&meeting->begun, 1);
    if (meeting->call == CALL_CHAIN && number + 1 < meeting->parties)
        meeting_spawn(meeting, 1, false);
    else if (number == 0 && (meeting->call == CALL_INSIDE || meeting->call == CALL_INSIDE_BATCH))
        meeting_spawn(meeting, meeting->parties - 1, meeting->call == CALL_INSIDE_BATCH);
    (void)atomic_fetch_add(&meeting->arrived, 1);
    uint64_t dozes = 0;
    while (atomic_load(&meeting->arrived) < meeting->parties &&
           atomic_load(&meeting->missed) == 0) {
        doze(); /* the one that is missed may need this very PU */
        if (++dozes > meeting->dozes_max)
            (void)atomic_fetch_add(&meeting->missed, 1);
    }
    (void)atomic_fetch_add(&meeting->left, 1);
}

/* Have one, and wait until all have gone; whether all came. */
static bool meeting_hold(struct meeting *meeting)
{
    atomic_store(&meeting->begun, 0);
    atomic_store(&meeting->arrived, 0);
    atomic_store(&meeting->left, 0);
    bool outside = meeting->call == CALL_ONE_BY_ONE || meeting->call == CALL_BATCH;
    meeting_spawn(meeting, outside ? meeting->parties : 1, meeting->call == CALL_BATCH);
    for (uint64_t dozes = 0;
         atomic_load(&meeting->left) < meeting->parties && dozes < 2 * meeting->dozes_max; dozes++)
        doze();
    return atomic_load(&meeting->left) == meeting->parties && atomic_load(&meeting->missed) == 0;
}

/* ---- who may come ---- */

struct scene {
    const char *machine;
    uint32_t workers_per_node;
    uint32_t nodes;
};

static const struct scene scenes[] = {
    {"numa:1 pu:2", 2, 1}, {"numa:2 pu:1", 1, 2}, {"numa:2 pu:2", 2, 2}, {"numa:1 pu:4", 3, 1}};
static const uint64_t spins[] = {0, 3000, UINT64_MAX};
#define SCENES (sizeof(scenes) / sizeof(scenes[0]))

static void scene_configure(uint64_t *random, const struct scene *scene,
                            numaperf_rt_config_t *config, numaperf_steal_rule_t *rule)
{
    static const uint64_t waits[] = {0, UINT64_MAX, 1000, 100000};
    config->workers_per_node = scene->workers_per_node;
    config->steal_policy =
        NUMAPERF_STEAL_LOCAL_ONLY + (uint32_t)stress_below(random, NUMAPERF_STEAL_ANY);
    config->io_backend = stress_below(random, 2) == 0 ? NUMAPERF_IO_AUTO : NUMAPERF_IO_EPOLL;
    config->spin_ns_max = spins[stress_below(random, 3)];
    /* Whom a rule lets wait must come all the same, when it is time. */
    *rule = (numaperf_steal_rule_t)NUMAPERF_STEAL_RULE_INIT;
    rule->wait_ns_min = waits[stress_below(random, 4)];
    rule->batch_max = (uint32_t)stress_below(random, 3);
    config->steal_rules = rule;
    config->steal_rule_count = stress_below(random, 2);
    if (config->steal_rule_count == 0)
        config->steal_rules = NULL;
}

/* Options of the next meeting, and how many workers may come to it. */
static void scene_call(uint64_t *random, const struct scene *scene,
                       const numaperf_rt_config_t *config, struct meeting *meeting)
{
    numaperf_spawn_options_t *options = &meeting->options;
    *options = (numaperf_spawn_options_t)NUMAPERF_SPAWN_OPTIONS_INIT;
    options->flags = NUMAPERF_SPAWN_HAS_NODE;
    options->node = (int32_t)stress_below(random, scene->nodes);
    options->priority = (uint32_t)stress_below(random, 2);
    bool stays = stress_below(random, 3) == 0;
    if (stays)
        options->flags |= NUMAPERF_SPAWN_NEVER_STEAL;
    bool at_home = stays || config->steal_policy == NUMAPERF_STEAL_LOCAL_ONLY;
    meeting->parties = (int)(scene->workers_per_node * (at_home ? 1 : scene->nodes));
    meeting->call = (enum call)stress_below(random, CALLS);
}

static void pause_ns(uint64_t ns)
{
    uint64_t until_ns = test_now_ns() + ns;
    while (test_now_ns() < until_ns)
        ;
}

static uint64_t meet_in(uint64_t *random, const struct scene *scene, uint64_t meetings)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    numaperf_steal_rule_t rule;
    scene_configure(random, scene, &box.config, &rule);
    assert_int_equal(runtime_box_open(&box, scene->machine), 0);
    struct meeting meeting;
    memset(&meeting, 0, sizeof(meeting));
    meeting.rt = box.rt;
    meeting.dozes_max = test_is_slow() ? 10 * LOST_DOZES : LOST_DOZES;
    bool all_came = true;
    uint64_t held = 0;
    for (; held < meetings && all_came; held++) {
        scene_call(random, scene, &box.config, &meeting);
        /* Most gaps are about as long as a worker takes to fall asleep. */
        pause_ns(stress_below(random, held % 8 == 0 ? 200000 : 12000));
        all_came = meeting_hold(&meeting);
    }
    if (!all_came)
        printf(
            "%s: %d of %d came, call %d, flags %#x, priority %u, policy %u, spin %llu, wait %llu\n",
            scene->machine, atomic_load(&meeting.arrived), meeting.parties, (int)meeting.call,
            meeting.options.flags, meeting.options.priority, box.config.steal_policy,
            (unsigned long long)box.config.spin_ns_max, (unsigned long long)rule.wait_ns_min);
    runtime_box_close(&box);
    assert_true(all_came);
    return held;
}

static void everybody_comes_who_may(void **state)
{
    (void)state;
    uint64_t random = stress_seed();
    uint64_t wanted = stress_count(40000);
    uint64_t held = 0;
    for (uint64_t round = 0; held < wanted || round < SCENES; round++)
        held += meet_in(&random, &scenes[round % SCENES], test_is_slow() ? 50 : 1000);
    printf("%llu meetings\n", (unsigned long long)held);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_comes_who_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
