/* SPDX-License-Identifier: MIT */
#include "support/uv_scenes_io.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

/* ---- streams: a client writes, the server echoes until the end, both close ---- */

static void stream_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    (void)size;
    struct scene_run *run = handle->data;
    struct stream_parts *parts = run->parts;
    *out = uv_buf_init(parts->buffer, sizeof(parts->buffer));
}

static void stream_server_shut(uv_shutdown_t *request, int status)
{
    struct scene_run *run = request->handle->data;
    SCENE_SEE(run, status == 0);
    scene_close((uv_handle_t *)request->handle);
}

static void stream_server_wrote(uv_write_t *request, int status)
{
    struct scene_run *run = request->handle->data;
    struct stream_parts *parts = run->parts;
    SCENE_SEE(run, status == 0);
    SCENE_SEE(run, uv_shutdown(&parts->server_shutdown, request->handle, stream_server_shut) == 0);
}

static void stream_server_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct scene_run *run = stream->data;
    struct stream_parts *parts = run->parts;
    if (n > 0 && parts->server_length + (size_t)n <= sizeof(parts->server_bytes)) {
        memcpy(parts->server_bytes + parts->server_length, buffer->base, (size_t)n);
        parts->server_length += (size_t)n;
    }
    if (n >= 0)
        return;
    SCENE_SEE(run, n == UV_EOF);
    SCENE_SEE(run, parts->server_length == sizeof(parts->client_bytes));
    uv_buf_t all = uv_buf_init(parts->server_bytes, (unsigned)parts->server_length);
    SCENE_SEE(run, uv_write(&parts->server_write, stream, &all, 1, stream_server_wrote) == 0);
}

static void stream_init(struct scene_run *run, uv_stream_t *stream)
{
    struct stream_parts *parts = run->parts;
    int rc = parts->is_pipe ? uv_pipe_init(run->loop, (uv_pipe_t *)stream, 0)
                            : uv_tcp_init(run->loop, (uv_tcp_t *)stream);
    SCENE_SEE(run, rc == 0);
    scene_track(run, (uv_handle_t *)stream);
}

static void stream_connection(uv_stream_t *listener, int status)
{
    struct scene_run *run = listener->data;
    struct stream_parts *parts = run->parts;
    SCENE_SEE(run, status == 0);
    stream_init(run, &parts->server.stream);
    SCENE_SEE(run, uv_accept(listener, &parts->server.stream) == 0);
    SCENE_SEE(run, uv_read_start(&parts->server.stream, stream_alloc, stream_server_read) == 0);
    scene_close((uv_handle_t *)listener);
}

static void stream_client_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct scene_run *run = stream->data;
    struct stream_parts *parts = run->parts;
    if (n > 0) {
        size_t end = parts->client_length + (size_t)n;
        SCENE_SEE(run, end <= sizeof(parts->client_bytes) &&
                           memcmp(parts->client_bytes + parts->client_length, buffer->base,
                                  (size_t)n) == 0);
        parts->client_length = end;
    }
    if (n >= 0)
        return;
    SCENE_SEE(run, n == UV_EOF);
    SCENE_SEE(run, parts->client_length == sizeof(parts->client_bytes));
    scene_close((uv_handle_t *)stream);
}

static void stream_client_shut(uv_shutdown_t *request, int status)
{
    struct scene_run *run = request->handle->data;
    SCENE_SEE(run, status == 0);
    SCENE_SEE(run, uv_read_start(request->handle, stream_alloc, stream_client_read) == 0);
}

static void stream_client_wrote(uv_write_t *request, int status)
{
    struct scene_run *run = request->handle->data;
    struct stream_parts *parts = run->parts;
    SCENE_SEE(run, status == 0);
    SCENE_SEE(run, uv_shutdown(&parts->client_shutdown, request->handle, stream_client_shut) == 0);
}

