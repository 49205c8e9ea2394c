/* SPDX-License-Identifier: MIT */
/*
 * Requests and the glue to hiredis' reader. A reader is given exactly one framed command at a time
 * and is empty in between, so one per worker is enough and a slow peer holds none of its memory.
 * Nothing here trusts that framing and hiredis agree: what does not fit the block is refused.
 */
#include "request.h"

#include "limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define REQUEST_FAST_ARGS 3u /* "SET key value" */

#if HIREDIS_MAJOR >= 1
typedef size_t array_count;
#else
typedef int array_count;
#endif

static void *reader_array(const redisReadTask *task, array_count count)
{
    struct request *request = task->privdata;
    if (task->parent != NULL || (uint64_t)count != request->argc)
        return NULL;
    return request;
}

static void *reader_string(const redisReadTask *task, char *text, size_t length)
{
    struct request *request = task->privdata;
    if (task->type != REDIS_REPLY_STRING || task->parent == NULL ||
        request->args_read >= request->argc || length > (size_t)(request->text_end - request->text))
        return NULL;
    memcpy(request->text, text, length);
    request->args[request->args_read].data = request->text;
    request->args[request->args_read].length = length;
    request->args_read++;
    request->text += length;
    return request;
}

static void *reader_integer(const redisReadTask *task, long long number)
{
    (void)task; /* a request has no integers: */
    (void)number;
    return NULL;
}

static void *reader_nil(const redisReadTask *task)
{
    (void)task; /* nor nothing */
    return NULL;
}

static void reader_free(void *object)
{
    (void)object; /* the request belongs to whoever parses it */
}

redisReader *request_reader_create(void)
{
    static redisReplyObjectFunctions functions = {
        .createString = reader_string,
        .createArray = reader_array,
        .createInteger = reader_integer,
        .createNil = reader_nil,
        .freeObject = reader_free,
    };
    return redisReaderCreateWithFunctions(&functions);
}

static struct request *request_create(numaperf_arena_t *arena, uint32_t argc, size_t text_bytes)
{
    size_t bytes = sizeof(struct request) + argc * sizeof(struct slice) + text_bytes;
    struct request *request = numaperf_arena_alloc(arena, bytes, 16);
    if (request == NULL)
        return NULL;
    memset(request, 0, sizeof(*request));
    request->bytes = bytes;
    request->argc = argc;
    request->text = (char *)&request->args[argc];
    request->text_end = request->text + text_bytes;
    return request;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static uint32_t inline_count(const char *data, size_t length)
{
    uint32_t words = 0;
    for (size_t i = 0; i < length; i++)
        if (!is_blank(data[i]) && (i == 0 || is_blank(data[i - 1])))
            words++;
    return words;
}

/* Words between blanks; quotes mean nothing. */
static void inline_parse(struct request *request, const char *data, size_t length)
{
    memcpy(request->text, data, length);
    for (size_t i = 0; i < length; i++) {
        if (is_blank(data[i]))
            continue;
        if (i == 0 || is_blank(data[i - 1])) {
            request->args[request->args_read].data = request->text + i;
            request->args[request->args_read].length = 0;
            request->args_read++;
        }
        request->args[request->args_read - 1].length++;
    }
}

static void array_parse(struct request *request, redisReader *reader, const struct frame *frame,
                        const char *data)
{
    void *reply = NULL;
    reader->privdata = request;
    int rc = redisReaderFeed(reader, data, frame->length);
    if (rc == REDIS_OK)
        rc = redisReaderGetReply(reader, &reply);
    if (rc == REDIS_OK && reply == request && request->args_read == request->argc)
        return;
    request->fault = FAULT_TEXT;
    request->error = rc != REDIS_OK && reader->err != 0 ? reader->errstr : "malformed command";
}

struct request *request_parse(numaperf_arena_t *arena, redisReader *reader,
                              const struct frame *frame, const char *data)
{
    uint32_t argc = frame->inlined ? inline_count(data, frame->length) : frame->argc;
    struct request *request = request_create(arena, argc, frame->length);
    if (request == NULL)
        return NULL;
    if (argc > KV_ARGS_MAX) {
        request->fault = FAULT_TEXT;
        request->error = "too many arguments";
    } else if (frame->inlined) {
        inline_parse(request, data, frame->length);
    } else {
        array_parse(request, reader, frame, data);
    }
    return request;
}

struct request *request_fast_create(numaperf_arena_t *arena)
{
    return request_create(arena, REQUEST_FAST_ARGS, 0);
}

/* Framing has judged every byte of it. */
bool request_parse_fast(struct request *request, const struct frame *frame, const char *data)
{
    if (frame->inlined || frame->argc > REQUEST_FAST_ARGS)
        return false;
    request->fault = FAULT_NONE;
    request->argc = frame->argc;
    request->op_count = 0;
    request->ops_left = 0;
    request->ops = &request->one;
    request->one = (struct op){.status = 0};
    const char *at = data;
    while (*at++ != '\n')
        continue;
    for (uint32_t i = 0; i < frame->argc; i++) {
        size_t length = 0;
        for (at++; *at != '\r'; at++)
            length = length * 10 + (size_t)(*at - '0');
        request->args[i] = (struct slice){at + 2, length};
        at += length + 4;
    }
    return true;
}

struct request *request_error(numaperf_arena_t *arena, const char *prefix, const char *text)
{
    size_t bytes = strlen(prefix) + strlen(text) + 1;
    struct request *request = request_create(arena, 0, bytes);
    if (request == NULL)
        return NULL;
    (void)snprintf(request->text, bytes, "%s%s", prefix, text);
    request->fault = FAULT_TEXT;
    request->error = request->text;
    return request;
}

int request_ops(struct request *request, numaperf_arena_t *arena, uint32_t count)
{
    request->ops = &request->one;
    if (count > 1) {
        request->ops = numaperf_arena_alloc(arena, count * sizeof(struct op), 16);
        if (request->ops == NULL)
            return -ENOMEM;
        memset(request->ops, 0, count * sizeof(struct op));
        request->bytes += count * sizeof(struct op);
    }
    request->op_count = count;
    request->ops_left = count;
    for (uint32_t i = 0; i < count; i++)
        request->ops[i].request = request;
    return 0;
}

void request_drop(struct request *request)
{
    for (uint32_t i = 0; i < request->op_count; i++) {
        if (request->ops[i].found != NULL)
            value_drop(request->ops[i].found);
        request->ops[i].found = NULL;
    }
}

void request_free(struct request *request, numaperf_arena_t *arena)
{
    request_drop(request);
    if (request->ops != &request->one)
        numaperf_arena_free(arena, request->ops);
    numaperf_arena_free(arena, request);
}
