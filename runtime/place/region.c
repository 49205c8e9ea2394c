/* SPDX-License-Identifier: MIT */
/*
 * NumaRegion: one mapping, one policy. This file owns the object's life: configuration, mapping,
 * the retry with small pages, destruction. region_place.c puts the pages where they belong, and
 * region_file.c knows files.
 *
 * Invariants: a region that was handed out is mapped, and none of its pages raises SIGBUS; its
 * enforcement is what creation reached and never changes; after a failure nothing stays mapped.
 *
 * Threads: a region is immutable after creation, so every reader may run on any thread. The
 * contents are the caller's.
 * Source: mmap(2), madvise(2), Documentation/admin-guide/mm/hugetlbpage.rst.
 */
#include "place/region.h"

#include "base/assert.h"
#include "base/config.h"
#include "base/error.h"
#include "place/enforce.h"
#include "place/pages.h"
#include "place/prefault.h"
#include "place/range.h"
#include "place/region_file.h"
#include "place/region_place.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/mman.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define REGION_FLAGS                                                           \
    (NUMAPERF_REGION_LOCK | NUMAPERF_REGION_HAS_FD | NUMAPERF_REGION_PRIVATE | \
     NUMAPERF_REGION_READ_ONLY)
#define HUGE_2MB_BYTES ((size_t)2 << 20)
#define HUGE_1GB_BYTES ((size_t)1 << 30)
#define ALIGN_MAX HUGE_1GB_BYTES

_Static_assert(sizeof(numaperf_region_config_t) == 176, "public layout");
_Static_assert(offsetof(numaperf_region_config_t, length) == 8, "public layout");
_Static_assert(offsetof(numaperf_region_config_t, policy) == 16, "public layout");
_Static_assert(offsetof(numaperf_region_config_t, mode) == 20, "public layout");
_Static_assert(offsetof(numaperf_region_config_t, huge_pages) == 24, "public layout");
_Static_assert(offsetof(numaperf_region_config_t, prefault) == 28, "public layout");
_Static_assert(offsetof(numaperf_region_config_t, nodes) == 32, "public layout");
_Static_assert(offsetof(numaperf_region_config_t, offset) == 160, "public layout");
_Static_assert(offsetof(numaperf_region_config_t, fd) == 168, "public layout");
_Static_assert(offsetof(numaperf_region_config_t, prefault_threads) == 172, "public layout");
#define REGION_CONFIG_MIN_SIZE 176

struct numaperf_region {
    struct numaperf__range range; /* what the user sees */
    size_t guard_bytes;           /* PROT_NONE below it */
    numaperf_enforcement_t enforcement;
};

/* ---- configuration ---- */

int numaperf__region_check_choices(const numaperf_region_config_t *cfg)
{
    if ((cfg->flags & ~(uint32_t)REGION_FLAGS) != 0)
        return numaperf__fail(-EINVAL, 0, "region", "flags: unknown bits 0x%x",
                              cfg->flags & ~(uint32_t)REGION_FLAGS);
    if (cfg->policy > NUMAPERF_MEM_INTERLEAVE)
        return numaperf__fail(-EINVAL, 0, "region", "policy: %u is no NUMAPERF_MEM_*", cfg->policy);
    if (cfg->mode > NUMAPERF_MODE_HARD)
        return numaperf__fail(-EINVAL, 0, "region", "mode: %u is no NUMAPERF_MODE_*", cfg->mode);
    if (cfg->huge_pages > NUMAPERF_HUGE_1GB)
        return numaperf__fail(-EINVAL, 0, "region", "huge_pages: %u is no NUMAPERF_HUGE_*",
                              cfg->huge_pages);
    if (cfg->prefault > NUMAPERF_PREFAULT_PARALLEL)
        return numaperf__fail(-EINVAL, 0, "region", "prefault: %u is no NUMAPERF_PREFAULT_*",
                              cfg->prefault);
    if (cfg->prefault_threads > NUMAPERF__PREFAULT_THREADS_MAX)
        return numaperf__fail(-EINVAL, 0, "region", "prefault_threads: %u is above %d",
                              cfg->prefault_threads, NUMAPERF__PREFAULT_THREADS_MAX);
    return 0;
}

static int config_check_nodes(const numaperf_region_config_t *cfg)
{
    int count = numaperf_nodemask_count(&cfg->nodes);
    if (cfg->policy == NUMAPERF_MEM_LOCAL && count > 0)
        return numaperf__fail(-EINVAL, 0, "region", "nodes: must be empty for policy LOCAL");
    if (cfg->policy != NUMAPERF_MEM_LOCAL && count == 0)
        return numaperf__fail(-EINVAL, 0, "region", "nodes: empty, and the policy is not LOCAL");
    if (cfg->policy == NUMAPERF_MEM_PREFERRED && count > 1)
        return numaperf__fail(-EINVAL, 0, "region",
                              "nodes: %d of them, and PREFERRED takes one node", count);
    return 0;
}

