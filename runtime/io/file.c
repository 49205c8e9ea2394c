/* SPDX-License-Identifier: MIT */
/*
 * Files: what callers ask for is checked and begun here; file_op.c carries it through.
 *
 *   OPENING --opened--> IS_OPEN --close--> ENDING --nothing in flight--> CLOSING --> gone
 *      +-----refused-----------------------------------------------------------------^
 *
 * Invariants: a file is in its loop's list from its first operation to its last callback; the
 * record that opened it closes it, so that a close needs no memory. A loop that ends waits for what
 * is in flight, save for opens, which it cancels, and closes what is left.
 *
 * A file has a position to read and write at: what has none (pipe, socket, terminal) is refused
 * with -ESPIPE, as pread(2) would, and belongs to net.h or to libuv.
 *
 * Thread rule: the loop's thread.
 *
 * Source: openat2(2), pread(2), lseek(2).
 */
#include "io/file.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILE_OPEN_CONFIG_MIN_SIZE 32u /* the first release's */
#define FILE_PARTS_MAX 1024u          /* IOV_MAX of the kernel */
#define FILE_MODE_MAX 07777u
#define FILE_O_TMPFILE ((uint32_t)O_TMPFILE & ~(uint32_t)O_DIRECTORY)
#define FILE_OFFSET_MAX ((uint64_t)INT64_MAX)

_Static_assert(sizeof(numaperf_file_open_config_t) == 32, "public struct: append only");
_Static_assert(offsetof(numaperf_file_open_config_t, path) == 8, "public struct: append only");
_Static_assert(offsetof(numaperf_file_open_config_t, open_flags) == 16,
               "public struct: append only");
_Static_assert(offsetof(numaperf_file_open_config_t, directory) == 24,
               "public struct: append only");

/* What the arena has told. */
static int file_no_memory(void)
{
    int code = numaperf_last_error()->code;
    return code < 0 ? code : -ENOMEM;
}

/* ---- the files of a loop ---- */

static struct numaperf__files *files_of(struct numaperf__loop_tenant *tenant)
{
    return NUMAPERF_CONTAINER_OF(tenant, struct numaperf__files, tenant);
}

static struct numaperf_file *file_at(struct numaperf__list *link)
{
    return NUMAPERF_CONTAINER_OF(link, struct numaperf_file, link);
}

/* Opens may wait for ever, for a server or for the other end of a FIFO. */
static void files_cancel_opens(struct numaperf__loop_tenant *tenant)
{
    struct numaperf__files *files = files_of(tenant);
    for (struct numaperf__list *i = files->list.next; i != &files->list; i = i->next) {
        struct numaperf_file *file = file_at(i);
        if (file->state != NUMAPERF__FILE_OPENING || !file->boundary->is_in_ring)
            continue;
        int rc = numaperf__ring_cancel(numaperf__loop_ring(files->loop), &file->boundary->via.ring);
        if (rc < 0) /* no room for it: in the next turn */
            numaperf__loop_mark_dirty(files->loop, tenant);
    }
}

static void files_close(struct numaperf__loop_tenant *tenant)
{
    struct numaperf__files *files = files_of(tenant);
    files->is_closing = true;
    files_cancel_opens(tenant);
    for (struct numaperf__list *i = files->list.next; i != &files->list; i = i->next) {
        struct numaperf_file *file = file_at(i);
        if (file->state != NUMAPERF__FILE_IS_OPEN)
            continue;
        file->boundary->done = NULL; /* nobody asked for it */
        file->state = NUMAPERF__FILE_ENDING;
        numaperf__file_settle(file);
    }
}

static bool files_are_closed(const struct numaperf__loop_tenant *tenant)
{
    const struct numaperf__files *files =
        NUMAPERF_CONTAINER_OF(tenant, const struct numaperf__files, tenant);
    return numaperf__list_empty(&files->list);
}

static bool files_are_busy(const struct numaperf__loop_tenant *tenant)
{
    return !files_are_closed(tenant);
}

