/* SPDX-License-Identifier: MIT */
/*
 * One loop's listener where the kernel fails or is older: how it steps down, pauses, goes on, and
 * leaves nothing when it cannot begin. The failures are played below it, the sockets are real.
 */
#include "net/accept.h"
#include "net/conn.h"
#include "net/listener.h"

#include "support/clock.h"

#include <numaperf/error.h>
#include <numaperf/loop.h>
#include <numaperf/net.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

/* ---- what fails ---- */

enum call { CALL_SOCKET, CALL_BIND, CALL_SETSOCKOPT, CALL_GETSOCKNAME, CALL_LISTEN, CALL_COUNT };

static struct {
    /* Of the calls above: which one fails, after how many that work, with what. */
    int call, after, code;
    /* accept4(): so many fail with that, then all work. */
    int accept_failures, accept_code, accepts;
    /* Requests of these ways of accepting are refused by the kernel. */
    uint32_t refused_ways;
    uint32_t submitted[4]; /* by way */
    int submit_failures;   /* so many requests find no room */
    int make_failures;     /* so many connections find no memory */
} play;

static bool fails(enum call call)
{
    if (play.call != (int)call || play.after-- != 0)
        return false;
    errno = play.code;
    return true;
}

int __real_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol);
int __wrap_socket(int domain, int type, int protocol)
{
    return fails(CALL_SOCKET) ? -1 : __real_socket(domain, type, protocol);
}

int __real_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
    return fails(CALL_BIND) ? -1 : __real_bind(fd, address, length);
}

int __real_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    return fails(CALL_SETSOCKOPT) ? -1 : __real_setsockopt(fd, level, option, value, length);
}

int __real_getsockname(int fd, struct sockaddr *address, socklen_t *length);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
    return fails(CALL_GETSOCKNAME) ? -1 : __real_getsockname(fd, address, length);
}

int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog)
{
    return fails(CALL_LISTEN) ? -1 : __real_listen(fd, backlog);
}

int __real_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    play.accepts++;
    if (play.accept_failures == 0)
        return __real_accept4(fd, address, length, flags);
    play.accept_failures--;
    errno = play.accept_code;
    return -1;
}

static int way_of(const struct numaperf__op *op)
{
    switch (op->kind) {
    case NUMAPERF__OP_ACCEPT_DIRECT:
        return NUMAPERF__ACCEPT_DIRECT;
    case NUMAPERF__OP_ACCEPT_MULTI:
        return NUMAPERF__ACCEPT_MULTI;
    case NUMAPERF__OP_ACCEPT:
        return NUMAPERF__ACCEPT_SINGLE;
    default:
        return -1;
    }
}

int __real_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op);
int __wrap_numaperf__loop_submit(numaperf_loop_t *loop, struct numaperf__op *op)
{
    int way = way_of(op);
    if (way >= 0 && play.submit_failures > 0) {
        play.submit_failures--;
        return -EBUSY;
    }
    if (way >= 0) {
        play.submitted[way]++;
        if ((play.refused_ways & 1u << way) != 0)
            op->flags = 1u << 30; /* no flag of accept4(2): the kernel says -EINVAL */
    }
    return __real_numaperf__loop_submit(loop, op);
}

int __real_numaperf__conn_make(struct numaperf__net *net, int fd,
                               const numaperf_conn_config_t *config,
                               const struct numaperf__conn_origin *origin,
                               struct numaperf_conn **out);
int __wrap_numaperf__conn_make(struct numaperf__net *net, int fd,
                               const numaperf_conn_config_t *config,
                               const struct numaperf__conn_origin *origin,
                               struct numaperf_conn **out);
int __wrap_numaperf__conn_make(struct numaperf__net *net, int fd,
                               const numaperf_conn_config_t *config,
                               const struct numaperf__conn_origin *origin,
                               struct numaperf_conn **out)
{
    if (play.make_failures == 0)
        return __real_numaperf__conn_make(net, fd, config, origin, out);
    play.make_failures--;
    return -ENOMEM;
}

/* ---- a loop with a listener ---- */

static struct {
    numaperf_loop_t *loop;
    numaperf_listener_t *listener;
    numaperf_conn_config_t conn;
    numaperf_listen_config_t config;
    int opened, closed, ended;
    uint64_t reset_count;
} own;

static int on_open(numaperf_conn_t *conn, void *data)
{
    (void)conn;
    (void)data;
    own.opened++;
    return 0;
}

static void on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    (void)data;
    (void)numaperf_conn_write(conn, bytes, length);
}

