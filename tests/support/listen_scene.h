/* SPDX-License-Identifier: MIT */
/*
 * A runtime with a listener whose connections echo, and clients in the test's hands. What happens
 * on workers is counted in atomics that the test waits for.
 */
#ifndef TESTS_SUPPORT_LISTEN_SCENE_H
#define TESTS_SUPPORT_LISTEN_SCENE_H

#include "support/runtimes.h"

#include <numaperf/net.h>
#include <numaperf/runtime.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define LISTEN_WORKERS_MAX 256
#define LISTEN_CLIENTS_MAX 256

/* Both backends: NUMAPERF_IO_URING and NUMAPERF_IO_EPOLL. */
extern const int listen_backends[2];
#define LISTEN_BOTH(fn)                                              \
    {#fn "_on_ring", fn, NULL, NULL, (void *)&listen_backends[0]},   \
    {                                                                \
#fn "_on_epoll", fn, NULL, NULL, (void *)&listen_backends[1] \
    }

struct listen_scene {
    int backend;
    struct runtime_box box;
    numaperf_rt_t *rt; /* box.rt */
    numaperf_conn_config_t conn;
    numaperf_listen_config_t config;
    numaperf_listener_t *listener;
    struct runtime_gate gates[2];
    /* Written on workers. */
    atomic_int opened, closed, answered, shutdowns;
    atomic_int strangers; /* callbacks on no worker */
    atomic_int stopping;  /* closed for NUMAPERF_E_STOPPING */
    atomic_int delayed;   /* opened without TCP_NODELAY */
    atomic_int with_fd;   /* opened with a descriptor of its own */
    atomic_int late;      /* told after their worker's on_worker_stop */
    atomic_int on_worker[LISTEN_WORKERS_MAX];
    atomic_int worker_stopped[LISTEN_WORKERS_MAX];
    atomic_int ended; /* `closed` of the listener */
    _Atomic uint64_t reset_count;
    /* Of this thread. */
    int clients[LISTEN_CLIENTS_MAX];
    int client_count;
};

/* A runtime of `workers_per_node` (0: the default); skips, saying why, where there is no ring. */
void listen_scene_open(struct listen_scene *scene, void **state, uint32_t workers_per_node);
/* Listen as scene->config says, which a case has filled; it must work. */
void listen_scene_listen(struct listen_scene *scene);
/* Clients, runtime and all; nothing of them may be left. */
void listen_scene_close(struct listen_scene *scene);

/* Have connections go on when their listener closes; before listen. */
void listen_keep(struct listen_scene *scene);
/* Close the listener, its end counted. What numaperf_listener_close() returns. */
int listen_end(struct listen_scene *scene, uint64_t grace_ns);

/* Hold a worker in a task, gate 0 or 1, and let it go. */
void listen_hold(struct listen_scene *scene, int gate, uint32_t worker);
void listen_let_go(struct listen_scene *scene, int gate);

/* Waits until the counter is `wanted`, with a generous limit; the case fails else. */
void listen_await(const atomic_int *counter, int wanted, const char *what);
#define LISTEN_AWAIT(counter, wanted) listen_await(&(counter), (wanted), #counter " == " #wanted)

numaperf_net_stats_t listen_worker_stats(const struct listen_scene *scene, uint32_t worker);
/* The sum over all of them. */
numaperf_net_stats_t listen_stats(const struct listen_scene *scene);

/* ---- clients ---- */

/* A socket that is connected to where the listener is; -errno. */
int client_connect(const struct listen_scene *scene);
/* The same, kept in the scene, must work. */
int client_add(struct listen_scene *scene);
/* Over 127.0.0.1 or ::1. */
int client_connect_tcp(bool v6, int port);
int client_connect_unix(const char *path);
void client_close_all(struct listen_scene *scene);
/* Whether `text` comes back. */
bool client_echo(int fd, const char *text);
/* Waits for the end: 0, or the errno of a reset; -1 when bytes came instead. */
int client_end(int fd);

#endif
