/* SPDX-License-Identifier: MIT */
/*
 * Which nodes a runtime has, and which PU each worker gets: read from the topology once, before
 * any thread exists, and constant afterwards. Nodes are indexed in ascending order of their OS
 * ids, which may have holes; nothing is indexed by OS id but rt->node_index. Workers of one node
 * are neighbours.
 *
 * PUs are given out core by core: first one PU of each core, then the others.
 */
#include "base/assert.h"
#include "base/error.h"
#include "place/headroom.h"
#include "place/region.h"
#include "sched/sched.h"
#include "sched/timer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LAYOUT_WORKERS_MAX 8192u
/* Places of the queues of one priority; more tasks wait in ordinary memory. */
#define LAYOUT_INBOX_NODE 4096u
#define LAYOUT_INBOX_WORKER 512u
#define LAYOUT_DEQUE 1024u

/* A cause in a reason, with a list of PUs. */
struct layout_cause {
    char text[128];
};

/* ---- nodes ---- */

/* Which online PUs of a node are kept from us, in words for the end of a reason. */
static struct layout_cause layout_missing_cpus(const numaperf_rt_t *rt, int node,
                                               const numaperf_cpuset_t *usable)
{
    struct layout_cause cause = {""};
    numaperf_cpuset_t online;
    numaperf_cpuset_zero(&online);
    if (rt->placed) /* of another machine this kernel knows nothing */
        numaperf__node_cpus_online(node, &online);
    for (int cpu = numaperf_cpuset_next(usable, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(usable, cpu))
        numaperf_cpuset_remove(&online, cpu);
    if (numaperf_cpuset_count(&online) == 0)
        return cause;
    char list[64];
    if (numaperf_cpuset_format(&online, list, sizeof(list)) < 0)
        (void)snprintf(list, sizeof(list), "?"); /* short of memory for a mere name */
    (void)snprintf(cause.text, sizeof(cause.text),
                   ": the cpuset or affinity of this process excludes PUs %s", list);
    return cause;
}

static int layout_no_memory(const numaperf_rt_t *rt, int node)
{
    numaperf_nodemask_t with_memory;
    bool excluded = rt->placed && numaperf__nodes_with_memory(&with_memory) == 0 &&
                    numaperf_nodemask_contains(&with_memory, node);
    return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "start", "node %d has no %s", node,
                          excluded ? "usable memory: the cpuset of this process excludes it"
                                   : "memory");
}

static int layout_check_node(const numaperf_rt_t *rt, int node)
{
    numaperf_cpuset_t cpus;
    int rc = numaperf_topology_node_cpus(rt->topology, node, &cpus);
    if (rc == NUMAPERF_E_NO_NODE)
        return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "start", "node %d does not exist", node);
    if (rc < 0)
        return rc;
    if (numaperf_cpuset_count(&cpus) == 0)
        return numaperf__fail(NUMAPERF_E_NO_NODE, 0, "start", "node %d has no usable PUs%s", node,
                              layout_missing_cpus(rt, node, &cpus).text);
    if (numaperf_topology_node_memory_bytes(rt->topology, node) == 0)
        return layout_no_memory(rt, node);
    return 0;
}

static int layout_choose_nodes(const numaperf_rt_t *rt, numaperf_nodemask_t *out)
{
    if (numaperf_nodemask_count(&rt->config.nodes) == 0)
        return numaperf_topology_usable_nodes(rt->topology, out);
    *out = rt->config.nodes;
    for (int node = numaperf_nodemask_next(out, -1); node >= 0;
         node = numaperf_nodemask_next(out, node)) {
        int rc = layout_check_node(rt, node);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int layout_worker_total(const numaperf_rt_t *rt, const numaperf_nodemask_t *nodes,
                               uint32_t *out_total)
{
    uint64_t total = 0;
    for (int node = numaperf_nodemask_next(nodes, -1); node >= 0;
         node = numaperf_nodemask_next(nodes, node)) {
        numaperf_cpuset_t cores;
        int rc = numaperf_topology_node_cores(rt->topology, node, &cores);
        if (rc < 0)
            return rc;
        total += rt->config.workers_per_node != 0 ? rt->config.workers_per_node
                                                  : (uint32_t)numaperf_cpuset_count(&cores);
    }
    if (total > LAYOUT_WORKERS_MAX)
        return numaperf__fail(
            -EINVAL, 0, "start", "workers_per_node %u makes %llu workers, above the limit of %u",
            rt->config.workers_per_node, (unsigned long long)total, LAYOUT_WORKERS_MAX);
    *out_total = (uint32_t)total;
    return 0;
}

/* ---- PUs ---- */

/* The PUs of a node in the order they are given out; returns how many. */
static int layout_cpu_order(const numaperf_rt_t *rt, int node, int32_t *out_cpus, int *out_count)
{
    numaperf_cpuset_t cpus;
    numaperf_cpuset_t cores;
    int rc = numaperf_topology_node_cpus(rt->topology, node, &cpus);
    if (rc == 0)
        rc = numaperf_topology_node_cores(rt->topology, node, &cores);
    if (rc < 0)
        return rc;
    int count = 0;
    for (int cpu = numaperf_cpuset_next(&cores, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&cores, cpu))
        out_cpus[count++] = cpu;
    for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&cpus, cpu)) {
        if (!numaperf_cpuset_contains(&cores, cpu))
            out_cpus[count++] = cpu;
    }
    NUMAPERF_ASSERT(count == numaperf_cpuset_count(&cpus));
    *out_count = count;
    return 0;
}

