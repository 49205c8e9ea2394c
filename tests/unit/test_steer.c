/* SPDX-License-Identifier: MIT */
/* Which worker gets a connection: the table, the program that holds it, and the rule of hand-off.
 */
#include "net/steer.h"

#include <numaperf/net.h>
#include <numaperf/topology.h>

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PU_MAX 8192u

/* ---- failures of setsockopt ---- */

int __real_setsockopt(int fd, int level, int option, const void *value, socklen_t length);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length);

static struct {
    int refused[2]; /* options of SOL_SOCKET */
    int code;
} refusal;

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t length)
{
    for (size_t i = 0; i < 2; i++) {
        if (level == SOL_SOCKET && refusal.refused[i] == option && option != 0) {
            errno = refusal.code;
            return -1;
        }
    }
    return __real_setsockopt(fd, level, option, value, length);
}

static int clear_refusals(void **state)
{
    (void)state;
    memset(&refusal, 0, sizeof(refusal));
    return 0;
}

/* ---- a machine for the program ---- */

/* What a program answers on a PU; the three instructions it may be made of. */
static uint32_t run_program(const struct sock_filter *code, uint32_t length, uint32_t cpu)
{
    uint32_t accumulator = UINT32_MAX;
    for (uint32_t at = 0; at < length; at++) {
        const struct sock_filter *step = &code[at];
        switch (step->code) {
        case BPF_LD | BPF_W | BPF_ABS:
            assert_int_equal(step->k, (uint32_t)(SKF_AD_OFF + SKF_AD_CPU));
            accumulator = cpu;
            break;
        case BPF_JMP | BPF_JGE | BPF_K:
            at += accumulator >= step->k ? step->jt : step->jf;
            break;
        case BPF_RET | BPF_K:
            return step->k;
        default:
            fail_msg("instruction %#x", (unsigned)step->code);
        }
    }
    fail_msg("the program ends without an answer on PU %u", cpu);
    return UINT32_MAX;
}

static uint32_t table[PU_MAX];
static struct sock_filter code[BPF_MAXINSNS];

/* The table of a machine, and that the program says the same. */
static void steer(const char *machine, const struct numaperf__seat *seats, uint32_t count,
                  uint32_t pu_limit)
{
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_synthetic(machine, &topology), 0);
    memset(table, 0xff, sizeof(table));
    numaperf__steer_table(topology, seats, count, table, pu_limit);
    numaperf_topology_destroy(topology);
    uint32_t length = numaperf__steer_program(table, pu_limit, code, BPF_MAXINSNS);
    assert_true(length > 0);
    for (uint32_t cpu = 0; cpu < pu_limit; cpu++) {
        assert_true(table[cpu] < count);
        assert_int_equal(run_program(code, length, cpu), table[cpu]);
    }
}

#define SEATS(...)                                              \
    static const struct numaperf__seat seats[] = {__VA_ARGS__}; \
    enum { SEAT_COUNT = (int)(sizeof(seats) / sizeof(seats[0])) }

static void expect(const uint32_t *wanted, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (table[i] != wanted[i])
            fail_msg("PU %zu goes to seat %u, not to %u", i, table[i], wanted[i]);
    }
}
#define EXPECT(...) expect((const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)

static void steer_gives_each_pu_to_its_own_worker(void **state)
{
    (void)state;
    SEATS({3, 1}, {0, 0}, {2, 1}, {1, 0});
    steer("numa:2 pu:2", seats, SEAT_COUNT, 4);
    EXPECT(1, 3, 2, 0);
}

static void steer_gives_pus_without_a_worker_to_those_of_their_node_by_turns(void **state)
{
    (void)state;
    /* Eight PUs a node; workers on two of node 0, on one of node 1. */
    SEATS({0, 0}, {4, 0}, {8, 1});
    steer("numa:2 pu:8", seats, SEAT_COUNT, 16);
    EXPECT(0, 0, 1, 0, 1, 1, 0, 1, 2, 2, 2, 2, 2, 2, 2, 2);
}

