/* SPDX-License-Identifier: MIT */
/*
 * What a ring can do, found by doing it: on a ring made for that, with sockets of AF_UNIX that
 * nobody else sees, and a datagram over the loopback device.
 *
 * A request that the kernel does not know fails with -EINVAL, and so does one with a flag it does
 * not know; what is new in the completion is looked at. Nothing is left open: every request has
 * ended when its trial does.
 *
 * Thread rule: the calling thread's, which may have rings of its own; io-wq is not touched.
 *
 * Source: io_uring_enter(2), io_uring_register(2), unix(7) "Autobind feature".
 */
#include "base/assert.h"
#include "base/list.h"
#include "io/features.h"
#include "io/ring_state.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TRIAL_ENTRIES 8u
#define TRIAL_EVENTS_MAX 4u
#define TRIAL_WAIT_NS 50000000u
#define TRIAL_WAITS_MAX 100u
#define TRIAL_BUFFERS 2u
#define TRIAL_BUFFER_BYTES 64u
#define TRIAL_GROUP 0u
#define TRIAL_PAGE_BYTES 65536u /* the largest base page there is */

struct trial {
    struct numaperf__op op;
    unsigned events;
    int32_t result[TRIAL_EVENTS_MAX];
    uint32_t flags[TRIAL_EVENTS_MAX];
    bool more[TRIAL_EVENTS_MAX];
    uint16_t buffer[TRIAL_EVENTS_MAX];
    bool buffer_more[TRIAL_EVENTS_MAX];
};

struct trials {
    struct numaperf__ring *ring;
    int *results;
    struct trial trial;
    struct trial second;
    char bytes[TRIAL_BUFFERS * TRIAL_BUFFER_BYTES];
};

/* ---- one request ---- */

static void trial_done(struct numaperf__op *op)
{
    struct trial *trial = NUMAPERF_CONTAINER_OF(op, struct trial, op);
    unsigned i = trial->events < TRIAL_EVENTS_MAX ? trial->events : TRIAL_EVENTS_MAX - 1;
    trial->result[i] = op->result;
    trial->flags[i] = op->cqe_flags;
    trial->more[i] = op->more;
    if (!numaperf__ring_buffer_of(op, &trial->buffer[i], &trial->buffer_more[i]))
        trial->buffer[i] = UINT16_MAX;
    trial->events++;
}

static int trial_start(struct trials *trials, struct trial *trial, enum numaperf__op_kind kind,
                       int fd)
{
    memset(trial->result, 0, sizeof(trial->result));
    trial->events = 0;
    trial->op.kind = (uint8_t)kind;
    trial->op.done = trial_done;
    trial->op.fd = fd;
    int rc = numaperf__ring_submit(trials->ring, &trial->op);
    return rc < 0 ? rc : numaperf__ring_flush(trials->ring);
}

/* Until so many completions have come, or no more do. */
static int trial_await(struct trials *trials, struct trial *trial, unsigned events)
{
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < TRIAL_WAITS_MAX; i++) {
        if (trial->events >= events || !trial->op.in_flight)
            break;
        rc = numaperf__ring_wait(trials->ring, TRIAL_WAIT_NS);
        (void)numaperf__ring_reap(trials->ring, TRIAL_ENTRIES); /* `events` tells */
    }
    if (rc < 0)
        return rc;
    return trial->events > 0 ? trial->result[0] : -ETIMEDOUT;
}

/* Have it end. */
static void trial_end(struct trials *trials, struct trial *trial)
{
    while (trial->op.in_flight) {
        (void)numaperf__ring_cancel(trials->ring, &trial->op); /* asked again while it is there */
        int rc = numaperf__ring_wait(trials->ring, TRIAL_WAIT_NS);
        NUMAPERF_ASSERT(rc == 0);
        (void)numaperf__ring_reap(trials->ring, TRIAL_ENTRIES); /* `in_flight` tells */
    }
}

/* ---- receiving ---- */

/* Two bytes sent one by one, and what the completions say of them. */
static void trial_receive(struct trials *trials, bool incremental, const int fds[2])
{
    struct trial *trial = &trials->trial;
    int *results = trials->results;
    trial->op.group = TRIAL_GROUP;
    trial->op.length = TRIAL_BUFFER_BYTES;
    int rc = trial_start(trials, trial, NUMAPERF__OP_RECV_MULTI, fds[0]);
    if (rc == 0 && write(fds[1], "1", 1) != 1)
        rc = -errno;
    if (rc == 0)
        rc = trial_await(trials, trial, 1);
    bool is_multishot = rc == 1 && trial->more[0];
    results[NUMAPERF__FEATURE_RECEIVE_MULTISHOT] = is_multishot ? 0 : rc < 0 ? rc : -EIO;
    if (!is_multishot) {
        /* Whether a plain receive takes a buffer, at least. */
        trial_end(trials, trial);
        rc = trial_start(trials, trial, NUMAPERF__OP_RECV, fds[0]);
        if (rc == 0)
            rc = trial_await(trials, trial, 1);
    }
    results[NUMAPERF__FEATURE_BUFFER_RING] = rc == 1 && trial->buffer[0] < TRIAL_BUFFERS ? 0
                                             : rc < 0                                    ? rc
                                                                                         : -EIO;
    if (incremental && is_multishot && write(fds[1], "2", 1) == 1) {
        (void)trial_await(trials, trial, 2); /* the events tell */
        bool is_same = trial->events >= 2 && trial->buffer[1] == trial->buffer[0];
        results[NUMAPERF__FEATURE_BUFFER_INCREMENTAL] =
            is_same && trial->buffer_more[0] &&
                    trials->bytes[trial->buffer[0] * TRIAL_BUFFER_BYTES + 1] == '2'
                ? 0
                : -EIO;
    }
    trial_end(trials, trial);
}

