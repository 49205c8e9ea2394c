/* SPDX-License-Identifier: MIT */
/*
 * The request parser of examples/kv_server: framing and hiredis' reader on whatever a peer sends,
 * in pieces of any size. The first byte chooses the pieces. Asserted: whole input and pieces give
 * the same commands; framing and hiredis agree; every argument lies in the request's own block.
 */
#include "../../examples/kv_server/frame.h"
#include "../../examples/kv_server/limits.h"
#include "../../examples/kv_server/request.h"

#include "fuzz.h"
#include <numaperf.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                            \
    do {                                                            \
        if (!(condition)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
            abort();                                                \
        }                                                           \
    } while (0)

struct outcome {
    uint64_t commands;
    uint64_t arguments;
    uint64_t sum; /* of all argument bytes, by position */
    bool refused;
};

static void count_request(const struct request *request, struct outcome *outcome)
{
    const char *block = (const char *)request;
    outcome->commands++;
    CHECK(request->argc > 0 && request->argc <= KV_ARGS_MAX);
    CHECK(request->args_read == request->argc);
    for (uint32_t i = 0; i < request->argc; i++) {
        const struct slice *arg = &request->args[i];
        CHECK(arg->length <= KV_BULK_MAX);
        CHECK(arg->data >= block && arg->data + arg->length <= block + request->bytes);
        outcome->arguments++;
        for (size_t b = 0; b < arg->length; b++)
            outcome->sum = outcome->sum * 31 + (unsigned char)arg->data[b];
    }
}

/* Parses one framed command; false: the connection would be closed. */
static bool take(numaperf_arena_t *arena, const struct frame *frame, const char *data,
                 struct outcome *outcome)
{
    redisReader *reader = request_reader_create();
    CHECK(reader != NULL);
    struct request *request = request_parse(arena, reader, frame, data);
    CHECK(request != NULL);
    bool good = request->fault == FAULT_NONE;
    /* Framing lets only good arrays through; a line may still have too many words. */
    CHECK(good || frame->inlined);
    if (good)
        count_request(request, outcome);
    request_free(request, arena);
    redisReaderFree(reader);
    return good;
}

/* Consumes what is whole in `data`; returns the bytes that are left for later. */
static size_t consume(numaperf_arena_t *arena, struct frame *frame, const char *data, size_t length,
                      struct outcome *outcome)
{
    size_t start = 0;
    while (!outcome->refused) {
        enum frame_result result = frame_scan(frame, data + start, length - start);
        if (result == FRAME_MORE)
            break;
        if (result == FRAME_ERROR) {
            CHECK(frame->error[0] != '\0');
            outcome->refused = true;
            break;
        }
        CHECK(frame->length > 0 && frame->length <= length - start);
        CHECK(frame->length <= KV_COMMAND_MAX);
        if (result == FRAME_COMMAND && !take(arena, frame, data + start, outcome))
            outcome->refused = true;
        start += frame->length;
        frame_reset(frame);
    }
    return length - start;
}

static struct outcome run(numaperf_arena_t *arena, const char *data, size_t size, size_t piece)
{
    struct outcome outcome = {0};
    struct frame frame;
    frame_reset(&frame);
    /* A copy of exactly the size that has come: the sanitizer sees every byte read beyond it. */
    size_t start = 0;
    for (size_t end = 0; end < size && !outcome.refused;) {
        end = size - end < piece ? size : end + piece;
        char *copy = malloc(end - start);
        CHECK(copy != NULL);
        memcpy(copy, data + start, end - start);
        size_t left = consume(arena, &frame, copy, end - start, &outcome);
        free(copy);
        start = end - left;
    }
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    numaperf_arena_t *arena = NULL;
    config.chunk_bytes = 256 * 1024;
    CHECK(numaperf_arena_create(&config, &arena) == 0);
    size_t piece = data[0] == 0 ? 1 : data[0];
    const char *text = (const char *)data + 1;
    struct outcome whole = run(arena, text, size - 1, size);
    struct outcome pieces = run(arena, text, size - 1, piece);
    CHECK(whole.commands == pieces.commands);
    CHECK(whole.arguments == pieces.arguments);
    CHECK(whole.sum == pieces.sum);
    CHECK(whole.refused == pieces.refused);
    numaperf_arena_destroy(arena);
    return 0;
}
