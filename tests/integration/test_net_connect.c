/* SPDX-License-Identifier: MIT */
/*
 * Outgoing connections on both backends: over every kind of address, to the first of several that
 * answers, and to peers that have no room yet.
 */
#include "support/connect_scene.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOUR_MS 3600000u

/* ---- it connects ---- */

static void connects_over(struct net_scene *scene, struct peer *peer, const char *host,
                          const char *address)
{
    struct caller caller = {.scene = scene};
    caller_run(&caller, scene, to_host(host, peer->port));
    assert_int_equal(caller.status, 0);
    assert_int_equal(numaperf_conn_backend(caller.conn), scene->kind->backend);
    int fd = peer_accept(peer);
    caller_talks(&caller, scene, fd);
    if (address != NULL) {
        char text[80], wanted[80];
        (void)snprintf(wanted, sizeof(wanted), "%s:%u", address, (unsigned)peer->port);
        assert_true(numaperf_conn_peer_text(caller.conn, text, sizeof(text)) > 0);
        assert_string_equal(text, wanted);
    }
    assert_int_equal(net_stats(scene).connected, 1);
    caller_close(&caller, scene);
    (void)close(fd);
    peer_close(peer);
    connect_scene_end(scene, &caller);
}

static void connect_to_ipv4_opens_a_connection(void **state)
{
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    peer_listen(&peer, "127.0.0.1", 8);
    connects_over(&scene, &peer, "127.0.0.1", "127.0.0.1");
}

static void connect_to_ipv6_opens_a_connection(void **state)
{
    NEEDS_V6();
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    peer_listen(&peer, "::1", 8);
    connects_over(&scene, &peer, "::1", "[::1]");
}

static void connect_to_localhost_opens_a_connection(void **state)
{
    struct addrinfo *list = NULL;
    if (getaddrinfo("localhost", NULL, NULL, &list) != 0) {
        print_message("skipped: localhost has no address on this host\n");
        skip();
    }
    freeaddrinfo(list);
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    peer_listen(&peer, "127.0.0.1", 8);
    /* ::1 may come first, and refuses. */
    connects_over(&scene, &peer, "localhost", "127.0.0.1");
}

static void connects_to_unix(void **state, const char *path)
{
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    struct peer peer;
    peer_bind_unix(&peer, path);
    assert_int_equal(listen(peer.fd, 8), 0);

    struct caller caller = {.scene = &scene};
    caller_run(&caller, &scene, to_path(path));
    assert_int_equal(caller.status, 0);
    int fd = peer_accept(&peer);
    caller_talks(&caller, &scene, fd);
    caller_close(&caller, &scene);
    (void)close(fd);
    (void)close(peer.fd);
    if (path[0] == '/')
        (void)unlink(path);
    connect_scene_end(&scene, &caller);
}

static void connect_to_a_path_opens_a_connection(void **state)
{
    char path[80];
    (void)snprintf(path, sizeof(path), "/tmp/numaperf-test-connect-%d", (int)getpid());
    (void)unlink(path);
    connects_to_unix(state, path);
}

static void connect_to_an_abstract_name_opens_a_connection(void **state)
{
    char path[80];
    (void)snprintf(path, sizeof(path), "@numaperf-test-connect-%d", (int)getpid());
    connects_to_unix(state, path);
}

static void connect_many_at_once_all_open(void **state)
{
    enum { MANY = 100 };
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    peer_listen(&peer, "127.0.0.1", 2 * MANY);
    static struct caller callers[MANY];
    memset(callers, 0, sizeof(callers));
    for (int i = 0; i < MANY; i++) {
        numaperf_connect_config_t config = to_host("127.0.0.1", peer.port);
        caller_begin(&callers[i], scene.loop, &config);
    }
    int fds[MANY];
    for (int i = 0; i < MANY; i++) {
        NET_UNTIL(&scene, callers[i].calls == 1);
        assert_int_equal(callers[i].status, 0);
        fds[i] = peer_accept(&peer);
    }
    for (int i = 0; i < MANY; i++)
        caller_close(&callers[i], &scene);
    for (int i = 0; i < MANY; i++)
        (void)close(fds[i]);
    assert_int_equal(net_stats(&scene).connected, MANY);
    peer_close(&peer);
    connect_scene_end(&scene, &callers[0]);
}

static void connect_whose_open_fails_is_told_and_closed_with_that_reason(void **state)
{
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    peer_listen(&peer, "127.0.0.1", 8);
    struct caller caller = {.scene = &scene, .open_returns = -EACCES};
    caller_run(&caller, &scene, to_host("127.0.0.1", peer.port));
    assert_int_equal(caller.status, 0);
    NET_UNTIL(&scene, caller.closes == 1);
    assert_int_equal(caller.close_reason, -EACCES);
    peer_close(&peer);
    connect_scene_end(&scene, &caller);
}

