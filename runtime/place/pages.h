/* SPDX-License-Identifier: MIT */
/* Where pages are, and moving those that are elsewhere; the query itself is in place/region.h. */
#ifndef NUMAPERF_PLACE_PAGES_H
#define NUMAPERF_PLACE_PAGES_H

#include "place/range.h"

#include <numaperf/cpuset.h>
#include <numaperf/region.h>

/* As numaperf__pages_query(), asking once a page of the range: quick on huge pages. */
int numaperf__range_query(const struct numaperf__range *range, numaperf_placement_t *io_placement);

/*
 * One batch of the range's pages `*io_next`, `*io_next` + stride, ...; moves it on to the first
 * page that was not asked about, which may lie behind the end. 0 or -errno, and then it stays.
 */
int numaperf__range_query_some(const struct numaperf__range *range, uint64_t stride,
                               uint64_t *io_next, numaperf_placement_t *io_placement);

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