static void steer_prefers_the_worker_of_the_same_core(void **state)
{
    (void)state;
    SEATS({0, 0}, {2, 0}, {4, 0});
    steer("numa:1 core:3 pu:2", seats, SEAT_COUNT, 6);
    EXPECT(0, 0, 1, 1, 2, 2);
}

static void steer_gives_a_node_without_workers_to_some_node_that_has(void **state)
{
    (void)state;
    SEATS({2, 1}, {3, 1});
    steer("numa:2 pu:2", seats, SEAT_COUNT, 4);
    EXPECT(0, 1, 0, 1);
}

static void steer_takes_the_nearest_node_for_one_without_workers(void **state)
{
    (void)state;
    /* Distances of 4node8's kind: 0 and 1 are near, 2 and 3 are. */
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_xml(
                         NUMAPERF_TESTS_DIR "/fixtures/topology/asymmetric_four.xml", &topology),
                     0);
    numaperf_nodemask_t nodes;
    assert_int_equal(numaperf_topology_usable_nodes(topology, &nodes), 0);
    /* Workers on all nodes but one, each in its turn: whatever the distances of the fixture are,
     * the lowest wins. */
    for (int left_out = numaperf_nodemask_next(&nodes, -1); left_out >= 0;
         left_out = numaperf_nodemask_next(&nodes, left_out)) {
        struct numaperf__seat seats[16];
        uint32_t count = 0;
        int nearest = -1;
        for (int node = numaperf_nodemask_next(&nodes, -1); node >= 0;
             node = numaperf_nodemask_next(&nodes, node)) {
            numaperf_cpuset_t cpus;
            assert_int_equal(numaperf_topology_node_cpus(topology, node, &cpus), 0);
            if (node == left_out || numaperf_cpuset_count(&cpus) == 0)
                continue;
            seats[count++] = (struct numaperf__seat){numaperf_cpuset_next(&cpus, -1), node};
            int distance = numaperf_topology_distance(topology, left_out, node);
            if (nearest < 0 || distance < numaperf_topology_distance(topology, left_out, nearest))
                nearest = node;
        }
        numaperf__steer_table(topology, seats, count, table, 64);
        numaperf_cpuset_t cpus;
        assert_int_equal(numaperf_topology_node_cpus(topology, left_out, &cpus), 0);
        for (int cpu = numaperf_cpuset_next(&cpus, -1); cpu >= 0 && cpu < 64;
             cpu = numaperf_cpuset_next(&cpus, cpu))
            assert_int_equal(seats[table[cpu]].node, nearest);
    }
    numaperf_topology_destroy(topology);
}

static void steer_gives_unknown_pus_to_all_by_turns(void **state)
{
    (void)state;
    SEATS({0, 0}, {1, 0}, {2, 1});
    steer("numa:2 pu:2", seats, SEAT_COUNT, 9);
    EXPECT(0, 1, 2, 2, 0, 1, 2, 0, 1);
}

static void steer_takes_the_first_of_workers_that_share_a_pu(void **state)
{
    (void)state;
    SEATS({1, 0}, {0, 0}, {0, 0});
    steer("numa:1 pu:2", seats, SEAT_COUNT, 2);
    EXPECT(1, 0);
}

static void steer_program_is_as_short_as_its_runs(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 64; i++)
        table[i] = i / 16;
    /* A load, three runs of two instructions, the last of one. */
    assert_int_equal(numaperf__steer_program(table, 64, code, BPF_MAXINSNS), 8);
    assert_int_equal(numaperf__steer_program(table, 64, code, 8), 8);
    assert_int_equal(numaperf__steer_program(table, 64, code, 7), 0);
    assert_int_equal(run_program(code, 8, 63), 3);
    /* A PU that comes later. */
    assert_int_equal(numaperf__steer_program(table, 64, code, 8), 8);
    assert_int_equal(run_program(code, 8, 4000), 3);
}

