/* SPDX-License-Identifier: MIT */
/*
 * Wakes by eventfd. The descriptor blocks on purpose: io_uring answers a read of a non-blocking
 * one with -EAGAIN instead of waiting for it. Nobody blocks in fact: the waiter reads only when it
 * is readable, and a writer would have to be 2^64 signals ahead.
 *
 * Source: eventfd(2).
 */
#include "io/wake.h"

#include "base/assert.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int numaperf__wake_init(struct numaperf__wake *wake)
{
    wake->fd = eventfd(0, EFD_CLOEXEC);
    return wake->fd < 0 ? -errno : 0;
}

void numaperf__wake_signal(const struct numaperf__wake *wake)
{
    uint64_t one = 1;
    ssize_t n = 0;
    do
        n = write(wake->fd, &one, sizeof(one));
    while (n < 0 && errno == EINTR);
    NUMAPERF_ASSERT(n == (ssize_t)sizeof(one));
}

void numaperf__wake_drain(const struct numaperf__wake *wake)
{
    uint64_t count = 0;
    ssize_t n = 0;
    do
        n = read(wake->fd, &count, sizeof(count));
    while (n < 0 && errno == EINTR);
    NUMAPERF_ASSERT(n == (ssize_t)sizeof(count));
}

void numaperf__wake_fini(struct numaperf__wake *wake)
{
    if (wake->fd >= 0)
        (void)close(wake->fd); /* nothing to do about a failed close of an eventfd */
    wake->fd = -1;
}
