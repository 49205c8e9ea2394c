/* SPDX-License-Identifier: MIT */
/*
 * What is known of every worker: of each part the first look and the last one.
 *
 * Invariant: where there is a last look there is a first one, and the first never changes.
 * Thread rule: any thread, under the mutex; nothing is asked of the kernel under it.
 */
#include "base/assert.h"
#include "base/error.h"
#include "sched/look.h"

#include <errno.h>
#include <stdlib.h>

struct evidence_item {
    struct numaperf__look first;
    struct numaperf__look last;
};

struct numaperf__evidence {
    pthread_mutex_t mutex;
    uint32_t worker_count;
    struct evidence_item items[]; /* under mutex; by worker, then by part */
};

int numaperf__evidence_create(uint32_t worker_count, struct numaperf__evidence **out)
{
    size_t count = (size_t)worker_count * NUMAPERF__PART_COUNT;
    struct numaperf__evidence *evidence =
        calloc(1, sizeof(*evidence) + count * sizeof(evidence->items[0]));
    if (evidence == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "evidence", "no memory for %u workers",
                              worker_count);
    (void)pthread_mutex_init(&evidence->mutex, NULL); /* cannot fail on Linux */
    evidence->worker_count = worker_count;
    *out = evidence;
    return 0;
}

void numaperf__evidence_destroy(struct numaperf__evidence *evidence)
{
    if (evidence == NULL)
        return;
    (void)pthread_mutex_destroy(&evidence->mutex); /* nobody has it */
    free(evidence);
}

static struct evidence_item *evidence_item(struct numaperf__evidence *evidence, uint32_t worker,
                                           enum numaperf__part part)
{
    NUMAPERF_ASSERT(worker < evidence->worker_count);
    NUMAPERF_ASSERT(part < NUMAPERF__PART_COUNT);
    return &evidence->items[(size_t)worker * NUMAPERF__PART_COUNT + part];
}

void numaperf__evidence_add(struct numaperf__evidence *evidence, uint32_t worker,
                            enum numaperf__part part, const struct numaperf__look *look)
{
    NUMAPERF_ASSERT(look->verdict != NUMAPERF__LOOK_NEVER);
    struct evidence_item *item = evidence_item(evidence, worker, part);
    (void)pthread_mutex_lock(&evidence->mutex); /* never locked twice: cannot fail */
    if (item->first.verdict == NUMAPERF__LOOK_NEVER)
        item->first = *look;
    item->last = *look;
    (void)pthread_mutex_unlock(&evidence->mutex); /* as above */
}

void numaperf__evidence_get(struct numaperf__evidence *evidence, uint32_t worker,
                            enum numaperf__part part, struct numaperf__look *out_first,
                            struct numaperf__look *out_last)
{
    const struct evidence_item *item = evidence_item(evidence, worker, part);
    (void)pthread_mutex_lock(&evidence->mutex); /* as above */
    *out_first = item->first;
    *out_last = item->last;
    (void)pthread_mutex_unlock(&evidence->mutex); /* as above */
}

void numaperf__evidence_gather(struct numaperf__evidence *evidence, const numaperf_rt_t *rt)
{
    NUMAPERF_ASSERT(rt->worker_count == evidence->worker_count);
    for (uint32_t i = 0; i < rt->worker_count; i++) {
        for (uint32_t part = 0; part < NUMAPERF__PART_COUNT; part++) {
            struct numaperf__look look;
            numaperf__look_at(&rt->workers[i], (enum numaperf__part)part, &look);
            numaperf__evidence_add(evidence, i, (enum numaperf__part)part, &look);
        }
    }
}
