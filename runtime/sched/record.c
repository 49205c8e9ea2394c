/* SPDX-License-Identifier: MIT */
/*
 * Records of a node: fixed size, in regions of that node, made in chunks when they run out, up to a
 * limit, and never unmapped before all of them are. A record is known by its index, and its chunk
 * follows from that.
 *
 * Free ones are in the node's stack, or in the cache of a worker of the node. The caches are plain
 * memory of one thread each: two lists of at most 64; what one more would be too many for, goes
 * to the stack as a whole, so that a worker that frees what others get touches the stack once in 64
 * times. A record that is put by a thread without a cache for it goes home to the stack at once.
 *
 * The stack is lock-free: one word holds the index of its top and a tag. Any thread pushes a chain
 * or pops one. Who pops reads the top's `next`, which may be stale or already of another use by
 * then: it is atomic, its memory stays mapped, and the compare-and-swap fails when the word has
 * changed. That the word is the same though the stack is not (ABA) takes a top that was popped and
 * pushed again meanwhile; but every pop makes the tag one more, and it has 38 bits: a thread would
 * have to stand still for 2^38 pops of others, the better part of an hour of nothing else, and then
 * meet the very number. A push needs no more than the word it replaces: it reads nothing of the
 * stack but the top's index.
 *
 * The mutex is for making chunks only.
 *
 * Source: Treiber, "Systems Programming: Coping with Parallelism".
 */
#include "sched/record.h"

#include "base/assert.h"
#include "base/error.h"
#include "place/region.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_NONE NUMAPERF__RECORDS_MAX
#define RECORD_INDEX_BITS 26u
#define RECORD_FIRST_LOG2 10u /* records of the first chunk */
#define RECORD_CHUNK_LOG2 16u /* and of each that is not among the first */
#define RECORD_FIRST_CHUNKS (1u + RECORD_CHUNK_LOG2 - RECORD_FIRST_LOG2)
#define RECORD_CHUNKS_MAX (RECORD_FIRST_CHUNKS + (1u << (RECORD_INDEX_BITS - RECORD_CHUNK_LOG2)))
#define RECORD_LIST_MAX (NUMAPERF__RECORD_CACHE_MAX / 2)
#define RECORD_REFILL 32u /* records that a cache takes from the stack at once */

_Static_assert(sizeof(struct numaperf__record) == 128, "whole cache lines, and not one too many");
_Static_assert(offsetof(struct numaperf__record, fn) == 64, "tasks of groups touch one line");

struct numaperf__records {
    alignas(NUMAPERF_CACHE_LINE) _Atomic uint64_t top; /* tag << 26 | index; by anybody */
    /* Written under the mutex. A chunk is there before any index of it can be met. */
    alignas(NUMAPERF_CACHE_LINE) pthread_mutex_t mutex;
    _Atomic uint32_t made;
    struct numaperf__record *chunks[RECORD_CHUNKS_MAX];
    numaperf_region_t *regions[RECORD_CHUNKS_MAX];
    struct numaperf__records_config config;
};

/* ---- index ---- */

/* Chunks: 1024, 1024, 2048 ... 32768 records, which is 65536 together, and then 65536 each. */
static uint32_t record_chunk_of(uint32_t index)
{
    uint32_t high = index >> RECORD_FIRST_LOG2;
    if (high == 0)
        return 0;
    if (index >> RECORD_CHUNK_LOG2 == 0)
        return 32u - (uint32_t)__builtin_clz(high);
    return RECORD_FIRST_CHUNKS - 1 + (index >> RECORD_CHUNK_LOG2);
}

static uint32_t record_chunk_start(uint32_t chunk)
{
    if (chunk == 0)
        return 0;
    if (chunk < RECORD_FIRST_CHUNKS)
        return 1u << (RECORD_FIRST_LOG2 + chunk - 1);
    return (chunk - RECORD_FIRST_CHUNKS + 1) << RECORD_CHUNK_LOG2;
}

static struct numaperf__record *record_at(const struct numaperf__records *records, uint32_t index)
{
    uint32_t chunk = record_chunk_of(index);
    NUMAPERF_ASSERT_HOT(chunk < RECORD_CHUNKS_MAX && records->chunks[chunk] != NULL);
    return records->chunks[chunk] + (index - record_chunk_start(chunk));
}

