/* SPDX-License-Identifier: MIT */
/*
 * Requests of the ring: one switch from an operation to its SQE. What liburing 2.3 has a function
 * for is filled by that.
 *
 * Thread rule: the ring's.
 *
 * Source: io_uring_enter(2).
 */
#include "base/assert.h"
#include "io/ring_state.h"

#include <stddef.h>
#include <sys/socket.h>

static void prep_file(struct io_uring_sqe *sqe, const struct numaperf__op *op)
{
    switch ((enum numaperf__op_kind)op->kind) {
    case NUMAPERF__OP_READ:
        io_uring_prep_read(sqe, op->fd, op->buffer, op->length, op->offset);
        break;
    case NUMAPERF__OP_WRITE:
        io_uring_prep_write(sqe, op->fd, op->buffer, op->length, op->offset);
        break;
    case NUMAPERF__OP_READ_FIXED:
        io_uring_prep_read_fixed(sqe, op->fd, op->buffer, op->length, op->offset, (int)op->group);
        break;
    case NUMAPERF__OP_WRITE_FIXED:
        io_uring_prep_write_fixed(sqe, op->fd, op->buffer, op->length, op->offset, (int)op->group);
        break;
    case NUMAPERF__OP_READV:
        io_uring_prep_readv(sqe, op->fd, op->buffer, op->length, op->offset);
        break;
    case NUMAPERF__OP_WRITEV:
        io_uring_prep_writev(sqe, op->fd, op->buffer, op->length, op->offset);
        break;
    case NUMAPERF__OP_OPENAT2:
        io_uring_prep_openat2(sqe, op->fd, op->buffer, op->argument);
        break;
    case NUMAPERF__OP_FSYNC:
        io_uring_prep_fsync(sqe, op->fd, op->flags);
        break;
    case NUMAPERF__OP_FALLOCATE:
        io_uring_prep_fallocate(sqe, op->fd, (int)op->flags, (off_t)op->offset,
                                (off_t)op->length_64);
        break;
    case NUMAPERF__OP_STATX:
        io_uring_prep_statx(sqe, op->fd, op->buffer, (int)op->flags, op->mask, op->argument);
        break;
    default:
        NUMAPERF_ASSERT(false);
    }
}

static void prep_receive(struct io_uring_sqe *sqe, const struct numaperf__op *op)
{
    if (op->kind == NUMAPERF__OP_RECVMSG_MULTI)
        io_uring_prep_recvmsg_multishot(sqe, op->fd, op->buffer, 0);
    else if (op->kind == NUMAPERF__OP_RECV_MULTI)
        io_uring_prep_recv_multishot(sqe, op->fd, NULL, 0, 0);
    else
        io_uring_prep_recv(sqe, op->fd, NULL, op->length, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = (uint16_t)op->group;
}

static void prep_socket(struct io_uring_sqe *sqe, const struct numaperf__op *op)
{
    switch ((enum numaperf__op_kind)op->kind) {
    case NUMAPERF__OP_ACCEPT:
        io_uring_prep_accept(sqe, op->fd, NULL, NULL, (int)op->flags);
        break;
    case NUMAPERF__OP_ACCEPT_MULTI:
        io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL, (int)op->flags);
        break;
    case NUMAPERF__OP_ACCEPT_DIRECT:
        io_uring_prep_multishot_accept_direct(sqe, op->fd, NULL, NULL, (int)op->flags);
        break;
    case NUMAPERF__OP_RECV:
    case NUMAPERF__OP_RECV_MULTI:
    case NUMAPERF__OP_RECVMSG_MULTI:
        prep_receive(sqe, op);
        break;
    case NUMAPERF__OP_SEND:
        io_uring_prep_send(sqe, op->fd, op->buffer, op->length, (int)op->flags);
        break;
    case NUMAPERF__OP_SENDMSG:
        io_uring_prep_sendmsg(sqe, op->fd, op->buffer, op->flags);
        break;
    case NUMAPERF__OP_SEND_ZC:
        io_uring_prep_send_zc(sqe, op->fd, op->buffer, op->length, (int)op->flags, op->mask);
        break;
    case NUMAPERF__OP_CONNECT:
        io_uring_prep_connect(sqe, op->fd, op->buffer, op->length);
        break;
    case NUMAPERF__OP_SHUTDOWN:
        io_uring_prep_shutdown(sqe, op->fd, (int)op->flags);
        break;
    case NUMAPERF__OP_CLOSE:
        if (op->is_direct)
            io_uring_prep_close_direct(sqe, (unsigned)op->fd);
        else
            io_uring_prep_close(sqe, op->fd);
        break;
    default:
        prep_file(sqe, op);
    }
}

void numaperf__ring_prep(struct io_uring_sqe *sqe, struct numaperf__op *op)
{
    switch ((enum numaperf__op_kind)op->kind) {
    case NUMAPERF__OP_NOP:
        io_uring_prep_nop(sqe);
        break;
    case NUMAPERF__OP_NOP_ASYNC:
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_flags(sqe, IOSQE_ASYNC);
        break;
    case NUMAPERF__OP_POLL:
        io_uring_prep_poll_add(sqe, op->fd, op->poll_events);
        break;
    case NUMAPERF__OP_USER:
        op->fill(sqe, op->argument);
        break;
    default:
        prep_socket(sqe, op);
    }
    if (op->is_direct && op->kind != NUMAPERF__OP_CLOSE)
        sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data(sqe, op);
}
