/* SPDX-License-Identifier: MIT */
/*
 * Outgoing connections on both backends that come to nothing: refused, unknown, too late, cancelled
 * or cut off by the end of the loop, in every phase. Nothing of them may be left.
 */
#include "io/loop.h"

#include "support/census.h"
#include "support/clock.h"
#include "support/connect_scene.h"

#include <numaperf/error.h>

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

/* ---- it fails ---- */

static void fails_with(struct net_scene *scene, numaperf_connect_config_t config, int status)
{
    struct caller caller = {.scene = scene};
    caller_run(&caller, scene, config);
    assert_int_equal(caller.status, status);
    assert_null(caller.conn);
    assert_int_equal(net_stats(scene).connected, 0);
    connect_scene_end(scene, &caller);
}

static void connect_that_is_refused_says_so(void **state)
{
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    assert_true(peer_bind(&peer, "127.0.0.1", 0)); /* nobody else gets the port */
    connect_scene_expect(1);
    fails_with(&scene, to_host("127.0.0.1", peer.port), -ECONNREFUSED);
    peer_close(&peer);
}

static void connect_to_a_path_that_is_not_there_says_so(void **state)
{
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    fails_with(&scene, to_path("/tmp/no/such/socket"), -ENOENT);
}

/* A network of our own, whose ports to ask from are one. The old one's descriptor; -1. */
static int network_enter(const char *port)
{
    int old = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (old < 0)
        return -1;
    if (unshare(CLONE_NEWNET) < 0) {
        (void)close(old);
        return -1;
    }
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_up = ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
    (void)close(fd);
    char range[32];
    int length = snprintf(range, sizeof(range), "%s %s", port, port);
    fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);
    bool is_set = fd >= 0 && write(fd, range, (size_t)length) == length;
    if (fd >= 0)
        (void)close(fd);
    if (is_up && is_set)
        return old;
    assert_int_equal(setns(old, CLONE_NEWNET), 0);
    (void)close(old);
    return -1;
}

static void connect_to_itself_is_refused(void **state)
{
    /* The only port to ask from is the one that is asked for, and nobody listens there. */
    int old = network_enter("30001");
    if (old < 0) {
        print_message("skipped: no network of our own, or its ports cannot be set\n");
        skip();
    }
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    /* Again and again: no port is lost. */
    struct caller callers[3];
    memset(callers, 0, sizeof(callers));
    for (size_t i = 0; i < 3; i++) {
        caller_run(&callers[i], &scene, to_host("127.0.0.1", 30001));
        assert_int_equal(callers[i].status, -ECONNREFUSED);
    }
    connect_scene_end(&scene, &callers[0]);
    assert_int_equal(setns(old, CLONE_NEWNET), 0);
    (void)close(old);
}

static void connect_to_a_name_that_is_unknown_says_so(void **state)
{
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    names_answer(EAI_NONAME, NULL);
    fails_with(&scene, to_host("nobody.test", 80), UV_EAI_NONAME);
}

static void connect_without_descriptors_says_so(void **state)
{
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    struct caller caller = {.scene = &scene};
    net_settle(&scene);
    numaperf_connect_config_t config = to_host("127.0.0.1", 1);
    caller_begin(&caller, scene.loop, &config);
    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    uint64_t limit_ns = net_limit();
    while (caller.calls == 0 && test_now_ns() < limit_ns)
        (void)numaperf_loop_run(scene.loop, UV_RUN_NOWAIT);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(caller.calls, 1);
    assert_int_equal(caller.status, -EMFILE);
    connect_scene_end(&scene, &caller);
}

static void connect_tells_the_failure_that_says_most(void **state)
{
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    assert_true(peer_bind(&peer, "127.0.0.1", 0));
    connect_scene_expect(1);
    /* TCP cannot reach a group of hosts: that is known without asking anybody. */
    names_answer(0, (const char *const[]){"224.0.0.1", "127.0.0.1", "224.0.0.1", NULL});
    fails_with(&scene, to_host("some.test", peer.port), -ECONNREFUSED);
    connect_scene_begin(&scene, state);
    names_answer(0, (const char *const[]){"224.0.0.1", NULL});
    fails_with(&scene, to_host("none.test", peer.port), -ENETUNREACH);
    peer_close(&peer);
}

/* ---- time and cancellation ---- */

