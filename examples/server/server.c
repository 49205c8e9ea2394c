/* SPDX-License-Identifier: MIT */
/*
 * Life of an example server. The main thread parses, binds, starts the runtime, prints the ready
 * line and then sleeps in sigwait(): workers block every signal, so it gets them all. Everything
 * else runs on workers: listeners are made in the start callback and closed by a task.
 *
 * Stop: the socket is closed, every worker drains (and says so once its last connection is gone),
 * after the drain time the rest is closed at once, then the runtime stops.
 */
#include "server.h"

#include "attest_file.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXIT_USAGE 2
#define BACKLOG 1024
#define STOP_TIMEOUT_NS UINT64_C(2000000000)
/* After "close at once" only callbacks are left to run. */
#define ABORT_SECONDS 2

struct server {
    const struct server_app *app;
    struct server_options options;
    struct listener listener;
    numaperf_topology_t *topology; /* NULL: this machine */
    numaperf_rt_t *rt;
    sem_t drained; /* posted once by every worker */
    pthread_mutex_t why_lock;
    char why[512]; /* first failure of a start callback, under why_lock */
};

static void server_listener_start_failed(struct server *server, const char *what, int code)
{
    pthread_mutex_lock(&server->why_lock);
    if (server->why[0] == '\0')
        (void)snprintf(server->why, sizeof(server->why), "%s %s: %s", what, server->listener.name,
                       code > -4096 ? uv_strerror(code) : numaperf_strerror(code));
    pthread_mutex_unlock(&server->why_lock);
}

static void server_on_peer(uv_stream_t *listener, int status)
{
    struct server_worker *worker = listener->data;
    if (status == 0)
        worker->server->app->connection(worker);
}

static int server_listen(struct server_worker *worker)
{
    struct server *server = worker->server;
    int rc = listener_stream_init(&server->listener, worker->loop, &worker->listener);
    if (rc < 0)
        return rc;
    worker->listener.handle.data = worker;
    worker->listening = true; /* from here on it is closed with uv_close() */
    int fd = listener_worker_fd(&server->listener, numaperf_worker_index(worker->worker));
    if (fd < 0)
        return fd;
    rc = listener_stream_open(&server->listener, &worker->listener, fd);
    if (rc < 0)
        return rc;
    return uv_listen(&worker->listener.stream, BACKLOG, server_on_peer);
}

static void server_unlisten(struct server_worker *worker)
{
    if (worker->listening)
        uv_close(&worker->listener.handle, NULL);
    worker->listening = false;
}

static int server_worker_start(numaperf_worker_t *rt_worker, void *data)
{
    struct server *server = data;
    numaperf_arena_t *arena = numaperf_worker_arena(rt_worker);
    struct server_worker *worker = numaperf_arena_alloc(arena, sizeof(*worker), 64);
    if (worker == NULL)
        return -ENOMEM;
    memset(worker, 0, sizeof(*worker));
    worker->server = server;
    worker->worker = rt_worker;
    worker->arena = arena;
    worker->loop = numaperf_worker_loop(rt_worker);
    worker->options = &server->options;
    worker->adopt_fd = -1;
    numaperf_worker_set_data(rt_worker, worker);

    int rc = server->app->worker_start(worker);
    if (rc < 0) {
        server_listener_start_failed(server, "cannot set up a worker for", rc);
        return rc;
    }
    rc = server_listen(worker);
    if (rc < 0) {
        server_listener_start_failed(server, "cannot listen on", rc);
        server_unlisten(worker);
        server->app->worker_stop(worker);
    }
    return rc;
}

static void server_worker_stop(numaperf_worker_t *rt_worker, void *data)
{
    struct server *server = data;
    struct server_worker *worker = numaperf_worker_data(rt_worker);
    server_unlisten(worker);
    server->app->worker_stop(worker);
}

