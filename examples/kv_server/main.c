/* SPDX-License-Identifier: MIT */
/*
 * kv_server: an in-memory key-value server that speaks RESP2, with one shard of the keys on every
 * NUMA node. Start with kv.h for how it is built; this file puts a worker together.
 */
#include "conn.h"
#include "kv.h"
#include "limits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define DEFAULT_PORT 6379

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
    return numaperf_worker_node(before) != numaperf_worker_node(worker->rt_worker);
}

/* Half of the arena stays for connections and for rounding up, and what receive buffers may take:
 * a full shard can still say so. */
static uint64_t shard_limit(const numaperf_arena_t *arena)
{
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    if (numaperf_arena_stats(arena, &stats) < 0 || stats.limit_bytes == 0)
        return UINT64_MAX / 2;
    uint64_t quarter = stats.limit_bytes / 4;
    return stats.limit_bytes / 2 - (quarter < KV_BUFFERS_BYTES ? quarter : KV_BUFFERS_BYTES);
}

static int shard_start(struct kv_worker *worker)
{
    numaperf_rt_t *rt = numaperf_worker_rt(worker->rt_worker);
    int node = numaperf_worker_node(worker->rt_worker);
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

static int worker_init(struct kv_worker *worker, struct kv *kv, numaperf_worker_t *rt_worker)
{
    memset(worker, 0, sizeof(*worker));
    worker->kv = kv;
    worker->rt_worker = rt_worker;
    worker->arena = numaperf_worker_arena(rt_worker);
    worker->answers.arena = worker->arena;
    worker->index = numaperf_worker_index(rt_worker);
    if (worker->index >= KV_WORKERS_MAX)
        return -E2BIG;
    worker->fast = request_fast_create(worker->arena);
    return worker->fast != NULL ? shard_start(worker) : -ENOMEM;
}

static int kv_worker_start(numaperf_worker_t *rt_worker, void *data)
{
    struct kv *kv = data;
    struct kv_worker *worker =
        numaperf_arena_alloc(numaperf_worker_arena(rt_worker), sizeof(*worker), 64);
    if (worker == NULL)
        return -ENOMEM;
    int rc = worker_init(worker, kv, rt_worker);
    if (rc < 0)
        return rc;
    kv->workers[worker->index] = worker;
    worker->retry.data = worker;
    /* Cannot fail, as libuv documents by having nothing to allocate. */
    return uv_timer_init(numaperf_worker_loop(rt_worker), &worker->retry);
}

static void kv_worker_stop(numaperf_worker_t *rt_worker, void *data)
{
    struct kv *kv = data;
    struct kv_worker *worker = kv->workers[numaperf_worker_index(rt_worker)];
    uv_close((uv_handle_t *)&worker->retry, NULL);
    if (worker->reader != NULL)
        redisReaderFree(worker->reader);
    worker->reader = NULL;
}

static int kv_prepare(void *data, const struct server_options *options,
                      numaperf_conn_config_t *conn)
{
    struct kv *kv = data;
    kv->options = options;
    conn_config(conn);
    /* A peer that takes a large answer slowly makes progress; one that does not is idle. */
    conn->write_timeout_ms = conn->idle_timeout_ms;
    return 0;
}

static void kv_listens(void *data, const char *address)
{
    struct kv *kv = data;
    (void)snprintf(kv->address, sizeof(kv->address), "%s", address);
    /* Release pairs with the acquire of INFO. */
    atomic_store_explicit(&kv->has_address, true, memory_order_release);
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
    const struct service_app app = {
        .name = "kv_server",
        .default_port = DEFAULT_PORT,
        .prepare = kv_prepare,
        .worker_start = kv_worker_start,
        .worker_stop = kv_worker_stop,
        .listens = kv_listens,
        .refusals_max = KV_REFUSALS_MAX,
        .data = kv,
    };
    int code = service_main(&app, argc, argv);
    free(kv);
    return code;
}
