/* SPDX-License-Identifier: MIT */
/*
 * Stream sockets on a loop: listeners and connections; datagrams are in udp.h. A socket belongs to
 * one loop for all its life: its callbacks run on that loop's thread, and every call about it is
 * made there. Buffers lie in the loop's arena, a worker's on the worker's node.
 *
 * Callbacks are the same on io_uring and on epoll; only numaperf_conn_backend() tells them apart.
 * Inside a callback every call on every socket of the same loop is allowed.
 */
#ifndef NUMAPERF_NET_H
#define NUMAPERF_NET_H

#include <numaperf/cpuset.h>
#include <numaperf/loop.h>
#include <numaperf/udp.h>
#include <numaperf/version.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

NUMAPERF_BEGIN_DECLS

struct iovec;
struct numaperf_rt;

typedef struct numaperf_conn numaperf_conn_t;
typedef struct numaperf_listener numaperf_listener_t;
typedef struct numaperf_connect_request numaperf_connect_t;
/* Received bytes that the user keeps: see numaperf_conn_hold(). */
typedef struct numaperf_buffer numaperf_buffer_t;

/* ---- connections ---- */

/*
 * What a connection tells. `data` is numaperf_conn_data(): at first what its config says. All but
 * on_read may be NULL.
 */
typedef struct numaperf_conn_callbacks {
    /* It is there: accepted, connected or adopted. < 0 closes it, with that as the reason. */
    int (*on_open)(numaperf_conn_t *conn, void *data);
    /* Bytes have come; they are valid until this returns, or as long as they are held. */
    void (*on_read)(numaperf_conn_t *conn, const void *bytes, size_t length, void *data);
    /* The peer sends no more. Writing still works. NULL: numaperf_conn_finish(). A connection whose
       sending was ended as well closes by itself then, with reason 0. */
    void (*on_end)(numaperf_conn_t *conn, void *data);
    /* What waits to be sent has fallen to the low water mark, after a write returned 1. */
    void (*on_drain)(numaperf_conn_t *conn, void *data);
    /* Its listener is closing: end it soon, it is reset when the grace is over. NULL: what has
       been received is still read, and then the connection ends as if the peer had ended it. */
    void (*on_shutdown)(numaperf_conn_t *conn, void *data);
    /* The last call, exactly once. 0: closed or finished by the user; -ETIMEDOUT; -ECONNRESET,
       -EPIPE or another -errno of the socket; NUMAPERF_E_STOPPING; what on_open returned. */
    void (*on_close)(numaperf_conn_t *conn, int reason, void *data);
} numaperf_conn_callbacks_t;

/* Bits of numaperf_conn_config_t.flags. */
enum {
    NUMAPERF_CONN_DELAY = 1u << 0 /* leave Nagle's algorithm on; else TCP_NODELAY is set */
};

/* What all connections of a listener, or one that is made, have in common. */
typedef struct numaperf_conn_config {
    uint32_t size;                       /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;                      /* NUMAPERF_CONN_*; an unknown bit is -EINVAL */
    numaperf_conn_callbacks_t callbacks; /* on_read is needed */
    void *data;                          /* of every connection, until numaperf_conn_set_data() */
    uint32_t idle_timeout_ms;            /* no byte either way; 0 is 300 000; UINT32_MAX never */
    uint32_t read_timeout_ms;            /* no byte received while reading is on; 0 or MAX never */
    uint32_t write_timeout_ms;           /* bytes wait and none goes out; 0 is 30 000; MAX never */
    uint32_t high_water_bytes; /* a write that leaves more than this waiting returns 1; 0: 1 MiB */
    uint32_t low_water_bytes;  /* below the high one; 0: a quarter of it */
    uint32_t output_limit_bytes; /* a write that would leave more waiting is -EAGAIN; 0: 64 MiB */
    uint32_t zero_copy_bytes;    /* borrowed and held bytes from this on are sent without a copy,
                                    where the kernel can; 0: from 64 KiB on, as long as the kernel
                                    does not say that it copied all the same; UINT32_MAX never */
    uint32_t reserved;           /* 0 */
} numaperf_conn_config_t;

