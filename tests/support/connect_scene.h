/* SPDX-License-Identifier: MIT */
/*
 * Outgoing connections: names that are looked up by a resolver of the test's own, which answers
 * what a case wants, and when (it is still libuv's pool that asks it); peers that answer, refuse,
 * or hang since their queue is full and the kernel drops what comes further; and who connects to
 * them.
 */
#ifndef TESTS_SUPPORT_CONNECT_SCENE_H
#define TESTS_SUPPORT_CONNECT_SCENE_H

#include "support/net_scene.h"

#include <numaperf/loop.h>
#include <numaperf/net.h>

#include <stdbool.h>
#include <stdint.h>

/* ---- names ---- */

/* Names that end in ".test" stand for these numeric addresses, which end with NULL; or `rc`, an
 * EAI_*, is the answer. Counting begins again. */
void names_answer(int rc, const char *const *addresses);
/* While they are held, nobody gets an answer. */
void names_hold(bool is_held);
unsigned names_asked(void);
unsigned names_answered(void);
/* Have libuv open what it opens once and keeps. 0. */
int names_prepare(void);

/* ---- peers ---- */

#define PEER_FILL_MAX 8

struct peer {
    int fd;
    uint16_t port;
    int fillers[PEER_FILL_MAX];
};

/* A bound socket; port 0 is any. False: the port is taken there, or there is no such address. */
bool peer_bind(struct peer *peer, const char *address, uint16_t port);
void peer_listen(struct peer *peer, const char *address, int backlog);
/* The same on a UNIX address, without listening. */
void peer_bind_unix(struct peer *peer, const char *path);
/* Have its queue full: whoever comes now waits for ever. */
void peer_fill(struct peer *peer);
/* Two peers on one port of two addresses. */
void peers_bind(struct peer *first, const char *first_address, struct peer *second,
                const char *second_address);
int peer_accept(const struct peer *peer);
void peer_close(struct peer *peer);

#define NEEDS_V6()                                           \
    do {                                                     \
        struct peer v6_peer;                                 \
        if (!peer_bind(&v6_peer, "::1", 0)) {                \
            print_message("skipped: no ::1 on this host\n"); \
            skip();                                          \
        }                                                    \
        peer_close(&v6_peer);                                \
    } while (0)

/* ---- who connects ---- */

struct caller {
    struct net_scene *scene;
    numaperf_connect_t *connect;
    numaperf_conn_t *conn;
    unsigned calls, opens, closes;
    int status, close_reason;
    int open_returns;
    uint64_t received;
    bool cancels_in_open;
    bool releases_names; /* when it is told */
};

/* Without a timeout, until the case sets one. */
numaperf_connect_config_t to_host(const char *host, uint16_t port);
numaperf_connect_config_t to_path(const char *path);

/* Begin; that it tells nothing inside the call is checked. */
void caller_begin(struct caller *caller, numaperf_loop_t *loop, numaperf_connect_config_t *config);
/* Begin, and turn until it is told. */
void caller_run(struct caller *caller, struct net_scene *scene, numaperf_connect_config_t config);
/* Bytes go both ways between its connection and the peer. */
void caller_talks(struct caller *caller, struct net_scene *scene, int peer_fd);
void caller_close(struct caller *caller, struct net_scene *scene);

/* A loop; what it and the case open must be gone at the end. */
void connect_scene_begin(struct net_scene *scene, void **state);
/* Descriptors that the case opened, or closed, and that are to stay so. */
void connect_scene_expect(int descriptors);
/* `caller`, which may be NULL, was told once. */
void connect_scene_end(struct net_scene *scene, const struct caller *caller);

#endif
