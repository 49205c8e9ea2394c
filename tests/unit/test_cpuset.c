/* SPDX-License-Identifier: MIT */
/* Sets of PUs and nodes: arithmetic, limits, and the strictness of the list reader. */
#include <numaperf/cpuset.h>
#include <numaperf/error.h>

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void a_set_of_zero_bytes_is_empty(void **state)
{
    (void)state;
    numaperf_cpuset_t set;
    memset(&set, 0xff, sizeof(set));
    numaperf_cpuset_zero(&set);
    numaperf_cpuset_t zero = {{0}};
    assert_true(numaperf_cpuset_equal(&set, &zero));
    assert_int_equal(numaperf_cpuset_count(&set), 0);
    assert_int_equal(numaperf_cpuset_next(&set, -1), -1);

    numaperf_nodemask_t mask;
    memset(&mask, 0xff, sizeof(mask));
    numaperf_nodemask_zero(&mask);
    assert_int_equal(numaperf_nodemask_count(&mask), 0);
    assert_int_equal(numaperf_nodemask_next(&mask, -1), -1);
}

static void ids_at_both_ends_and_at_word_borders_are_kept_apart(void **state)
{
    (void)state;
    static const int ids[] = {0, 1, 63, 64, 65, 127, 128, 4095, 8191};
    numaperf_cpuset_t set = {{0}};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        assert_false(numaperf_cpuset_contains(&set, ids[i]));
        assert_int_equal(numaperf_cpuset_add(&set, ids[i]), 0);
        assert_int_equal(numaperf_cpuset_add(&set, ids[i]), 0);
        assert_true(numaperf_cpuset_contains(&set, ids[i]));
        assert_int_equal(numaperf_cpuset_count(&set), (int)i + 1);
    }
    int previous = -1;
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        previous = numaperf_cpuset_next(&set, previous);
        assert_int_equal(previous, ids[i]);
    }
    assert_int_equal(numaperf_cpuset_next(&set, previous), -1);
    assert_int_equal(numaperf_cpuset_next(&set, INT_MAX), -1);
    assert_int_equal(numaperf_cpuset_next(&set, INT_MIN), 0);

    assert_int_equal(numaperf_cpuset_remove(&set, 64), 0);
    assert_int_equal(numaperf_cpuset_remove(&set, 64), 0);
    assert_false(numaperf_cpuset_contains(&set, 64));
    assert_true(numaperf_cpuset_contains(&set, 63));
    assert_true(numaperf_cpuset_contains(&set, 65));
}

static void node_63_and_up_are_nodes_like_others(void **state)
{
    (void)state;
    static const int ids[] = {63, 64, 65, 1023};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        numaperf_nodemask_t mask = numaperf_nodemask_single(ids[i]);
        assert_int_equal(numaperf_nodemask_count(&mask), 1);
        assert_int_equal(numaperf_nodemask_next(&mask, -1), ids[i]);
        assert_true(numaperf_nodemask_contains(&mask, ids[i]));
        assert_int_equal(numaperf_nodemask_add(&mask, 0), 0);
        assert_int_equal(numaperf_nodemask_remove(&mask, ids[i]), 0);
        assert_int_equal(numaperf_nodemask_next(&mask, -1), 0);
    }
    numaperf_nodemask_t outside = numaperf_nodemask_single(NUMAPERF_NODE_MAX);
    assert_int_equal(numaperf_nodemask_count(&outside), 0);
    outside = numaperf_nodemask_single(-1);
    assert_int_equal(numaperf_nodemask_count(&outside), 0);
}

static void an_id_out_of_range_is_refused_and_named(void **state)
{
    (void)state;
    static const int ids[] = {-1, NUMAPERF_CPU_MAX, INT_MIN, INT_MAX};
    numaperf_cpuset_t set = {{0}};
    numaperf_nodemask_t mask = {{0}};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        assert_int_equal(numaperf_cpuset_add(&set, ids[i]), -EINVAL);
        assert_int_equal(numaperf_cpuset_remove(&set, ids[i]), -EINVAL);
        assert_false(numaperf_cpuset_contains(&set, ids[i]));
        assert_int_equal(numaperf_nodemask_add(&mask, ids[i]), -EINVAL);
        assert_int_equal(numaperf_nodemask_remove(&mask, ids[i]), -EINVAL);
        assert_false(numaperf_nodemask_contains(&mask, ids[i]));
    }
    assert_int_equal(numaperf_cpuset_count(&set), 0);
    assert_int_equal(numaperf_nodemask_count(&mask), 0);

    assert_int_equal(numaperf_nodemask_add(&mask, 1024), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "1024"));
    assert_int_equal(numaperf_cpuset_add(NULL, 0), -EINVAL);
    assert_int_equal(numaperf_nodemask_remove(NULL, 0), -EINVAL);
}

