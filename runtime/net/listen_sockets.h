/* SPDX-License-Identifier: MIT */
/*
 * The listening sockets of a listener: made, or inherited. Not for concurrent use; who has them
 * has a lock.
 */
#ifndef NUMAPERF_NET_LISTEN_SOCKETS_H
#define NUMAPERF_NET_LISTEN_SOCKETS_H

#include <numaperf/net.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

struct numaperf__listen_sockets {
    int *fds; /* -1: closed */
    uint32_t count;
    bool is_group;      /* one for each acceptor, of one reuseport group; else all share all */
    bool inherited;     /* they listen already, and others may have them, too */
    bool is_handed_out; /* a successor may have them: what they are bound to is left to it */
    bool owns_path;     /* `path` is ours to remove */
    const char *shared_reason; /* why they are no group though there are several acceptors */
    struct sockaddr_storage address;
    socklen_t address_length;
    char path[108];
    dev_t path_device; /* of the file that bind(2) made, so that no other one is removed */
    ino_t path_inode;
};

/*
 * As `config` says, which is checked already, for `acceptor_count` acceptors: bound, and listening
 * only when they are inherited. 0 or -errno, recorded, and nothing is left.
 */
int numaperf__listen_sockets_open(struct numaperf__listen_sockets *sockets,
                                  const numaperf_listen_config_t *config, uint32_t acceptor_count);
/* Have those that do not listen yet do so. 0 or -errno, recorded. */
int numaperf__listen_sockets_listen(struct numaperf__listen_sockets *sockets, uint32_t backlog);
/* Close one; with the last one goes the path that was bound. */
void numaperf__listen_sockets_close(struct numaperf__listen_sockets *sockets, uint32_t index);
void numaperf__listen_sockets_close_all(struct numaperf__listen_sockets *sockets);
/* The list itself, once all are closed. */
void numaperf__listen_sockets_free(struct numaperf__listen_sockets *sockets);
/* Whether connections of it are TCP. */
bool numaperf__listen_socket_is_tcp(int fd);

#endif
