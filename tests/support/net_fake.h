/* SPDX-License-Identifier: MIT */
/*
 * Connections over a kernel that is made of bytes: a script decides what the kernel answers and
 * when, and what the user calls, inside callbacks and outside. A model follows; what does not agree
 * with it aborts. Used by fuzz_conn, whose scripts are the fuzzer's, and by test_conn.
 */
#ifndef TESTS_SUPPORT_NET_FAKE_H
#define TESTS_SUPPORT_NET_FAKE_H

#include <stddef.h>
#include <stdint.h>

/* What scripts have reached since the start, so that a test sees that it tests something. */
struct net_fake_reach {
    uint64_t opened, refused, reads, ends, drains, stashed, starved, zero_copies, loans_sent,
        loans_dropped, held, end_of_both, resets, filtered, timeouts, limits;
};
extern struct net_fake_reach net_fake_reach;

/* Make the loop that all scripts use, and free it. */
void net_fake_open(void);
void net_fake_close(void);
/* Run one script to the end of all its connections. */
void net_fake_run(const uint8_t *script, size_t length);

#endif
