/* SPDX-License-Identifier: MIT */
/*
 * The loops of workers as sockets and files take them: their arena, what of io_uring they have and
 * why not more, pollers, and rings made with less privilege than the process began with.
 */
#include "io/features.h"
#include "io/ring.h"
#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"
#include "support/sandbox.h"

#include <numaperf/capabilities.h>
#include <numaperf/error.h>
#include <numaperf/loop.h>
#include <numaperf/runtime.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <uv.h>

#include <cmocka.h>

#define MANY 3000

static int ring_refusal;

#define SKIP_WITHOUT_RING()                                          \
    do {                                                             \
        if (ring_refusal < 0) {                                      \
            print_message("skipped: io_uring is refused here: %s\n", \
                          numaperf_strerror(ring_refusal));          \
            skip();                                                  \
        }                                                            \
    } while (0)

static numaperf_loop_features_t features_of(const numaperf_loop_t *loop)
{
    numaperf_loop_features_t found = NUMAPERF_LOOP_FEATURES_INIT;
    CHECK(numaperf_loop_features(loop, &found) == 0);
    return found;
}

static numaperf_loop_features_t features_of_worker(const numaperf_rt_t *rt, uint32_t index)
{
    return features_of(numaperf_worker_io(numaperf_rt_worker(rt, index)));
}

static void check_all_are(const numaperf_loop_features_t *found, uint32_t outcome)
{
    const uint32_t *fields = &found->ring;
    for (size_t i = 0; i < sizeof(*found) / sizeof(uint32_t) - 1; i++)
        CHECK(fields[i] == outcome);
}

/* ---- children, before any thread exists ---- */

static void scene_setup_refused(const void *arg)
{
    (void)arg;
    const long call = SYS_io_uring_setup;
    sandbox_deny(EPERM, &call, 1);
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    config.workers_per_node = 1;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    numaperf_loop_features_t found = features_of_worker(rt, 0);
    /* A setting comes before a filter when both refuse. */
    CHECK(found.ring == NUMAPERF_PROBE_SECCOMP || found.ring == NUMAPERF_PROBE_SYSCTL);
    check_all_are(&found, found.ring);
    numaperf_rt_destroy(rt);
}

static void refused_ring_has_the_cause_for_every_feature(void **state)
{
    (void)state;
    assert_true(sandbox_run(scene_setup_refused, NULL));
}

/* One call of io_uring_register() alone is refused. */
static void scene_buffers_refused(const void *arg)
{
    (void)arg;
    const struct sandbox_rule rule = {SYS_io_uring_register, EPERM, SANDBOX_EQUAL, 1,
                                      IORING_REGISTER_PBUF_RING};
    sandbox_deny_rules(&rule, 1);
    numaperf_loop_t *loop = NULL;
    CHECK(numaperf_loop_create(NULL, &loop) == 0);
    numaperf_loop_features_t found = features_of(loop);
    CHECK(found.ring == NUMAPERF_PROBE_OK);
    CHECK(found.buffer_ring == NUMAPERF_PROBE_SECCOMP);
    CHECK(found.buffer_incremental == NUMAPERF_PROBE_SECCOMP);
    CHECK(found.receive_multishot == NUMAPERF_PROBE_SECCOMP); /* needs them */
    CHECK(found.accept_multishot != NUMAPERF_PROBE_SECCOMP);
    CHECK(found.send_zero_copy != NUMAPERF_PROBE_SECCOMP);
    CHECK(numaperf_loop_destroy(loop) == 0);
}

