/* SPDX-License-Identifier: MIT */
/* The end of listeners, by their user and by a stop of the runtime: who is served, who is reset. */
#include "support/census.h"
#include "support/clock.h"
#include "support/listen_scene.h"

#include <numaperf/error.h>
#include <numaperf/group.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define SECOND 1000000000u

static struct listen_scene scene;

static void open_and_listen(void **state, uint32_t workers)
{
    listen_scene_open(&scene, state, workers);
    scene.config.address = "127.0.0.1";
    listen_scene_listen(&scene);
}

static void open_keep_and_listen(void **state, uint32_t workers)
{
    listen_scene_open(&scene, state, workers);
    listen_keep(&scene);
    scene.config.address = "127.0.0.1";
    listen_scene_listen(&scene);
}

/* `count` clients that have been answered. */
static void add_clients(int count)
{
    for (int i = 0; i < count; i++)
        assert_true(client_echo(client_add(&scene), "hello"));
}

/* Nobody listens any more: each worker ends for itself, so one may still have answered. */
static void await_refusal(int port)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(30);
    int fd = 0;
    while ((fd = client_connect_tcp(false, port)) != -ECONNREFUSED) {
        if (fd >= 0)
            (void)close(fd);
        if (test_now_ns() > limit_ns)
            fail_msg("port %d still answers", port);
    }
}

/* In an emulated guest a worker may take so long to end that it is taken for stuck. */
static int stop_within(uint64_t timeout_ns)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(30);
    int rc = 0;
    do
        rc = numaperf_rt_stop(scene.rt, timeout_ns);
    while (rc == -ETIMEDOUT && test_is_slow() && test_now_ns() < limit_ns);
    return rc;
}

/* ---- closed by the user ---- */

static void close_lets_connections_without_a_word_of_their_own_end(void **state)
{
    open_and_listen(state, 0);
    add_clients(10);
    assert_int_equal(listen_end(&scene, UINT64_MAX), 0);
    for (int i = 0; i < scene.client_count; i++)
        assert_int_equal(client_end(scene.clients[i]), 0); /* an end, no reset */
    LISTEN_AWAIT(scene.ended, 1);
    assert_int_equal(atomic_load(&scene.reset_count), 0);
    assert_int_equal(atomic_load(&scene.closed), 10);
    assert_int_equal(atomic_load(&scene.stopping), 0);
    listen_scene_close(&scene);
}

static void close_waits_for_connections_that_go_on(void **state)
{
    open_keep_and_listen(state, 0);
    int port = numaperf_listener_port(scene.listener);
    add_clients(6);
    assert_int_equal(listen_end(&scene, UINT64_MAX), 0);
    await_refusal(port);
    for (int i = 0; i < 6; i++)
        assert_true(client_echo(scene.clients[i], "going on"));
    assert_int_equal(atomic_load(&scene.ended), 0);
    client_close_all(&scene);
    LISTEN_AWAIT(scene.ended, 1);
    assert_int_equal(atomic_load(&scene.reset_count), 0);
    listen_scene_close(&scene);
}