static void steer_program_that_the_kernel_would_not_take_is_none(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < PU_MAX; i++)
        table[i] = i;
    assert_int_equal(numaperf__steer_program(table, PU_MAX, code, BPF_MAXINSNS), 0);
    /* The largest that fits: a load, and two for each but the last. */
    assert_int_equal(numaperf__steer_program(table, BPF_MAXINSNS / 2, code, BPF_MAXINSNS),
                     BPF_MAXINSNS);
    assert_int_equal(run_program(code, BPF_MAXINSNS, BPF_MAXINSNS / 2 - 1), BPF_MAXINSNS / 2 - 1);
}

/* ---- telling the kernel ---- */

/* Two bound sockets that may share a port. */
static void make_group(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    for (int i = 0; i < 2; i++) {
        const int one = 1;
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(fds[i] >= 0);
        assert_int_equal(setsockopt(fds[i], SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)), 0);
        assert_int_equal(bind(fds[i], (struct sockaddr *)&address, sizeof(address)), 0);
        assert_int_equal(getsockname(fds[i], (struct sockaddr *)&address, &length), 0);
    }
}

static int incoming_cpu(int fd)
{
    int cpu = -2;
    socklen_t length = sizeof(cpu);
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &length), 0);
    return cpu;
}

struct applied {
    uint32_t steering;
    char reason[224];
    int cpus[2];
};

static struct applied apply(bool inherited, bool unwanted, bool with_topology)
{
    int fds[2];
    make_group(fds);
    numaperf_topology_t *topology = NULL;
    assert_int_equal(numaperf_topology_from_synthetic("numa:1 pu:2", &topology), 0);
    static const struct numaperf__seat seats[2] = {{1, 0}, {0, 0}};
    const struct numaperf__steer_request request = {.fds = fds,
                                                    .seats = seats,
                                                    .count = 2,
                                                    .topology = with_topology ? topology : NULL,
                                                    .inherited = inherited,
                                                    .unwanted = unwanted};
    struct applied applied = {.reason = "untouched"};
    applied.steering = numaperf__steer_apply(&request, applied.reason, sizeof(applied.reason));
    for (int i = 0; i < 2; i++) {
        applied.cpus[i] = incoming_cpu(fds[i]);
        (void)close(fds[i]);
    }
    numaperf_topology_destroy(topology);
    return applied;
}

static void steer_attaches_a_program_where_it_may(void **state)
{
    (void)state;
    struct applied applied = apply(false, false, true);
    assert_int_equal(applied.steering, NUMAPERF_STEER_BPF);
    assert_string_equal(applied.reason, "");
}

static void steer_without_programs_names_the_pu_of_each_socket(void **state)
{
    (void)state;
    refusal.refused[0] = SO_ATTACH_REUSEPORT_CBPF;
    refusal.code = EPERM;
    struct applied applied = apply(false, false, true);
    assert_int_equal(applied.steering, NUMAPERF_STEER_INCOMING_CPU);
    assert_non_null(strstr(applied.reason, "SO_ATTACH_REUSEPORT_CBPF"));
    assert_int_equal(applied.cpus[0], 1);
    assert_int_equal(applied.cpus[1], 0);
}

static void steer_that_is_refused_altogether_says_so_twice(void **state)
{
    (void)state;
    refusal.refused[0] = SO_ATTACH_REUSEPORT_CBPF;
    refusal.refused[1] = SO_INCOMING_CPU;
    refusal.code = ENOMEM;
    struct applied applied = apply(false, false, true);
    assert_int_equal(applied.steering, NUMAPERF_STEER_HASH);
    assert_non_null(strstr(applied.reason, "SO_ATTACH_REUSEPORT_CBPF"));
    assert_non_null(strstr(applied.reason, "SO_INCOMING_CPU"));
    assert_int_equal(applied.cpus[0], -1);
}

