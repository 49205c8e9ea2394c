/* SPDX-License-Identifier: MIT */
/*
 * The load on io_uring: a multishot receive a connection, from one buffer ring whose buffers go
 * back as soon as their bytes were compared; one send in flight a connection. Where a connection
 * has one request in flight at most, its answer says that it was sent, and the send completes
 * silently.
 *
 * Source: io_uring_enter(2), io_uring_setup(2), io_uring_prep_recv_multishot(3).
 */
#include "echo_load.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define LOAD_ENTRIES 2048u
#define LOAD_COMPLETIONS 8192u
#define LOAD_BUFFERS 1024u
#define LOAD_BUFFER_BYTES 4096u
/* Apart by a page and a line, so that the first lines of all do not share a few sets of a cache. */
#define LOAD_BUFFER_STRIDE (LOAD_BUFFER_BYTES + 64u)

enum load_kind { LOAD_RECV = 0, LOAD_SEND };

struct load_ring {
    struct io_uring ring;
    struct io_uring_buf_ring *buf_ring;
    unsigned char *memory;
    unsigned sends;                         /* that complete, since the last submit */
    uint32_t waiting[ECHO_CONNECTIONS_MAX]; /* connections that are to be pumped */
    uint32_t waiting_count;
    bool is_waiting[ECHO_CONNECTIONS_MAX];
};

static int load_ring_buffers(struct load_ring *state)
{
    size_t ring_bytes = LOAD_BUFFERS * sizeof(struct io_uring_buf);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    void *at = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    state->memory = malloc((size_t)LOAD_BUFFERS * LOAD_BUFFER_STRIDE);
    if (at == MAP_FAILED || state->memory == NULL)
        return -ENOMEM;
    state->buf_ring = at;
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)at,
                                   .ring_entries = LOAD_BUFFERS};
    int rc = io_uring_register_buf_ring(&state->ring, &reg, 0);
    if (rc < 0)
        return rc;
    io_uring_buf_ring_init(state->buf_ring);
    for (uint32_t i = 0; i < LOAD_BUFFERS; i++)
        io_uring_buf_ring_add(state->buf_ring, state->memory + (size_t)i * LOAD_BUFFER_STRIDE,
                              LOAD_BUFFER_BYTES, (uint16_t)i, (int)LOAD_BUFFERS - 1, (int)i);
    io_uring_buf_ring_advance(state->buf_ring, (int)LOAD_BUFFERS);
    return 0;
}

static int load_ring_open(struct echo_load *load)
{
    struct load_ring *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return -ENOMEM;
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE,
        .cq_entries = LOAD_COMPLETIONS,
    };
    int rc = io_uring_queue_init_params(LOAD_ENTRIES, &state->ring, &params);
    if (rc < 0) {
        free(state);
        return rc;
    }
    (void)io_uring_register_ring_fd(&state->ring); /* without it each enter costs a little more */
    load->way_state = state;
    rc = io_uring_register_files_sparse(&state->ring, ECHO_CONNECTIONS_MAX);
    return rc == 0 ? load_ring_buffers(state) : rc;
}

static struct io_uring_sqe *load_ring_sqe(struct load_ring *state, enum load_kind kind,
                                          uint32_t index)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&state->ring);
    if (sqe == NULL) {
        (void)io_uring_submit(&state->ring); /* what it cannot submit keeps the queue full */
        sqe = io_uring_get_sqe(&state->ring);
    }
    if (sqe == NULL)
        abort(); /* the kernel takes a full queue at once, or has no memory */
    sqe->user_data = (uint64_t)index << 8 | (uint64_t)kind;
    return sqe;
}

static void load_ring_receive(struct load_ring *state, uint32_t index)
{
    struct io_uring_sqe *sqe = load_ring_sqe(state, LOAD_RECV, index);
    uint64_t tag = sqe->user_data;
    io_uring_prep_recv_multishot(sqe, (int)index, NULL, 0, 0);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->user_data = tag;
}

static int load_ring_add(struct echo_load *load, struct echo_load_conn *conn)
{
    struct load_ring *state = load->way_state;
    uint32_t index = (uint32_t)(conn - load->conns);
    int rc = io_uring_register_files_update(&state->ring, index, &conn->fd, 1);
    if (rc < 0)
        return rc;
    load_ring_receive(state, index);
    return 0;
}

