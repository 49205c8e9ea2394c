/* SPDX-License-Identifier: MIT */
/*
 * A program that test_cli.py drives, beside the tool itself.
 *
 * cli_witness deny ERRNO CALL... -- COMMAND...
 *     runs a command under a seccomp filter that refuses these system calls; a CALL may be
 *     CALL,N=VALUE or CALL,N>VALUE: only with such an argument N
 * cli_witness start MODE NODES WORKERS BACKEND WAIVE
 *     starts a runtime and says how that went, in words that the tool must not contradict
 * cli_witness doctor TOOL
 *     compares doctor's exit status with such a start, for many configurations
 * cli_witness thread NAME CPU
 *     has a thread of that name on that PU, until its standard input ends
 * cli_witness bind NODE MIB
 *     has memory bound to a node, until then
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
#include <sys/wait.h>

#define CALLS_MAX 8

static long call_number(const char *name, size_t length)
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
        {"sched_getaffinity", SYS_sched_getaffinity},
        {"io_uring_setup", SYS_io_uring_setup},
        {"io_uring_register", SYS_io_uring_register},
        {"io_uring_enter", SYS_io_uring_enter},
    };
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        if (strlen(calls[i].name) == length && strncmp(name, calls[i].name, length) == 0)
            return calls[i].number;
    }
    return -1;
}

static struct sandbox_rule deny_rule(const char *word, int error)
{
    size_t length = strcspn(word, ",");
    struct sandbox_rule rule = {.call = call_number(word, length), .error = error};
    CHECK(rule.call >= 0);
    if (word[length] == '\0')
        return rule;
    char *end = NULL;
    rule.argument = (unsigned)strtoul(word + length + 1, &end, 10);
    CHECK(*end == '=' || *end == '>');
    rule.when = *end == '=' ? SANDBOX_EQUAL : SANDBOX_ABOVE;
    rule.value = (uint32_t)strtoul(end + 1, &end, 10);
    CHECK(*end == '\0');
    return rule;
}

static int deny(char **words)
{
    struct sandbox_rule rules[CALLS_MAX];
    size_t count = 0;
    int error = strcmp(words[0], "ENOSYS") == 0 ? ENOSYS : EPERM;
    for (words++; strcmp(*words, "--") != 0; words++) {
        CHECK(count < CALLS_MAX);
        rules[count++] = deny_rule(*words, error);
    }
    sandbox_deny_rules(rules, count);
    (void)execv(words[1], words + 1);
    perror(words[1]);
    return 125;
}

/* words: MODE NODES WORKERS BACKEND WAIVE */
static numaperf_rt_config_t start_config(const char *const *words)
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
    return config;
}

static int start(const char *const *words)
{
    numaperf_rt_config_t config = start_config(words);
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

static int doctor_exit_status(const char *tool, const char *const *words)
{
    char *command[16];
    size_t n = 0;
    const char *const parts[] = {tool,     "doctor",    "--mode", words[0], "--workers-per-node",
                                 words[2], "--backend", words[3]};
    for (; n < sizeof(parts) / sizeof(parts[0]); n++)
        command[n] = strdup(parts[n]);
    if (words[1][0] != '\0') {
        command[n++] = strdup("--nodes");
        command[n++] = strdup(words[1]);
    }
    if (strcmp(words[4], "waive") == 0)
        command[n++] = strdup("--waive-privileges");
    command[n] = NULL;
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) {
        (void)execv(tool, command);
        _exit(125);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    while (n > 0)
        free(command[--n]);
    return WEXITSTATUS(status);
}

/* Whether both say the same; a start leaves threads of libuv behind, so it is in a child. */
static bool doctor_agrees(const char *tool, const char *const *words)
{
    int said = doctor_exit_status(tool, words);
    (void)fflush(NULL); /* or the child would write it once more */
    pid_t pid = fork();
    if (pid == 0)
        _exit(start(words));
    int status = -1;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    if (said == WEXITSTATUS(status) && said <= 1)
        return true;
    printf("doctor says %d, a start %d: mode %s, nodes '%s', workers %s, backend %s, %s\n", said,
           WEXITSTATUS(status), words[0], words[1], words[2], words[3], words[4]);
    return false;
}

static int doctor(const char *tool)
{
    static const char *const modes[] = {"soft", "hard"};
    static const char *const nodes[] = {"", "0", "1", "2", "0-1", "0,63"};
    static const char *const workers[] = {"0", "3"};
    static const char *const waivers[] = {"waive", "all"};
    /* Five of them: no other list has that length, so each comes with each. */
    static const char *const backends[] = {"auto", "epoll", "io_uring", "auto", "io_uring"};
    unsigned bad = 0;
    unsigned count = 0;
    for (; count < 2 * 6 * 2 * 2; count++) {
        const char *const words[] = {modes[count % 2], nodes[count / 2 % 6],
                                     workers[count / 12 % 2], backends[count % 5],
                                     waivers[count / 24]};
        bad += doctor_agrees(tool, words) ? 0 : 1;
    }
    printf("%u configurations, %u of them told otherwise\n", count, bad);
    return bad == 0 ? 0 : 1;
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
        return start((const char *const *)argv + 2);
    if (argc == 3 && strcmp(argv[1], "doctor") == 0)
        return doctor(argv[2]);
    if (argc == 4 && strcmp(argv[1], "thread") == 0)
        return have_thread(argv + 2);
    if (argc == 4 && strcmp(argv[1], "bind") == 0)
        return have_memory(argv + 2);
    (void)fprintf(stderr, "see the comment in the source\n");
    return 2;
}
