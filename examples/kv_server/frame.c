/* SPDX-License-Identifier: MIT */
/*
 * Framing of RESP2 requests: an array of bulk strings, or a plain line.
 *
 *     START -> INLINE                       a line that does not begin with '*'
 *     START -> COUNT -> SIZE <-> BODY       "*2\r\n" "$3\r\n" "GET\r\n" ...
 *
 * hiredis' reader waits for whatever length it is told and nests arrays: it sees a command only
 * after this file has found all of it, well formed and within the limits.
 */
#include "frame.h"

#include "limits.h"

#include <stdio.h>
#include <string.h>

/* Longest "\r\n"-terminated number we take: a sign, seven digits, the ending. */
#define NUMBER_BYTES 10

enum { START = 0, INLINE, COUNT, SIZE, BODY };

void frame_reset(struct frame *frame)
{
    memset(frame, 0, sizeof(*frame));
}

static enum frame_result frame_fail(struct frame *frame, const char *error)
{
    (void)snprintf(frame->error, sizeof(frame->error), "%s", error);
    return FRAME_ERROR;
}

/* Digits without leading zeros, at most seven, or "-1". */
static bool number_parse(const char *text, size_t length, int32_t *out)
{
    if (length == 2 && text[0] == '-' && text[1] == '1') {
        *out = -1;
        return true;
    }
    if (length == 0 || length > 7 || (text[0] == '0' && length > 1))
        return false;
    int32_t number = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (text[i] - '0');
    }
    *out = number;
    return true;
}

/* Reads "<type><number>\r\n" at the position. */
static enum frame_result frame_number(struct frame *frame, const char *data, size_t length,
                                      int32_t *out)
{
    const char *text = data + frame->position + 1;
    size_t left = length - frame->position - 1;
    size_t window = left < NUMBER_BYTES ? left : NUMBER_BYTES;
    const char *end = memchr(text, '\n', window);
    if (end == NULL && left >= NUMBER_BYTES)
        return FRAME_ERROR;
    if (end == NULL)
        return FRAME_MORE;
    if (end == text || end[-1] != '\r' || !number_parse(text, (size_t)(end - 1 - text), out))
        return FRAME_ERROR;
    frame->position = (size_t)(end + 1 - data);
    return FRAME_COMMAND;
}

static enum frame_result frame_count(struct frame *frame, const char *data, size_t length)
{
    int32_t count = 0;
    enum frame_result result = frame_number(frame, data, length, &count);
    if (result == FRAME_MORE)
        return FRAME_MORE;
    if (result == FRAME_ERROR || count > (int32_t)KV_ARGS_MAX)
        return frame_fail(frame, "invalid multibulk length");
    if (count <= 0) {
        frame->length = frame->position;
        return FRAME_EMPTY;
    }
    frame->argc = (uint32_t)count;
    frame->args_left = frame->argc;
    frame->state = SIZE;
    return FRAME_COMMAND;
}

static char printable(char c)
{
    if (c < ' ' || c > '~')
        return '?';
    return c;
}

static enum frame_result frame_size(struct frame *frame, const char *data, size_t length)
{
    char type = data[frame->position];
    if (type != '$') {
        const char shown[2] = {printable(type), '\0'};
        (void)snprintf(frame->error, sizeof(frame->error), "expected '$', got '%s'", shown);
        return FRAME_ERROR;
    }
    int32_t size = 0;
    enum frame_result result = frame_number(frame, data, length, &size);
    if (result == FRAME_MORE)
        return FRAME_MORE;
    if (result == FRAME_ERROR || size < 0 || size > (int32_t)KV_BULK_MAX)
        return frame_fail(frame, "invalid bulk length");
    frame->body = (uint32_t)size;
    if (frame->position + frame->body + 2 > KV_COMMAND_MAX)
        return frame_fail(frame, "command too large");
    frame->state = BODY;
    return FRAME_COMMAND;
}

static enum frame_result frame_body(struct frame *frame, const char *data, size_t length)
{
    size_t end = frame->position + frame->body;
    if (length < end + 2)
        return FRAME_MORE;
    if (data[end] != '\r' || data[end + 1] != '\n')
        return frame_fail(frame, "bulk string without its end");
    frame->position = end + 2;
    frame->args_left--;
    frame->state = SIZE;
    return FRAME_COMMAND;
}

static enum frame_result frame_inline(struct frame *frame, const char *data, size_t length)
{
    size_t window = length < KV_INLINE_MAX ? length : KV_INLINE_MAX;
    const char *end = memchr(data + frame->position, '\n', window - frame->position);
    frame->position = window;
    if (end == NULL && window == KV_INLINE_MAX)
        return frame_fail(frame, "too big inline request");
    if (end == NULL)
        return FRAME_MORE;
    frame->inlined = true;
    frame->length = (size_t)(end + 1 - data);
    size_t blank = 0;
    while (blank < frame->length && strchr(" \t\r\n", data[blank]) != NULL && data[blank] != '\0')
        blank++;
    return blank == frame->length ? FRAME_EMPTY : FRAME_COMMAND;
}

enum frame_result frame_scan(struct frame *frame, const char *data, size_t length)
{
    if (length == 0)
        return FRAME_MORE;
    if (frame->state == START)
        frame->state = data[0] == '*' ? COUNT : INLINE;
    if (frame->state == INLINE)
        return frame_inline(frame, data, length);
    while (frame->position < length) {
        enum frame_result step = FRAME_COMMAND;
        if (frame->state == COUNT)
            step = frame_count(frame, data, length);
        else if (frame->state == SIZE)
            step = frame_size(frame, data, length);
        else
            step = frame_body(frame, data, length);
        if (step == FRAME_MORE)
            break;
        if (step != FRAME_COMMAND)
            return step;
        if (frame->args_left == 0) {
            frame->length = frame->position;
            return FRAME_COMMAND;
        }
    }
    /* The body in hand would have fitted, so it is the next argument that does not. */
    return length < KV_COMMAND_MAX ? FRAME_MORE : frame_fail(frame, "command too large");
}
