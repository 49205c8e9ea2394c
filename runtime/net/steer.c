/* SPDX-License-Identifier: MIT */
/*
 * Steering of new connections. The kernel asks a program of a reuseport group for the index of the
 * socket, on the PU that the packet arrives on: softirq and worker then share caches, and the
 * connection's later packets come to the same PU. The program is a chain of comparisons over runs
 * of PUs with the same answer; it runs once a connection, not once a packet.
 *
 * Steps down: program -> SO_INCOMING_CPU of each socket -> the kernel's hash. An index that the
 * group does not have (a socket of it was closed) makes the kernel use its hash, so a program that
 * outlives a worker loses no connection.
 *
 * Thread rule: no state, any thread.
 *
 * Source: socket(7), SO_ATTACH_REUSEPORT_CBPF, SO_INCOMING_CPU; Linux,
 * Documentation/networking/filter.rst.
 */
#include "net/steer.h"

#include "base/assert.h"
#include "topo/topology.h"

#include <numaperf/error.h>
#include <numaperf/net.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* 5.3; an older C library does not name it. */
#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif

/* ---- which seat serves a PU ---- */

struct steer_picture {
    const numaperf_topology_t *topology;
    const struct numaperf__seat *seats;
    uint32_t seat_count;
    uint32_t turns[NUMAPERF_NODE_MAX]; /* by OS id: how often its seats have had their turn */
    uint32_t turns_of_all;             /* for PUs of no known node */
};

static uint32_t steer_seat_of_cpu(const struct steer_picture *picture, int cpu)
{
    for (uint32_t i = 0; i < picture->seat_count; i++) {
        if (picture->seats[i].cpu == cpu)
            return i;
    }
    return picture->seat_count;
}

static uint32_t steer_seat_of_core(const struct steer_picture *picture, int cpu)
{
    const struct numaperf_topology *topology = picture->topology;
    for (uint32_t i = 0; cpu < topology->pu_limit && i < picture->seat_count; i++) {
        int other = picture->seats[i].cpu;
        if (other >= 0 && other < topology->pu_limit &&
            topology->pus[other].core == topology->pus[cpu].core)
            return i;
    }
    return picture->seat_count;
}

/* The next of a node's seats; how many there are in all when it has none. */
static uint32_t steer_seat_of_node(struct steer_picture *picture, int node)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < picture->seat_count; i++)
        count += picture->seats[i].node == node;
    if (count == 0)
        return picture->seat_count;
    uint32_t skip = picture->turns[node]++ % count;
    for (uint32_t i = 0; i < picture->seat_count; i++) {
        if (picture->seats[i].node == node && skip-- == 0)
            return i;
    }
    NUMAPERF_ASSERT(false);
    return 0;
}

/* The nearest node with a seat; -1 when no distance to any is known. */
static int steer_nearest_node(const struct steer_picture *picture, int node)
{
    int nearest = -1;
    int nearest_distance = 0;
    for (uint32_t i = 0; i < picture->seat_count; i++) {
        int other = picture->seats[i].node;
        int distance = numaperf_topology_distance(picture->topology, node, other);
        if (distance <= 0 || (nearest >= 0 && distance >= nearest_distance))
            continue;
        nearest = other;
        nearest_distance = distance;
    }
    return nearest;
}

/* The node of a PU, also of one that this process may not use: packets arrive there all the same.
 */
static int steer_node_of_cpu(const struct steer_picture *picture, int cpu)
{
    const struct numaperf_topology *topology = picture->topology;
    if (cpu >= topology->pu_limit || topology->pus[cpu].node < 0)
        return -1;
    return topology->nodes[topology->pus[cpu].node].id;
}

static uint32_t steer_seat(struct steer_picture *picture, int cpu)
{
    uint32_t none = picture->seat_count;
    uint32_t seat = steer_seat_of_cpu(picture, cpu);
    if (seat != none)
        return seat;
    int node = steer_node_of_cpu(picture, cpu);
    if (node >= 0) {
        seat = steer_seat_of_core(picture, cpu);
        if (seat == none)
            seat = steer_seat_of_node(picture, node);
    }
    if (node >= 0 && seat == none) {
        int nearest = steer_nearest_node(picture, node);
        seat = nearest >= 0 ? steer_seat_of_node(picture, nearest) : none;
    }
    return seat != none ? seat : picture->turns_of_all++ % picture->seat_count;
}

void numaperf__steer_table(const numaperf_topology_t *topology, const struct numaperf__seat *seats,
                           uint32_t seat_count, uint32_t *table, uint32_t pu_limit)
{
    NUMAPERF_ASSERT(seat_count > 0);

    struct steer_picture picture = {.topology = topology, .seats = seats, .seat_count = seat_count};
    for (uint32_t cpu = 0; cpu < pu_limit; cpu++)
        table[cpu] = steer_seat(&picture, (int)cpu);
}

