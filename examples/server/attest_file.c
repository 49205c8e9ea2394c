/* SPDX-License-Identifier: MIT */
#include "attest_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int write_all(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno != EINTR)
            return -errno;
        text += n > 0 ? n : 0;
        length -= n > 0 ? (size_t)n : 0;
    }
    return fsync(fd) == 0 ? 0 : -errno; /* else the name might outlive a crash, and the text not */
}

static int write_file(const char *path, const char *text)
{
    char other[PATH_MAX];
    int length = snprintf(other, sizeof(other), "%s.%ld", path, (long)getpid());
    if (length < 0 || (size_t)length >= sizeof(other))
        return -ENAMETOOLONG;
    int fd = open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    int rc = write_all(fd, text, strlen(text));
    if (close(fd) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(other, path) != 0)
        rc = -errno;
    if (rc < 0)
        (void)unlink(other); /* it is ours, and of no use */
    return rc;
}

int attest_file_write(numaperf_rt_t *rt, const char *path, char *why, size_t size)
{
    char *text = NULL;
    int rc = numaperf_rt_attest(rt, &text);
    if (rc < 0) {
        (void)snprintf(why, size, "%s", numaperf_last_error()->reason);
        return rc;
    }
    rc = write_file(path, text);
    if (rc < 0)
        (void)snprintf(why, size, "%s: %s", path, numaperf_strerror(rc));
    free(text);
    return rc;
}
