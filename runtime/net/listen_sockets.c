/* SPDX-License-Identifier: MIT */
/*
 * Making listening sockets.
 *
 * A port that somebody listens on is found out by the first socket's bind, which is made without
 * SO_REUSEPORT: with it the kernel would let any process of the same user share the port. Set
 * afterwards, it lets the others in. SO_REUSEADDR is set always: connections in TIME_WAIT are no
 * reason not to listen.
 *
 * TCP_NODELAY is set on the listening socket: accepted ones inherit it, which spares a call for
 * each.
 *
 * An AF_UNIX path that nobody listens on any more is replaced; at the end only the file that our
 * own bind made is removed, and not when the descriptors were given out: then a successor lives on
 * it.
 *
 * Thread rule: the caller's lock.
 *
 * Source: socket(7), ip(7), ipv6(7), unix(7), tcp(7).
 */
#include "net/listen_sockets.h"

#include "base/assert.h"
#include "base/error.h"
#include "net/address.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LISTEN_SOCKET_TYPE (SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)

/* ---- options ---- */

static int sockets_set(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* -1: it cannot be read. */
static int sockets_get(int fd, int level, int option)
{
    int value = -1;
    socklen_t length = sizeof(value);
    return getsockopt(fd, level, option, &value, &length) == 0 ? value : -1;
}

bool numaperf__listen_socket_is_tcp(int fd)
{
    int domain = sockets_get(fd, SOL_SOCKET, SO_DOMAIN);
    return domain == AF_INET || domain == AF_INET6;
}

static int sockets_no_delay(int fd, const numaperf_listen_config_t *config)
{
    if ((config->conn->flags & NUMAPERF_CONN_DELAY) != 0 || !numaperf__listen_socket_is_tcp(fd))
        return 0;
    return sockets_set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

static void sockets_text(const struct sockaddr_storage *address, socklen_t length,
                         char out[NUMAPERF__ADDRESS_TEXT_MAX])
{
    if (numaperf__address_format((const struct sockaddr *)address, length, out,
                                 NUMAPERF__ADDRESS_TEXT_MAX) < 0)
        out[0] = '\0'; /* of an unknown family: not one of ours */
}

static int sockets_fail(const struct numaperf__listen_sockets *sockets, int rc, const char *what)
{
    char text[NUMAPERF__ADDRESS_TEXT_MAX];
    sockets_text(&sockets->address, sockets->address_length, text);
    return numaperf__fail(rc, -rc, "listen", "%s %s: %s", what, text, numaperf_strerror(rc));
}

/* ---- TCP ---- */

static int sockets_make_tcp(const struct numaperf__listen_sockets *sockets,
                            const numaperf_listen_config_t *config, bool reuse_port, int *out)
{
    int fd = socket(sockets->address.ss_family, LISTEN_SOCKET_TYPE, 0);
    if (fd < 0)
        return -errno;
    int rc = sockets_set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && sockets->address.ss_family == AF_INET6)
        rc = sockets_set(fd, IPPROTO_IPV6, IPV6_V6ONLY,
                         (config->flags & NUMAPERF_LISTEN_V6_ONLY) != 0);
    if (rc == 0 && reuse_port)
        rc = sockets_set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (rc == 0)
        rc = sockets_no_delay(fd, config);
    if (rc == 0 &&
        bind(fd, (const struct sockaddr *)&sockets->address, sockets->address_length) < 0)
        rc = -errno;
    if (rc < 0) {
        (void)close(fd); /* of no further use */
        return rc;
    }
    *out = fd;
    return 0;
}

/* The first one, which finds out whether the port is free, and which it is. */
static int sockets_first_tcp(struct numaperf__listen_sockets *sockets,
                             const numaperf_listen_config_t *config)
{
    int family = config->address == NULL ? AF_INET6 : AF_UNSPEC;
    if (config->address == NULL)
        numaperf__address_any(family, config->port, &sockets->address, &sockets->address_length);
    else if (numaperf__address_parse(config->address, config->port, &sockets->address,
                                     &sockets->address_length) < 0)
        return numaperf__fail(-EINVAL, 0, "listen", "address \"%s\" is not a numeric address",
                              config->address);
    int rc = sockets_make_tcp(sockets, config, false, &sockets->fds[0]);
    if ((rc == -EAFNOSUPPORT || rc == -EADDRNOTAVAIL) && config->address == NULL &&
        (config->flags & NUMAPERF_LISTEN_V6_ONLY) == 0) {
        /* No IPv6 here. */
        numaperf__address_any(AF_INET, config->port, &sockets->address, &sockets->address_length);
        rc = sockets_make_tcp(sockets, config, false, &sockets->fds[0]);
    }
    if (rc < 0)
        return sockets_fail(sockets, rc, "cannot bind");
    sockets->count = 1;
    socklen_t length = sizeof(sockets->address);
    if (getsockname(sockets->fds[0], (struct sockaddr *)&sockets->address, &length) < 0)
        return sockets_fail(sockets, -errno, "cannot read back the address");
    sockets->address_length = length;
    return 0;
}

static int sockets_open_tcp(struct numaperf__listen_sockets *sockets,
                            const numaperf_listen_config_t *config, uint32_t acceptor_count)
{
    int rc = sockets_first_tcp(sockets, config);
    if (rc < 0 || acceptor_count == 1)
        return rc;
    if (sockets_set(sockets->fds[0], SOL_SOCKET, SO_REUSEPORT, 1) < 0) {
        sockets->shared_reason = "SO_REUSEPORT was refused";
        return 0;
    }
    sockets->is_group = true;
    while (rc == 0 && sockets->count < acceptor_count) {
        rc = sockets_make_tcp(sockets, config, true, &sockets->fds[sockets->count]);
        sockets->count += rc == 0;
    }
    return rc < 0 ? sockets_fail(sockets, rc, "cannot bind a socket for every worker to") : 0;
}

/* ---- AF_UNIX ---- */

/* Whether somebody listens there: -EADDRINUSE; 0 it is a socket that nobody listens on. */
static int sockets_probe_path(const struct numaperf__listen_sockets *sockets)
{
    int fd = socket(AF_UNIX, LISTEN_SOCKET_TYPE, 0);
    if (fd < 0)
        return -errno;
    int rc = connect(fd, (const struct sockaddr *)&sockets->address, sockets->address_length) == 0
                 ? 0
                 : -errno;
    (void)close(fd); /* it was only asked */
    return rc == -ECONNREFUSED ? 0 : -EADDRINUSE;
}

static int sockets_replace_path(const struct numaperf__listen_sockets *sockets)
{
    struct stat found;
    if (lstat(sockets->path, &found) < 0)
        return 0; /* nothing there, or bind says why not */
    if (!S_ISSOCK(found.st_mode))
        return -EADDRINUSE;
    int rc = sockets_probe_path(sockets);
    if (rc == 0 && unlink(sockets->path) < 0 && errno != ENOENT)
        rc = -errno;
    return rc;
}

static int sockets_bind_unix(struct numaperf__listen_sockets *sockets, int fd)
{
    int rc = sockets->path[0] != '\0' ? sockets_replace_path(sockets) : 0;
    if (rc == 0 &&
        bind(fd, (const struct sockaddr *)&sockets->address, sockets->address_length) < 0)
        rc = -errno;
    struct stat made;
    if (rc < 0 || sockets->path[0] == '\0' || lstat(sockets->path, &made) < 0)
        return rc;
    sockets->owns_path = true;
    sockets->path_device = made.st_dev;
    sockets->path_inode = made.st_ino;
    return 0;
}

static int sockets_open_unix(struct numaperf__listen_sockets *sockets,
                             const numaperf_listen_config_t *config)
{
    int rc = numaperf__address_unix(config->unix_path, &sockets->address, &sockets->address_length);
    if (rc < 0)
        return numaperf__fail(rc, 0, "listen", "unix_path \"%s\": %s", config->unix_path,
                              numaperf_strerror(rc));
    if (config->unix_path[0] != '@' && strlen(config->unix_path) >= sizeof(sockets->path))
        return numaperf__fail(-ENAMETOOLONG, 0, "listen", "unix_path \"%s\" leaves no room",
                              config->unix_path);
    if (config->unix_path[0] != '@')
        memcpy(sockets->path, config->unix_path, strlen(config->unix_path) + 1);
    int fd = socket(AF_UNIX, LISTEN_SOCKET_TYPE, 0);
    if (fd < 0)
        return sockets_fail(sockets, -errno, "no socket for");
    rc = sockets_bind_unix(sockets, fd);
    if (rc < 0) {
        (void)close(fd); /* of no further use */
        return sockets_fail(sockets, rc, "cannot bind");
    }
    sockets->fds[0] = fd;
    sockets->count = 1;
    sockets->shared_reason = "AF_UNIX has no SO_REUSEPORT that spreads";
    return 0;
}

/* ---- inherited ---- */

static int sockets_check_inherited(int fd)
{
    int listens = sockets_get(fd, SOL_SOCKET, SO_ACCEPTCONN);
    if (listens < 0)
        return numaperf__fail(-errno, errno, "listen", "fd %d: %s", fd, numaperf_strerror(-errno));
    if (listens == 0 || sockets_get(fd, SOL_SOCKET, SO_TYPE) != SOCK_STREAM)
        return numaperf__fail(-EINVAL, 0, "listen", "fd %d is not a listening stream socket", fd);
    return 0;
}

static int sockets_inherit(struct numaperf__listen_sockets *sockets, int fd,
                           const numaperf_listen_config_t *config)
{
    int rc = sockets_check_inherited(fd);
    if (rc < 0)
        return rc;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return numaperf__fail(-errno, errno, "listen", "fd %d cannot be duplicated", fd);
    sockets->fds[sockets->count++] = own;
    int flags = fcntl(own, F_GETFL);
    if (flags < 0 || fcntl(own, F_SETFL, flags | O_NONBLOCK) < 0)
        return numaperf__fail(-errno, errno, "listen", "fd %d cannot be made non-blocking", fd);
    rc = sockets_no_delay(own, config);
    return rc < 0 ? numaperf__fail(rc, -rc, "listen", "fd %d: TCP_NODELAY", fd) : 0;
}

/* Whether they are one reuseport group: all may share, and are bound to the same address. */
static bool sockets_are_group(const struct numaperf__listen_sockets *sockets)
{
    for (uint32_t i = 0; i < sockets->count; i++) {
        struct sockaddr_storage address;
        memset(&address, 0, sizeof(address));
        socklen_t length = sizeof(address);
        if (sockets_get(sockets->fds[i], SOL_SOCKET, SO_REUSEPORT) != 1 ||
            !numaperf__listen_socket_is_tcp(sockets->fds[i]) ||
            getsockname(sockets->fds[i], (struct sockaddr *)&address, &length) < 0 ||
            length != sockets->address_length || memcmp(&address, &sockets->address, length) != 0)
            return false;
    }
    return true;
}

static int sockets_open_inherited(struct numaperf__listen_sockets *sockets,
                                  const numaperf_listen_config_t *config, uint32_t acceptor_count)
{
    sockets->inherited = true;
    for (uint32_t i = 0; i < config->fd_count; i++) {
        int rc = sockets_inherit(sockets, config->fds[i], config);
        if (rc < 0)
            return rc;
    }
    socklen_t length = sizeof(sockets->address);
    if (getsockname(sockets->fds[0], (struct sockaddr *)&sockets->address, &length) < 0)
        return numaperf__fail(-errno, errno, "listen", "fd %d has no address", config->fds[0]);
    sockets->address_length = length;
    if (acceptor_count == 1)
        return 0;
    sockets->is_group = sockets->count == acceptor_count && sockets_are_group(sockets);
    if (!sockets->is_group)
        sockets->shared_reason = sockets->count == acceptor_count
                                     ? "the inherited sockets are no reuseport group"
                                     : "there are not as many inherited sockets as workers";
    return 0;
}

/* ---- whole ---- */

int numaperf__listen_sockets_open(struct numaperf__listen_sockets *sockets,
                                  const numaperf_listen_config_t *config, uint32_t acceptor_count)
{
    memset(sockets, 0, sizeof(*sockets));
    uint32_t room = config->fds != NULL ? config->fd_count : acceptor_count;
    sockets->fds = calloc(room, sizeof(*sockets->fds));
    if (sockets->fds == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "listen", "no memory for %u sockets", room);
    int rc = 0;
    if (config->fds != NULL)
        rc = sockets_open_inherited(sockets, config, acceptor_count);
    else if (config->unix_path != NULL)
        rc = sockets_open_unix(sockets, config);
    else
        rc = sockets_open_tcp(sockets, config, acceptor_count);
    if (rc < 0) {
        numaperf__listen_sockets_close_all(sockets);
        numaperf__listen_sockets_free(sockets);
    }
    return rc;
}

int numaperf__listen_sockets_listen(struct numaperf__listen_sockets *sockets, uint32_t backlog)
{
    if (sockets->inherited)
        return 0;
    int length = backlog == 0 ? SOMAXCONN : backlog > INT32_MAX ? INT32_MAX : (int)backlog;
    for (uint32_t i = 0; i < sockets->count; i++) {
        if (listen(sockets->fds[i], length) < 0)
            return sockets_fail(sockets, -errno, "cannot listen on");
    }
    return 0;
}

static void sockets_remove_path(struct numaperf__listen_sockets *sockets)
{
    struct stat found;
    if (!sockets->owns_path || sockets->is_handed_out)
        return;
    sockets->owns_path = false;
    if (lstat(sockets->path, &found) == 0 && found.st_dev == sockets->path_device &&
        found.st_ino == sockets->path_inode)
        (void)unlink(sockets->path); /* what is left is replaced by the next one */
}

void numaperf__listen_sockets_close(struct numaperf__listen_sockets *sockets, uint32_t index)
{
    NUMAPERF_ASSERT(index < sockets->count && sockets->fds[index] >= 0);

    bool is_last = true;
    for (uint32_t i = 0; i < sockets->count; i++)
        is_last = is_last && (i == index || sockets->fds[i] < 0);
    /* First: while it is there, and refuses, another process would replace it. */
    if (is_last)
        sockets_remove_path(sockets);
    (void)close(sockets->fds[index]); /* a socket: nothing is lost by a failure */
    sockets->fds[index] = -1;
}

void numaperf__listen_sockets_close_all(struct numaperf__listen_sockets *sockets)
{
    for (uint32_t i = 0; i < sockets->count; i++) {
        if (sockets->fds[i] >= 0)
            numaperf__listen_sockets_close(sockets, i);
    }
}

void numaperf__listen_sockets_free(struct numaperf__listen_sockets *sockets)
{
    free(sockets->fds);
    sockets->fds = NULL;
    sockets->count = 0;
}