static int config_check_file(const numaperf_region_config_t *cfg)
{
    const uint32_t file_flags = NUMAPERF_REGION_PRIVATE | NUMAPERF_REGION_READ_ONLY;
    if ((cfg->flags & NUMAPERF_REGION_HAS_FD) == 0) {
        if ((cfg->flags & file_flags) != 0)
            return numaperf__fail(-EINVAL, 0, "region",
                                  "flags: PRIVATE and READ_ONLY are for files (HAS_FD)");
        if (cfg->offset != 0)
            return numaperf__fail(-EINVAL, 0, "region", "offset: is for files (HAS_FD)");
        return 0;
    }
    if (cfg->offset % numaperf__page_bytes() != 0)
        return numaperf__fail(-EINVAL, 0, "region",
                              "offset: %" PRIu64 " is not a multiple of the page size",
                              cfg->offset);
    if (cfg->offset > INT64_MAX)
        return numaperf__fail(-EINVAL, 0, "region", "offset: %" PRIu64 " is no file offset",
                              cfg->offset);
    return 0;
}

static int extra_check(const struct numaperf__region_job *job)
{
    const struct numaperf__region_extra *extra = &job->extra;
    if (extra->guard_bytes == 0 && extra->align_bytes == 0)
        return 0;
    if ((job->cfg.flags & NUMAPERF_REGION_HAS_FD) != 0)
        return numaperf__fail(-EINVAL, 0, "region", "guard and alignment: anonymous memory only");
    if (extra->guard_bytes > 0 && job->cfg.huge_pages >= NUMAPERF_HUGE_2MB)
        return numaperf__fail(-EINVAL, 0, "region", "a guard does not go with huge pages");
    NUMAPERF_ASSERT(extra->guard_bytes % numaperf__page_bytes() == 0);
    NUMAPERF_ASSERT((extra->align_bytes & (extra->align_bytes - 1)) == 0);
    NUMAPERF_ASSERT(extra->align_bytes <= ALIGN_MAX);
    return 0;
}

/* Page size and rounded length. */
static int config_set_length(struct numaperf__region_job *job, size_t page_bytes)
{
    const size_t room_max = SIZE_MAX / 2 - ALIGN_MAX;
    if (job->cfg.length == 0)
        return numaperf__fail(-EINVAL, 0, "region", "length: is 0");
    if (job->cfg.length > room_max || job->extra.guard_bytes > room_max - job->cfg.length)
        return numaperf__fail(-EINVAL, 0, "region",
                              "length: %" PRIu64 " bytes are no address space", job->cfg.length);
    size_t pages = ((size_t)job->cfg.length + page_bytes - 1) / page_bytes;
    job->range.page_bytes = page_bytes;
    job->range.length = pages * page_bytes;
    return 0;
}

/* A file brings its own page size, so a size asked for must be that. */
static int config_set_file(struct numaperf__region_job *job)
{
    int rc = numaperf__file_inspect(&job->cfg, &job->file);
    if (rc < 0)
        return rc;
    size_t asked = job->cfg.huge_pages == NUMAPERF_HUGE_2MB   ? HUGE_2MB_BYTES
                   : job->cfg.huge_pages == NUMAPERF_HUGE_1GB ? HUGE_1GB_BYTES
                                                              : job->file.page_bytes;
    if (asked != job->file.page_bytes)
        return numaperf__fail(-EINVAL, 0, "region", "huge_pages: the pages of fd %d have %zu bytes",
                              job->cfg.fd, job->file.page_bytes);
    job->is_hugetlb = job->file.is_hugetlb;
    rc = config_set_length(job, job->file.page_bytes);
    if (rc < 0)
        return rc;
    return numaperf__file_check_end(&job->cfg, &job->file, job->range.length);
}

static int config_set_pages(struct numaperf__region_job *job)
{
    if ((job->cfg.flags & NUMAPERF_REGION_HAS_FD) != 0)
        return config_set_file(job);
    size_t page_bytes = numaperf__page_bytes();
    if (job->cfg.huge_pages == NUMAPERF_HUGE_2MB)
        page_bytes = HUGE_2MB_BYTES;
    if (job->cfg.huge_pages == NUMAPERF_HUGE_1GB)
        page_bytes = HUGE_1GB_BYTES;
    job->is_hugetlb = job->cfg.huge_pages >= NUMAPERF_HUGE_2MB;
    return config_set_length(job, page_bytes);
}

