/* SPDX-License-Identifier: MIT */
/* The rules beneath the steal policy: rows of the user, defaults by distance, decisions. */
#include "sched/observe.h"
#include "sched/rule.h"

#include "sched/budget.h"

#include <numaperf/error.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NOW_NS UINT64_C(1000000)
#define NO_LIMIT UINT64_MAX
#define NEVER NUMAPERF__RULE_NEVER_NS

/* ---- decisions ---- */

static void decisions_are_as_written(void **state)
{
    (void)state;
    const struct numaperf__rule plain = {.allowed = true, .backlog_min = 1, .batch_max = 64};
    const struct numaperf__rule forbidden = {.allowed = false, .backlog_min = 1, .batch_max = 64};
    const struct numaperf__rule slow = {
        .allowed = true, .backlog_min = 1, .batch_max = 64, .wait_ns_min = 5000};
    const struct numaperf__rule deep = {.allowed = true, .backlog_min = 10, .batch_max = 3};
    const struct numaperf__rule patient = {
        .allowed = true, .backlog_min = 1, .batch_max = 64, .wait_ns_min = UINT64_MAX - 1};
    const struct {
        const char *what;
        const struct numaperf__rule *rule;
        struct numaperf__offer offer;
        struct numaperf__decision wanted;
    } table[] = {
        {"nothing waits", &plain, {0, 0, NO_LIMIT, 0}, {0, NEVER}},
        {"one is taken whole", &plain, {1, 0, NO_LIMIT, 0}, {1, NOW_NS}},
        {"half of two", &plain, {2, 0, NO_LIMIT, 0}, {1, NOW_NS}},
        {"half of three, rounded up", &plain, {3, 0, NO_LIMIT, 0}, {2, NOW_NS}},
        {"half of 128 is the batch", &plain, {128, 0, NO_LIMIT, 0}, {64, NOW_NS}},
        {"no more than the batch", &plain, {129, 0, NO_LIMIT, 0}, {64, NOW_NS}},
        {"a backlog without end", &plain, {UINT64_MAX, 0, NO_LIMIT, 0}, {64, NOW_NS}},
        {"no more than the tokens", &plain, {100, 0, 7, 0}, {7, NOW_NS}},
        {"more tokens than half", &plain, {8, 0, 7, 0}, {4, NOW_NS}},
        {"forbidden", &forbidden, {100, UINT64_MAX, NO_LIMIT, 0}, {0, NEVER}},
        {"too few for the rule", &deep, {9, UINT64_MAX, NO_LIMIT, 0}, {0, NEVER}},
        {"just enough", &deep, {10, 0, NO_LIMIT, 0}, {3, NOW_NS}},
        {"just pushed", &slow, {4, 0, NO_LIMIT, 0}, {0, NOW_NS + 5000}},
        {"almost long enough", &slow, {4, 4999, NO_LIMIT, 0}, {0, NOW_NS + 1}},
        {"long enough", &slow, {4, 5000, NO_LIMIT, 0}, {2, NOW_NS}},
        {"longer", &slow, {4, UINT64_MAX, NO_LIMIT, 0}, {2, NOW_NS}},
        {"no token yet", &plain, {4, 0, 0, NOW_NS + 70}, {0, NOW_NS + 70}},
        {"a token that somebody took", &plain, {4, 0, 0, NOW_NS}, {0, NOW_NS + 1}},
        {"a token of the past", &plain, {4, 0, 0, 5}, {0, NOW_NS + 1}},
        {"the wait is longer", &slow, {4, 1000, 0, NOW_NS + 70}, {0, NOW_NS + 4000}},
        {"the token comes later", &slow, {4, 1000, 0, NOW_NS + 7000}, {0, NOW_NS + 7000}},
        {"waited, no token", &slow, {4, 5000, 0, NOW_NS + 7000}, {0, NOW_NS + 7000}},
        {"too few, and no token", &deep, {4, 0, 0, NOW_NS + 7000}, {0, NEVER}},
        {"a wait without end", &patient, {4, 9, NO_LIMIT, 0}, {0, UINT64_MAX}},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct numaperf__decision decision =
            numaperf__rule_decide(table[i].rule, NOW_NS, &table[i].offer);
        if (decision.count != table[i].wanted.count ||
            decision.until_ns != table[i].wanted.until_ns)
            fail_msg("%s: %llu tasks, until %llu", table[i].what,
                     (unsigned long long)decision.count, (unsigned long long)decision.until_ns);
    }
}

