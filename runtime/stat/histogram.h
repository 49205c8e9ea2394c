/* SPDX-License-Identifier: MIT */
/* A histogram that its owner goes on filling; the public one is a snapshot of such. */
#ifndef NUMAPERF_STAT_HISTOGRAM_H
#define NUMAPERF_STAT_HISTOGRAM_H

#include <numaperf/stats.h>

#include <stdatomic.h>
#include <stdint.h>

/* Written by one thread, read by anybody, all relaxed. */
struct numaperf__histogram {
    _Atomic uint64_t sum;
    _Atomic uint64_t max;
    _Atomic uint64_t buckets[NUMAPERF_HISTOGRAM_BUCKETS];
};

/* The bucket of a value. */
uint32_t numaperf__histogram_bucket(uint64_t value);
/* On the thread that fills it. */
void numaperf__histogram_record_owner(struct numaperf__histogram *histogram, uint64_t value);
/* Add what is in it now; any thread. */
void numaperf__histogram_snapshot(const struct numaperf__histogram *histogram,
                                  numaperf_histogram_t *into);

#endif