static int load_ring_pump(struct echo_load *load, struct echo_load_conn *conn)
{
    struct load_ring *state = load->way_state;
    const unsigned char *bytes = NULL;
    size_t length = conn->blocked ? 0 : echo_load_next(load, conn, &bytes);
    if (length == 0)
        return 0;
    uint32_t index = (uint32_t)(conn - load->conns);
    struct io_uring_sqe *sqe = load_ring_sqe(state, LOAD_SEND, index);
    uint64_t tag = sqe->user_data;
    io_uring_prep_send(sqe, (int)index, bytes, length, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_FIXED_FILE;
    sqe->user_data = tag;
    if (load->plan->depth == 1) {
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        conn->sent += length;
        return 0;
    }
    conn->blocked = true;
    state->sends++;
    return 0;
}

/* After the completions that are here, so that what they allow is sent at once. */
static void load_ring_pump_later(struct load_ring *state, uint32_t index)
{
    if (state->is_waiting[index])
        return;
    state->is_waiting[index] = true;
    state->waiting[state->waiting_count++] = index;
}

static int load_ring_pump_waiting(struct echo_load *load)
{
    struct load_ring *state = load->way_state;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < state->waiting_count; i++) {
        state->is_waiting[state->waiting[i]] = false;
        rc = load_ring_pump(load, &load->conns[state->waiting[i]]);
    }
    state->waiting_count = 0;
    return rc;
}

static int load_ring_received(struct echo_load *load, struct echo_load_conn *conn,
                              const struct io_uring_cqe *cqe)
{
    struct load_ring *state = load->way_state;
    uint32_t index = (uint32_t)(conn - load->conns);
    if (cqe->res == 0 || (cqe->res < 0 && cqe->res != -ENOBUFS))
        return cqe->res == 0 ? -ECONNRESET : cqe->res;
    int rc = 0;
    if (cqe->res > 0) {
        uint16_t id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        unsigned char *bytes = state->memory + (size_t)id * LOAD_BUFFER_STRIDE;
        rc = echo_load_take(load, conn, bytes, (size_t)cqe->res);
        io_uring_buf_ring_add(state->buf_ring, bytes, LOAD_BUFFER_BYTES, id, (int)LOAD_BUFFERS - 1,
                              0);
        io_uring_buf_ring_advance(state->buf_ring, 1);
    }
    if ((cqe->flags & IORING_CQE_F_MORE) == 0)
        load_ring_receive(state, index);
    load_ring_pump_later(state, index);
    return rc;
}

static int load_ring_complete(struct echo_load *load, const struct io_uring_cqe *cqe)
{
    uint32_t index = (uint32_t)(cqe->user_data >> 8);
    struct echo_load_conn *conn = &load->conns[index];
    if ((cqe->user_data & 0xff) == LOAD_RECV)
        return load_ring_received(load, conn, cqe);
    if (cqe->res < 0)
        return cqe->res;
    conn->blocked = false;
    conn->sent += (uint64_t)cqe->res;
    load_ring_pump_later(load->way_state, index);
    return 0;
}

/* Submit, and have the kernel post what is ready; or wait for one thing more than the sends. */
static int load_ring_enter(struct load_ring *state, bool spins)
{
    if (!spins) {
        struct __kernel_timespec limit = {.tv_sec = ECHO_LOAD_STALL_NS / 1000000000u};
        struct io_uring_cqe *unused = NULL;
        return io_uring_submit_and_wait_timeout(&state->ring, &unused, state->sends + 1, &limit,
                                                NULL);
    }
    if (io_uring_sq_ready(&state->ring) > 0 ||
        (IO_URING_READ_ONCE(*state->ring.sq.kflags) & IORING_SQ_TASKRUN) != 0) {
        int rc = io_uring_submit(&state->ring);
        return rc < 0 ? rc : io_uring_get_events(&state->ring);
    }
    return 0;
}

static int load_ring_turn(struct echo_load *load, bool spins)
{
    struct load_ring *state = load->way_state;
    int rc = load_ring_enter(state, spins);
    if (rc < 0 && rc != -EINTR && rc != -ETIME)
        return rc;
    state->sends = 0;
    struct io_uring_cqe *cqe = NULL;
    unsigned head = 0;
    unsigned count = 0;
    rc = 0;
    io_uring_for_each_cqe(&state->ring, head, cqe)
    {
        count++;
        rc = load_ring_complete(load, cqe);
        if (rc < 0)
            break;
    }
    io_uring_cq_advance(&state->ring, count);
    if (rc == 0)
        rc = load_ring_pump_waiting(load);
    return rc < 0 ? rc : (int)count;
}

const struct echo_load_way echo_load_ring = {
    .open = load_ring_open,
    .add = load_ring_add,
    .pump = load_ring_pump,
    .turn = load_ring_turn,
};