static void trial_buffers(struct trials *trials, void *memory)
{
    int *results = trials->results;
    bool incremental = true;
    int rc =
        numaperf__ring_buffers_register(trials->ring, TRIAL_GROUP, memory, TRIAL_BUFFERS, true);
    results[NUMAPERF__FEATURE_BUFFER_INCREMENTAL] = rc < 0 ? rc : -EIO;
    if (rc < 0) {
        incremental = false;
        rc = numaperf__ring_buffers_register(trials->ring, TRIAL_GROUP, memory, TRIAL_BUFFERS,
                                             false);
    }
    results[NUMAPERF__FEATURE_BUFFER_RING] = rc;
    if (rc < 0) {
        results[NUMAPERF__FEATURE_RECEIVE_MULTISHOT] = rc; /* it takes provided buffers only */
        return;
    }
    uint32_t tail = 0;
    for (uint16_t i = 0; i < TRIAL_BUFFERS; i++)
        numaperf__ring_buffers_add(memory, TRIAL_BUFFERS, &tail,
                                   trials->bytes + (size_t)i * TRIAL_BUFFER_BYTES,
                                   TRIAL_BUFFER_BYTES, i);
    numaperf__ring_buffers_publish(memory, tail);
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0) {
        trial_receive(trials, incremental, fds);
        (void)close(fds[0]); /* nothing is in flight on them */
        (void)close(fds[1]);
    } else {
        results[NUMAPERF__FEATURE_RECEIVE_MULTISHOT] = -errno;
        results[NUMAPERF__FEATURE_BUFFER_RING] = -errno;
    }
    rc = numaperf__ring_buffers_unregister(trials->ring, TRIAL_GROUP);
    NUMAPERF_ASSERT(rc == 0);
}

/* ---- accepting ---- */

/* A connection to the listening socket; -errno. */
static int trial_connect(int listener)
{
    struct sockaddr_un address;
    socklen_t length = sizeof(address);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (getsockname(listener, (struct sockaddr *)&address, &length) == 0 &&
        connect(fd, (struct sockaddr *)&address, length) == 0)
        return fd;
    int rc = -errno;
    (void)close(fd); /* of no use */
    return rc;
}

static int trial_listen(void)
{
    const struct sockaddr_un anywhere = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* No name given: the kernel makes one up that is in no file system. */
    if (bind(fd, (const struct sockaddr *)&anywhere, sizeof(sa_family_t)) == 0 &&
        listen(fd, 1) == 0)
        return fd;
    int rc = -errno;
    (void)close(fd); /* of no use */
    return rc;
}

/* One connection by one request that would take more: its result, or -errno. */
static int trial_accept_one(struct trials *trials, enum numaperf__op_kind kind, int listener)
{
    struct trial *trial = &trials->trial;
    int peer = trial_connect(listener);
    if (peer < 0)
        return peer;
    trial->op.flags = kind == NUMAPERF__OP_ACCEPT_MULTI ? SOCK_CLOEXEC : 0;
    int rc = trial_start(trials, trial, kind, listener);
    if (rc == 0)
        rc = trial_await(trials, trial, 1);
    if (rc >= 0 && !trial->more[0])
        rc = -EIO;
    trial_end(trials, trial);
    (void)close(peer); /* it was only there to be accepted */
    return rc;
}

static int trial_direct(struct trials *trials, int listener)
{
    int rc = numaperf__ring_direct_register(trials->ring, TRIAL_ENTRIES);
    if (rc < 0)
        return rc;
    rc = trial_accept_one(trials, NUMAPERF__OP_ACCEPT_DIRECT, listener);
    if (rc < 0)
        return rc;
    struct trial *trial = &trials->trial;
    trial->op.is_direct = true;
    rc = trial_start(trials, trial, NUMAPERF__OP_CLOSE, rc);
    if (rc == 0)
        rc = trial_await(trials, trial, 1);
    trial_end(trials, trial);
    trial->op.is_direct = false;
    return rc;
}

