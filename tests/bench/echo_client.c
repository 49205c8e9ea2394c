/* SPDX-License-Identifier: MIT */
/*
 * What a connection has asked is a stream of requests of one length, and so is what it is answered.
 * Both lie in rings of as many slots as may be in flight, so that a position in a stream says what
 * bytes belong there. A request that is to come back is stamped with its number, and its slot is
 * written again only after its answer was compared with it.
 *
 * The client reads the CPU clock of the server's process itself, at the two moments between which
 * it counts, so that no message has to travel. Events are edge-triggered, and it asks for room to
 * send only when there was none: a socket that is watched for it costs the server, too.
 *
 * Source: clock_getcpuclockid(3), epoll(7).
 */
#include "echo_client.h"

#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLIENT_STALL_NS 20000000000u /* an answer that takes longer is lost */
#define CLIENT_CLOCK_CHECK 16u
#define CLIENT_CHUNK 65536u
#define CLIENT_SAMPLES_MAX 1000000u

struct client_conn {
    int fd;
    bool blocked;        /* it waits for room */
    uint64_t asked;      /* requests that are to be sent, all in all */
    uint64_t answered;   /* requests */
    uint64_t sent;       /* bytes */
    uint64_t received;   /* bytes */
    unsigned char *ring; /* of requests, a slot for each that may be in flight */
    uint64_t *due_ns;    /* of the request in each slot, with a rate */
};

struct client {
    const struct echo_plan *plan;
    struct echo_target target;
    clockid_t server_clock;
    int epoll_fd;
    uint64_t answered;
    uint64_t heard_ns;      /* when there was something last */
    uint64_t rate_start_ns; /* when the first request was due */
    uint64_t rate_next;     /* number of the one that is due next */
    uint64_t out_bytes;     /* of the ring of requests */
    uint64_t in_bytes;      /* of the ring of answers */
    unsigned char *answers; /* NULL: each connection's ring is what comes back */
    double *latencies_ns;   /* NULL: not now */
    size_t latency_count;
    struct client_conn conns[ECHO_CONNECTIONS_MAX];
    unsigned char chunk[CLIENT_CHUNK];
};

/* ---- connecting ---- */

static int client_connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        int rc = -errno;
        (void)close(fd);
        return rc;
    }
    return fd < 0 ? -errno : fd;
}

static int client_connect_tcp(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd >= 0 && (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
                    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)) {
        int rc = -errno;
        (void)close(fd);
        return rc;
    }
    return fd < 0 ? -errno : fd;
}

static int client_fill(struct client *client, struct client_conn *conn, uint32_t index)
{
    const struct echo_plan *plan = client->plan;
    conn->ring = malloc(client->out_bytes);
    conn->due_ns = calloc(plan->depth, sizeof(*conn->due_ns));
    if (conn->ring == NULL || conn->due_ns == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < plan->depth; i++) {
        unsigned char *slot = conn->ring + (size_t)i * plan->request_bytes;
        if (plan->request != NULL)
            memcpy(slot, plan->request, plan->request_bytes);
        else
            memset(slot, (int)index, plan->request_bytes);
    }
    return 0;
}

static int client_open(struct client *client, uint32_t index)
{
    struct client_conn *conn = &client->conns[index];
    int rc = client_fill(client, conn, index);
    if (rc < 0)
        return rc;
    conn->fd = client->plan->path != NULL ? client_connect_unix(client->plan->path)
                                          : client_connect_tcp(client->target.port);
    if (conn->fd < 0)
        return conn->fd;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {.ptr = conn}};
    return epoll_ctl(client->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0 ? -errno : 0;
}

/* ---- asking ---- */

static int client_watch(struct client *client, struct client_conn *conn, bool blocked)
{
    conn->blocked = blocked;
    struct epoll_event event = {.events = EPOLLIN | EPOLLET | (blocked ? EPOLLOUT : 0),
                                .data = {.ptr = conn}};
    return epoll_ctl(client->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) < 0 ? -errno : 0;
}

