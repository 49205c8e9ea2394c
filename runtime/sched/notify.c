/* SPDX-License-Identifier: MIT */
/*
 * Waiting for the next look. Beside the time of it, two things end the wait: the kernel's messages
 * that a PU came or went, and writes to the files of our cpuset. Each is optional: where it is
 * refused, the interval alone bounds how late a drift is found.
 *
 * A notification is a hint and nothing more: what is in it decides at most whether there is a look.
 * So its text is never followed, only searched, as far as was received.
 *
 * After one, nothing is listened to for a while: what comes in a burst is looked at once. That
 * while doubles with each that comes soon after the last, so that a storm costs a few looks a
 * second, and in the end one, however dense it is.
 *
 * Thread rule: the auditor's thread, but for numaperf__notify_end().
 *
 * Source: netlink(7) "NETLINK_KOBJECT_UEVENT", inotify(7). Writes through the file system are told,
 * what the kernel itself changes (cpuset.cpus.effective) is not; kernel.numa_balancing, in /proc,
 * never is.
 */
#include "sched/notify.h"

#include "base/assert.h"
#include "base/clock.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#define NOTIFY_GAP_NS_MIN 5000000u    /* a write to a cpuset is seldom alone */
#define NOTIFY_GAP_NS_MAX 1000000000u /* of a storm: one look a second */
#define NOTIFY_CALM_NS 3000000000u    /* without notifications: the next one is no storm's */
#define NOTIFY_READS_MAX 16           /* of one descriptor, at once; the rest is there next time */
#define NOTIFY_MESSAGE_MAX 2048       /* a message that is longer is cut */
#define NOTIFY_KERNEL_GROUP 1         /* of uevents: the kernel's own, not those of udev */

/* ---- open ---- */

static int notify_open_uevents(void)
{
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd < 0)
        return -1;
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = NOTIFY_KERNEL_GROUP};
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    (void)close(fd); /* nothing was received */
    return -1;
}

int numaperf__notify_open(struct numaperf__notify *notify)
{
    memset(notify, 0, sizeof(*notify));
    notify->uevents = -1;
    notify->files = -1;
    int rc = numaperf__wake_init(&notify->end);
    if (rc < 0)
        return rc;
    notify->uevents = notify_open_uevents();
    return 0;
}

static void notify_drop(int *io_fd)
{
    if (*io_fd >= 0)
        (void)close(*io_fd); /* was only read */
    *io_fd = -1;
}

void numaperf__notify_close(struct numaperf__notify *notify)
{
    notify_drop(&notify->uevents);
    notify_drop(&notify->files);
    numaperf__wake_fini(&notify->end);
}

void numaperf__notify_watch(struct numaperf__notify *notify, const struct numaperf__cgroup *group)
{
    static const char *const names[] = {"cpuset.cpus", "cpuset.mems", "cpuset.cpus.partition",
                                        "cpuset.cpus.exclusive"};
    notify_drop(&notify->files);
    if (group == NULL)
        return;
    notify->files = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (notify->files < 0)
        return;
    struct numaperf__cgroup at = *group;
    for (int depth = 0; depth < NUMAPERF__CGROUP_DEPTH_MAX; depth++) {
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            char path[NUMAPERF__CGROUP_PATH_MAX];
            if (numaperf__cgroup_file(&at, names[i], path, sizeof(path)) == 0)
                (void)inotify_add_watch(notify->files, path, IN_MODIFY); /* some are not there */
        }
        if (!numaperf__cgroup_ascend(&at))
            break;
    }
}

/* ---- wait ---- */

/* Whether a message of `length` bytes, text with zeros in it, tells of a PU. */
static bool notify_is_of_cpu(const char *message, size_t length)
{
    static const char mark[] = "SUBSYSTEM=cpu"; /* with its zero: of no other that begins so */
    return memmem(message, length, mark, sizeof(mark)) != NULL;
}

