/* SPDX-License-Identifier: MIT */
/*
 * A runtime against an independent witness (support/witness.h). What must happen is derived from
 * the surroundings: capabilities, kernel.numa_balancing, cpuset, whether rings are allowed. So one
 * program is run again under each of them: hard mode then starts with every page and thread at
 * home, or is refused for the right cause; soft mode starts with what there is.
 */
#include <numaperf/error.h>
#include <numaperf/runtime.h>

#include "support/census.h"
#include "support/clock.h"
#include "support/runtimes.h"
#include "support/witness.h"

#include <errno.h>
#include <linux/capability.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <cmocka.h>

#define SEATS_MAX 64
#define SMALL_BYTES ((size_t)16 << 10) /* from a chunk */
#define LARGE_BYTES ((size_t)2 << 20)  /* a region of its own */
#define PLAIN_BYTES ((size_t)64 << 10)
#define CAPABILITY(number) (UINT64_C(1) << (number))

/* ---- what a worker's own thread says of itself ---- */

struct seat {
    int task;
    unsigned cpu;
    unsigned node;
    const void *frame; /* on its stack */
    char *small;       /* of its arena */
    char *large;
    char *plain; /* mapped and touched by it, placed by nobody */
    atomic_int *taken;
};

static void take_seat(numaperf_worker_t *worker, void *arg)
{
    struct seat *seat = arg;
    numaperf_arena_t *arena = numaperf_worker_arena(worker);
    seat->task = (int)syscall(SYS_gettid);
    (void)syscall(SYS_getcpu, &seat->cpu, &seat->node, NULL);
    seat->frame = __builtin_frame_address(0); /* a sanitizer may have locals elsewhere */
    seat->small = numaperf_arena_alloc(arena, SMALL_BYTES, 4096);
    seat->large = numaperf_arena_alloc(arena, LARGE_BYTES, 4096);
    void *plain =
        mmap(NULL, PLAIN_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    seat->plain = plain != MAP_FAILED ? plain : NULL;
    if (seat->small != NULL && seat->large != NULL && seat->plain != NULL) {
        memset(seat->small, 1, SMALL_BYTES);
        memset(seat->large, 1, LARGE_BYTES);
        memset(seat->plain, 1, PLAIN_BYTES);
    }
    (void)atomic_fetch_add(seat->taken, 1);
}

struct room {
    numaperf_rt_t *rt;
    struct seat seats[SEATS_MAX];
    uint32_t count;
    atomic_int taken;
};

static void room_fill(struct room *room, numaperf_rt_t *rt)
{
    memset(room, 0, sizeof(*room));
    room->rt = rt;
    room->count = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    assert_in_range(room->count, 1, SEATS_MAX);
    for (uint32_t i = 0; i < room->count; i++) {
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)i;
        room->seats[i].taken = &room->taken;
        assert_int_equal(numaperf_rt_spawn_with(rt, &options, take_seat, &room->seats[i]), 0);
    }
    assert_true(runtime_reaches(&room->taken, (int)room->count));
}

static void room_empty(struct room *room)
{
    for (uint32_t i = 0; i < room->count; i++) {
        numaperf_arena_t *arena = numaperf_worker_arena(numaperf_rt_worker(room->rt, i));
        numaperf_arena_free(arena, room->seats[i].small);
        numaperf_arena_free(arena, room->seats[i].large);
        assert_int_equal(munmap(room->seats[i].plain, PLAIN_BYTES), 0);
    }
}

/* ---- the witness on a worker ---- */

static void check_thread(const struct seat *seat, int node, bool may_balance)
{
    numaperf_cpuset_t mask;
    char policy[64];
    char wanted[64];
    assert_true(witness_task_cpus(0, seat->task, &mask));
    assert_int_equal(numaperf_cpuset_count(&mask), 1);
    assert_true(numaperf_cpuset_contains(&mask, (int)seat->cpu));
    assert_int_equal(witness_node_of_cpu((int)seat->cpu), node);
    assert_int_equal(seat->node, node);
    assert_true(witness_task_policy(0, seat->task, policy));
    (void)snprintf(wanted, sizeof(wanted), "prefer:%d", node);
    if (policy[0] != '\0')
        assert_string_equal(policy, wanted);
    /* Balancing moves what is not bound. */
    if (!may_balance)
        assert_true(witness_all_on(seat->plain, PLAIN_BYTES, node));
}