/* ---- the program ---- */

uint32_t numaperf__steer_program(const uint32_t *table, uint32_t pu_limit, struct sock_filter *out,
                                 uint32_t max)
{
    NUMAPERF_ASSERT(pu_limit > 0);

    if (max == 0)
        return 0;
    uint32_t length = 0;
    out[length++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_CPU));
    for (uint32_t first = 0; first < pu_limit;) {
        uint32_t end = first + 1;
        while (end < pu_limit && table[end] == table[first])
            end++;
        /* The last run takes PUs that come later, too. */
        bool is_last = end == pu_limit;
        if (length + (is_last ? 1 : 2) > max)
            return 0;
        if (!is_last)
            out[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, end, 1, 0);
        out[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, table[first]);
        first = end;
    }
    return length;
}

/* ---- tell the kernel ---- */

static int steer_set(int fd, int option, const void *value, socklen_t length)
{
    return setsockopt(fd, SOL_SOCKET, option, value, length) == 0 ? 0 : -errno;
}

/* 0 or -errno. */
static int steer_attach(const struct numaperf__steer_request *request)
{
    uint32_t pu_limit = (uint32_t)request->topology->pu_limit;
    uint32_t *table = calloc(pu_limit, sizeof(*table));
    struct sock_filter *code = calloc(BPF_MAXINSNS, sizeof(*code));
    int rc = -ENOMEM;
    if (table == NULL || code == NULL)
        goto done;
    numaperf__steer_table(request->topology, request->seats, request->count, table, pu_limit);
    uint32_t length = numaperf__steer_program(table, pu_limit, code, BPF_MAXINSNS);
    rc = -E2BIG;
    if (length == 0)
        goto done;
    const struct sock_fprog program = {.len = (unsigned short)length, .filter = code};
    rc = steer_set(request->fds[0], SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program));
done:
    free(code);
    free(table);
    return rc;
}

/* Each socket prefers packets of its worker's PU, read back. 0 or -errno, and then none does. */
static int steer_incoming_cpu(const struct numaperf__steer_request *request)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < request->count; i++) {
        int cpu = request->seats[i].cpu;
        int found = -1;
        socklen_t length = sizeof(found);
        rc = steer_set(request->fds[i], SO_INCOMING_CPU, &cpu, sizeof(cpu));
        if (rc == 0 &&
            (getsockopt(request->fds[i], SOL_SOCKET, SO_INCOMING_CPU, &found, &length) < 0 ||
             found != cpu))
            rc = -EOPNOTSUPP;
    }
    const int none = -1;
    for (uint32_t i = 0; rc < 0 && i < request->count; i++)
        (void)steer_set(request->fds[i], SO_INCOMING_CPU, &none, sizeof(none)); /* was so before */
    return rc;
}

uint32_t numaperf__steer_apply(const struct numaperf__steer_request *request, char *reason,
                               size_t reason_size)
{
    NUMAPERF_ASSERT(request->count > 0);

    const int unused = 0;
    if (request->inherited) /* there may be none, and an older kernel keeps it */
        (void)steer_set(request->fds[0], SO_DETACH_REUSEPORT_BPF, &unused, sizeof(unused));
    if (request->unwanted || request->topology == NULL) {
        (void)snprintf(reason, reason_size, "%s",
                       request->unwanted ? "NUMAPERF_LISTEN_NO_STEER was given"
                                         : "the topology is not this machine's");
        return NUMAPERF_STEER_HASH;
    }
    int rc = request->inherited ? -ESTALE : steer_attach(request);
    if (rc == 0) {
        reason[0] = '\0';
        return NUMAPERF_STEER_BPF;
    }
    const char *why = request->inherited
                          ? "inherited sockets: their order in the group is not known"
                          : numaperf_strerror(rc);
    int again = steer_incoming_cpu(request);
    if (again == 0) {
        (void)snprintf(reason, reason_size, "SO_ATTACH_REUSEPORT_CBPF: %s", why);
        return NUMAPERF_STEER_INCOMING_CPU;
    }
    (void)snprintf(reason, reason_size, "SO_ATTACH_REUSEPORT_CBPF: %s; SO_INCOMING_CPU: %s", why,
                   numaperf_strerror(again));
    return NUMAPERF_STEER_HASH;
}

/* ---- by load ---- */

bool numaperf__steer_hands_over(uint32_t own, uint32_t least, uint32_t limit)
{
    if (own >= limit)
        return least < limit;
    return own >= NUMAPERF__HANDOFF_MARGIN && own - NUMAPERF__HANDOFF_MARGIN >= least &&
           own - least >= least / 4;
}