static int layout_node_workers(numaperf_rt_t *rt, struct numaperf__node *node, int32_t *cpus)
{
    int cpu_count = 0;
    int rc = layout_cpu_order(rt, node->id, cpus, &cpu_count);
    if (rc < 0)
        return rc;
    numaperf_cpuset_t cores;
    rc = numaperf_topology_node_cores(rt->topology, node->id, &cores);
    if (rc < 0)
        return rc;
    node->worker_count = rt->config.workers_per_node != 0 ? rt->config.workers_per_node
                                                          : (uint32_t)numaperf_cpuset_count(&cores);
    if (rt->config.mode == NUMAPERF_MODE_HARD && node->worker_count > (uint32_t)cpu_count) {
        numaperf_cpuset_t usable;
        rc = numaperf_topology_node_cpus(rt->topology, node->id, &usable);
        NUMAPERF_ASSERT(rc == 0); /* as a moment ago */
        return numaperf__fail(NUMAPERF_E_HARD_MODE, 0, "start",
                              "node %d has %d usable PUs, %u workers need one each%s", node->id,
                              cpu_count, node->worker_count,
                              layout_missing_cpus(rt, node->id, &usable).text);
    }
    NUMAPERF_ASSERT(cpu_count > 0); /* the node was chosen for having usable PUs */
    for (uint32_t i = 0; i < node->worker_count; i++) {
        struct numaperf_worker *worker = &rt->workers[node->first_worker + i];
        worker->rt = rt;
        worker->node = node;
        worker->index = node->first_worker + i;
        worker->cpu = cpus[i % (uint32_t)cpu_count];
        /* The first round has company when a second one comes to the same PU. */
        worker->cpu_shared =
            i >= (uint32_t)cpu_count || i + (uint32_t)cpu_count < node->worker_count;
    }
    return 0;
}

/* ---- whole ---- */

static void *layout_alloc(size_t count, size_t size)
{
    size_t bytes = count * size; /* both are bounded */
    void *memory = aligned_alloc(NUMAPERF_CACHE_LINE, bytes);
    if (memory != NULL)
        memset(memory, 0, bytes);
    return memory;
}

static int layout_fill(numaperf_rt_t *rt, const numaperf_nodemask_t *nodes)
{
    int32_t *cpus = calloc(NUMAPERF_CPU_MAX, sizeof(*cpus));
    if (cpus == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for the list of PUs");
    uint32_t index = 0;
    uint32_t first_worker = 0;
    int rc = 0;
    for (int id = numaperf_nodemask_next(nodes, -1); id >= 0 && rc == 0;
         id = numaperf_nodemask_next(nodes, id)) {
        struct numaperf__node *node = &rt->nodes[index];
        node->rt = rt;
        node->id = id;
        node->index = index;
        node->first_worker = first_worker;
        rt->node_index[id] = (int16_t)index;
        rc = layout_node_workers(rt, node, cpus);
        first_worker += node->worker_count;
        index++;
    }
    free(cpus);
    NUMAPERF_ASSERT(rc < 0 || first_worker == rt->worker_count);
    return rc < 0 ? rc : numaperf__pairs_create(rt);
}

static uint64_t layout_node_bytes(void)
{
    return UINT64_C(2) * NUMAPERF__PRIORITIES * LAYOUT_INBOX_NODE * sizeof(struct numaperf__slot);
}

static uint64_t layout_worker_bytes(void)
{
    return NUMAPERF__PRIORITIES * (LAYOUT_INBOX_WORKER * (uint64_t)sizeof(struct numaperf__slot) +
                                   LAYOUT_DEQUE * (uint64_t)sizeof(struct numaperf__deque_slot));
}

uint64_t numaperf__layout_inbox_bytes(const struct numaperf__node *node)
{
    return layout_node_bytes() + node->worker_count * layout_worker_bytes();
}

/* Tasks that a node's queues hold before any waits elsewhere. */
static uint64_t layout_places(const struct numaperf__node *node)
{
    return NUMAPERF__PRIORITIES *
           (UINT64_C(2) * LAYOUT_INBOX_NODE +
            (uint64_t)node->worker_count * (LAYOUT_INBOX_WORKER + LAYOUT_DEQUE));
}

/* Take that much from what is left of the node's memory. */
static void *layout_carve(char **at, uint64_t bytes)
{
    void *taken = *at;
    *at += bytes;
    return taken;
}

static void layout_carve_inbox(struct numaperf__inbox *inbox, char **at, uint32_t places,
                               const struct numaperf__node *node)
{
    struct numaperf__slot *slots = layout_carve(at, places * sizeof(*slots));
    numaperf__inbox_init(inbox, slots, places, node->index);
}

static void layout_carve_worker(struct numaperf_worker *worker, char **at)
{
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        layout_carve_inbox(&worker->bound[p], at, LAYOUT_INBOX_WORKER, worker->node);
        struct numaperf__deque_slot *slots = layout_carve(at, LAYOUT_DEQUE * sizeof(*slots));
        numaperf__deque_init(&worker->local[p], slots, LAYOUT_DEQUE);
    }
}

