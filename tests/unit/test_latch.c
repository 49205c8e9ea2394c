/* SPDX-License-Identifier: MIT */
/* The latch: nobody passes before all have come, and nobody waits for one that never will. */
#include "sched/latch.h"

#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define PARTIES 4
#define PHASES 500

struct party {
    pthread_t thread;
    struct numaperf__latch *latch;
    atomic_int *arrived; /* of all parties, all phases */
    int phases;
    int passed;
    int early; /* times it passed before all had come */
    bool was_aborted;
};

static void *party_main(void *arg)
{
    struct party *party = arg;
    for (int phase = 0; phase < party->phases; phase++) {
        (void)atomic_fetch_add(party->arrived, 1);
        if (!numaperf__latch_arrive(party->latch)) {
            party->was_aborted = true;
            return NULL;
        }
        party->passed++;
        if (atomic_load(party->arrived) < (phase + 1) * PARTIES)
            party->early++;
    }
    return NULL;
}

static void start_parties(struct party *parties, int count, struct numaperf__latch *latch,
                          atomic_int *arrived, int phases)
{
    memset(parties, 0, (size_t)count * sizeof(*parties));
    for (int i = 0; i < count; i++) {
        parties[i].latch = latch;
        parties[i].arrived = arrived;
        parties[i].phases = phases;
        assert_int_equal(pthread_create(&parties[i].thread, NULL, party_main, &parties[i]), 0);
    }
}

static void join_parties(struct party *parties, int count)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(pthread_join(parties[i].thread, NULL), 0);
}

static void wait_for_arrivals(const atomic_int *arrived, int wanted)
{
    while (atomic_load(arrived) < wanted)
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    (void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* most wait by now */
}

static void phases_begin_when_all_have_come(void **state)
{
    (void)state;
    struct numaperf__latch latch;
    struct party parties[PARTIES];
    atomic_int arrived = 0;
    assert_int_equal(numaperf__latch_init(&latch, PARTIES), 0);
    start_parties(parties, PARTIES, &latch, &arrived, PHASES);
    join_parties(parties, PARTIES);
    for (int i = 0; i < PARTIES; i++) {
        assert_int_equal(parties[i].passed, PHASES);
        assert_int_equal(parties[i].early, 0);
        assert_false(parties[i].was_aborted);
    }
    assert_false(numaperf__latch_aborted(&latch, NULL));
    numaperf__latch_fini(&latch);
}

static void abort_lets_everybody_go_and_keeps_the_first_error(void **state)
{
    (void)state;
    struct numaperf__latch latch;
    struct party parties[PARTIES];
    atomic_int arrived = 0;
    assert_int_equal(numaperf__latch_init(&latch, PARTIES), 0);
    start_parties(parties, PARTIES - 1, &latch, &arrived, 1);
    wait_for_arrivals(&arrived, PARTIES - 1);
    for (int i = 0; i < PARTIES - 1; i++)
        assert_int_equal(parties[i].passed, 0);

    (void)numaperf__fail(-EIO, EIO, "first", "node 3");
    numaperf__latch_abort(&latch);
    (void)numaperf__fail(-EPERM, EPERM, "second", "node 4");
    numaperf__latch_abort(&latch);
    join_parties(parties, PARTIES - 1);
    for (int i = 0; i < PARTIES - 1; i++)
        assert_true(parties[i].was_aborted);

    numaperf_error_t error;
    assert_true(numaperf__latch_aborted(&latch, &error));
    assert_int_equal(error.code, -EIO);
    assert_string_equal(error.operation, "first");
    assert_string_equal(error.reason, "node 3");
    assert_false(numaperf__latch_arrive(&latch)); /* who comes later does not wait either */
    numaperf__latch_fini(&latch);
}

static void fewer_parties_release_those_who_wait(void **state)
{
    (void)state;
    struct numaperf__latch latch;
    struct party parties[PARTIES];
    atomic_int arrived = 0;
    assert_int_equal(numaperf__latch_init(&latch, PARTIES), 0);
    start_parties(parties, 2, &latch, &arrived, 1);
    wait_for_arrivals(&arrived, 2);
    numaperf__latch_set_parties(&latch, 2);
    join_parties(parties, 2);
    for (int i = 0; i < 2; i++)
        assert_int_equal(parties[i].passed, 1);
    numaperf__latch_fini(&latch);
}

static void fewer_parties_before_any_came_count_from_then_on(void **state)
{
    (void)state;
    struct numaperf__latch latch;
    assert_int_equal(numaperf__latch_init(&latch, PARTIES), 0);
    numaperf__latch_set_parties(&latch, 0); /* none will come */
    numaperf__latch_set_parties(&latch, 1);
    assert_true(numaperf__latch_arrive(&latch));
    assert_true(numaperf__latch_arrive(&latch));
    numaperf__latch_fini(&latch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phases_begin_when_all_have_come),
        cmocka_unit_test(abort_lets_everybody_go_and_keeps_the_first_error),
        cmocka_unit_test(fewer_parties_release_those_who_wait),
        cmocka_unit_test(fewer_parties_before_any_came_count_from_then_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
