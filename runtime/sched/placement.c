/* SPDX-License-Identifier: MIT */
/*
 * What a worker has, and whether it is where it should be: pin, memory policy, stack, arena, ring,
 * io-wq, in this order, so that everything the kernel allocates for the worker is allocated by a
 * thread that is already on its node. Each step is read back; its level is settled against the
 * mode, and the worker's own level is the lowest of them.
 *
 * Thread rule: on the worker's own thread, but for the stack, which must exist before it.
 */
#include "base/assert.h"
#include "base/error.h"
#include "io/loop.h"
#include "place/enforce.h"
#include "place/headroom.h"
#include "place/pin.h"
#include "place/region.h"
#include "sched/record.h"
#include "sched/sched.h"
#include "sched/timer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PLACEMENT_STACK_BYTES (2u << 20) /* thread sanitizer does not work with less */
#define PLACEMENT_CHUNK_BYTES (2u << 20) /* the arena's first */
/* Measured: ring, io-wq thread, kernel stack, page tables, and what PUs charge ahead. */
#define PLACEMENT_OTHER_BYTES (512u << 10)
#define PLACEMENT_IOWQ_WORKERS_MAX 4u

const char numaperf__unplaced_reason[] =
    "the topology is not this machine's: memory policy is not enforced";

/* Settle one step's level with the mode, and keep the lowest in the worker. */
static int placement_settle(struct numaperf_worker *worker, const numaperf_enforcement_t *found,
                            int sys_errno, const char *operation)
{
    numaperf_enforcement_t settled;
    int rc = numaperf__enforce_settle((numaperf_mode_t)worker->rt->config.mode, found, sys_errno,
                                      operation, &settled);
    if (rc == 0)
        numaperf__enforce_lower(&worker->enforcement, &settled);
    return rc;
}

/*
 * All workers populate at once, so each of them could find room that they do not all have. The node
 * is no matter here: what does not fit there spills, and is found.
 */
int numaperf__workers_check_room(const numaperf_rt_t *rt)
{
    char file[128];
    char nodes[48];
    numaperf_nodemask_t mask;
    numaperf_nodemask_zero(&mask);
    bool hard = rt->config.mode == NUMAPERF_MODE_HARD;
    uint64_t each = PLACEMENT_STACK_BYTES + PLACEMENT_OTHER_BYTES + numaperf__timers_bytes();
    if (hard && rt->config.huge_pages < NUMAPERF_HUGE_2MB) /* soft mode populates no arena */
        each += rt->config.arena_bytes < PLACEMENT_CHUNK_BYTES ? rt->config.arena_bytes
                                                               : PLACEMENT_CHUNK_BYTES;
    uint64_t need = each * rt->worker_count + NUMAPERF__HEADROOM_CGROUP_RESERVE;
    for (uint32_t i = 0; i < rt->node_count; i++)
        need += numaperf__layout_inbox_bytes(&rt->nodes[i]);
    uint64_t room = numaperf__headroom_cgroup(file, sizeof(file));
    if (room >= need)
        return 0;
    for (uint32_t i = 0; i < rt->node_count; i++)
        (void)numaperf_nodemask_add(&mask, rt->nodes[i].id); /* was in a mask before */
    if (numaperf_nodemask_format(&mask, nodes, sizeof(nodes)) < 0)
        (void)snprintf(nodes, sizeof(nodes), "?"); /* short of memory for a mere name */
    return numaperf__fail(hard ? NUMAPERF_E_HARD_MODE : -ENOMEM, ENOMEM, "headroom",
                          "node%s %s, %u workers: too little memory: %llu KiB needed, %llu KiB "
                          "left by the memory cgroup's %s",
                          rt->node_count > 1 ? "s" : "", nodes, rt->worker_count,
                          (unsigned long long)need / 1024, (unsigned long long)room / 1024, file);
}