int server_accept(struct server_worker *worker, union server_stream *stream, bool *out_initialised)
{
    *out_initialised = false;
    int rc = listener_stream_init(&worker->server->listener, worker->loop, stream);
    if (rc < 0)
        return rc;
    *out_initialised = true;
    atomic_fetch_add_explicit(&worker->connection_count, 1, memory_order_relaxed);
    if (worker->adopt_fd >= 0) {
        rc = listener_stream_open(&worker->server->listener, stream, worker->adopt_fd);
        worker->adopt_fd = -1;
    } else {
        rc = uv_accept(&worker->listener.stream, &stream->stream);
    }
    if (rc == 0 && worker->options->unix_path == NULL)
        (void)uv_tcp_nodelay(&stream->tcp, 1); /* a slower connection is still one */
    return rc;
}

/* A peer that waits for a refusal keeps libuv from accepting more of them until it is served. */
static void server_refused(uv_handle_t *handle)
{
    struct server_worker *worker = handle->data;
    worker->refusing = false;
    if (worker->refuse_next && worker->listening)
        worker->server->app->connection(worker);
}

void server_refuse(struct server_worker *worker, const char *text)
{
    if (worker->adopt_fd >= 0)
        return; /* draining: the backlog's loop closes it */
    worker->refuse_next = worker->refusing;
    if (worker->refusing)
        return;
    if (listener_stream_init(&worker->server->listener, worker->loop, &worker->refused) < 0)
        return;
    worker->refusing = true;
    worker->refused.handle.data = worker;
    if (uv_accept(&worker->listener.stream, &worker->refused.stream) == 0 && text[0] != '\0') {
        uv_buf_t buf = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));
        (void)uv_try_write(&worker->refused.stream, &buf, 1); /* a courtesy */
    }
    uv_close(&worker->refused.handle, server_refused);
}

void server_stream_stop_receiving(union server_stream *stream)
{
    uv_os_fd_t fd = -1;
    if (uv_fileno(&stream->handle, &fd) == 0)
        (void)shutdown(fd, SHUT_RD); /* a peer that is gone already is no failure */
}

static void server_tell_drained(struct server_worker *worker)
{
    if (!worker->draining || worker->drained ||
        atomic_load_explicit(&worker->connection_count, memory_order_relaxed) != 0)
        return;
    worker->drained = true;
    sem_post(&worker->server->drained);
}

void server_connection_closed(struct server_worker *worker)
{
    atomic_fetch_sub_explicit(&worker->connection_count, 1, memory_order_relaxed);
    server_tell_drained(worker);
}

/* Peers in the backlog have connected, and may have sent requests: they are served as well. */
static void server_empty_backlog(struct server_worker *worker)
{
    uv_os_fd_t listen_fd = -1;
    if (!worker->listening || uv_fileno(&worker->listener.handle, &listen_fd) < 0)
        return;
    for (unsigned i = 0; i < BACKLOG; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        worker->adopt_fd = fd;
        worker->server->app->connection(worker);
        if (worker->adopt_fd >= 0)
            close(worker->adopt_fd); /* it was not wanted */
        worker->adopt_fd = -1;
    }
}

static void server_drain_task(numaperf_worker_t *rt_worker, void *arg)
{
    (void)arg; /* the worker knows its server */
    struct server_worker *worker = numaperf_worker_data(rt_worker);
    server_empty_backlog(worker);
    server_unlisten(worker);
    worker->draining = true;
    worker->server->app->drain(worker, false);
    server_tell_drained(worker);
}

static void server_abort_task(numaperf_worker_t *rt_worker, void *arg)
{
    (void)arg; /* the worker knows its server */
    struct server_worker *worker = numaperf_worker_data(rt_worker);
    worker->server->app->drain(worker, true);
}

static size_t server_each_worker(struct server *server, numaperf_task_fn fn)
{
    size_t count = numaperf_rt_worker_count(server->rt, NUMAPERF_NODE_ANY);
    size_t told = 0;
    for (size_t i = 0; i < count; i++) {
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)i;
        if (numaperf_rt_spawn_with(server->rt, &options, fn, NULL) == 0)
            told++;
    }
    return told;
}

/* Waits until `count` more workers are drained; returns how many are not. */
static size_t server_await_drained(struct server *server, size_t count, unsigned seconds)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until); /* has no reason to fail */
    until.tv_sec += (time_t)seconds;
    while (count > 0) {
        if (sem_timedwait(&server->drained, &until) == 0)
            count--;
        else if (errno != EINTR)
            break;
    }
    return count;
}