/* Without sockets nothing can be tried with them, and the ring is one. */
static void scene_sockets_refused(const void *arg)
{
    (void)arg;
    const long calls[] = {SYS_socket, SYS_socketpair};
    numaperf_loop_t *loop = NULL;
    CHECK(numaperf_loop_create(NULL, &loop) == 0); /* what libuv makes once for good */
    CHECK(numaperf_loop_destroy(loop) == 0);
    struct census before = census_take();
    sandbox_deny(EACCES, calls, 2);
    CHECK(numaperf_loop_create(NULL, &loop) == 0);
    numaperf_loop_features_t found = features_of(loop);
    CHECK(found.ring == NUMAPERF_PROBE_OK);
    CHECK(found.accept_multishot != NUMAPERF_PROBE_OK);
    CHECK(found.receive_multishot != NUMAPERF_PROBE_OK);
    CHECK(found.send_zero_copy != NUMAPERF_PROBE_OK);
    CHECK(found.message_ring == found.ring || found.message_ring == NUMAPERF_PROBE_TOO_OLD);
    CHECK(numaperf_loop_destroy(loop) == 0);
    CHECK(census_returns_to(&before));
}

static void refused_step_is_told_and_leaves_nothing(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    assert_true(sandbox_run(scene_buffers_refused, NULL));
    assert_true(sandbox_run(scene_sockets_refused, NULL));
}

static void scene_privileges_dropped(const void *arg)
{
    const numaperf_loop_features_t *wanted = arg;
    sandbox_become_user(0);
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    config.workers_per_node = 1;
    config.io_backend = NUMAPERF_IO_URING;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    numaperf_loop_features_t found = features_of_worker(rt, 0);
    CHECK(memcmp(&found, wanted, sizeof(found)) == 0);
    numaperf_placement_t pages = NUMAPERF_PLACEMENT_INIT;
    const numaperf_worker_t *worker = numaperf_rt_worker(rt, 0);
    CHECK(numaperf_worker_placement(worker, NUMAPERF_WORKER_RING, &pages) == 0);
    CHECK(pages.pages > 0 && pages.on_node[numaperf_worker_node(worker)] == pages.pages);
    numaperf_rt_destroy(rt);
}

static void scene_features(const void *arg)
{
    const int *pipe_end = arg;
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    config.workers_per_node = 1;
    config.io_backend = NUMAPERF_IO_URING;
    CHECK(numaperf_rt_start(&config, &rt) == 0);
    numaperf_loop_features_t found = features_of_worker(rt, 0);
    CHECK(write(*pipe_end, &found, sizeof(found)) == sizeof(found));
    numaperf_rt_destroy(rt);
}

static void ring_is_as_good_after_privileges_are_dropped(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    if (geteuid() != 0) {
        print_message("skipped: there are no privileges to be dropped\n");
        skip();
    }
    int fds[2];
    numaperf_loop_features_t before;
    assert_int_equal(pipe(fds), 0);
    assert_true(sandbox_run(scene_features, &fds[1]));
    assert_int_equal(read(fds[0], &before, sizeof(before)), sizeof(before));
    (void)close(fds[0]);
    (void)close(fds[1]);
    assert_true(sandbox_run(scene_privileges_dropped, &before));
}

/* ---- quota ---- */

struct quota_group {
    char path[256];
    char limit_file[32];
    char limit[32];
    char procs[300];
};

static bool text_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool is_done = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    (void)close(fd);
    return is_done;
}

/* One PU and a half: enough for a loop, not for its poller as well. */
static bool quota_prepare(struct quota_group *out)
{
    const struct {
        const char *mount;
        const char *file;
        const char *limit;
    } kinds[] = {{"/sys/fs/cgroup", "cpu.max", "150000 100000"},
                 {"/sys/fs/cgroup/unified", "cpu.max", "150000 100000"},
                 {"/sys/fs/cgroup/cpu", "cpu.cfs_quota_us", "150000"},
                 {"/sys/fs/cgroup/cpu,cpuacct", "cpu.cfs_quota_us", "150000"}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char file[320];
        (void)snprintf(file, sizeof(file), "%s/cgroup.subtree_control", kinds[i].mount);
        (void)text_write(file, "+cpu"); /* version 1 has no such file */
        (void)snprintf(out->path, sizeof(out->path), "%s/numaperf_quota_%d", kinds[i].mount,
                       (int)getpid());
        (void)snprintf(file, sizeof(file), "%s/%s", out->path, kinds[i].file);
        (void)snprintf(out->procs, sizeof(out->procs), "%s/cgroup.procs", out->path);
        if (mkdir(out->path, 0755) < 0)
            continue;
        if (text_write(file, kinds[i].limit))
            return true;
        (void)rmdir(out->path);
    }
    return false;
}