static void close_resets_what_is_left_after_the_grace(void **state)
{
    open_keep_and_listen(state, 0);
    add_clients(6);
    assert_int_equal(listen_end(&scene, SECOND / 10), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(client_end(scene.clients[i]), ECONNRESET);
    LISTEN_AWAIT(scene.ended, 1);
    assert_int_equal(atomic_load(&scene.shutdowns), 6); /* it was told before */
    assert_int_equal(atomic_load(&scene.reset_count), 6);
    assert_int_equal(atomic_load(&scene.stopping), 6);
    listen_scene_close(&scene);
}

static void close_without_grace_resets_at_once(void **state)
{
    open_keep_and_listen(state, 0);
    add_clients(4);
    assert_int_equal(listen_end(&scene, 0), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(client_end(scene.clients[i]), ECONNRESET);
    LISTEN_AWAIT(scene.ended, 1);
    assert_int_equal(atomic_load(&scene.reset_count), 4);
    listen_scene_close(&scene);
}

static void close_serves_the_backlog(void **state)
{
    enum { COUNT = 12 };
    listen_scene_open(&scene, state, 1);
    listen_keep(&scene);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(scene.rt, &nodes), 0);
    scene.config.nodes = numaperf_nodemask_single(numaperf_nodemask_next(&nodes, -1));
    scene.config.address = "127.0.0.1";
    listen_scene_listen(&scene);
    listen_hold(&scene, 0, 0);
    for (int i = 0; i < COUNT; i++) {
        int fd = client_add(&scene);
        assert_int_equal(send(fd, "ping", 4, MSG_NOSIGNAL), 4);
    }
    /* The kernel has accepted them, the worker knows of none. */
    assert_int_equal(listen_end(&scene, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&scene.opened), 0);
    listen_let_go(&scene, 0);
    for (int i = 0; i < COUNT; i++) {
        char answer[4];
        assert_int_equal(recv(scene.clients[i], answer, 4, MSG_WAITALL), 4);
        assert_memory_equal(answer, "ping", 4);
    }
    assert_int_equal(atomic_load(&scene.opened), COUNT);
    client_close_all(&scene);
    LISTEN_AWAIT(scene.ended, 1);
    assert_int_equal(atomic_load(&scene.reset_count), 0);
    listen_scene_close(&scene);
}

static void close_answers_what_was_received_without_being_told_otherwise(void **state)
{
    listen_scene_open(&scene, state, 1);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(scene.rt, &nodes), 0);
    scene.config.nodes = numaperf_nodemask_single(numaperf_nodemask_next(&nodes, -1));
    scene.config.address = "127.0.0.1";
    listen_scene_listen(&scene);
    int open = client_add(&scene);
    assert_true(client_echo(open, "warm"));
    listen_hold(&scene, 0, 0);
    assert_int_equal(send(open, "last", 4, MSG_NOSIGNAL), 4);
    int queued = client_add(&scene);
    assert_int_equal(send(queued, "word", 4, MSG_NOSIGNAL), 4);
    assert_int_equal(listen_end(&scene, UINT64_MAX), 0);
    listen_let_go(&scene, 0);
    char answer[4];
    assert_int_equal(recv(open, answer, 4, MSG_WAITALL), 4);
    assert_memory_equal(answer, "last", 4);
    assert_int_equal(recv(queued, answer, 4, MSG_WAITALL), 4);
    assert_memory_equal(answer, "word", 4);
    assert_int_equal(client_end(open), 0);
    assert_int_equal(client_end(queued), 0);
    LISTEN_AWAIT(scene.ended, 1);
    listen_scene_close(&scene);
}

static void close_twice_is_once(void **state)
{
    open_keep_and_listen(state, 0);
    add_clients(1);
    assert_int_equal(listen_end(&scene, UINT64_MAX), 0);
    assert_int_equal(listen_end(&scene, 0), -EBUSY);
    client_close_all(&scene);
    LISTEN_AWAIT(scene.ended, 1);
    listen_scene_close(&scene);
    assert_int_equal(atomic_load(&scene.ended), 1);
}

static void close_of_one_listener_leaves_the_other_alone(void **state)
{
    open_and_listen(state, 0);
    numaperf_listener_t *first = scene.listener;
    add_clients(2);
    listen_scene_listen(&scene);
    add_clients(2);
    assert_int_equal(numaperf_listener_close(first, 0, NULL, NULL), 0);
    assert_int_equal(client_end(scene.clients[0]), ECONNRESET);
    assert_int_equal(client_end(scene.clients[1]), ECONNRESET);
    assert_true(client_echo(scene.clients[2], "alone"));
    add_clients(1);
    listen_scene_close(&scene);
}

/* ---- stopped with the runtime ---- */

struct stopper {
    pthread_t thread;
    uint64_t timeout_ns;
    atomic_int began, result, done;
};

static void *stop_thread(void *arg)
{
    struct stopper *stopper = arg;
    atomic_store(&stopper->began, 1);
    atomic_store(&stopper->result, numaperf_rt_stop(scene.rt, stopper->timeout_ns));
    atomic_store(&stopper->done, 1);
    return NULL;
}

static void stop_begin(struct stopper *stopper, uint64_t timeout_ns)
{
    memset(stopper, 0, sizeof(*stopper));
    stopper->timeout_ns = timeout_ns;
    assert_int_equal(pthread_create(&stopper->thread, NULL, stop_thread, stopper), 0);
}

