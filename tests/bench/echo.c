/* SPDX-License-Identifier: MIT */
/*
 * Echo over TCP and AF_UNIX: requests for each second of CPU time that the server's process takes,
 * which is what to judge by, requests a second, and how much of its PU the server took. The server
 * runs on the first worker's PU in the sample's process, the client (echo_client.c) is a process of
 * its own on another. At a fixed rate it is the latency that counts, from when a request was due.
 */
#include "echo.h"

#include "echo_client.h"
#include "program.h"

#include <errno.h>
#include <stdio.h>
#include <sys/un.h>
#include <unistd.h>

#define ECHO_WARM_UP_NS 100000000u
#define ECHO_MEASURE_NS 500000000u
#define ECHO_SMOKE_PARTS 20u
#define ECHO_SMOKE_CONNECTIONS 10u
#define ECHO_REQUESTS 1u /* index of the metric */

struct echo_shape {
    bool is_unix;
    bool spin; /* the client, too */
    uint32_t connection_count;
    uint32_t bytes;
    uint32_t depth;
    uint32_t rate; /* a second; 0: as fast as it goes */
};

enum {
    ECHO_TCP_50 = 0,
    ECHO_TCP_500,
    ECHO_UNIX_50,
    ECHO_UNIX_500,
    ECHO_TCP_4K,
    ECHO_TCP_ALONE,
    ECHO_RATE_20K,
    ECHO_RATE_60K
};

static const struct echo_shape shapes[] = {
    [ECHO_TCP_50] = {.connection_count = 50, .bytes = 64, .depth = 1},
    [ECHO_TCP_500] = {.connection_count = 500, .bytes = 64, .depth = 1},
    [ECHO_UNIX_50] = {.is_unix = true, .connection_count = 50, .bytes = 64, .depth = 1},
    [ECHO_UNIX_500] = {.is_unix = true, .connection_count = 500, .bytes = 64, .depth = 1},
    [ECHO_TCP_4K] = {.connection_count = 50, .bytes = 4096, .depth = 16},
    [ECHO_TCP_ALONE] = {.spin = true, .connection_count = 1, .bytes = 64, .depth = 1},
    [ECHO_RATE_20K] = {.connection_count = 50, .bytes = 64, .depth = 64, .rate = 20000},
    [ECHO_RATE_60K] = {.connection_count = 50, .bytes = 64, .depth = 64, .rate = 60000},
};

static void echo_values(const struct echo_shape *shape, const struct echo_count *count,
                        double *out_values)
{
    double cpu_ns = (double)count->server_cpu_ns;
    double took_ns = (double)count->took_ns;
    double requests = (double)count->requests;
    if (shape->rate > 0) {
        out_values[0] = cpu_ns / requests;
        out_values[1] = count->p50_ns;
        out_values[2] = count->p99_ns;
        out_values[3] = requests * 1e9 / took_ns;
        return;
    }
    out_values[0] = requests * 1e9 / cpu_ns;
    out_values[1] = requests * 1e9 / took_ns;
    out_values[2] = cpu_ns / requests;
    out_values[3] = 100 * cpu_ns / took_ns;
}

static int echo_measure(const struct bench_run *run, const struct bench_echo_site *site,
                        struct echo_client *client, struct echo_count *out)
{
    const struct bench_echo_ops *ops = run->peer->ops;
    struct echo_target target = {.pid = getpid()};
    void *state = NULL;
    int rc = ops->start(run->peer, site, &state, &target.port);
    if (rc < 0)
        return rc;
    rc = echo_client_run(client, &target, out);
    ops->stop(state);
    return rc;
}

static int echo_sample_at(const struct bench_run *run, const char *path, double *out_values)
{
    const struct echo_shape *shape = &shapes[run->bench->parameter];
    uint64_t parts = run->smoke ? ECHO_SMOKE_PARTS : 1;
    struct bench_echo_site site = {
        .setup = run->setup,
        .path = shape->is_unix ? path : NULL,
        .connection_count = shape->connection_count,
        .message_bytes = shape->bytes,
    };
    if (run->smoke && site.connection_count > ECHO_SMOKE_CONNECTIONS)
        site.connection_count = ECHO_SMOKE_CONNECTIONS;
    struct echo_plan plan = {
        .cpu = echo_client_cpu(run->setup->cpus[0]),
        .path = site.path,
        .request_bytes = shape->bytes,
        .answer_bytes = shape->bytes,
        .connection_count = site.connection_count,
        .depth = shape->depth,
        .rate = shape->rate,
        .spin = shape->spin,
        .warm_up_ns = ECHO_WARM_UP_NS / parts,
        .measure_ns = ECHO_MEASURE_NS / parts,
    };
    struct echo_client client;
    int rc = echo_client_start(&plan, &client); /* before there is a second thread */
    if (rc < 0)
        return rc;
    struct echo_count count = {0};
    rc = echo_measure(run, &site, &client, &count);
    int end = echo_client_end(&client);
    if (rc == 0 && end == 0)
        echo_values(shape, &count, out_values);
    return rc < 0 ? rc : end;
}

