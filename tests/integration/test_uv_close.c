/* SPDX-License-Identifier: MIT */
/*
 * What happens to libuv handles on workers' loops when a runtime stops: whatever is left open is
 * closed, whatever runs is waited for, callbacks of the user run; in both backends.
 */
#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"

#include <numaperf/error.h>
#include <numaperf/loop.h>
#include <numaperf/runtime.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

static uint32_t backend_of(void **state)
{
    return *(const uint32_t *)*state;
}

static void box_config(struct runtime_box *box, uint32_t backend)
{
    memset(box, 0, sizeof(*box));
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.workers_per_node = 1;
    config.io_backend = backend;
    box->config = config;
}

static void box_start(struct runtime_box *box)
{
    if (runtime_box_open(box, NULL) == 0)
        return;
    print_message("skipped: no runtime: %s\n", numaperf_last_error()->reason);
    assert_int_equal(box->config.io_backend, NUMAPERF_IO_URING);
    skip();
}

/* ---- everything left open ---- */

struct litter {
    uv_tcp_t listener;
    uv_tcp_t client;
    uv_tcp_t server;
    uv_connect_t connect;
    uv_write_t write;
    uv_udp_t udp;
    uv_pipe_t pipe;
    uv_timer_t timer;
    uv_idle_t idle;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_async_t async;
    uv_signal_t signal;
    uv_process_t process;
    uv_poll_t poll;
    uv_fs_event_t event;
    uv_fs_poll_t fs_poll;
    uv_getaddrinfo_t address;
    uv_work_t work;
    char *payload;
    int ends[2];
    atomic_int ready;
    atomic_int write_status;
    atomic_int written;
    atomic_int work_status;
    atomic_int work_done;
};

#define PAYLOAD_BYTES (32u << 20) /* more than any socket takes */

static void litter_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
    static char bytes[64];
    (void)handle;
    (void)size;
    *out = uv_buf_init(bytes, sizeof(bytes));
}

static void litter_wrote(uv_write_t *write, int status)
{
    struct litter *litter = write->data;
    atomic_store(&litter->write_status, status);
    (void)atomic_fetch_add(&litter->written, 1);
}

static void litter_connected(uv_connect_t *connect, int status)
{
    struct litter *litter = connect->data;
    uv_buf_t payload = uv_buf_init(litter->payload, PAYLOAD_BYTES);
    (void)status;
    litter->write.data = litter;
    (void)uv_write(&litter->write, (uv_stream_t *)&litter->client, &payload, 1, litter_wrote);
    (void)atomic_fetch_add(&litter->ready, 1);
}

/* Accepted, and never read from. */
static void litter_accept(uv_stream_t *listener, int status)
{
    struct litter *litter = listener->data;
    (void)status;
    (void)uv_tcp_init(listener->loop, &litter->server);
    (void)uv_accept(listener, (uv_stream_t *)&litter->server);
    (void)atomic_fetch_add(&litter->ready, 1);
}

static void litter_received(uv_udp_t *udp, ssize_t n, const uv_buf_t *buffer,
                            const struct sockaddr *from, unsigned flags)
{
    (void)udp;
    (void)n;
    (void)buffer;
    (void)from;
    (void)flags;
}

static void litter_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    (void)stream;
    (void)n;
    (void)buffer;
}

static void litter_timer(uv_timer_t *timer)
{
    (void)timer;
}

static void litter_idle(uv_idle_t *idle)
{
    (void)idle;
}

static void litter_prepare(uv_prepare_t *prepare)
{
    (void)prepare;
}

static void litter_check(uv_check_t *check)
{
    (void)check;
}

static void litter_signal(uv_signal_t *handle, int number)
{
    (void)handle;
    (void)number;
}

static void litter_poll(uv_poll_t *poll, int status, int events)
{
    (void)poll;
    (void)status;
    (void)events;
}

static void litter_event(uv_fs_event_t *event, const char *name, int events, int status)
{
    (void)event;
    (void)name;
    (void)events;
    (void)status;
}

