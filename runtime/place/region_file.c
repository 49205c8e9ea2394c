/* SPDX-License-Identifier: MIT */
/*
 * Files under regions: which of them follow a memory policy, in which pages they are mapped, and
 * where they end. A file that shrinks after it was looked at is its owner's affair: the mapping
 * then raises SIGBUS, as every mapping does.
 *
 * Nothing is remembered; safe on any thread.
 * Source: statfs(2), mmap(2), Documentation/admin-guide/mm/numa_memory_policy.rst "VMA Policy".
 */
#include "place/region_file.h"

#include "base/assert.h"
#include "base/error.h"
#include "place/range.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

int numaperf__file_inspect(const numaperf_region_config_t *cfg, struct numaperf__file_facts *out)
{
    struct stat status;
    if (fstat(cfg->fd, &status) < 0)
        return numaperf__fail(-errno, errno, "fstat", "fd %d: cannot be looked at", cfg->fd);
    struct statfs fs;
    if (fstatfs(cfg->fd, &fs) < 0)
        return numaperf__fail(-errno, errno, "fstatfs", "fd %d: cannot be looked at", cfg->fd);

    size_t page = numaperf__page_bytes();
    struct numaperf__file_facts facts = {.page_bytes = page};
    facts.is_hugetlb = fs.f_type == HUGETLBFS_MAGIC;
    facts.follows_policy = facts.is_hugetlb || fs.f_type == TMPFS_MAGIC;
    facts.has_end = S_ISREG(status.st_mode);
    facts.end = (uint64_t)status.st_size;
    if (facts.is_hugetlb)
        facts.page_bytes = (size_t)fs.f_bsize;
    if (facts.follows_policy)
        facts.held_bytes = (uint64_t)status.st_blocks * 512;
    NUMAPERF_ASSERT(facts.page_bytes % page == 0);
    *out = facts;
    return 0;
}

int numaperf__file_check_end(const numaperf_region_config_t *cfg,
                             const struct numaperf__file_facts *facts, size_t length)
{
    NUMAPERF_ASSERT(length % facts->page_bytes == 0);

    if (cfg->offset % facts->page_bytes != 0)
        return numaperf__fail(-EINVAL, 0, "region",
                              "offset %" PRIu64 " is not a multiple of the file's page size, %zu",
                              cfg->offset, facts->page_bytes);
    if (!facts->has_end)
        return 0;
    uint64_t page = facts->page_bytes;
    uint64_t last_page_end = facts->end / page * page + (facts->end % page != 0 ? page : 0);
    if (cfg->offset > last_page_end || length > last_page_end - cfg->offset)
        return numaperf__fail(-EINVAL, 0, "region",
                              "length: %zu bytes from offset %" PRIu64
                              " reach beyond the end of the file, %" PRIu64 " bytes",
                              length, cfg->offset, facts->end);
    return 0;
}

uint64_t numaperf__file_held(const struct numaperf__file_facts *facts, uint64_t length)
{
    /* What the file holds may all be outside of the mapping, as far as there is an outside. */
    uint64_t end = facts->end + facts->page_bytes - 1;
    end -= end % facts->page_bytes;
    uint64_t outside = end > length ? end - length : 0;
    uint64_t held = facts->held_bytes > outside ? facts->held_bytes - outside : 0;
    return held < length ? held : length;
}