static void files_destroy(struct numaperf__loop_tenant *tenant)
{
    struct numaperf__files *files = files_of(tenant);
    NUMAPERF_ASSERT(files->in_flight == 0 && files->in_pool == 0 && files->waiting == NULL);
    while (files->free_ops != NULL) {
        struct numaperf__file_op *op = files->free_ops;
        files->free_ops = op->next;
        numaperf_arena_free(files->arena, op);
    }
    numaperf__file_buffers_free_all(files);
    numaperf_arena_free(files->arena, files);
}

static int files_create(numaperf_loop_t *loop, struct numaperf__files **out)
{
    numaperf_arena_t *arena = numaperf__loop_need_arena(loop);
    struct numaperf__files *files =
        arena != NULL ? numaperf_arena_alloc(arena, sizeof(*files), 0) : NULL;
    if (files == NULL)
        return file_no_memory();
    *files = (struct numaperf__files){.tenant = {.turn = files_cancel_opens,
                                                 .close = files_close,
                                                 .is_closed = files_are_closed,
                                                 .is_busy = files_are_busy,
                                                 .destroy = files_destroy,
                                                 .is_passive = true},
                                      .loop = loop,
                                      .arena = arena,
                                      .has_ring = numaperf__loop_ring(loop) != NULL};
    numaperf__list_init(&files->list);
    files->waiting_end = &files->waiting;
    int rc = numaperf__loop_set_tenant(loop, NUMAPERF__LOOP_FILES, &files->tenant);
    if (rc < 0) {
        numaperf_arena_free(arena, files);
        return rc;
    }
    *out = files;
    return 0;
}

int numaperf__files_need(numaperf_loop_t *loop, struct numaperf__files **out)
{
    if (loop == NULL)
        return numaperf__fail(-EINVAL, 0, "file", "loop must not be NULL");
    int rc = numaperf__loop_enter(loop);
    if (rc < 0)
        return rc;
    struct numaperf__loop_tenant *tenant = numaperf__loop_get_tenant(loop, NUMAPERF__LOOP_FILES);
    if (tenant == NULL)
        return files_create(loop, out);
    if (files_of(tenant)->is_closing)
        return numaperf__fail(NUMAPERF_E_STOPPING, 0, "file", "the loop is being closed");
    *out = files_of(tenant);
    return 0;
}

/* ---- open ---- */

/* A file that is in no list yet, with the record that will close it. */
static struct numaperf_file *file_create(struct numaperf__files *files, int fd)
{
    NUMAPERF_ASSERT(files != NULL);
    struct numaperf_file *file = numaperf_arena_alloc(files->arena, sizeof(*file), 0);
    if (file == NULL)
        return NULL;
    *file = (struct numaperf_file){.files = files, .fd = fd, .state = NUMAPERF__FILE_OPENING};
    file->boundary = numaperf__file_take(file, NUMAPERF__FILE_OPEN);
    if (file->boundary == NULL) {
        numaperf_arena_free(files->arena, file);
        return NULL;
    }
    return file;
}

static void file_destroy(struct numaperf_file *file)
{
    NUMAPERF_ASSERT(file->in_flight == 0);
    numaperf__file_give(file->boundary);
    numaperf_arena_free(file->files->arena, file);
}

static int file_open_check(const numaperf_file_open_config_t *cfg)
{
    if ((cfg->flags & ~(uint32_t)NUMAPERF_FILE_BENEATH) != 0)
        return numaperf__fail(-EINVAL, 0, "file_open", "flags %#x: only BENEATH is known",
                              cfg->flags);
    if (cfg->path == NULL)
        return numaperf__fail(-EINVAL, 0, "file_open", "path must not be NULL");
    if ((cfg->open_flags & O_PATH) != 0)
        return numaperf__fail(-EINVAL, 0, "file_open",
                              "open_flags: O_PATH opens nothing to read or write");
    if (cfg->mode > FILE_MODE_MAX)
        return numaperf__fail(-EINVAL, 0, "file_open", "mode %#o is above %#o", cfg->mode,
                              FILE_MODE_MAX);
    if (cfg->has_directory > 1)
        return numaperf__fail(-EINVAL, 0, "file_open", "has_directory %u is neither 0 nor 1",
                              cfg->has_directory);
    if (cfg->has_directory == 1 && cfg->directory < 0)
        return numaperf__fail(-EBADF, 0, "file_open", "directory %d is no descriptor",
                              cfg->directory);
    if (strnlen(cfg->path, PATH_MAX) == PATH_MAX)
        return numaperf__fail(-ENAMETOOLONG, 0, "file_open", "path has %d bytes or more", PATH_MAX);
    return 0;
}