int numaperf__worker_stack_create(struct numaperf_worker *worker)
{
    const numaperf_rt_t *rt = worker->rt;
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = PLACEMENT_STACK_BYTES;
    config.policy = NUMAPERF_MEM_BIND;
    config.mode = rt->config.mode;
    config.huge_pages = NUMAPERF_HUGE_NONE; /* a guard page splits a huge one anyway */
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    config.nodes = numaperf_nodemask_single(worker->node->id);
    const struct numaperf__region_extra extra = {
        .guard_bytes = (size_t)sysconf(_SC_PAGESIZE),
        .unplaced_reason = rt->placed ? NULL : numaperf__unplaced_reason,
    };
    int rc = numaperf__region_create(&config, &extra, &worker->stack);
    if (rc < 0)
        return rc;
    worker->stack_base = numaperf_region_data(worker->stack);
    worker->stack_length = numaperf_region_length(worker->stack);
    return 0;
}

static int placement_pin(struct numaperf_worker *worker)
{
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    int rc = numaperf_pin_to_cpu(worker->cpu, (numaperf_mode_t)worker->rt->config.mode, &pin);
    if (rc < 0)
        return rc;
    numaperf_enforcement_t found = pin.enforcement;
    int cpu = -1;
    int node = -1;
    rc = numaperf__current_cpu(&cpu, &node);
    if (!numaperf_is_strict(&found)) {
        /* Its reason says why already. */
    } else if (rc < 0) {
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "PU %d: the current PU cannot be read: %s", worker->cpu,
                              numaperf_strerror(rc));
    } else if (cpu != worker->cpu || (worker->rt->placed && node != worker->node->id)) {
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "pinned to PU %d of node %d, but running on PU %d of node %d",
                              worker->cpu, worker->node->id, cpu, node);
    } else if (worker->cpu_shared) {
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "PU %d is shared with another worker: node %d has too few",
                              worker->cpu, worker->node->id);
    }
    return placement_settle(worker, &found, rc < 0 ? -rc : 0, "pin");
}

static int placement_policy(struct numaperf_worker *worker)
{
    numaperf_enforcement_t found;
    int sys_errno = 0;
    if (worker->rt->placed)
        numaperf__mempolicy_prefer(worker->node->id, &found, &sys_errno);
    else
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_NONE, "%s", numaperf__unplaced_reason);
    return placement_settle(worker, &found, sys_errno, "set_mempolicy");
}

/* Where the stack is now: it was placed by the starter, and has been in use since. */
static int placement_stack(struct numaperf_worker *worker)
{
    numaperf_enforcement_t found = *numaperf_region_enforcement(worker->stack);
    int rc = 0;
    if (numaperf_is_strict(&found)) {
        numaperf_placement_t placement = NUMAPERF_PLACEMENT_INIT;
        rc = numaperf_region_audit(worker->stack, &placement);
        if (rc < 0)
            numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                                  "the stack's pages cannot be queried: %s", numaperf_strerror(rc));
        else
            numaperf__placement_level(&placement, worker->node->id, "stack", &found);
    }
    return placement_settle(worker, &found, rc < 0 ? -rc : 0, "stack");
}

static int placement_arena(struct numaperf_worker *worker)
{
    const numaperf_rt_t *rt = worker->rt;
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.flags = NUMAPERF_ARENA_HAS_NODE;
    config.node = worker->node->id;
    config.mode = rt->config.mode;
    config.huge_pages = rt->config.huge_pages;
    config.limit_bytes = rt->config.arena_bytes;
    config.chunk_bytes = PLACEMENT_CHUNK_BYTES;
    config.topology = rt->topology;
    int rc = numaperf_arena_create(&config, &worker->arena);
    if (rc < 0)
        return rc;
    numaperf__enforce_lower(&worker->enforcement, numaperf_arena_enforcement(worker->arena));
    return 0;
}

static int placement_ring_pages(struct numaperf_worker *worker)
{
    struct numaperf__ring *ring = numaperf__loop_ring(worker->loop);
    numaperf_enforcement_t found;
    numaperf_placement_t placement = NUMAPERF_PLACEMENT_INIT;
    int rc = 0;
    for (unsigned part = 0; part < 2 && rc == 0; part++) {
        if (numaperf__ring_memory(ring, part, &worker->ring_base[part], &worker->ring_length[part]))
            rc = numaperf__pages_query(worker->ring_base[part], worker->ring_length[part],
                                       &placement);
    }
    worker->ring_is_bound = numaperf__ring_is_bound(ring);
    if (!worker->rt->placed)
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_NONE, "%s", numaperf__unplaced_reason);
    else if (rc < 0)
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "the ring's pages cannot be queried: %s", numaperf_strerror(rc));
    else
        numaperf__placement_level(&placement, worker->node->id, "ring", &found);
    return placement_settle(worker, &found, rc < 0 ? -rc : 0, "ring");
}

