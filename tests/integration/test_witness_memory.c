/* SPDX-License-Identifier: MIT */
/*
 * Topology, pins, regions and arenas against an independent witness: on every node there is, within
 * whatever cpuset this runs in. A guest's shape is also known beforehand, so that its nodes, PUs
 * and distances are compared with what QEMU was told.
 */
#include <numaperf/arena.h>
#include <numaperf/pin.h>
#include <numaperf/topology.h>

#include "support/clock.h"
#include "support/region_case.h"
#include "support/witness.h"

#include <linux/memfd.h>
#include <sched.h>
#include <sys/mman.h>

#define BYTES MIB
#define HUGE_BYTES (2 * MIB)

static int next_node(const numaperf_nodemask_t *nodes, int node)
{
    return numaperf_nodemask_next(nodes, node);
}

/* ---- topology ---- */

struct guest_node {
    int id;
    const char *cpus; /* "": none */
    bool has_memory;
};

struct guest {
    const char *name;
    struct guest_node nodes[5]; /* ends with a node without a list of PUs */
    int distances[4][4];        /* by index, from and to; 0: not stated */
};

/* What ./run tells QEMU. */
static const struct guest guests[] = {
    {"1node", {{0, "0-1", true}}, {{10}}},
    {"2node", {{0, "0-1", true}, {1, "2-3", true}}, {{10, 21}, {21, 10}}},
    {"2node-nic", {{0, "0-1", true}, {1, "2-3", true}}, {{10, 21}, {21, 10}}},
    {"4node8",
     {{0, "0-1", true}, {1, "2-3", true}, {2, "4-5", true}, {3, "6-7", true}},
     {{10, 12, 21, 32}, {12, 10, 32, 21}, {21, 32, 10, 12}, {32, 21, 12, 10}}},
    {"cpuless",
     {{0, "0-1", true}, {1, "2-3", true}, {2, "", true}},
     {{10, 21, 24}, {21, 10, 34}, {24, 34, 10}}},
    {"memless",
     {{0, "0", true}, {1, "1-2", false}, {2, "3", true}},
     {{10, 31, 41}, {31, 10, 21}, {41, 21, 10}}},
    {"sparse", {{0, "0-1", true}, {2, "2-3", true}}, {{10, 31}, {31, 10}}},
    {"asym",
     {{0, "0", true}, {1, "1", true}, {2, "2", true}},
     {{10, 21, 32}, {31, 10, 17}, {22, 25, 10}}},
};

static numaperf_topology_t *discover(void)
{
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_discover(&topology), 0);
    return topology;
}

static void check_guest_node(const numaperf_topology_t *topology, const struct guest *guest,
                             size_t index)
{
    const struct guest_node *node = &guest->nodes[index];
    numaperf_cpuset_t wanted;
    numaperf_cpuset_t found;
    numaperf_cpuset_zero(&wanted);
    if (node->cpus[0] != '\0')
        assert_int_equal(numaperf_cpuset_parse(node->cpus, &wanted), 0);
    numaperf_cpuset_intersect(&wanted, &witness_allowed, &wanted);
    assert_int_equal(numaperf_topology_node_id(topology, index), node->id);
    assert_int_equal(numaperf_topology_node_cpus(topology, node->id, &found), 0);
    assert_true(numaperf_cpuset_equal(&found, &wanted));
    bool has_memory = numaperf_topology_node_memory_bytes(topology, node->id) > 0;
    assert_int_equal(has_memory,
                     node->has_memory && numaperf_nodemask_contains(&witness_memory, node->id));
    for (size_t to = 0; guest->nodes[to].cpus != NULL; to++)
        assert_int_equal(numaperf_topology_distance(topology, node->id, guest->nodes[to].id),
                         guest->distances[index][to]);
}