static void scene_quota(const void *arg)
{
    const struct quota_group *group = arg;
    char pid[32];
    (void)snprintf(pid, sizeof(pid), "%d", (int)getpid());
    CHECK(text_write(group->procs, pid));
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    config.flags = NUMAPERF_LOOP_SQPOLL;
    numaperf_loop_t *loop = NULL;
    CHECK(numaperf_loop_create(&config, &loop) == -EINVAL);
    CHECK(loop == NULL);
    CHECK(strstr(numaperf_last_error()->reason, "quota is 1.500 PUs") != NULL);
    numaperf_rt_config_t rt_config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    rt_config.io_flags = NUMAPERF_LOOP_SQPOLL;
    rt_config.workers_per_node = 1;
    CHECK(numaperf_rt_start(&rt_config, &rt) == -EINVAL);
    CHECK(strstr(numaperf_last_error()->reason, group->path) != NULL);
    rt_config.io_flags = 0; /* nothing else minds */
    CHECK(numaperf_rt_start(&rt_config, &rt) == 0);
    numaperf_rt_destroy(rt);
}

static void poller_is_refused_where_a_quota_would_make_the_loop_pay(void **state)
{
    (void)state;
    struct quota_group group;
    memset(&group, 0, sizeof(group));
    if (!quota_prepare(&group)) {
        print_message("skipped: no cgroup with a CPU quota can be made here\n");
        skip();
    }
    bool is_right = sandbox_run(scene_quota, &group);
    uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
    while (rmdir(group.path) < 0 && test_now_ns() < limit_ns)
        test_sleep_ms(10); /* its process is still leaving */
    assert_true(is_right);
}

/* ---- the loop of a worker ---- */

static int check_own_loop(numaperf_worker_t *worker, void *data)
{
    numaperf_loop_t *loop = numaperf_worker_io(worker);
    bool is_right = loop != NULL && numaperf_loop_uv(loop) == numaperf_worker_loop(worker) &&
                    numaperf_loop_arena(loop) == numaperf_worker_arena(worker) &&
                    numaperf_loop_backend(loop) == numaperf_worker_backend(worker);
    (void)atomic_fetch_add((atomic_int *)data, is_right ? 1 : 1000);
    return 0;
}

static void worker_has_a_loop_with_its_arena_on_both_backends(void **state)
{
    (void)state;
    const uint32_t backends[] = {NUMAPERF_IO_EPOLL, NUMAPERF_IO_URING};
    for (int i = 0; i < 2; i++) {
        atomic_int right = 0;
        numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
        numaperf_rt_t *rt = NULL;
        if (backends[i] == NUMAPERF_IO_URING && ring_refusal < 0) {
            print_message("not here: io_uring is refused\n");
            continue;
        }
        config.io_backend = backends[i];
        config.on_worker_start = check_own_loop;
        config.data = &right;
        assert_int_equal(numaperf_rt_start(&config, &rt), 0);
        assert_int_equal(atomic_load(&right), numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY));
        numaperf_rt_destroy(rt);
    }
}

