/* SPDX-License-Identifier: MIT */
/*
 * An echo server with as little above io_uring as possible, for this one purpose: the limit of what
 * software can do. One multishot accept to direct descriptors, a multishot receive a connection
 * from one buffer ring, filled piece by piece where the kernel can, and the received bytes sent
 * back from where they lie, one send in flight a connection, of all that a look at the completions
 * brought for it. Sends that find room complete inside
 * the call that submits them, so the wait asks for one completion more than it submits sends.
 *
 * Everything is the server's thread's, which makes the ring, but for `started`, by which it says
 * that it listens, and `stop_fd`, by which stop ends it.
 *
 * Source: io_uring_enter(2), io_uring_setup(2), io_uring_prep_recv_multishot(3).
 */
#include "echo.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define RING_SPIN_BIT 1u
#define RING_ENTRIES 2048u
#define RING_COMPLETIONS 8192u
#define RING_SEGMENTS 64u /* of a connection, waiting to be sent; a power of two */
#define RING_PARTS 16u    /* of them in one send */
/* Half a MiB in all stays in the cache: with eight times as many, 4 KiB deep takes 1.2 times the
 * CPU time. */
#define RING_BUFFERS 8u
#define RING_BUFFER_BYTES 65536u
/* Where a buffer is given out as a whole, a small one: a page for each of many connections. */
#define RING_WHOLE_BUFFERS 4096u
#define RING_WHOLE_BYTES 4096u
#define RING_FILES_SPARE 8u

/* Newer than the header of liburing 2.3: filled piece by piece, and whether a buffer has more to
 * come, Linux 6.12. */
#define RING_BUF_INC 2u
#define RING_CQE_F_BUF_MORE (1u << 4)

enum ring_kind { RING_ACCEPT = 0, RING_RECV, RING_SEND, RING_STOP };

struct ring_segment {
    char *bytes;
    uint32_t length;
    uint16_t buffer;
};

struct ring_conn {
    uint32_t head; /* of the segments that are being sent, or are the next */
    uint32_t tail;
    uint32_t sending; /* segments, from the head on; 0: no send is in flight */
    bool waiting;     /* it is among those to be sent to */
    bool starved;     /* its receive ended for want of a buffer */
    struct ring_segment segments[RING_SEGMENTS];
    struct iovec parts[RING_PARTS];
    struct msghdr message;
};

struct ring_buffer {
    uint32_t used;     /* bytes of it that were received */
    uint32_t segments; /* that lie in it */
    bool full;         /* the kernel puts nothing more into it */
};

struct ring_server {
    struct io_uring ring;
    struct io_uring_buf_ring *buf_ring;
    char *memory;
    struct ring_buffer *buffers;
    uint32_t buffer_count;
    uint32_t buffer_bytes;
    uint32_t starved_count;
    uint32_t sends; /* since the last submit */
    struct ring_conn *conns;
    uint32_t conn_max;
    uint32_t *waiting; /* connections that something is to be sent to */
    uint32_t waiting_count;
    int listen_fd;
    int stop_fd;
    bool stopped;
    int32_t cpu;
    uint64_t spin_ns;
    pthread_t thread;
    sem_t started;
    int rc; /* of its setup; written before `started` */
};

/* ---- requests ---- */

static struct io_uring_sqe *ring_sqe(struct ring_server *server)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&server->ring);
    if (sqe != NULL)
        return sqe;
    (void)io_uring_submit(&server->ring); /* what it cannot submit keeps the queue full */
    sqe = io_uring_get_sqe(&server->ring);
    if (sqe == NULL)
        abort(); /* the kernel takes a full queue at once, or has no memory */
    return sqe;
}

static void ring_tag(struct io_uring_sqe *sqe, enum ring_kind kind, uint32_t index)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)index << 8 | (uint64_t)kind);
}

static void ring_accept(struct ring_server *server)
{
    struct io_uring_sqe *sqe = ring_sqe(server);
    io_uring_prep_multishot_accept_direct(sqe, server->listen_fd, NULL, NULL, 0);
    ring_tag(sqe, RING_ACCEPT, 0);
}

static void ring_recv(struct ring_server *server, uint32_t index)
{
    struct io_uring_sqe *sqe = ring_sqe(server);
    io_uring_prep_recv_multishot(sqe, (int)index, NULL, 0, 0);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    ring_tag(sqe, RING_RECV, index);
}