static void machine_is_the_one_that_the_guest_was_given(void **state)
{
    (void)state;
    const char *name = getenv("VM_TOPOLOGY");
    const struct guest *guest = NULL;
    for (size_t i = 0; name != NULL && i < sizeof(guests) / sizeof(guests[0]); i++) {
        if (strcmp(guests[i].name, name) == 0)
            guest = &guests[i];
    }
    if (guest == NULL) {
        print_message("skipped: this is no guest of a known shape\n");
        skip();
    }
    numaperf_topology_t *topology = discover();
    size_t count = 0;
    for (; guest->nodes[count].cpus != NULL; count++)
        check_guest_node(topology, guest, count);
    assert_int_equal(numaperf_topology_node_count(topology), count);
    numaperf_topology_destroy(topology);
}

static void topology_says_what_the_kernel_says(void **state)
{
    (void)state;
    numaperf_topology_t *topology = discover();
    numaperf_nodemask_t nodes;
    numaperf_cpuset_t cpus;
    assert_int_equal(numaperf_topology_nodes(topology, &nodes), 0);
    assert_true(numaperf_nodemask_equal(&nodes, &witness_nodes));
    int rc = numaperf_topology_usable_nodes(topology, &nodes);
    assert_int_equal(rc, numaperf_nodemask_count(&witness_placeable) > 0 ? 0 : NUMAPERF_E_NO_NODE);
    if (rc == 0)
        assert_true(numaperf_nodemask_equal(&nodes, &witness_placeable));
    assert_int_equal(numaperf_topology_cpus(topology, &cpus), 0);
    assert_true(numaperf_cpuset_equal(&cpus, &witness_allowed));
    for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&cpus, cpu))
        assert_int_equal(numaperf_topology_node_of_cpu(topology, cpu), witness_node_of_cpu(cpu));
    for (int from = next_node(&witness_nodes, -1); from >= 0;
         from = next_node(&witness_nodes, from)) {
        for (int to = next_node(&witness_nodes, -1); to >= 0; to = next_node(&witness_nodes, to)) {
            if (witness_distance(from, to) > 0)
                assert_int_equal(numaperf_topology_distance(topology, from, to),
                                 witness_distance(from, to));
        }
    }
    numaperf_topology_destroy(topology);
}

/* ---- pins ---- */

static numaperf_cpuset_t affinity_by_proc(void)
{
    numaperf_cpuset_t mask;
    assert_true(witness_task_cpus(0, (int)syscall(SYS_gettid), &mask));
    return mask;
}

static void assert_affinity(const numaperf_cpuset_t *wanted)
{
    numaperf_cpuset_t mask = affinity_by_proc();
    assert_true(numaperf_cpuset_equal(&mask, wanted));
}

static void pin_is_what_proc_says_and_restore_gives_all_back(void **state)
{
    (void)state;
    for (int cpu = numaperf_cpuset_next(&witness_allowed, -1); cpu >= 0;
         cpu = numaperf_cpuset_next(&witness_allowed, cpu)) {
        numaperf_pin_t pin = NUMAPERF_PIN_INIT;
        numaperf_cpuset_t one;
        numaperf_cpuset_zero(&one);
        assert_int_equal(numaperf_cpuset_add(&one, cpu), 0);
        assert_int_equal(numaperf_pin_to_cpu(cpu, NUMAPERF_MODE_HARD, &pin), 0);
        assert_affinity(&one);
        assert_int_equal(sched_getcpu(), cpu);
        assert_int_equal(numaperf_pin_restore(&pin), 0);
        assert_affinity(&witness_allowed);
    }
    for (int node = next_node(&witness_nodes, -1); node >= 0;
         node = next_node(&witness_nodes, node)) {
        numaperf_pin_t pin = NUMAPERF_PIN_INIT;
        numaperf_cpuset_t cpus;
        witness_node_cpus(node, &cpus);
        bool has_cpus = numaperf_cpuset_count(&cpus) > 0;
        assert_int_equal(numaperf_pin_to_node(NULL, node, NUMAPERF_MODE_HARD, &pin),
                         has_cpus ? 0 : NUMAPERF_E_NO_NODE);
        assert_affinity(has_cpus ? &cpus : &witness_allowed);
        assert_int_equal(has_cpus ? numaperf_pin_restore(&pin) : 0, 0);
        assert_affinity(&witness_allowed);
    }
}

