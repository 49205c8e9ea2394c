/* SPDX-License-Identifier: MIT */
/*
 * Files in memory, one cache a node. An entry never changes; it is counted by reference, so a
 * connection may send from it while it is replaced or thrown out. It lies in the arena of the
 * worker that read it, and any worker of the node may use it and drop it.
 */
#ifndef EXAMPLES_HTTP_CACHE_H
#define EXAMPLES_HTTP_CACHE_H

#include "condition.h"
#include "path.h"

#include <numaperf.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define CACHE_BUCKETS 4096u
#define ENTRY_HEAD_BYTES 320u

struct entry {
    atomic_uint references;
    struct entry *next_in_bucket; /* under the cache's lock */
    struct entry *newer, *older;  /* the same: order of use */
    _Atomic uint64_t checked_ms;  /* when the file was last seen to be this version */
    numaperf_arena_t *arena;      /* where it lies */
    uint64_t hash;
    struct path path;
    struct validator validator;
    uint64_t inode;
    struct timespec modified;
    char etag[48];
    size_t head_length;
    char head[ENTRY_HEAD_BYTES]; /* fields of a 200, from Content-Type on, and the empty line */
    char *body;                  /* behind this; NULL: the entry only describes a file */
};

struct cache {
    pthread_mutex_t lock;
    struct entry *buckets[CACHE_BUCKETS];
    struct entry *newest, *oldest;
    uint64_t bytes, limit; /* of the entries */
    uint64_t hash_key[2];
    atomic_ullong evicted;
};

void cache_init(struct cache *cache, uint64_t limit, const uint64_t hash_key[2]);
/* Drops every entry; those that are used live on until they are not. */
void cache_fini(struct cache *cache);

/* The entry with one more reference, or NULL. */
struct entry *cache_get(struct cache *cache, const struct path *path);
/* Puts an entry in, in place of one of the same path; throws out what was used longest ago. */
void cache_put(struct cache *cache, struct entry *entry);
/* The file is gone, or another: forget it. */
void cache_forget(struct cache *cache, const struct path *path);
uint64_t cache_bytes(struct cache *cache);

/* Room for a file of that kind, with one reference; NULL: no memory, or too large. */
struct entry *entry_create(numaperf_arena_t *arena, const struct path *path,
                           const struct statx *file);
void entry_drop(struct entry *entry);
bool entry_is(const struct entry *entry, const struct statx *file);

/* ETag, type and dates of a file that is not cached. */
void entry_describe(struct entry *entry, const struct path *path, const struct statx *file);

#endif
