/* SPDX-License-Identifier: MIT */
/* Where pages are, and moving those that are elsewhere; the query itself is in place/region.h. */
#ifndef NUMAPERF_PLACE_PAGES_H
#define NUMAPERF_PLACE_PAGES_H

#include "place/range.h"

#include <numaperf/cpuset.h>
#include <numaperf/region.h>

/* As numaperf__pages_query(), asking once a page of the range: quick on huge pages. */
int numaperf__range_query(const struct numaperf__range *range, numaperf_placement_t *io_placement);

/* Where single pages are: a node or -errno each. Returns 0 or -errno. */
int numaperf__addresses_query(void *const *addresses, size_t count, int *out_statuses);

/*
 * Move every page that is on no node of `nodes` to the first of them that takes it. A page that
 * none takes stays: query again to learn how many. Returns 0; -errno when moving is refused.
 */
int numaperf__range_move_strays(const struct numaperf__range *range,
                                const numaperf_nodemask_t *nodes);

/* Pages of `placement` that are present on a node outside `nodes`. */
uint64_t numaperf__placement_strays(const numaperf_placement_t *placement,
                                    const numaperf_nodemask_t *nodes);

#endif
