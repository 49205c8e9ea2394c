/* SPDX-License-Identifier: MIT */
/*
 * Output of a connection: a list of pieces.
 *
 *   queued -> sent in part -> sent whole -> gone            not pinned
 *                          -> aside      -> gone            pinned meanwhile
 *
 * Invariants: `bytes` is the sum of what is left of the queued pieces, none of which is empty. A
 * copy may grow while a send of its beginning is under way: what the kernel was given does not
 * move. A `done` is called when its piece is in no list any more, so it may append.
 *
 * Thread rule: the loop's thread.
 */
#include "net/output.h"

#include "base/assert.h"

#include <errno.h>
#include <string.h>

/* A copy's memory: small at first, since most answers are; then so that many small ones share it;
 * at most what the arena gives without rounding up much. */
#define PIECE_BYTES_FIRST 512u
#define PIECE_BYTES_NEXT 4096u
#define PIECE_BYTES_MAX 16384u

/* A send request counts its bytes in 32 bits; more is not taken at once anyway. */
#define FRONT_BYTES_MAX ((size_t)1 << 30)

enum piece_kind { PIECE_COPY = 0, PIECE_BORROWED, PIECE_HELD };

struct numaperf__piece {
    struct numaperf__piece *next;
    const char *bytes; /* what is left of it */
    size_t length;
    uint32_t pins;
    uint8_t kind;
    union {
        struct {
            numaperf_written_fn done;
            void *data;
        } borrowed;
        struct numaperf_buffer *buffer; /* lent to the user, who gave it to us */
        char *end;                      /* of a copy's memory */
    };
};

void numaperf__output_init(struct numaperf__output *output, numaperf_arena_t *arena)
{
    *output = (struct numaperf__output){.arena = arena};
}

/* ---- append ---- */

static void output_append(struct numaperf__output *output, struct numaperf__piece *piece)
{
    piece->next = NULL;
    if (output->last == NULL)
        output->first = piece;
    else
        output->last->next = piece;
    output->last = piece;
}

static struct numaperf__piece *piece_alloc(struct numaperf__output *output, size_t room)
{
    struct numaperf__piece *piece = numaperf_arena_alloc(output->arena, sizeof(*piece) + room, 0);
    if (piece != NULL)
        *piece = (struct numaperf__piece){.next = NULL};
    return piece;
}

/* Empty pieces with room for `length` bytes, as a list; NULL without memory. */
static struct numaperf__piece *output_make_room(struct numaperf__output *output, size_t length)
{
    struct numaperf__piece *first = NULL;
    struct numaperf__piece **at = &first;
    size_t least = output->bytes == 0 ? PIECE_BYTES_FIRST : PIECE_BYTES_NEXT;
    while (length > 0) {
        size_t whole = length + sizeof(struct numaperf__piece);
        whole = whole < least ? least : whole > PIECE_BYTES_MAX ? PIECE_BYTES_MAX : whole;
        size_t room = whole - sizeof(struct numaperf__piece);
        struct numaperf__piece *piece = piece_alloc(output, room);
        if (piece == NULL)
            goto free;
        piece->kind = PIECE_COPY;
        piece->bytes = (char *)(piece + 1);
        piece->end = (char *)(piece + 1) + room;
        *at = piece;
        at = &piece->next;
        length -= room < length ? room : length;
    }
    return first;

free:
    while (first != NULL) {
        struct numaperf__piece *next = first->next;
        numaperf_arena_free(output->arena, first);
        first = next;
    }
    return NULL;
}

static size_t piece_room(const struct numaperf__piece *piece)
{
    if (piece == NULL || piece->kind != PIECE_COPY)
        return 0;
    return (size_t)(piece->end - (piece->bytes + piece->length));
}

/* Copy into the last piece, and into `fresh` ones when it is full. */
static void output_fill(struct numaperf__output *output, struct numaperf__piece *fresh,
                        const char *bytes, size_t length, struct numaperf__piece **out_fresh)
{
    while (length > 0) {
        size_t room = piece_room(output->last);
        if (room == 0) {
            struct numaperf__piece *piece = fresh;
            NUMAPERF_ASSERT(piece != NULL);
            fresh = piece->next;
            output_append(output, piece);
            continue;
        }
        size_t part = room < length ? room : length;
        struct numaperf__piece *piece = output->last;
        memcpy((char *)(uintptr_t)piece->bytes + piece->length, bytes, part);
        piece->length += part;
        bytes += part;
        length -= part;
    }
    *out_fresh = fresh;
}

int numaperf__output_copy(struct numaperf__output *output, const struct iovec *parts,
                          size_t part_count, size_t length)
{
    NUMAPERF_ASSERT(length > 0);
    size_t room = piece_room(output->last);
    struct numaperf__piece *fresh = NULL;
    if (room < length) {
        fresh = output_make_room(output, length - room);
        if (fresh == NULL)
            return -ENOMEM;
    }
    for (size_t i = 0; i < part_count; i++)
        output_fill(output, fresh, parts[i].iov_base, parts[i].iov_len, &fresh);
    NUMAPERF_ASSERT(fresh == NULL);
    output->bytes += length;
    return 0;
}

