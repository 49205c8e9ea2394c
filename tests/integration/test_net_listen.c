/* SPDX-License-Identifier: MIT */
/*
 * Listeners of a runtime: where they listen, who gets a connection, and what they refuse. Load and
 * shortage are test_net_listen_load.c's.
 */
#include "support/census.h"
#include "support/clock.h"
#include "support/listen_scene.h"

#include "base/error.h"
#include "net/accept.h"

#include <numaperf/capabilities.h>
#include <numaperf/error.h>

#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static struct listen_scene scene;

/* ---- failures that are played ---- */

int __real_numaperf__acceptor_prepare(struct numaperf__acceptor *acceptor, numaperf_loop_t *loop);
int __wrap_numaperf__acceptor_prepare(struct numaperf__acceptor *acceptor, numaperf_loop_t *loop);
int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);

static int prepare_fails_on; /* index of an acceptor; -1 none */
static bool prepare_fails_late;
static int listen_fails_after; /* calls that work; -1 all do */

int __wrap_numaperf__acceptor_prepare(struct numaperf__acceptor *acceptor, numaperf_loop_t *loop)
{
    if ((int)acceptor->index != prepare_fails_on)
        return __real_numaperf__acceptor_prepare(acceptor, loop);
    int rc = prepare_fails_late ? __real_numaperf__acceptor_prepare(acceptor, loop) : 0;
    return rc < 0 ? rc : numaperf__fail(-EMFILE, EMFILE, "listen", "played");
}

int __wrap_listen(int fd, int backlog)
{
    if (listen_fails_after == 0) {
        errno = EADDRINUSE;
        return -1;
    }
    if (listen_fails_after > 0)
        listen_fails_after--;
    return __real_listen(fd, backlog);
}

static int case_setup(void **state)
{
    (void)state;
    prepare_fails_on = -1;
    prepare_fails_late = false;
    listen_fails_after = -1;
    return 0;
}

static uint32_t worker_count(void)
{
    return (uint32_t)numaperf_rt_worker_count(scene.rt, NUMAPERF_NODE_ANY);
}

static void temporary_path(char *out, size_t size)
{
    (void)snprintf(out, size, "/tmp/numaperf-listen-%d.sock", (int)getpid());
    (void)unlink(out);
}

static void assert_address(const char *wanted)
{
    char text[136];
    assert_true(numaperf_listener_address(scene.listener, text, sizeof(text)) > 0);
    assert_string_equal(text, wanted);
}

/* ---- where ---- */

static void listen_on_an_ipv4_address_answers_there(void **state)
{
    listen_scene_open(&scene, state, 0);
    scene.config.address = "127.0.0.1";
    listen_scene_listen(&scene);
    char wanted[64];
    (void)snprintf(wanted, sizeof(wanted), "127.0.0.1:%d", numaperf_listener_port(scene.listener));
    assert_true(numaperf_listener_port(scene.listener) > 0);
    assert_address(wanted);
    for (int i = 0; i < 20; i++)
        assert_true(client_echo(client_add(&scene), "hello"));
    assert_int_equal(atomic_load(&scene.opened), 20);
    listen_scene_close(&scene);
}

static void listen_without_an_address_takes_both_families(void **state)
{
    listen_scene_open(&scene, state, 0);
    listen_scene_listen(&scene);
    int port = numaperf_listener_port(scene.listener);
    int v6 = client_connect_tcp(true, port);
    int v4 = client_connect_tcp(false, port);
    if (v6 < 0)
        print_message("IPv6 is not there: %s\n", strerror(-v6));
    else
        assert_true(client_echo(v6, "six"));
    assert_true(v4 >= 0);
    assert_true(client_echo(v4, "four"));
    (void)close(v4);
    if (v6 >= 0)
        (void)close(v6);
    listen_scene_close(&scene);
}

static void listen_on_v6_only_takes_no_ipv4(void **state)
{
    listen_scene_open(&scene, state, 0);
    scene.config.address = "::";
    scene.config.flags = NUMAPERF_LISTEN_V6_ONLY;
    if (numaperf_rt_listen(scene.rt, &scene.config, &scene.listener) < 0) {
        listen_scene_close(&scene);
        print_message("skipped: no IPv6 here: %s\n", numaperf_last_error()->reason);
        skip();
    }
    int port = numaperf_listener_port(scene.listener);
    int v6 = client_connect_tcp(true, port);
    assert_true(v6 >= 0);
    assert_true(client_echo(v6, "six"));
    (void)close(v6);
    assert_int_equal(client_connect_tcp(false, port), -ECONNREFUSED);
    listen_scene_close(&scene);
}

