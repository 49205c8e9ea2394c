/* SPDX-License-Identifier: MIT */
#include "attest_check.h"

#include "support/attest_view.h"
#include "support/witness.h"

#include "place/arena_chunk.h"
#include "sched/sched.h"

#include <numaperf/version.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

/* Pages of a stretch: all, on the node, and nowhere; added up. */
struct page_count {
    size_t pages;
    size_t home;
    size_t absent;
};

static void count_pages(const void *base, size_t length, int node, struct page_count *io)
{
    size_t counts[VIEW_NODES + 1];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)base / page * page;
    size_t whole = (uintptr_t)base + length - first;
    assert_true(view_pages((const void *)first, whole, counts));
    io->pages += (whole + page - 1) / page;
    io->home += counts[node];
    io->absent += counts[VIEW_NODES];
}

static struct page_count pages_of(const struct numaperf_worker *worker, const char *part)
{
    struct page_count count = {0, 0, 0};
    int node = worker->node->id;
    if (strcmp(part, "stack") == 0)
        count_pages(worker->stack_base, worker->stack_length, node, &count);
    const numaperf_region_t *tasks[] = {worker->node->places, worker->node->timers};
    bool shown = strcmp(part, "queues") == 0 && worker->index == worker->node->first_worker;
    for (int i = 0; i < 2 && shown; i++)
        count_pages(numaperf_region_data(tasks[i]), numaperf_region_length(tasks[i]), node, &count);
    for (int i = 0; i < 2 && strcmp(part, "ring") == 0; i++) {
        if (worker->ring_length[i] > 0)
            count_pages(worker->ring_base[i], worker->ring_length[i], node, &count);
    }
    if (strcmp(part, "arena") != 0)
        return count;
    const struct numaperf__list *head = &worker->arena->chunks; /* nobody allocates meanwhile */
    for (const struct numaperf__list *at = head->next; at != head; at = at->next) {
        const struct numaperf__arena_chunk *chunk =
            NUMAPERF_CONTAINER_OF(at, struct numaperf__arena_chunk, link);
        count_pages(chunk->base, chunk->length, node, &count);
    }
    return count;
}

void check_pages(json_t *root, const struct numaperf_worker *worker, const char *part)
{
    struct page_count count = pages_of(worker, part);
    json_t *last = at_path(root, "workers/%u/parts/%s/last", worker->index, part);
    if (count.pages == 0) {
        assert_true(verdict_is(root, worker->index, part, "last", "no_part"));
        return;
    }
    if (strcmp(text_of(at_path(last, "verdict")), "unreadable") == 0) {
        assert_int_equal(count.absent, count.pages);
        return;
    }
    assert_int_equal(number_of(at_path(last, "pages")), count.pages);
    assert_int_equal(number_of(at_path(last, "pages_home")), count.home);
    assert_int_equal(number_of(at_path(last, "pages_absent")), count.absent);
    if (count.home + count.absent < count.pages)
        assert_true(verdict_is(root, worker->index, part, "last", "drifted"));
}

static void check_thread(json_t *root, const struct numaperf_worker *worker)
{
    int thread_id = (int)number_of(at_path(root, "workers/%u/thread_id", worker->index));
    numaperf_cpuset_t cpus;
    char policy[64];
    char wanted[64];
    assert_int_equal(thread_id, numaperf_worker_thread_id(worker));
    assert_true(witness_task_cpus(0, thread_id, &cpus));
    bool pinned = numaperf_cpuset_count(&cpus) == 1 &&
                  numaperf_cpuset_contains(&cpus, numaperf_worker_cpu(worker));
    assert_true(verdict_is(root, worker->index, "affinity", "last", pinned ? "home" : "drifted"));

    assert_true(witness_task_policy(0, thread_id, policy));
    (void)snprintf(wanted, sizeof(wanted), "prefer:%d", numaperf_worker_node(worker));
    if (policy[0] == '\0') { /* this kernel does not tell */
        assert_true(verdict_is(root, worker->index, "memory policy", "last", "unreadable"));
        return;
    }
    json_t *part = at_path(root, "workers/%u/parts/memory policy", worker->index);
    assert_string_equal(text_of(at_path(part, "asked")), wanted);
    assert_string_equal(text_of(at_path(part, "last/found")), policy);
    bool preferred = strcmp(policy, wanted) == 0;
    assert_string_equal(text_of(at_path(part, "last/verdict")), preferred ? "home" : "drifted");
}