/* Send what waits, whole: a part that does not fit waits in the kernel. */
static void ring_send(struct ring_server *server, uint32_t index)
{
    struct ring_conn *conn = &server->conns[index];
    struct io_uring_sqe *sqe = ring_sqe(server);
    uint32_t count = conn->tail - conn->head;
    conn->sending = count < RING_PARTS ? count : RING_PARTS;
    for (uint32_t i = 0; i < conn->sending; i++) {
        const struct ring_segment *segment = &conn->segments[(conn->head + i) % RING_SEGMENTS];
        conn->parts[i] = (struct iovec){.iov_base = segment->bytes, .iov_len = segment->length};
    }
    if (conn->sending == 1) {
        io_uring_prep_send(sqe, (int)index, conn->parts[0].iov_base, conn->parts[0].iov_len,
                           MSG_NOSIGNAL | MSG_WAITALL);
    } else {
        conn->message = (struct msghdr){.msg_iov = conn->parts, .msg_iovlen = conn->sending};
        io_uring_prep_sendmsg(sqe, (int)index, &conn->message, MSG_NOSIGNAL | MSG_WAITALL);
    }
    sqe->flags |= IOSQE_FIXED_FILE;
    ring_tag(sqe, RING_SEND, index);
    server->sends++;
}

/* After the completions that are here: what else they bring for it goes out at once. */
static void ring_send_later(struct ring_server *server, uint32_t index)
{
    struct ring_conn *conn = &server->conns[index];
    if (conn->sending > 0 || conn->waiting)
        return;
    conn->waiting = true;
    server->waiting[server->waiting_count++] = index;
}

static void ring_send_waiting(struct ring_server *server)
{
    for (uint32_t i = 0; i < server->waiting_count; i++) {
        server->conns[server->waiting[i]].waiting = false;
        ring_send(server, server->waiting[i]);
    }
    server->waiting_count = 0;
}

/* ---- buffers ---- */

static void ring_buffer_give(struct ring_server *server, uint16_t id)
{
    server->buffers[id] = (struct ring_buffer){0};
    io_uring_buf_ring_add(server->buf_ring, server->memory + (size_t)id * server->buffer_bytes,
                          server->buffer_bytes, id, (int)server->buffer_count - 1, 0);
    io_uring_buf_ring_advance(server->buf_ring, 1);
    for (uint32_t i = 0; server->starved_count > 0 && i < server->conn_max; i++) {
        if (!server->conns[i].starved)
            continue;
        server->conns[i].starved = false;
        server->starved_count--;
        ring_recv(server, i);
    }
}

static int ring_buffers_register(struct ring_server *server, bool incremental)
{
    server->buffer_count = incremental ? RING_BUFFERS : RING_WHOLE_BUFFERS;
    server->buffer_bytes = incremental ? RING_BUFFER_BYTES : RING_WHOLE_BYTES;
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)server->buf_ring,
                                   .ring_entries = server->buffer_count,
                                   .pad = incremental ? RING_BUF_INC : 0};
    return io_uring_register_buf_ring(&server->ring, &reg, 0);
}

static int ring_buffers_open(struct ring_server *server)
{
    size_t ring_bytes = RING_WHOLE_BUFFERS * sizeof(struct io_uring_buf);
    size_t bytes = (size_t)RING_WHOLE_BUFFERS * RING_WHOLE_BYTES;
    _Static_assert(RING_WHOLE_BUFFERS * RING_WHOLE_BYTES >= RING_BUFFERS * RING_BUFFER_BYTES &&
                       RING_WHOLE_BUFFERS >= RING_BUFFERS,
                   "room for both");
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *at = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    server->buf_ring = at == MAP_FAILED ? NULL : at;
    at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    server->memory = at == MAP_FAILED ? NULL : at;
    server->buffers = calloc(RING_WHOLE_BUFFERS, sizeof(*server->buffers));
    if (server->buf_ring == NULL || server->memory == NULL || server->buffers == NULL)
        return -ENOMEM;
    int rc = ring_buffers_register(server, true);
    if (rc == -EINVAL)
        rc = ring_buffers_register(server, false);
    if (rc < 0)
        return rc;
    io_uring_buf_ring_init(server->buf_ring);
    for (uint32_t i = 0; i < server->buffer_count; i++)
        ring_buffer_give(server, (uint16_t)i);
    return 0;
}

/* ---- completions ---- */

