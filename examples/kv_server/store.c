/* SPDX-License-Identifier: MIT */
/*
 * A shard's table, by linear hashing (W. Litwin, "Linear hashing: a new tool for file and table
 * addressing", 1980): whenever there are more keys than buckets one bucket is split in two, so no
 * single command ever pays for rehashing the whole table.
 *
 * Buckets 0 .. bucket_count - 1 exist. Those below bucket_count - (round_mask + 1) were split in
 * this round and use one more bit of the hash. They lie in segments of one page each; only the
 * directory of segments is ever copied, 8 bytes for 512 buckets.
 *
 * The table does not shrink: what a burst of keys left behind is 8 bytes a key at most.
 */
#include "store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SEGMENT_BUCKETS 512u
#define FIRST_DIRECTORY 16u
/* 2^31 buckets; beyond that chains grow instead. */
#define BUCKETS_MAX (1u << 31)

struct entry {
    struct entry *next;
    uint64_t hash;
    struct value *value;
    uint32_t key_length;
    char key[];
};

struct segment {
    struct entry *buckets[SEGMENT_BUCKETS];
};

static struct value *value_create(numaperf_arena_t *arena, struct slice text)
{
    struct value *value = numaperf_arena_alloc(arena, sizeof(*value) + text.length, 16);
    if (value == NULL)
        return NULL;
    value->arena = arena;
    atomic_init(&value->references, 1);
    value->length = (uint32_t)text.length;
    memcpy(value->data, text.data, text.length);
    return value;
}

void value_drop(struct value *value)
{
    /* Acquire and release: whoever frees it comes after everyone who read it. */
    if (atomic_fetch_sub_explicit(&value->references, 1, memory_order_acq_rel) == 1)
        numaperf_arena_free(value->arena, value);
}

static void count_add(atomic_ullong *counter, uint64_t add)
{
    /* One writer, so no read-modify-write is needed; readers see one number or the next. */
    unsigned long long now = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, now + add, memory_order_relaxed);
}

static int store_add_segment(struct store *store)
{
    uint32_t index = store->bucket_count / SEGMENT_BUCKETS;
    if (index == store->directory_capacity) {
        uint32_t capacity = store->directory_capacity == 0 ? FIRST_DIRECTORY : 2 * index;
        struct segment **wider =
            numaperf_arena_alloc(store->arena, capacity * sizeof(struct segment *), 64);
        if (wider == NULL)
            return -ENOMEM;
        if (index > 0)
            memcpy(wider, store->directory, index * sizeof(struct segment *));
        numaperf_arena_free(store->arena, store->directory);
        store->directory = wider;
        store->directory_capacity = capacity;
    }
    struct segment *segment = numaperf_arena_alloc(store->arena, sizeof(*segment), 64);
    if (segment == NULL)
        return -ENOMEM;
    memset(segment, 0, sizeof(*segment));
    store->directory[index] = segment;
    return 0;
}

int store_init(struct store *store, numaperf_arena_t *arena, uint64_t byte_limit)
{
    memset(store, 0, sizeof(*store));
    store->arena = arena;
    store->byte_limit = byte_limit;
    if (store_add_segment(store) < 0)
        return -ENOMEM;
    store->bucket_count = SEGMENT_BUCKETS;
    store->round_mask = SEGMENT_BUCKETS - 1;
    return 0;
}

static struct entry **store_bucket(struct store *store, uint32_t index)
{
    return &store->directory[index / SEGMENT_BUCKETS]->buckets[index % SEGMENT_BUCKETS];
}

static uint32_t store_index(const struct store *store, uint64_t hash)
{
    uint32_t index = (uint32_t)hash & store->round_mask;
    uint32_t split = store->bucket_count - (store->round_mask + 1);
    if (index < split)
        index = (uint32_t)hash & (store->round_mask * 2 + 1);
    return index;
}

/* The link that leads to the key, or to the NULL where it would be. */
static struct entry **store_find(struct store *store, struct slice key, uint64_t hash)
{
    struct entry **link = store_bucket(store, store_index(store, hash));
    for (; *link != NULL; link = &(*link)->next) {
        const struct entry *entry = *link;
        if (entry->hash == hash && entry->key_length == key.length &&
            memcmp(entry->key, key.data, key.length) == 0)
            break;
    }
    return link;
}

