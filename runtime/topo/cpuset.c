/* SPDX-License-Identifier: MIT */
/*
 * Sets of PUs and of nodes: fixed bit arrays of OS ids, and their text form.
 *
 * Invariant: a set never holds an id at or above its limit, since every writer checks first. Both
 * kinds of set share one implementation over words and a limit. Lists are read and written by
 * hwloc; its reader is lenient (an open range, a reversed one, octal, blanks and signs all pass,
 * and it drops an id that a newline follows), so list_check() admits only what the kernel would
 * write. Nothing here keeps state: any thread, as long as no other one writes the same set. Source:
 * cpuset(7), "List format".
 */
#include <numaperf/cpuset.h>

#include "base/assert.h"
#include "base/error.h"

#include <errno.h>
#include <hwloc.h>
#include <stdlib.h>
#include <string.h>

#define WORD_BITS 64
#define CPU_WORDS (NUMAPERF_CPU_MAX / WORD_BITS)
#define NODE_WORDS (NUMAPERF_NODE_MAX / WORD_BITS)

_Static_assert(NUMAPERF_CPU_MAX % WORD_BITS == 0, "PU sets are whole words");
_Static_assert(NUMAPERF_NODE_MAX % WORD_BITS == 0, "node sets are whole words");
_Static_assert(sizeof(numaperf_cpuset_t) == 1024, "public layout");
_Static_assert(sizeof(numaperf_nodemask_t) == 128, "public layout");

/* ---- words ---- */

static int bits_change(uint64_t *bits, int limit, int id, bool present)
{
    if (bits == NULL)
        return numaperf__fail(-EINVAL, 0, "set", "the set must not be NULL");
    if (id < 0 || id >= limit)
        return numaperf__fail(-EINVAL, 0, "set", "id %d is not in 0 .. %d", id, limit - 1);

    uint64_t bit = UINT64_C(1) << (id % WORD_BITS);
    if (present)
        bits[id / WORD_BITS] |= bit;
    else
        bits[id / WORD_BITS] &= ~bit;
    return 0;
}

static bool bits_contain(const uint64_t *bits, int limit, int id)
{
    if (id < 0 || id >= limit)
        return false;
    return (bits[id / WORD_BITS] >> (id % WORD_BITS) & 1) != 0;
}

static int bits_count(const uint64_t *bits, int words)
{
    int count = 0;
    for (int i = 0; i < words; i++)
        count += __builtin_popcountll(bits[i]);
    return count;
}

static int bits_next(const uint64_t *bits, int limit, int previous)
{
    if (previous >= limit - 1)
        return -1;
    int start = previous < 0 ? 0 : previous + 1;
    uint64_t mask = UINT64_MAX << (start % WORD_BITS);
    for (int i = start / WORD_BITS; i < limit / WORD_BITS; i++) {
        uint64_t word = bits[i] & mask;
        if (word != 0)
            return i * WORD_BITS + __builtin_ctzll(word);
        mask = UINT64_MAX;
    }
    return -1;
}

/* ---- text ---- */

/* Read one id at `*text` and move past it. A leading zero would be octal to hwloc. */
static bool list_id(const char **text, int limit, int *out_id)
{
    const char *at = *text;
    if (*at < '0' || *at > '9')
        return false;
    if (at[0] == '0' && at[1] >= '0' && at[1] <= '9')
        return false;

    int id = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        id = id * 10 + (*at - '0');
        if (id >= limit)
            return false;
    }
    *text = at;
    *out_id = id;
    return true;
}

/* Length of a well-formed list without its one allowed trailing newline; -1 for anything else. */
static ptrdiff_t list_check(const char *list, int limit)
{
    const char *at = list;
    while (*at != '\0' && *at != '\n') {
        int first = 0;
        int last = 0;
        if (at != list && *at++ != ',')
            return -1;
        if (!list_id(&at, limit, &first))
            return -1;
        if (*at != '-')
            continue;
        at++;
        if (!list_id(&at, limit, &last) || last < first)
            return -1;
    }
    if (at[0] == '\n' && at[1] != '\0')
        return -1;
    return at - list;
}

static int list_parse(const char *list, int limit, uint64_t *bits)
{
    if (list == NULL || bits == NULL)
        return numaperf__fail(-EINVAL, 0, "parse list", "list and out must not be NULL");
    ptrdiff_t length = list_check(list, limit);
    if (length < 0)
        return numaperf__fail(-EINVAL, 0, "parse list",
                              "\"%.100s\" is not a list of ids in 0 .. %d, like 0-3,8", list,
                              limit - 1);

    int rc = 0;
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    char *text = strndup(list, (size_t)length);
    if (set == NULL || text == NULL || hwloc_bitmap_list_sscanf(set, text) < 0) {
        rc = numaperf__fail(-ENOMEM, ENOMEM, "parse list", "%td bytes of list", length);
        goto free_both;
    }
    memset(bits, 0, (size_t)limit / 8);
    for (int id = hwloc_bitmap_first(set); id >= 0; id = hwloc_bitmap_next(set, id)) {
        NUMAPERF_ASSERT(id < limit);
        bits[id / WORD_BITS] |= UINT64_C(1) << (id % WORD_BITS);
    }
free_both:
    free(text);
    hwloc_bitmap_free(set);
    return rc;
}

