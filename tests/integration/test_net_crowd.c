/* SPDX-License-Identifier: MIT */
/*
 * Many connections: more than there are buffers or room for completions, thousands that are idle,
 * tens of thousands that come and go. Memory is bounded, nobody waits for ever, nothing is left.
 */
#include "support/census.h"
#include "support/clock.h"
#include "support/net_scene.h"
#include "support/stress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#define CROWD 64

/* ---- short of buffers ---- */

/* Keeps what it is given until it is told to let go; copies nothing. */
struct keeper {
    numaperf_buffer_t *held[CROWD];
    const char *bytes[CROWD];
    size_t lengths[CROWD];
    uint64_t positions[CROWD];
    unsigned count, refused;
};

static void keep(struct net_end *end, const char *bytes, size_t length)
{
    struct keeper *keeper = end->arg;
    numaperf_buffer_t *buffer = keeper->count < CROWD ? numaperf_conn_hold(end->conn) : NULL;
    if (buffer == NULL) {
        keeper->refused++;
        return;
    }
    keeper->held[keeper->count] = buffer;
    keeper->bytes[keeper->count] = bytes;
    keeper->lengths[keeper->count] = length;
    keeper->positions[keeper->count++] = end->received - length;
}

static void echo(struct net_end *end, const char *bytes, size_t length)
{
    assert_true(numaperf_conn_write(end->conn, bytes, length) >= 0);
    end->written += length;
}

/* Sent back without a copy where it can be. */
static void echo_held(struct net_end *end, const char *bytes, size_t length)
{
    numaperf_buffer_t *buffer = numaperf_conn_hold(end->conn);
    if (buffer != NULL)
        assert_true(numaperf_conn_write_held(end->conn, buffer, bytes, length) >= 0);
    else
        assert_true(numaperf_conn_write(end->conn, bytes, length) >= 0);
    end->written += length;
}

static const struct net_acts keep_acts = {.read = keep};
static const struct net_acts echo_acts = {.read = echo};
static const struct net_acts echo_held_acts = {.read = echo_held};

static void open_crowd(struct net_scene *scene, void **state, struct net_end *ends, unsigned count,
                       const struct net_acts *acts)
{
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.buffer_bytes = 4096;
    config.buffer_count = 8;
    config.ring_entries = 8;
    net_scene_open_with(scene, state, &config);
    for (unsigned i = 0; i < count; i++)
        net_end_open(scene, &ends[i], acts, NULL);
}

static void close_crowd(struct net_scene *scene, struct net_end *ends, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        numaperf_conn_close(ends[i].conn, 0);
    for (unsigned i = 0; i < count; i++)
        net_end_close(&ends[i]);
    net_scene_close(scene);
}

/* All of them send; every byte comes back whatever of the loop's is short. */
static void serve_crowd(struct net_scene *scene, struct net_end *ends, unsigned count,
                        uint64_t total)
{
    uint64_t limit_ns = net_limit();
    unsigned ready = 0;
    while (ready < count) {
        net_turn(scene, limit_ns, "all bytes to come back");
        ready = 0;
        for (unsigned i = 0; i < count; i++) {
            (void)net_peer_send(&ends[i], (size_t)(total - ends[i].sent));
            (void)net_peer_receive(&ends[i], SIZE_MAX);
            ready += ends[i].got == total;
        }
    }
}

static void more_connections_than_buffers_all_go_on(void **state)
{
    const struct net_acts *acts[] = {&echo_acts, &echo_held_acts};
    for (size_t i = 0; i < 2; i++) {
        struct net_scene scene;
        static struct net_end ends[CROWD];
        open_crowd(&scene, state, ends, CROWD, acts[i]);
        serve_crowd(&scene, ends, CROWD, 60000);
        close_crowd(&scene, ends, CROWD);
    }
}

static void held_buffers_stop_nobody(void **state)
{
    struct net_scene scene;
    static struct net_end ends[CROWD];
    static struct keeper keeper;
    memset(&keeper, 0, sizeof(keeper));
    open_crowd(&scene, state, ends, CROWD, &echo_acts);
    for (unsigned i = 0; i < 16; i++) {
        ends[i].acts = &keep_acts;
        ends[i].arg = &keeper;
        net_peer_sends_until(&ends[i], 4000);
        NET_UNTIL(&scene, ends[i].received == 4000);
    }
    assert_true(keeper.count >= 1 && keeper.refused >= 1); /* some, never all */
    for (unsigned i = 0; i < 16; i++)
        ends[i].acts = &echo_acts;
    serve_crowd(&scene, ends + 16, CROWD - 16, 50000);
    for (unsigned i = 0; i < keeper.count; i++) {
        assert_true(pattern_matches(keeper.bytes[i], keeper.lengths[i], keeper.positions[i]));
        numaperf_buffer_release(keeper.held[i]);
    }
    close_crowd(&scene, ends, CROWD);
}

