/* SPDX-License-Identifier: MIT */
/*
 * A connection: what has been received and not been told, what has been written and not been sent,
 * and how it ends. How bytes get to and from the kernel is its driver's: conn_ring.c on io_uring,
 * conn_epoll.c on libuv; tests bring their own.
 */
#ifndef NUMAPERF_NET_CONN_H
#define NUMAPERF_NET_CONN_H

#include "net/net.h"
#include "net/output.h"

#include <sys/socket.h>
#include <sys/uio.h>

#define NUMAPERF__CONN_PARTS_MAX 8u     /* of a gather write that one send takes */
#define NUMAPERF__CONN_ZERO_COPY_MAX 2u /* sends that wait for their notification */

/*
 * What a driver does; each call only when the comment allows it. Nothing is told from inside a
 * call: completions come later, through the numaperf__conn_… functions below.
 */
struct numaperf__conn_driver {
    int backend; /* NUMAPERF_IO_* */
    /* `fd` is set. 0, or -errno and nothing is kept. */
    int (*open)(struct numaperf_conn *conn);
    /* Not receiving: begin to. Sets is_receiving, or has the connection looked at again when there
       is no room for the request now (numaperf__conn_look_again()); so with the next two. */
    void (*receive)(struct numaperf_conn *conn);
    /* Receiving: stop. Sets is_stopping. What comes meanwhile is still told; then
     * _receive_ended(-ECANCELED). */
    void (*stop_receive)(struct numaperf_conn *conn);
    /* Not sending, output is not empty: send from its front, as much as one request takes. Sets
       is_sending. */
    void (*send)(struct numaperf_conn *conn);
    /* Nothing is being sent: shut down the sending side. 0; -errno; -EINPROGRESS: told later by
       _shut(); -EAGAIN: not now, it is looked at again. */
    int (*shut)(struct numaperf_conn *conn);
    /* Closing: have what is in flight end soon, with its usual calls. May be called again. */
    void (*give_up)(struct numaperf_conn *conn);
    /* Nothing is in flight: close `fd`, and what the driver has. Told by _gone(), exactly once,
       which this one may call from inside. Called again when it has it looked at again. */
    void (*close)(struct numaperf_conn *conn);
    /* In the turn of the net, after its todo list: tell what has ended inside the calls above. The
     * driver marks the net dirty when there is something. NULL: everything completes by itself. */
    void (*turn)(struct numaperf__net *net);
};

extern const struct numaperf__conn_driver numaperf__conn_ring;
extern const struct numaperf__conn_driver numaperf__conn_epoll;

/* A send whose memory the kernel uses until it says so: by a notification, after its result. */
struct numaperf__conn_zero_copy {
    struct numaperf__op op;
    struct numaperf_conn *conn;
    struct numaperf__piece *piece; /* pinned; NULL: this one is free */
};

/* Received bytes that wait since reading is paused. */
struct numaperf__conn_stash {
    struct numaperf__slice *slices; /* a ring of `capacity` */
    uint32_t capacity, first, count;
};

struct numaperf_conn {
    struct numaperf__net *net;
    const struct numaperf__conn_driver *driver;
    numaperf_conn_callbacks_t callbacks;
    void *data;
    int32_t fd;
    bool is_direct;

    /* State; see conn.c. */
    uint8_t state;     /* enum conn_state */
    bool is_receiving; /* the driver is */
    bool is_stopping;  /* it was told to stop */
    bool is_sending;   /* a request is under way */
    bool is_shutting;  /* the same */
    bool is_paused;    /* by the user */
    bool is_starved;   /* in net->starved */
    bool in_todo;
    bool input_ended;   /* the kernel told the end */
    bool end_told;      /* the user knows */
    bool end_wanted;    /* shut down once the output is empty */
    bool end_done;      /* it is */
    bool finish_wanted; /* close once the output is empty */
    bool over_high;     /* on_drain is owed */
    bool reset_wanted;  /* close with a reset */
    bool is_tcp;
    bool filter_ended; /* on_ending was called */
    bool filter_waits; /* the filter has more to deliver once reading is resumed */
    bool lingers;      /* all is sent and shut down: the peer's last bytes are thrown away, since
                          closing before them would reset what it has yet to read */
    int32_t reason;    /* of the close */

    struct numaperf__list link;         /* in net->conns */
    struct numaperf__list todo_link;    /* in net->todo */
    struct numaperf__list starved_link; /* in net->starved */

    /* Input. */
    struct numaperf__slice *current; /* what on_read is looking at; NULL outside */
    struct numaperf__conn_stash stash;

