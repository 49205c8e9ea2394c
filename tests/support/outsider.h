/* SPDX-License-Identifier: MIT */
/*
 * Another process that does to this one what operators and other programs do: it writes to files of
 * /sys and /proc, changes the affinity of threads, moves pages. It is made before this process
 * enters a cgroup, so that it is not squeezed itself, and does one thing at a time. What it wrote
 * is put back when it is closed, and when the process that it serves has ended.
 */
#ifndef TESTS_SUPPORT_OUTSIDER_H
#define TESTS_SUPPORT_OUTSIDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct outsider {
    pid_t pid;
    int fd;
    uint64_t done_ns; /* CLOCK_MONOTONIC when the last thing had been done */
};

/* The process must not have made a thread before. */
bool outsider_open(struct outsider *outsider);
/* Whether everything could be put back. */
bool outsider_close(struct outsider *outsider);

/* Each returns 0 or -errno of the other process. */
int outsider_write(struct outsider *outsider, const char *path, const char *text);
/* `cpus` is a list as "0-2". */
int outsider_set_affinity(struct outsider *outsider, int thread_id, const char *cpus);
/* All pages of this process that are on one node go to another. */
int outsider_migrate_pages(struct outsider *outsider, int from_node, int to_node);
/* Some pages of this process, from an address on, go to a node; the number that did. */
int outsider_move_pages(struct outsider *outsider, uintptr_t address, unsigned count, int node);

#endif
