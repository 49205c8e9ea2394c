/* SPDX-License-Identifier: MIT */
/*
 * libuv stays libuv: an echo server of plain uv_tcp_t handles, one listener on every worker's loop.
 * The connections lie in the worker's arena, on its node. "uv_echo PORT"; 0: the kernel chooses.
 */
#include <numaperf.h>

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

struct connection {
    uv_tcp_t tcp; /* first: libuv hands it back */
    char bytes[4096];
};

static void closed(uv_handle_t *handle)
{
    numaperf_arena_free(handle->data, handle);
}

static void alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct connection *connection = (struct connection *)handle;
    (void)suggested;
    *out = uv_buf_init(connection->bytes, sizeof(connection->bytes));
}

static void received(uv_stream_t *stream, ssize_t length, const uv_buf_t *buf)
{
    uv_buf_t bytes = uv_buf_init(buf->base, length > 0 ? (unsigned)length : 0);
    /* To keep it short: a peer that sends and does not read is closed. */
    if (length < 0 || (length > 0 && uv_try_write(stream, &bytes, 1) != (int)length))
        uv_close((uv_handle_t *)stream, closed);
}

static void accepted(uv_stream_t *listener, int status)
{
    numaperf_arena_t *arena = numaperf_worker_arena(numaperf_worker_current());
    struct connection *connection = numaperf_arena_alloc(arena, sizeof(*connection), 64);
    if (status < 0 || connection == NULL || uv_tcp_init(listener->loop, &connection->tcp) < 0) {
        numaperf_arena_free(arena, connection); /* the peer waits in the backlog */
        return;
    }
    connection->tcp.data = arena;
    if (uv_accept(listener, (uv_stream_t *)&connection->tcp) < 0 ||
        uv_read_start((uv_stream_t *)&connection->tcp, alloc, received) < 0)
        uv_close((uv_handle_t *)&connection->tcp, closed);
}

/* A socket of our own on the port that all workers share; the first one asks for it. */
static int shared_socket(struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int on = 1;
    socklen_t length = sizeof(*address);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ||
        bind(fd, (struct sockaddr *)address, length) < 0 ||
        getsockname(fd, (struct sockaddr *)address, &length) < 0)
        return -errno; /* the runtime does not start: the program ends, and closes it */
    return fd;
}

static int worker_start(numaperf_worker_t *worker, void *data)
{
    struct sockaddr_in address = *(const struct sockaddr_in *)data;
    uv_tcp_t *listener = numaperf_arena_alloc(numaperf_worker_arena(worker), sizeof(*listener), 64);
    int fd = listener != NULL ? shared_socket(&address) : -ENOMEM;
    if (fd < 0)
        return fd;
    (void)uv_tcp_init(numaperf_worker_loop(worker), listener); /* allocates nothing */
    int rc = uv_tcp_open(listener, fd);
    return rc < 0 ? rc : uv_listen((uv_stream_t *)listener, SOMAXCONN, accepted);
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    address.sin_port = htons(argc > 1 ? (uint16_t)strtoul(argv[1], NULL, 10) : 0);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    int first = shared_socket(&address); /* so that the port is known before any worker starts */
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.on_worker_start = worker_start;
    config.data = &address;
    numaperf_rt_t *rt = NULL;
    if (first < 0 || numaperf_rt_start(&config, &rt) < 0) {
        fprintf(stderr, "uv_echo: %s\n", first < 0 ? "no socket" : numaperf_last_error()->reason);
        return EXIT_FAILURE;
    }
    printf("uv_echo ready on 127.0.0.1:%d\n", ntohs(address.sin_port));
    (void)fflush(stdout);
    (void)sigwait(&signals, &(int){0});
    numaperf_rt_destroy(rt); /* closes the handles that are left */
    return EXIT_SUCCESS;
}
