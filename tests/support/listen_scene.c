/* SPDX-License-Identifier: MIT */
#include "support/listen_scene.h"

#include "support/clock.h"

#include <numaperf/error.h>

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

const int listen_backends[2] = {NUMAPERF_IO_URING, NUMAPERF_IO_EPOLL};

/* ---- what connections tell ---- */

static uint32_t scene_worker(struct listen_scene *scene)
{
    numaperf_worker_t *worker = numaperf_worker_current();
    if (worker == NULL) {
        atomic_fetch_add(&scene->strangers, 1);
        return 0;
    }
    uint32_t index = numaperf_worker_index(worker);
    if (atomic_load(&scene->worker_stopped[index]) != 0)
        atomic_fetch_add(&scene->late, 1);
    return index;
}

static int scene_on_open(numaperf_conn_t *conn, void *data)
{
    struct listen_scene *scene = data;
    atomic_fetch_add(&scene->on_worker[scene_worker(scene)], 1);
    int fd = numaperf_conn_fd(conn);
    int on = 0;
    socklen_t length = sizeof(on);
    if (fd >= 0)
        atomic_fetch_add(&scene->with_fd, 1);
    if (fd >= 0 && getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, &length) == 0 && on == 0)
        atomic_fetch_add(&scene->delayed, 1);
    atomic_fetch_add(&scene->opened, 1);
    return 0;
}

static void scene_on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    struct listen_scene *scene = data;
    (void)scene_worker(scene);
    if (numaperf_conn_write(conn, bytes, length) >= 0)
        atomic_fetch_add(&scene->answered, 1);
}

static void scene_on_shutdown(numaperf_conn_t *conn, void *data)
{
    struct listen_scene *scene = data;
    (void)conn;
    (void)scene_worker(scene);
    atomic_fetch_add(&scene->shutdowns, 1);
}

static void scene_on_close(numaperf_conn_t *conn, int reason, void *data)
{
    struct listen_scene *scene = data;
    (void)conn;
    (void)scene_worker(scene);
    if (reason == NUMAPERF_E_STOPPING)
        atomic_fetch_add(&scene->stopping, 1);
    atomic_fetch_add(&scene->closed, 1);
}

static void scene_listener_closed(uint64_t reset_count, void *data)
{
    struct listen_scene *scene = data;
    (void)scene_worker(scene);
    atomic_store(&scene->reset_count, reset_count);
    atomic_fetch_add(&scene->ended, 1);
}

static void scene_worker_stop(numaperf_worker_t *worker, void *data)
{
    struct listen_scene *scene = data;
    atomic_store(&scene->worker_stopped[numaperf_worker_index(worker)], 1);
}

/* ---- the scene ---- */

void listen_scene_open(struct listen_scene *scene, void **state, uint32_t workers_per_node)
{
    memset(scene, 0, sizeof(*scene));
    scene->backend = *(const int *)*state;
    scene->box.config = (numaperf_rt_config_t)NUMAPERF_RT_CONFIG_INIT;
    scene->box.config.io_backend = (uint32_t)scene->backend;
    scene->box.config.workers_per_node = workers_per_node;
    scene->box.config.on_worker_stop = scene_worker_stop;
    scene->box.config.data = scene;
    int rc = runtime_box_open(&scene->box, NULL);
    if (rc < 0 && scene->backend == NUMAPERF_IO_URING) {
        print_message("skipped: io_uring is refused here: %s\n", numaperf_last_error()->reason);
        skip();
    }
    assert_int_equal(rc, 0);
    scene->rt = scene->box.rt;
    assert_true(numaperf_rt_worker_count(scene->rt, NUMAPERF_NODE_ANY) <= LISTEN_WORKERS_MAX);
    scene->conn = (numaperf_conn_config_t)NUMAPERF_CONN_CONFIG_INIT;
    scene->conn.callbacks.on_open = scene_on_open;
    scene->conn.callbacks.on_read = scene_on_read;
    scene->conn.callbacks.on_close = scene_on_close;
    scene->conn.data = scene;
    scene->config = (numaperf_listen_config_t)NUMAPERF_LISTEN_CONFIG_INIT;
    scene->config.conn = &scene->conn;
}

void listen_keep(struct listen_scene *scene)
{
    scene->conn.callbacks.on_shutdown = scene_on_shutdown;
}

void listen_scene_listen(struct listen_scene *scene)
{
    if (numaperf_rt_listen(scene->rt, &scene->config, &scene->listener) < 0)
        fail_msg("%s: %s", numaperf_last_error()->operation, numaperf_last_error()->reason);
}

int listen_end(struct listen_scene *scene, uint64_t grace_ns)
{
    return numaperf_listener_close(scene->listener, grace_ns, scene_listener_closed, scene);
}