/* ---- defaults ---- */

static void waiting_time_grows_with_the_distance(void **state)
{
    (void)state;
    static const struct {
        int32_t distance;
        uint64_t wait_ns;
    } table[] = {{0, 0},
                 {10, 0},
                 {11, 0},
                 {12, 0},
                 {13, 2000},
                 {15, 2000},
                 {19, 2000},
                 {20, 5000},
                 {21, 5000},
                 {29, 5000},
                 {30, 20000},
                 {31, 20000},
                 {32, 20000},
                 {254, 20000},
                 {INT32_MAX, 20000},
                 {-1, 20000},
                 {NUMAPERF_E_UNSUPPORTED, 20000}};
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_int_equal(numaperf__rule_wait_ns(table[i].distance), table[i].wait_ns);
    for (int32_t distance = 10; distance < 300; distance++)
        assert_true(numaperf__rule_wait_ns(distance) <= numaperf__rule_wait_ns(distance + 1));
}

static void policy_decides_what_the_distance_may(void **state)
{
    (void)state;
    struct numaperf__rule rule =
        numaperf__rule_default(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, 21);
    assert_true(rule.allowed);
    assert_int_equal(rule.wait_ns_min, 5000);
    assert_int_equal(rule.backlog_min, 1);
    assert_int_equal(rule.batch_max, 64);
    assert_int_equal(rule.budget_per_s, 0);
    rule = numaperf__rule_default(NUMAPERF_STEAL_ANY, 31);
    assert_true(rule.allowed);
    assert_int_equal(rule.wait_ns_min, 0);
    rule = numaperf__rule_default(NUMAPERF_STEAL_LOCAL_ONLY, 11);
    assert_false(rule.allowed);
}

static void row_changes_what_it_says_and_leaves_the_rest(void **state)
{
    (void)state;
    const struct numaperf__rule defaults =
        numaperf__rule_default(NUMAPERF_STEAL_LOCAL_THEN_SOCKET_THEN_REMOTE, 21);
    numaperf_steal_rule_t row = NUMAPERF_STEAL_RULE_INIT;
    struct numaperf__rule rule = numaperf__rule_apply(&row, &defaults);
    assert_int_equal(rule.allowed, defaults.allowed);
    assert_int_equal(rule.backlog_min, defaults.backlog_min);
    assert_int_equal(rule.batch_max, defaults.batch_max);
    assert_int_equal(rule.wait_ns_min, defaults.wait_ns_min);
    assert_int_equal(rule.budget_per_s, defaults.budget_per_s);
    assert_int_equal(rule.budget_burst, defaults.budget_burst);

    row.backlog_min = 3;
    row.batch_max = 9;
    row.wait_ns_min = 77;
    row.budget_per_s = 1001;
    rule = numaperf__rule_apply(&row, &defaults);
    assert_true(rule.allowed);
    assert_int_equal(rule.backlog_min, 3);
    assert_int_equal(rule.batch_max, 9);
    assert_int_equal(rule.wait_ns_min, 77);
    assert_int_equal(rule.budget_per_s, 1001);
    assert_int_equal(rule.budget_burst, 101); /* a tenth, rounded up: never 0 */
    row.budget_burst = 5;
    row.wait_ns_min = UINT64_MAX;
    rule = numaperf__rule_apply(&row, &defaults);
    assert_int_equal(rule.budget_burst, 5);
    assert_int_equal(rule.wait_ns_min, 0);
    row.flags = NUMAPERF_STEAL_RULE_FORBID;
    assert_false(numaperf__rule_apply(&row, &defaults).allowed);
}

static void row_allows_nothing_that_the_policy_forbids(void **state)
{
    (void)state;
    const struct numaperf__rule defaults = numaperf__rule_default(NUMAPERF_STEAL_LOCAL_ONLY, 21);
    numaperf_steal_rule_t row = NUMAPERF_STEAL_RULE_INIT;
    row.wait_ns_min = UINT64_MAX;
    assert_false(numaperf__rule_apply(&row, &defaults).allowed);
}