static void on_close(numaperf_conn_t *conn, int reason, void *data)
{
    (void)conn;
    (void)reason;
    (void)data;
    own.closed++;
}

static void on_listener_closed(uint64_t reset_count, void *data)
{
    (void)data;
    own.reset_count = reset_count;
    own.ended++;
}

static void open_loop(int backend)
{
    memset(&own, 0, sizeof(own));
    memset(&play, 0, sizeof(play));
    play.call = CALL_COUNT;
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.backend = (uint32_t)backend;
    int rc = numaperf_loop_create(&config, &own.loop);
    if (rc < 0 && backend == NUMAPERF_IO_URING) {
        print_message("skipped: io_uring is refused here: %s\n", numaperf_last_error()->reason);
        skip();
    }
    assert_int_equal(rc, 0);
    own.conn = (numaperf_conn_config_t)NUMAPERF_CONN_CONFIG_INIT;
    own.conn.callbacks.on_open = on_open;
    own.conn.callbacks.on_read = on_read;
    own.conn.callbacks.on_close = on_close;
    own.config = (numaperf_listen_config_t)NUMAPERF_LISTEN_CONFIG_INIT;
    own.config.conn = &own.conn;
    own.config.address = "127.0.0.1";
}

static void listen_now(void)
{
    assert_int_equal(numaperf_loop_listen(own.loop, &own.config, &own.listener), 0);
}

static void turn(uint64_t limit_ns, const char *wanted)
{
    if (test_now_ns() > limit_ns)
        fail_msg("never came: %s", wanted);
    assert_true(numaperf_loop_run(own.loop, UV_RUN_NOWAIT) >= 0);
    (void)usleep(50);
}
#define UNTIL(condition)                                       \
    do {                                                       \
        uint64_t until_ns = test_now_ns() + test_limit_ns(30); \
        while (!(condition))                                   \
            turn(until_ns, #condition);                        \
    } while (0)

static void close_all(void)
{
    assert_int_equal(numaperf_listener_close(own.listener, 0, on_listener_closed, NULL), 0);
    UNTIL(own.ended == 1);
    assert_int_equal(own.closed, own.opened);
    UNTIL(numaperf_loop_destroy(own.loop) == 0);
}

static int client(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)numaperf_listener_port(own.listener)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static void assert_echo(int fd)
{
    char answer[4] = "";
    ssize_t got = -1;
    assert_int_equal(send(fd, "ping", 4, MSG_NOSIGNAL), 4);
    UNTIL((got = recv(fd, answer, 4, 0)) >= 0);
    assert_int_equal(got, 4);
    assert_memory_equal(answer, "ping", 4);
}

static numaperf_net_stats_t stats(void)
{
    numaperf_net_stats_t stats = NUMAPERF_NET_STATS_INIT;
    assert_int_equal(numaperf_loop_net_stats(own.loop, &stats), 0);
    return stats;
}

static int count_descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    (void)closedir(dir);
    return count;
}

/* ---- ways of accepting ---- */

static void listener_on_the_ring_accepts_many_with_one_request(void **state)
{
    (void)state;
    open_loop(NUMAPERF_IO_URING);
    listen_now();
    int fds[5];
    for (int i = 0; i < 5; i++)
        assert_echo(fds[i] = client());
    assert_int_equal(play.submitted[NUMAPERF__ACCEPT_MULTI], 1);
    assert_int_equal(play.accepts, 0);
    for (int i = 0; i < 5; i++)
        (void)close(fds[i]);
    UNTIL(own.closed == 5);
    close_all();
}

static void assert_steps_down(uint32_t refused, int way)
{
    open_loop(NUMAPERF_IO_URING);
    own.config.flags = NUMAPERF_LISTEN_DIRECT;
    play.refused_ways = refused;
    listen_now();
    int first = client();
    assert_echo(first);
    int second = client();
    assert_echo(second);
    for (int i = 0; i < way; i++)
        assert_int_equal(play.submitted[i], 1); /* tried once, never again */
    if (way == NUMAPERF__ACCEPT_POLL)
        assert_true(play.accepts > 0);
    else
        assert_true(play.submitted[way] > 0);
    assert_int_equal(stats().accept_pauses, 0);
    (void)close(first);
    (void)close(second);
    UNTIL(own.closed == 2);
    close_all();
}

static void listener_without_direct_descriptors_takes_plain_ones(void **state)
{
    (void)state;
    assert_steps_down(1u << NUMAPERF__ACCEPT_DIRECT, NUMAPERF__ACCEPT_MULTI);
}

