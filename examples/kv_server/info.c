/* SPDX-License-Identifier: MIT */
/*
 * INFO: where everything is, as the kernel says. Asking the kernel for every page takes a while,
 * and a peer may ask as often as it likes: each worker keeps the text for a second.
 */
#include "kv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INFO_KEEP_MS 1000
#define INFO_BASE_BYTES 8192u
#define INFO_WORKER_BYTES 2048u

struct text {
    char *data;
    size_t length;
    size_t capacity;
};

/* Text that does not fit is cut: INFO is for people. */
__attribute__((format(printf, 2, 3))) static void say(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t left = text->capacity - text->length;
    int length = vsnprintf(text->data + text->length, left, format, args);
    va_end(args);
    if (length > 0)
        text->length += (size_t)length < left ? (size_t)length : left - 1;
}

static unsigned long long peek(const atomic_ullong *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void say_server(struct text *text, const struct kv_worker *worker, numaperf_rt_t *rt)
{
    const struct server_options *options = worker->kv->options;
    numaperf_enforcement_t level = {NUMAPERF_ENFORCE_NONE, ""};
    (void)numaperf_rt_enforcement(rt, &level); /* what is there at a failure is "none" */
    const char *reason = numaperf_enforcement_reason(&level);
    say(text, "# Server\r\nnumaperf_version:%s\r\nprocess_id:%ld\r\naddress:%s\r\n",
        numaperf_version_string(), (long)getpid(),
        atomic_load_explicit(&worker->kv->has_address, memory_order_acquire) ? worker->kv->address
                                                                             : "");
    say(text, "uptime_in_seconds:%llu\r\n",
        (unsigned long long)(uv_hrtime() - worker->kv->started_ns) / 1000000000ull);
    say(text, "mode:%s\r\nprivileges_waived:%s\r\nsteal_policy:%s\r\n",
        options->mode == NUMAPERF_MODE_HARD ? "hard" : "soft",
        (options->rt_flags & NUMAPERF_RT_WAIVE_PRIVILEGES) != 0 ? "yes" : "no",
        options->steal_name);
    say(text, "topology:%s\r\nenforcement:%s\r\nenforcement_reason:%s\r\nviolations:%llu\r\n",
        options->topology != NULL ? options->topology : "this machine",
        numaperf_enforcement_level_name(level.level), reason != NULL ? reason : "",
        (unsigned long long)numaperf_rt_violation_count(rt));
}

/* "1000 on node 0, 24 on node 1, 3 absent" */
static void say_placement(struct text *text, const numaperf_worker_t *worker, uint32_t part,
                          numaperf_placement_t *scratch)
{
    *scratch = (numaperf_placement_t)NUMAPERF_PLACEMENT_INIT;
    int rc = numaperf_worker_placement(worker, part, scratch);
    if (rc < 0) {
        say(text, "unknown (%s)", numaperf_err_name(rc));
        return;
    }
    say(text, "pages=%llu absent=%llu", (unsigned long long)scratch->pages,
        (unsigned long long)scratch->absent);
    for (int node = 0; node < NUMAPERF_NODE_MAX; node++)
        if (scratch->on_node[node] > 0)
            say(text, " node%d=%llu", node, (unsigned long long)scratch->on_node[node]);
}

static void say_worker(struct text *text, const struct kv_worker *worker, numaperf_rt_t *rt,
                       numaperf_placement_t *scratch)
{
    const numaperf_worker_t *rt_worker = worker->rt_worker;
    const numaperf_enforcement_t *level = numaperf_worker_enforcement(rt_worker);
    const char *level_reason = numaperf_enforcement_reason(level);
    const char *backend_reason = numaperf_worker_backend_reason(rt_worker);
    numaperf_worker_stats_t stats = NUMAPERF_WORKER_STATS_INIT;
    (void)numaperf_rt_worker_stats(rt, worker->index, &stats); /* zeros then */
    numaperf_arena_stats_t arena = NUMAPERF_ARENA_STATS_INIT;
    (void)numaperf_arena_stats(worker->arena, &arena);
    say(text, "worker%u:node=%d,pu=%d,thread=%d,backend=%s,enforcement=%s\r\n", worker->index,
        numaperf_worker_node(rt_worker), numaperf_worker_cpu(rt_worker),
        numaperf_worker_thread_id(rt_worker),
        numaperf_worker_backend(rt_worker) == NUMAPERF_IO_URING ? "io_uring" : "epoll",
        numaperf_enforcement_level_name(level->level));
    if (level_reason != NULL)
        say(text, "worker%u_enforcement_reason:%s\r\n", worker->index, level_reason);
    if (backend_reason != NULL)
        say(text, "worker%u_backend_reason:%s\r\n", worker->index, backend_reason);
    say(text, "worker%u_tasks:ran=%llu,stolen_here=%llu,stolen_from_node=%llu,parks=%llu\r\n",
        worker->index, (unsigned long long)stats.ran, (unsigned long long)stats.ran_remote,
        (unsigned long long)stats.stolen_from, (unsigned long long)stats.parks);
    say(text, "worker%u_arena:mapped=%llu,used=%llu,limit=%llu,failed=%llu\r\n", worker->index,
        (unsigned long long)arena.mapped_bytes, (unsigned long long)arena.used_bytes,
        (unsigned long long)arena.limit_bytes, (unsigned long long)arena.fail_count);
    static const char *const parts[] = {"arena", "stack", "ring"};
    for (uint32_t part = NUMAPERF_WORKER_ARENA; part <= NUMAPERF_WORKER_RING; part++) {
        say(text, "worker%u_%s_pages:", worker->index, parts[part]);
        say_placement(text, rt_worker, part, scratch);
        say(text, "\r\n");
    }
}

static void say_nodes(struct text *text, const struct kv *kv, numaperf_rt_t *rt)
{
    say(text, "# Nodes\r\nnodes:%u\r\n", kv->shard_count);
    for (uint32_t i = 0; i < kv->shard_count; i++) {
        const struct shard *shard = kv->shards[i];
        say(text, "node%d:workers=%zu,shard=%u\r\n", shard->node,
            numaperf_rt_worker_count(rt, shard->node), i);
    }
    say(text, "# Shards\r\n");
    for (uint32_t i = 0; i < kv->shard_count; i++) {
        const struct store *store = &kv->shards[i]->store;
        say(text, "shard%u:node=%d,worker=%u,keys=%llu,bytes=%llu,limit=%llu\r\n", i,
            kv->shards[i]->node, kv->shards[i]->owner->index, peek(&store->key_count),
            peek(&store->byte_count), (unsigned long long)store->byte_limit);
    }
}

static void say_counters(struct text *text, const struct kv *kv, uint32_t worker_count)
{
    say(text, "# Clients\r\n");
    unsigned long long connected = 0;
    for (uint32_t i = 0; i < worker_count; i++) {
        const struct kv_worker *worker = kv->workers[i];
        unsigned here = atomic_load_explicit(&worker->connection_count, memory_order_relaxed);
        connected += here;
        say(text, "worker%u_clients:connected=%u,accepted=%llu,refused=%llu,idle_closed=%llu\r\n",
            i, here, peek(&worker->counters.connections_accepted),
            peek(&worker->counters.connections_refused),
            peek(&worker->counters.connections_idle_closed));
    }
    say(text, "connected_clients:%llu\r\n# Stats\r\n", connected);
    for (uint32_t i = 0; i < worker_count; i++) {
        const struct kv_counters *counters = &kv->workers[i]->counters;
        say(text, "worker%u_commands:taken=%llu,protocol_errors=%llu\r\n", i,
            peek(&counters->commands), peek(&counters->protocol_errors));
        say(text,
            "worker%u_operations:local=%llu,remote=%llu,batches=%llu,refused=%llu,late=%llu\r\n", i,
            peek(&counters->ops_local), peek(&counters->ops_remote), peek(&counters->batches_sent),
            peek(&counters->batches_refused), peek(&counters->batches_late));
    }
}

static void info_write(struct text *text, struct kv_worker *worker, uint32_t worker_count,
                       numaperf_placement_t *scratch)
{
    const struct kv *kv = worker->kv;
    numaperf_rt_t *rt = numaperf_worker_rt(worker->rt_worker);
    say_server(text, worker, rt);
    say_nodes(text, kv, rt);
    say(text, "# Workers\r\nworkers:%u\r\n", worker_count);
    for (uint32_t i = 0; i < worker_count; i++)
        say_worker(text, kv->workers[i], rt, scratch);
    say_counters(text, kv, worker_count);
}

const struct info_cache *info_text(struct kv_worker *worker)
{
    struct info_cache *cache = &worker->info;
    uint64_t now_ms = uv_now(numaperf_worker_loop(worker->rt_worker));
    if (cache->text != NULL && now_ms < cache->until_ms)
        return cache;

    numaperf_rt_t *rt = numaperf_worker_rt(worker->rt_worker);
    uint32_t worker_count = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    struct text text = {.capacity = INFO_BASE_BYTES + worker_count * INFO_WORKER_BYTES};
    text.data = numaperf_arena_alloc(worker->arena, text.capacity, 64);
    numaperf_placement_t *scratch = numaperf_arena_alloc(worker->arena, sizeof(*scratch), 64);
    if (text.data != NULL && scratch != NULL) {
        numaperf_arena_free(worker->arena, cache->text);
        info_write(&text, worker, worker_count, scratch);
        *cache = (struct info_cache){text.data, text.length, now_ms + INFO_KEEP_MS};
    } else {
        numaperf_arena_free(worker->arena, text.data);
        cache = NULL;
    }
    numaperf_arena_free(worker->arena, scratch);
    return cache;
}