static void listen_on_a_path_answers_and_removes_it_at_the_end(void **state)
{
    char path[64];
    temporary_path(path, sizeof(path));
    listen_scene_open(&scene, state, 0);
    scene.config.unix_path = path;
    listen_scene_listen(&scene);
    char wanted[80];
    (void)snprintf(wanted, sizeof(wanted), "unix:%s", path);
    assert_address(wanted);
    assert_int_equal(numaperf_listener_port(scene.listener), 0);
    uint32_t steering = 99;
    assert_int_equal(numaperf_listener_steering(scene.listener, &steering, NULL), 0);
    assert_int_equal(steering, NUMAPERF_STEER_SHARED);
    assert_true(client_echo(client_add(&scene), "path"));
    listen_scene_close(&scene);
    assert_int_equal(access(path, F_OK), -1);
}

static void listen_on_an_abstract_name_answers(void **state)
{
    char name[64];
    (void)snprintf(name, sizeof(name), "@numaperf-listen-%d", (int)getpid());
    listen_scene_open(&scene, state, 0);
    scene.config.unix_path = name;
    listen_scene_listen(&scene);
    assert_true(client_echo(client_add(&scene), "name"));
    listen_scene_close(&scene);
}

static void listen_replaces_a_path_that_nobody_listens_on(void **state)
{
    char path[64];
    temporary_path(path, sizeof(path));
    listen_scene_open(&scene, state, 0);
    scene.config.unix_path = path;
    listen_scene_listen(&scene);
    /* Somebody has it now. */
    numaperf_listener_t *other = NULL;
    assert_int_equal(numaperf_rt_listen(scene.rt, &scene.config, &other), -EADDRINUSE);
    /* Given out, the path is left to the successor when this one closes; nobody takes it over. */
    int fd = -1;
    assert_int_equal(numaperf_listener_fds(scene.listener, &fd, 1), 1);
    assert_int_equal(listen_end(&scene, 0), 0);
    LISTEN_AWAIT(scene.ended, 1);
    assert_int_equal(access(path, F_OK), 0);
    listen_scene_listen(&scene);
    assert_true(client_echo(client_add(&scene), "again"));
    listen_scene_close(&scene);
    assert_int_equal(access(path, F_OK), -1);
}

static void listen_leaves_alone_what_is_no_socket_or_not_its_own(void **state)
{
    char path[64];
    temporary_path(path, sizeof(path));
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    (void)fclose(file);
    listen_scene_open(&scene, state, 0);
    scene.config.unix_path = path;
    assert_int_equal(numaperf_rt_listen(scene.rt, &scene.config, &scene.listener), -EADDRINUSE);
    assert_int_equal(unlink(path), 0);
    listen_scene_listen(&scene);
    /* Another file takes its place: not ours to remove. */
    assert_int_equal(unlink(path), 0);
    file = fopen(path, "we");
    assert_non_null(file);
    (void)fclose(file);
    listen_scene_close(&scene);
    assert_int_equal(unlink(path), 0);
}

