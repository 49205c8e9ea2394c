/* SPDX-License-Identifier: MIT */
/*
 * The runtime as a user has it: soft mode, all settings at their defaults but for those that make
 * a peer of its own. One node is the first of this machine with enough PUs; two are the first two
 * real ones, or on a machine of one node two synthetic ones of one PU each.
 */
#include "peers/peer.h"

#include "harness.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NUMAPERF_STALL_MS 100u
#define NUMAPERF_SNAPSHOT_NS 10000000u

/* What a peer has otherwise than the defaults. */
struct numaperf_settings {
    uint32_t io_backend;
    uint32_t steal_policy;
    uint32_t workers_per_node; /* 0: as the case says */
    uint32_t stall_ms;
    uint64_t spin_ns_max;
    bool snapshots;
    bool uncounted; /* the other library */
};

/* What the peers of the other library call there; the rest of the two is the same. */
struct numaperf_calls {
    int (*start)(const numaperf_rt_config_t *config, numaperf_rt_t **out);
    int (*spawn)(numaperf_rt_t *rt, int node, numaperf_task_fn fn, void *arg);
    void (*destroy)(numaperf_rt_t *rt);
};

static struct numaperf_calls uncounted; /* written before a thread is started */

struct numaperf_state {
    numaperf_topology_t *topology;
    numaperf_rt_t *rt;
    void (*destroy)(numaperf_rt_t *rt);
    pthread_t reader; /* of snapshots */
    bool has_reader;
    _Atomic bool stop; /* the reader */
    int nodes[2];      /* OS ids */
    uint32_t node_count;
};

/* The first nodes that have a worker's PU for each of theirs; how many were found. */
static uint32_t numaperf_choose_nodes(struct numaperf_state *state, const struct bench_setup *setup)
{
    uint32_t found = 0;
    size_t count = numaperf_topology_node_count(state->topology);
    for (size_t i = 0; i < count && found < setup->node_count; i++) {
        int node = numaperf_topology_node_id(state->topology, i);
        numaperf_cpuset_t cpus;
        if (numaperf_topology_node_cpus(state->topology, node, &cpus) < 0 ||
            numaperf_topology_node_memory_bytes(state->topology, node) == 0 ||
            numaperf_cpuset_count(&cpus) < (int)setup->workers_per_node)
            continue;
        state->nodes[found++] = node;
    }
    return found;
}

static int numaperf_choose_topology(struct numaperf_state *state, const struct bench_setup *setup)
{
    int rc = numaperf_topology_discover(&state->topology);
    if (rc < 0)
        return rc;
    state->node_count = numaperf_choose_nodes(state, setup);
    if (state->node_count == setup->node_count)
        return 0;
    numaperf_topology_destroy(state->topology);
    state->topology = NULL;
    if (setup->node_count != 2 || setup->workers_per_node != 1)
        return NUMAPERF_E_NO_NODE;
    rc = numaperf_topology_from_synthetic("numa:2 pu:1", &state->topology);
    if (rc < 0)
        return rc;
    state->node_count = numaperf_choose_nodes(state, setup);
    return state->node_count == 2 ? 0 : NUMAPERF_E_NO_NODE;
}

static void *numaperf_read(void *arg)
{
    struct numaperf_state *state = arg;
    numaperf_rt_stats_t stats = NUMAPERF_RT_STATS_INIT;
    while (!atomic_load_explicit(&state->stop, memory_order_relaxed)) {
        if (numaperf_rt_stats(state->rt, &stats) < 0)
            abort(); /* both are there */
        bench_sleep_ns(NUMAPERF_SNAPSHOT_NS);
    }
    return NULL;
}

static void numaperf_peer_stop(void *arg)
{
    struct numaperf_state *state = arg;
    atomic_store_explicit(&state->stop, true, memory_order_relaxed);
    if (state->has_reader)
        pthread_join(state->reader, NULL);
    if (state->rt != NULL)
        state->destroy(state->rt);
    numaperf_topology_destroy(state->topology);
    free(state);
}

static int numaperf_peer_start(const struct bench_peer *peer, const struct bench_setup *setup,
                               void **out_state)
{
    struct numaperf_state *state = calloc(1, sizeof(*state));
    if (state == NULL)
        return -ENOMEM;
    int rc = numaperf_choose_topology(state, setup);
    if (rc == 0) {
        const struct numaperf_settings *settings = peer->ops;
        numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
        config.topology = state->topology;
        config.workers_per_node = setup->workers_per_node;
        if (settings->workers_per_node > 0)
            config.workers_per_node = settings->workers_per_node;
        config.io_backend = settings->io_backend;
        config.steal_policy = settings->steal_policy;
        config.stall_ms = settings->stall_ms;
        config.spin_ns_max = settings->spin_ns_max;
        for (uint32_t i = 0; i < state->node_count; i++)
            (void)numaperf_nodemask_add(&config.nodes, state->nodes[i]); /* ids of a topology */
        state->destroy = settings->uncounted ? uncounted.destroy : numaperf_rt_destroy;
        rc = (settings->uncounted ? uncounted.start : numaperf_rt_start)(&config, &state->rt);
        if (rc == 0 && settings->snapshots) {
            rc = -pthread_create(&state->reader, NULL, numaperf_read, state);
            state->has_reader = rc == 0;
        }
    }
    if (rc < 0) {
        numaperf_peer_stop(state);
        return rc;
    }
    *out_state = state;
    return 0;
}

