/* SPDX-License-Identifier: MIT */
/*
 * kv_server: an in-memory key-value server that speaks RESP2, with one shard of the keys on every
 * NUMA node. Start with kv.h for how it is built; this file puts a worker together.
 */
#include "conn.h"
#include "kv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define DEFAULT_PORT 6379

static void on_turn(uv_check_t *check)
{
    kv_turn(check->data);
}

/* The rank of this worker's node among the nodes in use, and how many those are. */
static int shard_index(numaperf_rt_t *rt, int node, uint32_t *out_count)
{
    numaperf_nodemask_t nodes;
    int rc = numaperf_rt_nodes(rt, &nodes);
    if (rc < 0)
        return rc;
    int index = 0;
    for (int n = numaperf_nodemask_next(&nodes, -1); n >= 0 && n < node;
         n = numaperf_nodemask_next(&nodes, n))
        index++;
    *out_count = (uint32_t)numaperf_nodemask_count(&nodes);
    return index;
}

/* The first worker of a node owns its shard: workers of one node are neighbours in index. */
static bool worker_is_first(numaperf_rt_t *rt, const struct kv_worker *worker)
{
    if (worker->index == 0)
        return true;
    const numaperf_worker_t *before = numaperf_rt_worker(rt, worker->index - 1);
    return numaperf_worker_node(before) != numaperf_worker_node(worker->server->worker);
}

/* Half of the arena stays for connections and for rounding up: a full shard can still say so. */
static uint64_t shard_limit(const numaperf_arena_t *arena)
{
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    if (numaperf_arena_stats(arena, &stats) < 0 || stats.limit_bytes == 0)
        return UINT64_MAX / 2;
    return stats.limit_bytes / 2;
}

static int shard_start(struct kv_worker *worker)
{
    numaperf_rt_t *rt = numaperf_worker_rt(worker->server->worker);
    int node = numaperf_worker_node(worker->server->worker);
    uint32_t count = 0;
    int index = shard_index(rt, node, &count);
    if (index < 0)
        return index;
    worker->outboxes = numaperf_arena_alloc(worker->arena, count * sizeof(struct op_list), 64);
    if (worker->outboxes == NULL)
        return -ENOMEM;
    memset(worker->outboxes, 0, count * sizeof(struct op_list));
    if (!worker_is_first(rt, worker))
        return 0;
    struct shard *shard = numaperf_arena_alloc(worker->arena, sizeof(*shard), 64);
    if (shard == NULL)
        return -ENOMEM;
    shard->owner = worker;
    shard->node = node;
    worker->kv->shards[index] = shard;
    if (index == 0)
        worker->kv->shard_count = count;
    return store_init(&shard->store, worker->arena, shard_limit(worker->arena));
}

static int kv_worker_start(struct server_worker *server)
{
    struct kv *kv = server_application(server->server)->data;
    struct kv_worker *worker = numaperf_arena_alloc(server->arena, sizeof(*worker), 64);
    if (worker == NULL)
        return -ENOMEM;
    memset(worker, 0, sizeof(*worker));
    worker->kv = kv;
    worker->server = server;
    worker->arena = server->arena;
    worker->index = numaperf_worker_index(server->worker);
    if (worker->index >= KV_WORKERS_MAX)
        return -E2BIG;
    int rc = shard_start(worker);
    if (rc < 0)
        return rc;
    kv->workers[worker->index] = worker;
    server->app = worker;

    worker->turn.data = worker;
    worker->tick.data = worker;
    worker->retry.data = worker;
    /* These three cannot fail, as libuv documents by having nothing to allocate. */
    (void)uv_check_init(server->loop, &worker->turn);
    (void)uv_timer_init(server->loop, &worker->tick);
    (void)uv_timer_init(server->loop, &worker->retry);
    return uv_check_start(&worker->turn, on_turn);
}

static void kv_worker_stop(struct server_worker *server)
{
    struct kv_worker *worker = server->app;
    conn_drain_all(worker, true);
    uv_close((uv_handle_t *)&worker->turn, NULL);
    uv_close((uv_handle_t *)&worker->tick, NULL);
    uv_close((uv_handle_t *)&worker->retry, NULL);
    if (worker->reader != NULL)
        redisReaderFree(worker->reader);
    worker->reader = NULL;
}

static void kv_connection(struct server_worker *server)
{
    conn_open(server->app);
}

static void kv_drain(struct server_worker *server, bool now)
{
    conn_drain_all(server->app, now);
}

int main(int argc, char **argv)
{
    struct kv *kv = calloc(1, sizeof(*kv));
    if (kv == NULL || getrandom(kv->hash_key, sizeof(kv->hash_key), 0) != sizeof(kv->hash_key)) {
        perror("kv_server");
        free(kv);
        return EXIT_FAILURE;
    }
    kv->started_ns = uv_hrtime();
    const struct server_app app = {
        .name = "kv_server",
        .default_port = DEFAULT_PORT,
        .worker_start = kv_worker_start,
        .connection = kv_connection,
        .drain = kv_drain,
        .worker_stop = kv_worker_stop,
        .data = kv,
    };
    int code = server_main(&app, argc, argv);
    free(kv);
    return code;
}
