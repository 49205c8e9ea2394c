/* SPDX-License-Identifier: MIT */
/* Waking a thread that waits in its ring or in poll: an eventfd. */
#ifndef NUMAPERF_IO_WAKE_H
#define NUMAPERF_IO_WAKE_H

#include <stdint.h>

struct numaperf__wake {
    int fd; /* -1 when closed */
};

int numaperf__wake_init(struct numaperf__wake *wake);
/* Any thread; the waiter's next or present wait ends. */
void numaperf__wake_signal(const struct numaperf__wake *wake);
/* The waiter, when the descriptor is readable. */
void numaperf__wake_drain(const struct numaperf__wake *wake);
void numaperf__wake_fini(struct numaperf__wake *wake);

#endif