static void litter_stat(uv_fs_poll_t *poll, int status, const uv_stat_t *before,
                        const uv_stat_t *now)
{
    (void)poll;
    (void)status;
    (void)before;
    (void)now;
}

static void litter_work(uv_work_t *work)
{
    (void)work;
    test_sleep_ms(300);
}

static void litter_work_done(uv_work_t *work, int status)
{
    struct litter *litter = work->data;
    atomic_store(&litter->work_status, status);
    (void)atomic_fetch_add(&litter->work_done, 1);
}

static void litter_sockets(uv_loop_t *loop, struct litter *litter)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int length = sizeof(address);
    (void)uv_tcp_init(loop, &litter->listener);
    (void)uv_tcp_init(loop, &litter->client);
    litter->listener.data = litter;
    litter->connect.data = litter;
    (void)uv_tcp_bind(&litter->listener, (struct sockaddr *)&address, 0);
    (void)uv_listen((uv_stream_t *)&litter->listener, 8, litter_accept);
    (void)uv_tcp_getsockname(&litter->listener, (struct sockaddr *)&address, &length);
    (void)uv_tcp_connect(&litter->connect, &litter->client, (struct sockaddr *)&address,
                         litter_connected);
    (void)uv_udp_init(loop, &litter->udp);
    address.sin_port = 0;
    (void)uv_udp_bind(&litter->udp, (struct sockaddr *)&address, 0);
    (void)uv_udp_recv_start(&litter->udp, litter_alloc, litter_received);
    (void)uv_pipe_init(loop, &litter->pipe, 0);
    (void)uv_pipe_open(&litter->pipe, litter->ends[0]); /* the handle's from now on */
    (void)uv_read_start((uv_stream_t *)&litter->pipe, litter_alloc, litter_read);
    (void)uv_poll_init(loop, &litter->poll, litter->ends[1]);
    (void)uv_poll_start(&litter->poll, UV_DISCONNECT, litter_poll);
}

static void litter_start(numaperf_worker_t *worker, void *arg)
{
    struct litter *litter = arg;
    uv_loop_t *loop = numaperf_worker_loop(worker);
    char *args[] = {"/proc/self/exe", "--sleeping-child", NULL};
    uv_process_options_t options = {.file = args[0], .args = args};
    litter_sockets(loop, litter);
    (void)uv_timer_init(loop, &litter->timer);
    (void)uv_timer_start(&litter->timer, litter_timer, 1, 1);
    (void)uv_idle_init(loop, &litter->idle);
    (void)uv_idle_start(&litter->idle, litter_idle);
    (void)uv_prepare_init(loop, &litter->prepare);
    (void)uv_prepare_start(&litter->prepare, litter_prepare);
    (void)uv_check_init(loop, &litter->check);
    (void)uv_check_start(&litter->check, litter_check);
    (void)uv_async_init(loop, &litter->async, NULL);
    (void)uv_signal_init(loop, &litter->signal);
    (void)uv_signal_start(&litter->signal, litter_signal, SIGUSR1);
    (void)numaperf_uv_spawn(loop, &litter->process, &options);
    (void)uv_fs_event_init(loop, &litter->event);
    (void)uv_fs_event_start(&litter->event, litter_event, "/tmp", 0);
    (void)uv_fs_poll_init(loop, &litter->fs_poll);
    (void)uv_fs_poll_start(&litter->fs_poll, litter_stat, "/tmp", 10);
    litter->work.data = litter;
    (void)uv_queue_work(loop, &litter->work, litter_work, litter_work_done);
    (void)atomic_fetch_add(&litter->ready, 1);
}

static void litter_init(struct litter *litter)
{
    memset(litter, 0, sizeof(*litter));
    litter->payload = calloc(1, PAYLOAD_BYTES);
    assert_non_null(litter->payload);
    assert_int_equal(pipe2(litter->ends, O_CLOEXEC), 0);
}

static void litter_fini(struct litter *litter)
{
    (void)close(litter->ends[1]);             /* a poll handle's descriptor stays its user's */
    (void)kill(litter->process.pid, SIGKILL); /* a child outlives its handle */
    free(litter->payload);
}