static void ring_received_bytes(struct ring_server *server, uint32_t index,
                                const struct io_uring_cqe *cqe)
{
    struct ring_conn *conn = &server->conns[index];
    uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    struct ring_buffer *buffer = &server->buffers[id];
    char *bytes = server->memory + (size_t)id * server->buffer_bytes + buffer->used;
    uint32_t length = (uint32_t)cqe->res;
    buffer->used += length;
    buffer->full = (cqe->flags & RING_CQE_F_BUF_MORE) == 0;

    struct ring_segment *last = &conn->segments[(conn->tail - 1) % RING_SEGMENTS];
    if (conn->tail - conn->head > conn->sending && last->buffer == id &&
        last->bytes + last->length == bytes) {
        last->length += length;
        return;
    }
    if (conn->tail - conn->head == RING_SEGMENTS)
        abort(); /* more than the workload ever has in flight */
    conn->segments[conn->tail++ % RING_SEGMENTS] =
        (struct ring_segment){.bytes = bytes, .length = length, .buffer = id};
    buffer->segments++;
    ring_send_later(server, index);
}

static void ring_received(struct ring_server *server, uint32_t index,
                          const struct io_uring_cqe *cqe)
{
    if (cqe->res > 0)
        ring_received_bytes(server, index, cqe);
    if ((cqe->flags & IORING_CQE_F_MORE) != 0)
        return;
    if (cqe->res > 0) {
        ring_recv(server, index);
    } else if (cqe->res == -ENOBUFS) {
        server->conns[index].starved = true;
        server->starved_count++;
    }
    /* Else it has ended, and closes with the ring. */
}

static void ring_sent(struct ring_server *server, uint32_t index, int result)
{
    struct ring_conn *conn = &server->conns[index];
    for (; conn->sending > 0; conn->sending--) {
        const struct ring_segment *segment = &conn->segments[conn->head++ % RING_SEGMENTS];
        struct ring_buffer *buffer = &server->buffers[segment->buffer];
        buffer->segments--;
        if (buffer->full && buffer->segments == 0)
            ring_buffer_give(server, segment->buffer);
    }
    if (conn->head == conn->tail)
        conn->head = conn->tail = 0; /* the first segments are in the cache */
    else if (result > 0)
        ring_send_later(server, index);
}

static void ring_complete(struct ring_server *server, const struct io_uring_cqe *cqe)
{
    uint32_t index = (uint32_t)(cqe->user_data >> 8);
    switch ((enum ring_kind)(cqe->user_data & 0xff)) {
    case RING_ACCEPT:
        if (cqe->res >= 0)
            ring_recv(server, (uint32_t)cqe->res);
        if ((cqe->flags & IORING_CQE_F_MORE) == 0 && cqe->res >= 0)
            ring_accept(server);
        break;
    case RING_RECV:
        ring_received(server, index, cqe);
        break;
    case RING_SEND:
        ring_sent(server, index, cqe->res);
        break;
    case RING_STOP:
        server->stopped = true;
        break;
    }
}

/* What the kernel has ready is looked for in memory, and asked for only when it says so. */
static bool ring_spin(struct ring_server *server)
{
    uint64_t until_ns = bench_now_ns() + server->spin_ns;
    int rc = io_uring_submit(&server->ring);
    while (rc >= 0 && io_uring_cq_ready(&server->ring) <= server->sends) {
        if ((IO_URING_READ_ONCE(*server->ring.sq.kflags) & IORING_SQ_TASKRUN) != 0)
            rc = io_uring_get_events(&server->ring);
        else if (bench_now_ns() >= until_ns)
            return false;
    }
    return rc >= 0; /* the wait that follows says what is wrong */
}

static void ring_await(struct ring_server *server)
{
    if (server->spin_ns > 0 && ring_spin(server))
        return;
    int rc = io_uring_submit_and_wait(&server->ring, server->sends + 1);
    if (rc < 0 && rc != -EINTR)
        abort(); /* shows in the client's count */
}

static void ring_serve(struct ring_server *server)
{
    while (!server->stopped) {
        ring_await(server);
        server->sends = 0;
        struct io_uring_cqe *cqe = NULL;
        unsigned head = 0;
        unsigned count = 0;
        io_uring_for_each_cqe(&server->ring, head, cqe)
        {
            ring_complete(server, cqe);
            count++;
        }
        io_uring_cq_advance(&server->ring, count);
        ring_send_waiting(server);
    }
}

/* ---- life ---- */

static int ring_create(struct io_uring *out, uint64_t spin_ns)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | (spin_ns > 0 ? IORING_SETUP_TASKRUN_FLAG : 0),
        .cq_entries = RING_COMPLETIONS,
    };
    return io_uring_queue_init_params(RING_ENTRIES, out, &params);
}