static int list_format(const uint64_t *bits, int limit, char *buf, size_t size)
{
    if (bits == NULL || (buf == NULL && size > 0))
        return numaperf__fail(-EINVAL, 0, "format list", "set and buf must not be NULL");

    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    int rc = set == NULL ? -1 : 0;
    for (int id = bits_next(bits, limit, -1); id >= 0 && rc == 0; id = bits_next(bits, limit, id))
        rc = hwloc_bitmap_set(set, (unsigned)id);
    if (rc < 0)
        rc = numaperf__fail(-ENOMEM, ENOMEM, "format list", "set of %d ids",
                            bits_count(bits, limit / WORD_BITS));
    else
        rc = hwloc_bitmap_list_snprintf(buf, size, set);
    hwloc_bitmap_free(set);
    return rc;
}

/* ---- PUs ---- */

void numaperf_cpuset_zero(numaperf_cpuset_t *set)
{
    memset(set, 0, sizeof(*set));
}

int numaperf_cpuset_add(numaperf_cpuset_t *set, int cpu)
{
    return bits_change(set == NULL ? NULL : set->bits, NUMAPERF_CPU_MAX, cpu, true);
}

int numaperf_cpuset_remove(numaperf_cpuset_t *set, int cpu)
{
    return bits_change(set == NULL ? NULL : set->bits, NUMAPERF_CPU_MAX, cpu, false);
}

bool numaperf_cpuset_contains(const numaperf_cpuset_t *set, int cpu)
{
    return bits_contain(set->bits, NUMAPERF_CPU_MAX, cpu);
}

int numaperf_cpuset_count(const numaperf_cpuset_t *set)
{
    return bits_count(set->bits, CPU_WORDS);
}

bool numaperf_cpuset_equal(const numaperf_cpuset_t *a, const numaperf_cpuset_t *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

void numaperf_cpuset_union(const numaperf_cpuset_t *a, const numaperf_cpuset_t *b,
                           numaperf_cpuset_t *out)
{
    for (int i = 0; i < CPU_WORDS; i++)
        out->bits[i] = a->bits[i] | b->bits[i];
}

void numaperf_cpuset_intersect(const numaperf_cpuset_t *a, const numaperf_cpuset_t *b,
                               numaperf_cpuset_t *out)
{
    for (int i = 0; i < CPU_WORDS; i++)
        out->bits[i] = a->bits[i] & b->bits[i];
}

int numaperf_cpuset_next(const numaperf_cpuset_t *set, int previous)
{
    return bits_next(set->bits, NUMAPERF_CPU_MAX, previous);
}

int numaperf_cpuset_parse(const char *list, numaperf_cpuset_t *out)
{
    return list_parse(list, NUMAPERF_CPU_MAX, out == NULL ? NULL : out->bits);
}

int numaperf_cpuset_format(const numaperf_cpuset_t *set, char *buf, size_t size)
{
    return list_format(set == NULL ? NULL : set->bits, NUMAPERF_CPU_MAX, buf, size);
}

/* ---- nodes ---- */

void numaperf_nodemask_zero(numaperf_nodemask_t *set)
{
    memset(set, 0, sizeof(*set));
}

int numaperf_nodemask_add(numaperf_nodemask_t *set, int node)
{
    return bits_change(set == NULL ? NULL : set->bits, NUMAPERF_NODE_MAX, node, true);
}

int numaperf_nodemask_remove(numaperf_nodemask_t *set, int node)
{
    return bits_change(set == NULL ? NULL : set->bits, NUMAPERF_NODE_MAX, node, false);
}

bool numaperf_nodemask_contains(const numaperf_nodemask_t *set, int node)
{
    return bits_contain(set->bits, NUMAPERF_NODE_MAX, node);
}

int numaperf_nodemask_count(const numaperf_nodemask_t *set)
{
    return bits_count(set->bits, NODE_WORDS);
}

bool numaperf_nodemask_equal(const numaperf_nodemask_t *a, const numaperf_nodemask_t *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

void numaperf_nodemask_union(const numaperf_nodemask_t *a, const numaperf_nodemask_t *b,
                             numaperf_nodemask_t *out)
{
    for (int i = 0; i < NODE_WORDS; i++)
        out->bits[i] = a->bits[i] | b->bits[i];
}

void numaperf_nodemask_intersect(const numaperf_nodemask_t *a, const numaperf_nodemask_t *b,
                                 numaperf_nodemask_t *out)
{
    for (int i = 0; i < NODE_WORDS; i++)
        out->bits[i] = a->bits[i] & b->bits[i];
}

int numaperf_nodemask_next(const numaperf_nodemask_t *set, int previous)
{
    return bits_next(set->bits, NUMAPERF_NODE_MAX, previous);
}

int numaperf_nodemask_parse(const char *list, numaperf_nodemask_t *out)
{
    return list_parse(list, NUMAPERF_NODE_MAX, out == NULL ? NULL : out->bits);
}

int numaperf_nodemask_format(const numaperf_nodemask_t *set, char *buf, size_t size)
{
    return list_format(set == NULL ? NULL : set->bits, NUMAPERF_NODE_MAX, buf, size);
}

numaperf_nodemask_t numaperf_nodemask_single(int node)
{
    numaperf_nodemask_t set = {{0}};
    if (node >= 0 && node < NUMAPERF_NODE_MAX)
        set.bits[node / WORD_BITS] = UINT64_C(1) << (node % WORD_BITS);
    return set;
}