static void listener_without_multishot_accepts_one_by_one(void **state)
{
    (void)state;
    assert_steps_down(1u << NUMAPERF__ACCEPT_DIRECT | 1u << NUMAPERF__ACCEPT_MULTI,
                      NUMAPERF__ACCEPT_SINGLE);
}

static void listener_whose_ring_accepts_nothing_polls(void **state)
{
    (void)state;
    assert_steps_down(1u << NUMAPERF__ACCEPT_DIRECT | 1u << NUMAPERF__ACCEPT_MULTI |
                          1u << NUMAPERF__ACCEPT_SINGLE,
                      NUMAPERF__ACCEPT_POLL);
}

/* ---- pauses ---- */

static void listener_that_finds_no_room_in_the_ring_tries_again(void **state)
{
    (void)state;
    open_loop(NUMAPERF_IO_URING);
    play.submit_failures = 2;
    listen_now();
    int fd = client();
    assert_echo(fd);
    assert_int_equal(stats().accept_pauses, 2);
    (void)close(fd);
    close_all();
}

static void listener_goes_on_after_connections_that_fail(void **state)
{
    (void)state;
    open_loop(NUMAPERF_IO_EPOLL);
    listen_now();
    play.accept_failures = 5;
    play.accept_code = ECONNABORTED;
    int fd = client();
    assert_echo(fd);
    assert_int_equal(play.accept_failures, 0);
    assert_int_equal(stats().accept_pauses, 0);
    (void)close(fd);
    close_all();
}

static void listener_whose_connections_all_fail_is_no_busy_loop(void **state)
{
    (void)state;
    open_loop(NUMAPERF_IO_EPOLL);
    listen_now();
    play.accept_failures = 1 << 30;
    play.accept_code = EPROTO;
    int fd = client();
    UNTIL(stats().accept_pauses == 3);
    assert_true(play.accepts <= 4 * 16);
    play.accept_failures = 0;
    assert_echo(fd);
    (void)close(fd);
    close_all();
}

static void listener_pauses_for_each_kind_of_shortage(void **state)
{
    (void)state;
    const int codes[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    for (size_t i = 0; i < 4; i++) {
        open_loop(NUMAPERF_IO_EPOLL);
        listen_now();
        play.accept_failures = 1;
        play.accept_code = codes[i];
        int fd = client();
        assert_echo(fd);
        assert_int_equal(stats().accept_pauses, 1);
        (void)close(fd);
        close_all();
    }
}

static void listener_that_is_paused_can_be_closed(void **state)
{
    (void)state;
    open_loop(NUMAPERF_IO_EPOLL);
    listen_now();
    play.accept_failures = 1 << 30;
    play.accept_code = EMFILE;
    int fd = client();
    UNTIL(stats().accept_pauses == 1);
    play.accept_failures = 0;
    /* What it could not accept then it can now: the backlog is served. */
    assert_int_equal(numaperf_listener_close(own.listener, UINT64_MAX, on_listener_closed, NULL),
                     0);
    UNTIL(own.ended == 1);
    assert_int_equal(own.opened, 1);
    assert_int_equal(own.reset_count, 0);
    (void)close(fd);
    UNTIL(numaperf_loop_destroy(own.loop) == 0);
}

static void listener_without_memory_for_a_connection_refuses_it(void **state)
{
    const int backends[] = {NUMAPERF_IO_URING, NUMAPERF_IO_EPOLL};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        open_loop(backends[i]);
        listen_now();
        play.make_failures = 1;
        char byte = 0;
        ssize_t got = -1;
        int refused = client();
        UNTIL((got = recv(refused, &byte, 1, 0)) >= 0 || errno != EAGAIN);
        assert_true(got <= 0);
        assert_int_equal(stats().refused_memory, 1);
        assert_int_equal(own.opened, 0);
        int fd = client();
        assert_echo(fd);
        (void)close(fd);
        (void)close(refused);
        UNTIL(own.closed == 1);
        close_all();
    }
}

static void listener_at_its_limit_closes_direct_descriptors_too(void **state)
{
    (void)state;
    open_loop(NUMAPERF_IO_URING);
    own.config.flags = NUMAPERF_LISTEN_DIRECT;
    own.config.connections_max = 1;
    listen_now();
    int fd = client();
    assert_echo(fd);
    /* The table has one slot: one that stayed taken would be the last that is refused. */
    for (uint64_t i = 1; i <= 3; i++) {
        char byte = 0;
        ssize_t got = -1;
        int refused = client();
        uint64_t before = stats().accept_pauses;
        UNTIL(stats().refused_limit == i || stats().accept_pauses > before);
        if (stats().refused_limit == i)
            UNTIL((got = recv(refused, &byte, 1, 0)) >= 0 || errno != EAGAIN);
        (void)close(refused);
        if (stats().refused_limit < i)
            break; /* a full table: it waits in the backlog instead */
    }
    assert_echo(fd);
    (void)close(fd);
    UNTIL(own.closed >= 1);
    close_all();
}