/* Their peers fill every buffer there is, and nobody reads. */
static void paused_connections_stop_nobody(void **state)
{
    struct net_scene scene;
    static struct net_end ends[CROWD];
    open_crowd(&scene, state, ends, CROWD, &echo_acts);
    net_settle(&scene);
    for (unsigned i = 0; i < CROWD / 2; i++) {
        (void)net_peer_send(&ends[i], 100000);
        numaperf_conn_pause(ends[i].conn); /* after the receive was begun, and may have ended */
    }
    net_settle(&scene);
    serve_crowd(&scene, ends + CROWD / 2, CROWD / 2, 50000);
    for (unsigned i = 0; i < CROWD / 2; i++)
        numaperf_conn_resume(ends[i].conn);
    serve_crowd(&scene, ends, CROWD / 2, 100000);
    close_crowd(&scene, ends, CROWD);
}

/* Readers that never read, and all that can be held is on its way to them. */
static void slow_readers_stop_nobody(void **state)
{
    struct net_scene scene;
    static struct net_end ends[CROWD];
    open_crowd(&scene, state, ends, CROWD, &echo_held_acts);
    for (unsigned i = 0; i < CROWD / 2; i++) {
        net_make_tight(&ends[i]);
    }
    for (int round = 0; round < 20; round++) {
        for (unsigned i = 0; i < CROWD / 2; i++)
            (void)net_peer_send(&ends[i], 10000);
        net_turn(&scene, net_limit(), "a turn");
    }
    serve_crowd(&scene, ends + CROWD / 2, CROWD / 2, 50000);
    for (unsigned i = 0; i < CROWD / 2; i++)
        net_peer_gets_until(&ends[i], ends[i].sent); /* all of it was kept for them */
    close_crowd(&scene, ends, CROWD);
}

/* A ring of a few entries, and a completion for each of a crowd at once, again and again. */
static void small_ring_loses_no_completion(void **state)
{
    struct net_scene scene;
    static struct net_end ends[CROWD * 4];
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.ring_entries = 1;
    net_scene_open_with(&scene, state, &config);
    for (unsigned i = 0; i < CROWD * 4; i++)
        net_end_open(&scene, &ends[i], &echo_acts, NULL);
    for (uint64_t total = 10; total <= 100; total += 10)
        serve_crowd(&scene, ends, CROWD * 4, total);
    close_crowd(&scene, ends, CROWD * 4);
}

/* ---- thousands ---- */

static uint64_t arena_used(const struct net_scene *scene)
{
    numaperf_arena_stats_t stats = NUMAPERF_ARENA_STATS_INIT;
    assert_int_equal(numaperf_arena_stats(numaperf_loop_arena(scene->loop), &stats), 0);
    return stats.used_bytes;
}

/*
 * So many connections, whose peers a child holds: both ends would not fit in the limit of
 * descriptors. The child lives until it reads the end of `out_gate`.
 */
static pid_t crowd_of_a_child(struct net_scene *scene, struct net_end *ends, unsigned count,
                              int *out_gate)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path + 1, sizeof(address.sun_path) - 1, "numaperf-crowd-%d",
                   (int)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 128), 0);
    int gate[2];
    assert_int_equal(pipe(gate), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        char byte = 0;
        (void)close(gate[1]);
        (void)close(listener);
        for (unsigned i = 0; i < count; i++) {
            int fd = socket(AF_UNIX, SOCK_STREAM, 0);
            if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
                _exit(1);
        }
        _exit(read(gate[0], &byte, 1) == 0 ? 0 : 1);
    }
    (void)close(gate[0]);
    *out_gate = gate[1];
    for (unsigned i = 0; i < count; i++) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        assert_true(fd >= 0);
        ends[i] = (struct net_end){.peer = -1};
        assert_int_equal(net_end_adopt(scene, &ends[i], &echo_acts, NULL, fd), 0);
        if (i % 100 == 0)
            net_turn(scene, net_limit(), "a turn");
    }
    (void)close(listener);
    return child;
}

