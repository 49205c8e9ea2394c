/* SPDX-License-Identifier: MIT */
/* What the two files of the model share: the kernel of net_fake.c, the user of net_fake_user.c. */
#ifndef TESTS_SUPPORT_NET_FAKE_STATE_H
#define TESTS_SUPPORT_NET_FAKE_STATE_H

#include "net/conn.h"
#include "net/conn_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNS 3
#define LOANS 24
#define HOLDS 6
#define BUFFERS 4
#define LOG_BYTES (1u << 20) /* of one connection; writes beyond are not tried */
#define HIGH_WATER 6000u
#define LOW_WATER 2000u
#define OUTPUT_LIMIT 20000u
#define ZERO_COPY_BYTES 700u
#define TURNS_MAX 2000 /* of a loop that should come to rest */
#define CALLBACK_OPS 3
#define REASON_OPEN (-7001)
#define REASON_FILTER (-7002)

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

struct fake_owed {
    struct numaperf__piece *piece; /* NULL: free */
    struct iovec part;
    uint64_t position; /* of its first byte in the log */
};

/* What a filter keeps that passes bytes as they are, when it likes. */
struct fake_filter {
    char *kept;
    size_t length;
    bool fails;
};

struct fake {
    struct numaperf_conn *conn; /* NULL: this place is free */
    /* The kernel. */
    struct iovec parts[NUMAPERF__CONN_PARTS_MAX];
    struct numaperf__output_front front;
    struct fake_owed owed[NUMAPERF__CONN_ZERO_COPY_MAX];
    uint64_t made, taken;
    bool input_ended, is_shut, is_aborted, close_waits;
    /* The user. */
    char *sent_log;
    uint64_t written, told;
    bool is_paused, is_ended, is_finished, is_closed, drain_owed, end_told, close_told, opens_badly;
    int reason; /* what on_close must say; 1: not known */
    unsigned loans_out;
    struct fake_filter filter;
    bool is_filtered;
};

struct fake_loan {
    struct fake *fake; /* NULL: free */
    char *bytes;
    uint64_t end; /* in the log */
    bool is_filtered;
};

struct fake_hold {
    numaperf_buffer_t *buffer; /* NULL: free */
    const char *bytes;
    size_t length;
    uint64_t position; /* in the pattern */
};

struct fake_all {
    numaperf_loop_t *loop;
    uv_async_t keep_alive; /* no descriptor does, in this kernel */
    struct numaperf__net *net;
    struct fake fakes[CONNS];
    struct fake_loan loans[LOANS];
    struct fake_hold holds[HOLDS];
    const uint8_t *script;
    size_t length, at;
    unsigned depth; /* of callbacks */
    bool is_writing;
    struct numaperf_buffer *hoard[BUFFERS];
    unsigned hoarded;
    bool is_ending; /* the script is over: the kernel is friendly now */
};

extern struct fake_all fake_all;

static inline uint8_t next(void)
{
    return fake_all.at < fake_all.length ? fake_all.script[fake_all.at++] : 0;
}

static inline uint8_t pattern(uint64_t position)
{
    return (uint8_t)((position * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

static inline bool matches(const char *bytes, size_t length, uint64_t position)
{
    for (size_t i = 0; i < length; i++) {
        if ((uint8_t)bytes[i] != pattern(position + i))
            return false;
    }
    return true;
}

/* Small ones most often, some that need several pieces or buffers. */
static inline size_t next_length(void)
{
    size_t length = (size_t)next() + 1;
    return (length & 7) == 7 ? length * 37 : length;
}

static inline struct fake *fake_of(const struct numaperf_conn *conn)
{
    return conn->origin;
}

/* net_fake_user.c: what the script wants next, and single calls. */
void fake_user_op(void);
void fake_user_pause(struct fake *fake, bool pauses);
void fake_user_end(struct fake *fake, bool finishes);
void fake_user_check_hold(const struct fake_hold *hold);

#endif
