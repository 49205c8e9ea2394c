/* SPDX-License-Identifier: MIT */
/*
 * Source: migrate_pages(2), move_pages(2), sched_setaffinity(2), unix(7).
 */
#include "support/outsider.h"

#include "support/clock.h"

#include <numaperf/cpuset.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define UNDO_MAX 8
#define PAGES_MAX 64

enum verb { VERB_WRITE, VERB_SET_AFFINITY, VERB_MIGRATE_PAGES, VERB_MOVE_PAGES };

struct request {
    enum verb verb;
    pid_t pid;
    int thread_id;
    int from_node;
    int to_node;
    unsigned count;
    uintptr_t address;
    char path[192];
    char text[128];
};

struct answer {
    int result;
    uint64_t done_ns;
};

/* What a file said before it was first written to. */
struct undo {
    char path[192];
    char text[128];
};

/* ---- the other process ---- */

static int do_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t n = write(fd, text, strlen(text));
    int rc = n < 0 ? -errno : 0;
    (void)close(fd);
    return rc;
}

static void remember(struct undo *undo, unsigned *io_count, const char *path)
{
    for (unsigned i = 0; i < *io_count; i++) {
        if (strcmp(undo[i].path, path) == 0)
            return;
    }
    int fd = *io_count < UNDO_MAX ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    struct undo *entry = &undo[*io_count];
    ssize_t n = read(fd, entry->text, sizeof(entry->text) - 1);
    (void)close(fd);
    if (n <= 0)
        return;
    entry->text[n] = '\0';
    (void)snprintf(entry->path, sizeof(entry->path), "%s", path);
    (*io_count)++;
}

static int do_set_affinity(const struct request *request)
{
    numaperf_cpuset_t list;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    if (numaperf_cpuset_parse(request->text, &list) < 0)
        return -EINVAL;
    for (int cpu = numaperf_cpuset_next(&list, -1); cpu >= 0 && cpu < CPU_SETSIZE;
         cpu = numaperf_cpuset_next(&list, cpu))
        CPU_SET((size_t)cpu, &cpus);
    return sched_setaffinity(request->thread_id, sizeof(cpus), &cpus) == 0 ? 0 : -errno;
}

static int do_migrate_pages(const struct request *request)
{
    unsigned long from = 1ul << request->from_node;
    unsigned long to = 1ul << request->to_node;
    /* One bit fewer is read than is said. */
    long rc = syscall(SYS_migrate_pages, request->pid, 8 * sizeof(from) + 1, &from, &to);
    return rc < 0 ? -errno : 0;
}

static int do_move_pages(const struct request *request)
{
    void *pages[PAGES_MAX];
    int nodes[PAGES_MAX];
    int status[PAGES_MAX];
    int moved = 0;
    if (request->count > PAGES_MAX)
        return -EINVAL;
    for (unsigned i = 0; i < request->count; i++) {
        pages[i] = (void *)(request->address + i * (uintptr_t)sysconf(_SC_PAGESIZE));
        nodes[i] = request->to_node;
        status[i] = -1;
    }
    if (syscall(SYS_move_pages, request->pid, (unsigned long)request->count, pages, nodes, status,
                MPOL_MF_MOVE) < 0)
        return -errno;
    for (unsigned i = 0; i < request->count; i++)
        moved += status[i] == request->to_node;
    return moved;
}

static int perform(const struct request *request)
{
    switch (request->verb) {
    case VERB_WRITE:
        return do_write(request->path, request->text);
    case VERB_SET_AFFINITY:
        return do_set_affinity(request);
    case VERB_MIGRATE_PAGES:
        return do_migrate_pages(request);
    case VERB_MOVE_PAGES:
    default:
        return do_move_pages(request);
    }
}

static _Noreturn void serve(int fd)
{
    struct undo undo[UNDO_MAX];
    unsigned undo_count = 0;
    struct request request;
    int failed = 0;
    while (read(fd, &request, sizeof(request)) == (ssize_t)sizeof(request)) {
        if (request.verb == VERB_WRITE)
            remember(undo, &undo_count, request.path);
        struct answer answer = {.result = perform(&request)};
        answer.done_ns = test_now_ns();
        if (write(fd, &answer, sizeof(answer)) != (ssize_t)sizeof(answer))
            break;
    }
    while (undo_count-- > 0) {
        int rc = do_write(undo[undo_count].path, undo[undo_count].text);
        failed |= rc < 0 && rc != -ENOENT; /* a group that is gone needs nothing */
    }
    _exit(failed);
}

/* ---- this process ---- */

bool outsider_open(struct outsider *outsider)
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
        return false;
    outsider->pid = fork();
    if (outsider->pid == 0) {
        (void)close(fds[0]);
        serve(fds[1]);
    }
    (void)close(fds[1]);
    outsider->fd = fds[0];
    outsider->done_ns = 0;
    return outsider->pid > 0;
}

bool outsider_close(struct outsider *outsider)
{
    int status = 0;
    (void)close(outsider->fd);
    return waitpid(outsider->pid, &status, 0) == outsider->pid && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static int ask(struct outsider *outsider, struct request *request)
{
    struct answer answer;
    request->pid = getpid();
    if (write(outsider->fd, request, sizeof(*request)) != (ssize_t)sizeof(*request) ||
        read(outsider->fd, &answer, sizeof(answer)) != (ssize_t)sizeof(answer))
        return -EPIPE;
    outsider->done_ns = answer.done_ns;
    return answer.result;
}

int outsider_write(struct outsider *outsider, const char *path, const char *text)
{
    struct request request = {.verb = VERB_WRITE};
    (void)snprintf(request.path, sizeof(request.path), "%s", path);
    (void)snprintf(request.text, sizeof(request.text), "%s", text);
    return ask(outsider, &request);
}

int outsider_set_affinity(struct outsider *outsider, int thread_id, const char *cpus)
{
    struct request request = {.verb = VERB_SET_AFFINITY, .thread_id = thread_id};
    (void)snprintf(request.text, sizeof(request.text), "%s", cpus);
    return ask(outsider, &request);
}

int outsider_migrate_pages(struct outsider *outsider, int from_node, int to_node)
{
    struct request request = {
        .verb = VERB_MIGRATE_PAGES, .from_node = from_node, .to_node = to_node};
    return ask(outsider, &request);
}

int outsider_move_pages(struct outsider *outsider, uintptr_t address, unsigned count, int node)
{
    struct request request = {
        .verb = VERB_MOVE_PAGES, .address = address, .count = count, .to_node = node};
    return ask(outsider, &request);
}
