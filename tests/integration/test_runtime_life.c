/* SPDX-License-Identifier: MIT */
/* Life of a runtime: start, its callbacks, their failures, and every way to stop. */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define EVENTS_MAX 64

/* ---- what the callbacks saw, in order ---- */

enum event_kind { WORKER_START, NODE_START, NODE_STOP, WORKER_STOP };

struct event {
    enum event_kind kind;
    uint32_t worker;
    int node;
    bool on_its_thread;
};

static struct {
    pthread_mutex_t mutex;
    struct event events[EVENTS_MAX]; /* under mutex */
    int count;                       /* under mutex */
    int fail_worker;                 /* whose on_worker_start fails; -1 */
    int fail_node;                   /* index of the node's first worker; -1 */
    int fail_code;
    int refused;           /* stops refused in callbacks, under mutex */
    atomic_int node_count; /* on_node_start that have returned */
    atomic_int early;      /* tasks that ran before that */
    atomic_int ran;
    atomic_int cancelled;
} book = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void book_clear(void)
{
    book.count = 0;
    book.fail_worker = -1;
    book.fail_node = -1;
    book.fail_code = 0;
    book.refused = 0;
    atomic_store(&book.node_count, 0);
    atomic_store(&book.early, 0);
    atomic_store(&book.ran, 0);
    atomic_store(&book.cancelled, 0);
}

static void book_add(enum event_kind kind, numaperf_worker_t *worker)
{
    (void)pthread_mutex_lock(&book.mutex);
    struct event *event = &book.events[book.count++ % EVENTS_MAX];
    event->kind = kind;
    event->worker = numaperf_worker_index(worker);
    event->node = numaperf_worker_node(worker);
    event->on_its_thread = numaperf_worker_current() == worker &&
                           numaperf_worker_thread_id(worker) == (int)syscall(SYS_gettid);
    (void)pthread_mutex_unlock(&book.mutex);
}

static int book_count(enum event_kind kind)
{
    int count = 0;
    for (int i = 0; i < book.count; i++)
        count += book.events[i].kind == kind;
    return count;
}

static int book_first(enum event_kind kind)
{
    int i = 0;
    while (i < book.count && book.events[i].kind != kind)
        i++;
    return i;
}

static int book_last(enum event_kind kind)
{
    int i = book.count - 1;
    while (i >= 0 && book.events[i].kind != kind)
        i--;
    return i;
}

static bool book_has(enum event_kind kind, uint32_t worker)
{
    for (int i = 0; i < book.count; i++) {
        if (book.events[i].kind == kind && book.events[i].worker == worker)
            return true;
    }
    return false;
}

static void booked_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    if (arg != NULL && atomic_load(&book.node_count) < (int)(intptr_t)arg)
        (void)atomic_fetch_add(&book.early, 1);
    (void)atomic_fetch_add(&book.ran, 1);
}

static void booked_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    (void)arg;
    assert_true(fn == booked_task);
    assert_ptr_equal(data, &book);
    (void)atomic_fetch_add(&book.cancelled, 1);
}

static void spawn_on_every_node(numaperf_worker_t *worker)
{
    numaperf_rt_t *rt = numaperf_worker_rt(worker);
    numaperf_nodemask_t nodes;
    if (numaperf_rt_nodes(rt, &nodes) < 0)
        abort();
    int count = numaperf_nodemask_count(&nodes);
    for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0;
         node = numaperf_nodemask_next(&nodes, node)) {
        if (numaperf_rt_spawn(rt, node, booked_task, (void *)(intptr_t)count) < 0)
            abort();
    }
    int rc = numaperf_rt_stop(rt, 0);
    (void)pthread_mutex_lock(&book.mutex);
    book.refused += rc == -EDEADLK;
    (void)pthread_mutex_unlock(&book.mutex);
}

static int on_worker_start(numaperf_worker_t *worker, void *data)
{
    assert_ptr_equal(data, &book);
    /* The last one is late: whoever does not wait for it is found out. */
    if (numaperf_rt_worker(numaperf_worker_rt(worker), numaperf_worker_index(worker) + 1) == NULL)
        test_sleep_ms(30);
    spawn_on_every_node(worker);
    book_add(WORKER_START, worker);
    return (int)numaperf_worker_index(worker) == book.fail_worker ? book.fail_code : 0;
}