void listen_scene_close(struct listen_scene *scene)
{
    client_close_all(scene);
    runtime_box_close(&scene->box);
    scene->rt = NULL;
    scene->listener = NULL;
    assert_int_equal(atomic_load(&scene->closed), atomic_load(&scene->opened));
    assert_int_equal(atomic_load(&scene->strangers), 0);
    assert_int_equal(atomic_load(&scene->late), 0);
}

void listen_hold(struct listen_scene *scene, int gate, uint32_t worker)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)worker;
    assert_int_equal(
        numaperf_rt_spawn_with(scene->rt, &options, runtime_gate_task, &scene->gates[gate]), 0);
    LISTEN_AWAIT(scene->gates[gate].entered, 1);
}

void listen_let_go(struct listen_scene *scene, int gate)
{
    atomic_store(&scene->gates[gate].open, true);
}

void listen_await(const atomic_int *counter, int wanted, const char *what)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(30);
    while (atomic_load(counter) != wanted) {
        if (test_now_ns() > limit_ns)
            fail_msg("never: %s; it is %d", what, atomic_load(counter));
        test_sleep_ms(1);
    }
}

numaperf_net_stats_t listen_worker_stats(const struct listen_scene *scene, uint32_t worker)
{
    numaperf_net_stats_t stats = NUMAPERF_NET_STATS_INIT;
    assert_int_equal(
        numaperf_loop_net_stats(numaperf_worker_io(numaperf_rt_worker(scene->rt, worker)), &stats),
        0);
    return stats;
}

numaperf_net_stats_t listen_stats(const struct listen_scene *scene)
{
    numaperf_net_stats_t sum = NUMAPERF_NET_STATS_INIT;
    for (uint32_t i = 0; i < numaperf_rt_worker_count(scene->rt, NUMAPERF_NODE_ANY); i++) {
        numaperf_net_stats_t one = listen_worker_stats(scene, i);
        sum.connections += one.connections;
        sum.accepted += one.accepted;
        sum.handed_over += one.handed_over;
        sum.refused_limit += one.refused_limit;
        sum.accept_pauses += one.accept_pauses;
    }
    return sum;
}

/* ---- clients ---- */

static int client_finish(int fd, const struct sockaddr *address, socklen_t length)
{
    const struct timeval limit = {.tv_sec = (time_t)(test_limit_ns(30) / 1000000000u)};
    if (fd < 0)
        return -errno;
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    if (connect(fd, address, length) == 0)
        return fd;
    int rc = -errno;
    (void)close(fd);
    return rc;
}

int client_connect_tcp(bool v6, int port)
{
    struct sockaddr_in v4_address = {.sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)port),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6_address = {.sin6_family = AF_INET6,
                                      .sin6_port = htons((uint16_t)port),
                                      .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (v6)
        return client_finish(fd, (struct sockaddr *)&v6_address, sizeof(v6_address));
    return client_finish(fd, (struct sockaddr *)&v4_address, sizeof(v4_address));
}

int client_connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    assert_true(length < sizeof(address.sun_path));
    memcpy(address.sun_path, path, length);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    return client_finish(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
                         (struct sockaddr *)&address,
                         (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
}

int client_connect(const struct listen_scene *scene)
{
    char text[136];
    assert_true(numaperf_listener_address(scene->listener, text, sizeof(text)) > 0);
    if (strncmp(text, "unix:", 5) == 0)
        return client_connect_unix(text + 5);
    return client_connect_tcp(text[0] == '[' && text[1] == ':' && text[2] == ':' && text[3] == '1',
                              numaperf_listener_port(scene->listener));
}

int client_add(struct listen_scene *scene)
{
    int fd = client_connect(scene);
    if (fd < 0)
        fail_msg("connect: %s", strerror(-fd));
    assert_true(scene->client_count < LISTEN_CLIENTS_MAX);
    scene->clients[scene->client_count++] = fd;
    return fd;
}

void client_close_all(struct listen_scene *scene)
{
    while (scene->client_count > 0)
        (void)close(scene->clients[--scene->client_count]);
}

bool client_echo(int fd, const char *text)
{
    char buffer[256];
    size_t length = strlen(text);
    size_t got = 0;
    assert_true(length < sizeof(buffer));
    if (send(fd, text, length, MSG_NOSIGNAL) != (ssize_t)length)
        return false;
    while (got < length) {
        ssize_t n = recv(fd, buffer + got, length - got, 0);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return memcmp(buffer, text, length) == 0;
}

int client_end(int fd)
{
    char byte = 0;
    ssize_t n = recv(fd, &byte, 1, 0);
    if (n < 0)
        return errno;
    return n == 0 ? 0 : -1;
}
