/* SPDX-License-Identifier: MIT */
/*
 * Arena: an allocator over regions of one node. One thread owns it and allocates; any thread may
 * free. Blocks come in size classes carved from chunks, those above 28 KiB in multiples of 64 KiB
 * of a chunk; what is above half a chunk or 1 MiB has a region of its own.
 */
#ifndef NUMAPERF_ARENA_H
#define NUMAPERF_ARENA_H

#include <numaperf/enforce.h>
#include <numaperf/region.h>
#include <numaperf/topology.h>
#include <numaperf/version.h>

#include <stddef.h>
#include <stdint.h>

NUMAPERF_BEGIN_DECLS

/* Bits of numaperf_arena_config_t.flags. */
enum {
    NUMAPERF_ARENA_HAS_NODE = 1u << 0, /* `node` counts; else memory is local to who touches it */
    NUMAPERF_ARENA_LOCK = 1u << 1      /* mlock every chunk */
};

typedef struct numaperf_arena numaperf_arena_t;

typedef struct numaperf_arena_config {
    uint32_t size;        /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;       /* NUMAPERF_ARENA_*; an unknown bit is -EINVAL */
    int32_t node;         /* OS node id, with NUMAPERF_ARENA_HAS_NODE */
    uint32_t mode;        /* NUMAPERF_MODE_*; 0 is SOFT */
    uint32_t huge_pages;  /* NUMAPERF_HUGE_*; 0 leaves it to the system */
    uint32_t prefault;    /* NUMAPERF_PREFAULT_* for chunks; hard mode always populates them */
    uint64_t chunk_bytes; /* growth step; 0 is 2 MiB; rounded up to 64 KiB or a huge page */
    uint64_t limit_bytes; /* most memory the arena maps, at least 8 KiB; 0 is no limit */
    const numaperf_topology_t *topology; /* NULL: this machine's; only read during create */
} numaperf_arena_config_t;

#define NUMAPERF_ARENA_CONFIG_INIT                              \
    {                                                           \
        sizeof(numaperf_arena_config_t), 0, 0, 0, 0, 0, 0, 0, 0 \
    }

/* The tag is not _stats: C++ would see the function of that name shadowed. */
typedef struct numaperf_arena_statistics {
    uint32_t size;              /* bytes of this struct the caller knows; set by _INIT */
    uint32_t chunk_count;       /* regions mapped now */
    uint64_t mapped_bytes;      /* in these regions */
    uint64_t used_bytes;        /* in blocks handed out, with rounding */
    uint64_t used_bytes_peak;   /* highest that was seen: here, and when spans were used */
    uint64_t limit_bytes;       /* as configured; 0 is no limit */
    uint64_t alloc_count;       /* successful allocations */
    uint64_t free_count;        /* frees, by any thread, taken in so far */
    uint64_t remote_free_count; /* of these, by other threads than the owner */
    uint64_t fail_count;        /* allocations that returned NULL */
} numaperf_arena_stats_t;

#define NUMAPERF_ARENA_STATS_INIT                                 \
    {                                                             \
        sizeof(numaperf_arena_stats_t), 0, 0, 0, 0, 0, 0, 0, 0, 0 \
    }

/**
 * Make an arena and map its first chunk.
 *
 * The thread that allocates first becomes the owner. With a topology that is not this machine's,
 * soft mode reports level none and hard mode refuses.
 *
 * Units:    bytes.
 * Returns:  0; -EINVAL; -E2BIG; -ENOMEM; NUMAPERF_E_NO_NODE; NUMAPERF_E_HARD_MODE.
 * Owner:    caller, until numaperf_arena_destroy().
 * Threads:  any.
 * Source:   mbind(2).
 */
NUMAPERF_API int numaperf_arena_create(const numaperf_arena_config_t *config,
                                       numaperf_arena_t **out);

/**
 * Unmap everything, blocks still in use included; NULL is allowed. No thread may still free.
 *
 * Threads:  any, with no other call on this arena under way.
 */
NUMAPERF_API void numaperf_arena_destroy(numaperf_arena_t *arena);

/**
 * Memory of `size` bytes at a multiple of `align`, not cleared. In hard mode every chunk that the
 * arena grows by was verified like the first; growth that cannot be guaranteed returns NULL.
 *
 * `align` is a power of two, at most 4096; 0 is 16.
 *
 * Units:    bytes.
 * Returns:  the block; NULL when the limit is reached, memory is short, or an argument is bad:
 *           numaperf_last_error() says which.
 * Owner:    caller, until numaperf_arena_free().
 * Threads:  owner.
 */
NUMAPERF_API void *numaperf_arena_alloc(numaperf_arena_t *arena, size_t size, size_t align);

/**
 * Give a block back to the arena it came from; NULL is allowed. A block freed twice, or a pointer
 * that is none, ends the process: at the latest when it goes back to where it was carved from.
 *
 * From another thread than the owner it is only handed over: it can be used again, and a large
 * block is unmapped, when the owner takes it in while it allocates or asks for statistics.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_arena_free(numaperf_arena_t *arena, void *block);

/**
 * The node it was made for.
 *
 * Returns:  the OS node id; NUMAPERF_E_NO_NODE when it has none.
 * Threads:  any.
 */
NUMAPERF_API int numaperf_arena_node(const numaperf_arena_t *arena);

/**
 * The lowest level of its chunks.
 *
 * Owner:    the arena.
 * Threads:  owner.
 */
NUMAPERF_API const numaperf_enforcement_t *
numaperf_arena_enforcement(const numaperf_arena_t *arena);

/**
 * Counters now.
 *
 * Returns:  0; -EINVAL.
 * Threads:  any; exact on the owner, a recent picture elsewhere.
 */
NUMAPERF_API int numaperf_arena_stats(const numaperf_arena_t *arena, numaperf_arena_stats_t *out);

/**
 * Ask the kernel where every page of every chunk is now.
 *
 * Returns:  0; -EINVAL; -ENOMEM; -errno when the query is refused.
 * Threads:  any.
 * Source:   move_pages(2).
 */
NUMAPERF_API int numaperf_arena_audit(const numaperf_arena_t *arena, numaperf_placement_t *out);

NUMAPERF_END_DECLS
#endif