static int on_node_start(numaperf_worker_t *worker, void *data)
{
    (void)data;
    test_sleep_ms(numaperf_worker_index(worker) == 0 ? 0 : 20);
    spawn_on_every_node(worker);
    book_add(NODE_START, worker);
    (void)atomic_fetch_add(&book.node_count, 1);
    return (int)numaperf_worker_index(worker) == book.fail_node ? book.fail_code : 0;
}

static void on_node_stop(numaperf_worker_t *worker, void *data)
{
    (void)data;
    test_sleep_ms(numaperf_worker_index(worker) == 0 ? 0 : 20);
    book_add(NODE_STOP, worker);
}

static void on_worker_stop(numaperf_worker_t *worker, void *data)
{
    (void)data;
    book_add(WORKER_STOP, worker);
}

static struct runtime_box booked_box(uint32_t workers_per_node)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = workers_per_node;
    box.config.on_worker_start = on_worker_start;
    box.config.on_node_start = on_node_start;
    box.config.on_node_stop = on_node_stop;
    box.config.on_worker_stop = on_worker_stop;
    box.config.on_task_cancel = booked_cancel;
    box.config.data = &book;
    return box;
}

/* ---- callbacks ---- */

static void check_order_on(const char *machine)
{
    book_clear();
    struct runtime_box box = booked_box(2);
    assert_int_equal(runtime_box_open(&box, machine), 0);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_rt_nodes(box.rt, &nodes), 0);
    int node_count = numaperf_nodemask_count(&nodes);
    int worker_count = (int)numaperf_rt_worker_count(box.rt, NUMAPERF_NODE_ANY);
    assert_int_equal(worker_count, 2 * node_count);

    assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
    int spawned = (worker_count + node_count) * node_count;
    assert_int_equal(atomic_load(&book.ran), spawned);
    assert_int_equal(atomic_load(&book.early), 0);
    assert_int_equal(atomic_load(&book.cancelled), 0);
    assert_int_equal(book.refused, worker_count + node_count);

    assert_int_equal(book_count(WORKER_START), worker_count);
    assert_int_equal(book_count(NODE_START), node_count);
    assert_int_equal(book_count(NODE_STOP), node_count);
    assert_int_equal(book_count(WORKER_STOP), worker_count);
    assert_true(book_last(WORKER_START) < book_first(NODE_START));
    assert_true(book_last(NODE_START) < book_first(NODE_STOP));
    assert_true(book_last(NODE_STOP) < book_first(WORKER_STOP));
    for (int i = 0; i < book.count; i++) {
        const struct event *event = &book.events[i];
        assert_true(event->on_its_thread);
        if (event->kind == NODE_START || event->kind == NODE_STOP)
            assert_int_equal(event->worker % 2, 0); /* the first of its node */
    }
    for (uint32_t i = 0; i < (uint32_t)worker_count; i++) {
        assert_true(book_has(WORKER_START, i));
        assert_true(book_has(WORKER_STOP, i));
    }
    runtime_box_close(&box);
}

static void callbacks_come_in_order_on_their_own_threads(void **state)
{
    (void)state;
    check_order_on(NULL);
    check_order_on("numa:2 pu:2");
    check_order_on("sparse_ids.xml");
}

static void failing_worker_start_undoes_the_start(void **state)
{
    (void)state;
    for (int failing = 0; failing < 4; failing++) {
        struct census before = census_take();
        book_clear();
        book.fail_worker = failing;
        book.fail_code = -4242;
        struct runtime_box box = booked_box(2);
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:2"), -4242);
        assert_null(box.rt);

        const numaperf_error_t *error = numaperf_last_error();
        assert_int_equal(error->code, -4242);
        assert_string_equal(error->operation, "on_worker_start");
        char text[32];
        (void)snprintf(text, sizeof(text), "worker %d ", failing);
        assert_non_null(strstr(error->reason, text));

        assert_int_equal(book_count(NODE_START), 0);
        assert_int_equal(book_count(NODE_STOP), 0);
        for (uint32_t i = 0; i < 4; i++)
            assert_int_equal(book_has(WORKER_STOP, i),
                             book_has(WORKER_START, i) && (int)i != failing);
        assert_int_equal(atomic_load(&book.ran), 0);
        assert_int_equal(atomic_load(&book.cancelled), 2 * book_count(WORKER_START));
        assert_true(census_returns_to(&before));
    }
}