static int config_load(struct numaperf__region_job *job, const numaperf_region_config_t *config)
{
    int rc = numaperf__config_load(&job->cfg, sizeof(job->cfg), REGION_CONFIG_MIN_SIZE, config,
                                   "region");
    if (rc == 0)
        rc = numaperf__region_check_choices(&job->cfg);
    if (rc == 0)
        rc = config_check_nodes(&job->cfg);
    if (rc == 0)
        rc = config_check_file(&job->cfg);
    if (rc == 0)
        rc = extra_check(job);
    if (rc == 0)
        rc = config_set_pages(job);
    return rc;
}

/* ---- mapping ---- */

static int map_file(struct numaperf__region_job *job)
{
    int protection = PROT_READ;
    if ((job->cfg.flags & NUMAPERF_REGION_READ_ONLY) == 0)
        protection |= PROT_WRITE;
    int flags = (job->cfg.flags & NUMAPERF_REGION_PRIVATE) != 0 ? MAP_PRIVATE : MAP_SHARED;
    void *base =
        mmap(NULL, job->range.length, protection, flags, job->cfg.fd, (off_t)job->cfg.offset);
    if (base != MAP_FAILED) {
        job->range.base = base;
        return 0;
    }
    if (job->is_hugetlb && errno == ENOMEM)
        return numaperf__region_lacks_huge(job, errno);
    return numaperf__fail(-errno, errno, "mmap", "fd %d: %zu bytes cannot be mapped", job->cfg.fd,
                          job->range.length);
}

static int map_huge(struct numaperf__region_job *job)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
    flags |= (int)(job->range.page_bytes == HUGE_1GB_BYTES ? MAP_HUGE_1GB : MAP_HUGE_2MB);
    void *base = mmap(NULL, job->range.length, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (base == MAP_FAILED)
        return numaperf__region_lacks_huge(job, errno);
    job->range.base = base;
    return 0;
}

/* A part of a fresh mapping that alignment does not need. */
static void unmap_slack(char *base, size_t length)
{
    if (length == 0)
        return;
    /* Refused only when the process has no mapping left to split: the slack stays reserved. */
    if (munmap(base, length) < 0)
        numaperf__log(NUMAPERF_LOG_WARN, "region: %zu bytes of slack stay mapped: %s", length,
                      numaperf_strerror(-errno));
}

static int map_anonymous(struct numaperf__region_job *job)
{
    size_t page = numaperf__page_bytes();
    size_t align = job->extra.align_bytes > page ? job->extra.align_bytes : page;
    if (job->cfg.huge_pages == NUMAPERF_HUGE_TRANSPARENT && job->range.length >= HUGE_2MB_BYTES &&
        align < HUGE_2MB_BYTES)
        align = HUGE_2MB_BYTES; /* an unaligned range has small pages at both ends */
    size_t guard = job->extra.guard_bytes;
    size_t slack = align - page;
    size_t total = guard + job->range.length + slack;
    char *map = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED)
        return numaperf__fail(-errno, errno, "mmap", "%zu bytes cannot be mapped", total);

    uintptr_t data = ((uintptr_t)map + guard + align - 1) / align * align;
    size_t before = data - (uintptr_t)map - guard;
    NUMAPERF_ASSERT(before <= slack);
    char *base = map + before;
    unmap_slack(map, before);
    unmap_slack(base + guard + job->range.length, slack - before);
    job->range.base = base + guard;
    if (guard == 0 || mprotect(base, guard, PROT_NONE) == 0)
        return 0;
    int sys_errno = errno;
    unmap_slack(base, guard + job->range.length);
    job->range.base = NULL;
    return numaperf__fail(-sys_errno, sys_errno, "mprotect", "the guard of %zu bytes", guard);
}

/* Transparent huge pages as asked: advice only, which a kernel without them does not know. */
static void map_advise(const struct numaperf__region_job *job)
{
    int advice = job->cfg.huge_pages == NUMAPERF_HUGE_NONE ? MADV_NOHUGEPAGE : MADV_HUGEPAGE;
    if (job->is_hugetlb || (job->cfg.huge_pages != NUMAPERF_HUGE_NONE &&
                            job->cfg.huge_pages != NUMAPERF_HUGE_TRANSPARENT))
        return;
    if (madvise(job->range.base, job->range.length, advice) < 0)
        numaperf__log(NUMAPERF_LOG_INFO, "region: transparent huge pages cannot be chosen: %s",
                      numaperf_strerror(-errno));
}

static void region_unmap(const struct numaperf__range *range, size_t guard_bytes)
{
    NUMAPERF_ASSERT(range->base != NULL);
    unmap_slack(range->base - guard_bytes, guard_bytes + range->length);
}

/* ---- creation ---- */

/* Admit, map and place once. Returns 0, NUMAPERF__REGION_LACKS_HUGE with nothing mapped, or a
 * failure. */