static void play_litter(uint32_t backend, uint64_t timeout_ns)
{
    static struct litter litter;
    struct runtime_box box;
    box_config(&box, backend);
    box_start(&box);
    litter_init(&litter);
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, litter_start, &litter), 0);
    bool ready = runtime_reaches(&litter.ready, 3);
    uint64_t start_ns = test_now_ns();
    int rc = numaperf_rt_stop(box.rt, timeout_ns);
    runtime_box_close(&box);
    uint64_t took_ns = test_now_ns() - start_ns;
    int pid = litter.process.pid;
    litter_fini(&litter);
    assert_true(ready);
    assert_true(pid > 0);
    assert_true(rc == 0 || (timeout_ns == 0 && rc == -ETIMEDOUT)); /* the pool is still at it */
    assert_true(took_ns < test_limit_ns(10));
    /* Requests in flight have ended, each once. */
    assert_int_equal(litter.written, 1);
    assert_int_equal(litter.write_status, UV_ECANCELED);
    assert_int_equal(litter.work_done, 1);
    assert_int_equal(litter.work_status, 0);
}

static void handles_left_open_are_closed_by_the_stop(void **state)
{
    play_litter(backend_of(state), 0); /* what a first start leaves for good */
    struct census before = census_take();
    play_litter(backend_of(state), 0);
    play_litter(backend_of(state), UINT64_MAX);
    assert_true(census_returns_to(&before));
}

/* ---- callbacks of the user ---- */

struct closer {
    uv_timer_t closing;  /* by a task, just before the stop */
    uv_timer_t stopped;  /* by on_worker_stop */
    uv_timer_t reopened; /* by a close callback, repeating and referenced */
    uv_tcp_t listener;   /* the same */
    uv_timer_t again;    /* by the close callback of the one before */
    atomic_int started;
    atomic_int closed;
    atomic_int reopened_closed;
};

static void closer_count(uv_handle_t *handle)
{
    struct closer *closer = handle->data;
    (void)atomic_fetch_add(&closer->closed, 1);
}

static void closer_connection(uv_stream_t *stream, int status)
{
    (void)stream;
    (void)status;
}

static void closer_reopened_closed(uv_handle_t *handle)
{
    struct closer *closer = handle->data;
    (void)atomic_fetch_add(&closer->reopened_closed, 1);
    (void)uv_timer_init(handle->loop, &closer->again);
    (void)uv_timer_start(&closer->again, litter_timer, 3600000, 1);
}

static void closer_reopens(uv_handle_t *handle)
{
    struct closer *closer = handle->data;
    struct sockaddr_in address = {.sin_family = AF_INET};
    (void)atomic_fetch_add(&closer->closed, 1);
    (void)uv_timer_init(handle->loop, &closer->reopened);
    closer->reopened.data = closer;
    (void)uv_timer_start(&closer->reopened, litter_timer, 3600000, 1);
    (void)uv_tcp_init(handle->loop, &closer->listener);
    (void)uv_tcp_bind(&closer->listener, (struct sockaddr *)&address, 0);
    (void)uv_listen((uv_stream_t *)&closer->listener, 8, closer_connection);
    uv_close((uv_handle_t *)&closer->reopened, closer_reopened_closed);
}

static void closer_start(numaperf_worker_t *worker, void *arg)
{
    struct closer *closer = arg;
    uv_loop_t *loop = numaperf_worker_loop(worker);
    (void)uv_timer_init(loop, &closer->stopped);
    closer->stopped.data = closer;
    (void)uv_timer_start(&closer->stopped, litter_timer, 1, 1);
    (void)uv_timer_init(loop, &closer->closing);
    closer->closing.data = closer;
    numaperf_worker_set_data(worker, closer);
    (void)atomic_fetch_add(&closer->started, 1);
}