static void union_and_intersection_may_write_to_an_operand(void **state)
{
    (void)state;
    numaperf_cpuset_t a, b, both, either, expected;
    assert_int_equal(numaperf_cpuset_parse("0-3,100,8191", &a), 0);
    assert_int_equal(numaperf_cpuset_parse("2-5,100,200", &b), 0);
    numaperf_cpuset_intersect(&a, &b, &both);
    assert_int_equal(numaperf_cpuset_parse("2-3,100", &expected), 0);
    assert_true(numaperf_cpuset_equal(&both, &expected));
    numaperf_cpuset_union(&a, &b, &either);
    assert_int_equal(numaperf_cpuset_parse("0-5,100,200,8191", &expected), 0);
    assert_true(numaperf_cpuset_equal(&either, &expected));
    assert_false(numaperf_cpuset_equal(&either, &both));

    numaperf_cpuset_t copy = a;
    numaperf_cpuset_intersect(&copy, &b, &copy);
    assert_true(numaperf_cpuset_equal(&copy, &both));
    copy = b;
    numaperf_cpuset_union(&a, &copy, &copy);
    assert_true(numaperf_cpuset_equal(&copy, &either));

    numaperf_nodemask_t m, n, out;
    assert_int_equal(numaperf_nodemask_parse("0,64,1023", &m), 0);
    assert_int_equal(numaperf_nodemask_parse("64-65", &n), 0);
    numaperf_nodemask_intersect(&m, &n, &out);
    assert_int_equal(numaperf_nodemask_count(&out), 1);
    assert_true(numaperf_nodemask_contains(&out, 64));
    numaperf_nodemask_union(&m, &n, &out);
    assert_int_equal(numaperf_nodemask_count(&out), 4);
    assert_false(numaperf_nodemask_equal(&m, &out));
}

static void lists_as_the_kernel_writes_them_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        int count, first, last;
    } rows[] = {
        {"", 0, -1, -1},          {"\n", 0, -1, -1},         {"0", 1, 0, 0},
        {"0\n", 1, 0, 0},         {"7\n", 1, 7, 7},          {"0-3,8", 5, 0, 8},
        {"0-3,8\n", 5, 0, 8},     {"5-5", 1, 5, 5},          {"8,0-3", 5, 0, 8},
        {"1,1,1-2,2", 2, 1, 2},   {"0-8191", 8192, 0, 8191}, {"8191", 1, 8191, 8191},
        {"0,2,4,6,8\n", 5, 0, 8}, {"10-12,20", 4, 10, 20},   {"63-64", 2, 63, 64},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        numaperf_cpuset_t set;
        memset(&set, 0xa5, sizeof(set));
        assert_int_equal(numaperf_cpuset_parse(rows[i].list, &set), 0);
        assert_int_equal(numaperf_cpuset_count(&set), rows[i].count);
        assert_int_equal(numaperf_cpuset_next(&set, -1), rows[i].first);
        if (rows[i].last >= 0) {
            assert_true(numaperf_cpuset_contains(&set, rows[i].last));
            assert_int_equal(numaperf_cpuset_next(&set, rows[i].last), -1);
        }
    }
}

