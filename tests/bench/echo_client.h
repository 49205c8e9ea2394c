/* SPDX-License-Identifier: MIT */
/*
 * The load of the network benchmarks, in a process of its own: connections that each keep a number
 * of requests in flight, or take part in a fixed rate of them, and compare every byte they get.
 */
#ifndef NUMAPERF_BENCH_ECHO_CLIENT_H
#define NUMAPERF_BENCH_ECHO_CLIENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define ECHO_CONNECTIONS_MAX 500u

struct echo_plan {
    int cpu;             /* where the client runs */
    const char *path;    /* AF_UNIX; NULL: TCP on 127.0.0.1 */
    const char *request; /* NULL: a pattern with a number in it, which comes back */
    const char *answer;  /* of such a request, always the same */
    uint32_t request_bytes;
    uint32_t answer_bytes;
    uint32_t connection_count;
    uint32_t depth; /* requests in flight on a connection, at most */
    /* Requests a second over all connections, due at fixed times whatever the server does; what it
     * delays counts as its latency. 0: each is sent when there is room for it. */
    uint32_t rate;
    bool spin;           /* look for answers without sleeping */
    uint64_t warm_up_ns; /* after all are connected, before anything counts */
    uint64_t measure_ns;
};

struct echo_count {
    uint64_t requests; /* answered, and the answer was right */
    uint64_t took_ns;
    uint64_t server_cpu_ns; /* of the server's process */
    double p50_ns;          /* with a rate: from when they were due to their answer */
    double p99_ns;
};

/* Where the server listens, and which process it is. */
struct echo_target {
    pid_t pid;
    uint16_t port;
};

struct echo_client {
    pid_t pid;
    int go_fd;    /* to the client: the target; closed without one: no run */
    int count_fd; /* from the client */
};

/* Fork it; it waits for echo_client_run(). In a process of one thread. */
int echo_client_start(const struct echo_plan *plan, struct echo_client *out);
/* Have it do its work against the server that listens now. */
int echo_client_run(struct echo_client *client, const struct echo_target *target,
                    struct echo_count *out);
/* Let it go, and wait for it; < 0 when it did not end well. */
int echo_client_end(struct echo_client *client);
/* Some PU that is not the server's, if there is one. */
int echo_client_cpu(int server_cpu);

#endif
