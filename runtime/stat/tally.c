/* SPDX-License-Identifier: MIT */
/*
 * The tally: what became of tasks, in cells that one thread writes, so that counting a task is a
 * load and a store to a line of its own. Everything told of tasks is sums over such cells.
 *
 * Timed are tasks at random distances: with equal ones, a program whose tasks come in turns would
 * have the same one timed each time.
 *
 * Thread rule: the owner writes, anybody reads, relaxed.
 *
 * Source: xorshift32, Marsaglia, "Xorshift RNGs", 2003.
 */
#include "stat/tally.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

_Static_assert((NUMAPERF__TALLY_SAMPLE_EVERY & (NUMAPERF__TALLY_SAMPLE_EVERY - 1)) == 0,
               "a mask makes the distances");

struct numaperf__tally *numaperf__tally_create(uint32_t home_count, uint32_t seed)
{
    NUMAPERF_ASSERT(home_count > 0);

    size_t bytes =
        sizeof(struct numaperf__tally) + home_count * sizeof(struct numaperf__tally_home);
    bytes = (bytes + NUMAPERF_CACHE_LINE - 1) / NUMAPERF_CACHE_LINE * NUMAPERF_CACHE_LINE;
    struct numaperf__tally *tally = aligned_alloc(NUMAPERF_CACHE_LINE, bytes);
    if (tally == NULL)
        return NULL;
    memset(tally, 0, bytes);
    tally->home_count = home_count;
    tally->sample_in = 1;
    tally->random = seed * 2654435761u | 1u;
    return tally;
}

void numaperf__tally_destroy(struct numaperf__tally *tally)
{
    free(tally);
}

uint32_t numaperf__tally_next_gap(struct numaperf__tally *tally)
{
    uint32_t x = tally->random;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    tally->random = x;
    return 1 + (x >> 8) % (2 * NUMAPERF__TALLY_SAMPLE_EVERY);
}

void numaperf__tally_snapshot(const struct numaperf__tally *tally, uint32_t own_home,
                              numaperf_worker_stats_t *out)
{
    NUMAPERF_ASSERT(own_home < tally->home_count);

    for (uint32_t i = 0; i < tally->home_count; i++) {
        const struct numaperf__tally_home *home = &tally->homes[i];
        uint64_t ran = numaperf__counter_read(&home->ran);
        out->ran += ran;
        out->ran_remote += i != own_home ? ran : 0;
        out->cancelled += numaperf__counter_read(&home->cancelled);
    }
    numaperf__histogram_snapshot(&tally->wait, &out->wait);
    numaperf__histogram_snapshot(&tally->run, &out->run);
}
