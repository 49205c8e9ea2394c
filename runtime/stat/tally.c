/* SPDX-License-Identifier: MIT */
/*
 * The tally: what became of tasks, in cells that one thread writes, so that counting a task is a
 * load and a store to a line of its own. Everything told of tasks is sums over such cells.
 *
 * Thread rule: the owner writes, anybody reads: relaxed to tell of it, with acquire to conclude
 * from it that tasks are over.
 */
#include "stat/tally.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

struct numaperf__tally *numaperf__tally_create(uint32_t home_count)
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
    return tally;
}

void numaperf__tally_destroy(struct numaperf__tally *tally)
{
    free(tally);
}

uint64_t numaperf__tally_finished(const struct numaperf__tally *tally)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < tally->home_count; i++) {
        const struct numaperf__tally_home *home = &tally->homes[i];
        /* Acquire, all: pairs with the release in numaperf__tally_finish_owner(). */
        sum += atomic_load_explicit(&home->ran, memory_order_acquire);
        sum += atomic_load_explicit(&home->cancelled, memory_order_acquire);
        sum += atomic_load_explicit(&home->retracted, memory_order_acquire);
    }
    return sum;
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