/* Splits the next bucket in turn. Without memory for it the table just stays as it is. */
static void store_grow(struct store *store)
{
    if (store->bucket_count >= BUCKETS_MAX)
        return;
    if (store->bucket_count % SEGMENT_BUCKETS == 0 && store_add_segment(store) < 0)
        return;
    uint32_t high = store->bucket_count;
    struct entry **from = store_bucket(store, high - (store->round_mask + 1));
    struct entry **to = store_bucket(store, high);
    store->bucket_count++;
    if (store->bucket_count == 2 * (store->round_mask + 1))
        store->round_mask = store->bucket_count - 1;
    while (*from != NULL) {
        struct entry *entry = *from;
        if (store_index(store, entry->hash) != high) {
            from = &entry->next;
            continue;
        }
        *from = entry->next;
        entry->next = *to;
        *to = entry;
    }
}

struct value *store_get(struct store *store, struct slice key, uint64_t hash)
{
    struct entry *entry = *store_find(store, key, hash);
    if (entry == NULL)
        return NULL;
    /* The table's own reference keeps it alive meanwhile. */
    atomic_fetch_add_explicit(&entry->value->references, 1, memory_order_relaxed);
    return entry->value;
}

static int store_insert(struct store *store, struct slice key, uint64_t hash, struct value *value)
{
    struct entry *entry = numaperf_arena_alloc(store->arena, sizeof(*entry) + key.length, 16);
    if (entry == NULL)
        return -ENOMEM;
    unsigned long long keys = atomic_load_explicit(&store->key_count, memory_order_relaxed);
    if (keys >= store->bucket_count)
        store_grow(store);
    struct entry **bucket = store_bucket(store, store_index(store, hash));
    entry->next = *bucket;
    entry->hash = hash;
    entry->value = value;
    entry->key_length = (uint32_t)key.length;
    memcpy(entry->key, key.data, key.length);
    *bucket = entry;
    count_add(&store->key_count, 1);
    return 0;
}

int store_set(struct store *store, struct slice key, uint64_t hash, struct slice value)
{
    struct entry *entry = *store_find(store, key, hash);
    uint64_t before = 0;
    uint64_t after = sizeof(struct value) + value.length;
    if (entry != NULL)
        before = sizeof(struct value) + entry->value->length;
    else
        after += sizeof(struct entry) + key.length;
    unsigned long long used = atomic_load_explicit(&store->byte_count, memory_order_relaxed);
    if (used - before + after > store->byte_limit)
        return -ENOMEM;

    struct value *made = value_create(store->arena, value);
    if (made == NULL)
        return -ENOMEM;
    if (entry == NULL && store_insert(store, key, hash, made) < 0) {
        value_drop(made);
        return -ENOMEM;
    }
    if (entry != NULL) {
        value_drop(entry->value);
        entry->value = made;
    }
    count_add(&store->byte_count, after - before);
    return 0;
}

int store_delete(struct store *store, struct slice key, uint64_t hash)
{
    struct entry **link = store_find(store, key, hash);
    struct entry *entry = *link;
    if (entry == NULL)
        return 0;
    uint64_t bytes = sizeof(struct value) + entry->value->length + sizeof(*entry) + key.length;
    *link = entry->next;
    value_drop(entry->value);
    numaperf_arena_free(store->arena, entry);
    count_add(&store->key_count, UINT64_MAX); /* less one */
    count_add(&store->byte_count, 0 - bytes);
    return 1;
}

int store_exists(struct store *store, struct slice key, uint64_t hash)
{
    return *store_find(store, key, hash) != NULL;
}

/* A whole decimal number as it would be printed: no spaces, no '+', no leading zeros. */
static int number_read(const struct value *value, int64_t *out)
{
    const char *text = value->data;
    size_t length = value->length;
    size_t sign = length > 0 && text[0] == '-' ? 1 : 0;
    if (length == sign || length > 20 || (text[sign] == '0' && length > 1))
        return -EINVAL;
    int64_t number = 0;
    for (size_t i = sign; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -EINVAL;
        int digit = text[i] - '0';
        /* Downwards: the lowest number has no positive twin. */
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_sub_overflow(number, digit, &number))
            return -EINVAL;
    }
    if (sign == 0 && __builtin_sub_overflow(INT64_C(0), number, &number))
        return -EINVAL;
    *out = number;
    return 0;
}

int store_increment(struct store *store, struct slice key, uint64_t hash, int64_t *out_number)
{
    struct entry *entry = *store_find(store, key, hash);
    int64_t number = 0;
    if (entry != NULL && number_read(entry->value, &number) < 0)
        return -EINVAL;
    if (number == INT64_MAX)
        return -ERANGE;
    number++;
    char text[24];
    int length = snprintf(text, sizeof(text), "%lld", (long long)number);
    struct slice value = {text, (size_t)length};
    int rc = store_set(store, key, hash, value);
    if (rc == 0)
        *out_number = number;
    return rc;
}