static int stop_join(struct stopper *stopper)
{
    assert_int_equal(pthread_join(stopper->thread, NULL), 0);
    return atomic_load(&stopper->result);
}

/* All that were opened are closed, apart from so many. */
static void listen_await_all_but(int count)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(30);
    while (atomic_load(&scene.opened) - atomic_load(&scene.closed) != count) {
        if (test_now_ns() > limit_ns)
            fail_msg("%d opened, %d closed", atomic_load(&scene.opened),
                     atomic_load(&scene.closed));
        test_sleep_ms(1);
    }
}

static void stop_lets_connections_finish(void **state)
{
    open_keep_and_listen(state, 0);
    int port = numaperf_listener_port(scene.listener);
    add_clients(8);
    struct stopper stopper;
    stop_begin(&stopper, UINT64_MAX);
    await_refusal(port);
    for (int i = 0; i < 8; i++)
        assert_true(client_echo(scene.clients[i], "still here"));
    assert_int_equal(atomic_load(&stopper.done), 0);
    for (int i = 0; i < 7; i++)
        (void)close(scene.clients[i]);
    listen_await_all_but(1);
    assert_true(client_echo(scene.clients[7], "the last one"));
    assert_int_equal(atomic_load(&stopper.done), 0);
    (void)close(scene.clients[7]);
    scene.client_count = 0;
    assert_int_equal(stop_join(&stopper), 0);
    listen_await_all_but(0);
    assert_true(atomic_load(&scene.shutdowns) >= 8);
    assert_int_equal(atomic_load(&scene.stopping), 0);
    /* It is there until the runtime is destroyed. */
    assert_int_equal(numaperf_listener_port(scene.listener), port);
    assert_int_equal(listen_end(&scene, 0), -EBUSY);
    listen_scene_close(&scene);
}