/* The kernel takes a set with a PU that may not be used, and leaves that one out. */
static void pin_that_the_kernel_trims_is_never_strict(void **state)
{
    (void)state;
    numaperf_cpuset_t one;
    numaperf_cpuset_zero(&one);
    int first = numaperf_cpuset_next(&witness_allowed, -1);
    assert_int_equal(numaperf_cpuset_add(&one, first), 0);
    int outside = 0;
    while (numaperf_cpuset_contains(&witness_allowed, outside))
        outside++;
    numaperf_cpuset_t both = one;
    assert_int_equal(numaperf_cpuset_add(&both, outside), 0);
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    assert_int_equal(numaperf_pin_current(&both, NUMAPERF_MODE_HARD, &pin), NUMAPERF_E_HARD_MODE);
    assert_affinity(&witness_allowed);
    assert_int_equal(numaperf_pin_current(&both, NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_best_effort(&pin.enforcement));
    assert_affinity(&one);
    assert_int_equal(numaperf_pin_restore(&pin), 0);
    assert_affinity(&witness_allowed);

    assert_int_equal(numaperf_pin_to_cpu(outside, NUMAPERF_MODE_HARD, &pin), NUMAPERF_E_HARD_MODE);
    assert_affinity(&witness_allowed);
    assert_int_equal(numaperf_pin_to_cpu(outside, NUMAPERF_MODE_SOFT, &pin), 0);
    assert_true(numaperf_is_none(&pin.enforcement));
    assert_affinity(&witness_allowed);
    assert_int_equal(numaperf_pin_restore(&pin), 0);
}

/* ---- regions ---- */

static void assert_policy_is(const void *base, const char *wanted)
{
    struct witness_mapping mapping;
    assert_true(witness_mapping(base, &mapping));
    if (mapping.policy[0] != '\0')
        assert_string_equal(mapping.policy, wanted);
}

/* Pin by the plain system call: to the PUs of a node, or with -1 to all that may be used. */
static void stand_on(int node)
{
    numaperf_cpuset_t cpus = witness_allowed;
    cpu_set_t set;
    if (node >= 0)
        witness_node_cpus(node, &cpus);
    CPU_ZERO(&set);
    for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0 && cpu < CPU_SETSIZE;
         cpu = numaperf_cpuset_next(&cpus, cpu))
        CPU_SET((size_t)cpu, &set);
    assert_int_equal(sched_setaffinity(0, sizeof(set), &set), 0);
}

static void local_pages_are_where_the_toucher_is(void **state)
{
    (void)state;
    for (int node = next_node(&witness_placeable, -1); node >= 0;
         node = next_node(&witness_placeable, node)) {
        stand_on(node);
        numaperf_region_config_t config = config_of(NUMAPERF_MEM_LOCAL, NUMAPERF_MODE_SOFT, BYTES);
        config.prefault = NUMAPERF_PREFAULT_TOUCH;
        numaperf_region_t *populated = make(&config);
        config.prefault = NUMAPERF_PREFAULT_NONE;
        numaperf_region_t *touched = make(&config);
        memset(numaperf_region_data(touched), 1, BYTES);
        assert_true(witness_all_on(numaperf_region_data(populated), BYTES, node));
        assert_true(witness_all_on(numaperf_region_data(touched), BYTES, node));
        assert_policy_is(numaperf_region_data(touched), "local");
        numaperf_region_destroy(populated);
        numaperf_region_destroy(touched);
    }
    stand_on(-1);
}