int numaperf__output_borrow(struct numaperf__output *output, const void *bytes, size_t length,
                            numaperf_written_fn done, void *data)
{
    NUMAPERF_ASSERT(length > 0);
    struct numaperf__piece *piece = piece_alloc(output, 0);
    if (piece == NULL)
        return -ENOMEM;
    piece->kind = PIECE_BORROWED;
    piece->bytes = bytes;
    piece->length = length;
    piece->borrowed.done = done;
    piece->borrowed.data = data;
    output_append(output, piece);
    output->bytes += length;
    return 0;
}

int numaperf__output_hold(struct numaperf__output *output, struct numaperf_buffer *buffer,
                          const void *bytes, size_t length)
{
    NUMAPERF_ASSERT(length > 0);
    struct numaperf__piece *piece = piece_alloc(output, 0);
    if (piece == NULL)
        return -ENOMEM;
    piece->kind = PIECE_HELD;
    piece->bytes = bytes;
    piece->length = length;
    piece->buffer = buffer;
    output_append(output, piece);
    output->bytes += length;
    return 0;
}

/* ---- send ---- */

void numaperf__output_front(const struct numaperf__output *output, uint32_t zero_copy_bytes,
                            struct iovec *parts, uint32_t max, struct numaperf__output_front *out)
{
    NUMAPERF_ASSERT(output->first != NULL && max > 0);
    *out = (struct numaperf__output_front){.zero_copy = NULL};
    for (struct numaperf__piece *piece = output->first; piece != NULL && out->part_count < max;
         piece = piece->next) {
        bool zero_copy = piece->kind != PIECE_COPY && piece->length >= zero_copy_bytes;
        if (zero_copy && out->part_count > 0)
            break; /* it goes by itself, next time */
        size_t left = FRONT_BYTES_MAX - out->length;
        size_t length = piece->length < left ? piece->length : left;
        parts[out->part_count++] =
            (struct iovec){.iov_base = (char *)(uintptr_t)piece->bytes, .iov_len = length};
        out->length += length;
        if (zero_copy)
            out->zero_copy = piece;
        if (zero_copy || length < piece->length)
            break;
    }
}

static void piece_gone(struct numaperf__output *output, numaperf_conn_t *conn,
                       struct numaperf__piece *piece, int status)
{
    NUMAPERF_ASSERT(piece->pins == 0);
    struct numaperf__piece gone = *piece;
    numaperf_arena_free(output->arena, piece);
    if (gone.kind == PIECE_HELD)
        numaperf__buffer_return(gone.buffer);
    else if (gone.kind == PIECE_BORROWED && gone.borrowed.done != NULL)
        gone.borrowed.done(conn, status, gone.borrowed.data);
}

static struct numaperf__piece *output_pop(struct numaperf__output *output)
{
    struct numaperf__piece *piece = output->first;
    output->first = piece->next;
    if (output->first == NULL)
        output->last = NULL;
    return piece;
}

void numaperf__output_sent(struct numaperf__output *output, numaperf_conn_t *conn, size_t length)
{
    NUMAPERF_ASSERT(length <= output->bytes);
    output->bytes -= length;
    /* What a `done` appends comes behind: the front is counted down by what was sent. */
    while (length > 0) {
        struct numaperf__piece *piece = output->first;
        size_t part = piece->length < length ? piece->length : length;
        piece->bytes += part;
        piece->length -= part;
        length -= part;
        if (piece->length > 0)
            break;
        (void)output_pop(output); /* it is `piece` */
        if (piece->pins == 0) {
            piece_gone(output, conn, piece, 0);
        } else {
            piece->next = output->aside;
            output->aside = piece;
        }
    }
}

void numaperf__piece_pin(struct numaperf__piece *piece)
{
    NUMAPERF_ASSERT(piece->kind != PIECE_COPY);
    piece->pins++;
}

void numaperf__output_unpin(struct numaperf__output *output, numaperf_conn_t *conn,
                            struct numaperf__piece *piece)
{
    NUMAPERF_ASSERT(piece->pins > 0);
    if (--piece->pins > 0 || piece->length > 0)
        return;
    struct numaperf__piece **at = &output->aside;
    while (*at != piece) {
        NUMAPERF_ASSERT(*at != NULL);
        at = &(*at)->next;
    }
    *at = piece->next;
    piece_gone(output, conn, piece, 0);
}

void numaperf__output_drop(struct numaperf__output *output, numaperf_conn_t *conn, int status)
{
    NUMAPERF_ASSERT(output->aside == NULL);
    while (output->first != NULL) {
        struct numaperf__piece *piece = output_pop(output);
        output->bytes -= piece->length;
        piece_gone(output, conn, piece, status);
    }
    NUMAPERF_ASSERT(output->bytes == 0);
}

void numaperf__output_validate(const struct numaperf__output *output)
{
    size_t bytes = 0;
    for (const struct numaperf__piece *piece = output->first; piece != NULL; piece = piece->next) {
        NUMAPERF_ASSERT(piece->length > 0);
        NUMAPERF_ASSERT(piece->next != NULL || piece == output->last);
        bytes += piece->length;
    }
    NUMAPERF_ASSERT(bytes == output->bytes);
    for (const struct numaperf__piece *piece = output->aside; piece != NULL; piece = piece->next)
        NUMAPERF_ASSERT(piece->length == 0 && piece->pins > 0);
}