static void trial_accepts(struct trials *trials)
{
    int *results = trials->results;
    int listener = trial_listen();
    results[NUMAPERF__FEATURE_ACCEPT_MULTISHOT] = listener;
    results[NUMAPERF__FEATURE_DIRECT_DESCRIPTORS] = listener;
    if (listener < 0)
        return;
    int rc = trial_accept_one(trials, NUMAPERF__OP_ACCEPT_MULTI, listener);
    /* The first result is a descriptor, even when it was the last. */
    if (trials->trial.events > 0 && trials->trial.result[0] >= 0)
        (void)close(trials->trial.result[0]);
    results[NUMAPERF__FEATURE_ACCEPT_MULTISHOT] = rc < 0 ? rc : 0;
    results[NUMAPERF__FEATURE_DIRECT_DESCRIPTORS] = trial_direct(trials, listener);
    (void)close(listener); /* nothing is in flight on it */
}

/* ---- sending ---- */

/* A socket that sends to itself; to nowhere where there is no loopback device. */
static int trial_datagram(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (bind(fd, (const struct sockaddr *)&address, length) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &length) == 0)
        (void)connect(fd, (const struct sockaddr *)&address, length); /* see trial_send() */
    return fd;
}

/* Sent, and told that the memory is free again. That there is nobody to send to says the kernel
 * last of all: request and flags it has taken by then. */
static int trial_send(struct trials *trials, int fd, uint32_t mask)
{
    struct trial *trial = &trials->trial;
    trial->op.buffer = trials->bytes;
    trial->op.length = 1;
    trial->op.flags = 0;
    trial->op.mask = mask;
    int rc = trial_start(trials, trial, NUMAPERF__OP_SEND_ZC, fd);
    if (rc == 0)
        rc = trial_await(trials, trial, 1);
    bool is_told = trial->more[0];
    if (is_told)
        (void)trial_await(trials, trial, 2); /* the notification ends it */
    trial_end(trials, trial);
    if (rc == -EDESTADDRREQ || rc == -ENOTCONN)
        return 0;
    return rc == 1 && is_told ? 0 : rc < 0 ? rc : -EIO;
}

static void trial_sends(struct trials *trials)
{
    int *results = trials->results;
    int fd = trial_datagram();
    results[NUMAPERF__FEATURE_SEND_ZERO_COPY] = fd;
    results[NUMAPERF__FEATURE_ZERO_COPY_REPORT] = fd;
    if (fd < 0)
        return;
    int rc = trial_send(trials, fd, NUMAPERF__RING_ZERO_COPY_REPORT);
    results[NUMAPERF__FEATURE_ZERO_COPY_REPORT] = rc;
    results[NUMAPERF__FEATURE_SEND_ZERO_COPY] = rc == 0 ? 0 : trial_send(trials, fd, 0);
    (void)close(fd); /* nothing is in flight on it */
}

/* ---- messages between rings ---- */

static void trial_fill_message(struct io_uring_sqe *sqe, void *argument)
{
    const struct trials *trials = argument;
    io_uring_prep_nop(sqe);
    sqe->opcode = IORING_OP_MSG_RING;
    sqe->fd = trials->ring->uring.ring_fd;
    sqe->off = (uint64_t)(uintptr_t)&trials->second.op; /* of the completion it makes */
}

/* To the ring itself: a completion of a request that was never made. */
static int trial_message(struct trials *trials)
{
    struct trial *trial = &trials->trial;
    struct trial *message = &trials->second;
    message->events = 0;
    message->op.done = trial_done;
    message->op.in_flight = true; /* so that its completion is one */
    trials->ring->in_flight++;
    trial->op.fill = trial_fill_message;
    trial->op.argument = trials;
    int rc = trial_start(trials, trial, NUMAPERF__OP_USER, -1);
    if (rc == 0)
        rc = trial_await(trials, trial, 1);
    trial_end(trials, trial);
    if (rc == 0)
        (void)trial_await(trials, message, 1); /* `in_flight` tells */
    if (message->op.in_flight) {
        message->op.in_flight = false;
        trials->ring->in_flight--;
        return rc < 0 ? rc : -EIO;
    }
    return rc;
}

/* ---- all of them ---- */

static int trials_run(struct trials *trials, void *memory)
{
    int rc = numaperf__ring_enable(trials->ring);
    if (rc == 0)
        rc = numaperf__ring_check(trials->ring);
    if (rc < 0)
        return rc;
    trial_buffers(trials, memory);
    trial_accepts(trials);
    trial_sends(trials);
    trials->results[NUMAPERF__FEATURE_MESSAGE_RING] = trial_message(trials);
    NUMAPERF_ASSERT(numaperf__ring_in_flight(trials->ring) == 0);
    return 0;
}

int numaperf__ring_try_features(int *out_results)
{
    struct trials *trials = calloc(1, sizeof(*trials));
    void *memory = aligned_alloc(TRIAL_PAGE_BYTES, TRIAL_PAGE_BYTES);
    int rc = trials != NULL && memory != NULL ? 0 : -ENOMEM;
    if (rc == 0) {
        trials->results = out_results;
        rc = numaperf__ring_create(TRIAL_ENTRIES, &trials->ring);
    }
    if (rc == 0) {
        rc = trials_run(trials, memory);
        numaperf__ring_destroy(trials->ring);
    }
    free(memory);
    free(trials);
    return rc;
}
