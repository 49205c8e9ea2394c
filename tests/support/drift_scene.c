/* SPDX-License-Identifier: MIT */
/*
 * Threads: the scene's own makes the drifts and looks; one more is client and spawner; the auditor
 * calls on_violation. An entry of `reports` is written before the count that includes it.
 */
#include "support/drift_scene.h"

#include "support/clock.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <numaperf/error.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ARENA_BYTES ((size_t)256 << 10)
#define TASK_RAN 1u
#define TASK_CANCELLED 16u

/* Between two looks of the test, and two turns of the client: an emulated machine has other work.
 */
static void pause_shortly(void)
{
    test_sleep_ms(test_is_guest() ? 10 : 1);
}

/* ---- server ---- */

static void server_read(uv_stream_t *peer, ssize_t length, const uv_buf_t *buffer)
{
    if (length < 0) {
        uv_close((uv_handle_t *)peer, NULL);
        return;
    }
    uv_buf_t answer = uv_buf_init(buffer->base, (unsigned)length);
    CHECK(uv_try_write(peer, &answer, 1) == (int)length);
}

static void server_buffer(uv_handle_t *peer, size_t suggested, uv_buf_t *out)
{
    struct drift_plot *plot = peer->data;
    (void)suggested;
    *out = uv_buf_init(plot->buffer, sizeof(plot->buffer));
}

static void server_connection(uv_stream_t *listener, int status)
{
    struct drift_plot *plot = listener->data;
    CHECK(status == 0);
    CHECK(uv_tcp_init(listener->loop, &plot->peer) == 0);
    plot->peer.data = plot;
    CHECK(uv_accept(listener, (uv_stream_t *)&plot->peer) == 0);
    CHECK(uv_tcp_nodelay(&plot->peer, 1) == 0);
    CHECK(uv_read_start((uv_stream_t *)&plot->peer, server_buffer, server_read) == 0);
}

/* First on each worker: something in its arena, and a server on its loop. */
static void settle_task(numaperf_worker_t *worker, void *arg)
{
    struct drift_plot *plot = arg;
    void *memory = numaperf_arena_alloc(numaperf_worker_arena(worker), ARENA_BYTES, 64);
    CHECK(memory != NULL);
    memset(memory, 1, ARENA_BYTES);
    atomic_store(&plot->arena, (uintptr_t)memory);
    /* Not that of a local variable: address sanitizer may have those in memory of its own. */
    atomic_store(&plot->stack, (uintptr_t)__builtin_frame_address(0));

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int length = sizeof(address);
    CHECK(uv_tcp_init(numaperf_worker_loop(worker), &plot->listener) == 0);
    plot->listener.data = plot;
    CHECK(uv_tcp_bind(&plot->listener, (const struct sockaddr *)&address, 0) == 0);
    CHECK(uv_listen((uv_stream_t *)&plot->listener, 4, server_connection) == 0);
    CHECK(uv_tcp_getsockname(&plot->listener, (struct sockaddr *)&address, &length) == 0);
    atomic_store(&plot->port, ntohs(address.sin_port));
}

/* ---- client and spawner ---- */

