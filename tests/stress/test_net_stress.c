/* SPDX-License-Identifier: MIT */
/*
 * A byte-exact client and servers on workers: random sizes, splits, pauses, resets and half-closes
 * on both sides. Every byte that comes back is the one that was sent, or the connection has ended
 * for a cause that somebody gave. Where there are several nodes, what is received lies on the
 * worker's. NUMAPERF_STRESS_SEED replays the choices.
 */
#include "support/memory_view.h"
#include "support/net_scene.h"
#include "support/runtimes.h"
#include "support/stress.h"

#include <numaperf.h>

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PEERS 24u
#define CONNECTIONS 2000
#define CONNECTIONS_MIN 60
#define STREAM_BYTES_MAX 150000
#define PIECE_MAX 60000
#define REASON_RESET (-4711)

enum { PEER_FREE = 0, PEER_OPEN, PEER_CLOSED };

/* Both sides of one connection. */
struct peer {
    /* The client's. */
    int fd;
    uint64_t random, total, sent, got;
    uint64_t reset_at; /* when so much has come back; UINT64_MAX: never */
    bool has_ended, is_done;
    bool may_break;    /* one of the two will reset it, perhaps */
    uint32_t worker;   /* that serves it */
    _Atomic int state; /* PEER_...; OPEN by the client, CLOSED by the worker */
    /* The worker's. */
    int server_fd;
    int node;
    numaperf_conn_t *conn;
    uint64_t server_random, received;
    unsigned loans;
    bool is_told_end, server_resets;
};

static struct {
    struct runtime_box box;
    struct net_scene scene; /* its kind only */
    struct peer peers[PEERS];
    atomic_int wrong;     /* things that must not be */
    atomic_int elsewhere; /* pages of received bytes that are not on the worker's node */
    atomic_int looked_at; /* pages */
    atomic_int too_late;  /* connections that were reset before they were adopted */
} all;

static void server_check(bool holds, const char *what)
{
    if (holds)
        return;
    (void)atomic_fetch_add(&all.wrong, 1);
    (void)fprintf(stderr, "wrong: %s\n", what);
}

/* ---- the server, on its worker ---- */

static void server_done(numaperf_conn_t *conn, int status, void *data)
{
    struct peer *peer = numaperf_conn_data(conn);
    server_check(peer->loans > 0 && peer->conn == conn, "a loan comes back once, before the end");
    server_check(status == 0 || peer->may_break, "a loan is sent");
    peer->loans--;
    free(data);
}

/* In any of the ways there are. */
static int server_echo(struct peer *peer, const char *bytes, size_t length)
{
    size_t half = (size_t)stress_below(&peer->server_random, length + 1);
    const struct iovec parts[2] = {{(void *)(uintptr_t)bytes, half},
                                   {(void *)(uintptr_t)(bytes + half), length - half}};
    numaperf_buffer_t *buffer = NULL;
    char *copy = NULL;
    switch (stress_below(&peer->server_random, 4)) {
    case 0:
        return numaperf_conn_writev(peer->conn, parts, 2);
    case 1:
        buffer = numaperf_conn_hold(peer->conn);
        if (buffer != NULL)
            return numaperf_conn_write_held(peer->conn, buffer, bytes, length);
        break;
    case 2:
        copy = malloc(length);
        memcpy(copy, bytes, length);
        peer->loans++;
        return numaperf_conn_write_borrowed(peer->conn, copy, length, server_done, copy);
    default:
        break;
    }
    return numaperf_conn_write(peer->conn, bytes, length);
}

static void server_look_at_pages(const struct peer *peer, const void *bytes, size_t length)
{
    size_t counts[VIEW_NODES + 1];
    uintptr_t first = (uintptr_t)bytes & ~(uintptr_t)4095;
    if (!view_pages((const void *)first, (uintptr_t)bytes + length - first, counts))
        return;
    for (int node = 0; node <= VIEW_NODES; node++)
        (void)atomic_fetch_add(node == peer->node ? &all.looked_at : &all.elsewhere,
                               (int)counts[node]);
}

static void server_on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    struct peer *peer = data;
    server_check(!peer->is_told_end, "no byte comes after the end");
    server_check(pattern_matches(bytes, length, peer->received), "bytes come in order");
    peer->received += length;
    if (stress_below(&peer->server_random, 8) == 0)
        server_look_at_pages(peer, bytes, length);
    server_check(server_echo(peer, bytes, length) >= 0, "an echo is taken");
    uint64_t choice = stress_below(&peer->server_random, 64);
    if (peer->server_resets && choice == 0)
        numaperf_conn_reset(conn, REASON_RESET);
    else if (choice < 16)
        numaperf_conn_pause(conn);
    if (choice < 8)
        numaperf_conn_resume(conn);
}