static bool placement_within(const numaperf_cpuset_t *inner, const numaperf_cpuset_t *outer)
{
    numaperf_cpuset_t both;
    numaperf_cpuset_intersect(inner, outer, &both);
    return numaperf_cpuset_count(inner) > 0 && numaperf_cpuset_equal(inner, &both);
}

/*
 * Whether the io-wq thread that was forced into being stays on the node. From Linux 6.2 on it gets
 * what was registered intersected with this thread's own affinity, so not the whole node: any part
 * of the node is as good.
 */
static int placement_iowq(struct numaperf_worker *worker)
{
    numaperf_cpuset_t cpus;
    numaperf_cpuset_t actual;
    int thread_id = 0;
    numaperf_enforcement_t found;
    int rc = numaperf_topology_node_cpus(worker->rt->topology, worker->node->id, &cpus);
    if (rc == 0)
        rc = numaperf__ring_iowq_confine(numaperf__loop_ring(worker->loop), &cpus,
                                         PLACEMENT_IOWQ_WORKERS_MAX, &thread_id);
    numaperf__iowq_own_name(worker->iowq_name);
    if (rc == 0 && thread_id > 0) {
        (void)numaperf__iowq_name(thread_id, worker->iowq_name); /* in another pid namespace */
        rc = numaperf__affinity_get(thread_id, &actual);
    }
    if (rc < 0)
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "node %d: io-wq cannot be confined: %s%s", worker->node->id,
                              numaperf_strerror(rc),
                              rc == -EINVAL ? " (PUs of the node are outside the cpuset or "
                                              "offline, or the kernel is too old)"
                                            : "");
    else if (thread_id <= 0)
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "node %d: no io-wq thread to read back", worker->node->id);
    else if (!placement_within(&actual, &cpus))
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "node %d: io-wq thread %d runs elsewhere", worker->node->id,
                              thread_id);
    else
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_STRICT, "%s", "");
    return placement_settle(worker, &found, rc < 0 ? -rc : 0, "io-wq");
}

/* Whether the ring's poller is where it was asked to be; that there is none says the kernel. */
static int placement_sqpoll(struct numaperf_worker *worker)
{
    struct numaperf__ring_outcome made;
    numaperf__ring_get_outcome(numaperf__loop_ring(worker->loop), &made);
    numaperf_enforcement_t found;
    numaperf__enforce_set(&found, NUMAPERF_ENFORCE_STRICT, "%s", "");
    if (made.sqpoll < 0)
        numaperf__enforce_set(&found, NUMAPERF_ENFORCE_BEST_EFFORT,
                              "PU %d: the ring's poller was not made, or not seen there: %s",
                              worker->sqpoll_cpu, numaperf_strerror(made.sqpoll));
    return placement_settle(worker, &found, made.sqpoll < 0 ? -made.sqpoll : 0, "SQPOLL");
}

static int placement_loop(struct numaperf_worker *worker)
{
    const numaperf_rt_config_t *config = &worker->rt->config;
    const struct numaperf__loop_setup setup = {.backend = config->io_backend,
                                               .flags = config->io_flags,
                                               .buffer_bytes = config->buffer_bytes,
                                               .buffer_count = config->buffer_count,
                                               .wake = &worker->wake,
                                               .sqpoll_cpu = worker->sqpoll_cpu,
                                               .node = worker->node->id,
                                               .has_node = worker->rt->placed};
    int rc = numaperf__loop_create_hosted(&setup, &worker->loop);
    if (rc < 0)
        return rc;
    numaperf__loop_lend_arena(worker->loop, worker->arena);
    numaperf__loop_lend_cells(worker->loop, &worker->net_cells);
    worker->backend = numaperf_loop_backend(worker->loop);
    const char *reason = numaperf_loop_backend_reason(worker->loop);
    (void)snprintf(worker->backend_reason, sizeof(worker->backend_reason), "%s",
                   reason != NULL ? reason : "");
    if (worker->backend == NUMAPERF_IO_URING) {
        rc = placement_iowq(worker); /* before any other request */
        if (rc == 0 && (config->io_flags & NUMAPERF_LOOP_SQPOLL) != 0)
            rc = placement_sqpoll(worker);
        if (rc == 0)
            rc = placement_ring_pages(worker);
    }
    /* Kept: who attests asks when the loop may be gone. */
    worker->features = (numaperf_loop_features_t)NUMAPERF_LOOP_FEATURES_INIT;
    if (rc == 0)
        rc = numaperf_loop_features(worker->loop, &worker->features);
    return rc;
}

