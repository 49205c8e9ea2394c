/* SPDX-License-Identifier: MIT */
/*
 * One command of one connection, from the wire to its answer, in one block of the arena of the
 * connection's worker. hiredis' reader takes the arguments apart; its object functions write them
 * straight into the block, whose size is known from framing: hiredis allocates nothing for them.
 */
#ifndef EXAMPLES_KV_REQUEST_H
#define EXAMPLES_KV_REQUEST_H

#include "frame.h"
#include "store.h"

#include <hiredis/hiredis.h>

struct conn;
struct command;
struct request;

enum op_kind { OP_GET, OP_SET, OP_DELETE, OP_EXISTS, OP_INCREMENT };

/* What one shard does for a command: one key's worth of work. */
struct op {
    struct op *next; /* of whichever list has it: outbox, then batch */
    struct request *request;
    enum op_kind kind;
    int status; /* 0; -errno; written by the shard, as are the two below */
    int64_t number;
    struct value *found; /* one reference, or NULL */
    uint64_t hash;
    struct slice key, value;
};

/* Why a request is answered with an error without being run. */
enum request_fault { FAULT_NONE = 0, FAULT_UNKNOWN, FAULT_ARITY, FAULT_TEXT };

struct request {
    struct request *next; /* of the connection, in order */
    struct conn *conn;
    const struct command *command;
    enum request_fault fault;
    const char *error; /* with FAULT_TEXT; without "-" and line end */
    size_t bytes;      /* of the block */
    uint32_t argc;
    uint32_t args_read;
    uint32_t op_count;
    uint32_t ops_left; /* answered when it is 0 */
    struct op one;     /* most commands need just one */
    struct op *ops;
    char *text; /* where the next argument's bytes go */
    char *text_end;
    struct slice args[];
};

/* A reader for request_parse(); NULL: no memory. Free with redisReaderFree(). */
redisReader *request_reader_create(void);

/* The command that `frame` found at `data`; NULL: no memory. With FAULT_TEXT it is against the
   protocol, the text may be the reader's own, and the reader is to be freed once it was used. */
struct request *request_parse(numaperf_arena_t *arena, redisReader *reader,
                              const struct frame *frame, const char *data);

/* Room for a request of few arguments that lie elsewhere; NULL: no memory. */
struct request *request_fast_create(numaperf_arena_t *arena);

/* The same command with its arguments left where they are, in a request made above: it must be
   done before they go. false: it is none of these. */
bool request_parse_fast(struct request *request, const struct frame *frame, const char *data);

/* A request that is its own answer: an error. NULL: no memory. */
struct request *request_error(numaperf_arena_t *arena, const char *prefix, const char *text);

/* Room for `count` operations. 0; -ENOMEM. */
int request_ops(struct request *request, numaperf_arena_t *arena, uint32_t count);

/* Drops the values it holds. */
void request_drop(struct request *request);

/* Frees it and drops the values it holds. */
void request_free(struct request *request, numaperf_arena_t *arena);

#endif