static uint64_t cpu_ns(void)
{
    struct timespec now;
    assert_int_equal(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now), 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void wake_up(uv_timer_t *timer)
{
    uv_close((uv_handle_t *)timer, NULL);
    uv_stop(timer->loop);
}

/* CPU time of a second in which nothing happens. */
static uint64_t idle_ns(struct net_scene *scene)
{
    uv_timer_t timer;
    uv_update_time(numaperf_loop_uv(scene->loop));
    assert_int_equal(uv_timer_init(numaperf_loop_uv(scene->loop), &timer), 0);
    assert_int_equal(uv_timer_start(&timer, wake_up, 1000, 0), 0);
    uint64_t before_ns = cpu_ns();
    (void)numaperf_loop_run(scene->loop, UV_RUN_DEFAULT);
    uint64_t spent_ns = cpu_ns() - before_ns;
    (void)numaperf_loop_run(scene->loop, UV_RUN_NOWAIT);
    return spent_ns;
}

static void thousands_of_idle_connections_cost_little(void **state)
{
    struct net_scene scene;
    unsigned count = (unsigned)(test_is_guest() ? 300 : TEST_SANITIZED != 0 ? 2000 : 10000);
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < count + 100) {
        print_message("skipped: %u connections are more than the limit of descriptors\n", count);
        skip();
    }
    net_scene_open(&scene, state);
    struct net_end *ends = calloc(count, sizeof(*ends));
    assert_non_null(ends);
    net_end_open(&scene, &ends[0], &echo_acts, NULL); /* what all of them share */
    net_end_close(&ends[0]);
    uint64_t before = arena_used(&scene);
    int gate = -1;
    pid_t child = crowd_of_a_child(&scene, ends, count, &gate);
    net_settle(&scene);
    uint64_t each = (arena_used(&scene) - before) / count;
    print_message("%u connections: %llu bytes each\n", count, (unsigned long long)each);
    assert_in_range(each, 1, 2048);
    assert_int_equal(net_stats(&scene).connections, count);
    (void)idle_ns(&scene); /* what is still on its way */
    uint64_t spent_ns = idle_ns(&scene);
    print_message("a second of nothing: %llu us\n", (unsigned long long)spent_ns / 1000);
    assert_true(spent_ns < 50000000 || test_is_slow()); /* a turn a second is no busy loop */
    (void)close(gate);
    NET_UNTIL(&scene, net_stats(&scene).connections == 0);
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    for (unsigned i = 0; i < count; i++)
        assert_true(ends[i].closes == 1 && ends[i].ends == 1 && ends[i].reason == 0);
    assert_true(arena_used(&scene) == before);
    free(ends);
    net_scene_close(&scene);
}

/* ---- coming and going ---- */

static void churn(struct net_scene *scene, uint64_t count)
{
    static struct net_end ends[16];
    for (uint64_t i = 0; i < count; i++) {
        struct net_end *end = &ends[i % 16];
        if (i >= 16)
            net_end_close(end);
        net_end_open(scene, end, &echo_acts, NULL);
        (void)net_peer_send(end, 1 + (size_t)(i % 3000));
        if (i % 5 == 0)
            numaperf_conn_pause(end->conn);
        if (i % 3 == 0)
            net_turn(scene, net_limit(), "a turn");
        if (i % 4 == 0)
            numaperf_conn_reset(end->conn, -1);
        else if (i % 4 == 1)
            (void)numaperf_conn_finish(end->conn);
        else if (i % 4 == 2)
            net_peer_reset(end);
    }
    for (unsigned i = 0; i < 16; i++)
        net_end_close(&ends[i]);
}

static void connections_that_come_and_go_leave_nothing(void **state)
{
    struct net_scene scene;
    net_scene_open(&scene, state);
    churn(&scene, 64);
    uint64_t used = arena_used(&scene);
    numaperf_net_stats_t before = net_stats(&scene);
    struct census census = census_take();
    uint64_t count = stress_count(20000);
    count = count < 64 ? 64 : count;
    churn(&scene, count);
    assert_true(census_returns_to(&census));
    assert_true(arena_used(&scene) == used);
    numaperf_net_stats_t stats = net_stats(&scene);
    assert_int_equal(stats.connections, 0);
    assert_true(stats.connected == before.connected + count);
    assert_true(stats.closed + stats.failed == stats.connected);
    net_scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NET_EACH(more_connections_than_buffers_all_go_on),
        NET_EACH(held_buffers_stop_nobody),
        NET_EACH(paused_connections_stop_nobody),
        NET_BOTH(slow_readers_stop_nobody),
        NET_EACH(small_ring_loses_no_completion),
        NET_BOTH(thousands_of_idle_connections_cost_little),
        NET_EACH(connections_that_come_and_go_leave_nothing),
    };
    census_prepare();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
