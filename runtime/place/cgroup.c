/* SPDX-License-Identifier: MIT */
/*
 * Finding this process in a cgroup hierarchy: its path there, and the mount that shows it. Nothing
 * is remembered, so every function is safe on any thread; a process may be moved at any time.
 *
 * Source: proc(5) "/proc/[pid]/mountinfo", cgroups(7) "/proc/[pid]/cgroup".
 */
#include "place/cgroup.h"

#include "base/assert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CGROUP_MOUNT_FIELDS 5 /* of a mountinfo line: root and point are the last two */

/* Whether `word` is one of those that commas separate. */
static bool cgroup_lists(const char *words, const char *word)
{
    size_t length = strlen(word);
    while (*words != '\0') {
        size_t n = strcspn(words, ",");
        if (n == length && strncmp(words, word, n) == 0)
            return true;
        words += n;
        words += *words == ',' ? 1 : 0;
    }
    return false;
}

static bool cgroup_copy(const char *text, char *out)
{
    size_t length = strlen(text);
    if (length >= NUMAPERF__CGROUP_PATH_MAX)
        return false;
    memcpy(out, text, length + 1);
    return true;
}

/* Root and point of the mount of a mountinfo line, which is cut up; false when it is another's. */
static bool cgroup_mount_line(char *line, const char *controller, char *out_root, char *out_point)
{
    char *tail = strstr(line, " - ");
    char *fields[CGROUP_MOUNT_FIELDS] = {NULL};
    char *rest = NULL;
    if (tail == NULL)
        return false;
    *tail = '\0';
    const char *type = strtok_r(tail + 3, " \n", &rest);
    const char *source = strtok_r(NULL, " \n", &rest);
    const char *options = strtok_r(NULL, " \n", &rest);
    if (type == NULL || source == NULL || options == NULL)
        return false;
    if (strcmp(type, controller != NULL ? "cgroup" : "cgroup2") != 0)
        return false;
    if (controller != NULL && !cgroup_lists(options, controller))
        return false;
    for (size_t i = 0; i < CGROUP_MOUNT_FIELDS; i++) {
        fields[i] = strtok_r(i == 0 ? line : NULL, " ", &rest);
        if (fields[i] == NULL)
            return false;
    }
    return cgroup_copy(fields[3], out_root) && cgroup_copy(fields[4], out_point);
}

/* The process's path, "0::/path" in version 2, "5:cpuset:/path" in version 1. */
static bool cgroup_member_line(char *line, const char *controller, char *out_path)
{
    line[strcspn(line, "\n")] = '\0';
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL)
        return false;
    *path = '\0';
    controllers++;
    if (controller == NULL ? *controllers != '\0' : !cgroup_lists(controllers, controller))
        return false;
    return cgroup_copy(path + 1, out_path);
}

static int cgroup_mount(const char *controller, char *out_root, char *out_point)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (file == NULL)
        return -errno;
    char *line = NULL;
    size_t size = 0;
    int rc = -ENOENT;
    while (rc < 0 && getline(&line, &size, file) > 0) {
        if (cgroup_mount_line(line, controller, out_root, out_point))
            rc = 0;
    }
    free(line);
    (void)fclose(file); /* was only read */
    return rc;
}

static int cgroup_member(const char *controller, char *out_path)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL)
        return -errno;
    char *line = NULL;
    size_t size = 0;
    int rc = -ENOENT;
    while (rc < 0 && getline(&line, &size, file) > 0) {
        if (cgroup_member_line(line, controller, out_path))
            rc = 0;
    }
    free(line);
    (void)fclose(file); /* was only read */
    return rc;
}

int numaperf__cgroup_find(const char *controller, struct numaperf__cgroup *out)
{
    char root[NUMAPERF__CGROUP_PATH_MAX];
    char point[NUMAPERF__CGROUP_PATH_MAX];
    char path[NUMAPERF__CGROUP_PATH_MAX];
    int rc = cgroup_mount(controller, root, point);
    if (rc == 0)
        rc = cgroup_member(controller, path);
    if (rc < 0)
        return rc;

    /* A mount of a part of the tree, as in containers, shows paths without that part. */
    size_t root_length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    const char *below = strncmp(path, root, root_length) == 0 ? path + root_length : path;
    if (strcmp(below, "/") == 0)
        below = "";
    size_t point_length = strlen(point);
    if (point_length + strlen(below) >= NUMAPERF__CGROUP_PATH_MAX)
        return -ENAMETOOLONG;
    memcpy(out->path, point, point_length);
    memcpy(out->path + point_length, below, strlen(below) + 1);
    out->top_length = point_length;
    return 0;
}

bool numaperf__cgroup_ascend(struct numaperf__cgroup *io_group)
{
    char *slash = strrchr(io_group->path, '/');
    if (slash == NULL || (size_t)(slash - io_group->path) < io_group->top_length)
        return false;
    *slash = '\0';
    return true;
}

int numaperf__cgroup_file(const struct numaperf__cgroup *group, const char *name, char *out,
                          size_t size)
{
    NUMAPERF_ASSERT(size > 0);
    int length = snprintf(out, size, "%s/%s", group->path, name);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}
