/* SPDX-License-Identifier: MIT */
/* Connections of the key-value server. Everything here runs on the connection's worker. */
#ifndef EXAMPLES_KV_CONN_H
#define EXAMPLES_KV_CONN_H

#include "kv.h"

/* Takes the peer that is waiting, or turns it away. */
void conn_open(struct kv_worker *worker);

/* An operation has come back from its shard. */
void conn_op_done(struct conn *conn, struct op *op);

/* Answers, parses, writes: for every connection something happened to since the last time. */
void conn_look_after_changed(struct kv_worker *worker);

/* Closes the connections that made no progress for too long. */
void conn_tick(uv_timer_t *timer);

/* Has all connections end: after what was received is answered, or at once. */
void conn_drain_all(struct kv_worker *worker, bool now);

#endif