static void plot_connect(struct drift_plot *plot)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)atomic_load(&plot->port))};
    struct timeval limit = {.tv_sec = (time_t)(test_limit_ns(10) / 1000000000u)};
    int one = 1;
    plot->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(plot->fd >= 0);
    CHECK(setsockopt(plot->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0);
    CHECK(setsockopt(plot->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0);
    CHECK(connect(plot->fd, (const struct sockaddr *)&address, sizeof(address)) == 0);
}

/* One question and its answer; false when the server is gone. */
static bool plot_ask(struct drift_plot *plot, uint64_t question)
{
    uint64_t answer = 0;
    if (send(plot->fd, &question, sizeof(question), MSG_NOSIGNAL) != (ssize_t)sizeof(question))
        return false;
    if (recv(plot->fd, &answer, sizeof(answer), MSG_WAITALL) != (ssize_t)sizeof(answer))
        return false;
    CHECK(answer == question);
    (void)atomic_fetch_add(&plot->answers, 1);
    return true;
}

static void counted_task(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    (void)atomic_fetch_add((atomic_uchar *)arg, TASK_RAN);
}

static void counted_cancel(numaperf_task_fn fn, void *arg, void *data)
{
    (void)data;
    if (fn == counted_task)
        (void)atomic_fetch_add((atomic_uchar *)arg, TASK_CANCELLED);
}

/* One task for a worker alone and one for any. False when the runtime stops. */
static bool scene_spawn(struct drift_scene *scene, uint32_t worker)
{
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    for (int i = 0; i < 2 && scene->accepted < DRIFT_TASKS_MAX; i++) {
        options.flags = i == 0 ? NUMAPERF_SPAWN_HAS_WORKER : NUMAPERF_SPAWN_HAS_NODE;
        options.worker = i == 0 ? (int32_t)worker : 0;
        options.node = i == 0 ? 0 : NUMAPERF_NODE_ANY;
        options.on_cancel = counted_cancel;
        int rc = numaperf_rt_spawn_with(scene->rt, &options, counted_task,
                                        &scene->tasks[scene->accepted]);
        if (rc == NUMAPERF_E_STOPPING)
            return false;
        CHECK(rc == 0);
        scene->accepted++;
    }
    return true;
}

static void *user_main(void *arg)
{
    struct drift_scene *scene = arg;
    bool is_served = true;
    for (uint64_t turn = 1; is_served && !atomic_load(&scene->user_ends); turn++) {
        for (uint32_t i = 0; is_served && i < scene->worker_count; i++)
            is_served = plot_ask(&scene->plots[i], turn) && scene_spawn(scene, i);
        pause_shortly();
    }
    CHECK(is_served || atomic_load(&scene->may_stop));
    return NULL;
}

/* ---- open and close ---- */

static void scene_violation(numaperf_rt_t *rt, const numaperf_violation_t *violation, void *data)
{
    struct drift_scene *scene = data;
    CHECK(rt != NULL); /* perhaps before the start that gives it to the scene has returned */
    unsigned count = atomic_load(&scene->report_count);
    CHECK(count < DRIFT_REPORTS_MAX);
    CHECK(violation->size == sizeof(*violation));
    scene->reports[count] = (struct drift_report){*violation, test_now_ns(), false};
    atomic_store(&scene->report_count, count + 1);
}

static void scene_start(struct drift_scene *scene)
{
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = scene->setup.mode;
    config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    config.workers_per_node = scene->setup.workers_per_node;
    config.audit_interval_ms = scene->setup.interval_ms;
    config.audit_policy = scene->setup.policy;
    config.on_violation = scene_violation;
    config.data = scene;
    if (numaperf_rt_start(&config, &scene->rt) < 0)
        (void)fprintf(stderr, "start: %s: %s\n", numaperf_last_error()->operation,
                      numaperf_last_error()->reason);
    CHECK(scene->rt != NULL);
    scene->worker_count = (uint32_t)numaperf_rt_worker_count(scene->rt, NUMAPERF_NODE_ANY);
    CHECK(scene->worker_count <= DRIFT_WORKERS_MAX);
}

static void plot_settle(struct drift_scene *scene, uint32_t index)
{
    const numaperf_worker_t *worker = numaperf_rt_worker(scene->rt, index);
    struct drift_plot *plot = &scene->plots[index];
    char path[96];
    plot->index = index;
    plot->node = numaperf_worker_node(worker);
    plot->cpu = numaperf_worker_cpu(worker);
    plot->thread_id = numaperf_worker_thread_id(worker);
    (void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/cpulist", plot->node);
    drift_view_cpus(path, &plot->node_cpus);
    numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
    options.flags = NUMAPERF_SPAWN_HAS_WORKER;
    options.worker = (int32_t)index;
    CHECK(numaperf_rt_spawn_with(scene->rt, &options, settle_task, plot) == 0);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (atomic_load(&plot->port) == 0) {
        CHECK(test_now_ns() < limit_ns);
        pause_shortly();
    }
    plot_connect(plot);
}

struct drift_scene *drift_open(const struct drift_setup *setup)
{
    struct drift_scene *scene = calloc(1, sizeof(*scene));
    CHECK(scene != NULL);
    scene->setup = *setup;
    if (setup->interval_ms == 0)
        scene->setup.interval_ms = test_is_slow() ? 200 : 100;
    CHECK(outsider_open(&scene->outsider));
    if (setup->in_cgroup) {
        char name[64];
        (void)snprintf(name, sizeof(name), "numaperf-drift-%d", (int)getppid());
        CHECK(cgroup_create(&scene->cgroup, name));
        CHECK(cgroup_enter(&scene->cgroup));
    }
    numaperf_nodemask_t nodes;
    drift_view_nodes("/sys/devices/system/node/has_cpu", &nodes);
    if (setup->workers_per_node == 0 && numaperf_nodemask_count(&nodes) > 2)
        scene->setup.workers_per_node = 1; /* an emulated machine with eight is too slow */
    scene_start(scene);
    for (uint32_t i = 0; i < scene->worker_count; i++)
        plot_settle(scene, i);
    /* The end of a child must not interrupt the client. */
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    CHECK(pthread_create(&scene->user, NULL, user_main, scene) == 0);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    drift_answers(scene);
    drift_await_home(scene);
    CHECK(atomic_load(&scene->report_count) == 0);
    return scene;
}

static void scene_count_tasks(const struct drift_scene *scene)
{
    for (uint32_t i = 0; i < scene->accepted; i++) {
        unsigned ended = atomic_load(&scene->tasks[i]);
        CHECK(ended == TASK_RAN || ended == TASK_CANCELLED);
    }
    CHECK(scene->accepted > 0);
}

void drift_close(struct drift_scene *scene)
{
    atomic_store(&scene->user_ends, true);
    CHECK(pthread_join(scene->user, NULL) == 0);
    CHECK(numaperf_rt_stop(scene->rt, test_limit_ns(10)) == 0);
    unsigned count = atomic_load(&scene->report_count);
    CHECK(numaperf_rt_violation_count(scene->rt) == count);
    scene_count_tasks(scene);
    numaperf_rt_destroy(scene->rt);
    for (uint32_t i = 0; i < scene->worker_count; i++)
        (void)close(scene->plots[i].fd);
    if (scene->setup.in_cgroup)
        CHECK(cgroup_leave(&scene->cgroup));
    CHECK(outsider_close(&scene->outsider));
    if (scene->setup.in_cgroup)
        CHECK(cgroup_remove(&scene->cgroup));
    free(scene);
}

uint64_t drift_intervals_ns(const struct drift_scene *scene, unsigned count)
{
    return (uint64_t)count * scene->setup.interval_ms * 1000000u;
}

const char *drift_kind_name(uint32_t kind)
{
    static const char *const names[] = {"none",      "affinity", "memory policy", "pages",
                                        "balancing", "io-wq",    "cpuset",        "offline"};
    return kind < sizeof(names) / sizeof(names[0]) ? names[kind] : "unknown";
}

struct drift_plot *drift_last(struct drift_scene *scene)
{
    return &scene->plots[scene->worker_count - 1];
}

void drift_list_without(const char *all, int id, char *out, size_t size)
{
    numaperf_cpuset_t set;
    CHECK(numaperf_cpuset_parse(all, &set) == 0);
    CHECK(numaperf_cpuset_remove(&set, id) == 0);
    CHECK(numaperf_cpuset_count(&set) > 0);
    CHECK(numaperf_cpuset_format(&set, out, size) < (int)size);
}

/* ---- what is reported ---- */

/* An emulated machine moves pages so slowly that moving alone takes intervals. */
static unsigned slack(void)
{
    return test_is_slow() ? 10 : 3;
}

unsigned drift_count(const struct drift_scene *scene, uint32_t kind, int worker, unsigned from)
{
    unsigned found = 0;
    for (unsigned i = from; i < atomic_load(&scene->report_count); i++) {
        const numaperf_violation_t *violation = &scene->reports[i].violation;
        found += violation->kind == kind && violation->worker == worker;
    }
    return found;
}

static void print_reports(const struct drift_scene *scene)
{
    for (unsigned i = 0; i < atomic_load(&scene->report_count); i++) {
        const numaperf_violation_t *violation = &scene->reports[i].violation;
        (void)fprintf(stderr, "report %u: %s, worker %d, outcome %u: %s\n", i,
                      drift_kind_name(violation->kind), (int)violation->worker, violation->outcome,
                      violation->text);
    }
}

static void report_check(const struct drift_scene *scene, struct drift_report *report)
{
    if (report->is_checked)
        return; /* since when it is there is not counted from a later deed */
    report->is_checked = true;
    const numaperf_violation_t *violation = &report->violation;
    uint64_t done_ns = scene->outsider.done_ns;
    uint64_t late_ns = report->time_ns > done_ns ? report->time_ns - done_ns : 0;
    double intervals = (double)late_ns / (double)drift_intervals_ns(scene, 1);
    printf("%s of worker %d: reported after %.2f intervals\n", drift_kind_name(violation->kind),
           (int)violation->worker, intervals);
    if (late_ns > drift_intervals_ns(scene, DRIFT_INTERVALS * slack()))
        print_reports(scene);
    CHECK(late_ns <= drift_intervals_ns(scene, DRIFT_INTERVALS * slack()));
    if (violation->worker >= 0) {
        CHECK((uint32_t)violation->worker < scene->worker_count);
        const struct drift_plot *plot = &scene->plots[violation->worker];
        CHECK(violation->node == plot->node && violation->cpu == plot->cpu);
    } else {
        CHECK(violation->node == -1 && violation->cpu == -1);
    }
    if (strstr(violation->text, "wanted") == NULL || strstr(violation->text, "found") == NULL)
        print_reports(scene);
    CHECK(strstr(violation->text, "wanted") != NULL && strstr(violation->text, "found") != NULL);
    bool acts = scene->setup.policy != NUMAPERF_AUDIT_REPORT;
    CHECK((violation->outcome == NUMAPERF_OUTCOME_REPORTED) == !acts);
}

const numaperf_violation_t *drift_await(struct drift_scene *scene, uint32_t kind, int worker,
                                        unsigned from)
{
    uint64_t limit_ns = test_now_ns() + 5 * drift_intervals_ns(scene, DRIFT_INTERVALS * slack());
    for (;;) {
        for (unsigned i = from; i < atomic_load(&scene->report_count); i++) {
            struct drift_report *report = &scene->reports[i];
            if (report->violation.kind != kind || report->violation.worker != worker)
                continue;
            report_check(scene, report);
            return &report->violation;
        }
        bool is_late = test_now_ns() > limit_ns;
        if (is_late) {
            (void)fprintf(stderr, "%s of worker %d is never reported\n", drift_kind_name(kind),
                          worker);
            print_reports(scene);
        }
        CHECK(!is_late);
        pause_shortly();
    }
}

const numaperf_violation_t *drift_await_outcome(struct drift_scene *scene, uint32_t kind,
                                                int worker, unsigned from, uint32_t outcome)
{
    const numaperf_violation_t *violation = drift_await(scene, kind, worker, from);
    if (violation->outcome != outcome) {
        (void)fprintf(stderr, "%s of worker %d: wanted outcome %u\n", drift_kind_name(kind), worker,
                      outcome);
        print_reports(scene);
    }
    CHECK(violation->outcome == outcome);
    return violation;
}

void drift_settle(const struct drift_scene *scene)
{
    unsigned before = 0;
    uint64_t limit_ns = test_now_ns() + test_limit_ns(5);
    do {
        CHECK(test_now_ns() < limit_ns);
        before = atomic_load(&scene->report_count);
        test_sleep_ms(3ull * scene->setup.interval_ms);
    } while (atomic_load(&scene->report_count) != before);
}

void drift_quiet(const struct drift_scene *scene, unsigned intervals)
{
    unsigned before = atomic_load(&scene->report_count);
    test_sleep_ms((uint64_t)intervals * scene->setup.interval_ms);
    if (atomic_load(&scene->report_count) != before)
        print_reports(scene);
    CHECK(atomic_load(&scene->report_count) == before);
}

void drift_check_reports(struct drift_scene *scene, unsigned from, const uint32_t *wanted,
                         const uint32_t *allowed)
{
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        for (uint32_t kind = 1; kind < 8; kind++) {
            if ((wanted[i] & DRIFT_BIT(kind)) != 0)
                (void)drift_await(scene, kind, (int)i, from);
        }
    }
    drift_quiet(scene, 3);
    for (unsigned i = from; i < atomic_load(&scene->report_count); i++) {
        const numaperf_violation_t *violation = &scene->reports[i].violation;
        uint32_t worker = (uint32_t)violation->worker;
        uint32_t may_be = violation->worker < 0 ? 0 : wanted[worker] | allowed[worker];
        bool is_right = (may_be & DRIFT_BIT(violation->kind)) != 0 &&
                        drift_count(scene, violation->kind, violation->worker, from) == 1;
        if (!is_right) {
            (void)fprintf(stderr, "not to be reported, or not again: report %u\n", i);
            print_reports(scene);
        }
        CHECK(is_right);
    }
}

/* ---- what is so ---- */

static bool plot_is_pinned(const struct drift_plot *plot)
{
    numaperf_cpuset_t cpus;
    drift_view_affinity(plot->thread_id, &cpus);
    return numaperf_cpuset_count(&cpus) == 1 && numaperf_cpuset_contains(&cpus, plot->cpu);
}

void drift_read_threads(const struct drift_scene *scene, uint32_t *io_kinds)
{
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        const struct drift_plot *plot = &scene->plots[i];
        if (!plot_is_pinned(plot))
            io_kinds[i] |= DRIFT_BIT(NUMAPERF_VIOLATION_AFFINITY);
        if (!drift_view_iowq_within(plot->thread_id, &plot->node_cpus))
            io_kinds[i] |= DRIFT_BIT(NUMAPERF_VIOLATION_IOWQ);
    }
}

