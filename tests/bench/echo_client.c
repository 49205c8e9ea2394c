/* SPDX-License-Identifier: MIT */
/*
 * Connections that each send a request, wait for the answer, compare it, and send the next. The
 * client reads the CPU clock of the server's process itself, at the two moments between which it
 * counts, so that no message has to travel.
 *
 * Source: clock_getcpuclockid(3).
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
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CLIENT_STALL_MS 20000 /* an answer that takes longer is lost */
#define CLIENT_CLOCK_CHECK 16u

struct client_conn {
    int fd;
    uint32_t index;
    uint32_t received; /* bytes of the answer so far */
    uint64_t number;   /* of the request in flight */
    unsigned char request[ECHO_BYTES];
    unsigned char answer[ECHO_BYTES];
};

struct client {
    const struct echo_plan *plan;
    uint16_t port;
    clockid_t server_clock;
    int epoll_fd;
    uint64_t answered;
    struct client_conn conns[ECHO_CONNECTIONS_MAX];
};

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

static int client_send(struct client_conn *conn)
{
    conn->number++;
    conn->received = 0;
    memcpy(conn->request, &conn->number, sizeof(conn->number));
    ssize_t n = send(conn->fd, conn->request, ECHO_BYTES, MSG_NOSIGNAL);
    /* With nothing in flight there is always room for a request. */
    return n == (ssize_t)ECHO_BYTES ? 0 : n < 0 ? -errno : -EPROTO;
}

static int client_open(struct client *client, uint32_t index)
{
    struct client_conn *conn = &client->conns[index];
    conn->index = index;
    memset(conn->request, (int)index, ECHO_BYTES);
    conn->fd = client->plan->path != NULL ? client_connect_unix(client->plan->path)
                                          : client_connect_tcp(client->port);
    if (conn->fd < 0)
        return conn->fd;
    struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = conn}};
    if (epoll_ctl(client->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) < 0)
        return -errno;
    return client_send(conn);
}

static int client_receive(struct client *client, struct client_conn *conn)
{
    ssize_t n =
        recv(conn->fd, conn->answer + conn->received, ECHO_BYTES - conn->received, MSG_DONTWAIT);
    if (n <= 0)
        return n == 0 ? -ECONNRESET : -errno;
    conn->received += (uint32_t)n;
    if (conn->received < ECHO_BYTES)
        return 0;
    if (memcmp(conn->request, conn->answer, ECHO_BYTES) != 0)
        return -EPROTO;
    client->answered++;
    return client_send(conn);
}

static int client_drive(struct client *client, uint64_t duration_ns)
{
    uint64_t end_ns = bench_now_ns() + duration_ns;
    struct epoll_event events[ECHO_CONNECTIONS_MAX];
    for (uint32_t turn = 0; turn % CLIENT_CLOCK_CHECK != 0 || bench_now_ns() < end_ns; turn++) {
        int n = epoll_wait(client->epoll_fd, events, (int)ECHO_CONNECTIONS_MAX, CLIENT_STALL_MS);
        if (n == 0)
            return -ETIMEDOUT;
        if (n < 0 && errno != EINTR)
            return -errno;
        for (int i = 0; i < n; i++) {
            int rc = client_receive(client, events[i].data.ptr);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static uint64_t client_server_cpu_ns(const struct client *client)
{
    struct timespec used;
    if (clock_gettime(client->server_clock, &used) < 0)
        abort(); /* the server waits for us: its clock is there */
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static int client_work(struct client *client, struct echo_count *out)
{
    client->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (client->epoll_fd < 0)
        return -errno;
    int rc = bench_pin(client->plan->cpu);
    for (uint32_t i = 0; rc == 0 && i < client->plan->connection_count; i++)
        rc = client_open(client, i);
    if (rc == 0)
        rc = client_drive(client, client->plan->warm_up_ns);
    if (rc < 0)
        return rc;
    uint64_t start_ns = bench_now_ns();
    uint64_t start_cpu_ns = client_server_cpu_ns(client);
    uint64_t start_answered = client->answered;
    rc = client_drive(client, client->plan->measure_ns);
    out->requests = client->answered - start_answered;
    out->server_cpu_ns = client_server_cpu_ns(client) - start_cpu_ns;
    out->took_ns = bench_now_ns() - start_ns;
    return rc;
}

struct client_report {
    int rc;
    struct echo_count count;
};

/* The forked process; its descriptors close with it. */
static _Noreturn void client_main(const struct echo_plan *plan, int go_fd, int count_fd)
{
    static struct client client;
    client.plan = plan;
    if (read(go_fd, &client.port, sizeof(client.port)) != (ssize_t)sizeof(client.port))
        exit(0); /* the server did not come up, and says why itself */
    struct client_report report = {0};
    report.rc = -clock_getcpuclockid(getppid(), &client.server_clock);
    if (report.rc == 0)
        report.rc = client_work(&client, &report.count);
    ssize_t n = write(count_fd, &report, sizeof(report)); /* less than a pipe holds */
    exit(n == (ssize_t)sizeof(report) ? 0 : 1);
}

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

int echo_client_run(struct echo_client *client, uint16_t port, struct echo_count *out)
{
    if (write(client->go_fd, &port, sizeof(port)) != (ssize_t)sizeof(port))
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