#define NUMAPERF_CONN_CONFIG_INIT                                                        \
    {                                                                                    \
        sizeof(numaperf_conn_config_t), 0, {0, 0, 0, 0, 0, 0}, 0, 0, 0, 0, 0, 0, 0, 0, 0 \
    }

/**
 * Take over a connected stream socket: of socketpair(2), or accepted elsewhere. It is made
 * non-blocking. on_open is called before this returns.
 *
 * Returns:  0; -EINVAL; -E2BIG; -ENOTSOCK, -ENOTCONN; -ENOMEM; -EBUSY; NUMAPERF_E_STOPPING. On
 *           failure `fd` stays open and the caller's.
 * Owner:    the loop, which closes `fd`.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_adopt(numaperf_loop_t *loop, int fd,
                                     const numaperf_conn_config_t *config, numaperf_conn_t **out);

/**
 * Send bytes, after everything written before. What cannot go out at once is copied.
 *
 * Returns:  0; 1 when more than the high water mark waits now: on_drain tells when it does not;
 *           -EINVAL; -EAGAIN it would be more than the limit and nothing was taken; -ENOMEM;
 *           -EPIPE it was ended, finished or closed.
 * Owner:    the bytes are the caller's again when this returns.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_write(numaperf_conn_t *conn, const void *bytes, size_t length);

/**
 * The same for several parts, all or none of which are taken.
 *
 * Returns:  as numaperf_conn_write().
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_writev(numaperf_conn_t *conn, const struct iovec *parts,
                                      size_t part_count);

/* Borrowed bytes are the caller's again. `status` is 0 when all were sent, else why not. */
typedef void (*numaperf_written_fn)(numaperf_conn_t *conn, int status, void *data);

/**
 * The same without a copy: the bytes must not change until `done`, which is called exactly once
 * when this succeeds, never inside it, and before on_close.
 *
 * Returns:  as numaperf_conn_write().
 * Owner:    the bytes are lent until `done`.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_write_borrowed(numaperf_conn_t *conn, const void *bytes,
                                              size_t length, numaperf_written_fn done, void *data);

/**
 * Inside on_read: keep the bytes it was given until they are released.
 *
 * A loop lends out half of its buffers at most.
 *
 * Returns:  the buffer; NULL outside on_read, or when too many are held: copy then.
 * Owner:    caller, until numaperf_buffer_release() or numaperf_conn_write_held().
 * Threads:  owner.
 */
NUMAPERF_API numaperf_buffer_t *numaperf_conn_hold(numaperf_conn_t *conn);

/**
 * Give a held buffer back; NULL is allowed.
 *
 * Threads:  owner of the loop it came from.
 */
NUMAPERF_API void numaperf_buffer_release(numaperf_buffer_t *buffer);

/**
 * Send bytes that lie in a held buffer, without a copy. The connection may be another one of the
 * same loop.
 *
 * Returns:  as numaperf_conn_write(); on success the hold is the connection's.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_write_held(numaperf_conn_t *conn, numaperf_buffer_t *buffer,
                                          const void *bytes, size_t length);

/**
 * Send nothing more: after what was written the peer sees the end. Reading goes on.
 *
 * Returns:  0, also when it was ended before; -EINVAL; -EPIPE it is closed.
 * Threads:  owner.
 * Source:   shutdown(2), SHUT_WR.
 */
NUMAPERF_API int numaperf_conn_end(numaperf_conn_t *conn);

/**
 * Read no more, send what was written, then close with reason 0. The write timeout limits it. What
 * the peer still sends is thrown away for up to 2 s, until its end: closing before that would reset
 * what it has not read yet.
 *
 * Returns:  0; -EINVAL; -EPIPE it is closed already.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_finish(numaperf_conn_t *conn);

/**
 * Close now, dropping what was not sent. on_close comes later, never inside this call; no other
 * callback but those of borrowed bytes comes before it.
 *
 * `reason`: 0 or negative; what on_close gets. Nothing happens when it is closed already.
 *
 * Threads:  owner.
 */
