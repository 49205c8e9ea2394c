/* SPDX-License-Identifier: MIT */
/* The answer buffer: whoever writes has reserved; a write beyond that is a bug and stops here. */
#include "output.h"

#include "limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool output_reserve(struct output *output, size_t bytes)
{
    if (output->capacity - output->length >= bytes)
        return true;
    size_t capacity = output->capacity == 0 ? KV_OUTPUT_BYTES : output->capacity;
    while (capacity - output->length < bytes)
        capacity *= 2;
    char *wider = numaperf_arena_alloc(output->arena, capacity, 64);
    if (wider == NULL)
        return false;
    if (output->length > 0)
        memcpy(wider, output->data, output->length);
    numaperf_arena_free(output->arena, output->data);
    output->data = wider;
    output->capacity = capacity;
    return true;
}

static void output_bytes(struct output *output, const char *data, size_t length)
{
    if (output->capacity - output->length < length)
        abort();
    memcpy(output->data + output->length, data, length);
    output->length += length;
}

void output_text(struct output *output, const char *text)
{
    output_bytes(output, text, strlen(text));
}

void output_number(struct output *output, char type, int64_t number)
{
    /* By hand: every answer has a length, and snprintf() would be most of its cost. */
    char text[24];
    size_t at = sizeof(text);
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    text[--at] = '\n';
    text[--at] = '\r';
    do {
        text[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (number < 0)
        text[--at] = '-';
    output_bytes(output, &type, 1);
    output_bytes(output, text + at, sizeof(text) - at);
}

void output_bulk(struct output *output, const char *data, size_t length)
{
    output_number(output, '$', (int64_t)length);
    output_bytes(output, data, length);
    output_bytes(output, "\r\n", 2);
}

void output_nil(struct output *output)
{
    output_text(output, "$-1\r\n");
}

void output_error(struct output *output, const char *text)
{
    char line[OUTPUT_SHORT - 4];
    (void)snprintf(line, sizeof(line), "%s", text);
    for (char *c = line; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
    output_text(output, "-");
    output_text(output, line);
    output_text(output, "\r\n");
}

void output_free(struct output *output)
{
    numaperf_arena_free(output->arena, output->data);
    output->data = NULL;
    output->length = 0;
    output->capacity = 0;
}