/* Send what is to be sent, as far as there is room. */
static int client_pump(struct client *client, struct client_conn *conn)
{
    uint64_t end = conn->asked * client->plan->request_bytes;
    while (conn->sent < end) {
        uint64_t at = conn->sent % client->out_bytes;
        uint64_t length = end - conn->sent;
        uint64_t until_wrap = client->out_bytes - at;
        struct iovec parts[2] = {
            {.iov_base = conn->ring + at, .iov_len = length < until_wrap ? length : until_wrap},
            {.iov_base = conn->ring, .iov_len = length < until_wrap ? 0 : length - until_wrap},
        };
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = parts[1].iov_len > 0 ? 2 : 1};
        ssize_t n =
            message.msg_iovlen == 1
                ? send(conn->fd, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                : sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return conn->blocked ? 0 : client_watch(client, conn, true);
        if (n < 0)
            return -errno;
        conn->sent += (uint64_t)n;
    }
    return conn->blocked ? client_watch(client, conn, false) : 0;
}

/* `count` requests more are to be sent; there are slots for them. */
static void client_ask(struct client *client, struct client_conn *conn, uint64_t count)
{
    const struct echo_plan *plan = client->plan;
    for (; count > 0; count--) {
        unsigned char *slot = conn->ring + conn->asked % plan->depth * plan->request_bytes;
        if (plan->request == NULL)
            memcpy(slot, &conn->asked, sizeof(conn->asked));
        conn->asked++;
    }
}

/* Those that are due by now, in turn over the connections; one without room holds up the rest. */
static int client_ask_due(struct client *client)
{
    const struct echo_plan *plan = client->plan;
    uint64_t now_ns = bench_now_ns();
    for (;;) {
        uint64_t due_ns = client->rate_start_ns + client->rate_next * 1000000000u / plan->rate;
        struct client_conn *conn = &client->conns[client->rate_next % plan->connection_count];
        if (due_ns > now_ns || conn->asked - conn->answered == plan->depth)
            return 0;
        conn->due_ns[conn->asked % plan->depth] = due_ns;
        client_ask(client, conn, 1);
        client->rate_next++;
        int rc = client_pump(client, conn);
        if (rc < 0)
            return rc;
    }
}

/* ---- being answered ---- */

/* Whether these bytes are what the connection must get next. */
static bool client_is_right(const struct client *client, const struct client_conn *conn,
                            const unsigned char *bytes, size_t length)
{
    const unsigned char *expected = client->answers != NULL ? client->answers : conn->ring;
    size_t at = (size_t)(conn->received % client->in_bytes);
    size_t until_wrap = (size_t)client->in_bytes - at;
    if (length <= until_wrap)
        return memcmp(expected + at, bytes, length) == 0;
    return memcmp(expected + at, bytes, until_wrap) == 0 &&
           memcmp(expected, bytes + until_wrap, length - until_wrap) == 0;
}

static void client_note(struct client *client, const struct client_conn *conn, uint64_t count)
{
    uint64_t now_ns = bench_now_ns();
    for (uint64_t i = 0; i < count && client->latency_count < CLIENT_SAMPLES_MAX; i++) {
        uint64_t due_ns = conn->due_ns[(conn->answered + i) % client->plan->depth];
        client->latencies_ns[client->latency_count++] = (double)(now_ns - due_ns);
    }
}

static int client_take(struct client *client, struct client_conn *conn, size_t length)
{
    uint64_t most = conn->asked * client->plan->answer_bytes;
    if (conn->received + length > most || !client_is_right(client, conn, client->chunk, length))
        return -EPROTO;
    conn->received += length;
    uint64_t count = conn->received / client->plan->answer_bytes - conn->answered;
    if (client->latencies_ns != NULL)
        client_note(client, conn, count);
    conn->answered += count;
    client->answered += count;
    if (client->plan->rate == 0)
        client_ask(client, conn, count);
    return 0;
}

