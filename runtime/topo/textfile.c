/* SPDX-License-Identifier: MIT */
/*
 * Whole text files, read at once, and two pieces of their grammar.
 *
 * Files of /sys and /proc say size 0 or 4096 whatever they hold, so only reading to the end tells
 * their length. A path a user hands in may name anything: it is opened without blocking, must be a
 * regular file and has a size limit. No state: any thread, and the constructor at load.
 */
#include "topo/textfile.h"

#include "base/assert.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_SIZE 4096

/* Read to the end of `fd`; the buffer doubles and never exceeds `size_max` + 1 bytes. */
static int textfile_read_fd(int fd, size_t size_max, char **io_text, size_t *out_size)
{
    size_t size = 0;
    size_t room = 0;
    for (;;) {
        if (size == room) {
            room = room == 0 ? FIRST_SIZE : room * 2;
            room = room > size_max + 1 ? size_max + 1 : room;
            /* One more byte than is counted, for the final zero. */
            char *text = realloc(*io_text, room + 1);
            if (text == NULL)
                return -ENOMEM;
            *io_text = text;
        }
        ssize_t got = read(fd, *io_text + size, room - size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        size += (size_t)got;
        if (size > size_max)
            return -EFBIG;
    }
    NUMAPERF_ASSERT(size <= room);
    (*io_text)[size] = '\0';
    *out_size = size;
    return 0;
}

int numaperf__textfile_read(const char *path, size_t size_max, char **out_text, size_t *out_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return -errno;

    char *text = NULL;
    size_t size = 0;
    struct stat info;
    int rc = fstat(fd, &info) < 0 ? -errno : 0;
    if (rc == 0 && !S_ISREG(info.st_mode))
        rc = -ENOTSUP;
    if (rc == 0)
        rc = textfile_read_fd(fd, size_max, &text, &size);
    (void)close(fd); /* only read from: nothing can be lost */
    if (rc < 0) {
        free(text);
        return rc;
    }
    *out_text = text;
    if (out_size != NULL)
        *out_size = size;
    return 0;
}

char *numaperf__textfile_field(char *text, const char *name)
{
    size_t length = strlen(name);
    for (char *line = text; line != NULL && *line != '\0';) {
        char *end = strchr(line, '\n');
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            if (end != NULL)
                *end = '\0';
            char *value = line + length + 1;
            return value + strspn(value, " \t");
        }
        line = end == NULL ? NULL : end + 1;
    }
    return NULL;
}

int numaperf__textfile_number(const char **text, uint64_t *out_number)
{
    const char *at = *text + strspn(*text, " \t");
    if (*at < '0' || *at > '9')
        return -EINVAL;
    uint64_t number = 0;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (number > (UINT64_MAX - digit) / 10)
            return -EINVAL;
        number = number * 10 + digit;
    }
    *text = at;
    *out_number = number;
    return 0;
}
