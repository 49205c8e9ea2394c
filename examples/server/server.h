/* SPDX-License-Identifier: MIT */
/*
 * The life of an example server: options, sockets, the runtime, one ready line, signals, drain. A
 * server brings only what it does with a connection. A connection belongs to the worker that
 * accepted it, on that worker's libuv loop, for all its life; every callback runs there.
 */
#ifndef EXAMPLES_SERVER_SERVER_H
#define EXAMPLES_SERVER_SERVER_H

#include "listener.h"
#include "options.h"

#include <numaperf.h>
#include <stdatomic.h>
#include <uv.h>

struct server;

/* One a worker, in its arena. Only its worker touches it, but for the atomic count. */
struct server_worker {
    struct server *server;
    numaperf_worker_t *worker;
    numaperf_arena_t *arena;
    uv_loop_t *loop;
    const struct server_options *options;
    union server_stream listener;
    bool listening;
    int adopt_fd;                /* a peer taken off the backlog while draining; -1 */
    union server_stream refused; /* one refusal at a time: a flood costs no memory */
    bool refusing;
    bool refuse_next; /* a peer waits for that */
    bool draining;
    bool drained;                 /* the main thread was told */
    atomic_uint connection_count; /* written by the worker, read by anyone */
    void *app;                    /* the server's own */
};

struct server_app {
    const char *name;
    uint16_t default_port;
    /* < 0 fails the start. */
    int (*worker_start)(struct server_worker *worker);
    /* A peer is there. Takes it with server_accept() and, whatever happened, calls
       server_connection_closed() once it is gone; or server_refuse(). */
    void (*connection)(struct server_worker *worker);
    /* Answer what was received, then close. `now`: close without waiting. */
    void (*drain)(struct server_worker *worker, bool now);
    void (*worker_stop)(struct server_worker *worker);
    void *data;
};

/* The whole program; returns its exit code. */
int server_main(const struct server_app *app, int argc, char **argv);

/* Accepts the peer into `stream`, with TCP_NODELAY, and counts it. < 0: `stream` must be closed
   with uv_close() all the same when `*out_initialised` is set. */
int server_accept(struct server_worker *worker, union server_stream *stream, bool *out_initialised);

/* Accepts the peer, writes `text` and closes it, one peer at a time. */
void server_refuse(struct server_worker *worker, const char *text);

/* An accepted connection is gone and its handle closed. */
void server_connection_closed(struct server_worker *worker);

/* Tells the peer's side of the kernel that no more will be read: what has arrived can still be read
   and is followed by the end of the stream. */
void server_stream_stop_receiving(union server_stream *stream);

const char *server_address(const struct server *server);
const struct server_app *server_application(const struct server *server);

#endif
