/* SPDX-License-Identifier: MIT */
/*
 * Sockets of the example servers. The main thread opens and closes the listener; workers only read
 * it in between. The first TCP socket is bound before the runtime starts: it learns the port that
 * the others then bind to as well.
 */
#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static int say(char *why, size_t size, const char *what, const char *name)
{
    (void)snprintf(why, size, "%s %s: %s", what, name, uv_strerror(-errno));
    return -1;
}

/* A socket bound to `address`; -errno. */
static int socket_bind(const struct sockaddr *address, socklen_t length, bool reuse_port)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int on = 1;
    int bad = 0;
    if (address->sa_family != AF_UNIX)
        bad |= setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (reuse_port)
        bad |= setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (address->sa_family == AF_INET6)
        bad |= setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bad != 0 || bind(fd, address, length) != 0) {
        int code = -errno;
        close(fd);
        return code;
    }
    return fd;
}

static void listener_name(struct listener *listener)
{
    char host[INET6_ADDRSTRLEN] = "";
    if (listener->address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)&listener->address;
        inet_ntop(AF_INET6, &six->sin6_addr, host, sizeof(host));
        (void)snprintf(listener->name, sizeof(listener->name), "[%s]:%u", host,
                       (unsigned)ntohs(six->sin6_port));
    } else {
        const struct sockaddr_in *four = (const struct sockaddr_in *)&listener->address;
        inet_ntop(AF_INET, &four->sin_addr, host, sizeof(host));
        (void)snprintf(listener->name, sizeof(listener->name), "%s:%u", host,
                       (unsigned)ntohs(four->sin_port));
    }
}

static int listener_resolve(struct listener *listener, const struct server_options *options,
                            char *why, size_t why_size)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char port[8];
    (void)snprintf(port, sizeof(port), "%u", (unsigned)options->port);
    hints.ai_flags = AI_NUMERICSERV;
    int rc = getaddrinfo(options->host, port, &hints, &found);
    if (rc != 0) {
        (void)snprintf(why, why_size, "--listen %s: %s", options->host, gai_strerror(rc));
        return -1;
    }
    memcpy(&listener->address, found->ai_addr, found->ai_addrlen);
    listener->address_length = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static int listener_open_tcp(struct listener *listener, const struct server_options *options,
                             char *why, size_t why_size)
{
    if (listener_resolve(listener, options, why, why_size) < 0)
        return -1;
    struct sockaddr *address = (struct sockaddr *)&listener->address;

    /* SO_REUSEPORT would let a second server share the port in silence: ask once without it. */
    if (options->port != 0) {
        int probe = socket_bind(address, listener->address_length, false);
        errno = probe < 0 ? -probe : 0;
        if (probe < 0)
            return say(why, why_size, "--listen", options->host);
        close(probe);
    }
    listener->first_fd = socket_bind(address, listener->address_length, true);
    errno = listener->first_fd < 0 ? -listener->first_fd : 0;
    if (listener->first_fd < 0)
        return say(why, why_size, "--listen", options->host);
    listener->address_length = sizeof(listener->address);
    if (getsockname(listener->first_fd, address, &listener->address_length) != 0) {
        say(why, why_size, "--listen", options->host);
        close(listener->first_fd);
        return -1;
    }
    listener_name(listener);
    return 0;
}

static int listener_open_unix(struct listener *listener, const char *path, char *why,
                              size_t why_size)
{
    struct stat old;
    if (lstat(path, &old) == 0) {
        if (!S_ISSOCK(old.st_mode)) {
            (void)snprintf(why, why_size, "--unix %s: exists and is not a socket", path);
            return -1;
        }
        if (unlink(path) != 0)
            return say(why, why_size, "--unix", path);
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    int fd = socket_bind((const struct sockaddr *)&address, sizeof(address), false);
    if (fd < 0) {
        errno = -fd;
        return say(why, why_size, "--unix", path);
    }
    if (lstat(path, &listener->unix_stat) != 0) {
        say(why, why_size, "--unix", path);
        close(fd);
        return -1;
    }
    listener->first_fd = fd;
    listener->unix_path = path;
    (void)snprintf(listener->name, sizeof(listener->name), "%s", path);
    return 0;
}

int listener_open(struct listener *listener, const struct server_options *options, char *why,
                  size_t why_size)
{
    memset(listener, 0, sizeof(*listener));
    listener->first_fd = -1;
    if (options->unix_path != NULL)
        return listener_open_unix(listener, options->unix_path, why, why_size);
    return listener_open_tcp(listener, options, why, why_size);
}

void listener_close(struct listener *listener)
{
    if (listener->first_fd >= 0)
        close(listener->first_fd);
    listener->first_fd = -1;
    /* Workers still look at the path to tell the family: it stays. */
    if (listener->unix_path == NULL)
        return;
    /* Somebody may have put a file of their own there meanwhile: that one stays. */
    struct stat now;
    if (lstat(listener->unix_path, &now) == 0 && now.st_ino == listener->unix_stat.st_ino &&
        now.st_dev == listener->unix_stat.st_dev)
        unlink(listener->unix_path);
}

int listener_worker_fd(const struct listener *listener, uint32_t worker_index)
{
    if (listener->unix_path == NULL && worker_index > 0)
        return socket_bind((const struct sockaddr *)&listener->address, listener->address_length,
                           true);
    int fd = fcntl(listener->first_fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int listener_stream_init(const struct listener *listener, uv_loop_t *loop,
                         union server_stream *stream)
{
    if (listener->unix_path != NULL)
        return uv_pipe_init(loop, &stream->pipe, 0);
    return uv_tcp_init(loop, &stream->tcp);
}

int listener_stream_open(const struct listener *listener, union server_stream *stream, int fd)
{
    int rc = listener->unix_path != NULL ? uv_pipe_open(&stream->pipe, fd)
                                         : uv_tcp_open(&stream->tcp, fd);
    if (rc < 0)
        close(fd);
    return rc;
}
