/* SPDX-License-Identifier: MIT */
/*
 * Idle, read and write timeouts of a loop's connections: one wheel and one libuv timer for all. A
 * byte costs no timer call: it writes received_ms or sent_ms, and who expires looks again.
 */
#ifndef NUMAPERF_NET_DEADLINE_H
#define NUMAPERF_NET_DEADLINE_H

#include "net/conn.h"

/* 0 or -errno. */
int numaperf__deadlines_init(struct numaperf__net *net);
/* Close the timer: `handle_count` of the net falls when it is. */
void numaperf__deadlines_close(struct numaperf__net *net);

/* A connection begins, or something that its deadline goes by came nearer: output began to wait,
 * reading began, other timeouts. Cheap when the deadline does not come nearer. */
void numaperf__deadline_watch(struct numaperf_conn *conn);
/* It is closing. */
void numaperf__deadline_forget(struct numaperf_conn *conn);

/* When it expires, UINT64_MAX never, and by which timeout; a pure function of the fields. */
uint64_t numaperf__deadline_of(const struct numaperf_conn *conn,
                               enum numaperf__net_counter *out_counter);

#endif