NUMAPERF_API void numaperf_conn_close(numaperf_conn_t *conn, int reason);

/**
 * The same, and a TCP peer sees a reset instead of an end.
 *
 * Threads:  owner.
 * Source:   socket(7), SO_LINGER.
 */
NUMAPERF_API void numaperf_conn_reset(numaperf_conn_t *conn, int reason);

/**
 * Stop reading: the kernel's buffer fills, and the peer waits. Bytes that have been received
 * already are kept, and given to on_read after numaperf_conn_resume(). Both may be called at any
 * time, in any order; the last one counts.
 *
 * Threads:  owner.
 */
NUMAPERF_API void numaperf_conn_pause(numaperf_conn_t *conn);

/**
 * Read again.
 *
 * Threads:  owner.
 */
NUMAPERF_API void numaperf_conn_resume(numaperf_conn_t *conn);

/**
 * Other timeouts for this connection; each as in numaperf_conn_config_t, 0 its default.
 *
 * Units:    milliseconds.
 * Returns:  0; -EINVAL.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_set_timeouts(numaperf_conn_t *conn, uint32_t idle_ms,
                                            uint32_t read_ms, uint32_t write_ms);

/**
 * Other callbacks, for a connection that changes its protocol. They count from the next event.
 *
 * Returns:  0; -EINVAL.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_set_callbacks(numaperf_conn_t *conn,
                                             const numaperf_conn_callbacks_t *callbacks);

/**
 * Bytes that were written and have not been sent.
 *
 * Units:    bytes.
 * Threads:  owner.
 */
NUMAPERF_API size_t numaperf_conn_queued_bytes(const numaperf_conn_t *conn);

/**
 * Attach a pointer; it is what callbacks get as `data`.
 *
 * Threads:  owner.
 */
NUMAPERF_API void numaperf_conn_set_data(numaperf_conn_t *conn, void *data);

/**
 * The attached pointer.
 *
 * Threads:  owner.
 */
NUMAPERF_API void *numaperf_conn_data(const numaperf_conn_t *conn);

/**
 * The loop it belongs to.
 *
 * Threads:  any.
 */
NUMAPERF_API numaperf_loop_t *numaperf_conn_loop(const numaperf_conn_t *conn);

/**
 * Which path serves it.
 *
 * Returns:  NUMAPERF_IO_URING or NUMAPERF_IO_EPOLL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_conn_backend(const numaperf_conn_t *conn);

/**
 * Its descriptor, for socket options; not for reading, writing or closing.
 *
 * Returns:  the descriptor; -EBADF it is closed, or is a direct descriptor of the ring.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_fd(const numaperf_conn_t *conn);

/**
 * Address of the peer, asked of the kernel the first time.
 *
 * Returns:  its length; -EINVAL; -ENOTCONN; -EBADF.
 * Threads:  owner.
 * Source:   getpeername(2).
 */
NUMAPERF_API int numaperf_conn_peer(numaperf_conn_t *conn, struct sockaddr_storage *out);

/**
 * The same as text: "192.0.2.1:80", "[2001:db8::1]:80", "unix".
 *
 * Returns:  as snprintf(); -errno as numaperf_conn_peer().
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_peer_text(numaperf_conn_t *conn, char *buf, size_t size);

/* ---- filters: TLS and the like ---- */

/*
 * Stands between the socket and the callbacks. What is received goes to `on_received`, which gives
 * what it makes of it to numaperf_conn_deliver(); what is written goes to `on_written`, which
 * gives what it makes of it to numaperf_conn_send_raw(). `state` is the filter's own.
 */
