/* SPDX-License-Identifier: MIT */
/*
 * Loading: open beneath the root, look, read, look again, put into the cache. A file that was in
 * the cache and has not changed costs only the first look. The second one is against a file that
 * was written to meanwhile: half of one version and half of another would get the name of one.
 *
 * A directory is answered with a redirect, a file too large for the cache is streamed by each that
 * wants it.
 */
#include "load.h"

#include "reply.h"
#include "stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

struct load {
    struct load *next;
    struct http_worker *worker;
    struct http_conn *waiters;
    numaperf_file_t *file;
    struct entry *entry; /* being filled, one reference */
    struct statx look;
    struct path path;
};

/* ---- end ---- */

unsigned load_status(int code)
{
    switch (code) {
    case -ENOENT:
    case -ENOTDIR:
    case -ENAMETOOLONG:
    case -ELOOP:
    case -EXDEV: /* the kernel would not leave the root */
    case -ENXIO:
    case -ENODEV:
    case -ESPIPE: /* a pipe, a socket, a device */
        return 404;
    case -EACCES:
    case -EPERM:
        return 403;
    case -ENOMEM:
    case -EMFILE:
    case -ENFILE:
    case -EAGAIN:
    case -EBUSY:
        return 503;
    default:
        return 500;
    }
}

static void load_answer(struct load *load, struct http_conn *conn, unsigned status,
                        struct entry *entry)
{
    if (entry != NULL)
        reply_entry(conn, entry);
    else if (status == 301)
        reply_redirect(conn, &load->path);
    else if (status == 200)
        stream_begin(conn);
    else
        reply_status(conn, status);
    if (conn->stream == NULL)
        conn_answered(conn);
}

/* 200 with an entry, or without one when the file is to be streamed; else what failed. */
static void load_end(struct load *load, unsigned status, struct entry *entry)
{
    struct http_worker *worker = load->worker;
    struct load **link = &worker->loads;
    while (*link != load)
        link = &(*link)->next;
    *link = load->next;
    worker->load_count--;
    if (load->file != NULL)
        (void)numaperf_file_close(load->file, NULL, NULL); /* it was only read */
    if (status != 200)
        cache_forget(worker->cache, &load->path);
    /* An answer may close its own connection, and no other: the list holds. */
    while (load->waiters != NULL) {
        struct http_conn *conn = load->waiters;
        load->waiters = conn->next_waiter;
        conn->load = NULL;
        load_answer(load, conn, status, entry);
    }
    if (load->entry != NULL)
        entry_drop(load->entry);
    numaperf_arena_free(worker->arena, load);
}

/* ---- steps ---- */

static void load_looked_again(numaperf_file_t *file, int64_t result, void *data)
{
    (void)file;
    struct load *load = data;
    struct entry *entry = load->entry;
    if (result < 0 || !entry_is(entry, &load->look)) {
        load_end(load, 503, NULL); /* it is being written: try again */
        return;
    }
    http_count(&load->worker->counters.loads, 1);
    atomic_store_explicit(&entry->checked_ms, uv_now(load->worker->loop), memory_order_relaxed);
    cache_put(load->worker->cache, entry);
    load_end(load, 200, entry);
}

static void load_read(numaperf_file_t *file, int64_t result, void *data)
{
    struct load *load = data;
    if (result != (int64_t)load->entry->validator.size) {
        load_end(load, result < 0 ? load_status((int)result) : 503, NULL);
        return;
    }
    int rc = numaperf_file_stat(file, STATX_BASIC_STATS, &load->look, load_looked_again, load);
    if (rc < 0)
        load_end(load, load_status(rc), NULL);
}

/* The version that is in the cache is the one there is: use it again. */
static bool load_still_holds(struct load *load)
{
    struct http_worker *worker = load->worker;
    struct entry *entry = cache_get(worker->cache, &load->path);
    if (entry == NULL)
        return false;
    bool same = entry_is(entry, &load->look);
    if (same) {
        http_count(&worker->counters.checks, 1);
        atomic_store_explicit(&entry->checked_ms, uv_now(worker->loop), memory_order_relaxed);
        load_end(load, 200, entry);
    }
    entry_drop(entry);
    return same;
}

static void load_looked(numaperf_file_t *file, int64_t result, void *data)
{
    struct load *load = data;
    if (result < 0) {
        load_end(load, load_status((int)result), NULL);
        return;
    }
    if (!S_ISREG(load->look.stx_mode)) {
        load_end(load, S_ISDIR(load->look.stx_mode) ? 301 : 404, NULL);
        return;
    }
    if (load_still_holds(load))
        return;
    load->entry = entry_create(load->worker->arena, &load->path, &load->look);
    if (load->entry == NULL) {
        cache_forget(load->worker->cache, &load->path); /* an older version that was smaller */
        load_end(load, 200, NULL);
        return;
    }
    int rc = numaperf_file_read(file, load->entry->body, load->look.stx_size, 0, load_read, load);
    if (rc < 0)
        load_end(load, load_status(rc), NULL);
}

static void load_opened(numaperf_file_t *file, int status, void *data)
{
    struct load *load = data;
    if (status < 0) {
        load_end(load, load_status(status), NULL);
        return;
    }
    load->file = file;
    int rc = numaperf_file_stat(file, STATX_BASIC_STATS, &load->look, load_looked, load);
    if (rc < 0)
        load_end(load, load_status(rc), NULL);
}

/* ---- begin ---- */

static struct load *load_find(struct http_worker *worker, const struct path *path)
{
    struct load *load = worker->loads;
    while (load != NULL && (load->path.length != path->length ||
                            memcmp(load->path.text, path->text, path->length) != 0))
        load = load->next;
    return load;
}

static struct load *load_create(struct http_worker *worker, const struct path *path, int *out_rc)
{
    *out_rc = -ENOMEM;
    if (worker->load_count >= HTTP_LOADS_MAX)
        return NULL;
    struct load *load = numaperf_arena_alloc(worker->arena, sizeof(*load), 64);
    if (load == NULL)
        return NULL;
    memset(load, 0, sizeof(*load));
    load->worker = worker;
    load->path = *path;
    numaperf_file_open_config_t config = NUMAPERF_FILE_OPEN_CONFIG_INIT;
    config.flags = NUMAPERF_FILE_BENEATH;
    config.path = load->path.text;
    config.open_flags = O_RDONLY | O_NONBLOCK; /* a FIFO must not hold us */
    config.directory = worker->server->root_fd;
    config.has_directory = 1;
    *out_rc = numaperf_file_open(worker->io, &config, load_opened, load);
    if (*out_rc < 0) {
        numaperf_arena_free(worker->arena, load);
        return NULL;
    }
    load->next = worker->loads;
    worker->loads = load;
    worker->load_count++;
    return load;
}

unsigned load_begin(struct http_conn *conn)
{
    int rc = 0;
    struct load *load = load_find(conn->worker, &conn->path);
    if (load == NULL)
        load = load_create(conn->worker, &conn->path, &rc);
    if (load == NULL)
        return load_status(rc);
    conn->load = load;
    conn->next_waiter = load->waiters;
    load->waiters = conn;
    return 0;
}

void load_leave(struct http_conn *conn)
{
    if (conn->load == NULL)
        return;
    struct http_conn **link = &conn->load->waiters;
    while (*link != conn)
        link = &(*link)->next_waiter;
    *link = conn->next_waiter;
    conn->load = NULL;
}