static void stream_connected(uv_connect_t *request, int status)
{
    struct scene_run *run = request->handle->data;
    struct stream_parts *parts = run->parts;
    SCENE_SEE(run, status == 0);
    for (size_t i = 0; i < sizeof(parts->client_bytes); i++)
        parts->client_bytes[i] = (char)(i * 7 + i / 251);
    uv_buf_t all = uv_buf_init(parts->client_bytes, sizeof(parts->client_bytes));
    SCENE_SEE(run,
              uv_write(&parts->client_write, request->handle, &all, 1, stream_client_wrote) == 0);
}

void tcp_scene_start(struct scene_run *run)
{
    struct stream_parts *parts = run->parts;
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int length = sizeof(address);
    stream_init(run, &parts->listener.stream);
    stream_init(run, &parts->client.stream);
    SCENE_SEE(run, uv_tcp_bind(&parts->listener.tcp, (struct sockaddr *)&address, 0) == 0);
    SCENE_SEE(run, uv_listen(&parts->listener.stream, 8, stream_connection) == 0);
    SCENE_SEE(run,
              uv_tcp_getsockname(&parts->listener.tcp, (struct sockaddr *)&address, &length) == 0);
    SCENE_SEE(run, uv_tcp_connect(&parts->connect, &parts->client.tcp, (struct sockaddr *)&address,
                                  stream_connected) == 0);
}

void pipe_scene_start(struct scene_run *run)
{
    struct stream_parts *parts = run->parts;
    parts->is_pipe = true;
    stream_init(run, &parts->listener.stream);
    stream_init(run, &parts->client.stream);
    SCENE_SEE(run, uv_pipe_bind(&parts->listener.pipe, run->path) == 0);
    SCENE_SEE(run, uv_listen(&parts->listener.stream, 8, stream_connection) == 0);
    uv_pipe_connect(&parts->connect, &parts->client.pipe, run->path, stream_connected);
}

/* ---- udp: ten datagrams, each sent when the one before has come ---- */

static void udp_sent(uv_udp_send_t *request, int status)
{
    struct scene_run *run = request->handle->data;
    SCENE_SEE(run, status == 0);
}

static void udp_send_next(struct scene_run *run)
{
    struct udp_parts *parts = run->parts;
    uv_buf_t text = uv_buf_init("datagram", 8);
    SCENE_SEE(run, uv_udp_send(&parts->sends[parts->count], &parts->sender, &text, 1,
                               (struct sockaddr *)&parts->address, udp_sent) == 0);
}

static void udp_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    (void)size;
    struct scene_run *run = handle->data;
    struct udp_parts *parts = run->parts;
    *out = uv_buf_init(parts->buffer, sizeof(parts->buffer));
}

static void udp_received(uv_udp_t *udp, ssize_t n, const uv_buf_t *buffer,
                         const struct sockaddr *from, unsigned flags)
{
    (void)flags;
    struct scene_run *run = udp->data;
    struct udp_parts *parts = run->parts;
    if (from == NULL)
        return; /* nothing more for now */
    SCENE_SEE(run, n == 8 && memcmp(buffer->base, "datagram", 8) == 0);
    if (++parts->count < 10) {
        udp_send_next(run);
        return;
    }
    SCENE_SEE(run, uv_udp_recv_stop(udp) == 0);
    scene_close((uv_handle_t *)&parts->receiver);
    scene_close((uv_handle_t *)&parts->sender);
}

void udp_scene_start(struct scene_run *run)
{
    struct udp_parts *parts = run->parts;
    int length = sizeof(parts->address);
    parts->address.sin_family = AF_INET;
    parts->address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    SCENE_SEE(run, uv_udp_init(run->loop, &parts->receiver) == 0);
    scene_track(run, (uv_handle_t *)&parts->receiver);
    SCENE_SEE(run, uv_udp_init(run->loop, &parts->sender) == 0);
    scene_track(run, (uv_handle_t *)&parts->sender);
    SCENE_SEE(run, uv_udp_bind(&parts->receiver, (struct sockaddr *)&parts->address, 0) == 0);
    SCENE_SEE(run, uv_udp_getsockname(&parts->receiver, (struct sockaddr *)&parts->address,
                                      &length) == 0);
    SCENE_SEE(run, uv_udp_recv_start(&parts->receiver, udp_alloc, udp_received) == 0);
    udp_send_next(run);
}

