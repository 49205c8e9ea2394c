/* SPDX-License-Identifier: MIT */
/*
 * A request as it comes: first its head, as one piece of memory, then its body, which is thrown
 * away. The grammar is llhttp's or http-parser's; framing, limits and what is refused are ours.
 */
#ifndef EXAMPLES_HTTP_REQUEST_H
#define EXAMPLES_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef HTTP_HAVE_LLHTTP
#include <llhttp.h>
typedef llhttp_t request_engine;
#else
#include <http_parser.h>
typedef struct http_parser request_engine;
#endif

struct span {
    const char *data; /* NULL: the field is not there */
    size_t length;
};

enum request_field {
    FIELD_HOST = 0,
    FIELD_CONTENT_LENGTH,
    FIELD_TRANSFER_ENCODING,
    FIELD_EXPECT,
    FIELD_RANGE,
    FIELD_IF_RANGE,
    FIELD_IF_MATCH,
    FIELD_IF_NONE_MATCH,
    FIELD_IF_MODIFIED_SINCE,
    FIELD_IF_UNMODIFIED_SINCE,
    FIELD_COUNT,
    FIELD_OTHER = FIELD_COUNT
};

struct request {
    struct span target;
    struct span fields[FIELD_COUNT];
    bool is_get;
    bool is_head; /* neither: the method is not allowed */
    bool is_1_0;
    bool keep_alive;
    bool has_body;
    bool expects_continue;
};

/* Where a connection is within its requests. */
struct request_reader {
    request_engine engine;
    size_t scanned;    /* of the head: whole lines */
    uint32_t lines;    /* in these */
    size_t body_bytes; /* seen so far, framing included */
    bool complete;     /* the engine has seen the end */

    /* While a head is read. */
    struct request *request;
    uint32_t field_counts[FIELD_COUNT + 1];
    enum request_field field;
};

/* A new request begins. */
void request_begin(struct request_reader *reader);

/* Length of the head at the front of `bytes`; 0: more is needed; < 0: refused with that status. To
   be called again with the same bytes and more. */
int request_scan(struct request_reader *reader, const char *bytes, size_t length);

/* Reads a head of that length; the request keeps pointers into it. 0, or the status. */
unsigned request_read_head(struct request_reader *reader, const char *head, size_t length,
                           struct request *out);

/* How many bytes belong to the body; `*out_complete`: it ends with them. < 0: as above. */
int request_skip_body(struct request_reader *reader, const char *bytes, size_t length,
                      bool *out_complete);

#endif
