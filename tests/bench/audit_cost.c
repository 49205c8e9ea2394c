/* SPDX-License-Identifier: MIT */
/*
 * usage: audit_cost [MIB [INTERVAL_MS [LOOKS]]]
 *
 * What one look of the auditor costs: a runtime in hard mode (or in soft mode, where that is not to
 * be had, and says so), MIB of its arenas populated, and the CPU time that the auditor's thread
 * took for LOOKS looks, from its schedstat. The workers do nothing meanwhile. There is no peer, but
 * a limit: at the default interval a hundredth of a percent of one PU is 500 us a look.
 */
#include <numaperf.h>

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COST_BLOCK_BYTES ((size_t)16 << 10) /* of spans: as an arena is usually filled */
#define COST_DEFAULT_INTERVAL_MS 5000.0
#define COST_THREADS_MAX 1024

static atomic_int fill_count;
static size_t fill_bytes;

static void fill_task(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    for (size_t done = 0; done < fill_bytes; done += COST_BLOCK_BYTES) {
        char *block = numaperf_arena_alloc(numaperf_worker_arena(worker), COST_BLOCK_BYTES, 0);
        if (block == NULL)
            break; /* the limit: spans have headers */
        memset(block, 1, COST_BLOCK_BYTES);
    }
    (void)atomic_fetch_add(&fill_count, 1);
}

static void sleep_ms(uint64_t ms)
{
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&pause, &pause) != 0)
        ;
}

struct threads {
    size_t count;
    int ids[COST_THREADS_MAX];
};

static bool threads_have(const struct threads *threads, int id)
{
    for (size_t i = 0; i < threads->count; i++) {
        if (threads->ids[i] == id)
            return true;
    }
    return false;
}

/* The threads of this process, without those of io-wq. */
static void threads_list(struct threads *out)
{
    out->count = 0;
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry = NULL;
    while (dir != NULL && (entry = readdir(dir)) != NULL && out->count < COST_THREADS_MAX) {
        char path[300];
        char name[32] = "";
        (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = fopen(path, "re");
        if (file == NULL)
            continue;
        if (fgets(name, sizeof(name), file) != NULL && strncmp(name, "iou-", 4) != 0)
            out->ids[out->count++] = (int)strtol(entry->d_name, NULL, 10);
        (void)fclose(file);
    }
    if (dir != NULL)
        (void)closedir(dir);
}

/* The one thread that is new since `before` and no worker. */
static int find_auditor(const numaperf_rt_t *rt, const struct threads *before)
{
    struct threads now;
    threads_list(&now);
    int found = -1;
    for (size_t i = 0; i < now.count; i++) {
        bool is_other = threads_have(before, now.ids[i]);
        for (uint32_t w = 0; w < numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY); w++)
            is_other =
                is_other || numaperf_worker_thread_id(numaperf_rt_worker(rt, w)) == now.ids[i];
        if (!is_other)
            found = found == -1 ? now.ids[i] : -2;
    }
    return found;
}

static double thread_cpu_us(int thread_id)
{
    char path[64];
    unsigned long long ns = 0;
    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/schedstat", thread_id);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1.0;
    char line[128] = "";
    if (fgets(line, sizeof(line), file) != NULL)
        ns = strtoull(line, NULL, 10);
    (void)fclose(file);
    return (double)ns / 1e3;
}

/* libuv's pool, which stays, must be no news. */
static void warm_up(void)
{
    numaperf_rt_t *rt = NULL;
    if (numaperf_rt_start(NULL, &rt) == 0)
        numaperf_rt_destroy(rt);
}

static int start(uint32_t interval_ms, numaperf_rt_t **out)
{
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = NUMAPERF_MODE_HARD;
    config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    config.audit_interval_ms = interval_ms;
    config.arena_bytes = (uint64_t)8 << 30;
    int rc = numaperf_rt_start(&config, out);
    if (rc == 0)
        return 0;
    printf("hard mode is refused, soft instead: %s\n", numaperf_last_error()->reason);
    config.mode = NUMAPERF_MODE_SOFT;
    return numaperf_rt_start(&config, out);
}

static int fill(numaperf_rt_t *rt, size_t mib)
{
    uint32_t workers = (uint32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    fill_bytes = (mib << 20) / workers;
    for (uint32_t i = 0; i < workers; i++) {
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = (int32_t)i;
        int rc = numaperf_rt_spawn_with(rt, &options, fill_task, NULL);
        if (rc < 0)
            return rc;
    }
    while (atomic_load(&fill_count) < (int)workers)
        sleep_ms(1);
    return 0;
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 1024;
    uint32_t interval_ms = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 50;
    uint32_t looks = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 200;
    if (mib == 0 || interval_ms == 0 || looks == 0) {
        (void)fprintf(stderr, "usage: audit_cost [MIB [INTERVAL_MS [LOOKS]]]\n");
        return 2;
    }
    struct threads before;
    numaperf_rt_t *rt = NULL;
    warm_up();
    threads_list(&before);
    int rc = start(interval_ms, &rt);
    if (rc == 0)
        rc = fill(rt, mib);
    int auditor = rc == 0 ? find_auditor(rt, &before) : -1;
    if (auditor < 0) {
        (void)fprintf(stderr, "audit_cost: %s\n",
                      rc < 0 ? numaperf_last_error()->reason : "which thread audits is not clear");
        numaperf_rt_destroy(rt);
        return 1;
    }
    sleep_ms(10 * (uint64_t)interval_ms); /* past the first look, at everything */
    double start_us = thread_cpu_us(auditor);
    sleep_ms((uint64_t)interval_ms * looks);
    double look_us = (thread_cpu_us(auditor) - start_us) / (double)looks;
    printf("%zu MiB of arenas, %zu workers: %.1f us of CPU a look, %.5f %% of a PU at 5 s\n", mib,
           numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY), look_us,
           look_us / 1e3 / COST_DEFAULT_INTERVAL_MS * 100.0);
    numaperf_rt_destroy(rt);
    return 0;
}
