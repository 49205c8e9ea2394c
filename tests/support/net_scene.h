/* SPDX-License-Identifier: MIT */
/*
 * A loop, and connections on it whose other ends the test holds in its hands. What goes either way
 * is a pattern: byte n of a direction is pattern_byte(n), so every byte that comes is checked.
 */
#ifndef TESTS_SUPPORT_NET_SCENE_H
#define TESTS_SUPPORT_NET_SCENE_H

#include <numaperf/loop.h>
#include <numaperf/net.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* ---- which backend, over what ---- */

struct net_kind {
    int backend;
    bool is_tcp;
};

extern const struct net_kind net_kinds[4];

#define NET_CASE(fn, suffix, kind)                             \
    {                                                          \
#fn suffix, fn, NULL, NULL, (void *)&net_kinds[(kind)] \
    }
#define NET_BOTH(fn) NET_CASE(fn, "_on_ring", 0), NET_CASE(fn, "_on_epoll", 2)
#define NET_BOTH_TCP(fn) NET_CASE(fn, "_on_ring_tcp", 1), NET_CASE(fn, "_on_epoll_tcp", 3)
#define NET_EACH(fn) NET_BOTH(fn), NET_BOTH_TCP(fn)

struct net_scene {
    const struct net_kind *kind;
    numaperf_loop_t *loop;
};

/* Skips the case, with the reason printed, where there is no ring. `config` may be NULL; its
 * backend is set. */
void net_scene_open_with(struct net_scene *scene, void **state, numaperf_loop_config_t *config);
void net_scene_open(struct net_scene *scene, void **state);
/* All connections are closed: nothing of them may be left. */
void net_scene_close(struct net_scene *scene);

/* One turn of the loop, or a look at the clock: fails the case when `limit_ns` has passed. */
void net_turn(struct net_scene *scene, uint64_t limit_ns, const char *wanted);
/* Turns until `condition`. */
#define NET_UNTIL(scene, condition)                      \
    do {                                                 \
        uint64_t net_limit_ns = net_limit();             \
        while (!(condition))                             \
            net_turn((scene), net_limit_ns, #condition); \
    } while (0)
uint64_t net_limit(void);
/* Turns that are more than enough for what is ready to happen. */
void net_settle(struct net_scene *scene);

numaperf_net_stats_t net_stats(const struct net_scene *scene);
/* NUMAPERF_PROBE_* of the loop's features. */
numaperf_loop_features_t net_features(const struct net_scene *scene);

/* ---- a connection ---- */

struct net_end;

/* What a case does in callbacks; each may be NULL. Without `end` it finishes. */
struct net_acts {
    int (*open)(struct net_end *end);
    void (*read)(struct net_end *end, const char *bytes, size_t length);
    void (*end)(struct net_end *end);
    void (*drain)(struct net_end *end);
    void (*close)(struct net_end *end);
};

struct net_end {
    struct net_scene *scene;
    const struct net_acts *acts;
    void *arg;
    numaperf_conn_t *conn; /* NULL: closed */
    /* What it was told. */
    unsigned opens, reads, ends, drains, closes;
    int reason;
    uint64_t received; /* bytes, in pattern */
    bool is_wrong;     /* a byte was not */
    bool is_late;      /* something was told after on_close */
    uint64_t written;  /* bytes taken by the connection */
    /* The peer. */
    int peer;        /* -1: closed */
    uint64_t sent;   /* bytes */
    uint64_t got;    /* bytes, in pattern */
    bool peer_ended; /* it has seen the end */
    int peer_errno;  /* it has seen an error */
};

uint8_t pattern_byte(uint64_t position);
void pattern_fill(void *out, size_t length, uint64_t position);
bool pattern_matches(const void *bytes, size_t length, uint64_t position);

/* Two connected stream sockets; the second is not blocking. */
void net_pair(const struct net_scene *scene, int out_fds[2]);
/* The recorder's callbacks, which call `end->acts`. */
void net_end_config(struct net_end *end, numaperf_conn_config_t *config);
/* Make a pair and have the loop adopt one end. `config` may be NULL; its callbacks are set. */
void net_end_open(struct net_scene *scene, struct net_end *end, const struct net_acts *acts,
                  numaperf_conn_config_t *config);
/* The same over a socket that is there already; what numaperf_conn_adopt() returns. */
int net_end_adopt(struct net_scene *scene, struct net_end *end, const struct net_acts *acts,
                  numaperf_conn_config_t *config, int fd);
/* Close what is open of it, and turn until it was told. Its bytes must have been right. */
void net_end_close(struct net_end *end);

/* Write pattern bytes; what numaperf_conn_write() returns. */
int net_write(struct net_end *end, size_t length);

/* The peer sends pattern bytes, as many of `length` as go; how many. */
size_t net_peer_send(struct net_end *end, size_t length);
/* The peer reads at most `max` bytes, which must be in pattern; how many. */
size_t net_peer_receive(struct net_end *end, size_t max);
/* Both, until so many bytes have been sent and received in all. */
void net_peer_sends_until(struct net_end *end, uint64_t sent);
void net_peer_gets_until(struct net_end *end, uint64_t got);
void net_peer_close(struct net_end *end);
/* A TCP peer resets. */
void net_peer_reset(struct net_end *end);
/* Socket buffers as small as the kernel allows. */
void net_make_tiny(int fd);
/* The same for a connection; a TCP peer keeps its window, since TCP waits long in front of a tiny
 * one. */
void net_make_tight(const struct net_end *end);

#endif
