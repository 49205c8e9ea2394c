/* SPDX-License-Identifier: MIT */
/* A file that is sent piece by piece, without the cache. */
#ifndef EXAMPLES_HTTP_STREAM_H
#define EXAMPLES_HTTP_STREAM_H

#include "conn.h"

/* Begins to answer with the file of conn's path; conn_answered() comes later. Without memory the
   answer is written at once, and conn->stream stays NULL. */
void stream_begin(struct http_conn *conn);
/* What waits to be sent has become little. */
void stream_drained(struct stream *stream);
/* The connection is gone. */
void stream_leave(struct stream *stream);

#endif
