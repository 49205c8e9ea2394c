/* SPDX-License-Identifier: MIT */
/*
 * What the file*.c files share: the files of a loop, their operations, and the two ways these are
 * run. See <numaperf/file.h> for what callers are told.
 */
#ifndef NUMAPERF_IO_FILE_H
#define NUMAPERF_IO_FILE_H

#include "base/list.h"
#include "io/loop.h"

#include <numaperf/file.h>

#include <linux/openat2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define NUMAPERF__FILE_MOVE_MAX 0x7ffff000u /* what the kernel moves at most in one request */
#define NUMAPERF__FILE_TRIES_MAX 100u       /* in a row, without a byte moved */
#define NUMAPERF__FILE_POOL_WINDOW 32u /* operations of a loop that libuv's pool has at a time */
#define NUMAPERF__FILE_SLOTS 64u       /* registered buffers of a loop */
#define NUMAPERF__FILE_NO_SLOT UINT32_MAX
#define NUMAPERF__FILE_OP_ALIGN 64u

enum numaperf__file_kind {
    NUMAPERF__FILE_OPEN = 1,
    NUMAPERF__FILE_READ,
    NUMAPERF__FILE_WRITE,
    NUMAPERF__FILE_READV,
    NUMAPERF__FILE_WRITEV,
    NUMAPERF__FILE_SYNC,
    NUMAPERF__FILE_DATASYNC,
    NUMAPERF__FILE_ALLOCATE,
    NUMAPERF__FILE_STAT,
    NUMAPERF__FILE_CLOSE
};

/*
 * An operation of a file: from numaperf__file_take() to numaperf__file_end(). The loop's thread
 * writes it; while it is in the pool, from uv_queue_work() to its callback, the pool's thread.
 */
struct numaperf__file_op {
    union {
        struct numaperf__op ring;
        uv_work_t work;
    } via; /* first: one of them at a time */
    struct numaperf_file *file;
    struct numaperf__file_op *next; /* of the free ones, or of those that wait for the pool */
    union {
        numaperf_file_fn done;
        numaperf_file_open_fn opened;
    };
    void *data;
    void *owned;     /* copied for it, given back at its end; may be NULL */
    void *buffer;    /* bytes, struct iovec, path, or struct statx */
    uint64_t offset; /* of what is left */
    uint64_t length; /* what is left: bytes, or entries of `buffer`; or of the range */
    int64_t moved;   /* bytes so far */
    int64_t result;  /* for `done` */
    uint32_t slot;   /* registered buffer that `buffer` lies in, or NO_SLOT */
    uint32_t flags;  /* mode of ALLOCATE, mask of STAT */
    uint32_t tries;  /* in a row, without a byte moved */
    int32_t fd;      /* of the file; of OPEN: what the path is relative to */
    uint8_t kind;    /* enum numaperf__file_kind */
    bool is_in_ring; /* the ring has it */
    struct open_how how;
};

enum numaperf__file_state {
    NUMAPERF__FILE_OPENING = 1, /* its only operation is the one that opens it */
    NUMAPERF__FILE_IS_OPEN,
    NUMAPERF__FILE_ENDING, /* takes no operations; closed when those it has have ended */
    NUMAPERF__FILE_CLOSING /* its only operation is the one that closes it */
};

struct numaperf_file {
    struct numaperf__files *files;
    struct numaperf__list link;         /* in files->list */
    struct numaperf__file_op *boundary; /* opens it, then is kept to close it: that cannot fail */
    int32_t fd;
    uint32_t in_flight; /* operations; `boundary` counts while it runs */
    uint8_t state;      /* enum numaperf__file_state */
};

/* A registered buffer. */
struct numaperf__file_slot {
    char *base;
    size_t length;
    uint32_t index; /* in the ring's table */
};

struct numaperf__file_buffers {
    struct numaperf__file_slot slots[NUMAPERF__FILE_SLOTS]; /* by base; the first `count` */
    uint64_t used;                                          /* bit i: index i of the ring's table */
    uint32_t count;
    bool was_tried; /* the table was asked for */
    bool has_table;
};

/* The files of a loop; its thread alone uses it. */
struct numaperf__files {
    struct numaperf__loop_tenant tenant; /* first */
    numaperf_loop_t *loop;
    numaperf_arena_t *arena;
    struct numaperf__list list;
    struct numaperf__file_op *free_ops;
    struct numaperf__file_op *waiting; /* for room in the pool: first in, first out */
    struct numaperf__file_op **waiting_end;
    uint32_t in_pool;
    uint32_t in_flight;
    bool has_ring;
    bool is_closing;
    struct numaperf__file_buffers buffers;
};

/* ---- file.c ---- */

/* The files of a loop, made now if there were none: bound to this thread. Recorded. */
int numaperf__files_need(numaperf_loop_t *loop, struct numaperf__files **out);
/* The operation that opened, or closed, a file has ended; the record is no longer in flight. */
void numaperf__file_opened(struct numaperf__file_op *op);
void numaperf__file_closed(struct numaperf__file_op *op);
/* Close it once nothing is in flight; it is ENDING. */
void numaperf__file_settle(struct numaperf_file *file);

/* ---- file_op.c ---- */

/* An operation that is all zero, apart from `fd` and what is given here. NULL: no memory. */
struct numaperf__file_op *numaperf__file_take(struct numaperf_file *file,
                                              enum numaperf__file_kind kind);
/* Give one back that was not begun, or has ended. */
void numaperf__file_give(struct numaperf__file_op *op);
/* Run it, in the ring or the pool; cannot fail. */
void numaperf__file_begin(struct numaperf__file_op *op);
/*
 * What one request of it said. True: another one is due, for the rest or once more. Else
 * op->result is what it comes to. Calls nothing of the loop: the pool's threads use it, too.
 */
bool numaperf__file_advance(struct numaperf__file_op *op, int64_t result);
/* It has ended with op->result: tell, and give it back. */
void numaperf__file_end(struct numaperf__file_op *op);

/* ---- file_ring.c, file_uv.c ---- */

/* Have the ring do it; what it has no room for now goes to the pool. */
void numaperf__file_ring_start(struct numaperf__file_op *op);
void numaperf__file_pool_start(struct numaperf__file_op *op);

/* ---- file_buffers.c ---- */

/* The slot of a registered buffer that these bytes lie in, or NO_SLOT. */
uint32_t numaperf__file_buffers_find(struct numaperf__files *files, const void *bytes,
                                     uint64_t length);
/* Give back what is still registered: the loop ends. */
void numaperf__file_buffers_free_all(struct numaperf__files *files);

#endif