    /* Output. */
    struct numaperf__conn_written *written_first, *written_last; /* `done` calls that are owed */
    struct numaperf__output output;
    uint32_t high_water_bytes, low_water_bytes, output_limit_bytes, zero_copy_bytes;

    /* Time. */
    numaperf_timer_t deadline;
    uint32_t idle_timeout_ms, read_timeout_ms, write_timeout_ms; /* UINT32_MAX: never */
    uint64_t received_ms, sent_ms; /* when the last byte came, or went */
    uint64_t waiting_ms;           /* since when output waits; counts while it is not empty */
    uint64_t reading_ms;           /* since when it reads without a byte */
    uint64_t linger_until_ms;      /* with `lingers`: the one deadline that counts; no counter */
    uint64_t lingered_bytes;       /* thrown away */
    uint32_t pinned_count;         /* pieces whose notification is owed */

    /* Filter. */
    numaperf_conn_filter_t filter; /* on_received NULL: there is none */
    void *filter_state;

    /* Who made it: told when it is gone, just before its memory is. */
    struct numaperf__list origin_link; /* for the origin */
    void *origin;
    void (*origin_gone)(struct numaperf_conn *conn, int reason);

    struct sockaddr_storage *peer; /* in the arena, once asked for */
    uint32_t peer_length;

    /* The driver's. */
    struct numaperf__op receive_op, send_op, close_op;
    struct numaperf__conn_zero_copy zero_copy[NUMAPERF__CONN_ZERO_COPY_MAX];
    size_t sending_bytes;  /* of the request under way */
    bool zero_copy_learns; /* it is given up when the kernel copies all the same */
    struct msghdr message;
    struct iovec parts[NUMAPERF__CONN_PARTS_MAX];
    struct numaperf__conn_watch *watch; /* conn_epoll.c's, in the arena: outlives the connection */
};

/* The config of connections, checked and with its defaults in place. -EINVAL, -E2BIG, recorded. */
int numaperf__conn_config(const numaperf_conn_config_t *config, numaperf_conn_config_t *out);

/* Who makes a connection, see `origin`. */
struct numaperf__conn_origin {
    void *origin;
    void (*gone)(struct numaperf_conn *conn, int reason);
    enum numaperf__net_counter counter; /* ACCEPTED or CONNECTED */
    bool is_direct;
    bool is_tcp;
};

/*
 * A connection over `fd`, `config` being checked already; on_open is called, reading begins. On
 * failure `fd` stays the caller's and nothing was told. When on_open fails, the connection is
 * closed later, as always, and this is still 0.
 */
int numaperf__conn_make(struct numaperf__net *net, int fd, const numaperf_conn_config_t *config,
                        const struct numaperf__conn_origin *origin, struct numaperf_conn **out);

/* The listener is closing: on_shutdown, or an end of what is received. */
void numaperf__conn_shutdown(struct numaperf_conn *conn);

/* ---- for drivers ---- */

/* Bytes have come; the reference is the connection's. May close it. */
void numaperf__conn_received(struct numaperf_conn *conn, struct numaperf__slice *slice);
/*
 * The driver does not receive any more (it has cleared is_receiving and is_stopping): 0 the peer's
 * end, -ENOBUFS no buffer, -EAGAIN nothing the matter: begin again, -ECANCELED it was told to,
 * another -errno an error of the socket.
 */
void numaperf__conn_receive_ended(struct numaperf_conn *conn, int rc);
/* A send has ended (the driver has cleared is_sending): so many bytes, or -errno. */
void numaperf__conn_sent(struct numaperf_conn *conn, int rc);
/* The kernel is done with a piece that the driver pinned. `copied`: it was no zero copy after all.
 */
void numaperf__conn_notified(struct numaperf_conn *conn, struct numaperf__piece *piece,
                             bool copied);
/* The sending side is shut down: 0 or -errno. */
void numaperf__conn_shut(struct numaperf_conn *conn, int rc);
/* The descriptor is closed. Frees the connection. */
void numaperf__conn_gone(struct numaperf_conn *conn);
/* A timeout has passed: which counter; NUMAPERF__NET_COUNTERS for the end of lingering. */
void numaperf__conn_timed_out(struct numaperf_conn *conn, enum numaperf__net_counter counter);

/* The turn of one that is in `todo`; may free it. */
void numaperf__conn_turn(struct numaperf_conn *conn);
/* Look at it in the net's next turn, before the loop waits: start what is wanted. */
void numaperf__conn_look_again(struct numaperf_conn *conn);
/* Whether anything of it is in flight. */
bool numaperf__conn_is_busy(const struct numaperf_conn *conn);
/* Assert that it is consistent; for tests. */
void numaperf__conn_validate(const struct numaperf_conn *conn);

#endif
