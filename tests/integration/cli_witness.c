/* SPDX-License-Identifier: MIT */
/*
 * A program that test_cli.py drives, beside the tool itself.
 *
 * cli_witness deny ERRNO CALL... -- COMMAND...   runs a command under a seccomp filter that refuses
 *                                                these system calls
 * cli_witness start MODE NODES WORKERS BACKEND WAIVE   starts a runtime and says how that went, in
 *                                                words that the tool must not contradict
 * cli_witness thread NAME CPU                    has a thread of that name on that PU, until its
 *                                                standard input ends
 * cli_witness bind NODE MIB                      has memory bound to a node, until then
 */
#include "support/sandbox.h"

#include <numaperf.h>

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define CALLS_MAX 8

static long call_number(const char *name)
{
    static const struct {
        const char *name;
        long number;
    } calls[] = {
        {"mbind", SYS_mbind},
        {"set_mempolicy", SYS_set_mempolicy},
        {"get_mempolicy", SYS_get_mempolicy},
        {"move_pages", SYS_move_pages},
        {"sched_setaffinity", SYS_sched_setaffinity},
        {"io_uring_setup", SYS_io_uring_setup},
        {"io_uring_register", SYS_io_uring_register},
    };
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (strcmp(name, calls[i].name) == 0)
            return calls[i].number;
    }
    return -1;
}

static int deny(char **words)
{
    long calls[CALLS_MAX];
    size_t count = 0;
    int error = strcmp(words[0], "ENOSYS") == 0 ? ENOSYS : EPERM;
    for (words++; strcmp(*words, "--") != 0; words++) {
        CHECK(count < CALLS_MAX);
        calls[count] = call_number(*words);
        CHECK(calls[count] >= 0);
        count++;
    }
    sandbox_deny(error, calls, count);
    (void)execv(words[1], words + 1);
    perror(words[1]);
    return 125;
}

static int start(char **words)
{
    numaperf_rt_config_t config = NUMAPERF_RT_CONFIG_INIT;
    config.mode = strcmp(words[0], "hard") == 0 ? NUMAPERF_MODE_HARD : NUMAPERF_MODE_SOFT;
    CHECK(numaperf_nodemask_parse(words[1], &config.nodes) == 0);
    config.workers_per_node = (uint32_t)strtoul(words[2], NULL, 10);
    config.io_backend = strcmp(words[3], "epoll") == 0      ? NUMAPERF_IO_EPOLL
                        : strcmp(words[3], "io_uring") == 0 ? NUMAPERF_IO_URING
                                                            : NUMAPERF_IO_AUTO;
    if (strcmp(words[4], "waive") == 0)
        config.flags |= NUMAPERF_RT_WAIVE_PRIVILEGES;
    numaperf_rt_t *rt = NULL;
    int rc = numaperf_rt_start(&config, &rt);
    if (rc < 0) {
        printf("%s\n%s\n%s\n", numaperf_err_name(rc), numaperf_last_error()->operation,
               numaperf_last_error()->reason);
        return 1;
    }
    numaperf_enforcement_t level;
    CHECK(numaperf_rt_enforcement(rt, &level) == 0);
    printf("started\n%zu\n%s\n", numaperf_rt_worker_count(rt, NUMAPERF_NODE_ANY),
           numaperf_enforcement_level_name(level.level));
    numaperf_rt_destroy(rt);
    return 0;
}

static void wait_for_the_end(void)
{
    printf("ready\n");
    CHECK(fflush(stdout) == 0);
    while (getchar() != EOF)
        ;
}

static const char *thread_name;

static void *thread_run(void *arg)
{
    numaperf_pin_t pin = NUMAPERF_PIN_INIT;
    CHECK(prctl(PR_SET_NAME, thread_name) == 0);
    CHECK(numaperf_pin_to_cpu(*(const int *)arg, NUMAPERF_MODE_HARD, &pin) == 0);
    wait_for_the_end();
    return NULL;
}

static int have_thread(char **words)
{
    pthread_t thread;
    int cpu = (int)strtol(words[1], NULL, 10);
    thread_name = words[0];
    CHECK(pthread_create(&thread, NULL, thread_run, &cpu) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}

static int have_memory(char **words)
{
    numaperf_region_config_t config = NUMAPERF_REGION_CONFIG_INIT;
    config.nodes = numaperf_nodemask_single((int)strtol(words[0], NULL, 10));
    config.length = strtoull(words[1], NULL, 10) << 20;
    config.policy = NUMAPERF_MEM_BIND;
    config.prefault = NUMAPERF_PREFAULT_TOUCH;
    numaperf_region_t *region = NULL;
    CHECK(numaperf_region_create(&config, &region) == 0);
    wait_for_the_end();
    numaperf_region_destroy(region);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 5 && strcmp(argv[1], "deny") == 0)
        return deny(argv + 2);
    if (argc == 7 && strcmp(argv[1], "start") == 0)
        return start(argv + 2);
    if (argc == 4 && strcmp(argv[1], "thread") == 0)
        return have_thread(argv + 2);
    if (argc == 4 && strcmp(argv[1], "bind") == 0)
        return have_memory(argv + 2);
    (void)fprintf(stderr, "see the comment in the source\n");
    return 2;
}