static uint32_t record_next(const struct numaperf__record *record)
{
    return atomic_load_explicit(&record->next, memory_order_relaxed);
}

/* ---- stack ---- */

static uint32_t record_index_of(uint64_t top)
{
    return (uint32_t)(top & RECORD_NONE);
}

static void record_push(struct numaperf__records *records,
                        const struct numaperf__record_chain *chain)
{
    struct numaperf__record *last = record_at(records, chain->last);
    uint64_t top = atomic_load_explicit(&records->top, memory_order_relaxed);
    uint64_t wanted = 0;
    do {
        atomic_store_explicit(&last->next, record_index_of(top), memory_order_relaxed);
        wanted = (top & ~(uint64_t)RECORD_NONE) | chain->first;
        /* Release pairs with the acquire in record_pop(): links and records are as they were left.
         * What others have pushed before stays visible as well: this is part of their sequence. */
    } while (!atomic_compare_exchange_weak_explicit(&records->top, &top, wanted,
                                                    memory_order_acq_rel, memory_order_relaxed));
}

static struct numaperf__record *record_pop(struct numaperf__records *records)
{
    /* Acquire, both: pairs with the release in record_push(). */
    uint64_t top = atomic_load_explicit(&records->top, memory_order_acquire);
    while (record_index_of(top) != RECORD_NONE) {
        struct numaperf__record *record = record_at(records, record_index_of(top));
        uint64_t tag = (top >> RECORD_INDEX_BITS) + 1;
        uint64_t wanted = tag << RECORD_INDEX_BITS | record_next(record);
        if (atomic_compare_exchange_weak_explicit(&records->top, &top, wanted, memory_order_acq_rel,
                                                  memory_order_acquire))
            return record;
    }
    return NULL;
}

/* ---- create ---- */

int numaperf__records_create(const struct numaperf__records_config *config,
                             struct numaperf__records **out)
{
    struct numaperf__records *records = aligned_alloc(NUMAPERF_CACHE_LINE, sizeof(*records));
    if (records == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "records", "no memory for the records of node %d",
                              config->node);
    memset(records, 0, sizeof(*records));
    (void)pthread_mutex_init(&records->mutex, NULL); /* cannot fail on Linux */
    records->config = *config;
    if (records->config.limit > NUMAPERF__RECORDS_MAX)
        records->config.limit = NUMAPERF__RECORDS_MAX;
    atomic_store_explicit(&records->top, RECORD_NONE, memory_order_relaxed);
    *out = records;
    return 0;
}

void numaperf__records_destroy(struct numaperf__records *records)
{
    if (records == NULL)
        return;
    for (uint32_t i = 0; i < RECORD_CHUNKS_MAX; i++)
        numaperf_region_destroy(records->regions[i]);
    (void)pthread_mutex_destroy(&records->mutex); /* nobody has it */
    free(records);
}

static int record_map_chunk(struct numaperf__records *records, uint32_t chunk, uint32_t count)
{
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = (uint64_t)count * sizeof(struct numaperf__record);
    config.policy = NUMAPERF_MEM_BIND;
    config.mode = records->config.mode;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    config.nodes = numaperf_nodemask_single(records->config.node);
    const struct numaperf__region_extra extra = {.unplaced_reason =
                                                     records->config.unplaced_reason};
    int rc = numaperf__region_create(&config, &extra, &records->regions[chunk]);
    if (rc < 0)
        return numaperf__fail(-ENOMEM, ENOMEM, "records", "node %d: no memory for %u more tasks",
                              records->config.node, count);
    records->chunks[chunk] = numaperf_region_data(records->regions[chunk]);
    return 0;
}

/* Make the next chunk: its first record is the caller's, the others go to the stack. */
static int record_make_chunk(struct numaperf__records *records, struct numaperf__record **out)
{
    uint32_t made = atomic_load_explicit(&records->made, memory_order_relaxed);
    if (made >= records->config.limit)
        return -EAGAIN;
    uint32_t chunk = record_chunk_of(made);
    NUMAPERF_ASSERT(made == record_chunk_start(chunk));
    uint64_t end = record_chunk_start(chunk + 1);
    end = end < records->config.limit ? end : records->config.limit;
    uint32_t count = (uint32_t)(end - made);
    int rc = record_map_chunk(records, chunk, count);
    if (rc < 0)
        return rc;
    struct numaperf__record *chunk_records = records->chunks[chunk];
    for (uint32_t i = 0; i < count; i++) {
        chunk_records[i].index = made + i;
        atomic_store_explicit(&chunk_records[i].next, made + i + 1, memory_order_relaxed);
    }
    atomic_store_explicit(&records->made, made + count, memory_order_release);
    const struct numaperf__record_chain others = {
        .first = made + 1, .last = made + count - 1, .count = count - 1};
    if (count > 1)
        record_push(records, &others);
    *out = &chunk_records[0];
    return 0;
}

