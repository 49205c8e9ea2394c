/* SPDX-License-Identifier: MIT */
/*
 * Copies a file: file_copy SOURCE TARGET. Four pieces are under way at a time, in buffers on the
 * thread's node that are registered with its ring. Without io_uring it is libuv's thread pool.
 */
#include <numaperf.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#define PIECE_BYTES ((size_t)256 * 1024)
#define PIECES 4

static numaperf_loop_t *loop;
static numaperf_file_t *files[2]; /* source, target */
static uint64_t next_offset, bytes_written;
static int pieces_left = PIECES;
static struct piece {
    char *buffer;
    uint64_t offset;
    int64_t length;
} pieces[PIECES];

/* A copy that fails ends the program: bytes that were not written must not go unnoticed. */
static void check(int64_t result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, numaperf_strerror((int)result));
        _Exit(EXIT_FAILURE);
    }
}

static void closed(numaperf_file_t *file, int64_t result, void *data)
{
    (void)file;
    (void)data;
    check(result, "close"); /* some file systems refuse bytes as late as that */
}

static void piece_moved(numaperf_file_t *file, int64_t result, void *data);

static void piece_begin(struct piece *piece)
{
    piece->offset = next_offset;
    next_offset += PIECE_BYTES;
    check(
        numaperf_file_read(files[0], piece->buffer, PIECE_BYTES, piece->offset, piece_moved, piece),
        "read");
}

static void piece_moved(numaperf_file_t *file, int64_t result, void *data)
{
    struct piece *piece = data;
    check(result, file == files[0] ? "read" : "write");
    if (file == files[1]) {
        check(result == piece->length ? 0 : UV_EIO, "write");
        bytes_written += (uint64_t)result;
        piece_begin(piece);
    } else if (result > 0) {
        piece->length = result;
        check(numaperf_file_write(files[1], piece->buffer, (size_t)result, piece->offset,
                                  piece_moved, piece),
              "write");
    } else { /* the end of the file */
        numaperf_file_buffer_free(loop, piece->buffer);
        for (int i = 0; pieces_left == 1 && i < 2; i++)
            check(numaperf_file_close(files[i], closed, NULL), "close");
        pieces_left--;
    }
}

static void opened(numaperf_file_t *file, int status, void *slot)
{
    check(status, slot == &files[0] ? "source" : "target");
    *(numaperf_file_t **)slot = file;
    for (int i = 0; files[0] != NULL && files[1] != NULL && i < PIECES; i++) {
        pieces[i].buffer = numaperf_file_buffer_alloc(loop, PIECE_BYTES);
        check(pieces[i].buffer != NULL ? 0 : UV_ENOMEM, "buffer");
        piece_begin(&pieces[i]);
    }
}

int main(int argc, char **argv)
{
    numaperf_file_open_config_t config = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    check(argc == 3 ? numaperf_loop_create(NULL, &loop) : UV_EINVAL, "file_copy SOURCE TARGET");
    config.path = argv[1];
    check(numaperf_file_open(loop, &config, opened, &files[0]), "source");
    config.path = argv[2];
    config.open_flags = O_WRONLY | O_CREAT | O_TRUNC;
    config.mode = 0666;
    check(numaperf_file_open(loop, &config, opened, &files[1]), "target");
    check(numaperf_loop_run(loop, UV_RUN_DEFAULT), "run");
    printf("%llu bytes by %s\n", (unsigned long long)bytes_written,
           numaperf_loop_backend(loop) == NUMAPERF_IO_URING ? "io_uring" : "the thread pool");
    return numaperf_loop_destroy(loop) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
