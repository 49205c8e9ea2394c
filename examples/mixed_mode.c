/* SPDX-License-Identifier: MIT */
/*
 * Mode is chosen for each object: the data that must stay put is hard, what merely should is soft.
 * Here a soft runtime, which starts anywhere, works on a table that is guaranteed or refused.
 */
#include <numaperf.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_BYTES (UINT64_C(2) << 20)

static void report(const char *what, const numaperf_enforcement_t *level)
{
    const char *reason = numaperf_enforcement_reason(level);
    printf("%s: %s%s%s\n", what, numaperf_enforcement_level_name(level->level), reason ? ": " : "",
           reason ? reason : "");
}

/* Runs on the node of the table: the same thread that reads it is next to it. */
static void use_table(numaperf_worker_t *worker, void *arg)
{
    const unsigned char *table = numaperf_region_data(arg);
    unsigned long sum = 0;
    for (size_t i = 0; i < numaperf_region_length(arg); i++)
        sum += table[i];
    printf("worker on node %d read %lu\n", numaperf_worker_node(worker), sum);
}

/* Asks for a guarantee first, then settles for what there is: the choice is the program's. */
static numaperf_region_t *create_table(int node)
{
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.length = TABLE_BYTES;
    config.policy = NUMAPERF_MEM_BIND;
    config.nodes = numaperf_nodemask_single(node);
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    config.mode = NUMAPERF_MODE_HARD;
    numaperf_region_t *table = NULL;
    int rc = numaperf_region_create(&config, &table);
    if (rc == NUMAPERF_E_HARD_MODE) {
        printf("table not guaranteed: %s\n", numaperf_last_error()->reason);
        config.mode = NUMAPERF_MODE_SOFT;
        rc = numaperf_region_create(&config, &table);
    }
    return rc < 0 ? NULL : table;
}

int main(void)
{
    numaperf_rt_t *rt = NULL;
    if (numaperf_rt_start(NULL, &rt) < 0) { /* all defaults: soft mode, every node */
        fprintf(stderr, "start: %s\n", numaperf_last_error()->reason);
        return EXIT_FAILURE;
    }
    numaperf_enforcement_t level;
    if (numaperf_rt_enforcement(rt, &level) == 0)
        report("runtime, soft", &level);

    int code = EXIT_FAILURE;
    int node = numaperf_worker_node(numaperf_rt_worker(rt, 0));
    numaperf_region_t *table = create_table(node);
    if (table != NULL) {
        report("table, hard first", numaperf_region_enforcement(table));
        memset(numaperf_region_data(table), 1, numaperf_region_length(table));
        code = numaperf_rt_spawn(rt, node, use_table, table) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    }
    (void)numaperf_rt_stop(rt, UINT64_MAX); /* the task is over before its table goes */
    numaperf_rt_destroy(rt);
    numaperf_region_destroy(table);
    return code;
}