static void check_worker(json_t *root, const struct numaperf_worker *worker)
{
    json_t *said = at_path(root, "workers/%u", worker->index);
    numaperf_cpuset_t cpus;
    size_t outside = 0;
    assert_int_equal(number_of(at_path(said, "index")), worker->index);
    assert_int_equal(number_of(at_path(said, "node")), numaperf_worker_node(worker));
    assert_int_equal(number_of(at_path(said, "pu")), numaperf_worker_cpu(worker));
    assert_int_equal(witness_node_of_cpu(numaperf_worker_cpu(worker)),
                     numaperf_worker_node(worker));
    assert_int_equal(json_array_size(at_path(said, "parts")), PARTS);
    assert_string_equal(text_of(at_path(said, "enforcement/level")),
                        numaperf_enforcement_level_name(worker->enforcement.level));
    check_thread(root, worker);
    check_pages(root, worker, "stack");
    check_pages(root, worker, "arena");
    check_pages(root, worker, "queues");
    check_pages(root, worker, "ring");
    witness_node_cpus(numaperf_worker_node(worker), &cpus);
    (void)witness_iowq(worker->thread_id, &cpus, &outside);
    if (outside > 0)
        assert_true(verdict_is(root, worker->index, "io-wq", "last", "drifted"));
}

/* The number in a file of /proc/sys/kernel, or that this kernel has none. */
static void check_setting(json_t *root, const char *name)
{
    char path[64];
    char text[64];
    json_t *said = at_path(root, "kernel/%s", name);
    (void)snprintf(path, sizeof(path), "/proc/sys/kernel/%s", name);
    if (view_text(path, text, sizeof(text))) {
        assert_int_equal(number_of(at_path(said, "value")), strtoull(text, NULL, 10));
        assert_true(json_is_null(at_path(said, "errno")));
        return;
    }
    assert_true(json_is_null(at_path(said, "value")));
    assert_string_equal(text_of(at_path(said, "errno")), "ENOENT");
}

static void check_host(json_t *root)
{
    struct utsname name;
    char text[16384];
    assert_int_equal(uname(&name), 0);
    assert_string_equal(text_of(at_path(root, "schema")), "numaperf.attestation.v1");
    assert_string_equal(text_of(at_path(root, "numaperf")), numaperf_version_string());
    assert_string_equal(text_of(at_path(root, "host/machine")), name.machine);
    assert_string_equal(text_of(at_path(root, "host/kernel")), name.release);
    assert_true(view_text("/proc/sys/kernel/random/boot_id", text, sizeof(text)));
    text[strcspn(text, "\n")] = '\0';
    assert_string_equal(text_of(at_path(root, "host/boot_id")), text);
    check_setting(root, "numa_balancing");
    check_setting(root, "io_uring_disabled");
    assert_int_equal(number_of(at_path(root, "process/pid")), getpid());
    assert_int_equal(number_of(at_path(root, "process/uid")), geteuid());
    assert_int_equal(strtoull(text_of(at_path(root, "process/capabilities_effective")), NULL, 16),
                     witness_capabilities());
    numaperf_nodemask_t said;
    numaperf_nodemask_t found;
    view_list("/proc/self/status", "\nMems_allowed_list:", &found);
    assert_int_equal(numaperf_nodemask_parse(text_of(at_path(root, "process/mems_allowed")), &said),
                     0);
    assert_true(numaperf_nodemask_equal(&said, &found));
}