static int echo_sample(const struct bench_run *run, double *out_values)
{
    char folder[80];
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    int rc = program_folder_make(folder, sizeof(folder));
    if (rc < 0)
        return rc;
    (void)snprintf(path, sizeof(path), "%s/echo", folder);
    rc = echo_sample_at(run, path, out_values);
    program_folder_remove(folder);
    return rc;
}

#define ECHO_THROUGHPUT                                                                   \
    {                                                                                     \
        {.name = "requests/CPU-s", .unit = "1/s"}, {.name = "requests/s", .unit = "1/s"}, \
            {.name = "CPU a request", .unit = "ns", .lower_is_better = true},             \
            {.name = "PU taken", .unit = "%", .lower_is_better = true},                   \
    }

#define ECHO_LATENCY                                                        \
    {                                                                       \
        {.name = "CPU a request", .unit = "ns", .lower_is_better = true},   \
            {.name = "latency p50", .unit = "ns", .lower_is_better = true}, \
            {.name = "latency p99", .unit = "ns", .lower_is_better = true}, \
            {.name = "requests/s", .unit = "1/s"},                          \
    }

/* Of the first metric: of ours against libuv, the hand-written ring and our own epoll path. */
#define ECHO_GOAL(of, other, least, wanted)                                  \
    {                                                                        \
        .peer = &(of), .against = &(other), .must = (least), .aim = (wanted) \
    }

#define ECHO_PEERS                                                                             \
    {                                                                                          \
        &bench_echo_libuv, &bench_echo_epoll, &bench_echo_ring, &bench_echo_numaperf,          \
            &bench_echo_numaperf_write, &bench_echo_numaperf_calm, &bench_echo_numaperf_epoll, \
            &bench_echo_uv_on_ours                                                             \
    }

#define ECHO_CASE(suffix, text, shape, least, wanted, raw)                                        \
    {                                                                                             \
        .name = "echo." suffix, .about = (text), .peers = ECHO_PEERS, .metrics = ECHO_THROUGHPUT, \
        .goals = {ECHO_GOAL(bench_echo_numaperf, bench_echo_libuv, least, wanted),                \
                  ECHO_GOAL(bench_echo_numaperf, bench_echo_ring, raw, 1),                        \
                  ECHO_GOAL(bench_echo_numaperf, bench_echo_numaperf_epoll, 1, 1.1),              \
                  ECHO_GOAL(bench_echo_uv_on_ours, bench_echo_libuv, 0.95, 1)},                   \
        .node_count = 1, .workers_per_node = 1, .parameter = (shape), .sample = echo_sample       \
    }

#define ECHO_RATE_CASE(suffix, text, shape)                                                    \
    {                                                                                          \
        .name = "echo." suffix, .about = (text), .peers = ECHO_PEERS, .metrics = ECHO_LATENCY, \
        .node_count = 1, .workers_per_node = 1, .parameter = (shape), .sample = echo_sample    \
    }

static const struct bench_case echo_cases[] = {
    ECHO_CASE("tcp_50", "64 bytes, 50 TCP connections, one worker", ECHO_TCP_50, 1, 1.06, 0.97),
    ECHO_CASE("tcp_500", "64 bytes, 500 TCP connections, one worker", ECHO_TCP_500, 1, 1.06, 0.97),
    ECHO_CASE("unix_50", "64 bytes, 50 AF_UNIX connections, one worker", ECHO_UNIX_50, 1.05, 1.13,
              0.97),
    ECHO_CASE("unix_500", "64 bytes, 500 AF_UNIX connections, one worker", ECHO_UNIX_500, 1.05,
              1.13, 0.97),
    ECHO_CASE("tcp_4k", "4 KiB, 50 TCP connections with 16 requests in flight each", ECHO_TCP_4K, 1,
              1.08, 0),
    {
        .name = "echo.alone",
        .about = "64 bytes, one TCP connection whose client never sleeps",
        .peers = {&bench_echo_libuv, &bench_echo_epoll, &bench_echo_epoll_spin, &bench_echo_ring,
                  &bench_echo_ring_spin, &bench_echo_numaperf, &bench_echo_numaperf_write,
                  &bench_echo_numaperf_calm, &bench_echo_numaperf_epoll, &bench_echo_uv_on_ours},
        .metrics = ECHO_THROUGHPUT,
        /* What is asked here is how soon the next request comes back. */
        .goals = {{.peer = &bench_echo_numaperf,
                   .against = &bench_echo_libuv,
                   .metric = ECHO_REQUESTS,
                   .must = 2.5,
                   .aim = 2.9},
                  {.peer = &bench_echo_numaperf,
                   .against = &bench_echo_epoll_spin,
                   .metric = ECHO_REQUESTS,
                   .aim = 1}},
        .node_count = 1,
        .workers_per_node = 1,
        .parameter = ECHO_TCP_ALONE,
        .sample = echo_sample,
    },
    ECHO_RATE_CASE("rate_20k", "64 bytes, 50 TCP connections, 20 000 requests due a second",
                   ECHO_RATE_20K),
    ECHO_RATE_CASE("rate_60k", "64 bytes, 50 TCP connections, 60 000 requests due a second",
                   ECHO_RATE_60K),
};

const struct bench_workload bench_echo = {
    .name = "echo",
    .cases = echo_cases,
    .case_count = sizeof(echo_cases) / sizeof(echo_cases[0]),
};
