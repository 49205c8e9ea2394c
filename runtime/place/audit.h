/* SPDX-License-Identifier: MIT */
/* Whether mapped memory still is where it was placed, and putting it back. */
#ifndef NUMAPERF_PLACE_AUDIT_H
#define NUMAPERF_PLACE_AUDIT_H

#include "base/atomic.h"
#include "place/range.h"

#include <numaperf/cpuset.h>
#include <numaperf/region.h>

#include <stdbool.h>
#include <stdint.h>

/* One mapping whose pages shall be on one node. */
struct numaperf__audit_range {
    struct numaperf__range range;
    bool is_bound; /* its policy shall be BIND: it was, when it was made */
};

/* That of a region, as it was made. */
void numaperf__audit_range_of(const numaperf_region_t *region, struct numaperf__audit_range *out);

/*
 * Which pages of a list are asked about: at most `pages_max`; every next `phase` asks about the
 * next ones, and after as many phases as it takes each has been asked about. No sample, or a list
 * that is not longer, is every page, and every policy.
 */
struct numaperf__audit_sample {
    uint64_t pages_max;
    uint64_t phase;
    const atomic_bool *give_up; /* NULL, or what ends a long look with -ECANCELED */
};

/* What was found, in base pages; added up over calls. Zero it first. */
struct numaperf__audit_counts {
    uint64_t pages;    /* asked about */
    uint64_t home;     /* of them on the node */
    uint64_t absent;   /* of them on no node that could be told */
    uint64_t policies; /* mappings whose policy was asked for */
    uint64_t other;    /* of them with another one than BIND of the node */
    int policy;        /* of one of these: the kernel's MPOL_* and its nodes */
    numaperf_nodemask_t nodes;
};

/* Pages, each of its mapping's own size, that a look at everything asks about. */
uint64_t numaperf__audit_page_count(const struct numaperf__audit_range *ranges, size_t count);

/* Ask the kernel; `sample` may be NULL. 0 or -errno, and then nothing is added. Any thread. */
int numaperf__audit_look(const struct numaperf__audit_range *ranges, size_t count, int node,
                         const struct numaperf__audit_sample *sample,
                         struct numaperf__audit_counts *io_counts);

/*
 * Put the pages of a mapping back on `node`, and bind it again if it was. In the order that wakes
 * no out-of-memory killer: prefer the node, move what is elsewhere, and bind only when what is
 * still to be touched fits; else the mapping is left preferring it. 0; -ENOMEM the node is too
 * full, or pages cannot be moved; -errno. Says nothing about success: look again.
 */
int numaperf__audit_put_back(const struct numaperf__audit_range *range, int node);

/* The same for memory that the kernel allocated and no policy governs: pages are moved alone. */
int numaperf__audit_move_back(const struct numaperf__range *range, int node);

/* Name of a policy as in numa_maps, "bind:0-1", cut to `size`. */
void numaperf__audit_policy_name(int policy, const numaperf_nodemask_t *nodes, char *out,
                                 size_t size);

#endif