static void closer_stop(numaperf_worker_t *worker, void *data)
{
    (void)data;
    struct closer *closer = numaperf_worker_data(worker);
    if (closer == NULL)
        return;
    uv_close((uv_handle_t *)&closer->closing, closer_count);
    uv_close((uv_handle_t *)&closer->stopped, closer_reopens);
}

static void close_callbacks_run_and_may_open_handles(void **state)
{
    static struct closer closer;
    memset(&closer, 0, sizeof(closer));
    struct runtime_box box;
    box_config(&box, backend_of(state));
    box.config.on_worker_stop = closer_stop;
    box_start(&box);
    assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, closer_start, &closer), 0);
    bool started = runtime_reaches(&closer.started, 1);
    uint64_t start_ns = test_now_ns();
    runtime_box_close(&box);
    assert_true(started);
    assert_true(test_now_ns() - start_ns < test_limit_ns(10));
    assert_int_equal(closer.closed, 2);
    assert_int_equal(closer.reopened_closed, 1);
}

/* ---- uv_stop, uv_walk ---- */

#define WALK_FIRED 10

struct walk {
    int own;
    int foreign;
    uv_timer_t timers[3];
    atomic_int fired;
};

static void walk_fired(uv_timer_t *timer)
{
    struct walk *walk = timer->data;
    if (atomic_load(&walk->fired) < WALK_FIRED)
        (void)atomic_fetch_add(&walk->fired, 1);
    uv_stop(timer->loop);
}

static void walk_visit(uv_handle_t *handle, void *arg)
{
    struct walk *walk = arg;
    if (numaperf_loop_owns(handle)) {
        walk->own++;
        return;
    }
    walk->foreign++;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void walk_start(numaperf_worker_t *worker, void *arg)
{
    struct walk *walk = arg;
    uv_loop_t *loop = numaperf_worker_loop(worker);
    for (int i = 0; i < 3; i++) {
        (void)uv_timer_init(loop, &walk->timers[i]);
        walk->timers[i].data = walk;
        (void)uv_timer_start(&walk->timers[i], walk_fired, 2, i == 0 ? 2 : 0);
        uv_unref((uv_handle_t *)&walk->timers[i]);
    }
    uv_stop(loop);
}

static void walk_close(numaperf_worker_t *worker, void *arg)
{
    uv_walk(numaperf_worker_loop(worker), walk_visit, arg);
}

static void uv_stop_and_uv_walk_do_no_harm(void **state)
{
    static struct walk walk;
    memset(&walk, 0, sizeof(walk));
    struct runtime_box box;
    box_config(&box, backend_of(state));
    box_start(&box);
    numaperf_spawn_options_t first = NUMAPERF_SPAWN_OPTIONS_INIT;
    first.flags = NUMAPERF_SPAWN_HAS_WORKER;
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &first, walk_start, &walk), 0);
    bool fired = runtime_reaches(&walk.fired, WALK_FIRED); /* stopped each time, unreferenced all */
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &first, walk_close, &walk), 0);
    atomic_int ran = 0;
    assert_int_equal(numaperf_rt_spawn_with(box.rt, &first, runtime_count_task, &ran), 0);
    bool alive = runtime_reaches(&ran, 1); /* closing everything foreign leaves it alive */
    runtime_box_close(&box);
    assert_true(fired);
    assert_true(alive);
    assert_int_equal(walk.own, 1);
    assert_int_equal(walk.foreign, 3);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--sleeping-child") == 0) {
        test_sleep_ms(60000);
        return 0;
    }
    static uint32_t uring = NUMAPERF_IO_URING;
    static uint32_t epoll = NUMAPERF_IO_EPOLL;
#define BOTH(test)                                    \
    {#test "_in_io_uring", test, NULL, NULL, &uring}, \
    {                                                 \
#test "_in_epoll", test, NULL, NULL, &epoll   \
    }
    const struct CMUnitTest tests[] = {
        BOTH(handles_left_open_are_closed_by_the_stop),
        BOTH(close_callbacks_run_and_may_open_handles),
        BOTH(uv_stop_and_uv_walk_do_no_harm),
    };
    census_prepare();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