/* Made here, touched by a thread of another node: the policy decides, not the toucher. */
static void check_policy_from_afar(uint32_t policy, const char *name, int node, int toucher)
{
    char wanted[32];
    numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_SOFT, BYTES);
    config.policy = policy;
    stand_on(toucher);
    numaperf_region_t *soft = make(&config);
    memset(numaperf_region_data(soft), 1, BYTES);
    config.mode = NUMAPERF_MODE_HARD;
    numaperf_region_t *hard = make(&config);
    (void)snprintf(wanted, sizeof(wanted), "%s:%d", name, node);
    assert_policy_is(numaperf_region_data(soft), wanted);
    assert_policy_is(numaperf_region_data(hard), wanted);
    assert_true(witness_all_on(numaperf_region_data(soft), BYTES, node));
    assert_true(witness_all_on(numaperf_region_data(hard), BYTES, node));
    assert_level(hard, NUMAPERF_ENFORCE_STRICT);
    numaperf_region_destroy(soft);
    numaperf_region_destroy(hard);
    stand_on(-1);
}

static void bound_and_preferred_pages_are_on_their_node_whoever_touches_them(void **state)
{
    (void)state;
    for (int node = next_node(&witness_memory, -1); node >= 0;
         node = next_node(&witness_memory, node)) {
        for (int from = next_node(&witness_placeable, -1); from >= 0;
             from = next_node(&witness_placeable, from)) {
            check_policy_from_afar(NUMAPERF_MEM_BIND, "bind", node, from);
            check_policy_from_afar(NUMAPERF_MEM_PREFERRED, "prefer", node, from);
        }
    }
}

/* Two of the nodes, wherever there are more. */
static void check_pair(int a, int b)
{
    char wanted[32];
    size_t counts[VIEW_NODES + 1];
    size_t pages = BYTES / page_size();
    numaperf_region_config_t config = bind_to(a, NUMAPERF_MODE_HARD, BYTES);
    assert_int_equal(numaperf_nodemask_add(&config.nodes, b), 0);
    numaperf_region_t *bound = make(&config);
    config.policy = NUMAPERF_MEM_INTERLEAVE;
    config.huge_pages = NUMAPERF_HUGE_NONE;
    numaperf_region_t *spread = make(&config);
    (void)snprintf(wanted, sizeof(wanted), "bind:%d%s%d", a, b == a + 1 ? "-" : ",", b);
    assert_policy_is(numaperf_region_data(bound), wanted);
    (void)snprintf(wanted, sizeof(wanted), "interleave:%d%s%d", a, b == a + 1 ? "-" : ",", b);
    assert_policy_is(numaperf_region_data(spread), wanted);
    assert_true(view_pages(numaperf_region_data(bound), BYTES, counts));
    assert_int_equal(counts[a] + counts[b], pages);
    assert_true(view_pages(numaperf_region_data(spread), BYTES, counts));
    assert_int_equal(counts[a], pages / 2);
    assert_int_equal(counts[b], pages / 2);
    numaperf_region_destroy(bound);
    numaperf_region_destroy(spread);
}

static void two_nodes_hold_what_is_bound_to_or_spread_over_them(void **state)
{
    (void)state;
    if (numaperf_nodemask_count(&witness_memory) < 2) {
        print_message("skipped: one usable node\n");
        skip();
    }
    for (int a = next_node(&witness_memory, -1); a >= 0; a = next_node(&witness_memory, a)) {
        for (int b = next_node(&witness_memory, a); b >= 0; b = next_node(&witness_memory, b))
            check_pair(a, b);
    }
}

/* Kibibytes of transparent huge pages in the mapping at `base`, by smaps. */
static uint64_t huge_kib_at(const void *base)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    char line[512];
    bool inside = false;
    uint64_t kib = 0;
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        unsigned long long from = 0;
        unsigned long long to = 0;
        if (sscanf(line, "%llx-%llx ", &from, &to) == 2)
            inside = (uintptr_t)base >= from && (uintptr_t)base < to;
        else if (inside && strncmp(line, "AnonHugePages:", 14) == 0)
            kib = strtoull(line + 14, NULL, 10);
    }
    assert_int_equal(fclose(file), 0);
    return kib;
}