typedef struct numaperf_conn_filter {
    uint32_t size;  /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags; /* none yet; an unknown bit is -EINVAL */
    /* < 0 resets the connection, with that as the reason. */
    int (*on_received)(numaperf_conn_t *conn, const void *bytes, size_t length, void *state);
    /* As numaperf_conn_write(); the bytes have to be taken whole, or not at all. NULL: bytes that
       are written pass as they are, which is what a filter whose sending the kernel has taken
       over (kTLS) sets. */
    int (*on_written)(numaperf_conn_t *conn, const void *bytes, size_t length, void *state);
    /* numaperf_conn_end() or _finish() was called: a last word may go out. NULL: there is none. */
    void (*on_ending)(numaperf_conn_t *conn, void *state);
    /* The peer's end was received. NULL or >= 0: it is an end; < 0: it was cut off, that is why. */
    int (*on_received_end)(numaperf_conn_t *conn, void *state);
    /* The connection is gone, or the filter is replaced. */
    void (*on_removed)(void *state);
} numaperf_conn_filter_t;

#define NUMAPERF_CONN_FILTER_INIT                        \
    {                                                    \
        sizeof(numaperf_conn_filter_t), 0, 0, 0, 0, 0, 0 \
    }

/**
 * Put a filter in place, best in on_open; NULL removes it. `filter` is read during the call.
 *
 * While the filter is not open, on_read cannot come, and what is written waits in the filter or
 * is refused by it.
 *
 * Returns:  0; -EINVAL; -E2BIG; -EPIPE it is closed.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_set_filter(numaperf_conn_t *conn,
                                          const numaperf_conn_filter_t *filter, void *state);

/**
 * From a filter: bytes for on_read. They cannot be held.
 *
 * Returns:  0; 1 they were delivered and reading is paused now; -EAGAIN it was paused and they were
 *           not: after both, deliver no more until on_received is called again, which may be with
 *           no bytes; -EPIPE it is closed: return at once.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_deliver(numaperf_conn_t *conn, const void *bytes, size_t length);

/**
 * From a filter: bytes for the socket.
 *
 * Returns:  as numaperf_conn_write().
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_conn_send_raw(numaperf_conn_t *conn, const void *bytes, size_t length);

/* ---- listeners ---- */

/* Bits of numaperf_listen_config_t.flags. */
enum {
    NUMAPERF_LISTEN_NO_STEER = 1u << 0, /* let the kernel spread connections by hash */
    NUMAPERF_LISTEN_DIRECT = 1u << 1,   /* direct descriptors of the ring, where it has them: a
                                           connection has no fd and no peer address then, and is
                                           not handed over */
    NUMAPERF_LISTEN_V6_ONLY = 1u << 2   /* "::" takes no IPv4 */
};

/* Who decides which worker gets a connection. */
enum {
    NUMAPERF_STEER_SHARED = 0,   /* no choice: one worker; or shared sockets, whoever is first:
                                    AF_UNIX, inherited ones that are no group */
    NUMAPERF_STEER_HASH,         /* a socket a worker, the kernel's hash of the addresses */
    NUMAPERF_STEER_INCOMING_CPU, /* SO_INCOMING_CPU of each worker's socket */
    NUMAPERF_STEER_BPF           /* a program: the worker of the PU that the packet arrives on */
};

typedef struct numaperf_listen_config {
    uint32_t size;         /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;        /* NUMAPERF_LISTEN_*; an unknown bit is -EINVAL */
    const char *address;   /* numeric, IPv4 or IPv6; NULL: "::" for both, else "0.0.0.0" */
    const char *unix_path; /* AF_UNIX instead; an old socket there is replaced; '@' is abstract */
    const int *fds;        /* listening sockets instead: inherited, or of systemd; the listener
                              keeps duplicates */
    uint32_t fd_count;
    uint16_t port; /* 0: the kernel chooses, the same for all workers */
    uint16_t reserved;
    uint32_t backlog;         /* 0 is SOMAXCONN */
    uint32_t connections_max; /* of each worker; 0 is 10 000; UINT32_MAX no limit */
    uint32_t handoff_max;     /* connections on their way to each worker from others of its node
                                 that had more; 0 is 64; UINT32_MAX never hands over */
    uint32_t reserved_2;
    numaperf_nodemask_t nodes;          /* listen on workers of these nodes; empty: on all */
    const numaperf_conn_config_t *conn; /* of every connection; read during the call */
} numaperf_listen_config_t;