/* The stack was found empty. */
static int record_grow(struct numaperf__records *records, struct numaperf__record **out)
{
    (void)pthread_mutex_lock(&records->mutex); /* a plain mutex: neither call can fail */
    int rc = 0;
    *out = record_pop(records); /* another thread may have been here first */
    if (*out == NULL)
        rc = record_make_chunk(records, out);
    (void)pthread_mutex_unlock(&records->mutex);
    return rc;
}

/* ---- caches ---- */

static void record_chain_push(struct numaperf__record_chain *chain, struct numaperf__record *record)
{
    atomic_store_explicit(&record->next, chain->first, memory_order_relaxed);
    if (chain->count == 0)
        chain->last = record->index;
    chain->first = record->index;
    chain->count++;
}

static struct numaperf__record *record_chain_pop(const struct numaperf__records *records,
                                                 struct numaperf__record_chain *chain)
{
    NUMAPERF_ASSERT_HOT(chain->count > 0);
    struct numaperf__record *record = record_at(records, chain->first);
    chain->first = record_next(record);
    chain->count--;
    return record;
}

static struct numaperf__record *record_cache_pop(struct numaperf__records *records,
                                                 struct numaperf__record_cache *cache)
{
    if (cache->at_hand.count == 0 && cache->spare.count > 0) {
        cache->at_hand = cache->spare;
        cache->spare.count = 0;
    }
    if (cache->at_hand.count > 0)
        return record_chain_pop(records, &cache->at_hand);
    struct numaperf__record *first = record_pop(records);
    for (uint32_t i = 1; first != NULL && i < RECORD_REFILL; i++) {
        struct numaperf__record *record = record_pop(records);
        if (record == NULL)
            break;
        record_chain_push(&cache->at_hand, record);
    }
    return first;
}

int numaperf__record_get(struct numaperf__records *records, struct numaperf__record_cache *cache,
                         struct numaperf__record **out)
{
    struct numaperf__record *record =
        cache != NULL ? record_cache_pop(records, cache) : record_pop(records);
    if (record == NULL) {
        int rc = record_grow(records, &record);
        if (rc < 0)
            return rc;
    }
    *out = record;
    return 0;
}

void numaperf__record_put(struct numaperf__records *records, struct numaperf__record_cache *cache,
                          struct numaperf__record *record)
{
    if (cache == NULL) {
        const struct numaperf__record_chain single = {
            .first = record->index, .last = record->index, .count = 1};
        record_push(records, &single);
        return;
    }
    if (cache->at_hand.count == RECORD_LIST_MAX) {
        if (cache->spare.count > 0)
            record_push(records, &cache->spare);
        cache->spare = cache->at_hand;
        cache->at_hand.count = 0;
    }
    record_chain_push(&cache->at_hand, record);
}

/* ---- look ---- */

size_t numaperf__records_ranges(const struct numaperf__records *records,
                                struct numaperf__audit_range *out, size_t max)
{
    uint32_t made = numaperf__records_made(records);
    size_t count = made > 0 ? record_chunk_of(made - 1) + 1u : 0;
    count = count < max ? count : max;
    for (size_t i = 0; i < count; i++)
        numaperf__audit_range_of(records->regions[i], &out[i]);
    return count;
}

uint32_t numaperf__records_made(const struct numaperf__records *records)
{
    /* Pairs with the release of who made them: their chunks are there. */
    return atomic_load_explicit(&records->made, memory_order_acquire);
}

uint32_t numaperf__records_count_free(const struct numaperf__records *records)
{
    uint32_t count = 0;
    uint32_t index = record_index_of(atomic_load_explicit(&records->top, memory_order_acquire));
    for (; index != RECORD_NONE; index = record_next(record_at(records, index))) {
        count++;
        NUMAPERF_ASSERT(count <= numaperf__records_made(records));
    }
    return count;
}
