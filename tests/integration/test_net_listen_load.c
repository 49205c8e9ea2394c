/* SPDX-License-Identifier: MIT */
/* Listeners of a runtime under load, and short of descriptors: who hands over, refuses, pauses. */
#include "support/census.h"
#include "support/clock.h"
#include "support/listen_scene.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct listen_scene scene;

static void listen_hands_over_to_a_worker_that_has_fewer(void **state)
{
    listen_scene_open(&scene, state, 2);
    char name[64];
    (void)snprintf(name, sizeof(name), "@numaperf-handoff-%d", (int)getpid());
    scene.config.unix_path = name;
    scene.config.handoff_max = 4;
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(scene.rt, &nodes), 0);
    scene.config.nodes = numaperf_nodemask_single(numaperf_nodemask_next(&nodes, -1));
    listen_scene_listen(&scene);
    /* Worker 1 is held, so 0 accepts all; it hands over as many as may be on their way. */
    listen_hold(&scene, 0, 1);
    for (int i = 0; i < 40; i++)
        (void)client_add(&scene);
    LISTEN_AWAIT(scene.on_worker[0], 36);
    assert_int_equal(listen_worker_stats(&scene, 0).handed_over, 4);
    assert_int_equal(atomic_load(&scene.on_worker[1]), 0);
    listen_let_go(&scene, 0);
    LISTEN_AWAIT(scene.on_worker[1], 4);
    for (int i = 0; i < scene.client_count; i++)
        assert_true(client_echo(scene.clients[i], "handed"));
    assert_int_equal(listen_worker_stats(&scene, 1).accepted, 4);
    listen_scene_close(&scene);
}

static void listen_hands_over_nothing_when_told_so(void **state)
{
    listen_scene_open(&scene, state, 2);
    char name[64];
    (void)snprintf(name, sizeof(name), "@numaperf-handoff-%d", (int)getpid());
    scene.config.unix_path = name;
    scene.config.handoff_max = UINT32_MAX;
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(scene.rt, &nodes), 0);
    scene.config.nodes = numaperf_nodemask_single(numaperf_nodemask_next(&nodes, -1));
    listen_scene_listen(&scene);
    listen_hold(&scene, 0, 1);
    for (int i = 0; i < 40; i++)
        (void)client_add(&scene);
    LISTEN_AWAIT(scene.on_worker[0], 40);
    assert_int_equal(listen_stats(&scene).handed_over, 0);
    listen_let_go(&scene, 0);
    listen_scene_close(&scene);
}

static void listen_refuses_what_is_above_the_limit(void **state)
{
    listen_scene_open(&scene, state, 1);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(scene.rt, &nodes), 0);
    scene.config.nodes = numaperf_nodemask_single(numaperf_nodemask_next(&nodes, -1));
    scene.config.address = "127.0.0.1";
    scene.config.connections_max = 2;
    listen_scene_listen(&scene);
    int first = client_add(&scene);
    int second = client_add(&scene);
    assert_true(client_echo(first, "one") && client_echo(second, "two"));
    int third = client_add(&scene);
    assert_int_not_equal(client_end(third), -1); /* an end or a reset, no byte */
    assert_int_equal(listen_stats(&scene).refused_limit, 1);
    assert_int_equal(listen_stats(&scene).accepted, 2);
    assert_true(client_echo(first, "still"));
    client_close_all(&scene);
    LISTEN_AWAIT(scene.closed, 2);
    assert_true(client_echo(client_add(&scene), "room again"));
    listen_scene_close(&scene);
}

/* Descriptors that are used up: the limit is near before the listener is made, since a request of
 * the ring goes by the one it was made with. */
static struct rlimit limit_before;
static int plugs[64];
static int plug_count;

static void limit_descriptors(void)
{
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit_before), 0);
    int next = dup(0);
    (void)close(next);
    struct rlimit near = {.rlim_cur = (rlim_t)next + 32, .rlim_max = limit_before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &near), 0);
}

static void use_up_descriptors(void)
{
    int fd = -1;
    while ((fd = dup(0)) >= 0)
        plugs[plug_count++] = fd;
    assert_int_equal(errno, EMFILE);
}

static int free_descriptors(void **state)
{
    (void)state;
    while (plug_count > 0)
        (void)close(plugs[--plug_count]);
    return limit_before.rlim_cur != 0 ? setrlimit(RLIMIT_NOFILE, &limit_before) : 0;
}

/* Sockets for clients, while there are descriptors; they connect later. */
static void make_clients(int count)
{
    const struct timeval patience = {.tv_sec = (time_t)(test_limit_ns(30) / 1000000000u)};
    for (int i = 0; i < count; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
        scene.clients[scene.client_count++] = fd;
    }
}

static int connect_client(int index)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port =
                                      htons((uint16_t)numaperf_listener_port(scene.listener)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = scene.clients[index];
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void await_pause(void)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(30);
    while (listen_stats(&scene).accept_pauses == 0 && test_now_ns() < limit_ns)
        test_sleep_ms(1);
    assert_true(listen_stats(&scene).accept_pauses > 0);
}

static void listen_without_descriptors_pauses_and_goes_on(void **state)
{
    enum { COUNT = 8 };
    listen_scene_open(&scene, state, 1);
    scene.config.address = "127.0.0.1";
    make_clients(COUNT + 1);
    limit_descriptors();
    listen_scene_listen(&scene);
    assert_true(client_echo(connect_client(0), "warm"));
    use_up_descriptors();
    for (int i = 1; i <= COUNT; i++)
        (void)connect_client(i);
    await_pause();
    test_sleep_ms(300);
    /* A loop that is busy with it would have failed thousands of times. */
    assert_true(listen_stats(&scene).accept_pauses <
                20 * numaperf_rt_worker_count(scene.rt, NUMAPERF_NODE_ANY));
    assert_int_equal(atomic_load(&scene.opened), 1);
    assert_int_equal(free_descriptors(NULL), 0);
    for (int i = 1; i <= COUNT; i++)
        assert_true(client_echo(scene.clients[i], "after all"));
    listen_scene_close(&scene);
}

static void listen_goes_on_when_a_connection_frees_a_descriptor(void **state)
{
    listen_scene_open(&scene, state, 1);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(scene.rt, &nodes), 0);
    scene.config.nodes = numaperf_nodemask_single(numaperf_nodemask_next(&nodes, -1));
    scene.config.address = "127.0.0.1";
    make_clients(2);
    limit_descriptors();
    listen_scene_listen(&scene);
    int held = connect_client(0);
    assert_true(client_echo(held, "held"));
    use_up_descriptors();
    int waiting = connect_client(1);
    await_pause();
    assert_int_equal(atomic_load(&scene.opened), 1);
    /* The end of another one is what it gets its descriptor from: there is no other. */
    assert_int_equal(shutdown(held, SHUT_RDWR), 0);
    assert_true(client_echo(waiting, "served"));
    assert_int_equal(free_descriptors(NULL), 0);
    listen_scene_close(&scene);
}

int main(void)
{
    census_prepare();
    const struct CMUnitTest cases[] = {
        LISTEN_BOTH(listen_hands_over_to_a_worker_that_has_fewer),
        LISTEN_BOTH(listen_hands_over_nothing_when_told_so),
        LISTEN_BOTH(listen_refuses_what_is_above_the_limit),
        LISTEN_BOTH(listen_without_descriptors_pauses_and_goes_on),
        LISTEN_BOTH(listen_goes_on_when_a_connection_frees_a_descriptor),
    };
    return cmocka_run_group_tests(cases, NULL, free_descriptors);
}
