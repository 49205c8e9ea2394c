/* SPDX-License-Identifier: MIT */
/* Answers. Each writes one to the connection for its current request, and says whether it is the
   last one; a write that fails closes the connection. */
#ifndef EXAMPLES_HTTP_REPLY_H
#define EXAMPLES_HTTP_REPLY_H

#include "conn.h"

/* A short answer with the status as its text. `conn->last` or a refusal make it the last. */
void reply_status(struct http_conn *conn, unsigned status);
/* The same for input that cannot be read any further. */
void reply_refuse(struct http_conn *conn, unsigned status);
/* "Use this path with a slash." */
void reply_redirect(struct http_conn *conn, const struct path *path);
/* A file that is in memory; the caller keeps its reference. */
void reply_entry(struct http_conn *conn, struct entry *entry);
/* The head for a file that is not: the status, and in `out` what to send after it. */
unsigned reply_head(struct http_conn *conn, const struct entry *entry, struct part *out);
void reply_metrics(struct http_conn *conn);

#endif