/*
 * Nobody is to wait for the other end of a FIFO, which is refused afterwards anyway. A ring opens
 * with O_NONBLOCK by itself where it can at once, and on request where it cannot; asked for it in
 * the first case it would give up on a path that is not in the cache.
 */
static struct open_how file_open_how(const numaperf_file_open_config_t *cfg)
{
    uint32_t flags = ((uint32_t)cfg->open_flags & ~(uint32_t)O_NONBLOCK) | O_CLOEXEC;
    if ((flags & (O_CREAT | O_TRUNC | FILE_O_TMPFILE)) != 0)
        flags |= O_NONBLOCK;
    struct open_how how = {.flags = flags};
    if ((flags & (O_CREAT | FILE_O_TMPFILE)) != 0)
        how.mode = cfg->mode; /* elsewhere openat2(2) refuses it */
    if ((cfg->flags & NUMAPERF_FILE_BENEATH) != 0)
        how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    return how;
}

int numaperf_file_open(numaperf_loop_t *loop, const numaperf_file_open_config_t *config,
                       numaperf_file_open_fn opened, void *data)
{
    if (config == NULL || opened == NULL)
        return numaperf__fail(-EINVAL, 0, "file_open", "config and opened must not be NULL");
    numaperf_file_open_config_t cfg;
    int rc =
        numaperf__config_load(&cfg, sizeof(cfg), FILE_OPEN_CONFIG_MIN_SIZE, config, "file_open");
    if (rc == 0)
        rc = file_open_check(&cfg);
    struct numaperf__files *files = NULL;
    if (rc == 0)
        rc = numaperf__files_need(loop, &files);
    if (rc < 0)
        return rc;

    struct numaperf_file *file = file_create(files, -1);
    if (file == NULL)
        return file_no_memory();
    struct numaperf__file_op *op = file->boundary;
    size_t path_size = strlen(cfg.path) + 1;
    op->owned = numaperf_arena_alloc(files->arena, path_size, 0);
    if (op->owned == NULL) {
        rc = file_no_memory();
        file_destroy(file);
        return rc;
    }
    memcpy(op->owned, cfg.path, path_size);
    op->buffer = op->owned;
    op->fd = cfg.has_directory != 0 ? cfg.directory : AT_FDCWD;
    op->how = file_open_how(&cfg);
    op->opened = opened;
    op->data = data;
    numaperf__list_push_back(&files->list, &file->link);
    numaperf__file_begin(op);
    return 0;
}

/* Whether there is a position to read and write at; 0 or -errno. */
static int file_check_position(int fd)
{
    return lseek(fd, 0, SEEK_CUR) < 0 ? -errno : 0;
}

/* What an open that has ended comes to: the descriptor, or -errno. */
static int file_open_result(const struct numaperf__file_op *op)
{
    int fd = (int)op->result;
    if (fd < 0)
        return fd;
    int rc = op->file->files->is_closing ? -ECANCELED : file_check_position(fd);
    if (rc < 0) {
        (void)close(fd); /* nothing was written to it */
        return rc;
    }
    /* It was opened with O_NONBLOCK, perhaps: reads would be refused that have to wait for the
     * disk. */
    int flags = fcntl(fd, F_GETFL);
    if ((flags & O_NONBLOCK) != 0)
        (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK); /* an open file takes both */
    return fd;
}

