/* SPDX-License-Identifier: MIT */
/*
 * io-wq threads, found among the threads of this process: the kernel tells of them by their names
 * alone.
 *
 * A census keeps what it has read, in the order in which the kernel lists threads: by age, so that
 * what is known is met again in the same order and new ones come last. A number that ends and is
 * given to another thread between two refreshes, or a thread that had no name yet, would be taken
 * for what it was: every so many refreshes all names are read anew.
 *
 * Source: proc(5), "/proc/[pid]/task", "/proc/[pid]/comm".
 */
#include "io/iowq.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IOWQ_PREFIX "iou-wrk-"
#define IOWQ_ANEW_EVERY 16u /* refreshes */

void numaperf__iowq_own_name(char out[NUMAPERF__IOWQ_NAME_SIZE])
{
    char name[40];
    (void)snprintf(name, sizeof(name), IOWQ_PREFIX "%ld", syscall(SYS_gettid));
    memcpy(out, name, NUMAPERF__IOWQ_NAME_SIZE - 1); /* cut where the kernel cuts it */
    out[NUMAPERF__IOWQ_NAME_SIZE - 1] = '\0';
}

bool numaperf__iowq_name(int thread_id, char out[NUMAPERF__IOWQ_NAME_SIZE])
{
    char path[64];
    char name[32];
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/comm", thread_id);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false; /* it has ended */
    ssize_t length = read(fd, name, sizeof(name) - 1);
    (void)close(fd); /* was only read */
    if (length <= 0)
        return false;
    name[length] = '\0';
    name[strcspn(name, "\n")] = '\0';
    if (strncmp(name, IOWQ_PREFIX, strlen(IOWQ_PREFIX)) != 0)
        return false;
    (void)snprintf(out, NUMAPERF__IOWQ_NAME_SIZE, "%.*s", NUMAPERF__IOWQ_NAME_SIZE - 1, name);
    return true;
}

/* Make room for one more. */
static int census_grow(struct numaperf__iowq_census *census)
{
    if (census->count < census->capacity)
        return 0;
    size_t capacity = census->capacity == 0 ? 64 : 2 * census->capacity;
    struct numaperf__iowq_thread *threads =
        realloc(census->threads, capacity * sizeof(*census->threads));
    if (threads == NULL)
        return -ENOMEM;
    census->threads = threads;
    census->capacity = capacity;
    return 0;
}

/* One that is known is copied; `*io_known` is where the last one was found, so the next is near. */
static void census_name(const struct numaperf__iowq_census *known, size_t *io_known,
                        struct numaperf__iowq_thread *thread)
{
    for (size_t i = *io_known; i < known->count; i++) {
        if (known->threads[i].thread_id != thread->thread_id)
            continue;
        *thread = known->threads[i];
        *io_known = i + 1;
        return;
    }
    if (!numaperf__iowq_name(thread->thread_id, thread->name))
        thread->name[0] = '\0';
}

static int census_fill(struct numaperf__iowq_census *census,
                       const struct numaperf__iowq_census *known)
{
    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL)
        return -errno;
    int rc = 0;
    size_t at = 0;
    struct dirent *entry = NULL;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is this call's own */
    while (rc == 0 && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        rc = census_grow(census);
        if (rc < 0)
            break;
        struct numaperf__iowq_thread *thread = &census->threads[census->count++];
        memset(thread, 0, sizeof(*thread));
        thread->thread_id = (int32_t)strtol(entry->d_name, NULL, 10);
        census_name(known, &at, thread);
    }
    (void)closedir(dir); /* was only read */
    return rc;
}

int numaperf__iowq_refresh(struct numaperf__iowq_census *census)
{
    static const struct numaperf__iowq_census nothing;
    struct numaperf__iowq_census fresh = {.refresh_count = census->refresh_count + 1};
    bool anew = fresh.refresh_count % IOWQ_ANEW_EVERY == 0;
    int rc = census_fill(&fresh, anew ? &nothing : census);
    if (rc < 0) {
        free(fresh.threads);
        return rc;
    }
    free(census->threads);
    *census = fresh;
    return 0;
}

void numaperf__iowq_free(struct numaperf__iowq_census *census)
{
    free(census->threads);
    memset(census, 0, sizeof(*census));
}