/* Whose step failed: each record of a refusal names worker, PU and node. */
static int placement_name(const struct numaperf_worker *worker)
{
    numaperf_error_t named = *numaperf_last_error();
    const char *reason = numaperf_last_error()->reason;
    int n = snprintf(named.reason, sizeof(named.reason),
                     "worker %u (PU %d, node %d): ", worker->index, worker->cpu, worker->node->id);
    NUMAPERF_ASSERT(n > 0 && (size_t)n < sizeof(named.reason));
    /* One that is too long loses its end: what failed where stands at its start. */
    size_t room = sizeof(named.reason) - (size_t)n - 1;
    size_t length = strnlen(reason, room);
    memcpy(named.reason + n, reason, length);
    named.reason[(size_t)n + length] = '\0';
    return numaperf__fail_copy(&named);
}

int numaperf__worker_place(struct numaperf_worker *worker)
{
    numaperf__enforce_set(&worker->enforcement, NUMAPERF_ENFORCE_STRICT, "%s", "");
    int rc = placement_pin(worker);
    if (rc == 0)
        rc = placement_policy(worker);
    if (rc == 0)
        rc = placement_stack(worker);
    if (rc == 0)
        rc = placement_arena(worker);
    if (rc == 0)
        rc = placement_loop(worker);
    /* The queues were placed, and in hard mode proven to be, before there was a thread. */
    numaperf__enforce_lower(&worker->enforcement,
                            numaperf_region_enforcement(worker->node->places));
    numaperf__enforce_lower(&worker->enforcement,
                            numaperf_region_enforcement(worker->node->timers));
    NUMAPERF_ASSERT(rc < 0 || worker->rt->config.mode != NUMAPERF_MODE_HARD ||
                    numaperf_is_strict(&worker->enforcement));
    return rc < 0 ? placement_name(worker) : 0;
}

void numaperf__worker_stack_range(const struct numaperf_worker *worker,
                                  struct numaperf__audit_range *out)
{
    numaperf__audit_range_of(worker->stack, out);
    /* What the thread uses, without the guard. */
    out->range.base = (char *)worker->stack_base;
    out->range.length = worker->stack_length;
}

size_t numaperf__worker_queue_ranges(const struct numaperf_worker *worker,
                                     struct numaperf__audit_range out[NUMAPERF__QUEUE_RANGES_MAX])
{
    const struct numaperf__node *node = worker->node;
    if (worker->index != node->first_worker)
        return 0;
    numaperf__audit_range_of(node->places, &out[0]);
    numaperf__audit_range_of(node->timers, &out[1]);
    return 2 + numaperf__records_ranges(node->records, &out[2], NUMAPERF__QUEUE_RANGES_MAX - 2);
}

size_t numaperf__worker_ring_ranges(const struct numaperf_worker *worker,
                                    struct numaperf__audit_range out[2])
{
    size_t page = numaperf__page_bytes();
    size_t count = 0;
    for (unsigned part = 0; part < 2; part++) {
        if (worker->ring_length[part] == 0)
            continue;
        uintptr_t first = (uintptr_t)worker->ring_base[part] / page * page;
        uintptr_t end = (uintptr_t)worker->ring_base[part] + worker->ring_length[part];
        out[count].range.base = (char *)first;
        out[count].range.length = (end - first + page - 1) / page * page;
        out[count].range.page_bytes = page;
        /* Else allocated by the kernel when the ring was set up. */
        out[count].is_bound = worker->ring_is_bound;
        count++;
    }
    return count;
}

void numaperf__worker_unplace(struct numaperf_worker *worker)
{
    numaperf__loop_close_hosted(worker->loop);
    worker->loop = NULL;
}
