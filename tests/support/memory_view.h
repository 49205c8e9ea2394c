/* SPDX-License-Identifier: MIT */
/*
 * The tests' own look at memory, past the library: where pages are (move_pages), which policy a
 * range has (/proc/self/numa_maps), how many mappings there are, and which nodes may be used.
 */
#ifndef NUMAPERF_TESTS_MEMORY_VIEW_H
#define NUMAPERF_TESTS_MEMORY_VIEW_H

#include <numaperf/cpuset.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VIEW_NODES 64

/* Pages by node; [VIEW_NODES] counts those that are nowhere. False when the kernel refuses. */
static inline bool view_pages(const void *base, size_t length, size_t *out_counts)
{
    enum { BATCH = 256 }; /* pages a call */
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    memset(out_counts, 0, (VIEW_NODES + 1) * sizeof(*out_counts));
    for (size_t offset = 0; offset < length;) {
        void *addresses[BATCH];
        int statuses[BATCH];
        size_t count = 0;
        for (; count < BATCH && offset < length; offset += page) {
            addresses[count] = (char *)base + offset;
            statuses[count++] = -1;
        }
        if (syscall(SYS_move_pages, 0, count, addresses, NULL, statuses, 0) != 0)
            return false;
        for (size_t i = 0; i < count; i++) {
            bool is_there = statuses[i] >= 0 && statuses[i] < VIEW_NODES;
            out_counts[is_there ? statuses[i] : VIEW_NODES]++;
        }
    }
    return true;
}

/* The line of /proc/self/numa_maps for the mapping that starts at `base`; false without one. */
static inline bool view_policy(const void *base, char *out_line, size_t size)
{
    FILE *file = fopen("/proc/self/numa_maps", "re");
    if (file == NULL)
        return false;
    bool found = false;
    while (!found && fgets(out_line, (int)size, file) != NULL)
        found = strtoull(out_line, NULL, 16) == (uintptr_t)base;
    (void)fclose(file);
    return found;
}

static inline size_t view_maps_count(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    if (file == NULL)
        return 0;
    size_t count = 0;
    for (int c = fgetc(file); c != EOF; c = fgetc(file))
        count += c == '\n';
    (void)fclose(file);
    return count;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VIEW_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define VIEW_SANITIZED 1
#endif
#endif

/* Whether as many mappings are left as before. A sanitizer maps on its own: no answer there. */
static inline bool view_maps_unchanged(size_t before)
{
#ifdef VIEW_SANITIZED
    (void)before;
    return true;
#else
    size_t now = view_maps_count();
    if (now != before)
        (void)fprintf(stderr, "%zu mappings, %zu before\n", now, before);
    return now == before;
#endif
}

/* A whole small file; false when it cannot be read. */
static inline bool view_text(const char *path, char *out_text, size_t size)
{
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t length = fread(out_text, 1, size - 1, file);
    out_text[length] = '\0';
    (void)fclose(file);
    return true;
}

/* The number behind `key` in a file, 0 when it is not there. */
static inline uint64_t view_value(const char *path, const char *key)
{
    char text[16384];
    if (!view_text(path, text, sizeof(text)))
        return 0;
    const char *at = strstr(text, key);
    if (at == NULL)
        return 0;
    at += strlen(key);
    return strtoull(at + strspn(at, " \t:"), NULL, 10);
}

/* The list in a file, or behind `key` in it, within `text`; NULL when it is not there. */
static inline char *view_list_text(const char *path, const char *key, char *text, size_t size)
{
    if (!view_text(path, text, size))
        return NULL;
    char *at = key == NULL ? text : strstr(text, key);
    if (at == NULL)
        return NULL;
    at += key == NULL ? 0 : strlen(key);
    at += strspn(at, " \t:");
    at[strcspn(at, "\n")] = '\0';
    return at;
}

static inline void view_list(const char *path, const char *key, numaperf_nodemask_t *out)
{
    char text[16384];
    numaperf_nodemask_zero(out);
    const char *list = view_list_text(path, key, text, sizeof(text));
    if (list != NULL)
        (void)numaperf_nodemask_parse(list, out);
}

/* Nodes that have memory, and those of them that this process may use. */
static inline void view_nodes(numaperf_nodemask_t *out_with_memory, numaperf_nodemask_t *out_usable)
{
    view_list("/sys/devices/system/node/has_memory", NULL, out_with_memory);
    if (numaperf_nodemask_count(out_with_memory) == 0)
        *out_with_memory = numaperf_nodemask_single(0);
    view_list("/proc/self/status", "Mems_allowed_list:", out_usable);
    numaperf_nodemask_intersect(out_usable, out_with_memory, out_usable);
}

static inline uint64_t view_node_bytes(int node, const char *key)
{
    char path[96];
    (void)snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
    return view_value(path, key) * 1024;
}

/* Reserved huge pages of 2 MiB that are free on a node. */
static inline uint64_t view_huge_free(int node)
{
    char path[128];
    char text[64];
    (void)snprintf(path, sizeof(path),
                   "/sys/devices/system/node/node%d/hugepages/hugepages-2048kB/free_hugepages",
                   node);
    return view_text(path, text, sizeof(text)) ? strtoull(text, NULL, 10) : 0;
}

#endif
