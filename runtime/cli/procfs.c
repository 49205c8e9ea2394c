/* SPDX-License-Identifier: MIT */
/*
 * Reading files that the kernel writes while they are read. Nothing is trusted: a file may be of
 * any length, end anywhere, or go away with its process; text from it is never a format.
 *
 * Source: proc(5).
 */
#include "cli/procfs.h"

#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROCFS_READ_BYTES 65536u
#define PROCFS_FILE_MAX ((size_t)1 << 30) /* a numa_maps of millions of mappings */

static char *procfs_read_all(int fd)
{
    size_t room = PROCFS_READ_BYTES;
    size_t length = 0;
    char *text = output_alloc(room);
    for (;;) {
        ssize_t got = read(fd, text + length, room - length - 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            break;
        if (got > 0 && length > PROCFS_FILE_MAX)
            errno = EFBIG;
        if (got < 0 || length > PROCFS_FILE_MAX) {
            free(text); /* keeps errno */
            return NULL;
        }
        length += (size_t)got;
        if (room - length > room / 2)
            continue;
        char *more = output_alloc(room * 2);
        memcpy(more, text, length);
        free(text);
        text = more;
        room *= 2;
    }
    text[length] = '\0';
    return text;
}

char *procfs_read(int directory_fd, const char *path)
{
    int fd = openat(directory_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    char *text = procfs_read_all(fd);
    int reading_errno = errno;
    (void)close(fd); /* read only: nothing is lost */
    errno = reading_errno;
    return text;
}

long procfs_read_number(const char *path)
{
    char *text = procfs_read(AT_FDCWD, path);
    if (text == NULL)
        return -1;
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text)
        value = -1;
    free(text);
    return value;
}

char *procfs_field(const char *text, const char *name)
{
    size_t length = strlen(name);
    while (text != NULL && *text != '\0') {
        if (strncmp(text, name, length) == 0 && text[length] == ':') {
            text += length + 1;
            text += strspn(text, " \t");
            size_t size = strcspn(text, "\n");
            char *value = output_alloc(size + 1);
            memcpy(value, text, size);
            return value;
        }
        text = strchr(text, '\n');
        text = text != NULL ? text + 1 : NULL;
    }
    return NULL;
}

json_t *procfs_cpuset_json(const numaperf_cpuset_t *cpus)
{
    int length = numaperf_cpuset_format(cpus, NULL, 0);
    size_t size = length > 0 ? (size_t)length + 1 : 1;
    char *text = output_alloc(size);
    (void)numaperf_cpuset_format(cpus, text, size); /* measured; "" when it has no memory */
    json_t *json = json_string(text);
    free(text);
    return json;
}

json_t *procfs_nodemask_json(const numaperf_nodemask_t *nodes)
{
    int length = numaperf_nodemask_format(nodes, NULL, 0);
    size_t size = length > 0 ? (size_t)length + 1 : 1;
    char *text = output_alloc(size);
    (void)numaperf_nodemask_format(nodes, text, size); /* measured; "" when it has no memory */
    json_t *json = json_string(text);
    free(text);
    return json;
}

json_t *procfs_own_memory_nodes(void)
{
    char *status = procfs_read(AT_FDCWD, "/proc/thread-self/status");
    if (status == NULL)
        return json_null();
    char *list = procfs_field(status, "Mems_allowed_list");
    free(status);
    json_t *json = json_null();
    numaperf_nodemask_t nodes;
    if (list != NULL && numaperf_nodemask_parse(list, &nodes) == 0) {
        char *text = procfs_read(AT_FDCWD, "/sys/devices/system/node/has_memory");
        if (text != NULL) {
            numaperf_nodemask_t with_memory;
            text[strcspn(text, "\n")] = '\0';
            if (numaperf_nodemask_parse(text, &with_memory) == 0)
                numaperf_nodemask_intersect(&nodes, &with_memory, &nodes);
            free(text);
        }
        json = procfs_nodemask_json(&nodes);
    }
    free(list);
    return json;
}