static void steer_that_is_not_wanted_leaves_it_to_the_hash(void **state)
{
    (void)state;
    struct applied applied = apply(false, true, true);
    assert_int_equal(applied.steering, NUMAPERF_STEER_HASH);
    assert_non_null(strstr(applied.reason, "NO_STEER"));
    assert_int_equal(applied.cpus[0], -1);
    applied = apply(false, false, false);
    assert_int_equal(applied.steering, NUMAPERF_STEER_HASH);
    assert_non_null(strstr(applied.reason, "topology"));
}

static void steer_of_inherited_sockets_goes_by_socket_not_by_order(void **state)
{
    (void)state;
    struct applied applied = apply(true, false, true);
    assert_int_equal(applied.steering, NUMAPERF_STEER_INCOMING_CPU);
    assert_non_null(strstr(applied.reason, "inherited"));
    assert_int_equal(applied.cpus[0], 1);
}

/* ---- hand-off ---- */

static void handoff_needs_a_clear_difference(void **state)
{
    (void)state;
    static const struct {
        uint32_t own, least, limit;
        bool hands_over;
    } rows[] = {
        {0, 0, 100, false},
        {7, 0, 100, false},
        {8, 0, 100, true},  /* the margin */
        {9, 2, 100, false}, /* below it */
        {10, 2, 100, true},
        {50, 41, 100, false}, /* more than the margin, but not by a quarter */
        {51, 41, 100, true},
        {60, 60, 100, false},
        {20, 60, 100, false},
        {10000, 8001, 100000, false},
        {10000, 8000, 100000, true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (numaperf__steer_hands_over(rows[i].own, rows[i].least, rows[i].limit) !=
            rows[i].hands_over)
            fail_msg("own %u, least %u", rows[i].own, rows[i].least);
    }
}

static void handoff_of_a_full_worker_goes_to_any_that_is_not(void **state)
{
    (void)state;
    assert_true(numaperf__steer_hands_over(2, 1, 2));
    assert_false(numaperf__steer_hands_over(2, 2, 2));
    assert_true(numaperf__steer_hands_over(3, 0, 2));
    /* One that is closed for newcomers. */
    assert_false(numaperf__steer_hands_over(2, UINT32_MAX, 2));
    assert_false(numaperf__steer_hands_over(UINT32_MAX, UINT32_MAX, UINT32_MAX));
}

int main(void)
{
    const struct CMUnitTest cases[] = {
        cmocka_unit_test(steer_gives_each_pu_to_its_own_worker),
        cmocka_unit_test(steer_gives_pus_without_a_worker_to_those_of_their_node_by_turns),
        cmocka_unit_test(steer_prefers_the_worker_of_the_same_core),
        cmocka_unit_test(steer_gives_a_node_without_workers_to_some_node_that_has),
        cmocka_unit_test(steer_takes_the_nearest_node_for_one_without_workers),
        cmocka_unit_test(steer_gives_unknown_pus_to_all_by_turns),
        cmocka_unit_test(steer_takes_the_first_of_workers_that_share_a_pu),
        cmocka_unit_test(steer_program_is_as_short_as_its_runs),
        cmocka_unit_test(steer_program_that_the_kernel_would_not_take_is_none),
        cmocka_unit_test_setup(steer_attaches_a_program_where_it_may, clear_refusals),
        cmocka_unit_test_setup(steer_without_programs_names_the_pu_of_each_socket, clear_refusals),
        cmocka_unit_test_setup(steer_that_is_refused_altogether_says_so_twice, clear_refusals),
        cmocka_unit_test_setup(steer_that_is_not_wanted_leaves_it_to_the_hash, clear_refusals),
        cmocka_unit_test_setup(steer_of_inherited_sockets_goes_by_socket_not_by_order,
                               clear_refusals),
        cmocka_unit_test(handoff_needs_a_clear_difference),
        cmocka_unit_test(handoff_of_a_full_worker_goes_to_any_that_is_not),
    };
    return cmocka_run_group_tests(cases, NULL, NULL);
}
