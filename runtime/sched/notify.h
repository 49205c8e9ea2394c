/* SPDX-License-Identifier: MIT */
/* What the auditor waits for: the time of its next look, the kernel's notifications, its end. */
#ifndef NUMAPERF_SCHED_NOTIFY_H
#define NUMAPERF_SCHED_NOTIFY_H

#include "io/wake.h"
#include "place/cgroup.h"

#include <stdint.h>

struct numaperf__notify {
    struct numaperf__wake end; /* signalled by any thread */
    int uevents;               /* netlink: PUs come and go; -1 without */
    int files;                 /* inotify: somebody writes to a cpuset; -1 without */
    uint64_t deaf_until_ns;    /* notifications are not looked at before */
    uint64_t heard_ns;         /* when they were last */
    uint64_t gap_ns;           /* how long it stays deaf next time */
};

enum numaperf__notice {
    NUMAPERF__NOTICE_TIME = 0, /* the time has come */
    NUMAPERF__NOTICE_EVENT,    /* the kernel told of something that calls for a look */
    NUMAPERF__NOTICE_END       /* numaperf__notify_end() was called */
};

/* Without notifications where the kernel refuses them. 0 or -errno of what it cannot be without. */
int numaperf__notify_open(struct numaperf__notify *notify);
void numaperf__notify_close(struct numaperf__notify *notify);

/* Listen to the cpuset files of a group and of those above it, and to no others. NULL: to none. */
void numaperf__notify_watch(struct numaperf__notify *notify, const struct numaperf__cgroup *group);

/* Wait until CLOCK_MONOTONIC is `until_ns`, or something happens. */
enum numaperf__notice numaperf__notify_wait(struct numaperf__notify *notify, uint64_t until_ns);

/* Any thread: the wait ends, and every later one at once. */
void numaperf__notify_end(const struct numaperf__notify *notify);

#endif
