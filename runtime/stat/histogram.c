/* SPDX-License-Identifier: MIT */
/*
 * Log-linear histograms: the octave between two powers of two is split into eight equal buckets, so
 * that a bucket is at most 1/8 of its values wide, and its middle at most 1/16 off. Below 16 a
 * bucket is one value wide. The bucket of a value is its highest bit and the three that follow.
 *
 * A snapshot's count is the sum of the buckets it read, never a number of its own: quantiles of a
 * histogram that is being filled are those of what was seen of it.
 *
 * Thread rule: one thread records; everybody may take a snapshot. A snapshot is plain memory.
 */
#include "stat/histogram.h"

#include "base/error.h"
#include "stat/stats.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#define HISTOGRAM_SUB_BITS 3u /* 2^3 buckets an octave */
#define HISTOGRAM_SUBS (1u << HISTOGRAM_SUB_BITS)
#define HISTOGRAM_LAST (NUMAPERF_HISTOGRAM_BUCKETS - 1u)

_Static_assert(NUMAPERF_HISTOGRAM_BUCKETS % HISTOGRAM_SUBS == 0, "whole octaves");
_Static_assert(sizeof(numaperf_histogram_t) == 2456, "public struct, part of others: fixed");
_Static_assert(offsetof(numaperf_histogram_t, buckets) == 24, "public struct: fixed");

/* ---- buckets ---- */

uint32_t numaperf__histogram_bucket(uint64_t value)
{
    if (value < HISTOGRAM_SUBS)
        return (uint32_t)value;
    uint32_t high = 63u - (uint32_t)__builtin_clzll(value);
    uint32_t shift = high - HISTOGRAM_SUB_BITS;
    uint32_t sub = (uint32_t)(value >> shift) & (HISTOGRAM_SUBS - 1);
    uint32_t bucket = (shift + 1) * HISTOGRAM_SUBS + sub;
    return bucket < HISTOGRAM_LAST ? bucket : HISTOGRAM_LAST;
}

uint64_t numaperf_histogram_bucket_min(uint32_t bucket)
{
    if (bucket > NUMAPERF_HISTOGRAM_BUCKETS)
        return UINT64_MAX;
    if (bucket < HISTOGRAM_SUBS)
        return bucket;
    uint32_t shift = bucket / HISTOGRAM_SUBS - 1;
    return (uint64_t)(HISTOGRAM_SUBS + bucket % HISTOGRAM_SUBS) << shift;
}

/* ---- fill ---- */

void numaperf__histogram_record_owner(struct numaperf__histogram *histogram, uint64_t value)
{
    numaperf__counter_add_owner(&histogram->buckets[numaperf__histogram_bucket(value)], 1);
    numaperf__counter_add_owner(&histogram->sum, value);
    if (value > atomic_load_explicit(&histogram->max, memory_order_relaxed))
        atomic_store_explicit(&histogram->max, value, memory_order_relaxed);
}

void numaperf__histogram_snapshot(const struct numaperf__histogram *histogram,
                                  numaperf_histogram_t *into)
{
    for (uint32_t i = 0; i < NUMAPERF_HISTOGRAM_BUCKETS; i++) {
        uint64_t n = atomic_load_explicit(&histogram->buckets[i], memory_order_relaxed);
        into->buckets[i] += n;
        into->count += n;
    }
    into->sum += atomic_load_explicit(&histogram->sum, memory_order_relaxed);
    uint64_t max = atomic_load_explicit(&histogram->max, memory_order_relaxed);
    if (max > into->max)
        into->max = max;
}

/* ---- snapshots ---- */

int numaperf_histogram_merge(numaperf_histogram_t *into, const numaperf_histogram_t *from)
{
    if (into == NULL || from == NULL)
        return numaperf__fail(-EINVAL, 0, "histogram", "into and from must not be NULL");
    for (uint32_t i = 0; i < NUMAPERF_HISTOGRAM_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum += from->sum;
    if (from->max > into->max)
        into->max = from->max;
    return 0;
}

int numaperf_histogram_subtract(numaperf_histogram_t *into, const numaperf_histogram_t *earlier)
{
    if (into == NULL || earlier == NULL)
        return numaperf__fail(-EINVAL, 0, "histogram", "into and earlier must not be NULL");
    bool is_earlier = earlier->count <= into->count && earlier->sum <= into->sum;
    uint32_t last = 0; /* bucket that is left */
    for (uint32_t i = 0; i < NUMAPERF_HISTOGRAM_BUCKETS; i++) {
        is_earlier = is_earlier && earlier->buckets[i] <= into->buckets[i];
        if (earlier->buckets[i] != into->buckets[i])
            last = i;
    }
    if (!is_earlier)
        return numaperf__fail(-EINVAL, 0, "histogram", "`earlier` has what `into` has not");

    for (uint32_t i = 0; i < NUMAPERF_HISTOGRAM_BUCKETS; i++)
        into->buckets[i] -= earlier->buckets[i];
    into->count -= earlier->count;
    into->sum -= earlier->sum;
    if (into->count == 0)
        into->max = 0;
    else if (last < HISTOGRAM_LAST && numaperf_histogram_bucket_min(last + 1) - 1 < into->max)
        into->max = numaperf_histogram_bucket_min(last + 1) - 1;
    return 0;
}

/* The middle of a bucket, but never above what there was. */
static uint64_t histogram_middle(const numaperf_histogram_t *histogram, uint32_t bucket)
{
    if (bucket == HISTOGRAM_LAST)
        return histogram->max;
    uint64_t min = numaperf_histogram_bucket_min(bucket);
    uint64_t middle = min + (numaperf_histogram_bucket_min(bucket + 1) - min - 1) / 2;
    return middle < histogram->max ? middle : histogram->max;
}

uint64_t numaperf_histogram_quantile(const numaperf_histogram_t *histogram, double q)
{
    if (histogram == NULL || histogram->count == 0)
        return 0;
    if (q >= 1)
        return histogram->max;
    /* How many values lie below it; also 0 for what is no number. */
    uint64_t below = q > 0 ? (uint64_t)(q * (double)histogram->count) : 0;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < NUMAPERF_HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > below)
            return histogram_middle(histogram, i);
    }
    return histogram->max; /* a count that is not the sum of the buckets, or rounding */
}
