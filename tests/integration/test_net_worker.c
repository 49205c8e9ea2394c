/* SPDX-License-Identifier: MIT */
/*
 * One connection alone on a worker, so that nothing else ends its waits: what a send leaves over
 * has to be seen all the same. Each case on io_uring and epoll, with a worker that looks around
 * before it sleeps and one that does not.
 */
#include "support/clock.h"

#include <numaperf/error.h>
#include <numaperf/net.h>
#include <numaperf/runtime.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define ANSWER_BYTES ((size_t)8 << 20)
#define ROUNDS 3

enum how { HOW_COPIED = 0, HOW_BORROWED };

static struct scene {
    numaperf_rt_t *rt;
    numaperf_listener_t *listener;
    int client;
    atomic_int how; /* enum how */
    atomic_int opened, closed, written, drained;
} scene;

static char answer[ANSWER_BYTES];

struct kind {
    uint32_t backend;
    uint64_t spin_ns_max;
};
static const struct kind kinds[] = {
    {NUMAPERF_IO_URING, 0},
    {NUMAPERF_IO_URING, UINT64_MAX},
    {NUMAPERF_IO_EPOLL, 0},
    {NUMAPERF_IO_EPOLL, UINT64_MAX},
};

/* ---- server ---- */

static int on_open(numaperf_conn_t *conn, void *data)
{
    (void)conn;
    (void)data;
    atomic_fetch_add(&scene.opened, 1);
    return 0;
}

static void on_written(numaperf_conn_t *conn, int status, void *data)
{
    (void)conn;
    (void)data;
    if (status == 0)
        atomic_fetch_add(&scene.written, 1);
}

static void on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    (void)bytes;
    (void)length;
    (void)data;
    int rc = atomic_load(&scene.how) == HOW_COPIED
                 ? numaperf_conn_write(conn, answer, sizeof(answer))
                 : numaperf_conn_write_borrowed(conn, answer, sizeof(answer), on_written, NULL);
    if (rc < 0)
        numaperf_conn_reset(conn, rc);
}

static void on_drain(numaperf_conn_t *conn, void *data)
{
    (void)conn;
    (void)data;
    atomic_fetch_add(&scene.drained, 1);
}

static void on_close(numaperf_conn_t *conn, int reason, void *data)
{
    (void)conn;
    (void)reason;
    (void)data;
    atomic_fetch_add(&scene.closed, 1);
}

/* ---- scene ---- */

static void await(const atomic_int *counter, int wanted, const char *what)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(60);
    while (atomic_load(counter) < wanted) {
        if (test_now_ns() > limit_ns)
            fail_msg("%s is %d, not %d", what, atomic_load(counter), wanted);
        (void)usleep(1000);
    }
}

static void scene_open(void **state)
{
    const struct kind *kind = *state;
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.workers_per_node = 1;
    config.io_backend = kind->backend;
    config.spin_ns_max = kind->spin_ns_max;
    int rc = numaperf_rt_start(&config, &scene.rt);
    if (rc < 0 && kind->backend == NUMAPERF_IO_URING) {
        printf("there is no io_uring here: %s\n", numaperf_last_error()->reason);
        skip();
    }
    assert_int_equal(rc, 0);
    numaperf_conn_config_t conn = NUMAPERF_CONN_CONFIG_INIT;
    conn.callbacks = (numaperf_conn_callbacks_t){
        .on_open = on_open, .on_read = on_read, .on_drain = on_drain, .on_close = on_close};
    numaperf_listen_config_t listen = NUMAPERF_LISTEN_CONFIG_INIT;
    listen.address = "127.0.0.1";
    listen.conn = &conn;
    assert_int_equal(numaperf_rt_listen(scene.rt, &listen, &scene.listener), 0);

    scene.client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(scene.client >= 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port =
                                      htons((uint16_t)numaperf_listener_port(scene.listener)),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    assert_int_equal(connect(scene.client, (const struct sockaddr *)&address, sizeof(address)), 0);
    await(&scene.opened, 1, "opened");
}

static int scene_reset(void **state)
{
    (void)state;
    memset(&scene, 0, sizeof(scene));
    scene.client = -1;
    for (size_t i = 0; i < sizeof(answer); i++)
        answer[i] = (char)(i * 31 >> 7);
    return 0;
}

static int scene_close(void **state)
{
    (void)state;
    numaperf_rt_destroy(scene.rt);
    if (scene.client >= 0)
        (void)close(scene.client);
    return 0;
}

/* Ask, and compare all that comes. */
static void request(enum how how)
{
    static char received[65536];
    atomic_store(&scene.how, (int)how);
    assert_int_equal(send(scene.client, "?", 1, MSG_NOSIGNAL), 1);
    for (size_t at = 0; at < sizeof(answer);) {
        struct pollfd fd = {.fd = scene.client, .events = POLLIN};
        int ready = poll(&fd, 1, (int)(test_limit_ns(60) / 1000000));
        if (ready != 1)
            fail_msg("nothing comes after %zu of %zu bytes", at, sizeof(answer));
        ssize_t n = recv(scene.client, received, sizeof(received), 0);
        assert_true(n > 0);
        assert_memory_equal(received, answer + at, (size_t)n);
        at += (size_t)n;
    }
}

/* ---- cases ---- */

static void large_answers_arrive_whole(void **state)
{
    scene_open(state);
    for (int round = 0; round < ROUNDS; round++)
        request(HOW_COPIED);
    await(&scene.drained, ROUNDS, "drained");
}

static void borrowed_bytes_are_back_though_nothing_else_happens(void **state)
{
    scene_open(state);
    for (int round = 0; round < ROUNDS; round++) {
        request(HOW_BORROWED);
        await(&scene.written, round + 1, "written");
    }
}

static void destroy_with_an_open_connection_closes_it_once(void **state)
{
    scene_open(state);
    numaperf_rt_destroy(scene.rt);
    scene.rt = NULL;
    assert_int_equal(atomic_load(&scene.closed), 1);
    char byte;
    ssize_t n = recv(scene.client, &byte, 1, 0);
    assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

static void destroy_amid_an_answer_drops_the_rest(void **state)
{
    scene_open(state);
    atomic_store(&scene.how, HOW_BORROWED);
    assert_int_equal(send(scene.client, "?", 1, MSG_NOSIGNAL), 1);
    char byte;
    assert_int_equal(recv(scene.client, &byte, 1, 0), 1); /* it is under way */
    numaperf_rt_destroy(scene.rt);
    scene.rt = NULL;
    assert_int_equal(atomic_load(&scene.closed), 1);
    assert_int_equal(atomic_load(&scene.written), 0); /* the client cannot have all of it */
}

#define EACH(fn, name, index)                                                    \
    {                                                                            \
#fn name, fn, scene_reset, scene_close, (void *)(uintptr_t)&kinds[index] \
    }
#define ALL(fn)                                                                                \
    EACH(fn, "_on_ring", 0), EACH(fn, "_on_ring_without_a_spin", 1), EACH(fn, "_on_epoll", 2), \
        EACH(fn, "_on_epoll_without_a_spin", 3)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ALL(large_answers_arrive_whole),
        ALL(borrowed_bytes_are_back_though_nothing_else_happens),
        ALL(destroy_with_an_open_connection_closes_it_once),
        ALL(destroy_amid_an_answer_drops_the_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