/* ---- rows ---- */

static void row_names_its_pair_in_its_direction(void **state)
{
    (void)state;
    numaperf_steal_rule_t row = NUMAPERF_STEAL_RULE_INIT;
    assert_true(numaperf__rule_names(&row, 0, 1));
    row.thief = 0;
    assert_true(numaperf__rule_names(&row, 0, 1));
    assert_false(numaperf__rule_names(&row, 1, 0));
    row.victim = 3;
    assert_true(numaperf__rule_names(&row, 0, 3));
    assert_false(numaperf__rule_names(&row, 0, 1));
    assert_false(numaperf__rule_names(&row, 3, 0));
    row.thief = NUMAPERF_NODE_ANY;
    assert_true(numaperf__rule_names(&row, 7, 3));
    assert_false(numaperf__rule_names(&row, 3, 7));
}

/* A good row, then the bad one: the error must name index and field. */
static void assert_refused(const numaperf_steal_rule_t *bad, int code, const char *field)
{
    const numaperf_steal_rule_t rows[] = {NUMAPERF_STEAL_RULE_INIT, *bad};
    assert_int_equal(numaperf__rule_check_rows(rows, 2), code);
    const numaperf_error_t *error = numaperf_last_error();
    assert_int_equal(error->code, code);
    assert_non_null(strstr(error->reason, "steal_rules[1]"));
    assert_non_null(strstr(error->reason, field));
}

static void bad_row_is_named_with_its_field(void **state)
{
    (void)state;
    const numaperf_steal_rule_t good = NUMAPERF_STEAL_RULE_INIT;
    numaperf_steal_rule_t bad = good;
    bad.size = 0;
    assert_refused(&bad, -EINVAL, ".size");
    bad.size = sizeof(bad) + 8; /* not that of the first */
    assert_refused(&bad, -EINVAL, ".size");
    bad = good;
    bad.flags = 2;
    assert_refused(&bad, -EINVAL, ".flags");
    bad = good;
    bad.thief = NUMAPERF_NODE_LOCAL;
    assert_refused(&bad, -EINVAL, ".thief");
    bad = good;
    bad.victim = -3;
    assert_refused(&bad, -EINVAL, ".victim");
    bad = good;
    bad.thief = 4;
    bad.victim = 4;
    assert_refused(&bad, -EINVAL, "node 4");
    bad = good;
    bad.budget_per_s = NUMAPERF__BUDGET_MAX + 1;
    assert_refused(&bad, -EINVAL, ".budget_per_s");
    bad = good;
    bad.budget_per_s = 1;
    bad.budget_burst = NUMAPERF__BUDGET_MAX + 1;
    assert_refused(&bad, -EINVAL, ".budget_burst");
    bad.budget_burst = 1;
    bad.budget_per_s = 0;
    assert_refused(&bad, -EINVAL, ".budget_burst");
}

static void table_as_such_is_checked(void **state)
{
    (void)state;
    const numaperf_steal_rule_t row = NUMAPERF_STEAL_RULE_INIT;
    assert_int_equal(numaperf__rule_check_rows(NULL, 0), 0);
    assert_int_equal(numaperf__rule_check_rows(&row, 1), 0);
    assert_int_equal(numaperf__rule_check_rows(NULL, 1), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "steal_rules is NULL"));
    assert_int_equal(numaperf__rule_check_rows(&row, 0), -EINVAL);
    assert_int_equal(numaperf__rule_check_rows(&row, NUMAPERF__RULE_COUNT_MAX + 1), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "steal_rule_count"));
}

/* Rows of a caller that was built against a later release: larger, and each as large as the first.
 */
