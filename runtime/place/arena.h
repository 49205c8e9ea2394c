/* SPDX-License-Identifier: MIT */
/* Arenas, for the rooms below; see <numaperf/arena.h> for the public side. */
#ifndef NUMAPERF_PLACE_ARENA_H
#define NUMAPERF_PLACE_ARENA_H

#include <numaperf/arena.h>

/* Walk the whole arena and assert that it is consistent. On its owner, for tests. */
void numaperf__arena_validate(numaperf_arena_t *arena);

#endif