void numaperf__file_opened(struct numaperf__file_op *op)
{
    struct numaperf_file *file = op->file;
    NUMAPERF_ASSERT(file->state == NUMAPERF__FILE_OPENING && op == file->boundary);
    numaperf_file_open_fn opened = op->opened;
    void *data = op->data;
    int fd = file_open_result(op);
    numaperf_arena_free(file->files->arena, op->owned);
    op->owned = NULL;
    if (fd < 0) {
        numaperf__list_remove(&file->link);
        file_destroy(file);
        opened(NULL, fd, data);
        return;
    }
    file->fd = fd;
    file->state = NUMAPERF__FILE_IS_OPEN;
    opened(file, 0, data);
}

int numaperf_file_adopt(numaperf_loop_t *loop, int fd, numaperf_file_t **out)
{
    if (out == NULL)
        return numaperf__fail(-EINVAL, 0, "file_adopt", "out must not be NULL");
    int rc = file_check_position(fd);
    if (rc == -ESPIPE)
        return numaperf__fail(rc, -rc, "file_adopt",
                              "fd %d is a pipe, a socket or a device without a position", fd);
    if (rc < 0)
        return numaperf__fail(rc, -rc, "file_adopt", "fd %d is not open for reading or writing",
                              fd);
    struct numaperf__files *files = NULL;
    rc = numaperf__files_need(loop, &files);
    if (rc < 0)
        return rc;
    struct numaperf_file *file = file_create(files, fd);
    if (file == NULL)
        return file_no_memory();
    file->state = NUMAPERF__FILE_IS_OPEN;
    numaperf__list_push_back(&files->list, &file->link);
    *out = file;
    return 0;
}

/* ---- operate ---- */

/* A record for one more operation, with its callback. */
static int file_ask(struct numaperf_file *file, enum numaperf__file_kind kind,
                    numaperf_file_fn done, void *data, struct numaperf__file_op **out)
{
    static const char *const names[] = {
        [NUMAPERF__FILE_READ] = "file_read",         [NUMAPERF__FILE_WRITE] = "file_write",
        [NUMAPERF__FILE_READV] = "file_readv",       [NUMAPERF__FILE_WRITEV] = "file_writev",
        [NUMAPERF__FILE_SYNC] = "file_sync",         [NUMAPERF__FILE_DATASYNC] = "file_datasync",
        [NUMAPERF__FILE_ALLOCATE] = "file_allocate", [NUMAPERF__FILE_STAT] = "file_stat"};
    if (file == NULL || done == NULL)
        return numaperf__fail(-EINVAL, 0, names[kind], "file and done must not be NULL");
    if (file->files->is_closing)
        return numaperf__fail(NUMAPERF_E_STOPPING, 0, names[kind], "the loop is being closed");
    if (file->state != NUMAPERF__FILE_IS_OPEN)
        return numaperf__fail(-EBADF, 0, names[kind], "the file is closing");
    if (file->files->in_flight >= NUMAPERF_FILE_IN_FLIGHT_MAX)
        return -EAGAIN;
    struct numaperf__file_op *op = numaperf__file_take(file, kind);
    if (op == NULL)
        return file_no_memory();
    op->done = done;
    op->data = data;
    *out = op;
    return 0;
}

static int file_check_range(uint64_t offset, uint64_t length, const char *operation)
{
    if (offset > FILE_OFFSET_MAX || length > FILE_OFFSET_MAX - offset)
        return numaperf__fail(-EINVAL, 0, operation,
                              "offset %llu and length %llu: no file is that long",
                              (unsigned long long)offset, (unsigned long long)length);
    return 0;
}

struct file_span {
    void *bytes;
    uint64_t length;
    uint64_t offset;
};