static void server_on_end(numaperf_conn_t *conn, void *data)
{
    struct peer *peer = data;
    peer->is_told_end = true;
    server_check(numaperf_conn_finish(conn) == 0, "it can be finished");
}

static void server_on_close(numaperf_conn_t *conn, int reason, void *data)
{
    struct peer *peer = data;
    server_check(peer->conn == conn && peer->loans == 0, "on_close is the last word");
    server_check(reason == 0 || peer->may_break, "nothing breaks by itself");
    peer->conn = NULL;
    atomic_store(&peer->state, PEER_CLOSED);
}

static void server_adopt(numaperf_worker_t *worker, void *arg)
{
    struct peer *peer = arg;
    numaperf_conn_config_t config = NUMAPERF_CONN_CONFIG_INIT;
    config.callbacks = (numaperf_conn_callbacks_t){
        .on_read = server_on_read, .on_end = server_on_end, .on_close = server_on_close};
    config.data = peer;
    config.zero_copy_bytes = stress_below(&peer->server_random, 2) == 0 ? 4096 : UINT32_MAX;
    peer->node = numaperf_worker_node(worker);
    int rc = numaperf_conn_adopt(numaperf_worker_io(worker), peer->server_fd, &config, &peer->conn);
    if (rc == 0) {
        server_check(numaperf_conn_backend(peer->conn) == all.scene.kind->backend,
                     "the backend is the one that was asked for");
        return;
    }
    server_check(rc == -ENOTCONN && peer->may_break, "it is adopted"); /* reset before that */
    (void)close(peer->server_fd);
    (void)atomic_fetch_add(&all.too_late, 1);
    atomic_store(&peer->state, PEER_CLOSED);
}

/* Sent to all now and then: who has paused goes on. */
static void server_resume(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    struct peer *peer = arg;
    if (peer->conn != NULL)
        numaperf_conn_resume(peer->conn);
}

/* ---- the client ---- */

static void spawn_for(struct peer *peer, numaperf_task_fn fn)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)peer->worker;
    assert_int_equal(numaperf_rt_spawn_with(all.box.rt, &options, fn, peer), 0);
}

static void peer_open(struct peer *peer, uint64_t random, uint32_t worker)
{
    int fds[2];
    net_pair(&all.scene, fds);
    memset(peer, 0, sizeof(*peer));
    peer->fd = fds[1];
    peer->server_fd = fds[0];
    peer->random = random;
    peer->server_random = random ^ 0x5555;
    peer->worker = worker;
    peer->total = stress_below(&peer->random, STREAM_BYTES_MAX) >> stress_below(&peer->random, 12);
    peer->reset_at = UINT64_MAX;
    if (stress_below(&peer->random, 8) == 0)
        peer->reset_at = stress_below(&peer->random, peer->total + 1);
    peer->server_resets = stress_below(&peer->random, 8) == 0;
    peer->may_break = peer->server_resets || peer->reset_at != UINT64_MAX;
    if (stress_below(&peer->random, 3) == 0) {
        net_make_tiny(fds[0]);
        if (!all.scene.kind->is_tcp) /* where TCP itself would wait long */
            net_make_tiny(fds[1]);
    }
    atomic_store(&peer->state, PEER_OPEN);
    spawn_for(peer, server_adopt);
}

static void peer_close(struct peer *peer)
{
    (void)close(peer->fd);
    peer->fd = -1;
    peer->is_done = true;
}

static void peer_reset(struct peer *peer)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(peer->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)); /* of TCP only */
    peer_close(peer);
}

