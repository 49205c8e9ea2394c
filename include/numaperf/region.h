/* SPDX-License-Identifier: MIT */
/* NumaRegion: one mapping whose pages are placed on chosen nodes before anybody touches them. */
#ifndef NUMAPERF_REGION_H
#define NUMAPERF_REGION_H

#include <numaperf/cpuset.h>
#include <numaperf/enforce.h>
#include <numaperf/version.h>

#include <stddef.h>
#include <stdint.h>

NUMAPERF_BEGIN_DECLS

/* Where pages go: the kernel's own policies. */
enum {
    NUMAPERF_MEM_LOCAL = 0, /* node of the thread that touches a page first */
    NUMAPERF_MEM_BIND,      /* `nodes` only; with several, the kernel may use just one of them */
    NUMAPERF_MEM_PREFERRED, /* `nodes` first (one node), elsewhere when it is full */
    NUMAPERF_MEM_INTERLEAVE /* page by page over `nodes` */
};

/* Page size. 2MB and 1GB come from the reserved pool of the node and are populated by create. */
enum {
    NUMAPERF_HUGE_DEFAULT = 0, /* as the system is configured */
    NUMAPERF_HUGE_NONE,        /* small pages only */
    NUMAPERF_HUGE_TRANSPARENT, /* ask for transparent huge pages */
    NUMAPERF_HUGE_2MB,
    NUMAPERF_HUGE_1GB
};

enum {
    NUMAPERF_PREFAULT_NONE = 0, /* a page comes with its first touch */
    NUMAPERF_PREFAULT_TOUCH,    /* create populates every page */
    NUMAPERF_PREFAULT_PARALLEL  /* ... by several threads that run on the target node */
};

/* Bits of numaperf_region_config_t.flags. */
enum {
    NUMAPERF_REGION_LOCK = 1u << 0,     /* mlock; needs RLIMIT_MEMLOCK or CAP_IPC_LOCK; populates */
    NUMAPERF_REGION_HAS_FD = 1u << 1,   /* map `fd` from `offset` instead of anonymous memory */
    NUMAPERF_REGION_PRIVATE = 1u << 2,  /* with HAS_FD: copy on write; else writes reach the file */
    NUMAPERF_REGION_READ_ONLY = 1u << 3 /* with HAS_FD: no write access */
};

/* Memory whose pages are placed on chosen NUMA nodes. */
typedef struct numaperf_region numaperf_region_t;

typedef struct numaperf_region_config {
    uint32_t size;             /* bytes of this struct the caller knows; set by _INIT */
    uint32_t flags;            /* NUMAPERF_REGION_*; an unknown bit is -EINVAL */
    uint64_t length;           /* bytes, > 0; rounded up to whole pages */
    uint32_t policy;           /* NUMAPERF_MEM_*; 0 is LOCAL */
    uint32_t mode;             /* NUMAPERF_MODE_*; 0 is SOFT */
    uint32_t huge_pages;       /* NUMAPERF_HUGE_*; 0 leaves it to the system */
    uint32_t prefault;         /* NUMAPERF_PREFAULT_*; 0 is none */
    numaperf_nodemask_t nodes; /* OS node ids; must be empty for LOCAL, not empty for the others */
    uint64_t offset;           /* bytes into `fd`, a multiple of the page size */
    int32_t fd;                /* with NUMAPERF_REGION_HAS_FD; not needed after create */
    uint32_t prefault_threads; /* for PARALLEL; 0 chooses, at most 64 */
} numaperf_region_config_t;

#define NUMAPERF_REGION_CONFIG_INIT                                        \
    {                                                                      \
        sizeof(numaperf_region_config_t), 0, 0, 0, 0, 0, 0, {{0}}, 0, 0, 0 \
    }

/* Where the pages of some memory are, as the kernel says. */
typedef struct numaperf_placement {
    uint32_t size;                       /* bytes of this struct the caller knows; set by _INIT */
    uint32_t node_count;                 /* nodes that hold at least one page */
    uint64_t pages;                      /* pages asked about, in units of the base page size */
    uint64_t absent;                     /* of these, not present or not answered for */
    uint64_t on_node[NUMAPERF_NODE_MAX]; /* pages by OS node id */
} numaperf_placement_t;

#define NUMAPERF_PLACEMENT_INIT                \
    {                                          \
        sizeof(numaperf_placement_t), 0, 0, 0, \
        {                                      \
            0                                  \
        }                                      \
    }

/**
 * Map memory and place its pages before the first touch.
 *
 * A policy the kernel refuses fails the call in hard mode; in soft mode the call succeeds, the
 * memory is usable, and numaperf_region_enforcement() reports the level reached. Huge pages that
 * the node does not have are refused in hard mode and replaced by small ones, and reported, in
 * soft mode: a touch never raises SIGBUS. A node that is too full is an error, never the
 * out-of-memory killer; a race with other processes of the same cgroup remains. For pages that
 * create does not populate there was room when it looked, no more: prefault where memory is short.
 *
 * Strict means: BIND, the range is bound to exactly `nodes` and no page is elsewhere; the others
 * spill when a node fills, so for them only that everything was populated and found in place. A
 * file in page cache (not tmpfs, not hugetlbfs) follows no policy: best effort, unless private and
 * populated. A node that our cpuset excludes counts as without memory when it is the only one.
 *
 * `config` is read during the call; `out_region` is written on success only.
 *
 * Units:    bytes.
 * Returns:  0; -EINVAL size, flags, length or nodes; -E2BIG; -ENOMEM no memory; -errno for a file
 *           that cannot be mapped; NUMAPERF_E_NO_NODE a node is absent or has no memory;
 *           NUMAPERF_E_HARD_MODE hard mode and the placement cannot be guaranteed.
 * Owner:    caller, until numaperf_region_destroy().
 * Threads:  any.
 * Source:   mmap(2), mbind(2), move_pages(2), madvise(2).
 */
NUMAPERF_API int numaperf_region_create(const numaperf_region_config_t *config,
                                        numaperf_region_t **out_region);

/**
 * Unmap the memory; NULL is allowed.
 *
 * Threads:  any.
 */
NUMAPERF_API void numaperf_region_destroy(numaperf_region_t *region);

/**
 * First byte, aligned to a page.
 *
 * Returns:  the address; NULL for NULL.
 * Owner:    the region.
 * Threads:  any.
 */
NUMAPERF_API void *numaperf_region_data(const numaperf_region_t *region);

/**
 * Usable length: what was asked for, rounded up to whole pages.
 *
 * Units:    bytes.
 * Threads:  any.
 */
NUMAPERF_API size_t numaperf_region_length(const numaperf_region_t *region);

/**
 * Size of the pages it is made of.
 *
 * Units:    bytes.
 * Threads:  any.
 */
NUMAPERF_API size_t numaperf_region_page_size(const numaperf_region_t *region);

/**
 * The level the placement reached when the region was made.
 *
 * Owner:    the region.
 * Threads:  any.
 */
NUMAPERF_API const numaperf_enforcement_t *
numaperf_region_enforcement(const numaperf_region_t *region);

/**
 * Ask the kernel where every page is now.
 *
 * Returns:  0; -EINVAL; -ENOMEM; -errno when the query is refused, and `out` is then untouched.
 * Threads:  any.
 * Source:   move_pages(2).
 */
NUMAPERF_API int numaperf_region_audit(const numaperf_region_t *region, numaperf_placement_t *out);

NUMAPERF_END_DECLS
#endif