static void bad_io_of_a_runtime_is_refused_by_name(void **state)
{
    (void)state;
    const struct {
        size_t offset;
        uint32_t value;
        uint32_t backend;
        const char *word;
    } cases[] = {
        {offsetof(numaperf_rt_config_t, io_flags), 4, NUMAPERF_IO_AUTO, "unknown bit"},
        {offsetof(numaperf_rt_config_t, io_flags), NUMAPERF_LOOP_BUSY_POLL, NUMAPERF_IO_EPOLL,
         "epoll was asked for"},
        {offsetof(numaperf_rt_config_t, buffer_bytes), 3000, NUMAPERF_IO_AUTO, "buffer_bytes"},
        {offsetof(numaperf_rt_config_t, buffer_bytes), 1u << 25, NUMAPERF_IO_AUTO, "buffer_bytes"},
        {offsetof(numaperf_rt_config_t, buffer_count), 48, NUMAPERF_IO_AUTO, "buffer_count"},
        {offsetof(numaperf_rt_config_t, buffer_count), 65536, NUMAPERF_IO_AUTO, "buffer_count"},
        {offsetof(numaperf_rt_config_t, reserved), 1, NUMAPERF_IO_AUTO, "reserved"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
        numaperf_rt_t *rt = NULL;
        config.io_backend = cases[i].backend;
        memcpy((char *)&config + cases[i].offset, &cases[i].value, sizeof(cases[i].value));
        assert_int_equal(numaperf_rt_start(&config, &rt), -EINVAL);
        assert_null(rt);
        assert_non_null(strstr(numaperf_last_error()->reason, cases[i].word));
    }
}

/* ---- memory of the ring ---- */

static uint64_t count_of(const char *text, const char *word)
{
    uint64_t count = 0;
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word))
        count++;
    return count;
}

static void check_ring_memory(uint32_t hidden)
{
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    char *json = NULL;
    config.io_backend = NUMAPERF_IO_URING;
    numaperf__features_disable(hidden);
    assert_int_equal(numaperf_rt_start(&config, &rt), 0);
    numaperf__features_disable(0);
    size_t workers = numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    for (uint32_t i = 0; i < workers; i++) {
        const numaperf_worker_t *worker = numaperf_rt_worker(rt, i);
        numaperf_placement_t pages = NUMAPERF_PLACEMENT_INIT;
        assert_int_equal(numaperf_worker_placement(worker, NUMAPERF_WORKER_RING, &pages), 0);
        assert_true(pages.pages >= 12); /* 256 SQEs, and 2048 CQEs */
        assert_int_equal(pages.on_node[numaperf_worker_node(worker)], pages.pages);
        if (hidden != 0)
            assert_int_equal(features_of_worker(rt, i).own_memory, NUMAPERF_PROBE_TOO_OLD);
    }
    /* The document knows, and looks for the policy where there is one to be kept. */
    bool is_own = features_of_worker(rt, 0).own_memory == NUMAPERF_PROBE_OK;
    assert_int_equal(numaperf_rt_attest(rt, &json), 0);
    assert_int_equal(count_of(json, "\"own_memory\": \"ok\""), is_own ? workers : 0);
    const char *ring = strstr(json, "\"name\": \"ring\"");
    assert_non_null(ring);
    const char *asked = strstr(ring, "policy bind");
    assert_true((asked != NULL && asked < strstr(ring, "at_start")) == is_own);
    free(json);
    numaperf_rt_destroy(rt);
}

static void ring_is_on_its_node_in_memory_of_either_kind(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    check_ring_memory(0);
    check_ring_memory(1u << NUMAPERF__FEATURE_OWN_MEMORY);
}

/* ---- pollers ---- */

/* A poller that may run on one PU alone: its thread id, 0 when there is none. */
static int poller_find(int *out_cpu)
{
    DIR *tasks = opendir("/proc/self/task");
    int found = 0;
    assert_non_null(tasks);
    for (struct dirent *entry = readdir(tasks); entry != NULL && found == 0;
         entry = readdir(tasks)) {
        char path[300];
        char name[32] = "";
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        ssize_t length = read(fd, name, sizeof(name) - 1);
        (void)close(fd);
        if (length <= 0 || strncmp(name, "iou-sqp-", 8) != 0)
            continue;
        numaperf_cpuset_t cpus;
        numaperf_cpuset_zero(&cpus);
        long task = strtol(entry->d_name, NULL, 10);
        if (syscall(SYS_sched_getaffinity, task, sizeof(cpus.bits), cpus.bits) < 0)
            continue;
        *out_cpu = numaperf_cpuset_count(&cpus) == 1 ? numaperf_cpuset_next(&cpus, -1) : -1;
        found = (int)task;
    }
    (void)closedir(tasks);
    return found;
}

