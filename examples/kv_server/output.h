/* SPDX-License-Identifier: MIT */
/* Answers being written, in RESP2: a growing buffer in the arena of the connection's worker. */
#ifndef EXAMPLES_KV_OUTPUT_H
#define EXAMPLES_KV_OUTPUT_H

#include <numaperf.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room that any answer without a value of the peer's fits in, lengths and line ends included. */
#define OUTPUT_SHORT ((size_t)256)

struct output {
    numaperf_arena_t *arena;
    char *data;
    size_t length;
    size_t capacity;
};

/* Room for `bytes` more; false: no memory, and all is as it was. */
bool output_reserve(struct output *output, size_t bytes);

/* These need the room reserved. */
void output_text(struct output *output, const char *text);
void output_number(struct output *output, char type, int64_t number);
void output_bulk(struct output *output, const char *data, size_t length);
void output_nil(struct output *output);

/* "-text\r\n", cut to OUTPUT_SHORT; what could break the line becomes '?'. */
void output_error(struct output *output, const char *text);

void output_free(struct output *output);

#endif