/* ---- poll: readable, one byte at a time, stopped and started in between ---- */

static void poll_seen(uv_poll_t *poll, int status, int events)
{
    struct scene_run *run = poll->data;
    struct poll_parts *parts = run->parts;
    char byte = 0;
    SCENE_SEE(run, status == 0 && (events & UV_READABLE) != 0);
    SCENE_SEE(run, read(run->fds[0], &byte, 1) == 1);
    SCENE_SEE(run, uv_poll_stop(poll) == 0);
    if (parts->seen == 4)
        scene_close((uv_handle_t *)poll);
    else
        SCENE_SEE(run, uv_poll_start(poll, UV_READABLE | UV_DISCONNECT, poll_seen) == 0);
    (void)atomic_fetch_add(&parts->seen, 1);
}

void poll_scene_start(struct scene_run *run)
{
    struct poll_parts *parts = run->parts;
    SCENE_SEE(run, pipe2(run->fds, O_CLOEXEC) == 0);
    SCENE_SEE(run, uv_poll_init(run->loop, &parts->poll, run->fds[0]) == 0);
    scene_track(run, (uv_handle_t *)&parts->poll);
    SCENE_SEE(run, uv_poll_start(&parts->poll, UV_READABLE, poll_seen) == 0);
    atomic_store(&run->ready, true);
}

void poll_scene_poke(struct scene_run *run)
{
    struct poll_parts *parts = run->parts;
    if (parts->sent < 5 && atomic_load(&parts->seen) == parts->sent) {
        parts->sent++;
        SCENE_SEE(run, write(run->fds[1], "x", 1) == 1);
    }
}

/* ---- tty: a line typed at the other end ---- */

static void tty_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    (void)size;
    struct scene_run *run = handle->data;
    struct tty_parts *parts = run->parts;
    *out =
        uv_buf_init(parts->text + parts->length, (unsigned)(sizeof(parts->text) - parts->length));
}

static void tty_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    (void)buffer;
    struct scene_run *run = stream->data;
    struct tty_parts *parts = run->parts;
    SCENE_SEE(run, n >= 0);
    if (n > 0)
        parts->length += (size_t)n;
    if (parts->length < 5 && n >= 0)
        return;
    SCENE_SEE(run, memcmp(parts->text, "line\n", 5) == 0);
    scene_close((uv_handle_t *)stream);
}

void tty_scene_start(struct scene_run *run)
{
    struct tty_parts *parts = run->parts;
    int peer = -1;
    scene_request_begins(run);
    if (openpty(&run->fds[0], &peer, NULL, NULL, NULL) != 0) {
        atomic_store(&run->skipped, "no pseudo terminals here");
        scene_request_ends(run);
        return;
    }
    SCENE_SEE(run, uv_tty_init(run->loop, &parts->tty, peer, 1) == 0);
    scene_track(run, (uv_handle_t *)&parts->tty);
    /* libuv opens the terminal again, unless it cannot. */
    uv_os_fd_t fd = -1;
    SCENE_SEE(run, uv_fileno((uv_handle_t *)&parts->tty, &fd) == 0);
    if (fd != peer)
        run->fds[1] = peer;
    SCENE_SEE(run, uv_read_start((uv_stream_t *)&parts->tty, tty_alloc, tty_read) == 0);
    atomic_store(&run->ready, true);
    scene_request_ends(run);
}

void tty_scene_poke(struct scene_run *run)
{
    atomic_store(&run->ready, false);
    SCENE_SEE(run, write(run->fds[0], "line\n", 5) == 5);
}

/* ---- fs: open, write, read, close, unlink, each asynchronous ---- */

static void fs_unlinked(uv_fs_t *request)
{
    struct scene_run *run = request->data;
    SCENE_SEE(run, request->result == 0);
    SCENE_SEE(run, access(run->path, F_OK) != 0);
    uv_fs_req_cleanup(request);
    scene_request_ends(run);
}