static int client_receive(struct client *client, struct client_conn *conn)
{
    for (;;) {
        ssize_t n = recv(conn->fd, client->chunk, CLIENT_CHUNK, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n <= 0)
            return n == 0 ? -ECONNRESET : -errno;
        int rc = client_take(client, conn, (size_t)n);
        if (rc < 0)
            return rc;
        rc = client_pump(client, conn);
        /* With less than asked for the socket is empty, and the next byte is an event. */
        if (rc < 0 || n < (ssize_t)CLIENT_CHUNK)
            return rc;
    }
}

static int client_serve(struct client *client, const struct epoll_event *event)
{
    struct client_conn *conn = event->data.ptr;
    int rc = (event->events & EPOLLOUT) != 0 ? client_pump(client, conn) : 0;
    if (rc == 0 && (event->events & ~(uint32_t)EPOLLOUT) != 0)
        rc = client_receive(client, conn);
    return rc;
}

/* One look at the sockets. */
static int client_turn(struct client *client, bool spins)
{
    struct epoll_event events[ECHO_CONNECTIONS_MAX];
    int timeout_ms = spins ? 0 : (int)(CLIENT_STALL_NS / 1000000u);
    int n = epoll_wait(client->epoll_fd, events, (int)ECHO_CONNECTIONS_MAX, timeout_ms);
    if (n < 0 && errno != EINTR)
        return -errno;
    if (n > 0)
        client->heard_ns = bench_now_ns();
    else if (bench_now_ns() - client->heard_ns > CLIENT_STALL_NS)
        return -ETIMEDOUT;
    for (int i = 0; i < n; i++) {
        int rc = client_serve(client, &events[i]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int client_drive(struct client *client, uint64_t duration_ns)
{
    bool has_rate = client->plan->rate > 0;
    bool spins = client->plan->spin || has_rate;
    client->heard_ns = bench_now_ns();
    uint64_t end_ns = client->heard_ns + duration_ns;
    for (uint32_t turn = 0; turn % CLIENT_CLOCK_CHECK != 0 || bench_now_ns() < end_ns; turn++) {
        int rc = has_rate ? client_ask_due(client) : 0;
        if (rc == 0)
            rc = client_turn(client, spins);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- counting ---- */

static uint64_t client_server_cpu_ns(const struct client *client)
{
    struct timespec used;
    if (clock_gettime(client->server_clock, &used) < 0)
        return 0; /* it ended, which the connections tell */
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static int client_measure(struct client *client, struct echo_count *out)
{
    const struct echo_plan *plan = client->plan;
    int rc = client_drive(client, plan->warm_up_ns);
    if (rc < 0)
        return rc;
    if (plan->rate > 0) {
        client->latencies_ns = calloc(CLIENT_SAMPLES_MAX, sizeof(*client->latencies_ns));
        if (client->latencies_ns == NULL)
            return -ENOMEM;
    }
    uint64_t start_ns = bench_now_ns();
    uint64_t start_cpu_ns = client_server_cpu_ns(client);
    uint64_t start_answered = client->answered;
    rc = client_drive(client, plan->measure_ns);
    out->requests = client->answered - start_answered;
    out->server_cpu_ns = client_server_cpu_ns(client) - start_cpu_ns;
    out->took_ns = bench_now_ns() - start_ns;
    if (rc == 0 && client->latency_count > 0) {
        out->p50_ns = bench_quantile(client->latencies_ns, client->latency_count, 0.5);
        out->p99_ns = bench_quantile(client->latencies_ns, client->latency_count, 0.99);
    }
    return rc;
}

static int client_prepare(struct client *client)
{
    const struct echo_plan *plan = client->plan;
    client->out_bytes = (uint64_t)plan->depth * plan->request_bytes;
    client->in_bytes = (uint64_t)plan->depth * plan->answer_bytes;
    if (plan->answer != NULL) {
        client->answers = malloc(client->in_bytes);
        if (client->answers == NULL)
            return -ENOMEM;
        for (uint32_t i = 0; i < plan->depth; i++)
            memcpy(client->answers + (size_t)i * plan->answer_bytes, plan->answer,
                   plan->answer_bytes);
    }
    client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return client->epoll_fd < 0 ? -errno : bench_pin(plan->cpu);
}

static int client_work(struct client *client, struct echo_count *out)
{
    int rc = client_prepare(client);
    for (uint32_t i = 0; rc == 0 && i < client->plan->connection_count; i++)
        rc = client_open(client, i);
    client->rate_start_ns = bench_now_ns();
    for (uint32_t i = 0; rc == 0 && client->plan->rate == 0 && i < client->plan->connection_count;
         i++) {
        client_ask(client, &client->conns[i], client->plan->depth);
        rc = client_pump(client, &client->conns[i]);
    }
    return rc == 0 ? client_measure(client, out) : rc;
}

struct client_report {
    int rc;
    struct echo_count count;
};

/* The forked process; its descriptors close with it, and its memory goes with it. */
static _Noreturn void client_main(const struct echo_plan *plan, int go_fd, int count_fd)
{
    static struct client client;
    client.plan = plan;
    if (read(go_fd, &client.target, sizeof(client.target)) != (ssize_t)sizeof(client.target))
        _exit(0); /* the server did not come up, and says why itself */
    struct client_report report = {0};
    report.rc = -clock_getcpuclockid(client.target.pid, &client.server_clock);
    if (report.rc == 0)
        report.rc = client_work(&client, &report.count);
    ssize_t n = write(count_fd, &report, sizeof(report)); /* less than a pipe holds */
    _exit(n == (ssize_t)sizeof(report) ? 0 : 1);
}

/* ---- from the server's side ---- */

int echo_client_start(const struct echo_plan *plan, struct echo_client *out)
{
    int go[2];
    int count[2];
    if (pipe(go) < 0)
        return -errno;
    if (pipe(count) < 0) {
        int rc = -errno;
        (void)close(go[0]);
        (void)close(go[1]);
        return rc;
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(go[1]);
        (void)close(count[0]);
        client_main(plan, go[0], count[1]);
    }
    int rc = pid < 0 ? -errno : 0;
    (void)close(go[0]);
    (void)close(count[1]);
    *out = (struct echo_client){.pid = pid, .go_fd = go[1], .count_fd = count[0]};
    if (pid < 0) {
        (void)close(go[1]);
        (void)close(count[0]);
    }
    return rc;
}

int echo_client_run(struct echo_client *client, const struct echo_target *target,
                    struct echo_count *out)
{
    if (write(client->go_fd, target, sizeof(*target)) != (ssize_t)sizeof(*target))
        return -EPIPE;
    struct client_report report;
    if (read(client->count_fd, &report, sizeof(report)) != (ssize_t)sizeof(report))
        return -EPIPE;
    if (report.rc == 0)
        *out = report.count;
    return report.rc;
}

int echo_client_end(struct echo_client *client)
{
    (void)close(client->go_fd);
    (void)close(client->count_fd);
    int status = 0;
    if (waitpid(client->pid, &status, 0) != client->pid)
        return -errno;
    return status == 0 ? 0 : -ECHILD;
}

int echo_client_cpu(int server_cpu)
{
    numaperf_cpuset_t cpus;
    if (numaperf_get_affinity(&cpus) < 0)
        return server_cpu;
    int cpu = numaperf_cpuset_next(&cpus, -1);
    if (cpu == server_cpu)
        cpu = numaperf_cpuset_next(&cpus, cpu);
    return cpu < 0 ? server_cpu : cpu;
}