static void transparent_huge_pages_are_huge_and_on_their_node(void **state)
{
    (void)state;
    char setting[128] = "";
    bool never =
        !view_text("/sys/kernel/mm/transparent_hugepage/enabled", setting, sizeof(setting)) ||
        strstr(setting, "[never]") != NULL;
    for (int node = next_node(&witness_memory, -1); node >= 0;
         node = next_node(&witness_memory, node)) {
        numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, 2 * HUGE_BYTES);
        config.huge_pages = NUMAPERF_HUGE_TRANSPARENT;
        numaperf_region_t *region = make(&config);
        assert_true(witness_all_on(numaperf_region_data(region), 2 * HUGE_BYTES, node));
        uint64_t kib = huge_kib_at(numaperf_region_data(region));
        if (never || !test_is_guest()) /* a machine in use may have none to give */
            print_message("node %d: %llu KiB in huge pages\n", node, (unsigned long long)kib);
        else
            assert_int_equal(kib, 2 * HUGE_BYTES / KIB);
        numaperf_region_destroy(region);
    }
}

/* ---- huge pages of a pool ---- */

static void pools_now(uint64_t out[VIEW_NODES])
{
    for (int node = 0; node < VIEW_NODES; node++)
        out[node] = view_huge_free(node);
}

/* `taken` pages came from the pool of `node`, none from another's. */
static void assert_taken(const uint64_t before[VIEW_NODES], int node, uint64_t taken)
{
    uint64_t now[VIEW_NODES];
    pools_now(now);
    for (int other = 0; other < VIEW_NODES; other++)
        assert_int_equal(now[other] + (other == node ? taken : 0), before[other]);
}

static void check_pool_of(int node)
{
    uint64_t before[VIEW_NODES];
    pools_now(before);
    numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, HUGE_BYTES + 1);
    config.huge_pages = NUMAPERF_HUGE_2MB;
    numaperf_region_t *region = make(&config);
    assert_taken(before, node, 2);
    assert_true(witness_all_on(numaperf_region_data(region), 2 * HUGE_BYTES, node));
    numaperf_region_destroy(region);
    assert_taken(before, node, 0);

    int fd = memfd_create("witness", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);
    assert_true(fd >= 0 && ftruncate(fd, (off_t)HUGE_BYTES) == 0);
    config = bind_to(node, NUMAPERF_MODE_HARD, HUGE_BYTES);
    config.flags = NUMAPERF_REGION_HAS_FD;
    config.fd = fd;
    region = make(&config);
    assert_taken(before, node, 1);
    assert_true(witness_all_on(numaperf_region_data(region), HUGE_BYTES, node));
    numaperf_region_destroy(region);
    assert_int_equal(close(fd), 0);
    assert_taken(before, node, 0);

    numaperf_arena_config_t arena_config = NUMAPERF_ARENA_CONFIG_INIT;
    arena_config.flags = NUMAPERF_ARENA_HAS_NODE;
    arena_config.node = node;
    arena_config.mode = NUMAPERF_MODE_HARD;
    arena_config.huge_pages = NUMAPERF_HUGE_2MB;
    numaperf_arena_t *arena = NULL;
    assert_int_equal(numaperf_arena_create(&arena_config, &arena), 0);
    char *block = numaperf_arena_alloc(arena, 64 * KIB, 64);
    assert_non_null(block);
    memset(block, 1, 64 * KIB);
    assert_taken(before, node, 1);
    assert_true(witness_all_on(block, 64 * KIB, node));
    numaperf_arena_destroy(arena);
    assert_taken(before, node, 0);
}

static void huge_pages_come_from_the_pool_of_the_node_and_go_back(void **state)
{
    (void)state;
    int tried = 0;
    for (int node = next_node(&witness_memory, -1); node >= 0;
         node = next_node(&witness_memory, node)) {
        if (view_huge_free(node) < 2)
            continue;
        check_pool_of(node);
        tried++;
    }
    if (tried == 0) {
        print_message("skipped: no node has two free huge pages of 2 MiB\n");
        skip();
    }
}

/* ---- files ---- */