static void larger_rows_are_read_at_their_own_size(void **state)
{
    (void)state;
    struct {
        numaperf_steal_rule_t row;
        uint64_t unknown;
    } rows[3];
    memset(rows, 0, sizeof(rows));
    for (int i = 0; i < 3; i++) {
        rows[i].row = (numaperf_steal_rule_t)NUMAPERF_STEAL_RULE_INIT;
        rows[i].row.size = sizeof(rows[i]);
        rows[i].row.batch_max = (uint32_t)i + 1;
    }
    assert_int_equal(numaperf__rule_check_rows(&rows[0].row, 3), 0);
    numaperf_steal_rule_t loaded;
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(numaperf__rule_load(&rows[0].row, i, &loaded), 0);
        assert_int_equal(loaded.batch_max, i + 1);
    }
    rows[2].unknown = 1;
    assert_int_equal(numaperf__rule_check_rows(&rows[0].row, 3), -E2BIG);
    assert_non_null(strstr(numaperf_last_error()->reason, "steal_rules[2]"));
}

static void rows_below_the_first_release_are_refused(void **state)
{
    (void)state;
    numaperf_steal_rule_t row = NUMAPERF_STEAL_RULE_INIT;
    row.size -= 8;
    assert_int_equal(numaperf__rule_check_rows(&row, 1), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "steal_rules[0].size"));
    uint64_t rows[16] = {0};
    row.size = sizeof(row) + 4; /* elements would not lie where they may */
    memcpy(rows, &row, sizeof(row));
    assert_int_equal(
        numaperf__rule_check_rows((const numaperf_steal_rule_t *)(const void *)rows, 1), -EINVAL);
}

/* ---- observation ---- */

static void waiting_time_counts_from_the_first_look(void **state)
{
    (void)state;
    struct numaperf__observation seen = {0};
    assert_int_equal(numaperf__observe(&seen, 0, 0, 100), 0); /* nothing waits */
    assert_int_equal(numaperf__observe(&seen, 0, 3, 200), 0); /* somewhere since then */
    assert_int_equal(numaperf__observe(&seen, 0, 3, 250), 50);
    assert_int_equal(numaperf__observe(&seen, 2, 9, 300), 100); /* the third is still there */
    assert_int_equal(numaperf__observe(&seen, 3, 9, 400), 0);   /* a new one is at the head */
    assert_int_equal(numaperf__observe(&seen, 8, 9, 450), 50);
    assert_int_equal(numaperf__observe(&seen, 9, 9, 500), 0);
    assert_int_equal(numaperf__observe(&seen, 9, 9, 900), 0); /* an empty one does not age */
    assert_int_equal(numaperf__observe(&seen, 9, 10, 950), 0);
    assert_int_equal(numaperf__observe(&seen, 9, 10, 951), 1);
}

/* A queue of known times: the bound is never above how long the head has really waited. */
static void waiting_time_is_never_overstated(void **state)
{
    (void)state;
    uint64_t pushed_ns[256];
    struct numaperf__observation seen = {0};
    uint64_t head = 0;
    uint64_t tail = 0;
    uint32_t random = 1;
    uint64_t longest_ns = 0;
    for (uint64_t now_ns = 1; now_ns < 100000; now_ns++) {
        random = random * 1664525u + 1013904223u;
        uint32_t choice = random >> 24;
        if (choice < 60 && tail - head < 256)
            pushed_ns[tail++ % 256] = now_ns;
        else if (choice < 115 && head < tail)
            head++;
        if (choice % 3 != 0)
            continue;
        uint64_t waited_ns = numaperf__observe(&seen, head, tail, now_ns);
        assert_true(waited_ns <= (head < tail ? now_ns - pushed_ns[head % 256] : 0));
        longest_ns = waited_ns > longest_ns ? waited_ns : longest_ns;
    }
    assert_true(longest_ns > 100); /* and it does tell something */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decisions_are_as_written),
        cmocka_unit_test(waiting_time_grows_with_the_distance),
        cmocka_unit_test(policy_decides_what_the_distance_may),
        cmocka_unit_test(row_changes_what_it_says_and_leaves_the_rest),
        cmocka_unit_test(row_allows_nothing_that_the_policy_forbids),
        cmocka_unit_test(row_names_its_pair_in_its_direction),
        cmocka_unit_test(bad_row_is_named_with_its_field),
        cmocka_unit_test(table_as_such_is_checked),
        cmocka_unit_test(larger_rows_are_read_at_their_own_size),
        cmocka_unit_test(rows_below_the_first_release_are_refused),
        cmocka_unit_test(waiting_time_counts_from_the_first_look),
        cmocka_unit_test(waiting_time_is_never_overstated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