static void connect_that_hangs_times_out(void **state)
{
    struct net_scene scene;
    struct peer hanging;
    connect_scene_begin(&scene, state);
    peer_listen(&hanging, "127.0.0.1", 0);
    peer_fill(&hanging);
    connect_scene_expect(1 + PEER_FILL_MAX);
    names_answer(0, (const char *const[]){"127.0.0.1", "127.0.0.1", "127.0.0.1", NULL});
    numaperf_connect_config_t config = to_host("hangs.test", hanging.port);
    config.timeout_ms = 60;
    config.attempt_delay_ms = 10;
    fails_with(&scene, config, -ETIMEDOUT);
    peer_close(&hanging);
}

static void connect_whose_name_takes_too_long_times_out(void **state)
{
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    names_answer(0, (const char *const[]){"127.0.0.1", NULL});
    names_hold(true);
    struct caller caller = {.scene = &scene};
    numaperf_connect_config_t config = to_host("slow.test", 80);
    config.timeout_ms = 20;
    caller_run(&caller, &scene, config);
    assert_int_equal(caller.status, -ETIMEDOUT);
    /* The loop still waits for the pool. */
    net_settle(&scene);
    assert_int_equal(numaperf_loop_destroy(scene.loop), -EBUSY);
    names_hold(false);
    connect_scene_end(&scene, &caller);
    assert_int_equal(names_answered(), names_asked());
}

static void connect_cancelled_at_once_is_told_later(void **state)
{
    struct net_scene scene;
    struct peer peer;
    connect_scene_begin(&scene, state);
    peer_listen(&peer, "127.0.0.1", 8);
    connect_scene_expect(1);
    struct caller caller = {.scene = &scene};
    numaperf_connect_config_t config = to_host("127.0.0.1", peer.port);
    caller_begin(&caller, scene.loop, &config);
    numaperf_connect_cancel(caller.connect);
    numaperf_connect_cancel(caller.connect);
    assert_int_equal(caller.calls, 0);
    NET_UNTIL(&scene, caller.calls > 0);
    assert_int_equal(caller.status, -ECANCELED);
    connect_scene_end(&scene, &caller);
    peer_close(&peer);
}

static void connect_cancelled_while_it_hangs_is_told(void **state)
{
    struct net_scene scene;
    struct peer hanging;
    connect_scene_begin(&scene, state);
    peer_listen(&hanging, "127.0.0.1", 0);
    peer_fill(&hanging);
    connect_scene_expect(1 + PEER_FILL_MAX);
    names_answer(0, (const char *const[]){"127.0.0.1", "127.0.0.1", NULL});
    struct caller caller = {.scene = &scene};
    numaperf_connect_config_t config = to_host("hangs.test", hanging.port);
    config.attempt_delay_ms = 1;
    caller_begin(&caller, scene.loop, &config);
    NET_UNTIL(&scene, names_answered() == 1);
    net_settle(&scene); /* both attempts are under way */
    assert_int_equal(caller.calls, 0);
    numaperf_connect_cancel(caller.connect);
    assert_int_equal(caller.calls, 0);
    NET_UNTIL(&scene, caller.calls > 0);
    assert_int_equal(caller.status, -ECANCELED);
    connect_scene_end(&scene, &caller);
    peer_close(&hanging);
}

static void connect_cancelled_while_its_name_is_looked_up_is_told_at_once(void **state)
{
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    names_answer(0, (const char *const[]){"127.0.0.1", NULL});
    names_hold(true);
    struct caller caller = {.scene = &scene};
    numaperf_connect_config_t config = to_host("slow.test", 80);
    caller_begin(&caller, scene.loop, &config);
    NET_UNTIL(&scene, names_asked() == 1);
    numaperf_connect_cancel(caller.connect);
    NET_UNTIL(&scene, caller.calls > 0);
    assert_int_equal(caller.status, -ECANCELED);
    assert_int_equal(names_answered(), 0);
    names_hold(false);
    connect_scene_end(&scene, &caller);
}

static void connect_cancelled_before_the_pool_asks_never_asks(void **state)
{
    enum { POOL = 4 }; /* libuv's threads */
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    names_answer(0, (const char *const[]){"127.0.0.1", NULL});
    names_hold(true);
    struct caller callers[POOL + 1];
    memset(callers, 0, sizeof(callers));
    for (int i = 0; i <= POOL; i++) {
        numaperf_connect_config_t config = to_host("slow.test", 80);
        caller_begin(&callers[i], scene.loop, &config);
    }
    /* libuv lets half of its pool do what is slow; the rest waits. */
    NET_UNTIL(&scene, names_asked() >= 1);
    for (int i = 0; i <= POOL; i++)
        numaperf_connect_cancel(callers[i].connect);
    for (int i = 0; i <= POOL; i++) {
        NET_UNTIL(&scene, callers[i].calls == 1);
        assert_int_equal(callers[i].status, -ECANCELED);
    }
    names_hold(false);
    connect_scene_end(&scene, &callers[0]);
    assert_true(names_asked() <= POOL);
}