/* One file, wanted on each node in turn: its pages follow; a private copy leaves them alone. */
static void file_pages_are_where_they_are_wanted(void **state)
{
    (void)state;
    int fd = memfd_create("witness", MFD_CLOEXEC);
    assert_true(fd >= 0 && ftruncate(fd, (off_t)BYTES) == 0);
    for (int node = next_node(&witness_memory, -1); node >= 0;
         node = next_node(&witness_memory, node)) {
        numaperf_region_config_t config = bind_to(node, NUMAPERF_MODE_HARD, BYTES);
        config.flags = NUMAPERF_REGION_HAS_FD;
        config.fd = fd;
        numaperf_region_t *region = make(&config);
        memset(numaperf_region_data(region), node + 1, BYTES);
        assert_true(witness_all_on(numaperf_region_data(region), BYTES, node));
        int other = next_node(&witness_memory, node);
        config.nodes = numaperf_nodemask_single(other >= 0 ? other : node);
        config.flags |= NUMAPERF_REGION_PRIVATE;
        numaperf_region_t *copy = make(&config);
        assert_true(witness_all_on(numaperf_region_data(copy), BYTES, other >= 0 ? other : node));
        assert_int_equal(*(char *)numaperf_region_data(copy), node + 1);
        assert_true(witness_all_on(numaperf_region_data(region), BYTES, node));
        numaperf_region_destroy(copy);
        numaperf_region_destroy(region);
    }
    assert_int_equal(close(fd), 0);
}

/* ---- arenas ---- */

static void check_arena(int node, uint32_t mode, int owner)
{
    static const size_t sizes[] = {16, 4096, 40000, 300000, 700000};
    char *blocks[20];
    char wanted[32];
    numaperf_arena_config_t config = NUMAPERF_ARENA_CONFIG_INIT;
    config.flags = NUMAPERF_ARENA_HAS_NODE;
    config.node = node;
    config.mode = mode;
    numaperf_arena_t *arena = NULL;
    stand_on(owner);
    assert_int_equal(numaperf_arena_create(&config, &arena), 0);
    (void)snprintf(wanted, sizeof(wanted), "bind:%d", node);
    for (size_t i = 0; i < 20; i++) { /* more than a chunk holds, so it grows */
        size_t size = sizes[i % 5];
        blocks[i] = numaperf_arena_alloc(arena, size, 0);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, size);
        assert_true(witness_all_on(blocks[i], size, node));
        assert_policy_is(blocks[i], wanted);
    }
    for (size_t i = 0; i < 20; i++)
        numaperf_arena_free(arena, blocks[i]);
    numaperf_arena_destroy(arena);
    stand_on(-1);
}

static void arena_blocks_are_on_their_node_as_it_grows_whoever_owns_it(void **state)
{
    (void)state;
    for (int node = next_node(&witness_memory, -1); node >= 0;
         node = next_node(&witness_memory, node)) {
        int near = next_node(&witness_placeable, -1);
        int far = next_node(&witness_placeable, near);
        check_arena(node, NUMAPERF_MODE_HARD, near);
        check_arena(node, NUMAPERF_MODE_SOFT, far >= 0 ? far : near);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machine_is_the_one_that_the_guest_was_given),
        cmocka_unit_test(topology_says_what_the_kernel_says),
        cmocka_unit_test(pin_is_what_proc_says_and_restore_gives_all_back),
        cmocka_unit_test(pin_that_the_kernel_trims_is_never_strict),
        cmocka_unit_test(local_pages_are_where_the_toucher_is),
        cmocka_unit_test(bound_and_preferred_pages_are_on_their_node_whoever_touches_them),
        cmocka_unit_test(two_nodes_hold_what_is_bound_to_or_spread_over_them),
        cmocka_unit_test(transparent_huge_pages_are_huge_and_on_their_node),
        cmocka_unit_test(huge_pages_come_from_the_pool_of_the_node_and_go_back),
        cmocka_unit_test(file_pages_are_where_they_are_wanted),
        cmocka_unit_test(arena_blocks_are_on_their_node_as_it_grows_whoever_owns_it),
    };
    witness_look();
    view_nodes(&with_memory, &usable);
    if (!witness_can_place())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
