/* SPDX-License-Identifier: MIT */
/* What the conn*.c files that are no drivers share. */
#ifndef NUMAPERF_NET_CONN_STATE_H
#define NUMAPERF_NET_CONN_STATE_H

#include "net/conn.h"

enum { NUMAPERF__CONN_OPEN = 0, NUMAPERF__CONN_CLOSING, NUMAPERF__CONN_CLOSED };

/* A `done` of borrowed bytes that a filter has taken already. */
struct numaperf__conn_written {
    struct numaperf__conn_written *next;
    numaperf_written_fn done;
    void *data;
};

/* conn_stash.c: keep received bytes, or reset the connection when there is no memory for them. */
void numaperf__conn_stash_push(struct numaperf_conn *conn, struct numaperf__slice *slice);
/* The first of them; there is one. */
struct numaperf__slice numaperf__conn_stash_pop(struct numaperf_conn *conn);
void numaperf__conn_stash_drop(struct numaperf_conn *conn);
/* Received bytes are done with. */
void numaperf__conn_release_slice(struct numaperf_conn *conn, const struct numaperf__slice *slice);

/* conn_filter.c; each does nothing where there is no filter. */
void numaperf__conn_filter_received(struct numaperf_conn *conn, const void *bytes, size_t length);
/* < 0: the stream was cut off. */
int numaperf__conn_filter_received_end(struct numaperf_conn *conn);
void numaperf__conn_filter_ending(struct numaperf_conn *conn);
void numaperf__conn_filter_remove(struct numaperf_conn *conn);

/* conn_write.c: append to the output, whatever a filter would say. As numaperf_conn_write(). */
int numaperf__conn_append(struct numaperf_conn *conn, const struct iovec *parts, size_t part_count,
                          size_t length);

#endif