static int region_try(struct numaperf__region_job *job)
{
    int rc = numaperf__region_admit(job);
    if (rc < 0)
        return rc;
    if ((job->cfg.flags & NUMAPERF_REGION_HAS_FD) != 0)
        rc = map_file(job);
    else
        rc = job->is_hugetlb ? map_huge(job) : map_anonymous(job);
    if (rc != 0)
        return rc;

    map_advise(job);
    rc = numaperf__region_place(job);
    if (rc == 0)
        return 0;
    region_unmap(&job->range, job->extra.guard_bytes);
    job->range.base = NULL;
    return rc;
}

static int region_build(struct numaperf__region_job *job)
{
    numaperf__enforce_set(&job->enforcement, NUMAPERF_ENFORCE_STRICT, "%s", "");
    if (job->extra.unplaced_reason != NULL) {
        /* Ids of another machine must not reach this one's kernel. */
        job->cfg.policy = NUMAPERF_MEM_LOCAL;
        numaperf_nodemask_zero(&job->cfg.nodes);
        if (job->cfg.prefault == NUMAPERF_PREFAULT_PARALLEL)
            job->cfg.prefault = NUMAPERF_PREFAULT_TOUCH;
    }
    int rc = numaperf__region_goal(job);
    if (rc == 0)
        rc = region_try(job);
    if (rc != NUMAPERF__REGION_LACKS_HUGE)
        return rc;

    /* The level was lowered, with the reason, when the pool turned out too small. */
    NUMAPERF_ASSERT(!numaperf_is_strict(&job->enforcement));
    job->is_hugetlb = false;
    job->cfg.huge_pages = NUMAPERF_HUGE_DEFAULT;
    rc = config_set_length(job, numaperf__page_bytes());
    if (rc == 0)
        rc = region_try(job);
    NUMAPERF_ASSERT(rc <= 0);
    return rc;
}

static void region_fill(struct numaperf_region *region, const struct numaperf__region_job *job)
{
    region->range = job->range;
    region->guard_bytes = job->extra.guard_bytes;
    region->enforcement = job->enforcement;
}

int numaperf__region_create(const numaperf_region_config_t *config,
                            const struct numaperf__region_extra *extra,
                            numaperf_region_t **out_region)
{
    if (config == NULL || out_region == NULL)
        return numaperf__fail(-EINVAL, 0, "region", "config and out_region must not be NULL");

    struct numaperf_region *region = calloc(1, sizeof(*region));
    if (region == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "region", "handle");
    int rc = -ENOMEM;
    struct numaperf__region_job *job = calloc(1, sizeof(*job));
    if (job == NULL) {
        rc = numaperf__fail(-ENOMEM, ENOMEM, "region", "working memory of create");
        goto free_handle;
    }
    if (extra != NULL)
        job->extra = *extra;
    rc = config_load(job, config);
    if (rc == 0)
        rc = region_build(job);
    if (rc < 0)
        goto free_job;

    NUMAPERF_ASSERT(job->cfg.mode != NUMAPERF_MODE_HARD || numaperf_is_strict(&job->enforcement));
    region_fill(region, job);
    free(job);
    *out_region = region;
    return 0;

free_job:
    free(job);
free_handle:
    free(region);
    return rc;
}

int numaperf_region_create(const numaperf_region_config_t *config, numaperf_region_t **out_region)
{
    return numaperf__region_create(config, NULL, out_region);
}

/* ---- the made region ---- */

void *numaperf_region_data(const numaperf_region_t *region)
{
    return region != NULL ? region->range.base : NULL;
}

size_t numaperf_region_length(const numaperf_region_t *region)
{
    return region != NULL ? region->range.length : 0;
}

size_t numaperf_region_page_size(const numaperf_region_t *region)
{
    return region != NULL ? region->range.page_bytes : 0;
}

const numaperf_enforcement_t *numaperf_region_enforcement(const numaperf_region_t *region)
{
    return region != NULL ? &region->enforcement : NULL;
}

int numaperf_region_audit(const numaperf_region_t *region, numaperf_placement_t *out)
{
    if (region == NULL || out == NULL)
        return numaperf__fail(-EINVAL, 0, "region audit", "region and out must not be NULL");

    numaperf_placement_t *placement = calloc(1, sizeof(*placement)); /* too big for small stacks */
    if (placement == NULL)
        return numaperf__fail(-ENOMEM, ENOMEM, "region audit", "working memory");
    int rc = numaperf__range_query(&region->range, placement);
    if (rc < 0)
        rc = numaperf__fail(rc, -rc, "move_pages", "the kernel does not tell where pages are");
    else
        rc = numaperf__result_store(out, sizeof(*placement), placement, sizeof(*placement),
                                    "region audit");
    free(placement);
    return rc;
}

void numaperf_region_destroy(numaperf_region_t *region)
{
    if (region == NULL)
        return;
    region_unmap(&region->range, region->guard_bytes);
    free(region);
}