static void peer_send(struct peer *peer)
{
    static char bytes[PIECE_MAX];
    uint64_t left = peer->total - peer->sent;
    size_t piece =
        1 + (size_t)(stress_below(&peer->random, PIECE_MAX - 1) >> stress_below(&peer->random, 16));
    piece = piece < left ? piece : (size_t)left;
    if (piece == 0) {
        if (!peer->has_ended)
            (void)shutdown(peer->fd, SHUT_WR); /* it may be reset already */
        peer->has_ended = true;
        return;
    }
    pattern_fill(bytes, piece, peer->sent);
    ssize_t rc = send(peer->fd, bytes, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (rc > 0)
        peer->sent += (uint64_t)rc;
    else if (errno != EAGAIN && !peer->may_break)
        server_check(false, "the client can send");
    else if (errno != EAGAIN)
        peer_close(peer);
}

static void peer_receive(struct peer *peer)
{
    static char bytes[PIECE_MAX];
    size_t piece =
        1 + (size_t)(stress_below(&peer->random, PIECE_MAX - 1) >> stress_below(&peer->random, 16));
    ssize_t rc = recv(peer->fd, bytes, piece, MSG_DONTWAIT);
    if (rc > 0) {
        server_check(pattern_matches(bytes, (size_t)rc, peer->got), "the echo is in order");
        peer->got += (uint64_t)rc;
    } else if (rc == 0) {
        server_check(peer->got == peer->total || peer->may_break, "all of it comes back");
        peer_close(peer);
        return;
    } else if (errno != EAGAIN) {
        server_check(peer->may_break, "the client sees no reset");
        peer_close(peer);
        return;
    }
    if (peer->got >= peer->reset_at)
        peer_reset(peer);
}

static void peer_step(struct peer *peer)
{
    switch (stress_below(&peer->random, 4)) {
    case 0:
        break; /* a slow one */
    case 1:
        if (!peer->has_ended)
            peer_send(peer);
        break;
    default:
        peer_receive(peer);
        if (!peer->is_done && !peer->has_ended)
            peer_send(peer);
    }
}

/* One look at all of them; how many are at work. */
static unsigned client_look(uint64_t *random, uint64_t *left, uint32_t workers)
{
    unsigned busy = 0;
    for (unsigned i = 0; i < PEERS; i++) {
        struct peer *peer = &all.peers[i];
        int state = atomic_load(&peer->state);
        if (state == PEER_OPEN && !peer->is_done)
            peer_step(peer);
        if (state == PEER_CLOSED && !peer->is_done)
            peer_receive(peer); /* what is left in the socket */
        if (state == PEER_CLOSED && peer->is_done)
            atomic_store(&peer->state, PEER_FREE);
        if (atomic_load(&peer->state) == PEER_FREE && *left > 0) {
            (*left)--;
            peer_open(peer, stress_random(random), (uint32_t)(*left % workers));
        }
        busy += atomic_load(&peer->state) != PEER_FREE;
    }
    return busy;
}

static void client_run(uint64_t count)
{
    uint64_t random = stress_seed();
    uint64_t limit_ns = test_now_ns() + test_limit_ns(120);
    uint32_t workers = (uint32_t)numaperf_rt_worker_count(all.box.rt, NUMAPERF_NODE_ANY);
    uint64_t looks = 0;
    while (client_look(&random, &count, workers) > 0) {
        assert_true(test_now_ns() < limit_ns);
        if (++looks % 16 != 0)
            continue;
        for (unsigned i = 0; i < PEERS; i++) {
            if (atomic_load(&all.peers[i].state) == PEER_OPEN)
                spawn_for(&all.peers[i], server_resume);
        }
        (void)usleep(200); /* the workers want this PU, too */
    }
}

static void every_byte_comes_back(void **state)
{
    memset(&all, 0, sizeof(all));
    all.scene.kind = *state;
    all.box.config = (numaperf_rt_config_t)NUMAPERF_RT_CONFIG_INIT;
    all.box.config.workers_per_node = 1;
    all.box.config.io_backend = (uint32_t)all.scene.kind->backend;
    int rc = runtime_box_open(&all.box, NULL);
    if (rc < 0 && all.scene.kind->backend == NUMAPERF_IO_URING) {
        print_message("skipped: io_uring is refused here: %s\n", numaperf_last_error()->reason);
        skip();
    }
    assert_int_equal(rc, 0);
    uint64_t count = stress_count(CONNECTIONS);
    count = count < CONNECTIONS_MIN ? CONNECTIONS_MIN : count;
    client_run(count);
    numaperf_net_stats_t stats = NUMAPERF_NET_STATS_INIT;
    assert_int_equal(numaperf_rt_net_stats(all.box.rt, &stats), 0);
    assert_int_equal(stats.connections, 0);
    assert_true(stats.connected == count - (uint64_t)atomic_load(&all.too_late));
    assert_true(stats.closed + stats.failed == stats.connected);
    assert_int_equal(atomic_load(&all.wrong), 0);
    int looked_at = atomic_load(&all.looked_at);
    int elsewhere = atomic_load(&all.elsewhere);
    print_message("%d pages of received bytes were looked at\n", looked_at + elsewhere);
    assert_true(looked_at + elsewhere > 0);
    assert_int_equal(elsewhere, 0);
    runtime_box_close(&all.box);
}

int main(void)
{
    const struct CMUnitTest tests[] = {NET_EACH(every_byte_comes_back)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
