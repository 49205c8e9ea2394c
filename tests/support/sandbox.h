/* SPDX-License-Identifier: MIT */
/*
 * Children with less: fewer privileges, fewer system calls. A scene runs in a forked child, so the
 * test program must not have made a thread before; inside it CHECK() takes the place of asserts.
 */
#ifndef TESTS_SUPPORT_SANDBOX_H
#define TESTS_SUPPORT_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define CHECK(condition) ((condition) ? (void)0 : sandbox_fail(#condition, __FILE__, __LINE__))
_Noreturn void sandbox_fail(const char *condition, const char *file, int line);

/* Run it in a child; whether it returned. A scene that hangs is killed after a while. */
bool sandbox_run(void (*scene)(const void *arg), const void *arg);

/* From now on these system calls fail with `error`, on this thread and on those it makes. */
void sandbox_deny(int error, const long *calls, size_t count);

/* When a system call is refused: always, or by the low 32 bits of one argument. */
enum sandbox_when { SANDBOX_ALWAYS = 0, SANDBOX_EQUAL, SANDBOX_ABOVE, SANDBOX_BELOW };
struct sandbox_rule {
    long call;
    int error;
    enum sandbox_when when;
    unsigned argument; /* 0 .. 5 */
    uint32_t value;
};
/* The same by rules. */
void sandbox_deny_rules(const struct sandbox_rule *rules, size_t count);

/* An ordinary user's process with exactly these capabilities (bits), in all sets; needs root. */
void sandbox_become_user(uint64_t capabilities);

/* The effective capabilities of this process (bits). */
uint64_t sandbox_capabilities(void);

#endif
