/* SPDX-License-Identifier: MIT */
/*
 * Echo of 64 bytes over 50 connections or one, one request in flight on each: requests for each
 * second of CPU time that the server's process takes. The server is the same libuv code on every
 * peer's loop, on the first worker's PU; the client (echo_client.c) is a process of its own on
 * another.
 *
 * The server code runs on the worker alone. Its memory outlives the peer's stop, which closes the
 * handles that are left.
 */
#include "echo_client.h"
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#define ECHO_BACKLOG 128
#define ECHO_CHUNK 4096u

#define ECHO_WARM_UP_NS 100000000u
#define ECHO_MEASURE_NS 500000000u
#define ECHO_SMOKE_PARTS 10u

enum echo_kind { ECHO_TCP = 0, ECHO_UNIX, ECHO_TCP_ALONE };

/* ---- server ---- */

union echo_stream {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

struct echo_chunk {
    uv_write_t write;
    struct echo_chunk *next; /* in the free list */
    char data[ECHO_CHUNK];
};

struct echo_server {
    bool is_unix;
    const char *path; /* of an AF_UNIX socket */
    uv_loop_t *loop;
    union echo_stream listener;
    union echo_stream connections[ECHO_CONNECTIONS_MAX];
    uint32_t connection_count;
    struct echo_chunk *free_chunks;
    struct bench_tally ready;
    int rc; /* of the listen; written before `ready` */
    uint16_t port;
};

static struct echo_server server;

static void echo_chunk_give(struct echo_chunk *chunk)
{
    chunk->next = server.free_chunks;
    server.free_chunks = chunk;
}

static void echo_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    (void)handle;
    (void)suggested;
    struct echo_chunk *chunk = server.free_chunks;
    if (chunk != NULL)
        server.free_chunks = chunk->next;
    else
        chunk = malloc(sizeof(*chunk));
    *out = chunk != NULL ? uv_buf_init(chunk->data, ECHO_CHUNK) : uv_buf_init(NULL, 0);
}

static struct echo_chunk *echo_chunk_of(char *data)
{
    return (struct echo_chunk *)(void *)(data - offsetof(struct echo_chunk, data));
}

static void echo_written(uv_write_t *write, int status)
{
    (void)status; /* a connection that failed shows in the client's count */
    echo_chunk_give((struct echo_chunk *)write);
}

static void echo_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct echo_chunk *chunk = buf->base != NULL ? echo_chunk_of(buf->base) : NULL;
    if (n > 0) {
        uv_buf_t out = uv_buf_init(chunk->data, (unsigned)n);
        if (uv_write(&chunk->write, stream, &out, 1, echo_written) == 0)
            return;
    }
    if (chunk != NULL)
        echo_chunk_give(chunk);
    if (n < 0)
        uv_close((uv_handle_t *)stream, NULL);
}

static int echo_stream_init(union echo_stream *stream)
{
    return !server.is_unix ? uv_tcp_init(server.loop, &stream->tcp)
                           : uv_pipe_init(server.loop, &stream->pipe, 0);
}

static void echo_accept(uv_stream_t *listener, int status)
{
    if (status < 0 || server.connection_count == ECHO_CONNECTIONS_MAX)
        return;
    union echo_stream *stream = &server.connections[server.connection_count];
    if (echo_stream_init(stream) < 0)
        return;
    server.connection_count++;
    if (uv_accept(listener, &stream->stream) < 0 ||
        uv_read_start(&stream->stream, echo_alloc, echo_read) < 0)
        uv_close(&stream->handle, NULL);
    else if (!server.is_unix)
        (void)uv_tcp_nodelay(&stream->tcp, 1); /* makes no difference with one request in flight */
}

static int echo_bind(void)
{
    if (server.is_unix)
        return uv_pipe_bind(&server.listener.pipe, server.path);
    struct sockaddr_in address;
    int rc = uv_ip4_addr("127.0.0.1", 0, &address);
    if (rc == 0)
        rc = uv_tcp_bind(&server.listener.tcp, (const struct sockaddr *)&address, 0);
    int length = sizeof(address);
    if (rc == 0)
        rc = uv_tcp_getsockname(&server.listener.tcp, (struct sockaddr *)&address, &length);
    server.port = ntohs(address.sin_port);
    return rc;
}

static void echo_listen_task(numaperf_worker_t *worker, void *arg)
{
    const struct bench_peer *peer = arg;
    server.loop = peer->loop(worker);
    server.rc = echo_stream_init(&server.listener);
    if (server.rc == 0)
        server.rc = echo_bind();
    if (server.rc == 0)
        server.rc = uv_listen(&server.listener.stream, ECHO_BACKLOG, echo_accept);
    bench_tally_add(&server.ready);
}