static int ring_open(struct ring_server *server)
{
    int rc = ring_create(&server->ring, server->spin_ns);
    if (rc < 0)
        return rc;
    (void)io_uring_register_ring_fd(&server->ring); /* without it each enter costs a little more */
    rc = io_uring_register_files_sparse(&server->ring, server->conn_max);
    if (rc == 0)
        rc = ring_buffers_open(server);
    if (rc < 0) {
        io_uring_queue_exit(&server->ring);
        return rc;
    }
    struct io_uring_sqe *sqe = ring_sqe(server);
    io_uring_prep_poll_add(sqe, server->stop_fd, POLLIN);
    ring_tag(sqe, RING_STOP, 0);
    ring_accept(server);
    return 0;
}

static void *ring_main(void *arg)
{
    struct ring_server *server = arg;
    int rc = bench_pin(server->cpu);
    server->rc = rc == 0 ? ring_open(server) : rc;
    rc = server->rc;
    (void)sem_post(&server->started); /* it counts to more than one */
    if (rc < 0)
        return NULL;
    ring_serve(server);
    io_uring_queue_exit(&server->ring);
    return NULL;
}

static void ring_free(struct ring_server *server)
{
    if (server->listen_fd >= 0)
        (void)close(server->listen_fd);
    if (server->stop_fd >= 0)
        (void)close(server->stop_fd);
    if (server->memory != NULL)
        (void)munmap(server->memory, (size_t)RING_WHOLE_BUFFERS * RING_WHOLE_BYTES);
    if (server->buf_ring != NULL)
        (void)munmap(server->buf_ring, RING_WHOLE_BUFFERS * sizeof(struct io_uring_buf));
    (void)sem_destroy(&server->started); /* nobody waits */
    free(server->buffers);
    free(server->waiting);
    free(server->conns);
    free(server);
}

static void ring_stop(void *state)
{
    struct ring_server *server = state;
    if (eventfd_write(server->stop_fd, 1) < 0)
        abort(); /* it counts to more than one */
    pthread_join(server->thread, NULL);
    ring_free(server);
}

static int ring_run(struct ring_server *server, const struct bench_echo_site *site,
                    uint16_t *out_port)
{
    server->conn_max = site->connection_count + RING_FILES_SPARE;
    server->conns = calloc(server->conn_max, sizeof(*server->conns));
    server->waiting = calloc(server->conn_max, sizeof(*server->waiting));
    if (server->conns == NULL || server->waiting == NULL)
        return -ENOMEM;
    server->stop_fd = eventfd(0, EFD_CLOEXEC);
    if (server->stop_fd < 0)
        return -errno;
    server->listen_fd = bench_echo_listen(site, out_port);
    if (server->listen_fd < 0)
        return server->listen_fd;
    int rc = -pthread_create(&server->thread, NULL, ring_main, server);
    if (rc < 0)
        return rc;
    while (sem_wait(&server->started) < 0)
        continue; /* a signal */
    if (server->rc < 0)
        pthread_join(server->thread, NULL);
    return server->rc;
}

static int ring_start(const struct bench_peer *peer, const struct bench_echo_site *site,
                      void **out_state, uint16_t *out_port)
{
    const struct bench_echo_ops *ops = peer->ops;
    struct ring_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return -ENOMEM;
    (void)sem_init(&server->started, 0, 0); /* fails for a bad number only */
    server->listen_fd = -1;
    server->stop_fd = -1;
    server->cpu = site->setup->cpus[0];
    server->spin_ns = ops->variant == RING_SPIN_BIT ? BENCH_ECHO_SPIN_NS : 0;
    int rc = ring_run(server, site, out_port);
    if (rc < 0) {
        ring_free(server);
        return rc;
    }
    *out_state = server;
    return 0;
}

const char *bench_ring_missing(void)
{
    struct io_uring ring;
    if (ring_create(&ring, 0) < 0)
        return "no io_uring of Linux 6.1 or later here";
    io_uring_queue_exit(&ring);
    return NULL;
}

const struct bench_peer bench_echo_ring = {
    .name = "liburing",
    .missing = bench_ring_missing,
    .ops = &(const struct bench_echo_ops){.start = ring_start, .stop = ring_stop},
};

const struct bench_peer bench_echo_ring_spin = {
    .name = "liburing-spin",
    .missing = bench_ring_missing,
    .ops = &(const struct bench_echo_ops){.variant = RING_SPIN_BIT,
                                          .start = ring_start,
                                          .stop = ring_stop},
};
