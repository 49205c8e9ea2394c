/* SPDX-License-Identifier: MIT */
/*
 * One shard: a hash table of keys and values in the arena of the worker that owns it. Only that
 * worker may touch the table. A value never changes and is counted by reference, so other workers
 * may read one they hold and drop it, without a copy and without a lock.
 */
#ifndef EXAMPLES_KV_STORE_H
#define EXAMPLES_KV_STORE_H

#include <numaperf.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct slice {
    const char *data;
    size_t length;
};

struct value {
    numaperf_arena_t *arena; /* where it lives */
    atomic_uint references;
    uint32_t length;
    char data[];
};

void value_drop(struct value *value);

struct entry;
struct segment;

struct store {
    numaperf_arena_t *arena;
    uint64_t byte_limit;         /* of keys and values */
    struct segment **directory;  /* of buckets, in segments */
    uint32_t directory_capacity; /* segments */
    uint32_t bucket_count;
    uint32_t round_mask;     /* buckets at the start of this round of splits, less one */
    atomic_ullong key_count; /* written by the owner, read by anyone */
    atomic_ullong byte_count;
};

/* 0; -ENOMEM. Nothing needs undoing: the memory is the arena's. */
int store_init(struct store *store, numaperf_arena_t *arena, uint64_t byte_limit);

/* The value with one more reference, or NULL. */
struct value *store_get(struct store *store, struct slice key, uint64_t hash);

/* 0; -ENOMEM, and what was there before stays. */
int store_set(struct store *store, struct slice key, uint64_t hash, struct slice value);

/* 1 when the key was there, else 0. */
int store_delete(struct store *store, struct slice key, uint64_t hash);
int store_exists(struct store *store, struct slice key, uint64_t hash);

/* Adds one to a decimal number; an absent key counts as 0. 0; -EINVAL; -ERANGE; -ENOMEM. */
int store_increment(struct store *store, struct slice key, uint64_t hash, int64_t *out_number);

#endif