/* Take in what is there; whether it calls for a look. */
static bool notify_drain_uevents(const struct numaperf__notify *notify)
{
    bool calls = false;
    for (int i = 0; i < NOTIFY_READS_MAX; i++) {
        char message[NOTIFY_MESSAGE_MAX];
        struct sockaddr_nl from = {.nl_pid = 0};
        socklen_t from_length = sizeof(from);
        ssize_t n = recvfrom(notify->uevents, message, sizeof(message), MSG_DONTWAIT,
                             (struct sockaddr *)&from, &from_length);
        if (n < 0 && errno != ENOBUFS && errno != EINTR)
            break;
        if (n < 0)
            calls = calls || errno == ENOBUFS; /* some were lost: it might have been one */
        else if (from.nl_pid == 0 && notify_is_of_cpu(message, (size_t)n))
            calls = true; /* of the kernel */
    }
    return calls;
}

/* The same of the cpuset's files: whatever is told, one of them was touched. */
static bool notify_drain_files(const struct numaperf__notify *notify)
{
    bool calls = false;
    for (int i = 0; i < NOTIFY_READS_MAX; i++) {
        char events[NOTIFY_MESSAGE_MAX];
        ssize_t n = read(notify->files, events, sizeof(events));
        if (n <= 0)
            break;
        calls = true;
    }
    return calls;
}

/* Take in all there is, and be deaf for a while; whether it calls for a look. */
static bool notify_hear(struct numaperf__notify *notify, const struct pollfd *fds)
{
    bool calls = false;
    if (fds[1].revents != 0)
        calls = notify_drain_uevents(notify);
    if (fds[2].revents != 0)
        calls = notify_drain_files(notify) || calls;

    uint64_t now_ns = numaperf__clock_now_ns();
    bool is_storm = notify->gap_ns > 0 && now_ns - notify->heard_ns < NOTIFY_CALM_NS;
    notify->gap_ns = is_storm ? 2 * notify->gap_ns : NOTIFY_GAP_NS_MIN;
    if (notify->gap_ns > NOTIFY_GAP_NS_MAX)
        notify->gap_ns = NOTIFY_GAP_NS_MAX;
    notify->heard_ns = now_ns;
    notify->deaf_until_ns = now_ns + notify->gap_ns;
    return calls;
}

static int notify_timeout_ms(uint64_t now_ns, uint64_t until_ns)
{
    uint64_t ms = (until_ns - now_ns + 999999u) / 1000000u;
    return ms < 1000000000u ? (int)ms : 1000000000;
}

enum numaperf__notice numaperf__notify_wait(struct numaperf__notify *notify, uint64_t until_ns)
{
    enum numaperf__notice notice = NUMAPERF__NOTICE_TIME;
    for (;;) {
        uint64_t now_ns = numaperf__clock_now_ns();
        bool is_deaf = now_ns < notify->deaf_until_ns;
        uint64_t wait_until_ns = until_ns;
        if (is_deaf && notify->deaf_until_ns < until_ns)
            wait_until_ns = notify->deaf_until_ns;
        bool is_over = now_ns >= until_ns;
        struct pollfd fds[3] = {{.fd = notify->end.fd, .events = POLLIN},
                                {.fd = is_deaf ? -1 : notify->uevents, .events = POLLIN},
                                {.fd = is_deaf ? -1 : notify->files, .events = POLLIN}};
        int n = poll(fds, 3, is_over ? 0 : notify_timeout_ms(now_ns, wait_until_ns));
        NUMAPERF_ASSERT(n >= 0 || errno == EINTR || errno == ENOMEM);
        if (n > 0 && fds[0].revents != 0)
            return NUMAPERF__NOTICE_END;
        if (n > 0 && notify_hear(notify, fds)) {
            notice = NUMAPERF__NOTICE_EVENT;
            if (notify->deaf_until_ns < until_ns)
                until_ns = notify->deaf_until_ns; /* what belongs to it may come meanwhile */
        }
        if (is_over)
            return notice;
    }
}

void numaperf__notify_end(const struct numaperf__notify *notify)
{
    numaperf__wake_signal(&notify->end);
}
