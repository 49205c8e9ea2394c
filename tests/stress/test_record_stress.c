/* SPDX-License-Identifier: MIT */
/* Records under many threads: no two have one at the same time, and none is lost. */
#include "sched/record.h"

#include <numaperf/topology.h>

#include "support/stress.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define THREADS 4
#define HELD_MAX 400
#define SHARED 64
#define LIMIT 1200 /* fewer than all threads could hold, so that they run out at times */

/* A place where threads leave records for each other. */
static _Atomic(struct numaperf__record *) shared[SHARED];
static struct numaperf__records *records;
static atomic_int faults;
static atomic_uint refused;

struct user {
    pthread_t thread;
    uint64_t random;
    uint64_t steps;
    bool has_cache;
    struct numaperf__record_cache cache;
    struct numaperf__record *held[HELD_MAX];
    uint32_t held_count;
};

/* Who has a record writes its own mark, and finds it when it gives the record back. */
static void take(struct user *user)
{
    struct numaperf__record *record = NULL;
    int rc = numaperf__record_get(records, user->has_cache ? &user->cache : NULL, &record);
    if (rc == -EAGAIN) {
        (void)atomic_fetch_add(&refused, 1);
        return;
    }
    if (rc < 0) {
        (void)atomic_fetch_add(&faults, 1);
        return;
    }
    record->arg = user;
    record->timer.deadline_ns = (uint64_t)(uintptr_t)record;
    user->held[user->held_count++] = record;
}

static void give_back(struct user *user, struct numaperf__record *record)
{
    if (record->arg != user || record->timer.deadline_ns != (uint64_t)(uintptr_t)record)
        (void)atomic_fetch_add(&faults, 1);
    record->arg = NULL;
    numaperf__record_put(records, user->has_cache ? &user->cache : NULL, record);
}

/* Leave one for another thread, and have what was left there. */
static void exchange(struct user *user, uint32_t i)
{
    struct numaperf__record *other =
        atomic_exchange(&shared[stress_below(&user->random, SHARED)], user->held[i]);
    if (other == NULL) {
        user->held[i] = user->held[--user->held_count];
        return;
    }
    other->arg = user;
    user->held[i] = other;
}

static void *user_main(void *arg)
{
    struct user *user = arg;
    for (uint64_t step = 0; step < user->steps; step++) {
        uint64_t kind = stress_below(&user->random, 8);
        uint32_t i = user->held_count > 0 ? (uint32_t)stress_below(&user->random, user->held_count)
                                          : UINT32_MAX;
        if (kind < 4 && user->held_count < HELD_MAX) {
            take(user);
        } else if (i != UINT32_MAX && kind < 5) {
            exchange(user, i);
        } else if (i != UINT32_MAX) {
            give_back(user, user->held[i]);
            user->held[i] = user->held[--user->held_count];
        }
        if (stress_below(&user->random, 1024) == 0)
            (void)sched_yield();
    }
    while (user->held_count > 0)
        give_back(user, user->held[--user->held_count]);
    return NULL;
}

static void records_are_never_of_two_threads_and_none_is_lost(void **state)
{
    (void)state;
    static struct user users[THREADS];
    numaperf_topology_t *topology = NULL;
    numaperf_nodemask_t nodes;
    uint64_t random = stress_seed();
    assert_int_equal(numaperf_topology_discover(&topology), 0);
    assert_int_equal(numaperf_topology_usable_nodes(topology, &nodes), 0);
    const struct numaperf__records_config config = {.node = numaperf_nodemask_next(&nodes, -1),
                                                    .limit = LIMIT};
    numaperf_topology_destroy(topology);
    assert_int_equal(numaperf__records_create(&config, &records), 0);
    for (int i = 0; i < THREADS; i++) {
        users[i].random = stress_random(&random);
        users[i].steps = stress_count(3000000);
        users[i].has_cache = i % 2 == 0;
        assert_int_equal(pthread_create(&users[i].thread, NULL, user_main, &users[i]), 0);
    }
    uint32_t cached = 0;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(users[i].thread, NULL), 0);
        cached += users[i].cache.at_hand.count + users[i].cache.spare.count;
    }
    uint32_t left = 0;
    for (int i = 0; i < SHARED; i++)
        left += atomic_load(&shared[i]) != NULL;
    assert_int_equal(atomic_load(&faults), 0);
    assert_int_equal(numaperf__records_count_free(records) + cached + left,
                     numaperf__records_made(records));
    print_message("%u made, %u times none was left\n", numaperf__records_made(records),
                  atomic_load(&refused));
    numaperf__records_destroy(records);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_never_of_two_threads_and_none_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
