/* SPDX-License-Identifier: MIT */
/* Source: seccomp(2), capabilities(7). */
#include "support/sandbox.h"

#include "support/clock.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define SANDBOX_USER 65534
#define SANDBOX_RULES_MAX 16

_Noreturn void sandbox_fail(const char *condition, const char *file, int line)
{
    (void)fflush(NULL);
    (void)fprintf(stderr, "%s:%d: not so: %s\n", file, line, condition);
    _exit(1);
}

bool sandbox_run(void (*scene)(const void *arg), const void *arg)
{
    (void)fflush(NULL); /* or the child would write it once more */
    pid_t pid = fork();
    if (pid == 0) {
        scene(arg);
        (void)fflush(NULL);
        _exit(0);
    }
    if (pid < 0)
        return false;
    uint64_t limit_ns = test_now_ns() + test_limit_ns(30);
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (test_now_ns() > limit_ns) {
            (void)fprintf(stderr, "the scene hangs\n");
            (void)kill(pid, SIGKILL);
            (void)waitpid(pid, &status, 0);
            return false;
        }
        test_sleep_ms(1);
    }
    if (WIFSIGNALED(status))
        (void)fprintf(stderr, "the scene ended by signal %d\n", WTERMSIG(status));
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#define FILTER_RULE_LENGTH 5

/* One rule: what is not its call, or not its argument, falls through to the next. */
static size_t filter_add_rule(struct sock_filter *out, const struct sandbox_rule *rule)
{
    size_t n = 0;
    bool compares = rule->when != SANDBOX_ALWAYS;
    out[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    out[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)rule->call, 0,
                                            compares ? 3 : 1);
    if (compares) {
        /* Little endian: the low half comes first. */
        uint32_t at = (uint32_t)(offsetof(struct seccomp_data, args) + 8 * rule->argument);
        uint16_t test = rule->when == SANDBOX_EQUAL   ? BPF_JEQ
                        : rule->when == SANDBOX_ABOVE ? BPF_JGT
                                                      : BPF_JGE;
        bool negated = rule->when == SANDBOX_BELOW;
        out[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at);
        out[n++] = (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | test | BPF_K), rule->value,
                                                negated ? 1 : 0, negated ? 0 : 1);
    }
    out[n++] = (struct sock_filter)BPF_STMT(
        BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((uint32_t)rule->error & SECCOMP_RET_DATA));
    return n;
}

void sandbox_deny_rules(const struct sandbox_rule *rules, size_t count)
{
    struct sock_filter filter[SANDBOX_RULES_MAX * FILTER_RULE_LENGTH + 1];
    size_t n = 0;
    CHECK(count <= SANDBOX_RULES_MAX);
    for (size_t i = 0; i < count; i++)
        n += filter_add_rule(filter + n, &rules[i]);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

void sandbox_deny(int error, const long *calls, size_t count)
{
    struct sandbox_rule rules[SANDBOX_RULES_MAX];
    CHECK(count <= SANDBOX_RULES_MAX);
    for (size_t i = 0; i < count; i++)
        rules[i] = (struct sandbox_rule){.call = calls[i], .error = error};
    sandbox_deny_rules(rules, count);
}

static void set_capabilities(uint64_t capabilities)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    for (int i = 0; i < 2; i++) {
        uint32_t bits = (uint32_t)(capabilities >> (32 * i));
        data[i] = (struct __user_cap_data_struct){bits, bits, bits};
    }
    CHECK(syscall(SYS_capset, &header, data) == 0);
}

void sandbox_become_user(uint64_t capabilities)
{
    CHECK(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0);
    CHECK(setresgid(SANDBOX_USER, SANDBOX_USER, SANDBOX_USER) == 0);
    CHECK(setresuid(SANDBOX_USER, SANDBOX_USER, SANDBOX_USER) == 0);
    set_capabilities(capabilities);
    for (int i = 0; i < 64; i++) {
        if ((capabilities >> i & 1) != 0)
            CHECK(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) == 0);
    }
    /* A change of user makes /proc/self another's: the library reads it. */
    CHECK(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
}

uint64_t sandbox_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    memset(data, 0, sizeof(data));
    CHECK(syscall(SYS_capget, &header, data) == 0);
    return data[0].effective | (uint64_t)data[1].effective << 32;
}
