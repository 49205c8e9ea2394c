/* SPDX-License-Identifier: MIT */
/*
 * A server that replaces itself without refusing a connection: on SIGHUP it starts itself anew with
 * its listening descriptors, waits until the new process accepts, closes its listener and ends when
 * its last connection has. It answers HTTP (GET) and RESP (PING), for test_net_restart.py.
 *
 *   restart_server ring|epoll [PORT | fds FD...]
 *
 * Says "ready PID PORT" on standard output once it accepts, "over PID RESET" when it ends. SIGTERM
 * stops it. Exits 77 where there is no ring.
 */
#include <numaperf/error.h>
#include <numaperf/net.h>
#include <numaperf/runtime.h>

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUEST_MAX 4096
#define FDS_MAX 256
#define GRACE_NS 60000000000u

extern char **environ;

static const char http_answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n";
static const char resp_answer[] = "+PONG\r\n";
static const char resp_error[] = "-ERR not known\r\n";

/* ---- requests ---- */

struct request {
    char bytes[REQUEST_MAX];
    size_t length;
};

/* Length of the line at `from`, its end included; 0: not all of it is there. */
static size_t line_length(const char *from, size_t length)
{
    const char *end = memchr(from, '\n', length);
    return end != NULL ? (size_t)(end - from) + 1 : 0;
}

/* The array of strings at the front, 0 when it is not complete. */
static size_t resp_length(const char *bytes, size_t length)
{
    size_t used = line_length(bytes, length);
    long count = used > 0 ? strtol(bytes + 1, NULL, 10) : 0;
    for (long i = 0; i < count; i++) {
        size_t head = line_length(bytes + used, length - used);
        if (head == 0)
            return 0;
        long body = strtol(bytes + used + 1, NULL, 10) + 2;
        used += head + (size_t)(body > 0 ? body : 2);
        if (used > length)
            return 0;
    }
    return used;
}

/* Bytes of the first request and its answer; 0 when it is not complete. */
static size_t request_first(const char *bytes, size_t length, const char **out_answer)
{
    if (bytes[0] == 'G') {
        const char *end = memmem(bytes, length, "\r\n\r\n", 4);
        *out_answer = http_answer;
        return end != NULL ? (size_t)(end - bytes) + 4 : 0;
    }
    size_t used = bytes[0] == '*' ? resp_length(bytes, length) : line_length(bytes, length);
    *out_answer = used > 0 && memmem(bytes, used, "PING", 4) != NULL ? resp_answer : resp_error;
    return used;
}

static int server_open(numaperf_conn_t *conn, void *data)
{
    (void)data;
    struct request *request = calloc(1, sizeof(*request));
    if (request == NULL)
        return -ENOMEM;
    numaperf_conn_set_data(conn, request);
    return 0;
}

static void server_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    struct request *request = data;
    if (length > sizeof(request->bytes) - request->length) {
        numaperf_conn_close(conn, -EMSGSIZE);
        return;
    }
    memcpy(request->bytes + request->length, bytes, length);
    request->length += length;
    size_t used = 0;
    size_t at = 0;
    const char *answer = NULL;
    while (at < request->length &&
           (used = request_first(request->bytes + at, request->length - at, &answer)) > 0) {
        at += used;
        if (numaperf_conn_write(conn, answer, strlen(answer)) < 0)
            return;
    }
    request->length -= at;
    memmove(request->bytes, request->bytes + at, request->length);
}

static void server_shutdown(numaperf_conn_t *conn, void *data)
{
    (void)conn; /* its client ends it: nobody is cut off */
    (void)data;
}

static void server_close(numaperf_conn_t *conn, int reason, void *data)
{
    (void)conn;
    (void)reason;
    free(data);
}

/* ---- life ---- */

static void say(const char *what, unsigned long long number)
{
    char line[64];
    int length = snprintf(line, sizeof(line), "%s %d %llu\n", what, (int)getpid(), number);
    if (write(STDOUT_FILENO, line, (size_t)length) != length)
        exit(1);
}

static void server_closed(uint64_t reset_count, void *data)
{
    (void)data;
    say("over", reset_count);
    (void)kill(getpid(), SIGTERM);
}