static void fs_closed(uv_fs_t *request)
{
    struct scene_run *run = request->data;
    SCENE_SEE(run, request->result == 0);
    uv_fs_req_cleanup(request);
    SCENE_SEE(run, uv_fs_unlink(run->loop, request, run->path, fs_unlinked) == 0);
}

static void fs_read(uv_fs_t *request)
{
    struct scene_run *run = request->data;
    struct file_parts *parts = run->parts;
    SCENE_SEE(run, request->result == 5 && memcmp(parts->text, "hello", 5) == 0);
    uv_fs_req_cleanup(request);
    SCENE_SEE(run, uv_fs_close(run->loop, request, parts->fd, fs_closed) == 0);
}

static void fs_wrote(uv_fs_t *request)
{
    struct scene_run *run = request->data;
    struct file_parts *parts = run->parts;
    SCENE_SEE(run, request->result == 5);
    uv_fs_req_cleanup(request);
    uv_buf_t text = uv_buf_init(parts->text, sizeof(parts->text));
    SCENE_SEE(run, uv_fs_read(run->loop, request, parts->fd, &text, 1, 0, fs_read) == 0);
}

static void fs_opened(uv_fs_t *request)
{
    struct scene_run *run = request->data;
    struct file_parts *parts = run->parts;
    parts->fd = (int)request->result;
    SCENE_SEE(run, parts->fd >= 0);
    uv_fs_req_cleanup(request);
    uv_buf_t text = uv_buf_init("hello", 5);
    SCENE_SEE(run, uv_fs_write(run->loop, request, parts->fd, &text, 1, 0, fs_wrote) == 0);
}

void fs_scene_start(struct scene_run *run)
{
    struct file_parts *parts = run->parts;
    scene_request_begins(run);
    parts->request.data = run;
    SCENE_SEE(run, uv_fs_open(run->loop, &parts->request, run->path, O_RDWR | O_CREAT | O_EXCL,
                              0600, fs_opened) == 0);
}

/* ---- fs_event, fs_poll: a file that grows ---- */

static void watch_make_file(struct scene_run *run)
{
    int fd = open(run->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    SCENE_SEE(run, fd >= 0);
    (void)close(fd);
}

static void fs_event_seen(uv_fs_event_t *event, const char *name, int events, int status)
{
    (void)name;
    struct scene_run *run = event->data;
    SCENE_SEE(run, status == 0 && events != 0);
    scene_close((uv_handle_t *)event);
}

void fs_event_scene_start(struct scene_run *run)
{
    struct watch_parts *parts = run->parts;
    watch_make_file(run);
    SCENE_SEE(run, uv_fs_event_init(run->loop, &parts->event) == 0);
    scene_track(run, (uv_handle_t *)&parts->event);
    SCENE_SEE(run, uv_fs_event_start(&parts->event, fs_event_seen, run->path, 0) == 0);
    atomic_store(&run->ready, true);
}

static void fs_poll_seen(uv_fs_poll_t *poll, int status, const uv_stat_t *before,
                         const uv_stat_t *now)
{
    struct scene_run *run = poll->data;
    SCENE_SEE(run, status == 0 && now->st_size > before->st_size);
    scene_close((uv_handle_t *)poll);
}

void fs_poll_scene_start(struct scene_run *run)
{
    struct watch_parts *parts = run->parts;
    watch_make_file(run);
    SCENE_SEE(run, uv_fs_poll_init(run->loop, &parts->poll) == 0);
    scene_track(run, (uv_handle_t *)&parts->poll);
    SCENE_SEE(run, uv_fs_poll_start(&parts->poll, fs_poll_seen, run->path, 10) == 0);
    atomic_store(&run->ready, true);
}

void watch_scene_poke(struct scene_run *run)
{
    int fd = open(run->path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (fd < 0)
        return; /* removed already */
    SCENE_SEE(run, write(fd, "more", 4) == 4);
    (void)close(fd);
}