static char poller_state(int task)
{
    char path[64];
    char text[512] = "";
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", task);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return '?';
    ssize_t length = read(fd, text, sizeof(text) - 1);
    (void)close(fd);
    const char *end = length > 0 ? strrchr(text, ')') : NULL;
    return end != NULL ? end[2] : '?';
}

static atomic_int nops_done;

static void nop_fill(struct io_uring_sqe *sqe, void *data)
{
    (void)data;
    sqe->opcode = IORING_OP_NOP;
}

static void nop_done(int32_t result, uint32_t flags, void *data)
{
    (void)flags;
    (void)data;
    (void)atomic_fetch_add(&nops_done, result == 0 ? 1 : 1000000);
}

/* More at once than the SQ has room for: some have to wait for the poller. */
static void nops_task(numaperf_worker_t *worker, void *arg)
{
    for (int i = 0; i < MANY; i++) {
        if (numaperf_loop_sqe(numaperf_worker_io(worker), nop_fill, nop_done, NULL) != 0)
            (void)atomic_fetch_add((atomic_int *)arg, 1);
    }
}

static void poller_runs_beside_its_worker_and_is_woken(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    atomic_int refused = 0;
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    config.workers_per_node = 1;
    config.io_backend = NUMAPERF_IO_URING;
    config.io_flags = NUMAPERF_LOOP_SQPOLL;
    int rc = numaperf_rt_start(&config, &rt);
    if (rc == -EINVAL && strstr(numaperf_last_error()->reason, "SQPOLL") != NULL) {
        print_message("skipped: %s\n", numaperf_last_error()->reason);
        skip();
    }
    assert_int_equal(rc, 0);
    int cpu = -1;
    int task = poller_find(&cpu);
    assert_true(task > 0);
    assert_int_equal(features_of_worker(rt, 0).sqpoll, NUMAPERF_PROBE_OK);
    for (uint32_t i = 0; i < numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY); i++)
        assert_int_not_equal(numaperf_worker_cpu(numaperf_rt_worker(rt, i)), cpu);
    int node = numaperf_topology_node_of_cpu(numaperf_rt_topology(rt), cpu);
    assert_true(numaperf_rt_worker_count(rt, node) > 0);

    atomic_store(&nops_done, 0);
    for (int round = 1; round <= 3; round++) {
        assert_int_equal(numaperf_rt_spawn(rt, node, nops_task, &refused), 0);
        assert_true(runtime_reaches(&nops_done, round * MANY));
        /* Asleep, it has to be told of the next ones. */
        uint64_t limit_ns = test_now_ns() + test_limit_ns(10);
        while (poller_state(task) != 'S') {
            assert_true(test_now_ns() < limit_ns);
            test_sleep_ms(5);
        }
    }
    assert_int_equal(atomic_load(&nops_done), 3 * MANY);
    assert_int_equal(atomic_load(&refused), 0);
    numaperf_rt_destroy(rt);
}