static void stop_ends_connections_without_a_word_of_their_own(void **state)
{
    open_and_listen(state, 0);
    add_clients(8);
    assert_int_equal(numaperf_rt_stop(scene.rt, UINT64_MAX), 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(client_end(scene.clients[i]), 0);
    assert_int_equal(atomic_load(&scene.closed), 8);
    assert_int_equal(atomic_load(&scene.stopping), 0);
    listen_scene_close(&scene);
}

static void stop_resets_what_is_left_after_its_timeout(void **state)
{
    open_keep_and_listen(state, 0);
    add_clients(8);
    assert_int_equal(stop_within(SECOND / 10), 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(client_end(scene.clients[i]), ECONNRESET);
    assert_int_equal(atomic_load(&scene.shutdowns), 8);
    assert_int_equal(atomic_load(&scene.stopping), 8);
    listen_scene_close(&scene);
}

static void stop_at_once_resets_at_once(void **state)
{
    open_keep_and_listen(state, 0);
    add_clients(8);
    assert_int_equal(stop_within(0), 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(client_end(scene.clients[i]), ECONNRESET);
    assert_int_equal(atomic_load(&scene.closed), 8);
    listen_scene_close(&scene);
}

static void stop_during_a_close_tells_its_end_once(void **state)
{
    open_keep_and_listen(state, 0);
    add_clients(4);
    assert_int_equal(listen_end(&scene, UINT64_MAX), 0);
    LISTEN_AWAIT(scene.shutdowns, 4);
    assert_int_equal(stop_within(0), 0);
    assert_int_equal(atomic_load(&scene.ended), 1);
    assert_int_equal(atomic_load(&scene.reset_count), 4);
    listen_scene_close(&scene);
    assert_int_equal(atomic_load(&scene.ended), 1);
}

static void spawned_by_close(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)atomic_fetch_add((atomic_int *)arg, 1);
}

static atomic_int spawned_count;

static void spawning_on_close(numaperf_conn_t *conn, int reason, void *data)
{
    (void)conn;
    (void)reason;
    struct listen_scene *own = data;
    atomic_fetch_add(&own->closed, 1);
    if (numaperf_rt_spawn(own->rt, NUMAPERF_NODE_LOCAL, spawned_by_close, &spawned_count) < 0)
        atomic_fetch_add(&own->strangers, 1);
}

static void stop_runs_what_the_last_connections_spawn(void **state)
{
    listen_scene_open(&scene, state, 0);
    scene.conn.callbacks.on_close = spawning_on_close;
    scene.config.address = "127.0.0.1";
    listen_scene_listen(&scene);
    add_clients(8);
    atomic_store(&spawned_count, 0);
    assert_int_equal(numaperf_rt_stop(scene.rt, UINT64_MAX), 0);
    assert_int_equal(atomic_load(&spawned_count), 8);
    listen_scene_close(&scene);
}

static void stop_loses_no_connection_on_its_way(void **state)
{
    /* One worker is held, so what is handed over to it waits as a task; the stop cancels that. */
    struct census before = census_take();
    listen_scene_open(&scene, state, 2);
    char name[64];
    (void)snprintf(name, sizeof(name), "@numaperf-drain-%d", (int)getpid());
    scene.config.unix_path = name;
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(scene.rt, &nodes), 0);
    scene.config.nodes = numaperf_nodemask_single(numaperf_nodemask_next(&nodes, -1));
    listen_scene_listen(&scene);
    listen_hold(&scene, 0, 1);
    for (int i = 0; i < 40; i++)
        (void)client_add(&scene);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(30);
    numaperf_net_stats_t stats = listen_worker_stats(&scene, 0);
    while (stats.accepted + stats.handed_over < 40 && test_now_ns() < limit_ns) {
        test_sleep_ms(1);
        stats = listen_worker_stats(&scene, 0);
    }
    assert_int_equal(stats.accepted + stats.handed_over, 40);
    assert_true(stats.handed_over > 0);
    assert_int_equal(numaperf_rt_stop(scene.rt, 0), -ETIMEDOUT);
    /* Those on their way as well as those that were served: all see the end. */
    for (int i = 0; i < 40; i++)
        assert_int_not_equal(client_end(scene.clients[i]), -1);
    assert_int_equal(atomic_load(&scene.on_worker[1]), 0);
    listen_let_go(&scene, 0);
    listen_scene_close(&scene);
    assert_true(census_returns_to(&before));
}

/* ---- together ---- */

struct churn {
    pthread_t thread;
    int port;
    atomic_bool stop;
    atomic_int answered;
};

static void *churn_thread(void *arg)
{
    struct churn *churn = arg;
    while (!atomic_load(&churn->stop)) {
        int fd = client_connect_tcp(false, churn->port);
        if (fd < 0)
            continue;
        if (client_echo(fd, "churn"))
            atomic_fetch_add(&churn->answered, 1);
        (void)close(fd);
    }
    return NULL;
}

/* Listeners come and go, and runtimes with them, while clients knock. */
static void close_and_stop_race_with_clients_and_each_other(void **state)
{
    for (int round = 0; round < 6; round++) {
        open_and_listen(state, 2);
        struct churn churn = {.port = numaperf_listener_port(scene.listener)};
        assert_int_equal(pthread_create(&churn.thread, NULL, churn_thread, &churn), 0);
        while (atomic_load(&churn.answered) < 5)
            test_sleep_ms(1);
        int rc = round % 3 == 0 ? 0 : listen_end(&scene, round % 2 == 0 ? 0 : UINT64_MAX);
        assert_int_equal(rc, 0);
        assert_int_equal(stop_within(round % 2 == 0 ? UINT64_MAX : 0), 0);
        atomic_store(&churn.stop, true);
        assert_int_equal(pthread_join(churn.thread, NULL), 0);
        int closes = round % 3 == 0 ? 0 : 1;
        listen_scene_close(&scene);
        assert_int_equal(atomic_load(&scene.ended), closes);
    }
}

/* ---- a loop of the user ---- */

struct own_loop {
    numaperf_loop_t *loop;
    numaperf_listener_t *listener;
    int opened, closed, ended;
};

static int own_on_open(numaperf_conn_t *conn, void *data)
{
    (void)conn;
    ((struct own_loop *)data)->opened++;
    return 0;
}

static void own_on_read(numaperf_conn_t *conn, const void *bytes, size_t length, void *data)
{
    struct own_loop *own = data;
    (void)numaperf_conn_write(conn, bytes, length);
    /* From a callback of one of its connections. */
    if (own->listener != NULL && length == 4 && memcmp(bytes, "quit", 4) == 0) {
        own->ended--;
        if (numaperf_listener_close(own->listener, UINT64_MAX, NULL, NULL) == 0)
            own->ended += 2;
    }
}

static void own_on_close(numaperf_conn_t *conn, int reason, void *data)
{
    (void)conn;
    (void)reason;
    ((struct own_loop *)data)->closed++;
}

static void loop_with_a_listener_runs_until_it_is_closed(void **state)
{
    struct own_loop own = {0};
    numaperf_loop_config_t loop_config = NUMAPERF_LOOP_CONFIG_INIT;
    loop_config.backend = (uint32_t) * (const int *)*state;
    if (numaperf_loop_create(&loop_config, &own.loop) < 0) {
        print_message("skipped: io_uring is refused here: %s\n", numaperf_last_error()->reason);
        skip();
    }
    numaperf_conn_config_t conn = NUMAPERF_CONN_CONFIG_INIT;
    conn.callbacks.on_open = own_on_open;
    conn.callbacks.on_read = own_on_read;
    conn.callbacks.on_close = own_on_close;
    conn.data = &own;
    numaperf_listen_config_t config = NUMAPERF_LISTEN_CONFIG_INIT;
    config.conn = &conn;
    config.address = "127.0.0.1";
    assert_int_equal(numaperf_loop_listen(own.loop, &config, &own.listener), 0);
    assert_int_equal(numaperf_loop_destroy(own.loop), -EBUSY);
    uint32_t steering = 99;
    const char *reason = "untouched";
    assert_int_equal(numaperf_listener_steering(own.listener, &steering, &reason), 0);
    assert_int_equal(steering, NUMAPERF_STEER_SHARED);
    assert_null(reason);

    int fd = client_connect_tcp(false, numaperf_listener_port(own.listener));
    assert_true(fd >= 0);
    assert_int_equal(send(fd, "quit", 4, MSG_NOSIGNAL), 4);
    /* The listener keeps it alive, and nothing else; its end lets it return. */
    assert_int_equal(numaperf_loop_run(own.loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(own.opened, 1);
    assert_int_equal(own.closed, 1);
    assert_int_equal(own.ended, 1);
    (void)close(fd);
    /* One that is not there does not hold the port. */
    numaperf_listener_t *second = NULL;
    own.listener = NULL;
    assert_int_equal(numaperf_loop_listen(own.loop, &config, &second), 0);
    assert_int_equal(numaperf_listener_close(second, 0, NULL, NULL), 0);
    assert_int_equal(numaperf_listener_close(second, 0, NULL, NULL), -EBUSY);
    assert_int_equal(numaperf_loop_run(own.loop, UV_RUN_DEFAULT), 0);
    config.address = "nowhere";
    assert_int_equal(numaperf_loop_listen(own.loop, &config, &second), -EINVAL);
    assert_int_equal(numaperf_loop_destroy(own.loop), 0);
}

int main(void)
{
    census_prepare();
    const struct CMUnitTest cases[] = {
        LISTEN_BOTH(close_lets_connections_without_a_word_of_their_own_end),
        LISTEN_BOTH(close_waits_for_connections_that_go_on),
        LISTEN_BOTH(close_resets_what_is_left_after_the_grace),
        LISTEN_BOTH(close_without_grace_resets_at_once),
        LISTEN_BOTH(close_serves_the_backlog),
        LISTEN_BOTH(close_answers_what_was_received_without_being_told_otherwise),
        LISTEN_BOTH(close_twice_is_once),
        LISTEN_BOTH(close_of_one_listener_leaves_the_other_alone),
        LISTEN_BOTH(stop_lets_connections_finish),
        LISTEN_BOTH(stop_ends_connections_without_a_word_of_their_own),
        LISTEN_BOTH(stop_resets_what_is_left_after_its_timeout),
        LISTEN_BOTH(stop_at_once_resets_at_once),
        LISTEN_BOTH(stop_during_a_close_tells_its_end_once),
        LISTEN_BOTH(stop_runs_what_the_last_connections_spawn),
        LISTEN_BOTH(stop_loses_no_connection_on_its_way),
        LISTEN_BOTH(close_and_stop_race_with_clients_and_each_other),
        LISTEN_BOTH(loop_with_a_listener_runs_until_it_is_closed),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
