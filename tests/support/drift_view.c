/* SPDX-License-Identifier: MIT */
/*
 * Source: proc(5): status and numa_maps of a task, comm of io-wq threads ("iou-wrk-" and the id of
 * the thread they serve).
 */
#include "support/drift_view.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES 4096

/* The rest of the first line that begins with `key`; "" is any line. */
static bool file_find(const char *path, const char *key, char *out, size_t size)
{
    char line[LINE_MAX_BYTES];
    bool found = false;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (!found && fgets(line, sizeof(line), file) != NULL)
        found = strncmp(line, key, strlen(key)) == 0;
    (void)fclose(file);
    if (!found)
        return false;
    const char *rest = line + strlen(key);
    rest += strspn(rest, " \t:");
    (void)snprintf(out, size, "%.*s", (int)strcspn(rest, "\n"), rest);
    return true;
}

void drift_view_cpus(const char *path, numaperf_cpuset_t *out)
{
    char text[LINE_MAX_BYTES] = "";
    numaperf_cpuset_zero(out);
    if (file_find(path, "", text, sizeof(text)))
        (void)numaperf_cpuset_parse(text, out); /* empty when it is none */
}

void drift_view_nodes(const char *path, numaperf_nodemask_t *out)
{
    char text[LINE_MAX_BYTES] = "";
    numaperf_nodemask_zero(out);
    if (file_find(path, "", text, sizeof(text)))
        (void)numaperf_nodemask_parse(text, out);
}

void drift_view_affinity_text(int thread_id, char *out, size_t size)
{
    char path[64];
    out[0] = '\0';
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/status", thread_id);
    (void)file_find(path, "Cpus_allowed_list:", out, size);
}

void drift_view_affinity(int thread_id, numaperf_cpuset_t *out)
{
    char text[LINE_MAX_BYTES] = "";
    numaperf_cpuset_zero(out);
    drift_view_affinity_text(thread_id, text, sizeof(text));
    (void)numaperf_cpuset_parse(text, out);
}

unsigned drift_view_iowq(int thread_id, int out[VIEW_IOWQ_MAX])
{
    unsigned count = 0;
    char wanted[32];
    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL)
        return 0;
    (void)snprintf(wanted, sizeof(wanted), "iou-wrk-%d", thread_id);
    struct dirent *entry = NULL;
    while (count < VIEW_IOWQ_MAX && (entry = readdir(dir)) != NULL) {
        char path[320];
        char name[32] = "";
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        if (file_find(path, "", name, sizeof(name)) && strcmp(name, wanted) == 0)
            out[count++] = atoi(entry->d_name);
    }
    (void)closedir(dir);
    return count;
}

bool drift_view_iowq_within(int thread_id, const numaperf_cpuset_t *cpus)
{
    int threads[VIEW_IOWQ_MAX];
    unsigned count = drift_view_iowq(thread_id, threads);
    for (unsigned i = 0; i < count; i++) {
        numaperf_cpuset_t own;
        numaperf_cpuset_t both;
        drift_view_affinity(threads[i], &own);
        numaperf_cpuset_intersect(&own, cpus, &both);
        if (!numaperf_cpuset_equal(&own, &both))
            return false;
    }
    return true;
}

void drift_view_policy(int thread_id, char *out, size_t size)
{
    char path[64];
    char line[LINE_MAX_BYTES] = "";
    out[0] = '\0';
    /* The first mapping is the program's text, which nobody gives a policy. */
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/numa_maps", thread_id);
    if (!file_find(path, "", line, sizeof(line)))
        return;
    const char *word = strchr(line, ' ');
    if (word != NULL)
        (void)snprintf(out, size, "%.*s", (int)strcspn(word + 1, " "), word + 1);
}

/* Words as "N1=512" of a line of numa_maps. */
static void mapping_count(const char *line, int node, struct drift_mapping *out)
{
    for (const char *at = strstr(line, " N"); at != NULL; at = strstr(at + 1, " N")) {
        char *end = NULL;
        long where = strtol(at + 2, &end, 10);
        if (end == at + 2 || *end != '=')
            continue;
        uint64_t pages = strtoull(end + 1, NULL, 10);
        if (where == node)
            out->here += pages;
        else
            out->elsewhere += pages;
    }
}

bool drift_view_mapping(uintptr_t address, int node, struct drift_mapping *out)
{
    char line[LINE_MAX_BYTES];
    char found[LINE_MAX_BYTES] = "";
    memset(out, 0, sizeof(*out));
    FILE *file = fopen("/proc/self/numa_maps", "re");
    if (file == NULL)
        return false;
    /* Lines ascend, and say where a mapping begins: the last one that begins before. */
    while (fgets(line, sizeof(line), file) != NULL && strtoull(line, NULL, 16) <= address)
        memcpy(found, line, sizeof(found));
    (void)fclose(file);
    const char *word = strchr(found, ' ');
    if (word == NULL)
        return false;
    (void)snprintf(out->policy, sizeof(out->policy), "%.*s", (int)strcspn(word + 1, " \n"),
                   word + 1);
    mapping_count(word, node, out);
    return true;
}