/* The whole mapping that an address is in. In hard mode all of it is populated. */
static void check_mapping(const void *address, int node, bool is_hard, size_t wanted)
{
    struct witness_mapping mapping;
    char policy[64];
    assert_true(witness_mapping(address, &mapping));
    assert_string_equal(mapping.access, "rw-p");
    (void)snprintf(policy, sizeof(policy), "bind:%d", node);
    if (mapping.policy[0] != '\0')
        assert_string_equal(mapping.policy, policy);
    const void *base = (const void *)mapping.from;
    size_t length = mapping.to - mapping.from;
    if (is_hard)
        assert_true(witness_all_on(base, length, node));
    assert_true(witness_none_elsewhere(base, length, node, wanted));
}

static void check_stack(const struct seat *seat, int node, bool is_hard)
{
    struct witness_mapping mapping;
    assert_true(witness_mapping(seat->frame, &mapping));
    assert_true(mapping.has_guard);
    check_mapping(seat->frame, node, is_hard, 2);
}

/* In hard mode an io-wq thread was forced into being, to be looked at: it is still there. */
static void check_iowq(const struct seat *seat, int node, bool is_hard)
{
    numaperf_cpuset_t cpus;
    size_t outside = 0;
    witness_node_cpus(node, &cpus);
    size_t count = witness_iowq(seat->task, &cpus, &outside);
    assert_int_equal(outside, 0);
    if (is_hard && witness_ring_errno() == 0)
        assert_true(count > 0);
}

static void check_room(const struct room *room, bool is_hard)
{
    numaperf_cpuset_t used;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    numaperf_cpuset_zero(&used);
    for (uint32_t i = 0; i < room->count; i++) {
        const struct seat *seat = &room->seats[i];
        numaperf_worker_t *worker = numaperf_rt_worker(room->rt, i);
        int node = numaperf_worker_node(worker);
        assert_true(seat->small != NULL && seat->large != NULL && seat->plain != NULL);
        assert_true(numaperf_nodemask_contains(&witness_placeable, node));
        assert_int_equal(numaperf_worker_thread_id(worker), seat->task);
        assert_int_equal(numaperf_worker_cpu(worker), seat->cpu);
        assert_false(numaperf_cpuset_contains(&used, (int)seat->cpu)); /* a PU each */
        assert_int_equal(numaperf_cpuset_add(&used, (int)seat->cpu), 0);
        check_thread(seat, node, witness_balancing() != 0);
        check_stack(seat, node, is_hard);
        check_mapping(seat->small, node, is_hard, SMALL_BYTES / page);
        check_mapping(seat->large, node, is_hard, LARGE_BYTES / page);
        check_iowq(seat, node, is_hard);
        assert_true(numaperf_is_strict(numaperf_worker_enforcement(worker)));
    }
}

/*
 * Which ring is whose cannot be told from outside, but all are alike: on each node there are as
 * many of their pages as its share of the workers.
 */
static void check_rings(const struct room *room)
{
    size_t counts[VIEW_NODES + 1];
    size_t total = 0;
    size_t mappings = witness_rings(counts);
    if (witness_ring_errno() != 0) {
        assert_int_equal(mappings, 0);
        return;
    }
    assert_true(mappings >= room->count);
    assert_int_equal(counts[VIEW_NODES], 0); /* all of them answer where they are */
    for (int node = 0; node < VIEW_NODES; node++)
        total += counts[node];
    assert_int_equal(total % room->count, 0);
    for (int node = 0; node < VIEW_NODES; node++)
        assert_int_equal(counts[node],
                         total / room->count * numaperf_rt_worker_count(room->rt, node));
}

/* ---- what must happen ---- */

struct outcome {
    int code;
    const char *word; /* in the reason, beside `node` */
    int node;         /* -1 */
};

static struct outcome nodes_outcome(const numaperf_nodemask_t *nodes)
{
    for (int node = numaperf_nodemask_next(nodes, -1); node >= 0;
         node = numaperf_nodemask_next(nodes, node)) {
        numaperf_cpuset_t cpus;
        witness_node_cpus(node, &cpus);
        if (!numaperf_nodemask_contains(&witness_nodes, node))
            return (struct outcome){NUMAPERF_E_NO_NODE, "does not exist", node};
        if (numaperf_cpuset_count(&cpus) == 0)
            return (struct outcome){NUMAPERF_E_NO_NODE, "no usable PU", node};
        if (!numaperf_nodemask_contains(&witness_memory, node))
            return (struct outcome){NUMAPERF_E_NO_NODE, "memory", node};
    }
    if (numaperf_nodemask_count(&witness_placeable) == 0)
        return (struct outcome){NUMAPERF_E_NO_NODE, "node", -1};
    return (struct outcome){0, "", -1};
}

