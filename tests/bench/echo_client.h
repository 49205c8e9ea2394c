/* SPDX-License-Identifier: MIT */
/* The load of the echo benchmark, in a process of its own. */
#ifndef NUMAPERF_BENCH_ECHO_CLIENT_H
#define NUMAPERF_BENCH_ECHO_CLIENT_H

#include <stdint.h>
#include <sys/types.h>

#define ECHO_CONNECTIONS_MAX 50u
#define ECHO_BYTES 64u

struct echo_plan {
    int cpu;          /* where the client runs */
    const char *path; /* AF_UNIX; NULL: TCP on 127.0.0.1 */
    uint32_t connection_count;
    uint64_t warm_up_ns; /* after all are connected, before anything counts */
    uint64_t measure_ns;
};

struct echo_count {
    uint64_t requests; /* answered, and the answer was right */
    uint64_t took_ns;
    uint64_t server_cpu_ns; /* of the process that started the client */
};

struct echo_client {
    pid_t pid;
    int go_fd;    /* to the client: the port; closed without one: no run */
    int count_fd; /* from the client */
};

/* Fork it; it waits for echo_client_run(). In a process of one thread. */
int echo_client_start(const struct echo_plan *plan, struct echo_client *out);
/* Have it do its work against the server that listens now. */
int echo_client_run(struct echo_client *client, uint16_t port, struct echo_count *out);
/* Let it go, and wait for it; < 0 when it did not end well. */
int echo_client_end(struct echo_client *client);

#endif
