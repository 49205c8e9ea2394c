/* SPDX-License-Identifier: MIT */
/*
 * Which worker gets a connection: by the PU its packets arrive on, and by how many each has. Pure
 * functions but for numaperf__steer_apply(), which tells the kernel.
 */
#ifndef NUMAPERF_NET_STEER_H
#define NUMAPERF_NET_STEER_H

#include <numaperf/topology.h>

#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a worker that accepts runs; its index is that of its socket in the reuseport group. */
struct numaperf__seat {
    int32_t cpu;  /* OS PU id */
    int32_t node; /* OS node id */
};

/*
 * For each PU below `pu_limit` the index of the seat that serves it: its own; else one of its core;
 * else those of its node by turns; else those of the nearest node that has any; a PU of no known
 * node goes to all by turns. At least one seat.
 */
void numaperf__steer_table(const numaperf_topology_t *topology, const struct numaperf__seat *seats,
                           uint32_t seat_count, uint32_t *table, uint32_t pu_limit);

/* The table as a program of the socket filter machine, which returns the index; its length, 0 when
 * it would be longer than `max`. */
uint32_t numaperf__steer_program(const uint32_t *table, uint32_t pu_limit, struct sock_filter *out,
                                 uint32_t max);

struct numaperf__steer_request {
    const int *fds; /* listening, or bound, of one reuseport group; in the order of seats */
    const struct numaperf__seat *seats;
    uint32_t count;
    const numaperf_topology_t *topology; /* NULL: seats mean nothing here */
    bool inherited; /* the order of the group is not known, and there may be a program already */
    bool unwanted;  /* by the user */
};

/* Steer as well as the kernel lets us: NUMAPERF_STEER_BPF, _INCOMING_CPU or _HASH, and why it is
 * not the best; `reason` is empty when it is. */
uint32_t numaperf__steer_apply(const struct numaperf__steer_request *request, char *reason,
                               size_t reason_size);

/*
 * Whether a worker with `own` connections, those on their way to it included, hands one over to
 * the one of its node that has the fewest, `least`: when it is full and the other is not, or when
 * it has at least NUMAPERF__HANDOFF_MARGIN more and a quarter more than the other.
 */
#define NUMAPERF__HANDOFF_MARGIN 8u
bool numaperf__steer_hands_over(uint32_t own, uint32_t least, uint32_t limit);

#endif