static void failing_node_start_undoes_the_start(void **state)
{
    (void)state;
    for (int failing = 0; failing < 4; failing += 2) {
        struct census before = census_take();
        book_clear();
        book.fail_node = failing;
        book.fail_code = NUMAPERF_E_UNSUPPORTED;
        struct runtime_box box = booked_box(2);
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:2"), NUMAPERF_E_UNSUPPORTED);
        assert_string_equal(numaperf_last_error()->operation, "on_node_start");

        assert_int_equal(book_count(WORKER_START), 4);
        assert_int_equal(book_count(WORKER_STOP), 4);
        for (uint32_t i = 0; i < 4; i += 2)
            assert_int_equal(book_has(NODE_STOP, i), book_has(NODE_START, i) && (int)i != failing);
        if (book_count(NODE_STOP) > 0)
            assert_true(book_last(NODE_STOP) < book_first(WORKER_STOP));
        assert_int_equal(atomic_load(&book.ran), 0);
        assert_int_equal(atomic_load(&book.cancelled),
                         2 * (book_count(WORKER_START) + book_count(NODE_START)));
        assert_true(census_returns_to(&before));
    }
}

/* ---- configuration ---- */

static void default_config_starts_on_every_usable_core(void **state)
{
    (void)state;
    numaperf_rt_t *rt = NULL;
    assert_int_equal(numaperf_rt_start(NULL, &rt), 0);
    size_t count = 0;
    const numaperf_topology_t *topology = numaperf_rt_topology(rt);
    for (size_t i = 0; i < numaperf_topology_node_count(topology); i++) {
        int node = numaperf_topology_node_id(topology, i);
        numaperf_cpuset_t cores;
        assert_int_equal(numaperf_topology_node_cores(topology, node, &cores), 0);
        size_t workers = numaperf_rt_worker_count(rt, node);
        if (numaperf_topology_node_memory_bytes(topology, node) > 0)
            assert_int_equal(workers, numaperf_cpuset_count(&cores));
        count += workers;
    }
    assert_true(count > 0);
    assert_int_equal(numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY), count);
    atomic_int ran = 0;
    assert_int_equal(numaperf_rt_spawn(rt, NUMAPERF_NODE_ANY, runtime_count_task, &ran), 0);
    assert_true(runtime_reaches(&ran, 1));
    numaperf_rt_destroy(rt);
}

static void assert_refused(const numaperf_rt_config_t *config, int code, const char *word)
{
    numaperf_rt_t *const untouched = (numaperf_rt_t *)&book;
    numaperf_rt_t *rt = untouched;
    assert_int_equal(numaperf_rt_start(config, &rt), code);
    assert_ptr_equal(rt, untouched);
    assert_int_equal(numaperf_last_error()->code, code);
    assert_non_null(strstr(numaperf_last_error()->reason, word));
}

