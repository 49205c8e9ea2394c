/* SPDX-License-Identifier: MIT */
/*
 * A runtime that test_attest.py looks at from outside.
 *
 * attest_witness MODE AUDIT_MS   soft or hard, without privileges; then a line of standard input is
 *   attest   prints the length of a document in bytes, and the document
 *   grow     has every worker take memory of its arena
 * and its end is the end.
 */
#include <numaperf.h>

#include <inttypes.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROW_BYTES ((size_t)5 << 20)

static bool attest(numaperf_rt_t *rt)
{
    char *text = NULL;
    if (numaperf_rt_attest(rt, &text) < 0)
        return false;
    printf("%zu\n%s", strlen(text), text);
    free(text);
    return true;
}

static void grow_task(numaperf_worker_t *worker, void *done)
{
    char *block = numaperf_arena_alloc(numaperf_worker_arena(worker), GROW_BYTES, 4096);
    if (block != NULL)
        memset(block, 1, GROW_BYTES);
    (void)sem_post(done);
}

static bool grow(numaperf_rt_t *rt)
{
    sem_t done;
    bool good = sem_init(&done, 0, 0) == 0;
    int32_t count = (int32_t)numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY);
    for (int32_t i = 0; i < count && good; i++) {
        numaperf_spawn_options_t options = NUMAPERF_SPAWN_OPTIONS_INIT;
        options.flags = NUMAPERF_SPAWN_HAS_WORKER;
        options.worker = i;
        good = numaperf_rt_spawn_with(rt, &options, grow_task, &done) == 0;
        while (good && sem_wait(&done) != 0)
            ;
    }
    printf("0\n");
    return good && sem_destroy(&done) == 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        (void)fprintf(stderr, "see the comment in the source\n");
        return 2;
    }
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = strcmp(argv[1], "hard") == 0 ? NUMAPERF_MODE_HARD : NUMAPERF_MODE_SOFT;
    config.flags = NUMAPERF_RT_WAIVE_PRIVILEGES;
    config.audit_interval_ms = (uint32_t)strtoul(argv[2], NULL, 10);
    numaperf_rt_t *rt = NULL;
    bool good = numaperf_rt_start(&config, &rt) == 0;
    char line[32];
    while (good && fgets(line, sizeof(line), stdin) != NULL) {
        good = strcmp(line, "grow\n") == 0 ? grow(rt) : attest(rt);
        good = good && fflush(stdout) == 0;
    }
    if (!good)
        (void)fprintf(stderr, "%s: %s\n", numaperf_last_error()->operation,
                      numaperf_last_error()->reason);
    numaperf_rt_destroy(rt);
    return good ? 0 : 1;
}
