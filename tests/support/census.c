/* SPDX-License-Identifier: MIT */
/* Counted from /proc alone, so that nothing of the library is trusted. */
#include "support/census.h"

#include "support/clock.h"

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void census_prepare(void)
{
    /* One heap for all threads, and no mapping for a single block: a start and its undoing then
     * leave the same number of mappings. */
    (void)mallopt(M_ARENA_MAX, 1);
    (void)mallopt(M_MMAP_THRESHOLD, 32 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
    /* A heap that is large already: one that grows in a child of fork() becomes two mappings. */
    void *volatile room = malloc(4 << 20);
    free(room);
}

static int count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;
    if (dir == NULL)
        return -1;
    struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.';
    (void)closedir(dir);
    return count;
}

static int count_lines(const char *path)
{
    FILE *file = fopen(path, "re");
    int count = 0;
    if (file == NULL)
        return -1;
    char buffer[4096];
    size_t n = 0;
    while ((n = fread(buffer, 1, sizeof(buffer), file)) > 0) {
        for (size_t i = 0; i < n; i++)
            count += buffer[i] == '\n';
    }
    (void)fclose(file);
    return count;
}

/* Without io-wq's, which the kernel ends some time after their ring. */
static int count_threads(void)
{
    DIR *dir = opendir("/proc/self/task");
    int count = 0;
    if (dir == NULL)
        return -1;
    struct dirent *entry = NULL;
    while ((entry = readdir(dir)) != NULL) {
        char path[300];
        char name[32] = "";
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = entry->d_name[0] != '.' ? fopen(path, "re") : NULL;
        if (file == NULL)
            continue; /* ended meanwhile */
        if (fgets(name, sizeof(name), file) != NULL && strncmp(name, "iou-", 4) != 0)
            count++;
        (void)fclose(file);
    }
    (void)closedir(dir);
    return count;
}

static struct census census_now(void)
{
    struct census now = {
        .threads = count_threads(),
        .descriptors = count_entries("/proc/self/fd"),
        .mappings = TEST_SANITIZED ? 0 : count_lines("/proc/self/maps"),
    };
    return now;
}

struct census census_take(void)
{
    /* A thread that was joined is listed a moment longer: it must not be part of a baseline. */
    struct census now = census_now();
    for (int steady = 0, looks = 0; steady < 3 && looks < 500; looks++) {
        test_sleep_ms(2);
        struct census again = census_now();
        steady = memcmp(&now, &again, sizeof(now)) == 0 ? steady + 1 : 0;
        now = again;
    }
    return now;
}

bool census_returns_to(const struct census *before)
{
    struct census now;
    uint64_t limit_ns = test_now_ns() + test_limit_ns(5);
    do {
        now = census_now();
        if (memcmp(&now, before, sizeof(now)) == 0)
            return true;
        test_sleep_ms(2);
    } while (test_now_ns() < limit_ns);
    printf("held before: %d threads, %d descriptors, %d mappings; now: %d, %d, %d\n",
           before->threads, before->descriptors, before->mappings, now.threads, now.descriptors,
           now.mappings);
    return false;
}