static void listen_on_a_port_that_is_taken_is_refused(void **state)
{
    /* As a process of the same user would that shares its port with whoever asks. */
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    const int one = 1;
    int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(other, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
    assert_int_equal(setsockopt(other, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(bind(other, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(other, 5), 0);
    assert_int_equal(getsockname(other, (struct sockaddr *)&address, &length), 0);

    listen_scene_open(&scene, state, 2);
    scene.config.address = "127.0.0.1";
    scene.config.port = ntohs(address.sin_port);
    assert_int_equal(numaperf_rt_listen(scene.rt, &scene.config, &scene.listener), -EADDRINUSE);
    (void)close(other);
    listen_scene_listen(&scene);
    assert_int_equal(numaperf_listener_port(scene.listener), ntohs(address.sin_port));
    /* And so are we: by another one of our own. */
    numaperf_listener_t *second = NULL;
    assert_int_equal(numaperf_rt_listen(scene.rt, &scene.config, &second), -EADDRINUSE);
    assert_null(second);
    assert_true(client_echo(client_add(&scene), "mine"));
    listen_scene_close(&scene);
}

/* ---- what is refused ---- */

static void assert_refused(int code)
{
    numaperf_listener_t *listener = NULL;
    assert_int_equal(numaperf_rt_listen(scene.rt, &scene.config, &listener), code);
    assert_null(listener);
}

static void listen_refuses_what_makes_no_sense(void **state)
{
    listen_scene_open(&scene, state, 1);
    const numaperf_listen_config_t good = scene.config;
    const int fds[1] = {0};
    scene.config.flags = 1u << 20;
    assert_refused(-EINVAL);
    scene.config = good;
    scene.config.address = "localhost";
    assert_refused(-EINVAL);
    scene.config.address = "127.0.0.1";
    scene.config.unix_path = "/tmp/x";
    assert_refused(-EINVAL);
    scene.config = good;
    scene.config.fds = fds;
    assert_refused(-EINVAL); /* no fd_count */
    scene.config.fd_count = 1;
    scene.config.port = 80;
    assert_refused(-EINVAL);
    scene.config = good;
    scene.config.reserved_2 = 1;
    assert_refused(-EINVAL);
    scene.config = good;
    scene.config.conn = NULL;
    assert_refused(-EINVAL);
    scene.config = good;
    scene.config.size = 8;
    assert_refused(-EINVAL);
    scene.config = good;
    scene.config.address = "192.0.2.1"; /* of documentations, of no interface */
    assert_refused(-EADDRNOTAVAIL);
    scene.config = good;
    scene.config.unix_path = "/nonexistent/x";
    assert_refused(-ENOENT);
    scene.config = good;
    scene.config.nodes = numaperf_nodemask_single(1000);
    assert_refused(NUMAPERF_E_NO_NODE);
    listen_scene_close(&scene);
}

static void listen_on_a_worker_would_wait_for_itself(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    numaperf_listener_t *listener = NULL;
    atomic_store((atomic_int *)arg, numaperf_rt_listen(scene.rt, &scene.config, &listener));
}

static void listen_on_a_worker_is_refused(void **state)
{
    listen_scene_open(&scene, state, 1);
    atomic_int result = 0;
    assert_int_equal(numaperf_rt_spawn(scene.rt, NUMAPERF_NODE_ANY,
                                       listen_on_a_worker_would_wait_for_itself, &result),
                     0);
    LISTEN_AWAIT(result, -EDEADLK);
    assert_int_equal(numaperf_rt_stop(scene.rt, UINT64_MAX), 0);
    assert_refused(NUMAPERF_E_STOPPING);
    listen_scene_close(&scene);
}

static void listen_that_fails_on_one_worker_listens_on_none(void **state)
{
    listen_scene_open(&scene, state, 2);
    scene.config.address = "127.0.0.1";
    listen_scene_listen(&scene); /* what the first one leaves behind: buffers, handles */
    assert_int_equal(listen_end(&scene, 0), 0);
    LISTEN_AWAIT(scene.ended, 1);
    struct census before = census_take();
    int last = (int)worker_count() - 1;
    const int fails_on[] = {0, last, 0, last};
    for (int i = 0; i < 4; i++) {
        prepare_fails_on = fails_on[i];
        prepare_fails_late = i >= 2;
        assert_refused(-EMFILE);
        assert_non_null(strstr(numaperf_last_error()->reason, "played"));
    }
    prepare_fails_on = -1;
    listen_fails_after = 1; /* of the second worker's socket */
    assert_refused(-EADDRINUSE);
    listen_fails_after = -1;
    assert_true(census_returns_to(&before));
    listen_scene_listen(&scene);
    assert_true(client_echo(client_add(&scene), "after"));
    listen_scene_close(&scene);
}

/* ---- what connections are like ---- */

static void listen_gives_connections_without_delay(void **state)
{
    listen_scene_open(&scene, state, 0);
    scene.config.address = "127.0.0.1";
    listen_scene_listen(&scene);
    assert_true(client_echo(client_add(&scene), "now"));
    assert_int_equal(atomic_load(&scene.delayed), 0);
    assert_int_equal(atomic_load(&scene.with_fd), 1);
    assert_int_equal(listen_end(&scene, UINT64_MAX), 0);
    client_close_all(&scene);
    LISTEN_AWAIT(scene.ended, 1);
    scene.conn.flags = NUMAPERF_CONN_DELAY;
    listen_scene_listen(&scene);
    assert_true(client_echo(client_add(&scene), "later"));
    assert_int_equal(atomic_load(&scene.delayed), 1);
    listen_scene_close(&scene);
}

static void listen_with_direct_descriptors_answers_without_fds(void **state)
{
    listen_scene_open(&scene, state, 0);
    numaperf_loop_features_t features = NUMAPERF_LOOP_FEATURES_INIT;
    assert_int_equal(
        numaperf_loop_features(numaperf_worker_io(numaperf_rt_worker(scene.rt, 0)), &features), 0);
    scene.config.address = "127.0.0.1";
    scene.config.flags = NUMAPERF_LISTEN_DIRECT;
    scene.config.connections_max = 4;
    listen_scene_listen(&scene);
    for (int i = 0; i < 50; i++) { /* slots are used again */
        assert_true(client_echo(client_add(&scene), "slot"));
        client_close_all(&scene);
        LISTEN_AWAIT(scene.closed, i + 1);
    }
    bool is_direct =
        scene.backend == NUMAPERF_IO_URING && features.direct_descriptors == NUMAPERF_PROBE_OK;
    if (scene.backend == NUMAPERF_IO_EPOLL)
        assert_int_equal(atomic_load(&scene.with_fd), 50);
    else if (is_direct)
        assert_int_equal(atomic_load(&scene.with_fd), 0);
    listen_scene_close(&scene);
}

static void listen_on_one_node_leaves_the_others_alone(void **state)
{
    listen_scene_open(&scene, state, 0);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(scene.rt, &nodes), 0);
    int last = -1;
    for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0;
         node = numaperf_nodemask_next(&nodes, node))
        last = node;
    scene.config.address = "127.0.0.1";
    scene.config.nodes = numaperf_nodemask_single(last);
    listen_scene_listen(&scene);
    for (int i = 0; i < 32; i++)
        assert_true(client_echo(client_add(&scene), "node"));
    int there = 0;
    for (uint32_t i = 0; i < worker_count(); i++) {
        if (numaperf_worker_node(numaperf_rt_worker(scene.rt, i)) == last)
            there += atomic_load(&scene.on_worker[i]);
    }
    assert_int_equal(there, 32);
    listen_scene_close(&scene);
}

/* ---- steering ---- */

static void pin_to(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    assert_int_equal(sched_setaffinity(0, sizeof(set), &set), 0);
}

/* Connections from each worker's PU come to that worker: over the loopback device a packet arrives
 * on the PU that sends it. */
static void listen_steers_to_the_worker_of_the_pu(void **state)
{
    listen_scene_open(&scene, state, 0);
    cpu_set_t mine;
    assert_int_equal(sched_getaffinity(0, sizeof(mine), &mine), 0);
    scene.config.address = "127.0.0.1";
    scene.config.handoff_max = UINT32_MAX;
    listen_scene_listen(&scene);
    uint32_t steering = 99;
    const char *reason = "untouched";
    assert_int_equal(numaperf_listener_steering(scene.listener, &steering, &reason), 0);
    if (worker_count() == 1) {
        listen_scene_close(&scene);
        print_message("skipped: one worker, nothing to steer\n");
        skip();
    }
    assert_int_equal(steering, NUMAPERF_STEER_BPF);
    assert_null(reason);
    for (uint32_t i = 0; i < worker_count(); i++) {
        pin_to(numaperf_worker_cpu(numaperf_rt_worker(scene.rt, i)));
        for (int j = 0; j < 10; j++)
            assert_true(client_echo(client_add(&scene), "steered"));
        assert_int_equal(atomic_load(&scene.on_worker[i]), 10);
    }
    assert_int_equal(sched_setaffinity(0, sizeof(mine), &mine), 0);
    listen_scene_close(&scene);
}

static void listen_unsteered_says_so_and_why(void **state)
{
    listen_scene_open(&scene, state, 2);
    scene.config.address = "127.0.0.1";
    scene.config.flags = NUMAPERF_LISTEN_NO_STEER;
    listen_scene_listen(&scene);
    uint32_t steering = 99;
    const char *reason = NULL;
    assert_int_equal(numaperf_listener_steering(scene.listener, &steering, &reason), 0);
    assert_int_equal(steering, NUMAPERF_STEER_HASH);
    assert_non_null(strstr(reason, "NO_STEER"));
    assert_true(client_echo(client_add(&scene), "hashed"));
    listen_scene_close(&scene);
}

/* ---- inherited ---- */

static void listen_on_inherited_sockets_gives_each_worker_one(void **state)
{
    listen_scene_open(&scene, state, 2);
    scene.config.address = "127.0.0.1";
    listen_scene_listen(&scene);
    int port = numaperf_listener_port(scene.listener);
    int fds[LISTEN_WORKERS_MAX];
    int own[LISTEN_WORKERS_MAX];
    int count = numaperf_listener_fds(scene.listener, fds, LISTEN_WORKERS_MAX);
    assert_int_equal(count, worker_count());
    for (int i = 0; i < count; i++)
        own[i] = dup(fds[i]);
    assert_int_equal(listen_end(&scene, 0), 0);
    LISTEN_AWAIT(scene.ended, 1);

    scene.config.address = NULL;
    scene.config.fds = own;
    scene.config.fd_count = (uint32_t)count;
    listen_scene_listen(&scene);
    for (int i = 0; i < count; i++)
        (void)close(own[i]); /* it keeps duplicates */
    assert_int_equal(numaperf_listener_port(scene.listener), port);
    uint32_t steering = 99;
    const char *reason = NULL;
    assert_int_equal(numaperf_listener_steering(scene.listener, &steering, &reason), 0);
    assert_int_equal(steering, NUMAPERF_STEER_INCOMING_CPU);
    assert_non_null(strstr(reason, "inherited"));
    /* Whichever socket the kernel chooses, somebody accepts. */
    for (int i = 0; i < 40; i++)
        assert_true(client_echo(client_add(&scene), "inherited"));
    listen_scene_close(&scene);
}

static void listen_on_one_inherited_socket_shares_it(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(fds[i], (struct sockaddr *)&address, sizeof(address)), 0);
    }
    listen_scene_open(&scene, state, 2);
    scene.config.fds = fds;
    scene.config.fd_count = 1;
    scene.config.handoff_max = UINT32_MAX; /* to the one that is held, below */
    assert_refused(-EINVAL);
    assert_non_null(strstr(numaperf_last_error()->reason, "listening"));
    assert_int_equal(listen(fds[0], 100), 0);
    listen_scene_listen(&scene);
    uint32_t steering = 99;
    const char *reason = NULL;
    assert_int_equal(numaperf_listener_steering(scene.listener, &steering, &reason), 0);
    assert_int_equal(steering, NUMAPERF_STEER_SHARED);
    assert_non_null(reason);
    for (int i = 0; i < 10; i++)
        assert_true(client_echo(client_add(&scene), "shared"));
    /* Any worker may take them: one that is held takes none, and none is lost. */
    listen_hold(&scene, 0, 0);
    for (int i = 0; i < 10; i++)
        assert_true(client_echo(client_add(&scene), "held"));
    listen_let_go(&scene, 0);

    /* Two that are not alike are served both. */
    assert_int_equal(listen(fds[1], 100), 0);
    numaperf_listener_t *first = scene.listener;
    scene.config.fds = &fds[1];
    listen_scene_listen(&scene);
    assert_true(client_echo(client_add(&scene), "second"));
    assert_int_equal(numaperf_listener_close(first, 0, NULL, NULL), 0);
    listen_scene_close(&scene);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void listen_leaves_nothing_behind(void **state)
{
    for (int round = 0; round < 2; round++) {
        static struct census before;
        if (round == 1)
            before = census_take();
        listen_scene_open(&scene, state, 2);
        scene.config.address = "127.0.0.1";
        listen_scene_listen(&scene);
        for (int i = 0; i < 20; i++)
            assert_true(client_echo(client_add(&scene), "census"));
        listen_scene_close(&scene);
        if (round == 1)
            assert_true(census_returns_to(&before));
    }
}

int main(void)
{
    census_prepare();
    const struct CMUnitTest cases[] = {
        LISTEN_BOTH(listen_on_an_ipv4_address_answers_there),
        LISTEN_BOTH(listen_without_an_address_takes_both_families),
        LISTEN_BOTH(listen_on_v6_only_takes_no_ipv4),
        LISTEN_BOTH(listen_on_a_path_answers_and_removes_it_at_the_end),
        LISTEN_BOTH(listen_on_an_abstract_name_answers),
        LISTEN_BOTH(listen_replaces_a_path_that_nobody_listens_on),
        LISTEN_BOTH(listen_leaves_alone_what_is_no_socket_or_not_its_own),
        LISTEN_BOTH(listen_on_a_port_that_is_taken_is_refused),
        LISTEN_BOTH(listen_refuses_what_makes_no_sense),
        LISTEN_BOTH(listen_on_a_worker_is_refused),
        LISTEN_BOTH(listen_that_fails_on_one_worker_listens_on_none),
        LISTEN_BOTH(listen_gives_connections_without_delay),
        LISTEN_BOTH(listen_with_direct_descriptors_answers_without_fds),
        LISTEN_BOTH(listen_on_one_node_leaves_the_others_alone),
        LISTEN_BOTH(listen_steers_to_the_worker_of_the_pu),
        LISTEN_BOTH(listen_unsteered_says_so_and_why),
        LISTEN_BOTH(listen_on_inherited_sockets_gives_each_worker_one),
        LISTEN_BOTH(listen_on_one_inherited_socket_shares_it),
        LISTEN_BOTH(listen_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(cases, case_setup, NULL);
}