/* What the cgroup allows is what the kernel lets this process have, or more PUs than its affinity.
 */
static void check_cpuset(json_t *root)
{
    json_t *cpuset = at_path(root, "process/cgroup_cpuset");
    numaperf_nodemask_t mems;
    numaperf_nodemask_t found;
    numaperf_cpuset_t cpus;
    if (json_is_null(at_path(cpuset, "cpus_effective")))
        return; /* no cgroups */
    assert_int_equal(numaperf_cpuset_parse(text_of(at_path(cpuset, "cpus_effective")), &cpus), 0);
    assert_int_equal(numaperf_nodemask_parse(text_of(at_path(cpuset, "mems_effective")), &mems), 0);
    view_list("/proc/self/status", "\nMems_allowed_list:", &found);
    numaperf_nodemask_intersect(&found, &witness_memory, &found);
    numaperf_nodemask_intersect(&mems, &witness_memory, &mems);
    assert_true(numaperf_nodemask_equal(&mems, &found));
    numaperf_cpuset_intersect(&cpus, &witness_allowed, &cpus);
    assert_true(numaperf_cpuset_equal(&cpus, &witness_allowed));
}

static void check_node(json_t *root, size_t index, const numaperf_nodemask_t *nodes)
{
    json_t *node = at_path(root, "topology/nodes/%zu", index);
    int id = (int)number_of(at_path(node, "node"));
    numaperf_cpuset_t said;
    numaperf_cpuset_t found;
    assert_true(numaperf_nodemask_contains(nodes, id));
    assert_int_equal(numaperf_cpuset_parse(text_of(at_path(node, "pus")), &said), 0);
    witness_node_cpus(id, &found);
    assert_true(numaperf_cpuset_equal(&said, &found));
    assert_int_equal(number_of(at_path(node, "memory_bytes")) > 0,
                     numaperf_nodemask_contains(&witness_memory, id));
    json_t *distances = at_path(node, "distances");
    size_t to = 0;
    json_t *distance = NULL;
    json_array_foreach(distances, to, distance)
    {
        int other = (int)number_of(at_path(root, "topology/nodes/%zu/node", to));
        if (witness_distance(id, other) > 0)
            assert_int_equal(number_of(distance), witness_distance(id, other));
    }
}

static void check_topology(json_t *root)
{
    json_t *nodes = at_path(root, "topology/nodes");
    assert_true(json_is_true(at_path(root, "topology/this_machine")));
    assert_int_equal(json_array_size(nodes), numaperf_nodemask_count(&witness_nodes));
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        assert_int_equal(json_array_size(at_path(root, "topology/nodes/%zu/distances", i)),
                         json_array_size(nodes));
        check_node(root, i, &witness_nodes);
    }
}

static void check_times(json_t *root)
{
    const char *began = text_of(at_path(root, "time/began"));
    const char *ended = text_of(at_path(root, "time/ended"));
    for (uint32_t i = 0; i < json_array_size(at_path(root, "workers")); i++) {
        for (uint32_t part = 0; part < PARTS; part++) {
            json_t *looks = at_path(root, "workers/%u/parts/%u", i, part);
            /* Of one format and length, in UTC: text compares as times do. */
            const char *last = text_of(at_path(looks, "last/time"));
            assert_true(strcmp(text_of(at_path(looks, "at_start/time")), began) <= 0);
            assert_true(strcmp(began, last) <= 0);
            assert_true(strcmp(last, ended) <= 0);
        }
    }
}

void check_document(numaperf_rt_t *rt)
{
    json_t *root = attest(rt);
    size_t count = numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    check_host(root);
    check_cpuset(root);
    check_topology(root);
    check_times(root);
    assert_int_equal(json_array_size(at_path(root, "workers")), count);
    for (uint32_t i = 0; i < count; i++)
        check_worker(root, numaperf_rt_worker(rt, i));
    json_decref(root);
}
