/* SPDX-License-Identifier: MIT */
/*
 * Reading the small text files in which the kernel tells about nodes and cgroups. They are read
 * anew each time: what they say changes while we run. Safe on any thread.
 *
 * Source: proc(5), Documentation/ABI/stable/sysfs-devices-node.
 */
#include "place/kernel_text.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int numaperf__kernel_text_read(const char *path, char *buf, size_t size)
{
    NUMAPERF_ASSERT(size > 1 && size <= INT_MAX);

    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t length = 0;
    int rc = 0;
    while (length < size - 1) {
        ssize_t got = read(fd, buf + length, size - 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            rc = -errno;
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    (void)close(fd); /* read only: nothing is lost */
    if (rc < 0)
        return rc;
    if (length > 0 && buf[length - 1] == '\n')
        length--;
    buf[length] = '\0';
    return (int)length;
}

const char *numaperf__kernel_text_stat_field(const char *text, int field)
{
    const char *at = strrchr(text, ')'); /* a name may hold anything before it */
    for (int before = 2; at != NULL && before < field; before++)
        at = strchr(at + 1, ' ');
    return at != NULL ? at + 1 : NULL;
}

int numaperf__kernel_text_value(const char *text, const char *key, uint64_t *out)
{
    const char *at = strstr(text, key);
    if (at == NULL)
        return -ENOENT;
    at += strlen(key);
    at += strspn(at, " \t:");
    if (*at < '0' || *at > '9')
        return -ENOENT;
    *out = strtoull(at, NULL, 10);
    return 0;
}
