/* SPDX-License-Identifier: MIT */
/*
 * The key-value server as a whole: workers, shards, and the way of an operation between them.
 *
 * There is one shard a node, touched by one worker only: the first of that node. A connection's
 * worker cuts a command into operations, one a key, and keeps them in an outbox for each shard. At
 * the end of every turn of its loop it runs what is for its own shard and sends every other outbox,
 * with operations of many connections, as one task to the owner; the task comes back the same way.
 */
#ifndef EXAMPLES_KV_KV_H
#define EXAMPLES_KV_KV_H

#include "../server/server.h"
#include "request.h"
#include "store.h"

#include <hiredis/hiredis.h>
#include <numaperf.h>
#include <stdatomic.h>

#define KV_WORKERS_MAX 8192u

struct conn;
struct kv_worker;

struct shard {
    struct store store;
    struct kv_worker *owner;
    int node;
};

struct op_list {
    struct op *first, *last;
    uint32_t count;
};

/* Operations on their way to a shard and back; in the arena of `from`. */
struct batch {
    struct batch *next; /* while it waits to be sent back */
    struct kv_worker *from;
    struct shard *shard;
    struct op_list ops;
};

/* Written by the worker, read by anyone. */
struct kv_counters {
    atomic_ullong commands;
    atomic_ullong connections_accepted;
    atomic_ullong connections_refused;
    atomic_ullong connections_idle_closed;
    atomic_ullong protocol_errors;
    atomic_ullong ops_local;
    atomic_ullong ops_remote;
    atomic_ullong batches_sent;
    atomic_ullong batches_refused;
    atomic_ullong batches_late; /* answers that had to wait for a place in a queue */
};

/* Text of INFO, kept for a moment: the page query behind it is not for every request. */
struct info_cache {
    char *text;
    size_t length;
    uint64_t until_ms;
};

struct kv_worker {
    struct kv *kv;
    struct server_worker *server;
    numaperf_arena_t *arena;
    uint32_t index;
    redisReader *reader;  /* empty between commands; NULL after an error, until the next command */
    struct conn *conns;   /* all of this worker's */
    struct conn *changed; /* those to look after before the loop sleeps */
    struct op_list *outboxes; /* one a shard */
    struct batch *late;       /* finished, but the way back was refused for now */
    struct batch *late_last;
    uv_check_t turn;
    uv_timer_t tick;  /* runs while there are connections */
    uv_timer_t retry; /* runs while there are late batches */
    struct info_cache info;
    struct kv_counters counters;
};

/* Everything here is written before the first request can come. */
struct kv {
    uint64_t hash_key[2]; /* random, so that peers cannot aim keys */
    uint64_t started_ns;
    uint32_t shard_count;
    struct shard *shards[NUMAPERF_NODE_MAX];
    struct kv_worker *workers[KV_WORKERS_MAX];
};

static inline void kv_count(atomic_ullong *counter, unsigned long long add)
{
    /* One writer: no read-modify-write is needed. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + add,
                          memory_order_relaxed);
}

/* Puts every operation of a request into the outbox of its key's shard. */
void kv_route(struct kv_worker *worker, struct request *request);

/* Ends a turn: sends what is in the outboxes and looks after every connection that changed. */
void kv_turn(struct kv_worker *worker);

/* Sends late batches again. */
void kv_retry(uv_timer_t *timer);

/* Writes INFO's text for `section` ("" or "all": everything) to the worker's cache. */
const struct info_cache *info_text(struct kv_worker *worker);

#endif