static bool mapping_is_home(uintptr_t address, int node, char *why, size_t size)
{
    struct drift_mapping mapping;
    char wanted[32];
    (void)snprintf(wanted, sizeof(wanted), "bind:%d", node);
    if (!drift_view_mapping(address, node, &mapping)) {
        (void)snprintf(why, size, "no mapping");
        return false;
    }
    (void)snprintf(why, size, "%s, %llu pages on node %d, %llu elsewhere", mapping.policy,
                   (unsigned long long)mapping.here, node, (unsigned long long)mapping.elsewhere);
    return mapping.here > 0 && mapping.elsewhere == 0 && strcmp(mapping.policy, wanted) == 0;
}

void drift_read_pages(const struct drift_scene *scene, uint32_t *io_kinds)
{
    char why[128];
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        const struct drift_plot *plot = &scene->plots[i];
        if (!mapping_is_home(atomic_load(&plot->stack), plot->node, why, sizeof(why)) ||
            !mapping_is_home(atomic_load(&plot->arena), plot->node, why, sizeof(why)))
            io_kinds[i] |= DRIFT_BIT(NUMAPERF_VIOLATION_PAGES);
    }
}

/* Whether all that a worker has is at home; `why` says what is not. */
static bool plot_is_home(const struct drift_plot *plot, char *why, size_t size)
{
    char policy[64];
    char wanted[32];
    int used =
        snprintf(why, size, "worker %u, node %d, PU %d: ", plot->index, plot->node, plot->cpu);
    char *rest = why + used;
    size_t left = size - (size_t)used;
    if (!plot_is_pinned(plot)) {
        drift_view_affinity_text(plot->thread_id, rest, left);
        return false;
    }
    (void)snprintf(wanted, sizeof(wanted), "prefer:%d", plot->node);
    drift_view_policy(plot->thread_id, policy, sizeof(policy));
    if (strcmp(policy, wanted) != 0) {
        (void)snprintf(rest, left, "policy %s", policy);
        return false;
    }
    if (!drift_view_iowq_within(plot->thread_id, &plot->node_cpus)) {
        (void)snprintf(rest, left, "io-wq");
        return false;
    }
    return mapping_is_home(atomic_load(&plot->stack), plot->node, rest, left) &&
           mapping_is_home(atomic_load(&plot->arena), plot->node, rest, left);
}

void drift_await_home(const struct drift_scene *scene)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(2);
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        char why[256];
        while (!plot_is_home(&scene->plots[i], why, sizeof(why))) {
            bool is_late = test_now_ns() > limit_ns;
            if (is_late) {
                (void)fprintf(stderr, "not at home: %s\n", why);
                print_reports(scene);
            }
            CHECK(!is_late);
            pause_shortly();
        }
    }
}

void drift_answers(const struct drift_scene *scene)
{
    uint64_t limit_ns = test_now_ns() + test_limit_ns(5);
    for (uint32_t i = 0; i < scene->worker_count; i++) {
        unsigned before = atomic_load(&scene->plots[i].answers);
        while (atomic_load(&scene->plots[i].answers) - before < 3) {
            CHECK(test_now_ns() < limit_ns);
            pause_shortly();
        }
    }
}