static void anything_else_is_refused_and_the_output_kept(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "3-",
        "-3",
        "5-3",
        "8192",
        "0-8192",
        "99999999999999999999",
        "1,,2",
        ",1",
        "1,",
        " 1",
        "1 ",
        "1, 2",
        "0x10",
        "010",
        "00",
        "1-2-3",
        "1--2",
        "+1",
        "a",
        "1a",
        "all",
        "1\n\n",
        "1\n2",
        "\n1",
        "1\t",
        "1;2",
        "1-\n",
        "4294967296",
        "18446744073709551616",
        "-",
        "0-2147483648",
        "1.5",
        "\xff",
        "0-3:1/2",
        "1\r\n",
    };
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        numaperf_cpuset_t set, before;
        memset(&set, 0xa5, sizeof(set));
        before = set;
        assert_int_equal(numaperf_cpuset_parse(lists[i], &set), -EINVAL);
        assert_memory_equal(&set, &before, sizeof(set));
        assert_int_equal(numaperf_last_error()->code, -EINVAL);

        numaperf_nodemask_t mask, mask_before;
        memset(&mask, 0x5a, sizeof(mask));
        mask_before = mask;
        assert_int_equal(numaperf_nodemask_parse(lists[i], &mask), -EINVAL);
        assert_memory_equal(&mask, &mask_before, sizeof(mask));
    }
    numaperf_nodemask_t mask;
    assert_int_equal(numaperf_nodemask_parse("1023", &mask), 0);
    assert_int_equal(numaperf_nodemask_parse("1024", &mask), -EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "1024"));
    assert_non_null(strstr(numaperf_last_error()->reason, "1023"));

    numaperf_cpuset_t set;
    assert_int_equal(numaperf_cpuset_parse(NULL, &set), -EINVAL);
    assert_int_equal(numaperf_cpuset_parse("0", NULL), -EINVAL);
    assert_int_equal(numaperf_nodemask_parse(NULL, NULL), -EINVAL);
}

static void text_is_written_as_snprintf_does(void **state)
{
    (void)state;
    numaperf_cpuset_t set;
    assert_int_equal(numaperf_cpuset_parse("8,0-3,100", &set), 0);
    char buf[32];
    memset(buf, 'x', sizeof(buf));
    assert_int_equal(numaperf_cpuset_format(&set, buf, sizeof(buf)), 9);
    assert_string_equal(buf, "0-3,8,100");

    memset(buf, 'x', sizeof(buf));
    assert_int_equal(numaperf_cpuset_format(&set, buf, 5), 9);
    assert_string_equal(buf, "0-3,");
    assert_int_equal(buf[5], 'x');
    assert_int_equal(numaperf_cpuset_format(&set, buf, 1), 9);
    assert_string_equal(buf, "");
    memset(buf, 'x', sizeof(buf));
    assert_int_equal(numaperf_cpuset_format(&set, buf, 0), 9);
    assert_int_equal(buf[0], 'x');
    assert_int_equal(numaperf_cpuset_format(&set, NULL, 0), 9);
    assert_int_equal(numaperf_cpuset_format(&set, NULL, 4), -EINVAL);
    assert_int_equal(numaperf_cpuset_format(NULL, buf, sizeof(buf)), -EINVAL);

    numaperf_cpuset_zero(&set);
    assert_int_equal(numaperf_cpuset_format(&set, buf, sizeof(buf)), 0);
    assert_string_equal(buf, "");

    numaperf_nodemask_t mask = numaperf_nodemask_single(1023);
    assert_int_equal(numaperf_nodemask_format(&mask, buf, sizeof(buf)), 4);
    assert_string_equal(buf, "1023");
}

static void the_longest_list_survives_a_round_trip(void **state)
{
    (void)state;
    numaperf_cpuset_t set = {{0}};
    for (int cpu = 0; cpu < NUMAPERF_CPU_MAX; cpu += 2)
        assert_int_equal(numaperf_cpuset_add(&set, cpu), 0);
    int length = numaperf_cpuset_format(&set, NULL, 0);
    assert_true(length > 18000);
    char *text = malloc((size_t)length + 1);
    assert_non_null(text);
    assert_int_equal(numaperf_cpuset_format(&set, text, (size_t)length + 1), length);
    assert_int_equal(strlen(text), length);
    numaperf_cpuset_t again;
    assert_int_equal(numaperf_cpuset_parse(text, &again), 0);
    assert_true(numaperf_cpuset_equal(&set, &again));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_set_of_zero_bytes_is_empty),
        cmocka_unit_test(ids_at_both_ends_and_at_word_borders_are_kept_apart),
        cmocka_unit_test(node_63_and_up_are_nodes_like_others),
        cmocka_unit_test(an_id_out_of_range_is_refused_and_named),
        cmocka_unit_test(union_and_intersection_may_write_to_an_operand),
        cmocka_unit_test(lists_as_the_kernel_writes_them_are_read),
        cmocka_unit_test(anything_else_is_refused_and_the_output_kept),
        cmocka_unit_test(text_is_written_as_snprintf_does),
        cmocka_unit_test(the_longest_list_survives_a_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
