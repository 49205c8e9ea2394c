/* SPDX-License-Identifier: MIT */
/*
 * What a connection has asked is a stream of requests of one length, and so is what it is answered.
 * Both lie in rings of as many slots as may be in flight, so that a position in a stream says what
 * bytes belong there. A request that is to come back is stamped with its number, and its slot is
 * written again only after its answer was compared with it.
 *
 * The client reads the CPU clock of the server's process itself, at the two moments between which
 * it counts, so that no message has to travel. Bytes move by io_uring where there is one, which
 * keeps the client ahead of most servers, else by epoll: the same for all peers of a case.
 *
 * Source: clock_getcpuclockid(3).
 */
#include "echo_load.h"

#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define CLIENT_CLOCK_CHECK 16u
#define CLIENT_REQUESTS_MIN 100u /* that a figure is made of, however short the time */
#define CLIENT_SAMPLES_MAX 1000000u

/* ---- connecting ---- */

static int client_connect_unix(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
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

static int client_fill(struct echo_load *load, struct echo_load_conn *conn, uint32_t index)
{
    const struct echo_plan *plan = load->plan;
    conn->ring = malloc(load->out_bytes);
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

static int client_open(struct echo_load *load, uint32_t index)
{
    struct echo_load_conn *conn = &load->conns[index];
    int rc = client_fill(load, conn, index);
    if (rc < 0)
        return rc;
    conn->fd = load->plan->path != NULL ? client_connect_unix(load->plan->path)
                                        : client_connect_tcp(load->target.port);
    if (conn->fd < 0)
        return conn->fd;
    return load->way->add(load, conn);
}

/* ---- asking ---- */

size_t echo_load_next(const struct echo_load *load, const struct echo_load_conn *conn,
                      const unsigned char **out_bytes)
{
    uint64_t at = conn->sent % load->out_bytes;
    uint64_t length = conn->asked * load->plan->request_bytes - conn->sent;
    uint64_t until_wrap = load->out_bytes - at;
    *out_bytes = conn->ring + at;
    return (size_t)(length < until_wrap ? length : until_wrap);
}

/* `count` requests more are to be sent; there are slots for them. */
static void client_ask(struct echo_load *load, struct echo_load_conn *conn, uint64_t count)
{
    const struct echo_plan *plan = load->plan;
    for (; count > 0; count--) {
        unsigned char *slot = conn->ring + conn->asked % plan->depth * plan->request_bytes;
        if (plan->request == NULL)
            memcpy(slot, &conn->asked, sizeof(conn->asked));
        conn->asked++;
    }
}

/* Those that are due by now, in turn over the connections; one without room holds up the rest. */
static int client_ask_due(struct echo_load *load)
{
    const struct echo_plan *plan = load->plan;
    uint64_t now_ns = bench_now_ns();
    for (;;) {
        uint64_t due_ns = load->rate_start_ns + load->rate_next * 1000000000u / plan->rate;
        struct echo_load_conn *conn = &load->conns[load->rate_next % plan->connection_count];
        if (due_ns > now_ns || conn->asked - conn->answered == plan->depth)
            return 0;
        conn->due_ns[conn->asked % plan->depth] = due_ns;
        client_ask(load, conn, 1);
        load->rate_next++;
        int rc = load->way->pump(load, conn);
        if (rc < 0)
            return rc;
    }
}

/* ---- being answered ---- */

/* Whether these bytes are what the connection must get next. */
static bool client_is_right(const struct echo_load *load, const struct echo_load_conn *conn,
                            const unsigned char *bytes, size_t length)
{
    const unsigned char *expected = load->answers != NULL ? load->answers : conn->ring;
    size_t at = (size_t)(conn->received % load->in_bytes);
    size_t until_wrap = (size_t)load->in_bytes - at;
    if (length <= until_wrap)
        return memcmp(expected + at, bytes, length) == 0;
    return memcmp(expected + at, bytes, until_wrap) == 0 &&
           memcmp(expected, bytes + until_wrap, length - until_wrap) == 0;
}

static void client_note(struct echo_load *load, const struct echo_load_conn *conn, uint64_t count)
{
    uint64_t now_ns = bench_now_ns();
    for (uint64_t i = 0; i < count && load->latency_count < CLIENT_SAMPLES_MAX; i++) {
        uint64_t due_ns = conn->due_ns[(conn->answered + i) % load->plan->depth];
        load->latencies_ns[load->latency_count++] = (double)(now_ns - due_ns);
    }
}

int echo_load_take(struct echo_load *load, struct echo_load_conn *conn, const unsigned char *bytes,
                   size_t length)
{
    uint64_t most = conn->asked * load->plan->answer_bytes;
    if (conn->received + length > most || !client_is_right(load, conn, bytes, length))
        return -EPROTO;
    conn->received += length;
    uint64_t count = conn->received / load->plan->answer_bytes - conn->answered;
    if (load->latencies_ns != NULL)
        client_note(load, conn, count);
    conn->answered += count;
    load->answered += count;
    if (load->plan->rate == 0)
        client_ask(load, conn, count);
    return 0;
}

/* One look at the sockets. */
static int client_turn(struct echo_load *load, bool spins)
{
    int n = load->way->turn(load, spins);
    if (n > 0)
        load->heard_ns = bench_now_ns();
    else if (n == 0 && bench_now_ns() - load->heard_ns > ECHO_LOAD_STALL_NS)
        return -ETIMEDOUT;
    return n < 0 ? n : 0;
}

/* At least so long, and until a figure can be made of it. */
static int client_drive(struct echo_load *load, uint64_t duration_ns)
{
    bool has_rate = load->plan->rate > 0;
    bool spins = load->plan->spin || has_rate;
    load->heard_ns = bench_now_ns();
    uint64_t end_ns = load->heard_ns + duration_ns;
    uint64_t enough = load->answered + CLIENT_REQUESTS_MIN;
    for (uint32_t turn = 0;
         turn % CLIENT_CLOCK_CHECK != 0 || load->answered < enough || bench_now_ns() < end_ns;
         turn++) {
        int rc = has_rate ? client_ask_due(load) : 0;
        if (rc == 0)
            rc = client_turn(load, spins);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* ---- counting ---- */

static uint64_t client_server_cpu_ns(const struct echo_load *load)
{
    struct timespec used;
    if (clock_gettime(load->server_clock, &used) < 0)
        return 0; /* it ended, which the connections tell */
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static int client_measure(struct echo_load *load, struct echo_count *out)
{
    const struct echo_plan *plan = load->plan;
    int rc = client_drive(load, plan->warm_up_ns);
    if (rc < 0)
        return rc;
    if (plan->rate > 0) {
        load->latencies_ns = calloc(CLIENT_SAMPLES_MAX, sizeof(*load->latencies_ns));
        if (load->latencies_ns == NULL)
            return -ENOMEM;
    }
    uint64_t start_ns = bench_now_ns();
    uint64_t start_cpu_ns = client_server_cpu_ns(load);
    uint64_t start_answered = load->answered;
    do {
        rc = client_drive(load, plan->measure_ns);
        out->server_cpu_ns = client_server_cpu_ns(load) - start_cpu_ns;
    } while (rc == 0 && out->server_cpu_ns == 0); /* what it did before was all that came */
    out->requests = load->answered - start_answered;
    out->took_ns = bench_now_ns() - start_ns;
    if (rc == 0 && load->latency_count > 0) {
        out->p50_ns = bench_quantile(load->latencies_ns, load->latency_count, 0.5);
        out->p99_ns = bench_quantile(load->latencies_ns, load->latency_count, 0.99);
    }
    return rc;
}

static int client_prepare(struct echo_load *load)
{
    const struct echo_plan *plan = load->plan;
    load->out_bytes = (uint64_t)plan->depth * plan->request_bytes;
    load->in_bytes = (uint64_t)plan->depth * plan->answer_bytes;
    if (plan->answer != NULL) {
        load->answers = malloc(load->in_bytes);
        if (load->answers == NULL)
            return -ENOMEM;
        for (uint32_t i = 0; i < plan->depth; i++)
            memcpy(load->answers + (size_t)i * plan->answer_bytes, plan->answer,
                   plan->answer_bytes);
    }
    int rc = bench_pin(plan->cpu);
    if (rc < 0)
        return rc;
    load->way = &echo_load_ring;
    if (load->way->open(load) == 0)
        return 0;
    load->way = &echo_load_epoll;
    return load->way->open(load);
}

static int client_work(struct echo_load *load, struct echo_count *out)
{
    int rc = client_prepare(load);
    for (uint32_t i = 0; rc == 0 && i < load->plan->connection_count; i++)
        rc = client_open(load, i);
    load->rate_start_ns = bench_now_ns();
    for (uint32_t i = 0; rc == 0 && load->plan->rate == 0 && i < load->plan->connection_count;
         i++) {
        client_ask(load, &load->conns[i], load->plan->depth);
        rc = load->way->pump(load, &load->conns[i]);
    }
    return rc == 0 ? client_measure(load, out) : rc;
}

struct client_report {
    int rc;
    struct echo_count count;
};

/* The forked process; its descriptors close with it, and its memory goes with it. */
static _Noreturn void client_main(const struct echo_plan *plan, int go_fd, int count_fd)
{
    static struct echo_load load;
    load.plan = plan;
    if (read(go_fd, &load.target, sizeof(load.target)) != (ssize_t)sizeof(load.target))
        _exit(0); /* the server did not come up, and says why itself */
    struct client_report report = {0};
    report.rc = -clock_getcpuclockid(load.target.pid, &load.server_clock);
    if (report.rc == 0)
        report.rc = client_work(&load, &report.count);
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
