/* SPDX-License-Identifier: MIT */
/* /metrics: the runtime's own text, then the sockets' figures, the server's and those of TLS. */
#include "http.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void put(FILE *out, const char *name, const char *kind, const char *help, uint64_t value)
{
    (void)fprintf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, kind, name,
                  value);
}

static void put_net(FILE *out, const numaperf_rt_t *rt)
{
    numaperf_net_stats_t net = NUMAPERF_NET_STATS_INIT;
    if (numaperf_rt_net_stats(rt, &net) < 0)
        return;
    const struct {
        const char *name, *help;
        uint64_t value;
    } rows[] = {
        {"numaperf_net_accepted_total", "connections accepted", net.accepted},
        {"numaperf_net_handed_over_total", "connections served by another worker", net.handed_over},
        {"numaperf_net_refused_limit_total", "connections over the limit", net.refused_limit},
        {"numaperf_net_refused_memory_total", "connections without memory", net.refused_memory},
        {"numaperf_net_accept_pauses_total", "times accepting stopped", net.accept_pauses},
        {"numaperf_net_closed_total", "connections that ended well", net.closed},
        {"numaperf_net_failed_total", "connections that did not", net.failed},
        {"numaperf_net_idle_timeouts_total", "idle timeouts", net.idle_timeouts},
        {"numaperf_net_read_timeouts_total", "read timeouts", net.read_timeouts},
        {"numaperf_net_write_timeouts_total", "write timeouts", net.write_timeouts},
        {"numaperf_net_received_bytes_total", "bytes received", net.bytes_received},
        {"numaperf_net_sent_bytes_total", "bytes sent", net.bytes_sent},
        {"numaperf_net_receives_total", "pieces received", net.receives},
        {"numaperf_net_sends_total", "requests to send", net.sends},
        {"numaperf_net_partial_sends_total", "sends taken in part", net.partial_sends},
        {"numaperf_net_zero_copy_sends_total", "sends without a copy", net.zero_copy_sends},
        {"numaperf_net_buffers_exhausted_total", "receives without a buffer",
         net.buffers_exhausted},
    };
    put(out, "numaperf_net_connections", "gauge", "connections that are open", net.connections);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        put(out, rows[i].name, "counter", rows[i].help, rows[i].value);
}

static uint64_t sum(const struct http_server *server, size_t offset)
{
    uint64_t total = 0;
    for (size_t i = 0; i < HTTP_WORKERS_MAX && server->workers[i] != NULL; i++) {
        const char *counters = (const char *)&server->workers[i]->counters;
        const atomic_ullong *counter = (const void *)(counters + offset);
        total += atomic_load_explicit(counter, memory_order_relaxed);
    }
    return total;
}

static void put_answers(FILE *out, const struct http_server *server)
{
    (void)fputs("# HELP http_answers_total answers by class of status\n"
                "# TYPE http_answers_total counter\n",
                out);
    for (unsigned i = 2; i < 6; i++)
        (void)fprintf(
            out, "http_answers_total{class=\"%uxx\"} %" PRIu64 "\n", i,
            sum(server, offsetof(struct http_counters, answers) + i * sizeof(atomic_ullong)));
}

static void put_http(FILE *out, const struct http_server *server)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } rows[] = {
        {"http_requests_total", "requests", offsetof(struct http_counters, requests)},
        {"http_front_hits_total", "answers from a worker's own table",
         offsetof(struct http_counters, front_hits)},
        {"http_cache_hits_total", "answers from a node's cache",
         offsetof(struct http_counters, cache_hits)},
        {"http_cache_loads_total", "files read into a cache",
         offsetof(struct http_counters, loads)},
        {"http_cache_checks_total", "cached files found unchanged",
         offsetof(struct http_counters, checks)},
        {"http_streams_total", "files sent without the cache",
         offsetof(struct http_counters, streams)},
        {"http_request_timeouts_total", "requests that took too long to come",
         offsetof(struct http_counters, request_timeouts)},
    };
    uint64_t bytes = 0;
    uint64_t evicted = 0;
    for (size_t i = 0; i < NUMAPERF_NODE_MAX; i++) {
        struct cache *cache = server->caches[i];
        if (cache == NULL)
            continue;
        bytes += cache_bytes(cache);
        evicted += atomic_load_explicit(&cache->evicted, memory_order_relaxed);
    }
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        put(out, rows[i].name, "counter", rows[i].help, sum(server, rows[i].offset));
    put(out, "http_cache_bytes", "gauge", "bytes in the caches of all nodes", bytes);
    put(out, "http_cache_evicted_total", "counter", "files thrown out for others", evicted);
    put_answers(out, server);
}

static void put_tls(FILE *out, const struct tls_context *tls)
{
    const struct tls_counters *counters = tls_counters(tls);
    const struct {
        const char *name, *help;
        const atomic_ullong *counter;
    } rows[] = {
        {"tls_handshakes_total", "handshakes completed", &counters->handshakes},
        {"tls_resumed_total", "of these, by a ticket", &counters->resumed},
        {"tls_failed_total", "handshakes and records that were wrong", &counters->failed},
        {"tls_truncated_total", "streams that ended without close_notify", &counters->truncated},
        {"tls_kernel_sending_total", "connections the kernel encrypts for", &counters->kernel},
        {"tls_kernel_refused_total", "connections it would not", &counters->kernel_refused},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        put(out, rows[i].name, "counter", rows[i].help,
            atomic_load_explicit(rows[i].counter, memory_order_relaxed));
}

char *metrics_text(const struct http_server *server, size_t *out_length)
{
    char *text = NULL;
    char *runtime = NULL;
    FILE *out = open_memstream(&text, out_length);
    if (out == NULL)
        return NULL;
    if (numaperf_rt_stats_prometheus(server->rt, &runtime) == 0)
        (void)fputs(runtime, out);
    free(runtime);
    put_net(out, server->rt);
    put_http(out, server);
    if (server->tls != NULL)
        put_tls(out, server->tls);
    bool bad = ferror(out) != 0;
    if (fclose(out) != 0 || bad) {
        free(text);
        return NULL;
    }
    return text;
}