/* Start the successor; whether it says that it accepts. */
static bool succeed(const char *backend, numaperf_listener_t *listener)
{
    int fds[FDS_MAX];
    char texts[FDS_MAX][16];
    char *arguments[FDS_MAX + 4];
    int count = numaperf_listener_fds(listener, fds, FDS_MAX);
    int to_us[2];
    posix_spawn_file_actions_t actions;
    sigset_t none;
    posix_spawnattr_t attributes;
    if (count <= 0 || count > FDS_MAX || pipe(to_us) != 0 ||
        posix_spawn_file_actions_init(&actions) != 0 || posix_spawnattr_init(&attributes) != 0)
        return false;
    arguments[0] = "/proc/self/exe";
    arguments[1] = (char *)backend;
    arguments[2] = "fds";
    int errors = 0;
    for (int i = 0; i < count; i++) {
        /* Onto itself: open in the new program, too. */
        errors += posix_spawn_file_actions_adddup2(&actions, fds[i], fds[i]);
        (void)snprintf(texts[i], sizeof(texts[i]), "%d", fds[i]);
        arguments[3 + i] = texts[i];
    }
    arguments[3 + count] = NULL;
    char ready[16];
    (void)snprintf(ready, sizeof(ready), "%d", to_us[1]);
    errors += posix_spawn_file_actions_addclose(&actions, to_us[0]);
    errors += setenv("RESTART_READY_FD", ready, 1);
    errors += sigemptyset(&none);
    errors += posix_spawnattr_setsigmask(&attributes, &none);
    errors += posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    pid_t child = 0;
    errors += posix_spawn(&child, "/proc/self/exe", &actions, &attributes, arguments, environ);
    (void)close(to_us[1]);
    char byte = 0;
    bool is_ready = errors == 0 && read(to_us[0], &byte, 1) == 1;
    (void)close(to_us[0]);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)posix_spawnattr_destroy(&attributes);
    return is_ready;
}

static void tell_predecessor(void)
{
    const char *ready = getenv("RESTART_READY_FD");
    if (ready == NULL)
        return;
    int fd = atoi(ready);
    if (write(fd, "r", 1) != 1)
        exit(1);
    (void)close(fd);
    (void)unsetenv("RESTART_READY_FD");
}

static int listen_as_told(numaperf_rt_t *rt, int argc, char **argv, numaperf_listener_t **out)
{
    int fds[FDS_MAX];
    numaperf_conn_config_t conn = NUMAPERF_CONN_CONFIG_INIT;
    conn.callbacks.on_open = server_open;
    conn.callbacks.on_read = server_read;
    conn.callbacks.on_shutdown = server_shutdown;
    conn.callbacks.on_close = server_close;
    numaperf_listen_config_t config = NUMAPERF_LISTEN_CONFIG_INIT;
    config.conn = &conn;
    bool inherits = argc > 2 && strcmp(argv[2], "fds") == 0;
    for (int i = 3; inherits && i < argc && i - 3 < FDS_MAX; i++)
        fds[config.fd_count++] = atoi(argv[i]);
    if (inherits) {
        config.fds = fds;
    } else {
        config.address = "127.0.0.1";
        config.port = argc > 2 ? (uint16_t)atoi(argv[2]) : 0;
    }
    int rc = numaperf_rt_listen(rt, &config, out);
    for (uint32_t i = 0; i < config.fd_count; i++)
        (void)close(fds[i]); /* the listener keeps duplicates */
    return rc;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGHUP);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &signals, NULL);
    (void)signal(SIGCHLD, SIG_IGN); /* successors outlive us */
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    bool ring = strcmp(argv[1], "ring") == 0;
    config.io_backend = ring ? NUMAPERF_IO_URING : NUMAPERF_IO_EPOLL;
    config.workers_per_node = 2;
    numaperf_rt_t *rt = NULL;
    numaperf_listener_t *listener = NULL;
    if (numaperf_rt_start(&config, &rt) < 0) {
        (void)fprintf(stderr, "start: %s\n", numaperf_last_error()->reason);
        return ring ? 77 : 1;
    }
    if (listen_as_told(rt, argc, argv, &listener) < 0) {
        (void)fprintf(stderr, "listen: %s\n", numaperf_last_error()->reason);
        return 1;
    }
    say("ready", (unsigned long long)numaperf_listener_port(listener));
    tell_predecessor();
    int signal_number = 0;
    while (sigwait(&signals, &signal_number) == 0 && signal_number == SIGHUP) {
        if (!succeed(argv[1], listener))
            return 1;
        if (numaperf_listener_close(listener, GRACE_NS, server_closed, NULL) < 0)
            return 1;
    }
    numaperf_rt_destroy(rt);
    return 0;
}
