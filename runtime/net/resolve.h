/* SPDX-License-Identifier: MIT */
/* Names to addresses, in libuv's thread pool, in the order in which they are to be tried. */
#ifndef NUMAPERF_NET_RESOLVE_H
#define NUMAPERF_NET_RESOLVE_H

#include "net/net.h"

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define NUMAPERF__RESOLVE_MAX 16u    /* addresses of a name that are tried */
#define NUMAPERF__HOST_NAME_MAX 255u /* bytes of a name */

struct addrinfo;
struct numaperf__resolve;

/* Where to connect to. */
struct numaperf__target {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un local;
    };
    socklen_t length;
};

/* What a name stands for. `rc`: 0, or a negative UV_EAI_* and no targets. */
typedef void (*numaperf__resolved_fn)(int rc, const struct numaperf__target *targets,
                                      uint32_t count, void *data);

struct numaperf__resolve_request {
    const char *host;
    uint16_t port;
    numaperf__resolved_fn resolved; /* called once, never inside start */
    void *data;
};

/* 0 or -errno. */
int numaperf__resolve_start(struct numaperf__net *net,
                            const struct numaperf__resolve_request *request,
                            struct numaperf__resolve **out);
/*
 * The answer is not wanted any more: `resolved` is not called. A thread of the pool that is asking
 * already cannot be stopped, so the loop does not end before it has its answer.
 */
void numaperf__resolve_abandon(struct numaperf__resolve *resolve);

/*
 * The first `max` of a resolver's list, families by turns, each in the list's order, the list's
 * first family first (RFC 8305, section 4). Returns how many.
 */
uint32_t numaperf__resolve_order(const struct addrinfo *list, uint16_t port,
                                 struct numaperf__target *targets, uint32_t max);

#endif
