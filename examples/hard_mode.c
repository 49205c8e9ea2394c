/* SPDX-License-Identifier: MIT */
/*
 * Capabilities first, then choose the mode. With REQUIRE_HARD_MODE in the environment, a machine
 * that cannot give hard mode is an error that names what is missing; without, soft mode will do.
 * `hard_mode --attest FILE` keeps the proof: the attestation, written while everything runs.
 */
#include "server/attest_file.h"

#include <numaperf.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MISSING_MAX 16

static void print_worker(numaperf_worker_t *worker, void *arg)
{
    (void)arg;
    const numaperf_enforcement_t *level = numaperf_worker_enforcement(worker);
    const char *reason = numaperf_enforcement_reason(level);
    printf("node %d, PU %d: %s%s%s\n", numaperf_worker_node(worker), numaperf_worker_cpu(worker),
           numaperf_enforcement_level_name(level->level), reason ? ": " : "", reason ? reason : "");
}

int main(int argc, char **argv)
{
    if (argc != 1 && (argc != 3 || strcmp(argv[1], "--attest") != 0)) {
        fprintf(stderr, "usage: %s [--attest FILE]\n", argv[0]);
        return 2;
    }
    numaperf_capabilities_t caps = NUMAPERF_CAPABILITIES_INIT;
    if (numaperf_capabilities_detect(&caps) < 0)
        return EXIT_FAILURE;
    char summary[4096];
    if (numaperf_capabilities_summary(&caps, summary, sizeof(summary)) > 0)
        printf("%s\n", summary);

    const char *missing[MISSING_MAX];
    size_t count = numaperf_capabilities_missing_for_hard_mode(&caps, missing, MISSING_MAX);
    bool hard = count == 0;
    /* NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs yet */
    if (!hard && getenv("REQUIRE_HARD_MODE") != NULL) {
        fprintf(stderr, "hard mode is required and not possible here; missing:\n");
        for (size_t i = 0; i < count && i < MISSING_MAX; i++)
            fprintf(stderr, "  %s\n", missing[i]);
        return EXIT_FAILURE;
    }

    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = hard ? NUMAPERF_MODE_HARD : NUMAPERF_MODE_SOFT;
    printf("starting in %s mode\n", hard ? "hard" : "soft");
    numaperf_rt_t *rt = NULL;
    if (numaperf_rt_start(&config, &rt) < 0) {
        /* Everything documented is there, and still a guarantee could not be given: it says which.
         */
        const numaperf_error_t *error = numaperf_last_error();
        fprintf(stderr, "%s: %s: %s\n", numaperf_err_name(error->code), error->operation,
                error->reason);
        return EXIT_FAILURE;
    }

    /* In hard mode every level is strict: each worker set it and read it back in its own thread. */
    int code = numaperf_rt_each_node(rt, print_worker, NULL) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
    char why[512];
    if (argc == 3 && attest_file_write(rt, argv[2], why, sizeof(why)) < 0) {
        fprintf(stderr, "--attest: %s\n", why);
        code = EXIT_FAILURE;
    }
    (void)numaperf_rt_stop(rt, UINT64_MAX);
    numaperf_rt_destroy(rt);
    return code;
}
