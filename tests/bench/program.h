/* SPDX-License-Identifier: MIT */
/* Programs that a sample runs: a server to measure, and a client to load it with. */
#ifndef NUMAPERF_BENCH_PROGRAM_H
#define NUMAPERF_BENCH_PROGRAM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROGRAM_ARGUMENTS_MAX 32u

/* A command line that is put together. */
struct program_line {
    char text[4096];
    size_t length;
    char *arguments[PROGRAM_ARGUMENTS_MAX + 1];
    uint32_t count;
};

/* Append an argument, printed. What does not fit fails the start. */
__attribute__((format(printf, 2, 3))) void program_add(struct program_line *line,
                                                       const char *format, ...);

/* Where a program of a package, or of this build by its path, lies; false: nowhere. */
bool program_find(const char *name, char out_path[PATH_MAX]);

/* A folder of its own for a sample, and its removal with all that is in it. */
int program_folder_make(char *out, size_t size);
void program_folder_remove(const char *folder);

/* A TCP port on 127.0.0.1 that nobody listens on at the moment; -errno. */
int program_port(void);

/*
 * Start a server on one PU, and wait until it takes connections on `port`. What it prints goes to a
 * file in `folder`. It ends when this process does, at the latest. Its pid, or -errno.
 */
int program_serve(const struct program_line *line, int cpu, const char *folder, uint16_t port);
/* Have a server end now, and wait for it. */
void program_end(pid_t pid);

/* Run a client on one PU to its end; what it prints, as a string. 0 or -errno; -ECHILD: it failed.
 */
int program_run(const struct program_line *line, int cpu, char *out, size_t size);

#endif
