/* SPDX-License-Identifier: MIT */
/*
 * The lock is held for a look-up or a change of links, never while memory is filled or a file is
 * asked. Workers take it once a second and file: in between each remembers what it found (conn.c).
 */
#include "cache.h"

#include "../kv_server/siphash.h"
#include "date.h"
#include "mime.h"

#include <stdio.h>
#include <string.h>

/* ---- entries ---- */

void entry_describe(struct entry *entry, const struct path *path, const struct statx *file)
{
    char date[DATE_BYTES];
    entry->path = *path;
    entry->inode = file->stx_ino;
    entry->modified.tv_sec = (time_t)file->stx_mtime.tv_sec;
    entry->modified.tv_nsec = (long)file->stx_mtime.tv_nsec;
    int length = snprintf(entry->etag, sizeof(entry->etag), "\"%llx-%x-%llx\"",
                          (unsigned long long)file->stx_mtime.tv_sec, file->stx_mtime.tv_nsec,
                          (unsigned long long)file->stx_size);
    entry->validator = (struct validator){.etag = entry->etag,
                                          .etag_length = (size_t)length,
                                          .modified = entry->modified.tv_sec,
                                          .size = file->stx_size};
    date_format(entry->modified.tv_sec, date);
    length = snprintf(entry->head, sizeof(entry->head),
                      "Content-Type: %s\r\nLast-Modified: %s\r\nETag: %s\r\n"
                      "Accept-Ranges: bytes\r\nContent-Length: %llu\r\n\r\n",
                      mime_type(path->text, path->length), date, entry->etag,
                      (unsigned long long)file->stx_size);
    entry->head_length = (size_t)length;
}

struct entry *entry_create(numaperf_arena_t *arena, const struct path *path,
                           const struct statx *file)
{
    if (file->stx_size > HTTP_ENTRY_MAX)
        return NULL;
    struct entry *entry = numaperf_arena_alloc(arena, sizeof(*entry) + file->stx_size, 64);
    if (entry == NULL)
        return NULL;
    memset(entry, 0, sizeof(*entry));
    atomic_init(&entry->references, 1);
    entry->arena = arena;
    entry->body = (char *)(entry + 1);
    entry_describe(entry, path, file);
    return entry;
}

void entry_drop(struct entry *entry)
{
    /* Acquire and release: whoever frees it comes after everyone who read it. */
    if (atomic_fetch_sub_explicit(&entry->references, 1, memory_order_acq_rel) == 1)
        numaperf_arena_free(entry->arena, entry);
}

bool entry_is(const struct entry *entry, const struct statx *file)
{
    return entry->inode == file->stx_ino && entry->validator.size == file->stx_size &&
           entry->modified.tv_sec == (time_t)file->stx_mtime.tv_sec &&
           entry->modified.tv_nsec == (long)file->stx_mtime.tv_nsec;
}

/* ---- cache ---- */

void cache_init(struct cache *cache, uint64_t limit, const uint64_t hash_key[2])
{
    memset(cache, 0, sizeof(*cache));
    pthread_mutex_init(&cache->lock, NULL);
    cache->limit = limit;
    cache->hash_key[0] = hash_key[0];
    cache->hash_key[1] = hash_key[1];
}

static uint64_t entry_bytes(const struct entry *entry)
{
    return sizeof(*entry) + entry->validator.size;
}

static struct entry **cache_link(struct cache *cache, const struct path *path, uint64_t hash)
{
    struct entry **link = &cache->buckets[hash % CACHE_BUCKETS];
    for (; *link != NULL; link = &(*link)->next_in_bucket) {
        const struct entry *entry = *link;
        if (entry->hash == hash && entry->path.length == path->length &&
            memcmp(entry->path.text, path->text, path->length) == 0)
            break;
    }
    return link;
}

static void order_remove(struct cache *cache, struct entry *entry)
{
    *(entry->newer != NULL ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void order_push(struct cache *cache, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = cache->newest;
    if (cache->newest != NULL)
        cache->newest->newer = entry;
    else
        cache->oldest = entry;
    cache->newest = entry;
}

/* Takes it out; the caller drops the cache's reference once the lock is free. */
static struct entry *cache_take(struct cache *cache, struct entry **link)
{
    struct entry *entry = *link;
    *link = entry->next_in_bucket;
    order_remove(cache, entry);
    cache->bytes -= entry_bytes(entry);
    return entry;
}

void cache_fini(struct cache *cache)
{
    while (cache->newest != NULL) {
        struct entry *entry = cache->newest;
        entry_drop(cache_take(cache, cache_link(cache, &entry->path, entry->hash)));
    }
    pthread_mutex_destroy(&cache->lock);
}

struct entry *cache_get(struct cache *cache, const struct path *path)
{
    uint64_t hash = siphash13(path->text, path->length, cache->hash_key);
    pthread_mutex_lock(&cache->lock);
    struct entry *entry = *cache_link(cache, path, hash);
    if (entry != NULL) {
        order_remove(cache, entry);
        order_push(cache, entry);
        /* The cache's own reference keeps it alive meanwhile. */
        atomic_fetch_add_explicit(&entry->references, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&cache->lock);
    return entry;
}

void cache_put(struct cache *cache, struct entry *entry)
{
    struct entry *out = NULL; /* a list, by next_in_bucket */
    if (entry_bytes(entry) > cache->limit)
        return;
    entry->hash = siphash13(entry->path.text, entry->path.length, cache->hash_key);
    atomic_fetch_add_explicit(&entry->references, 1, memory_order_relaxed); /* the cache's */
    pthread_mutex_lock(&cache->lock);
    struct entry **link = cache_link(cache, &entry->path, entry->hash);
    if (*link != NULL) {
        out = cache_take(cache, link);
        out->next_in_bucket = NULL;
    }
    while (cache->bytes + entry_bytes(entry) > cache->limit) {
        struct entry *old = cache->oldest;
        (void)cache_take(cache, cache_link(cache, &old->path, old->hash)); /* it is `old` */
        old->next_in_bucket = out;
        out = old;
        atomic_fetch_add_explicit(&cache->evicted, 1, memory_order_relaxed);
    }
    link = &cache->buckets[entry->hash % CACHE_BUCKETS];
    entry->next_in_bucket = *link;
    *link = entry;
    order_push(cache, entry);
    cache->bytes += entry_bytes(entry);
    pthread_mutex_unlock(&cache->lock);
    while (out != NULL) {
        struct entry *next = out->next_in_bucket;
        entry_drop(out);
        out = next;
    }
}

void cache_forget(struct cache *cache, const struct path *path)
{
    uint64_t hash = siphash13(path->text, path->length, cache->hash_key);
    pthread_mutex_lock(&cache->lock);
    struct entry **link = cache_link(cache, path, hash);
    struct entry *entry = *link != NULL ? cache_take(cache, link) : NULL;
    pthread_mutex_unlock(&cache->lock);
    if (entry != NULL)
        entry_drop(entry);
}

uint64_t cache_bytes(struct cache *cache)
{
    pthread_mutex_lock(&cache->lock);
    uint64_t bytes = cache->bytes;
    pthread_mutex_unlock(&cache->lock);
    return bytes;
}