static int numaperf_peer_spawn(void *arg, uint32_t lane, numaperf_task_fn fn, void *task_arg)
{
    struct numaperf_state *state = arg;
    return numaperf_rt_spawn(state->rt, state->nodes[lane % state->node_count], fn, task_arg);
}

static int numaperf_peer_spawn_inside(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg)
{
    return numaperf_rt_spawn(numaperf_worker_rt(worker), NUMAPERF_NODE_LOCAL, fn, arg);
}

#define NUMAPERF_PEER(title, ...)                                                 \
    {                                                                             \
        .name = title, .ops = &(const struct numaperf_settings){__VA_ARGS__},     \
        .start = numaperf_peer_start, .spawn = numaperf_peer_spawn,               \
        .spawn_inside = numaperf_peer_spawn_inside, .loop = numaperf_worker_loop, \
        .stop = numaperf_peer_stop                                                \
    }

const struct bench_peer bench_numaperf = NUMAPERF_PEER("numaperf", .io_backend = NUMAPERF_IO_URING);
const struct bench_peer bench_numaperf_epoll =
    NUMAPERF_PEER("numaperf-epoll", .io_backend = NUMAPERF_IO_EPOLL);
const struct bench_peer bench_numaperf_calm =
    NUMAPERF_PEER("numaperf-calm", .io_backend = NUMAPERF_IO_URING, .spin_ns_max = UINT64_MAX);
const struct bench_peer bench_numaperf_local =
    NUMAPERF_PEER("numaperf-local", .steal_policy = NUMAPERF_STEAL_LOCAL_ONLY);
const struct bench_peer bench_numaperf_alone =
    NUMAPERF_PEER("numaperf-alone", .workers_per_node = 1);
const struct bench_peer bench_numaperf_unwatched =
    NUMAPERF_PEER("numaperf-unwatched", .stall_ms = UINT32_MAX);
const struct bench_peer bench_numaperf_watched =
    NUMAPERF_PEER("numaperf-watched", .stall_ms = NUMAPERF_STALL_MS, .snapshots = true);

/* ---- the other library ---- */

static const char *uncounted_missing(void)
{
    struct stat ours;
    struct stat other;
    if (stat(NUMAPERF_BENCH_UNCOUNTED, &other) < 0)
        return "numaperf_uncounted was not built";
    if (stat(NUMAPERF_BENCH_LIBRARY, &ours) < 0 || ours.st_mtim.tv_sec > other.st_mtim.tv_sec)
        return "numaperf_uncounted is older than the library";
    return NULL;
}

/* A function of it; its address has no portable way out of dlsym() but this one. */
static int uncounted_find(void *library, const char *name, void *out_function)
{
    void *address = dlsym(library, name);
    memcpy(out_function, &address, sizeof(address));
    return address != NULL ? 0 : -ENOSYS;
}

static int uncounted_start(const struct bench_peer *peer, const struct bench_setup *setup,
                           void **out_state)
{
    void *library = dlopen(NUMAPERF_BENCH_UNCOUNTED, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL || uncounted_find(library, "numaperf_rt_start", &uncounted.start) < 0 ||
        uncounted_find(library, "numaperf_rt_spawn", &uncounted.spawn) < 0 ||
        uncounted_find(library, "numaperf_rt_destroy", &uncounted.destroy) < 0)
        return -ENOSYS;
    return numaperf_peer_start(peer, setup, out_state);
}

static int uncounted_spawn(void *arg, uint32_t lane, numaperf_task_fn fn, void *task_arg)
{
    struct numaperf_state *state = arg;
    return uncounted.spawn(state->rt, state->nodes[lane % state->node_count], fn, task_arg);
}

static int uncounted_spawn_inside(numaperf_worker_t *worker, numaperf_task_fn fn, void *arg)
{
    return uncounted.spawn(numaperf_worker_rt(worker), NUMAPERF_NODE_LOCAL, fn, arg);
}

const struct bench_peer bench_numaperf_uncounted = {
    .name = "numaperf-uncounted",
    .missing = uncounted_missing,
    .ops = &(const struct numaperf_settings){.stall_ms = UINT32_MAX, .uncounted = true},
    .start = uncounted_start,
    .spawn = uncounted_spawn,
    .spawn_inside = uncounted_spawn_inside,
    .stop = numaperf_peer_stop,
};

numaperf_rt_t *bench_numaperf_rt(void *state)
{
    return ((struct numaperf_state *)state)->rt;
}

int bench_numaperf_layout(struct bench_setup *setup)
{
    void *arg = NULL;
    int rc = numaperf_peer_start(&bench_numaperf_epoll, setup, &arg);
    if (rc < 0)
        return rc;
    struct numaperf_state *state = arg;
    for (uint32_t i = 0; i < setup->node_count * setup->workers_per_node; i++)
        setup->cpus[i] = numaperf_worker_cpu(numaperf_rt_worker(state->rt, i));
    numaperf_peer_stop(state);
    return 0;
}