static void server_stop(struct server *server)
{
    listener_close(&server->listener);
    size_t left = server_each_worker(server, server_drain_task);
    left = server_await_drained(server, left, server->options.drain_seconds);
    if (left > 0) {
        server_each_worker(server, server_abort_task);
        server_await_drained(server, left, ABORT_SECONDS);
    }
    (void)numaperf_rt_stop(server->rt, STOP_TIMEOUT_NS); /* destroy waits for what is left */
    numaperf_rt_destroy(server->rt);
}

static int server_load_topology(struct server *server)
{
    const char *text = server->options.topology;
    if (text == NULL)
        return 0;
    size_t length = strlen(text);
    bool xml = access(text, F_OK) == 0 || (length > 4 && strcmp(text + length - 4, ".xml") == 0);
    return xml ? numaperf_topology_from_xml(text, &server->topology)
               : numaperf_topology_from_synthetic(text, &server->topology);
}

static int server_start_rt(struct server *server)
{
    const struct server_options *options = &server->options;
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = options->mode;
    config.flags = options->rt_flags;
    config.steal_policy = options->steal_policy;
    config.workers_per_node = options->workers;
    config.io_backend = options->backend;
    config.nodes = options->nodes;
    config.topology = server->topology;
    config.arena_bytes = options->arena_mib << 20;
    config.task_limit_per_node = options->task_limit;
    config.on_worker_start = server_worker_start;
    config.on_worker_stop = server_worker_stop;
    config.data = server;
    return numaperf_rt_start(&config, &server->rt);
}

static void server_complain(const struct server *server, const char *what)
{
    const numaperf_error_t *error = numaperf_last_error();
    if (server->why[0] != '\0')
        fprintf(stderr, "%s: %s: %s\n", server->app->name, what, server->why);
    else
        fprintf(stderr, "%s: %s: %s: %s: %s\n", server->app->name, what,
                numaperf_err_name(error->code), error->operation, error->reason);
}

/* Serves until SIGTERM or SIGINT, which `signals` holds and every thread blocks. */
static int server_run(struct server *server, const sigset_t *signals)
{
    char why[400] = "";
    if (server_load_topology(server) < 0) {
        server_complain(server, "--topology");
        return EXIT_FAILURE;
    }
    if (listener_open(&server->listener, &server->options, why, sizeof(why)) < 0) {
        fprintf(stderr, "%s: %s\n", server->app->name, why);
        return EXIT_FAILURE;
    }
    if (server_start_rt(server) < 0) {
        server_complain(server, "cannot start");
        listener_close(&server->listener);
        return EXIT_FAILURE;
    }
    if (server->options.attest != NULL &&
        attest_file_write(server->rt, server->options.attest, why, sizeof(why)) < 0) {
        fprintf(stderr, "%s: --attest: %s\n", server->app->name, why);
        server_stop(server);
        return EXIT_FAILURE;
    }
    printf("%s ready on %s\n", server->app->name, server->listener.name);
    (void)fflush(stdout); /* whoever closed it does not wait for the line */

    int number = 0;
    while (sigwait(signals, &number) != 0)
        continue;
    server_stop(server);
    return EXIT_SUCCESS;
}

const char *server_address(const struct server *server)
{
    return server->listener.name;
}

const struct server_app *server_application(const struct server *server)
{
    return server->app;
}

int server_main(const struct server_app *app, int argc, char **argv)
{
    struct server server = {.app = app, .why_lock = PTHREAD_MUTEX_INITIALIZER};
    switch (server_options_parse(argc, argv, app->default_port, &server.options)) {
    case SERVER_OPTIONS_HELP:
        return EXIT_SUCCESS;
    case SERVER_OPTIONS_BAD:
        return EXIT_USAGE;
    case SERVER_OPTIONS_RUN:
        break;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    /* Blocked before any thread exists, so that none is ever killed by them. */
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN); /* a peer that is gone is an error of write(), not ours */
    sem_init(&server.drained, 0, 0);

    int code = server_run(&server, &signals);
    numaperf_topology_destroy(server.topology);
    sem_destroy(&server.drained);
    return code;
}