static int file_move(struct numaperf_file *file, enum numaperf__file_kind kind,
                     const struct file_span *span, numaperf_file_fn done, void *data)
{
    const char *operation = kind == NUMAPERF__FILE_READ ? "file_read" : "file_write";
    if (span->bytes == NULL && span->length > 0)
        return numaperf__fail(-EINVAL, 0, operation, "buffer must not be NULL");
    int rc = file_check_range(span->offset, span->length, operation);
    if (rc < 0)
        return rc;
    struct numaperf__file_op *op = NULL;
    rc = file_ask(file, kind, done, data, &op);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(op != NULL);
    op->buffer = span->bytes;
    op->length = span->length;
    op->offset = span->offset;
    op->slot = numaperf__file_buffers_find(file->files, span->bytes, span->length);
    numaperf__file_begin(op);
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): pread(2)'s arguments and a callback */
int numaperf_file_read(numaperf_file_t *file, void *buffer, size_t length, uint64_t offset,
                       numaperf_file_fn done, void *data)
{
    const struct file_span span = {.bytes = buffer, .length = length, .offset = offset};
    return file_move(file, NUMAPERF__FILE_READ, &span, done, data);
}

/* NOLINTNEXTLINE(readability-function-size): pread(2)'s arguments and a callback */
int numaperf_file_write(numaperf_file_t *file, const void *buffer, size_t length, uint64_t offset,
                        numaperf_file_fn done, void *data)
{
    /* A write only reads from it. */
    const struct file_span span = {.bytes = (void *)buffer, .length = length, .offset = offset};
    return file_move(file, NUMAPERF__FILE_WRITE, &span, done, data);
}

struct file_parts {
    const struct iovec *first;
    size_t count;
    uint64_t offset;
};

static int file_check_parts(const struct file_parts *parts, const char *operation)
{
    if (parts->first == NULL)
        return numaperf__fail(-EINVAL, 0, operation, "parts must not be NULL");
    if (parts->count == 0 || parts->count > FILE_PARTS_MAX)
        return numaperf__fail(-EINVAL, 0, operation, "part_count %zu is not 1 to %u", parts->count,
                              FILE_PARTS_MAX);
    uint64_t length = 0;
    for (size_t i = 0; i < parts->count; i++) {
        const struct iovec *part = &parts->first[i];
        if (part->iov_base == NULL && part->iov_len > 0)
            return numaperf__fail(-EINVAL, 0, operation, "part %zu has length but no memory", i);
        if (part->iov_len > FILE_OFFSET_MAX - length)
            return numaperf__fail(-EINVAL, 0, operation, "parts: no file is that long");
        length += part->iov_len;
    }
    return file_check_range(parts->offset, length, operation);
}

static int file_move_parts(struct numaperf_file *file, enum numaperf__file_kind kind,
                           const struct file_parts *parts, numaperf_file_fn done, void *data)
{
    int rc = file_check_parts(parts, kind == NUMAPERF__FILE_READV ? "file_readv" : "file_writev");
    if (rc < 0)
        return rc;
    struct numaperf__file_op *op = NULL;
    rc = file_ask(file, kind, done, data, &op);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(op != NULL);
    size_t bytes = parts->count * sizeof(*parts->first);
    op->owned = numaperf_arena_alloc(file->files->arena, bytes, 0);
    if (op->owned == NULL) {
        numaperf__file_give(op);
        return file_no_memory();
    }
    memcpy(op->owned, parts->first, bytes);
    op->buffer = op->owned;
    op->length = parts->count;
    op->offset = parts->offset;
    numaperf__file_begin(op);
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): pread(2)'s arguments and a callback */
int numaperf_file_readv(numaperf_file_t *file, const struct iovec *parts, size_t part_count,
                        uint64_t offset, numaperf_file_fn done, void *data)
{
    const struct file_parts all = {.first = parts, .count = part_count, .offset = offset};
    return file_move_parts(file, NUMAPERF__FILE_READV, &all, done, data);
}

/* NOLINTNEXTLINE(readability-function-size): pread(2)'s arguments and a callback */
int numaperf_file_writev(numaperf_file_t *file, const struct iovec *parts, size_t part_count,
                         uint64_t offset, numaperf_file_fn done, void *data)
{
    const struct file_parts all = {.first = parts, .count = part_count, .offset = offset};
    return file_move_parts(file, NUMAPERF__FILE_WRITEV, &all, done, data);
}