/* ---- begin ---- */

static void listener_that_cannot_begin_leaves_nothing(void **state)
{
    (void)state;
    open_loop(NUMAPERF_IO_EPOLL);
    /* What a first use of the loop's sockets makes. */
    listen_now();
    assert_int_equal(numaperf_listener_close(own.listener, 0, on_listener_closed, NULL), 0);
    UNTIL(own.ended == 1);
    int before = count_descriptors();
    for (int call = 0; call < CALL_COUNT; call++) {
        for (int after = 0; after < 3; after++) {
            numaperf_listener_t *listener = NULL;
            play.call = call;
            play.after = after;
            play.code = EACCES;
            int rc = numaperf_loop_listen(own.loop, &own.config, &listener);
            play.call = CALL_COUNT;
            if (rc < 0) {
                assert_int_equal(rc, -EACCES);
                assert_null(listener);
                assert_int_equal(numaperf_last_error()->sys_errno, EACCES);
            } else {
                assert_true(after > 0); /* it is called less often than that */
                assert_int_equal(numaperf_listener_close(listener, 0, NULL, NULL), 0);
            }
            UNTIL(count_descriptors() == before);
        }
    }
    UNTIL(numaperf_loop_destroy(own.loop) == 0);
}

static void listener_without_ipv6_listens_on_ipv4(void **state)
{
    (void)state;
    open_loop(NUMAPERF_IO_EPOLL);
    own.config.address = NULL;
    play.call = CALL_SOCKET;
    play.code = EAFNOSUPPORT;
    listen_now();
    char text[64];
    assert_true(numaperf_listener_address(own.listener, text, sizeof(text)) > 0);
    assert_memory_equal(text, "0.0.0.0:", 8);
    int fd = client();
    assert_echo(fd);
    (void)close(fd);
    close_all();
}

static void listener_tells_nothing_of_nothing(void **state)
{
    (void)state;
    char text[8];
    uint32_t steering = 0;
    assert_int_equal(numaperf_listener_address(NULL, text, sizeof(text)), -EINVAL);
    assert_int_equal(numaperf_listener_port(NULL), -EINVAL);
    assert_int_equal(numaperf_listener_steering(NULL, &steering, NULL), -EINVAL);
    assert_int_equal(numaperf_listener_fds(NULL, NULL, 0), -EINVAL);
    assert_int_equal(numaperf_listener_close(NULL, 0, NULL, NULL), -EINVAL);
    assert_int_equal(numaperf_loop_listen(NULL, NULL, NULL), -EINVAL);
    open_loop(NUMAPERF_IO_EPOLL);
    listen_now();
    assert_int_equal(numaperf_listener_steering(own.listener, NULL, NULL), -EINVAL);
    assert_int_equal(numaperf_listener_fds(own.listener, NULL, 0), 1); /* how many there are */
    assert_int_equal(numaperf_listener_fds(own.listener, NULL, 1), -EINVAL);
    /* As snprintf(): cut, and the whole length told. */
    int length = numaperf_listener_address(own.listener, text, 4);
    assert_true(length > 10);
    assert_string_equal(text, "127");
    close_all();
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(listener_on_the_ring_accepts_many_with_one_request),
        cmocka_unit_test(listener_without_direct_descriptors_takes_plain_ones),
        cmocka_unit_test(listener_without_multishot_accepts_one_by_one),
        cmocka_unit_test(listener_whose_ring_accepts_nothing_polls),
        cmocka_unit_test(listener_that_finds_no_room_in_the_ring_tries_again),
        cmocka_unit_test(listener_goes_on_after_connections_that_fail),
        cmocka_unit_test(listener_whose_connections_all_fail_is_no_busy_loop),
        cmocka_unit_test(listener_pauses_for_each_kind_of_shortage),
        cmocka_unit_test(listener_that_is_paused_can_be_closed),
        cmocka_unit_test(listener_without_memory_for_a_connection_refuses_it),
        cmocka_unit_test(listener_at_its_limit_closes_direct_descriptors_too),
        cmocka_unit_test(listener_that_cannot_begin_leaves_nothing),
        cmocka_unit_test(listener_without_ipv6_listens_on_ipv4),
        cmocka_unit_test(listener_tells_nothing_of_nothing),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