static void bad_config_is_refused_by_name(void **state)
{
    (void)state;
    const struct {
        size_t offset;
        uint32_t value;
        const char *word;
    } cases[] = {
        {offsetof(numaperf_rt_config_t, size), 0, "size"},
        {offsetof(numaperf_rt_config_t, size), 12, "size"},
        {offsetof(numaperf_rt_config_t, flags), 4, "flags"},
        {offsetof(numaperf_rt_config_t, mode), 2, "mode"},
        {offsetof(numaperf_rt_config_t, steal_policy), 4, "steal_policy"},
        {offsetof(numaperf_rt_config_t, workers_per_node), 1025, "workers_per_node"},
        {offsetof(numaperf_rt_config_t, huge_pages), 5, "huge_pages"},
        {offsetof(numaperf_rt_config_t, io_backend), 3, "io_backend"},
        {offsetof(numaperf_rt_config_t, audit_policy), 3, "audit_policy"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
        memcpy((char *)&config + cases[i].offset, &cases[i].value, sizeof(cases[i].value));
        assert_refused(&config, -EINVAL, cases[i].word);
    }
    assert_int_equal(numaperf_rt_start(NULL, NULL), -EINVAL);
    struct {
        numaperf_rt_config_t known;
        uint64_t newer;
    } longer = {.known = NUMAPERF_RT_CONFIG_INIT, .newer = 1};
    longer.known.size = sizeof(longer);
    assert_refused(&longer.known, -E2BIG, "does not know");
}

static void absent_node_is_no_node_in_both_modes(void **state)
{
    (void)state;
    const uint32_t modes[] = {NUMAPERF_MODE_SOFT, NUMAPERF_MODE_HARD};
    for (int i = 0; i < 2; i++) {
        struct census before = census_take();
        numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
        config.mode = modes[i];
        config.nodes = numaperf_nodemask_single(901);
        assert_refused(&config, NUMAPERF_E_NO_NODE, "901");
        assert_true(census_returns_to(&before));
    }
}

static struct runtime_box simple_box(uint32_t workers_per_node)
{
    struct runtime_box box = {.config = NUMAPERF_RT_CONFIG_INIT};
    box.config.workers_per_node = workers_per_node;
    box.config.steal_policy = NUMAPERF_STEAL_LOCAL_ONLY;
    box.config.on_task_cancel = runtime_count_cancel;
    return box;
}

/* ---- handles ---- */

struct handles {
    uv_timer_t timer;
    uv_tcp_t listener;
    uv_async_t async;
    uv_idle_t idle;
    uv_signal_t signal;
    uv_timer_t late; /* opened by a close callback */
};

static atomic_int handles_closed;
static struct handles handles_of[2]; /* by worker; lives longer than any loop */

static void late_closed(uv_handle_t *handle)
{
    (void)handle;
    (void)atomic_fetch_add(&handles_closed, 1);
}

static void timer_closed(uv_handle_t *handle)
{
    struct handles *own = handle->loop->data;
    (void)uv_timer_init(handle->loop, &own->late);
    (void)atomic_fetch_add(&handles_closed, 1);
    uv_close((uv_handle_t *)&own->late, late_closed);
}

static void timer_fired(uv_timer_t *handle)
{
    (void)handle;
}

static void idle_fired(uv_idle_t *handle)
{
    (void)handle;
}

static void connection_came(uv_stream_t *handle, int status)
{
    (void)handle;
    (void)status;
}

static int open_handles(numaperf_worker_t *worker, void *data)
{
    (void)data;
    uv_loop_t *loop = numaperf_worker_loop(worker);
    struct handles *own = &handles_of[numaperf_worker_index(worker)];
    memset(own, 0, sizeof(*own));
    loop->data = own;
    numaperf_worker_set_data(worker, own);
    struct sockaddr_in address;
    int rc = uv_ip4_addr("127.0.0.1", 0, &address);
    rc = rc != 0 ? rc : uv_timer_init(loop, &own->timer);
    rc = rc != 0 ? rc : uv_timer_start(&own->timer, timer_fired, 60000, 60000);
    rc = rc != 0 ? rc : uv_tcp_init(loop, &own->listener);
    rc = rc != 0 ? rc : uv_tcp_bind(&own->listener, (const struct sockaddr *)&address, 0);
    rc = rc != 0 ? rc : uv_listen((uv_stream_t *)&own->listener, 8, connection_came);
    rc = rc != 0 ? rc : uv_async_init(loop, &own->async, NULL);
    rc = rc != 0 ? rc : uv_idle_init(loop, &own->idle);
    rc = rc != 0 ? rc : uv_idle_start(&own->idle, idle_fired);
    rc = rc != 0 ? rc : uv_signal_init(loop, &own->signal);
    return rc;
}

static void close_some_handles(numaperf_worker_t *worker, void *data)
{
    (void)data;
    struct handles *own = numaperf_worker_data(worker);
    uv_close((uv_handle_t *)&own->timer, timer_closed);
    uv_close((uv_handle_t *)&own->idle, NULL);
}

static void handles_left_open_are_closed_at_the_end(void **state)
{
    (void)state;
    const uint32_t backends[] = {NUMAPERF_IO_AUTO, NUMAPERF_IO_EPOLL};
    for (int i = 0; i < 4; i++) {
        struct census before = census_take();
        atomic_store(&handles_closed, 0);
        struct runtime_box box = simple_box(1);
        box.config.io_backend = backends[i % 2];
        box.config.on_worker_start = open_handles;
        box.config.on_worker_stop = close_some_handles;
        assert_int_equal(runtime_box_open(&box, "numa:2 pu:1"), 0);
        runtime_box_close(&box);
        assert_int_equal(atomic_load(&handles_closed), 4);
        if (i >= 2) /* the first open a loop's signal pipe, which libuv keeps */
            assert_true(census_returns_to(&before));
    }
}

/* ---- several ---- */

static void nested_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    atomic_int *ran = arg;
    struct runtime_box box = simple_box(1);
    if (runtime_box_open(&box, "numa:2 pu:1") != 0)
        return;
    atomic_int inner = 0;
    int node_count = numaperf_rt_each_node(box.rt, runtime_count_task, &inner);
    if (node_count == 2 && runtime_reaches(&inner, 2) && numaperf_rt_stop(box.rt, UINT64_MAX) == 0)
        (void)atomic_fetch_add(ran, 1);
    runtime_box_close(&box);
}