static int file_begin_plain(struct numaperf_file *file, enum numaperf__file_kind kind,
                            numaperf_file_fn done, void *data)
{
    struct numaperf__file_op *op = NULL;
    int rc = file_ask(file, kind, done, data, &op);
    if (rc == 0)
        numaperf__file_begin(op);
    return rc;
}

int numaperf_file_sync(numaperf_file_t *file, numaperf_file_fn done, void *data)
{
    return file_begin_plain(file, NUMAPERF__FILE_SYNC, done, data);
}

int numaperf_file_datasync(numaperf_file_t *file, numaperf_file_fn done, void *data)
{
    return file_begin_plain(file, NUMAPERF__FILE_DATASYNC, done, data);
}

/* NOLINTNEXTLINE(readability-function-size): pread(2)'s arguments and a callback */
int numaperf_file_allocate(numaperf_file_t *file, int mode, uint64_t offset, uint64_t length,
                           numaperf_file_fn done, void *data)
{
    if (mode < 0 || length == 0)
        return numaperf__fail(-EINVAL, 0, "file_allocate", "mode %d is negative, or length is 0",
                              mode);
    int rc = file_check_range(offset, length, "file_allocate");
    if (rc < 0)
        return rc;
    struct numaperf__file_op *op = NULL;
    rc = file_ask(file, NUMAPERF__FILE_ALLOCATE, done, data, &op);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(op != NULL);
    op->flags = (uint32_t)mode;
    op->offset = offset;
    op->length = length;
    numaperf__file_begin(op);
    return 0;
}

int numaperf_file_stat(numaperf_file_t *file, uint32_t mask, struct statx *out,
                       numaperf_file_fn done, void *data)
{
    if (out == NULL)
        return numaperf__fail(-EINVAL, 0, "file_stat", "out must not be NULL");
    if ((mask & (uint32_t)STATX__RESERVED) != 0)
        return numaperf__fail(-EINVAL, 0, "file_stat", "mask %#x has the reserved bit", mask);
    struct numaperf__file_op *op = NULL;
    int rc = file_ask(file, NUMAPERF__FILE_STAT, done, data, &op);
    if (rc < 0)
        return rc;
    NUMAPERF_ASSERT(op != NULL);
    op->flags = mask;
    op->buffer = out;
    numaperf__file_begin(op);
    return 0;
}

/* ---- close ---- */

void numaperf__file_settle(struct numaperf_file *file)
{
    if (file->state != NUMAPERF__FILE_ENDING || file->in_flight > 0)
        return;
    struct numaperf__file_op *op = file->boundary;
    file->state = NUMAPERF__FILE_CLOSING;
    op->kind = NUMAPERF__FILE_CLOSE;
    op->fd = file->fd;
    numaperf__file_begin(op);
}

int numaperf_file_close(numaperf_file_t *file, numaperf_file_fn done, void *data)
{
    if (file == NULL)
        return numaperf__fail(-EINVAL, 0, "file_close", "file must not be NULL");
    if (file->state != NUMAPERF__FILE_IS_OPEN)
        return numaperf__fail(-EBADF, 0, "file_close", "the file is closing already");
    file->boundary->done = done;
    file->boundary->data = data;
    file->state = NUMAPERF__FILE_ENDING;
    numaperf__file_settle(file);
    return 0;
}

void numaperf__file_closed(struct numaperf__file_op *op)
{
    struct numaperf_file *file = op->file;
    NUMAPERF_ASSERT(file->state == NUMAPERF__FILE_CLOSING && op == file->boundary);
    file->fd = -1;
    numaperf__list_remove(&file->link);
    if (op->done != NULL)
        op->done(file, op->result, op->data);
    file_destroy(file);
}

/* ---- facts ---- */

int numaperf_file_fd(const numaperf_file_t *file)
{
    if (file == NULL)
        return numaperf__fail(-EINVAL, 0, "file_fd", "file must not be NULL");
    return file->fd;
}
