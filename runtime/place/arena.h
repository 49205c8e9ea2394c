/* SPDX-License-Identifier: MIT */
/* Arenas, for the rooms below; see <numaperf/arena.h> for the public side. */
#ifndef NUMAPERF_PLACE_ARENA_H
#define NUMAPERF_PLACE_ARENA_H

#include "place/audit.h"

#include <numaperf/arena.h>

/* Walk the whole arena and assert that it is consistent. On its owner, for tests. */
void numaperf__arena_validate(numaperf_arena_t *arena);

/*
 * Look at the arena's memory, as numaperf__audit_look(), without keeping its owner waiting. Any
 * thread. 0; -ENOMEM; -errno. For an arena with a node.
 */
int numaperf__arena_look(const numaperf_arena_t *arena, const struct numaperf__audit_sample *sample,
                         struct numaperf__audit_counts *out);

/* Pages that a look at everything asks about, about. Any thread. */
uint64_t numaperf__arena_page_count(const numaperf_arena_t *arena);

/*
 * Put back every mapping of the arena that is not as it was made, one at a time: its owner waits at
 * most for one, when it grows or shrinks. `give_up` may be NULL, or ends it with -ECANCELED. Any
 * thread. 0 or the first -errno.
 */
int numaperf__arena_put_back(numaperf_arena_t *arena, const atomic_bool *give_up);

#endif
