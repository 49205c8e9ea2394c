/* SPDX-License-Identifier: MIT */
/* Regions, for the rooms below; see <numaperf/region.h> for the public side. */
#ifndef NUMAPERF_PLACE_REGION_H
#define NUMAPERF_PLACE_REGION_H

#include <numaperf/region.h>

/*
 * A region that is not what the public function makes.
 *
 * `guard_bytes`: that many bytes (whole pages) below data() are PROT_NONE and not counted in
 * length(); anonymous memory only, and not with huge pages of 2MB or 1GB. `align_bytes`: data() is
 * a multiple of that power of two; anonymous memory only. `unplaced_reason`: not NULL when the node
 * ids are not this machine's (a synthetic topology): the memory is mapped with policy LOCAL
 * whatever `config` says, its level is none with this reason, and hard mode refuses.
 */
struct numaperf__region_extra {
    size_t guard_bytes;
    size_t align_bytes; /* 0: a page */
    const char *unplaced_reason;
};
int numaperf__region_create(const numaperf_region_config_t *config,
                            const struct numaperf__region_extra *extra,
                            numaperf_region_t **out_region);

/* Refuse, recorded, flags, policy, mode or page and prefault choices that do not exist. */
int numaperf__region_check_choices(const numaperf_region_config_t *cfg);

/*
 * Where the pages of any memory of this process are, added to what `io_placement` already holds
 * (zero it first; its size is not looked at). Returns 0 or -errno.
 */
int numaperf__pages_query(const void *base, size_t length, numaperf_placement_t *io_placement);

/*
 * A level from a placement: strict when every page is on `node` and none is absent. `what` names
 * the memory in the reason, "ring".
 */
void numaperf__placement_level(const numaperf_placement_t *placement, int node, const char *what,
                               numaperf_enforcement_t *out);

#endif
