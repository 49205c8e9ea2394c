/* SPDX-License-Identifier: MIT */
/*
 * Where a server listens. TCP: every worker has a listening socket of its own on the same port
 * (SO_REUSEPORT), so the kernel spreads connections over workers. AF_UNIX has no such thing: the
 * workers share one listening socket, each through a descriptor of its own.
 */
#ifndef EXAMPLES_SERVER_LISTENER_H
#define EXAMPLES_SERVER_LISTENER_H

#include "options.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <uv.h>

/* Any stream of ours: TCP or AF_UNIX, decided once by the options. */
union server_stream {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
};

struct listener {
    struct sockaddr_storage address; /* TCP: with the port that the kernel chose */
    socklen_t address_length;
    int first_fd;          /* bound, and handed to the first worker (TCP) or to all (AF_UNIX) */
    const char *unix_path; /* NULL: TCP */
    struct stat unix_stat; /* the socket file we made, so that only this one is removed */
    char name[300];        /* "127.0.0.1:6379", "[::1]:6379" or the path */
};

/* Binds. Returns 0, or -1 after writing the reason to `why`. */
int listener_open(struct listener *listener, const struct server_options *options, char *why,
                  size_t why_size);

/* Closes the socket and removes the socket file. Once, at the end. */
void listener_close(struct listener *listener);

/* A bound socket for the worker with this index; -errno. */
int listener_worker_fd(const struct listener *listener, uint32_t worker_index);

/* Initialises `stream` for the listener's family. */
int listener_stream_init(const struct listener *listener, uv_loop_t *loop,
                         union server_stream *stream);

/* Has an initialised `stream` take over `fd`, which is closed on failure. */
int listener_stream_open(const struct listener *listener, union server_stream *stream, int fd);

#endif
