/* SPDX-License-Identifier: MIT */
/*
 * http_server: files beneath a directory and a /metrics page over HTTP/1.1, from a cache on every
 * NUMA node, with TLS if asked for. Start with http.h for how it is built; this file puts it
 * together.
 */
#include "../server/service.h"
#include "conn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define DEFAULT_PORT 8080
#define CACHE_MIB 64u
#define CACHE_MIB_MAX 1048576u
#define REQUEST_SECONDS 10u

/* ---- options ---- */

static const char *read_number(const char *text, uint64_t max, uint64_t *out)
{
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text))
        return "is not a number";
    errno = 0;
    unsigned long long number = strtoull(text, NULL, 10);
    if (errno != 0 || number > max)
        return "is too large";
    *out = number;
    return NULL;
}

static const char *read_root(void *data, const char *text)
{
    struct http_server *server = data;
    server->root = text;
    return text[0] == '\0' ? "is empty" : NULL;
}

static const char *read_cache(void *data, const char *text)
{
    struct http_server *server = data;
    return read_number(text, CACHE_MIB_MAX, &server->cache_mib);
}

static const char *read_request_timeout(void *data, const char *text)
{
    struct http_server *server = data;
    uint64_t seconds = 0;
    const char *why = read_number(text, 3600, &seconds);
    if (why == NULL)
        server->request_seconds = (uint32_t)seconds;
    return why;
}

static const char *read_certificate(void *data, const char *text)
{
    struct http_server *server = data;
    server->tls_certificate = text;
    return text[0] == '\0' ? "is empty" : NULL;
}

static const char *read_key(void *data, const char *text)
{
    struct http_server *server = data;
    server->tls_key = text;
    return text[0] == '\0' ? "is empty" : NULL;
}

static const struct service_option options[] = {
    {"--root", "DIRECTORY", "what is served (the working directory)", read_root},
    {"--cache-mib", "N", "files kept in memory on each node, MiB (64; 0: none)", read_cache},
    {"--request-timeout", "SECONDS", "a request has to be there by then (10; 0: never)",
     read_request_timeout},
    {"--tls-cert", "FILE", "certificate and its chain, PEM: speak TLS", read_certificate},
    {"--tls-key", "FILE", "its private key, PEM", read_key},
};

/* ---- start ---- */

static int http_prepare_tls(struct http_server *server)
{
    char why[512] = "";
    if (server->tls_certificate == NULL && server->tls_key == NULL)
        return 0;
    if (server->tls_certificate == NULL || server->tls_key == NULL) {
        fprintf(stderr, "http_server: --tls-cert and --tls-key go together\n");
        return -EINVAL;
    }
    int rc = tls_context_create(server->tls_certificate, server->tls_key, why, sizeof(why),
                                &server->tls);
    if (rc < 0)
        fprintf(stderr, "http_server: --tls-cert: %s\n", why);
    return rc;
}

static int http_prepare(void *data, const struct server_options *common,
                        numaperf_conn_config_t *conn)
{
    (void)common; /* nothing in them is ours */
    struct http_server *server = data;
    conn->callbacks = http_conn_callbacks;
    server->root_fd = open(server->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (server->root_fd < 0) {
        fprintf(stderr, "http_server: --root %s: %s\n", server->root, numaperf_strerror(-errno));
        return -errno;
    }
    return http_prepare_tls(server);
}

static int http_worker_start(numaperf_worker_t *rt_worker, void *data)
{
    struct http_server *server = data;
    numaperf_arena_t *arena = numaperf_worker_arena(rt_worker);
    uint32_t index = numaperf_worker_index(rt_worker);
    struct http_worker *worker = numaperf_arena_alloc(arena, sizeof(*worker), 64);
    if (worker == NULL || index >= HTTP_WORKERS_MAX)
        return -ENOMEM;
    memset(worker, 0, sizeof(*worker));
    worker->server = server;
    worker->worker = rt_worker;
    worker->io = numaperf_worker_io(rt_worker);
    worker->loop = numaperf_worker_loop(rt_worker);
    worker->arena = arena;
    worker->tick.data = worker;
    (void)uv_timer_init(worker->loop, &worker->tick); /* it has nothing to allocate */
    numaperf_worker_set_data(rt_worker, worker);
    server->workers[index] = worker;
    return 0;
}

/* On the first worker of a node, when all have started: its cache. */
static int http_node_start(numaperf_worker_t *rt_worker, void *data)
{
    struct http_server *server = data;
    struct cache *cache =
        numaperf_arena_alloc(numaperf_worker_arena(rt_worker), sizeof(*cache), 64);
    if (cache == NULL)
        return -ENOMEM;
    cache_init(cache, server->cache_mib << 20, server->hash_key);
    server->caches[numaperf_worker_node(rt_worker)] = cache;
    return 0;
}

/* It runs, and nobody has connected: workers learn of their node's cache. */
static void http_ready(void *data, numaperf_rt_t *rt)
{
    struct http_server *server = data;
    server->rt = rt;
    for (size_t i = 0; i < HTTP_WORKERS_MAX && server->workers[i] != NULL; i++)
        server->workers[i]->cache =
            server->caches[numaperf_worker_node(server->workers[i]->worker)];
}

static void http_worker_stop(numaperf_worker_t *rt_worker, void *data)
{
    (void)data;
    struct http_worker *worker = numaperf_worker_data(rt_worker);
    if (worker == NULL)
        return; /* it never started */
    uv_close((uv_handle_t *)&worker->tick, NULL);
    for (size_t i = 0; i < HTTP_FRONT_SLOTS; i++) {
        if (worker->front[i].entry != NULL)
            entry_drop(worker->front[i].entry);
        worker->front[i].entry = NULL;
    }
}

static void http_node_stop(numaperf_worker_t *rt_worker, void *data)
{
    struct http_server *server = data;
    struct cache *cache = server->caches[numaperf_worker_node(rt_worker)];
    if (cache != NULL)
        cache_fini(cache);
    server->caches[numaperf_worker_node(rt_worker)] = NULL;
}

int main(int argc, char **argv)
{
    struct http_server *server = calloc(1, sizeof(*server));
    if (server == NULL ||
        getrandom(server->hash_key, sizeof(server->hash_key), 0) != sizeof(server->hash_key)) {
        perror("http_server");
        free(server);
        return EXIT_FAILURE;
    }
    server->root = ".";
    server->root_fd = -1;
    server->cache_mib = CACHE_MIB;
    server->request_seconds = REQUEST_SECONDS;
    const struct service_app app = {
        .name = "http_server",
        .default_port = DEFAULT_PORT,
        .options = options,
        .option_count = sizeof(options) / sizeof(options[0]),
        .prepare = http_prepare,
        .worker_start = http_worker_start,
        .node_start = http_node_start,
        .worker_stop = http_worker_stop,
        .node_stop = http_node_stop,
        .ready = http_ready,
        .data = server,
    };
    int code = service_main(&app, argc, argv);
    tls_context_destroy(server->tls);
    if (server->root_fd >= 0)
        close(server->root_fd);
    free(server);
    return code;
}