#define NUMAPERF_LISTEN_CONFIG_INIT                                                 \
    {                                                                               \
        sizeof(numaperf_listen_config_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {{0}}, 0 \
    }

/**
 * Listen on every worker of a runtime, or on those of some nodes. Each has its own socket where
 * the kernel can spread connections over several (SO_REUSEPORT), and accepts for itself.
 *
 * A port that another process listens on is -EADDRINUSE, though SO_REUSEPORT would share it.
 *
 * Inherited sockets: when there are as many as workers, of one reuseport group, each worker has
 * one; else every worker accepts from all of them.
 *
 * A connection is handed over to the worker of the node that has the fewest when this one has 8
 * more and a quarter more than that, or is full while that one is not. What is on its way when the
 * runtime stops is reset.
 *
 * Short of descriptors or memory, a worker stops accepting until a connection of it has closed, or
 * for a tenth of a second.
 *
 * Returns:  0; -EINVAL; -E2BIG; -errno of socket, bind or listen; -EDEADLK on a worker;
 *           NUMAPERF_E_NO_NODE; NUMAPERF_E_STOPPING; -ENOMEM. On failure nobody listens.
 * Owner:    the runtime: until numaperf_listener_close() has ended, or numaperf_rt_destroy().
 * Threads:  any but workers.
 * Source:   socket(7), SO_REUSEPORT, SO_ATTACH_REUSEPORT_CBPF, SO_INCOMING_CPU.
 */
NUMAPERF_API int numaperf_rt_listen(struct numaperf_rt *rt, const numaperf_listen_config_t *config,
                                    numaperf_listener_t **out);

/**
 * Listen on one loop. `nodes` and `handoff_max` mean nothing.
 *
 * Returns:  as numaperf_rt_listen().
 * Owner:    the loop, until numaperf_listener_close() has ended.
 * Threads:  owner.
 */
NUMAPERF_API int numaperf_loop_listen(numaperf_loop_t *loop, const numaperf_listen_config_t *config,
                                      numaperf_listener_t **out);

/* A listener is gone, with all its connections. `reset_count`: those the grace was too short for.
 */
typedef void (*numaperf_listener_closed_fn)(uint64_t reset_count, void *data);

/**
 * Accept no more, have its connections end (see on_shutdown) and reset those that have not after
 * `grace_ns`. Connections that the kernel has accepted already are still served.
 *
 * `closed` is the last call, on the thread of one of its loops. It may be NULL. When the runtime
 * stops it does the same with all listeners, with its own timeout as the grace.
 *
 * Returns:  0; -EINVAL; -EBUSY it is closing already.
 * Threads:  any; owner for one loop's.
 */
NUMAPERF_API int numaperf_listener_close(numaperf_listener_t *listener, uint64_t grace_ns,
                                         numaperf_listener_closed_fn closed, void *data);

/**
 * Where it listens: "127.0.0.1:80", "[::]:80", "unix:/run/x".
 *
 * Returns:  as snprintf(); -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_listener_address(const numaperf_listener_t *listener, char *buf,
                                           size_t size);

/**
 * The TCP port.
 *
 * Returns:  the port; 0 for AF_UNIX; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_listener_port(const numaperf_listener_t *listener);

/**
 * How connections are spread, NUMAPERF_STEER_*, and why not better: NULL when it is the best.
 *
 * Returns:  0; -EINVAL.
 * Owner:    `listener`.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_listener_steering(const numaperf_listener_t *listener, uint32_t *out,
                                            const char **out_reason);

/**
 * Its listening descriptors, to hand to a new process before this one closes. Once they were asked
 * for, a path of AF_UNIX is left in place, for who goes on with it.
 *
 * Returns:  how many there are, 0 when it is closing; at most `max` are written. -EINVAL.
 * Owner:    `listener`.
 * Threads:  any, while it is not closing.
 */
NUMAPERF_API int numaperf_listener_fds(const numaperf_listener_t *listener, int *out_fds,
                                       size_t max);

/* ---- connecting ---- */

/* `conn` is there and on_open has been called; or NULL, and `status` says why: -ETIMEDOUT;
   -ECANCELED; NUMAPERF_E_STOPPING the loop ends; libuv's UV_EAI_* of a name; of the failures of
   several addresses the one that says most of the peer; what the connection could not be made for.
 */
typedef void (*numaperf_connected_fn)(numaperf_conn_t *conn, int status, void *data);

typedef struct numaperf_connect_config {
    uint32_t size;         /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;        /* none yet; an unknown bit is -EINVAL */
    const char *host;      /* a name, or a numeric address */
    const char *unix_path; /* AF_UNIX instead; '@' is abstract */
    uint16_t port;
    uint16_t reserved;
    uint32_t timeout_ms;       /* for all of it, names included; 0 is 30 000; MAX never */
    uint32_t attempt_delay_ms; /* before another address is tried beside; 0 is 250 */
    uint32_t reserved_2;
    const numaperf_conn_config_t *conn; /* read during the call */
} numaperf_connect_config_t;

#define NUMAPERF_CONNECT_CONFIG_INIT                                 \
    {                                                                \
        sizeof(numaperf_connect_config_t), 0, 0, 0, 0, 0, 0, 0, 0, 0 \
    }

/**
 * Connect: names are resolved in libuv's thread pool, addresses of both families are tried by
 * turns, the first that answers wins.
 *
 * `connected` is called exactly once, never inside this call.
 *
 * Returns:  0; -EINVAL; -E2BIG; -ENAMETOOLONG; -ENOMEM; -EBUSY; NUMAPERF_E_STOPPING.
 * Owner:    the loop; `out`, which may be NULL, is valid until `connected`.
 * Threads:  owner.
 * Source:   RFC 8305; getaddrinfo(3); connect(2).
 */
NUMAPERF_API int numaperf_connect(numaperf_loop_t *loop, const numaperf_connect_config_t *config,
                                  numaperf_connected_fn connected, void *data,
                                  numaperf_connect_t **out);

/**
 * Give up: `connected` is called with -ECANCELED, not inside this call.
 *
 * Threads:  owner.
 */
NUMAPERF_API void numaperf_connect_cancel(numaperf_connect_t *connect);

/* ---- figures ---- */

/* Of a loop, or of all workers of a runtime; since the start. */
typedef struct numaperf_net_statistics {
    uint32_t size;        /* bytes of this struct the caller knows; set by _INIT */
    uint32_t connections; /* open now */
    uint64_t accepted;
    uint64_t connected;      /* made, or adopted */
    uint64_t handed_over;    /* accepted here, served by another worker */
    uint64_t refused_limit;  /* closed at once: connections_max */
    uint64_t refused_memory; /* closed at once: no memory */
    uint64_t accept_pauses;  /* accepting stopped for a while: no descriptors, or no memory */
    uint64_t closed;         /* with reason 0 */
    uint64_t failed;         /* with another reason, the next three included */
    uint64_t idle_timeouts;
    uint64_t read_timeouts;
    uint64_t write_timeouts;
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t receives;      /* pieces that on_read was given */
    uint64_t sends;         /* requests to the kernel */
    uint64_t partial_sends; /* of these: not all of it was taken at once */
    uint64_t zero_copy_sends;
    uint64_t zero_copy_copied;  /* of these: the kernel copied all the same */
    uint64_t buffers_exhausted; /* a receive had to wait for a buffer */
    uint64_t datagrams_received;
    uint64_t datagrams_sent;
} numaperf_net_stats_t;

#define NUMAPERF_NET_STATS_INIT                                                                   \
    {                                                                                             \
        sizeof(numaperf_net_stats_t), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0                                                                                  \
    }

/**
 * What one loop's sockets have done.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_loop_net_stats(const numaperf_loop_t *loop, numaperf_net_stats_t *out);

/**
 * The sum over all workers.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any, until numaperf_rt_destroy().
 */
NUMAPERF_API int numaperf_rt_net_stats(const struct numaperf_rt *rt, numaperf_net_stats_t *out);

NUMAPERF_END_DECLS
#endif
