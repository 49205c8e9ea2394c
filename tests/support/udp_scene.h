/* SPDX-License-Identifier: MIT */
/* A UDP socket of a loop, what it was told, and a plain one that the test holds in its hands. */
#ifndef TESTS_SUPPORT_UDP_SCENE_H
#define TESTS_SUPPORT_UDP_SCENE_H

#include "support/net_scene.h"

#include <numaperf/net.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define UDP_TOLD_MAX 512

/* One datagram that was told: its length, and the number that its bytes are the pattern from. */
struct udp_told {
    size_t length, segment_bytes;
    uint32_t number;
    bool truncated;
};

struct udp_end {
    struct net_scene *scene;
    numaperf_udp_t *udp; /* NULL: closed */
    /* What a case does with it; NULL: nothing. */
    void (*act)(struct udp_end *end, const numaperf_datagram_t *datagram, int status);
    void *arg;
    /* What it was told. */
    unsigned datagrams, errors, closes; /* a joined one counts as what it was joined of */
    unsigned calls;                     /* with a datagram */
    int status;                         /* the last error */
    bool is_wrong;                      /* bytes that are not the pattern, or a bad length */
    bool is_late;                       /* something was told after on_close */
    struct sockaddr_storage from;       /* of the last datagram */
    uint32_t from_length;
    struct udp_told told[UDP_TOLD_MAX];
};

numaperf_udp_config_t udp_end_config(struct udp_end *end, const char *address);
/* Open it on `address`; `config` NULL: a plain one. */
void udp_end_open(struct net_scene *scene, struct udp_end *end, const char *address);
void udp_end_open_with(struct net_scene *scene, struct udp_end *end,
                       const numaperf_udp_config_t *config);
/* Close it, unless it is, and turn until that was told. What it was told must have been right. */
void udp_end_close(struct udp_end *end);

/* A scene, and no descriptor more at its end than at its beginning. */
void udp_scene_begin(struct net_scene *scene, void **state);
void udp_scene_begin_with(struct net_scene *scene, void **state, numaperf_loop_config_t *config);
void udp_scene_end(struct net_scene *scene);

/* A bound, non-blocking socket; its port. */
int udp_peer(const char *address, uint16_t *out_port);
/* A port of `address` where nobody listens: the socket that keeps others from it has to be closed
 * by the caller, and takes no datagrams. */
int udp_nobody(uint16_t *out_port);
void udp_address(const char *address, int port, struct sockaddr_storage *out, uint32_t *out_length);

/* Bytes of datagram `number`: the first four are the number, as far as there is room. */
void udp_fill(void *out, size_t length, uint32_t number);
/* Whether they are; the number. */
bool udp_check(const void *bytes, size_t length, uint32_t *out_number);

/* The peer sends datagram `number` to the socket. */
void udp_peer_send(const struct udp_end *end, int peer, const char *address, size_t length,
                   uint32_t number);
/* The peer takes what is there: whole datagrams in order from `*number` on, of `length` each. */
void udp_peer_take(int peer, size_t length, uint32_t *number);
/* The socket sends datagram `number`; what numaperf_udp_send() returns. */
int udp_end_send(struct udp_end *end, const struct sockaddr_storage *to, size_t length,
                 uint32_t number);

/* A network of this thread's own, with a loopback of `mtu`; 0: as it comes. The old one's
 * descriptor for udp_network_leave(), or -1: there can be none. */
int udp_network_enter(int mtu);
void udp_network_leave(int old);

#endif