static struct outcome hard_outcome(const numaperf_nodemask_t *nodes, bool waive)
{
    uint64_t capabilities = witness_capabilities();
    struct outcome outcome = nodes_outcome(nodes);
    if (outcome.code < 0)
        return outcome;
    if (!waive && (capabilities & CAPABILITY(CAP_SYS_ADMIN)) == 0)
        return (struct outcome){NUMAPERF_E_HARD_MODE, "CAP_SYS_ADMIN", -1};
    if (!waive && (capabilities & CAPABILITY(CAP_SYS_NICE)) == 0)
        return (struct outcome){NUMAPERF_E_HARD_MODE, "CAP_SYS_NICE", -1};
    if (witness_balancing() != 0)
        return (struct outcome){NUMAPERF_E_HARD_MODE, "numa_balancing", -1};
    return outcome;
}

static void expect_outcome(int code, const struct outcome *outcome)
{
    char node[32] = "";
    const numaperf_error_t *error = numaperf_last_error();
    if (outcome->node >= 0)
        (void)snprintf(node, sizeof(node), "node %d", outcome->node);
    if (code != outcome->code)
        printf("%s (%s: %s) instead of %s\n", numaperf_err_name(code), error->operation,
               error->reason, numaperf_err_name(outcome->code));
    assert_int_equal(code, outcome->code);
    if (code == 0)
        return;
    if (strstr(error->reason, outcome->word) == NULL || strstr(error->reason, node) == NULL)
        printf("neither \"%s\" nor \"%s\" may be missing: %s\n", outcome->word, node,
               error->reason);
    assert_int_equal(error->code, code);
    assert_non_null(strstr(error->reason, outcome->word));
    assert_non_null(strstr(error->reason, node));
}

static numaperf_rt_config_t config_of(uint32_t mode, const numaperf_nodemask_t *nodes, bool waive)
{
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = mode;
    config.flags = waive ? NUMAPERF_RT_WAIVE_PRIVILEGES : 0;
    config.nodes = *nodes;
    return config;
}

static void check_runtime(numaperf_rt_t *rt, const numaperf_nodemask_t *asked, bool is_hard)
{
    struct room room;
    const numaperf_nodemask_t *wanted =
        numaperf_nodemask_count(asked) > 0 ? asked : &witness_placeable;
    for (int node = 0; node < VIEW_NODES; node++) {
        bool has_workers = numaperf_rt_worker_count(rt, node) > 0;
        assert_int_equal(has_workers, numaperf_nodemask_contains(wanted, node));
    }
    room_fill(&room, rt);
    check_room(&room, is_hard);
    check_rings(&room);
    assert_int_equal(numaperf_rt_violation_count(rt), 0);
    room_empty(&room);
}

/* Start, and everything is as it must be; a refusal leaves nothing. */
static void try_hard(const numaperf_nodemask_t *nodes, bool waive)
{
    numaperf_rt_config_t config = config_of(NUMAPERF_MODE_HARD, nodes, waive);
    struct outcome outcome = hard_outcome(nodes, waive);
    numaperf_rt_t *rt = NULL;
    struct census before = census_take();
    int rc = numaperf_rt_start(&config, &rt);
    expect_outcome(rc, &outcome);
    if (rc == 0)
        check_runtime(rt, nodes, true);
    else
        assert_null(rt);
    numaperf_rt_destroy(rt);
    assert_true(census_returns_to(&before));
}

static void try_soft(const numaperf_nodemask_t *nodes)
{
    numaperf_rt_config_t config = config_of(NUMAPERF_MODE_SOFT, nodes, false);
    struct outcome outcome = nodes_outcome(nodes);
    numaperf_rt_t *rt = NULL;
    struct census before = census_take();
    int rc = numaperf_rt_start(&config, &rt);
    expect_outcome(rc, &outcome);
    if (rc == 0)
        check_runtime(rt, nodes, false);
    numaperf_rt_destroy(rt);
    assert_true(census_returns_to(&before));
}

/* ---- cases ---- */

static int absent_node(void)
{
    int node = 0;
    while (numaperf_nodemask_contains(&witness_nodes, node))
        node++;
    return node;
}

static void hard_mode_starts_at_home_or_is_refused_for_its_cause(void **state)
{
    (void)state;
    numaperf_nodemask_t all;
    numaperf_nodemask_zero(&all);
    try_hard(&all, false);
    try_hard(&all, true);
    try_hard(&witness_nodes, true);
}

static void hard_mode_on_each_node_is_wholly_there(void **state)
{
    (void)state;
    for (int node = numaperf_nodemask_next(&witness_nodes, -1); node >= 0;
         node = numaperf_nodemask_next(&witness_nodes, node)) {
        numaperf_nodemask_t one = numaperf_nodemask_single(node);
        try_hard(&one, true);
    }
    numaperf_nodemask_t none = numaperf_nodemask_single(absent_node());
    try_hard(&none, true);
}