static void connect_cancelled_while_it_opens_is_open_all_the_same(void **state)
{
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    peer_listen(&peer, "127.0.0.1", 8);
    struct caller caller = {.scene = &scene, .cancels_in_open = true};
    caller_run(&caller, &scene, to_host("127.0.0.1", peer.port));
    assert_int_equal(caller.status, 0);
    caller_close(&caller, &scene);
    peer_close(&peer);
    connect_scene_end(&scene, &caller);
}

/* ---- several addresses ---- */

static void connect_takes_the_next_address_when_one_hangs(void **state)
{
    struct net_scene scene;
    struct peer hanging, answering;
    connect_scene_begin(&scene, state);
    peers_bind(&hanging, "127.0.0.1", &answering, "127.0.0.2");
    peer_fill(&hanging);
    assert_int_equal(listen(answering.fd, 8), 0);
    names_answer(0, (const char *const[]){"127.0.0.1", "127.0.0.2", NULL});

    struct caller caller = {.scene = &scene};
    numaperf_connect_config_t config = to_host("two.test", answering.port);
    config.attempt_delay_ms = 20;
    caller_run(&caller, &scene, config);
    assert_int_equal(caller.status, 0);
    char text[80];
    assert_true(numaperf_conn_peer_text(caller.conn, text, sizeof(text)) > 0);
    assert_memory_equal(text, "127.0.0.2:", 10);
    int fd = peer_accept(&answering);
    caller_talks(&caller, &scene, fd);
    caller_close(&caller, &scene);
    (void)close(fd);
    peer_close(&hanging);
    peer_close(&answering);
    connect_scene_end(&scene, &caller);
}

static void connect_takes_the_next_address_at_once_when_one_refuses(void **state)
{
    struct net_scene scene;
    struct peer refusing, answering;
    connect_scene_begin(&scene, state);
    peers_bind(&refusing, "127.0.0.1", &answering, "127.0.0.2");
    assert_int_equal(listen(answering.fd, 8), 0);
    names_answer(0, (const char *const[]){"127.0.0.1", "127.0.0.2", NULL});

    struct caller caller = {.scene = &scene};
    numaperf_connect_config_t config = to_host("two.test", answering.port);
    config.attempt_delay_ms = HOUR_MS; /* nobody waits for that */
    caller_run(&caller, &scene, config);
    assert_int_equal(caller.status, 0);
    caller_close(&caller, &scene);
    peer_close(&refusing);
    peer_close(&answering);
    connect_scene_end(&scene, &caller);
}

static void connect_gives_each_family_its_turn(void **state)
{
    NEEDS_V6();
    struct net_scene scene;
    struct peer hanging, answering;
    connect_scene_begin(&scene, state);
    peers_bind(&hanging, "::1", &answering, "127.0.0.1");
    peer_fill(&hanging);
    assert_int_equal(listen(answering.fd, 8), 0);
    /* By the list's order the one that answers would come last, an hour too late. */
    names_answer(0, (const char *const[]){"::1", "::1", "::1", "127.0.0.1", NULL});

    struct caller caller = {.scene = &scene};
    numaperf_connect_config_t config = to_host("both.test", answering.port);
    config.attempt_delay_ms = 200;
    caller_run(&caller, &scene, config);
    assert_int_equal(caller.status, 0);
    char text[80];
    assert_true(numaperf_conn_peer_text(caller.conn, text, sizeof(text)) > 0);
    assert_memory_equal(text, "127.0.0.1:", 10);
    caller_close(&caller, &scene);
    peer_close(&hanging);
    peer_close(&answering);
    connect_scene_end(&scene, &caller);
}

int main(void)
{
    if (names_prepare() != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        NET_BOTH(connect_to_ipv4_opens_a_connection),
        NET_BOTH(connect_to_ipv6_opens_a_connection),
        NET_BOTH(connect_to_localhost_opens_a_connection),
        NET_BOTH(connect_to_a_path_opens_a_connection),
        NET_BOTH(connect_to_an_abstract_name_opens_a_connection),
        NET_BOTH(connect_many_at_once_all_open),
        NET_BOTH(connect_whose_open_fails_is_told_and_closed_with_that_reason),
        NET_BOTH(connect_cancelled_while_it_opens_is_open_all_the_same),
        NET_BOTH(connect_takes_the_next_address_when_one_hangs),
        NET_BOTH(connect_takes_the_next_address_at_once_when_one_refuses),
        NET_BOTH(connect_gives_each_family_its_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
