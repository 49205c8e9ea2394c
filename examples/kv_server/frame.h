/* SPDX-License-Identifier: MIT */
/*
 * Where a command ends. Judges every length before anything is allocated or parsed for it, and
 * resumes where it stopped, so that a command which comes one byte at a time costs no more.
 */
#ifndef EXAMPLES_KV_FRAME_H
#define EXAMPLES_KV_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum frame_result {
    FRAME_MORE,    /* not a whole command yet */
    FRAME_COMMAND, /* `length` bytes hold one, of `argc` arguments (not counted when inlined) */
    FRAME_EMPTY,   /* `length` bytes hold nothing: an empty line, an empty array */
    FRAME_ERROR    /* against the protocol or a limit; `error` says how */
};

struct frame {
    size_t position; /* everything before it was judged */
    size_t length;   /* of a whole command */
    uint32_t argc;
    uint32_t args_left;
    uint32_t body; /* bytes of the argument that is being read */
    uint8_t state;
    bool inlined; /* a plain line, not an array */
    char error[64];
};

/* Ready for the next command. A frame of zero bytes is ready, too. */
void frame_reset(struct frame *frame);

/* Judges `data`, which begins with the command and only grows from call to call. */
enum frame_result frame_scan(struct frame *frame, const char *data, size_t length);

#endif