static void soft_mode_starts_with_what_there_is_and_a_wrong_node_is_refused(void **state)
{
    (void)state;
    numaperf_nodemask_t nodes;
    numaperf_nodemask_zero(&nodes);
    try_soft(&nodes);
    try_soft(&witness_nodes);
    nodes = numaperf_nodemask_single(absent_node());
    try_soft(&nodes);
}

static void start_with_a_ring_works_where_it_may_and_only_there(void **state)
{
    (void)state;
    numaperf_nodemask_t all;
    numaperf_nodemask_zero(&all);
    int refused = witness_ring_errno();
    size_t counts[VIEW_NODES + 1];
    struct outcome outcome = nodes_outcome(&all);
    if (outcome.code == 0 && refused != 0)
        outcome = (struct outcome){-refused, "", -1};
    numaperf_rt_config_t config = config_of(NUMAPERF_MODE_SOFT, &all, false);
    config.io_backend = NUMAPERF_IO_URING;
    numaperf_rt_t *rt = NULL;
    int rc = numaperf_rt_start(&config, &rt);
    expect_outcome(rc, &outcome);
    assert_true((witness_rings(counts) > 0) == (rc == 0));
    numaperf_rt_destroy(rt);

    config.io_backend = NUMAPERF_IO_EPOLL;
    rt = NULL;
    assert_int_equal(numaperf_rt_start(&config, &rt), nodes_outcome(&all).code);
    assert_int_equal(witness_rings(counts), 0);
    numaperf_rt_destroy(rt);
}

/* ---- balancing ---- */

struct reading {
    const char *block;
    uint64_t until_ns;
    atomic_int done;
};

static void read_from_afar(numaperf_worker_t *worker, void *arg)
{
    (void)worker;
    struct reading *reading = arg;
    volatile char sum = 0;
    while (test_now_ns() < reading->until_ns) {
        for (size_t at = 0; at < LARGE_BYTES; at += 512)
            sum = (char)(sum + reading->block[at]);
    }
    (void)atomic_fetch_add(&reading->done, 1);
}

/* Balancing migrates pages to who reads them, but not those that are bound. */
static void bound_pages_stay_at_home_though_balancing_is_on(void **state)
{
    (void)state;
    if (witness_balancing() == 0 || numaperf_nodemask_count(&witness_placeable) < 2) {
        print_message("skipped: NUMA balancing is off, or there is one node\n");
        skip();
    }
    numaperf_nodemask_t all;
    numaperf_nodemask_zero(&all);
    numaperf_rt_config_t config = config_of(NUMAPERF_MODE_SOFT, &all, false);
    numaperf_rt_t *rt = NULL;
    assert_int_equal(numaperf_rt_start(&config, &rt), 0);
    struct room room;
    room_fill(&room, rt);
    struct reading reading = {.until_ns = test_now_ns() + UINT64_C(1500000000)};
    for (uint32_t i = 0; i < room.count; i++) {
        /* The last worker's block by the first, and so on. */
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)i;
        reading.block = room.seats[room.count - 1].large;
        assert_int_equal(numaperf_rt_spawn_with(rt, &options, read_from_afar, &reading), 0);
    }
    assert_true(runtime_reaches(&reading.done, (int)room.count));
    check_room(&room, false);
    room_empty(&room);
    numaperf_rt_destroy(rt);
}

/* What a first start leaves is not counted: libuv's pool, and a stack for the auditor. */
static void warm_up(void)
{
    numaperf_nodemask_t all;
    numaperf_nodemask_zero(&all);
    numaperf_rt_config_t config = config_of(NUMAPERF_MODE_SOFT, &all, false);
    config.audit_interval_ms = 60000;
    numaperf_rt_t *rt = NULL;
    if (numaperf_rt_start(&config, &rt) == 0)
        numaperf_rt_destroy(rt);
}

int main(void)
{
    census_prepare();
    witness_look();
    printf("balancing %d, capabilities %llx, ring %s\n", witness_balancing(),
           (unsigned long long)witness_capabilities(),
           witness_ring_errno() == 0 ? "allowed" : "refused");
    if (!witness_can_place())
        return 77;
    warm_up();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hard_mode_starts_at_home_or_is_refused_for_its_cause),
        cmocka_unit_test(hard_mode_on_each_node_is_wholly_there),
        cmocka_unit_test(soft_mode_starts_with_what_there_is_and_a_wrong_node_is_refused),
        cmocka_unit_test(start_with_a_ring_works_where_it_may_and_only_there),
        cmocka_unit_test(bound_pages_stay_at_home_though_balancing_is_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
