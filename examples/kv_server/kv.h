/* SPDX-License-Identifier: MIT */
/*
 * The key-value server as a whole: workers, shards, and the way of an operation between them.
 *
 * There is one shard a node, touched by one worker only: the first of that node. A connection's
 * worker cuts a command into operations, one a key. It runs those for its own shard at once, and
 * keeps the others in an outbox for each shard. When everything that has arrived is read, it sends
 * every outbox, with operations of many connections, as one task to the owner; the task comes back
 * the same way.
 */
#ifndef EXAMPLES_KV_KV_H
#define EXAMPLES_KV_KV_H

#include "../server/service.h"
#include "output.h"
#include "request.h"
#include "store.h"

#include <hiredis/hiredis.h>
#include <numaperf.h>
#include <stdatomic.h>
#include <uv.h>

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
    numaperf_worker_t *rt_worker;
    numaperf_arena_t *arena;
    uint32_t index;
    redisReader *reader;   /* empty between commands; NULL after an error, until the next command */
    struct request *fast;  /* the one in hand of those that need no memory of their own */
    struct output answers; /* of the connection in hand: written, and empty, before another's */
    struct conn *changed;  /* those to look after in this turn */
    struct op_list *outboxes; /* one a shard */
    bool flush_wanted;        /* there is something in them */
    bool flush_spawned;       /* a task of our own will send them */
    struct batch *late;       /* finished, but the way back was refused for now */
    struct batch *late_last;
    uv_timer_t retry;             /* runs while there are late batches */
    atomic_uint connection_count; /* written by the worker, read by anyone */
    struct info_cache info;
    struct kv_counters counters;
};

/* Everything here is written before the first request can come. */
struct kv {
    uint64_t hash_key[2]; /* random, so that peers cannot aim keys */
    uint64_t started_ns;
    const struct server_options *options;
    char address[300];
    atomic_bool has_address; /* set after it: peers may come before */
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

/* Runs an operation when its key is in the worker's own shard; false: it is not. */
bool kv_run_here(struct kv_worker *worker, struct op *op);

/* Runs a request's operations on keys of the worker's own shard, puts the others into outboxes. */
void kv_route(struct kv_worker *worker, struct request *request);

/* Sends what is in the outboxes and looks after every connection that changed. */
void kv_turn(struct kv_worker *worker);

/* Sends late batches again. */
void kv_retry(uv_timer_t *timer);

/* Writes INFO's text for `section` ("" or "all": everything) to the worker's cache. */
const struct info_cache *info_text(struct kv_worker *worker);

#endif