/* ---- a full backlog of a UNIX socket ---- */

static void connect_waits_for_room_in_a_unix_backlog(void **state)
{
    struct net_scene scene;
    connect_scene_begin(&scene, state);
    char path[80];
    (void)snprintf(path, sizeof(path), "@numaperf-test-backlog-%d", (int)getpid());
    struct peer peer;
    peer_bind_unix(&peer, path);
    peer_fill(&peer);

    struct caller late = {.scene = &scene};
    numaperf_connect_config_t config = to_path(path);
    config.timeout_ms = 50;
    caller_run(&late, &scene, config);
    assert_int_equal(late.status, -ETIMEDOUT);

    struct caller caller = {.scene = &scene};
    config = to_path(path);
    caller_begin(&caller, scene.loop, &config);
    net_settle(&scene);
    assert_int_equal(caller.calls, 0);
    int fd = peer_accept(&peer);
    NET_UNTIL(&scene, caller.calls > 0);
    assert_int_equal(caller.status, 0);
    caller_close(&caller, &scene);
    (void)close(fd);
    peer_close(&peer);
    connect_scene_end(&scene, &caller);
}

/* ---- the loop ends ---- */

static void connect_on_a_loop_that_ends_is_told_in_every_phase(void **state)
{
    const struct net_kind *kind = *state;
    struct numaperf__wake wake;
    numaperf_loop_t *loop = NULL;
    struct peer hanging;
    peer_listen(&hanging, "127.0.0.1", 0);
    peer_fill(&hanging);
    int before = census_take().descriptors;
    names_answer(0, (const char *const[]){"127.0.0.1", "127.0.0.1", NULL});
    names_hold(false);
    assert_int_equal(numaperf__wake_init(&wake), 0);
    const struct numaperf__loop_setup setup = {.backend = (uint32_t)kind->backend, .wake = &wake};
    if (numaperf__loop_create_hosted(&setup, &loop) < 0) {
        numaperf__wake_fini(&wake);
        peer_close(&hanging);
        print_message("skipped: %s\n", numaperf_last_error()->reason);
        skip();
    }
    struct caller racing = {0}, resolving = {.releases_names = true}, fresh = {0};
    numaperf_connect_config_t config = to_host("hangs.test", hanging.port);
    config.attempt_delay_ms = 1;
    caller_begin(&racing, loop, &config);
    uint64_t limit_ns = net_limit();
    while (names_answered() == 0 && test_now_ns() < limit_ns)
        numaperf__loop_turn(loop);
    for (int i = 0; i < 50; i++) {
        numaperf__loop_turn(loop);
        test_sleep_ms(1);
    }
    names_hold(true);
    caller_begin(&resolving, loop, &config);
    while (names_asked() < 2 && test_now_ns() < limit_ns)
        numaperf__loop_turn(loop);
    config = to_host("127.0.0.1", hanging.port);
    caller_begin(&fresh, loop, &config);
    assert_int_equal(racing.calls + resolving.calls + fresh.calls, 0);

    numaperf__loop_close_hosted(loop);
    numaperf__wake_fini(&wake);
    const struct caller *callers[3] = {&racing, &resolving, &fresh};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(callers[i]->calls, 1);
        assert_int_equal(callers[i]->status, NUMAPERF_E_STOPPING);
    }
    assert_int_equal(census_take().descriptors, before);
    peer_close(&hanging);
}

int main(void)
{
    if (names_prepare() != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        NET_BOTH(connect_that_is_refused_says_so),
        NET_BOTH(connect_to_a_path_that_is_not_there_says_so),
        NET_BOTH(connect_to_itself_is_refused),
        NET_BOTH(connect_to_a_name_that_is_unknown_says_so),
        NET_BOTH(connect_without_descriptors_says_so),
        NET_BOTH(connect_tells_the_failure_that_says_most),
        NET_BOTH(connect_that_hangs_times_out),
        NET_BOTH(connect_whose_name_takes_too_long_times_out),
        NET_BOTH(connect_cancelled_at_once_is_told_later),
        NET_BOTH(connect_cancelled_while_it_hangs_is_told),
        NET_BOTH(connect_cancelled_while_its_name_is_looked_up_is_told_at_once),
        NET_BOTH(connect_cancelled_before_the_pool_asks_never_asks),
        NET_BOTH(connect_waits_for_room_in_a_unix_backlog),
        NET_BOTH(connect_on_a_loop_that_ends_is_told_in_every_phase),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
