/* SPDX-License-Identifier: MIT */
/* Histograms: which bucket, how far off, and that sums and differences are those of the values. */
#include "stat/histogram.h"

#include "support/stress.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LAST (NUMAPERF_HISTOGRAM_BUCKETS - 1)
#define VALUES 2000

static const numaperf_histogram_t empty;

static void assert_bucket_holds(uint64_t value)
{
    uint32_t bucket = numaperf__histogram_bucket(value);
    assert_true(bucket <= LAST);
    assert_true(numaperf_histogram_bucket_min(bucket) <= value);
    assert_true(bucket == LAST || value < numaperf_histogram_bucket_min(bucket + 1));
}

static void every_value_is_in_the_bucket_that_holds_it(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 5000; value++)
        assert_bucket_holds(value);
    for (int shift = 3; shift < 64; shift++) {
        assert_bucket_holds((UINT64_C(1) << shift) - 1);
        assert_bucket_holds(UINT64_C(1) << shift);
        assert_bucket_holds((UINT64_C(1) << shift) + 1);
    }
    assert_bucket_holds(UINT64_MAX);
    uint64_t seed = 1;
    for (int i = 0; i < 10000; i++)
        assert_bucket_holds(stress_random(&seed) >> stress_below(&seed, 64));
}

static void buckets_follow_each_other_and_are_an_eighth_wide_at_most(void **state)
{
    (void)state;
    assert_int_equal(numaperf_histogram_bucket_min(0), 0);
    for (uint32_t i = 0; i <= LAST; i++) {
        uint64_t min = numaperf_histogram_bucket_min(i);
        uint64_t end = numaperf_histogram_bucket_min(i + 1);
        assert_true(end > min);
        assert_true(i < 16 ? end - min == 1 : (end - min) * 8 <= min);
    }
    assert_true(numaperf_histogram_bucket_min(LAST + 1) == UINT64_C(1) << 40);
    assert_true(numaperf_histogram_bucket_min(LAST + 2) == UINT64_MAX);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Values spread over `bits` bits, recorded, as a snapshot; and sorted. */
static void make(uint64_t seed, uint32_t bits, uint64_t *values, numaperf_histogram_t *out)
{
    struct numaperf__histogram *histogram = calloc(1, sizeof(*histogram));
    assert_non_null(histogram);
    for (int i = 0; i < VALUES; i++) {
        values[i] = stress_random(&seed) >> (64 - bits) >> stress_below(&seed, bits);
        numaperf__histogram_record_owner(histogram, values[i]);
    }
    *out = empty;
    numaperf__histogram_snapshot(histogram, out);
    free(histogram);
    qsort(values, VALUES, sizeof(*values), compare);
}

static void quantiles_are_a_sixteenth_off_at_most(void **state)
{
    (void)state;
    static const double shares[] = {0, 0.001, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999};
    uint64_t values[VALUES];
    numaperf_histogram_t histogram;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        make(seed, 4 + (uint32_t)seed % 36, values, &histogram);
        for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
            uint64_t told = numaperf_histogram_quantile(&histogram, shares[i]);
            uint64_t real = values[(size_t)(shares[i] * VALUES)];
            uint64_t off = told > real ? told - real : real - told;
            assert_true(off * 16 <= real);
        }
        assert_true(numaperf_histogram_quantile(&histogram, 1) == values[VALUES - 1]);
        assert_int_equal(histogram.count, VALUES);
        assert_true(histogram.max == values[VALUES - 1]);
    }
}

static void quantiles_of_nothing_and_of_odd_shares_are_harmless(void **state)
{
    (void)state;
    assert_int_equal(numaperf_histogram_quantile(NULL, 0.5), 0);
    assert_int_equal(numaperf_histogram_quantile(&empty, 0.5), 0);
    numaperf_histogram_t histogram = empty;
    histogram.count = 3;
    histogram.buckets[5] = 2;
    histogram.buckets[9] = 1;
    histogram.max = 9;
    assert_int_equal(numaperf_histogram_quantile(&histogram, -1), 5);
    assert_int_equal(numaperf_histogram_quantile(&histogram, NAN), 5);
    assert_int_equal(numaperf_histogram_quantile(&histogram, 0.66), 5);
    assert_int_equal(numaperf_histogram_quantile(&histogram, 0.67), 9);
    assert_int_equal(numaperf_histogram_quantile(&histogram, 7), 9);
}

