/* SPDX-License-Identifier: MIT */
/* Files on their way into the cache. Who wants the same file at the same time waits for one load.
 */
#ifndef EXAMPLES_HTTP_LOAD_H
#define EXAMPLES_HTTP_LOAD_H

#include "conn.h"

/* Has `conn`, whose path is set, wait for its file: load_done comes, never inside this call. 0, or
   the status to answer with. */
unsigned load_begin(struct http_conn *conn);
/* `conn` waits no more. */
void load_leave(struct http_conn *conn);

/* Status to answer a failed open with. */
unsigned load_status(int code);

#endif