static void poller_without_a_pu_of_its_own_is_refused(void **state)
{
    (void)state;
    numaperf_topology_t *topology = NULL;
    numaperf_nodemask_t nodes;
    numaperf_cpuset_t cpus;
    assert_int_equal(numaperf_topology_discover(&topology), 0);
    assert_int_equal(numaperf_topology_usable_nodes(topology, &nodes), 0);
    int node = numaperf_nodemask_next(&nodes, -1);
    assert_int_equal(numaperf_topology_node_cpus(topology, node, &cpus), 0);
    numaperf_topology_destroy(topology);

    struct census before = census_take();
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    numaperf_rt_t *rt = NULL;
    char name[32];
    (void)snprintf(name, sizeof(name), "node %d has 0", node);
    config.nodes = numaperf_nodemask_single(node);
    config.workers_per_node = (uint32_t)numaperf_cpuset_count(&cpus); /* one on each */
    config.io_flags = NUMAPERF_LOOP_SQPOLL;
    assert_int_equal(numaperf_rt_start(&config, &rt), -EINVAL);
    const char *reason = numaperf_last_error()->reason;
    assert_true(strstr(reason, name) != NULL || strstr(reason, "quota") != NULL);
    config.mode = NUMAPERF_MODE_HARD;
    config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    assert_int_equal(numaperf_rt_start(&config, &rt), NUMAPERF_E_HARD_MODE);
    assert_null(rt);
    assert_true(census_returns_to(&before));
}

static void poller_of_a_loop_of_the_user_submits(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    numaperf_loop_t *loop = NULL;
    config.backend = NUMAPERF_IO_URING;
    config.flags = NUMAPERF_LOOP_SQPOLL;
    int rc = numaperf_loop_create(&config, &loop);
    if (rc == -EINVAL && strstr(numaperf_last_error()->reason, "SQPOLL") != NULL) {
        print_message("skipped: %s\n", numaperf_last_error()->reason);
        skip();
    }
    assert_int_equal(rc, 0);
    assert_int_equal(features_of(loop).sqpoll, NUMAPERF_PROBE_OK);
    atomic_store(&nops_done, 0);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(numaperf_loop_sqe(loop, nop_fill, nop_done, NULL), 0);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(atomic_load(&nops_done), MANY);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

/* ---- busy polling ---- */

static void busy_poll_is_done_or_told_why_not(void **state)
{
    (void)state;
    SKIP_WITHOUT_RING();
    numaperf_loop_config_t config = NUMAPERF_LOOP_CONFIG_INIT;
    numaperf_loop_t *loop = NULL;
    config.backend = NUMAPERF_IO_URING;
    config.flags = NUMAPERF_LOOP_BUSY_POLL;
    assert_int_equal(numaperf_loop_create(&config, &loop), 0);
    numaperf_loop_features_t found = features_of(loop);
    print_message("busy poll: %s\n", numaperf_probe_name(found.busy_poll));
    assert_int_not_equal(found.busy_poll, NUMAPERF_PROBE_NOT_ASKED);
    assert_int_equal(found.sqpoll, NUMAPERF_PROBE_NOT_ASKED);
    atomic_store(&nops_done, 0);
    assert_int_equal(numaperf_loop_sqe(loop, nop_fill, nop_done, NULL), 0);
    assert_int_equal(numaperf_loop_run(loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(atomic_load(&nops_done), 1);
    assert_int_equal(numaperf_loop_destroy(loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* Those that fork come before there are threads. */
        cmocka_unit_test(refused_ring_has_the_cause_for_every_feature),
        cmocka_unit_test(refused_step_is_told_and_leaves_nothing),
        cmocka_unit_test(ring_is_as_good_after_privileges_are_dropped),
        cmocka_unit_test(poller_is_refused_where_a_quota_would_make_the_loop_pay),
        cmocka_unit_test(bad_io_of_a_runtime_is_refused_by_name),
        cmocka_unit_test(poller_without_a_pu_of_its_own_is_refused),
        cmocka_unit_test(worker_has_a_loop_with_its_arena_on_both_backends),
        cmocka_unit_test(ring_is_on_its_node_in_memory_of_either_kind),
        cmocka_unit_test(poller_runs_beside_its_worker_and_is_woken),
        cmocka_unit_test(poller_of_a_loop_of_the_user_submits),
        cmocka_unit_test(busy_poll_is_done_or_told_why_not),
    };
    census_prepare();
    struct numaperf__ring *ring = NULL;
    ring_refusal = numaperf__ring_create(4, &ring);
    numaperf__ring_destroy(ring);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
