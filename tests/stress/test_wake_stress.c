/* SPDX-License-Identifier: MIT */
/*
 * No wake is lost. One task at a time meets workers that are awake, searching, on their way to
 * sleep or asleep; nothing else happens that could rescue a task that was left behind. A task that
 * waits for seconds is lost.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/runtimes.h"
#include "support/stress.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SENDERS 2
#define MACHINES 3
#define LOST_SECONDS 5

static const char *const machines[MACHINES] = {NULL, "numa:2 pu:1", "numa:2 pu:2"};
static const uint64_t spins[] = {0, 3000, UINT64_MAX};

struct sender {
    pthread_t thread;
    numaperf_rt_t *rt;
    uint64_t random;
    uint64_t rounds;
    uint64_t limit_ns;
    int node_ids[4];
    uint32_t node_count;
    uint32_t worker_count;
    atomic_int ran;
    int lost; /* the kind of the task that was; -1 */
};

static void pause_ns(uint64_t ns)
{
    uint64_t until_ns = test_now_ns() + ns;
    while (test_now_ns() < until_ns)
        ;
}

/* Whether the task ran in time. Looking without pause would keep a worker's PU busy. */
static bool sender_sees(struct sender *sender, int wanted)
{
    uint64_t start_ns = test_now_ns();
    while (atomic_load(&sender->ran) < wanted) {
        uint64_t waited_ns = test_now_ns() - start_ns;
        if (waited_ns > sender->limit_ns)
            return false;
        if (waited_ns > 20000)
            (void)nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    }
    return true;
}

static int sender_spawn(struct sender *sender, int kind)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    int node = sender->node_ids[stress_below(&sender->random, sender->node_count)];
    switch (kind) {
    case 0:
        return numaperf_rt_spawn(sender->rt, NUMAPERF_NODE_ANY, runtime_count_task, &sender->ran);
    case 1:
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)stress_below(&sender->random, sender->worker_count);
        break;
    case 2:
        options.flags = NUMAPERF_SPAWN_HAS_NODE | NUMAPERF_SPAWN_NEVER_STEAL;
        options.node = node;
        break;
    default:
        return numaperf_rt_spawn(sender->rt, node, runtime_count_task, &sender->ran);
    }
    return numaperf_rt_spawn_with(sender->rt, &options, runtime_count_task, &sender->ran);
}

static void *sender_main(void *arg)
{
    struct sender *sender = arg;
    for (uint64_t i = 0; i < sender->rounds; i++) {
        int kind = (int)stress_below(&sender->random, 4);
        /* Most gaps are about as long as a worker takes to fall asleep. */
        pause_ns(stress_below(&sender->random, i % 8 == 0 ? 100000 : 8000));
        int before = atomic_load(&sender->ran);
        if (sender_spawn(sender, kind) != 0 || !sender_sees(sender, before + 1)) {
            sender->lost = kind;
            break;
        }
    }
    return NULL;
}

static void sender_init(struct sender *sender, numaperf_rt_t *rt, uint64_t seed, uint64_t rounds)
{
    memset(sender, 0, sizeof(*sender));
    sender->rt = rt;
    sender->random = seed;
    sender->rounds = rounds;
    sender->limit_ns = test_limit_ns(LOST_SECONDS);
    sender->lost = -1;
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(rt, &nodes), 0);
    for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0 && sender->node_count < 4;
         node = numaperf_nodemask_next(&nodes, node))
        sender->node_ids[sender->node_count++] = node;
    sender->worker_count = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
}

/* Each combination of machine, policy, backend and spin in turn, with `senders` threads. */
static void send_everywhere(int senders, uint64_t rounds)
{
    uint64_t random = stress_seed();
    uint32_t combinations = MACHINES * 3 * 2 * 3;
    for (uint32_t i = 0; i < combinations; i++) {
        struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
        box.config.workers_per_node = 1 + (uint32_t)stress_below(&random, 2);
        box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY + i / MACHINES % 3;
        box.config.io_backend = i / (MACHINES * 3) % 2 == 0 ? NUMAPERF_IO_AUTO : NUMAPERF_IO_EPOLL;
        box.config.spin_ns_max = spins[i / (MACHINES * 6)];
        assert_int_equal(runtime_box_open(&box, machines[i % MACHINES]), 0);
        struct sender own[SENDERS];
        for (int k = 0; k < senders; k++) {
            sender_init(&own[k], box.rt, stress_random(&random), rounds / combinations + 1);
            assert_int_equal(pthread_create(&own[k].thread, NULL, sender_main, &own[k]), 0);
        }
        int lost = -1;
        for (int k = 0; k < senders; k++) {
            assert_int_equal(pthread_join(own[k].thread, NULL), 0);
            lost = own[k].lost >= 0 ? own[k].lost : lost;
        }
        if (lost >= 0)
            printf("lost: kind %d, combination %u\n", lost, i);
        runtime_box_close(&box);
        assert_int_equal(lost, -1);
    }
}

static void no_task_of_one_sender_is_left_behind(void **state)
{
    (void)state;
    send_everywhere(1, stress_count(100000));
}

static void no_task_of_two_senders_is_left_behind(void **state)
{
    (void)state;
    send_everywhere(2, stress_count(60000));
}

/* ---- from inside ---- */

struct ball {
    atomic_int hops;
    int limit;
    int node_ids[2];
    atomic_int *finished;
};

/* From node to node: each hop wakes the other one, which has just gone to sleep. */
static void ball_task(numaperf_worker_t *worker, void *arg)
{
    struct ball *ball = arg;
    int hops = atomic_fetch_add(&ball->hops, 1) + 1;
    if (hops >= ball->limit) {
        (void)atomic_fetch_add(ball->finished, 1);
        return;
    }
    int node = ball->node_ids[hops % 2];
    if (numaperf_rt_spawn(numaperf_worker_rt(worker), node, ball_task, ball) != 0)
        (void)atomic_fetch_add(ball->finished, 1000);
}

static void balls_between_nodes_never_stop(void **state)
{
    (void)state;
    int limit = (int)stress_count(20000);
    for (uint32_t i = 0; i < 6; i++) {
        struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
        box.config.workers_per_node = 1;
        box.config.steal_policy = i % 3 + NUMAPERF_STEAL_LOCAL_ONLY;
        box.config.io_backend = i < 3 ? NUMAPERF_IO_AUTO : NUMAPERF_IO_EPOLL;
        box.config.spin_ns_max = UINT64_MAX;
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
        atomic_int finished = 0;
        struct ball balls[3];
        int ball_count = 1 + (int)i % 3;
        for (int k = 0; k < ball_count; k++) {
            balls[k] = (struct ball){.limit = limit, .node_ids = {0, 1}, .finished = &finished};
            assert_int_equal(numaperf_rt_spawn(box.rt, k % 2, ball_task, &balls[k]), 0);
        }
        uint64_t moved_ns = test_now_ns();
        int seen = -1;
        while (atomic_load(&finished) < ball_count) {
            int sum = 0;
            for (int k = 0; k < ball_count; k++)
                sum += atomic_load(&balls[k].hops);
            if (sum != seen)
                moved_ns = test_now_ns();
            seen = sum;
            assert_true(test_now_ns() - moved_ns < test_limit_ns(LOST_SECONDS));
            test_sleep_ms(2);
        }
        assert_int_equal(atomic_load(&finished), ball_count);
        runtime_box_close(&box);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_task_of_one_sender_is_left_behind),
        cmocka_unit_test(no_task_of_two_senders_is_left_behind),
        cmocka_unit_test(balls_between_nodes_never_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