static void values_beyond_the_last_bucket_keep_their_maximum(void **state)
{
    (void)state;
    struct numaperf__histogram *histogram = calloc(1, sizeof(*histogram));
    assert_non_null(histogram);
    numaperf__histogram_record_owner(histogram, UINT64_C(1) << 50);
    numaperf_histogram_t told = empty;
    numaperf__histogram_snapshot(histogram, &told);
    free(histogram);
    assert_int_equal(told.buckets[LAST], 1);
    assert_true(numaperf_histogram_quantile(&told, 0.5) == UINT64_C(1) << 50);
}

static void merged_is_what_both_had(void **state)
{
    (void)state;
    uint64_t values[VALUES];
    numaperf_histogram_t a;
    numaperf_histogram_t b;
    make(1, 20, values, &a);
    make(2, 30, values, &b);
    numaperf_histogram_t both = a;
    assert_int_equal(numaperf_histogram_merge(&both, &b), 0);
    assert_int_equal(both.count, 2 * VALUES);
    assert_true(both.sum == a.sum + b.sum);
    assert_true(both.max == (a.max > b.max ? a.max : b.max));
    for (uint32_t i = 0; i <= LAST; i++)
        assert_true(both.buckets[i] == a.buckets[i] + b.buckets[i]);
    assert_int_equal(numaperf_histogram_merge(NULL, &b), -EINVAL);
    assert_int_equal(numaperf_histogram_merge(&both, NULL), -EINVAL);
}

static void subtracted_is_what_came_since(void **state)
{
    (void)state;
    uint64_t values[VALUES];
    numaperf_histogram_t earlier;
    numaperf_histogram_t since;
    make(3, 38, values, &earlier);
    make(4, 12, values, &since);
    numaperf_histogram_t now = earlier;
    assert_int_equal(numaperf_histogram_merge(&now, &since), 0);
    assert_int_equal(numaperf_histogram_subtract(&now, &earlier), 0);
    assert_memory_equal(now.buckets, since.buckets, sizeof(now.buckets));
    assert_true(now.count == since.count && now.sum == since.sum);
    /* The largest of all was before; that of what is left is told by its bucket. */
    assert_true(now.max >= since.max && now.max - since.max <= since.max / 8);
    assert_int_equal(numaperf_histogram_subtract(&now, &since), 0);
    assert_memory_equal(&now, &empty, sizeof(now));
}

static void subtracting_what_is_not_earlier_is_refused_whole(void **state)
{
    (void)state;
    uint64_t values[VALUES];
    numaperf_histogram_t one;
    numaperf_histogram_t other;
    make(5, 30, values, &one);
    make(6, 10, values, &other);
    numaperf_histogram_t kept = one;
    assert_int_equal(numaperf_histogram_subtract(&one, &other), -EINVAL);
    assert_memory_equal(&one, &kept, sizeof(one));
    assert_int_equal(numaperf_histogram_subtract(NULL, &other), -EINVAL);
    assert_int_equal(numaperf_histogram_subtract(&one, NULL), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_is_in_the_bucket_that_holds_it),
        cmocka_unit_test(buckets_follow_each_other_and_are_an_eighth_wide_at_most),
        cmocka_unit_test(quantiles_are_a_sixteenth_off_at_most),
        cmocka_unit_test(quantiles_of_nothing_and_of_odd_shares_are_harmless),
        cmocka_unit_test(values_beyond_the_last_bucket_keep_their_maximum),
        cmocka_unit_test(merged_is_what_both_had),
        cmocka_unit_test(subtracted_is_what_came_since),
        cmocka_unit_test(subtracting_what_is_not_earlier_is_refused_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