static void echo_server_fini(void)
{
    while (server.free_chunks != NULL) {
        struct echo_chunk *chunk = server.free_chunks;
        server.free_chunks = chunk->next;
        free(chunk);
    }
}

/* ---- sample ---- */

/* Some PU that is not the server's, if there is one. */
static int echo_client_cpu(int server_cpu)
{
    numaperf_cpuset_t cpus;
    if (numaperf_get_affinity(&cpus) < 0)
        return server_cpu;
    int cpu = numaperf_cpuset_next(&cpus, -1);
    if (cpu == server_cpu)
        cpu = numaperf_cpuset_next(&cpus, cpu);
    return cpu < 0 ? server_cpu : cpu;
}

static int echo_measure(const struct bench_run *run, struct echo_client *client, double *out_values)
{
    void *state = NULL;
    int rc = run->peer->start(run->peer, run->setup, &state);
    if (rc < 0)
        return rc;
    rc = run->peer->spawn(state, 0, echo_listen_task, (void *)run->peer);
    if (rc == 0)
        rc = bench_tally_wait(&server.ready, 1);
    if (rc == 0)
        rc = server.rc;
    struct echo_count count = {0};
    if (rc == 0)
        rc = echo_client_run(client, server.port, &count);
    run->peer->stop(state);
    echo_server_fini();
    if (rc < 0)
        return rc;
    out_values[0] = (double)count.requests * 1e9 / (double)count.server_cpu_ns;
    out_values[1] = (double)count.requests * 1e9 / (double)count.took_ns;
    return 0;
}

static int echo_sample_at(const struct bench_run *run, const char *path, double *out_values)
{
    server.is_unix = run->bench->parameter == ECHO_UNIX;
    server.path = path;
    uint64_t parts = run->smoke ? ECHO_SMOKE_PARTS : 1;
    struct echo_plan plan = {
        .cpu = echo_client_cpu(run->setup->cpus[0]),
        .path = server.is_unix ? path : NULL,
        .connection_count = run->bench->parameter == ECHO_TCP_ALONE ? 1 : ECHO_CONNECTIONS_MAX,
        .warm_up_ns = ECHO_WARM_UP_NS / parts,
        .measure_ns = ECHO_MEASURE_NS / parts,
    };
    struct echo_client client;
    int rc = echo_client_start(&plan, &client); /* before there is a second thread */
    if (rc < 0)
        return rc;
    rc = echo_measure(run, &client, out_values);
    int end = echo_client_end(&client);
    return rc < 0 ? rc : end;
}

static int echo_sample(const struct bench_run *run, double *out_values)
{
    const char *base = getenv("TMPDIR"); /* NOLINT(concurrency-mt-unsafe): no other thread yet */
    char folder[80];
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int n =
        snprintf(folder, sizeof(folder), "%s/numaperf-bench-XXXXXX", base != NULL ? base : "/tmp");
    if (n >= (int)sizeof(folder))
        return -ENAMETOOLONG;
    if (mkdtemp(folder) == NULL)
        return -errno;
    (void)snprintf(path, sizeof(path), "%s/echo", folder);
    int rc = echo_sample_at(run, path, out_values);
    (void)unlink(path); /* libuv did, and a TCP server made none */
    (void)rmdir(folder);
    return rc;
}

#define ECHO_CASE(suffix, text, kind)                                          \
    {                                                                          \
        .name = "echo." suffix, .about = text,                                 \
        .peers = {&bench_libuv, &bench_numaperf, &bench_numaperf_epoll},       \
        .metrics = {{.name = "requests/CPU-s", .unit = "1/s"},                 \
                    {.name = "requests/s", .unit = "1/s"}},                    \
        .node_count = 1, .workers_per_node = 1, .parameter = (uint32_t)(kind), \
        .sample = echo_sample                                                  \
    }

static const struct bench_case echo_cases[] = {
    ECHO_CASE("tcp", "64 bytes, 50 TCP connections, one worker", ECHO_TCP),
    ECHO_CASE("unix", "64 bytes, 50 AF_UNIX connections, one worker", ECHO_UNIX),
    ECHO_CASE("tcp_alone", "64 bytes, one TCP connection, one worker", ECHO_TCP_ALONE),
};

const struct bench_workload bench_echo = {
    .name = "echo",
    .cases = echo_cases,
    .case_count = sizeof(echo_cases) / sizeof(echo_cases[0]),
};
