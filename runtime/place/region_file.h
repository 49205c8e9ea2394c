/* SPDX-License-Identifier: MIT */
/* What a region must know about the file it maps. */
#ifndef NUMAPERF_PLACE_REGION_FILE_H
#define NUMAPERF_PLACE_REGION_FILE_H

#include <numaperf/region.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct numaperf__file_facts {
    bool follows_policy; /* tmpfs, memfd and hugetlbfs; page cache of others does not */
    bool is_hugetlb;
    bool has_end;        /* a regular file: access behind its last page is SIGBUS */
    size_t page_bytes;   /* of its mappings */
    uint64_t end;        /* its size */
    uint64_t held_bytes; /* memory it holds already, when it follows the policy */
};

/* Look at cfg->fd. Returns 0, or a recorded -errno. */
int numaperf__file_inspect(const numaperf_region_config_t *cfg, struct numaperf__file_facts *out);

/* Refuse, recorded, a mapping of `length` bytes that reaches behind the last page of the file. */
int numaperf__file_check_end(const numaperf_region_config_t *cfg,
                             const struct numaperf__file_facts *facts, size_t length);

/* At least so many of `length` mapped bytes the file holds already. */
uint64_t numaperf__file_held(const struct numaperf__file_facts *facts, uint64_t length);

#endif
