/* SPDX-License-Identifier: MIT */
/*
 * Every program is a child of the sample's process, which has one thread, and is killed with it. A
 * server has come up when a connection to its port is taken; one that ended before has failed.
 *
 * Source: prctl(2), PR_SET_PDEATHSIG.
 */
#include "program.h"

#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM_UP_NS 30000000000u
#define PROGRAM_UP_LOOK_NS 2000000u
#define PROGRAM_RUN_MS 60000
#define PROGRAM_OPEN_MAX 16

void program_add(struct program_line *line, const char *format, ...)
{
    size_t room = sizeof(line->text) - line->length;
    va_list values;
    va_start(values, format);
    int n = vsnprintf(line->text + line->length, room, format, values);
    va_end(values);
    if (n < 0 || (size_t)n >= room || line->count >= PROGRAM_ARGUMENTS_MAX) {
        line->count = PROGRAM_ARGUMENTS_MAX + 1; /* seen by who starts it */
        return;
    }
    line->arguments[line->count++] = line->text + line->length;
    line->length += (size_t)n + 1;
}

bool program_find(const char *name, char out_path[PATH_MAX])
{
    const char *folders[] = {"", "/usr/local/bin/", "/usr/bin/", "/usr/local/sbin/", "/usr/sbin/"};
    size_t first = name[0] == '/' ? 0 : 1;
    size_t last = name[0] == '/' ? 1 : sizeof(folders) / sizeof(folders[0]);
    for (size_t i = first; i < last; i++) {
        int n = snprintf(out_path, PATH_MAX, "%s%s", folders[i], name);
        if (n < PATH_MAX && access(out_path, X_OK) == 0)
            return true;
    }
    return false;
}

/* ---- folders and ports ---- */

int program_folder_make(char *out, size_t size)
{
    const char *base = getenv("TMPDIR"); /* NOLINT(concurrency-mt-unsafe): no other thread yet */
    int n = snprintf(out, size, "%s/numaperf-bench-XXXXXX", base != NULL ? base : "/tmp");
    if (n >= (int)size)
        return -ENAMETOOLONG;
    if (mkdtemp(out) == NULL)
        return -errno;
    /* A server that gives up root for a user of its own reads files there. */
    return chmod(out, 0755) < 0 ? -errno : 0;
}

static int program_remove_entry(const char *path, const struct stat *about, int kind,
                                struct FTW *where)
{
    (void)about;
    (void)kind;
    (void)where;
    (void)remove(path); /* what stays is in the way of nobody */
    return 0;
}

void program_folder_remove(const char *folder)
{
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread any more */
    (void)nftw(folder, program_remove_entry, PROGRAM_OPEN_MAX, FTW_DEPTH | FTW_PHYS);
}

static int program_socket(uint16_t port, struct sockaddr_in *out_address)
{
    *out_address = (struct sockaddr_in){.sin_family = AF_INET,
                                        .sin_port = htons(port),
                                        .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int program_port(void)
{
    struct sockaddr_in address;
    socklen_t length = sizeof(address);
    int fd = program_socket(0, &address);
    if (fd < 0)
        return fd;
    int rc = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
                     getsockname(fd, (struct sockaddr *)&address, &length) < 0
                 ? -errno
                 : ntohs(address.sin_port);
    (void)close(fd);
    return rc;
}

static bool program_answers(uint16_t port)
{
    struct sockaddr_in address;
    int fd = program_socket(port, &address);
    if (fd < 0)
        return false;
    bool taken = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
    (void)close(fd);
    return taken;
}

/* ---- running ---- */

/* In the child: on its PU, its output to `fd`. */
static _Noreturn void program_exec(const struct program_line *line, int cpu, int fd)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || bench_pin(cpu) < 0 || dup2(fd, STDOUT_FILENO) < 0 ||
        dup2(fd, STDERR_FILENO) < 0)
        _exit(127);
    (void)signal(SIGPIPE, SIG_DFL); /* as a shell starts it */
    execv(line->arguments[0], line->arguments);
    _exit(127);
}

static int program_fork(const struct program_line *line, int cpu, int fd)
{
    if (line->count == 0 || line->count > PROGRAM_ARGUMENTS_MAX)
        return -E2BIG;
    pid_t pid = fork();
    if (pid == 0)
        program_exec(line, cpu, fd);
    return pid < 0 ? -errno : pid;
}

void program_end(pid_t pid)
{
    (void)kill(pid, SIGKILL); /* it is ours, and not waited for yet */
    (void)waitpid(pid, NULL, 0);
}

/* What it said, for who wonders why it does not run. */
static void program_show(const char *path)
{
    char text[1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text));
    if (n > 0)
        (void)fwrite(text, 1, (size_t)n, stderr);
    if (fd >= 0)
        (void)close(fd);
}

int program_serve(const struct program_line *line, int cpu, const char *folder, uint16_t port)
{
    char path[PATH_MAX];
    (void)snprintf(path, sizeof(path), "%s/output", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    int pid = program_fork(line, cpu, fd);
    (void)close(fd);
    if (pid < 0)
        return pid;
    uint64_t limit_ns = bench_now_ns() + PROGRAM_UP_NS;
    while (!program_answers(port)) {
        if (waitpid(pid, NULL, WNOHANG) == pid) {
            program_show(path);
            return -ECHILD;
        }
        if (bench_now_ns() > limit_ns) {
            program_end(pid);
            program_show(path);
            return -ETIMEDOUT;
        }
        bench_sleep_ns(PROGRAM_UP_LOOK_NS);
    }
    return pid;
}

/* Until it closes its end; what does not fit is read and dropped. */
static int program_listen(int fd, char *out, size_t size)
{
    size_t length = 0;
    char rest[512];
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (poll(&ready, 1, PROGRAM_RUN_MS) == 0)
            return -ETIMEDOUT;
        bool fits = length + 1 < size;
        ssize_t n = fits ? read(fd, out + length, size - 1 - length) : read(fd, rest, sizeof(rest));
        if (n <= 0) {
            out[length] = '\0';
            return n < 0 ? -errno : 0;
        }
        length += fits ? (size_t)n : 0;
    }
}

int program_run(const struct program_line *line, int cpu, char *out, size_t size)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    int pid = program_fork(line, cpu, ends[1]);
    (void)close(ends[1]);
    int rc = pid < 0 ? pid : program_listen(ends[0], out, size);
    (void)close(ends[0]);
    if (pid < 0)
        return pid;
    if (rc < 0) {
        program_end(pid);
        return rc;
    }
    int status = 0;
    if (waitpid(pid, &status, 0) != pid)
        return -errno;
    return status == 0 ? 0 : -ECHILD;
}