static void several_runtimes_live_beside_and_inside_each_other(void **state)
{
    (void)state;
    struct runtime_box boxes[3];
    atomic_int ran = 0;
    for (int i = 0; i < 3; i++) {
        boxes[i] = simple_box(1);
        boxes[i].config.io_backend = i == 1 ? NUMAPERF_IO_EPOLL : NUMAPERF_IO_AUTO;
        assert_int_equal(runtime_box_open(&boxes[i], i == 2 ? NULL : "numa:2 pu:1"), 0);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(numaperf_rt_spawn(boxes[i].rt, NUMAPERF_NODE_ANY, nested_task, &ran), 0);
    assert_true(runtime_reaches(&ran, 3));
    for (int i = 0; i < 3; i++)
        runtime_box_close(&boxes[i]);
}

static void repeated_starts_and_stops_leave_nothing(void **state)
{
    (void)state;
    struct census before = census_take();
    for (int i = 0; i < (test_is_slow() ? 10 : 60); i++) {
        struct runtime_box box = simple_box((uint32_t)i % 3 + 1);
        box.config.io_backend = i % 2 == 0 ? NUMAPERF_IO_AUTO : NUMAPERF_IO_EPOLL;
        atomic_int ran = 0;
        assert_int_equal(runtime_box_open(&box, i % 4 == 0 ? NULL : "numa:2 pu:2"), 0);
        int nodes = numaperf_rt_each_node(box.rt, runtime_count_task, &ran);
        assert_true(nodes > 0);
        if (i % 3 != 0)
            assert_int_equal(numaperf_rt_stop(box.rt, UINT64_MAX), 0);
        runtime_box_close(&box);
    }
    assert_true(census_returns_to(&before));
}

/* ---- fork and exec ---- */

static int child_descriptors(void)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)execl("/proc/self/exe", "child", "--count-descriptors", (char *)NULL);
        _exit(255);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void executed_child_inherits_no_descriptor(void **state)
{
    (void)state;
    int before = child_descriptors();
    assert_true(before >= 3 && before < 200);
    for (int i = 0; i < 2; i++) {
        struct runtime_box box = simple_box(2);
        box.config.io_backend = i == 0 ? NUMAPERF_IO_AUTO : NUMAPERF_IO_EPOLL;
        assert_int_equal(runtime_box_open(&box, NULL), 0);
        assert_int_equal(child_descriptors(), before);
        atomic_int ran = 0;
        assert_int_equal(numaperf_rt_spawn(box.rt, NUMAPERF_NODE_ANY, runtime_count_task, &ran), 0);
        assert_true(runtime_reaches(&ran, 1));
        runtime_box_close(&box);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--count-descriptors") == 0)
        return census_take().descriptors;
    census_prepare();
    struct runtime_box box = booked_box(2);
    book_clear();
    if (runtime_box_open(&box, "numa:2 pu:2") == 0) /* what a first start leaves is not counted */
        runtime_box_close(&box);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks_come_in_order_on_their_own_threads),
        cmocka_unit_test(failing_worker_start_undoes_the_start),
        cmocka_unit_test(failing_node_start_undoes_the_start),
        cmocka_unit_test(default_config_starts_on_every_usable_core),
        cmocka_unit_test(bad_config_is_refused_by_name),
        cmocka_unit_test(absent_node_is_no_node_in_both_modes),
        cmocka_unit_test(handles_left_open_are_closed_at_the_end),
        cmocka_unit_test(several_runtimes_live_beside_and_inside_each_other),
        cmocka_unit_test(repeated_starts_and_stops_leave_nothing),
        cmocka_unit_test(executed_child_inherits_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
