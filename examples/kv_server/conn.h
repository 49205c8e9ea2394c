/* SPDX-License-Identifier: MIT */
/* Connections of the key-value server. Everything here runs on the connection's worker. */
#ifndef EXAMPLES_KV_CONN_H
#define EXAMPLES_KV_CONN_H

#include "kv.h"

/* What the sockets call; their data is at first the struct kv. */
void conn_config(numaperf_conn_config_t *config);

/* An operation has come back from its shard. */
void conn_op_done(struct conn *conn, struct op *op);

/* Answers, parses, writes: for every connection something happened to since the last time. */
void conn_look_after_changed(struct kv_worker *worker);

#endif