/* The rings of a node's inboxes, in memory on the node: whose workers read them. */
static int layout_inboxes(numaperf_rt_t *rt, struct numaperf__node *node)
{
    node->limit_is_tight = layout_places(node) > rt->config.task_limit_per_node;
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = numaperf__layout_inbox_bytes(node);
    config.policy = NUMAPERF_MEM_BIND;
    config.mode = rt->config.mode;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    config.nodes = numaperf_nodemask_single(node->id);
    const struct numaperf__region_extra extra = {.unplaced_reason =
                                                     rt->placed ? NULL : numaperf__unplaced_reason};
    int rc = numaperf__region_create(&config, &extra, &node->places);
    if (rc < 0)
        return rc;
    char *at = numaperf_region_data(node->places);
    for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
        layout_carve_inbox(&node->unbound[p], &at, LAYOUT_INBOX_NODE, node);
        layout_carve_inbox(&node->fixed[p], &at, LAYOUT_INBOX_NODE, node);
    }
    for (uint32_t i = 0; i < node->worker_count; i++)
        layout_carve_worker(&rt->workers[node->first_worker + i], &at);
    NUMAPERF_ASSERT(at == (char *)numaperf_region_data(node->places) + config.length);
    return 0;
}

static int layout_wakes(numaperf_rt_t *rt)
{
    for (uint32_t i = 0; i < rt->worker_count; i++) {
        int rc = numaperf__wake_init(&rt->workers[i].wake);
        if (rc < 0)
            return numaperf__fail(rc, -rc, "eventfd", "no descriptor for the wakes of worker %u",
                                  i);
    }
    return 0;
}

int numaperf__layout_create(numaperf_rt_t *rt)
{
    numaperf_nodemask_t nodes;
    int rc = layout_choose_nodes(rt, &nodes);
    if (rc == 0)
        rc = layout_worker_total(rt, &nodes, &rt->worker_count);
    if (rc < 0)
        return rc;

    memset(rt->node_index, 0xff, sizeof(rt->node_index)); /* -1 everywhere */
    rt->node_count = (uint32_t)numaperf_nodemask_count(&nodes);
    rt->nodes = layout_alloc(rt->node_count, sizeof(*rt->nodes));
    rt->workers = layout_alloc(rt->worker_count, sizeof(*rt->workers));
    if (rt->nodes == NULL || rt->workers == NULL) {
        rc = numaperf__fail(-ENOMEM, ENOMEM, "start", "no memory for %u workers", rt->worker_count);
        rt->worker_count = 0;
        goto undo;
    }
    for (uint32_t i = 0; i < rt->worker_count; i++)
        rt->workers[i].wake.fd = -1;
    rc = layout_fill(rt, &nodes);
    if (rc == 0)
        rc = layout_wakes(rt);
    if (rc == 0)
        return 0;
undo:
    numaperf__layout_destroy(rt);
    return rc;
}

int numaperf__layout_inboxes(numaperf_rt_t *rt)
{
    int rc = 0;
    for (uint32_t i = 0; i < rt->node_count && rc == 0; i++)
        rc = layout_inboxes(rt, &rt->nodes[i]);
    return rc < 0 ? rc : numaperf__timers_init(rt);
}

void numaperf__layout_destroy(numaperf_rt_t *rt)
{
    for (uint32_t i = 0; rt->workers != NULL && i < rt->worker_count; i++) {
        numaperf__wake_fini(&rt->workers[i].wake);
        numaperf_arena_destroy(rt->workers[i].arena);
        numaperf__take_fini(&rt->workers[i]);
        for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++)
            numaperf__inbox_fini(&rt->workers[i].bound[p]);
    }
    for (uint32_t i = 0; rt->nodes != NULL && i < rt->node_count; i++) {
        for (uint32_t p = 0; p < NUMAPERF__PRIORITIES; p++) {
            numaperf__inbox_fini(&rt->nodes[i].unbound[p]);
            numaperf__inbox_fini(&rt->nodes[i].fixed[p]);
        }
        numaperf_region_destroy(rt->nodes[i].places);
    }
    numaperf__timers_fini(rt);
    numaperf__pairs_destroy(rt);
    free(rt->nodes);
    free(rt->workers);
    rt->nodes = NULL;
    rt->workers = NULL;
    rt->worker_count = 0;
    rt->node_count = 0;
}

size_t numaperf_rt_worker_count(const numaperf_rt_t *rt, int node)
{
    if (rt == NULL)
        return 0;
    if (node == NUMAPERF_NODE_ANY)
        return rt->worker_count;
    if (node < 0 || node >= NUMAPERF_NODE_MAX || rt->node_index[node] < 0)
        return 0;
    return rt->nodes[rt->node_index[node]].worker_count;
}
