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

#define CHECK(condition)                                                                  \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            (void)fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                                     \
        }                                                                                 \
    } while (0)

/* Run it in a child; whether it returned. A scene that hangs is killed after a while. */
bool sandbox_run(void (*scene)(const void *arg), const void *arg);

/* From now on, in this process, these system calls fail with `error`. */
void sandbox_deny(int error, const long *calls, size_t count);

/* An ordinary user's process with exactly these capabilities (bits), in all sets; needs root. */
void sandbox_become_user(uint64_t capabilities);

/* The effective capabilities of this process (bits). */
uint64_t sandbox_capabilities(void);

#endif
