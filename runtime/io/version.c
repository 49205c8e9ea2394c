/* SPDX-License-Identifier: MIT */
/*
 * Versions of libuv and liburing as loaded. liburing tells since 2.4 by functions that older ones
 * lack, so these are asked for only where the loader found them; an older shared one has its
 * version in the name of its file. Nothing is remembered: safe on any thread.
 *
 * Source: dl_iterate_phdr(3).
 */
#include "io/version.h"

#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define VERSION_FILE "/liburing.so."

/* Of liburing's own header, from 2.4 on; null where the one that is loaded is older. */
extern int io_uring_major_version(void) __attribute__((weak));
extern int io_uring_minor_version(void) __attribute__((weak));

struct version_text {
    char *out;
    size_t size;
};

const char *numaperf__uv_version(void)
{
    return uv_version_string();
}

/* The loader knows the name that was asked for, often a link; what it leads to ends in 2.3. */
static int version_of_file(struct dl_phdr_info *info, size_t info_size, void *data)
{
    (void)info_size; /* the name is there in every version of the struct */
    const struct version_text *text = data;
    if (info->dlpi_name == NULL || strstr(info->dlpi_name, VERSION_FILE) == NULL)
        return 0;
    char path[PATH_MAX];
    if (realpath(info->dlpi_name, path) == NULL)
        return 0;
    const char *version = strstr(path, VERSION_FILE);
    if (version == NULL)
        return 0;
    (void)snprintf(text->out, text->size, "%s", version + strlen(VERSION_FILE));
    return 1;
}

bool numaperf__uring_version(char *out, size_t size)
{
    if (io_uring_major_version != NULL && io_uring_minor_version != NULL) {
        (void)snprintf(out, size, "%d.%d", io_uring_major_version(), io_uring_minor_version());
        return true;
    }
    struct version_text text = {.out = out, .size = size};
    return dl_iterate_phdr(version_of_file, &text) == 1;
}
