/* SPDX-License-Identifier: MIT */
/* One connection of the HTTP server. Only its worker touches it. */
#ifndef EXAMPLES_HTTP_CONN_H
#define EXAMPLES_HTTP_CONN_H

#include "http.h"
#include "request.h"

enum conn_state {
    CONN_HEAD = 0, /* between requests, or within a head */
    CONN_BODY,     /* the request is answered, its body is being thrown away */
    CONN_WAITING,  /* a file is being read for the answer */
    CONN_STREAMING /* a large file is being sent */
};

struct http_conn {
    numaperf_conn_t *conn;
    struct http_worker *worker;
    enum conn_state state;
    bool is_open;       /* neither closed nor finished */
    bool is_paused;     /* reading is */
    bool is_running;    /* within conn_run(): what happens now is looked at there */
    bool blocked;       /* more than enough waits to be sent: on_drain comes */
    bool last;          /* the next answer is the last one */
    bool ending;        /* the last answer was given */
    bool refused;       /* the input cannot be read any further */
    bool input_ended;   /* the peer sends no more */
    bool input_stopped; /* by ourselves: the server stops */
    bool has_body;      /* of the request being answered */

    bool in_deadlines;
    struct http_conn *earlier, *later;
    uint64_t deadline_ms;

    /* Input that is not used up: part of a head, or what came behind a request that waits. */
    char *input;
    size_t input_length, input_capacity;
    struct request_reader reader;

    /* The request being answered; its spans lie in what is read now, or in `head` once it waits. */
    struct request request;
    char *head;
    struct path path;
    struct load *load;
    struct http_conn *next_waiter;
    struct stream *stream;
};

extern const numaperf_conn_callbacks_t http_conn_callbacks;

/* The answer that was waited for is written: go on with what is there. */
void conn_answered(struct http_conn *conn);
/* A worker's timer: look at the deadlines. */
void conn_tick(uv_timer_t *timer);

#endif
